"""The report of the noise study: the poster's table beside ours, the curve, the plan, pictures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from tomoseg.degrade import GreyScale, find_kind
from tomoseg.evaluate import adjacent_agreement, stack_of
from tomoseg.provenance import record
from tomoseg.recipe import FAST
from tomoseg.report import (
    Facts,
    Headline,
    Note,
    Part,
    Picture,
    Report,
    Section,
    Table,
    figures,
    write_csv,
    write_json,
    write_report,
    write_text,
)
from tomoseg.study import (
    POSTER_STD,
    Cell,
    mean_and_spread,
    published,
)
from tomoseg.workflow.console import Console
from tomoseg.workflow.study import StudySettings
from tomoseg.workflow.study_data import Degraded, split_of
from tomoseg.workflow.study_numbers import all_number_names, number_error, number_parts, why_no_tortuosity, with_unit
from tomoseg.workflow.study_plan import make_plan, plan_lines, plan_parts
from tomoseg.workflow.study_results import OURS, WITH_A_CURVE, Study


def write_study(study: Study, console: Console) -> None:
    """Write `report.html`, its figures, `study.json`, `table.md`, `table.csv` and `curve.csv`."""
    out, table, curve = study.settings.out, poster_table(study), curve_rows(study)
    plan, why_no_plan = make_plan(study)
    with console.progress("writing the report", 1.0):
        pictures = compare_pictures(study)
        report = study_report(study, table, plan=plan, why_no_plan=why_no_plan, pictures=pictures)
        write_report(out, report, force=True)
    columns = ["", *table.columns[1:]]
    write_csv(out / "table.csv", columns, table.rows)
    write_text(out / "table.md", _markdown(table))
    numbers = [f"error of {with_unit(name)}" for name in all_number_names(study)]
    write_csv(out / "curve.csv", (*_CURVE_COLUMNS, *numbers), curve)
    write_json(out / "study.json", _json(study, plan, why_no_plan))
    console.say(_markdown(table))
    for line in plan_lines(plan, why_no_plan):
        console.result(line)


def _value(points: Sequence[dict[str, Any]], level: float, name: str = "accuracy") -> float:
    return next(float(point[name]) for point in points if point["level"] == level)


def _cell(values: Sequence[float]) -> str:
    if not values:
        return "-"
    mean, spread = mean_and_spread(values)
    return f"{mean:.4f}" if spread is None else f"{mean:.4f} ± {spread:.4f}"


def _validation(found: Sequence[dict[str, Any]]) -> str:
    return _cell([one["validation"]["accuracy"] for one in found if one.get("validation")])


def poster_table(study: Study) -> Table:
    """Return the poster's table with our columns, and the poster's own figures under its rows."""
    settings = study.settings
    shares: list[float | None] = [None, *settings.shares]
    beside = [name for name in (*OURS, "forest") if name in study.methods]
    likened = settings.kind == "gaussian" and settings.noise_std == POSTER_STD
    names = ["Baseline" if share is None else f"{100 * share:g} %" for share in shares]
    rows = []
    for size in settings.sizes:
        clean, level = settings.all_levels[0], settings.table_level
        tests = []
        for share in shares:
            found = study.of(method="poster", size=size, share=share)
            tests.append(_cell([_value(one["curve"], clean if share is None else level) for one in found]))
        checks = [_validation(study.of(method="poster", size=size, share=share)) for share in shares]
        ours, ours_checks = [], []
        for name in beside:
            of = {"noise_std": level} if name == "forest" else {}
            found = study.of(method=name, size=size, **of)
            ours.append(_cell([_value(one["curve"], level) for one in found]))
            ours_checks.append(_validation(found))
        rows.append([f"Testing ({size})", *tests, *ours])
        if likened:
            rows.append(["the poster's own", *_published(size, "test", shares), *[""] * len(beside)])
        rows.append([f"Validation ({size})", *checks, *ours_checks])
        if likened:
            rows.append(["the poster's own", *_published(size, "validation", shares), *[""] * len(beside)])
    return Table(["", *names, *beside], rows, caption=_table_caption(settings))


def _published(size: Any, what: str, shares: Sequence[float | None]) -> list[str]:
    found = [published(size, what, share) for share in shares]
    return ["-" if value is None else f"{value:.3f}" for value in found]


def _table_caption(settings: StudySettings) -> str:
    unit = find_kind(settings.kind).unit
    return (
        f"Pixel accuracy. Columns: share of the training and validation images with {settings.kind} "
        f"{settings.table_level:g} {unit}; all test images have it, but for the baseline's. Ours and the forest learn "
        "from the same crops (the forest from 64 at most), are tested with it on the same slices, validated without."
    )


_CURVE_COLUMNS = ("method", "level", "accuracy", "accuracy spread", "mean IoU", "largest fraction error, points")


def curve_rows(study: Study) -> list[list[object]]:
    """Return the curves as rows, means over the seeds."""
    rows: list[list[object]] = []
    for method in study.methods:
        curves = study.curves(method)
        for i, level in enumerate(study.settings.all_levels):
            points = [curve[i] for curve in curves]
            mean, spread = mean_and_spread([point["accuracy"] for point in points])
            worst = float(np.mean([np.abs(point["fraction_errors"]).max() for point in points]))
            iou = float(np.mean([point["mean_iou"] for point in points]))
            row = [
                method,
                level,
                f"{mean:.5f}",
                "" if spread is None else f"{spread:.5f}",
                f"{iou:.5f}",
                f"{worst:.3f}",
            ]
            errors = [number_error(study, method, level, name) for name in all_number_names(study)]
            rows.append([*row, *("" if one is None else f"{one:.3f}" for one in errors)])
    return rows


def compare_pictures(study: Study) -> list[Picture]:
    """Draw input, label, prediction and difference at three levels, for the poster's 50 % model and ours."""
    from tomoseg.model_file import load_model
    from tomoseg.slices import labelled_numbers
    from tomoseg.workflow.predict import make_runner

    settings, scan = study.settings, study.layout.scan
    numbers = sorted(study.layout.tested(settings.split))
    z = labelled_numbers(scan)[numbers[len(numbers) // 2]]
    size, pictures = settings.sizes[-1], []
    wanted = {"poster": study.posters(), "ours": study.of(method="ours", size=size)}
    for level in dict.fromkeys([settings.all_levels[0], settings.table_level, settings.all_levels[-1]]):
        for name, found in wanted.items():
            if not found:
                continue
            model = load_model(settings.out / "cells" / f"{found[0]['key']}.tomoseg")
            scale = GreyScale(scan.volume.dtype, model.record.window)
            read = Degraded(scan, find_kind(settings.kind), level, scale, settings.seed, settings.clip).read
            runner = make_runner(model)
            prediction = runner.segment(stack_of(scan, z, context=runner.network.context, read=read))
            at = f"{settings.kind} {level:g}" if level != settings.all_levels[0] else "as it is"
            pictures.append(
                figures.comparison(
                    model.record.window.apply(read(z)),
                    scan.read_label(z),
                    prediction,
                    colours=[item.colour for item in scan.classes],
                    names=[item.name for item in scan.classes],
                    name=f"{name}_{level:g}",
                    title=f"{'The poster’s recipe, 50 % noisy' if name == 'poster' else 'Ours'}, {at}",
                )
            )
    return pictures


def study_report(
    study: Study, table: Table, *, plan: Sequence[dict[str, Any]], why_no_plan: str | None, pictures: Sequence[Picture]
) -> Report:
    """Return the report of the study."""
    settings, scan = study.settings, study.layout.scan
    return Report(
        title=f"What {settings.kind.replace('gaussian', 'noise')} does to {scan.volume.path.name}",
        subtitle=f"{len(study.done)} of {len(study.cells)} cells; tested on {_tested(study)} slices of "
        f"{scan.volume.shape[1]} x {scan.volume.shape[2]} pixels",
        headlines=_headlines(study),
        notes=_notes(study),
        sections=[
            Section("The poster's table", [table, *_split_note(study)]),
            Section("Accuracy against the noise", [*_curve_parts(study), *_end_parts(study)]),
            Section("What it does to the numbers", number_parts(study)),
            Section("How much may the next scan have?", plan_parts(study, plan, why_no_plan)),
            Section("Pictures", list(pictures)),
            Section("The cells", [_cells_table(study)]),
            Section("What the poster leaves open", [Facts(_assumptions(study))]),
        ],
    )


def _tested(study: Study) -> int:
    return min(study.settings.test_slices, len(study.layout.test))


def _headlines(study: Study) -> list[Headline]:
    found = []
    for method in study.methods:
        if method == "ours clean":
            continue
        points = study.curves(method)
        clean, level = study.settings.all_levels[0], study.settings.table_level
        values = [float(np.mean([_value(curve, at) for curve in points])) for at in (level, clean)]
        title = {"poster": "Poster's recipe, 50 % noisy", "poster, no noise": "Poster's recipe, no noise"}
        found.append(
            Headline(title.get(method, method[0].upper() + method[1:]), f"{values[0]:.4f}", f"clean {values[1]:.4f}")
        )
    return found


def _notes(study: Study) -> list[Note]:
    notes = [Note(f"The headline figures are accuracies at {study.settings.kind} {study.settings.table_level:g}.")]
    missing = [cell.key for cell in study.cells if cell.key not in study.done]
    if missing:
        notes.append(Note(f"{len(missing)} cells are missing: {', '.join(missing[:8])}.", "warning"))
    if study.settings.split == "random":
        notes.append(Note("LEAKY: a random split by slice. Neighbouring slices look alike.", "leaky"))
    return notes


def _split_note(study: Study) -> list[Part]:
    settings = study.settings
    agreement = adjacent_agreement([study.layout.scan])
    if agreement is None:
        return []
    level = settings.all_levels[0]
    text = f"Neighbouring slices' labels agree to {agreement:.4f}: that much a copied neighbour scores. "
    means = {}
    for split in ("blocks", "random"):
        found = study.of(method="poster", size=settings.sizes[-1], split=split)
        if found:
            means[split] = float(np.mean([_value(one["curve"], level) for one in found]))
    if len(means) == 2:
        text += (
            f"The baseline scores {means['random']:.4f} on slices drawn at random, {means['blocks']:.4f} on a block of "
            f"z with a gap: the random split flatters by {means['random'] - means['blocks']:+.4f}. "
        )
    return [Note(text + _repeatability(study))]


def _repeatability(study: Study) -> str:
    """Say how far two trainings on the same data lie apart: the baseline and the 0 % cell see no noise, both."""
    found = []
    for size in study.settings.sizes:
        twins = [study.of(method="poster", size=size, share=share) for share in (None, 0.0)]
        for one, other in zip(*twins, strict=False):
            scores = [_value(cell["curve"], study.settings.all_levels[0]) for cell in (one, other)]
            found.append(abs(scores[0] - scores[1]))
    if not found:
        return ""
    return (
        f"Baseline and 0 % are trained alike; on clean slices they differ by {max(found):.4f}: smaller differences "
        "between columns mean nothing."
    )


def _any_std(settings: StudySettings) -> str:
    return f", with a std from 0 to {settings.trained_noise_std:g}" if settings.kind == "gaussian" else ""


def _curve_parts(study: Study) -> list[Part]:
    lines = {}
    for method in study.methods:
        curves = study.curves(method)
        lines[method] = {
            "accuracy": [[point["accuracy"] for point in curve] for curve in curves],
            "mean IoU": [[point["mean_iou"] for point in curve] for curve in curves],
            "largest fraction error (points)": [
                [float(np.abs(point["fraction_errors"]).max()) for point in curve] for curve in curves
            ],
        }
    kind = find_kind(study.settings.kind)
    levels = study.settings.all_levels
    rows = [
        [method, *(_cell([curve[i]["accuracy"] for curve in study.curves(method)]) for i in range(len(levels)))]
        for method in study.methods
    ]
    return [
        figures.noise_curves(levels, lines, unit=kind.unit, order=WITH_A_CURVE),
        Table(
            ["accuracy at", *(f"{level:g}" for level in levels)],
            rows,
            caption=f"The poster's has half of its training images noisy{_any_std(study.settings)}; the forest is "
            "trained at each level. curve.csv has more.",
        ),
    ]


def _end_parts(study: Study) -> list[Part]:
    """Return a table of the trainings without a time budget, each above its twin within it and ours."""
    levels = study.settings.all_levels
    rows = []
    for cell in study.cells:
        if not cell.to_the_end or cell.key not in study.done:
            continue
        ended = study.done[cell.key]["ended"]
        twin = study.of(method=cell.method, size=cell.size, share=cell.share, seed=cell.seed)
        ours = study.of(method="ours", size=cell.size, seed=cell.seed)
        alone = (f"{cell.title}, {ended}", [study.done[cell.key]])
        for title, found in (alone, ("the same, in the budget", twin), ("ours", ours)):
            for one in found:
                timing = one["timing"]
                facts = [f"{timing['steps']:.0f}", f"{timing['passes']:.1f}", f"{timing['seconds'] / 60:.1f}"]
                rows.append([title, *facts, *(f"{_value(one['curve'], level):.4f}" for level in levels)])
    if not rows:
        return []
    names = ["", "steps", "passes", "minutes", *(f"at {level:g}" for level in levels)]
    return [Table(names, rows, caption="Trained until validation stops improving: accuracy by the test's level.")]


def _cells_table(study: Study) -> Table:
    rows = []
    for cell in study.cells:
        one = study.done.get(cell.key)
        if one is None:
            rows.append([cell.title, str(cell.seed), *["missing"] * 5])
            continue
        timing, level = one.get("timing", {}), study.settings.table_level
        at = level if cell.noise_std is None else cell.noise_std
        rows.append(
            [
                cell.title,
                str(cell.seed),
                f"{timing['steps']:.0f}" if timing else "-",
                f"{timing['passes']:.1f}" if timing else "-",
                f"{one['seconds']:.0f}",
                f"{one['validation']['accuracy']:.4f}" if one.get("validation") else "-",
                f"{_value(one['curve'], at):.4f}",
            ]
        )
    return Table(["cell", "seed", "steps", "passes", "seconds", "validation", "test, with noise"], rows)


def _assumptions(study: Study) -> list[tuple[str, str]]:
    s = study.settings
    budget = f"{s.minutes_per_cell:g} minutes each"
    if s.epochs or s.steps:
        budget = f"{s.epochs:g} epochs each" if s.epochs else f"{s.steps} steps of {s.batch} patches each"
    return [
        ("width", f"{s.width}, {2 * s.width}, {4 * s.width}, {8 * s.width}, {16 * s.width} channels; the poster's: 64"),
        ("budget of a training", f"{budget}, the same for ours; the best validated weights are kept"),
        ("split", f"{s.split}; test {len(study.layout.test)} slices, gap {study.layout.gap}"),
        ("batch", f"{s.batch} crops of {s.patch} x {s.patch} pixels; ours {FAST.patches.batch}"),
        (
            "crops",
            "one (small) or nine (large) an image, at random places, fixed; ours the same, the forest 64 of them",
        ),
        ("noise in training", _training_noise(s)),
        ("epochs", "passes are counted in crops drawn at random, so that after one some crops have not been seen"),
        (
            "ours",
            f"recipe fast, noise of a std from 0 to {s.trained_noise_std:g}, little noise more often (u to the power "
            f"{FAST.patches.noise_power:g}); ours clean: without noise",
        ),
        ("noise in the test", "clipped and rounded" if s.clip else "neither clipped nor rounded"),
        (
            "test",
            f"{_tested(study)} whole slices, evenly spaced among the test slices; the poster may have tested crops",
        ),
    ]


def _training_noise(settings: StudySettings) -> str:
    if settings.kind != "gaussian":
        return "drawn once for each slice"
    how = "drawn once for each crop" if settings.noise_once else "drawn afresh at every step"
    return (
        f"on a share of the crops, {how}; for the poster's curve of a std even from 0 to {settings.trained_noise_std:g}"
    )


def _markdown(table: Table) -> str:
    lines = ["| " + " | ".join(table.columns) + " |", "|" + "---|" * len(table.columns)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in table.rows)]) + "\n"


def _json(study: Study, plan: Sequence[dict[str, Any]], why: str | None) -> dict[str, Any]:
    settings = study.settings
    mark = json.loads((settings.out / "cells" / "study.json").read_text(encoding="utf-8"))
    inputs = {"data": mark["data"], **{key: one["model"] for key, one in study.done.items() if "model" in one}}
    return {
        "settings": settings.model_dump(mode="json", exclude={"images", "labels", "out", "quiet"}),
        "levels": settings.all_levels,
        "cells": [_without_blocks(study.done[cell.key]) for cell in study.cells if cell.key in study.done],
        "missing": [cell.key for cell in study.cells if cell.key not in study.done],
        "plan": list(plan),
        "why_no_exposure": why,
        "why_no_tortuosity": why_no_tortuosity(study),
        "layout": _layout(study),
        "adjacent_agreement": adjacent_agreement([study.layout.scan]),
        "class_names": [item.name for item in study.layout.scan.classes],
        "provenance": record(
            "study noise", seed=settings.seed, inputs=inputs, settings={"recipes": mark["recipes"]}
        ).model_dump(),
    }


def _layout(study: Study) -> dict[str, Any]:
    """Return which slices did what, by their numbers along z."""
    split = split_of(study.layout, Cell("poster", "large", split=study.settings.split))
    roles = {role: list(split.of(role)) for role in ("train", "validation", "test", "gap")}
    return {**roles, "gap_slices": study.layout.gap, "context": study.layout.context, "scored": _tested(study)}


def _without_blocks(result: dict[str, Any]) -> dict[str, Any]:
    kept = dict(result)
    for name in ("curve", "curve_like_scan"):
        if name in result:
            kept[name] = [{k: v for k, v in point.items() if k != "blocks"} for point in result[name]]
    return kept
