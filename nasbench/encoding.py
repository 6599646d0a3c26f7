"""Genomes as numbers: the features by which an architecture is known to what learns about it.

The vocabulary is what the space declares, not what was seen. Every function here takes canonical
genomes, int64 of shape (N, D), and returns float64 of shape (N, F).

    one_hot         a column per choice
    ordinal         a column per dimension, from 0 to 1
    layer_means     a column per kind of dimension, averaged over the layers that run

Shape legend: N architectures, D dimensions, F features.
"""

import re

import numpy as np
from numpy.typing import NDArray

from nasbench.space import Choice, Genomes, SearchSpace

Floats = NDArray[np.float64]


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


def repeated_dimensions(space: SearchSpace) -> list[list[int]]:
    """Positions of numeric dimensions whose names differ in their last number alone."""
    found: dict[str, list[int]] = {}
    for position, dimension in enumerate(space):
        if dimension.is_ordinal and (match := re.fullmatch(r"(.*?)\d+(\D*)", dimension.name)):
            found.setdefault("*".join(match.groups()), []).append(position)
    return [positions for positions in found.values() if len(positions) > 1]


def numbers_of(space: SearchSpace, genomes: Genomes) -> Floats:
    """The chosen numbers, of shape (N, D); 0 where inactive or where choices are no numbers."""
    numbers = np.zeros(genomes.shape)
    for column, dimension in enumerate(space):
        if dimension.is_ordinal:
            numbers[:, column] = np.array(dimension.choices, dtype=float)[genomes[:, column]]
    return np.where(space.active(genomes), numbers, 0.0)


def layer_means(space: SearchSpace, genomes: Genomes) -> Floats:
    """One column per dimension, but one for all that repeat: their mean over the active ones.

    Wang et al., HAT (ACL 2020): on the spaces of `seq2seq` these are HAT's ten features. Each is
    spread over [0, 1] by the choices that there are, where HAT divides by numbers of its own; 0
    where none is active. Genomes of shape (N, D) become float64 of shape (N, F).
    """
    active, numbers = space.active(genomes), numbers_of(space, genomes)
    positions = ordinal(space, genomes)
    repeated = {columns[0]: columns for columns in repeated_dimensions(space)}
    followers = {column for columns in repeated.values() for column in columns[1:]}
    features = []
    for column in range(len(space)):
        if column in repeated:
            columns = repeated[column]
            choices = np.concatenate([space.dimensions[other].choices for other in columns])
            low, high = float(choices.min()), float(choices.max())
            num_active = active[:, columns].sum(axis=1)
            mean = numbers[:, columns].sum(axis=1) / np.maximum(num_active, 1)
            position = (mean - low) / (high - low if high > low else 1.0)
            features.append(np.where(num_active > 0, position, 0.0))
        elif column not in followers:
            features.append(positions[:, column])
    return np.column_stack(features)
