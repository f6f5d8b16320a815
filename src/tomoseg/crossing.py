"""Slices of one tomogram along several axes: they cross, and where they do, what tests one must not train another."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from tomoseg.slices import Scan, labelled_numbers
from tomoseg.splits import Block, Role, Split
from tomoseg.volume import Region
from tomoseg.volume.turned import Axis, turn_back_region, turn_region


def crossing(scans: Sequence[Scan]) -> bool:
    """Return whether two of the scans are slices of the same tomogram, along other axes or in other labels."""
    return len({scan.source for scan in scans}) < len(scans)


def smallest_crossing_gap(*, context: int, reach: int) -> int:
    """Return how far a pixel must lie from a slice that it crosses, for the network to see no pixel for both.

    The network looks `reach` pixels far within a slice, and `context` slices to either side of the other.

    Examples
    --------
    >>> smallest_crossing_gap(context=2, reach=22)
    25
    """
    return reach + context + 1


def held_apart(
    scans: tuple[Scan, ...], splits: Sequence[Split], *, gap: int, reach: int, roles: Collection[Role]
) -> tuple[Scan, ...]:
    """Withhold from each scan the labels that lie in or near what tests or validates in another of the same source.

    Parameters
    ----------
    scans, splits
        The slices of each axis, and their roles.
    gap
        Pixels nearer than this to a slice with one of the roles are withheld, the slice itself also without a gap.
    reach
        Pixels around a validation block that are withheld with it.
    roles
        "test", "validation" or both; a block is validation.

    Returns
    -------
    tuple
        The scans, those that nothing is withheld from as they were.
    """
    found = []
    for i, scan in enumerate(scans):
        boxes = [
            turn_region(turn_back_region(box, other.axis), scan.axis)
            for j, (other, split) in enumerate(zip(scans, splits, strict=True))
            if j != i and other.source == scan.source
            for box in _boxes(other, split, gap=gap, reach=reach, roles=roles)
        ]
        found.append(replace(scan, withheld=(*scan.withheld, *boxes)) if boxes else scan)
    return tuple(found)


def _boxes(scan: Scan, split: Split, *, gap: int, reach: int, roles: Collection[Role]) -> list[Region]:
    """Return boxes (slice, y, x) around what has these roles, in the scan's own axes."""
    at = labelled_numbers(scan)
    _, height, width = scan.volume.shape
    whole = Block(0, height, 0, width)
    parts = [(number, whole) for role in ("test", "validation") if role in roles for number in split.of(role)]
    if split.block is not None and "validation" in roles:
        parts += [(number, split.block.grown(reach)) for number in split.of("train")]
    return [_thick(at[number], part, gap) for number, part in parts]


def _thick(z: int, part: Block, gap: int) -> Region:
    margin = max(gap, 1) - 1
    return Region(max(0, z - margin), z + margin + 1, part.y0, part.y1, part.x0, part.x1)


def away_from(scan: Scan, planes: Mapping[Axis, Collection[int]], *, gap: int, excepted: Collection[int] = ()) -> Scan:
    """Withhold, in slices along z, the rows nearer than `gap` to planes across y, and the columns to planes across x.

    `excepted` slices (counted from 0) are left as they are.
    """
    depth, height, width = scan.volume.shape
    boxes = []
    for axis, numbers in planes.items():
        across = Block(0, depth, 0, width if axis == "y" else height)
        for number in sorted(numbers):
            box = turn_back_region(_thick(number, across, gap), axis)
            boxes += [replace(box, z0=pair.z, z1=pair.z + 1) for pair in scan.pairs if pair.z not in set(excepted)]
    return replace(scan, withheld=(*scan.withheld, *boxes)) if boxes else scan
