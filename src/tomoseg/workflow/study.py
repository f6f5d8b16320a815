"""`tomoseg study noise`: what noise does to a segmentation, as in the poster, and how much of it may be had."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import tyro
from pydantic import Field, field_validator, model_validator

from tomoseg import __version__, errors
from tomoseg.errors import InputError, OutputError, SettingError
from tomoseg.provenance import content_hash
from tomoseg.workflow.common import Images, Labels, Reading, Target, checked_address
from tomoseg.workflow.console import Console

if TYPE_CHECKING:
    from tomoseg.study import Cell
    from tomoseg.workflow.study_data import Layout

QUICK = {
    "sizes": ("large",),
    "width": 8,
    "minutes_per_cell": 0.25,
    "shares": (0.0, 0.5),
    "levels": (0.0, 5000.0, 10_000.0),
    "test_slices": 3,
}
NOISES = ("gaussian", "correlated")
"""Kinds whose level is a std, so that a plan of exposures can be made."""

_CHOOSE_CELLS = {"sizes", "shares", "seeds", "forest", "per_level", "to_the_end", "patience", "most_minutes"}
"""Settings that say which cells there are, or when one ends that says so itself: what is done holds with others too."""

_UNTOUCHED = {"images", "labels", "out", "quiet", "threads", "workers", "scheduler", "tolerance", "force"}
_WRITTEN = ("report.html", "study.json", "table.md", "table.csv", "curve.csv")


class StudySettings(Reading):
    """Train and test with and without noise, as in the poster, and ours beside it."""

    what: Annotated[
        Literal["noise"], tyro.conf.Positional, tyro.conf.arg(metavar="noise"), Field(description="the noise study")
    ]
    images: Annotated[Images, Field(description="folder of slices, or a multi-page TIFF")]
    labels: Annotated[Labels, Field(description="label pictures of some of them")]
    out: Annotated[Target, Field(description="folder for report.html, study.json, table.md, table.csv, cells/")]
    noise_std: Annotated[
        float, Field(gt=0, description="std of the noise in the table, in 1/65535 of full range (the poster's: 5000)")
    ] = 5000.0
    kind: Annotated[
        Literal["gaussian", "correlated", "poisson", "blur", "rings", "streaks", "beam-hardening", "drift"],
        Field(
            description="what is done to the images; all but gaussian keep their draw, and ours does not train on it"
        ),
    ] = "gaussian"
    levels: Annotated[
        tuple[float, ...] | None,
        Field(description="levels of the curve from mild to severe, in the kind's unit; noise: 0 to 10000 by 1250"),
    ] = None
    noise_like: Annotated[
        Literal["scan", "white"], Field(description="for the plan: noise correlated as the scan's own, or white")
    ] = "scan"
    sizes: Annotated[
        tuple[Literal["small", "large"], ...], Field(min_length=1, description="one crop an image, or nine")
    ] = ("small", "large")
    shares: Annotated[tuple[float, ...], Field(description="shares of the training images with noise")] = (
        0.0,
        0.25,
        0.5,
        0.75,
        1.0,
    )
    seeds: Annotated[tuple[int, ...], Field(min_length=1, description="each trains all cells once more")] = (0,)
    width: Annotated[
        int, Field(ge=1, le=512, description="channels of the poster's first step; 64 is the poster's, 16 affordable")
    ] = 64
    minutes_per_cell: Annotated[float, Field(gt=0, description="time for each training")] = 3.0
    epochs: Annotated[
        float | None, Field(gt=0, description="instead: passes over the crops, the same patches for all")
    ] = None
    steps: Annotated[
        int | None, Field(ge=1, description="instead: steps of the poster's batch, the same patches for all")
    ] = None
    batch: Annotated[int, Field(ge=1, description="patches in a step of the poster's recipe")] = 8
    patch: Annotated[
        int, Field(ge=16, multiple_of=16, description="edge of a crop in pixels, whole pooling cells of 16")
    ] = 128
    noise_once: Annotated[bool, Field(description="each crop keeps its noise; else it is drawn at every step")] = False
    to_the_end: Annotated[
        tuple[str, ...],
        Field(description="large cells also trained until validation stops improving, like baseline 0.5"),
    ] = ()
    patience: Annotated[int, Field(ge=1, description="passes over the crops without gain before such a cell ends")] = 8
    most_minutes: Annotated[float, Field(gt=0, description="longest time for such a cell")] = 60.0
    forest: Annotated[bool, Field(description="a random forest trained at each level of the curve")] = True
    per_level: Annotated[bool, Field(description="train a model for each level of the curve, too")] = False
    test: Annotated[
        str | None, Field(description="slices that test, z0:z1 counted from 0; the last 15 % without it")
    ] = None
    test_slices: Annotated[int, Field(ge=1, description="most test slices that are scored, evenly spaced")] = 12
    split: Annotated[
        Literal["blocks", "random"], Field(description="blocks of z, or by slice at random, which leaks")
    ] = "blocks"
    gap: Annotated[int | None, Field(ge=0, description="slices between training and test; from the labels")] = None
    context: Annotated[int | None, Field(ge=0, le=8, description="context of ours; 2 where slices are neighbours")] = (
        None
    )
    clip: Annotated[bool, Field(description="clip and round the noisy test as a detector would")] = False
    tolerance: Annotated[
        tuple[str, ...], Field(description="what the plan allows, like accuracy=0.98 mean_iou=0.95 fraction=0.005")
    ] = ("accuracy=0.98", "fraction=0.005")
    classes: Annotated[
        tuple[str, ...], Field(description="names of the label values, like pore=0 Ni=255 or clay=#00ff00")
    ] = ()
    unlabelled: Annotated[str | None, Field(description="value or colour that means: not labelled")] = None
    workers: Annotated[int, Field(ge=1, description="cells at a time, on local processes")] = 1
    scheduler: Annotated[str | None, Field(description="an existing Dask scheduler, tcp://HOST:PORT")] = None
    quick: Annotated[bool, Field(description="a short form, five minutes on two cores")] = False
    force: Annotated[bool, Field(description="drop the cells of another study that are in the folder")] = False

    @field_validator("scheduler")
    @classmethod
    def _is_an_address(cls, address: str | None) -> str | None:
        return checked_address(address)

    @field_validator("shares")
    @classmethod
    def _are_shares(cls, shares: tuple[float, ...]) -> tuple[float, ...]:
        if any(not 0 <= share <= 1 for share in shares):
            raise ValueError("shares lie between 0 and 1")
        return tuple(sorted(set(shares)))

    @field_validator("sizes")
    @classmethod
    def _small_first(cls, sizes: tuple[Literal["small", "large"], ...]) -> tuple[Literal["small", "large"], ...]:
        order: tuple[Literal["small", "large"], ...] = ("small", "large")
        return tuple(size for size in order if size in sizes)

    @field_validator("seeds")
    @classmethod
    def _once_each(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if min(seeds) < 0:
            raise ValueError("seeds are 0 or more")
        return tuple(dict.fromkeys(seeds))

    @model_validator(mode="after")
    def _one_budget(self) -> StudySettings:
        if self.steps is not None and self.epochs is not None:
            raise ValueError("--steps and --epochs both end a training; give one of them")
        if self.split == "random" and self.test is not None:
            raise ValueError("--test names a block; with --split random the test slices are drawn")
        if any(not level >= 0 for level in self.levels or ()):
            raise ValueError("levels are 0 or more")
        if self.per_level and self.kind not in NOISES:
            raise ValueError(f"--per-level trains at a level of noise; {self.kind} is none")
        return self

    @property
    def table_level(self) -> float:
        """Level of the table: the noise's std, or the middle one of another kind."""
        from tomoseg.degrade import find_kind

        return self.noise_std if self.kind in NOISES else find_kind(self.kind).levels[2]

    @property
    def all_levels(self) -> list[float]:
        """Levels at which every network is scored: none, the table's, and the curve's; from mild to severe."""
        from tomoseg.degrade import find_kind

        kind = find_kind(self.kind)
        own = tuple(1250.0 * i for i in range(9)) if self.kind in NOISES else kind.levels
        found = {kind.identity, self.table_level, *(self.levels or own)}
        return sorted(found, reverse=kind.identity > kind.levels[0])

    @property
    def number_levels(self) -> list[float]:
        """Levels of the table of numbers: none and the table's. Only at these slabs are segmented and solved, too."""
        return list(dict.fromkeys([self.all_levels[0], self.table_level]))

    @property
    def trained_noise_std(self) -> float:
        """Top of the noise that ours is trained with: the curve's, or the table's where noise is not the question."""
        return self.all_levels[-1] if self.kind in NOISES else self.noise_std

    @property
    def plans_like_scan(self) -> bool:
        """Whether the plan's noise is to be correlated as the scan's own."""
        return self.kind == "gaussian" and self.noise_like == "scan"


def run(settings: StudySettings, console: Console) -> None:
    """Run the cells that are missing, and write the report."""
    from tomoseg.workflow.study_data import open_study, try_levels
    from tomoseg.workflow.study_plan import parse_tolerances
    from tomoseg.workflow.study_run import only_one

    settings = _absolute(_quick(settings) if settings.quick else settings)
    parse_tolerances(settings.tolerance)
    layout = open_study(settings, console)
    try_levels(settings, layout)
    settings = _with_known_noise(settings, layout, console)
    cells, wanted = plan(settings, layout), fingerprint(settings, layout)
    refuse_other_study(settings, wanted)
    with only_one(settings.out):
        claim_folder(settings.out, wanted)
        _run_missing(settings, layout, cells, console)


def _run_missing(settings: StudySettings, layout: Layout, cells: Sequence[Cell], console: Console) -> None:
    from tomoseg.workflow.study_report import write_study
    from tomoseg.workflow.study_results import Study
    from tomoseg.workflow.study_run import run_all

    done = read_cells(settings, cells)
    missing = [cell for cell in cells if cell.key not in done]
    console.say(
        f"{len(cells)} cells, {len(missing)} to be trained; {len(layout.test)} test slices, gap {layout.gap}, "
        f"context {layout.context}; {_budget_words(settings, missing)}"
    )
    failed = run_all(missing, settings, console)
    done = read_cells(settings, cells)
    if not any(cell.key in done for cell in cells if cell.method != "forest"):
        said = f"no network could be trained; the first: {_first(failed)}"
        raise RuntimeError(said) if any(map(_is_ours, failed.values())) else SettingError(said)
    write_study(Study(settings, layout, tuple(cells), done), console)
    for key, why in failed.items():
        console.warn(f"cell {key} failed and is missing in the table: {why}")
    console.result(f"report: {settings.out / 'report.html'}")


def _is_ours(why: str) -> bool:
    """Return whether a cell failed by a fault of tomoseg: not by what the user gave, nor with its worker."""
    from tomoseg.workflow.study_run import LOST_WORKER

    name = why.partition(":")[0]
    return not hasattr(errors, name) and name != LOST_WORKER


def _first(failed: dict[str, str]) -> str:
    return next(iter(failed.values()), "no result was written; do the workers see the same folders?")


def _quick(settings: StudySettings) -> StudySettings:
    """Return the settings with those of the short form where the user left the default."""
    fields = StudySettings.model_fields
    short = {name: value for name, value in QUICK.items() if name != "levels" or settings.kind in NOISES}
    return settings.model_copy(
        update={name: value for name, value in short.items() if getattr(settings, name) == fields[name].default}
    )


def _absolute(settings: StudySettings) -> StudySettings:
    """Return the settings with whole paths, for workers that run elsewhere."""
    paths = {name: getattr(settings, name).resolve() for name in ("images", "labels", "out")}
    if settings.mask not in (None, "auto"):
        return settings.model_copy(update={**paths, "mask": str(Path(settings.mask or "").resolve())})
    return settings.model_copy(update=paths)


def _with_known_noise(settings: StudySettings, layout: Layout, console: Console) -> StudySettings:
    """Return the settings; for white noise, with a warning, where the scan's own has no autocorrelation to measure."""
    from tomoseg.workflow.study_data import scan_noise

    if settings.plans_like_scan:
        try:
            scan_noise(layout.scan)
        except InputError as error:
            console.warn(f"{error}; the plan takes white noise")
            return settings.model_copy(update={"noise_like": "white"})
    return settings


def _budget_words(settings: StudySettings, missing: Sequence[Cell]) -> str:
    if settings.steps is not None:
        return f"{settings.steps} steps of {settings.batch} patches each"
    if settings.epochs is not None:
        return f"{settings.epochs:g} epochs each"
    minutes = sum(settings.minutes_per_cell for cell in missing if cell.method != "forest" and not cell.to_the_end)
    ends = sum(cell.to_the_end for cell in missing)
    longest = f", and {ends} of at most {settings.most_minutes:g} min" if ends else ""
    where = f"{minutes / settings.workers:.0f} min" if settings.scheduler is None else f"{minutes:.0f} worker-minutes"
    return f"about {where} of training{longest}, scoring on top"


def plan(settings: StudySettings, layout: Layout) -> list[Cell]:
    """Return the cells of the study.

    Raises
    ------
    SettingError
        If a cell to be trained to the end is unknown.
    """
    from tomoseg.study import Method, study_cells

    methods: list[Method] = ["ours", "ours 2D", "ours clean"]
    cells = study_cells(
        sizes=settings.sizes,
        shares=settings.shares,
        seeds=settings.seeds,
        methods=[*methods, "forest"] if settings.forest else methods,
        levels=settings.all_levels,
        neighbours=bool(layout.context),
        per_level=settings.per_level,
        varied=settings.kind == "gaussian",
        to_the_end=[_end_share(text) for text in settings.to_the_end],
    )
    if settings.split == "random":
        from dataclasses import replace

        other = {"random": "blocks", "blocks": "random"}
        return [replace(cell, split=other[cell.split]) for cell in cells]  # type: ignore[arg-type]
    return cells


def _end_share(text: str) -> float | None:
    if text == "baseline":
        return None
    try:
        share = float(text)
    except ValueError:
        share = float("nan")
    if not 0 <= share <= 1:
        raise SettingError(f"--to-the-end {text!r} is neither baseline nor a share from 0 to 1, like 0.5")
    return share


def refuse_other_study(settings: StudySettings, wanted: Mapping[str, Any]) -> None:
    """Refuse a folder that holds another study or report, if `force` is off; nothing is changed.

    Raises
    ------
    OutputError
        If it does, or cannot be written.
    """
    from tomoseg.report import check_folder

    mark = settings.out / "cells" / "study.json"
    if not mark.exists():
        check_folder(settings.out, force=settings.force)
        return
    found = json.loads(mark.read_text(encoding="utf-8"))
    names = _differing(found, wanted)
    if names == ["threads"] and not settings.force:
        raise OutputError(
            f"{settings.out}: was begun with {found['threads'] or 'all'} threads a cell, which are {wanted['threads']} "
            "with --workers as it is now; state --threads, or begin again with --force"
        )
    if names and not settings.force:
        raise OutputError(
            f"{settings.out}: holds the cells of another study (other {', '.join(names)}); give the same settings to "
            "go on with it, choose another folder, or drop its cells with --force"
        )


def claim_folder(out: Path, wanted: Mapping[str, Any]) -> None:
    """Make the study's folder, or find that it holds this very study; cells and report of another one are dropped.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    from tomoseg.report import write_json

    mark = out / "cells" / "study.json"
    if mark.exists() and not _differing(json.loads(mark.read_text(encoding="utf-8")), wanted):
        return
    cells = [f"cells/{name}" for name in ("*-s[0-9]*.json", "*-s[0-9]*.tomoseg", "*-s[0-9]*.failed.txt")]
    for pattern in (*cells, *_WRITTEN):
        for file in out.glob(pattern):
            file.unlink()
    write_json(mark, wanted)


def _differing(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """Return the names of the settings that differ; one that `found` does not know yet had its default."""
    fields = StudySettings.model_fields
    defaults = json.loads(
        json.dumps({name: field.default for name, field in fields.items() if name in wanted}, default=str)
    )
    return sorted(name for name in wanted if found.get(name, defaults.get(name)) != wanted[name])


def fingerprint(settings: StudySettings, layout: Layout) -> dict[str, Any]:
    """Return what every cell depends on: data, settings, recipes."""
    from tomoseg.recipe import RECIPES
    from tomoseg.workflow.study_run import threads_of

    scan = layout.scan
    contents = "".join(content_hash(scan.read_grey(pair.z), scan.read_label(pair.z)) for pair in scan.pairs)
    told = json.loads(settings.model_dump_json(exclude=_UNTOUCHED | _CHOOSE_CELLS))
    data = content_hash(np.frombuffer(contents.encode(), np.uint8))
    recipes = {name: recipe.model_dump(mode="json") for name, recipe in RECIPES.items()}
    return {**told, "recipes": recipes, "data": data, "threads": threads_of(settings), "tomoseg": __version__}


def read_cells(settings: StudySettings, cells: Sequence[Cell]) -> dict[str, dict[str, Any]]:
    """Return the results of the cells that are done, by key."""
    paths = {cell.key: settings.out / "cells" / f"{cell.key}.json" for cell in cells}
    found = {key: json.loads(path.read_text(encoding="utf-8")) for key, path in paths.items() if path.exists()}
    for result in found.values():
        for point in (*result["curve"], *result.get("curve_like_scan", ())):
            if point["level"] is None:  # JSON has no infinity
                point["level"] = float("inf")
    return found
