"""The pixel-classification forest that most people use today, as the baseline for every network.

A random forest (Breiman 2001, doi:10.1023/A:1010933404324) on multi-scale filter features, as in ilastik
(doi:10.1038/s41592-019-0582-9) and Trainable Weka Segmentation (doi:10.1093/bioinformatics/btx180).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import ceil

import numpy as np
from jaxtyping import Float32, Float64, Int64, UInt8
from joblib import effective_n_jobs
from scipy import ndimage
from sklearn.ensemble import RandomForestClassifier

from tomoseg.errors import LabelError, PairingError
from tomoseg.labels import UNLABELLED

Image = Float32[np.ndarray, "y x"]
Label = UInt8[np.ndarray, "y x"]
Features = Float32[np.ndarray, "y x feature"]
Rows = Float32[np.ndarray, "pixel feature"]

FEATURE_SIGMAS = (0.7, 1.0, 1.6, 2.5, 3.5, 5.0, 10.0)
"""Widths of the Gaussians in pixels: ilastik's, with 2.5 in place of its 0.3, which sees one pixel only."""

FILTERS = (
    "Gaussian",
    "Laplacian of Gaussian",
    "gradient magnitude",
    "structure tensor, larger eigenvalue",
    "structure tensor, smaller eigenvalue",
    "Hessian, larger eigenvalue",
    "Hessian, smaller eigenvalue",
)
"""The features at each width, in the order of `filter_features`."""

_TRUNCATE = 3.0
_STRIP_PIXELS = 1 << 18
_BATCH_PIXELS = 1 << 13  # Features of a batch (1.6 MB) stay in the cache while all trees read them.


def reach(sigma: float) -> int:
    """Return how many pixels away the features of width `sigma` look.

    Examples
    --------
    >>> reach(10.0)
    47
    """
    # ndimage rounds the radius; the two pixels are those of the second difference.
    return int(_TRUNCATE * sigma + 0.5) + int(_TRUNCATE * sigma / 2 + 0.5) + 2


def filter_features(image: Image) -> Features:
    """Return the 49 filter features of a slice: seven filters at each of `FEATURE_SIGMAS`.

    Derivatives are central differences of the Gaussian-smoothed slice; the structure tensor is smoothed with half
    the width once more, as in ilastik. The slice is continued by reflection.

    Parameters
    ----------
    image
        Grey values, float32 (y, x).

    Returns
    -------
    features
        Float32 (y, x, feature), widths slowest, `FILTERS` fastest; in the units of `image`, per pixel for first
        derivatives, per pixel squared for second ones, squared per pixel squared for the structure tensor.

    References
    ----------
    ilastik, doi:10.1038/s41592-019-0582-9.

    Examples
    --------
    >>> ramp = np.tile(np.arange(200, dtype=np.float32), (100, 1))
    >>> features = filter_features(ramp)
    >>> features.shape, float(features[50, 100, FILTERS.index("gradient magnitude")])
    ((100, 200, 49), 1.0)
    """
    features = np.empty((*image.shape, len(FEATURE_SIGMAS) * len(FILTERS)), np.float32)
    for order, sigma in enumerate(FEATURE_SIGMAS):
        for which, plane in enumerate(_filtered(image, sigma)):
            features[..., order * len(FILTERS) + which] = plane
    return features


def _filtered(image: Image, sigma: float) -> tuple[Image, ...]:
    smooth = _blur(image, sigma)
    along_y, along_x = _slope(smooth, 0), _slope(smooth, 1)
    yy, xx, xy = _bend(smooth, 0), _bend(smooth, 1), _slope(along_y, 1)
    tensor = (_blur(product, sigma / 2) for product in (along_y**2, along_x**2, along_y * along_x))
    magnitude = np.sqrt(along_y**2 + along_x**2)
    return (smooth, yy + xx, magnitude, *_eigenvalues(*tensor), *_eigenvalues(yy, xx, xy))


def _blur(image: Image, sigma: float) -> Image:
    blurred: Image = ndimage.gaussian_filter(image, sigma, truncate=_TRUNCATE)
    return blurred


def _slope(image: Image, axis: int) -> Image:
    slope: Image = ndimage.correlate1d(image, [-0.5, 0.0, 0.5], axis=axis)
    return slope


def _bend(image: Image, axis: int) -> Image:
    bend: Image = ndimage.correlate1d(image, [1.0, -2.0, 1.0], axis=axis)
    return bend


def _eigenvalues(yy: Image, xx: Image, xy: Image) -> tuple[Image, Image]:
    centre = (yy + xx) / 2
    spread = np.sqrt(((yy - xx) / 2) ** 2 + xy**2)
    return centre + spread, centre - spread


def _strips(shape: tuple[int, ...]) -> list[slice]:
    rows = ceil(_STRIP_PIXELS / shape[1])
    return [slice(top, min(top + rows, shape[0])) for top in range(0, shape[0], rows)]


def _strip_features(image: Image, rows: slice) -> Rows:
    halo = max(reach(sigma) for sigma in FEATURE_SIGMAS)
    top = max(0, rows.start - halo)
    features = filter_features(image[top : rows.stop + halo])[rows.start - top : rows.stop - top]
    return features.reshape(-1, features.shape[-1])


def _draw(label: Label, pixels: int, rng: np.random.Generator) -> Int64[np.ndarray, " pixel"]:
    labelled = np.flatnonzero(label != UNLABELLED)
    return np.sort(rng.permutation(labelled)[:pixels])


def _drawn(image: Image, label: Label, chosen: Int64[np.ndarray, " pixel"]) -> Iterator[Rows]:
    for rows in _strips(image.shape):
        start, stop = rows.start * image.shape[1], rows.stop * image.shape[1]
        inside = chosen[(chosen >= start) & (chosen < stop)]
        if len(inside):
            yield _strip_features(image, rows)[inside - start]


@dataclass(frozen=True)
class Forest:
    """A trained random forest on `filter_features`; make one with `Forest.fit`.

    Attributes
    ----------
    model
        The trained trees. Its classes are class indices.
    """

    model: RandomForestClassifier

    @classmethod
    def fit(
        cls,
        samples: Iterable[tuple[Image, Label]],
        *,
        rng: np.random.Generator,
        pixels_per_slice: int = 20_000,
        trees: int = 100,
        min_samples_leaf: int = 1,
        threads: int = -1,
    ) -> Forest:
        """Train on pixels drawn uniformly, without replacement, from the labelled pixels of each slice.

        Parameters
        ----------
        samples
            Image, float32 (y, x), and class indices, uint8 (y, x), of each labelled slice; used one at a time.
        rng
            Draws the pixels and seeds the trees.
        pixels_per_slice
            Pixels drawn from each slice; all of them where there are fewer.
        trees, min_samples_leaf
            Number of trees, and the least number of training pixels in a leaf.
        threads
            Threads to train with; -1 takes all cores. The result is the same for any number.

        Raises
        ------
        PairingError
            If an image and its label differ in size.
        LabelError
            If no pixel is labelled.

        Examples
        --------
        >>> image = np.repeat(np.array([[0.0], [1.0]], np.float32), 32, axis=0).repeat(64, axis=1)
        >>> label = (image > 0.5).astype(np.uint8)
        >>> forest = Forest.fit([(image, label)], rng=np.random.default_rng(0), trees=5)
        >>> bool((forest.predict(image) == label).all())
        True
        """
        features, truth = _training_set(samples, pixels_per_slice, rng)
        model = RandomForestClassifier(
            n_estimators=trees,
            min_samples_leaf=min_samples_leaf,
            n_jobs=threads,
            random_state=int(rng.integers(2**31)),
        )
        return cls(model.fit(features, truth))

    def predict(self, image: Image, *, threads: int = -1) -> Label:
        """Return the class with the largest mean probability over the trees at each pixel, uint8 (y, x).

        Works in strips of rows: memory beyond the result is some 150 MB a thread, whatever the height of the slice,
        and the result doesn't depend on the strips.

        Parameters
        ----------
        image
            Grey values in the same units as in training, float32 (y, x).
        threads
            Strips worked on at a time; -1 takes all cores.
        """
        with ThreadPoolExecutor(effective_n_jobs(threads)) as pool:
            parts = pool.map(lambda rows: self._classify(_strip_features(image, rows)), _strips(image.shape))
            return np.concatenate(list(parts)).reshape(image.shape)

    def _classify(self, features: Rows) -> UInt8[np.ndarray, " pixel"]:
        chosen = [
            self._vote(features[start : start + _BATCH_PIXELS]) for start in range(0, len(features), _BATCH_PIXELS)
        ]
        classes = np.asarray(self.model.classes_, np.uint8)
        return np.asarray(classes[np.concatenate(chosen)])

    def _vote(self, features: Rows) -> Int64[np.ndarray, " pixel"]:
        # Exact: a tree gives a class at most one vote, so a lead over the second class that is larger than the
        # number of trees still to come can't be lost. Most pixels are settled just after half of the trees.
        trees = self.model.estimators_
        winner = np.zeros(len(features), np.int64)
        open_, votes = np.arange(len(features)), np.zeros((len(features), len(self.model.classes_)))
        for first, last in _rounds(len(trees)):
            for tree in trees[first:last]:
                votes += tree.predict_proba(features, check_input=False)
            winner[open_] = votes.argmax(axis=1)
            unsettled = _lead(votes) <= len(trees) - last
            open_, votes, features = open_[unsettled], votes[unsettled], features[unsettled]
        return winner


def _rounds(trees: int) -> list[tuple[int, int]]:
    ends = sorted({ceil(trees * share) for share in (0.52, 0.6, 0.75, 1.0)})
    return list(zip([0, *ends[:-1]], ends, strict=True))


def _lead(votes: Float64[np.ndarray, "pixel class"]) -> Float64[np.ndarray, " pixel"]:
    if votes.shape[1] == 1:
        return np.full(len(votes), np.inf)
    ranked = np.partition(votes, -2, axis=1)
    lead: Float64[np.ndarray, " pixel"] = ranked[:, -1] - ranked[:, -2]
    return lead


def _training_set(
    samples: Iterable[tuple[Image, Label]], pixels: int, rng: np.random.Generator
) -> tuple[Rows, UInt8[np.ndarray, " pixel"]]:
    features: list[Rows] = []
    truth: list[UInt8[np.ndarray, " pixel"]] = []
    for image, label in samples:
        if image.shape != label.shape:
            raise PairingError(f"an image of {image.shape} pixels (y, x) has a label of {label.shape}; make them equal")
        chosen = _draw(label, pixels, rng)
        features += _drawn(image, label, chosen)
        truth.append(label.ravel()[chosen])
    if not features:
        raise LabelError(f"none of the {len(truth)} training slices has a labelled pixel; label at least one")
    return np.concatenate(features), np.concatenate(truth)
