"""Lengths of triple lines: straight lines, circles and a phantom's, whatever their direction, voxels and blocks."""

from functools import reduce
from operator import add

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bodies import ball, cuts, directions, frame, phantom, places, random_centre, sectors, unit, volumes
from checking import typechecked
from tomoseg.labels import UNLABELLED
from tomoseg.quantify import triple_lines
from tomoseg.quantify.triple_lines import class_triples, line_guard

measure_lines, line_edges = typechecked(triple_lines.measure_lines), typechecked(triple_lines.line_edges)
DIAGONALS = [(1, 1, 0), (1, 0, 1), (0, 1, -1), (1, 1, 1), (1, -1, 1), (-1, -1, 1)]
N = 44


def length_within(centre, direction, voxel_size=(1, 1, 1)):
    """Length of a line in the volume, as far as edges of voxels along each axis see it: they lie between voxels."""
    along, edges, total = unit(direction), np.array(voxel_size, float), 0
    along = np.where(np.abs(along) < 1e-9, 1e-9, along)
    for axis in range(3):
        low = np.where(np.arange(3) == axis, -0.5, 0.0)
        ends = [(low - centre) * edges / along, (N - 1 - low - centre) * edges / along]
        total += along[axis] ** 2 * max(0, np.max(ends, axis=0).min() - np.min(ends, axis=0).max())
    return total


def lines_share(direction, *, angles=(120, 120, 120), voxel_size=(1.0, 1.0, 1.0), seed=0):
    """Return measured and counted length of a straight line where three sectors meet, as shares of the true one."""
    rng = np.random.default_rng([seed, 1])  # another stream than the directions'
    centre, turned = random_centre((N,) * 3, rng), frame(direction, rng)
    labels = sectors(places((N,) * 3, centre, voxel_size), turned, angles)
    sums = measure_lines(labels, n_classes=3, voxel_size=voxel_size)
    true = length_within(centre, direction, voxel_size)
    return sums.lengths.sum() / true, sums.stair_lengths.sum() / true


@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("angles", [(120, 120, 120), (90, 135, 135)])
def test_lines_along_the_axes_have_their_exact_length(axis, angles):
    assert lines_share(np.eye(3)[axis], angles=angles)[0] == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("direction", [*DIAGONALS, *directions(20, seed=0)])
@pytest.mark.parametrize("angles", [(120, 120, 120), (90, 135, 135)])
def test_lines_in_any_direction_have_their_length(direction, angles):
    assert lines_share(direction, angles=angles)[0] == pytest.approx(1, abs=0.03)


def test_lines_have_no_bias_beyond_one_per_cent_and_counted_ones_half_as_much_again():
    measured, counted = np.mean([lines_share(direction, seed=1) for direction in directions(20, seed=1)], axis=0)
    assert measured == pytest.approx(1, abs=0.01)
    assert 1.27 < counted < 1.6


@pytest.mark.parametrize("direction", directions(8, seed=2))
def test_lines_in_flat_voxels_have_their_length(direction):
    assert lines_share(direction, voxel_size=(1.0, 0.5, 0.5))[0] == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize(("radius", "rim"), [(12, 10), (20, 10), (26, 20)])
def test_the_rim_of_a_lens_between_two_phases_has_its_length(radius, rim):
    shape, away, rng = (2 * rim + 12,) * 3, np.sqrt(radius**2 - rim**2), np.random.default_rng([3, 1])
    for direction in directions(4, seed=3):
        at, up = places(shape, random_centre(shape, rng)), unit(direction)
        lens = ball(at, radius, away * up) & ball(at, radius, -away * up)
        labels = np.where(lens, 1, np.where(np.tensordot(up, at, 1) > 0, 2, 0)).astype(np.uint8)
        assert measure_lines(labels, n_classes=3).lengths.sum() == pytest.approx(2 * np.pi * rim, rel=0.03)


@pytest.mark.parametrize("width", [2, 3, 6, 12])
def test_two_lines_of_opposite_sense_do_not_shorten_each_other(width):
    """A thin ribbon in the interface of two phases has a line at either edge."""
    rng = np.random.default_rng([5, 1])
    for direction in directions(4, seed=5):
        centre, (along, across, up) = random_centre((N,) * 3, rng), frame(direction, rng)
        at = places((N,) * 3, centre)
        height = np.tensordot(up, at, 1)
        ribbon = (np.abs(np.tensordot(across, at, 1)) < width / 2) & (np.abs(height) < 1.5)
        labels = np.where(ribbon, 1, np.where(height > 0, 2, 0)).astype(np.uint8)
        true = sum(length_within(centre + side * width / 2 * across, along) for side in (-1, 1))
        assert measure_lines(labels, n_classes=3).lengths.sum() == pytest.approx(true, rel=0.03)


@pytest.mark.parametrize("seed", [0, 2])
def test_the_phantoms_lines_have_their_true_length(seed):
    labels, truth = phantom(seed, (64, 96, 96))
    sums = measure_lines(labels, n_classes=3)
    assert sums.densities[0] == pytest.approx(truth.line / truth.volume, rel=0.03)
    assert sums.stair_lengths.sum() / sums.lengths.sum() == pytest.approx(1.5, abs=0.08)


@given(data=st.data(), sigma=st.sampled_from([0.8, 1.5]), size=st.sampled_from([(1.0, 1.0, 1.0), (1.0, 0.7, 0.6)]))
@settings(deadline=None, max_examples=40)
def test_blocks_add_up_to_the_whole_however_it_is_cut(data, sigma, size):
    labels = data.draw(volumes(4))
    whole = measure_lines(labels, n_classes=4, voxel_size=size, sigma=sigma)
    blocks = data.draw(cuts(labels.shape, line_guard(voxel_size=size, sigma=sigma)))
    parts = [measure_lines(labels[box], n_classes=4, voxel_size=size, own=own, sigma=sigma) for box, own in blocks]
    total = reduce(add, parts)
    np.testing.assert_allclose(total.lengths, whole.lengths, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(total.stair_lengths, whole.stair_lengths)
    np.testing.assert_allclose(total.volumes, whole.volumes)


@given(labels=volumes(4, longest=12))
@settings(deadline=None, max_examples=30)
def test_each_edge_lies_between_voxels_of_its_three_classes_and_their_lengths_add_up(labels):
    edges = line_edges(labels, n_classes=4)
    around = np.sort(labels[tuple(np.moveaxis(edges.voxels, -1, 0))], axis=1)
    for triple, classes in zip(edges.triples, around, strict=True):
        assert tuple(np.unique(classes)) == class_triples(4)[triple]
    sums = measure_lines(labels, n_classes=4)
    assert edges.lengths.sum() == pytest.approx(sums.lengths.sum(), abs=1e-9)
    assert len(edges.lengths) == pytest.approx(sums.stair_lengths.sum())


@given(labels=volumes(4, longest=12), order=st.permutations(range(4)))
@settings(deadline=None, max_examples=20)
def test_renaming_the_classes_renames_the_lengths(labels, order):
    renamed = np.full(256, UNLABELLED, np.uint8)
    renamed[:4] = order
    here, there = (measure_lines(some, n_classes=4).lengths.sum(axis=0) for some in (labels, renamed[labels]))
    triples = class_triples(4)
    for triple, length in zip(triples, here, strict=True):
        new = triples.index(tuple(sorted(order[one] for one in triple)))
        assert there[new] == pytest.approx(length, abs=1e-5)


@pytest.mark.parametrize(
    ("ring", "meets"),
    [
        *[((0, 0, 1, 2), 1), ((0, 1, 1, 2), 1), ((0, 1, 2, 2), 1), ((0, 1, 2, 0), 1)],
        *[((0, 1, 0, 2), 0), ((0, 0, 1, 1), 0), ((0, 1, 0, 1), 0), ((0, 1, 2, 3), 0), ((0, 0, 1, UNLABELLED), 0)],
    ],
)
@pytest.mark.parametrize("axis", range(3))
def test_a_line_runs_where_three_classes_come_in_turn(ring, meets, axis):
    """Not where two voxels of a class touch along the edge, nor between four classes, nor along a mask."""
    a, b, c, d = ring
    labels = np.expand_dims(np.array([[a, d], [b, c]], np.uint8), axis)
    assert measure_lines(labels, n_classes=4).stair_lengths.sum() == meets


def test_two_classes_have_no_lines():
    labels = np.random.default_rng(0).integers(0, 2, (5, 5, 5), dtype=np.uint8)
    sums = measure_lines(labels, n_classes=2)
    assert sums.lengths.shape == (3, 0)
    np.testing.assert_array_equal(sums.volumes, 5 * 4 * 4)
