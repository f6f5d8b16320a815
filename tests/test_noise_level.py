"""Noise and blur, estimated on pictures whose noise and blur are known."""

from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter, zoom

from tomoseg.noise_level import estimate_blur, estimate_noise_std, type_ends

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
    assert estimate_noise_std(scale * values + offset) == pytest.approx(scale * estimate_noise_std(values), rel=1e-6)


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


def test_the_ends_of_integers_are_the_types_and_floats_have_none() -> None:
    assert type_ends(np.dtype(np.int16)) == (-32768.0, 32767.0)
    assert type_ends(np.dtype(np.float32)) is None


@pytest.mark.parametrize("std", [1.0, 2.0, 20.0])
def test_in_a_flat_picture_noise_is_found_within_1_percent_less_that_of_rounding(std: float) -> None:
    values = np.random.default_rng(5).normal(128, std, (800, 800))
    assert estimate_noise_std(values) == pytest.approx(std, rel=0.01)
    assert estimate_noise_std(np.round(values).astype(np.uint8)) == pytest.approx(std, rel=0.02)


def test_a_few_hot_pixels_are_not_noise() -> None:
    rng = np.random.default_rng(5)
    values = rng.normal(1000, 10, (400, 400))
    values[rng.random(values.shape) < 1e-3] = 5000
    assert estimate_noise_std(values) == pytest.approx(10, rel=0.02)
