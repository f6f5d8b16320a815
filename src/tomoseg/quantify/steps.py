"""Local directions of digital surfaces and lines, from the voxel faces and edges that they are made of.

A piece of a plane of area A and unit normal n shows A |n_k| of its area in faces with normals along axis k, and a piece
of a straight line of length L and unit tangent t goes L t_k along axis k, steps back counted as negative. The sum
of the steps near a place is thus along the direction there, and true sizes are the sizes of the steps times the
direction's component along them. An error of the direction by an angle d costs only 1 - cos d. What is smaller than the
smoothing is rounded: edges and corners of a body between two classes come out a little too small.

That area follows from counted faces and a normal estimated at each: A. Lenoir, R. Malgouyres, M. Revenu, Fast
computation of the normal vector field of the surface of a 3-D discrete object, Discrete Geometry for Computer Imagery
1996, LNCS 1176, 101, DOI 10.1007/3-540-62005-2. Summing steps rather than taking the gradient of smoothed classes keeps
the direction of one interface where it meets others or leaves the volume.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float32, Int8, Int32, UInt8
from scipy import ndimage

from tomoseg.errors import LabelError
from tomoseg.labels import UNLABELLED
from tomoseg.volume import Region

VoxelSize = tuple[float, float, float]
"""Edge lengths of a voxel along (z, y, x), in any unit of length."""

_REACH = 3.0  # Gaussians are cut at so many sigmas

Labels = UInt8[np.ndarray, "z y x"]
Fields = list[Float32[np.ndarray, "z y x"] | None]


@dataclass(frozen=True)
class Steps:
    """Faces of voxels whose normals are along one axis, or edges of voxels along it.

    Attributes
    ----------
    places
        Index (z, y, x) of the lowest voxel at each, int32 (axis, step).
    signs
        1 or -1: whether they lead up or down the axis, int8 (step,).
    """

    places: Int32[np.ndarray, "axis step"]
    signs: Int8[np.ndarray, " step"]


def sigma_in_voxels(sigma: float, voxel_size: VoxelSize) -> tuple[float, float, float]:
    """Return the std of a round Gaussian along (z, y, x) in voxels, from `sigma` in a voxel's longest edges.

    The longest edge makes the stairs that have to be smoothed.

    Examples
    --------
    >>> sigma_in_voxels(2.0, (1.0, 0.5, 0.5))
    (2.0, 4.0, 4.0)
    """
    along_z, along_y, along_x = (sigma * max(voxel_size) / edge for edge in voxel_size)
    return along_z, along_y, along_x


def guard_voxels(sigma: float, voxel_size: VoxelSize) -> tuple[int, int, int]:
    """Return how many voxels around a block along (z, y, x) its directions depend on.

    Examples
    --------
    >>> guard_voxels(2.0, (1.0, 1.0, 1.0))
    (8, 8, 8)
    """
    # One voxel for the mean over neighbouring steps, and one for the far side of a step.
    z, y, x = (int(_REACH * std + 0.5) + 2 for std in sigma_in_voxels(sigma, voxel_size))
    return z, y, x


def check_classes(labels: Labels, n_classes: int) -> None:
    """Refuse class indices of `n_classes` and more.

    Raises
    ------
    LabelError
        If there is one other than `UNLABELLED`.
    """
    highest = int(labels.max(initial=0, where=labels != UNLABELLED))
    if highest >= n_classes:
        raise LabelError(f"the labels hold class index {highest}; with {n_classes} classes they end at {n_classes - 1}")


def inside(places: Int32[np.ndarray, "axis step"], own: Region) -> Bool[np.ndarray, " step"]:
    """Return which of the places (z, y, x) lie in a region.

    Examples
    --------
    >>> inside(np.array([[0, 2], [0, 0], [0, 0]], np.int32), Region(0, 2, 0, 1, 0, 1))
    array([ True, False])
    """
    chosen = np.ones(places.shape[1], bool)
    for index, span in zip(places, own.slices, strict=True):
        chosen &= (index >= span.start) & (index < span.stop)
    return chosen


def cosines(
    steps: list[Steps], *, sizes: tuple[float, float, float], sigma: tuple[float, float, float], lines: bool
) -> list[Float[np.ndarray, " step"]]:
    """Return the cosine of each step's angle with the smoothed sum of the steps around it, per axis, float32 (step,).

    Parameters
    ----------
    steps
        The faces of one surface, or edges of one line, along z, y and x.
    sizes
        Area of a face, or length of an edge, along z, y and x.
    sigma
        Std of the Gaussian along z, y and x in voxels.
    lines
        Whether they are edges. Their centres lie elsewhere than those of faces.

    Examples
    --------
    >>> stairs = np.arange(40, dtype=np.int32)
    >>> path = [Steps(np.stack([stairs * 0, stairs, stairs + up]), np.ones(40, np.int8)) for up in (0, 1)]
    >>> none = Steps(np.zeros((3, 0), np.int32), np.ones(0, np.int8))
    >>> found = cosines([none, *path], sizes=(1.0, 1.0, 1.0), sigma=(2.0, 2.0, 2.0), lines=True)
    >>> [round(float(along[20]), 2) for along in found[1:]]
    [0.71, 0.71]
    """
    low, shape, still = _box(steps)
    fields: Fields = []
    for axis, (one, size) in enumerate(zip(steps, sizes, strict=True)):
        if not one.signs.size:
            fields.append(None)
            continue
        field = np.zeros(shape, np.float32)
        field[tuple(one.places - low[:, None])] = size * one.signs
        # The mean of two neighbours along `axis`, taken below, adds a variance of 1/4.
        stds = np.sqrt(np.maximum(0, np.square(sigma) - 0.25 * (np.arange(3) == axis)))
        stds[still] = 0.0
        fields.append(ndimage.gaussian_filter(field, stds, mode="constant", truncate=_REACH, output=field))
    found = []
    for axis, one in enumerate(steps):
        index = np.ravel_multi_index(tuple(one.places - low[:, None]), tuple(shape))
        found.append(one.signs * _component(fields, index, axis, up=-1 if lines else 1))
    return found


def _box(
    steps: list[Steps],
) -> tuple[Int32[np.ndarray, " axis"], Int32[np.ndarray, " axis"], Bool[np.ndarray, " axis"]]:
    """Return where the steps begin along each axis and how far they reach, a voxel more on either side.

    Last, along which axes they stand still: all in one plane, none leading out of it, as in a slice. Smoothing along
    these changes all alike and is left out, and so is the voxel on either side.
    """
    places = [one.places for one in steps]
    low = np.min([place.min(axis=1, initial=np.iinfo(np.int32).max) for place in places], axis=0)
    high = np.max([place.max(axis=1, initial=0) for place in places], axis=0)
    still = (low == high) & np.array([not one.signs.size for one in steps])
    margin = np.where(still, 0, 1).astype(np.int32)
    return low - margin, high - low + 1 + 2 * margin, still


def _component(fields: Fields, index: np.ndarray, axis: int, *, up: int) -> Float[np.ndarray, " step"]:
    """Return the component along `axis` of the fields' direction at steps along it.

    The fields lie on grids half a voxel apart. Each is averaged to the centres of voxels (faces) or to corners (edges)
    along its own axis, then to the step from the two that it joins, so that all are smoothed alike: a field smoothed
    less than the others would bias the direction. `up` is 1 for faces, whose centres are above their lower voxels', and
    -1 for edges, whose centres are below the corner above their lowest voxel.
    """
    mine = fields[axis]
    if mine is None:
        return np.zeros(0, np.float32)
    strides = [stride // mine.itemsize for stride in mine.strides]
    means = []
    for other, field in enumerate(fields):
        if field is None:  # nothing leads that way
            means.append(np.zeros(len(index), np.float32))
            continue
        values, there, back = field.ravel(), up * strides[axis], -up * strides[other]
        means.append((values[index] + values[index + there] + values[index + back] + values[index + there + back]) / 4)
    norm = np.sqrt(sum(mean**2 for mean in means))
    return np.asarray(np.divide(means[axis], norm, out=np.zeros_like(norm), where=norm > 0))
