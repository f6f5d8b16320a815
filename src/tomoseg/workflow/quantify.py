"""`tomoseg quantify`: the numbers of a segmented volume, each with its unit, interval and source."""

from __future__ import annotations

import os
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, field_validator

from tomoseg.provenance import record
from tomoseg.workflow.common import Reading, SourcePath, Target, checked_address, limit_threads
from tomoseg.workflow.console import Console
from tomoseg.workflow.quantify_numbers import lines, measurements
from tomoseg.workflow.quantify_run import measure
from tomoseg.workflow.segmentation import BLOCK, Segmentation, Work, open_segmentation

_WORKERS_FROM_VOXELS = 16_000_000
"""Below, starting processes takes longer than they save."""


class QuantifySettings(Reading):
    """Measure a segmented volume: fractions, areas, triple lines, connectivity, chords."""

    segmentation: Annotated[SourcePath, Field(description="a segmented volume: OUT.zarr, or labels in any format")]
    out: Annotated[Target, Field(description="folder for report.html, quantities.json and quantities.csv")]
    voxel_size: Annotated[
        tuple[float, ...] | None,
        Field(description="edge of a voxel in micrometres, one value or z y x, in place of what the volume says"),
    ] = None
    axis: Annotated[
        Literal["z", "y", "x"], Field(description="along which phases must percolate for a triple line to be active")
    ] = "z"
    classes: Annotated[
        tuple[str, ...], Field(description="names of the values, like pore=0 Ni=255, where the volume does not say")
    ] = ()
    exclude: Annotated[
        tuple[str, ...], Field(description="classes that count nowhere, like a holder or the outside")
    ] = ()
    sizes: Annotated[
        bool, Field(description="measure the size distribution too; takes longer than all else together")
    ] = False
    workers: Annotated[
        int | None, Field(ge=1, description="processes at a time; a core each for volumes that are worth it")
    ] = None
    scheduler: Annotated[
        str | None, Field(description="address of a Dask scheduler whose workers do it instead, tcp://HOST:PORT")
    ] = None
    block: Annotated[int, Field(ge=16, description="longest edge of a block in voxels; 128 takes 200 MB a process")] = (
        BLOCK
    )
    force: Annotated[bool, Field(description="replace an existing report")] = False

    @field_validator("voxel_size")
    @classmethod
    def _one_or_three(cls, edges: tuple[float, ...] | None) -> tuple[float, ...] | None:
        if edges is not None and (len(edges) not in (1, 3) or not min(edges) > 0 or not max(edges) < float("inf")):
            raise ValueError("takes one length above 0, or three along z, y and x")
        return edges

    @field_validator("scheduler")
    @classmethod
    def _an_address(cls, address: str | None) -> str | None:
        return checked_address(address)


def run(settings: QuantifySettings, console: Console) -> None:
    """Measure, print, and write the report."""
    limit_threads(settings.threads)
    from tomoseg.report import check_folder

    check_folder(settings.out, force=settings.force)
    segmentation = open_segmentation(
        settings,
        settings.segmentation,
        stated=settings.classes,
        exclude=settings.exclude,
        voxel_size=_edges(settings.voxel_size),
    )
    if segmentation.voxel_size_um is None:
        console.warn("no voxel size is known: lengths are in voxels. State it with --voxel-size, in micrometres")
    measured = measure(
        segmentation,
        work_of(segmentation, settings),
        workers=_workers(settings, segmentation),
        scheduler=settings.scheduler,
        console=console,
    )
    found = measurements(segmentation, measured)
    for line in lines(found, axis=settings.axis):
        console.result(line)
    from tomoseg.workflow.quantify_report import Measured, write

    made = record(
        "quantify", seed=settings.seed, settings=settings.model_dump(mode="json", exclude={"segmentation", "out"})
    )
    write(settings.out, found, Measured(segmentation, measured, made), axis=settings.axis, force=settings.force)
    console.result(f"report: {settings.out / 'report.html'}")


def _edges(given: tuple[float, ...] | None) -> tuple[float, float, float] | None:
    if given is None:
        return None
    z, y, x = given if len(given) == 3 else given * 3
    return z, y, x


def work_of(segmentation: Segmentation, settings: QuantifySettings) -> Work:
    """Return what a process needs to measure a part of the segmentation."""
    how = Reading(**settings.model_dump(include=set(Reading.model_fields)))
    return Work(
        how,
        settings.segmentation.resolve(),
        segmentation.classes,
        segmentation.nowhere,
        segmentation.voxel_size_um or (1.0, 1.0, 1.0),
        settings.block,
        settings.sizes,
    )


def _workers(settings: QuantifySettings, segmentation: Segmentation) -> int:
    if settings.workers is not None:
        return settings.workers
    cores = settings.threads or os.cpu_count() or 1
    return cores if np.prod(segmentation.shape) >= _WORKERS_FROM_VOXELS else 1
