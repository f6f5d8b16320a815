"""A volume that is one array in a file or store: `read` fetches the part that is asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped

from tomoseg.errors import VolumeError
from tomoseg.volume.base import Grey, Region
from tomoseg.volume.page import check_finite, check_inside, reading


@dataclass(frozen=True)
class LazyVolume:
    """A volume described by a header, whose grey values are loaded region by region.

    Attributes
    ----------
    path
        The file or store, for messages.
    shape
        Voxels along (z, y, x).
    dtype
        Type of the grey values in the machine's byte order.
    load
        Reads a region that lies inside, (z, y, x), in this type or in another byte order.
    voxel_size_um
        Edge lengths of a voxel along (z, y, x) in micrometres; None where the file does not say.
    in_order_only
        Whether the file is one compressed stream, so that only reading in rising z is quick.
    chunk_depth
        Slices that are stored, and so decoded, together.
    kept_bytes
        Memory that the volume takes for good once a part of it was read.
    reading_bytes
        Memory that a read takes beside its result.
    others
        Further files that values or their description come from, like the sources of a virtual data set.
    numbers
        Where the slices lie along z, if some between them are missing.
    """

    path: Path
    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    load: Callable[[Region], Shaped[np.ndarray, "z y x"]]
    voxel_size_um: tuple[float, float, float] | None = None
    in_order_only: bool = False
    chunk_depth: int = 1
    kept_bytes: int = 0
    reading_bytes: int = 0
    others: tuple[Path, ...] = ()
    numbers: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if min(self.shape) < 1:
            z, y, x = self.shape
            raise VolumeError(f"{self.path}: has {z} x {y} x {x} voxels, so that there is nothing to read")

    @property
    def names(self) -> tuple[str, ...]:
        """One name a slice, as of the pages of a stack: `scan.zarr[17]`."""
        return tuple(f"{self.path.name}[{z}]" for z in self.numbers or range(self.shape[0]))

    def read(self, region: Region) -> Grey:
        """Return the grey values of `region`, (z, y, x).

        Raises
        ------
        VolumeError
            If the region is not in the volume, or is damaged, or holds NaN or infinite values.
        """
        check_inside(region, self.shape, self.path)
        with reading(self.path):
            values = np.asarray(self.load(region)).astype(self.dtype, copy=False)
        check_finite(values, f"{self.path}: z {region.z0} to {region.z1 - 1}")
        return values
