"""Euler numbers: small bodies by hand, both connectivities, and blocks."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from bodies import cuts, volumes
from checking import typechecked
from tomoseg.quantify import euler

euler_numbers = typechecked(euler.euler_numbers)


def body(*filled, shape=(5, 5, 5)):
    labels = np.zeros(shape, np.uint8)
    for box in filled:
        labels[box] = 1
    return labels


CUBE = np.s_[1:4, 1:4, 1:4]


@pytest.mark.parametrize(
    ("labels", "six", "twenty_six"),
    [
        (body(CUBE), 1, 1),
        (body(np.s_[:]), 1, 1),
        (body(np.s_[1, 1, 1], np.s_[3, 3, 3]), 2, 2),
        (body(np.s_[1, 1, 1], np.s_[2, 2, 2]), 2, 1),
        (body(np.s_[1, 1, 1], np.s_[1, 2, 2]), 2, 1),
        (body(np.s_[0, 0, 0], np.s_[4, 4, 4], np.s_[0, 4, 0]), 3, 3),
    ],
)
def test_parts_that_touch_at_corners_are_one_or_several(labels, six, twenty_six):
    assert euler_numbers(labels, n_classes=2, connectivity=6)[1] == six
    assert euler_numbers(labels, n_classes=2, connectivity=26)[1] == twenty_six


@pytest.mark.parametrize("connectivity", [6, 26])
def test_a_tunnel_takes_one_away_and_a_cavity_adds_one(connectivity):
    hollow, ring = body(CUBE), body(CUBE)
    hollow[2, 2, 2] = 0
    ring[1:4, 2, 2] = 0
    assert euler_numbers(hollow, n_classes=2, connectivity=connectivity)[1] == 2
    assert euler_numbers(ring, n_classes=2, connectivity=connectivity)[1] == 0


@given(labels=volumes(2, longest=7))
@settings(deadline=None, max_examples=50)
def test_it_is_parts_minus_tunnels_plus_cavities_in_a_single_slice(labels):
    """In one slice there are no cavities, and the tunnels are the parts of the rest that are shut in."""
    slab = np.pad(labels[:1] == 1, ((0, 0), (1, 1), (1, 1)))
    parts = ndimage.label(slab[0], np.ones((3, 3)))[1]
    tunnels = ndimage.label(~slab[0])[1] - 1
    assert euler_numbers(slab.astype(np.uint8), n_classes=2)[1] == parts - tunnels


@given(data=st.data(), connectivity=st.sampled_from([6, 26]))
@settings(deadline=None, max_examples=60)
def test_blocks_add_up_to_the_whole_however_it_is_cut(data, connectivity):
    labels = data.draw(volumes(3, longest=10))
    whole = euler_numbers(labels, n_classes=3, connectivity=connectivity)
    blocks = data.draw(cuts(labels.shape, (1, 1, 1)))
    parts = [euler_numbers(labels[box], n_classes=3, connectivity=connectivity, own=own) for box, own in blocks]
    np.testing.assert_array_equal(sum(parts), whole)
