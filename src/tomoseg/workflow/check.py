"""`tomoseg check`: whether a model will hold on a scan without labels, why, and what to label next."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tomoseg.likeness import LIGHTS, expected_accuracy, of_scan
from tomoseg.workflow.common import limit_threads
from tomoseg.workflow.console import Console, counted
from tomoseg.workflow.looking import Looked, LookSettings, Seen, label_next, look_at

_LABEL_NEXT = 3
_ADVICE = {
    "green": "the scan looks like the training data; segment it, and still look at some slices",
    "amber": "the model may hold; look at the slices that are not green before you trust their numbers",
    "red": "do not trust this model here; label some of its slices and train on them too, or tomoseg adapt",
}


class CheckSettings(LookSettings):
    """Tell whether a model will hold on a scan without labels: a traffic light, why, and what to label next."""


def run(settings: CheckSettings, console: Console) -> None:
    """Look at some slices, print the light and the reasons, and write the report if it is asked for."""
    limit_threads(settings.threads)
    looked = look_at(settings, console)
    found = verdict(looked)
    for line in lines(found):
        console.result(line)
    if settings.shading == "keep" and any(of.kind == "grey values" for one in looked.seen for of in one.findings):
        console.result("if beam hardening or drift may have moved the grey values, look again with --shading fit")
    if settings.out is not None:
        _write(settings.out, found, looked, settings)
        console.result(f"report: {settings.out / 'report.html'}")


def verdict(looked: Looked) -> dict[str, Any]:
    """Return the light of the scan, why, and what was found in each slice, as it is written to check.json."""
    seen, expected = looked.seen, looked.expected
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
        "label_next": [one.name for one in label_next(looked, most=_LABEL_NEXT)],
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
    """Return each kind of finding once: its worst light, how many slices have it, and what the first of these says."""
    found = [(one, finding) for one in seen for finding in one.findings]
    reasons = []
    for kind, count in Counter(finding.kind for _, finding in found).most_common():
        where, first = max(
            (pair for pair in found if pair[1].kind == kind), key=lambda pair: LIGHTS.index(pair[1].light)
        )
        reasons.append(f"{kind}, {first.light}: {count} of {counted(len(seen), 'slice')}; {where.name}: {first.text}")
    return reasons


def lines(found: dict[str, Any]) -> list[str]:
    """Return a verdict in words."""
    told = [f"{found['light']}: {found['advice']}", *found["why"]]
    if found["expected_accuracy"] is not None and found["light"] != "red":
        told.append(
            f"accuracy to expect: about {found['expected_accuracy']:.3f} (on validation data "
            f"{found['validation_accuracy']:.3f}), if the network is no surer than it should be"
        )
    odd = [row["slice"] for row in found["slices"] if row["light"] != "green"]
    if odd:
        told.append(f"not green: {', '.join(odd)}")
    if found["label_next"]:
        told.append(f"to label next: {', '.join(found['label_next'])}")
    return told


def _write(folder: Path, found: dict[str, Any], looked: Looked, settings: CheckSettings) -> None:
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
    write_json(folder / "check.json", {**found, "provenance": looked.provenance("check", settings)})


def _or_dash(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
