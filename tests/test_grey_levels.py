"""Noise, blur, clipping and histograms, on pictures whose noise and blur are known."""

from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.ndimage import gaussian_filter, zoom

from tomoseg.grey_levels import (
    Histogram,
    bin_edges,
    clipped_share,
    estimate_blur,
    estimate_noise_std,
    histogram,
    inspect_grey_levels,
    sketch,
)
from tomoseg.volume import ArrayVolume, Region

LEVELS = np.array([21400.0, 35000.0, 41200.0])
FINE = 4


@cache
def grains(blur_px: float, size: int = 320) -> np.ndarray:
    """Return three phases of grains some 40 pixels across, from smooth fields on a grid four times as fine.

    Averaging 4 x 4 fine pixels blurs by a variance of 1/12; the Gaussian gives the rest.
    """
    rng = np.random.default_rng(7)
    fields = []
    for _ in range(3):
        field = gaussian_filter(rng.standard_normal((size, size)), 13, mode="wrap")
        fields.append(zoom(field / field.std(), FINE, order=3, mode="grid-wrap", grid_mode=True))
    grey = LEVELS[np.argmax(fields, axis=0)]
    grey = gaussian_filter(grey, FINE * np.sqrt(blur_px**2 - 1 / 12), mode="wrap")
    return grey.reshape(size, FINE, size, FINE).mean(axis=(1, 3))


def noisy(clean: np.ndarray, std: float, dtype: type = np.float32, seed: int = 0) -> np.ndarray:
    """Return a slice with noise of `std` 65535ths of the full range, clipped and rounded as the type does."""
    values = clean + np.random.default_rng(seed).normal(0, std, clean.shape)
    if np.issubdtype(dtype, np.floating):
        return values.astype(dtype)
    full = np.iinfo(dtype).max
    return np.clip(np.round(values * (full / 65535)), 0, full).astype(dtype)


def test_the_test_picture_has_the_interface_density_of_the_original() -> None:
    labels = np.digitize(grains(0.3), [28200, 38100])
    assert (labels[:, 1:] != labels[:, :-1]).mean() == pytest.approx(0.028, abs=0.004)


@pytest.mark.parametrize("std", [740, 1500, 3000, 5000, 10000])
@pytest.mark.parametrize("dtype", [np.uint16, np.uint8, np.float32])
def test_noise_is_found_within_5_percent_beside_edges_clipping_and_rounding(std: float, dtype: type) -> None:
    slices = np.stack([noisy(grains(1.05), std, dtype, seed) for seed in range(3)])
    unit = 1 if dtype != np.uint8 else 255 / 65535
    assert estimate_noise_std(slices) == pytest.approx(std * unit, rel=0.05)


@pytest.mark.parametrize("blur_px", [0.6, 1.05, 2.0])
def test_blur_does_not_bias_the_noise(blur_px: float) -> None:
    assert estimate_noise_std(noisy(grains(blur_px), 740, np.uint16)) == pytest.approx(740, rel=0.05)


def test_a_noiseless_constant_picture_has_no_noise() -> None:
    assert estimate_noise_std(np.full((40, 40), 7, np.uint8)) == 0.0
    assert estimate_noise_std(np.full((40, 40), 0.1)) == 0.0


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_a_noiseless_picture_of_grains_has_next_to_no_noise(dtype: type) -> None:
    assert estimate_noise_std(noisy(grains(1.05), 0, dtype)) < 1.0


def test_constant_corners_do_not_dilute_the_noise() -> None:
    y, x = np.indices((320, 320)) - 160
    outside = y**2 + x**2 > 150**2
    for value in (0, 9000):
        values = noisy(grains(1.05), 2000, np.uint16)
        values[outside] = value
        assert estimate_noise_std(values) == pytest.approx(2000, rel=0.05)
    assert estimate_noise_std(values, inside=~outside) == pytest.approx(2000, rel=0.05)


@given(st.floats(0.5, 50), st.floats(-1e4, 1e4))
@settings(max_examples=20, deadline=None)
def test_noise_scales_with_the_grey_values_and_ignores_their_offset(scale: float, offset: float) -> None:
    values = np.random.default_rng(0).normal(0, 100, (60, 60))
    assert estimate_noise_std(scale * values + offset) == pytest.approx(
        scale * estimate_noise_std(values), rel=1e-6
    )


@pytest.mark.parametrize("blur_px", [0.6, 1.05, 1.6])
@pytest.mark.parametrize("std", [0, 740, 1500])
def test_blur_is_found_within_10_percent(blur_px: float, std: float) -> None:
    assert estimate_blur(noisy(grains(blur_px), std, np.uint16)) == pytest.approx(blur_px, rel=0.10)


def test_blur_does_not_depend_on_where_between_pixels_an_edge_lies() -> None:
    fine = np.zeros(2400)
    fine[1200:] = 30000
    fine = gaussian_filter(fine, 15.0)
    found = [estimate_blur(np.tile(fine[shift::10][5:-5], (120, 1))) for shift in range(0, 10, 3)]
    assert found == pytest.approx([1.5] * 4, rel=0.03)


def test_without_edges_or_below_the_noise_there_is_no_blur() -> None:
    assert estimate_blur(np.full((80, 80), 5, np.uint16)) is None
    assert estimate_blur(noisy(np.full((200, 200), 30000.0), 740)) is None
    assert estimate_blur(noisy(grains(1.05), 10000, np.uint16)) is None


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
    clean = grains(1.05)
    values = np.stack([noisy(clean, 740, np.uint16, seed) for seed in range(5)])
    levels = inspect_grey_levels(ArrayVolume(values))
    assert (levels.minimum, levels.maximum) == (values.min(), values.max())
    assert levels.mean == pytest.approx(values.mean(), rel=1e-9)
    assert levels.histogram.counts.sum() == values.size
    assert levels.noise_std == levels.noise_std_65535 == pytest.approx(740, rel=0.05)
    assert levels.blur_px == pytest.approx(1.05, rel=0.15)


def test_eight_bits_are_reported_in_the_design_unit_and_floats_are_not() -> None:
    eight = inspect_grey_levels(ArrayVolume(noisy(grains(1.05), 5000, np.uint8)[None]))
    assert eight.noise_std == pytest.approx(19.5, rel=0.05)
    assert eight.noise_std_65535 == pytest.approx(5000, rel=0.05)
    assert inspect_grey_levels(ArrayVolume(noisy(grains(1.05), 740)[None])).noise_std_65535 is None


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
