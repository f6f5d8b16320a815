"""How often the intervals of `tomoseg quantify` hold the truth, and how much wider they are than they need be.

`python benchmarks/coverage.py DO [--out results] [--models 1 2 3 4 5] [--phantoms 53] [--part I N] [--fields WHICH]`,
with DO one of

- `models`: train the models, each on a phantom of its own, and `evaluate` them on slices of it that were held out;
- `mean`: the mean over 1000 seeds of the truth of small phantoms, which is what the generator makes;
- `phantoms`: segment test phantoms with each model, clean and noisy, and measure them;
- `table`: print what is there so far;
- `scaling`: print how numbers of true labels scatter about the generator's mean, by the edge of what they are taken of.

Phantoms are 160 voxels along each axis, ten runs of a phase across. Their fields are sums of waves of one length, alike
at any distance (`--fields waves`, as of `tomoseg phantom`), or Gaussian and alike only nearby (`--fields gaussian`, see
`gaussian_fields.py`); the models are the same. Each result is a line of JSON in OUT/coverage_*.jsonl
(OUT/coverage_gaussian_*.jsonl) as soon as it is there, and what is there is not done again. `--part I N` does every Nth
phantom from the Ith on, so that several processes share the work. Sums of each block are kept beside, so that `table`
shows what the library makes of them today. The first phantoms of each model were for choosing settings; `table` leaves
them out unless `--all` is given. It also prints how much half the resolution changes areas and lines of true labels.
What labels say of the segmentation is taken, for each phantom, from half of the next one, as many voxels as 32 slices
of a training phantom (`--labels phantoms`, as many draws as phantoms), or from the slices held out of each model's
training (`--labels models`, as `evaluate` does, as many draws as models).
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from functools import reduce
from itertools import pairwise
from operator import add
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from scipy.stats import binomtest

from common import PHANTOM_CLASSES, fit, record
from gaussian_fields import BOX, GaussianFields
from tomoseg.degrade import add_gaussian_noise
from tomoseg.ends import continued
from tomoseg.labels import decode
from tomoseg.model_file import load_model
from tomoseg.phantom import PHANTOM_CLASSES as CLASSES
from tomoseg.phantom import Fields, FieldSampler, PhantomSpec
from tomoseg.phantom import make_phantom as slices_of
from tomoseg.phantom_truth import PAIRS, TruthSums, surfaces_between
from tomoseg.predict import Runner
from tomoseg.quantify.measurement import Measurement
from tomoseg.quantify.names import Names
from tomoseg.quantify.quantities import Counted, interface_areas, phase_fractions, triple_lines
from tomoseg.quantify.sections import Effect, effects, read_effects, with_segmentation
from tomoseg.quantify.surfaces import SurfaceSums, measure_surfaces
from tomoseg.quantify.triple_lines import LineSums, measure_lines
from tomoseg.slices import context_slices
from tomoseg.workflow import evaluate, phantom, quantify
from tomoseg.workflow.console import Console
from tomoseg.workflow.predict import make_runner
from tomoseg.workflow.quantify_numbers import counted
from tomoseg.workflow.quantify_run import measure

CHORD, EDGE, BLOCK = 16.0, 160, 40
TRAINED, TESTED, STEPS = (128, 256, 256), "96:128", 1300
NOISE = (0.0, 5000.0)
SEEDS, SMALL, SMALL_BOX = 1000, 64, 128
FIELDS = ("waves", "gaussian")
LOOKED_AT = {"waves": 13, "gaussian": 40}
"""The first phantoms of each model: by these slabs, neighbours' weights and shares were chosen, they test nothing."""
WORDS = {
    "labels": "the interval of this volume, against its true labels measured in the same way",
    "truth": "the interval of this volume, against its truth below the voxel",
    "mean": "the interval of sampling and segmentation, against the generator's mean",
}
NAMES = tuple(item.name for item in CLASSES)
QUIET = Console(quiet=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("do", choices=("models", "mean", "phantoms", "table", "scaling"))
    parser.add_argument("--out", type=Path, default=Path("results"))
    parser.add_argument("--models", nargs="*", type=int, default=[1, 2, 3, 4, 5])
    parser.add_argument("--phantoms", type=int, default=53, help="of each model")
    parser.add_argument("--fields", choices=FIELDS, default=FIELDS[0])
    parser.add_argument("--block", type=int, default=BLOCK, choices=(40, 80), help="edge of a block, for the table")
    parser.add_argument("--labels", choices=("models", "phantoms"), default="phantoms", help="for the table")
    parser.add_argument("--all", action="store_true", help="table: those that were looked at, too")
    parser.add_argument("--part", nargs=2, type=int, default=(0, 1), metavar=("I", "N"))
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    {"models": models, "mean": mean, "phantoms": phantoms, "table": table, "scaling": scaling}[given.do](given)


def models(given: argparse.Namespace) -> None:
    """Train and evaluate each model that is not there yet."""
    for number in given.models:
        folder, model = given.out / f"coverage_trained_{number}", model_of(given.out, number)
        if not folder.exists():
            phantom.run(phantom.PhantomSettings(out=folder, shape=TRAINED, seed=number, chord=CHORD), QUIET)
        images, labels = folder / "images", folder / "labels"
        if not model.exists():
            how = {"context": 2, "steps": STEPS, "test": TESTED, "classes": PHANTOM_CLASSES, "seed": number,
                   "samples": False}  # fmt: skip
            record(given.out, "coverage_models", model=number, **fit(images, labels, model, **how))
        for noise_std in (one for one in NOISE if not (scores_of(given.out, number, one) / "scores.json").exists()):
            settings = evaluate.EvaluateSettings(
                model=model, images=images, labels=labels, out=scores_of(given.out, number, noise_std),
                noise_std=noise_std, clip=noise_std > 0, force=True,
            )  # fmt: skip
            evaluate.run(settings, Console())


def model_of(out: Path, number: int) -> Path:
    return out / f"coverage_{number}.tomoseg"


def scores_of(out: Path, number: int, noise_std: float) -> Path:
    return out / f"coverage_scores_{number}_{noise_std:.0f}"


def mean(given: argparse.Namespace) -> None:
    """Record the truth of small phantoms; densities and fractions have the same mean in any volume."""
    done = {row["seed"] for row in rows(given, "mean")}
    first, every = given.part
    for seed in range(100_000 + first, 100_000 + SEEDS, every):
        if seed not in done:
            fields = fields_of(given, seed, box=SMALL_BOX)
            whole, half = small_truth(fields), small_truth(fields, step=2.0)
            record(given.out, f"{stem(given)}_mean", seed=seed, truth=whole, half=half)


def stem(given: argparse.Namespace) -> str:
    """Return how the names of what is kept begin."""
    return "coverage" if given.fields == FIELDS[0] else f"coverage_{given.fields}"


def fields_of(given: argparse.Namespace, seed: int, *, box: int = BOX) -> Fields:
    """Return the fields of that seed."""
    if given.fields == FIELDS[0]:
        return FieldSampler(seed, chord=CHORD)
    return GaussianFields(seed, chord=CHORD, box=box)


def small_truth(field: Fields, *, step: float = 1.0) -> list[float]:
    """Return fractions, areas and triple-line density of a small piece of the field by points `step` apart."""
    places = np.arange(0.0, SMALL + 1, step)
    counts, areas, line = np.zeros(3), np.zeros(3), 0.0
    layers = [field.layer(z, places, places) for z in places]
    for layer in layers:
        counts += np.bincount(layer.argmax(axis=0).ravel(), minlength=3)
    for below, above in pairwise(layers):
        its_areas, its_line = surfaces_between(below, above)
        areas, line = areas + its_areas, line + its_line
    return [*(counts / counts.sum()), *(areas / step / (SMALL / step) ** 3), line / step**2 / (SMALL / step) ** 3]


def to_the_limit(given: argparse.Namespace) -> np.ndarray:
    """Return by what to multiply truths of points one voxel apart, for points as close as can be.

    The error of linear interpolation goes with the square of the distance: L. F. Richardson, Philosophical
    Transactions A 210 (1911) 307, DOI 10.1098/rsta.1911.0009.
    """
    one, two = (np.array([row[key] for row in rows(given, "mean")]).mean(axis=0) for key in ("truth", "half"))
    factors: np.ndarray = 1 + (one - two) / 3 / one
    factors[:3] = 1.0
    return factors


def phantoms(given: argparse.Namespace) -> None:
    """Make, segment and measure each test phantom that is not there yet."""
    done = {(row["seed"], row["noise_std"]) for row in rows(given, "phantoms")}
    first, every = given.part
    todo = [(model, 1000 * (model + 1) + i) for i in range(given.phantoms) for model in given.models]
    for model, seed in todo[first::every]:
        if not {(seed, noise_std) for noise_std in NOISE} <= done:
            one_phantom(given, model, seed)


def one_phantom(given: argparse.Namespace, number: int, seed: int) -> None:
    out, name = given.out, stem(given)
    made = list(slices_of(PhantomSpec(shape=(EDGE,) * 3, seed=seed, chord=CHORD), fields_of(given, seed)))
    truth: TruthSums = reduce(add, (one.truth for one in made))
    model = load_model(model_of(out, number))
    runner = make_runner(model)
    label = np.stack([one.label for one in made])
    labelled = measured(out / f"{name}_{seed}_labels.tif", label)
    save(sums_of(given, seed, "labels"), labelled)
    for noise_std in NOISE:
        grey = noisy(np.stack([one.grey for one in made]), noise_std, seed)
        found = segmented(grey, runner)
        its = measured(out / f"{name}_{seed}_{noise_std:.0f}.tif", found)
        save(sums_of(given, seed, f"{noise_std:.0f}"), its)
        record(
            out,
            f"{name}_phantoms",
            model=number,
            seed=seed,
            noise_std=noise_std,
            accuracy=float((found == label).mean()),
            truth=[one["value"] for one in truth.measurements(NAMES)],
            as_labelled=[one.value for one in numbers(labelled)],
            as_segmented=[one.value for one in numbers(its)],
            labelled_at_half=at_half(label),
        )


def at_half(found: np.ndarray) -> list[float]:
    """Return areas and triple-line density of every second voxel along each axis, per voxel of the whole."""
    half = np.ascontiguousarray(found[::2, ::2, ::2])
    areas = measure_surfaces(half, n_classes=3).densities
    line = float(measure_lines(half, n_classes=3).densities[0])
    return [*(float(areas[pair]) / 2 for pair in PAIRS), line / 4]


def noisy(grey: np.ndarray, noise_std: float, seed: int) -> np.ndarray:
    """Return a scan with noise, clipped and rounded as a detector does."""
    rng = np.random.default_rng([seed, 9])
    found = add_gaussian_noise(grey, noise_std, rng=rng, clip_to=grey.dtype)
    return np.asarray(found, grey.dtype)


def segmented(grey: np.ndarray, runner: Runner) -> np.ndarray:
    """Return the class index of each voxel, uint8 (z, y, x)."""
    numbers_z, context = range(len(grey)), runner.network.context
    read = continued(lambda z: grey[z], len(grey))
    stacks = ([read(i) for i in context_slices(z, numbers=numbers_z, context=context)] for z in numbers_z)
    return np.stack([runner.segment(stack) for stack in stacks])


def measured(path: Path, found: np.ndarray) -> Counted:
    """Return the sums that `quantify` takes of a segmentation, which lies at `path` meanwhile."""
    tifffile.imwrite(path, decode(found, CLASSES, outside=254), photometric="minisblack")
    settings = quantify.QuantifySettings(segmentation=path, out=path, classes=PHANTOM_CLASSES, block=BLOCK)
    segmentation = quantify.open_sample(settings)
    sums = measure(segmentation, quantify.work_of(segmentation, settings), workers=1, console=QUIET)
    found_sums = counted(segmentation, sums)
    path.unlink()
    return found_sums


def numbers(its: Counted) -> list[Measurement]:
    """Return fractions, areas of pairs and triple lines, in the order of the truth."""
    names = Names(NAMES, "voxel")
    areas = [one for one in interface_areas(its, names) if one.name.startswith("interface")]
    return [*phase_fractions(its, names), *areas, *triple_lines(its, names)]


def sums_of(given: argparse.Namespace, seed: int, what: str) -> Path:
    folder: Path = given.out / f"{stem(given)}_sums"
    return folder / f"{seed}_{what}.npz"


_SURFACES, _LINES = ("areas", "stair_areas", "volumes"), ("lengths", "stair_lengths", "volumes")


def save(path: Path, its: Counted) -> None:
    path.parent.mkdir(exist_ok=True)
    surfaces = {f"surfaces_{name}": np.stack([getattr(one, name) for one in its.surfaces]) for name in _SURFACES}
    lines = {f"lines_{name}": np.stack([getattr(one, name) for one in its.lines]) for name in _LINES}
    np.savez(
        path, voxels=its.voxels, cells=its.cells, edges=its.edges, correlation=its.correlation, **surfaces, **lines
    )


def load(path: Path) -> Counted:
    with np.load(path) as kept:
        surfaces = zip(*(kept[f"surfaces_{name}"] for name in _SURFACES), strict=True)
        lines = zip(*(kept[f"lines_{name}"] for name in _LINES), strict=True)
        z, y, x = (float(edge) for edge in kept["edges"])
        return Counted(
            kept["voxels"],
            [SurfaceSums(*one) for one in surfaces],
            [LineSums(*one) for one in lines],
            kept["cells"],
            (z, y, x),
            float(kept["correlation"]),
        )


def rows(given: argparse.Namespace, name: str) -> list[dict[str, Any]]:
    path: Path = given.out / f"{stem(given)}_{name}.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def table(given: argparse.Namespace) -> None:
    """Print coverage with its 95 % interval, median width over the errors' spread, and the mean interval score."""
    made = np.array([row["truth"] for row in rows(given, "mean")])
    told = f", relative standard error in %: {_percent(made)}" if len(made) else ""
    print(f"the generator's mean over {len(made)} seeds{told}")
    limit = to_the_limit(given) if len(made) else np.ones(7)
    print("truths times " + ", ".join(f"{one:.4f}" for one in limit))
    for noise_std in NOISE:
        chosen = _chosen(given, noise_std)
        if not chosen:
            continue
        if noise_std == NOISE[0]:
            half, whole = (np.array([row[key] for row in chosen]) for key in ("labelled_at_half", "as_labelled"))
            changes = 100 * (half.mean(axis=0) / whole[:, 3:].mean(axis=0) - 1)
            print("true labels at half the resolution, %: " + ", ".join(f"{one:+.1f}" for one in changes))
        accuracy, n_models = np.mean([row["accuracy"] for row in chosen]), len({row["model"] for row in chosen})
        print(f"\nstd {noise_std:.0f}: {len(chosen)} phantoms, {n_models} models, accuracy {accuracy:.4f}")
        following = {row["seed"]: other["seed"] for row, other in zip(chosen, _next(chosen), strict=True)}
        results = [_measurements(given, row, following[row["seed"]]) for row in chosen]
        truths = {
            "labels": [row["as_labelled"] for row in chosen],
            "truth": [limit * row["truth"] for row in chosen],
        }
        if len(made):
            truths["mean"] = [limit * made.mean(axis=0)] * len(chosen)
        for which, truth in truths.items():
            print(f"{WORDS[which]}, std {noise_std:.0f}")
            for order, several in enumerate(zip(*results, strict=True)):
                _print(several[0].name, _ends(list(several), which), np.array(truth)[:, order])


def scaling(given: argparse.Namespace) -> None:
    """Print the scatter by edge, and by which power of the volume its square falls from one edge to the next."""
    made = np.array([row["truth"] for row in rows(given, "mean")]).mean(axis=0) * to_the_limit(given)
    per_voxel = BLOCK**3
    of_phantoms = []
    for row in _chosen(given, NOISE[0]):
        its = load(sums_of(given, row["seed"], "labels"))
        densities = np.full((*(its.cells.max(axis=0) + 1), len(made)), np.nan)
        densities[tuple(its.cells.T)] = [_additive(its, i) / per_voxel for i in range(len(its.cells))]
        of_phantoms.append(densities)
    before, found = None, np.array(of_phantoms)
    while True:
        squares = ((found - made) ** 2).mean(axis=(0, 1, 2, 3)) / made**2
        falls = "" if before is None else "; power " + ", ".join(f"{one:.2f}" for one in np.log2(before / squares) / 3)
        told = ", ".join(f"{100 * one:.2f}" for one in np.sqrt(squares))
        print(f"edge {EDGE // found.shape[1]}: % of the mean {told}{falls}")
        if found.shape[1] == 1:
            return
        n, half = len(found), found.shape[1] // 2
        before, found = squares, found.reshape(n, half, 2, half, 2, half, 2, -1).mean(axis=(2, 4, 6))


def _chosen(given: argparse.Namespace, noise_std: float) -> list[dict[str, Any]]:
    """Return the rows at that noise; without models of one phantom, where another one is to tell what they do."""
    found = [r for r in rows(given, "phantoms") if r["noise_std"] == noise_std and r["model"] in given.models]
    found = [row for row in found if row["seed"] % 1000 >= (0 if given.all else LOOKED_AT[given.fields])]
    counts = Counter(row["model"] for row in found)
    return [row for row in found if given.labels == "models" or counts[row["model"]] > 1]


def _next(chosen: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return for each phantom another one of the same model."""
    found = []
    for row in chosen:
        same = [other for other in chosen if other["model"] == row["model"]]
        found.append(same[(same.index(row) + 1) % len(same)])
    return found


def _percent(made: np.ndarray) -> str:
    return ", ".join(f"{100 * one:.2f}" for one in made.std(axis=0) / made.mean(axis=0) / np.sqrt(len(made)))


def _measurements(given: argparse.Namespace, row: dict[str, Any], next_seed: int) -> list[Measurement]:
    """Return each number with its intervals, corrected by what labels say of the model."""
    if given.labels == "models":
        scores = scores_of(given.out, row["model"], row["noise_std"]) / "scores.json"
        its_effects = read_effects(json.loads(scores.read_text()))
    else:
        its_effects = _effects(given, next_seed, f"{row['noise_std']:.0f}")
    found = numbers(merged(load(sums_of(given, row["seed"], f"{row['noise_std']:.0f}")), given.block))
    return [with_segmentation(one, its_effects[one.name], correct=True, voxels=EDGE**3) for one in found]


def _effects(given: argparse.Namespace, seed: int, what: str) -> dict[str, Effect]:
    """Return what the segmentation did in the lower half of a phantom, by its blocks."""
    ways = [load(sums_of(given, seed, which)) for which in ("labels", what)]
    half = np.flatnonzero(ways[0].cells[:, 0] < EDGE // BLOCK // 2)
    blocks = np.array([[_additive(way, i) for way in ways] for i in half])
    return effects(blocks, NAMES, places=ways[0].cells[half], slabs_in="voxel")


def _additive(its: Counted, i: int) -> np.ndarray:
    voxels = its.voxels[i]
    areas = its.surfaces[i].densities
    return np.array([*voxels, *(voxels.sum() * np.array([*(areas[p] for p in PAIRS), *its.lines[i].densities]))])


def merged(its: Counted, block: int) -> Counted:
    """Return the sums of larger blocks."""
    step = block // BLOCK
    n = EDGE // BLOCK // step
    at = np.ravel_multi_index(tuple((its.cells // step).T), (n, n, n))
    groups = [np.flatnonzero(at == one) for one in range(n**3)]
    return Counted(
        np.stack([its.voxels[group].sum(axis=0) for group in groups]),
        [reduce(add, (its.surfaces[i] for i in group)) for group in groups],
        [reduce(add, (its.lines[i] for i in group)) for group in groups],
        np.stack(np.unravel_index(np.arange(n**3), (n, n, n)), axis=1),
        (float(block), float(block), float(block)),
        its.correlation,
    )


def _ends(several: list[Measurement], which: str) -> np.ndarray:
    """Return value, low and high end of each: nan where there is no interval."""
    ends = [one.interval if which == "mean" else one.settings.get("interval_of_this_volume") for one in several]
    return np.array([(one.value, *(its or (np.nan, np.nan))) for one, its in zip(several, ends, strict=True)])


def _print(name: str, found: np.ndarray, truth: np.ndarray) -> None:
    there = np.isfinite(found[:, 1])
    if not there.any():
        print(f"  {name:36} no intervals")
        return
    value, low, high = found[there].T
    truth = truth[there]
    inside = (low <= truth) & (truth <= high)
    missed = np.maximum(low - truth, 0) + np.maximum(truth - high, 0)
    score = np.mean((high - low) + 2 / 0.05 * missed)  # T. Gneiting, A. E. Raftery 2007, 10.1198/016214506000001437
    spread = np.subtract(*np.percentile(value - truth, [97.5, 2.5])) or np.nan
    ends = binomtest(int(inside.sum()), len(inside)).proportion_ci(method="wilson")
    print(
        f"  {name:36} inside {inside.mean():.3f} [{ends.low:.3f}, {ends.high:.3f}] of {len(inside)}, "
        f"width/spread {np.median(high - low) / spread:.2f}, "
        f"half width {50 * np.median(high - low) / truth.mean():.2f} %, "
        f"mean error {100 * np.mean(value - truth) / truth.mean():+.2f} %, score {score:.3g}"
    )


if __name__ == "__main__":
    main()
