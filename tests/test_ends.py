"""Slices beyond a scan's ends are foretold from the last ones."""

from pathlib import Path

import numpy as np
import pytest

from tomoseg.ends import FITTED, MARGIN, MOST_BEYOND, TAKEN, beyond, continued, fit_end, inward, spots_of
from tomoseg.evaluate import Noise, stack_of
from tomoseg.field_of_view import everything
from tomoseg.slices import Scan, SliceCache, context_slices
from tomoseg.volume import ArrayVolume, Pictures, Region

COUNT = 15
INNER = (slice(MARGIN, -MARGIN), slice(MARGIN, -MARGIN))


def tilted(z: int) -> np.ndarray:
    """An interface that moves by a pixel and a half a slice."""
    y, x = np.indices((60, 90))
    return np.tanh((x + 0.5 * y - 1.5 * z - 45) / 4)


def noise(z: int, std: float) -> np.ndarray:
    return np.random.default_rng(z + 100).normal(0, std, (60, 90))


@pytest.mark.parametrize("steps", range(1, MOST_BEYOND + 1))
@pytest.mark.parametrize("upper", [True, False])
def test_a_tilted_interface_moves_on_beyond_both_ends(steps: int, upper: bool) -> None:
    z, last = (COUNT - 1 + steps, COUNT - 1) if upper else (-steps, 0)
    found = continued(tilted, COUNT)(z)
    error, repeated = (np.abs(one - tilted(z))[INNER].max() for one in (found, tilted(last)))
    assert error < 0.1 * repeated


def test_where_there_is_noise_it_is_smoothed() -> None:
    found = continued(lambda z: tilted(z) + noise(z, 0.5), COUNT)(COUNT)
    error, repeated = ((one - tilted(COUNT))[INNER].std() for one in (found, tilted(COUNT - 1) + noise(COUNT - 1, 0.5)))
    assert error < 0.4 * repeated


def test_slices_inside_are_read_as_they_are() -> None:
    read = continued(tilted, COUNT)
    assert all(np.array_equal(read(z), tilted(z)) for z in range(COUNT))


def test_integers_stay_within_their_type() -> None:
    read = continued(lambda z: (4000 * (tilted(z) > 0) * (z + 4)).astype(np.uint16), COUNT)
    found = read(COUNT + 1)
    assert found.dtype == np.uint16
    assert found.max() == 65535


@pytest.mark.parametrize("std", [0.0, 0.02])
def test_a_sample_between_the_spots_is_still_there_beyond_the_end(std: float) -> None:
    def ring(z: int) -> np.ndarray:
        y, x = np.indices((600, 600))
        rim = np.abs(np.hypot(y - 300, x - 300) - 100) < 25
        return rim + 60_000 + np.random.default_rng(z).normal(0, std, (600, 600))

    assert not any((ring(0)[spot] > 60_000.5).any() for spot in spots_of((600, 600)))
    there = ring(0) > 60_000.5
    found = continued(ring, COUNT)(-2)
    assert found[there].mean() > 60_000.9
    assert found[~there].mean() < 60_000.05


def test_a_part_with_its_margin_gives_what_the_whole_gives() -> None:
    slices = [tilted(z) + noise(z, 0.1) for z in inward(COUNT, COUNT, slices=FITTED)]
    end = fit_end([slices])
    whole = end.foretell(2, slices[:TAKEN])
    part = end.foretell(2, [one[10:40, 20:] for one in slices[:TAKEN]])
    assert np.array_equal(part[MARGIN:-MARGIN, MARGIN:], whole[10:40, 20:][MARGIN:-MARGIN, MARGIN:])


def test_a_scan_with_an_empty_middle_is_continued_around_it() -> None:
    y, x = np.indices((330, 360))
    around = np.hypot(y - 165, x - 180) > 100

    def hollow(z: int) -> np.ndarray:
        return np.where(around, np.tanh(12 * np.sin((x + 0.5 * y - z) / 20)), 0)

    found = continued(hollow, COUNT)(COUNT)
    error, repeated = (np.abs(one - hollow(COUNT))[around].mean() for one in (found, hollow(COUNT - 1)))
    assert error < 0.5 * repeated


def test_a_large_slice_is_fitted_to_its_spots() -> None:
    slices = [np.random.default_rng(z).normal(size=(300, 400)) for z in range(FITTED)]
    spots = spots_of((300, 400))
    assert len(spots) == 9
    end = fit_end([[one[spot] for one in slices] for spot in spots])
    read = continued(lambda z: slices[z], FITTED)
    np.testing.assert_allclose(read(-1), end.foretell(1, slices[:TAKEN]))


def test_an_end_with_a_gap_near_it_is_not_continued() -> None:
    numbers = [*range(FITTED), 40, 41]
    assert context_slices(0, numbers=numbers, context=2) == (-2, -1, 0, 1, 2)
    assert context_slices(FITTED + 1, numbers=numbers, context=2) == (
        FITTED,
        FITTED,
        FITTED + 1,
        FITTED + 1,
        FITTED + 1,
    )
    assert context_slices(0, numbers=range(FITTED - 1), context=1) == (0, 0, 1)
    seen = context_slices(FITTED - 1, numbers=range(FITTED), context=6)
    assert max(beyond(z, FITTED) for z in seen) == MOST_BEYOND


def test_of_a_scan_noise_comes_first_and_then_what_lies_beyond() -> None:
    volume = ArrayVolume(np.stack([tilted(z) for z in range(COUNT)]).astype(np.float32))
    whole, cache = Region.whole(volume.shape), SliceCache(volume, limit_bytes=10**9)
    scan = Scan(volume, Pictures(Path("none"), ()), (), (), None, everything(volume.shape), whole, "s", cache)
    read = Noise(0.5, 7).on(scan, 0)
    noisy = [read(z) for z in range(COUNT)]
    seen = stack_of(scan, COUNT - 1, context=2, read=read)
    np.testing.assert_array_equal(seen[:3], noisy[-3:])
    np.testing.assert_array_equal(seen[3], continued(lambda z: noisy[z], COUNT)(COUNT))
    assert np.abs(seen[3] - scan.read_grey(COUNT)).mean() > 0.02
    np.testing.assert_array_equal(scan.read_grey(-1), continued(lambda z: volume.values[z], COUNT)(-1))
