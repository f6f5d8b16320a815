"""`tomoseg quantify --compare`: several samples measured alike, each with its report, and set beside each other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from tomoseg.errors import SettingError
from tomoseg.report import check_folder, free_name
from tomoseg.workflow.console import Console
from tomoseg.workflow.quantify import (
    QuantifySettings,
    faces_of,
    load_effects,
    made_with,
    measure_sample,
    mesh_sample,
    open_sample,
    warn_of_voxels,
)
from tomoseg.workflow.quantify_compare_report import Compared, console_lines, write_comparison
from tomoseg.workflow.quantify_mesh import mesh_folder
from tomoseg.workflow.quantify_report import write
from tomoseg.workflow.reading import refuse_same_place
from tomoseg.workflow.segmentation import Segmentation

_TAKEN = ("figures", "report.html", "quantities.json", "quantities.csv")


def compare(settings: QuantifySettings, console: Console) -> None:
    """Measure all samples, print, then write a report of each and one of the comparison."""
    names, each = zip(*_each(settings), strict=True)
    _check_places(settings, each)
    segmentations = alike([open_sample(its) for its in each], names)
    effects = [load_effects(settings.scores, one) if settings.scores else {} for one in segmentations]
    if settings.mesh:
        for its, segmentation in zip(each, segmentations, strict=True):
            mesh_folder(its.out, segmentation, force=settings.force)
    warn_of_voxels(segmentations[0], console)
    measured, faces = [], []
    for name, its, segmentation, its_effects in zip(names, each, segmentations, effects, strict=True):
        console.say(f"sample {name}: {its.segmentation}")
        found, seen = measure_sample(its, segmentation, its_effects, console)
        faces.append(faces_of(its, seen))
        # what was measured block by block is in the numbers: kept for all samples it could fill the memory
        measured.append((found, replace(seen, sums=replace(seen.sums, blocks=()))))
    compared = Compared(
        {name: found for name, (found, _) in zip(names, measured, strict=True)},
        dict(zip(names, segmentations, strict=True)),
        made_with(settings),
    )
    for its, (found, seen) in zip(each, measured, strict=True):
        write(its.out, found, seen, axis=settings.axis, force=settings.force)
    write_comparison(settings.out, compared, force=settings.force)
    for line in console_lines(compared, axis=settings.axis):
        console.result(line)
    for warning in compared.warnings:
        console.warn(warning)
    console.result(f"report: {settings.out / 'report.html'}")
    if settings.mesh:
        for its, segmentation, several in zip(each, segmentations, faces, strict=True):
            mesh_sample(its, segmentation, several, console)


def _each(settings: QuantifySettings) -> Iterator[tuple[str, QuantifySettings]]:
    """Yield the name of each sample, and the settings that measure it alone."""
    paths = (settings.segmentation, *settings.others)
    for name, path in zip(sample_names(paths), paths, strict=True):
        alone = {"segmentation": path, "others": (), "compare": False, "out": settings.out / name}
        yield name, settings.model_copy(update=alone)


def sample_names(paths: Sequence[Path]) -> list[str]:
    """Return a name for each sample: the stem of its path, after its folder's name where stems are the same.

    Examples
    --------
    >>> sample_names([Path("scans/fresh.zarr"), Path("scans/aged.zarr")])
    ['fresh', 'aged']
    >>> sample_names([Path("fresh/out.zarr"), Path("aged/out.zarr"), Path("aged/out.zarr")])
    ['fresh-out', 'aged-out', 'aged-out-2']
    """
    stems = [path.stem if path.stem.strip(".") else path.resolve().name for path in paths]
    lower = [stem.lower() for stem in stems]
    found: list[str] = []
    for path, stem in zip(paths, stems, strict=True):
        name = f"{path.resolve().parent.name}-{stem}" if lower.count(stem.lower()) > 1 else stem
        found.append(free_name(name, taken=[*_TAKEN, *found]))
    return found


def _check_places(settings: QuantifySettings, each: Sequence[QuantifySettings]) -> None:
    """Refuse, before anything is measured, places where a report is or none can be written."""
    for folder in (settings.out, *(its.out for its in each)):
        check_folder(folder, force=settings.force)
        for its in each:
            refuse_same_place(folder, its.segmentation)


def alike(segmentations: Sequence[Segmentation], names: Sequence[str]) -> list[Segmentation]:
    """Return the segmentations with their classes in the order and the colours of the first.

    Raises
    ------
    SettingError
        If their classes differ by name, or some have a voxel size and others none.
    """
    _refuse_other_classes(segmentations, names)
    _refuse_other_units(segmentations, names)
    return [_in_order_of(segmentations[0], one) for one in segmentations]


def _in_order_of(first: Segmentation, one: Segmentation) -> Segmentation:
    values = {item.name: item.value for item in one.classes}
    classes = tuple(item.model_copy(update={"value": values[item.name]}) for item in first.classes)
    return replace(one, classes=classes)


def _refuse_other_classes(segmentations: Sequence[Segmentation], names: Sequence[str]) -> None:
    classes = [[item.name for item in one.classes] for one in segmentations]
    if len({frozenset(its) for its in classes}) > 1:
        told = "; ".join(f"{name} has {', '.join(its)}" for name, its in zip(names, classes, strict=True))
        raise SettingError(
            f"--compare needs the same classes in all samples: {told}. Name them with --classes, leave some out with "
            "--exclude"
        )


def _refuse_other_units(segmentations: Sequence[Segmentation], names: Sequence[str]) -> None:
    without = [name for name, one in zip(names, segmentations, strict=True) if one.voxel_size_um is None]
    if 0 < len(without) < len(segmentations):
        raise SettingError(
            f"--compare needs lengths in one unit: no voxel size is known of {', '.join(without)}, but of the others. "
            "State it with --voxel-size, in micrometres, the same for all"
        )
