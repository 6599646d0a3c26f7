"""Supernets: many networks in one set of weights.

    SUPERNETS["mobilenet_v3"].build(preset="tiny")      a supernet
    build_supernet(supernet.settings)                   the same one again, elsewhere
    elasticize(model, example_inputs)                   a supernet of a network of one's own
    SUPERNETS["my_networks:make_model"].build()         the same of what a function makes

Importing this package imports no torch; the first look into `SUPERNETS` does.
"""

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from nasbench.errors import RequestError
from nasbench.registry import Registry

if TYPE_CHECKING:
    from nasbench.supernet.base import Supernet, SupernetFamily
    from nasbench.supernet.elasticized import elasticize
    from nasbench.supernet.training.calibration import calibrate

__all__ = [
    "SUPERNETS",
    "build_supernet",
    "Supernet",
    "SupernetFamily",
    "calibrate",
    "elasticize",
]


class SupernetRegistry(Registry["SupernetFamily[Any]"]):
    """Families by name; `module:object` is a family, or what makes a network of one's own."""

    def _load(self, target: str) -> "SupernetFamily[Any]":
        from nasbench.supernet.base import SupernetFamily

        found: Any = super()._load(target)
        if isinstance(found, SupernetFamily):
            return found
        if not callable(found):
            raise RequestError(
                f"{self.kind} '{target}' is a {type(found).__name__}, neither a SupernetFamily nor "
                "a function that makes a network"
            )
        return importlib.import_module("nasbench.supernet.elasticized.family").family_of(
            target, found
        )


SUPERNETS = SupernetRegistry(
    "supernet family",
    {
        "mobilenet_v3": "nasbench.supernet.families.mobilenet_v3:MOBILENET_V3",
        "vit": "nasbench.supernet.families.vit:VIT",
        "encoder": "nasbench.supernet.families.encoder:ENCODER",
        "decoder": "nasbench.supernet.families.decoder:DECODER",
        "gpt2": "nasbench.supernet.families.gpt2:GPT2",
        "seq2seq": "nasbench.supernet.families.seq2seq:SEQ2SEQ",
        "resnet": "nasbench.supernet.families.resnet:RESNET",
    },
)


def build_supernet(settings: Mapping[str, Any], *, with_pretrained: bool = True) -> "Supernet[Any]":
    """Build from what `Supernet.settings` says.

    Args:
        settings: the family, and the arguments of its `build`; under "pretrained", where a
            converted network came from.
        with_pretrained: False leaves out its weights, for who has the supernet's own, and needs no
            folder.

    Raises:
        RequestError: as `build`; or if the folder of pre-trained weights is not what it was.
    """
    arguments = dict(settings)
    origin = arguments.pop("pretrained", None)
    supernet = SUPERNETS[arguments.pop("family")].build(**arguments)
    if origin is not None:
        supernet.settings["pretrained"] = origin
        if with_pretrained:
            from nasbench.supernet.convert import restore

            restore(supernet, origin)
    return supernet


_LAZY = {
    "Supernet": "nasbench.supernet.base",
    "SupernetFamily": "nasbench.supernet.base",
    "elasticize": "nasbench.supernet.elasticized",
    "calibrate": "nasbench.supernet.training.calibration",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'nasbench.supernet' has no attribute '{name}'")
