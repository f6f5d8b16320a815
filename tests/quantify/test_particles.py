import numpy as np
import pytest

from bodies import ball, places
from tomoseg.labels import UNLABELLED
from tomoseg.quantify.grid import cut
from tomoseg.quantify.names import Names
from tomoseg.quantify.particles import Particles, seen_whole, volume_shares, weighted_quantile, window_runs
from tomoseg.quantify.quantities import Counted
from tomoseg.quantify.size_quantities import particle_sizes
from tomoseg.quantify.watershed import find_basins, join


def counted(labels, grid, correlation=1.0):
    voxels = np.stack([np.bincount(labels[block.slices].ravel(), minlength=256)[:2] for block in grid])
    cells = np.stack(np.unravel_index(np.arange(len(grid)), grid.counts), axis=1)
    z, y, x = np.array(labels.shape) / grid.counts
    return Counted(voxels, [], [], cells, (float(z), float(y), float(x)), correlation)


def sizes(labels, voxel_size=(1.0, 1.0, 1.0), edge=60):
    grid = cut(labels.shape, edge=edge)
    blocks = [
        find_basins(lambda region: labels[region.slices].copy(), block, shape=labels.shape, voxel_size_um=voxel_size)
        for block in grid
    ]
    runs = [window_runs(labels, axis=axis) for axis in range(3)]
    particles, names = join(blocks, voxel_size_um=voxel_size), Names(("rest", "grain"), "um")
    found = particle_sizes(particles, counted(labels, grid), names, runs=runs, grid=grid, voxel_size_um=voxel_size)
    return {one.name.removeprefix("particle diameter "): one for one in found}


def with_balls(shape, radius, centres):
    labels = np.zeros(shape, np.uint8)
    for centre in centres:
        labels |= ball(places(shape, centre), radius).astype(np.uint8)
    return labels


def test_balls_have_their_diameters_in_micrometres():
    small, large = [(z, y, x) for z in (9, 42) for y in (6, 31) for x in (6, 31)], [(28, 18, 18)]
    labels = with_balls((48, 38, 38), 4.3, small) | with_balls((48, 38, 38), 10.3, large)
    found = sizes(labels, (0.5, 0.5, 0.5))
    # A digital ball of this radius has its volume within 2 %, so its diameter within 0.7 %.
    assert found["grain median by number"].value == pytest.approx(4.3, rel=0.01)
    assert found["grain D10 by volume"].value == found["grain median by number"].value
    assert found["grain D50 by volume"].value == found["grain D90 by volume"].value == pytest.approx(10.3, rel=0.01)
    assert found["particles grain wholly inside"].value == 9
    # Each of n voxels is seen whole in w - n - 1 of w places along an axis.
    seen = [np.prod([(w - n - 1) / w for w in labels.shape]) for n in (9, 21)]
    expected = (8 / seen[0] + 1 / seen[1]) / (labels.size / 8)
    assert found["particles grain per volume"].value == pytest.approx(expected)
    assert found["particles grain per volume"].unit == "1/um3"
    assert found["particles rest per volume"].note == "not defined: no particle rest lies wholly inside"


def test_weights_undo_what_the_border_cuts():
    """On average over all places, small and large particles are counted as often as they are there."""
    window, others = 12, np.array([0, 0, 0, 0, 1])
    for size in (2, 7):
        places_inside = sum(start > 0 and start + size < window for start in range(-size, window))
        # Along y and x a voxel in a window of four is seen whole in two places of four.
        chance = seen_whole(np.array([[size, 1, 1]]), [np.eye(window + 1, dtype=np.int64)[window], others, others])
        assert places_inside / chance[0] / 4 == pytest.approx(window)


def test_a_mask_is_a_window_like_the_border():
    labels = with_balls((30, 30, 30), 5.3, [(15, 15, 15)])
    framed, alone = sizes(np.pad(labels, 4, constant_values=UNLABELLED)), sizes(labels)
    assert {name: one.note for name, one in framed.items()} == {name: one.note for name, one in alone.items()}
    for name, one in alone.items():
        assert framed[name].value == (None if one.value is None else pytest.approx(one.value))


def test_what_is_too_large_for_the_volume_is_not_measured_by_its_specks():
    labels = np.zeros((30, 30, 30), np.uint8)
    labels[10:20] = 1  # a plate goes on beyond the border
    assert sizes(labels)["grain D50 by volume"].note == "not defined: no particle grain lies wholly inside"
    labels[3, 3, 3] = 1
    speck = sizes(labels)
    assert speck["particles grain wholly inside"].value == 1
    assert speck["grain D50 by volume"].value is None
    assert speck["grain D50 by volume"].note.startswith("not defined: whole particles make up 0 % of grain")
    assert sizes(np.zeros((9, 9, 9), np.uint8))["grain D50 by volume"].note == "not defined: grain is absent"


def test_quantiles_and_shares_are_those_counted_by_hand():
    values, weights = np.array([1.0, 2.0, 3.0, 4.0]), np.array([1.0, 1.0, 1.0, 7.0])
    assert [weighted_quantile(values, weights, share) for share in (0.1, 0.25, 0.3, 0.31)] == [1, 3, 3, 4]
    low, high = np.ones((4, 3), np.int64), np.full((4, 3), 2)
    four = Particles(values, np.array([4, 3, 2, 1]), np.array([1.0, 1, 1, 1]), 1.0, low, high)
    np.testing.assert_allclose(volume_shares(four, np.array([0.5, 1, 1.5, 4, 5])), [1, 1, 0.6, 0.1, 0])
