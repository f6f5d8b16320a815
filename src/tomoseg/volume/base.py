"""What a volume is: a shape, a grey-value type, a voxel size, slice names, and a lazy `read`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Shaped

from tomoseg.errors import SettingError

Grey = Shaped[np.ndarray, "z y x"]


@dataclass(frozen=True)
class Region:
    """A box of voxels, `z0 <= z < z1` and so on, in voxels of the whole volume.

    Examples
    --------
    >>> Region.parse("2:4,:,10:20", shape=(5, 30, 30))
    Region(z0=2, z1=4, y0=0, y1=30, x0=10, x1=20)
    >>> Region.parse("2:4,:,10:20", shape=(5, 30, 30)).shape
    (2, 30, 10)
    """

    z0: int
    z1: int
    y0: int
    y1: int
    x0: int
    x1: int

    @classmethod
    def whole(cls, shape: tuple[int, int, int]) -> Region:
        """Return the region that covers a volume of `shape` (z, y, x)."""
        return cls(0, shape[0], 0, shape[1], 0, shape[2])

    @classmethod
    def parse(cls, text: str, *, shape: tuple[int, int, int]) -> Region:
        """Read `z0:z1,y0:y1,x0:x1`; an end left out is the volume's own.

        Raises
        ------
        SettingError
            If `text` is not of this form, or reaches outside `shape`, or is empty.
        """
        parts = re.fullmatch(r"(\d*):(\d*),(\d*):(\d*),(\d*):(\d*)", text.replace(" ", ""))
        if parts is None:
            raise SettingError(f"--roi {text!r} is not of the form z0:z1,y0:y1,x0:x1, like 0:10,:,100:400")
        ends: list[int] = []
        for axis, (size, low, high) in enumerate(zip(shape, parts.groups()[::2], parts.groups()[1::2], strict=True)):
            start, stop = int(low or 0), int(high or size)
            if not 0 <= start < stop <= size:
                raise SettingError(
                    f"--roi {text!r} asks for {start}:{stop} along {'zyx'[axis]}; the volume has {size} voxels there"
                )
            ends += [start, stop]
        return cls(*ends)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Size in voxels along (z, y, x)."""
        return self.z1 - self.z0, self.y1 - self.y0, self.x1 - self.x0

    @property
    def slices(self) -> tuple[slice, slice, slice]:
        """The region as an index into an array of the whole volume."""
        return slice(self.z0, self.z1), slice(self.y0, self.y1), slice(self.x0, self.x1)


@runtime_checkable
class Volume(Protocol):
    """A tomogram of grey values, read where asked and never as a whole.

    Attributes
    ----------
    path
        Where it is, for messages.
    shape
        Voxels along (z, y, x).
    dtype
        Type of the grey values.
    voxel_size_um
        Edge lengths of a voxel along (z, y, x) in micrometres; None where the file does not say.
    names
        One name a slice, as the user knows it (file name, or `stack.tif[17]`), for pairing and messages.
    """

    @property
    def path(self) -> Path: ...  # noqa: D102
    @property
    def shape(self) -> tuple[int, int, int]: ...  # noqa: D102
    @property
    def dtype(self) -> np.dtype[Any]: ...  # noqa: D102
    @property
    def voxel_size_um(self) -> tuple[float, float, float] | None: ...  # noqa: D102
    @property
    def names(self) -> tuple[str, ...]: ...  # noqa: D102

    def read(self, region: Region) -> Grey:
        """Return the grey values of `region`, (z, y, x), in the type of the file."""
        ...


def read_slice(volume: Volume, z: int) -> Shaped[np.ndarray, "y x"]:
    """Return the whole slice `z` of a volume, (y, x); raises as its `read` does."""
    _, height, width = volume.shape
    return np.asarray(volume.read(Region(z, z + 1, 0, height, 0, width))[0])


@dataclass(frozen=True)
class ArrayVolume:
    """A volume that is already in memory."""

    values: Grey
    voxel_size_um: tuple[float, float, float] | None = None
    slice_names: tuple[str, ...] | None = None
    path: Path = Path("array")

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along (z, y, x)."""
        z, y, x = self.values.shape
        return z, y, x

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the grey values."""
        return self.values.dtype

    @property
    def names(self) -> tuple[str, ...]:
        """One name a slice."""
        return self.slice_names or tuple(f"slice_{z:04d}" for z in range(self.shape[0]))

    def read(self, region: Region) -> Grey:
        """Return a copy of the grey values of `region`."""
        return self.values[region.slices].copy()
