"""The grey-value window: one affine map, fitted on the training slices and kept in the model."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from jaxtyping import Float32, Shaped
from pydantic import BaseModel, ConfigDict, Field, model_validator

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

    low: float = Field(description="grey value that becomes 0", allow_inf_nan=False)
    high: float = Field(description="grey value that becomes 1", allow_inf_nan=False)

    @model_validator(mode="after")
    def _check_order(self) -> Window:
        if not self.low < self.high:
            raise ValueError(f"the window goes from {self.low:g} to {self.high:g}; low must be below high")
        return self

    @property
    def width(self) -> float:
        """Width in grey values."""
        return self.high - self.low

    def apply(self, grey: Shaped[np.ndarray, ...]) -> Float32[np.ndarray, ...]:
        """Return `grey` in units of the window, float32, same shape."""
        values = grey.astype(np.float32)
        values -= np.float32(self.low)
        values /= np.float32(self.width)
        return values


def fit_window(samples: Iterable[Shaped[np.ndarray, " ..."]]) -> Window:
    """Fit the window to grey values of training slices: from their 0.5th to their 99.5th percentile.

    Parameters
    ----------
    samples
        Grey values of the labelled pixels, one array a slice.

    Raises
    ------
    VolumeError
        If all values are equal, or there are none: there is nothing to see.

    Examples
    --------
    >>> fit_window([np.arange(201, dtype=np.uint16)])
    Window(low=1.0, high=199.0)
    """
    pooled = np.concatenate([np.empty(0), *(np.asarray(sample, np.float64).ravel() for sample in samples)])
    if not pooled.size:
        raise VolumeError("no grey value is labelled, so that there is no window to fit; look at the labels")
    low, high = np.percentile(pooled, [LOW_PERCENTILE, HIGH_PERCENTILE])
    if low == high:
        low, high = pooled.min(), pooled.max()
    if low == high:
        raise VolumeError(f"the labelled slices hold one grey value only ({low:g}); is this the tomogram?")
    return Window(low=float(low), high=float(high))
