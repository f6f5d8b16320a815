"""Surfaces as triangles: closed, without seams, and with the areas and volumes of bodies that are known."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bodies import ball, places, unit, volumes
from meshes import all_meshed, area_and_volume, euler_number, is_closed, meshed, sides, triangle_set
from tomoseg.labels import UNLABELLED
from tomoseg.quantify.cubes import triangle_table
from tomoseg.quantify.meshes import contour, excess


def ball_labels(radius, *, voxel_size=(1.0, 1.0, 1.0), seed=0):
    """Return a ball with room around it, its centre anywhere within a voxel."""
    rng = np.random.default_rng(seed)
    shape = tuple(int(2 * radius / edge) + 8 for edge in voxel_size)
    centre = (np.array(shape) - 1) / 2 + rng.uniform(-0.5, 0.5, 3)
    return ball(places(shape, centre, voxel_size), radius).astype(np.uint8)


@pytest.mark.parametrize("edge", [9, 14, 1000])
def test_a_balls_mesh_is_closed_and_has_no_hole(edge):
    vertices, triangles = meshed(ball_labels(9), edge=edge)
    assert is_closed(triangles)
    assert euler_number(vertices, triangles) == 2


@pytest.mark.parametrize("radius", [5, 8, 12, 20])
def test_a_ball_has_its_area_and_its_volume(radius):
    """Of the ball with as many voxels.

    Triangles with sides of a voxel lie up to 1 / (6 radius) within a ball: a share of 0.5 / radius ** 2 of the volume,
    two thirds of it of the area. Stairs add up to 0.5 % of area.
    """
    for seed in range(4 if radius < 20 else 1):
        labels = ball_labels(radius, seed=seed)
        area, volume = area_and_volume(*meshed(labels))
        radius_of_voxels = (3 * labels.sum() / (4 * np.pi)) ** (1 / 3)
        assert volume == pytest.approx(labels.sum(), rel=0.5 / radius**2)
        assert area == pytest.approx(4 * np.pi * radius_of_voxels**2, rel=0.005 + 0.33 / radius**2)


def test_a_ball_in_flat_voxels_has_its_area_and_its_volume():
    edges = (1.0, 0.5, 0.25)
    vertices, triangles = meshed(ball_labels(8, voxel_size=edges), voxel_size=edges, edge=25)
    area, volume = area_and_volume(vertices, triangles)
    assert is_closed(triangles)
    assert np.ptp(vertices, axis=0) == pytest.approx([16, 16, 16], abs=0.5)  # half the longest edge
    assert area == pytest.approx(4 * np.pi * 64, rel=0.01)
    assert volume == pytest.approx(4 / 3 * np.pi * 512, rel=0.01)


def test_a_hole_is_a_closed_surface_that_points_into_it():
    vertices, triangles = meshed(1 - ball_labels(8))
    assert is_closed(triangles)
    assert area_and_volume(vertices, triangles)[1] < 0


@pytest.mark.parametrize("axis", range(3))
def test_a_plane_along_the_axes_lies_between_voxels_and_ends_at_their_centres(axis):
    shape, voxel_size, origin = (16, 18, 24), (1.2, 1.0, 0.8), (1, 2, 3)
    labels = np.zeros(shape, np.uint8)
    half = shape[axis] // 2
    labels[(slice(None),) * axis + (slice(half, None),)] = 1
    vertices, triangles = meshed(labels, voxel_size=voxel_size, origin=origin)
    along = vertices[:, 2 - axis]
    assert along == pytest.approx((half - 0.5 + origin[axis]) * voxel_size[axis], abs=1e-5)
    edges = np.delete((np.array(shape) - 1) * voxel_size, axis)
    assert area_and_volume(vertices, triangles)[0] == pytest.approx(edges.prod(), rel=1e-5)
    corner = vertices[triangles].astype(float)
    normal = np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0])[:, 2 - axis]
    assert (normal < 0).all()  # out of the phase, which lies above


@pytest.mark.parametrize("normal", [(1, 1, 0), (1, 1, 1), (0.2, 0.1, 1), (0.3, -0.5, 0.8)])
def test_a_plate_of_two_voxels_keeps_its_thickness(normal):
    height = np.tensordot(unit(normal), places((30, 30, 30), (14.5,) * 3), 1)
    labels = (np.abs(height - 0.2) < 1).astype(np.uint8)
    vertices, _ = meshed(labels)
    apart = (vertices[:, ::-1] - 14.5) @ unit(normal) - 0.2
    inner = (np.abs(vertices - 14.5) < 8).all(axis=1)
    # the other side makes 2 G(1) - G(2) 0.61 in place of 0.5 at each, where it falls by 0.6 a voxel
    assert np.abs(apart[inner]).mean() == pytest.approx(1, abs=0.25)
    assert np.abs(apart[inner]).max() < 1 + np.sqrt(3) / 2


@settings(max_examples=12, deadline=None)
@given(labels=volumes(3, longest=12), edge=st.integers(4, 9))
def test_the_blocks_change_no_triangle(labels, edge):
    pairs = zip(all_meshed(labels, n_classes=3), all_meshed(labels, n_classes=3, edge=edge), strict=True)
    for whole, in_blocks in pairs:
        assert triangle_set(*whole) == triangle_set(*in_blocks)
        assert len(whole[0]) == len(in_blocks[0])


def test_a_masks_edge_is_no_interface():
    """A slab that a mask covers half ends where the mask begins, without bending towards it."""
    labels = np.zeros((20, 20, 20), np.uint8)
    labels[10:] = 1
    labels[:, :, 10:] = UNLABELLED
    vertices, triangles = meshed(labels, edge=6)
    assert vertices[:, 2] == pytest.approx(9.5, abs=1e-5)
    assert vertices[:, 0].max() == 9
    assert area_and_volume(vertices, triangles)[0] == pytest.approx(19 * 9, rel=1e-5)


def test_a_surface_through_noise_has_no_hole_and_no_side_with_three_triangles():
    field = np.random.default_rng(0).standard_normal((30, 30, 30)).astype(np.float32)
    field[[0, -1]] = field[:, [0, -1]] = field[:, :, [0, -1]] = -1
    _, _, triangles = contour(field, np.ones((29, 29, 29), bool))
    assert is_closed(triangles)
    case = sum((field[z : z + 29, y : y + 29, x : x + 29] > 0) << (4 * z + 2 * y + x)
               for z in (0, 1) for y in (0, 1) for x in (0, 1))  # fmt: skip
    assert len(np.unique(case)) == 256  # every case of the table was there


def test_the_table_has_each_vertex_of_every_case():
    table, counts = triangle_table()
    for case in range(256):
        above = [bool(case >> corner & 1) for corner in range(8)]
        crossed = sum(above[one] != above[one | bit] for one in range(8) for bit in (1, 2, 4) if not one & bit)
        assert len(np.unique(table[case, : counts[case]])) == crossed


def test_values_keep_off_the_level():
    checkers = (np.indices((8, 8, 8)).sum(axis=0) % 2).astype(bool)
    assert np.abs(excess(checkers, np.ones_like(checkers), (1.0, 1.0, 1.0))).min() >= 1 / 256


def test_a_sides_triangles_go_round_it_in_opposite_senses_where_three_phases_meet():
    rng = np.random.default_rng(1)
    labels = np.kron(rng.integers(0, 3, (3, 3, 3)), np.ones((5, 5, 5))).astype(np.uint8)
    for _, triangles in all_meshed(labels, n_classes=3, edge=9):
        its, counts = np.unique(sides(triangles), axis=0, return_counts=True)
        assert (counts == 1).all() and len(its)
