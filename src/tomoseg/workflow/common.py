"""Options that verbs share."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import tyro
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from threadpoolctl import threadpool_limits

from tomoseg.volume import Opening, RawLayout
from tomoseg.volume.voxel_size import LENGTHS, VoxelSize, stated_lengths

Images = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="IMAGES")]
Labels = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="LABELS")]
ModelFile = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")]
SourcePath = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="SOURCE")]
Target = Annotated[Path, tyro.conf.arg(aliases=["-o"])]


def _one_or_three(edges: tuple[float, ...] | None) -> tuple[float, ...] | None:
    if edges is not None and (len(edges) not in (1, 3) or not all(0 < edge < math.inf for edge in edges)):
        raise ValueError(LENGTHS)
    return edges


StatedSize = Annotated[
    tuple[float, ...] | None,
    AfterValidator(_one_or_three),
    tyro.constructors.PrimitiveConstructorSpec(
        nargs="*",
        metavar="LENGTH [LENGTH LENGTH]",
        instance_from_str=lambda words: stated_lengths(" ".join(words)),
        is_instance=lambda value: value is None or isinstance(value, tuple),
        str_from_instance=lambda value: ["None"] if value is None else [f"{edge:g}" for edge in value],
    ),
]
"""A voxel size that the user states: one edge or those along (z, y, x), in micrometres."""


def stated_size(edges: tuple[float, ...] | None) -> VoxelSize | None:
    """Return the edges along z, y and x of a size that was stated."""
    if edges is None:
        return None
    z, y, x = edges if len(edges) == 3 else edges * 3
    return z, y, x


class Common(BaseModel):
    """Options of all verbs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: Annotated[int, Field(ge=0, description="seed of everything that is drawn at random")] = 0
    threads: Annotated[int | None, Field(ge=1, description="processor threads; all cores without it")] = None
    quiet: Annotated[bool, Field(description="print results and warnings only")] = False


class Reading(Common):
    """Options of the verbs that read a volume."""

    roi: Annotated[
        str | None,
        Field(description="part that counts, z0:z1,y0:y1,x0:x1 in voxels from 0, like 0:10,:,100:400"),
    ] = None
    mask: Annotated[
        str | None,
        Field(description="picture(s) of what counts (not 0), or auto: a field of view with constant corners"),
    ] = None
    raw_shape: Annotated[
        tuple[int, int, int] | None, Field(description="for a raw file that does not say: voxels along z, y and x")
    ] = None
    raw_dtype: Annotated[
        str | None, Field(description="and the type of its values, like uint16, float32, or >u2 for big-endian")
    ] = None
    empty_chunks: Annotated[
        bool, Field(description="chunks missing from a Zarr or HDF5 hold its fill value; else they are an error")
    ] = False

    @model_validator(mode="after")
    def _check_raw(self) -> Reading:
        if (self.raw_shape is None) != (self.raw_dtype is None):
            raise ValueError("--raw-shape and --raw-dtype go together")
        if self.raw_shape is not None and min(self.raw_shape) < 1:
            raise ValueError("--raw-shape takes three numbers above 0")
        try:
            np.dtype(self.raw_dtype or "uint8")
        except TypeError:
            raise ValueError(f"--raw-dtype {self.raw_dtype} is no type; write it like uint16 or >u2") from None
        return self

    @property
    def opening(self) -> Opening:
        """What opening a volume must be told."""
        raw = None if self.raw_shape is None else RawLayout(self.raw_shape, np.dtype(self.raw_dtype))
        return Opening(raw, self.empty_chunks)


Shading = Annotated[
    Literal["keep", "fit"],
    Field(
        description="slow changes of brightness and contrast across the scan, as beam hardening and drift leave them: "
        "keep, or fit them so that grey values are distributed as in training, and take them away if they stand out"
    ),
]


def checked_address(address: str | None) -> str | None:
    """Return the address of a Dask scheduler if it has the form of one; else raise ValueError.

    Examples
    --------
    >>> checked_address("tcp://127.0.0.1:8786")
    'tcp://127.0.0.1:8786'
    >>> checked_address("nonsense")
    Traceback (most recent call last):
        ...
    ValueError: is no address; write it like tcp://127.0.0.1:8786, or tls:// in place of tcp://
    """
    if address is not None and not re.fullmatch(r"(tcp|tls)://[^/\s]+:\d+", address):
        raise ValueError("is no address; write it like tcp://127.0.0.1:8786, or tls:// in place of tcp://")
    return address


def limit_threads(threads: int | None) -> None:
    """Let numerical libraries use at most `threads` threads, torch included; None leaves their own choice."""
    if threads is not None:
        from tomoseg.engine.torch_engine import limit_torch_threads

        threadpool_limits(limits=threads)
        limit_torch_threads(threads)
