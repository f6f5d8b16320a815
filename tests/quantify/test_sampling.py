import numpy as np
import pytest

from tomoseg.quantify.sampling import FEWEST_BLOCKS, independent_blocks, jackknife


def ratio(sums: np.ndarray) -> np.ndarray:
    return sums[:1] / sums[1]


def test_the_interval_holds_the_material_s_value_as_often_as_it_says():
    rng, inside = np.random.default_rng(0), 0
    for _ in range(1000):
        sizes = rng.uniform(50, 150, 20)
        found = jackknife(np.stack([sizes * rng.normal(0.3, 0.05, 20), sizes], axis=1), ratio)
        inside += found.low[0] < 0.3 < found.high[0]
    assert 0.93 < inside / 1000 < 0.97


def test_blocks_that_are_alike_leave_no_spread():
    found = jackknife(np.tile([3.0, 10.0], (9, 1)), ratio)
    assert found.low[0] == pytest.approx(0.3) == pytest.approx(found.high[0])


def test_too_few_blocks_have_a_value_and_no_interval():
    found = jackknife(np.tile([3.0, 10.0], (FEWEST_BLOCKS - 1, 1)), ratio)
    assert found.values[0] == pytest.approx(0.3) and np.isnan(found.low[0])
    assert found.why_not == "the volume holds 7 independent blocks; it takes 8"


def test_cells_shorter_than_two_correlation_lengths_are_taken_together():
    cells = np.stack(np.unravel_index(np.arange(5 * 4 * 4), (5, 4, 4)), axis=1)
    alone = independent_blocks(cells, (125, 125, 125), length=40)
    assert len(np.unique(alone)) == 80
    pairs = independent_blocks(cells, (125, 125, 125), length=100)
    assert np.bincount(pairs).tolist() == [12] * 4 + [8] * 4
