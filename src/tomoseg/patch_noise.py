"""What noise and artefacts a training patch gets."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32, Shaped

from tomoseg.degrade import GreyScale, Kind, add_gaussian_noise

Patch = Shaped[np.ndarray, "channel y x"]
NoisyPatch = Float32[np.ndarray, "channel y x"]
Plane = Float32[np.ndarray, "y x"]

_STRONGEST = 3.0


@runtime_checkable
class PatchNoise(Protocol):
    """What noise a patch gets."""

    def on(self, image: Patch, place: tuple[int, int, int], rng: np.random.Generator) -> NoisyPatch:
        """Return the grey values (channel, y, x) of a patch with noise; `place` is its slice and first pixel."""
        ...


@dataclass(frozen=True)
class FreshNoise:
    """Gaussian noise, drawn afresh at every draw of a patch, its std from `low` to `high` grey values.

    The std is `low` + (`high` - `low`) u^`power`, u even from 0 to 1.
    """

    low: float
    high: float
    power: float = 1.0

    def on(self, image: Patch, place: tuple[int, int, int], rng: np.random.Generator) -> NoisyPatch:
        """Return the patch with noise."""
        std = self.low + (self.high - self.low) * rng.random() ** self.power
        return add_gaussian_noise(image, std, rng=rng)


@dataclass(frozen=True)
class SomeNoisy:
    """Gaussian noise on some of the fixed crops, none on the others, as in the poster.

    Attributes
    ----------
    low, high
        Range of its std in grey values, from which one is drawn evenly for a patch; equal for one std.
    noisy
        The crops with noise: slice, y, x of their first pixels.
    once
        Seed of noise that a crop keeps for good; None draws it afresh.
    """

    low: float
    high: float
    noisy: frozenset[tuple[int, int, int]]
    once: int | None = None

    def on(self, image: Patch, place: tuple[int, int, int], rng: np.random.Generator) -> NoisyPatch:
        """Return the patch, with noise if it is one of those that have any."""
        if self.once is not None:
            rng = np.random.default_rng([self.once, *place])
        std = rng.uniform(self.low, self.high) if place in self.noisy else 0.0
        return add_gaussian_noise(image, std, rng=rng)


@dataclass(frozen=True)
class SomeArtefacts:
    """An artefact on some of the patches, then the noise that all get.

    A patch is degraded as if it were a whole slice, which takes the time of a patch. What depends on the sample is
    computed for its middle slice and added to its context as well, for that looks the same there. Of noise and rings,
    which are different in each slice, two draws are made and mixed differently for each, for five would take too long.

    Attributes
    ----------
    share
        Of the patches that get one.
    kinds
        Among which one is drawn.
    scale
        What the scan's grey values mean.
    noise
        What all patches get afterwards.
    """

    share: float
    kinds: Sequence[Kind]
    scale: GreyScale
    noise: PatchNoise

    def on(self, image: Patch, place: tuple[int, int, int], rng: np.random.Generator) -> NoisyPatch:
        """Return the patch with an artefact, if it gets one, and noise."""
        if rng.random() < self.share:
            kind = self.kinds[int(rng.integers(len(self.kinds)))]
            level = strength_between(kind, rng.uniform(0, _STRONGEST))
            image = self._degraded(image, kind=kind, level=level, rng=rng)
        return self.noise.on(image, place, rng)

    def _degraded(self, image: Patch, *, kind: Kind, level: float, rng: np.random.Generator) -> NoisyPatch:
        def changed(plane: Plane) -> Plane:
            return kind.apply(plane, level, scale=self.scale, rng=rng)

        planes = image.astype(np.float32)
        if kind.in_context == "own":
            return np.stack([changed(plane) for plane in planes])
        middle = planes[len(planes) // 2]
        if kind.in_context == "alike":
            return np.asarray(planes + (changed(middle) - middle), np.float32)
        draws = [changed(middle) - middle for _ in range(2)]
        angles = rng.uniform(0, 2 * math.pi, len(planes))  # cos^2 + sin^2 = 1 keeps the std
        shares = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
        return np.asarray(planes + np.tensordot(shares, draws, axes=1), np.float32)


def strength_between(kind: Kind, index: float) -> float:
    """Return a level between the kind's five strengths, `index` from 0 (mildest) to 4, on a logarithmic scale.

    Examples
    --------
    >>> from tomoseg.degrade import find_kind
    >>> [round(strength_between(find_kind("gaussian"), index)) for index in (2.0, 2.5, 4.0)]
    [5000, 7071, 20000]
    """
    low = min(int(index), len(kind.levels) - 2)
    share = index - low
    return math.exp((1 - share) * math.log(kind.levels[low]) + share * math.log(kind.levels[low + 1]))
