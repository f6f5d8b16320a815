"""Noise and artefacts as pure functions of a physical level.

Grey values in, float grey values out, neither clipped nor rounded; each effect has a level that is exactly the
identity. One file per effect; `KINDS` has them all by name, with one signature.
"""

from tomoseg.degrade.attenuation import ATTENUATION
from tomoseg.degrade.autocorrelation import MeasuredNoise, flat_regions, measure_autocorrelation, measure_noise
from tomoseg.degrade.beam_hardening import add_beam_hardening
from tomoseg.degrade.blur import add_blur
from tomoseg.degrade.correlated import Autocorrelation, add_correlated_noise, gaussian_autocorrelation
from tomoseg.degrade.drift import add_drift
from tomoseg.degrade.gaussian import FULL_SCALE, add_gaussian_noise, full_range, noise_std_grey, noise_std_units
from tomoseg.degrade.kinds import KINDS, Apply, GreyScale, Kind, correlated_kind, find_kind
from tomoseg.degrade.poisson import add_photon_noise
from tomoseg.degrade.rings import add_rings
from tomoseg.degrade.streaks import add_streaks

__all__ = [
    "ATTENUATION",
    "FULL_SCALE",
    "KINDS",
    "Apply",
    "Autocorrelation",
    "GreyScale",
    "Kind",
    "MeasuredNoise",
    "add_beam_hardening",
    "add_blur",
    "add_correlated_noise",
    "add_drift",
    "add_gaussian_noise",
    "add_photon_noise",
    "add_rings",
    "add_streaks",
    "correlated_kind",
    "find_kind",
    "flat_regions",
    "full_range",
    "gaussian_autocorrelation",
    "measure_autocorrelation",
    "measure_noise",
    "noise_std_grey",
    "noise_std_units",
]
