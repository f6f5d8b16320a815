"""nnU-Net v2 on slices that were written for it, for so many minutes, on a processor.

`nnunet.py FOLDER --minutes 5 [--until-still]`, run by `beside_nnunet.py` in the environment that `README.md` tells how
to make; it knows nothing of tomoseg. FOLDER has nnU-Net's `raw` folder and the pictures to segment,
`test/NOISE/slice_0003.tif`; segmentations go to `found/NOISE/slice_0003.tif`, what training took to `facts.json`.

nnU-Net plans, prepares, augments, trains and predicts (2D, mirrored tiles that half overlap) by its own code. Ours are
the size of patch, batch and network, which its plan sizes for a graphics card, and the end of training. By the clock:
its polynomial schedule is fitted to the minutes, and all slices train (its fold "all"): with few slices that is kinder
to it than to hold a fifth out. `--until-still`: its fold 0, at its first learning rate for at least the minutes and
until the pseudo-Dice of the slices held out has risen no more for a quarter of the time; then its schedule over a
quarter of the time so far. Minutes are those of training steps, their augmentation included.

F. Isensee et al., 2021, DOI 10.1038/s41592-020-01008-z.
"""

from __future__ import annotations

import os

os.environ.setdefault("nnUNet_def_n_proc", str(os.cpu_count()))  # read when nnU-Net is imported; else it takes 8

import argparse
import json
import re
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import torch
from batchgeneratorsv2.transforms.base.basic_transform import ImageOnlyTransform
from nnunetv2.experiment_planning.plan_and_preprocess_api import extract_fingerprints, plan_experiments, preprocess
from nnunetv2.imageio.natural_image_reader_writer import NaturalImage2DIO
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

DATASET, NUMBER = "Dataset001_Slices", 1
MOST_FEATURES, LEAST_EDGE = 512, 4
"""As nnU-Net's own plans have them: most channels of a stage, smallest edge of its pictures."""
LEAST_GAIN, STILL, MOST = 0.001, 0.25, 4.0
"""Of the pseudo-Dice to count as a gain; share of the time without one that is still; times the minutes, at most."""
FALL = 0.25
"""Of the time until it is still, in which the learning rate then falls."""


class AddedNoise(ImageOnlyTransform):
    """Noise of a std up to `most`, as it is after nnU-Net has brought the noisy picture to mean 0 and std 1."""

    def __init__(self, most: float, power: float) -> None:
        super().__init__()
        self.most, self.power = most, power

    def _apply_to_image(self, img: torch.Tensor, **_: Any) -> torch.Tensor:
        std = self.most * torch.rand(()) ** self.power
        return (img + std * torch.randn(img.shape)) / torch.sqrt(1 + std**2)


class TimedTrainer(nnUNetTrainer):
    """nnU-Net's training, with an end by the clock.

    Attributes
    ----------
    steps, seconds
        What was trained so far.
    """

    noise: AddedNoise | None = None
    steps = 0
    seconds = 0.0

    def get_training_transforms(self, *args: Any, **kwargs: Any) -> Any:
        made = nnUNetTrainer.get_training_transforms(*args, **kwargs)
        if self.noise is not None:
            made.transforms.append(self.noise)
        return made

    def fall(self, seconds: float) -> None:
        """Train; the learning rate falls with the share of the time, as else with that of the epochs."""
        self.network.train()
        began = self.seconds
        while (share := (self.seconds - began) / seconds) < 1:
            self.timed_step(self.initial_lr * (1 - share) ** 0.9)

    def hold(self, *, least: float, most: float) -> dict[str, Any]:
        """Train at the first learning rate, `least` to `most` seconds, until the pseudo-Dice is still; return it."""
        best, best_at, still = 0.0, 0.0, False
        while not still and self.seconds < most:
            dice = self.epoch()
            if dice > best + LEAST_GAIN:
                best, best_at = dice, self.seconds
            still = self.seconds >= least and self.seconds - best_at > STILL * self.seconds
        return {"still": still, "pseudo_dice": best, "pseudo_dice_at_s": best_at}

    def epoch(self) -> float:
        """Train for one of nnU-Net's epochs; return the running mean of the pseudo-Dice after it."""
        self.network.train()
        for _ in range(self.num_iterations_per_epoch):
            self.timed_step(self.initial_lr)
        self.on_validation_epoch_start()
        with torch.no_grad():
            steps = [self.validation_step(next(self.dataloader_val)) for _ in range(self.num_val_iterations_per_epoch)]
        self.on_validation_epoch_end(steps)
        self.current_epoch += 1
        dice = float(self.logger.get_value("ema_fg_dice", step=-1))
        print(f"{self.seconds:.0f} s, pseudo-Dice {dice:.4f}", flush=True)
        return dice

    def timed_step(self, rate: float) -> None:
        """Train one step, counted and timed."""
        began = time.perf_counter()
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        loss = self.train_step(next(self.dataloader_train))["loss"]
        self.seconds += time.perf_counter() - began
        self.steps += 1
        if self.steps % 100 == 0:
            print(f"{self.seconds:.0f} s, step {self.steps}, loss {loss:.3f}", flush=True)


def main() -> None:
    given = parsed()
    torch.manual_seed(given.seed)
    np.random.seed(given.seed)  # noqa: NPY002  nnU-Net draws from it
    torch.set_num_threads(given.threads)
    for name in ("raw", "preprocessed", "results"):
        os.environ[f"nnUNet_{name}"] = str(given.folder.resolve() / name)
    began = time.perf_counter()
    plans = prepared(given)
    facts: dict[str, Any] = {"prepare_s": time.perf_counter() - began, "prepare_peak_MB": peak_mb()}
    trainer = made_trainer(plans, given)
    facts |= trained(trainer, given)
    facts["predict_s"] = {
        path.name: segment(trainer, path, given) for path in sorted((given.folder / "test").iterdir())
    }
    (given.folder / "facts.json").write_text(json.dumps(facts), encoding="utf-8")


def parsed() -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--until-still", action="store_true", help="hold slices out, go on until they gain no more")
    parser.add_argument("--added-noise", nargs=2, type=float, metavar=("MOST", "POWER"),
                        help="add noise to its own augmentation: std MOST u^POWER of a slice's own")  # fmt: skip
    parser.add_argument("--patch", type=int, default=128, help="edge in pixels, a power of 2")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--features", type=int, default=16, help="channels of the first stage; nnU-Net plans 32")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--workers", type=int, default=0, help="processes that augment; 0: between the steps")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def prepared(given: argparse.Namespace) -> dict[str, Any]:
    """Let nnU-Net plan and prepare the slices; return its plans."""
    extract_fingerprints([NUMBER], num_processes=given.threads)
    plan_experiments([NUMBER])
    path = given.folder / "preprocessed" / DATASET / "nnUNetPlans.json"
    plans: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    resize(plans["configurations"]["2d"], patch=given.patch, batch=given.batch, features=given.features)
    path.write_text(json.dumps(plans), encoding="utf-8")
    preprocess([NUMBER], configurations=("2d",), num_processes=(given.threads,))
    return plans


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


def made_trainer(plans: dict[str, Any], given: argparse.Namespace) -> TimedTrainer:
    """Return a trainer that is ready for its first step."""
    os.environ |= {"nnUNet_n_proc_DA": str(given.workers), "nnUNet_compile": "f"}  # planning wants some that augment
    described = json.loads((given.folder / "raw" / DATASET / "dataset.json").read_text(encoding="utf-8"))
    fold = 0 if given.until_still else "all"
    trainer = TimedTrainer(plans | {"continue_training": False}, "2d", fold, described, torch.device("cpu"))
    if given.added_noise:
        trainer.noise = AddedNoise(*given.added_noise)
    trainer.on_train_start()
    return trainer


def trained(trainer: TimedTrainer, given: argparse.Namespace) -> dict[str, Any]:
    """Train; return what it took."""
    held = {}
    if given.until_still:
        held = trainer.hold(least=60 * given.minutes, most=MOST * 60 * given.minutes)
    trainer.fall(FALL * trainer.seconds if held else 60 * given.minutes)
    trainer.on_train_end()
    names, _ = trainer.do_split()
    seen = trainer.steps * given.batch * given.patch**2
    return {
        "minutes": given.minutes, "until_still": given.until_still, **held, "steps": trainer.steps,
        "seconds": trainer.seconds, "trained_slices": len(names), "megapixels_seen": seen / 1e6,
        "passes": seen / labelled_pixels(given.folder, names, trainer), "peak_MB": peak_mb(),
        "patch": given.patch, "batch": given.batch, "features": given.features, "threads": given.threads,
        "workers": given.workers, "seed": given.seed,
        "parameters": sum(p.numel() for p in trainer.network.parameters()),
        "nnunetv2": version("nnunetv2"), "torch": torch.__version__,
    }  # fmt: skip


def peak_mb() -> float:
    """Return the peak of this process's memory in MB since it was last asked for.

    Linux keeps and resets it; `ru_maxrss` has no reset, and counts the process that started this one.
    """
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="utf-8"))
    if found is None:
        raise RuntimeError("/proc/self/status has no VmHWM, the peak of memory; Linux writes it")
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    return int(found[1]) * 1024 / 1e6


def labelled_pixels(folder: Path, names: list[str], trainer: TimedTrainer) -> int:
    """Return how many pixels of those slices have a label."""
    ignored = trainer.label_manager.ignore_label
    labels = (tifffile.imread(folder / "raw" / DATASET / "labelsTr" / f"{name}.tif") for name in names)
    return sum(int((label != ignored).sum()) if ignored is not None else label.size for label in labels)


def segment(trainer: TimedTrainer, pictures: Path, given: argparse.Namespace) -> float:
    """Segment a folder's pictures; return the seconds."""
    predictor = nnUNetPredictor(device=torch.device("cpu"), perform_everything_on_device=False, allow_tqdm=False)
    trainer.set_deep_supervision_enabled(False)
    predictor.manual_initialization(trainer.network, trainer.plans_manager, trainer.configuration_manager,
                                    [trainer.network.state_dict()], trainer.dataset_json, type(trainer).__name__,
                                    trainer.inference_allowed_mirroring_axes)  # fmt: skip
    target = given.folder / "found" / pictures.name
    target.mkdir(parents=True)
    began = time.perf_counter()
    for path in sorted(pictures.iterdir()):
        index = np.asarray(predictor.predict_single_npy_array(*NaturalImage2DIO().read_images([str(path)])))[0]
        tifffile.imwrite(target / path.name, index.astype(np.uint8))
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
