import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from bodies import ball, directions, frame, places
from quantify_volumes import blobs, labelled, seeds
from tomoseg.labels import UNLABELLED
from tomoseg.quantify.distances import class_distances
from tomoseg.quantify.grid import cut
from tomoseg.quantify.watershed import SHARE, find_basins, join

CUBIC = (1.0, 1.0, 1.0)


def split(labels, *, edge=100, voxel_size=CUBIC, guard=2.0):
    blocks = [
        find_basins(
            lambda region: labels[region.slices].copy(),
            block,
            shape=labels.shape,
            voxel_size_um=voxel_size,
            guard=guard,
        )
        for block in cut(labels.shape, edge=edge)
    ]
    return join(blocks, voxel_size_um=voxel_size)


def told(particles):
    parts = (particles.classes, particles.voxels, particles.low, particles.high, particles.cut)
    return sorted(zip(*(part.tolist() for part in parts), strict=True))


def volumes(labels, **how):
    found = split(labels, **how)
    return sorted(found.voxels[found.classes == 1].tolist())


@given(volume=labelled(longest=7), edge=st.integers(2, 6), voxel_size=st.sampled_from([CUBIC, (2.0, 1.0, 1.0)]))
@settings(deadline=None, max_examples=12)
def test_any_blocks_give_the_same_particles_and_each_voxel_is_in_one(volume, edge, voxel_size):
    labels, n_classes = volume
    whole = split(labels, voxel_size=voxel_size)
    assert told(split(labels, edge=edge, voxel_size=voxel_size)) == told(whole)
    per_class = np.bincount(whole.classes, weights=whole.voxels, minlength=n_classes)
    np.testing.assert_array_equal(per_class, [(labels == index).sum() for index in range(n_classes)])


@given(seed=seeds, edge=st.integers(16, 25), blur=st.sampled_from([2.0, 4.0]), masked=st.booleans())
@settings(deadline=None, max_examples=4)
def test_guards_of_any_blocks_suffice_for_blobs(seed, edge, blur, masked):
    labels = blobs((26, 31, 28), seed=seed, n_classes=2, blur=blur)
    if masked:
        labels[:, :9, :9] = UNLABELLED
    assert told(split(labels, edge=edge)) == told(split(labels))


@pytest.mark.parametrize("edge", [24, 30, 41])
def test_a_path_that_is_longer_than_any_guard_is_followed_to_its_end(edge, monkeypatch):
    """A rod that widens slowly: all of it leads to its wide end, many times as far as a block looks."""
    monkeypatch.setattr("tomoseg.quantify.ascent.MOST_DISTANCE", 9.0)
    monkeypatch.setattr("tomoseg.quantify.ascent._AHEAD", 3.0)
    z, y, x = np.indices((24, 24, 150))
    labels = ((z - 11.5) ** 2 + (y - 11.3) ** 2 < (3 + 5 * x / 150) ** 2).astype(np.uint8)
    labels[..., :2] = labels[..., -2:] = 0
    assert volumes(labels, edge=edge) == [labels.sum()]
    assert told(split(labels, edge=edge)) == told(split(labels, edge=150))


@given(volume=labelled(longest=4), edge=st.integers(8, 13), masked=st.booleans())
@settings(deadline=None, max_examples=8)
def test_a_phase_that_is_flat_far_from_others_is_one_basin_for_any_blocks(volume, edge, masked):
    labels = np.pad(np.kron(volume[0], np.ones((3, 3, 3), np.uint8)), 4)
    if masked:
        labels[:3, -5:] = UNLABELLED
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tomoseg.quantify.ascent.MOST_DISTANCE", 2.0)
        patch.setattr("tomoseg.quantify.ascent._AHEAD", 1.0)
        patch.setattr("tomoseg.quantify.ascent._FLAT_CELL", 5)
        assert told(split(labels, edge=edge)) == told(split(labels))


def test_a_flat_phase_leaves_few_basins_on_a_block_s_faces():
    labels = np.zeros((40, 80, 80), np.uint8)
    labels[:, :, 0] = 1
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tomoseg.quantify.ascent.MOST_DISTANCE", 8.0)
        block = find_basins(
            lambda region: labels[region.slices].copy(), cut(labels.shape, edge=40)[3], shape=labels.shape,
            voxel_size_um=CUBIC,
        )  # fmt: skip
    assert len(block.basins.ids) < 3 * 4 * 9  # a face of 40 x 40 holds 9 to 16 cells, not 1600


def cap(radius, beyond):
    """Return the volume of a ball beyond a plane at a distance from its centre."""
    height = radius - beyond
    return np.pi * height**2 * (3 * radius - height) / 3


@pytest.mark.parametrize(("radii", "apart"), [((11, 11), 18.0), ((12, 8), 16.0)])
@pytest.mark.parametrize("direction", directions(2, seed=4))
def test_two_balls_are_split_at_their_neck(radii, apart, direction):
    shape, (one, other) = (48, 48, 48), radii
    at = places(shape, (23.6, 23.2, 23.9))
    along, _, _ = frame(direction, np.random.default_rng(0))
    labels = (ball(at, one, -along * apart / 2) | ball(at, other, along * apart / 2)).astype(np.uint8)
    to_neck = (apart**2 + one**2 - other**2) / (2 * apart)
    expected = [4 / 3 * np.pi * one**3 - cap(one, to_neck), 4 / 3 * np.pi * other**3 - cap(other, apart - to_neck)]
    # The neck's circle has an area of 5 to 12 % of each volume by a voxel: half a voxel of it at most goes wrong.
    neck = np.pi * (one**2 - to_neck**2)
    np.testing.assert_allclose(volumes(labels), sorted(expected), atol=neck / 2 + 0.01 * max(expected))


@pytest.mark.parametrize(("apart", "n"), [(7.0, 1), (14.0, 2)])
def test_a_neck_splits_where_it_is_a_tenth_and_a_voxel_narrower(apart, n):
    radius, shape = 12.0, (30, 30, 46)
    at = places(shape, (14.5, 14.5, 22.5))
    labels = (ball(at, radius, (0, 0, -apart / 2)) | ball(at, radius, (0, 0, apart / 2))).astype(np.uint8)
    narrower = radius - np.sqrt(radius**2 - (apart / 2) ** 2)
    assert (narrower > max(1.5, SHARE * radius)) == (n == 2)
    assert len(volumes(labels)) == n


@pytest.mark.parametrize("direction", directions(3, seed=1))
@pytest.mark.parametrize("radius", [2, 3, 6])
def test_straight_rods_and_ellipsoids_in_any_direction_stay_whole(direction, radius):
    shape = (36, 36, 36)
    at = places(shape, (17.3, 17.8, 17.5))
    along, across, up = (np.tensordot(one, at, 1) for one in frame(direction, np.random.default_rng(1)))
    rod = (across**2 + up**2 < radius**2).astype(np.uint8)
    ellipsoid = ((along / 2.4) ** 2 + (across / 1.5) ** 2 + up**2 < radius**2).astype(np.uint8)
    assert len(volumes(rod)) == len(volumes(ellipsoid)) == 1


def test_balls_apart_are_particles_with_all_of_their_voxels():
    labels = np.zeros((30, 40, 50), np.uint8)
    for radius, centre in ((3, (8, 9, 10)), (5, (15, 28, 12)), (8, (15, 20, 35))):
        labels |= ball(places(labels.shape, centre), radius).astype(np.uint8)
    parts, n = ndimage.label(labels)
    assert volumes(labels, edge=25) == sorted(np.bincount(parts.ravel())[1:].tolist())
    assert n == 3
    found = split(labels)
    assert found.inside(labels.shape)[found.classes == 1].all() and not found.inside(labels.shape)[0]
    assert found.peaks.max() == class_distances(labels, CUBIC).max()


def test_the_edge_of_the_volume_and_of_the_mask_cut_particles():
    labels = np.full((9, 9, 12), UNLABELLED, np.uint8)
    labels[1:8, 1:8, :11] = 0
    labels[2:4, 2:4, 2:4], labels[5:7, 5:7, 8:11], labels[2:4, 5:7, :2] = 1, 1, 1
    for edge in (100, 5):
        found = split(labels, edge=edge)
        its = found.chosen(found.classes == 1)
        seen = sorted(zip(its.voxels.tolist(), its.low[:, 2].tolist(), its.inside(labels.shape).tolist(), strict=True))
        assert seen == [(8, 0, False), (8, 2, True), (12, 8, False)]
