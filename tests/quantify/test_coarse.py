"""A coarse copy: each voxel in its cell, whatever the blocks."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from bodies import volumes
from tomoseg.labels import UNLABELLED
from tomoseg.quantify.coarse import cell_voxels, count_cells, gather_cells
from tomoseg.quantify.grid import cut


def cells_of(labels, *, cell, edge):
    grid = cut(labels.shape, edge=edge)
    blocks = (count_cells(labels[one.slices], one, cell=cell, n_classes=3) for one in grid)
    return gather_cells(blocks, shape=grid.shape, cell=cell, n_classes=3)


@settings(max_examples=25, deadline=None)
@given(volumes(3, longest=12), st.tuples(*[st.integers(1, 5)] * 3), st.integers(3, 12))
def test_each_voxel_is_counted_in_its_cell(labels, cell, edge):
    found = cells_of(labels, cell=cell, edge=edge)
    expected = np.zeros_like(found)
    known = np.nonzero(labels != UNLABELLED)
    np.add.at(expected, (labels[known], *(at // step for at, step in zip(known, cell, strict=True))), 1)
    assert np.array_equal(found, expected)


def test_cells_are_about_cubes_and_small_volumes_are_kept_whole():
    assert cell_voxels((100, 72, 30), (1.0, 1.0, 1.0)) == (1, 1, 1)
    assert cell_voxels((200, 1440, 1440), (0.1, 0.05, 0.025)) == (10, 20, 40)
