"""Noise means what it says: its std, its unit, and what is left alone."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tomoseg.degrade import add_gaussian_noise, full_range, noise_std_grey, noise_std_units
from tomoseg.errors import SettingError
from tomoseg.window import Window

WINDOW = Window(low=100.0, high=300.0)
N = 400 * 400
GREY = np.full((400, 400), 30_000, np.uint16)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


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
