"""Degradations mean what they say: their size, their unit, and what is left alone."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tomoseg.degrade import (
    KINDS,
    GreyScale,
    Kind,
    add_blur,
    add_drift,
    add_gaussian_noise,
    find_kind,
    full_range,
    noise_std_grey,
    noise_std_units,
)
from tomoseg.errors import SettingError
from tomoseg.window import Window

WINDOW = Window(low=100.0, high=300.0)
N = 400 * 400
GREY = np.full((400, 400), 30_000, np.uint16)
SCALE = GreyScale(np.dtype(np.uint16), Window(low=20_000.0, high=40_000.0))
every_kind = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def slice_with_parts() -> np.ndarray:
    """Return a slice of 60 x 80 with parts of three grey levels."""
    parts = np.full((60, 80), 21_000, np.float32)
    parts[10:36, 8:50], parts[31:55, 42:72] = 35_000, 41_000
    return parts


def rms(change: np.ndarray) -> float:
    return float(np.sqrt(np.mean(change.astype(np.float64) ** 2)))


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        (np.uint8, 5000 / 65535 * 255),  # 19.455
        (np.int8, 5000 / 65535 * 255),
        (np.uint16, 5000.0),
        (np.int16, 5000.0),
        (np.uint32, 5000 / 65535 * 4294967295),
        (np.float32, 5000 / 65535 * 200),
        (np.float64, 5000 / 65535 * 200),
    ],
)
def test_a_unit_of_noise_is_a_65535th_of_the_types_range_or_of_the_window(dtype: type, expected: float) -> None:
    assert noise_std_grey(5000, dtype=np.dtype(dtype), window=WINDOW) == pytest.approx(expected, rel=1e-12)


def test_noise_of_5000_is_19_and_a_half_of_255() -> None:
    assert round(noise_std_grey(5000, dtype=np.dtype(np.uint8), window=WINDOW), 1) == 19.5


@pytest.mark.parametrize(("dtype", "expected"), [(np.uint16, 65535.0), (np.int16, 65535.0), (np.float32, 200.0)])
def test_the_window_counts_for_floats_only(dtype: type, expected: float) -> None:
    assert full_range(np.dtype(dtype), WINDOW) == expected


@given(st.floats(0, 1e5), st.sampled_from([np.uint8, np.int16, np.uint32, np.float32]))
@settings(deadline=None)
def test_units_to_grey_values_and_back_is_the_identity(std: float, dtype: type) -> None:
    grey = noise_std_grey(std, dtype=np.dtype(dtype), window=WINDOW)
    assert noise_std_units(grey, dtype=np.dtype(dtype), window=WINDOW) == pytest.approx(std, rel=1e-12)


@pytest.mark.parametrize("std", [0.5, 740.0, 5000.0])
def test_the_noise_has_the_std_that_was_asked_for_and_no_mean(std: float) -> None:
    added = add_gaussian_noise(GREY, std, rng=rng()).astype(np.float64) - 30_000
    assert abs(added.mean()) < 4 * std / np.sqrt(N)
    assert added.std() == pytest.approx(std, rel=4 / np.sqrt(2 * N))


def test_the_noise_is_gaussian_and_white() -> None:
    added = (add_gaussian_noise(GREY, 1000.0, rng=rng()).astype(np.float64) - 30_000) / 1000
    assert (added**3).mean() == pytest.approx(0, abs=4 * np.sqrt(15 / N))
    assert (added**4).mean() == pytest.approx(3, abs=4 * np.sqrt(96 / N))
    for shifted in (np.roll(added, 1, axis=0), np.roll(added, 1, axis=1)):
        assert (added * shifted).mean() == pytest.approx(0, abs=4 / np.sqrt(N))


@given(arrays(np.uint16, (3, 4)), st.integers(0, 99))
@settings(deadline=None)
def test_noise_of_std_0_is_the_identity(grey: np.ndarray, seed: int) -> None:
    noisy = add_gaussian_noise(grey, 0.0, rng=rng(seed))
    assert noisy.dtype == np.float32
    assert np.array_equal(noisy, grey)


@given(arrays(np.uint16, (5, 6)), st.floats(0, 1e4), st.booleans())
@settings(deadline=None)
def test_the_same_seed_gives_the_same_noise_and_the_input_stays_as_it_was(
    grey: np.ndarray, std: float, clip: bool
) -> None:
    kept = grey.copy()
    clip_to = grey.dtype if clip else None
    first, second = (add_gaussian_noise(grey, std, rng=rng(3), clip_to=clip_to) for _ in range(2))
    assert np.array_equal(first, second)
    assert np.array_equal(grey, kept)


def test_float_input_is_not_noised_in_place() -> None:
    grey = np.zeros((4, 4), np.float32)
    add_gaussian_noise(grey, 1.0, rng=rng())
    assert not grey.any()


def test_by_default_noise_is_neither_clipped_nor_rounded() -> None:
    noisy = add_gaussian_noise(np.zeros((100, 100), np.uint8), 10.0, rng=rng())
    assert noisy.min() < -20
    assert (noisy < 0).mean() == pytest.approx(0.5, abs=0.02)
    assert (noisy == np.round(noisy)).mean() < 0.01
    assert add_gaussian_noise(np.full((100, 100), 255, np.uint8), 10.0, rng=rng()).max() > 275


@pytest.mark.parametrize(("dtype", "low", "high"), [(np.uint8, 0, 255), (np.int8, -128, 127), (np.uint16, 0, 65535)])
def test_clipped_noise_is_the_unclipped_rounded_and_kept_in_the_types_range(dtype: type, low: int, high: int) -> None:
    grey = np.tile(np.array([low, (low + high) // 2, high], dtype), (50, 1))
    std = (high - low) / 8
    noisy = add_gaussian_noise(grey, std, rng=rng())
    clipped = add_gaussian_noise(grey, std, rng=rng(), clip_to=np.dtype(dtype))
    assert np.array_equal(clipped, np.clip(np.round(noisy), low, high))
    assert (clipped.min(), clipped.max()) == (low, high)


def test_floats_have_no_range_to_clip_to() -> None:
    grey = np.zeros((9, 9), np.float32)
    plain, clipped = (add_gaussian_noise(grey, 3.0, rng=rng(), clip_to=to) for to in (None, np.dtype(np.float32)))
    assert np.array_equal(plain, clipped)


@pytest.mark.parametrize("std", [-1.0, float("nan"), float("inf")])
def test_a_std_that_is_none_is_refused(std: float) -> None:
    with pytest.raises(SettingError, match=r"a noise std of (-1|nan|inf) grey values is not possible; it is 0 or more"):
        add_gaussian_noise(GREY, std, rng=rng())


# All kinds


@every_kind
def test_the_identity_level_gives_back_exactly_the_input(kind: Kind) -> None:
    grey = slice_with_parts()
    same = kind.apply(grey, kind.identity, scale=SCALE, rng=rng())
    assert same.dtype == np.float32
    assert np.array_equal(same, grey)
    assert not np.shares_memory(same, grey)


@every_kind
def test_the_same_seed_gives_the_same_slice_and_the_input_stays(kind: Kind) -> None:
    grey = slice_with_parts()
    first, second = (kind.apply(grey, kind.levels[2], scale=SCALE, rng=rng(3)) for _ in range(2))
    assert np.array_equal(first, second)
    assert np.array_equal(grey, slice_with_parts())


@every_kind
def test_each_level_is_at_least_a_fifth_farther_from_the_input_than_the_one_before(kind: Kind) -> None:
    grey = slice_with_parts()
    changes = [rms(kind.apply(grey, level, scale=SCALE, rng=rng()) - grey) for level in kind.levels]
    assert changes[0] > 0
    assert all(after > 1.2 * before for before, after in pairwise(changes)), changes


@every_kind
@pytest.mark.parametrize("level", [-1.0, float("nan")])
def test_a_level_that_is_none_is_refused_with_its_value(kind: Kind, level: float) -> None:
    with pytest.raises(SettingError, match=rf"(^|of |out ){level:g}"):
        kind.apply(slice_with_parts(), level, scale=SCALE, rng=rng())


def test_a_kind_is_known_by_its_name_only() -> None:
    assert all(find_kind(name) is kind and kind.name == name for name, kind in KINDS.items())
    with pytest.raises(
        SettingError, match="no degradation 'ring'; there are gaussian, correlated, poisson, blur, rings"
    ):
        find_kind("ring")


@pytest.mark.parametrize("name", ["gaussian", "correlated"])
def test_the_level_of_noise_counts_in_a_65535th_of_the_range_of_the_scans_type(name: str) -> None:
    eight_bit = GreyScale(np.dtype(np.uint8), Window(low=50.0, high=200.0))
    noisy = find_kind(name).apply(np.full((400, 400), 128, np.float32), 5000.0, scale=eight_bit, rng=rng())
    assert noisy.std() == pytest.approx(5000 / 65535 * 255, rel=0.02)


# Blur and drift


@pytest.mark.parametrize("sigma", [0.8, 1.5, 4.0])
def test_an_edge_is_blurred_by_the_stated_std(sigma: float) -> None:
    edge = np.zeros((9, 100))
    edge[:, 50:] = 1000
    spread = np.diff(add_blur(edge, sigma)[4].astype(np.float64)) / 1000
    place = np.arange(99)
    assert spread.sum() == pytest.approx(1)
    mean = (spread * place).sum()
    assert math.sqrt((spread * (place - mean) ** 2).sum()) == pytest.approx(sigma, rel=0.02)


def test_blur_stays_within_a_slice() -> None:
    stack = np.zeros((3, 20, 20))
    stack[1, 10, 10] = 1
    blurred = add_blur(stack, 2.0)
    assert not blurred[[0, 2]].any()
    assert np.array_equal(blurred[1], add_blur(stack[1], 2.0))


def test_an_offset_drifts_by_the_per_cent_of_the_window_and_keeps_the_mean() -> None:
    stack = rng().normal(150, 30, (5, 40, 40)).astype(np.float32)
    change = add_drift(stack, 12.0, window=WINDOW, direction=(2, 0, 0)) - stack
    expected = 0.12 * WINDOW.width * np.array([-0.5, -0.25, 0, 0.25, 0.5])
    assert np.allclose(change.mean(axis=(1, 2)), expected, atol=1e-4)
    slanted = add_drift(stack, 12.0, window=WINDOW, direction=(0, 1, -1)) - stack
    assert np.ptp(slanted) == pytest.approx(24, rel=1e-4)
    assert slanted[0, 0, -1] == pytest.approx(-12, rel=1e-4)
    assert slanted.mean() == pytest.approx(0, abs=1e-4)


def test_a_gain_drifts_in_proportion_to_the_height_above_the_windows_low_end() -> None:
    grey = np.tile(np.array([100.0, 200.0, 300.0], np.float32), (3, 1))
    change = add_drift(grey, 10.0, window=WINDOW, direction=(1, 0), gain_share=1.0) - grey
    assert np.allclose(change, [[0, -5, -10], [0, 0, 0], [0, 5, 10]], atol=1e-4)
    half = add_drift(grey, 10.0, window=WINDOW, direction=(1, 0), gain_share=0.5) - grey
    assert np.allclose(half[2], [5, 7.5, 10], atol=1e-4)


def test_the_registered_drift_is_one_of_the_gain_in_any_direction() -> None:
    low, high = (np.full((40, 40), grey, np.float32) for grey in (20_000, 40_000))
    drift = find_kind("drift")
    assert np.array_equal(drift.apply(low, 20.0, scale=SCALE, rng=rng()), low)
    first, second = (drift.apply(high, 20.0, scale=SCALE, rng=rng(seed)) - high for seed in (0, 1))
    assert np.ptp(first) == pytest.approx(0.2 * 20_000, rel=1e-4)
    assert rms(first - second) > 100


@pytest.mark.parametrize(
    ("direction", "share", "message"),
    [
        ((1,), 0.0, r"direction \(1,\) has 1 axes; the array has 2"),
        ((0, 0), 0.0, "no extent"),
        ((1, 0), 1.5, "gain's share of 1.5 is not possible; it is from 0 to 1"),
    ],
)
def test_a_drift_that_goes_nowhere_is_refused(direction: tuple[float, ...], share: float, message: str) -> None:
    with pytest.raises(SettingError, match=message):
        add_drift(np.ones((4, 4)), 1.0, window=WINDOW, direction=direction, gain_share=share)
