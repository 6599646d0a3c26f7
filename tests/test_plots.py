"""Figures: what is drawn where; how they look is for the eye."""

import numpy as np
import pytest

from nasbench import plots
from nasbench.errors import RequestError

COEFFICIENTS_NLE = np.stack([np.linspace(0, 1, 6).reshape(3, 2)] * 2, axis=-1)
COEFFICIENTS_NLE[..., 0] = 1 - COEFFICIENTS_NLE[..., 1]
MACS = np.array([3e6, 1e6, 2e6])


def test_routing_is_drawn_from_the_fewest_macs_to_the_most():
    ax = plots.plot_routing(COEFFICIENTS_NLE, MACS, ["first", "second"])
    (image,) = ax.get_images()
    np.testing.assert_allclose(image.get_array(), COEFFICIENTS_NLE[[1, 2, 0], :, 1].T)
    assert [label.get_text() for label in ax.get_yticklabels()] == ["first", "second"]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["1.0M", "2.0M", "3.0M"]


@pytest.mark.parametrize(
    ("macs", "layers", "expert", "sentence"),
    [
        (MACS[:2], ["a", "b"], 1, "of 3 sub-networks and 2 layers were given with 2 MACs"),
        (MACS, ["a"], 1, "and 1 names of layers"),
        (MACS, ["a", "b"], 2, "there is no expert 2; possible: 0 to 1"),
    ],
)
def test_routing_that_does_not_fit_is_refused(macs, layers, expert, sentence):
    with pytest.raises(RequestError, match=sentence):
        plots.plot_routing(COEFFICIENTS_NLE, macs, layers, expert)
