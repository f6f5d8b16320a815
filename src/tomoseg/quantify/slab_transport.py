"""How phases conduct in a slab of neighbouring labelled slices, for a segmentation to be compared with its labels.

A section does not tell how a phase conducts: what ends in it goes on beside it. A slab does, along its plane, if it is
cut to parts that are not much longer than it is thick. In longer ones a phase has to find its way in a sheet, where it
breaks off sooner than in space: what a segmentation does to necks then counts many times over. Shorter ones, and the
slab's own thickness, are mostly crossed straight, and hide it. `docs/experiments.md` has the figures.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from tomoseg.intervals import even_parts
from tomoseg.labels import UNLABELLED
from tomoseg.quantify.grid import Edges
from tomoseg.quantify.subvolumes import TRANSPORT_EDGE, spread_out
from tomoseg.quantify.transport import tortuosity
from tomoseg.volume import Region

Labels = UInt8[np.ndarray, "z y x"]

PART_THICKNESSES = 3
"""Edge of a part along y and x, in the thickness of its slab: from there up to twice as much."""

IN_PLANE = (1, 2)
"""Axes along which slabs are measured, y and x."""

_MOST_VOXELS = 2_000_000
"""Of all parts together: some 2 s for three phases and two axes."""


class Factor(NamedTuple):
    """Tortuosity factor of a phase along an axis, 1 or more; None, and why, where it has none."""

    tau: float | None
    why_not: str | None = None


Factors = tuple[tuple[Factor, ...], ...]
"""By phase, and along y and x."""


def slab_parts(labels: Labels, *, voxel_size: Edges) -> tuple[Region, ...]:
    """Return the parts of a slab that stand for it: wholly labelled, as thick as it is, and far from each other.

    Parameters
    ----------
    labels
        Class indices, uint8 (z, y, x).
    voxel_size
        Edges of a voxel along (z, y, x), in any one unit.

    Examples
    --------
    >>> slab_parts(np.zeros((8, 50, 24), np.uint8), voxel_size=(1, 1, 1))
    (Region(z0=0, z1=8, y0=0, y1=25, x0=0, x1=24), Region(z0=0, z1=8, y0=25, y1=50, x0=0, x1=24))
    """
    depth = len(labels)
    edges = (min(TRANSPORT_EDGE, round(PART_THICKNESSES * depth * voxel_size[0] / voxel_size[i])) for i in IN_PLANE)
    rows, columns = (even_parts(size, max(1, edge)) for size, edge in zip(labels.shape[1:], edges, strict=True))
    parts = {
        (0, i, j): Region(0, depth, y.start, y.stop, x.start, x.stop)
        for (i, y), (j, x) in product(enumerate(rows), enumerate(columns))
    }
    whole = [place for place, part in parts.items() if not (labels[part.slices] == UNLABELLED).any()]
    if not whole:
        return ()
    most = max(1, _MOST_VOXELS // max(labels[parts[place].slices].size for place in whole))
    return tuple(parts[whole[chosen]] for chosen in spread_out(np.array(whole, np.int64), n=most))


def slab_factors(labels: Labels, parts: Sequence[Region], *, n_classes: int, voxel_size: Edges) -> Factors:
    """Return the tortuosity factor of each phase along y and x, of all parts together.

    It is the ratio of the parts' mean fraction and mean effective diffusivity, as `quantify --transport` has it of the
    parts of a volume. A part in which the phase does not percolate conducts nothing.

    Parameters
    ----------
    labels
        Class indices, uint8 (z, y, x).
    parts
        Of the slab; one or more.
    n_classes
        Number of classes.
    voxel_size
        Edges of a voxel along (z, y, x), in any one unit.

    Examples
    --------
    >>> columns = np.zeros((8, 24, 24), np.uint8)
    >>> columns[:, :, ::2] = 1
    >>> whole = slab_parts(columns, voxel_size=(1, 1, 1))
    >>> slab_factors(columns, whole, n_classes=2, voxel_size=(1, 1, 1))[1]
    (Factor(tau=1.0, why_not=None), Factor(tau=None, why_not='does not percolate along x'))
    """
    return tuple(
        tuple(_factor(labels == phase, parts, axis=axis, voxel_size=voxel_size) for axis in IN_PLANE)
        for phase in range(n_classes)
    )


def _factor(phase: np.ndarray, parts: Sequence[Region], *, axis: int, voxel_size: Edges) -> Factor:
    found = [tortuosity(phase[part.slices], axis=axis, voxel_size=voxel_size) for part in parts]
    unsolved = next((one.why_not for one in found if one.percolating and one.diffusivity is None), None)
    sizes = np.array([np.prod(part.shape) for part in parts])
    fraction = float(sizes @ [one.fraction for one in found])
    flow = float(sizes @ [one.diffusivity or 0.0 for one in found])
    if unsolved or not fraction:
        return Factor(None, unsolved or "is absent")
    if not flow:
        where = f" in any of {len(parts)} parts" if len(parts) > 1 else ""
        return Factor(None, f"does not percolate along {'zyx'[axis]}{where}")
    return Factor(round(fraction / flow, 9))
