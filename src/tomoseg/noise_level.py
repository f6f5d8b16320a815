"""How noisy and how blurred a slice is, estimated from its own grey values."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Real
from scipy.ndimage import gaussian_filter, map_coordinates, maximum_filter, minimum_filter, uniform_filter

Slice = Real[np.ndarray, "y x"]

_FLATTEST = 0.4
_SMOOTH_PX = 3.0
_FEWEST = 100
_CONSTANT_PX = 5
_NEAR_PX, _FAR_PX = 1.0, 2.0
_LEAST_CONTRAST = 16.0


def type_ends(dtype: np.dtype[Any]) -> tuple[float, float] | None:
    """Return the smallest and largest value of an integer type; None for floats.

    Examples
    --------
    >>> type_ends(np.dtype(np.int8)), type_ends(np.dtype(np.float32))
    ((-128.0, 127.0), None)
    """
    if dtype.kind == "f":
        return None
    info = np.iinfo(dtype)
    return float(info.min), float(info.max)


def estimate_noise_std(
    values: Real[np.ndarray, "y x"] | Real[np.ndarray, "z y x"],
    *,
    inside: Bool[np.ndarray, "y x"] | None = None,
) -> float:
    r"""Return the standard deviation of additive white Gaussian noise, in grey values.

    The picture is filtered with :math:`[1,-2,1]^T [1,-2,1] / 6`, which removes constant and linear parts and
    leaves white noise its standard deviation [1]_. Of the 40 % of the pixels where the smoothed picture
    changes least, so that edges do not count, the standard deviation is taken from the median, as in [2]_,
    and refined from the values within three of it. Neighbourhoods that are clipped, and a constant rim, are
    left out, and the variance 1/12 of rounding is subtracted for integers. Noise that is correlated from
    pixel to pixel is underestimated.

    Parameters
    ----------
    values
        One slice (y, x), or slices (z, y, x), of which the median is returned. At least 3 x 3 pixels.
    inside
        Pixels (y, x) that count; all without it.

    References
    ----------
    .. [1] J. Immerkær, Fast noise variance estimation, Comput. Vis. Image Underst. 64 (1996) 300,
       DOI 10.1006/cviu.1996.0060
    .. [2] D. L. Donoho, I. M. Johnstone, Ideal spatial adaptation by wavelet shrinkage, Biometrika 81 (1994) 425,
       DOI 10.1093/biomet/81.3.425

    Examples
    --------
    >>> noise = np.random.default_rng(0).normal(0, 500, (300, 300))
    >>> round(estimate_noise_std(30000 + noise) / 500, 1)
    1.0
    """
    slices = values[None] if values.ndim == 2 else values
    return float(np.median([_slice_noise_std(page, inside) for page in slices]))


def estimate_blur(values: Slice, *, inside: Bool[np.ndarray, "y x"] | None = None) -> float | None:
    r"""Return the standard deviation, in pixels, of the Gaussian that blurs the sharpest edges.

    A step of height :math:`A` blurred by :math:`s`, seen at the scale :math:`t`, has the steepest gradient
    :math:`A / \sqrt{2 \pi (s^2 + t^2)}`; the ratio :math:`R` of two scales gives
    :math:`s^2 = (t_2^2 - R^2 t_1^2) / (R^2 - 1)` without knowing :math:`A` (re-blurring as in [1]_, by
    gradients of Gaussians at 1 and 2 pixels). Edges are found at the coarser scale, to a fraction of a pixel;
    the median over the stronger half of them is returned.

    Parameters
    ----------
    values
        One slice, (y, x).
    inside
        Pixels (y, x) that count; all without it.

    Returns
    -------
    float or None
        None where fewer than 100 edge pixels have a gradient of 16 times that of the noise, or where they are
        no steps (lines thinner than the blur, say).

    References
    ----------
    .. [1] S. Zhuo, T. Sim, Defocus map estimation from a single image, Pattern Recognit. 44 (2011) 1852,
       DOI 10.1016/j.patcog.2011.03.009

    Examples
    --------
    >>> step = np.zeros((120, 120)); step[:, 60:] = 30000
    >>> round(estimate_blur(gaussian_filter(step, 1.5)), 1)
    1.5
    >>> estimate_blur(np.zeros((120, 120))) is None
    True
    """
    far_y, far_x = _gradient(values, _FAR_PX)
    far = np.hypot(far_y, far_x)
    noise = _slice_noise_std(values, inside) / (_FAR_PX**2 * math.sqrt(8 * math.pi))
    edge = (far > max(_LEAST_CONTRAST * noise, 1e-9 * float(far.max()))) & _is_ridge(far, far_y, far_x)
    edge &= _well_inside(inside) if inside is not None else True
    edge &= _unclipped(values) if values.dtype.kind != "f" else True
    if np.count_nonzero(edge) < _FEWEST:
        return None
    edge &= far >= np.median(far[edge])
    direction = np.stack([far_y[edge], far_x[edge]]) / far[edge]
    place = _steepest(far, np.argwhere(edge).T.astype(np.float64), direction)
    # along the edge's direction rather than as a magnitude, in which noise would not average out
    near = sum(_at(g, place) * d for g, d in zip(_gradient(values, _NEAR_PX), direction, strict=True))
    squared = float(np.median(near / _at(far, place))) ** 2
    variance = (_FAR_PX**2 - squared * _NEAR_PX**2) / (squared - 1) if squared > 1 else 0.0
    return math.sqrt(variance) if variance > 0 else None


def lacking_std(wanted: float, there: float) -> float:
    """Return the std of the noise that brings noise of std `there` to `wanted`; 0 where there is as much.

    Examples
    --------
    >>> lacking_std(5.0, 4.0), lacking_std(1.0, 4.0)
    (3.0, 0.0)
    """
    return math.sqrt(max(0.0, wanted**2 - there**2))


def _slice_noise_std(values: Slice, inside: Bool[np.ndarray, "y x"] | None) -> float:
    grey = values.astype(np.float64)
    residual = np.diff(np.diff(grey, 2, axis=0), 2, axis=1) / 6
    smooth = gaussian_filter(grey, _SMOOTH_PX)
    change = np.hypot(*np.gradient(smooth))
    usable = _usable(values, inside)
    inner = (slice(1, -1), slice(1, -1))
    residual, smooth, change, usable = residual, smooth[inner], change[inner], usable[inner]
    if not usable.any():
        return 0.0
    flat = usable & (change <= np.quantile(change[usable], _FLATTEST))
    noise = _robust_std(residual[flat])
    free = flat & _far_from_ends(smooth, 3 * noise, values.dtype)
    if np.count_nonzero(free) >= _FEWEST:
        noise = _robust_std(residual[free])
    rounding = 1 / 12 if values.dtype.kind in "iu" else 0.0
    return math.sqrt(max(0.0, noise**2 - rounding))


def _usable(values: Slice, inside: Bool[np.ndarray, "y x"] | None) -> Bool[np.ndarray, "y x"]:
    """Return the pixels that can show noise: inside, not clipped, not in a picture's constant rim."""
    usable = _unclipped(values)
    if inside is not None:
        usable &= _well_inside(inside)
    if not _has_constant_square(values, _CONSTANT_PX // 2 + 1):  # a corner's square is continued by reflection
        return usable
    constant = maximum_filter(values, _CONSTANT_PX) == minimum_filter(values, _CONSTANT_PX)
    if np.count_nonzero(usable & constant) < _FLATTEST * np.count_nonzero(usable):
        usable &= ~constant  # a rim; were it more, the picture itself would be constant and free of noise
    return usable


def _has_constant_square(values: Slice, edge: int) -> bool:
    """Return whether a square of `edge` pixels may be constant: whether there are as many 2 x 2 as it consists of."""
    along = values[:, 1:] == values[:, :-1]
    cells = along[1:] & along[:-1] & (values[1:, 1:] == values[:-1, 1:])
    return bool(np.count_nonzero(cells) >= (edge - 1) ** 2)


def _robust_std(residual: Float[np.ndarray, " n"]) -> float:
    """Return the standard deviation of the Gaussian core, from the values within three of it."""
    size = np.abs(residual)
    std = float(np.median(size)) / 0.6745 or float(np.sqrt(np.mean(size**2)))
    for _ in range(10):
        core = size[size <= 3 * std]
        before, std = std, math.sqrt(float(np.mean(core**2)) / 0.97334)  # variance of a unit Gaussian cut at 3
        if std == before:
            break
    return std


def _unclipped(values: Slice) -> Bool[np.ndarray, "y x"]:
    """Return where less than a tenth of the 7 x 7 neighbours lie at the type's (floats: data's) ends."""
    low, high = type_ends(values.dtype) or (values.min(), values.max())
    clipped = (values == low) | (values == high)
    return np.asarray(uniform_filter(clipped.astype(np.float32), 7) < 0.1) if clipped.any() else ~clipped


def _far_from_ends(smooth: Slice, distance: float, dtype: np.dtype[Any]) -> Bool[np.ndarray, "y x"]:
    ends = type_ends(dtype)
    if ends is None:
        return np.ones(smooth.shape, np.bool_)
    return np.asarray((smooth - distance >= ends[0]) & (smooth + distance <= ends[1]))


def _well_inside(inside: Bool[np.ndarray, "y x"]) -> Bool[np.ndarray, "y x"]:
    """Return the pixels 8 or more from the mask's edge, which is no edge of the sample."""
    return inside if inside.all() else np.asarray(uniform_filter(inside.astype(np.float32), 15) > 0.999)


def _gradient(values: Slice, scale: float) -> tuple[Slice, Slice]:
    grey = values.astype(np.float64)
    return gaussian_filter(grey, scale, order=(1, 0)), gaussian_filter(grey, scale, order=(0, 1))


def _steepest(
    size: Slice, place: Float[np.ndarray, "2 n"], direction: Float[np.ndarray, "2 n"]
) -> Float[np.ndarray, "2 n"]:
    """Return `place` moved along `direction` to the top of a Gaussian profile through three points."""
    tiny = np.finfo(np.float64).tiny
    behind, here, ahead = (np.log(np.maximum(_at(size, place + i * direction), tiny)) for i in (-1, 0, 1))
    bend = np.minimum(behind - 2 * here + ahead, -1e-9)
    step = np.clip((behind - ahead) / (2 * bend), -1, 1)
    return np.asarray(place + step * direction)


def _at(values: Slice, place: Float[np.ndarray, "2 n"]) -> Float[np.ndarray, " n"]:
    return np.asarray(map_coordinates(values, place, order=3))


def _is_ridge(size: Slice, along_y: Slice, along_x: Slice) -> Bool[np.ndarray, "y x"]:
    """Return where the gradient is larger than one pixel further up and down the slope."""
    length = np.where(size > 0, size, 1)
    step = np.stack([along_y, along_x]) / length
    place = np.indices(size.shape, dtype=np.float64)
    ahead, behind = (map_coordinates(size, place + sign * step, order=1) for sign in (1, -1))
    ridge = (size > ahead) & (size >= behind)
    ridge[[0, -1]] = ridge[:, [0, -1]] = False
    return np.asarray(ridge)
