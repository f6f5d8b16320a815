"""`tomoseg train`: images and a few labels in, a model file out."""

from __future__ import annotations

import re
import time
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

import numpy as np
import tyro
from pydantic import Field

from tomoseg.errors import SettingError
from tomoseg.labels import parse_classes, parse_value
from tomoseg.volume.turned import Axis
from tomoseg.workflow.common import Reading, Target, limit_threads
from tomoseg.workflow.console import Bar, Console
from tomoseg.workflow.reading import open_scans

if TYPE_CHECKING:
    from tomoseg.model_file import Model
    from tomoseg.recipe import Recipe
    from tomoseg.slices import Scan
    from tomoseg.train import Budget, Step, Training
    from tomoseg.workflow.prepare import Prepared

DEFAULT_MINUTES = 5.0
BRIEF_MINUTES, BRIEF_STEPS = 2.0, 1500
"""Trainings shorter than this are brief ones, for which a smaller network is better."""

_CHECKPOINT_EVERY_SECONDS = 30.0


class TrainSettings(Reading):
    """Train a network on the labelled slices of one or more scans."""

    images: Annotated[
        Path | None,
        tyro.conf.Positional,
        tyro.conf.arg(metavar="IMAGES"),
        Field(description="folder of slices, or a multi-page TIFF"),
    ] = None
    labels: Annotated[
        Path | None,
        tyro.conf.Positional,
        tyro.conf.arg(metavar="LABELS"),
        Field(description="label pictures of some of them, same size"),
    ] = None
    out: Annotated[Target, Field(description="model file to write, NAME.tomoseg")]
    minutes: Annotated[
        float | None, Field(gt=0, description="time to train, validation included; 5 without --minutes and --steps")
    ] = None
    steps: Annotated[int | None, Field(ge=1, description="training steps instead, for repeatable runs")] = None
    recipe: Annotated[
        str | None,
        Field(
            description="fast, brief (a smaller network), thorough (slower prediction), robust (against artefacts), "
            f"poster, or a .toml file; without it fast, or brief below {BRIEF_MINUTES:g} minutes or {BRIEF_STEPS} steps"
        ),
    ] = None
    context: Annotated[
        int | None, Field(ge=0, le=8, description="neighbouring slices seen on either side; 2 where there are any")
    ] = None
    noise_std: Annotated[
        tuple[float, float] | None,
        Field(description="range of the noise std drawn for each patch, in 1/65535 of full range"),
    ] = None
    test: Annotated[str, Field(description="slices kept for the test, z0:z1 counted from 0 as in --roi, or none")] = (
        "none"
    )
    split: Annotated[
        Literal["blocks", "slices", "random"],
        Field(description="how validation slices are chosen: a run of neighbours, single ones, or leaky at random"),
    ] = "blocks"
    gap: Annotated[
        int | None, Field(ge=0, description="slices between training and test; from the labels without it")
    ] = None
    classes: Annotated[
        tuple[str, ...], Field(description="names of the label values, like pore=0 Ni=255 or clay=#00ff00")
    ] = ()
    unlabelled: Annotated[str | None, Field(description="value or colour that means: not labelled")] = None
    patch: Annotated[int | None, Field(ge=16, description="edge of a training patch in pixels; the recipe's")] = None
    draw: Annotated[
        Literal["fresh", "small", "large"] | None,
        Field(description="fresh patches, or one (small) or nine (large) fixed crops an image; the recipe's"),
    ] = None
    scans: Annotated[
        Path | None,
        Field(
            description="TOML file of several scans, or of one along several axes, instead of IMAGES LABELS: [[scan]] "
            "images, labels, and if wanted test, and axis: z, or y or x for labels on planes across it"
        ),
    ] = None
    resume: Annotated[bool, Field(description="go on where an interrupted training stopped")] = False
    samples: Annotated[bool, Field(description="keep labelled tiles in the model, for baselines")] = True
    force: Annotated[bool, Field(description="replace an existing model file")] = False


@dataclass(frozen=True)
class ScanPlace:
    """Where a scan lies, what its labels are planes across, and which of these are for the test."""

    images: Path
    labels: Path
    test: str
    axis: Axis = "z"


def run(settings: TrainSettings, console: Console) -> None:
    """Train and write the model file."""
    places = _places(settings)
    limit_threads(settings.threads)
    from tomoseg.model_file import check_model_target

    check_model_target(settings.out, force=settings.force or settings.resume)
    scans = open_scans(
        [(place.images, place.labels) for place in places],
        how=settings,
        stated=parse_classes(settings.classes) or None,
        unlabelled=parse_value(settings.unlabelled) if settings.unlabelled else None,
        axes=[place.axis for place in places],
        console=console,
    )
    model, finished = train_on(scans, [place.test for place in places], settings, console)
    from tomoseg.model_file import save_model

    save_model(settings.out, model)
    if finished:
        _checkpoint(settings).unlink(missing_ok=True)
    console.result(f"model: {settings.out}")


def _places(settings: TrainSettings) -> list[ScanPlace]:
    if settings.minutes is not None and settings.steps is not None:
        raise SettingError("--minutes and --steps both end the training; give one of them")
    if settings.scans is not None:
        if settings.images is not None:
            raise SettingError("--scans is given instead of IMAGES LABELS, not beside them")
        return load_scans_file(settings.scans)
    if settings.images is None or settings.labels is None:
        raise SettingError("train needs IMAGES and LABELS, like: tomoseg train images labels -o model.tomoseg")
    return [ScanPlace(settings.images, settings.labels, settings.test)]


def load_scans_file(path: Path) -> list[ScanPlace]:
    """Read a TOML file of scans: a list `scan` of tables with `images`, `labels` and, if wanted, `test` and `axis`.

    Labels with `axis = "y"` are pictures of planes across y (rows z, columns x), with `axis = "x"` across x (rows z,
    columns y); the last number in a name is the plane, and `test` counts planes along that axis. The same images may
    come several times. Relative paths start at the file's folder.

    Raises
    ------
    SettingError
        If the file cannot be read or has another form.
    """
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8")).get("scan", [])
    except OSError as error:
        raise SettingError(f"{path}: cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingError(f"{path}: is no TOML: {error}") from error
    places = []
    for table in tables if isinstance(tables, list) else []:
        keys = set(table) if isinstance(table, dict) else set()
        if not {"images", "labels"} <= keys <= {"images", "labels", "test", "axis"}:
            raise SettingError(
                f"{path}: a [[scan]] has images, labels and perhaps test and axis; this one has {sorted(keys)}"
            )
        axis = table.get("axis", "z")
        if axis not in get_args(Axis):
            raise SettingError(f'{path}: axis = "{axis}" is none of z, y and x')
        images, labels = (path.parent / str(table[key]) for key in ("images", "labels"))
        places.append(ScanPlace(images, labels, str(table.get("test", "none")), axis))
    if not places:
        raise SettingError(f'{path}: names no scan; write [[scan]], images = "folder", labels = "folder" for each')
    return places


def parse_test(text: str, *, depth: int) -> range:
    """Read which slices are kept for the test: `z0:z1`, counted from 0, or `none`.

    Raises
    ------
    SettingError
        If it has another form or reaches outside the volume.

    Examples
    --------
    >>> parse_test("136:160", depth=160)
    range(136, 160)
    """
    if text == "none":
        return range(0)
    parts = re.fullmatch(r"(\d*):(\d*)", text)
    if parts is None:
        raise SettingError(f"--test {text!r} is neither none nor of the form z0:z1, like 136:160")
    found = range(int(parts[1] or 0), int(parts[2] or depth))
    if not 0 <= found.start < found.stop <= depth:
        raise SettingError(f"--test {text!r} asks for slices {found.start}:{found.stop} of a volume of {depth}")
    return found


def train_on(
    scans: tuple[Scan, ...], test: Sequence[str], settings: TrainSettings, console: Console
) -> tuple[Model, bool]:
    """Train on open scans; return the model, and whether the budget was used up, not cut short by Ctrl-C."""
    from tomoseg.recipe import load_recipe
    from tomoseg.slices import choose_context
    from tomoseg.workflow import prepare as work

    name = settings.recipe or usual_recipe(settings)
    settings = settings.model_copy(update={"recipe": name})
    recipe = _adjusted(load_recipe(name), settings)
    console.say(f"recipe {name}: a U-Net of {'-'.join(map(str, (*recipe.widths, recipe.bottleneck)))} channels")
    context = choose_context(scans, asked=recipe.context if settings.context is None else settings.context)
    reach = work.network_for(recipe, scans, context=context).reach
    gap = work.choose_gap(scans, context=context, reach=reach) if settings.gap is None else settings.gap
    splits = work.split_scans(
        scans,
        kind=settings.split,
        gap=gap,
        test=[_tested(scan, text) for scan, text in zip(scans, test, strict=True)],
        rng=np.random.default_rng([settings.seed, 0]),
        n_classes=len(scans[0].classes),
        halo=reach,
    )
    _announce(splits, gap, context, console)
    prepared = work.prepare(
        scans,
        recipe,
        context=context,
        splits=splits,
        gap=gap,
        noise_std=settings.noise_std,
        seed=settings.seed,
        console=console,
    )
    if settings.gap is None and (further := work.gap_of_guesses(prepared)) > prepared.gap:
        console.say(f"by the structures in the guesses, slices nearer than {further} to these are no test")
        prepared = replace(prepared, gap=further)
    return _train(prepared, recipe, settings, console)


def usual_recipe(settings: TrainSettings) -> str:
    """Return the name of the recipe where none is asked for, by the length of the training."""
    if settings.steps is not None:
        return "brief" if settings.steps < BRIEF_STEPS else "fast"
    return "brief" if (settings.minutes or DEFAULT_MINUTES) < BRIEF_MINUTES else "fast"


def _adjusted(recipe: Recipe, settings: TrainSettings) -> Recipe:
    changes = {"size": settings.patch, "draw": settings.draw}
    patches = recipe.patches.model_copy(update={name: value for name, value in changes.items() if value is not None})
    return recipe.model_copy(update={"patches": patches})


def _tested(scan: Scan, text: str) -> frozenset[int]:
    zs = parse_test(text, depth=scan.volume.shape[0])
    return frozenset(scan.numbers[z] for z in zs)


def _announce(splits: Sequence[Any], gap: int, context: int, console: Console) -> None:
    counts = {role: sum(len(split.of(role)) for split in splits) for role in ("train", "validation", "test", "gap")}
    blocks = " (a block of each slice validates)" if any(split.block for split in splits) else ""
    console.say(
        f"labelled slices: {counts['train']} train, {counts['validation']} validate{blocks}, {counts['test']} kept for "
        f"the test, {counts['gap']} left out by the gap of {gap}; context {context}"
    )
    for note in dict.fromkeys(note for split in splits for note in split.notes):
        console.warn(note)


def _checkpoint(settings: TrainSettings) -> Path:
    from tomoseg.checkpoint import checkpoint_path

    return checkpoint_path(settings.out)


def _train(prepared: Prepared, recipe: Recipe, settings: TrainSettings, console: Console) -> tuple[Model, bool]:
    from tomoseg import checkpoint, train
    from tomoseg.workflow.trained import as_model

    mark = _fingerprint(prepared, recipe, settings)
    fabric = train.make_fabric()
    training = train.start(prepared.network, recipe, seed=settings.seed)
    used = 0.0
    if settings.resume:
        used = checkpoint.load_checkpoint(_checkpoint(settings), training, fingerprint=mark)
        console.say(f"going on after {training.step} steps, {used:.0f} s")
    rate = train.matrix_rate()
    began = time.monotonic() - used

    def clock() -> float:
        return time.monotonic() - began

    budget = _budget(settings)
    finished = _loop(
        training, recipe, prepared, settings, mark=mark, fabric=fabric, budget=budget, clock=clock, console=console
    )
    if not finished:
        checkpoint.save_checkpoint(_checkpoint(settings), training, fingerprint=mark, seconds=clock())
        console.warn(f"stopped after {training.step} steps; the model holds the best so far. Go on with --resume")
    with console.progress("calibrating", 1.0):
        model = as_model(
            prepared,
            recipe,
            training,
            fabric=fabric,
            verb="train",
            seed=settings.seed,
            settings=settings.model_dump(mode="json", exclude={"images", "labels", "out", "scans"}),
            timing={"seconds": round(clock(), 2), "matrix_product_gflops": round(rate, 1)},
            leaky=settings.split == "random",
            samples=settings.samples,
        )
    if model.record.guessed and model.record.calibration is None:
        console.warn(
            "too few labelled pixels at interfaces to put probabilities right: near them they claim too much; a slice "
            "labelled whole and kept for `evaluate` shows how much"
        )
    return model, finished


def _budget(settings: TrainSettings) -> Budget:
    from tomoseg.train import Budget

    if settings.steps is not None:
        return Budget(steps=settings.steps)
    return Budget(seconds=60 * (settings.minutes or DEFAULT_MINUTES))


def _fingerprint(prepared: Prepared, recipe: Recipe, settings: TrainSettings) -> str:
    from tomoseg.workflow.prepare import fingerprint

    ours = settings.model_dump(include={"seed", "steps", "minutes", "noise_std", "split", "roi", "mask"})
    ours["gap"] = prepared.gap
    return fingerprint(prepared, {**ours, "recipe": recipe.model_dump_json(), "network": repr(prepared.network)})


def _loop(
    training: Training,
    recipe: Recipe,
    prepared: Prepared,
    settings: TrainSettings,
    *,
    mark: str,
    fabric: Any,
    budget: Budget,
    clock: Any,
    console: Console,
) -> bool:
    """Train until the budget is used; return False if Ctrl-C ended it before."""
    from tomoseg import checkpoint, train

    saved = clock()
    steps = train.train(
        training,
        recipe,
        prepared.learnt,
        prepared.checks,
        noisy_checks=prepared.noisy_checks,
        fabric=fabric,
        budget=budget,
        clock=clock,
        seed=settings.seed,
    )
    with console.progress("training", 1.0) as bar:
        try:
            for step in steps:
                _show(bar, step, training)
                if clock() - saved > _CHECKPOINT_EVERY_SECONDS:
                    checkpoint.save_checkpoint(_checkpoint(settings), training, fingerprint=mark, seconds=clock())
                    saved = clock()
        except KeyboardInterrupt:
            if not training.step:
                raise
            return False
    return True


def _show(bar: Bar, step: Step, training: Training) -> None:
    scores = training.validations[-1] if training.validations else None
    validated = f", validation mean IoU {scores['mean_iou']:.3f}" if scores else ""
    rate = step.patches / step.seconds if step.seconds else 0.0
    loss = training.curve[-1]["loss"]
    bar.update(step.share, f"loss {loss:.3f}{validated}, {rate:.0f} patches/s")
