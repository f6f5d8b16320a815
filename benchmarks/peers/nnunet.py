"""nnU-Net v2 on the same slices, for the same minutes, on a processor.

`nnunet.py --images DIR --labels DIR --test DIR --minutes 5 [--noise] [--noise-std 0 5000] [--out results]`, run in the
environment that `README.md` tells how to make. nnU-Net plans, prepares, augments, trains and predicts (2D, mirrored
tiles that half overlap) by its own code. Ours are the size of patch, batch and network, which its plan sizes for a
graphics card, and the end of training: by the clock, its polynomial schedule fitted to the minutes. All labelled slices
train (its fold "all"): with few slices that is kinder to it than to hold a fifth out.

F. Isensee et al., 2021, DOI 10.1038/s41592-020-01008-z.
"""

from __future__ import annotations

import os

os.environ.setdefault("nnUNet_def_n_proc", str(os.cpu_count()))  # read when nnU-Net is imported; else it takes 8

import argparse
import json
import shutil
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import torch
from batchgeneratorsv2.transforms.base.basic_transform import ImageOnlyTransform
from nnunetv2.experiment_planning.plan_and_preprocess_api import extract_fingerprints, plan_experiments, preprocess
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from tomoseg.labels import UNLABELLED
from tomoseg.patches import DEFAULT_NOISE, PatchSettings
from work import Work, open_work, parser, peak_mb, record

DATASET, NUMBER = "Dataset001_Slices", 1
PLANE = {"spacing": (999, 1, 1)}
MOST_FEATURES, LEAST_EDGE = 512, 4
"""As nnU-Net's own plans have them: most channels of a stage, smallest edge of its pictures."""


class AddedNoise(ImageOnlyTransform):
    """Noise of tomoseg's range, as it is after nnU-Net has brought the noisy picture to mean 0 and std 1."""

    def __init__(self, most: float, power: float) -> None:
        super().__init__()
        self.most, self.power = most, power

    def _apply_to_image(self, img: torch.Tensor, **_: Any) -> torch.Tensor:
        std = self.most * torch.rand(()) ** self.power
        return (img + std * torch.randn(img.shape)) / torch.sqrt(1 + std**2)


class TimedTrainer(nnUNetTrainer):
    """nnU-Net's training, with an end by the clock."""

    noise: AddedNoise | None = None
    iterations = 0

    def get_training_transforms(self, *args: Any, **kwargs: Any) -> Any:
        made = nnUNetTrainer.get_training_transforms(*args, **kwargs)
        if self.noise is not None:
            made.transforms.append(self.noise)
        return made

    def train(self, minutes: float) -> None:
        """Train; the learning rate falls with the share of the time, as else with that of the epochs."""
        self.on_train_start()
        self.network.train()
        began = time.perf_counter()
        while (share := (time.perf_counter() - began) / (60 * minutes)) < 1:
            for group in self.optimizer.param_groups:
                group["lr"] = self.initial_lr * (1 - share) ** 0.9
            loss = self.train_step(next(self.dataloader_train))["loss"]
            if self.iterations % 100 == 0:
                print(f"{100 * share:.0f} %, iteration {self.iterations}, loss {loss:.3f}", flush=True)
            self.iterations += 1
        self.on_train_end()


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--minutes", type=float, default=5.0)
    options.add_argument("--noise", action="store_true", help="add noise of tomoseg's range to its own augmentation")
    options.add_argument("--patch", type=int, default=128, help="edge in pixels, a power of 2")
    options.add_argument("--batch", type=int, default=2)
    options.add_argument("--features", type=int, default=16, help="channels of the first stage; nnU-Net plans 32")
    options.add_argument("--threads", type=int, default=os.cpu_count())
    options.add_argument("--seed", type=int, default=0)
    given = options.parse_args()
    work = open_work(given)
    torch.manual_seed(given.seed)
    np.random.seed(given.seed)  # noqa: NPY002  nnU-Net draws from it
    torch.set_num_threads(given.threads)
    plans, described = prepared(work, given)
    trainer = trained(plans, described, work, given)
    for noise_std in given.noise_std:
        test(trainer, work, noise_std, given)


def prepared(work: Work, given: argparse.Namespace) -> tuple[dict[str, Any], dict[str, Any]]:
    """Write the labelled slices for nnU-Net, let it plan and prepare them; return its plans and the dataset's json."""
    home = (given.out / "nnunet").resolve()
    shutil.rmtree(home, ignore_errors=True)
    os.environ |= {f"nnUNet_{name}": str(home / name) for name in ("raw", "preprocessed", "results")}
    described = write_dataset(work, home / "raw" / DATASET)
    extract_fingerprints([NUMBER], num_processes=2)
    plan_experiments([NUMBER])
    path = home / "preprocessed" / DATASET / "nnUNetPlans.json"
    plans = json.loads(path.read_text(encoding="utf-8"))
    resize(plans["configurations"]["2d"], patch=given.patch, batch=given.batch, features=given.features)
    path.write_text(json.dumps(plans), encoding="utf-8")
    preprocess([NUMBER], configurations=("2d",), num_processes=(2,))
    return plans, described


def write_dataset(work: Work, folder: Path) -> dict[str, Any]:
    """Write the labelled slices and dataset.json; return what it says."""
    for name in ("imagesTr", "labelsTr"):
        (folder / name).mkdir(parents=True)
    n, ignored = len(work.names), False
    for z in work.zs:
        label = work.scan.read_label(z)
        ignored = ignored or bool((label == UNLABELLED).any())
        tifffile.imwrite(folder / "imagesTr" / f"slice_{z:04d}_0000.tif", work.read(z, noise_std=0.0))
        tifffile.imwrite(folder / "labelsTr" / f"slice_{z:04d}.tif", np.where(label == UNLABELLED, n, label))
    labels = {"background": 0} | {f"class {c}": c for c in range(1, n)} | ({"ignore": n} if ignored else {})
    described = {"channel_names": {"0": "grey"}, "labels": labels, "numTraining": len(work.zs), "file_ending": ".tif"}
    (folder / "dataset.json").write_text(json.dumps(described), encoding="utf-8")
    return described


def resize(plan: dict[str, Any], *, patch: int, batch: int, features: int) -> None:
    """Edit nnU-Net's 2D plan: the patch and the batch, and as deep a network as it would plan for that patch."""
    stages = int(np.log2(patch // LEAST_EDGE)) + 1
    plan |= {"patch_size": [patch, patch], "batch_size": batch}
    plan["architecture"]["arch_kwargs"] |= {
        "n_stages": stages,
        "features_per_stage": [min(MOST_FEATURES, features * 2**stage) for stage in range(stages)],
        "kernel_sizes": [[3, 3]] * stages,
        "strides": [[1, 1]] + [[2, 2]] * (stages - 1),
        "n_conv_per_stage": [2] * stages,
        "n_conv_per_stage_decoder": [2] * (stages - 1),
    }


def trained(plans: dict[str, Any], described: dict[str, Any], work: Work, given: argparse.Namespace) -> TimedTrainer:
    """Return the trainer after its minutes."""
    os.environ |= {"nnUNet_n_proc_DA": "0"}  # augments between steps: 5 % of their time, and the seed counts
    trainer = TimedTrainer(plans | {"continue_training": False}, "2d", "all", described, torch.device("cpu"))
    if given.noise:
        contrast = np.mean([work.read(z, noise_std=0.0).std() for z in work.zs])  # nnU-Net divides by each slice's own
        trainer.noise = AddedNoise(DEFAULT_NOISE * work.window().width / contrast, PatchSettings().noise_power)
    trainer.train(given.minutes)
    return trainer


def test(trainer: TimedTrainer, work: Work, noise_std: float, given: argparse.Namespace) -> None:
    """Segment the test slices, record the scores."""
    predictor = nnUNetPredictor(device=torch.device("cpu"), perform_everything_on_device=False, allow_tqdm=False)
    trainer.set_deep_supervision_enabled(False)
    predictor.manual_initialization(trainer.network, trainer.plans_manager, trainer.configuration_manager,
                                    [trainer.network.state_dict()], trainer.dataset_json, type(trainer).__name__,
                                    trainer.inference_allowed_mirroring_axes)  # fmt: skip
    began = time.perf_counter()
    found = {}
    for z in work.tests:
        picture = work.read(z, noise_std=noise_std)[None, None]
        found[z] = np.asarray(predictor.predict_single_npy_array(picture, PLANE))[0].astype(np.uint8)
    seen = trainer.iterations * given.batch * given.patch**2
    pixels = sum(int((work.scan.read_label(z) != UNLABELLED).sum()) for z in work.zs)
    record(given.out, row="nnU-Net", test=str(given.test), labelled=len(work.zs), tested=len(found),
           noise_std=noise_std, **work.scores(found), minutes=given.minutes, noise=given.noise, seed=given.seed,
           patch=given.patch, batch=given.batch, features=given.features, iterations=trainer.iterations,
           megapixels_seen=seen / 1e6, passes=seen / pixels, predict_s=time.perf_counter() - began,
           peak_MB=peak_mb(), nnunetv2=version("nnunetv2"), torch=torch.__version__)  # fmt: skip


if __name__ == "__main__":
    main()
