"""All degradations by name, with one signature."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32

from tomoseg.degrade.beam_hardening import add_beam_hardening
from tomoseg.degrade.blur import add_blur
from tomoseg.degrade.correlated import Autocorrelation, add_correlated_noise, gaussian_autocorrelation
from tomoseg.degrade.drift import add_drift
from tomoseg.degrade.gaussian import add_gaussian_noise, noise_std_grey
from tomoseg.degrade.poisson import add_photon_noise
from tomoseg.degrade.rings import add_rings
from tomoseg.degrade.streaks import add_streaks
from tomoseg.errors import SettingError
from tomoseg.window import Window

Slice = Float32[np.ndarray, "y x"]

_NOISE_UNIT = "1/65535 of full range"
_NOISE_LEVELS = (1250.0, 2500.0, 5000.0, 10000.0, 20000.0)


@dataclass(frozen=True)
class GreyScale:
    """What a scan's grey values mean: the type that they were stored in, and the window."""

    dtype: np.dtype[Any]
    window: Window


@runtime_checkable
class Apply(Protocol):
    """A degradation of one slice: grey values in, grey values out, the input left as it was."""

    def __call__(self, grey: Slice, level: float, *, scale: GreyScale, rng: np.random.Generator) -> Slice:
        """Return the slice `grey` (y, x) degraded by `level`; slices get draws of their own from `rng`."""


@dataclass(frozen=True)
class Kind:
    """A degradation that a study can ask for by name.

    Attributes
    ----------
    name
        In plain words.
    unit
        Of the level.
    identity
        The level that changes nothing.
    levels
        Five strengths, from mild to severe.
    apply
        The degradation.
    in_context
        How neighbouring slices change: "alike" (what one slice's change is, its neighbours' is as well), "drawn" (each
        has a draw of its own, whatever the sample: noise and rings), or "own" (each by what it shows: blur).

    Examples
    --------
    >>> scale = GreyScale(np.dtype(np.uint16), Window(low=20_000, high=40_000))
    >>> flat = np.full((64, 64), 30_000, np.float32)
    >>> noisy = find_kind("gaussian").apply(flat, 5000.0, scale=scale, rng=np.random.default_rng(0))
    >>> round(float(noisy.std()), -2)
    5000.0
    """

    name: str
    unit: str
    identity: float
    levels: tuple[float, float, float, float, float]
    apply: Apply
    in_context: Literal["alike", "drawn", "own"] = "alike"


def correlated_kind(autocorrelation: Autocorrelation) -> Kind:
    """Return the kind `correlated` with an autocorrelation that was measured, say, in place of the registered one's.

    Examples
    --------
    >>> correlated_kind(np.ones((1, 1))).name
    'correlated'
    """

    def apply(grey: Slice, level: float, *, scale: GreyScale, rng: np.random.Generator) -> Slice:
        std_grey = noise_std_grey(level, dtype=scale.dtype, window=scale.window)
        return add_correlated_noise(grey, std_grey, autocorrelation=autocorrelation, rng=rng)

    return Kind("correlated", _NOISE_UNIT, 0.0, _NOISE_LEVELS, apply, in_context="drawn")


def _gaussian(grey: Slice, level: float, *, scale: GreyScale, rng: np.random.Generator) -> Slice:
    return add_gaussian_noise(grey, noise_std_grey(level, dtype=scale.dtype, window=scale.window), rng=rng)


def _poisson(grey: Slice, level: float, *, scale: GreyScale, rng: np.random.Generator) -> Slice:
    return add_photon_noise(grey, level, window=scale.window, rng=rng)


def _blur(grey: Slice, level: float, *, scale: GreyScale, rng: np.random.Generator) -> Slice:
    return add_blur(grey, level)


def _rings(grey: Slice, level: float, *, scale: GreyScale, rng: np.random.Generator) -> Slice:
    return add_rings(grey, level, window=scale.window, rng=rng)


def _streaks(grey: Slice, level: float, *, scale: GreyScale, rng: np.random.Generator) -> Slice:
    return add_streaks(grey, level)


def _beam_hardening(grey: Slice, level: float, *, scale: GreyScale, rng: np.random.Generator) -> Slice:
    return add_beam_hardening(grey, level, window=scale.window)


def _drift(grey: Slice, level: float, *, scale: GreyScale, rng: np.random.Generator) -> Slice:
    turn = rng.uniform(0, 2 * math.pi)
    direction = (math.sin(turn), math.cos(turn))
    return add_drift(grey, level, window=scale.window, direction=direction, gain_share=1.0)


_ALL = (
    Kind("gaussian", _NOISE_UNIT, 0.0, _NOISE_LEVELS, _gaussian, in_context="drawn"),
    correlated_kind(gaussian_autocorrelation(1.0)),
    Kind("poisson", "photons per detector pixel", math.inf, (1e5, 2e4, 5e3, 1e3, 200.0), _poisson, in_context="drawn"),
    Kind("blur", "px", 0.0, (0.5, 1.0, 2.0, 3.0, 5.0), _blur, in_context="own"),
    Kind("rings", "% std of the gain", 0.0, (0.2, 0.5, 1.0, 2.0, 5.0), _rings, in_context="drawn"),
    Kind("streaks", "% of the projections left out", 0.0, (50.0, 75.0, 87.5, 94.0, 97.0), _streaks),
    Kind("beam-hardening", "% of the largest log attenuation", 0.0, (5.0, 10.0, 20.0, 30.0, 40.0), _beam_hardening),
    Kind("drift", "% of the window, peak to peak", 0.0, (5.0, 10.0, 20.0, 40.0, 80.0), _drift),
)

KINDS: dict[str, Kind] = {kind.name: kind for kind in _ALL}
"""All kinds by name. A detector pixel sees one slice (parallel beam), so noise and rings are drawn anew for each slice;
the drift is one of the gain, which rises in a direction drawn in the slice's plane: its size is that at the window's
high end."""


def find_kind(name: str) -> Kind:
    """Return the kind called `name`.

    Raises
    ------
    SettingError
        If there is none.

    Examples
    --------
    >>> find_kind("poisson").identity
    inf
    """
    if name not in KINDS:
        raise SettingError(f"there is no degradation {name!r}; there are {', '.join(KINDS)}")
    return KINDS[name]
