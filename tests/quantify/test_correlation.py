import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bodies import ball, places
from quantify_volumes import labelled, random_labels
from tomoseg.labels import UNLABELLED
from tomoseg.quantify.correlation import count_pairs, covariance, decay_lags, longest_lags, two_point
from tomoseg.quantify.grid import cut
from tomoseg.quantify.names import Names
from tomoseg.quantify.quantities import Counted
from tomoseg.quantify.size_quantities import correlation_lengths


def counted(labels, n_classes, edge=100):
    return np.stack(
        [
            count_pairs(lambda region: labels[region.slices].copy(), block, shape=labels.shape, n_classes=n_classes)
            for block in cut(labels.shape, edge=edge)
        ]
    )


def one_by_one(labels, n_classes):
    lags = longest_lags(labels.shape)
    pairs = np.zeros((1 + n_classes, 3, max(lags) + 1), int)
    for order, mask in enumerate([labels != UNLABELLED, *(labels == index for index in range(n_classes))]):
        for axis in range(3):
            along = np.moveaxis(mask, axis, 0)
            for lag in range(lags[axis] + 1):
                pairs[order, axis, lag] = sum((along[i] & along[i + lag]).sum() for i in range(len(along) - lag))
    return pairs


@given(volume=labelled(longest=9), edge=st.integers(2, 8))
@settings(deadline=None, max_examples=15)
def test_any_blocks_count_the_pairs_that_there_are(volume, edge):
    labels, n_classes = volume
    np.testing.assert_array_equal(counted(labels, n_classes, edge).sum(axis=0), one_by_one(labels, n_classes))


def test_cells_are_alike_over_their_edge():
    """The covariance of independent cells of edge a, averaged over where a pair begins, is 1 - r / a."""
    labels = random_labels((96, 96, 96), seed=0, n_classes=2, coarse=6, masked=0.0)
    falling = covariance(two_point(counted(labels, 2).sum(axis=0)))
    # 4096 cells: the covariance of neighbours has a std of 1/64.
    np.testing.assert_allclose(falling[1, :, :6], [1 - np.arange(6) / 6] * 3, atol=4 / 64)
    assert np.abs(falling[1, :, 6:24]).max() < 4 / 64 * np.sqrt(2)
    np.testing.assert_allclose(decay_lags(falling), 6 * (1 - np.exp(-1)), atol=6 * 4 / 64)
    # Two phases of a binary body have one covariance, but for pairs at the border.
    np.testing.assert_allclose(falling[0], falling[1], atol=0.03)


def test_a_ball_has_its_covariogram_and_surface():
    radius, shape = 16.0, (70, 70, 70)
    labels = ball(places(shape, (34.7, 34.2, 34.9)), radius).astype(np.uint8)
    pairs, lags = counted(labels, 2).sum(axis=0)[2], np.arange(36)
    volume = 4 / 3 * np.pi * radius**3
    lens = np.where(lags < 2 * radius, 1 - 0.75 * lags / radius + lags**3 / (16 * radius**3), 0) * volume
    # Each plane of the lens is counted as well as its circle's edge: a part in a hundred of a disk of this radius.
    np.testing.assert_allclose(pairs, [lens] * 3, atol=0.01 * volume)
    # Debye, Anderson, Brumberger 1957: the slope at 0 is a quarter of the surface, each line meets the ball once.
    slope = (pairs[:, 0] - pairs[:, 1]).mean()
    assert slope == pytest.approx(np.pi * radius**2, rel=0.01)


def test_the_first_fall_to_a_share_of_e_is_interpolated():
    e = np.exp(-1)
    curves = np.array([[[1, e, 0, 0], [1, 0.5, 0.4, 0.39], [1, e + 0.1, e - 0.1, 1], [1, np.nan, np.nan, np.nan]]])
    np.testing.assert_allclose(decay_lags(curves), [[1, np.nan, 1.5, np.nan]])


def lengths(labels, edge, voxel_size=(1.0, 1.0, 1.0)):
    grid = cut(labels.shape, edge=edge)
    pairs = counted(labels, 2, edge)
    cells = np.stack(np.unravel_index(np.arange(len(grid)), grid.counts), axis=1)
    sums = Counted(pairs[:, 1:, 0, 0], [], [], cells, (float(edge),) * 3, 6.0)
    found = correlation_lengths(pairs, sums, Names(("a", "b"), "um"), voxel_size_um=voxel_size)
    return {one.name.removeprefix("correlation length "): one for one in found}


def test_lengths_have_intervals_and_units_and_say_why_there_is_none():
    truth, held = 6 * (1 - np.exp(-1)) * 2.5 / 3, 0
    for seed in range(10):
        one = lengths(random_labels((48, 48, 48), seed=seed, n_classes=2, coarse=6, masked=0.0), 16, (0.5, 1, 1))["a"]
        held += one.interval[0] < truth < one.interval[1]
        assert one.unit == "um" and one.interval[1] - one.interval[0] < truth
    # Of ten intervals that hold the truth at 95 % six or fewer do once in 1000 times.
    assert held > 6
    plates = np.broadcast_to((np.arange(48) // 6 % 2).astype(np.uint8)[:, None, None], (48, 48, 48)).copy()
    found = lengths(plates, 16)
    assert found["a along z"].value == pytest.approx(3 * (1 - np.exp(-1)), rel=0.1)
    assert found["a along y"].note == "not defined: the covariance of a is above 1/e up to 24 voxels along y"
    assert found["a"].value is None and found["a"].note == found["a along y"].note
    found = lengths(np.zeros((8, 8, 8), np.uint8), 8)
    assert (found["a"].note, found["b"].note) == ("not defined: a is alone", "not defined: b is absent")
