"""The architectures of Hugging Face that can be converted, by the model_type in config.json."""

from nasbench.errors import unknown_name
from nasbench.supernet.convert.encoders import Bert, DistilBert, Roberta
from nasbench.supernet.convert.gpt2 import Gpt2
from nasbench.supernet.convert.layout import Layout
from nasbench.supernet.convert.vit import Vit

LAYOUTS: dict[str, Layout] = {
    "bert": Bert(),
    "roberta": Roberta(),
    "distilbert": DistilBert(),
    "gpt2": Gpt2(),
    "vit": Vit(),
}
"""model_type in config.json -> its layout."""


def layout_of(model_type: object) -> Layout:
    """The layout of a model type; RequestError for one that we do not know."""
    if model_type not in LAYOUTS:
        raise unknown_name("model_type in config.json", model_type, LAYOUTS)
    return LAYOUTS[str(model_type)]
