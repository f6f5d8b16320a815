"""Areas of the interfaces between classes.

A face between voxels of two classes counts with the cosine of its normal's angle with the interface's, which is
estimated around it. Counted in full (`stair_areas`) faces are about 1.5 times too large, however small the voxels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int32, Int64, UInt8

from tomoseg.labels import UNLABELLED
from tomoseg.quantify.steps import (
    Labels,
    Steps,
    VoxelSize,
    check_classes,
    cosines,
    guard_voxels,
    inside,
    sigma_in_voxels,
)
from tomoseg.volume import Region

SURFACE_SIGMA = 1.5
"""Std in a voxel's longest edges of the Gaussian that smooths normals.

With less, stairs are seen as such (planes 1.7 % too large at 1); with more, sharp rims are rounded further. Planes in
any direction come out at 0 to 1.4 % above their area, spheres of radius 5 to 20 within 2 %.
"""


@dataclass(frozen=True)
class SurfaceSums:
    """Sums over some faces; add those of all blocks to get the whole volume's.

    Attributes
    ----------
    areas
        Of the interface between two classes, by the axis of the faces that it was found by, float64
        (axis, class, class), in squares of the voxel size's unit; symmetric, with a diagonal of zeros.
    stair_areas
        The same with every face counted in full.
    volumes
        In which faces along each axis were looked for, float64 (axis,): a voxel's for every two labelled neighbours.
    """

    areas: Float64[np.ndarray, "axis class class"]
    stair_areas: Float64[np.ndarray, "axis class class"]
    volumes: Float64[np.ndarray, " axis"]

    def __add__(self, other: SurfaceSums) -> SurfaceSums:
        """Return the sums over both."""
        return SurfaceSums(self.areas + other.areas, self.stair_areas + other.stair_areas, self.volumes + other.volumes)

    @property
    def pair_areas(self) -> Float64[np.ndarray, "class class"]:
        """Area of the interface between two classes."""
        return np.asarray(self.areas.sum(axis=0))

    @property
    def class_areas(self) -> Float64[np.ndarray, " class"]:
        """Area of a class's interfaces with all others."""
        return np.asarray(self.pair_areas.sum(axis=0))

    @property
    def densities(self) -> Float64[np.ndarray, "class class"]:
        """Area per volume of the interface between two classes; zeros where there is no volume.

        Each axis's faces are divided by the volume that could hold such faces, so that the edges of volume and mask,
        where there are fewer, make no difference.
        """
        volumes = np.where(self.volumes > 0, self.volumes, np.inf)
        return np.asarray((self.areas / volumes[:, None, None]).sum(axis=0))


def surface_guard(*, voxel_size: VoxelSize = (1.0, 1.0, 1.0), sigma: float = SURFACE_SIGMA) -> tuple[int, int, int]:
    """Return how many voxels around its own a block needs along (z, y, x) for `measure_surfaces`.

    Examples
    --------
    >>> surface_guard(voxel_size=(1.0, 0.5, 0.5), sigma=2.0)
    (8, 14, 14)
    """
    return guard_voxels(sigma, voxel_size)


def measure_surfaces(
    labels: Labels,
    *,
    n_classes: int,
    voxel_size: VoxelSize = (1.0, 1.0, 1.0),
    own: Region | None = None,
    sigma: float = SURFACE_SIGMA,
) -> SurfaceSums:
    """Return the areas of the interfaces in a block, each face weighted by the normal's component along its axis.

    With the smoothed unit normal n of the interface between the two classes at a face with its normal along axis k, the
    area is the sum of n_k times the face's area, n and the face seen from the same class; see `tomoseg.quantify.steps`.

    Parameters
    ----------
    labels
        Class indices, uint8 (z, y, x). `UNLABELLED` is outside: a mask's edge is no interface, nor is the volume's.
    n_classes
        Number of classes.
    voxel_size
        Edges of a voxel along (z, y, x) in any unit.
    own
        The block's own voxels within `labels`; by default all. A face belongs to the block that owns its lower voxel.
        Around them `labels` must hold `surface_guard` voxels, or as many as there are before the volume ends.
    sigma
        Std of the Gaussian that smooths the normals, in a voxel's longest edges. It is round in space, whatever
        the voxel's shape.

    Raises
    ------
    LabelError
        If there are class indices of `n_classes` and more.

    Examples
    --------
    >>> labels = np.zeros((8, 8, 8), np.uint8)
    >>> labels[:, :, 4:] = 1
    >>> measure_surfaces(labels, n_classes=2).pair_areas.tolist()
    [[0.0, 64.0], [64.0, 0.0]]
    """
    check_classes(labels, n_classes)
    own = own or Region.whole(labels.shape)
    volume = float(np.prod(voxel_size))
    sizes = volume / voxel_size[0], volume / voxel_size[1], volume / voxel_size[2]
    faces = [_faces(labels, axis, n_classes) for axis in range(3)]
    areas, stairs = np.zeros((2, 3, n_classes, n_classes))
    for pair in _pairs(faces, own, n_classes):
        steps = [_of_pair(places, codes, pair, n_classes) for places, codes in faces]
        weights = cosines(steps, sizes=sizes, sigma=sigma_in_voxels(sigma, voxel_size), lines=False)
        for axis, (one, weight) in enumerate(zip(steps, weights, strict=True)):
            mine = inside(one.places, own)
            for at in (pair, pair[::-1]):
                areas[(axis, *at)] = sizes[axis] * weight[mine].sum(dtype=np.float64)
                stairs[(axis, *at)] = sizes[axis] * mine.sum()
    return SurfaceSums(areas, stairs, volume * _sites(labels, own))


def _neighbours(labels: Labels, axis: int) -> tuple[UInt8[np.ndarray, "_ _ _"], UInt8[np.ndarray, "_ _ _"]]:
    """Return the lower and the upper voxel of every face with its normal along `axis`."""
    count = labels.shape[axis] - 1
    low, high = (tuple(slice(at, at + count) if k == axis else slice(None) for k in range(3)) for at in (0, 1))
    return labels[low], labels[high]


def _faces(
    labels: Labels, axis: int, n_classes: int
) -> tuple[Int32[np.ndarray, "axis face"], Int32[np.ndarray, " face"]]:
    """Return the faces between labelled voxels of two classes, and lower class * n_classes + upper class of each."""
    lower, upper = _neighbours(labels, axis)
    between = (lower != upper) & (lower != UNLABELLED) & (upper != UNLABELLED)
    codes = lower[between].astype(np.int32) * n_classes + upper[between]
    return np.array(np.nonzero(between), np.int32), codes


def _pairs(faces: list[tuple[np.ndarray, np.ndarray]], own: Region, n_classes: int) -> list[tuple[int, int]]:
    counts = sum(np.bincount(codes[inside(places, own)], minlength=n_classes**2) for places, codes in faces)
    table = np.reshape(counts, (n_classes, n_classes))
    return [(int(i), int(j)) for i, j in np.argwhere(np.triu(table + table.T))]


def _of_pair(
    places: Int32[np.ndarray, "axis face"], codes: Int32[np.ndarray, " face"], pair: tuple[int, int], n_classes: int
) -> Steps:
    upward, downward = codes == pair[0] * n_classes + pair[1], codes == pair[1] * n_classes + pair[0]
    chosen = np.flatnonzero(upward | downward)
    return Steps(places[:, chosen], np.where(upward[chosen], 1, -1).astype(np.int8))


def _sites(labels: Labels, own: Region) -> Int64[np.ndarray, " axis"]:
    """Return how many faces between two labelled voxels the block owns along each axis."""
    counts = []
    for axis in range(3):
        lower, upper = (side[own.slices] != UNLABELLED for side in _neighbours(labels, axis))
        counts.append(np.count_nonzero(lower & upper))
    return np.array(counts, np.int64)
