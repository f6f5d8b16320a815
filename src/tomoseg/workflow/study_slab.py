"""The slab of neighbouring test slices in which a study compares how phases conduct, as labelled and as segmented."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import UInt8

from tomoseg.evaluate import TestSlice, has_context
from tomoseg.quantify.grid import Edges
from tomoseg.quantify.slab_transport import Factors, slab_factors, slab_parts
from tomoseg.quantify.slabs import THINNEST, slabs_of
from tomoseg.slices import Scan, labelled_numbers
from tomoseg.study import tortuosity_errors, tortuosity_names
from tomoseg.volume import Region

Index = UInt8[np.ndarray, "y x"]
Find = Callable[[TestSlice], Index]
"""Segments a test slice."""

NOT_WHOLE = "no part of the slab of test slices is wholly labelled"


@dataclass(frozen=True)
class Slab:
    """Neighbouring test slices, the parts of them in which conduction is solved, and what the labels have in these.

    Attributes
    ----------
    slices
        By rising z.
    parts
        Wholly labelled; none where there is no such part.
    labelled
        Tortuosity factors as labelled, by phase, along y and x.
    class_names
        Of the phases.
    voxel_size
        Edges of a voxel along (z, y, x): in micrometres, or all 1 where the scan does not say.
    """

    slices: tuple[TestSlice, ...]
    parts: tuple[Region, ...]
    labelled: Factors
    class_names: tuple[str, ...]
    voxel_size: Edges

    def errors(self, find: Find) -> tuple[dict[str, float | None], dict[str, str]]:
        """Return the error of each tortuosity factor in per cent, or None; and by name why there is none."""
        if not self.parts:
            names = tortuosity_names(self.class_names)
            return dict.fromkeys(names), dict.fromkeys(names, NOT_WHOLE)
        found = np.stack([find(one) for one in self.slices])
        predicted = slab_factors(found, self.parts, n_classes=len(self.class_names), voxel_size=self.voxel_size)
        return tortuosity_errors(self.labelled, predicted, self.class_names)


def slab_slices(scan: Scan, numbers: Sequence[int], *, context: int) -> list[TestSlice]:
    """Return the thickest slab of neighbouring test slices, the first of equals; none where all are too thin.

    Slices whose context is not whole are left out, as in slabs of `evaluate`: the same for all methods, whatever their
    own context is.

    Parameters
    ----------
    scan
        That the slices are of.
    numbers
        Of the test slices.
    context
        Slices on either side that the network with the most context sees.
    """
    at = labelled_numbers(scan)
    whole = [number for number in sorted(numbers) if has_context(at[number], numbers=scan.numbers, context=context)]
    slabs = [whole[part] for part in slabs_of(whole)] if whole else []
    thickest = max(slabs, key=len, default=[])
    return [TestSlice(0, at[number]) for number in thickest] if len(thickest) >= THINNEST else []


def open_slab(scan: Scan, numbers: Sequence[int], *, context: int) -> Slab | None:
    """Return the slab of `slab_slices`, solved as labelled; None where there is none.

    The labels are solved once in a process, and not again for its next cell.
    """
    slices = slab_slices(scan, numbers, context=context)
    if not slices:
        return None
    labels = np.stack([scan.read_label(one.z) for one in slices])
    names, voxel_size = tuple(item.name for item in scan.classes), scan.volume.voxel_size_um or (1.0, 1.0, 1.0)
    parts = slab_parts(labels, voxel_size=voxel_size)
    depth, height, width = labels.shape
    shape = depth, height, width
    labelled = _labelled(labels.tobytes(), shape, parts=parts, n_classes=len(names), voxel_size=voxel_size)
    return Slab(tuple(slices), parts, labelled, names, voxel_size)


@lru_cache(maxsize=2)  # a study has one slab; with another split a second one
def _labelled(
    labels: bytes, shape: tuple[int, int, int], *, parts: tuple[Region, ...], n_classes: int, voxel_size: Edges
) -> Factors:
    return slab_factors(
        np.frombuffer(labels, np.uint8).reshape(shape), parts, n_classes=n_classes, voxel_size=voxel_size
    )
