"""What stands beside every score: the commonest class, multi-Otsu after a blur, the forest, the nearest label."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32, Int64, UInt8
from scipy import ndimage
from skimage.filters import threshold_multiotsu

from tomoseg.forest import Forest
from tomoseg.labels import UNLABELLED
from tomoseg.metrics import accuracy, confusion

Image = Float32[np.ndarray, "y x"]
Index = UInt8[np.ndarray, "y x"]

OTSU_SIGMAS = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0)
FOREST_PIXELS = 100_000
_MOST_OTSU_CLASSES = 5
_OTSU_BINS = 64


@dataclass(frozen=True)
class Sample:
    """A labelled part of a training slice: the image in units of the window, and its class indices."""

    image: Image
    label: Index


@runtime_checkable
class Baseline(Protocol):
    """A way to segment a slice that needs no network."""

    def predict(self, image: Image) -> Index:
        """Return class indices (y, x) of a slice in units of the window."""
        ...


@dataclass(frozen=True)
class Majority:
    """The commonest class everywhere."""

    commonest: int

    def predict(self, image: Image) -> Index:
        """Return the commonest class at every pixel."""
        return np.full(image.shape, self.commonest, np.uint8)


@dataclass(frozen=True)
class Otsu:
    """Thresholds on the blurred slice. N. Otsu, 1979, DOI 10.1109/TSMC.1979.4310076; P.-S. Liao et al., 2001.

    Attributes
    ----------
    sigma
        Width of the Gaussian blur in pixels.
    thresholds
        In units of the window, rising.
    classes
        Class of each level between them.
    """

    sigma: float
    thresholds: Float32[np.ndarray, " threshold"]
    classes: UInt8[np.ndarray, " level"]

    def predict(self, image: Image) -> Index:
        """Return the class of the level that each blurred pixel lies in."""
        return np.asarray(self.classes[np.digitize(_blurred(image, self.sigma), self.thresholds)])


@dataclass(frozen=True)
class TrainedForest:
    """The forest, on a stated number of threads."""

    forest: Forest
    threads: int

    def predict(self, image: Image) -> Index:
        """Return the forest's classes."""
        return self.forest.predict(image, threads=self.threads)


def fit_majority(samples: Sequence[Sample]) -> Majority:
    """Return the commonest class of the samples.

    Examples
    --------
    >>> fit_majority([Sample(np.zeros((1, 4), np.float32), np.array([[2, 2, 0, 255]], np.uint8))]).commonest
    2
    """
    return Majority(int(_counts(samples).argmax()))


def fit_otsu(samples: Sequence[Sample], n_classes: int) -> Otsu:
    """Return multi-Otsu with the blur of `OTSU_SIGMAS` that scores best on the samples.

    Each level stands for the class that is commonest in it. Beyond five classes the search for thresholds takes
    too long: five levels are used.

    Examples
    --------
    >>> image = np.repeat(np.array([[0.0, 1.0]], np.float32), 8, axis=1)
    >>> fit_otsu([Sample(image, (image > 0.5).astype(np.uint8))], 2).predict(image)[0, [0, -1]]
    array([0, 1], dtype=uint8)
    """
    candidates = [_otsu_at(sigma, samples, n_classes) for sigma in OTSU_SIGMAS]
    return max(candidates, key=lambda otsu: _accuracy_on(otsu, samples, n_classes))


def _otsu_at(sigma: float, samples: Sequence[Sample], n_classes: int) -> Otsu:
    images = [_blurred(sample.image, sigma) for sample in samples]
    pooled = np.concatenate([image[sample.label != UNLABELLED] for image, sample in zip(images, samples, strict=True)])
    counts, edges = np.histogram(pooled, bins=_OTSU_BINS)
    levels = min(n_classes, _MOST_OTSU_CLASSES, int((counts > 0).sum()))
    centres = (edges[1:] + edges[:-1]) / 2
    found = threshold_multiotsu(classes=levels, hist=(counts, centres))  # type: ignore[no-untyped-call]
    thresholds = np.asarray(found, np.float32)
    table = np.zeros((levels, n_classes), np.int64)
    for image, sample in zip(images, samples, strict=True):
        known = sample.label != UNLABELLED
        np.add.at(table, (np.digitize(image[known], thresholds), sample.label[known]), 1)
    return Otsu(sigma, thresholds, table.argmax(axis=1).astype(np.uint8))


def fit_forest(samples: Sequence[Sample], *, rng: np.random.Generator, threads: int = -1) -> TrainedForest:
    """Return the forest, trained on 100,000 labelled pixels, spread evenly over the samples."""
    pairs = [(sample.image, sample.label) for sample in samples]
    pixels = max(1, FOREST_PIXELS // len(pairs))
    return TrainedForest(Forest.fit(pairs, rng=rng, pixels_per_slice=pixels, threads=threads), threads)


def _blurred(image: Image, sigma: float) -> Image:
    return np.asarray(ndimage.gaussian_filter(image, sigma), np.float32) if sigma else image


def _counts(samples: Sequence[Sample]) -> Int64[np.ndarray, " class"]:
    counts = [np.bincount(sample.label.ravel(), minlength=256)[:UNLABELLED] for sample in samples]
    return np.asarray(np.sum(counts, axis=0))


def _accuracy_on(baseline: Baseline, samples: Sequence[Sample], n_classes: int) -> float:
    counts = [confusion(s.label, baseline.predict(s.image), n_classes) for s in samples]
    return accuracy(np.sum(counts, axis=0))


def nearest(number: int, others: Sequence[int]) -> int:
    """Return which of `others` is nearest to `number`; of two as near, the smaller.

    Examples
    --------
    >>> nearest(5, [1, 3, 7])
    3
    """
    return min(others, key=lambda other: (abs(other - number), other))
