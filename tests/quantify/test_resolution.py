"""Areas and lines at half the resolution: the same for any blocks, and as far off as bends say."""

from functools import reduce
from operator import add

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantify_volumes import blobs, seeds
from tomoseg.quantify.curvature import count_cubes
from tomoseg.quantify.grid import cut, grown
from tomoseg.quantify.measurement import Measurement
from tomoseg.quantify.resolution import AT_HALF, change_at_half, coarse, half_guard, measure_at_half
from tomoseg.quantify.surfaces import measure_surfaces
from tomoseg.quantify.triple_lines import measure_lines
from tomoseg.volume import Region


@settings(deadline=None, max_examples=10)
@given(seed=seeds, edge=st.integers(7, 40), depth=st.integers(9, 24))
def test_blocks_add_up_to_every_second_voxel_of_the_whole(seed, edge, depth):
    labels = blobs((depth, 33, 30), seed=seed, n_classes=3)
    found = []
    for region in cut(labels.shape, edge=edge):
        box = grown(region, by=half_guard((1.0, 1.0, 1.0)), shape=labels.shape)
        found.append(measure_at_half(labels[box.slices], region, box, n_classes=3))
    total = reduce(add, found)
    half = np.ascontiguousarray(labels[::2, ::2, ::2])
    size = (2.0, 2.0, 2.0)
    np.testing.assert_array_equal(total.cubes, count_cubes(half, n_classes=3))
    np.testing.assert_allclose(
        total.surfaces.densities, measure_surfaces(half, n_classes=3, voxel_size=size).densities, 1e-5
    )
    np.testing.assert_allclose(total.lines.densities, measure_lines(half, n_classes=3, voxel_size=size).densities, 1e-5)


def test_fine_phases_lose_more_than_coarse_ones():
    changes = []
    for blur in (1.5, 6.0):
        labels = blobs((64, 64, 64), seed=3, n_classes=2, blur=blur)
        whole = Region.whole(labels.shape)
        half = measure_at_half(labels, whole, whole, n_classes=2).surfaces.densities[0, 1]
        changes.append(half / measure_surfaces(labels, n_classes=2).densities[0, 1] - 1)
    assert changes[0] < -0.1 < -0.03 < changes[1] < 0.03


def test_a_coarse_scan_is_warned_of_by_the_number_that_suffers_most():
    area = Measurement(
        name="interface area a-b per volume", value=2.0, unit="1/um", method="", source="", settings={AT_HALF: 1.9}
    )
    lines = Measurement(name="triple-phase boundary density", value=0.5, unit="um/um3", method="", source="",
                        settings={AT_HALF: 0.9, "uncorrected": 1.2})  # fmt: skip
    film = Measurement(
        name="interface area a-c per volume", value=0.01, unit="1/um", method="", source="", settings={AT_HALF: 0.1}
    )
    bent = Measurement(name="mean curvature a", value=0.01, unit="1/um", method="", source="", settings={AT_HALF: -0.1})
    assert coarse([area, film, bent]) is None
    assert change_at_half(lines) == pytest.approx(-0.25)
    assert "the triple-phase boundary density would be 25 % less" in str(coarse([area, film, lines]))
