"""How much of a phase's likeness is left far away, in real samples and in phantoms.

`python benchmarks/far_alike.py`. Intervals over blocks of a volume take for granted that its pieces are alike only
nearby. Each line is the root mean square of the normalised covariance of one phase over places one to two, two to three
and three to five of its mean runs apart, in pictures: quartz by the sandstone's labels; the volumes' bright phase by
Otsu's threshold after a blur of one voxel; pore and nickel of the phantoms' fields (`coverage.py --fields`), drawn
afresh. In pictures this small it does not fall below some 0.005 by chance.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tifffile
from jaxtyping import Bool, Float64
from scipy import fft
from skimage.filters import gaussian, threshold_otsu

from common import DATA
from coverage import CHORD
from gaussian_fields import GaussianFields
from tomoseg.phantom import Fields, FieldSampler

VOLUMES = ("cement_128x128x128", "fibers_150x150x150", "NT_128x128x128")
QUARTZ, INNER = (255, 0, 0), slice(150, 850)  # the field of view is round
BETWEEN = ((1, 2), (2, 3), (3, 5))
EDGE, HEIGHTS = 200, range(0, 240, 40)

Pictures = Bool[np.ndarray, "picture y x"]


def main() -> None:
    labels = [tifffile.imread(path)[INNER, INNER] for path in sorted((DATA / "sandstone/labels").glob("*.tif"))]
    show("sandstone, quartz", np.stack([(label == QUARTZ).all(axis=-1) for label in labels]))
    for name in VOLUMES:
        smooth = gaussian(tifffile.imread(DATA / "volumes" / f"{name}.tif").astype(float), 1)
        show(name, smooth > threshold_otsu(smooth))
    for index, phase in ((0, "pore"), (2, "nickel")):
        show(f"Gaussian fields, {phase}", _pictures([GaussianFields(seed, chord=CHORD) for seed in range(3)], index))
        show(f"waves of one length, {phase}", _pictures([FieldSampler(seed, chord=CHORD) for seed in range(3)], index))


def _pictures(several: Sequence[Fields], index: int) -> Pictures:
    places = np.arange(float(EDGE))
    return np.stack([one.layer(float(z), places, places).argmax(axis=0) == index for one in several for z in HEIGHTS])


def show(name: str, phase: Pictures) -> None:
    """Print the phase's mean run, its share and what is left of its likeness."""
    run = 1 / float((phase[:, :, 1:] != phase[:, :, :-1]).mean())
    left = by_distance(phase)
    far = [np.sqrt(np.mean(left[int(run * near) : int(run * end)] ** 2)) for near, end in BETWEEN]
    print(f"{name}: run {run:.1f} pixels, share {phase.mean():.3f}, left " + ", ".join(f"{one:.3f}" for one in far))


def by_distance(phase: Pictures) -> Float64[np.ndarray, " pixel"]:
    """Return the normalised covariance by distance in pixels, over all pairs of a picture, averaged over pictures."""
    high, wide = phase.shape[1:]
    padded = (2 * high, 2 * wide)
    pairs = fft.irfft2(np.abs(fft.rfft2(np.ones((high, wide)), padded)) ** 2, padded)[: high // 2, : wide // 2]
    spectra = np.mean([np.abs(fft.rfft2(one - phase.mean(), padded)) ** 2 for one in phase], axis=0)
    sums = fft.irfft2(spectra, padded)[: high // 2, : wide // 2]
    distance = np.hypot(*np.ogrid[: high // 2, : wide // 2]).astype(int).ravel()
    found: Float64[np.ndarray, " pixel"] = np.bincount(distance, (sums / pairs).ravel()) / np.bincount(distance)
    return found / found[0]


if __name__ == "__main__":
    main()
