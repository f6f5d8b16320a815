"""Which labelled pixels train, which choose the best weights, which are left for the test: without a leak."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from jaxtyping import Bool, UInt8

from tomoseg.errors import SplitError
from tomoseg.labels import UNLABELLED, class_shares

Index = UInt8[np.ndarray, "y x"]
Role = Literal["train", "validation", "test", "gap"]
Kind = Literal["blocks", "slices", "random"]

FEW_SLICES = 8
"""With fewer labelled slices than this, validation is an in-plane block of each."""

VALIDATION_SHARE = 0.1
SMALLEST_BLOCK = 128
_BLOCK_SHARE = 0.25
_MOST_LOST_TO_GAP = 0.4
_PLACES = 5


@dataclass(frozen=True)
class Block:
    """A rectangle of a slice, `y0 <= y < y1`, `x0 <= x < x1`."""

    y0: int
    y1: int
    x0: int
    x1: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """The rectangle as an index into a slice."""
        return slice(self.y0, self.y1), slice(self.x0, self.x1)

    def grown(self, margin: int) -> Block:
        """Return the rectangle with `margin` more pixels on each side, but not below 0."""
        return Block(max(0, self.y0 - margin), self.y1 + margin, max(0, self.x0 - margin), self.x1 + margin)


@dataclass(frozen=True)
class Split:
    """The role of each labelled slice of one scan.

    Attributes
    ----------
    roles
        Slice number along z -> role.
    block
        With too few slices to spare one: the rectangle of every training slice that validates instead of training.
    notes
        What the user should know about how it was chosen.
    """

    roles: Mapping[int, Role]
    block: Block | None = None
    notes: tuple[str, ...] = field(default=())

    def of(self, role: Role) -> tuple[int, ...]:
        """Return the slice numbers with this role, rising."""
        return tuple(sorted(number for number, its in self.roles.items() if its == role))


def smallest_gap(*, context: int, mean_chord_px: float) -> int:
    """Return how many slices must lie apart for one to test what the other trained.

    The larger of 2 x context + 1, within which the network sees the same slices, and half the labels' mean chord
    length, within which slices look alike.

    Examples
    --------
    >>> smallest_gap(context=2, mean_chord_px=38.0)
    19
    """
    return max(2 * context + 1, math.ceil(mean_chord_px / 2))


def split_slices(
    numbers: Sequence[int],
    *,
    kind: Kind,
    gap: int,
    test: Collection[int] = (),
    rng: np.random.Generator,
) -> Split:
    """Give each labelled slice of a scan its role; slices nearer than `gap` to a test or validation slice get "gap".

    Parameters
    ----------
    numbers
        Positions of the labelled slices along z.
    kind
        "blocks": validation is a run of neighbouring slices, a tenth of them, at the end away from the test.
        "slices": single slices, evenly spaced. "random": slices drawn at random without a gap, which leaks.
    gap
        Slices this many numbers apart or more do not know of each other.
    test
        Numbers of the labelled slices that are kept for the test.
    rng
        Draws the random split.

    Raises
    ------
    SplitError
        If no slice is left for training.

    Examples
    --------
    >>> split = split_slices(range(6), kind="blocks", gap=2, test=[5], rng=np.random.default_rng(0))
    >>> split.of("train"), split.of("gap"), split.of("test")
    ((0, 1, 2, 3), (4,), (5,))
    """
    tested = [n for n in numbers if n in set(test)]
    left = [n for n in numbers if n not in tested]
    free = left if kind == "random" else [n for n in left if _apart(n, tested, gap)]
    if not free:
        raise SplitError(
            f"no labelled slice is left for training: {len(tested)} are for the test, {len(left)} lie nearer to them "
            f"than the gap of {gap} slices; label slices further away, or choose a smaller --gap"
        )
    validation, notes = _choose_validation(free, kind=kind, gap=gap, tested=tested, rng=rng)
    apart = 0 if kind == "random" else gap
    return Split(_name_roles(numbers, tested=tested, validation=validation, free=free, gap=apart), None, notes)


def _apart(number: int, others: Sequence[int], gap: int) -> bool:
    return all(abs(number - other) >= gap for other in others)


def _choose_validation(
    free: Sequence[int], *, kind: Kind, gap: int, tested: Sequence[int], rng: np.random.Generator
) -> tuple[list[int], tuple[str, ...]]:
    if len(free) < FEW_SLICES:
        return [], ()
    wanted = max(1, round(VALIDATION_SHARE * len(free)))
    if kind == "random":
        chosen = sorted(int(n) for n in rng.choice(free, wanted, replace=False))
        return chosen, ("a random split by slice leaks: neighbouring slices look alike, scores come out too high",)
    chosen = _evenly(free, wanted) if kind == "slices" else _at_end(free, wanted, tested)
    lost = sum(not _apart(n, chosen, gap) for n in free) - len(chosen)
    if lost > _MOST_LOST_TO_GAP * len(free):
        return [], (
            f"validating on whole slices would cost {lost} of {len(free)} training slices to the gap of {gap}; "
            "a block of each slice validates instead",
        )
    return chosen, ()


def _evenly(free: Sequence[int], wanted: int) -> list[int]:
    return [free[int((i + 0.5) * len(free) / wanted)] for i in range(wanted)]


def _at_end(free: Sequence[int], wanted: int, tested: Sequence[int]) -> list[int]:
    test_is_below = bool(tested) and np.mean(tested) < np.mean(free)
    return list(free[-wanted:] if test_is_below else free[:wanted])


def _name_roles(
    numbers: Sequence[int], *, tested: Sequence[int], validation: Sequence[int], free: Sequence[int], gap: int
) -> dict[int, Role]:
    roles: dict[int, Role] = {}
    for number in numbers:
        if number in tested:
            roles[number] = "test"
        elif number in validation:
            roles[number] = "validation"
        else:
            roles[number] = "train" if number in free and _apart(number, validation, gap) else "gap"
    return roles


def choose_block(labels: Sequence[Index], *, n_classes: int, halo: int) -> Block | None:
    """Return the rectangle, the same for all slices of a scan, that validates best at the least cost.

    The one whose class shares are most like the whole's and that takes the least from training, its halo included.

    A quarter of the edge, at least 128 pixels; None where slices are too small to spare it (less than twice that).

    Parameters
    ----------
    labels
        Labels of the training slices.
    n_classes
        Number of classes.
    halo
        Pixels around it that are lost to training as well.
    """
    height, width = labels[0].shape
    size = [max(SMALLEST_BLOCK, int(_BLOCK_SHARE * edge)) for edge in (height, width)]
    if 2 * size[0] > height or 2 * size[1] > width:
        return None
    whole = np.mean([class_shares(label, n_classes) for label in labels], axis=0)
    places = [
        Block(int(y), int(y) + size[0], int(x), int(x) + size[1])
        for y in np.linspace(0, height - size[0], _PLACES)
        for x in np.linspace(0, width - size[1], _PLACES)
    ]
    return min(places, key=lambda block: _unlikeness(labels, block, whole, n_classes) + _cost(labels[0], block, halo))


def _unlikeness(labels: Sequence[Index], block: Block, whole: np.ndarray, n_classes: int) -> float:
    parts = [class_shares(label[block.slices], n_classes) for label in labels]
    # square roots, so that a rare class missing in the block weighs as much as a common one shifted
    return float(np.abs(np.sqrt(np.mean(parts, axis=0)) - np.sqrt(whole)).sum())


def _cost(label: Index, block: Block, halo: int) -> float:
    return label[block.grown(halo).slices].size / label.size


def training_part(label: Index, block: Block | None, *, halo: int) -> Index:
    """Return the label with the validation block and a halo around it unlabelled."""
    if block is None:
        return label
    kept = label.copy()
    kept[block.grown(halo).slices] = UNLABELLED
    return kept


def validation_part(label: Index, block: Block | None) -> Index:
    """Return the label with all but the validation block unlabelled."""
    if block is None:
        return label
    inside: Bool[np.ndarray, "y x"] = np.zeros(label.shape, np.bool_)
    inside[block.slices] = True
    return np.where(inside, label, np.uint8(UNLABELLED))
