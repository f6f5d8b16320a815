"""The grey-value window is affine, fitted on percentiles, and keeps what lies outside it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tomoseg.errors import VolumeError
from tomoseg.window import Window, fit_window

GREY = st.floats(-1e5, 1e5, allow_subnormal=False)


def test_the_window_goes_from_the_half_to_the_ninety_nine_and_a_half_percentile() -> None:
    window = fit_window([np.arange(0, 1001), np.arange(1001, 2001)])
    assert (window.low, window.high, window.width) == (10.0, 1990.0, 1980.0)


def test_a_few_extreme_pixels_do_not_move_the_window() -> None:
    values = np.arange(1000, 2000, dtype=np.uint16)
    hot = values.copy()
    hot[-3:] = 65535
    assert fit_window([hot]) == fit_window([values])


def test_how_the_values_are_shared_among_slices_does_not_matter() -> None:
    values = np.random.default_rng(0).normal(0, 1, 600)
    assert fit_window(values.reshape(3, 200)) == fit_window([values[::-1]])


@given(GREY, st.floats(1, 1e5), st.floats(-3, 3))
@settings(deadline=None)
def test_the_window_is_affine_and_clips_nothing(low: float, width: float, place: float) -> None:
    window = Window(low=low, high=low + width)
    grey = np.array([low, low + width, low + place * width])
    assert window.apply(grey) == pytest.approx(np.array([0.0, 1.0, place]), abs=2e-6 * (1 + abs(low) / width * 10))


@given(st.floats(0.1, 100), GREY)
@settings(deadline=None)
def test_scaling_and_shifting_the_grey_values_scales_and_shifts_the_window(scale: float, shift: float) -> None:
    values = np.random.default_rng(0).normal(0, 100, 500)
    plain, moved = fit_window([values]), fit_window([scale * values + shift])
    assert (moved.low, moved.high) == pytest.approx((scale * plain.low + shift, scale * plain.high + shift), abs=1e-6)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.float32, np.float64])
def test_the_result_is_float32_and_the_input_stays_as_it_was(dtype: type) -> None:
    grey = np.array([[10, 20], [30, 100]], dtype)
    kept = grey.copy()
    seen = Window(low=20, high=30).apply(grey)
    assert (seen.dtype, seen.tolist()) == (np.float32, [[-1.0, 0.0], [1.0, 8.0]])
    assert grey.dtype == dtype
    assert np.array_equal(grey, kept)


def test_a_constant_picture_has_no_window_and_its_value_is_named() -> None:
    with pytest.raises(VolumeError, match=r"hold one grey value only \(300\); is this the tomogram\?"):
        fit_window([np.full((4, 4), 300, np.uint16)] * 2)


def test_a_nearly_constant_picture_is_seen_from_its_smallest_to_its_largest_value() -> None:
    values = np.full(10_000, 5, np.uint8)
    values[0], values[1] = 3, 9
    assert fit_window([values]) == Window(low=3, high=9)


@pytest.mark.parametrize("samples", [[], [np.empty(0, np.uint16)]])
def test_without_labelled_pixels_there_is_no_window(samples: list[np.ndarray]) -> None:
    with pytest.raises(VolumeError, match="no grey value is labelled"):
        fit_window(samples)


@pytest.mark.parametrize(("low", "high"), [(1, 1), (2, 1), (0, float("inf")), (float("nan"), 1)])
def test_a_window_without_a_width_is_refused(low: float, high: float) -> None:
    with pytest.raises(ValidationError):
        Window(low=low, high=high)


def test_a_window_survives_its_json() -> None:
    window = Window(low=0.1, high=21400.25)
    assert Window.model_validate_json(window.model_dump_json()) == window
