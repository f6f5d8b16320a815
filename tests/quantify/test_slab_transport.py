"""Slabs: which parts stand for one, and tortuosity factors of slabs whose answer is known."""

import numpy as np
import pytest

from tomoseg.quantify.slab_transport import Factor, slab_factors, slab_parts
from tomoseg.quantify.transport import tortuosity
from tomoseg.volume import Region

CUBES = (1.0, 1.0, 1.0)


def factor(labels, parts, *, phase, axis, voxel_size=CUBES):
    return slab_factors(labels, parts, n_classes=2, voxel_size=voxel_size)[phase][axis - 1]


def test_parts_are_as_thick_as_the_slab_and_three_times_as_long_or_more():
    parts = slab_parts(np.zeros((16, 100, 150), np.uint8), voxel_size=CUBES)
    assert {part.shape for part in parts} == {(16, 50, 50)}
    assert len(parts) == 6


def test_thick_slices_make_longer_parts_up_to_a_bound():
    slab = np.zeros((8, 64, 200), np.uint8)
    assert {part.shape for part in slab_parts(slab, voxel_size=(2.0, 1.0, 1.0))} == {(8, 64, 50)}
    assert {part.shape for part in slab_parts(slab, voxel_size=(2.0, 1.0, 4.0))} == {(8, 64, n) for n in (12, 13)}
    assert {part.shape for part in slab_parts(slab, voxel_size=(100.0, 1.0, 1.0))} == {(8, 64, 200)}


def test_of_a_large_slab_few_parts_are_taken_far_from_each_other():
    parts = slab_parts(np.zeros((24, 501, 501), np.uint8), voxel_size=CUBES)
    assert len(parts) >= 8 and sum(int(np.prod(part.shape)) for part in parts) <= 2_000_000
    places = np.array([(part.y0, part.x0) for part in parts])
    assert len(set(map(tuple, places))) == len(parts)
    assert np.ptp(places, axis=0).min() > 400


def test_a_part_with_a_voxel_that_is_not_labelled_is_left_out():
    slab = np.zeros((8, 24, 48), np.uint8)
    slab[3, 5, 30] = 255
    assert slab_parts(slab, voxel_size=CUBES) == (Region(0, 8, 0, 24, 0, 24),)
    slab[0, 0, 0] = 255
    assert slab_parts(slab, voxel_size=CUBES) == ()


def test_a_part_that_does_not_percolate_counts_with_its_fraction_and_no_flow():
    slab = np.zeros((8, 24, 48), np.uint8)
    slab[:, :, :24] = 1  # all of one part: D_eff / D = 1
    slab[:, :12, 24:] = 1  # half of the other, open along x, closed along y
    parts = slab_parts(slab, voxel_size=CUBES)
    assert len(parts) == 2
    assert factor(slab, parts, phase=1, axis=1).tau == pytest.approx((1 + 0.5) / 1)
    assert factor(slab, parts, phase=1, axis=2).tau == pytest.approx((1 + 0.5) / (1 + 0.5))


def test_one_part_has_the_factor_of_its_body_in_voxels_of_any_edges():
    rng = np.random.default_rng(0)
    slab = (rng.random((8, 20, 22)) < 0.7).astype(np.uint8)
    parts = slab_parts(slab, voxel_size=(3.0, 1.0, 2.0))
    for axis in (1, 2):
        whole = tortuosity(slab == 1, axis=axis, voxel_size=(3.0, 1.0, 2.0))
        found = factor(slab, [Region.whole((8, 20, 22))], phase=1, axis=axis, voxel_size=(3.0, 1.0, 2.0))
        assert found.tau == pytest.approx(whole.tau)
    assert len(parts) == 1


def test_a_phase_that_is_cut_off_or_absent_has_no_factor_and_says_why():
    slab = np.zeros((8, 24, 48), np.uint8)
    slab[:, :, 10:14] = 1  # a wall across x in one part, none in the other
    parts = slab_parts(slab, voxel_size=CUBES)
    assert factor(slab, parts, phase=1, axis=2) == Factor(None, "does not percolate along x in any of 2 parts")
    assert factor(slab, parts[:1], phase=0, axis=2) == Factor(None, "does not percolate along x")
    assert factor(slab, parts[1:], phase=1, axis=1) == Factor(None, "is absent")
