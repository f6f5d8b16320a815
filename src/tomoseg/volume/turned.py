"""A volume seen along another axis: its planes across y or x take the place of slices."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Shaped

from tomoseg.volume.base import Grey, Region, Volume
from tomoseg.volume.page import PagedVolume

Axis = Literal["z", "y", "x"]

_SLAB_BYTES = 1 << 26
_NEAR = 64  # planes: as long as most chunks, within which one read is as quick as several

_ORDER: dict[Axis, tuple[int, int, int]] = {"z": (0, 1, 2), "y": (1, 0, 2), "x": (2, 0, 1)}


@dataclass(frozen=True)
class TurnedVolume:
    """A volume whose slices are the planes across `axis`, their rows and columns the other two axes in order."""

    volume: Volume
    axis: Axis

    @property
    def path(self) -> Path:
        """Where the volume is."""
        return self.volume.path

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along (axis, and the other two in their order)."""
        return turn_shape(self.volume.shape, self.axis)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the grey values."""
        return self.volume.dtype

    @property
    def voxel_size_um(self) -> tuple[float, float, float] | None:
        """Edge lengths of a voxel along the turned axes in micrometres."""
        size = self.volume.voxel_size_um
        return None if size is None else (size[(o := _ORDER[self.axis])[0]], size[o[1]], size[o[2]])

    @property
    def names(self) -> tuple[str, ...]:
        """One name a plane."""
        if self.axis == "z":
            return self.volume.names
        return tuple(f"{self.axis}[{i}]" for i in range(self.shape[0]))

    def read(self, region: Region) -> Grey:
        """Return the grey values of a region in turned coordinates; raises as the volume's own `read` does."""
        return turn(self.volume.read(turn_back_region(region, self.axis)), self.axis)


def read_planes(turned: TurnedVolume, planes: Sequence[int]) -> Iterator[tuple[slice, Grey]]:
    """Read some planes in one pass over the slices of the volume, so that no file is opened again for each plane.

    Parameters
    ----------
    turned
        Across y or x.
    planes
        Which ones, rising.

    Yields
    ------
    tuple
        Rows, from the first to the last, and their grey values (plane, row, column); at most 64 MiB are read at a
        time, or what is stored in one piece along z.
    """
    spans = _spans(turned.volume, planes)
    _, depth, width = turned.shape
    chunk = int(getattr(turned.volume, "chunk_depth", 1))
    row_bytes = sum(len(span) for span in spans) * width * turned.dtype.itemsize
    step = max(1, _SLAB_BYTES // (row_bytes * chunk)) * chunk
    for start in range(0, depth, step):
        stop = min(depth, start + step)
        parts = []
        for span in spans:
            read = turned.read(Region(span.start, span.stop, start, stop, 0, width))
            parts.append(read[[plane - span.start for plane in planes if plane in span]])
        yield slice(start, stop), np.concatenate(parts)


def _spans(volume: Volume, planes: Sequence[int]) -> list[range]:
    """Return runs of planes to be read at once: all of them where a slice is read in whole anyway."""
    if isinstance(volume, PagedVolume) or getattr(volume, "in_order_only", False):
        return [range(planes[0], planes[-1] + 1)]
    spans: list[range] = []
    for plane in planes:
        if spans and plane < spans[-1].stop + _NEAR:
            spans[-1] = range(spans[-1].start, plane + 1)
        else:
            spans.append(range(plane, plane + 1))
    return spans


def turn(values: Shaped[np.ndarray, "*lead z y x"], axis: Axis) -> Shaped[np.ndarray, "*lead plane row column"]:
    """Bring `axis` to the front of the last three axes.

    Examples
    --------
    >>> turn(np.zeros((2, 3, 4)), "x").shape, turn(np.zeros((9, 2, 3, 4)), "y").shape
    ((4, 2, 3), (9, 3, 2, 4))
    """
    lead = values.ndim - 3
    return values.transpose(*range(lead), *(lead + i for i in _ORDER[axis]))


def turn_back(values: Shaped[np.ndarray, "*lead plane row column"], axis: Axis) -> Shaped[np.ndarray, "*lead z y x"]:
    """Undo `turn`.

    Examples
    --------
    >>> turn_back(turn(np.zeros((2, 3, 4)), "x"), "x").shape
    (2, 3, 4)
    """
    lead = values.ndim - 3
    return values.transpose(*range(lead), *(lead + int(i) for i in np.argsort(_ORDER[axis])))


def turn_shape(shape: tuple[int, int, int], axis: Axis) -> tuple[int, int, int]:
    """Return the shape of a turned volume."""
    first, second, third = (shape[i] for i in _ORDER[axis])
    return first, second, third


def turn_region(region: Region, axis: Axis) -> Region:
    """Return a region of the volume in turned coordinates."""
    return _region([region.slices[i] for i in _ORDER[axis]])


def turn_back_region(region: Region, axis: Axis) -> Region:
    """Return a region in turned coordinates in those of the volume.

    Examples
    --------
    >>> turn_back_region(turn_region(Region(0, 1, 2, 4, 5, 9), "x"), "x")
    Region(z0=0, z1=1, y0=2, y1=4, x0=5, x1=9)
    """
    return _region([region.slices[int(i)] for i in np.argsort(_ORDER[axis])])


def _region(parts: list[slice]) -> Region:
    z, y, x = parts
    return Region(z.start, z.stop, y.start, y.stop, x.start, x.stop)
