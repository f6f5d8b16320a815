"""Sizes of particles: phases split at necks, and what the border of the scan cuts made up for.

A particle's diameter is that of the sphere of its volume, d = (6 V / pi)^(1/3). A particle that the border or the mask
cuts has no known size and is left out; large ones are cut more often than small ones. So each of those left counts
1 / P times, where P is the probability that a particle of its extents, put anywhere in the window, lies wholly inside
(R. E. Miles and C. Lantuéjoul; J. Serra, Image analysis and mathematical morphology, 1982, ch. VIII). In a window of w
voxels along an axis, a particle of n voxels is seen to end on both sides in w - n - 1 places. With a mask w are the
runs of voxels inside it, and P, the product over the axes, is right for a box and near for what is convex.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from tomoseg.labels import UNLABELLED
from tomoseg.quantify.grid import Labels, Shape
from tomoseg.quantify.watershed import Basins

QUANTILES = (0.1, 0.5, 0.9)

Runs = Int64[np.ndarray, "_"]
"""Number of runs inside the mask by their length in voxels."""

Weights = Float64[np.ndarray, " particle"]


def window_runs(labels: Labels, *, axis: int) -> Runs:
    """Count the runs of voxels inside the mask along an axis of a block that is whole along it.

    Examples
    --------
    >>> window_runs(np.array([[[0, 255, 1, 2]]], np.uint8), axis=2)
    array([0, 1, 1, 0, 0])
    """
    lines = np.moveaxis(labels, axis, -1) != UNLABELLED
    n = lines.shape[-1]
    framed = np.pad(lines, ((0, 0), (0, 0), (1, 1))).reshape(-1)
    changes = np.flatnonzero(framed[1:] != framed[:-1])
    return np.bincount(changes[1::2] - changes[::2], minlength=n + 1).astype(np.int64)


def whole_runs(shape: Shape, *, axis: int) -> Runs:
    """Return the runs along an axis of a volume that is all inside.

    Examples
    --------
    >>> whole_runs((2, 3, 4), axis=1)
    array([0, 0, 0, 8])
    """
    runs = np.zeros(shape[axis] + 1, np.int64)
    runs[-1] = np.prod(shape, dtype=np.int64) // shape[axis]
    return runs


@dataclass(frozen=True)
class Particles:
    """The particles of one class that lie wholly inside, by rising diameter.

    Attributes
    ----------
    diameters_um
        Of the spheres of their volumes in micrometres, float64 (particle,).
    voxels
        Their voxels, int64 (particle,).
    weights
        How many each stands for, 1 / P, float64 (particle,).
    made_up
        Of the class's voxels, the share that they make up with their weights: about 1, less where some particles are
        too large to be seen whole; None for a class that is absent.
    low, high
        First voxel along (z, y, x), and the one after the last, int64 (particle, axis).
    """

    diameters_um: Float64[np.ndarray, " particle"]
    voxels: Int64[np.ndarray, " particle"]
    weights: Weights
    made_up: float | None
    low: Int64[np.ndarray, "particle axis"]
    high: Int64[np.ndarray, "particle axis"]


def whole_particles(found: Basins, *, index: int, runs: Sequence[Runs], shape: Shape, voxel_um3: float) -> Particles:
    """Return the particles of a class that lie wholly inside, and how many each stands for.

    Parameters
    ----------
    found
        The particles of the volume.
    index
        The class.
    runs
        Of the mask along z, y and x.
    shape
        Voxels of the volume along (z, y, x).
    voxel_um3
        Volume of a voxel in cubic micrometres.
    """
    its = found.chosen(found.classes == index)
    whole = its.chosen(its.inside(shape))
    whole = whole.chosen(np.lexsort((whole.ids, whole.voxels)))
    weights, total = 1 / seen_whole(whole.high - whole.low, runs), int(its.voxels.sum())
    return Particles(
        np.cbrt(6 * whole.voxels * voxel_um3 / np.pi),
        whole.voxels,
        weights,
        float(weights @ whole.voxels) / total if total else None,
        whole.low,
        whole.high,
    )


def seen_whole(extents: Int64[np.ndarray, "particle axis"], runs: Sequence[Runs]) -> Float64[np.ndarray, " particle"]:
    """Return the probability that a particle of these extents in voxels lies wholly inside the window, above 0 to 1.

    Examples
    --------
    >>> one_line_of_ten = np.eye(11, dtype=np.int64)[10]
    >>> seen_whole(np.array([[1, 1, 4], [1, 1, 1]]), [one_line_of_ten] * 3).round(3)
    array([0.32 , 0.512])
    """
    chance = np.ones(len(extents))
    for along, its in zip(extents.T, runs, strict=True):
        lengths = np.arange(len(its))
        voxels = lengths @ its
        # Places in runs of length w or more: the sum of w - n - 1 over them, one at least, for it was seen.
        places = [max(1, int(its[n + 2 :] @ (lengths[n + 2 :] - n - 1))) for n in range(int(along.max(initial=0)) + 1)]
        chance *= np.array(places)[along] / voxels
    return chance


def weighted_quantile(
    values: Float64[np.ndarray, " value"], weights: Float64[np.ndarray, " value"], share: float
) -> float:
    """Return the smallest of rising values up to which a share of the weights lies.

    Examples
    --------
    >>> weighted_quantile(np.array([1.0, 2.0, 3.0]), np.array([1.0, 1.0, 2.0]), 0.5)
    2.0
    """
    reached = np.cumsum(weights)
    # Shares that are met just so are not to be missed by rounding.
    return float(values[np.searchsorted(reached, share * reached[-1] * (1 - 1e-12))])


def volume_shares(
    particles: Particles, diameters_um: Float64[np.ndarray, " diameter"]
) -> Float64[np.ndarray, " diameter"]:
    """Return the share of the particles' volume in those of at least each diameter, 0 to 1.

    Examples
    --------
    >>> low, high = np.array([[1, 1, 1], [3, 3, 3]]), np.array([[2, 2, 2], [5, 5, 5]])
    >>> two = Particles(np.array([1.0, 2.0]), np.array([1, 8]), np.ones(2), 1.0, low, high)
    >>> volume_shares(two, np.array([1.0, 1.5, 2.5])).round(3)
    array([1.   , 0.889, 0.   ])
    """
    volumes = particles.weights * particles.voxels
    below = np.append(0.0, np.cumsum(volumes))[np.searchsorted(particles.diameters_um, diameters_um)]
    return np.asarray(1 - below / volumes.sum())
