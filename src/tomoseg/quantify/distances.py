"""How far each voxel is from another phase."""

from __future__ import annotations

import edt
import numpy as np
from jaxtyping import Float32, Shaped

from tomoseg.labels import UNLABELLED
from tomoseg.quantify.grid import Edges, Labels, Shape, grown
from tomoseg.volume.base import Region

Distances = Float32[np.ndarray, "z y x"]


def class_distances(labels: Labels, edges: Edges) -> Distances:
    """Return each voxel's distance to the nearest visible voxel of another class, float32 (z, y, x).

    From centre to centre; infinite where there is none. At a masked voxel it is the largest that one of the classes
    would have there.

    Parameters
    ----------
    labels
        Class indices, uint8 (z, y, x), `UNLABELLED` outside the mask.
    edges
        Edge lengths of a voxel along (z, y, x), in the unit of the distances.

    Examples
    --------
    >>> class_distances(np.array([[[0, 0, 1, 1]]], np.uint8), (1, 1, 1))
    array([[[2., 1., 1., 2.]]], dtype=float32)
    """
    masked = labels == UNLABELLED
    if not masked.any():
        # One is added because 0 means background to edt.
        return transform(labels + np.uint8(1), edges)
    distances = np.zeros(labels.shape, np.float32)
    for index in np.unique(labels[~masked]):
        np.maximum(distances, transform((labels == index) | masked, edges), out=distances)
    return distances


def transform(values: Shaped[np.ndarray, "z y x"], edges: Edges) -> Distances:
    """Return the distance of each voxel that is not 0 to the nearest voxel of another value, float32 (z, y, x).

    P. Felzenszwalb and D. Huttenlocher, 2012, DOI 10.4086/toc.2012.v008a019; many values at a time.
    """
    found = edt.edt(np.ascontiguousarray(values), anisotropy=edges, black_border=False, parallel=1)
    return np.asarray(found, np.float32)


def guarded(region: Region, guard: float, edges: Edges, shape: Shape) -> Region:
    """Return a region with all around it that is nearer than `guard`, as far as the volume reaches.

    Examples
    --------
    >>> guarded(Region(2, 4, 0, 4, 0, 4), 2.5, (1, 1, 5), (9, 9, 9))
    Region(z0=0, z1=7, y0=0, y1=7, x0=0, x1=5)
    """
    z, y, x = (int(np.ceil(guard / edge)) for edge in edges)
    return grown(region, by=(z, y, x), shape=shape)
