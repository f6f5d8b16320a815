"""Some slices of a scan as a model sees them, for the verbs that judge a scan without labels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float32

from tomoseg.likeness import Expected, Finding, Light, Look, look, unlike, worst
from tomoseg.provenance import content_hash
from tomoseg.slices import context_slices, slice_numbers
from tomoseg.volume import read_slice
from tomoseg.workflow.console import Console
from tomoseg.workflow.reading import Source

if TYPE_CHECKING:
    from tomoseg.model_file import Model
    from tomoseg.predict import Runner

PATCH_EDGE = 256
"""Edge in pixels of the patch in which a slice is least certain."""


@dataclass(frozen=True)
class Seen:
    """A slice of a scan as a model sees it.

    Attributes
    ----------
    z, number, name
        The slice, its position along z, its name.
    look
        Its grey values, blur and confidence.
    findings
        In which ways it is unlike the training data.
    shares
        Mean probability of each class.
    patch
        Rows y0 to y1 and columns x0 to x1 of the `PATCH_EDGE` square in which the network is least certain.
    trained
        Whether the model was trained or validated on it.
    """

    z: int
    number: int
    name: str
    look: Look
    findings: tuple[Finding, ...]
    shares: tuple[float, ...]
    patch: tuple[int, int, int, int]
    trained: bool

    @property
    def light(self) -> Light:
        """The worst of the findings."""
        return worst([finding.light for finding in self.findings])

    @property
    def doubt(self) -> float:
        """One minus the mean confidence: the errors to expect of a network that is no surer than it should be."""
        return 1 - self.look.confidence


def see(
    source: Source, zs: Sequence[int], *, model: Model, runner: Runner, expected: Expected, console: Console
) -> Iterator[Seen]:
    """Segment slices `zs` of a scan one after the other, and compare each with the training data.

    Slices without a pixel that counts are left out.

    Raises
    ------
    VolumeError
        If a slice cannot be read.
    """
    names = source.volume.names
    numbers = slice_numbers(names)
    known = {item.content for item in model.record.slices if item.role in ("train", "validation")}
    _, rows, columns = source.region.slices
    for z in console.track(zs, "looking at slices", len(zs)):
        inside = np.zeros(source.volume.shape[1:], np.bool_)
        inside[rows, columns] = source.view.inside(z)[rows, columns]
        if not inside.any():
            continue
        around = context_slices(z, numbers=numbers, context=runner.network.context)
        read = {i: read_slice(source.volume, i) for i in set(around)}
        found = np.zeros((runner.network.classes, *inside.shape), np.float32)
        for core, probabilities in runner.parts([read[i] for i in around]):
            found[(slice(None), *core)] = probabilities
        confidence = found.max(axis=0)
        seen = look(read[z], window=runner.window, inside=inside, confidence=float(confidence[inside].mean()))
        yield Seen(
            z=z,
            number=numbers[z],
            name=names[z],
            look=seen,
            findings=tuple(unlike(seen, expected)),
            shares=tuple(float(plane[inside].mean()) for plane in found),
            patch=least_certain(np.where(inside, 1 - confidence, np.float32(0))),
            trained=content_hash(read[z]) in known,
        )


def least_certain(doubt: Float32[np.ndarray, "y x"], *, edge: int = PATCH_EDGE) -> tuple[int, int, int, int]:
    """Return rows y0 to y1 and columns x0 to x1 of the square of `edge` pixels in a slice that holds most doubt.

    Examples
    --------
    >>> least_certain(np.eye(1, 9, 8, dtype=np.float32).repeat(9, axis=0), edge=3)
    (0, 3, 6, 9)
    """
    height, width = (min(edge, size) for size in doubt.shape)
    total = np.pad(doubt.cumsum(axis=0, dtype=np.float64).cumsum(axis=1), ((1, 0), (1, 0)))
    sums = total[height:, width:] - total[:-height, width:] - total[height:, :-width] + total[:-height, :-width]
    y, x = np.unravel_index(int(sums.round(6).argmax()), sums.shape)
    return int(y), int(y) + height, int(x), int(x) + width


def label_next(seen: Sequence[Seen], *, most: int, apart: int) -> list[Seen]:
    """Return the slices most worth labelling: those of the worst light and the most doubt, `apart` numbers or more.

    Each is expected to hold more errors than any other but those near one that is chosen or labelled, which look alike.
    """
    chosen: list[Seen] = []
    rank = {"red": 0, "amber": 1, "green": 2}
    taken = [one.number for one in seen if one.trained]
    for one in sorted(seen, key=lambda one: (rank[one.light], -one.doubt)):
        if len(chosen) < most and all(abs(one.number - number) >= apart for number in taken):
            chosen.append(one)
            taken.append(one.number)
    return chosen


def spread(first: int, stop: int, most: int) -> list[int]:
    """Return at most `most` slices, the middles of equal parts of `first` to `stop`.

    Examples
    --------
    >>> spread(0, 100, 4), spread(3, 5, 4)
    ([12, 37, 62, 87], [3, 4])
    """
    count = min(most, stop - first)
    return [first + int((i + 0.5) * (stop - first) / count) for i in range(count)]
