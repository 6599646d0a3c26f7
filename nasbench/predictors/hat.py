"""Encodings of HAT's space: its ten features, and the layer sums that they stand for.

Wang et al., HAT: Hardware-Aware Transformers for Efficient Natural Language Processing (ACL 2020)
predict latency from ten numbers: hidden sizes and depths of encoder and decoder, and of the rest
the averages over layers. Their published measurements hold these numbers only, so HAT's space
comes in two forms: the supernet family `seq2seq`, whose dimensions are those of each layer, and
the table, whose dimensions are the ten numbers (`tables.hat_latency`).

Shape legend: N architectures, D dimensions, F features.
"""

import re

import numpy as np

from nasbench.encoding import Floats, numbers_of
from nasbench.errors import RequestError
from nasbench.predictors.encoding import Encoding
from nasbench.space import Genomes, SearchSpace

# Feature -> the seq2seq family's dimensions that it averages, and HAT's divisor.
_FEATURES = {
    "encoder.hidden_size": (r"encoder\.hidden_size", 640),
    "encoder.depth": (r"encoder\.depth", 6),
    "encoder.mean_feed_forward_width": (r"encoder\.layer\d+\.feed_forward_width", 2048),
    "encoder.mean_num_heads": (r"encoder\.layer\d+\.num_partitioned_heads", 6),
    "decoder.hidden_size": (r"decoder\.hidden_size", 640),
    "decoder.depth": (r"decoder\.depth", 6),
    "decoder.mean_feed_forward_width": (r"decoder\.layer\d+\.feed_forward_width", 2048),
    "decoder.mean_num_self_heads": (r"decoder\.layer\d+\.self_attention\.num_part.*", 6),
    "decoder.mean_num_cross_heads": (r"decoder\.layer\d+\.cross_attention\.num_part.*", 6),
    "decoder.mean_num_attended": (r"decoder\.layer\d+\.cross_attention\.num_layers", 2),
}
HAT_FEATURES = tuple(_FEATURES)
_DEPTH_OF = {"encoder": HAT_FEATURES.index("encoder.depth")}
_DEPTH_OF["decoder"] = HAT_FEATURES.index("decoder.depth")


class HAT(Encoding):
    """HAT's ten features, divided as in its code; averages are over the layers that run."""

    def __init__(self, space: SearchSpace) -> None:
        self._space = space
        names = [dimension.name for dimension in space]
        self._columns = [
            [names.index(feature)]
            if feature in names
            else [column for column, name in enumerate(names) if re.fullmatch(pattern, name)]
            for feature, (pattern, _) in _FEATURES.items()
        ]
        if not all(self._columns):
            missing = HAT_FEATURES[[bool(columns) for columns in self._columns].index(False)]
            raise RequestError(f"HAT's encoding is for HAT's space; this one has no '{missing}'")
        self._divisors = np.array([divisor for _, divisor in _FEATURES.values()])
        self.groups = np.arange(len(_FEATURES))

    def _encode(self, genomes: Genomes) -> Floats:
        numbers = numbers_of(self._space, genomes)
        active = self._space.active(genomes)
        averages = [
            numbers[:, columns].sum(axis=1) / active[:, columns].sum(axis=1)
            for columns in self._columns
        ]
        return np.asarray(np.column_stack(averages) / self._divisors)


class HATTotals(HAT):
    """HAT's features with sums over layers in place of averages: latency adds up over layers."""

    def _encode(self, genomes: Genomes) -> Floats:
        features = super()._encode(genomes)
        for column, name in enumerate(HAT_FEATURES):
            if ".mean_" in name:
                features[:, column] *= features[:, _DEPTH_OF[name.partition(".")[0]]]
        return features

    @classmethod
    def belongs_to(cls, space: SearchSpace) -> bool:
        """Where the space is HAT's table; of a supernet's space, averages would lose a part."""
        return [dimension.name for dimension in space] == list(HAT_FEATURES)
