"""What peers are given and how they are scored: tomoseg's own reading of slices, its noise, its confusion matrices."""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from tomoseg.degrade import noise_std_grey
from tomoseg.evaluate import Noise
from tomoseg.labels import UNLABELLED, parse_classes
from tomoseg.metrics import accuracy, class_scores, confusion, mean_iou
from tomoseg.slices import Scan
from tomoseg.window import Window, fit_window
from tomoseg.workflow.common import Reading
from tomoseg.workflow.console import Console
from tomoseg.workflow.reading import open_scans

SEED = 0
"""Of the noise, as `tomoseg evaluate` has it."""


@dataclass(frozen=True)
class Work:
    """Labelled slices to learn from and slices to be tested on, of one scan.

    Attributes
    ----------
    scan, test
        The scan with the labels that are given, and with those that test.
    zs
        The labelled slices that are used, by rising z.
    """

    scan: Scan
    test: Scan
    zs: tuple[int, ...]

    @property
    def names(self) -> list[str]:
        """Names of the classes."""
        return [one.name for one in self.scan.classes]

    @property
    def tests(self) -> list[int]:
        """The slices that test, by rising z."""
        return [pair.z for pair in self.test.pairs]

    @cached_property
    def window(self) -> Window:
        """The window of grey values that tomoseg would train with."""
        return fit_window(self.scan.read_grey(z)[self.scan.read_label(z) != UNLABELLED] for z in self.zs)

    def noise_grey(self, noise_std: float) -> float:
        """Return a noise std in the scan's own grey values."""
        return noise_std_grey(noise_std, dtype=self.scan.volume.dtype, window=self.window)

    def read(self, z: int, *, noise_std: float) -> np.ndarray:
        """Return the grey values (y, x) of any slice, float32, with the very noise that `tomoseg evaluate` adds."""
        return np.asarray(Noise(self.noise_grey(noise_std), SEED).on(self.scan, 0)(z), np.float32)

    def scores(self, found: dict[int, np.ndarray]) -> dict[str, Any]:
        """Return the scores of segmented test slices, z -> class indices."""
        counts = sum(confusion(self.test.read_label(z), index, len(self.names)) for z, index in found.items())
        iou = {name: score.iou for name, score in class_scores(counts, self.names).items()}
        return {"accuracy": accuracy(counts), "mean_iou": mean_iou(counts), "iou": iou}


def parser(description: str | None) -> argparse.ArgumentParser:
    """Return a parser with the options that say which slices are given, which test, at which noise."""
    made = argparse.ArgumentParser(description=description)
    made.add_argument("--images", type=Path, required=True, help="the scan")
    made.add_argument("--labels", type=Path, required=True, help="labels to learn from; those of test slices are left")
    made.add_argument("--test", type=Path, required=True, help="labels of the slices that test")
    made.add_argument("--gap", type=int, default=0, help="slices next to a test slice whose labels are left, too")
    made.add_argument("--classes", nargs="*", help="NAME=VALUE, as tomoseg takes them")
    made.add_argument("--noise-std", nargs="+", type=float, default=[0.0, 5000.0], help="in 1/65535 of full range")
    made.add_argument("--out", type=Path, default=Path("results"), help="folder for peers.jsonl")
    return made


def open_work(given: argparse.Namespace) -> Work:
    """Open what the options name."""
    return open_slices(given.images, given.labels, test=given.test, gap=given.gap, classes=given.classes)


def open_slices(images: Path, labels: Path, *, test: Path, gap: int = 0, classes: Sequence[str] | None = None) -> Work:
    """Open a scan with the labels to learn from, those of test slices and within `gap` slices of one left out."""
    console = Console(quiet=True)
    stated = parse_classes(classes) if classes else None
    (scan,) = open_scans([(images, labels)], how=Reading(), stated=stated, unlabelled=None, console=console)
    (tested,) = open_scans([(images, test)], how=Reading(), stated=None, unlabelled=None,
                           known=scan.classes, console=console)  # fmt: skip
    taken = [scan.numbers[pair.z] for pair in tested.pairs]
    far = [pair.z for pair in scan.pairs if min(abs(scan.numbers[pair.z] - number) for number in taken) > gap]
    if not far:
        raise SystemExit(f"{labels}: every labelled slice tests, or lies within {gap} slices of one")
    return Work(scan, tested, tuple(far))


def record(out: Path, **row: Any) -> None:
    """Append a result to OUT/peers.jsonl, and print it."""
    out.mkdir(parents=True, exist_ok=True)
    line = json.dumps({"at": time.strftime("%Y-%m-%d %H:%M"), **row})
    with (out / "peers.jsonl").open("a", encoding="utf-8") as file:
        file.write(line + "\n")
    print(line, flush=True)


def peak_mb() -> float:
    """Return the peak of this process's memory in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
