from functools import reduce
from operator import add

import numpy as np
import pytest

from tomoseg.phantom import CHORD, FieldSampler, PhantomSpec, make_phantom
from tomoseg.phantom_truth import surfaces_between


def total(fields):
    """Sum areas and lines over all layers of fields (field, z, y, x)."""
    parts = [surfaces_between(fields[:, z], fields[:, z + 1]) for z in range(fields.shape[1] - 1)]
    return sum(areas for areas, _ in parts), sum(line for _, line in parts)


def grid(n):
    return np.indices((n, n, n)).astype(float)


@pytest.mark.parametrize("normal", [(0, 0, 1), (1, 1, 0), (0.3, -0.5, 0.81), (1, 1, 1)])
def test_a_plane_through_a_ball_of_fields_has_its_exact_area(normal):
    n = 21
    place = np.tensordot(np.array(normal, float) / np.linalg.norm(normal), grid(n) - (n - 1) / 2, axes=1)
    # compared with the polygon that the plane cuts from the cube, by sampling it finely
    fields = np.stack([place + 1e-9, -place, np.full(place.shape, -99.0)])
    areas, line = total(fields)
    assert areas[0] == pytest.approx(plane_in_cube(normal, n - 1), rel=2e-3)
    assert areas[1] == areas[2] == line == 0


def plane_in_cube(normal, edge, samples=1200):
    normal = np.array(normal, float) / np.linalg.norm(normal)
    a = np.cross(normal, [1, 0, 0] if abs(normal[0]) < 0.9 else [0, 1, 0])
    a /= np.linalg.norm(a)
    b = np.cross(normal, a)
    t = (np.arange(samples) + 0.5) / samples * 2 - 1
    points = edge * (t[:, None, None] * a + t[None, :, None] * b)
    inside = (np.abs(points) <= edge / 2).all(axis=2)
    return inside.mean() * (2 * edge) ** 2


def test_three_half_planes_meet_in_a_line_of_exact_length():
    n = 17
    _, y, x = grid(n)
    y, x = y - 8.3, x - 7.8
    fields = np.stack([x, -0.5 * x + 0.8 * y, -0.5 * x - 0.8 * y])
    _, line = total(fields)
    assert line == pytest.approx(n - 1, rel=1e-9)


def test_a_tilted_triple_line_has_its_exact_length():
    n = 15
    z, y, x = grid(n)
    u, v = x - 7.1 - 0.3 * (z - 7), y - 6.9 + 0.2 * (z - 7)
    fields = np.stack([u, -0.5 * u + 0.8 * v, -0.5 * u - 0.8 * v])
    _, line = total(fields)
    assert line == pytest.approx((n - 1) * np.sqrt(1 + 0.3**2 + 0.2**2), rel=1e-9)


def test_a_spheres_area_is_within_one_per_cent():
    n, radius = 41, 15.0
    distance = np.sqrt(((grid(n) - 20) ** 2).sum(axis=0))
    fields = np.stack([radius - distance, distance - radius, np.full(distance.shape, -99.0)])
    areas, _ = total(fields)
    assert areas[0] == pytest.approx(4 * np.pi * radius**2, rel=0.01)


def test_areas_and_lines_converge_with_resolution():
    size = 40
    sampler = FieldSampler(5)
    found = []
    for finer in (1, 2, 4):
        places = np.arange(size * finer + 1) / finer
        fields = np.stack([sampler.layer(z, places, places) for z in places], axis=1)
        areas, line = total(fields)
        found.append((areas.sum() / finer**2, line / finer))
    areas, lines = np.array(found).T
    assert abs(areas[1] - areas[2]) < abs(areas[0] - areas[2])
    assert abs(lines[1] - lines[2]) < abs(lines[0] - lines[2])
    assert areas[0] == pytest.approx(areas[2], rel=0.01)
    assert lines[0] == pytest.approx(lines[2], rel=0.03)


@pytest.fixture(scope="module")
def default():
    slices = list(make_phantom(PhantomSpec()))
    return slices, reduce(add, [one.truth for one in slices])


def test_interface_density_is_that_of_the_electrode_along_each_axis(default):
    np.testing.assert_allclose(default[1].interface_density, 0.026, atol=0.002)


def test_half_the_chord_is_the_same_fields_at_half_the_size():
    places = np.arange(12.0)
    fine, coarse = FieldSampler(4, chord=CHORD / 2), FieldSampler(4)
    np.testing.assert_allclose(fine.layer(3, places, places), coarse.layer(6, 2 * places, 2 * places), atol=1e-5)


def test_a_chord_that_is_asked_for_is_the_mean_run_of_a_phase():
    truth = reduce(add, [one.truth for one in make_phantom(PhantomSpec(shape=(48, 96, 96), chord=10.0))])
    # about 350 000 voxels hold 350 grains of this size, whose number a piece tells within a twentieth
    np.testing.assert_allclose(1 / truth.interface_density, 10.0, rtol=0.05)


def test_blur_and_noise_are_as_asked(default):
    assert default[1].blur_px == pytest.approx(1.05, abs=0.03)
    assert default[1].noise_std == pytest.approx(740, rel=0.01)


def test_all_pairs_of_phases_touch_in_at_least_15_per_cent_of_the_interface(default):
    shares = default[1].areas / default[1].areas.sum()
    assert (shares >= 0.15).all()


def test_fractions_are_near_the_electrodes(default):
    np.testing.assert_allclose(default[1].fractions, [0.315, 0.367, 0.318], atol=0.03)


def test_counted_faces_would_be_half_as_large_again(default):
    truth = default[1]
    faces = (truth.changes / truth.neighbours).sum()  # per voxel
    assert faces / (truth.areas.sum() / truth.volume) == pytest.approx(1.5, abs=0.05)


def test_slices_do_not_depend_on_how_many_there_are():
    few, more = (list(make_phantom(PhantomSpec(shape=(n, 32, 40), seed=2))) for n in (16, 24))
    for a, b in zip(few, more, strict=False):
        np.testing.assert_array_equal(a.grey, b.grey)
        np.testing.assert_array_equal(a.label, b.label)


def test_different_seeds_share_nothing():
    one, other = (list(make_phantom(PhantomSpec(shape=(16, 128, 128), seed=seed))) for seed in (0, 1))
    alike = np.mean([(a.label == b.label).mean() for a, b in zip(one, other, strict=True)])
    assert 0.15 < alike < 0.55
    assert not (one[0].grey == other[0].grey).mean() > 0.01


def test_without_noise_flat_regions_have_their_grey_level():
    slices = list(make_phantom(PhantomSpec(shape=(16, 64, 64), noise_std=0)))
    for value in (21_400, 35_000, 41_200):
        assert any((one.grey == value).any() for one in slices)
    assert all(one.grey.min() >= 21_400 and one.grey.max() <= 41_200 for one in slices)
