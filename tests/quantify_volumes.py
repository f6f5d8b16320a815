"""Small labelled volumes for the tests of `tomoseg.quantify`: random ones, blobs, and how to read them."""

import numpy as np
from hypothesis import strategies as st
from scipy import ndimage

from tomoseg.labels import UNLABELLED

seeds = st.integers(0, 2**32 - 1)


def random_labels(shape, *, seed, n_classes, coarse=1, masked=0.1):
    """Return uint8 class indices (z, y, x) of independent cells of `coarse` voxels, some of them masked."""
    rng = np.random.default_rng(seed)
    cells = tuple(-(-size // coarse) for size in shape)
    labels = rng.integers(n_classes, size=cells).astype(np.uint8)
    labels[rng.random(cells) < masked] = UNLABELLED
    repeated = np.kron(labels, np.ones((coarse,) * 3, np.uint8))
    return np.ascontiguousarray(repeated[tuple(slice(size) for size in shape)])


def blobs(shape, *, seed, n_classes, blur=2.0):
    """Return uint8 class indices (z, y, x) of smooth phases of about equal shares."""
    field = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal(shape), blur)
    return np.digitize(field, np.quantile(field, np.arange(1, n_classes) / n_classes)).astype(np.uint8)


@st.composite
def labelled(draw, longest=9):
    """Draw random class indices (z, y, x) with two to four classes, and their number."""
    shape = draw(st.tuples(*[st.integers(1, longest)] * 3))
    n_classes = draw(st.integers(2, 4))
    masked = draw(st.sampled_from([0.0, 0.1, 0.4]))
    coarse = draw(st.integers(1, 3))
    return random_labels(shape, seed=draw(seeds), n_classes=n_classes, coarse=coarse, masked=masked), n_classes
