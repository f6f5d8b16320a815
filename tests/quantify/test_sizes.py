import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from scipy.spatial.distance import cdist

from quantify_volumes import blobs, labelled, seeds
from tomoseg.labels import UNLABELLED
from tomoseg.quantify import sizes as module
from tomoseg.quantify.grid import cut
from tomoseg.quantify.sizes import (
    Sizes,
    cover_block,
    covered_shares,
    default_radii,
    exceeded_diameter,
    largest_distance,
)

CUBIC = (1.0, 1.0, 1.0)
voxel_sizes = st.sampled_from([CUBIC, (0.25, 0.25, 0.25), (2.0, 1.0, 1.0), (0.3, 0.1, 0.13)])


def reader(labels):
    return lambda region: labels[region.slices].copy()


def covered(labels, radii, *, edge=100, voxel_size=CUBIC, n_classes=2):
    parts = [
        cover_block(
            reader(labels), block, shape=labels.shape, radii_um=radii, voxel_size_um=voxel_size, n_classes=n_classes
        )
        for block in cut(labels.shape, edge=edge)
    ]
    return sum(parts[1:], start=parts[0])


def largest(labels, *, edge=100, voxel_size=CUBIC, most=1000.0):
    return max(
        largest_distance(reader(labels), block, shape=labels.shape, voxel_size_um=voxel_size, most_um=most)
        for block in cut(labels.shape, edge=edge)
    )


def by_pairs(labels, radii, voxel_size, n_classes):
    """Return the covered voxels from the distances of all pairs of voxels: balls at each that hold no other phase."""
    places = np.argwhere(np.ones(labels.shape, bool)) * voxel_size
    flat = labels.ravel()
    apart = cdist(places, places)
    visible = flat != UNLABELLED
    foreign = (flat[:, None] != flat) & visible
    free = np.where(foreign, apart, np.inf).min(axis=1)
    found = np.zeros((n_classes, len(radii)), int)
    reached = np.zeros(len(flat), bool)
    for order in reversed(range(len(radii))):
        slack = 1e-4 * min(voxel_size)
        centres = visible & (free >= radii[order] - slack)
        reached |= (apart[:, centres] < radii[order] - slack).any(axis=1)
        found[:, order] = [(reached & (flat == index)).sum() for index in range(n_classes)]
    return found


@given(volume=labelled(longest=7), edge=st.integers(2, 8), voxel_size=voxel_sizes, first=st.integers(1, 4))
@settings(deadline=None, max_examples=100)
def test_any_blocks_cover_what_balls_at_every_voxel_cover(volume, edge, voxel_size, first):
    labels, n_classes = volume
    radii = min(voxel_size) * np.array([1, 1.4, 2, 2.5, 4, 7])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_FIRST_GUARD", first)  # so that guards grow in volumes that are this small
        sizes = covered(labels, radii, edge=edge, voxel_size=voxel_size, n_classes=n_classes)
    np.testing.assert_array_equal(sizes.covered, by_pairs(labels, radii, voxel_size, n_classes))
    np.testing.assert_array_equal(sizes.voxels, [(labels == index).sum() for index in range(n_classes)])


@given(seed=seeds, edge=st.integers(12, 30), blur=st.sampled_from([1.0, 2.0, 3.0]), masked=st.booleans())
@settings(deadline=None, max_examples=10)
def test_guards_of_any_blocks_suffice_for_blobs(seed, edge, blur, masked):
    labels = blobs((24, 31, 28), seed=seed, n_classes=3, blur=blur)
    if masked:
        labels[:, :, :9][blobs((24, 31, 9), seed=seed, n_classes=3, blur=blur) == 0] = UNLABELLED
    end = largest(labels)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_FIRST_GUARD", 2)
        assert largest(labels, edge=edge) == end
        radii = default_radii(end, voxel_size_um=CUBIC, n=6)
        in_blocks = covered(labels, radii, edge=edge, n_classes=3)
    np.testing.assert_array_equal(in_blocks.covered, covered(labels, radii, n_classes=3).covered)


@given(volume=labelled(longest=7), edge=st.integers(1, 8), voxel_size=voxel_sizes)
@settings(deadline=None)
def test_the_largest_distance_is_that_of_scipy(volume, edge, voxel_size):
    labels, n_classes = volume
    expected = 0.0
    for index in range(n_classes):
        phase = labels == index
        with_mask = phase | (labels == UNLABELLED)
        alone = np.where(phase, np.inf, 0)
        apart = alone if with_mask.all() else ndimage.distance_transform_edt(with_mask, sampling=voxel_size)
        expected = max(expected, apart[phase].max(initial=0))
    assert largest(labels, edge=edge, voxel_size=voxel_size, most=5.0) == pytest.approx(min(expected, 5.0), rel=1e-6)


@given(volume=labelled(longest=6), edge=st.integers(5, 12))
@settings(deadline=None, max_examples=20)
def test_masking_a_frame_and_cropping_it_give_the_same(volume, edge):
    labels, n_classes = volume
    framed = np.pad(labels, 3, constant_values=UNLABELLED)
    radii = [1, 1.5, 2, 3, 5]
    cropped = covered(labels, radii, n_classes=n_classes)
    np.testing.assert_array_equal(covered(framed, radii, edge=edge, n_classes=n_classes).covered, cropped.covered)


@pytest.mark.parametrize("edge", [15, 100])
def test_a_sphere_is_covered_by_balls_up_to_its_own_size(edge):
    z, y, x = np.indices((29, 29, 29)) - 14
    ball = (z**2 + y**2 + x**2 < 10**2).astype(np.uint8)
    shares = covered_shares(covered(ball, [5, 10, 10.1], edge=edge), index=1)
    assert shares[1:].tolist() == [1, 0]
    # What balls at voxels miss of a round surface is less than a voxel deep.
    assert shares[0] > 0.98
    assert largest(ball[5:24, 5:24, 5:24], edge=edge) == pytest.approx(10)


@pytest.mark.parametrize(("thickness", "diameter"), [(6, 6), (7, 8)])
def test_a_plate_is_as_thick_as_the_balls_that_cover_it(thickness, diameter):
    labels = np.zeros((24, 12, 12), np.uint8)
    labels[8 : 8 + thickness] = 1
    sizes = covered(labels, [1, diameter / 2, diameter / 2 + 0.1], edge=7)
    assert covered_shares(sizes, index=1).tolist() == [1, 1, 0]


def test_a_plate_at_the_border_goes_on_beyond_it():
    labels = np.zeros((12, 9, 9), np.uint8)
    labels[:5] = 1
    # The outermost voxel is five from the other phase: a ball of radius 5 around it, half of it unseen.
    assert covered_shares(covered(labels, [1, 5, 5.1]), index=1).tolist() == [1, 1, 0]


@given(volume=labelled(longest=7), voxel_size=voxel_sizes)
@settings(deadline=None, max_examples=50)
def test_balls_of_a_voxel_cover_all_and_larger_ones_less(volume, voxel_size):
    labels, n_classes = volume
    radii = default_radii(3.0, voxel_size_um=voxel_size)
    sizes = covered(labels, radii, voxel_size=voxel_size, n_classes=n_classes)
    assert (np.diff(sizes.covered, axis=1) <= 0).all()
    np.testing.assert_array_equal(sizes.covered[:, 0], sizes.voxels)


def test_the_diameter_that_a_share_exceeds_lies_between_the_radii_around_it():
    sizes = Sizes(np.array([1.0, 2.0, 4.0]), np.array([10, 0, 10]), np.array([[10, 8, 2], [0, 0, 0], [10, 9, 6]]))
    assert exceeded_diameter(sizes, index=0, share=0.5) == pytest.approx(6.0)
    assert exceeded_diameter(sizes, index=0, share=0.9) == pytest.approx(3.0)
    assert exceeded_diameter(sizes, index=0, share=0.1) is None
    assert exceeded_diameter(sizes, index=1, share=0.5) is None
    assert exceeded_diameter(sizes, index=2, share=0.5) is None


def test_a_phase_that_is_alone_is_as_large_as_is_looked_for():
    labels = np.zeros((4, 4, 4), np.uint8)
    assert largest(labels, most=7.0) == 7
    assert covered(labels, [1, 7]).covered.tolist() == [[64, 64], [0, 0]]


@pytest.mark.parametrize("radii", [[0, 1], [2, 1], [1, 1]])
def test_radii_that_do_not_rise_are_refused(radii):
    with pytest.raises(ValueError, match="do not rise"):
        covered(np.zeros((2, 2, 2), np.uint8), radii)


def test_sizes_of_other_radii_are_not_added():
    one, two = (Sizes(np.array([radius]), np.array([1]), np.array([[1]])) for radius in (1.0, 2.0))
    with pytest.raises(ValueError, match="cannot be added"):
        one + two
