"""Architecture: accuracy after the same steps or minutes against voxels a second, for other widths, depths and blocks.

Each candidate is trained on five slices of a phantom and on five of the sandstone, for the same number of steps, or the
same time with `--minutes`, on one thread, two candidates at a time; afterwards all are timed on one tile by the engines
that there are, one by one. `--only NAME` trains one of them.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import torch

from common import DATA, PHANTOM_CLASSES, copied, facts, fit, make_phantom, record
from tomoseg.engine import openvino_engine
from tomoseg.engine.torch_engine import TorchEngine
from tomoseg.model_file import Model, load_model
from tomoseg.unet import parameters
from tomoseg.workflow.common import limit_threads
from tomoseg.workflow.predict import make_runner

STEPS = 1200
AT_A_TIME = 2
FIVE = (8, 32, 56, 80, 99)
TEST = (138, 148, 157)
SANDSTONE_CLASSES = ("background=#0000ff", "quartz=#ff0000", "clay=#00ff00", "pyrite=#ffff00")
TESTED = "Sandstone_Versa0150.tif"
TILE = 512


CANDIDATES = {
    "16-32-64, 128": "widths = [16, 32, 64]\nbottleneck = 128",
    "the same, nearest": "widths = [16, 32, 64]\nbottleneck = 128\nenlarge = 'nearest'",
    "the same, one convolution first": "widths = [16, 32, 64]\nbottleneck = 128\nenlarge = 'nearest'\nfirst = 1",
    "32-64, 128, stem 2": "widths = [32, 64]\nbottleneck = 128\nstem = 2",
    "48-96, 192, stem 2": "widths = [48, 96]\nbottleneck = 192\nstem = 2",
    "32-64, 128, stem 2, nearest": "widths = [32, 64]\nbottleneck = 128\nstem = 2\nenlarge = 'nearest'",
    "8-32-64, 128": "widths = [8, 32, 64]\nbottleneck = 128",
    "16-32, 64": "widths = [16, 32]\nbottleneck = 64",
    "12-24, 48, nearest, one convolution first": "",
    "8-16, 32, nearest, one convolution first": "widths = [8, 16]\nbottleneck = 32",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("results"))
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--minutes", type=float, help="in place of steps")
    parser.add_argument("--only", choices=list(CANDIDATES))
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    if given.only is None:
        with ThreadPoolExecutor(AT_A_TIME) as pool:
            commands = [[sys.executable, *sys.argv, "--only", name] for name in CANDIDATES]
            for done in pool.map(subprocess.run, commands):
                done.check_returncode()
        for name in CANDIDATES:
            record(given.out, "architecture_speed", candidate=name, **speeds(load_model(model_of(given.out, name))))
        return
    limit_threads(1)
    place = given.out / "architecture" / slug(given.only)
    place.mkdir(parents=True, exist_ok=True)
    file = place / "recipe.toml"
    file.write_text(CANDIDATES[given.only] + "\n", encoding="utf-8")
    budget = {"steps": given.steps} if given.minutes is None else {"minutes": given.minutes}
    phantom, sandstone = train_both(given.out, place, str(file), budget)
    row = {**phantom, **{f"sandstone {name}": value for name, value in sandstone.items()}}
    record(given.out, "architecture", candidate=given.only, **budget, **row)


def slug(name: str) -> str:
    """Return a candidate's folder."""
    return re.sub(r"\W+", "_", name)


def model_of(out: Path, name: str) -> Path:
    """Return where a candidate's model of the phantom is."""
    return out / "architecture" / slug(name) / "phantom.tomoseg"


def train_both(out: Path, place: Path, recipe: str, budget: dict[str, float]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Train on the phantom and on the sandstone; return seconds, accuracies and mean IoUs, clean and at 5000."""
    folder = make_phantom(out, (160, 501, 501))
    five = copied(folder / "labels", [f"slice_{z:04d}.tif" for z in FIVE], place / "five_labels")
    model = place / "phantom.tomoseg"
    shared = {**budget, "threads": 1, "recipe": recipe}
    if not model.exists():
        fit(folder / "images", five, model, context=2, classes=PHANTOM_CLASSES, **shared)
    pages = {z: tifffile.imread(folder / f"images/slice_{z:04d}.tif") for t in TEST for z in range(t - 2, t + 3)}
    truth = {t: tifffile.imread(folder / f"labels/slice_{t:04d}.tif") for t in TEST}
    stacks = [([pages[min(z, 159)] for z in range(t - 2, t + 3)], truth[t]) for t in TEST]
    phantom = {"seconds": facts(model)["seconds"], **scores(load_model(model), stacks)}

    images, labels = DATA / "sandstone/images", DATA / "sandstone/labels"
    names = sorted(path.name for path in labels.iterdir() if path.name != TESTED)
    kept, model = copied(labels, names, place / "sandstone_labels"), place / "sandstone.tomoseg"
    if not model.exists():
        fit(images, kept, model, classes=SANDSTONE_CLASSES, **shared)
    loaded = load_model(model)
    colours = [tuple(int(str(item.value)[i : i + 2], 16) for i in (1, 3, 5)) for item in loaded.record.classes]
    picture = tifffile.imread(labels / TESTED)[..., :3]
    index = np.full(picture.shape[:2], 255, np.uint8)
    for order, colour in enumerate(colours):
        index[(picture == colour).all(axis=-1)] = order
    return phantom, {
        "seconds": facts(model)["seconds"],
        **scores(loaded, [([tifffile.imread(images / TESTED)], index)]),
    }


def scores(model: Model, stacks: list[tuple[list[np.ndarray], np.ndarray]]) -> dict[str, float]:
    """Return accuracy and mean IoU, clean and with noise of std 5000 of 65,535."""
    runner, found = make_runner(model), {}
    top = 65_535 if model.record.grey_type == "uint16" else 255
    values = [item.value for item in model.record.classes]
    for noise in (0, 5000):
        rng, n = np.random.default_rng(0), len(values)
        table = np.zeros((n, n), np.int64)
        for pages, label in stacks:
            noisy = [page + rng.normal(0, noise * top / 65_535, page.shape).astype(np.float32) for page in pages]
            predicted = runner.segment(noisy)
            known = np.isin(label, range(n)) if isinstance(values[0], str) else np.isin(label, values)
            truth = label if isinstance(values[0], str) else np.searchsorted(values, label)
            np.add.at(table, (truth[known], predicted[known]), 1)
        hits = np.diag(table)
        found[f"accuracy at {noise}"] = float(hits.sum() / table.sum())
        found[f"mean IoU at {noise}"] = float(np.mean(hits / (table.sum(axis=0) + table.sum(axis=1) - hits)))
    return found


def speeds(model: Model) -> dict[str, float]:
    """Return million voxels a second on one tile, without its halo, by the engines, and the number of weights."""
    config, network = model.record.network, model.network()
    edge = TILE + 2 * config.halo
    stack = np.random.default_rng(0).random((config.channels, edge, edge), np.float32)
    converted = openvino_engine.convert(network)
    threads = torch.get_num_threads()
    engines = {
        "torch f32": TorchEngine(network),
        "openvino f32": openvino_engine.OpenVinoEngine(converted, precision="f32", threads=threads),
        "openvino int8": openvino_engine.OpenVinoEngine(
            openvino_engine.quantise(openvino_engine.convert(network), [stack]), precision="int8", threads=threads
        ),
    }
    found: dict[str, float] = {"weights": parameters(network), "halo": config.halo}
    for name, engine in engines.items():
        engine.run(stack)
        times = []
        for _ in range(7):
            began = time.perf_counter()
            engine.run(stack)
            times.append(time.perf_counter() - began)
        found[f"{name}, Mvoxel/s"] = TILE**2 / float(np.median(times)) / 1e6
    return found


if __name__ == "__main__":
    main()
