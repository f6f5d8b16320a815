"""A tiny model and what predictions with it are tested by."""

import json
import shutil
from pathlib import Path

import numpy as np
import torch

from tomoseg.cli import run
from tomoseg.labels import LabelClass
from tomoseg.model_file import Model, ModelRecord, Samples, ScanRecord, save_model, weights_of
from tomoseg.provenance import record
from tomoseg.recipe import FAST
from tomoseg.unet import UNet
from tomoseg.unet_config import UNetConfig
from tomoseg.volume import Region, SliceWriter, open_volume
from tomoseg.window import Window
from tomoseg.workflow.predict_store import checksum

NAMES = ("pore", "YSZ", "Ni")
SHAPE = (37, 70, 150)
TORCH = ("--engine", "torch", "--threads", 1)


def make_model(path: Path, *, context: int = 1, seed: int = 0, mirrored: int = 1) -> Path:
    torch.manual_seed(seed)
    network = UNet(UNetConfig(classes=3, context=context, widths=(4, 8), bottleneck=8, mirrored=mirrored))
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_var.uniform_(0.05, 0.3)
    _vary(network)
    classes = tuple(
        LabelClass(name=name, value=value, colour=f"#{value:02x}{value:02x}{value:02x}")
        for name, value in zip(NAMES, (0, 128, 255), strict=True)
    )
    made = ModelRecord(
        network=network.config, recipe=FAST.model_dump(mode="json"), window=Window(low=0, high=40_000),
        grey_type="uint16", classes=classes, scans=(ScanRecord(name="a", source="0" * 16),), slices=(), gap=3,
        provenance=record("train", seed=0),
    )  # fmt: skip
    tiles = np.random.default_rng(5).integers(0, 40_000, (4, 64, 64), dtype=np.uint16)
    save_model(path, Model(made, weights_of(network.state_dict()), Samples(tiles, np.zeros((4, 64, 64), np.uint8))))
    return path


@torch.no_grad()
def _vary(network: UNet) -> None:
    """Centre and stretch the last layer, so that all classes appear, some of them surely."""
    given = torch.rand(1, network.config.channels, 64, 64)
    last = [module for module in network.modules() if isinstance(module, torch.nn.Conv2d)][-1]
    assert last.bias is not None
    logits = network.eval()(given)
    last.bias -= logits.mean(dim=(0, 2, 3))
    factor = 3 / logits.std(dim=(0, 2, 3))
    last.weight *= factor[:, None, None, None]
    last.bias *= factor


def predict(model: Path, source: Path, out: Path, *words: object) -> int:
    given = ["predict", model, source, "-o", out, "--probabilities", "--uncertainty", "--quiet", *TORCH, *words]
    return run([str(word) for word in given])


def content(store: Path) -> dict[str, str]:
    return {file.relative_to(store).as_posix(): checksum(file) for file in sorted(store.rglob("*")) if file.is_file()}


def labels(path: Path) -> np.ndarray:
    volume = open_volume(path)
    return volume.read(Region.whole(volume.shape))


def write(path: Path, values: np.ndarray, size: tuple[float, float, float] | None = (0.02, 0.02, 0.02)) -> None:
    with SliceWriter(path, shape=values.shape, dtype=values.dtype, voxel_size_um=size) as writer:
        for page in values:
            writer.write(page)


def interrupt(model: Path, source: Path, out: Path, *words: object) -> None:
    """Leave a prediction whose first block is done, the second half-written, the third missing."""
    assert predict(model, source, out, *words) == 0
    state = json.loads((out / "zarr.json").read_text())
    state["attributes"]["tomoseg"]["finished"] = False
    (out / "zarr.json").write_text(json.dumps(state, indent=2))
    (out / "tomoseg/provenance.json").unlink()
    records = sorted((out / "tomoseg/blocks").iterdir())
    shard = out / "0/c/1/0/0"
    shard.write_bytes(shard.read_bytes()[:100])
    shutil.rmtree(out / "0/c/2")
    records[2].unlink()
    (out / "0/c/1/0/0.0123.partial").write_bytes(b"half")
