"""What a training leaves: its model, with all that the model remembers of its data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from tomoseg.labels import UNLABELLED
from tomoseg.model_file import Calibration, Model, ModelRecord, network_of, weights_of
from tomoseg.patches import labelled_share
from tomoseg.provenance import record
from tomoseg.workflow.prepare import Prepared, cut_samples

if TYPE_CHECKING:
    from tomoseg.recipe import Recipe
    from tomoseg.train import Training


def as_model(
    prepared: Prepared,
    recipe: Recipe,
    training: Training,
    *,
    fabric: Any,
    verb: str,
    seed: int,
    settings: Mapping[str, Any],
    timing: Mapping[str, float],
    leaky: bool,
    samples: bool,
) -> Model:
    """Return the best validated weights of a training as a model, calibrated if the recipe says so.

    Parameters
    ----------
    prepared, recipe, training
        What it learnt from, how, and where it ended.
    fabric
        Device and precision, for the calibration.
    verb, seed, settings, timing
        For its provenance.
    leaky
        Whether its split leaks.
    samples
        Whether to keep labelled tiles in it.
    """
    first = prepared.scans[0]
    weights, calibration = _calibrated(prepared, recipe, training, fabric=fabric, seed=seed)
    megapixels = training.step * recipe.patches.batch * recipe.patches.size**2 / 1e6
    counted = {"steps": training.step, "megapixels_seen": megapixels, "passes": passes(prepared, megapixels)}
    made = ModelRecord(
        network=prepared.network,
        recipe=recipe.model_dump(mode="json"),
        window=prepared.window,
        grey_type=str(first.volume.dtype),
        classes=first.classes,
        unlabelled=first.unlabelled,
        scans=prepared.scan_records,
        slices=prepared.slice_records,
        gap=prepared.gap,
        labelled_share=labelled_share(prepared.source.slices),
        guessed=prepared.guessed,
        leaky=leaky,
        curve=tuple(training.curve),
        validations=tuple(training.validations),
        calibration=calibration,
        provenance=record(
            verb,
            seed=seed,
            inputs={f"{prepared.scan_records[r.scan].name}/{r.name}": r.content for r in prepared.slice_records},
            settings=dict(settings),
            timing={**timing, **counted},
        ),
    )
    kept = cut_samples(prepared.source, rng=np.random.default_rng([seed, 2])) if samples else None
    return Model(made, weights, kept)


def _calibrated(
    prepared: Prepared, recipe: Recipe, training: Training, *, fabric: Any, seed: int
) -> tuple[dict[str, np.ndarray], Calibration | None]:
    from tomoseg.calibrate import calibrate, with_temperature

    weights = training.best or weights_of(training.averaged.state_dict())
    if not recipe.calibrate:
        return weights, None
    low, high = (std / prepared.window.width for std in prepared.noise_grey)
    network = network_of(prepared.network, weights)
    found = calibrate(network, prepared.checks, noise_std=(low, high), fabric=fabric, seed=seed)
    return (weights, None) if found is None else (with_temperature(weights, found.temperature), found)


def passes(prepared: Prepared, megapixels: float) -> float:
    """Return how often the pixels learnt from, guessed ones included (fixed crops: the crops), were seen on average."""
    source = prepared.learnt
    if source.crops is not None:
        return round(megapixels * 1e6 / (len(source.crops) * source.settings.size**2), 2)
    labelled = sum(int((item.label != UNLABELLED).sum()) for item in source.slices)
    return round(megapixels * 1e6 / labelled, 2)
