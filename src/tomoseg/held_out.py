"""Which labelled slices a model may be tested on: none that it has seen, none too near to one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tomoseg.model_file import ModelRecord
from tomoseg.volume.turned import Axis

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
    planes
        Planes of this scan across y and x that the model was trained or validated on: axis -> numbers.
    reserved
        Numbers of the slices that were kept for a test while these planes trained, and so lie apart from what they
        trained.
    """

    kept: tuple[int, ...]
    left_out: Mapping[int, str]
    training: tuple[int, ...]
    planes: Mapping[Axis, tuple[int, ...]] = field(default_factory=dict)
    reserved: tuple[int, ...] = ()


def hold_out(
    labelled: Sequence[int],
    contents: Mapping[int, str],
    *,
    source: str,
    record: ModelRecord,
    middle: str | None = None,
) -> HeldOut:
    """Leave out what the model was trained or validated on and what lies nearer to it than the model's gap.

    A slice is known by its content. A scan is known by its source, or by any slice in it that is known. Planes across y
    and x are not looked for by their content, but by their scan, also where its middle slice is the same.

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
    middle
        Content hash of the scan's middle slice; needed where the model was trained on planes across y or x.
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
    kept = tuple(n for n in labelled if n not in left_out)
    offsets = _offsets(contents, source, record)
    crossing = _crossing_scans(offsets, source, record, middle)
    return HeldOut(
        kept,
        left_out,
        tuple(sorted(training)),
        _planes(crossing, record),
        tuple(n for n in kept if _reserved(n, contents[n], crossing=crossing, offsets=offsets, record=record)),
    )


def _crossing_scans(offsets: Mapping[int, set[int]], source: str, record: ModelRecord, middle: str | None) -> list[int]:
    """Return which of the model's scans are this one along y or x."""
    names = {source} | {record.scans[scan].source for scan, found in offsets.items() if found}
    return [
        scan
        for scan, its in enumerate(record.scans)
        if its.axis != "z" and (its.source in names or (middle is not None and its.middle == middle))
    ]


def _planes(crossing: Sequence[int], record: ModelRecord) -> dict[Axis, tuple[int, ...]]:
    found: dict[Axis, set[int]] = {}
    for item in record.slices:
        if item.scan in crossing and item.role in SEEN:
            found.setdefault(record.scans[item.scan].axis, set()).add(item.number)
    return {axis: tuple(sorted(numbers)) for axis, numbers in found.items()}


def _reserved(
    number: int, content: str, *, crossing: Sequence[int], offsets: Mapping[int, set[int]], record: ModelRecord
) -> bool:
    """Return whether a slice was kept for the test of a scan that all the crossing planes are known to be of."""
    return any(
        item.role == "test" and item.content == content and number - item.number in offsets.get(item.scan, ())
        and all(record.scans[scan].source == record.scans[item.scan].source for scan in crossing)
        for item in record.slices
    )  # fmt: skip


def seen_numbers(contents: Mapping[int, str], source: str, record: ModelRecord) -> set[int]:
    """Return where the seen slices of the scans that are recognised lie in this one, also where they are not here.

    `contents` are those of some slices of this scan by their number, `source` is what it is known by.
    """
    found: set[int] = set()
    for scan, offsets in _offsets(contents, source, record).items():
        seen = [item.number for item in record.slices if item.scan == scan and item.role in SEEN]
        found |= {number + offset for offset in offsets for number in seen}
    return found


def _offsets(contents: Mapping[int, str], source: str, record: ModelRecord) -> dict[int, set[int]]:
    """Return by how much the slices along z of the model's scans are moved in this one; of others nothing."""
    found = {}
    for scan, its in enumerate(record.scans):
        if its.axis != "z":
            continue
        numbers = {item.content: item.number for item in record.slices if item.scan == scan}
        offsets = {number - numbers[content] for number, content in contents.items() if content in numbers}
        if its.source == source:
            offsets.add(0)
        # A content that occurs often (empty slices) gives many offsets and would leave out everything.
        found[scan] = offsets if len(offsets) <= 2 else set()
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
