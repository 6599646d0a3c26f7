"""Small pre-trained networks: folders that need no package, and models of `transformers`."""

import warnings
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import pytest
import torch

from nasbench.supernet import SUPERNETS
from nasbench.supernet.convert.layouts import layout_of
from nasbench.testing.supernets import disturb

KINDS = ("bert", "roberta", "distilbert", "gpt2", "vit")
BLOCKS = {
    "num_hidden_layers": 3,
    "hidden_size": 16,
    "num_attention_heads": 4,
    "intermediate_size": 32,
}
TEXT = {"vocab_size": 24, "max_position_embeddings": 14}


@cache
def write_bert(folder=None, vocab_size=24, max_length=14, num_classes=3):
    """A folder with a BERT of three blocks, written without the package `transformers`."""
    from nasbench.export.huggingface import _write

    folder = Path(mkdtemp()) if folder is None else Path(folder)
    stack = {
        "depths": [3], "hidden_sizes": [16], "num_heads": [4], "head_size": 4,
        "feed_forward_widths": [32], "norm_first": False, "norm_eps": 1e-12, "dropout": 0.0,
    }  # fmt: skip
    spec = {"vocab_size": vocab_size, "max_length": max_length, "num_classes": num_classes}
    bert = SUPERNETS["encoder"].build("bert", spec={"stack": stack, **spec}, seed=1)
    disturb(bert)
    module = bert.extract(bert.largest)
    _write(folder, layout_of("bert"), bert.spec, bert.shape, module, "bert")
    return folder


@cache
def make_model(kind, **changes):
    """A model with its head, in eval mode, whose every parameter matters."""
    with warnings.catch_warnings():  # of what the package imports
        warnings.simplefilter("ignore")
        transformers = pytest.importorskip("transformers", reason="needs the extra huggingface")
    configs = {
        "bert": ("BertConfig", {**BLOCKS, **TEXT, "num_labels": 3}),
        "roberta": ("RobertaConfig", {**BLOCKS, **TEXT, "num_labels": 3}),
        "distilbert": (
            "DistilBertConfig",
            {"dim": 16, "n_layers": 3, "n_heads": 4, "hidden_dim": 32, **TEXT, "num_labels": 3},
        ),
        "gpt2": (
            "GPT2Config",
            {"n_embd": 16, "n_layer": 3, "n_head": 4, "n_inner": 32, "n_positions": 14,
             "vocab_size": 24, "bos_token_id": 0, "eos_token_id": 0},
        ),
        "vit": (
            "ViTConfig",
            {**BLOCKS, "image_size": 8, "patch_size": 4, "num_channels": 2, "num_labels": 3},
        ),
    }  # fmt: skip
    name, settings = configs[kind]
    config = getattr(transformers, name)(**{**settings, **changes})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = getattr(transformers, layout_of(kind).model_class)(config)
    disturb(model)
    return model.eval()


@torch.inference_mode()
def outputs_of(model, supernet):
    """What a model of theirs computes of the supernet's example inputs, padding masked."""
    (inputs,) = supernet.example_inputs(6)
    if supernet.settings["family"] != "encoder":
        return model(inputs).logits
    return model(inputs, attention_mask=(inputs != supernet.spec.padding_id).long()).logits
