"""Correlated noise: what is asked for is put in, and what is in a scan is measured."""

import math

import numpy as np
import pytest

from tomoseg.degrade import (
    add_correlated_noise,
    flat_regions,
    gaussian_autocorrelation,
    measure_autocorrelation,
)
from tomoseg.errors import SettingError
from tomoseg.phantom import PhantomSpec, make_phantom

N = 400 * 400
GREY = np.full((400, 400), 30_000, np.uint16)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def autocorrelation(noise: np.ndarray, y: int, x: int) -> float:
    """Return the correlation of pixels `y` and `x` apart in noise of mean 0."""
    return float((noise[..., y:, x:] * noise[..., : noise.shape[-2] - y, : noise.shape[-1] - x]).mean() / noise.var())


@pytest.mark.parametrize("length", [0.0, 0.7, 2.0])
def test_correlated_noise_has_the_std_and_the_autocorrelation_that_were_asked_for(length: float) -> None:
    smooth = gaussian_autocorrelation(length)
    added = add_correlated_noise(GREY, 700.0, autocorrelation=smooth, rng=rng()).astype(np.float64) - 30_000
    effective = N / (smooth**2).sum()
    assert abs(added.mean()) < 4 * 700 * np.sqrt(smooth.sum() / N)
    assert added.std() == pytest.approx(700, rel=4 / np.sqrt(2 * effective))
    for y, x in [(0, 1), (1, 0), (1, 1), (3, 0), (0, 8)]:
        expected = math.exp(-(y**2 + x**2) / (4 * length**2)) if length else 0.0
        assert autocorrelation(added, y, x) == pytest.approx(expected, abs=4 / np.sqrt(effective))


def test_an_autocorrelation_that_differs_between_the_axes_keeps_its_axes() -> None:
    along_x = np.array([[0.25, 1.0, 0.25]])
    noise = add_correlated_noise(GREY, 1.0, autocorrelation=along_x, rng=rng()).astype(np.float64) - 30_000
    assert autocorrelation(noise, 0, 1) == pytest.approx(0.25, abs=0.02)
    assert autocorrelation(noise, 1, 0) == pytest.approx(0.0, abs=0.02)


def test_a_negative_spectrum_costs_the_noise_nothing_of_its_std() -> None:
    box = np.ones((1, 9))  # a box has a spectrum that is negative in places
    noise = add_correlated_noise(np.zeros((2000, 60)), 5.0, autocorrelation=box, rng=rng())
    assert noise.std() == pytest.approx(5.0, rel=0.02)


def test_slices_of_a_stack_and_opposite_edges_have_noise_of_their_own() -> None:
    smooth = gaussian_autocorrelation(2.0)
    noise = add_correlated_noise(np.zeros((200, 30, 300)), 1.0, autocorrelation=smooth, rng=rng())
    assert (noise[1:] * noise[:-1]).mean() == pytest.approx(0, abs=0.02)
    assert (noise[:, 0] * noise[:, -1]).mean() == pytest.approx(0, abs=0.05)
    assert (noise[:, 0] * noise[:, 1]).mean() == pytest.approx(math.exp(-1 / 16), abs=0.05)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (np.ones((2, 3)), r"of shape \(2, 3\) has no centre"),
        (np.full((3, 3), 0.5), "centre is 0.5; it is 1"),
        (np.array([[np.nan, 1.0, 0.0]]), "no numbers"),
    ],
)
def test_an_array_that_is_no_autocorrelation_is_refused(wrong: np.ndarray, message: str) -> None:
    with pytest.raises(SettingError, match=message):
        add_correlated_noise(GREY, 1.0, autocorrelation=wrong, rng=rng())


@pytest.fixture(scope="module")
def phantom() -> tuple[np.ndarray, np.ndarray]:
    """Return a noiseless phantom's grey values and labels: five slices, three apart."""
    pages = list(make_phantom(PhantomSpec(shape=(16, 160, 160), noise_std=0.0)))[::3][:5]
    return np.stack([page.grey for page in pages]), np.stack([page.label for page in pages])


@pytest.mark.parametrize(("length", "std"), [(0.0, 740.0), (1.0, 740.0), (1.0, 4000.0)])
@pytest.mark.parametrize(("labelled", "tolerance"), [(False, 0.08), (True, 0.035)])
def test_the_autocorrelation_of_noise_on_a_phantom_is_measured_well_and_better_with_labels(
    phantom: tuple[np.ndarray, np.ndarray], length: float, std: float, labelled: bool, tolerance: float
) -> None:
    grey, label = phantom
    put_in = gaussian_autocorrelation(length)
    noisy = add_correlated_noise(grey, std, autocorrelation=put_in, rng=rng())
    found = measure_autocorrelation(noisy, radius_px=6, label=label if labelled else None)
    expected = np.zeros((13, 13))
    half = len(put_in) // 2
    expected[6 - half : 7 + half, 6 - half : 7 + half] = put_in
    assert found[6, 6] == 1
    assert np.abs(found - expected).max() < tolerance
    again = add_correlated_noise(np.zeros((300, 300)), 500.0, autocorrelation=found, rng=rng())
    assert autocorrelation(again, 0, 1) == pytest.approx(expected[6, 7], abs=0.1)


@pytest.mark.parametrize("seed", range(3))
def test_white_noise_on_a_phantom_is_found_white_without_labels(
    phantom: tuple[np.ndarray, np.ndarray], seed: int
) -> None:
    noisy = phantom[0] + rng(seed).normal(0, 740, phantom[0].shape)
    found = measure_autocorrelation(noisy, radius_px=6)
    found[6, 6] = 0
    assert np.abs(found).max() < 0.05


def test_rounding_to_steps_as_large_as_the_noise_is_taken_off_the_centre() -> None:
    smooth = gaussian_autocorrelation(1.0)
    noise = add_correlated_noise(np.full((5, 300, 300), 100.0), 1.2, autocorrelation=smooth, rng=rng())
    found = measure_autocorrelation(np.round(noise).astype(np.uint8))
    assert found[8, 9] == pytest.approx(math.exp(-1 / 4), abs=0.02)  # 0.73 were the rounding left in
    assert found[8, 8] == 1


@pytest.mark.parametrize(("dtype", "scale"), [(np.uint8, 1), (np.uint16, 257), (np.float32, 1 / 255)])
def test_noise_below_the_step_of_the_grey_values_is_refused_whatever_their_type(dtype: type, scale: float) -> None:
    steps = np.round(rng().normal(100, 0.6, (300, 300)))
    with pytest.raises(SettingError, match=r"std of \S+ is below the grey values' step of \S+, so"):
        measure_autocorrelation((steps * scale).astype(dtype))


def test_too_little_flat_area_is_an_error_that_says_how_much_there_is() -> None:
    with pytest.raises(SettingError, match=r"of 900 pixels are flat, with \d+ pairs 8 pixels apart; .* takes 3000"):
        measure_autocorrelation(rng().normal(0, 1, (30, 30)))
    checkerboard = np.kron(np.indices((20, 20)).sum(axis=0) % 2, np.ones((10, 10), int)).astype(np.uint8)
    with pytest.raises(SettingError, match=r"^0\.0 % of 40000 pixels are flat, with 0 pairs"):
        measure_autocorrelation(rng().normal(0, 1, (200, 200)), label=checkerboard)


def test_flat_regions_without_noise_hold_none_to_measure() -> None:
    with pytest.raises(SettingError, match="no noise"):
        measure_autocorrelation(np.zeros((200, 200)), label=np.zeros((200, 200), np.uint8))
    with pytest.raises(SettingError, match="a radius of 0 pixels"):
        measure_autocorrelation(GREY, radius_px=0)


def test_what_is_clipped_constant_or_outside_is_not_flat() -> None:
    grey = np.round(rng().normal(128, 10, (120, 120))).astype(np.uint8)
    grey[:, :30] = np.maximum(rng(1).normal(0, 10, (120, 30)), 0).astype(np.uint8)  # half of it clipped
    grey[:, 90:] = 77
    inside = np.ones((120, 120), np.bool_)
    inside[:40] = False
    flat = flat_regions(grey, inside=inside)
    assert not flat[:, :36].any() and not flat[:, 90:].any() and not flat[:46].any()
    assert flat[60:100, 45:75].mean() > 0.5
