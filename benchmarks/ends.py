"""The last slices of a scan: what lies beyond them foretold, or the last one repeated.

`python benchmarks/ends.py MODEL IMAGES LABELS --out results [--cuts 8] [--noise 0 5000 10000]` breaks a labelled scan
off at some slices that the model has not seen, and scores the last two before each break with what lies beyond them
there, foretold, and repeated. Real tomograms without labels are broken off as well: how far the grey values beyond are
from the ones that are there, foretold and repeated, in std of the slice.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np

from common import DATA, labelled_scan_parser, open_labelled, record
from tomoseg.degrade import noise_std_grey
from tomoseg.ends import FITTED, beyond, continued
from tomoseg.evaluate import Noise
from tomoseg.model_file import load_model
from tomoseg.slices import Scan, labelled_numbers
from tomoseg.volume import open_volume, read_slice
from tomoseg.workflow.console import Console
from tomoseg.workflow.evaluate import held_out_of
from tomoseg.workflow.predict import make_runner

CONTEXT = 2
Read = Callable[[int], np.ndarray]


def main() -> None:
    parser = labelled_scan_parser(__doc__)
    parser.add_argument("--cuts", type=int, default=8)
    parser.add_argument("--noise", nargs="*", type=float, default=[0.0, 5000.0, 10_000.0])
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    for path in sorted((DATA / "volumes").glob("*.tif")):
        broken_off(given, path)
    labelled(given)


def readers(read: Read, count: int) -> dict[str, Read]:
    """Return how the slices of a scan that has only so many are read: as they are, foretold, or repeated."""
    return {
        "there": read,
        "foretold": continued(read, count),
        "repeated": lambda z: read(count - 1 if beyond(z, count) else z),
    }


def broken_off(given: argparse.Namespace, path: Path) -> None:
    """Compare grey values beyond a break with those that are there."""
    volume = open_volume(path)
    depth = volume.shape[0]
    sums: dict[tuple[str, int], list[float]] = {}
    cuts = np.linspace(FITTED, depth - CONTEXT, given.cuts).astype(int).tolist()
    for cut in cuts:
        read = readers(lambda z: read_slice(volume, z).astype(np.float32), cut)
        for steps in range(1, CONTEXT + 1):
            there = read["there"](cut - 1 + steps)
            for name in ("foretold", "repeated"):
                error = read[name](cut - 1 + steps) - there
                sums.setdefault((name, steps), []).append(float(np.sqrt((error**2).mean()) / there.std()))
    for (name, steps), errors in sums.items():
        record(given.out, "ends", volume=path.stem, beyond=name, steps=steps, rms=float(np.mean(errors)))


def labelled(given: argparse.Namespace) -> None:
    """Score the last slices before a break with what lies beyond it there, foretold and repeated."""
    model, console = load_model(given.model), Console()
    runner, scan = make_runner(model), open_labelled(model, given.images, given.labels)
    at = labelled_numbers(scan)
    zs = [at[number] for number in sorted(held_out_of(scan, model, console).kept)]
    zs = [z for z in zs if FITTED < z < len(scan.numbers) - CONTEXT]
    lasts = [zs[int(i)] for i in np.linspace(1, len(zs) - 1, given.cuts)]
    for std in given.noise:
        grey = Noise(noise_std_grey(std, dtype=scan.volume.dtype, window=model.record.window), 0).on(scan, 0)
        right: dict[tuple[str, int], list[float]] = {}
        for last in lasts:
            for name, read in readers(grey, last + 1).items():
                for back in (0, 1):
                    score = accuracy_of(read, scan, last - back, runner.segment)
                    right.setdefault((name, back), []).append(score)
        for (name, back), scores in right.items():
            record(given.out, "ends", noise_std=std, beyond=name, before_the_last=back, accuracy=float(np.mean(scores)))


def accuracy_of(read: Read, scan: Scan, z: int, segment: Callable[[list[np.ndarray]], np.ndarray]) -> float:
    """Return the share of a slice's pixels that are right with the context that is read for it."""
    found = segment([read(z + step) for step in range(-CONTEXT, CONTEXT + 1)])
    return float((found == scan.read_label(z)).mean())


if __name__ == "__main__":
    main()
