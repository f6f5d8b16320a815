"""`tomoseg suggest`: which slices and patches to label next, and whether it is still worth it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from tomoseg.workflow.common import limit_threads
from tomoseg.workflow.console import Console, counted
from tomoseg.workflow.looking import PATCH_EDGE, Looked, LookSettings, inside_of, label_next, look_at
from tomoseg.workflow.reading import Source

_JUDGED = 4


class SuggestSettings(LookSettings):
    """Tell which slices, and where in them, are most worth labelling next, and what another one would change."""

    slices: Annotated[int, Field(ge=1, description="how many evenly spaced slices to look at")] = 32
    count: Annotated[int, Field(ge=1, description="how many slices to suggest")] = 3
    enough: Annotated[
        float, Field(gt=0, description="change of a phase fraction, in points (percent), below which to stop")
    ] = 0.3


def run(settings: SuggestSettings, console: Console) -> None:
    """Rank slices by the errors to expect in them, print the first, and write the report if it is asked for."""
    limit_threads(settings.threads)
    looked = look_at(settings, console)
    found = {**suggestions(looked, settings.count), **_gain(looked, settings, console)}
    for line in lines(found):
        console.result(line)
    if settings.out is not None:
        _write(settings.out, found, looked, settings)
        console.result(f"report: {settings.out / 'report.html'}")


def suggestions(looked: Looked, count: int) -> dict[str, Any]:
    """Return the slices to label next, the most useful first, as they are written to suggest.json."""
    return {
        "looked_at": len(looked.seen),
        "suggestions": [
            {
                "slice": one.name,
                "z": one.z,
                "patch": list(one.patch),
                "expected_error": one.doubt,
                "light": one.light,
                "why": [finding.text for finding in one.findings],
            }
            for one in label_next(looked, most=count)
        ],
    }


def _gain(looked: Looked, settings: SuggestSettings, console: Console) -> dict[str, Any]:
    """Estimate what another labelled slice would change in the phase fractions of some slices."""
    from tomoseg.degrade import add_gaussian_noise
    from tomoseg.label_gain import change_by_one, fractions_by_forests, left_out
    from tomoseg.noise_level import lacking_std
    from tomoseg.volume import read_slice

    record, samples, seen = looked.model.record, looked.model.samples, looked.seen
    labelled = sum(item.role in ("train", "validation") for item in record.slices)
    if samples is None or samples.slices is None or len(np.unique(samples.slices)) < 2:
        return _gained(labelled, None, settings.enough)
    window, rng = record.window, np.random.default_rng([settings.seed, 7])
    noise = float(np.median([one.look.grey.noise or 0.0 for one in seen]))
    std = lacking_std(noise, looked.expected.noise)
    tiles = [
        (add_gaussian_noise(window.apply(image), std, rng=rng), label)
        for image, label in zip(samples.images, samples.labels, strict=True)
    ]
    box = _middle(looked.source)
    judged = [seen[i] for i in np.unique(np.linspace(0, len(seen) - 1, _JUDGED).astype(int))]
    shown = [
        (window.apply(read_slice(looked.source.volume, one.z)[box]), inside_of(looked.source, one.z)[box])
        for one in judged
    ]
    if not any(inside.any() for _, inside in shown):
        return _gained(labelled, None, settings.enough)
    groups = samples.slices.tolist()
    forests = fractions_by_forests(
        tiles, groups, shown, classes=len(record.classes), seed=settings.seed, threads=settings.threads or -1
    )
    total = 1 + len(left_out(groups))
    change = change_by_one(list(console.track(forests, "learning from one slice less", total)))
    names = [item.name for item in record.classes]
    points = None if change is None else dict(zip(names, (100 * change).tolist(), strict=True))
    return _gained(labelled, points, settings.enough)


def _gained(labelled: int, points: dict[str, float] | None, least: float) -> dict[str, Any]:
    return {
        "labelled_slices": labelled,
        "change_points": points,
        "enough": None if points is None else max(points.values()) < least,
        "least_change_points": least,
    }


def _middle(source: Source) -> tuple[slice, slice]:
    """Return the middle of the part of a slice that counts, as large as a patch."""
    _, rows, columns = source.region.slices
    (y0, y1), (x0, x1) = (
        (max(part.start, middle - PATCH_EDGE // 2), min(part.stop, middle + PATCH_EDGE // 2))
        for part, middle in ((part, (part.start + part.stop) // 2) for part in (rows, columns))
    )
    return slice(y0, y1), slice(x0, x1)


def lines(found: dict[str, Any]) -> list[str]:
    """Return the suggestions in words."""
    told = []
    for order, one in enumerate(found["suggestions"], start=1):
        y0, y1, x0, x1 = one["patch"]
        why = f"; {'; '.join(one['why'])}" if one["why"] else ""
        told.append(
            f"{order}. {one['slice']}: expect {100 * one['expected_error']:.1f} % of its pixels to be wrong, most in "
            f"rows {y0} to {y1}, columns {x0} to {x1}{why}"
        )
    if not told:
        told.append("all slices that were looked at lie near labelled ones; nothing new to label")
    return [*told, gain_in_words(found)]


def gain_in_words(found: dict[str, Any]) -> str:
    """Return what another slice would change, in words.

    Examples
    --------
    >>> gain_in_words({"labelled_slices": 1, "change_points": None, "enough": None, "least_change_points": 0.3})
    'from the tiles of 1 labelled slice nobody can tell what another one would change; label more and train again'
    """
    points, least = found["change_points"], found["least_change_points"]
    if points is None:
        slices = counted(found["labelled_slices"], "labelled slice")
        return f"from the tiles of {slices} nobody can tell what another one would change; label more and train again"
    name = max(points, key=points.__getitem__)
    if found["enough"]:
        return (
            f"enough: another slice changes the {name} fraction, the least certain one, by {points[name]:.2f} points, "
            f"less than {least:g}; label more only where slices look different"
        )
    listed = ", ".join(f"{phase} {change:.2f}" for phase, change in points.items())
    return f"another slice changes the phase fractions by about (in points) {listed}; go on until it is below {least:g}"


def _write(folder: Path, found: dict[str, Any], looked: Looked, settings: SuggestSettings) -> None:
    from tomoseg.report import Headline, Note, Report, Section, write_json, write_report
    from tomoseg.report.figures import patches_picture
    from tomoseg.volume import read_slice

    window, source = looked.model.record.window, looked.source
    shown = [
        (one["slice"], window.apply(read_slice(source.volume, one["z"])), tuple(one["patch"]))
        for one in found["suggestions"]
    ]
    points = found["change_points"] or {}
    pictures = [Section("What to label next", [patches_picture(shown)])] if shown else []
    report = Report(
        title=f"What to label next in {settings.source.name}",
        subtitle=f"{found['looked_at']} slices looked at with {settings.model.name}",
        headlines=[
            Headline("First", found["suggestions"][0]["slice"] if shown else "-", "the slice with most to learn from"),
            Headline("Another slice changes", f"{max(points.values()):.2f}" if points else "-",
                     "points of the least certain phase fraction"),
        ],
        sections=[*pictures, Section("In words", [Note(line) for line in lines(found)])],
    )  # fmt: skip
    write_report(folder, report, force=settings.force)
    write_json(folder / "suggest.json", {**found, "provenance": looked.provenance("suggest", settings)})
