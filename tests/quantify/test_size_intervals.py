import numpy as np
import pytest

from tomoseg.quantify.grid import cut
from tomoseg.quantify.particles import Particles
from tomoseg.quantify.quantities import Counted
from tomoseg.quantify.sampling import Spread
from tomoseg.quantify.size_intervals import _ends, _expected, median_spread, number_spread, quantile_spreads
from tomoseg.quantify.sizes import Sizes

SHAPE = (80, 80, 80)
GRID = cut(SHAPE, edge=20)


def counted(grid=GRID, *, correlation=1.0, inside=None):
    voxels = np.array([[np.prod(block.shape)] for block in grid]) if inside is None else inside[:, None]
    cells = np.stack(np.unravel_index(np.arange(len(grid)), grid.counts), axis=1)
    z, y, x = np.array(grid.shape) / grid.counts
    return Counted(voxels, [], [], cells, (float(z), float(y), float(x)), correlation)


def drawn(rng, n=300, *, weights=None):
    """Return boxes of lognormal diameters, evenly wherever they are seen whole."""
    diameters = np.sort(np.maximum(2.0, 5 * np.exp(0.4 * rng.standard_normal(n))))
    extents = np.tile(np.round(diameters)[:, None].astype(np.int64), 3)
    low = 1 + (rng.random((n, 3)) * (np.array(SHAPE) - extents - 1)).astype(np.int64)
    voxels = np.round(np.pi / 6 * diameters**3).astype(np.int64)
    return Particles(diameters, voxels, np.ones(n) if weights is None else weights, 1.0, low, low + extents)


def test_intervals_of_quantiles_hold_the_material_s_as_often_as_they_say():
    rng, held = np.random.default_rng(0), np.zeros(3)
    true = 5 * np.exp(0.4 * np.array([-1.2816, 0, 1.2816]))
    for _ in range(300):
        its = drawn(rng)
        found = quantile_spreads(its, [(its.weights, share) for share in (0.1, 0.5, 0.9)], counted=counted(), grid=GRID)
        held += [one.low[0] <= at <= one.high[0] for one, at in zip(found, true, strict=True)]
        assert all(one.low[0] <= one.values[0] <= one.high[0] for one in found)
    # Independent blocks pay for neighbours that might be alike.
    assert (held / 300 > 0.93).all()


def test_the_number_s_interval_is_that_of_counts_and_not_of_a_border_where_few_are_seen_whole():
    rng, found = np.random.default_rng(0), []
    for _ in range(100):
        n = rng.poisson(300)
        low = rng.integers(1, 80 - 14, (n, 3))  # of 14 voxels: of the outer blocks a third is out of reach
        its = Particles(np.full(n, 14.0), np.full(n, 1437), np.ones(n), 1.0, low, low + 14)
        one = number_spread(its, counted=counted(), grid=GRID)
        assert one.values[0] == n
        found.append((one.low[0] <= 300 <= one.high[0], one.high[0] - one.low[0]))
    held, width = np.mean(found, axis=0)
    assert held > 0.92
    assert 1.0 < width / (2 * 1.96 * np.sqrt(300)) < 1.5


def test_expected_particles_are_as_many_as_there_are_and_fewer_where_they_would_be_cut_or_masked():
    its = drawn(np.random.default_rng(0), weights=np.linspace(1, 2, 300))
    whole = np.array([np.prod(block.shape) for block in GRID])
    found = _expected(its, inside=whole, grid=GRID)
    assert found.sum() == pytest.approx(its.weights.sum())
    cells = found.reshape(GRID.counts)
    assert cells[0, 0, 0] < cells[0, 0, 1] < cells[0, 1, 1] < cells[1, 1, 1] == pytest.approx(cells[2, 2, 2])
    masked = np.where(np.arange(64) < 16, 0, whole)
    found = _expected(its, inside=masked, grid=GRID)
    assert found.sum() == pytest.approx(its.weights.sum()) and not found[:16].any()


def test_blocks_shorter_than_the_structure_and_blocks_as_long_give_the_same_interval():
    its = drawn(np.random.default_rng(1))
    ends = []
    for edge in (10, 20):
        grid = cut(SHAPE, edge=edge)
        (one,) = quantile_spreads(its, [(its.weights, 0.5)], counted=counted(grid, correlation=10), grid=grid)
        ends.append((one.low[0], one.values[0], one.high[0], one.n_blocks))
    assert ends[0] == ends[1] and ends[0][-1] == 64


def test_few_blocks_few_particles_and_particles_all_alike_have_values_and_no_interval():
    rng = np.random.default_rng(0)
    its, wide = drawn(rng), counted(correlation=30)
    (one,) = quantile_spreads(its, [(its.weights, 0.5)], counted=wide, grid=GRID)
    assert one.values[0] == its.diameters_um[149] and np.isnan(one.low[0])
    assert one.why_not == "the volume holds 1 independent block; it takes 8"
    few = drawn(rng, 30)
    tenth, median = quantile_spreads(few, [(few.weights, 0.1), (few.weights, 0.5)], counted=counted(), grid=GRID)
    assert tenth.why_not == "no interval: by their weights the particles count as 30, it takes 50"
    assert median.why_not is None and median.low[0] < median.high[0]
    same = Particles(np.full(60, 3.0), np.full(60, 14), np.ones(60), 1.0, *(drawn(rng, 60).low + n for n in (0, 3)))
    (one,) = quantile_spreads(same, [(same.weights, 0.5)], counted=counted(), grid=GRID)
    assert one.why_not == "no interval: without one of the blocks none is larger, or all are"


def test_ends_of_a_share_are_its_log_odds_moved_by_hand():
    odds = Spread(np.array([0.7]), np.array([0.7 - np.log(3)]), np.array([0.7 + np.log(3)]), 9)
    assert _ends(odds, 0, 0.5) == pytest.approx([1 / 4, 3 / 4])
    assert _ends(odds, 0, 0.9) == pytest.approx([3 / 4, 27 / 28])
    assert _ends(Spread(np.zeros(1), np.full(1, np.nan), np.full(1, np.nan), 2), 0, 0.5) == []


def balls(scatter):
    """Return sizes of 64 blocks of 1000 voxels; about half of the voxels are covered by balls of radius 2."""
    noise = np.random.default_rng(0).standard_normal(64)
    some = np.round(500 + scatter * (noise - noise.mean())).astype(np.int64)
    return [Sizes(np.array([1.0, 2, 4]), np.array([1000]), np.array([[1000, its, 0]])) for its in some]


def test_the_median_of_balls_that_fit_has_the_interval_of_the_share_that_exceeds_it():
    one = median_spread(balls(80), index=0, counted=counted())
    # The share has a standard deviation of 0.08 / 8 = 0.01; about a radius of 2 it falls by 0.5 over 2 um, then over 4.
    assert one.values[0] == pytest.approx(4, abs=0.01)
    assert one.high[0] - one.values[0] == pytest.approx(2 * 0.01 * 4 / 0.5, rel=0.5)
    assert one.values[0] - one.low[0] == pytest.approx(2 * 0.01 * 2 / 0.5, rel=0.5)
    alike = median_spread(balls(0), index=0, counted=counted())
    assert alike.low[0] == pytest.approx(4) == pytest.approx(alike.high[0])


def test_a_median_of_few_blocks_or_beyond_the_balls_tried_has_no_interval():
    few = median_spread(balls(80), index=0, counted=counted(correlation=40))
    assert few.why_not == "the volume holds 1 independent block; it takes 8"
    wide = [Sizes(np.array([1.0, 2]), np.array([100]), np.array([[100, its]])) for its in (0, 99) * 32]
    one = median_spread(wide, index=0, counted=counted())
    assert one.why_not == "no interval: it would reach beyond the balls tried"
