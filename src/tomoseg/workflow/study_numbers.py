"""What the noise study tells of the numbers that will be published: their errors by method, and why some have none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tomoseg.evaluate import TestSlice
from tomoseg.quantify.sections import number_names
from tomoseg.quantify.slabs import THINNEST
from tomoseg.report import Note, Part, Table
from tomoseg.study import Cell, tortuosity_names
from tomoseg.workflow.study_data import split_of
from tomoseg.workflow.study_results import Study
from tomoseg.workflow.study_slab import slab_slices

_OLDER = "not recorded by the version that ran these cells"


def all_number_names(study: Study) -> list[str]:
    """Return the names of the numbers, those of sections first."""
    classes = _class_names(study)
    return number_names(classes) + tortuosity_names(classes)


def _class_names(study: Study) -> list[str]:
    return [item.name for item in study.layout.scan.classes]


def with_unit(name: str) -> str:
    """Return what the error of a number is called, with its unit.

    Examples
    --------
    >>> with_unit("phase fraction pore"), with_unit("interface area pore-Ni per volume")
    ('phase fraction pore, points', 'interface area pore-Ni, %')
    """
    return f"{name.removesuffix(' per volume')}, {'points' if name.startswith('phase') else '%'}"


def number_error(study: Study, method: str, level: float, name: str) -> float | None:
    """Return the mean error over the seeds; None where there is none, as in cells of older versions."""
    errors = [point.get("number_errors", {}).get(name) for point in _points(study, method, level)]
    return None if None in errors or not errors else float(np.mean(errors))


def _points(study: Study, method: str, level: float) -> list[dict[str, Any]]:
    return [point for curve in study.curves(method) for point in curve if point["level"] == level]


def number_parts(study: Study) -> list[Part]:
    """Return the errors of all numbers by method, as it is and at the table's level, and what they are of."""
    caption = (
        "What will be published, as segmented over as labelled on the test slices: interfaces by their length, "
        "triple-phase boundaries by their number in sections. Means over the seeds."
    )
    sections = _table(study, number_names(_class_names(study)), caption)
    why = why_no_tortuosity(study)
    return [sections, *(_tortuosity_parts(study) if why is None else [Note(f"No tortuosity factors: {why}.")])]


def _table(study: Study, names: Sequence[str], caption: str) -> Table:
    rows = []
    for method in study.methods:
        for level in study.settings.number_levels:
            errors = [number_error(study, method, level, name) for name in names]
            rows.append([f"{method}, at {level:g}", *("-" if one is None else f"{one:+.2f}" for one in errors)])
    return Table(["", *(with_unit(name) for name in names)], rows, caption)


def why_no_tortuosity(study: Study) -> str | None:
    """Return why the test slices tell no tortuosity factors; None where they do."""
    if _slab(study):
        return None
    return (
        f"they take {THINNEST} neighbouring test slices or more whose context is whole; sections that lie apart do not "
        "tell tortuosity"
    )


def _slab(study: Study) -> list[TestSlice]:
    numbers = split_of(study.layout, Cell("poster", "large", split=study.settings.split)).of("test")
    return slab_slices(study.layout.scan, numbers, context=study.layout.context)


def _tortuosity_parts(study: Study) -> list[Part]:
    """Return the errors of the tortuosity factors, what these are of, and why some are missing."""
    caption = "Diffusion through the phases, solved as segmented and as labelled. The mean over y and x, and the seeds."
    slab = _slab(study)
    first, last = (study.layout.scan.numbers[slab[end].z] for end in (0, -1))
    text = (
        f"Tortuosity factors are of slices {first} to {last}, in parts some three times as long as these are thick, "
        "the same as labelled and as segmented; not across the slices, which is almost straight. The factor of so thin "
        "a slab is not the volume's; its error was, on a phantom, within a factor of three of that in the volume."
    )
    reasons = _reasons(study)
    missing = [Note(f"No tortuosity factor: {'; '.join(reasons)}.", "warning")] if reasons else []
    return [_table(study, tortuosity_names(_class_names(study)), caption), Note(text), *missing]


def _reasons(study: Study) -> list[str]:
    """Return why tortuosity factors are missing, each reason with the rows of the table that it holds for."""
    names = tortuosity_names(_class_names(study))
    rows = [(method, level) for method in study.methods for level in study.settings.number_levels]
    found: dict[str, list[str]] = {}
    for method, level in rows:
        points = _points(study, method, level)
        whys = {why for point in points for why in point.get("why_no_number", {}).values()}
        if any(name not in point.get("number_errors", {}) for point in points for name in names):
            whys.add(_OLDER)
        for why in sorted(whys):
            found.setdefault(why, []).append(f"{method} at {level:g}")
    return [why if len(its) == len(rows) else f"{why} ({', '.join(its)})" for why, its in found.items()]
