"""Conversion: a pre-trained Hugging Face transformer becomes a supernet of the same function.

    supernet = convert("path/to/folder", num_classes=2)     config.json and safetensors
    supernet = convert(model, num_classes=2)                a model object of `transformers`

BERT, RoBERTa, DistilBERT and MiniLM become supernets of the family `encoder`, ViT of `vit` and
GPT-2 of `gpt2`, so that all that is done with a supernet is done with them. The largest sub-network
computes what the original did. The package `transformers` is not needed, nothing is downloaded, and
no pickle is read.

A supernet from a folder says so in its settings, and is built from them elsewhere with the same
weights, as long as the folder holds them. One from a model object, or in an order that batches
decided, carries its weights itself.

InstaTune (Sridhar et al., 2023) makes such networks elastic and fine-tunes them: see the training
strategy `instatune`. It keeps heads and neurons in the order that they have; `order` is ours.
"""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from nasbench.errors import RequestError
from nasbench.supernet import SUPERNETS
from nasbench.supernet.base import Supernet
from nasbench.supernet.convert.choices import Elastic, default_choices, stack_choices
from nasbench.supernet.convert.folder import PretrainedFolder
from nasbench.supernet.convert.layout import Layout
from nasbench.supernet.convert.layouts import layout_of

__all__ = ["convert", "restore"]

Order = Literal["original", "weights"]


def convert(
    model: Any,
    *,
    elastic: Elastic | None = None,
    order: Order = "original",
    batches: Sequence[tuple[Tensor, ...]] = (),
    seed: int = 0,
    **settings: Any,
) -> Supernet[Any]:
    """A supernet whose largest sub-network computes what a pre-trained network does.

    Args:
        model: a folder with config.json and safetensors, or a model object of `transformers`.
        elastic: patterns of dimensions' names with their choices: see
            `nasbench.supernet.convert.choices`; None takes `default_choices`, InstaTune's.
        order: "weights" puts the heads and neurons that weigh most first, so that they are those
            that small sub-networks keep; the largest one computes the same.
        batches: inputs of `forward`; where there are some, and the order is by weights, importance
            is weights times activations.
        seed: of the classifier's weights, where the network has none of `num_classes`.
        settings: what the family's `build` takes: num_classes, and for texts max_length, which is
            by default what the network can read.

    Raises:
        RequestError: for a network of another kind, or one that cannot be as asked.
    """
    if order not in ("original", "weights"):
        raise RequestError(f"order is original or weights, not {order!r}")
    if batches and order != "weights":
        raise RequestError("batches are for an order by importance; give order='weights' as well")
    if isinstance(model, str | Path):
        return _converted(PretrainedFolder(model), elastic, order, batches, seed, settings)
    if not hasattr(model, "save_pretrained"):
        raise RequestError(
            f"a model object of transformers or a folder can be converted, not {type(model)}"
        )
    with tempfile.TemporaryDirectory() as folder:  # where all models have their published names
        model.save_pretrained(folder)
        found = PretrainedFolder(folder)
        supernet = _converted(found, elastic, order, batches, seed, settings)
        supernet.settings["pretrained"]["folder"] = None
    return supernet


def _converted(
    source: PretrainedFolder,
    elastic: Elastic | None,
    order: Order,
    batches: Sequence[tuple[Tensor, ...]],
    seed: int,
    settings: Mapping[str, Any],
) -> Supernet[Any]:
    layout = layout_of(source.config.get("model_type"))
    layout.check(source.config)
    sizes = layout.sizes(source.config)
    chosen = default_choices(sizes) if elastic is None else elastic
    stack = {**layout.stack(source.config), **stack_choices(sizes, chosen)}
    known = SUPERNETS[layout.family].settings
    for name in settings:
        if name not in known:
            raise RequestError(
                f"a {source.config['model_type']} has no setting '{name}'; possible: "
                f"{', '.join(known)}"
            )
    spec = {**layout.spec(source.config, source.shapes, settings), "stack": stack}
    supernet = SUPERNETS[layout.family].build(preset="pretrained", spec=spec, seed=seed)
    supernet.settings["pretrained"] = {
        "folder": str(source.path.absolute()),
        "digest": source.digest,
        "model_type": source.config["model_type"],
        "order": "batches" if batches else order,
    }
    if not _is_weightless(supernet):
        _fill(supernet, layout, source)
        if order == "weights":
            supernet.sort_channels(batches=batches)
    return supernet


def restore(supernet: Supernet[Any], origin: Mapping[str, Any]) -> None:
    """Give a supernet the pre-trained weights that its settings name.

    Args:
        supernet: built from the settings; one on the meta device stays without weights.
        origin: what the settings say under "pretrained".

    Raises:
        RequestError: if the folder is gone or holds other weights than it did.
    """
    if _is_weightless(supernet):
        return
    if origin["folder"] is None or origin["order"] == "batches":
        reason = "ordered by batches" if origin["folder"] else "converted from a model object"
        raise RequestError(
            f"this supernet was {reason}, so its settings do not bring its weights back; convert a "
            "folder, by weights, or hand its weights on"
        )
    source = PretrainedFolder(origin["folder"])
    if source.digest != origin["digest"]:
        raise RequestError(f"the weights in '{source.path}' are not those that were converted")
    _fill(supernet, layout_of(origin["model_type"]), source)
    if origin["order"] == "weights":
        supernet.sort_channels()


def _is_weightless(supernet: Supernet[Any]) -> bool:
    return next(supernet.parameters()).is_meta


@torch.no_grad()
def _fill(supernet: Supernet[Any], layout: Layout, source: PretrainedFolder) -> None:
    """Copy the pre-trained weights; a classifier of other classes keeps its fresh ones."""
    state = supernet.state_dict()
    found = layout.read(source.read(), supernet.spec)
    head = {name: w for name, w in found.items() if name.partition(".")[0] in layout.heads}
    num_classes = len(head.get("classifier.weight", ()))
    if num_classes and num_classes != supernet.spec.num_classes:
        head = {name: w for name, w in head.items() if not name.startswith("classifier.")}
    body = {name: w for name, w in found.items() if name.partition(".")[0] not in layout.heads}
    given = {_name_in_supernet(name, state): tensor for name, tensor in {**body, **head}.items()}
    missing = [n for n in state if n not in given and n.partition(".")[0] not in layout.heads]
    if missing:
        raise RequestError(f"the pre-trained weights give nothing for '{missing[0]}'")
    for name, tensor in given.items():
        if state[name].shape != tensor.shape:
            raise RequestError(
                f"the pre-trained weights of '{name}' have the shape {tuple(tensor.shape)}, and "
                f"config.json says {tuple(state[name].shape)}"
            )
        state[name].copy_(tensor)


def _name_in_supernet(name: str, state: Mapping[str, Tensor]) -> str:
    """The place in a supernet of a weight of the plain network that it extracts to."""
    parts = name.split(".")
    if parts[0] == "stack":
        parts[1] = f"layer{int(parts[1]) + 1}"
        if parts[2] == "feed_forward":
            parts[3] = {"0": "expand", "2": "project"}[parts[3]]
    if name == "class_token":
        parts = ["class_token", "weight"]
    direct = ".".join(parts)
    return direct if direct in state else ".".join([*parts[:-1], "shared", parts[-1]])
