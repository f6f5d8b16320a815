"""Drift: an offset or a gain that changes slowly across a slice or a stack."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32, Float64, Shaped

from tomoseg.degrade.level import check_level
from tomoseg.errors import SettingError
from tomoseg.window import Window


def add_drift(
    grey: Shaped[np.ndarray, "*shape"],
    percent: float,
    *,
    window: Window,
    direction: Sequence[float],
    gain_share: float = 0.0,
) -> Float32[np.ndarray, "*shape"]:
    r"""Add a ramp of `percent` of the window's width from one end of the array to the other.

    With :math:`P` the level, :math:`\gamma` the gain's share, :math:`w` the window's width and :math:`l` its low end,

    .. math:: g' = g + \frac{P}{100} \, s \, \left[ (1 - \gamma) \, w + \gamma \, (g - l) \right],

    where :math:`s` rises linearly along `direction` from -1/2 to +1/2 between the outermost voxels. An offset
    (:math:`\gamma = 0`) is the same for all grey values and leaves the mean as it was; a gain (:math:`\gamma = 1`) has
    the full size at the window's high end and none at its low end.

    Parameters
    ----------
    grey
        Grey values of any shape.
    percent
        Peak-to-peak change in per cent of the window's width, 0 or more; 0 returns the values as they are.
    window
        What the per cent are of.
    direction
        Direction of the rise, one component an axis: (1, 0, 0) is along z of a stack (z, y, x). Its length does not
        count.
    gain_share
        How much of the drift is a gain, 0 to 1; the rest is an offset.

    Raises
    ------
    SettingError
        If `percent` or `gain_share` is outside its range, or `direction` has another number of axes than the array or
        no extent in it.

    Examples
    --------
    >>> window = Window(low=0.0, high=200.0)
    >>> add_drift(np.full((3, 2), 100.0), 10.0, window=window, direction=(1, 0))[:, 0]
    array([ 90., 100., 110.], dtype=float32)
    >>> add_drift(np.full((3, 2), 100.0), 10.0, window=window, direction=(1, 0), gain_share=1.0)[:, 0]
    array([ 95., 100., 105.], dtype=float32)
    """
    check_level(percent, "a drift of {:g} % of the window")
    check_level(gain_share, "a gain's share of {:g}", most=1)
    steady = grey.astype(np.float32)
    if percent == 0:
        return steady
    full_size = (1 - gain_share) * window.width + gain_share * (steady - window.low)
    return np.asarray(steady + percent / 100 * _ramp(grey.shape, direction) * full_size, np.float32)


def _ramp(shape: tuple[int, ...], direction: Sequence[float]) -> Float64[np.ndarray, " *shape"]:
    """Return a plane that rises along `direction`, from -1/2 to +1/2 between its lowest and its highest voxel."""
    if len(direction) != len(shape):
        raise SettingError(f"direction {tuple(direction)} has {len(direction)} axes; the array has {len(shape)}")
    extent = sum(abs(part) * (size - 1) for part, size in zip(direction, shape, strict=True))
    if not 0 < extent < np.inf:
        raise SettingError(f"direction {tuple(direction)} has no extent in an array of shape {shape}")
    places = [part * (np.arange(size) - (size - 1) / 2) for part, size in zip(direction, shape, strict=True)]
    plane = np.zeros(shape)
    for axis, place in enumerate(places):
        plane += place.reshape([-1 if a == axis else 1 for a in range(len(shape))])
    return plane / extent
