"""Shape search by gradient: widths and depths that are learned under a target of cost.

Dong and Yang, Network Pruning via Transformable Architecture Search (NeurIPS 2019), on the elastic
layers and presets that sub-networks are searched in by evolution. Read in this order:

    distribution    logits over the choices of each dimension, and how they are drawn
    mixing          channel-wise interpolation, layers that compute two sizes, stages of all depths
    network         a supernet whose layers are mixed as the distribution says
    cost            the expected cost of a distribution, and the loss that draws it to a target
    searcher        the two alternating steps, and which shape is found
"""

from nasbench.supernet.shape_search.cost import COSTS, ExpectedCost
from nasbench.supernet.shape_search.network import TransformableNetwork
from nasbench.supernet.shape_search.searcher import FoundShape, search_shape

__all__ = ["COSTS", "ExpectedCost", "FoundShape", "TransformableNetwork", "search_shape"]
