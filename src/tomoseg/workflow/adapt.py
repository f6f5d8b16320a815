"""`tomoseg adapt`: a model fitted to a new scan without labels, from the labelled tiles that it carries."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from jaxtyping import Shaped, UInt8
from pydantic import Field

from tomoseg.errors import ModelFileError, SettingError
from tomoseg.labels import UNLABELLED
from tomoseg.provenance import content_hash, record
from tomoseg.workflow.common import ModelFile, Reading, SourcePath, Target, limit_threads
from tomoseg.workflow.console import Console
from tomoseg.workflow.reading import Source, open_source, refuse_without_parts, source_hash

if TYPE_CHECKING:
    from tomoseg.adapt import Noise, TileSource
    from tomoseg.checks import Check
    from tomoseg.model_file import Calibration, Model, ModelRecord, Samples
    from tomoseg.patches import PatchSettings
    from tomoseg.train import Budget, Training
    from tomoseg.window import Window

DEFAULT_MINUTES = 1.0
_SLICES = 8
_VALIDATES = 4  # every fourth tile


class AdaptSettings(Reading):
    """Fit a model to a new scan without labels: its noise, and its grey values where they are scaled otherwise."""

    model: Annotated[ModelFile, Field(description="model file, NAME.tomoseg")]
    source: Annotated[SourcePath, Field(description="the new scan, in any format that is read")]
    out: Annotated[Target, Field(description="model file to write, NAME.tomoseg")]
    minutes: Annotated[
        float | None, Field(gt=0, description="time to re-train, validation included; 1 without --minutes and --steps")
    ] = None
    steps: Annotated[int | None, Field(ge=1, description="training steps instead, for repeatable runs")] = None
    force: Annotated[bool, Field(description="replace an existing model file")] = False


@dataclass(frozen=True)
class Fit:
    """What turns a model's tiles into slices of a new scan.

    Attributes
    ----------
    model, samples, source
        The model, its tiles, and the new scan.
    contents
        Hash of each slice of the scan that was measured, by its name.
    window
        Through which the scan looks like the tiles.
    noise_before, noise_after
        Of the tiles and of the scan, each in widths of its window.
    added
        What is added to the tiles, in widths of the window.
    """

    model: Model
    samples: Samples
    source: Source
    contents: dict[str, str]
    window: Window
    noise_before: Noise
    noise_after: Noise
    added: Noise

    @property
    def record(self) -> ModelRecord:
        """What the model file says of itself."""
        return self.model.record


def run(settings: AdaptSettings, console: Console) -> None:
    """Measure the scan, re-train on the model's tiles made to look like it, and write the new model."""
    if settings.minutes is not None and settings.steps is not None:
        raise SettingError("--minutes and --steps both end the training; give one of them")
    limit_threads(settings.threads)
    from tomoseg.model_file import check_model_target, load_model, save_model

    check_model_target(settings.out, force=settings.force)
    if settings.out.resolve() == settings.model.resolve():
        raise SettingError(f"{settings.out}: is the model that is adapted; give the new one another name")
    model = load_model(settings.model)
    samples = _tiles_of(model)
    source = open_source(settings.source, settings)
    refuse_without_parts(source, context=model.record.network.context)
    with console.progress("measuring the scan", 1.0):
        fit, told = measure(model, samples, source)
    _announce(fit, console, told=told)
    made = adapt(fit, settings, console)
    save_model(settings.out, made)
    console.result(f"model: {settings.out}")
    console.say(f"see whether it holds: tomoseg check {settings.out} {settings.source}")


def _tiles_of(model: Model) -> Samples:
    """Return a model's tiles, with their context if the network looks at it."""
    samples = model.samples
    if samples is None:
        raise ModelFileError(f"{model.place}: was trained with --no-samples and has no tiles to adapt on; train again")
    if model.record.network.context and samples.around is None:
        raise ModelFileError(
            f"{model.place}: its tiles lack the neighbouring slices that the network looks at, as an earlier version "
            "wrote them; train again"
        )
    return samples


def measure(model: Model, samples: Samples, source: Source) -> tuple[Fit, bool]:
    """Compare grey values and noise of some slices with the tiles; tell whether it is known if noise is correlated."""
    from tomoseg.adapt import GAIN_THAT_COUNTS, lacking, match_window, measure_both
    from tomoseg.grey_levels import evenly, sample_values
    from tomoseg.volume import read_slice

    window, region = model.record.window, source.region
    values = np.concatenate([np.empty(0, source.volume.dtype),
                             *sample_values(source.volume, region=region, inside=source.view.inside)])  # fmt: skip
    if not values.size or values.min() == values.max():
        raise SettingError(f"{source.path}: holds one grey value only where it counts; is this the tomogram?")
    pages = {z: read_slice(source.volume, z) for z in evenly(region.z0, region.z1, _SLICES)}
    _, rows, columns = region.slices
    parts = [(page[rows, columns], source.view.inside(z)[rows, columns]) for z, page in pages.items()]
    if not any(inside.any() for _, inside in parts):
        raise SettingError(f"{source.path}: no slice that was looked at has a pixel that counts; look at --mask")
    scan, tiles, told = measure_both(parts, samples.images)
    before = tiles.times(1 / window.width)
    least_gain = GAIN_THAT_COUNTS if str(source.volume.dtype) == model.record.grey_type else -math.inf
    found = match_window(samples, window, values, noise_grey=scan.std, noise=before.std, least_gain=least_gain)
    after = scan.times(1 / found.width)
    contents = {source.volume.names[z]: content_hash(page) for z, page in pages.items()}
    return Fit(model, samples, source, contents, found, before, after, lacking(after, before)), told


def _announce(fit: Fit, console: Console, *, told: bool) -> None:
    old, new = fit.record.window, fit.window
    kind = "white" if fit.noise_after.white else "correlated from pixel to pixel"
    console.say(
        f"noise std: {fit.noise_before.std * old.width:.4g} grey values in the training slices, "
        f"{fit.noise_after.std * new.width:.4g} here, {kind}"
    )
    if not told:
        console.warn("too little is flat to tell whether the noise is correlated; white noise is assumed")
    if new == old:
        console.say("grey values: as in the training scan")
    else:
        console.say(
            f"grey values: {new.low:.6g} to {new.high:.6g} stand for the {old.low:.6g} to {old.high:.6g} of the "
            "training scan; this holds for the same phases under another exposure or scaling"
        )


def adapt(fit: Fit, settings: AdaptSettings, console: Console) -> Model:
    """Re-train on the tiles as the new scan would show them; nothing is written."""
    from tomoseg import train
    from tomoseg.recipe import Recipe

    network = fit.record.network
    recipe = Recipe.model_validate(fit.record.recipe)
    source, checks = _sources(fit, recipe.patches, seed=settings.seed)
    training = train.start(network, recipe, seed=settings.seed)
    training.network.load_state_dict(fit.model.network().state_dict())
    training.averaged.load_state_dict(training.network.state_dict())
    fabric = train.make_fabric()
    before = train.validate(training.averaged.to(fabric.device), checks, fabric)
    rate = train.matrix_rate()
    began = time.monotonic()
    steps = train.train(
        training,
        recipe,
        source,
        checks,
        fabric=fabric,
        budget=_budget(settings),
        clock=lambda: time.monotonic() - began,
        seed=settings.seed,
    )
    with console.progress("adapting", 1.0) as bar:
        try:
            for step in steps:
                bar.update(step.share, f"loss {training.curve[-1]['loss']:.3f}")
        except KeyboardInterrupt:
            if not training.best:
                raise
            console.warn(f"stopped after {training.step} steps; the model holds the best so far")
    after = training.best_scores.get("mean_iou", 0.0)
    # the old model has been trained on these tiles, though not with this noise
    console.say(
        f"on training tiles that look like the new scan: mean IoU {before['mean_iou']:.3f} before, {after:.3f} after"
    )
    if before["mean_iou"] > after:
        console.warn("re-training brought nothing; the new model has the weights of the old one")
        training.best, training.curve, training.validations = dict(fit.model.weights), [], []
    megapixels = training.step * source.settings.batch * source.settings.size**2 / 1e6
    timing = {"seconds": round(time.monotonic() - began, 2), "steps": training.step,
              "megapixels_seen": megapixels, "matrix_product_gflops": round(rate, 1)}  # fmt: skip
    weights, calibration = _calibrated(fit, training, checks, fabric=fabric, seed=settings.seed)
    record = _record(fit, training, settings, calibration=calibration, timing=timing)
    return replace(fit.model, record=record, weights=weights, samples=_new_samples(fit, seed=settings.seed))


def _sources(fit: Fit, patches: PatchSettings, *, seed: int) -> tuple[TileSource, tuple[Check, ...]]:
    """Return what re-trains, and the tiles that validate, as noisy as the new scan."""
    from tomoseg.adapt import TileSource, noisy, patch_size
    from tomoseg.checks import check_of_tile

    network, samples = fit.record.network, fit.samples
    stacks, labels = fit.record.window.apply(samples.stacks), samples.labels[: len(samples.stacks)]
    size = patch_size(patches, (labels.shape[1], labels.shape[2]), grid=network.grid)
    if not size:
        raise ModelFileError(f"{fit.model.place}: its tiles of {labels.shape[1:]} pixels are too small to train on")
    validating = np.arange(len(stacks)) % _VALIDATES == _VALIDATES - 1
    checks = [
        check_of_tile(
            noisy(stacks[i], fit.added, rng=np.random.default_rng([seed, 5, i])),
            labels[i],
            halo=network.halo,
            grid=network.grid,
        )
        for i in np.flatnonzero(validating).tolist()
    ]
    chosen = patches.model_copy(update={"size": size})
    learnt = _filled_up(fit, samples.stacks[~validating], labels[~validating])
    return TileSource(stacks[~validating], learnt, chosen, fit.added), tuple(checks)


def _filled_up(
    fit: Fit, stacks: Shaped[np.ndarray, "tile channel y x"], labels: UInt8[np.ndarray, "tile y x"]
) -> UInt8[np.ndarray, "tile y x"]:
    """Return the tiles' labels; of a model that learnt from guesses, with its own classes for all other pixels."""
    from tomoseg.workflow.predict import make_runner

    if not fit.record.guessed:
        return labels
    runner = make_runner(fit.model)
    found = np.stack([runner.segment(list(stack)) for stack in stacks])
    return np.where(labels != UNLABELLED, labels, found)


def _budget(settings: AdaptSettings) -> Budget:
    from tomoseg.train import Budget

    if settings.steps is not None:
        return Budget(steps=settings.steps)
    return Budget(seconds=60 * (settings.minutes or DEFAULT_MINUTES))


def _calibrated(
    fit: Fit, training: Training, checks: tuple[Check, ...], *, fabric: Any, seed: int
) -> tuple[dict[str, np.ndarray], Calibration | None]:
    """Return the weights with a temperature, and its record, whose noise counts from that of the new tiles."""
    from tomoseg.adapt import NOISE_SPREAD
    from tomoseg.calibrate import calibrate, with_temperature
    from tomoseg.model_file import network_of
    from tomoseg.noise_level import lacking_std

    network, least = network_of(fit.record.network, training.best), fit.added.std
    found = calibrate(network, checks, noise_std=(least, NOISE_SPREAD[1] * least), fabric=fabric, seed=seed)
    if found is None:
        return training.best, None
    beyond = tuple(lacking_std(std, least) for std in found.noise_std)
    return with_temperature(training.best, found.temperature), found.model_copy(update={"noise_std": beyond})


def _record(
    fit: Fit,
    training: Training,
    settings: AdaptSettings,
    *,
    calibration: Calibration | None,
    timing: dict[str, float],
) -> ModelRecord:
    """Return what the new model says of itself, its parent included."""
    from tomoseg.adapt import NOISE_SPREAD
    from tomoseg.degrade import noise_std_units
    from tomoseg.model_file import Parent, ScanRecord

    own, volume = fit.record, fit.source.volume
    # on top of the noise that the new tiles hold
    top = fit.added.std * fit.window.width * math.sqrt(NOISE_SPREAD[1] ** 2 - 1)
    made = record(
        "adapt",
        seed=settings.seed,
        inputs={**own.provenance.inputs, settings.model.name: fit.model.content, **fit.contents},
        settings={
            **settings.model_dump(mode="json", exclude={"model", "source", "out"}),
            "noise_std": [0.0, noise_std_units(top, dtype=volume.dtype, window=fit.window)],
        },
        timing=timing,
    )
    scan = ScanRecord(
        name=fit.source.path.name, source=source_hash(fit.source.path), voxel_size_um=volume.voxel_size_um
    )
    parent = Parent(
        name=settings.model.name,
        model=fit.model.content,
        scan=scan,
        window=own.window,
        noise_before=fit.noise_before.std,
        noise_after=fit.noise_after.std,
    )
    return own.model_copy(
        update={
            "window": fit.window,
            "grey_type": str(volume.dtype),
            "curve": tuple(training.curve) or own.curve,
            "validations": tuple(training.validations) or own.validations,
            "calibration": calibration,
            "parent": parent,
            "provenance": made,
        }
    )


def _new_samples(fit: Fit, *, seed: int) -> Samples:
    """Return the model's tiles as the new scan would show them, noise included."""
    from tomoseg.adapt import noisy, regreyed

    samples, old = fit.samples, fit.record.window
    added, rng = fit.added.times(old.width), np.random.default_rng([seed, 6])

    def shown(grey: np.ndarray) -> np.ndarray:
        return regreyed(noisy(grey, added, rng=rng), old, new=fit.window, dtype=fit.source.volume.dtype)

    if samples.around is None:
        return replace(samples, images=shown(samples.images))
    around = shown(samples.around)
    images = np.concatenate([around[:, around.shape[1] // 2], shown(samples.images[len(around) :])])
    return replace(samples, images=images, around=around)
