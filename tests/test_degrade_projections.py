"""Effects on the projections: each is as large, and lies where, its formula says."""

import math

import numpy as np
import pytest

from tomoseg.degrade import add_beam_hardening, add_photon_noise, add_rings, add_streaks
from tomoseg.degrade.projections import project, reconstruct
from tomoseg.errors import SettingError
from tomoseg.window import Window

WINDOW = Window(low=100.0, high=300.0)
UNIT = Window(low=0.0, high=1.0)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def radius(size: int) -> np.ndarray:
    place = np.arange(size) - (size - 1) / 2
    return np.hypot.outer(place, place)


def disc(size: int, of_radius: float) -> np.ndarray:
    """Return 1 in a disc and 0 outside, with partial pixels at its rim."""
    return np.clip(of_radius + 0.5 - radius(size), 0, 1).astype(np.float32)


def rms(change: np.ndarray) -> float:
    return float(np.sqrt(np.mean(change.astype(np.float64) ** 2)))


def test_projections_of_a_disc_are_its_chords_at_all_angles_and_hold_its_area() -> None:
    body = disc(101, 40)
    sinogram = project(body, 30)
    t = np.arange(sinogram.shape[1]) - sinogram.shape[1] // 2
    chords = 2 * np.sqrt(np.maximum(40**2 - t**2, 0))
    assert np.abs(sinogram - chords)[:, np.abs(t) < 38].max() < 0.6
    assert sinogram.sum(axis=1) == pytest.approx(body.sum(), rel=2e-3)


@pytest.mark.parametrize("shape", [(48, 64), (64, 47)])
def test_a_point_off_centre_is_reconstructed_where_it_was(shape: tuple[int, int]) -> None:
    dot = np.zeros(shape)
    dot[10, 37] = 1
    found = reconstruct(project(dot, 100), shape)
    assert np.unravel_index(found.argmax(), shape) == (10, 37)
    assert found[7:14, 34:41].sum() == pytest.approx(1, abs=0.1)


def test_photon_noise_in_air_has_the_std_of_the_formula() -> None:
    noise = add_photon_noise(np.full((90, 90), 100.0), 1e4, window=WINDOW, rng=rng(), projections=200) - 100.0
    expected = 0.62 * 90 * math.sqrt(2) / 2 / math.sqrt(200 * 1e4) * WINDOW.width
    assert noise.std() == pytest.approx(expected, rel=0.05)
    assert abs(noise.mean()) < 0.02 * expected


def test_the_variance_of_photon_noise_is_inverse_to_the_photons() -> None:
    body = disc(80, 30)
    few, many = (rms(add_photon_noise(body, n, window=UNIT, rng=rng()) - body) for n in (1e3, 1e5))
    assert few**2 / many**2 == pytest.approx(100, rel=0.1)


def test_photon_noise_is_stronger_where_more_is_absorbed() -> None:
    body = disc(120, 50)
    noise = add_photon_noise(body, 1e4, window=UNIT, rng=rng(), attenuation=6.0) - body
    assert noise[radius(120) < 20].std() > 1.5 * noise[radius(120) > 55].std()


def test_no_photon_at_all_leaves_finite_grey_values() -> None:
    assert np.isfinite(add_photon_noise(disc(40, 18), 1.0, window=UNIT, rng=rng())).all()


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"photons": 0.5}, "^0.5 photons are not possible; they are from 1 to 1e"),
        ({"attenuation": 0.0}, "log attenuation of 0 is not possible"),
        ({"projections": 3}, "^3 projections make no tomogram; it takes 4 or more"),
    ],
)
def test_settings_of_photon_noise_outside_their_range_are_refused(setting: dict[str, float], message: str) -> None:
    with pytest.raises(SettingError, match=message):
        add_photon_noise(disc(40, 18), **{"photons": 1e4, "window": UNIT, "rng": rng(), **setting})


def test_rings_lie_on_circles_about_the_centre_and_do_not_depend_on_the_sample() -> None:
    rings = add_rings(np.zeros((121, 121)), 1.0, window=UNIT, rng=rng())
    ring = np.round(radius(121) * 4).astype(int)
    mean = np.bincount(ring.ravel(), rings.ravel()) / np.maximum(np.bincount(ring.ravel()), 1)
    assert (mean[ring] ** 2).sum() > 0.98 * (rings**2).sum()
    body = disc(121, 50)
    assert np.allclose(add_rings(body, 1.0, window=UNIT, rng=rng()) - body, rings, atol=1e-5)


def test_rings_are_the_reconstruction_over_a_full_turn_of_one_gain_error_a_detector_pixel() -> None:
    rings = add_rings(np.zeros((61, 61)), 3.0, window=UNIT, rng=rng())
    gain = rng().standard_normal(2 * 45 + 1) * 0.03
    both_sides = -(gain + gain[::-1]) / 2
    sinogram = np.tile(both_sides, (1000, 1)).astype(np.float32)
    assert np.allclose(rings, reconstruct(sinogram, (61, 61)) * 61 * math.sqrt(2) / 2, atol=0.02 * np.abs(rings).max())


def test_streaks_are_linear_in_the_grey_values_and_spare_a_uniform_slice() -> None:
    body = disc(80, 30) - disc(80, 10)
    once = add_streaks(body, 90.0) - body
    assert np.allclose(add_streaks(3 * body - 7, 90.0) - (3 * body - 7), 3 * once, atol=1e-3 * np.abs(once).max())
    assert np.array_equal(add_streaks(np.full((40, 40), 300.0), 90.0), np.full((40, 40), 300.0, np.float32))


def test_leaving_out_half_of_far_too_many_projections_makes_no_streaks() -> None:
    body = disc(80, 25) - disc(80, 10)
    spare, scarce = (rms(add_streaks(body, 50.0, projections=n) - body) for n in (1000, 40))
    assert spare < 0.01
    assert scarce > 5 * spare


def test_leaving_out_too_much_is_refused() -> None:
    with pytest.raises(SettingError, match="leaving out 97 % of 63 projections leaves 2; 4 are the fewest"):
        add_streaks(disc(40, 18), 97.0)


@pytest.mark.parametrize("low", [0.0, 50.0])
def test_beam_hardening_hollows_a_disc_as_the_closed_form_says(low: float) -> None:
    body = low + disc(161, 60)
    window = Window(low=low, high=low + 3)
    change = add_beam_hardening(body, 20.0, window=window) - body
    r = radius(161)
    expected = -0.2 * 4 / np.pi * np.sqrt(np.maximum(1 - (r / 60) ** 2, 0))
    assert np.abs(change - expected)[r < 57].max() < 0.02
    assert change[80, 80] < change[80, 80 + 55] < 0


def test_beam_hardening_leaves_air_alone_and_ends_at_50_per_cent() -> None:
    air = np.full((30, 30), 100.0, np.float32)
    assert np.array_equal(add_beam_hardening(air, 50.0, window=WINDOW), air)
    with pytest.raises(SettingError, match="beam hardening of 51 % is not possible; it is from 0 to 50"):
        add_beam_hardening(air, 51.0, window=WINDOW)
