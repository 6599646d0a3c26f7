"""Supernets made of networks of one's own: what `nasbench.supernet.elasticize` is.

Read in this order: `ties.py` (which channels stand or fall together), `tracing.py` (the graph),
`operations.py` and `propagation.py` (what each operation says), `axes.py` (groups of channels),
`depth.py` (blocks that can be left out), `analysis.py` (the dimensions), `layers.py`,
`compilation.py` and `program.py` (how it is computed), `network.py` (the supernet).
"""

from nasbench.supernet.elasticized.analysis import StaticPart
from nasbench.supernet.elasticized.network import Elasticized, elasticize
from nasbench.supernet.elasticized.rules import Rule

__all__ = ["elasticize", "Elasticized", "Rule", "StaticPart"]
