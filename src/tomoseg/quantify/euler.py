"""Euler numbers: connected parts minus tunnels plus cavities of a class.

J. Toriwaki, T. Yonekura, Euler number and connectivity indexes of a three dimensional digital picture, Forma 17 (2002).
"""

from __future__ import annotations

from functools import reduce
from itertools import product
from operator import and_, or_
from typing import Literal

import numpy as np
from jaxtyping import Bool, Int64

from tomoseg.quantify.steps import Labels
from tomoseg.volume import Region


def euler_numbers(
    labels: Labels, *, n_classes: int, connectivity: Literal[6, 26] = 26, own: Region | None = None
) -> Int64[np.ndarray, " class"]:
    """Return the Euler number of each class in a block, int64 (class,); add those of all blocks to get the volume's.

    It is the number of corners minus edges plus faces minus voxels of the class. With 26-connectivity a
    corner, edge or face belongs to the class if one of the voxels around it does. With 6-connectivity it does if all of
    them do, and the number is that of the complex of neighbouring voxels: voxels minus faces plus edges minus corners.

    Parameters
    ----------
    labels
        Class indices, uint8 (z, y, x). What lies outside the volume, and `UNLABELLED`, belongs to no class.
    n_classes
        Number of classes.
    connectivity
        Whether voxels that share a corner or an edge only are connected (26) or not (6).
    own
        The block's own voxels within `labels`; by default all. Around them `labels` must hold one voxel, or none where
        the volume ends. A cell belongs to the block that owns the highest voxel around it, or, on the volume's upper
        edge, the last one before it.

    Examples
    --------
    >>> ring = np.zeros((3, 3, 1), np.uint8)
    >>> ring[1, 1] = 1
    >>> euler_numbers(ring, n_classes=2).tolist()
    [0, 1]
    """
    own = own or Region.whole(labels.shape)
    # With one layer of no class around it the volume's own edge is like any other place.
    inner = tuple(slice(max(0, span.start - 1), span.stop) for span in own.slices)
    before = [int(span.start == 0) for span in own.slices]
    after = [int(span.stop == size) for span, size in zip(own.slices, labels.shape, strict=True)]
    return np.array(
        [
            _alternating(np.pad(labels[inner] == one, list(zip(before, after, strict=True))), connectivity)
            for one in range(n_classes)
        ],
        np.int64,
    )


def _alternating(member: Bool[np.ndarray, "z y x"], connectivity: int) -> int:
    """Return the alternating sum over the cells whose highest voxel is not in the first layer along any axis."""
    joined, sign = (or_, -1) if connectivity == 26 else (and_, 1)
    total = 0
    for cell in product((0, 1), repeat=3):  # along which axes the cell lies between two voxels
        around = product(*((0, 1) if between else (0,) for between in cell))
        voxels = [
            member[tuple(slice(1 - down, n - down) for down, n in zip(step, member.shape, strict=True))]
            for step in around
        ]
        total += sign * (-1) ** sum(cell) * int(np.count_nonzero(reduce(joined, voxels)))
    return total
