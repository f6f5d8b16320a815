"""What `quantify --compare` writes: samples side by side and their differences, as page, JSON, CSV and lines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from textwrap import fill

from tomoseg.provenance import Provenance
from tomoseg.quantify import Measurement
from tomoseg.quantify.comparison import SQUARE_AND_ADD, Difference, differences
from tomoseg.quantify.quantities import WHOLE
from tomoseg.quantify.resolution import coarse
from tomoseg.report import (
    Facts,
    Headline,
    Note,
    Picture,
    Report,
    Section,
    Table,
    write_csv,
    write_json,
    write_report,
)
from tomoseg.report.microstructure import Dot, Panel, samples_picture
from tomoseg.workflow.quantify_numbers import number, unit_in_words
from tomoseg.workflow.segmentation import Segmentation

COLUMNS = ("name", "unit", "sample", "value", "low", "high", "reference", "difference", "difference low",
           "difference high", "excludes 0")  # fmt: skip

SECTIONS = {
    "Phases": ("phase fraction", "volume that tells"),
    "Interfaces": ("surface area", "interface area"),
    "Mean curvature": ("mean curvature", "integral of mean"),
    "Triple-phase boundaries": ("triple-phase",),
    "Connectivity": ("number of", "Euler", "percolating", "dead-ended", "isolated"),
    "Chord lengths": ("mean chord",),
    "Sizes": ("median",),
    "Particles": ("particle",),
    "Correlation lengths": ("correlation",),
    "Transport": ("tortuosity", "effective", "geodesic"),
}
_DRAWN = ("phase fraction", "surface area", "interface area", "triple-phase boundary density")
_MOST_PANELS = 4
_WIDEST_NAME, _WIDEST_SAMPLE = 34, 18
_MARK = "* the 95 % interval of the difference excludes 0"


@dataclass(frozen=True)
class Compared:
    """Numbers of several samples.

    Attributes
    ----------
    samples
        Name of a sample -> its numbers; differences are to the first.
    segmentations
        Name of a sample -> what was measured.
    made
        Where that is recorded.
    """

    samples: Mapping[str, Sequence[Measurement]]
    segmentations: Mapping[str, Segmentation]
    made: Provenance

    @property
    def names(self) -> list[str]:
        """Names of the samples, the reference first."""
        return list(self.samples)

    @property
    def warnings(self) -> list[str]:
        """Which samples hang on the resolution, so that differences may come from it."""
        return [f"{name}: {warning}" for name, found in self.samples.items() if (warning := coarse(found)) is not None]

    @cached_property
    def differences(self) -> list[Difference]:
        """Of each further sample to the first."""
        return differences(self.samples)

    @cached_property
    def quantities(self) -> dict[str, dict[str, Measurement]]:
        """Name of a quantity -> sample -> its number, for the samples that have it."""
        found: dict[str, dict[str, Measurement]] = {}
        for sample, its in self.samples.items():
            for one in its:
                found.setdefault(one.name, {})[sample] = one
        return found

    @cached_property
    def by_sample(self) -> dict[tuple[str, str], Difference]:
        """Name of a quantity and of a sample -> the difference to the first."""
        return {(one.name, one.sample): one for one in self.differences}


def write_comparison(folder: Path, compared: Compared, *, force: bool) -> None:
    """Write report.html with its figure, quantities.json and quantities.csv."""
    write_report(folder, as_report(compared), force=force)
    write_csv(folder / "quantities.csv", COLUMNS, list(_rows(compared)))
    write_json(
        folder / "quantities.json",
        {
            "samples": compared.names,
            "measurements": {name: [one.model_dump() for one in found] for name, found in compared.samples.items()},
            "differences": [one.model_dump() for one in compared.differences],
            "provenance": compared.made.model_dump(),
        },
    )


def _rows(compared: Compared) -> Iterator[list[object]]:
    """Yield a row a quantity and sample."""
    for name, by_sample in compared.quantities.items():
        for sample, one in by_sample.items():
            row = [name, one.unit, sample, one.value, *(one.interval or ("", ""))]
            step = compared.by_sample.get((name, sample))
            if step is None:
                row += [""] * 5
            else:
                excludes = "" if step.interval is None else "yes" if step.excludes_zero else "no"
                row += [step.reference, step.value, *(step.interval or ("", "")), excludes]
            yield ["" if cell is None else cell for cell in row]


def as_report(compared: Compared) -> Report:
    """Return the page."""
    reference, *others = compared.names
    known = [one for one in compared.differences if one.interval is not None]
    marked = sum(one.excludes_zero for one in known)
    sections = [Section("Side by side", [_picture(compared)])]
    for title, starts in SECTIONS.items():
        chosen = [name for name in compared.quantities if name.startswith(starts)]
        if chosen:
            sections.append(Section(title, [_table(compared, chosen)]))
    sections.append(Section("How it was made", [Facts(_facts(compared))]))
    return Report(
        title=f"{', '.join(others)} compared with {reference}",
        subtitle="All samples measured with the same options; each has its own report beside this one.",
        headlines=[
            Headline("Differences marked", f"{marked} of {len(known)}", "of those with an interval"),
            Headline("To expect by chance", f"{len(known) / 20:g}", "1 in 20, were the samples alike"),
        ],
        sections=sections,
        notes=_notes(compared),
    )


def _notes(compared: Compared) -> list[Note]:
    told = (
        f"{_MARK}. Samples are taken to be independent, so half widths add in squares ({SQUARE_AND_ADD}); where one "
        "sample has no interval, the difference has none. With many quantities some intervals exclude 0 by chance: 1 "
        "in 20 where the samples are alike."
    )
    notes = [Note(told)]
    if compared.made.settings.get("scores"):
        shared = (
            "The segmentation's error on the same labelled slices is in the intervals of all samples. What they share "
            "of it cancels in a difference, whose interval is rather too wide."
        )
        notes.append(Note(shared))
    else:
        notes.append(Note("Intervals contain sampling only, not the segmentation's error.", "warning"))
    if len({one.voxel_size_um for one in compared.segmentations.values()}) > 1:
        sizes = (
            "Voxel sizes differ: finer voxels show more of a rough interface, a difference that is none of the samples."
        )
        notes.append(Note(sizes, "warning"))
    return [*notes, *(Note(f"{warning}.", "warning") for warning in compared.warnings)]


def _facts(compared: Compared) -> list[tuple[str, str]]:
    facts = []
    for name, one in compared.segmentations.items():
        size = one.voxel_size_um
        edges = f"{' x '.join(f'{edge:g}' for edge in size)} µm" if size else "of unknown size"
        shape = " x ".join(map(str, one.shape))
        facts.append((name, f"{one.source.path}: {shape} voxels (z, y, x), {edges}; {name}/report.html"))
    asked = compared.made.settings.items()
    facts.append(("tomoseg", compared.made.tomoseg))
    return facts + [(str(name), str(value)) for name, value in asked if value not in (None, [], False)]


def _table(compared: Compared, chosen: Sequence[str]) -> Table:
    """Return a row a quantity; remarks that tell why there is no value or no interval stand above."""
    reference, *others = compared.names
    columns = ["quantity", *(fill(name, _WIDEST_SAMPLE) for name in compared.names)]
    columns += [fill(other, _WIDEST_SAMPLE) + "\n" + fill(f"- {reference}", _WIDEST_SAMPLE) for other in others]
    rows = [_row(compared, name) for name in chosen]
    remarks = dict.fromkeys(remark for name in chosen for remark in _remarks(compared, name))
    return Table(columns, rows, "; ".join(remarks))


def _row(compared: Compared, name: str) -> list[str]:
    by_sample = compared.quantities[name]
    unit = unit_in_words(next(iter(by_sample.values())).unit)
    values = [_cell(one.value, one.interval) if (one := by_sample.get(sample)) else "-" for sample in compared.names]
    steps = [compared.by_sample.get((name, sample)) for sample in compared.names[1:]]
    named = fill(name if unit == "1" else f"{name}, {unit}", _WIDEST_NAME)
    return [named, *values, *(_step(step) for step in steps)]


def _remarks(compared: Compared, name: str) -> Iterator[str]:
    notes = {sample: one.note for sample, one in compared.quantities[name].items() if one.note not in (None, WHOLE)}
    shared = set(notes.values())
    if len(notes) == len(compared.names) and len(shared) == 1:
        yield str(shared.pop())
    else:
        yield from (f"{sample}: {note}" for sample, note in notes.items())


def _cell(value: float | None, interval: tuple[float, float] | None) -> str:
    if value is None:
        return "-"
    return number(value) if interval is None else f"{number(value)}\n({number(interval[0])} to {number(interval[1])})"


def _step(step: Difference | None) -> str:
    """Return a difference with its sign, marked where its interval excludes 0."""
    if step is None or step.value is None:
        return "-"
    shown = f"{'+' if step.value > 0 else ''}{number(step.value)}{' *' if step.excludes_zero else ''}"
    return shown if step.interval is None else f"{shown}\n({number(step.interval[0])} to {number(step.interval[1])})"


def _picture(compared: Compared) -> Picture:
    """Return fractions, areas and triple lines of all samples, a kind a row or more."""
    rows = []
    for start in _DRAWN:
        chosen = [name for name in compared.quantities if name.startswith(start) and " along " not in name]
        chosen = [name for name in chosen if not name.endswith(" by probabilities")]
        rows += [chosen[first : first + _MOST_PANELS] for first in range(0, len(chosen), _MOST_PANELS)]
    return samples_picture([[_panel(compared, name) for name in row] for row in rows], names=compared.names)


def _panel(compared: Compared, name: str) -> Panel:
    """Return a quantity of all samples as it is drawn."""
    by_sample = compared.quantities[name]
    dots = []
    for sample in compared.names:
        step = compared.by_sample.get((name, sample))
        one = by_sample[sample]
        dots.append(Dot(one.value, one.interval, differs=step is not None and step.excludes_zero))
    unit = unit_in_words(by_sample[compared.names[0]].unit)
    title = name.removesuffix(" per volume")
    return Panel(title if unit == "1" else f"{title}, {unit}", dots)


def console_lines(compared: Compared, *, axis: str) -> list[str]:
    """Return the table in words: those along another axis than `axis` are left to the report."""
    others = tuple(f" along {other}" for other in "zyx" if other != axis)
    reference, *further = compared.names
    rows = [["", *compared.names, *(f"{other} - {reference}" for other in further)]]
    rows += [_row(compared, name) for name in compared.quantities if not name.endswith(others)]
    flat = [[cell.replace("\n", " ") for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in flat) for column in range(len(flat[0]))]
    shown = ["  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in flat]
    remarks = [remark for by_sample in compared.quantities.values() for remark in _without_interval(by_sample)]
    marked = any(one.excludes_zero for one in compared.differences)
    return [*shown, *dict.fromkeys(remarks), *([_MARK] if marked else [])]


def _without_interval(by_sample: Mapping[str, Measurement]) -> Iterator[str]:
    for sample, one in by_sample.items():
        if one.value is not None and one.interval is None and one.note not in (None, WHOLE):
            yield f"{sample} has no intervals: {one.note}"
