"""How long `tomoseg quantify` takes, in how much memory, on three sizes.

`python benchmarks/quantify.py [--out results] [--sizes]` measures the labels of a phantom, mirrored along z as often as
it takes, and appends seconds, million voxels a second, and the largest sum of all processes' proportional set sizes to
OUT/quantify.jsonl.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil

from common import PHANTOM_CLASSES, make_phantom, record
from tomoseg.volume import Region, SliceWriter, open_volume

SHAPE = (160, 501, 501)
DEPTHS = (125, 250, 500)
_EVERY_SECONDS = 0.2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("results"))
    parser.add_argument("--sizes", action="store_true")
    parser.add_argument("--depths", nargs="*", type=int, default=DEPTHS)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    labels = make_phantom(given.out, SHAPE) / "labels"
    for depth in given.depths:
        source = mirrored(labels, given.out / f"quantify_{depth}.zarr", depth)
        words = ["quantify", source, "-o", given.out / f"quantify_{depth}", "--classes", *PHANTOM_CLASSES, "--force"]
        seconds, peak = watched([*words, "--voxel-size", 0.018, "--quiet", *(["--sizes"] if given.sizes else [])])
        rate = depth * SHAPE[1] * SHAPE[2] / seconds / 1e6
        record(
            given.out,
            "quantify",
            depth=depth,
            sizes=given.sizes,
            seconds=seconds,
            megavoxels_a_second=rate,
            peak_MB=peak,
        )


def mirrored(labels: Path, target: Path, depth: int) -> Path:
    """Write a volume of `depth` slices that goes back and forth through the labels."""
    if target.exists():
        return target
    volume = open_volume(labels)
    values = volume.read(Region.whole(volume.shape))
    order = [z if (i // len(values)) % 2 == 0 else len(values) - 1 - z for i, z in
             ((i, i % len(values)) for i in range(depth))]  # fmt: skip
    names = [f"slice_{z:04d}" for z in range(depth)]
    with SliceWriter(target, shape=(depth, *values.shape[1:]), dtype=np.dtype(np.uint8), names=names) as writer:
        for z in order:
            writer.write(values[z])
    return target


def watched(words: list[object]) -> tuple[float, float]:
    """Run a verb; return its seconds and the largest sum of proportional set sizes in MB, all processes together."""
    began, peak = time.perf_counter(), 0
    process = psutil.Popen([sys.executable, "-m", "tomoseg", *map(str, words)], stdout=subprocess.DEVNULL)
    while process.poll() is None:
        peak = max(peak, sum(_size(one) for one in [process, *_children(process)]))
        time.sleep(_EVERY_SECONDS)
    if process.returncode:
        raise SystemExit("tomoseg quantify failed")
    return time.perf_counter() - began, peak / 1e6


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _size(process: psutil.Process) -> int:
    try:
        return int(process.memory_full_info().pss)
    except (psutil.NoSuchProcess, psutil.AccessDenied):  # it has ended since
        return 0


if __name__ == "__main__":
    main()
