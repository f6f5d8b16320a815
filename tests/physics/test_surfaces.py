"""Interface areas: bodies with known areas, whatever their direction, place, voxels and blocks."""

from functools import reduce
from itertools import pairwise
from operator import add

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bodies import ball, cuts, directions, frame, phantom, places, random_centre, sectors, unit, volumes
from checking import typechecked
from tomoseg.errors import LabelError
from tomoseg.labels import UNLABELLED
from tomoseg.quantify import surfaces
from tomoseg.quantify.surfaces import surface_guard
from tomoseg.volume import Region

measure_surfaces = typechecked(surfaces.measure_surfaces)
DIAGONALS = [(1, 1, 0), (1, 0, 1), (0, 1, -1), (1, 1, 1), (1, -1, 1), (-1, -1, 1)]
N = 36


def cut_area(normal, offset, low, high):
    """Area of the plane normal . x = offset in a box: the derivative of the volume below it, by its corners."""
    normal = unit(np.where(np.abs(normal) < 1e-4, 1e-4, normal))
    corners = np.stack(np.meshgrid(*([0, 1],) * 3, indexing="ij"), -1).reshape(-1, 3)
    below = np.maximum(0, offset - np.where(corners, high, low) @ normal)
    return abs(((-1.0) ** corners.sum(axis=1) * below**2).sum() / (2 * normal.prod()))


def plane_share(normal, *, offset=0.3, thickness=None, voxel_size=(1, 1, 1)):
    """Return the measured share of the true area of a plane, or of a plate's two."""
    normal, edges = unit(normal), np.array(voxel_size, float)
    height = np.tensordot(normal, places((N,) * 3, (N - 1) / 2 * np.ones(3), voxel_size), 1) - offset
    labels = (height > 0) & (height < (thickness or np.inf))
    found = measure_surfaces(labels.astype(np.uint8), n_classes=2, voxel_size=voxel_size).pair_areas[0, 1]
    truth = 0
    for axis, part in enumerate(normal**2):  # faces along an axis lie between voxels, one fewer than those
        half = (N - (np.arange(3) == axis)) / 2 * edges
        truth += sum(part * cut_area(normal, offset + more, -half, half) for more in {0, thickness or 0})
    return found / truth


@pytest.mark.parametrize("axis", range(3))
def test_planes_along_the_axes_have_their_exact_area(axis):
    assert plane_share(np.eye(3)[axis]) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("normal", [*DIAGONALS, *directions(20, seed=0)])
def test_planes_in_any_direction_have_their_area(normal):
    assert plane_share(normal) == pytest.approx(1, abs=0.015)


def test_planes_have_no_bias_beyond_one_per_cent():
    assert np.mean([plane_share(normal) for normal in directions(20, seed=1)]) == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("normal", directions(10, seed=2))
def test_planes_in_flat_voxels_have_their_area(normal):
    assert plane_share(normal, voxel_size=(1.0, 0.5, 0.5)) == pytest.approx(1, abs=0.015)


@pytest.mark.parametrize("normal", directions(10, seed=3))
@pytest.mark.parametrize("thickness", [2, 3])
def test_thin_plates_have_both_their_areas(normal, thickness):
    assert plane_share(normal, thickness=thickness) == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("radius", [5, 10, 20])
def test_balls_at_any_place_have_their_area(radius):
    shape, rng = (2 * radius + 6,) * 3, np.random.default_rng(radius)
    for _ in range(4 if radius < 20 else 2):
        labels = ball(places(shape, random_centre(shape, rng)), radius).astype(np.uint8)
        found = measure_surfaces(labels, n_classes=2).pair_areas[0, 1]
        assert found == pytest.approx(4 * np.pi * radius**2, rel=0.02)


def test_a_balls_area_does_not_depend_on_the_voxels_shape():
    rng, size = np.random.default_rng(1), (1.0, 0.5, 0.25)
    shape = (28, 56, 112)
    labels = ball(places(shape, random_centre(shape, rng), size), 10).astype(np.uint8)
    found = measure_surfaces(labels, n_classes=2, voxel_size=size).pair_areas[0, 1]
    assert found == pytest.approx(4 * np.pi * 10**2, rel=0.02)


def test_a_long_cylinder_has_its_area_and_a_rim_costs_little():
    rng, radius, length = np.random.default_rng(2), 9, 36
    shape = (46,) * 3
    for direction in directions(4, seed=4):
        at, along = places(shape, random_centre(shape, rng)), unit(direction)
        height = np.tensordot(along, at, 1)
        labels = ((at**2).sum(axis=0) - height**2 < radius**2) & (np.abs(height) < length / 2)
        found = measure_surfaces(labels.astype(np.uint8), n_classes=2).pair_areas[0, 1]
        assert found == pytest.approx(2 * np.pi * radius * (length + radius), rel=0.05)


def test_interfaces_of_a_lens_between_two_phases_have_their_areas():
    rng, radius, rim = np.random.default_rng(3), 20, 14
    shape, away = (40,) * 3, np.sqrt(radius**2 - rim**2)
    cap = 2 * np.pi * radius * (radius - away)
    for direction in directions(3, seed=5):
        at, up = places(shape, random_centre(shape, rng)), unit(direction)
        lens = ball(at, radius, away * up) & ball(at, radius, -away * up)
        labels = np.where(lens, 1, np.where(np.tensordot(up, at, 1) > 0, 2, 0)).astype(np.uint8)
        areas = measure_surfaces(labels, n_classes=3).pair_areas
        np.testing.assert_allclose([areas[0, 1], areas[1, 2]], cap, rtol=0.02)


@pytest.mark.parametrize("angles", [(120, 120, 120), (90, 135, 135), (60, 100, 200)])
def test_three_interfaces_that_meet_in_a_line_have_their_areas(angles):
    rng, found, true = np.random.default_rng(4), np.zeros((3, 3)), np.zeros((3, 3))
    for direction in directions(12, seed=6):
        centre, turned = random_centre((N,) * 3, rng), frame(direction, rng)
        found += measure_surfaces(sectors(places((N,) * 3, centre), turned, angles), n_classes=3).pair_areas
        for degrees, pair in zip(np.cumsum([0, *angles]), ([0, 2], [0, 1], [1, 2]), strict=False):
            true[tuple(pair)] += half_plane_area(centre, turned, np.radians(degrees))
    pairs = [0, 0, 1], [1, 2, 2]
    np.testing.assert_allclose(found[pairs], true[pairs], rtol=0.02)


def half_plane_area(centre, turned, angle, samples=400):
    """Area within the volume of the half-plane that leaves the line through `centre` at an angle, by sampling it."""
    along, first, second = turned
    outward = np.cos(angle) * first + np.sin(angle) * second
    steps = (np.arange(samples) + 0.5) / samples * 2 * N
    points = centre + outward * steps[:, None, None] + along * (steps[:, None] - N)
    return sum(  # faces along an axis lie between voxels
        part * 4 * N**2 * ((points > low) & (points < N - 1 - low)).all(axis=-1).mean()
        for part, low in zip(np.cross(along, outward) ** 2, 0.5 * np.eye(3) - 0.5, strict=True)
    )


@pytest.mark.parametrize("seed", [0, 1])
def test_the_phantoms_interfaces_have_their_true_areas(seed):
    labels, truth = phantom(seed)
    sums = measure_surfaces(labels, n_classes=3)
    densities, true = sums.densities[[0, 0, 1], [1, 2, 2]], truth.areas / truth.volume
    assert densities.sum() == pytest.approx(true.sum(), rel=0.01)
    np.testing.assert_allclose(densities, true, rtol=0.02)
    assert sums.stair_areas.sum() / sums.areas.sum() == pytest.approx(1.5, abs=0.05)


@given(data=st.data(), sigma=st.sampled_from([0.8, 1.5]), size=st.sampled_from([(1.0, 1.0, 1.0), (1.0, 0.7, 0.6)]))
@settings(deadline=None, max_examples=25)
def test_blocks_add_up_to_the_whole_however_it_is_cut(data, sigma, size):
    labels = data.draw(volumes(4))
    whole = measure_surfaces(labels, n_classes=4, voxel_size=size, sigma=sigma)
    blocks = data.draw(cuts(labels.shape, surface_guard(voxel_size=size, sigma=sigma)))
    parts = [measure_surfaces(labels[box], n_classes=4, voxel_size=size, own=own, sigma=sigma) for box, own in blocks]
    total = reduce(add, parts)
    np.testing.assert_allclose(total.areas, whole.areas, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(total.stair_areas, whole.stair_areas)
    np.testing.assert_allclose(total.volumes, whole.volumes)


def test_one_voxel_less_of_guard_is_too_little():
    labels, _ = phantom(0, (16, 64, 64))
    for less, same in ((0, True), (2, False)):
        guard = surface_guard()[2] - less
        whole = measure_surfaces(labels, n_classes=3)
        low = measure_surfaces(labels[..., : 32 + guard], n_classes=3, own=Region(0, 16, 0, 64, 0, 32))
        high = measure_surfaces(labels[..., 32 - guard :], n_classes=3, own=Region(0, 16, 0, 64, guard, 32 + guard))
        assert np.allclose((low + high).areas, whole.areas, rtol=1e-10) == same


@given(labels=volumes(3))
@settings(deadline=None, max_examples=20)
def test_areas_of_pairs_follow_from_those_of_three_classes(labels):
    sums = measure_surfaces(labels, n_classes=3)
    for i, j, k in ((0, 1, 2), (0, 2, 1), (1, 2, 0)):
        half = (sums.class_areas[i] + sums.class_areas[j] - sums.class_areas[k]) / 2
        assert sums.pair_areas[i, j] == pytest.approx(half, abs=1e-6)


@given(labels=volumes(3), order=st.permutations(range(3)))
@settings(deadline=None, max_examples=20)
def test_renaming_the_classes_renames_the_areas(labels, order):
    renamed = np.full(256, UNLABELLED, np.uint8)
    renamed[:3] = order
    there = measure_surfaces(renamed[labels], n_classes=3).pair_areas
    np.testing.assert_allclose(there[np.ix_(order, order)], measure_surfaces(labels, n_classes=3).pair_areas, atol=1e-5)


def test_the_edge_of_a_mask_is_no_interface():
    labels = np.zeros((8, 8, 8), np.uint8)
    labels[2:5, 2:5, 2:5] = UNLABELLED
    sums = measure_surfaces(labels, n_classes=2)
    assert not sums.areas.any()
    # of 7 x 8 x 8 faces along an axis, 4 x 3 x 3 have a voxel in the mask
    np.testing.assert_array_equal(sums.volumes, 7 * 64 - 36)


def test_one_slice_or_nothing_labelled_is_no_trouble():
    assert measure_surfaces(np.zeros((1, 4, 4), np.uint8), n_classes=2).volumes.tolist() == [0, 12, 12]
    assert not measure_surfaces(np.full((3, 3, 3), UNLABELLED, np.uint8), n_classes=2).densities.any()


def test_a_class_beyond_the_last_is_refused():
    with pytest.raises(LabelError, match="class index 2; with 2 classes they end at 1"):
        measure_surfaces(np.full((2, 2, 2), 2, np.uint8), n_classes=2)


def test_smoothing_wider_brings_planes_nearer_their_area():
    errors = [np.mean([measured(normal, sigma) for normal in directions(6, seed=7)]) for sigma in (0.6, 1.0, 1.5, 2.5)]
    assert all(more > less for more, less in pairwise(errors))


def measured(normal, sigma):
    at = places((30,) * 3, (14.6, 14.2, 14.9))
    labels = (np.tensordot(unit(normal), at, 1) > 0).astype(np.uint8)
    labels[~ball(at, 14)] = UNLABELLED
    return measure_surfaces(labels, n_classes=2, sigma=sigma).densities[0, 1]
