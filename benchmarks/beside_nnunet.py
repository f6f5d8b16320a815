"""nnU-Net on the slices of `train.py`: the same labelled, the same tested with the same noise, scored in the same way.

`python benchmarks/beside_nnunet.py [--out results] [--only sandstone phantom] [--tested 0150] [--noise] --minutes 5`
writes the slices, runs `peers/nnunet.py` in nnU-Net's environment (peers/README.md), whose other options it takes as
well (`--until-still`, `--features`, `--seed`), and scores what it found. Each score is a line of JSON in
OUT/nnunet.jsonl. nnU-Net trains on the slices as they are; `--noise` adds noise of tomoseg's range to its own
augmentation.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from common import DATA, PHANTOM_CLASSES, copied, record
from peers.work import Work, open_slices
from tomoseg.labels import UNLABELLED
from tomoseg.patches import DEFAULT_NOISE, PatchSettings
from tomoseg.train import matrix_rate
from train import GAP, LEVELS, NOISE, SANDSTONE_CLASSES, phantom_parts

SCRIPT = Path(__file__).parent / "peers/nnunet.py"
PHANTOM_NOISE = (LEVELS[0], *LEVELS[2:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("results"))
    parser.add_argument("--only", nargs="+", default=["sandstone", "phantom"], choices=["sandstone", "phantom"])
    parser.add_argument("--tested", nargs="*", default=[], help="sandstone slices to hold out, like 0150; all without")
    parser.add_argument("--noise", action="store_true", help="noise of tomoseg's range in training, too")
    parser.add_argument("--nnunet", type=Path, default=Path(".peers/nnunet/bin/python"), help="its interpreter")
    given, options = parser.parse_known_args()
    given.out.mkdir(parents=True, exist_ok=True)
    for name in given.only:
        (sandstone if name == "sandstone" else phantom)(given, options)


def sandstone(given: argparse.Namespace, options: list[str]) -> None:
    """Hold each slice out in turn."""
    images, labels = DATA / "sandstone/images", DATA / "sandstone/labels"
    for tested in sorted(path.name for path in labels.iterdir()):
        if not given.tested or tested[-8:-4] in given.tested:
            test = copied(labels, [tested], given.out / "nnunet_test_labels")
            work = open_slices(images, labels, test=test, gap=0, classes=SANDSTONE_CLASSES)
            run(work, NOISE, given, options, row="sandstone", tested=tested)


def phantom(given: argparse.Namespace, options: list[str]) -> None:
    """Train on the phantom, test on its last 24 slices."""
    images, labels, test = phantom_parts(given.out)
    work = open_slices(images, labels, test=test, gap=GAP, classes=PHANTOM_CLASSES)
    run(work, PHANTOM_NOISE, given, options, row="phantom")


def run(work: Work, noises: Sequence[float], given: argparse.Namespace, options: list[str], **named: str) -> None:
    """Train nnU-Net and let it segment the test slices; record the scores at each noise."""
    folder = given.out / "nnunet"
    shutil.rmtree(folder, ignore_errors=True)
    write_labelled(work, folder / "raw/Dataset001_Slices")
    for noise_std in noises:
        write_tests(work, folder / f"test/{noise_std:.0f}", noise_std)
    rate = matrix_rate()
    subprocess.run([given.nnunet, SCRIPT, folder, *options, *(added_noise(work) if given.noise else [])], check=True)
    facts = json.loads((folder / "facts.json").read_text(encoding="utf-8"))
    took = facts.pop("predict_s")
    for noise_std in noises:
        found = {z: tifffile.imread(folder / f"found/{noise_std:.0f}" / file_name(z)) for z in work.tests}
        record(given.out, "nnunet", **named, labelled=len(work.zs), noise=given.noise, **facts,
               matrix_gflop_per_second=rate, noise_std=noise_std, **work.scores(found),
               predict_s=took[f"{noise_std:.0f}"])  # fmt: skip


def write_labelled(work: Work, folder: Path) -> None:
    """Write the labelled slices and dataset.json as nnU-Net reads them; pixels without a label are its last class."""
    n, ignored = len(work.names), False
    for name in ("imagesTr", "labelsTr"):
        (folder / name).mkdir(parents=True)
    for z in work.zs:
        label = work.scan.read_label(z)
        ignored = ignored or bool((label == UNLABELLED).any())
        tifffile.imwrite(folder / "imagesTr" / file_name(z, "_0000"), work.read(z, noise_std=0.0))
        tifffile.imwrite(folder / "labelsTr" / file_name(z), np.where(label == UNLABELLED, n, label).astype(np.uint8))
    labels = {"background": 0} | {f"class {c}": c for c in range(1, n)} | ({"ignore": n} if ignored else {})
    described: dict[str, Any] = {"channel_names": {"0": "grey"}, "labels": labels, "numTraining": len(work.zs),
                                 "file_ending": ".tif"}  # fmt: skip
    (folder / "dataset.json").write_text(json.dumps(described), encoding="utf-8")


def write_tests(work: Work, folder: Path, noise_std: float) -> None:
    """Write the slices that test, with the noise that `tomoseg evaluate` adds, as floats."""
    folder.mkdir(parents=True)
    for z in work.tests:
        tifffile.imwrite(folder / file_name(z), work.read(z, noise_std=noise_std))


def file_name(z: int, end: str = "") -> str:
    """Return the name of a slice's file."""
    return f"slice_{z:04d}{end}.tif"


def added_noise(work: Work) -> list[str]:
    """Return the option for noise of tomoseg's range: its most in stds of a slice, by which nnU-Net divides."""
    contrast = np.mean([work.read(z, noise_std=0.0).std() for z in work.zs])
    return ["--added-noise", str(DEFAULT_NOISE * work.window.width / contrast), str(PatchSettings().noise_power)]


if __name__ == "__main__":
    main()
