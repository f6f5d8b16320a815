from itertools import product

import numpy as np
import pytest
from scipy import ndimage

from tomoseg.quantify.sampling import FEWEST_BLOCKS, _freedom, independent_blocks, jackknife


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


def grid(*shape: int) -> np.ndarray:
    return np.stack(np.unravel_index(np.arange(np.prod(shape)), shape), axis=1)


def share_inside(shape: tuple[int, ...], *, blur: float, places: bool) -> float:
    """Return how often the interval holds the mean of a field that is smooth over `blur` blocks."""
    rng, inside, parts, margin = np.random.default_rng(0), 0, 4, 12
    for _ in range(300):
        field = ndimage.gaussian_filter(rng.standard_normal([parts * n + 2 * margin for n in shape]), parts * blur)
        own = field[tuple(slice(margin, margin + parts * n) for n in shape)]
        means = own.reshape([k for n in shape for k in (n, parts)]).mean(axis=tuple(range(1, 2 * len(shape), 2)))
        sums = np.stack([means.ravel(), np.ones(means.size)], axis=1)
        found = jackknife(sums, ratio, places=grid(*shape) if places else None)
        inside += bool(found.low[0] < 0 < found.high[0])
    return inside / 300


@pytest.mark.parametrize("shape", [(4, 4, 4), (2, 4, 4), (1, 7, 7)])
@pytest.mark.parametrize("blur", [0.2, 0.3])
def test_blocks_that_are_alike_near_by_hold_the_value_as_often_as_they_say(shape, blur):
    assert 0.90 < share_inside(shape, blur=blur, places=True) <= 0.99


@pytest.mark.parametrize("shape", [(4, 4, 4), (2, 4, 4), (1, 7, 7)])
def test_independent_blocks_pay_no_more_than_half_for_neighbours_that_might_be_alike(shape):
    rng, widths = np.random.default_rng(0), []
    for _ in range(200):
        sums = np.stack([rng.normal(1, 0.1, np.prod(shape)), np.ones(np.prod(shape))], axis=1)
        found = [jackknife(sums, ratio, places=places) for places in (grid(*shape), None)]
        widths.append([float(one.high[0] - one.low[0]) for one in found])
    with_neighbours, alone = np.mean(widths, axis=0)
    assert 1.0 < with_neighbours / alone < 1.5


def test_without_their_neighbours_such_blocks_promise_too_much():
    assert share_inside((4, 4, 4), blur=0.3, places=False) < 0.85


def test_a_grid_too_small_for_the_flat_top_has_an_interval_and_so_has_one_with_holes():
    rng = np.random.default_rng(0)
    sums = np.stack([rng.normal(1, 0.1, 64), np.ones(64)], axis=1)
    for places in (grid(2, 2, 2), grid(8, 1, 1), grid(4, 4, 4)[::3]):
        found = jackknife(sums[: len(places)], ratio, places=places)
        assert 0.01 < found.high[0] - found.low[0] < 0.5


def test_where_neighbours_make_up_for_each_other_the_interval_is_no_narrower_than_asked():
    places = grid(4, 4, 4)
    sums = np.stack([1 + 0.1 * (-1.0) ** places.sum(axis=1), np.ones(64)], axis=1)
    widths = []
    for least_share in (0.25, 0.75, 1.0):
        found = jackknife(sums, ratio, places=places, least_share=least_share)
        widths.append(float(found.high[0] - found.low[0]))
    assert widths[0] / widths[2] == pytest.approx(0.5)
    assert widths[1] / widths[2] == pytest.approx(0.75**0.5)


def test_the_order_of_blocks_and_where_their_grid_begins_change_nothing():
    rng = np.random.default_rng(1)
    sums, places = np.stack([rng.normal(1, 0.1, 36), np.ones(36)], axis=1), grid(3, 3, 4)
    order = rng.permutation(36)
    one, other = jackknife(sums, ratio, places=places), jackknife(sums[order], ratio, places=places[order] + 7)
    assert one.high[0] == pytest.approx(other.high[0])


def test_neighbours_weigh_what_a_table_of_all_pairs_says():
    places = grid(3, 4, 2)[[0, 1, 2, 4, 5, 7, 9, 12, 13, 14, 18, 20, 21, 23]]
    n = len(places)
    weights = np.array([[2 * np.prod(np.maximum(0, 1 - np.abs(a - b) / 2)) - (a == b).all() for a, b in row]
                        for row in np.reshape(list(product(places, places)), (n, n, 2, 3))])  # fmt: skip
    centred = np.eye(n) - 1 / n
    middle = centred @ weights @ centred
    trace, degrees = _freedom(places, 2.0)
    assert trace == pytest.approx(np.trace(middle))
    assert degrees == pytest.approx(np.trace(middle) ** 2 / np.trace(middle @ middle))


def test_cells_shorter_than_two_correlation_lengths_are_taken_together():
    cells = np.stack(np.unravel_index(np.arange(5 * 4 * 4), (5, 4, 4)), axis=1)
    alone = independent_blocks(cells, (125, 125, 125), length=40)
    assert alone.tolist() == cells.tolist()
    pairs = independent_blocks(cells, (125, 125, 125), length=100)
    assert np.unique(pairs, axis=0, return_counts=True)[1].tolist() == [12] * 4 + [8] * 4
