"""Blocks that fill a volume: cut evenly along each axis, each with its neighbours, or grown by a guard."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int, Int64, UInt8

from tomoseg.volume.base import Region

Labels = UInt8[np.ndarray, "z y x"]
"""Class indices of a block; `tomoseg.labels.UNLABELLED` outside the mask, in no phase."""

Read = Callable[[Region], Labels]
"""Gives the class indices of a region, like `Volume.read`."""

Shape = tuple[int, int, int]

Edges = tuple[float, float, float]
"""Edge lengths of a voxel along (z, y, x) in micrometres; ones where no voxel size is known."""


@dataclass(frozen=True)
class Grid:
    """The blocks of a volume, numbered from 0 with x fastest.

    Attributes
    ----------
    ends
        Along each of (z, y, x) where blocks begin and end, in voxels: from 0 to the volume's size.
    """

    ends: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]

    @property
    def shape(self) -> Shape:
        """Voxels of the volume along (z, y, x)."""
        z, y, x = (ends[-1] for ends in self.ends)
        return z, y, x

    @property
    def counts(self) -> Shape:
        """Blocks along (z, y, x)."""
        z, y, x = (len(ends) - 1 for ends in self.ends)
        return z, y, x

    def __len__(self) -> int:
        z, y, x = self.counts
        return z * y * x

    def __iter__(self) -> Iterator[Region]:
        return (self[number] for number in range(len(self)))

    def __getitem__(self, number: int) -> Region:
        (z0, z1), (y0, y1), (x0, x1) = (ends[i : i + 2] for ends, i in zip(self.ends, self._place(number), strict=True))
        return Region(z0, z1, y0, y1, x0, x1)

    def numbers(self, voxels: Int[np.ndarray, "voxel 3"]) -> Int64[np.ndarray, " voxel"]:
        """Return the number of the block that each voxel (z, y, x) lies in."""
        places = [np.searchsorted(ends, at, side="right") - 1 for ends, at in zip(self.ends, voxels.T, strict=True)]
        return np.asarray(np.ravel_multi_index(tuple(places), self.counts), np.int64)

    def after(self, number: int, *, axis: int) -> int | None:
        """Return the number of the next block along `axis` (0 z, 1 y, 2 x); None at the volume's end."""
        _, ny, nx = self.counts
        if self._place(number)[axis] + 1 == self.counts[axis]:
            return None
        return number + (ny * nx, nx, 1)[axis]

    def _place(self, number: int) -> Shape:
        _, ny, nx = self.counts
        if not 0 <= number < len(self):
            raise IndexError(f"there is no block {number}; the volume has blocks 0 to {len(self) - 1}")
        return number // (ny * nx), number // nx % ny, number % nx


def cut(shape: Shape, *, edge: int) -> Grid:
    """Cut a volume into blocks as even as can be, no edge longer than `edge`.

    Parameters
    ----------
    shape
        Voxels along (z, y, x).
    edge
        Longest edge of a block in voxels.

    Raises
    ------
    ValueError
        If `edge` or a part of `shape` is below 1.

    Examples
    --------
    >>> grid = cut((10, 4, 4), edge=4)
    >>> [(block.z0, block.z1) for block in grid], grid.after(0, axis=0), grid.after(0, axis=2)
    ([(0, 3), (3, 6), (6, 10)], 1, None)
    """
    if edge < 1 or min(shape) < 1:
        raise ValueError(f"a volume of {shape} voxels cannot be cut into blocks of edge {edge}; both need 1 or more")
    z, y, x = (tuple(size * i // n for i in range(n + 1)) for size, n in ((size, -(-size // edge)) for size in shape))
    return Grid((z, y, x))


def grown(region: Region, *, by: tuple[int, int, int], shape: Shape) -> Region:
    """Return a region with `by` voxels more on each side along (z, y, x), as far as the volume reaches.

    Examples
    --------
    >>> grown(Region(2, 4, 0, 4, 0, 4), by=(3, 1, 0), shape=(9, 9, 9))
    Region(z0=0, z1=7, y0=0, y1=5, x0=0, x1=4)
    """
    low = (max(0, start - n) for start, n in zip((region.z0, region.y0, region.x0), by, strict=True))
    high = (min(size, stop + n) for stop, n, size in zip((region.z1, region.y1, region.x1), by, shape, strict=True))
    (z0, y0, x0), (z1, y1, x1) = low, high
    return Region(z0, z1, y0, y1, x0, x1)


def within(region: Region, box: Region) -> tuple[slice, slice, slice]:
    """Return where a region lies in an array of a box around it.

    Examples
    --------
    >>> within(Region(2, 4, 0, 4, 1, 4), Region(1, 5, 0, 4, 1, 9))
    (slice(1, 3, None), slice(0, 4, None), slice(0, 3, None))
    """
    return (
        slice(region.z0 - box.z0, region.z1 - box.z0),
        slice(region.y0 - box.y0, region.y1 - box.y0),
        slice(region.x0 - box.x0, region.x1 - box.x0),
    )


def relative(voxel_size_um: Edges) -> Edges:
    """Return edge lengths in the shortest: in a cubic grid squares of distances are whole then, and exact.

    Examples
    --------
    >>> relative((0.5, 0.25, 0.25))
    (2.0, 1.0, 1.0)
    """
    z, y, x = (edge / min(voxel_size_um) for edge in voxel_size_um)
    return z, y, x
