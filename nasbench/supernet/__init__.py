"""Supernets: many networks in one set of weights.

    SUPERNETS["mobilenet_v3"].build(preset="tiny")      a supernet
    build_supernet(supernet.settings)                   the same one again, elsewhere

Importing this package imports no torch; the first look into `SUPERNETS` does.
"""

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from nasbench.registry import Registry

if TYPE_CHECKING:
    from nasbench.supernet.base import Supernet, SupernetFamily
    from nasbench.supernet.training.calibration import calibrate

__all__ = ["SUPERNETS", "build_supernet", "Supernet", "SupernetFamily", "calibrate"]

SUPERNETS: "Registry[SupernetFamily[Any]]" = Registry(
    "supernet family",
    {
        "mobilenet_v3": "nasbench.supernet.families.mobilenet_v3:MOBILENET_V3",
        "vit": "nasbench.supernet.families.vit:VIT",
        "encoder": "nasbench.supernet.families.encoder:ENCODER",
        "decoder": "nasbench.supernet.families.decoder:DECODER",
        "seq2seq": "nasbench.supernet.families.seq2seq:SEQ2SEQ",
        "resnet": "nasbench.supernet.families.resnet:RESNET",
    },
)


def build_supernet(settings: Mapping[str, Any]) -> "Supernet[Any]":
    """Build from what `Supernet.settings` says: the family, and the arguments of its `build`."""
    arguments = dict(settings)
    return SUPERNETS[arguments.pop("family")].build(**arguments)


_LAZY = {
    "Supernet": "nasbench.supernet.base",
    "SupernetFamily": "nasbench.supernet.base",
    "calibrate": "nasbench.supernet.training.calibration",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'nasbench.supernet' has no attribute '{name}'")
