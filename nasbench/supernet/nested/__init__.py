"""Nested sub-networks: chains of them, and bundles that hold one network for every budget.

    NestedChain.grown(supernet, 16)      sub-networks, each within the next
    best_chain(...)                      the measured ones that cover the most hypervolume
    write_bundle(...)                    one file of weights for all members, and a manifest
    NestedModel.load(folder)             the members, switched in place

Importing this package imports no torch; the first look at a name does.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nasbench.supernet.nested.bundle import write_bundle
    from nasbench.supernet.nested.chain import NestedChain
    from nasbench.supernet.nested.chain_search import best_chain
    from nasbench.supernet.nested.model import NestedModel, is_bundle

__all__ = ["NestedChain", "NestedModel", "best_chain", "is_bundle", "write_bundle"]

_LAZY = {
    "NestedChain": "nasbench.supernet.nested.chain",
    "NestedModel": "nasbench.supernet.nested.model",
    "best_chain": "nasbench.supernet.nested.chain_search",
    "is_bundle": "nasbench.supernet.nested.model",
    "write_bundle": "nasbench.supernet.nested.bundle",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'nasbench.supernet.nested' has no attribute '{name}'")
