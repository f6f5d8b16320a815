"""The integral of mean curvature of each class's surface, from sections by planes through the voxels' centres.

By Crofton's formula it is 2 pi times the Euler number (parts minus holes) of plane sections, summed over parallel
planes times their distance and averaged over all directions: 4 pi R for a ball, pi L for a cylinder's side. Here the
planes are those through three or four corners of the cubes between 2 x 2 x 2 voxel centres, in 13 directions that count
with the solid angle nearest to each. How many cubes look like each of the 256 possible cases thus tells it all: D.
Legland, K. Kieu, M.-F. Devaux, Computation of Minkowski measures on 2D and 3D binary images, Image Anal. Stereol. 26
(2007) 83, DOI 10.5566/ias.v26.p83-92; J. Ohser, F. Muecklich, Statistical analysis of microstructures in materials
science (2000).

Edges count as well, with half the angle that the surface turns by times their length: those of a phase where it meets
two others are part of it. How far off the numbers are, decision 24 says.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import product

import numpy as np
from jaxtyping import Bool, Float64, Int64, UInt8
from scipy.spatial import SphericalVoronoi

from tomoseg.labels import UNLABELLED
from tomoseg.quantify.cubes import CORNERS
from tomoseg.quantify.steps import Labels, VoxelSize, check_classes
from tomoseg.volume import Region

CASES = 256
"""Ways in which the eight voxels of a cube can be of a class or not; corner k of `CORNERS` counts 2 ** k."""

_NORMALS = tuple(one for one in product((-1, 0, 1), repeat=3) if one > (0, 0, 0))

# A cell's share of the Euler number, by how many of its corners are of the class: a corner of the section turns by a
# quarter of a turn in rectangles, by a sixth in triangles. Two corners of a rectangle that lie diagonally are joined
# in half of all cases, so that a class and the rest of two differ in sign only.
_SHARES = {3: (0, 1 / 6, -1 / 6, 0), 4: (0, 1 / 4, 0, -1 / 4, 0)}


@dataclass(frozen=True)
class Sections:
    """Directions of the planes.

    Attributes
    ----------
    normals
        Unit vectors (z, y, x), float64 (direction, axis); each stands for its opposite as well.
    spacings
        Distance of neighbouring planes, in the voxel size's unit.
    weights
        Share of all directions that are nearest to each; their sum is 1.
    """

    normals: Float64[np.ndarray, "direction axis"]
    spacings: Float64[np.ndarray, " direction"]
    weights: Float64[np.ndarray, " direction"]


@lru_cache(maxsize=8)
def plane_sections(voxel_size: VoxelSize = (1.0, 1.0, 1.0)) -> Sections:
    """Return the 13 directions of planes through three or more corners of a cube of voxel centres.

    Examples
    --------
    >>> found = plane_sections()
    >>> len(found.normals), sorted(set(found.weights.round(4).tolist()))
    (13, [0.0704, 0.074, 0.0916])
    """
    across = np.array(_NORMALS) / np.array(voxel_size)
    length = np.linalg.norm(across, axis=1)
    normals = across / length[:, None]
    areas = SphericalVoronoi(np.vstack([normals, -normals])).calculate_areas()
    return Sections(normals, 1 / length, 2 * areas[: len(normals)] / areas.sum())


def cube_curvatures(voxel_size: VoxelSize = (1.0, 1.0, 1.0)) -> Float64[np.ndarray, " case"]:
    """Return what a cube of each case adds to the integral of mean curvature, in the voxel size's unit.

    Parameters
    ----------
    voxel_size
        Edges of a voxel along (z, y, x) in any unit.

    Returns
    -------
    curvatures
        float64 (case,), of opposite sign for opposite cases.

    Examples
    --------
    >>> found = cube_curvatures()
    >>> found.shape, bool(np.allclose(found, -found[::-1]))
    ((256,), True)
    """
    sections = plane_sections(voxel_size)
    return np.asarray(2 * np.pi * _euler_numbers() @ (sections.weights * sections.spacings))


def count_cubes(labels: Labels, *, n_classes: int, own: Region | None = None) -> Int64[np.ndarray, "class case"]:
    """Return how many cubes of 2 x 2 x 2 labelled voxels look like each case; add those of all blocks.

    A cube that reaches beyond the mask or the volume does not count. Per volume, the integral of mean curvature is the
    mean of `cube_curvatures` over all cubes, by a voxel's volume: edges of mask and volume make no difference.

    Parameters
    ----------
    labels
        Class indices, uint8 (z, y, x); `UNLABELLED` is outside.
    n_classes
        Number of classes.
    own
        The block's own voxels within `labels`; by default all. A cube belongs to the block that owns its lowest voxel.
        Above them `labels` must hold one voxel, or none where the volume ends.

    Raises
    ------
    LabelError
        If there are class indices of `n_classes` and more.

    Examples
    --------
    >>> at = np.indices((24, 24, 24)) - 11.5
    >>> ball = ((at**2).sum(axis=0) < 10**2).astype(np.uint8)
    >>> counts = count_cubes(ball, n_classes=2)
    >>> (counts @ cube_curvatures() / (4 * np.pi * 10)).round(2)
    array([-1.01,  1.01])
    """
    check_classes(labels, n_classes)
    own = own or Region.whole(labels.shape)
    box = labels[tuple(slice(span.start, span.stop + 1) for span in own.slices)]
    if min(box.shape) < 2:
        return np.zeros((n_classes, CASES), np.int64)
    labelled = _cases(box != UNLABELLED) == CASES - 1
    everywhere = bool(labelled.all())
    cases = (_cases(box == order) for order in range(n_classes))
    return np.stack(
        [np.bincount(its.ravel() if everywhere else its[labelled], minlength=CASES) for its in cases]
    ).astype(np.int64)


def _cases(member: Bool[np.ndarray, "z y x"]) -> UInt8[np.ndarray, "z-1 y-1 x-1"]:
    """Return which case the cube above each voxel is."""
    one = member.view(np.uint8)
    two = one[:, :, :-1] | one[:, :, 1:] << np.uint8(1)
    four = two[:, :-1] | two[:, 1:] << np.uint8(2)
    return np.asarray(four[:-1] | four[1:] << np.uint8(4))


@lru_cache(maxsize=1)
def _euler_numbers() -> Float64[np.ndarray, "case direction"]:
    """Return what a cube of each case adds to the Euler numbers of sections in each direction."""
    member = np.arange(CASES)[:, None] >> np.arange(len(CORNERS)) & 1
    found = np.zeros((CASES, len(_NORMALS)))
    for direction, normal in enumerate(_NORMALS):
        heights = np.array(CORNERS) @ normal
        shared = 2 if np.count_nonzero(normal) == 1 else 1  # a cube's faces belong to the next one, too
        for height in set(heights.tolist()):
            cell = member[:, heights == height]
            if cell.shape[1] >= 3:
                found[:, direction] += np.array(_SHARES[cell.shape[1]])[cell.sum(axis=1)] / shared
    return found
