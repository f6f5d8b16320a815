"""Whether a fast engine may stand in for the exact one: labels, accuracy and interfaces on tiles it has not seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8

from tomoseg.engine.base import Engine, Stack

AGREE_CLEAN = 0.999
"""Least share of labels that are the exact engine's, on clean tiles."""

AGREE_NOISY = 0.995
"""The same at the top of the trained noise."""

ACCURACY_LOST = 0.001
INTERFACE_CHANGED = 0.005

Index = UInt8[np.ndarray, "y x"]


@dataclass(frozen=True)
class Trial:
    """A tile to try engines on.

    Attributes
    ----------
    clean, noisy
        Network input (channel, y, x), without added noise, and with the most that was trained.
    label
        Class indices (y, x), 255 where nobody labelled.
    """

    clean: Stack
    noisy: Stack
    label: Index


@dataclass(frozen=True)
class Verdict:
    """What a trial found.

    Attributes
    ----------
    agree_clean, agree_noisy
        Share of labels that are the exact engine's.
    accuracy_lost
        Accuracy of the exact engine less that of the fast one, the worse of clean and noisy.
    interface_changed
        Largest relative change of the length of the interfaces, clean and noisy.
    """

    agree_clean: float
    agree_noisy: float
    accuracy_lost: float
    interface_changed: float

    @property
    def passes(self) -> bool:
        """Whether the fast engine may be used."""
        return (
            self.agree_clean >= AGREE_CLEAN
            and self.agree_noisy >= AGREE_NOISY
            and self.accuracy_lost <= ACCURACY_LOST
            and self.interface_changed <= INTERFACE_CHANGED
        )

    def __str__(self) -> str:
        return (
            f"labels agree to {100 * self.agree_clean:.2f} % clean and {100 * self.agree_noisy:.2f} % noisy, "
            f"{self.accuracy_lost:.4f} of accuracy lost, interfaces changed by {100 * self.interface_changed:.2f} %"
        )


def judge(fast: Engine, exact: Engine, trials: Sequence[Trial]) -> Verdict:
    """Compare two engines on tiles."""
    agree: list[float] = []
    lost: list[float] = []
    changed: list[float] = []
    for noisy in (False, True):
        pairs = [_labels(fast, exact, trial.noisy if noisy else trial.clean) for trial in trials]
        known = [trial.label != 255 for trial in trials]
        agree.append(_share([quick == true for quick, true in pairs]))
        right = [
            _share(
                [(pair[side] == trial.label)[there] for pair, trial, there in zip(pairs, trials, known, strict=True)]
            )
            for side in (0, 1)
        ]
        lost.append(right[1] - right[0])
        lengths = [sum(interface_length(pair[side]) for pair in pairs) for side in (0, 1)]
        changed.append(abs(lengths[0] - lengths[1]) / max(1, lengths[1]))
    return Verdict(agree[0], agree[1], max(lost), max(changed))


def _labels(fast: Engine, exact: Engine, stack: Stack) -> tuple[Index, Index]:
    quick, true = (engine.run(stack).argmax(axis=0).astype(np.uint8) for engine in (fast, exact))
    return quick, true


def _share(parts: Sequence[np.ndarray]) -> float:
    total = sum(part.size for part in parts)
    return float(sum(int(np.count_nonzero(part)) for part in parts) / max(1, total))


def interface_length(labels: Index) -> int:
    """Return the number of neighbouring pixels, along y and x, whose labels differ.

    Examples
    --------
    >>> interface_length(np.array([[0, 0, 1], [0, 1, 1]], np.uint8))
    3
    """
    along_y, along_x = (np.count_nonzero(np.diff(labels.astype(np.int16), axis=axis)) for axis in (0, 1))
    return int(along_y + along_x)
