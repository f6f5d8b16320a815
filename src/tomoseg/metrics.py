"""Scores from one confusion matrix, and sums from which calibration is scored slice by slice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int64, UInt8
from scipy import ndimage

from tomoseg.labels import UNLABELLED

Confusion = Int64[np.ndarray, "truth predicted"]
Index = UInt8[np.ndarray, "y x"]

CALIBRATION_BINS = 15
_FINE_BINS = 3000
_SMALLEST_PROBABILITY = 1e-7


def confusion(label: UInt8[np.ndarray, "*shape"], prediction: UInt8[np.ndarray, "*shape"], n_classes: int) -> Confusion:
    """Count pixels by their label (row) and their prediction (column); unlabelled pixels count nowhere.

    Parameters
    ----------
    label
        Class indices, `UNLABELLED` where nobody labelled.
    prediction
        Class indices below `n_classes` wherever there is a label.
    n_classes
        Number of classes.

    Raises
    ------
    ValueError
        If a labelled pixel's prediction is no class.

    Examples
    --------
    >>> confusion(np.array([[0, 1, 1, 255]], np.uint8), np.array([[0, 1, 0, 9]], np.uint8), 2)
    array([[1, 0],
           [1, 1]])
    """
    known = label != UNLABELLED
    truth, found = label[known].astype(np.int64), prediction[known].astype(np.int64)
    if len(truth) and max(truth.max(), found.max()) >= n_classes:
        raise ValueError(f"class {max(truth.max(), found.max())} among {n_classes} classes")
    return np.bincount(truth * n_classes + found, minlength=n_classes**2).reshape(n_classes, n_classes)


def accuracy(counts: Confusion) -> float:
    """Return the share of pixels that are right; NaN where there are none.

    Examples
    --------
    >>> accuracy(np.array([[1, 0], [1, 2]]))
    0.75
    """
    return _ratio(int(np.trace(counts)), int(counts.sum()))


def mean_iou(counts: Confusion) -> float:
    """Return the mean intersection over union of the classes that are labelled or predicted; NaN without any.

    Examples
    --------
    >>> mean_iou(np.array([[1, 1], [0, 2]]))
    0.5833333333333333
    """
    union = counts.sum(0) + counts.sum(1) - np.diag(counts)
    there = union > 0
    return float(np.mean(np.diag(counts)[there] / union[there])) if there.any() else float("nan")


@dataclass(frozen=True)
class ClassScore:
    """Scores of one class; NaN where nothing is there to divide by.

    Attributes
    ----------
    iou
        Intersection over union: P. Jaccard, 1912, DOI 10.1111/j.1469-8137.1912.tb05611.x.
    dice
        L. R. Dice, 1945, DOI 10.2307/1932409.
    precision, recall
        Share of the predicted pixels that are right, and of the labelled pixels that are found.
    support
        Labelled pixels of the class.
    """

    iou: float
    dice: float
    precision: float
    recall: float
    support: int


def class_scores(counts: Confusion, names: Sequence[str]) -> dict[str, ClassScore]:
    """Return the scores of each class by its name.

    Examples
    --------
    >>> class_scores(np.array([[1, 1], [0, 2]]), ["pore", "Ni"])["pore"]
    ClassScore(iou=0.5, dice=0.6666666666666666, precision=1.0, recall=0.5, support=2)
    """
    scores = {}
    for c, name in enumerate(names):
        hit, labelled, predicted = int(counts[c, c]), int(counts[c].sum()), int(counts[:, c].sum())
        scores[name] = ClassScore(
            iou=_ratio(hit, labelled + predicted - hit),
            dice=_ratio(2 * hit, labelled + predicted),
            precision=_ratio(hit, predicted),
            recall=_ratio(hit, labelled),
            support=labelled,
        )
    return scores


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")


def interior(label: Index) -> Bool[np.ndarray, "y x"]:
    """Return which pixels lie further than one pixel from an interface: all eight neighbours have their class.

    Unlabelled neighbours are no interface; unlabelled pixels are not interior.

    Examples
    --------
    >>> interior(np.array([[0, 0, 0, 1, 1, 255]], np.uint8))
    array([[ True,  True, False, False,  True, False]])
    """
    known = label != UNLABELLED
    high = ndimage.maximum_filter(np.where(known, label, 0), size=3, mode="nearest")
    low = ndimage.minimum_filter(label, size=3, mode="nearest")  # UNLABELLED is the largest value
    return np.asarray(known & (high == low))


def agreement(first: Index, second: Index) -> float:
    """Return the share of equal classes among the pixels labelled in both; NaN where there are none.

    Examples
    --------
    >>> agreement(np.array([[0, 1, 255]], np.uint8), np.array([[0, 0, 0]], np.uint8))
    0.5
    """
    both = (first != UNLABELLED) & (second != UNLABELLED)
    return _ratio(int((first[both] == second[both]).sum()), int(both.sum()))


@dataclass(frozen=True)
class CalibrationSums:
    """Sums over pixels from which the calibration of probabilities follows; add those of slices to get the whole's.

    C. Guo et al., On calibration of modern neural networks, ICML 2017, DOI 10.48550/arXiv.1706.04599; J. Nixon et al.,
    Measuring calibration in deep learning, 2019, DOI 10.48550/arXiv.1904.01685 (bins of equal mass: here 15, made of
    3000 of equal width); G. W. Brier, 1950, DOI 10.1175/1520-0493(1950)078<0001:VOFEIT>2.0.CO;2 (sum over the classes,
    0 to 2).

    Examples
    --------
    >>> probabilities = np.full((2, 1, 4), 0.5, np.float32)
    >>> sums = CalibrationSums.of(probabilities, np.array([[0, 1, 0, 1]], np.uint8))
    >>> round(sums.nll, 4), sums.brier, sums.ece
    (0.6931, 0.5, 0.0)
    """

    pixels: int
    nll_sum: float
    brier_sum: float
    bin_pixels: Float[np.ndarray, " bin"]
    bin_confidence: Float[np.ndarray, " bin"]
    bin_right: Float[np.ndarray, " bin"]

    @classmethod
    def of(
        cls,
        probabilities: Float[np.ndarray, "class y x"],
        label: Index,
        where: Bool[np.ndarray, "y x"] | None = None,
    ) -> CalibrationSums:
        """Sum over the labelled pixels, those of `where` only if it is given."""
        chosen = label != UNLABELLED if where is None else (label != UNLABELLED) & where
        given, truth = probabilities[:, chosen].astype(np.float64), label[chosen]
        of_truth = given[truth, np.arange(len(truth))]
        confidence, right = given.max(axis=0, initial=0.0), given.argmax(axis=0) == truth
        bins = np.minimum((confidence * _FINE_BINS).astype(np.int64), _FINE_BINS - 1)
        return cls(
            pixels=len(truth),
            nll_sum=float(-np.log(np.maximum(of_truth, _SMALLEST_PROBABILITY)).sum()),
            brier_sum=float((given**2).sum() - 2 * of_truth.sum() + len(truth)),
            bin_pixels=np.bincount(bins, minlength=_FINE_BINS).astype(np.float64),
            bin_confidence=np.bincount(bins, confidence, minlength=_FINE_BINS).astype(np.float64),
            bin_right=np.bincount(bins, right.astype(np.float64), minlength=_FINE_BINS).astype(np.float64),
        )

    def __add__(self, other: CalibrationSums) -> CalibrationSums:
        """Return the sums over both sets of pixels."""
        return CalibrationSums(
            self.pixels + other.pixels,
            self.nll_sum + other.nll_sum,
            self.brier_sum + other.brier_sum,
            self.bin_pixels + other.bin_pixels,
            self.bin_confidence + other.bin_confidence,
            self.bin_right + other.bin_right,
        )

    @property
    def nll(self) -> float:
        """Mean negative log likelihood of the label, in nats."""
        return self.nll_sum / self.pixels if self.pixels else float("nan")

    @property
    def brier(self) -> float:
        """Mean squared error of the probabilities, summed over the classes."""
        return self.brier_sum / self.pixels if self.pixels else float("nan")

    @property
    def confidence(self) -> float:
        """Mean probability of the predicted class."""
        return float(self.bin_confidence.sum()) / self.pixels if self.pixels else float("nan")

    @property
    def accuracy(self) -> float:
        """Share of the pixels whose prediction is right."""
        return float(self.bin_right.sum()) / self.pixels if self.pixels else float("nan")

    @property
    def reliability(self) -> Float[np.ndarray, "3 bin"]:
        """Pixels, mean confidence and share that is right of at most 15 bins of about as many pixels each."""
        middles = np.cumsum(self.bin_pixels) - self.bin_pixels / 2
        group = (CALIBRATION_BINS * middles / max(1, self.pixels)).astype(np.int64)
        pixels, confidence, right = (
            np.bincount(group, sums, minlength=CALIBRATION_BINS)
            for sums in (self.bin_pixels, self.bin_confidence, self.bin_right)
        )
        there = pixels > 0
        return np.stack([pixels[there], confidence[there] / pixels[there], right[there] / pixels[there]])

    @property
    def ece(self) -> float:
        """Expected calibration error: mean gap between the largest probability and how often it is right."""
        pixels, confidence, right = self.reliability
        return float((pixels * np.abs(confidence - right)).sum()) / self.pixels if self.pixels else float("nan")
