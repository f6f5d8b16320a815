"""`tomoseg quantify`: the numbers of a segmented volume, each with its unit, interval and source."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import tyro
from jaxtyping import Float64
from pydantic import Field, field_validator, model_validator

from tomoseg.errors import SettingError
from tomoseg.provenance import Provenance, record
from tomoseg.quantify import Measurement
from tomoseg.quantify.resolution import coarse
from tomoseg.quantify.sections import Effect, made_consistent, read_effects, with_segmentation
from tomoseg.slices import slice_numbers
from tomoseg.workflow.common import Reading, SourcePath, StatedSize, Target, checked_address, limit_threads, stated_size
from tomoseg.workflow.console import Console
from tomoseg.workflow.quantify_mesh import mesh_folder, voxel_faces, write_meshes
from tomoseg.workflow.quantify_numbers import lines, measurements, names_of
from tomoseg.workflow.quantify_run import measure
from tomoseg.workflow.segmentation import Segmentation, Work, default_block, open_segmentation

if TYPE_CHECKING:
    from tomoseg.workflow.quantify_report import Measured

_NO_VOXEL_SIZE = "no voxel size is known: lengths are in voxels. State it with --voxel-size, in micrometres"
_LONG = 8.0
"""Longest edge of a voxel over its shortest above which directions are smoothed far across slices."""

_WORKERS_FROM_VOXELS, _FROM_SLOW_VOXELS = 16_000_000, 1_000_000
"""Below, starting processes takes longer than they save; sizes and transport take longer themselves."""


class QuantifySettings(Reading):
    """Measure a segmented volume: fractions, areas, triple lines, connectivity, chords."""

    segmentation: Annotated[SourcePath, Field(description="a segmented volume: OUT.zarr, or labels in any format")]
    others: Annotated[
        tuple[Path, ...],
        tyro.conf.Positional,
        tyro.conf.arg(metavar="[SOURCE ...]"),
        Field(description="with --compare: segmented volumes of further samples, compared with the first"),
    ] = ()
    out: Annotated[Target, Field(description="folder for report.html, quantities.json and quantities.csv")]
    voxel_size: Annotated[
        StatedSize,
        Field(
            description="edge of a voxel in micrometres, or with its unit, one or z y x, in place of what the volume "
            "says"
        ),
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
    probabilities: Annotated[
        Path | None,
        Field(description="output of predict that the labels come from, for the fractions by its probabilities"),
    ] = None
    scores: Annotated[
        Path | None,
        Field(description="scores.json of evaluate: what segmenting did to the numbers of labelled slices"),
    ] = None
    correct: Annotated[
        bool, Field(description="correct the numbers by it; without, the corrected ones stand beside")
    ] = False
    compare: Annotated[
        bool,
        Field(
            description="set samples beside each other; differences to the first, with intervals: "
            "tomoseg quantify fresh.zarr aged.zarr --compare -o ageing"
        ),
    ] = False
    sizes: Annotated[
        bool,
        Field(
            description="measure sizes too: balls that fit, particles split at necks, correlation lengths; "
            "takes several times as long"
        ),
    ] = False
    transport: Annotated[
        bool,
        Field(
            description="measure how each phase conducts along each axis: tortuosity factor, effective diffusivity, "
            "shortest paths; in up to 8 parts of a large volume, minutes and 1 GB a process"
        ),
    ] = False
    mesh: Annotated[
        bool,
        Field(
            description="write each phase's surface too, mesh/CLASS.stl and mesh/CLASS.ply, x y z in micrometres; open "
            "where the volume or its mask ends, for that is no interface"
        ),
    ] = False
    workers: Annotated[
        int | None, Field(ge=1, description="processes at a time; a core each for volumes that are worth it")
    ] = None
    scheduler: Annotated[
        str | None, Field(description="address of a Dask scheduler whose workers do it instead, tcp://HOST:PORT")
    ] = None
    block: Annotated[
        int | None,
        Field(
            ge=16, description="longest edge of a block in voxels, at most 128 by default; 128 takes 200 MB a process"
        ),
    ] = None
    force: Annotated[bool, Field(description="replace an existing report")] = False

    @field_validator("scheduler")
    @classmethod
    def _an_address(cls, address: str | None) -> str | None:
        return checked_address(address)

    @model_validator(mode="after")
    def _scores_to_correct(self) -> QuantifySettings:
        if self.correct and self.scores is None:
            raise ValueError("--correct needs --scores: the scores.json that evaluate wrote for this model")
        return self

    @model_validator(mode="after")
    def _several_to_compare(self) -> QuantifySettings:
        if self.others and not self.compare:
            raise ValueError("quantify takes one segmentation; several are set beside each other with --compare")
        if self.compare and self.probabilities is not None:
            raise ValueError("--probabilities is of one segmentation; --compare takes outputs of predict themselves")
        if self.compare and not self.others:
            raise ValueError("--compare takes two segmentations or more")
        return self


def run(settings: QuantifySettings, console: Console) -> None:
    """Measure, print, and write the report."""
    limit_threads(settings.threads)
    from tomoseg.report import check_folder

    if settings.compare:
        from tomoseg.workflow.quantify_compare import compare

        compare(settings, console)
        return
    check_folder(settings.out, force=settings.force)
    segmentation = open_sample(settings)
    if settings.mesh:
        mesh_folder(settings.out, segmentation, force=settings.force)
    effects = load_effects(settings.scores, segmentation) if settings.scores else {}
    warn_of_voxels(segmentation, console)
    found, seen = measure_sample(settings, segmentation, effects, console)
    from tomoseg.workflow.quantify_report import write

    write(settings.out, found, seen, axis=settings.axis, force=settings.force)
    for line in lines(found, axis=settings.axis):
        console.result(line)
    if (warning := coarse(found)) is not None:
        console.warn(warning)
    console.result(f"report: {settings.out / 'report.html'}")
    if settings.mesh:
        mesh_sample(settings, segmentation, faces_of(settings, seen), console)


def warn_of_voxels(segmentation: Segmentation, console: Console) -> None:
    """Warn where the voxel size is not known, or voxels are so long that areas and lines are coarse and slow."""
    size = segmentation.voxel_size_um
    if size is None:
        console.warn(_NO_VOXEL_SIZE)
    elif (ratio := max(size) / min(size)) > _LONG:
        console.warn(
            f"a voxel's longest edge is {ratio:.0f} times its shortest: areas and triple lines are smoothed over as "
            "many voxels, so that they take long and say little of finer structures; closer slices tell more"
        )


def open_sample(settings: QuantifySettings) -> Segmentation:
    """Open the segmentation with the classes and the voxel size that the settings state."""
    found = open_segmentation(
        settings,
        settings.segmentation,
        stated=settings.classes,
        exclude=settings.exclude,
        voxel_size=stated_size(settings.voxel_size),
        prediction=settings.probabilities,
    )
    refuse_slices_apart(found, settings.voxel_size)
    return found


def measure_sample(
    settings: QuantifySettings, segmentation: Segmentation, effects: Mapping[str, Effect], console: Console
) -> tuple[list[Measurement], Measured]:
    """Measure a segmentation; nothing is written."""
    from tomoseg.workflow.quantify_report import Measured

    measured = measure(
        segmentation,
        work_of(segmentation, settings),
        workers=_workers(settings, segmentation),
        scheduler=settings.scheduler,
        console=console,
    )
    voxels = int(measured.counts.voxels.sum())
    found = [
        with_segmentation(one, effects[one.name], correct=settings.correct, voxels=voxels)
        if one.name in effects
        else one
        for one in measurements(segmentation, measured)
    ]
    if settings.correct:
        found = made_consistent(found, names_of(segmentation))
    return found, Measured(segmentation, measured, made_with(settings))


def faces_of(settings: QuantifySettings, seen: Measured) -> Float64[np.ndarray, " class"]:
    """Return how many faces the voxels of each class have to others: how large its mesh will be."""
    return voxel_faces(seen.sums, work_of(seen.segmentation, settings))


def mesh_sample(
    settings: QuantifySettings, segmentation: Segmentation, faces: Float64[np.ndarray, " class"], console: Console
) -> None:
    """Write the mesh of each class."""
    write_meshes(
        mesh_folder(settings.out, segmentation, force=settings.force),
        segmentation,
        work_of(segmentation, settings),
        faces=faces,
        workers=_workers(settings, segmentation),
        scheduler=settings.scheduler,
        console=console,
    )


def made_with(settings: QuantifySettings) -> Provenance:
    """Return the record of what was asked for, without the user's places."""
    asked = settings.model_dump(mode="json", exclude={"segmentation", "others", "out"})
    return record("quantify", seed=settings.seed, settings=asked)


def refuse_slices_apart(segmentation: Segmentation, voxel_size: tuple[float, ...] | None) -> None:
    """Refuse slices that are no neighbours, whose distance nobody stated: stacked, they are no volume.

    Raises
    ------
    SettingError
        If the slices' numbers leave some out, and no voxel size along z, y and x is given.
    """
    region = segmentation.source.region
    numbers = slice_numbers(segmentation.source.volume.names[region.z0 : region.z1])
    gaps = np.flatnonzero(np.diff(numbers) != 1)
    if len(gaps) and len(voxel_size or ()) != 3:
        before, after = numbers[gaps[0]], numbers[gaps[0] + 1]
        raise SettingError(
            f"{segmentation.source.path}: after slice {before} comes {after}, they are no neighbours, and stacked no "
            "volume. If the slices are evenly spaced and near enough, state --voxel-size Z Y X"
        )


def load_effects(path: Path, segmentation: Segmentation) -> dict[str, Effect]:
    """Read what the segmentation did to the numbers of labelled slices, from the scores of `evaluate`.

    Raises
    ------
    SettingError
        If the file holds no such thing, slices that the model was trained on, or the scores of another model.
    """
    try:
        scores = json.loads(path.read_text(encoding="utf-8"))
        found = read_effects(scores)
    except OSError as error:
        raise SettingError(f"--scores {path}: cannot be read: {error.strerror}") from error
    except (ValueError, AttributeError) as error:
        raise SettingError(f"--scores {path}: is no scores.json that can be used here: {_first_line(error)}") from error
    if scores.get("leaky"):
        raise SettingError(
            f"--scores {path}: are LEAKY, of slices that the model has seen; they tell too small an error"
        )
    names = [item.name for item in segmentation.classes]
    if scores.get("class_names", names) != names:
        raise SettingError(
            f"--scores {path}: count the classes {', '.join(scores['class_names'])}, here {', '.join(names)} count; "
            "what they tell cannot be carried over. Name the classes alike with --classes, leave none out, or do "
            "without --scores"
        )
    made, model = (_model(its) for its in (segmentation.record, scores))
    if made and model and made != model:
        raise SettingError(f"--scores {path}: are of model {model}, the segmentation is by {made}; evaluate that one")
    return found


def _model(its: Mapping[str, Any]) -> str | None:
    """Return the hash of the model that a segmentation, or scores, were made with."""
    found = its.get("provenance", {}).get("inputs", {}).get("model")
    return None if found is None else str(found)


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]


def work_of(segmentation: Segmentation, settings: QuantifySettings) -> Work:
    """Return what a process needs to measure a part of the segmentation."""
    how = Reading(**settings.model_dump(include=set(Reading.model_fields)))
    return Work(
        how,
        settings.segmentation.resolve(),
        segmentation.classes,
        segmentation.nowhere,
        segmentation.voxel_size_um or (1.0, 1.0, 1.0),
        settings.block or default_block(segmentation.shape),
        settings.sizes,
        settings.transport,
    )


def _workers(settings: QuantifySettings, segmentation: Segmentation) -> int:
    if settings.workers is not None:
        return settings.workers
    cores = settings.threads or os.cpu_count() or 1
    least = _FROM_SLOW_VOXELS if settings.sizes or settings.transport else _WORKERS_FROM_VOXELS
    return cores if np.prod(segmentation.shape) >= least else 1
