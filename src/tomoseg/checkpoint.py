"""A training on disk, so that it goes on where it stopped: weights, moments, the best so far, the step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from tomoseg.errors import ModelFileError
from tomoseg.model_file import load_tensors, save_tensors, weights_of
from tomoseg.train import Training

_KIND = "tomoseg checkpoint"


def checkpoint_path(model: Path) -> Path:
    """Return where the checkpoint of a model file lies: beside it.

    Examples
    --------
    >>> checkpoint_path(Path("a.tomoseg")).name
    'a.tomoseg.checkpoint'
    """
    return model.with_name(model.name + ".checkpoint")


def save_checkpoint(path: Path, training: Training, *, fingerprint: str, seconds: float) -> None:
    """Write a training, whole or not at all.

    Parameters
    ----------
    path
        From `checkpoint_path`.
    training
        To be written.
    fingerprint
        Hash of the data and settings that it belongs to.
    seconds
        Time used so far.
    """
    tensors = _prefixed("network", weights_of(training.network.state_dict()))
    tensors |= _prefixed("averaged", weights_of(training.averaged.state_dict()))
    tensors |= _prefixed("best", training.best)
    for index, moments in training.optimiser.state_dict()["state"].items():
        tensors |= _prefixed(f"moments/{index}", weights_of(moments))
    record = {
        "kind": _KIND,
        "fingerprint": fingerprint,
        "seconds": seconds,
        "step": training.step,
        "best_scores": dict(training.best_scores),
        "curve": training.curve,
        "validations": training.validations,
    }
    save_tensors(path, tensors, record)


def load_checkpoint(path: Path, training: Training, *, fingerprint: str) -> float:
    """Bring `training` to where the checkpoint left it; return the seconds used by then.

    Raises
    ------
    ModelFileError
        If there is none, or it belongs to other data or settings.
    """
    if not path.exists():
        raise ModelFileError(f"{path}: there is no checkpoint to go on from; train without --resume")
    tensors, record = load_tensors(path, what="checkpoint")
    if record.get("kind") != _KIND or record.get("fingerprint") != fingerprint:
        raise ModelFileError(
            f"{path}: belongs to other data or settings, or a version with other defaults; give the same as before, "
            "or train without --resume"
        )
    _load_weights(training, tensors)
    training.best = _part("best", tensors)
    training.best_scores = dict(record["best_scores"])
    training.step = int(record["step"])
    training.curve, training.validations = list(record["curve"]), list(record["validations"])
    return float(record["seconds"])


def _load_weights(training: Training, tensors: dict[str, np.ndarray]) -> None:
    training.network.load_state_dict(_as_torch(_part("network", tensors)))
    training.averaged.load_state_dict(_as_torch(_part("averaged", tensors)))
    state: dict[int, dict[str, torch.Tensor]] = {}
    for name, value in _as_torch(_part("moments", tensors)).items():
        index, moment = name.split("/", 1)
        state.setdefault(int(index), {})[moment] = value
    training.optimiser.load_state_dict({**training.optimiser.state_dict(), "state": state})


def _prefixed(prefix: str, tensors: Any) -> dict[str, np.ndarray]:
    return {f"{prefix}/{name}": value for name, value in tensors.items()}


def _part(prefix: str, tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    start = f"{prefix}/"
    return {name.removeprefix(start): value for name, value in tensors.items() if name.startswith(start)}


def _as_torch(tensors: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(value.copy()) for name, value in tensors.items()}
