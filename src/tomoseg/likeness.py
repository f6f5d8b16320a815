"""How alike a scan and a model's training data are: grey values, noise, blur and confidence, slice by slice."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float64, Int64, Shaped
from scipy.ndimage import gaussian_filter1d

from tomoseg.blocks import BINS, GreyStatistics, grey_statistics
from tomoseg.labels import UNLABELLED
from tomoseg.model_file import Calibration, Model, trained_noise
from tomoseg.noise_level import estimate_blur, lacking_std
from tomoseg.window import Window

Light = Literal["green", "amber", "red"]
Kind = Literal["grey values", "noise", "blur", "confidence"]
LIGHTS: tuple[Light, ...] = ("green", "amber", "red")

MOST_MOVED = (0.25, 0.4)
"""Share of a slice's grey values in other bins than the training tiles': amber and red above it.

For a slice smaller than a tile it grows as chance does, with one over the square root of the area.
"""

NOISIER = (1.1, 1.5)
"""Noise over the most that the model was trained with: amber and red above it; amber below half the training scan's."""

BLUR_RATIO = (1.4, 2.0)
"""Blur over the training scan's, or the other way round: amber and red above it."""

MORE_DOUBT = (2.0, 4.0)
"""Mean doubt (one minus the confidence) over that on validation data of as much noise: amber and red above it."""

_LEAST_DOUBT = 0.01
_MOSTLY = 0.5
_SHARE_THAT_DECIDES = 0.25
_BINS_A_WINDOW = BINS / 2


@dataclass(frozen=True)
class Look:
    """What a slice looks like to a model.

    Attributes
    ----------
    grey
        Histogram and noise, in units of the model's window.
    blur_px
        Std in pixels of the sharpest edges' blur; None where it can't be told.
    confidence
        Mean probability of the predicted class.
    pixels
        Those that count.
    """

    grey: GreyStatistics
    blur_px: float | None
    confidence: float
    pixels: int


@dataclass(frozen=True)
class Finding:
    """One way in which a slice is unlike the training data, and how bad that is."""

    light: Light
    kind: Kind
    text: str


@dataclass(frozen=True)
class Expected:
    """What a model's training data look like, from the labelled tiles that it carries and from its validation.

    Attributes
    ----------
    histogram
        Counts of grey values of all tiles, as of `GreyStatistics`.
    noise
        Std of the training scan's own noise in window widths; 0 where it can't be told.
    most_noise
        Most noise in training, the scan's own included.
    blur_px
        As of a `Look`; None where it was not asked for.
    tile_pixels
        Pixels of a tile that count, on average.
    calibration
        Confidence and accuracy on validation data at several levels of added noise.
    """

    histogram: Int64[np.ndarray, " bin"]
    noise: float
    most_noise: float
    blur_px: float | None
    tile_pixels: float
    calibration: Calibration | None

    def shares(self, noise: float | None) -> Float64[np.ndarray, " bin"]:
        """Return the histogram, its sum 1, as it would be with as much noise."""
        return _shares(with_noise(self.histogram, self._added(noise)))

    def moved(self, grey: GreyStatistics) -> float:
        """Return the share of a slice's grey values that lie in other bins than they should."""
        return 0.5 * float(np.abs(_shares(grey.histogram) - self.shares(grey.noise)).sum())

    def confidence(self, noise: float | None) -> float | None:
        """Return the mean confidence on validation data with as much noise; None where the model does not know."""
        known = self.calibration
        return float(np.interp(self._added(noise), known.noise_std, known.confidence)) if known else None

    def accuracy(self, noise: float | None) -> float | None:
        """Return the accuracy on validation data with as much noise; None where the model does not know."""
        known = self.calibration
        return float(np.interp(self._added(noise), known.noise_std, known.accuracy)) if known else None

    def _added(self, noise: float | None) -> float:
        return lacking_std(noise or 0.0, self.noise)


def expect(model: Model, *, blur: bool = False) -> Expected | None:
    """Return what the training data of a model look like; None for one without tiles. Blur takes its time."""
    if model.samples is None:
        return None
    known = model.samples.labels != UNLABELLED
    # of strokes too little is labelled to tell anything, and more of the rare phases than there is
    shown = known if known.mean() >= _MOSTLY else np.ones_like(known)
    tiles = list(zip(model.samples.images, shown, strict=True))
    grey = [grey_statistics(image, window=model.record.window, inside=inside) for image, inside in tiles]
    noise = float(np.median([one.noise for one in grey if one.noise is not None] or [0.0]))
    blurs = [estimate_blur(image, inside=inside) for image, inside in tiles] if blur else []
    told = [found for found in blurs if found is not None]
    return Expected(
        histogram=np.sum([one.histogram for one in grey], axis=0),
        noise=noise,
        most_noise=math.hypot(noise, trained_noise(model.record)),
        blur_px=float(np.median(told)) if told else None,
        tile_pixels=np.count_nonzero(shown) / len(shown),
        calibration=model.record.calibration,
    )


def with_noise(counts: Int64[np.ndarray, " bin"], std: float) -> Float64[np.ndarray, " bin"]:
    """Return a histogram of `BINS` bins as it would be with noise of `std` window widths; its ends take what leaves it.

    Examples
    --------
    >>> with_noise(np.eye(1, BINS, 32, dtype=np.int64)[0], 1 / 32)[30:35].round(2)
    array([0.05, 0.24, 0.4 , 0.24, 0.05])
    """
    spread = std * _BINS_A_WINDOW
    rim = math.ceil(4 * spread) + 1
    wide = gaussian_filter1d(np.pad(counts.astype(np.float64), rim), spread) if spread else np.pad(counts, rim) * 1.0
    found: Float64[np.ndarray, " bin"] = wide[rim:-rim].copy()
    found[0] += wide[:rim].sum()
    found[-1] += wide[-rim:].sum()
    return found


def look(
    values: Shaped[np.ndarray, "y x"], *, window: Window, inside: Bool[np.ndarray, "y x"], confidence: float
) -> Look:
    """Measure what a slice looks like to a model."""
    grey = grey_statistics(values, window=window, inside=inside)
    return Look(grey, estimate_blur(values, inside=inside), confidence, int(np.count_nonzero(inside)))


def unlike_grey(grey: GreyStatistics, expected: Expected, *, pixels: int) -> list[Finding]:
    """Return in which ways a slice's grey values and noise are unlike the training data's.

    The histogram is compared with the training data's at as much noise: noise that training has seen does no harm.
    """
    found: list[Finding] = []
    if grey.histogram.any():
        moved = expected.moved(grey)
        chance = max(1.0, math.sqrt(expected.tile_pixels / max(1, pixels)))
        found += _found(moved / chance, MOST_MOVED, "grey values",
                        f"{100 * moved:.0f} % of its grey values lie elsewhere than the training slices'")  # fmt: skip
    if expected.noise and grey.noise is not None:
        times = f"its noise is {grey.noise / expected.noise:.1f} times the training slices'"
        found += _found(grey.noise / expected.most_noise, NOISIER, "noise", times)
        if grey.noise < expected.noise / 2:
            found.append(Finding("amber", "noise", times))
    return found


def unlike(seen: Look, expected: Expected) -> list[Finding]:
    """Return in which ways a slice is unlike the training data, none if it is like them."""
    found = unlike_grey(seen.grey, expected, pixels=seen.pixels)
    if seen.blur_px and expected.blur_px:
        ratio = seen.blur_px / expected.blur_px
        text = f"its edges are blurred over {seen.blur_px:.1f} pixels, the training slices' over {expected.blur_px:.1f}"
        found += _found(max(ratio, 1 / ratio), BLUR_RATIO, "blur", text)
    usual = expected.confidence(seen.grey.noise)
    if usual is not None:
        doubt = (1 - seen.confidence) / max(_LEAST_DOUBT, 1 - usual)
        text = (
            f"the network's mean confidence is {seen.confidence:.3f}, {usual:.3f} on validation data of as much noise"
        )
        found += _found(doubt, MORE_DOUBT, "confidence", text)
    return found


def expected_accuracy(seen: Look, expected: Expected) -> float | None:
    """Return the accuracy to expect on a slice: validation's at its noise, less the difference of the confidences.

    D. Guillory et al., Predicting with confidence on unseen distributions, ICCV 2021, DOI
    10.1109/ICCV48922.2021.00117. A network can be sure and wrong, so that this is no bound.
    """
    accuracy, confidence = expected.accuracy(seen.grey.noise), expected.confidence(seen.grey.noise)
    if accuracy is None or confidence is None:
        return None
    return min(1.0, max(0.0, accuracy - (confidence - seen.confidence)))


def worst(lights: Sequence[Light]) -> Light:
    """Return the worst of some lights; green for none.

    Examples
    --------
    >>> worst(["green", "red", "amber"]), worst([])
    ('red', 'green')
    """
    return max(lights, key=LIGHTS.index, default="green")


def of_scan(lights: Sequence[Light]) -> Light:
    """Return the light of a scan from its slices': as bad as the worst quarter of them; amber at least for a red one.

    Examples
    --------
    >>> of_scan(["green"] * 7 + ["red"]), of_scan(["green"] * 7 + ["amber"]), of_scan(["red", "green"])
    ('amber', 'green', 'red')
    """
    ranked = sorted(lights, key=LIGHTS.index, reverse=True)
    if not ranked:
        return "green"
    decides = ranked[max(0, math.ceil(_SHARE_THAT_DECIDES * len(ranked)) - 1)]
    return worst([decides, "amber"]) if ranked[0] == "red" else decides


def _found(value: float, limits: tuple[float, float], kind: Kind, text: str) -> list[Finding]:
    return [Finding("red" if value > limits[1] else "amber", kind, text)] if value > limits[0] else []


def _shares(counts: Shaped[np.ndarray, " bin"]) -> Float64[np.ndarray, " bin"]:
    return np.asarray(counts / max(1, counts.sum()), np.float64)
