"""How the vision transformer is laid out: its patches are embedded by a convolution."""

from collections.abc import Mapping
from typing import Any, ClassVar

from nasbench.errors import RequestError
from nasbench.supernet.convert.encoders import Bert
from nasbench.supernet.convert.layout import Config, Layout, State, labels_of, read_keys, write_keys
from nasbench.supernet.transformer import StackShape


class Vit(Layout):
    """The vision transformer (Dosovitskiy et al., ICLR 2021), with its classifier."""

    family = "vit"
    body = "vit."
    norm_first = True
    model_class = "ViTForImageClassification"
    settings: ClassVar[Mapping[str, tuple[str, Any]]] = {
        **{name: Bert.settings[name] for name in ("depth", "hidden_size", "num_heads")},
        "feed_forward_width": ("intermediate_size", None),
        "norm_eps": ("layer_norm_eps", 1e-12),
        "dropout": ("hidden_dropout_prob", 0.0),
        "activation": ("hidden_act", "gelu"),
        "image_size": ("image_size", 224),
        "patch_size": ("patch_size", 16),
        "in_channels": ("num_channels", 3),
    }
    block = "encoder.layer.{}."
    modules: ClassVar[Mapping[str, str]] = {"norm": "layernorm"}
    block_modules: ClassVar[Mapping[str, str]] = {
        "attention.query": "attention.attention.query",
        "attention.value": "attention.attention.value",
        "attention.out": "attention.output.dense",
        "attention_norm": "layernorm_before",
        "feed_forward.0": "intermediate.dense",
        "feed_forward.2": "output.dense",
        "feed_forward_norm": "layernorm_after",
    }
    key = "attention.attention.key"
    heads: ClassVar[Mapping[str, tuple[str, ...]]] = {"classifier": ("classifier",)}
    ignored = ("mask_token", "pooler.dense.weight", "pooler.dense.bias")

    def spec(
        self, config: Config, shapes: Mapping[str, tuple[int, ...]], asked: Mapping[str, Any]
    ) -> dict[str, Any]:
        """What a configuration says of our spec, but for its stack."""
        found = {name: self.setting(config, name) for name in ("image_size", "in_channels")}
        for name, own in found.items():
            if asked.get(name, own) != own:
                raise RequestError(
                    f"the pre-trained network is for images of {name} {own}, and the data's is "
                    f"{asked[name]}"
                )
        rows = shapes.get("classifier.weight")
        num_classes = asked.get("num_classes") or (rows[0] if rows else None)
        if num_classes is None:
            raise RequestError("the pre-trained network has no classifier; say its num_classes")
        return {
            **found,
            "patch_size": self.setting(config, "patch_size"),
            "num_classes": num_classes,
        }

    def config_of_spec(self, spec: Any) -> dict[str, Any]:
        """Our settings outside of the stack."""
        return {name: getattr(spec, name) for name in ("image_size", "patch_size", "in_channels")}

    def config(self, spec: Any, shape: StackShape) -> dict[str, Any]:
        """config.json of a plain network whose blocks are all alike."""
        return {**super().config(spec, shape), **labels_of(spec)}

    def read_others(self, theirs: State, spec: Any) -> State:
        """Take what lies in another form out of their weights."""
        place = "embeddings.patch_embeddings.projection"
        found = {
            "patches.weight": theirs.pop(f"{place}.weight").flatten(1),
            "patches.bias": theirs.pop(f"{place}.bias"),
            "class_token": theirs.pop("embeddings.cls_token")[0],
            "positions.weight": theirs.pop("embeddings.position_embeddings")[0],
        }
        return found | read_keys(theirs, self, self.key, max(spec.stack.depths))

    def write_others(self, ours: State, spec: Any, depth: int) -> State:
        """Take what lies in another form out of our weights."""
        place, side = "embeddings.patch_embeddings.projection", spec.patch_size
        found = {
            f"{place}.weight": ours.pop("patches.weight").unflatten(1, (-1, side, side)),
            f"{place}.bias": ours.pop("patches.bias"),
            "embeddings.cls_token": ours.pop("class_token")[None],
            "embeddings.position_embeddings": ours.pop("positions.weight")[None],
        }
        return found | write_keys(ours, self, self.key, depth)
