import pickle

import cc3d
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from quantify_volumes import labelled, seeds
from tomoseg.labels import UNLABELLED
from tomoseg.quantify.connectivity import (
    CUT,
    Connectivity,
    Status,
    connectivity,
    find_parts,
    mark_parts,
    merge,
    part_status,
)
from tomoseg.quantify.grid import cut


def blocks_of(labels, edge):
    grid = cut(labels.shape, edge=edge)
    return [find_parts(labels[block.slices], number=n, grid=grid) for n, block in enumerate(grid)], grid


def parts_of(labels, edge):
    return merge(*blocks_of(labels, edge))


def marked(labels, parts, grid, values):
    out = np.empty_like(labels)
    for number, block in enumerate(grid):
        out[block.slices] = mark_parts(labels[block.slices], values, of_block=parts.of_block[number])
    return out


@given(shape=st.tuples(*[st.integers(1, 9)] * 3), edge=st.integers(1, 10))
@settings(deadline=None)
def test_a_grid_covers_each_voxel_once_and_knows_its_neighbours(shape, edge):
    grid, times = cut(shape, edge=edge), np.zeros(shape, int)
    for number, block in enumerate(grid):
        assert max(block.shape) <= edge
        times[block.slices] += 1
        starts = np.array([block.z0, block.y0, block.x0])
        stops = np.array([block.z1, block.y1, block.x1])
        for axis in range(3):
            other = grid.after(number, axis=axis)
            if other is None:
                assert stops[axis] == shape[axis]
            else:
                begin = np.array([grid[other].z0, grid[other].y0, grid[other].x0])
                np.testing.assert_array_equal(begin, np.where(np.arange(3) == axis, stops, starts))
    assert (times == 1).all()


def test_a_grid_is_cut_as_evenly_as_can_be():
    assert sorted({block.z1 - block.z0 for block in cut((10, 1, 1), edge=4)}) == [3, 4]


def test_an_edge_of_no_voxel_is_refused():
    with pytest.raises(ValueError, match="edge 0"):
        cut((4, 4, 4), edge=0)


def by_whole(labels, n_classes):
    """Return each phase's connectivity from scipy's parts of the whole volume."""
    masked = np.pad(labels == UNLABELLED, 1)
    beside = np.zeros_like(masked)
    for axis in range(3):
        beside |= np.roll(masked, 1, axis) | np.roll(masked, -1, axis)
    beside = beside[1:-1, 1:-1, 1:-1]
    found = []
    for index in range(n_classes):
        parts, n = ndimage.label(labels == index)
        sizes = np.bincount(parts.ravel(), minlength=n + 1)
        faces = [[set(np.unique(np.take(parts, side, axis=axis))) - {0} for side in (0, -1)] for axis in range(3)]
        touching = set().union(*(ends for both in faces for ends in both)) | set(np.unique(parts[beside])) - {0}
        found.append(
            Connectivity(
                parts=n,
                voxels=int(sizes[1:].sum()),
                percolating=tuple(int(sum(sizes[part] for part in low & high)) for low, high in faces),
                dead_ended=tuple(int(sum(sizes[part] for part in low ^ high)) for low, high in faces),
                isolated=int(sum(sizes[part] for part in set(range(1, n + 1)) - touching)),
            )
        )
    return tuple(found)


@given(volume=labelled(longest=8), edge=st.integers(2, 9))
@settings(deadline=None, max_examples=100)
def test_any_blocks_give_the_connectivity_of_the_whole(volume, edge):
    labels, n_classes = volume
    assert connectivity(parts_of(labels, edge), n_classes=n_classes) == by_whole(labels, n_classes)


@given(volume=labelled(longest=8), edge=st.integers(2, 9))
@settings(deadline=None)
def test_parts_marked_in_blocks_are_those_of_the_whole(volume, edge):
    labels, _ = volume
    blocks, grid = blocks_of(labels, edge)
    parts = merge(blocks, grid)
    whole = cc3d.connected_components(labels + np.uint8(1), connectivity=6)
    assert len(parts.classes) == whole.max()
    digits = [(np.arange(len(parts.classes)) // 200**k % 200).astype(np.uint8) for k in (0, 1)]
    numbers = [marked(labels, parts, grid, values).ravel() for values in digits]
    pairs = np.unique(np.stack([whole.ravel(), *numbers]), axis=1)
    # As many pairs as parts, with one more for the mask: each of one is one of the other.
    assert pairs.shape[1] == whole.max() + (labels == UNLABELLED).any()


@given(volume=labelled(longest=8), edge=st.integers(2, 9), seed=seeds)
@settings(deadline=None, max_examples=30)
def test_blocks_may_come_in_any_order_from_other_processes(volume, edge, seed):
    labels, n_classes = volume
    blocks, grid = blocks_of(labels, edge)
    shuffled = [pickle.loads(pickle.dumps(blocks[n])) for n in np.random.default_rng(seed).permutation(len(blocks))]  # noqa: S301
    first, second = merge(blocks, grid), merge(shuffled, grid)
    np.testing.assert_array_equal(first.touches, second.touches)
    assert connectivity(first, n_classes=n_classes) == connectivity(second, n_classes=n_classes)


@pytest.mark.parametrize("edge", [1, 2, 5])
def test_a_channel_percolates_a_pocket_does_not(edge):
    labels = np.zeros((5, 5, 5), np.uint8)
    labels[:, 0, 2] = 1  # along z, at the volume's low y face
    labels[2, 2, 2] = 1
    labels[4, 4, 4] = 2  # in a corner
    solid, pore, metal = connectivity(parts_of(labels, edge), n_classes=3)
    assert pore == Connectivity(2, 6, percolating=(5, 0, 0), dead_ended=(0, 5, 0), isolated=1)
    assert metal == Connectivity(1, 1, percolating=(0, 0, 0), dead_ended=(1, 1, 1), isolated=0)
    assert solid.share(solid.percolating[0]) == 1


@pytest.mark.parametrize("edge", [1, 2, 5])
def test_what_touches_the_mask_is_unknown_not_isolated(edge):
    labels = np.zeros((5, 5, 5), np.uint8)
    labels[2, 2, 2], labels[2, 2, 3] = 1, UNLABELLED
    parts = parts_of(labels, edge)
    (pocket,) = np.flatnonzero(parts.classes == 1)
    assert parts.touches[pocket].tolist() == [False] * CUT + [True]
    assert [part_status(parts, axis=axis)[pocket] for axis in range(3)] == [Status.UNKNOWN] * 3


def test_voxels_that_share_an_edge_only_are_two_parts():
    labels = np.array([[[0, 1], [1, 0]]], np.uint8)
    assert [phase.parts for phase in connectivity(parts_of(labels, 1), n_classes=2)] == [2, 2]


def test_an_absent_phase_has_no_share():
    phase = connectivity(parts_of(np.zeros((2, 2, 2), np.uint8), 2), n_classes=2)[1]
    assert phase.share(phase.isolated) is None


def test_a_volume_that_is_masked_wholly_has_no_parts():
    parts = parts_of(np.full((3, 3, 3), UNLABELLED, np.uint8), 2)
    assert len(parts.classes) == 0
    assert part_status(parts, axis=0).shape == (0,)


def test_a_missing_block_is_refused():
    blocks, grid = blocks_of(np.zeros((4, 2, 2), np.uint8), 2)
    with pytest.raises(ValueError, match="1 blocks of parts were given"):
        merge(blocks[:1], grid)


def test_a_block_that_changed_since_is_refused():
    labels = np.zeros((2, 2, 2), np.uint8)
    parts = parts_of(labels, 2)
    labels[0, 0, 0] = 1
    with pytest.raises(ValueError, match="2 parts, but 1"):
        mark_parts(labels, np.zeros(1, np.uint8), of_block=parts.of_block[0])
