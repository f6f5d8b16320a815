import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantify_volumes import labelled, random_labels
from tomoseg.labels import UNLABELLED
from tomoseg.quantify.grid import cut
from tomoseg.quantify.phases import (
    IntegralRange,
    Scatter,
    count_block,
    fractions,
    gather,
    integral_range,
    scatter,
    volume_needed,
)
from tomoseg.volume.base import Region


def counted(labels, n_classes, *, edge=100, cell=16):
    grid = cut(labels.shape, edge=edge)
    blocks = [count_block(labels[block.slices], block, n_classes=n_classes, cell=cell) for block in grid]
    return gather(blocks[::-1], shape=labels.shape, n_classes=n_classes, cell=cell)


@given(volume=labelled(longest=12), edge=st.integers(1, 13), cell=st.integers(1, 5))
@settings(deadline=None)
def test_any_blocks_count_what_the_whole_holds(volume, edge, cell):
    labels, n_classes = volume
    counts = counted(labels, n_classes, edge=edge, cell=cell)
    for index in range(n_classes):
        phase = labels == index
        assert counts.voxels[index] == phase.sum()
        for axis, others in enumerate([(1, 2), (0, 2), (0, 1)]):
            np.testing.assert_array_equal(counts.profiles[axis][index], phase.sum(axis=others))
        for place in np.ndindex(counts.cells.shape[1:]):
            cube = tuple(slice(i * cell, (i + 1) * cell) for i in place)
            assert counts.cells[(index, *place)] == phase[cube].sum()


@given(volume=labelled(longest=12), cell=st.integers(1, 3))
@settings(deadline=None)
def test_scatter_is_over_cubes_that_are_wholly_inside(volume, cell):
    labels, n_classes = volume
    found = scatter(counted(labels, n_classes, cell=cell), index=1)
    for k in range(5):
        edge = cell * 2**k
        cubes = []
        for place in np.ndindex(*(size // edge for size in labels.shape)):
            cube = labels[tuple(slice(i * edge, (i + 1) * edge) for i in place)]
            if (cube != UNLABELLED).all():
                cubes.append((cube == 1).mean())
        assert (found[k].cubes if k < len(found) else 0) == len(cubes)
        if cubes:
            assert found[k].edge == edge
            assert found[k].mean == pytest.approx(np.mean(cubes))
            assert found[k].std == (pytest.approx(np.std(cubes, ddof=1)) if len(cubes) > 1 else None)


def test_fractions_of_slices_leave_the_mask_out():
    labels = np.array([[[0, 1, 1, 255]], [[255, 255, 255, 255]]], np.uint8)
    np.testing.assert_array_equal(fractions(counted(labels, 2).profiles[0]), [[1 / 3, np.nan], [2 / 3, np.nan]])
    np.testing.assert_array_equal(fractions(counted(labels, 2).voxels), [1 / 3, 2 / 3])


@pytest.mark.parametrize(("coarse", "expected"), [(1, 1), (2, 8), (4, 64)])
def test_independent_cells_have_the_integral_range_of_their_volume(coarse, expected):
    found = []
    for seed in range(30):
        labels = random_labels((32, 32, 32), seed=seed, n_classes=2, coarse=coarse, masked=0)
        found.append(integral_range(scatter(counted(labels, 2, cell=4), index=0), voxel_um3=0.5).volume_um3)
    # 30 volumes of 8 cubes: the mean of so many variances is known to a tenth.
    assert np.mean(found) == pytest.approx(0.5 * expected, rel=0.3)


def test_the_largest_of_eight_or_more_cubes_give_the_range():
    found = integral_range(
        [Scatter(16, 64, 0.5, 0.01), Scatter(32, 8, 0.5, 0.004), Scatter(64, 1, 0.5, None)], voxel_um3=2
    )
    assert found.edge == 32
    assert found.volume_um3 == pytest.approx(2 * 32**3 * 0.004**2 / 0.25)
    assert found.relative_std == pytest.approx((2 / 7) ** 0.5)
    assert found.note is None


def test_structure_as_large_as_the_cubes_gives_a_lower_bound():
    found = integral_range([Scatter(16, 64, 0.5, 0.2), Scatter(32, 8, 0.5, 0.2)], voxel_um3=1)
    assert found.note == "a lower bound: it still grows with the cubes at 32 voxels"


@pytest.mark.parametrize(
    ("scatters", "note"),
    [
        ([], "only 0 cubes are wholly inside; 8 are needed"),
        ([Scatter(16, 7, 0.5, 0.1)], "only 7 cubes of 16 voxels are wholly inside; 8 are needed"),
        ([Scatter(16, 8, 0.0, 0.0)], "the cubes hold nothing or nothing else"),
        ([Scatter(16, 8, 1.0, 0.0)], "the cubes hold nothing or nothing else"),
    ],
)
def test_a_range_that_cannot_be_told_says_why(scatters, note):
    found = integral_range(scatters, voxel_um3=1)
    assert found.note == note
    assert volume_needed(found, relative_error=0.01) is None


def test_a_volume_as_large_as_needed_has_the_error_asked_for():
    found = IntegralRange(volume_um3=3.0, fraction=0.2)
    volume = volume_needed(found, relative_error=0.05)
    std = (0.2 * 0.8 * 3.0 / volume) ** 0.5
    assert 2 * std / 0.2 == pytest.approx(0.05)


def test_a_class_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match="class 2; there are 2"):
        count_block(np.array([[[2]]], np.uint8), Region.whole((1, 1, 1)), n_classes=2)


def test_cells_of_another_edge_are_refused():
    whole = Region.whole((2, 2, 2))
    block = count_block(np.zeros((2, 2, 2), np.uint8), whole, n_classes=2, cell=8)
    with pytest.raises(ValueError, match="cells of 8 voxels, not 16"):
        gather([block], shape=(2, 2, 2), n_classes=2)
