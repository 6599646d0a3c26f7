import numpy as np
import pytest

from nasbench.search.stretch import Stretch

LOSSES = np.array([0.06, 0.07, 0.08, 0.1, 0.16, 0.3, 0.9])


def test_there_and_back():
    scale = Stretch.of(LOSSES)
    np.testing.assert_allclose(scale.to_losses(scale.of_losses(LOSSES)), LOSSES)


def test_order_is_kept_below_the_best_too():
    stretched = Stretch.of(LOSSES).of_losses(np.array([0.05, *LOSSES]))
    assert (np.diff(stretched) > 0).all()


def test_what_is_near_the_best_counts_most():
    near, far = np.diff(Stretch.of(LOSSES).of_losses(np.array([0.06, 0.07, 0.89, 0.9])))[[0, 2]]
    assert near > 50 * far


def test_the_unit_does_not_matter():
    in_percent = Stretch.of(100 * LOSSES).of_losses(100 * LOSSES)
    np.testing.assert_allclose(in_percent, Stretch.of(LOSSES).of_losses(LOSSES))


@pytest.mark.parametrize("losses", [[3.0], [3.0, 3.0, 3.0], [3.0, 3.0, 3.0, 4.0], [-2.0, -1.0]])
def test_any_losses_have_a_scale(losses):
    stretched = Stretch.of(np.array(losses)).of_losses(np.array(losses))
    assert np.isfinite(stretched).all()
    assert stretched.min() == 0.0
