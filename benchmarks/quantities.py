"""How far the numbers of a segmented phantom are from its truth, which is known below the voxel.

`python benchmarks/quantities.py MODEL TRAINED [--out results] [--models NAME=MODEL ...]`: MODEL is a default model
trained on the phantom in the folder TRAINED, of another seed than the one measured, with slices kept for the test;
these say what its numbers are to be corrected by. Further models stand beside it by name, and so do thresholds, the
forest (both fitted to the tiles in MODEL) and the true labels, whose errors are the voxels' own. A line of JSON in
OUT/quantities.jsonl for each noise and way to segment: errors of phase fractions in points, of areas and lines in per
cent, and whether the truth lies in the interval. Tortuosity factors are compared with those of the true labels, which
have no truth below the voxel, in per cent; None where a phase does not percolate.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from common import record
from tomoseg.baselines import Baseline, Sample, fit_forest, fit_otsu
from tomoseg.degrade import add_gaussian_noise, noise_std_grey
from tomoseg.model_file import Model, load_model
from tomoseg.volume import Region, open_volume
from tomoseg.workflow import evaluate, phantom, predict, quantify
from tomoseg.workflow.console import Console

SHAPE, SEED = (96, 288, 288), 11
NOISE = (0.0, 5000.0)
CLASSES = ("pore=0", "YSZ=128", "Ni=255")
VALUES = np.array([0, 128, 255], np.uint8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("trained", type=Path)
    parser.add_argument("--models", nargs="*", default=[])
    parser.add_argument("--out", type=Path, default=Path("results"))
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    folder = given.out / "quantities_phantom"
    if not folder.exists():
        phantom.run(phantom.PhantomSettings(out=folder, shape=SHAPE, seed=SEED), Console())
    truth = {one["name"]: one["value"] for one in json.loads((folder / "truth.json").read_text())["measurements"]}
    models = {
        "model": given.model,
        **{name: Path(path) for name, _, path in (one.partition("=") for one in given.models)},
    }
    compare(given.out, "true labels", folder / "labels", truth, noise_std=0.0)
    truth |= factors(numbers_in(given.out / "quantities_true_labels_0"))
    for noise_std in NOISE:
        scan = noisy(folder / "images", given.out / f"quantities_{noise_std:.0f}.tif", noise_std)
        for name, path in models.items():
            labels = given.out / f"quantities_{name}_{noise_std:.0f}.zarr"
            predict.run(predict.PredictSettings(model=path, source=scan, out=labels, force=True), Console())
            compare(given.out, name, labels, truth, noise_std=noise_std)
        corrected = given.out / f"quantities_model_{noise_std:.0f}.zarr"
        scores = tested(given.model, given.trained, given.out / f"quantities_scores_{noise_std:.0f}", noise_std)
        compare(given.out, "model, corrected", corrected, truth, noise_std=noise_std, scores=scores, correct=True)
        for name, rival in rivals(load_model(given.model), noise_std).items():
            labels = segmented(
                scan, rival, load_model(given.model), given.out / f"quantities_{name}_{noise_std:.0f}.tif"
            )
            compare(given.out, name, labels, truth, noise_std=noise_std)


def tested(model: Path, trained: Path, out: Path, noise_std: float) -> Path:
    """Return the scores of the model on the slices that its training kept for the test."""
    images, labels = trained / "images", trained / "labels"
    settings = evaluate.EvaluateSettings(
        model=model, images=images, labels=labels, out=out, noise_std=noise_std, force=True
    )
    evaluate.run(settings, Console())
    return out / "scores.json"


def noisy(images: Path, target: Path, noise_std: float) -> Path:
    """Write the scan with noise, clipped and rounded as a detector does."""
    volume, rng = open_volume(images), np.random.default_rng(0)
    grey = volume.read(Region.whole(volume.shape))
    found = add_gaussian_noise(grey, noise_std, rng=rng, clip_to=volume.dtype)
    tifffile.imwrite(target, found.astype(volume.dtype), photometric="minisblack")
    return target


def rivals(model: Model, noise_std: float) -> dict[str, Baseline]:
    """Return thresholds and forest, fitted to the model's tiles at the test's noise."""
    assert model.samples is not None
    rng, window = np.random.default_rng(0), model.record.window
    std = noise_std_grey(noise_std, dtype=np.dtype(model.record.grey_type), window=window)
    samples = [
        Sample(window.apply(add_gaussian_noise(grey, std, rng=rng)), label)
        for grey, label in zip(model.samples.images, model.samples.labels, strict=True)
    ]
    return {"threshold": fit_otsu(samples, 3), "forest": fit_forest(samples, rng=rng)}


def segmented(scan: Path, rival: Baseline, model: Model, target: Path) -> Path:
    """Write what a rival makes of a scan, slice by slice."""
    volume = open_volume(scan)
    grey = volume.read(Region.whole(volume.shape))
    found = np.stack([rival.predict(model.record.window.apply(one)) for one in grey])
    tifffile.imwrite(target, VALUES[found], photometric="minisblack")
    return target


def compare(out: Path, name: str, labels: Path, truth: dict[str, float], *, noise_std: float, **how: Any) -> None:
    """Measure a segmentation and record how far each number is from the truth."""
    folder = out / f"quantities_{name.replace(' ', '_')}_{noise_std:.0f}"
    classes = () if labels.suffix == ".zarr" else CLASSES
    settings = quantify.QuantifySettings(
        segmentation=labels, out=folder, classes=classes, force=True, transport=True, **how
    )
    quantify.run(settings, Console())
    found = numbers_in(folder)
    ends = {what: one["interval"] for what, one in found.items() if one["interval"]}
    inside = {what: bool(ends[what][0] < truth[what] < ends[what][1]) for what in truth if what in ends}
    errors = {what: error(what, found[what]["value"], value) for what, value in truth.items()}
    record(out, "quantities", way=name, noise_std=noise_std, inside=inside, errors=errors)


def numbers_in(folder: Path) -> dict[str, dict[str, Any]]:
    """Return what was measured by name."""
    measured = json.loads((folder / "quantities.json").read_text())["measurements"]
    return {one["name"]: one for one in measured}


def factors(found: dict[str, dict[str, Any]]) -> dict[str, float]:
    """Return the tortuosity factors that there are."""
    return {
        what: one["value"] for what, one in found.items() if what.startswith("tortuosity") and one["value"] is not None
    }


def error(what: str, value: float | None, truth: float) -> float | None:
    """Return how far a number is off, fractions in points, others in per cent."""
    if value is None:
        return None
    return round(100 * (value - truth) / (1 if what.startswith("phase") else truth), 3)


if __name__ == "__main__":
    main()
