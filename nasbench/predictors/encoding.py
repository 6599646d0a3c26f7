"""Encodings: genomes as features. The vocabulary is what the space declares, not what was seen.

An inactive dimension says the same whatever it stands at, so two genomes of one network have
one encoding.

Shape legend: N architectures, D dimensions, F features.
"""

import numpy as np

from nasbench.predictors.base import Floats
from nasbench.space import Choice, Genomes, SearchSpace


def num_one_hot_features(space: SearchSpace) -> int:
    """The number of columns of `one_hot`: the choices of all dimensions together."""
    return int(space.num_choices.sum())


def one_hot(space: SearchSpace, genomes: Genomes) -> Floats:
    """One column per declared choice, 1 where taken; an inactive dimension is all zeros.

    Genomes of shape (N, D) become float64 of shape (N, F).
    """
    first_column = np.cumsum(space.num_choices) - space.num_choices
    rows, dimensions = np.nonzero(space.active(genomes))
    features = np.zeros((len(genomes), num_one_hot_features(space)))
    features[rows, first_column[dimensions] + genomes[rows, dimensions]] = 1.0
    return features


def ordinal(space: SearchSpace, genomes: Genomes) -> Floats:
    """One column per dimension, its choices spread over [0, 1]; -1 where inactive.

    Numbers in rising order keep their spacing (widths 16, 24, 64 become 0, 1/6, 1); other
    choices are spaced evenly in the order written. Genomes of shape (N, D) become float64 of
    shape (N, D).
    """
    features = np.empty(genomes.shape)
    for column, dimension in enumerate(space):
        features[:, column] = _positions(dimension.choices, dimension.is_ordinal)[
            genomes[:, column]
        ]
    return np.where(space.active(genomes), features, -1.0)


def _positions(choices: tuple[Choice, ...], is_ordinal: bool) -> Floats:
    values = np.array(choices if is_ordinal else range(len(choices)), dtype=np.float64)
    extent = values[-1] - values[0]
    return (values - values[0]) / extent if extent > 0 else np.zeros(len(values))
