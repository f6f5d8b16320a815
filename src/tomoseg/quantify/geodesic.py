"""Geodesic tortuosity of a phase: how much longer its shortest paths from face to face are than straight ones.

From each voxel of the phase on the last face the shortest path through the phase to the first face is taken, from voxel
to voxel through faces, edges and corners; the mean of their lengths over the straight one is the geodesic tortuosity
(O. Stenzel, O. Pecho, L. Holzer, M. Neumann, V. Schmidt, 2016, DOI 10.1002/aic.15160). Steps in 26 directions make a
path that runs between them up to a tenth longer than it is.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool
from skimage.graph import MCP_Geometric

from tomoseg.quantify.grid import Edges


def geodesic_tortuosity(phase: Bool[np.ndarray, "z y x"], *, axis: int, voxel_size: Edges) -> float | None:
    """Return the mean length of the shortest paths along an axis over the straight length, 1 or more.

    Parameters
    ----------
    phase
        Where the phase is, bool (z, y, x).
    axis
        Along which the paths lead: 0 z, 1 y, 2 x.
    voxel_size
        Edges of a voxel along (z, y, x), in any one unit.

    Returns
    -------
        None where no path leads from face to face, or the faces are one and the same.

    Examples
    --------
    >>> plate = np.zeros((4, 5, 6), bool)
    >>> plate[:, 2] = True
    >>> [geodesic_tortuosity(plate, axis=axis, voxel_size=(1, 1, 1)) for axis in range(3)]
    [1.0, None, 1.0]
    """
    length = (phase.shape[axis] - 1) * voxel_size[axis]
    turned = np.moveaxis(phase, axis, 0)
    starts = [(0, int(b), int(c)) for b, c in np.argwhere(turned[0])]
    if not length or not starts or not turned[-1].any():
        return None
    edges = (voxel_size[axis], *(edge for order, edge in enumerate(voxel_size) if order != axis))
    paths = MCP_Geometric(np.where(turned, 1.0, -1.0), sampling=edges)
    lengths, _ = paths.find_costs(starts)
    found = lengths[-1][turned[-1] & np.isfinite(lengths[-1])]
    return float(found.mean()) / length if found.size else None
