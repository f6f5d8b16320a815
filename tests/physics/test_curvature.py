"""Integrals of mean curvature: bodies with known ones, whatever their direction, place, voxels and blocks."""

from functools import reduce

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bodies import ball, cuts, directions, phantom, places, random_centre, unit, volumes
from checking import typechecked
from tomoseg.errors import LabelError
from tomoseg.labels import UNLABELLED
from tomoseg.phantom import FieldSampler
from tomoseg.quantify import curvature
from tomoseg.quantify.curvature import CASES, cube_curvatures, plane_sections
from tomoseg.quantify.surfaces import measure_surfaces

count_cubes = typechecked(curvature.count_cubes)
SIZES = [(1.0, 1.0, 1.0), (1.0, 0.5, 0.5), (1.0, 0.5, 0.25)]
ONE_VOXEL = 2 * np.pi * (plane_sections().weights @ plane_sections().spacings)


def integral(body, size=(1.0, 1.0, 1.0)):
    return float(count_cubes(body.astype(np.uint8), n_classes=2)[1] @ cube_curvatures(size))


def mean_curvature(body):
    area = measure_surfaces(body.astype(np.uint8), n_classes=2).densities[0, 1]
    return integral(body) / np.prod(np.subtract(body.shape, 1)) / area


def around(lengths, rng, size=(1.0, 1.0, 1.0)):
    """Return places in a volume that holds a body so long, (axis, z, y, x)."""
    shape = tuple((np.ceil(np.asarray(lengths) / size).astype(int) + 4).tolist())
    return places(shape, (np.array(shape) - 1) / 2 + rng.uniform(-0.5, 0.5, 3), size)


def test_a_voxel_shows_in_one_plane_of_each_direction():
    body = np.zeros((5, 5, 5), bool)
    body[2, 2, 2] = True
    a, b, c = 0.0915558, 0.0739613, 0.0703913  # solid angles of Legland's table, a direction and its opposite
    assert integral(body) == pytest.approx(2 * np.pi * (3 * a + 6 * b / 2**0.5 + 4 * c / 3**0.5), rel=1e-5)


def test_a_box_shows_in_as_many_planes_as_it_is_wide():
    body = np.zeros((9, 9, 9), bool)
    body[2:5, 2:7, 3:5] = True
    found, sections = 0.0, plane_sections()
    for normal, spacing, weight in zip(sections.normals, sections.spacings, sections.weights, strict=True):
        steps = np.abs(normal) > 1e-9
        found += weight * spacing * (1 + np.array([2, 4, 1]) @ steps)
    assert integral(body) == pytest.approx(2 * np.pi * found)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("radius", [5, 10, 20])
def test_balls_at_any_place_have_four_pi_r(radius, size):
    """One plane more or less of 2 R, half a voxel of error in each of 13 directions: 0.5 / 13 ** 0.5 / (2 R), twice."""
    rng = np.random.default_rng(radius)
    for _ in range(3):
        body = ball(around([2 * radius] * 3, rng, size), radius)
        assert integral(body, size) == pytest.approx(4 * np.pi * radius, rel=0.14 / radius)


@pytest.mark.parametrize("radius", [5, 10])
def test_mean_curvature_is_one_over_the_radius_and_below_zero_around_a_hole(radius):
    """Of areas balls lose up to 2 %, and integrals 0.14 / R."""
    body = ball(around([2 * radius] * 3, np.random.default_rng(1)), radius)
    for its, true in ((body, 1 / radius), (~body, -1 / radius)):
        area = measure_surfaces(its.astype(np.uint8), n_classes=2).pair_areas[0, 1]
        assert integral(its) / area == pytest.approx(true, rel=0.02 + 0.14 / radius)


@given(labels=volumes(2, longest=10))
@settings(deadline=None, max_examples=30)
def test_the_other_phase_has_the_opposite_whatever_it_looks_like(labels):
    counts = count_cubes(labels, n_classes=2)
    np.testing.assert_array_equal(counts[0], counts[1, ::-1])
    assert counts[0] @ cube_curvatures() == pytest.approx(-counts[1] @ cube_curvatures(), abs=1e-9)


def side(radius, along, rng, size):
    """Return the share of pi L that is measured of the side of a cylinder, which ends in half balls."""
    length = 10 * radius
    at = around(length * np.abs(along) + 2 * radius, rng, size)
    height = np.clip(np.tensordot(along, at, 1), -length / 2, length / 2)
    body = ((at - along[:, None, None, None] * height) ** 2).sum(axis=0) < radius**2
    return (integral(body, size) - 4 * np.pi * radius) / (np.pi * length)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("along", [*np.eye(3), *directions(10, seed=0)])
def test_a_cylinder_has_what_thirteen_directions_see_of_it(along, size):
    """Planes of normal n cut it in L |n t| ellipses; the planes through the ends add one more or less of 10 R."""
    along, sections = unit(along), plane_sections(size)
    seen = 2 * sections.weights @ np.abs(sections.normals @ along)
    assert side(5, along, np.random.default_rng(2), size) == pytest.approx(seen, abs=0.02)


@pytest.mark.parametrize(("size", "low", "high"), [(SIZES[0], 0.925, 1.025), (SIZES[1], 0.84, 1.075)])
def test_thirteen_directions_see_cylinders_within_a_few_per_cent_and_right_on_average(size, low, high):
    sections = plane_sections(size)
    every = [2 * sections.weights @ np.abs(sections.normals @ unit(one)) for one in directions(4000, seed=1)]
    ends = [2 * sections.weights @ np.abs(sections.normals @ one) for one in np.eye(3)]
    assert low < min(*every, *ends) and max(*every, *ends) < high
    assert np.mean(every) == pytest.approx(1, abs=0.002)


@pytest.mark.parametrize("thickness", [4, np.inf])
def test_slabs_and_half_spaces_are_flat(thickness):
    """Exactly along the axes. Else a section's stairs turn by a right angle at most from one end to the other.

    With both signs alike: n lines in each of 13 directions give pi / 2 times a voxel's 0.74 / n / 13 ** 0.5.
    """
    n, rng, found = 48, np.random.default_rng(4), []
    for normal in [*np.eye(3), *directions(10, seed=3)]:
        height = np.tensordot(unit(normal), places((n,) * 3, random_centre((n,) * 3, rng)), 1)
        found.append(mean_curvature((height > 0) & (height < thickness)))
    assert found[:3] == pytest.approx([0, 0, 0], abs=1e-12)
    assert found[3:] == pytest.approx([0] * 10, abs=np.pi / 2 * 0.74 / n / 13**0.5)
    assert np.mean(found[3:]) == pytest.approx(0, abs=0.002)


@pytest.mark.parametrize("period", [16, 32])
def test_a_gyroid_s_two_sides_are_alike(period):
    """Nothing but what the volume's edges cut off is left: some per cent of 2 pi over a period, as bent as it is."""
    turn, _ = np.linalg.qr(np.random.default_rng(5).standard_normal((3, 3)))
    z, y, x = np.tensordot(turn, 2 * np.pi / period * np.indices((96,) * 3), 1)
    body = np.sin(z) * np.cos(y) + np.sin(y) * np.cos(x) + np.sin(x) * np.cos(z) > 0
    assert mean_curvature(body) == pytest.approx(0, abs=0.05 / period)


@pytest.mark.parametrize(("degrees", "of_edge"), [(150, 0.04), (120, 0.04), (90, 0.08), (60, 0.15)])
def test_a_lens_has_its_caps_and_its_edge(degrees, of_edge):
    """Wedges that planes cut obliquely end in single voxels, which add to the edge's part: more the sharper it is."""
    rng, rim, dihedral = np.random.default_rng(6), 24, np.radians(degrees)
    radius = rim / np.sin(dihedral / 2)
    away, edge = np.sqrt(radius**2 - rim**2), np.pi * rim * (np.pi - dihedral)
    for direction in directions(2, seed=7):
        at, up = around([2 * rim + 2] * 3, rng), unit(direction)
        found = integral(ball(at, radius, away * up) & ball(at, radius, -away * up))
        assert -0.02 < (found - 4 * np.pi * (radius - away) - edge) / edge < of_edge


def test_a_random_field_s_is_that_of_voxels_a_third_as_large():
    sampler, fine = FieldSampler(0, chord=19), np.arange(0, 71.1, 1 / 3)
    field = np.stack([sampler.layer(z, fine, fine)[0] for z in fine]) > 0.7
    assert integral(field[::3, ::3, ::3]) == pytest.approx(integral(field) / 3, rel=0.01)


@pytest.mark.parametrize("seed", [0, 1])
def test_all_phases_together_have_the_edges_of_their_triple_lines(seed):
    """Interfaces bend one way for one phase and the other way for the next; what is left is half a turn an edge.

    Digital triple points come in pairs too many, which adds 4 to 7 % to the true length.
    """
    labels, truth = phantom(seed, (64, 128, 128))
    counts = count_cubes(labels, n_classes=3)
    found = (counts @ cube_curvatures() / counts.sum(axis=1)).sum()
    assert 0.97 < found / (np.pi / 2 * truth.line / truth.volume) < 1.13


@given(data=st.data())
@settings(deadline=None, max_examples=40)
def test_blocks_add_up_to_the_whole_however_it_is_cut(data):
    labels = data.draw(volumes(3, longest=12))
    parts = [count_cubes(labels[box], n_classes=3, own=own) for box, own in data.draw(cuts(labels.shape, (1, 1, 1)))]
    np.testing.assert_array_equal(reduce(np.add, parts), count_cubes(labels, n_classes=3))


def test_the_edge_of_a_mask_is_no_interface():
    labels = np.zeros((12, 12, 12), np.uint8)
    labels[ball(places((12,) * 3, (5.5, 5.5, 5.5)), 4)] = UNLABELLED
    counts = count_cubes(labels, n_classes=2)
    assert not (counts @ cube_curvatures()).any()
    assert counts[0, CASES - 1] == counts[1, 0] == counts[0].sum() < 11**3


def test_what_lies_within_a_mask_has_the_same_per_volume():
    """Cubes of a field of balls on a grid, of which a mask leaves whole periods."""
    period, n = 16, 5
    at = (np.indices((period * n + 1,) * 3) % period) - 7.7
    labels = ((at**2).sum(axis=0) < 5**2).astype(np.uint8)
    whole = count_cubes(labels, n_classes=2)
    labels[:, :, period * 3 + 1 :] = UNLABELLED
    masked = count_cubes(labels, n_classes=2)
    np.testing.assert_array_equal(masked * 5, whole * 3)
    density = masked[1] @ cube_curvatures() / masked[1].sum()
    assert density == pytest.approx(4 * np.pi * 5 / period**3, rel=0.14 / 5)


def test_specks_count_a_body_each():
    body = np.zeros((10, 10, 10), bool)
    body[1::3, 1::3, 1::3] = True
    assert integral(body) == pytest.approx(27 * ONE_VOXEL)


def test_one_slice_or_nothing_labelled_is_no_trouble():
    assert not count_cubes(np.zeros((1, 4, 4), np.uint8), n_classes=2).any()
    assert not count_cubes(np.full((3, 3, 3), UNLABELLED, np.uint8), n_classes=2).any()


def test_a_class_beyond_the_last_is_refused():
    with pytest.raises(LabelError, match="class index 2; with 2 classes they end at 1"):
        count_cubes(np.full((2, 2, 2), 2, np.uint8), n_classes=2)
