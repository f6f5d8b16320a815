"""Which labelled slices a model may be tested on: none that it has seen, none too near to one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tomoseg.model_file import ModelRecord

SEEN = ("train", "validation")


@dataclass(frozen=True)
class HeldOut:
    """The slices of one scan that are left for a test.

    Attributes
    ----------
    kept
        Numbers along z of the labelled slices that test.
    left_out
        Number -> why it does not.
    training
        Numbers, in this scan, of the slices that trained the model, as far as they were recognised.
    """

    kept: tuple[int, ...]
    left_out: Mapping[int, str]
    training: tuple[int, ...]


def hold_out(labelled: Sequence[int], contents: Mapping[int, str], *, source: str, record: ModelRecord) -> HeldOut:
    """Leave out what the model was trained or validated on and what lies nearer to it than the model's gap.

    A slice is known by its content. A scan is known by its source, or by any slice in it that is known.

    Parameters
    ----------
    labelled
        Numbers along z of the labelled slices.
    contents
        Number -> content hash, of the labelled slices and of all slices nearer to one than the gap.
    source
        What the scan is known by.
    record
        Of the model.
    """
    seen = [item for item in record.slices if item.role in SEEN]
    roles = {item.content: item.role for item in seen}
    here = {number for number, content in contents.items() if content in roles}
    here |= seen_numbers(contents, source, record)
    left_out: dict[int, str] = {}
    for number in labelled:
        near = min((abs(number - other) for other in here), default=record.gap)
        if contents[number] in roles:
            left_out[number] = "trained on" if roles[contents[number]] == "train" else "validated on"
        elif near < record.gap:
            left_out[number] = (
                f"{near} slices from one that the model was trained on, nearer than the gap of {record.gap}"
            )
    training = {n for n, content in contents.items() if roles.get(content) == "train"}
    return HeldOut(tuple(n for n in labelled if n not in left_out), left_out, tuple(sorted(training)))


def seen_numbers(contents: Mapping[int, str], source: str, record: ModelRecord) -> set[int]:
    """Return where the seen slices of the scans that are recognised lie in this one, also where they are not here.

    `contents` are those of some slices of this scan by their number, `source` is what it is known by.
    """
    found: set[int] = set()
    for scan, its in enumerate(record.scans):
        numbers = {item.content: item.number for item in record.slices if item.scan == scan}
        offsets = {number - numbers[content] for number, content in contents.items() if content in numbers}
        if its.source == source:
            offsets.add(0)
        seen = [item.number for item in record.slices if item.scan == scan and item.role in SEEN]
        # A content that occurs often (empty slices) gives many offsets and would leave out everything.
        found |= {number + offset for offset in offsets for number in seen} if len(offsets) <= 2 else set()
    return found


def numbers_to_hash(labelled: Sequence[int], there: Sequence[int], *, gap: int) -> list[int]:
    """Return the numbers of the slices whose content decides: the labelled ones and all nearer to one than `gap`.

    Examples
    --------
    >>> numbers_to_hash([10], range(0, 20, 2), gap=3)
    [8, 10, 12]
    """
    wanted = set(labelled)
    for number in labelled:
        wanted.update(range(number - gap + 1, number + gap))
    return sorted(wanted & set(there))
