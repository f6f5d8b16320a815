"""Options that verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro
from pydantic import BaseModel, ConfigDict, Field
from threadpoolctl import threadpool_limits

Images = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="IMAGES")]
Labels = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="LABELS")]
ModelFile = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")]
SourcePath = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="SOURCE")]
Target = Annotated[Path, tyro.conf.arg(aliases=["-o"])]


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


def limit_threads(threads: int | None) -> None:
    """Let numerical libraries use at most `threads` threads, torch included; None leaves their own choice."""
    if threads is not None:
        from tomoseg.engine import limit_torch_threads

        threadpool_limits(limits=threads)
        limit_torch_threads(threads)
