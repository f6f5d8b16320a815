"""The grey-value window: one affine map, fitted on the training slices and kept in the model."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from jaxtyping import Float32, Shaped
from pydantic import BaseModel, ConfigDict, Field

from tomoseg.errors import VolumeError

LOW_PERCENTILE, HIGH_PERCENTILE = 0.5, 99.5


class Window(BaseModel):
    """Grey values `low` and `high` become 0 and 1; nothing is clipped.

    Examples
    --------
    >>> Window(low=100.0, high=300.0).apply(np.array([100, 200, 400], np.uint16))
    array([0. , 0.5, 1.5], dtype=float32)
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    low: float = Field(description="grey value that becomes 0")
    high: float = Field(description="grey value that becomes 1")

    @property
    def width(self) -> float:
        """Width in grey values."""
        return self.high - self.low

    def apply(self, grey: Shaped[np.ndarray, ...]) -> Float32[np.ndarray, ...]:
        """Return `grey` in units of the window, float32, same shape."""
        return (grey.astype(np.float32) - np.float32(self.low)) / np.float32(self.width)


def fit_window(samples: Iterable[Shaped[np.ndarray, " pixel"]]) -> Window:
    """Fit the window to grey values of training slices: from their 0.5th to their 99.5th percentile.

    Parameters
    ----------
    samples
        Grey values of the labelled pixels, one array a slice.

    Raises
    ------
    VolumeError
        If all values are equal: there is nothing to see.
    """
    pooled = np.concatenate([np.asarray(sample, np.float64).ravel() for sample in samples])
    low, high = np.percentile(pooled, [LOW_PERCENTILE, HIGH_PERCENTILE])
    if low == high:
        low, high = pooled.min(), pooled.max()
    if low == high:
        raise VolumeError(f"the labelled slices hold one grey value only ({low:g}); is this the tomogram?")
    return Window(low=float(low), high=float(high))
