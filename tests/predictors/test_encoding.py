import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nasbench.encoding import num_one_hot_features, one_hot, ordinal
from nasbench.errors import RequestError
from nasbench.predictors import PREDICTORS
from nasbench.predictors.encoding import (
    ENCODINGS,
    Counted,
    OneHot,
    Ordinal,
    encodings_of,
    joined,
)
from nasbench.predictors.hat import HAT_FEATURES
from nasbench.space import ActiveWhen, ElasticDimension, SearchSpace
from nasbench.testing.toys import MIXED_SPACE, MOBILE_SPACE

SPACE = SearchSpace(
    [
        ElasticDimension("depth", (1, 2)),
        ElasticDimension("width", (16, 24, 64), ActiveWhen("depth", (2,))),
        ElasticDimension("norm", ("batch", "layer")),
        ElasticDimension("stem", ("conv",)),
    ]
)

genomes = st.integers(0, 10_000).map(
    lambda seed: MIXED_SPACE.sample_genomes(20, np.random.default_rng(seed))
)


def test_one_hot_has_a_column_per_declared_choice():
    features = one_hot(SPACE, np.array([[1, 1, 0, 0], [0, 0, 1, 0]]))
    assert num_one_hot_features(SPACE) == features.shape[1] == 2 + 3 + 2 + 1
    assert features.tolist() == [[0, 1, 0, 1, 0, 1, 0, 1], [1, 0, 0, 0, 0, 0, 1, 1]]


def test_ordinal_keeps_the_spacing_of_numbers():
    features = ordinal(SPACE, np.array([[1, 0, 0, 0], [1, 1, 1, 0], [1, 2, 0, 0], [0, 0, 0, 0]]))
    assert features[:, 1] == pytest.approx([0, 1 / 6, 1, -1])
    assert features[:, 2].tolist() == [0, 1, 0, 0]
    assert features[:, 3].tolist() == [0, 0, 0, 0]


@given(genomes)
@settings(max_examples=20)
def test_one_hot_says_which_dimensions_are_active(genomes):
    assert (one_hot(MIXED_SPACE, genomes).sum(axis=1) == MIXED_SPACE.active(genomes).sum(1)).all()


@pytest.mark.parametrize("encode", [one_hot, ordinal])
@given(genomes=genomes)
@settings(max_examples=20)
def test_encodings_are_equal_where_networks_are(encode, genomes):
    scrambled = np.where(MIXED_SPACE.active(genomes), genomes, MIXED_SPACE.num_choices - 1)
    features = encode(MIXED_SPACE, scrambled)
    assert (features == encode(MIXED_SPACE, genomes)).all()
    assert len(np.unique(features, axis=0)) == len(np.unique(genomes, axis=0))


# -- groups, totals and counts --------------------------------------------------------------------


@pytest.mark.parametrize("name", ["one_hot", "ordinal", "totals"])
def test_every_column_belongs_to_a_group(name):
    encode = ENCODINGS[name](MIXED_SPACE)
    features = encode(MIXED_SPACE.sample_genomes(20, np.random.default_rng(0)))
    assert features.shape == (20, len(encode.groups))
    assert set(encode.groups) == set(range(encode.groups.max() + 1))


def test_totals_add_up_what_active_layers_choose():
    encode = ENCODINGS["totals"](MOBILE_SPACE)
    smallest, largest = (
        MOBILE_SPACE.to_genome(each) for each in (MOBILE_SPACE.smallest, MOBILE_SPACE.largest)
    )
    totals = encode(np.array([smallest, largest]))[:, encode.groups >= len(MOBILE_SPACE)]
    assert totals[1] == pytest.approx(1.0)
    kernel_sizes = 2 * 3 / (4 * 7)  # two blocks of size 3 of at most four of size 7
    assert totals[0].tolist().count(pytest.approx(kernel_sizes)) == 5


def test_counts_are_relative_to_the_largest():
    def count(architecture):
        return {"macs": 100.0 * architecture["width"]}

    encode = Counted(SPACE, count)
    features = encode(np.array([[1, 0, 0, 0], [1, 2, 0, 0]]))
    assert features[:, 0].tolist() == [0.25, 1.0]
    assert features[:, 1] == pytest.approx(np.log([0.25, 1.0]))


def test_joined_encodings_keep_their_groups():
    encode = joined(OneHot(SPACE), Counted(SPACE, lambda _: {"macs": 1.0}))
    assert encode.groups.tolist() == [0, 0, 1, 1, 1, 2, 2, 3, 4, 4]
    assert encode(np.zeros((3, 4), dtype=np.int64)).shape == (3, 10)


def test_a_setting_chooses_the_encoding():
    genomes = MIXED_SPACE.sample_genomes(30, np.random.default_rng(0))
    values = genomes.sum(axis=1).astype(float)
    by_name = PREDICTORS["ridge"](MIXED_SPACE, encoding="ordinal").fit(genomes, values)
    by_object = PREDICTORS["ridge"](MIXED_SPACE, encoding=Ordinal(MIXED_SPACE)).fit(genomes, values)
    default = PREDICTORS["ridge"](MIXED_SPACE).fit(genomes, values)
    assert (by_name.predict(genomes).mean == by_object.predict(genomes).mean).all()
    assert (by_name.predict(genomes).mean != default.predict(genomes).mean).any()
    with pytest.raises(RequestError, match="did you mean 'ordinal'"):
        PREDICTORS["ridge"](MIXED_SPACE, encoding="ordnal")


# -- cells ----------------------------------------------------------------------------------------

OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
NONE, SKIP, CONV1, CONV3, POOL = range(5)
CELLS = SearchSpace(
    [ElasticDimension(f"edge{a}_{b}", OPERATIONS) for b in (1, 2, 3) for a in range(b)]
)  # edges 01 02 12 03 13 23, as in NAS-Bench-201


def features_of(name, *cells):
    return ENCODINGS[name](CELLS)(np.array(cells))


def test_encodings_of_cells_belong_to_cells_alone():
    assert encodings_of(CELLS) == ["cell", "cell_counts", "cell_used", "cell_used_counts"]
    assert encodings_of(MIXED_SPACE) == []
    assert isinstance(PREDICTORS["ridge"](CELLS).encode, ENCODINGS["cell"])
    with pytest.raises(RequestError, match="one dimension per pair of nodes"):
        ENCODINGS["cell"](MIXED_SPACE)


def test_counts_ignore_where_operations_stand():
    counts = features_of(
        "cell_counts",
        [CONV1, NONE, POOL, SKIP, CONV1, NONE],
        [NONE, CONV1, CONV1, POOL, SKIP, NONE],
    )
    assert counts.tolist() == [[1, 2, 0, 1]] * 2


def test_used_edges_reach_the_output():
    # Node 2 has no way to the output, so neither have the edges that end there.
    counts = features_of(
        "cell_used_counts",
        [CONV1, CONV3, CONV3, SKIP, CONV1, NONE],
        [NONE, NONE, CONV3, SKIP, NONE, POOL],
    )
    assert counts[0].tolist() == [1, 2, 0, 0]
    assert counts[1].tolist() == [1, 0, 1, 1], "the convolution reads zeros, and is computed"


def test_what_no_path_passes_does_not_change_path_features():
    columns = ENCODINGS["cell"](CELLS).groups >= len(CELLS) + 4  # but operations and their counts
    dead_end = [CONV1, NONE, CONV3, POOL, CONV1, NONE]
    other_dead_end = [CONV1, NONE, POOL, POOL, CONV1, NONE]
    features = features_of("cell", dead_end, other_dead_end)[:, columns]
    assert (features[0] == features[1]).all()


def test_isomorphic_cells_have_equal_path_features():
    columns = ENCODINGS["cell"](CELLS).groups >= len(CELLS) + 4
    through_node_1 = [CONV1, NONE, NONE, SKIP, CONV3, NONE]
    through_node_2 = [NONE, CONV1, NONE, SKIP, NONE, CONV3]
    features = features_of("cell", through_node_1, through_node_2)[:, columns]
    assert (features[0] == features[1]).all()
    other_order = [CONV3, NONE, NONE, SKIP, CONV1, NONE]
    assert (features_of("cell", other_order)[:, columns] != features[:1]).any()


def test_a_cell_without_a_live_path_has_features():
    assert np.isfinite(features_of("cell", [NONE] * 6)).all()


# -- HAT ------------------------------------------------------------------------------------------

SEQ2SEQ = SearchSpace(
    [ElasticDimension(f"{stack}.hidden_size", (512, 640)) for stack in ("encoder", "decoder")]
    + [ElasticDimension("encoder.depth", (1,)), ElasticDimension("decoder.depth", (1, 2))]
    + [
        ElasticDimension("encoder.layer1.num_partitioned_heads", (4, 8)),
        ElasticDimension("encoder.layer1.feed_forward_width", (1024, 2048)),
    ]
    + [
        ElasticDimension(f"decoder.layer{layer}.{name}", choices, condition)
        for layer, condition in ((1, None), (2, ActiveWhen("decoder.depth", (2,))))
        for name, choices in (
            ("self_attention.num_partitioned_heads", (4, 8)),
            ("cross_attention.num_partitioned_heads", (4, 8)),
            ("cross_attention.num_layers", (1, 2, 3)),
            ("feed_forward_width", (1024, 2048)),
        )
    ]
)


def test_hats_features_average_over_the_layers_that_run():
    largest = SEQ2SEQ.to_genome(SEQ2SEQ.largest)
    features = dict(zip(HAT_FEATURES, ENCODINGS["hat"](SEQ2SEQ)(largest[None])[0], strict=True))
    assert features["encoder.hidden_size"] == 1.0
    assert features["decoder.mean_feed_forward_width"] == 1.0
    assert features["decoder.mean_num_attended"] == 1.5
    shallow = SEQ2SEQ.to_genome({**SEQ2SEQ.largest, "decoder.depth": 1})
    features = dict(zip(HAT_FEATURES, ENCODINGS["hat"](SEQ2SEQ)(shallow[None])[0], strict=True))
    assert features["decoder.depth"] == pytest.approx(1 / 6)
    assert features["decoder.mean_feed_forward_width"] == 1.0


def test_hats_totals_belong_to_the_table_of_averages():
    table = SearchSpace([ElasticDimension(name, (1.0, 2.0)) for name in HAT_FEATURES])
    assert encodings_of(table) == ["hat_totals"]
    assert encodings_of(SEQ2SEQ) == []
    with pytest.raises(RequestError, match=r"has no 'encoder\.hidden_size'"):
        ENCODINGS["hat"](MIXED_SPACE)
