"""Labels for the pixels that nobody labelled, where few are: what a network for structures of any kind makes of them.

From a few strokes a network learns the strokes by heart, and in the time that makes it better on whole slices it gets
worse. So the rest of the labelled slices is labelled first, by a network that ships with tomoseg. It was trained to
tell apart the phases of structures made by chance (`benchmarks/guesser.py`), and brings where edges lie under blur and
noise; which class is which, its last layer learns from the labels that there are. Training then learns from both
(self-training: H. Scudder, IEEE Trans. Inf. Theory 11 (1965) 363, DOI 10.1109/TIT.1965.1053799).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int64, UInt8
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

from tomoseg.grey_levels import evenly
from tomoseg.labels import UNLABELLED, class_shares
from tomoseg.model_file import load_tensors, network_of
from tomoseg.patches import TrainingSlice, rare_classes
from tomoseg.slices import context_slices
from tomoseg.tiles import Tile, cut, tiles
from tomoseg.unet import UNet
from tomoseg.unet_config import UNetConfig
from tomoseg.window import Window

SHIPPED = Path(__file__).parent / "guesser"

_TILE = 512
_NORM_TILES = 16
_MOST_PIXELS, _FEWEST_PIXELS = 20_000, 50  # of a class in all slices, and in each
_MOST_LEFT_OUT = 5
_MOST_ROUNDS = 2000
_FLIPS = ((), (2, 3), (1, 2), (1, 3))  # axes of (batch, channel, y, x)
_TRUST = 5.0  # in the labels: the inverse of the penalty on weights

Rows = Float32[np.ndarray, "pixel feature"]


@dataclass(frozen=True)
class Guesser:
    """The shipped network, its last layer fitted to some labels: make one with `Guesser.fit`.

    Attributes
    ----------
    network
        In evaluation mode; its own last layer is not used.
    window
        Turns grey values into its input.
    last
        Makes classes of features.
    right_on_others
        Share of the labelled pixels of a slice that is right, mean over classes, where the last layer has seen the
        other slices only; nan where one slice is labelled.
    """

    network: UNet
    window: Window
    last: LogisticRegression
    right_on_others: float

    @classmethod
    def fit(cls, slices: Sequence[TrainingSlice], window: Window, *, seed: int) -> Guesser | None:
        """Return the guesser for some partly labelled slices; None where they show one class only.

        Parameters
        ----------
        slices
            With their labels.
        window
            Turns their grey values into network input.
        seed
            Draws pixels, where more than 20,000 of a class are labelled.
        """
        network = shipped_network(context=2 if len(slices[0].channels) > 1 else 0)
        _settle_norms(network, slices, window)
        most = max(_FEWEST_PIXELS, _MOST_PIXELS // len(slices))
        parts = [_labelled(network, item, window, most=most, seed=seed) for item in slices]
        rows, truth = (np.concatenate(several) for several in zip(*parts, strict=True))
        if len(np.unique(truth)) < 2:
            return None
        return cls(network, window, _regression(rows, truth), _right_on_others(parts))

    def guess(self, item: TrainingSlice) -> UInt8[np.ndarray, "y x"]:
        """Return the class of each pixel of a slice, `UNLABELLED` in tiles where none is open."""
        found = np.full(item.label.shape, UNLABELLED, np.uint8)
        for part, features in _features(self.network, item, self.window, where=item.open):
            classes = self.last.predict(features.reshape(-1, features.shape[-1]))
            found[part.core] = classes.reshape(features.shape[:2])
        return found


def shipped_network(*, context: int) -> UNet:
    """Return the network that ships with tomoseg for 0 or 2 slices on either side, in evaluation mode."""
    path = SHIPPED / f"context_{context}.safetensors"
    weights, record = load_tensors(path, what="guesser")
    as_trained = {name: value.astype(np.float32) if value.ndim else value for name, value in weights.items()}
    return network_of(UNetConfig.model_validate(record["network"]), as_trained, place=str(path))


def with_pseudo_labels(
    slices: Sequence[TrainingSlice], guesses: Sequence[UInt8[np.ndarray, "y x"]], *, classes: int
) -> tuple[TrainingSlice, ...]:
    """Return the slices with guesses for the pixels that nobody labelled."""
    labels = [np.where(item.open, guess, item.label) for item, guess in zip(slices, guesses, strict=True)]
    rare = rare_classes(np.mean([class_shares(label, classes) for label in labels], axis=0))
    return tuple(item.with_label(label, rare=rare) for item, label in zip(slices, labels, strict=True))


@torch.no_grad()
def _settle_norms(network: UNet, slices: Sequence[TrainingSlice], window: Window) -> None:
    """Let the batch norms' statistics be those of these slices: of tiles spread over them."""
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the mean over all tiles
    network.train()
    counting = [item.open | (item.label != UNLABELLED) for item in slices]
    places = [(item, part) for item, where in zip(slices, counting, strict=True)
              for part in _tiles(network, item, where=where)]  # fmt: skip
    for i in np.unique(np.linspace(0, len(places) - 1, _NORM_TILES).astype(int)):
        item, part = places[i]
        network.features(_input(network, item, window, part))
    network.eval()


def _labelled(
    network: UNet, item: TrainingSlice, window: Window, *, most: int, seed: int
) -> tuple[Rows, Int64[np.ndarray, " pixel"]]:
    """Return the features of labelled pixels of a slice, `most` of each class at the most, and their classes."""
    chosen, rng = np.zeros(item.label.shape, np.bool_), np.random.default_rng([seed, item.z])
    for c in np.unique(item.label[item.label != UNLABELLED]):
        places = np.flatnonzero(item.label == c)
        chosen.ravel()[rng.permutation(places)[:most]] = True
    rows, truth = [np.zeros((0, network.config.widths[0]), np.float32)], [np.zeros(0, np.int64)]
    for part, features in _features(network, item, window, where=chosen):
        rows.append(features[chosen[part.core]])
        truth.append(item.label[part.core][chosen[part.core]].astype(np.int64))
    return np.concatenate(rows), np.concatenate(truth)


def _regression(rows: Rows, truth: Int64[np.ndarray, " pixel"]) -> LogisticRegression:
    made: Any = LogisticRegression(C=_TRUST, max_iter=_MOST_ROUNDS)
    fitted: LogisticRegression = made.fit(rows, truth)
    return fitted


def _right_on_others(parts: Sequence[tuple[Float32[np.ndarray, "_ feature"], Int64[np.ndarray, " _"]]]) -> float:
    """Return what share of each slice's labels the others tell, mean over the classes that both show, and slices."""
    found = []
    for i in evenly(0, len(parts), _MOST_LEFT_OUT) if len(parts) > 1 else []:
        rows, truth = (np.concatenate(several) for several in zip(*parts[:i], *parts[i + 1 :], strict=True))
        classes = np.intersect1d(np.unique(truth), np.unique(parts[i][1]))
        if len(np.unique(truth)) > 1:
            right = _regression(rows, truth).predict(parts[i][0]) == parts[i][1]
            found += [right[parts[i][1] == c].mean() for c in classes]
    return float(np.mean(found)) if found else math.nan


def _features(
    network: UNet, item: TrainingSlice, window: Window, *, where: Bool[np.ndarray, "y x"]
) -> Iterator[tuple[Tile, Float32[np.ndarray, "y x feature"]]]:
    """Yield tiles of a slice that hold any of the pixels `where`, with what the network's last layer is given for each.

    It is the mean over `_FLIPS`.
    """
    for part in _tiles(network, item, where=where):
        image = _input(network, item, window, part)
        with torch.inference_mode():
            seen = torch.stack([network.features(image.flip(axes)).flip(_in_plane(axes))[0] for axes in _FLIPS])
        yield part, seen.mean(dim=0).permute(1, 2, 0).numpy()[part.inner]


def _in_plane(axes: tuple[int, ...]) -> list[int]:
    """Return those of the axes that features have as well: not the channels, which are slices."""
    return [axis for axis in axes if axis > 1]


def _tiles(network: UNet, item: TrainingSlice, *, where: Bool[np.ndarray, "y x"]) -> list[Tile]:
    """Return tiles of about the same size that hold any of the pixels `where`."""
    height, width = item.label.shape
    edge = max(-(-size // -(-size // _TILE)) for size in (height, width))
    grid = network.config.grid
    found = tiles((height, width), tile=-(-edge // grid) * grid, halo=network.config.halo, grid=grid)
    return [part for part in found if where[part.core].any()]


def _input(network: UNet, item: TrainingSlice, window: Window, part: Tile) -> Float[Tensor, "1 channel height width"]:
    channels = context_slices(item.z, numbers=item.scan.numbers, context=network.config.context)
    image = np.stack([window.apply(cut(item.scan.read_grey(z), part)) for z in channels])
    return torch.from_numpy(image[None]).contiguous(memory_format=torch.channels_last)
