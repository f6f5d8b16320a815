"""What a tomogram's grey values are like: histogram, clipping, noise and blur."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, Real

from tomoseg.noise_level import Slice, estimate_blur, estimate_noise_std, type_ends
from tomoseg.volume import Region, Volume

Inside = Callable[[int], Bool[np.ndarray, "y x"]]

_FULL_RANGE = 65535
_BINS = 256
_SAMPLED = 16
_MEASURED = 4
_MOST_VALUES = 4_000_000


@dataclass(frozen=True)
class Histogram:
    """Counts of grey values: `counts[i]` lie from `edges[i]` up to `edges[i + 1]`."""

    edges: Float[np.ndarray, " edge"]
    counts: Int[np.ndarray, " bins"]


@dataclass(frozen=True)
class GreyLevels:
    """Grey values of a volume, from evenly spaced slices.

    Attributes
    ----------
    clipped_low, clipped_high
        Shares of the values at the type's ends; for floats at the smallest and largest value, if these
        repeat.
    noise_std
        Standard deviation of the noise in grey values, white noise assumed.
    noise_std_65535
        The same in 1/65535 of the type's full range; None for floats, whose window is not known here.
    blur_px
        Standard deviation of the Gaussian that blurs the sharpest edges, in pixels; None where it cannot be
        told.
    """

    histogram: Histogram
    minimum: float
    maximum: float
    mean: float
    clipped_low: float
    clipped_high: float
    noise_std: float
    noise_std_65535: float | None
    blur_px: float | None


def bin_edges(dtype: np.dtype[Any], *, low: float, high: float) -> Float[np.ndarray, " edge"]:
    """Return edges of at most 256 equal bins from `low` to `high`: whole numbers a bin.

    For unsigned 8 bits these are all 256 values, whatever `low` and `high`.

    Examples
    --------
    >>> len(bin_edges(np.dtype(np.uint8), low=3, high=9))
    257
    >>> bin_edges(np.dtype(np.uint16), low=10, high=12)
    array([ 9.5, 10.5, 11.5, 12.5])
    """
    if dtype == np.uint8:
        return np.arange(_BINS + 1) - 0.5
    if dtype.kind == "f":
        return np.linspace(low, high if high > low else low + 1, _BINS + 1)
    width = math.ceil((high - low + 1) / _BINS)
    bins = math.ceil((high - low + 1) / width)
    return low - 0.5 + width * np.arange(bins + 1, dtype=np.float64)


def histogram(slices: Iterable[Real[np.ndarray, " ..."]], *, edges: Float[np.ndarray, " edge"]) -> Histogram:
    """Count the values of `slices`, one at a time, between equally spaced `edges`.

    Examples
    --------
    >>> histogram([np.array([0, 1]), np.array([1])], edges=np.array([-0.5, 0.5, 1.5])).counts
    array([1, 2])
    """
    counts = np.zeros(len(edges) - 1, np.int64)
    for values in slices:
        counts += np.histogram(values, bins=len(counts), range=(edges[0], edges[-1]))[0]
    return Histogram(edges, counts)


def clipped_share(slices: Iterable[Real[np.ndarray, " ..."]], *, ends: tuple[float, float]) -> tuple[float, float]:
    """Return the shares of the values at the two `ends`, read one slice at a time.

    The ends are those of the type (`type_ends`); floats have none, so there an extreme value counts as an end
    only if it occurs more than once.

    Examples
    --------
    >>> clipped_share([np.array([0, 0, 7, 255], np.uint8)], ends=(0, 255))
    (0.5, 0.25)
    >>> clipped_share([np.array([0.0, 0.0, 7.0, 9.0])], ends=(0, 9))
    (0.5, 0.0)
    """
    counts, n, least = [0, 0], 0, 1
    for values in slices:
        counts = [count + int(np.count_nonzero(values == end)) for count, end in zip(counts, ends, strict=True)]
        n += values.size
        least = 2 if values.dtype.kind == "f" else 1
    low, high = (count / n if count >= least else 0.0 for count in counts)
    return low, high


def sketch(levels: Histogram, *, rows: int = 8, columns: int = 64) -> str:
    """Draw a histogram with block characters, the range of grey values below, the largest share above.

    Examples
    --------
    >>> print(sketch(Histogram(np.array([0.0, 1, 2, 3]), np.array([1, 4, 2])), rows=2, columns=3))
    57.1 % a column
     █
    ▄██
    0 3
    """
    groups = np.array_split(levels.counts, min(columns, len(levels.counts)))
    shares = np.array([group.sum() for group in groups]) / max(1, levels.counts.sum())
    eighths = np.round(shares / (shares.max() or 1) * rows * 8).astype(int)
    lines = ["".join(_block(height - 8 * row) for height in eighths.tolist()).rstrip() for row in reversed(range(rows))]
    low, high = f"{levels.edges[0]:.6g}", f"{levels.edges[-1]:.6g}"
    axis = low + high.rjust(max(len(high) + 1, len(groups) - len(low)))
    return "\n".join([f"{100 * shares.max():.1f} % a column", *lines, axis])


def inspect_grey_levels(volume: Volume, *, region: Region | None = None, inside: Inside | None = None) -> GreyLevels:
    """Return the grey levels of at most 16 evenly spaced slices of `volume`, holding one slice at a time.

    Noise and blur are medians over four of them.

    Parameters
    ----------
    volume
        The tomogram.
    region
        The part that counts; all without it.
    inside
        Field of view: slice number of the volume -> pixels (y, x) of the whole slice that count.

    Raises
    ------
    VolumeError
        If a slice cannot be read.

    Examples
    --------
    >>> from tomoseg.volume import ArrayVolume
    >>> ramp = ArrayVolume(np.arange(60, dtype=np.uint16).reshape(3, 4, 5))
    >>> levels = inspect_grey_levels(ramp)
    >>> levels.minimum, levels.maximum, levels.mean, round(levels.clipped_low, 3)
    (0.0, 59.0, 29.5, 0.017)
    """
    box = region or Region.whole(volume.shape)
    numbers = evenly(box.z0, box.z1, _SAMPLED)
    low, high, mean = _extent(_inner(volume, box, numbers, inside))
    counts = histogram(_inner(volume, box, numbers, inside), edges=bin_edges(volume.dtype, low=low, high=high))
    ends = type_ends(volume.dtype) or (low, high)
    clipped = clipped_share(_inner(volume, box, numbers, inside), ends=ends)
    measured = evenly(0, len(numbers), _MEASURED)
    noise, blur = _noise_and_blur(volume, box, [numbers[i] for i in measured], inside)
    return GreyLevels(
        histogram=counts,
        minimum=low,
        maximum=high,
        mean=mean,
        clipped_low=clipped[0],
        clipped_high=clipped[1],
        noise_std=noise,
        noise_std_65535=in_design_unit(noise, volume.dtype),
        blur_px=blur,
    )


def sample_values(volume: Volume, *, region: Region, inside: Inside) -> Iterator[np.ndarray]:
    """Yield grey values of at most 16 evenly spaced slices of `volume`, some four million in all.

    Parameters
    ----------
    volume
        The tomogram.
    region
        The part that counts.
    inside
        Field of view: slice number of the volume -> pixels (y, x) of the whole slice that count.

    Raises
    ------
    VolumeError
        If a slice cannot be read.

    Examples
    --------
    >>> from tomoseg.volume import ArrayVolume
    >>> ramp = ArrayVolume(np.arange(6, dtype=np.uint16).reshape(2, 1, 3))
    >>> list(sample_values(ramp, region=Region(1, 2, 0, 1, 0, 3), inside=lambda z: np.array([[True, False, True]])))
    [array([3, 5], dtype=uint16)]
    """
    numbers = evenly(region.z0, region.z1, _SAMPLED)
    pixels = len(numbers) * region.shape[1] * region.shape[2]
    step = math.ceil(pixels / _MOST_VALUES)
    for values in _inner(volume, region, numbers, inside):
        yield values[::step]


def evenly(start: int, stop: int, most: int) -> list[int]:
    """Return at most `most` numbers from the middles of equal parts of `start` to `stop`.

    Examples
    --------
    >>> evenly(0, 100, 4), evenly(3, 5, 4)
    ([12, 37, 62, 87], [3, 4])
    """
    n = min(most, stop - start)
    return [start + int((i + 0.5) * (stop - start) / n) for i in range(n)]


def in_design_unit(noise_std: float, dtype: np.dtype[Any]) -> float | None:
    """Return a standard deviation in grey values as 1/65535 of the full range of `dtype`; None for floats.

    Examples
    --------
    >>> in_design_unit(51.0, np.dtype(np.uint8)), in_design_unit(740.0, np.dtype(np.uint16))
    (13107.0, 740.0)
    """
    ends = type_ends(dtype)
    return noise_std * _FULL_RANGE / (ends[1] - ends[0]) if ends else None


def _box_page(volume: Volume, box: Region, z: int) -> Slice:
    page: Slice = volume.read(Region(z, z + 1, box.y0, box.y1, box.x0, box.x1))[0]
    return page


def _inner(volume: Volume, box: Region, numbers: list[int], inside: Inside | None) -> Iterator[np.ndarray]:
    """Yield the values that count, slice by slice."""
    for z in numbers:
        page = _box_page(volume, box, z)
        yield page if inside is None else page[inside(z)[box.slices[1:]]]


def _extent(slices: Iterable[np.ndarray]) -> tuple[float, float, float]:
    low, high, total, n = math.inf, -math.inf, 0.0, 0
    for values in slices:
        if values.size:
            low, high = min(low, float(values.min())), max(high, float(values.max()))
            total, n = total + float(values.sum(dtype=np.float64)), n + values.size
    return (low, high, total / n) if n else (0.0, 0.0, 0.0)


def _noise_and_blur(
    volume: Volume, box: Region, numbers: list[int], inside: Inside | None
) -> tuple[float, float | None]:
    noise, blur = [], []
    for z in numbers:
        page = _box_page(volume, box, z)
        counts = inside(z)[box.slices[1:]] if inside else None
        noise.append(estimate_noise_std(page, inside=counts))
        blur.append(estimate_blur(page, inside=counts))
    told = [value for value in blur if value is not None]
    return float(np.median(noise)), float(np.median(told)) if told else None


def _block(height: int) -> str:
    return " ▁▂▃▄▅▆▇█"[max(0, min(8, height))]
