"""Clipping, histograms and what an inspected volume reports."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.ndimage import gaussian_filter

from tomoseg.grey_levels import (
    Histogram,
    bin_edges,
    clipped_share,
    histogram,
    in_design_unit,
    inspect_grey_levels,
    sketch,
)
from tomoseg.volume import ArrayVolume, Region


def stripes(std: float, dtype: type = np.float32, seed: int = 0) -> np.ndarray:
    """Return stripes 40 pixels wide, blurred by 1.05 pixel, with noise of `std` 65535ths of the full range."""
    step = np.where(np.arange(320) // 40 % 2, 35000.0, 21400.0)
    values = np.tile(gaussian_filter(step, 1.05, mode="wrap"), (320, 1))
    values += np.random.default_rng(seed).normal(0, std, values.shape)
    if np.issubdtype(dtype, np.floating):
        return values.astype(dtype)
    full = np.iinfo(dtype).max
    return np.clip(np.round(values * (full / 65535)), 0, full).astype(dtype)


def test_clipped_shares_count_the_types_ends() -> None:
    values = np.array([[0, 0, 1, 65535]], np.uint16)
    assert clipped_share([values, values + np.uint16(1)], ends=(0, 65535)) == (3 / 8, 1 / 8)
    assert clipped_share([], ends=(0, 1)) == (0.0, 0.0)


def test_bins_hold_whole_numbers_so_that_none_is_favoured() -> None:
    edges = bin_edges(np.dtype(np.uint16), low=100, high=1000)
    assert set(np.diff(edges)) == {4.0}
    assert (edges[0], edges[-1] >= 1000.5, len(edges) <= 257) == (99.5, True, True)
    assert len(bin_edges(np.dtype(np.float32), low=2.0, high=2.0)) == 257


@given(arrays(np.uint16, (3, 4, 5)))
@settings(max_examples=30, deadline=None)
def test_every_value_is_counted_once_and_in_its_bin(values: np.ndarray) -> None:
    edges = bin_edges(values.dtype, low=float(values.min()), high=float(values.max()))
    found = histogram(values, edges=edges)
    assert found.counts.sum() == values.size
    assert np.array_equal(found.counts, np.histogram(values, edges)[0])


def test_the_sketch_has_eight_rows_under_64_columns() -> None:
    lines = sketch(Histogram(np.arange(257.0), np.arange(256))).split("\n")
    assert len(lines) == 10
    assert max(map(len, lines)) == 64
    assert lines[0] == "3.1 % a column"  # (252 + 253 + 254 + 255) / (255 * 128)
    assert lines[1][-1] == "█"
    assert lines[-1].split() == ["0", "256"]


def test_an_empty_histogram_is_drawn_empty() -> None:
    assert sketch(Histogram(np.arange(5.0), np.zeros(4, int)), rows=1) == "0.0 % a column\n\n0  4"


def test_an_inspected_volume_reports_what_went_into_it() -> None:
    values = np.stack([stripes(740, np.uint16, seed) for seed in range(5)])
    levels = inspect_grey_levels(ArrayVolume(values))
    assert (levels.minimum, levels.maximum) == (values.min(), values.max())
    assert levels.mean == pytest.approx(values.mean(), rel=1e-9)
    assert levels.histogram.counts.sum() == values.size
    assert levels.noise_std == levels.noise_std_65535 == pytest.approx(740, rel=0.05)
    assert levels.blur_px == pytest.approx(1.05, rel=0.15)


def test_eight_bits_are_reported_in_the_design_unit_and_floats_are_not() -> None:
    eight = inspect_grey_levels(ArrayVolume(stripes(5000, np.uint8)[None]))
    assert eight.noise_std == pytest.approx(19.5, rel=0.05)
    assert eight.noise_std_65535 == pytest.approx(5000, rel=0.05)
    assert inspect_grey_levels(ArrayVolume(stripes(740)[None])).noise_std_65535 is None


def test_what_is_outside_the_region_or_the_mask_counts_nowhere() -> None:
    values = np.full((4, 50, 60), 9, np.uint8)
    values[:, 10:40, 20:50] = 3
    values[0, 12, 22] = 0
    mask = np.zeros((50, 60), bool)
    mask[10:40, 20:50] = True
    for levels in (
        inspect_grey_levels(ArrayVolume(values), region=Region(0, 4, 10, 40, 20, 50)),
        inspect_grey_levels(ArrayVolume(values), inside=lambda z: mask),
    ):
        assert (levels.minimum, levels.maximum) == (0, 3)
        assert levels.clipped_low == 1 / (4 * 30 * 30)
        assert levels.histogram.counts[[0, 3, 9]].tolist() == [1, 3599, 0]


def test_a_long_volume_is_sampled_at_16_slices() -> None:
    seen = set()

    class Counting(ArrayVolume):
        def read(self, region: Region) -> np.ndarray:
            seen.update(range(region.z0, region.z1))
            return super().read(region)

    inspect_grey_levels(Counting(np.zeros((320, 12, 12), np.uint8)))
    assert sorted(seen) == list(range(10, 320, 20))


@given(st.floats(0, 1e4), st.sampled_from([np.uint8, np.uint16, np.int16, np.uint32]))
@settings(max_examples=30, deadline=None)
def test_the_design_unit_is_a_65535th_of_the_full_range(std: float, dtype: type) -> None:
    limits = np.iinfo(dtype)
    full = float(limits.max) - float(limits.min)
    assert in_design_unit(std, np.dtype(dtype)) == pytest.approx(65535 * std / full)
    assert in_design_unit(std, np.dtype(np.float32)) is None
