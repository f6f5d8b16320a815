"""Chord lengths: how long straight lines along an axis stay in one phase.

A chord is a run of voxels of one class along an axis. It is complete when both its ends are interfaces to another
phase; the volume's border and the mask's edge cut it, and its true length is then unknown.

Runs are counted in pencils, blocks that are whole along the axis, so that no run is cut by a block; what pencils
give is added up.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Bool, Float64, Int64, UInt8

from tomoseg.labels import UNLABELLED
from tomoseg.quantify.grid import Labels, Shape
from tomoseg.volume.base import Region

PENCIL_VOXELS = 8_000_000
"""Of a pencil, unless a single line is longer."""


@dataclass(frozen=True)
class Chords:
    """Chords of every class along one axis; those of pencils are added up.

    Attributes
    ----------
    complete
        Number of complete chords by length in voxels, int64 (class, length); length 0 is never there.
    cut_runs
        Number of runs that are cut at one end or both, int64 (class,).
    cut_ends
        Number of their ends that are cut, int64 (class,).
    cut_voxels
        Their voxels, int64 (class,).
    """

    complete: Int64[np.ndarray, "class length"]
    cut_runs: Int64[np.ndarray, " class"]
    cut_ends: Int64[np.ndarray, " class"]
    cut_voxels: Int64[np.ndarray, " class"]

    def __add__(self, other: Chords) -> Chords:
        longest = max(self.complete.shape[1], other.complete.shape[1])
        return Chords(
            _widened(self.complete, longest) + _widened(other.complete, longest),
            self.cut_runs + other.cut_runs,
            self.cut_ends + other.cut_ends,
            self.cut_voxels + other.cut_voxels,
        )


def _widened(counts: Int64[np.ndarray, "class length"], longest: int) -> Int64[np.ndarray, "class longest"]:
    return np.pad(counts, ((0, 0), (0, longest - counts.shape[1])))


def pencils(shape: Shape, *, axis: int, most_voxels: int) -> list[Region]:
    """Cut a volume into blocks that are whole along `axis` (0 z, 1 y, 2 x).

    A single line that is longer than `most_voxels` is a block nevertheless. Lines along x stay whole in memory as
    long as they can, because that is how volumes are stored.

    Examples
    --------
    >>> [pencil.shape for pencil in pencils((4, 6, 8), axis=0, most_voxels=70)]
    [(4, 2, 8), (4, 2, 8), (4, 2, 8)]
    """
    outer, inner = (other for other in range(3) if other != axis)
    line, row = shape[axis], shape[axis] * shape[inner]
    n_inner = 1 if row <= most_voxels else -(-shape[inner] // max(1, most_voxels // line))
    thickness = max(1, most_voxels // row)
    n_outer = -(-shape[outer] // thickness)
    counts = [1, 1, 1]
    counts[outer], counts[inner] = n_outer, n_inner
    z, y, x = ([size * i // n for i in range(n + 1)] for size, n in zip(shape, counts, strict=True))
    return [
        Region(z0, z1, y0, y1, x0, x1) for z0, z1 in pairwise(z) for y0, y1 in pairwise(y) for x0, x1 in pairwise(x)
    ]


def count_chords(labels: Labels, *, axis: int, n_classes: int) -> Chords:
    """Count the runs of each class along an axis of a pencil.

    Parameters
    ----------
    labels
        Class indices, uint8 (z, y, x), whole along `axis`; `UNLABELLED` outside the mask.
    axis
        0 z, 1 y, 2 x.
    n_classes
        Classes of the volume.

    Raises
    ------
    ValueError
        If a class index is neither below `n_classes` nor `UNLABELLED`.

    Examples
    --------
    >>> chords = count_chords(np.array([[[0, 1, 1, 0, 255]]], np.uint8), axis=2, n_classes=2)
    >>> chords.complete.tolist(), chords.cut_runs.tolist(), chords.cut_ends.tolist()
    ([[0, 0, 0], [0, 0, 1]], [2, 0], [2, 0])
    """
    n = labels.shape[axis]
    lines = np.ascontiguousarray(np.moveaxis(labels, axis, -1)).ravel()
    starts = _starts(lines, n)
    ends = np.append(starts[1:], len(lines))
    classes = lines[starts]
    masked = classes == UNLABELLED
    cuts = np.add(_cut_before(starts, masked, n), _cut_after(ends, masked, n), dtype=np.uint8)
    return _tally(classes[~masked], (ends - starts)[~masked], cuts[~masked], n_classes)


def _starts(lines: UInt8[np.ndarray, " voxel"], n: int) -> Int64[np.ndarray, " run"]:
    """Return where runs begin in lines of `n` voxels, one after the other."""
    changes = np.empty(len(lines), bool)
    np.not_equal(lines[1:], lines[:-1], out=changes[1:])
    changes[::n] = True
    return np.flatnonzero(changes)


def _cut_before(
    starts: Int64[np.ndarray, " run"], masked: Bool[np.ndarray, " run"], n: int
) -> Bool[np.ndarray, " run"]:
    return np.asarray((starts % n == 0) | np.append(False, masked[:-1]))


def _cut_after(ends: Int64[np.ndarray, " run"], masked: Bool[np.ndarray, " run"], n: int) -> Bool[np.ndarray, " run"]:
    return np.asarray((ends % n == 0) | np.append(masked[1:], False))


def _tally(
    classes: UInt8[np.ndarray, " run"],
    lengths: Int64[np.ndarray, " run"],
    cuts: UInt8[np.ndarray, " run"],
    n_classes: int,
) -> Chords:
    if classes.max(initial=0) >= n_classes:
        raise ValueError(f"the labels hold class {classes.max()}; there are {n_classes} classes, from 0")
    whole = cuts == 0
    width = int(lengths[whole].max(initial=0)) + 1
    codes = classes[whole].astype(np.int64) * width + lengths[whole]
    complete = np.bincount(codes, minlength=n_classes * width).reshape(n_classes, width)
    cut, ends, voxels = (
        np.bincount(classes[~whole], weights=weights, minlength=n_classes)
        for weights in (None, cuts[~whole], lengths[~whole])
    )
    return Chords(*(np.asarray(counts, np.int64) for counts in (complete, cut, ends, voxels)))


def mean_chord(chords: Chords, *, edge_um: float) -> Float64[np.ndarray, " class"]:
    """Return the mean chord length of each class from its voxels and interfaces, in micrometres, float64 (class,).

    Of all sides that the phase's voxels turn along the axis to a voxel that is visible, a share p is interface.
    A line leaves the phase with probability p a step, so its mean stretch in it is 1 / p voxels::

        (2 * voxels - cut ends) / (2 * runs - cut ends)

    Without borders that is two voxels per interface crossing. Long chords are cut more often than short ones;
    this counts what is seen of them, and is not biased by it, as `mean_complete_chord` is
    (S. Torquato, Random heterogeneous materials, 2002, sec. 2.6, DOI 10.1007/978-1-4757-6355-3).

    Parameters
    ----------
    chords
        Along one axis.
    edge_um
        Edge length of a voxel along that axis in micrometres.

    Returns
    -------
        NaN for a class that meets no interface: its chords are longer than can be seen.

    Examples
    --------
    >>> mean_chord(count_chords(np.array([[[0, 1, 1, 0, 0]]], np.uint8), axis=2, n_classes=2), edge_um=0.5)
    array([1., 1.])
    """
    lengths = np.arange(chords.complete.shape[1])
    sides = 2 * (chords.complete @ lengths + chords.cut_voxels) - chords.cut_ends
    interfaces = 2 * (chords.complete.sum(axis=1) + chords.cut_runs) - chords.cut_ends
    return edge_um * _ratio(sides, interfaces)


def mean_complete_chord(chords: Chords, *, edge_um: float) -> Float64[np.ndarray, " class"]:
    """Return the mean length of each class's complete chords in micrometres, float64 (class,).

    Too short in a volume that is not much longer than the chords: long ones are cut, and left out, more often.

    Parameters
    ----------
    chords
        Along one axis.
    edge_um
        Edge length of a voxel along that axis in micrometres.

    Returns
    -------
        NaN for a class without a complete chord.

    Examples
    --------
    >>> mean_complete_chord(count_chords(np.array([[[0, 1, 1, 0, 0]]], np.uint8), axis=2, n_classes=2), edge_um=0.5)
    array([nan,  1.])
    """
    lengths = np.arange(chords.complete.shape[1])
    return edge_um * _ratio(chords.complete @ lengths, chords.complete.sum(axis=1))


def _ratio(above: Int64[np.ndarray, " class"], below: Int64[np.ndarray, " class"]) -> Float64[np.ndarray, " class"]:
    return np.asarray(np.divide(above, below, out=np.full(len(above), np.nan), where=below > 0))
