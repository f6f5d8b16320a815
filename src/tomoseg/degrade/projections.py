r"""Parallel projections of a slice and filtered back-projection, for effects that arise on the detector.

An effect changes the projections by a difference, and the reconstruction is linear, so the slice changes by the
reconstruction of that difference: what a reconstruction loses by itself never enters, and no difference is exactly no
change. The slice turns about its centre; a detector pixel is as wide as a voxel and sees this slice only (parallel
beam). Outside the slice nothing attenuates; rays that pass through its corners count.

The method is that of A. C. Kak, M. Slaney, Principles of Computerized Tomographic Imaging, chapter 3, DOI
10.1137/1.9780898719277; rays as in P. M. Joseph, An improved algorithm for reprojecting rays through pixel images, IEEE
Trans. Med. Imaging 1 (1982) 192, DOI 10.1109/TMI.1982.4307572.

Why not `skimage.transform.radon` and `iradon`: for 501 x 501 pixels they take 10 and 4 ms an angle on one core, or 11 s
for the 787 angles of a complete scan. The lines below take 1.2 and 0.5 ms on the same core, or 1.4 s.
"""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float32, Float64, Int, Real
from scipy import fft

from tomoseg.errors import SettingError

Sinogram = Float32[np.ndarray, "angle detector"]

_FINER_IN_SLICE, _FINER_ON_DETECTOR = 4, 8
"""Values are read at the nearest of so many places a pixel, which are interpolated once for all angles. The projections
of a phantom's slice differ from those of linear interpolation by 0.1 % of the largest; 8 places in the slice bring
nothing and cost twice the time, as they leave the cache."""

_FEWEST = 4


def full_scan(shape: tuple[int, ...]) -> int:
    """Return the projections that sample a slice (y, x) completely: pi/2 for each pixel of its longest edge.

    Examples
    --------
    >>> full_scan((501, 400))
    787
    """
    return math.ceil(math.pi / 2 * max(shape))


def check_projections(projections: int | None, shape: tuple[int, ...]) -> int:
    """Return the number of projections, a full scan's for None.

    Raises
    ------
    SettingError
        If there are fewer than four.
    """
    if projections is None:
        return full_scan(shape)
    if projections < _FEWEST:
        raise SettingError(f"{projections} projections make no tomogram; it takes {_FEWEST} or more")
    return projections


def half_detector(shape: tuple[int, ...]) -> int:
    """Return the number of detector pixels on either side of the axis that see a slice (y, x) at all angles.

    Examples
    --------
    >>> half_detector((6, 8))
    6
    """
    return math.ceil(math.hypot(*shape) / 2) + 1


def project(attenuation: Real[np.ndarray, "y x"], projections: int) -> Sinogram:
    r"""Return line integrals through a slice at equally spaced angles over half a turn.

    .. math:: p(\theta, t) = \int a \; \mathrm{d}s \quad \text{along} \quad t = x \cos \theta + y \sin \theta

    A ray steps through the rows, or through the columns where it runs closer to these, interpolating linearly.

    Parameters
    ----------
    attenuation
        A slice (y, x), in anything per pixel.
    projections
        Number of angles.

    Returns
    -------
    array (angle, detector)
        The axis is the middle detector pixel.

    Examples
    --------
    >>> project(np.ones((5, 5)), 2)[0]
    array([0., 0., 0., 5., 5., 5., 5., 5., 0., 0., 0.], dtype=float32)
    """
    half = half_detector(attenuation.shape)
    upright, lying = (_refined_rows(part, _FINER_IN_SLICE) for part in (attenuation, attenuation.T))
    sinogram = np.empty((projections, 2 * half + 1), np.float32)
    for ray, theta in zip(sinogram, _angles(projections), strict=True):
        cos, sin = math.cos(theta), math.sin(theta)
        steep = abs(cos) >= abs(sin)
        ray[:] = _line_integrals(upright, cos, sin, half) if steep else _line_integrals(lying, sin, cos, half)
    return sinogram


def reconstruct(sinogram: Sinogram, shape: tuple[int, ...]) -> Float32[np.ndarray, "y x"]:
    r"""Return the filtered back-projection on a slice of `shape` (y, x): the inverse of `project`.

    .. math:: a(y, x) = \frac{\pi}{M} \sum_{i=1}^{M} q_i(x \cos \theta_i + y \sin \theta_i)

    with :math:`q` from `ramp_filter` and linear interpolation between the detector's pixels.

    Examples
    --------
    >>> square = np.zeros((61, 61)); square[20:41, 20:41] = 7
    >>> round(float(reconstruct(project(square, 96), (61, 61))[25:36, 25:36].mean()), 1)
    7.0
    """
    half, (height, width) = sinogram.shape[1] // 2, shape
    finer = _FINER_ON_DETECTOR
    rows = _refined_rows(ramp_filter(sinogram), finer)
    y, x = (np.arange(size, dtype=np.float32) - (size - 1) / 2 for size in (height, width))
    total = np.zeros((height, width), np.float32)
    for row, theta in zip(rows, _angles(len(sinogram)), strict=True):
        along = np.float32(finer * math.cos(theta)) * x
        start = np.float32(finer * math.sin(theta)) * y + np.float32(finer * (half + 1) + 0.5)
        total += row.take(np.add.outer(start, along).astype(np.int32))
    return total * np.float32(math.pi / len(sinogram))


def ramp_filter(sinogram: Sinogram) -> Sinogram:
    """Return each projection filtered with the band-limited ramp of Kak and Slaney (their equation 61).

    Examples
    --------
    >>> ramp_filter(np.array([[0, 0, 1, 0, 0]], np.float32)).round(3)
    array([[ 0.   , -0.101,  0.25 , -0.101,  0.   ]], dtype=float32)
    """
    pixels = sinogram.shape[1]
    length = fft.next_fast_len(2 * pixels, real=True)
    lag = np.minimum(np.arange(length), length - np.arange(length))
    odd = np.where(lag % 2 == 1, lag, np.inf)
    kernel = np.where(lag == 0, 0.25, -1 / (np.pi * odd) ** 2)
    filtered = fft.irfft(fft.rfft(sinogram, length) * fft.rfft(kernel).real, length)
    return np.asarray(filtered[:, :pixels], np.float32)


def _angles(projections: int) -> Float64[np.ndarray, " angle"]:
    return np.arange(projections) * (math.pi / projections)


def _refined_rows(values: Real[np.ndarray, "row place"], finer: int) -> Float32[np.ndarray, "row refined"]:
    """Return rows interpolated to `finer` places a pixel, with a pixel of 0 before and after."""
    padded = np.pad(np.asarray(values, np.float32), ((0, 0), (1, 1)))
    place = np.arange((padded.shape[1] - 1) * finer + 1) / finer
    left = np.minimum(place.astype(np.int32), padded.shape[1] - 2)
    part = (place - left).astype(np.float32)
    refined = padded[:, left] * (1 - part) + padded[:, left + 1] * part
    return np.ascontiguousarray(refined)


def _line_integrals(
    rows: Float32[np.ndarray, "row refined"], cos: float, sin: float, half: int
) -> Float32[np.ndarray, " detector"]:
    """Return the integrals along t = x cos + y sin, one step a row y, for t from -`half` to `half`."""
    lines, places = rows.shape
    y = np.arange(lines, dtype=np.float32) - (lines - 1) / 2
    t = np.arange(-half, half + 1, dtype=np.float32)
    start = np.float32((places - 1) / 2 + 0.5) - y * np.float32(_FINER_IN_SLICE * sin / cos)
    place = np.add.outer(start, t * np.float32(_FINER_IN_SLICE / cos))
    index: Int[np.ndarray, "row detector"] = np.clip(place, 0, places - 1, out=place).astype(np.int32)
    index += (np.arange(lines, dtype=np.int32) * places)[:, None]
    return np.asarray(rows.take(index).sum(axis=0) / abs(cos), np.float32)
