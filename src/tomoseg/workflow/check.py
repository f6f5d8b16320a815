"""`tomoseg check`: whether a model will hold on a scan without labels, why, and what to label next."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import tyro
from pydantic import Field

from tomoseg.errors import ModelFileError, SettingError
from tomoseg.provenance import record
from tomoseg.workflow.common import ModelFile, Reading, SourcePath, limit_threads
from tomoseg.workflow.console import Console, counted
from tomoseg.workflow.reading import Source, open_source, refuse_without_parts

if TYPE_CHECKING:
    from tomoseg.likeness import Expected
    from tomoseg.model_file import Model
    from tomoseg.workflow.looking import Seen

_LABEL_NEXT = 3
_ADVICE = {
    "green": "the scan looks like the training data; segment it, and still look at some slices",
    "amber": "the model may hold; look at the slices named below before you trust their numbers",
    "red": "do not trust this model here; label the slices named below and train on them too, or tomoseg adapt",
}


class CheckSettings(Reading):
    """Tell whether a model will hold on a scan without labels: a traffic light, why, and what to label next."""

    model: Annotated[ModelFile, Field(description="model file, NAME.tomoseg")]
    source: Annotated[SourcePath, Field(description="folder of slices, or a volume in any format that is read")]
    out: Annotated[
        Path | None,
        tyro.conf.arg(aliases=["-o"]),
        Field(description="folder for report.html and check.json, if wanted"),
    ] = None
    slices: Annotated[int, Field(ge=1, description="how many evenly spaced slices to look at")] = 16
    force: Annotated[bool, Field(description="replace an existing report")] = False


def run(settings: CheckSettings, console: Console) -> None:
    """Look at some slices, print the light and the reasons, and write the report if it is asked for."""
    limit_threads(settings.threads)
    from tomoseg.model_file import load_model
    from tomoseg.report import check_folder

    if settings.out is not None:
        check_folder(settings.out, force=settings.force)
    model = load_model(settings.model)
    source = open_source(settings.source, settings)
    seen, expected = check(model, source, settings.slices, console)
    found = verdict(seen, expected, apart=model.record.gap)
    for line in lines(found):
        console.result(line)
    if settings.out is not None:
        _write(settings.out, found, model, settings)
        console.result(f"report: {settings.out / 'report.html'}")


def check(model: Model, source: Source, slices: int, console: Console) -> tuple[list[Seen], Expected]:
    """Look at some evenly spaced slices of a scan.

    Raises
    ------
    InputError
        If the model carries no tiles to compare with, or the scan can't be read as the model needs it.
    """
    from tomoseg.likeness import expect
    from tomoseg.workflow.looking import see, spread
    from tomoseg.workflow.predict import make_runner, refuse_other_type

    refuse_other_type(model.record, source.volume)
    refuse_without_parts(source, context=model.record.network.context)
    expected = expect(model, blur=True)
    if expected is None:
        raise ModelFileError(
            f"{model.place}: was trained with --no-samples and has nothing to compare a scan with; train without it"
        )
    zs = spread(source.region.z0, source.region.z1, slices)
    found = list(see(source, zs, model=model, runner=make_runner(model), expected=expected, console=console))
    if not found:
        raise SettingError(f"{source.path}: no slice that was looked at has a pixel that counts; look at --mask")
    return found, expected


def verdict(seen: Sequence[Seen], expected: Expected, *, apart: int) -> dict[str, Any]:
    """Return the light of the scan, why, and what was found in each slice, as it is written to check.json."""
    from tomoseg.likeness import expected_accuracy, of_scan
    from tomoseg.workflow.looking import label_next

    # where a slice is unlike the training data, the network's confidence says nothing
    accuracies = [None if one.light == "red" else expected_accuracy(one.look, expected) for one in seen]
    known = [accuracy for accuracy in accuracies if accuracy is not None]
    light = of_scan([one.light for one in seen])
    return {
        "light": light,
        "advice": _ADVICE[light],
        "why": _why(seen),
        "expected_accuracy": float(np.mean(known)) if known else None,
        "validation_accuracy": expected.accuracy(0.0),
        "label_next": [one.name for one in label_next(seen, most=_LABEL_NEXT, apart=apart)],
        "slices": [
            {
                "slice": one.name,
                "light": one.light,
                "why": [finding.text for finding in one.findings],
                "confidence": one.look.confidence,
                "expected_accuracy": accuracy,
                "noise_windows": one.look.grey.noise,
                "blur_px": one.look.blur_px,
            }
            for one, accuracy in zip(seen, accuracies, strict=True)
        ],
        "training": {"noise_windows": expected.noise, "blur_px": expected.blur_px},
    }


def _why(seen: Sequence[Seen]) -> list[str]:
    """Return each kind of finding once, with how many slices have it and what the worst of them says."""
    from tomoseg.likeness import LIGHTS

    found = [(one, finding) for one in seen for finding in one.findings]
    reasons = []
    for kind, count in Counter(finding.kind for _, finding in found).most_common():
        where, worst = max(
            (pair for pair in found if pair[1].kind == kind), key=lambda pair: LIGHTS.index(pair[1].light)
        )
        reasons.append(f"{kind}, {worst.light}: {count} of {counted(len(seen), 'slice')}; {where.name}: {worst.text}")
    return reasons


def lines(found: dict[str, Any]) -> list[str]:
    """Return a verdict in words."""
    told = [f"{found['light']}: {found['advice']}", *found["why"]]
    if found["expected_accuracy"] is not None and found["light"] != "red":
        told.append(
            f"accuracy to expect: about {found['expected_accuracy']:.3f} (on clean validation data "
            f"{found['validation_accuracy']:.3f}), if the network is no surer than it should be"
        )
    if found["label_next"]:
        told.append(f"to label next: {', '.join(found['label_next'])}")
    return told


def _write(folder: Path, found: dict[str, Any], model: Model, settings: CheckSettings) -> None:
    from tomoseg.report import Facts, Headline, Note, Report, Section, Table, write_json, write_report

    rows = [
        [row["slice"], row["light"], f"{row['confidence']:.3f}", _or_dash(row["expected_accuracy"], ".3f"),
         _or_dash(row["noise_windows"], ".3f"), _or_dash(row["blur_px"], ".2f")]
        for row in found["slices"]
    ]  # fmt: skip
    usual = found["training"]
    training = ["training slices", "", "", _or_dash(found["validation_accuracy"], ".3f"),
                f"{usual['noise_windows']:.3f}", _or_dash(usual["blur_px"], ".2f")]  # fmt: skip
    columns = ("slice", "light", "mean confidence", "accuracy to expect", "noise, windows", "blur, pixels")
    unlike = [(row["slice"], "; ".join(row["why"])) for row in found["slices"] if row["why"]]
    report = Report(
        title=f"Will {settings.model.name} hold on {settings.source.name}?",
        subtitle=f"{counted(len(rows), 'slice')} looked at, without labels",
        headlines=[
            Headline("Light", found["light"], found["advice"]),
            Headline("Accuracy to expect", _or_dash(found["expected_accuracy"], ".3f"),
                     "of slices that are not red, if the network is no surer than it should be"),
            Headline("To label next", ", ".join(found["label_next"]) or "-", "in this order"),
        ],
        sections=[
            Section("Slice by slice", [Table(columns, [training, *rows], strong=0)]),
            *([Section("What is unlike the training data", [Facts(unlike)])] if unlike else []),
        ],
        notes=[Note("A network can be sure and wrong: only labels on this scan tell how good a segmentation is.")],
    )  # fmt: skip
    write_report(folder, report, force=settings.force)
    made = record(
        "check",
        seed=settings.seed,
        inputs={"model": model.content},
        settings=settings.model_dump(mode="json", exclude={"model", "source", "out"}),
    )
    write_json(folder / "check.json", {**found, "provenance": made.model_dump()})


def _or_dash(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
