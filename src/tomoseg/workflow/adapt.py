"""`tomoseg adapt`: a model fitted to a new scan without labels, from the labelled tiles that it carries."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from pydantic import Field

from tomoseg.errors import ModelFileError, SettingError
from tomoseg.provenance import record
from tomoseg.workflow.common import ModelFile, Reading, SourcePath, Target, limit_threads
from tomoseg.workflow.console import Console
from tomoseg.workflow.reading import Source, open_source, refuse_without_parts, source_hash

if TYPE_CHECKING:
    from tomoseg.adapt import NewScan, TileSource
    from tomoseg.checks import Check
    from tomoseg.model_file import Calibration, Model, Samples
    from tomoseg.recipe import Recipe
    from tomoseg.train import Budget, Training
    from tomoseg.window import Window

DEFAULT_MINUTES = 1.0
_SLICES = 8
_CORRELATED = 0.1
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
        scan = measure(source)
    made = _adapt(model, samples, source, scan, settings, console)
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


def measure(source: Source) -> NewScan:
    """Measure grey values and noise of some evenly spaced slices, where they count."""
    from tomoseg.adapt import NewScan
    from tomoseg.degrade import measure_noise
    from tomoseg.grey_levels import sample_values
    from tomoseg.noise_level import estimate_noise_std
    from tomoseg.volume import read_slice
    from tomoseg.workflow.looking import spread

    values = np.concatenate(list(sample_values(source.volume, region=source.region, inside=source.view.inside)))
    if not values.size or values.min() == values.max():
        raise SettingError(f"{source.path}: holds one grey value only where it counts; is this the tomogram?")
    zs = spread(source.region.z0, source.region.z1, _SLICES)
    _, rows, columns = source.region.slices
    parts = [(read_slice(source.volume, z)[rows, columns], source.view.inside(z)[rows, columns]) for z in zs]
    white = float(np.median([estimate_noise_std(part, inside=inside) for part, inside in parts]))
    try:
        found = measure_noise(np.stack([part for part, _ in parts]), inside=np.all([i for _, i in parts], axis=0))
    except SettingError:  # too little is flat to tell
        return NewScan(values, white)
    middle = len(found.autocorrelation) // 2
    beside = max(found.autocorrelation[middle, middle + 1], found.autocorrelation[middle + 1, middle])
    if beside < _CORRELATED:
        return NewScan(values, white)
    return NewScan(values, found.std_grey, found.autocorrelation)


def _adapt(
    model: Model, samples: Samples, source: Source, scan: NewScan, settings: AdaptSettings, console: Console
) -> Model:
    from tomoseg import train
    from tomoseg.adapt import GAIN_THAT_COUNTS, TileSource, added_noise, match_window, patch_size
    from tomoseg.likeness import expect
    from tomoseg.recipe import Recipe

    own, network = model.record, model.record.network
    expected = expect(model)
    noise = expected.noise if expected else 0.0
    least_gain = GAIN_THAT_COUNTS if str(source.volume.dtype) == own.grey_type else -math.inf
    window = match_window(samples, own.window, scan, noise=noise, least_gain=least_gain)
    added = added_noise(scan.noise_grey / window.width, noise)
    _announce(own.window, window, noise, scan, console)
    recipe = Recipe.model_validate(own.recipe)
    stacks, labels = own.window.apply(samples.stacks), samples.labels[: len(samples.stacks)]
    size = patch_size(recipe.patches, (labels.shape[1], labels.shape[2]), grid=network.grid)
    if not size:
        raise ModelFileError(f"{model.place}: its tiles of {labels.shape[1:]} pixels are too small to train on")
    settings_of_patches = recipe.patches.model_copy(update={"size": size})
    validating = np.arange(len(stacks)) % _VALIDATES == _VALIDATES - 1
    tiles = TileSource(stacks[~validating], labels[~validating], settings_of_patches, added, scan.autocorrelation)
    checks = _checks(stacks[validating], labels[validating], tiles, model, settings.seed)
    training = train.start(network, recipe, seed=settings.seed)
    training.network.load_state_dict(model.network().state_dict())
    training.averaged.load_state_dict(training.network.state_dict())
    fabric = train.make_fabric()
    before = train.validate(training.averaged.to(fabric.device), checks, fabric)
    took = _train(training, recipe, tiles, checks, fabric, settings, console)
    console.say(
        f"on tiles that look like the new scan: mean IoU {before['mean_iou']:.3f} before, "
        f"{training.best_scores['mean_iou']:.3f} after"
    )
    if before["mean_iou"] > training.best_scores["mean_iou"]:
        console.warn("re-training brought nothing; the new model has the weights of the old one")
        training.best = dict(model.weights)
    return _model(model, training, window, noise, scan, tiles, checks, fabric, source, settings, took)


def _announce(old: Window, new: Window, noise: float, scan: NewScan, console: Console) -> None:
    kind = "white" if scan.autocorrelation is None else "correlated from pixel to pixel"
    console.say(
        f"noise std: {noise * old.width:.4g} grey values in the training slices, {scan.noise_grey:.4g} here, {kind}"
    )
    if new == old:
        console.say("grey values: as in the training scan")
    else:
        console.say(
            f"grey values: {new.low:.6g} to {new.high:.6g} stand for the {old.low:.6g} to {old.high:.6g} of the "
            "training scan; this holds for the same phases under another exposure or scaling"
        )


def _checks(stacks: np.ndarray, labels: np.ndarray, tiles: TileSource, model: Model, seed: int) -> tuple[Check, ...]:
    """Return the tiles that validate, as noisy as the new scan."""
    from tomoseg.adapt import with_scan_noise
    from tomoseg.checks import check_of_tile

    network = model.record.network
    noisy = [
        with_scan_noise(stack, tiles.added, tiles.autocorrelation, np.random.default_rng([seed, 5, i]))
        for i, stack in enumerate(stacks)
    ]
    return tuple(
        check_of_tile(stack, label, halo=network.halo, grid=network.grid)
        for stack, label in zip(noisy, labels, strict=True)
    )


def _train(
    training: Training,
    recipe: Recipe,
    tiles: TileSource,
    checks: tuple[Check, ...],
    fabric: Any,
    settings: AdaptSettings,
    console: Console,
) -> float:
    """Re-train until the budget is used, or Ctrl-C; return the seconds."""
    from tomoseg import train

    began = time.monotonic()
    steps = train.train(
        training,
        recipe,
        tiles,
        checks,
        fabric=fabric,
        budget=_budget(settings),
        clock=lambda: time.monotonic() - began,
        seed=settings.seed,
    )
    with console.progress("adapting", 1.0) as bar:
        for step in steps:
            bar.update(step.share, f"loss {training.curve[-1]['loss']:.3f}")
    return time.monotonic() - began


def _budget(settings: AdaptSettings) -> Budget:
    from tomoseg.train import Budget

    if settings.steps is not None:
        return Budget(steps=settings.steps)
    return Budget(seconds=60 * (settings.minutes or DEFAULT_MINUTES))


def _model(
    model: Model,
    training: Training,
    window: Window,
    noise: float,
    scan: NewScan,
    tiles: TileSource,
    checks: tuple[Check, ...],
    fabric: Any,
    source: Source,
    settings: AdaptSettings,
    took: float,
) -> Model:
    """Return the new model: weights, window, tiles as the new scan would show them, and where it comes from."""
    from tomoseg.adapt import NOISE_SPREAD
    from tomoseg.degrade import noise_std_units
    from tomoseg.model_file import Model, Parent, ScanRecord

    own, dtype = model.record, source.volume.dtype
    weights, calibration = _calibrated(training, tiles, checks, model, fabric, settings.seed)
    # on top of the noise that the new tiles hold
    top = tiles.added * window.width * math.sqrt(max(0.0, NOISE_SPREAD[1] ** 2 - 1))
    made = own.model_copy(
        update={
            "window": window,
            "grey_type": str(dtype),
            "curve": tuple(training.curve),
            "validations": tuple(training.validations),
            "calibration": calibration,
            "parent": Parent(
                name=settings.model.name,
                model=model.content,
                scan=ScanRecord(
                    name=source.path.name, source=source_hash(source.path), voxel_size_um=source.volume.voxel_size_um
                ),
                window=own.window,
                noise_before=noise,
                noise_after=scan.noise_grey / window.width,
            ),
            "provenance": record(
                "adapt",
                seed=settings.seed,
                inputs={**own.provenance.inputs, settings.model.name: model.content},
                settings={
                    **settings.model_dump(mode="json", exclude={"model", "source", "out"}),
                    "noise_std": [0.0, noise_std_units(top, dtype=dtype, window=window)],
                },
                timing={"seconds": round(took, 2), "steps": training.step},
            ),
        }
    )
    return Model(made, weights, _new_samples(model, tiles, window, dtype, settings.seed), str(settings.out))


def _calibrated(
    training: Training, tiles: TileSource, checks: tuple[Check, ...], model: Model, fabric: Any, seed: int
) -> tuple[dict[str, np.ndarray], Calibration | None]:
    from tomoseg.adapt import NOISE_SPREAD
    from tomoseg.calibrate import calibrate, with_temperature
    from tomoseg.model_file import network_of

    network = network_of(model.record.network, training.best)
    ends = (tiles.added, NOISE_SPREAD[1] * tiles.added)
    found = calibrate(network, checks, noise_std=ends, fabric=fabric, seed=seed)
    if found is None:
        return training.best, None
    beyond = tuple(math.sqrt(max(0.0, std**2 - tiles.added**2)) for std in found.noise_std)
    return with_temperature(training.best, found.temperature), found.model_copy(update={"noise_std": beyond})


def _new_samples(model: Model, tiles: TileSource, window: Window, dtype: np.dtype[Any], seed: int) -> Samples:
    """Return the model's tiles as the new scan would show them, noise included."""
    from tomoseg.adapt import regreyed, with_scan_noise
    from tomoseg.model_file import Samples

    samples, old = _tiles_of(model), model.record.window
    rng = np.random.default_rng([seed, 6])
    std = tiles.added * old.width

    def shown(grey: np.ndarray) -> np.ndarray:
        return regreyed(with_scan_noise(grey, std, tiles.autocorrelation, rng), old, window, dtype)

    if samples.around is None:
        return Samples(shown(samples.images), samples.labels)
    around = shown(samples.around)
    images = np.concatenate([around[:, around.shape[1] // 2], shown(samples.images[len(around) :])])
    return Samples(images, samples.labels, around)
