"""Continuous size distribution: how much of a phase is covered by balls that fit into it.

The local thickness of a point is the diameter of the largest ball that fits in the phase and covers the point
(T. Hildebrand and P. Rüegsegger, 1997, DOI 10.1046/j.1365-2818.1997.1340694.x); its distribution is that of
B. Münch and L. Holzer, 2008, DOI 10.1111/j.1551-2916.2008.02736.x.

A ball is centred at a voxel's centre and fits when its radius is at most the distance to the nearest centre of a voxel
of another phase. It covers the voxels whose centres are nearer than its radius. A surface that is curved or oblique
to the voxels is measured without bias so; between faces along an axis, n voxels apart, the diameter is n for even n
and n + 1 for odd n.

What cannot be seen is no interface and holds no centre: beyond the volume's border and outside the mask a phase may
go on, and a ball is not stopped there. Masking a frame and cropping it give the same.

A block is read with a guard around it, which grows until nothing beyond it could change the block's result.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64, UInt8

from tomoseg.labels import UNLABELLED
from tomoseg.quantify.distances import Distances, class_distances, guarded, transform
from tomoseg.quantify.grid import Edges, Labels, Read, Shape, relative, within
from tomoseg.volume.base import Region

N_RADII = 16

_FIRST_GUARD = 16
"""Voxels read around a block at first; then twice as many, as often as needed."""

_TOLERANCE = 1e-4
"""In edges of a voxel. Distances are float32 and may be rounded otherwise in another block: a radius that is itself a
distance between voxels must not fall on either side of it. In a cubic grid no two distances below 5000 are so close."""


@dataclass(frozen=True)
class Sizes:
    """How many voxels of each class are covered by balls of each size; those of blocks are added up.

    Attributes
    ----------
    radii_um
        Radii of the balls in micrometres, rising, float64 (radius,).
    voxels
        Voxels of each class, int64 (class,).
    covered
        Those of them that a ball of this radius, or of a larger one of the list, covers, int64 (class, radius).
    """

    radii_um: Float64[np.ndarray, " radius"]
    voxels: Int64[np.ndarray, " class"]
    covered: Int64[np.ndarray, "class radius"]

    def __add__(self, other: Sizes) -> Sizes:
        if not np.array_equal(self.radii_um, other.radii_um):
            raise ValueError(f"sizes of radii {self.radii_um} and {other.radii_um} um cannot be added")
        return Sizes(self.radii_um, self.voxels + other.voxels, self.covered + other.covered)


def default_radii(largest_um: float, *, voxel_size_um: Edges, n: int = N_RADII) -> Float64[np.ndarray, " radius"]:
    """Return radii in equal ratios from a voxel's shortest edge to the largest, in micrometres, float64 (radius,).

    Balls of the first radius cover every voxel.

    Examples
    --------
    >>> default_radii(8.0, voxel_size_um=(1, 1, 1), n=4)
    array([1., 2., 4., 8.])
    """
    first = min(voxel_size_um)
    return np.geomspace(first, largest_um, n) if largest_um > first else np.array([float(first)])


def largest_distance(read: Read, region: Region, *, shape: Shape, voxel_size_um: Edges, most_um: float) -> float:
    """Return the largest distance from a voxel of a block to another phase in micrometres, but at most `most_um`.

    That is the radius of the largest ball in the block: the end of the list of radii for `cover_block`, taken
    over all blocks. 0 for a block that is masked wholly.

    Parameters
    ----------
    read
        Gives class indices, uint8 (z, y, x), `UNLABELLED` outside the mask.
    region
        The block.
    shape
        Voxels of the volume along (z, y, x).
    voxel_size_um
        Edge lengths of a voxel along (z, y, x) in micrometres.
    most_um
        Where to stop. A phase that is alone has no largest distance, and the guard is as large as this.

    Examples
    --------
    >>> labels = np.array([[[0, 0, 0, 1, 1]]], np.uint8)
    >>> largest_distance(lambda region: labels[region.slices], Region.whole(labels.shape), shape=labels.shape,
    ...     voxel_size_um=(1, 1, 1), most_um=9)
    3.0
    """
    unit = min(voxel_size_um)
    edges, most = relative(voxel_size_um), most_um / unit
    guard = min(float(_FIRST_GUARD), most)
    while True:
        box = guarded(region, guard, edges, shape)
        labels = read(box)
        own = within(region, box)
        visible = labels[own] != UNLABELLED
        largest = float(class_distances(labels, edges)[own].max(initial=0.0, where=visible))
        # Nothing that was not read is nearer than the guard.
        if largest <= guard or guard >= most:
            return min(largest, most) * unit
        guard = min(2 * guard, most)


def cover_block(
    read: Read,
    region: Region,
    *,
    shape: Shape,
    radii_um: Sequence[float] | Float64[np.ndarray, " radius"],
    voxel_size_um: Edges,
    n_classes: int,
) -> Sizes:
    """Count the voxels of a block that balls cover, which fit into the voxels' phase anywhere in the volume.

    Parameters
    ----------
    read
        Gives class indices, uint8 (z, y, x), `UNLABELLED` outside the mask. Regions up to twice the largest radius
        around the block are asked for.
    region
        The block.
    shape
        Voxels of the volume along (z, y, x).
    radii_um
        Radii of the balls in micrometres, rising and above 0.
    voxel_size_um
        Edge lengths of a voxel along (z, y, x) in micrometres.
    n_classes
        Classes of the volume.

    Raises
    ------
    ValueError
        If the radii do not rise from above 0.

    Examples
    --------
    >>> labels = np.array([[[1, 0, 0, 0, 1]]], np.uint8)
    >>> whole = Region.whole(labels.shape)
    >>> cover_block(lambda region: labels[region.slices], whole, shape=(1, 1, 5), radii_um=[1, 2, 3],
    ...     voxel_size_um=(1, 1, 1), n_classes=2).covered
    array([[3, 3, 0],
           [2, 0, 0]])
    """
    radii = np.asarray(radii_um, np.float64)
    if not (np.diff(radii, prepend=0.0) > 0).all():
        raise ValueError(f"the radii {radii.tolist()} um do not rise from above 0")
    edges, scaled = relative(voxel_size_um), radii / min(voxel_size_um)
    labels, distances, box = _reaching(read, region, edges=edges, shape=shape, most=float(scaled[-1]))
    own = labels[within(region, box)]
    covered = np.zeros((n_classes, len(radii)), np.int64)
    reached = np.zeros(own.shape, bool)
    for order in reversed(range(len(radii))):
        radius = float(scaled[order])
        near = guarded(region, radius, edges, shape)
        centres = _centres(labels, distances, radius, within(near, box))
        if centres.any():
            reached |= transform(~centres, edges)[within(region, near)] < radius - _TOLERANCE
        covered[:, order] = _per_class(own[reached], n_classes)
    return Sizes(radii, _per_class(own.ravel(), n_classes), covered)


def _centres(
    labels: Labels, distances: Distances, radius: float, place: tuple[slice, slice, slice]
) -> Bool[np.ndarray, "near_z near_y near_x"]:
    """Return where balls of this radius fit, of all classes: none of another class's voxels is inside such a ball."""
    return np.asarray((distances[place] >= radius - _TOLERANCE) & (labels[place] != UNLABELLED))


def _per_class(labels: UInt8[np.ndarray, " voxel"], n_classes: int) -> Int64[np.ndarray, " class"]:
    """Return the voxels of each class; masked voxels may be covered, but are of no class."""
    return np.bincount(labels, minlength=UNLABELLED + 1)[:n_classes].astype(np.int64)


def _reaching(
    read: Read, region: Region, *, edges: Edges, shape: Shape, most: float
) -> tuple[Labels, Distances, Region]:
    """Return labels and distances around a block, far enough for all balls up to the radius `most` that reach it.

    Let M be the largest distance within g / 2 of the block, as far as a guard g shows it; what it does not show makes
    distances smaller only. A ball that covers a voxel v of the block with its centre further than g / 2 from v would
    hold smaller balls on the way from v to its centre: one within g / 2 whose distance is g / 2 less a voxel's
    diagonal, above M if M + diagonal <= g / 2. So all centres lie within g / 2, their distances are at most M, and
    nothing beyond g comes into them. With g = 2 * most this holds for all balls that are asked for anyway.
    """
    diagonal = float(np.linalg.norm(edges))
    guard = min(float(_FIRST_GUARD), 2 * most)
    while True:
        box = guarded(region, guard, edges, shape)
        labels = read(box)
        distances = class_distances(labels, edges)
        middle = within(guarded(region, guard / 2, edges, shape), box)
        if guard >= 2 * most or float(distances[middle].max()) + diagonal <= guard / 2:
            return labels, distances, box
        guard = min(2 * guard, 2 * most)


def covered_shares(sizes: Sizes, *, index: int) -> Float64[np.ndarray, " radius"]:
    """Return the share of a class's voxels that balls of each radius cover, falling from 1 to 0, float64 (radius,).

    Returns
    -------
        NaN for a class without voxels.

    Examples
    --------
    >>> covered_shares(Sizes(np.array([1.0, 2.0]), np.array([4]), np.array([[4, 1]])), index=0)
    array([1.  , 0.25])
    """
    voxels = sizes.voxels[index]
    return np.asarray(sizes.covered[index] / voxels if voxels else np.full(len(sizes.radii_um), np.nan))


def exceeded_diameter(sizes: Sizes, *, index: int, share: float) -> float | None:
    """Return the diameter in micrometres that a share of a class's volume exceeds in local thickness; d50 of 0.5.

    Interpolated between the radii of the list.

    Returns
    -------
        None for a class without voxels, and where the largest balls still cover that share, or the smallest do not.

    Examples
    --------
    >>> exceeded_diameter(Sizes(np.array([1.0, 2.0]), np.array([4]), np.array([[3, 1]])), index=0, share=0.5)
    3.0
    """
    shares = covered_shares(sizes, index=index)
    if not shares[0] >= share > shares[-1]:
        return None
    above = int(np.flatnonzero(shares >= share)[-1])
    steep = (shares[above] - share) / (shares[above] - shares[above + 1])
    low, high = sizes.radii_um[above : above + 2]
    return float(2 * (low + steep * (high - low)))
