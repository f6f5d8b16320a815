"""Phases split into particles: a watershed on the distance to other phases, the same however a volume is cut.

From each voxel one goes to the neighbour towards which the distance rises most steeply, and on to a local maximum: all
voxels that lead to the same one are a basin. Two basins meet at a saddle, the highest place at which one can pass from
one to the other by voxel faces. A maximum counts where it stands higher above its saddle to any higher maximum than h::

    h = max(SHARE * its distance, one voxel's longest edge)

so a neck splits a phase where the ball that fits it is at least a tenth smaller than the ball in the smaller of the two
bodies; one voxel is what digital surfaces are rough by. All other basins join one that counts, over the highest saddles
first. Splitting particles at necks by the ratio of the distances there is due to B. Münch, P. Gasser, L. Holzer,
R. Flatt, 2006, DOI 10.1111/j.1551-2916.2006.01121.x; that watersheds are steepest paths and spanning forests of highest
saddles to J. Cousty, G. Bertrand, L. Najman, M. Couprie, 2009, DOI 10.1109/TPAMI.2008.173.

Basins are named after their highest voxel, and of equal saddles the one at the first voxel is higher. So which basins
join depends on the volume alone. A block gives its basins, those that are wholly inside joined as far as they cannot do
otherwise, and a spanning forest of saddles; what blocks give is put together by `join`. Distances count up to
`ascent.MOST_DISTANCE`: two bodies whose neck is wider than twice that stay one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64, UInt8
from scipy.sparse import csr_array
from scipy.sparse.csgraph import minimum_spanning_tree

from tomoseg.quantify.ascent import Ascent, ascend, ends, shifted, voxel_numbers
from tomoseg.quantify.grid import Edges, Read, Shape, relative, within
from tomoseg.volume.base import Region

SHARE = 0.1

FIRST_GUARD = 24.0


@dataclass(frozen=True)
class Basins:
    """Basins of a block, or particles of a volume.

    Attributes
    ----------
    ids
        Number in the volume, x fastest, of the voxel that each is named after, int64 (basin,).
    classes
        Class of each.
    voxels
        Voxels of each.
    low, high
        First voxel along (z, y, x), and the one after the last, int64 (basin, axis).
    peaks
        Largest distance to another phase in a voxel's shortest edges, float64 (basin,).
    cut
        Whether it shares a face with a masked voxel.
    """

    ids: Int64[np.ndarray, " basin"]
    classes: UInt8[np.ndarray, " basin"]
    voxels: Int64[np.ndarray, " basin"]
    low: Int64[np.ndarray, "basin axis"]
    high: Int64[np.ndarray, "basin axis"]
    peaks: Float64[np.ndarray, " basin"]
    cut: Bool[np.ndarray, " basin"]

    def chosen(self, which: Bool[np.ndarray, " basin"] | Int64[np.ndarray, " chosen"]) -> Basins:
        """Return those of them that are chosen."""
        parts = (self.ids, self.classes, self.voxels, self.low, self.high, self.peaks, self.cut)
        return Basins(*(np.asarray(part[which]) for part in parts))

    def inside(self, shape: Shape) -> Bool[np.ndarray, " basin"]:
        """Return which lie wholly inside a volume: neither its border nor the mask cuts them."""
        free = (self.low > 0).all(axis=1) & (self.high < np.array(shape)).all(axis=1)
        return np.asarray(free & ~self.cut)

    def together(self, into: Int64[np.ndarray, " basin"]) -> Basins:
        """Return what becomes of basins that join, by the place of the one that each joins; others are left over."""
        n = len(self.ids)
        voxels, cut = np.zeros(n, np.int64), np.zeros(n, bool)
        low, high, peaks = self.low.copy(), self.high.copy(), self.peaks.copy()
        np.add.at(voxels, into, self.voxels)
        np.logical_or.at(cut, into, self.cut)
        np.minimum.at(low, into, self.low)
        np.maximum.at(high, into, self.high)
        np.maximum.at(peaks, into, self.peaks)
        whole = Basins(self.ids, self.classes, voxels, low, high, peaks, cut)
        return whole.chosen(np.asarray(into == np.arange(n)))


@dataclass(frozen=True)
class Saddles:
    """Where basins meet, the highest first.

    Attributes
    ----------
    pairs
        The two basins: their ids, or places in a list, int64 (saddle, 2).
    heights
        Distance to another phase there, in a voxel's shortest edges, float32 (saddle,).
    places
        Three times the lower voxel's number in the volume, and the axis to the other one, int64 (saddle,).
    """

    pairs: Int64[np.ndarray, "saddle 2"]
    heights: Float32[np.ndarray, " saddle"]
    places: Int64[np.ndarray, " saddle"]

    def chosen(self, which: Int64[np.ndarray, " chosen"] | Bool[np.ndarray, " saddle"]) -> Saddles:
        """Return those of them that are chosen."""
        return Saddles(self.pairs[which], self.heights[which], self.places[which])


@dataclass(frozen=True)
class BlockBasins:
    """The basins of a block, and the saddles between them and to the next blocks' basins, by ids."""

    basins: Basins
    saddles: Saddles


def find_basins(
    read: Read, region: Region, *, shape: Shape, voxel_size_um: Edges, guard: float = FIRST_GUARD
) -> BlockBasins:
    """Return the basins of a block, for `join`.

    Parameters
    ----------
    read
        Gives class indices, uint8 (z, y, x), `UNLABELLED` outside the mask.
    region
        The block.
    shape
        Voxels of the volume along (z, y, x).
    voxel_size_um
        Edge lengths of a voxel along (z, y, x) in micrometres.
    guard
        How far around the block is read at first, in a voxel's shortest edges, above 0; it grows as needed.
    """
    near = Region(region.z0, min(region.z1 + 1, shape[0]), region.y0, min(region.y1 + 1, shape[1]), region.x0,
                  min(region.x1 + 1, shape[2]))  # fmt: skip
    edges = relative(voxel_size_um)
    paths = ascend(read, near, edges=edges, shape=shape, guard=guard)
    basins, saddles = _describe(paths, region, near), _saddles(paths, region=region, near=near, shape=shape)
    into, kept = _settled(basins.peaks, saddles, _free(paths, region, shape), step=max(edges))
    left = saddles.chosen(kept)
    joined = basins.together(into)
    return BlockBasins(
        joined.chosen((joined.voxels > 0) | joined.cut),
        Saddles(paths.ids[into[left.pairs]].reshape(-1, 2), left.heights, left.places),
    )


def _describe(paths: Ascent, region: Region, near: Region) -> Basins:
    """Return what the block's own voxels tell of each basin."""
    n, own, local = len(paths.ids), within(region, near), paths.local
    at = np.nonzero(local[own] >= 0)
    its = local[own][at]
    classes, peaks = np.zeros(n, np.uint8), np.zeros(n)
    classes[local[local >= 0]] = paths.labels[local >= 0]
    np.maximum.at(peaks, its, paths.distances[own][at].astype(np.float64))
    low, high = np.full((n, 3), np.iinfo(np.int64).max), np.zeros((n, 3), np.int64)
    for axis, (along, start) in enumerate(zip(at, (region.z0, region.y0, region.x0), strict=True)):
        np.minimum.at(low[:, axis], its, along + start)
        np.maximum.at(high[:, axis], its, along + start + 1)
    cut = np.zeros(n, bool)
    for axis in range(3):
        along = np.moveaxis(local, axis, 0)
        for one, other in ((along[1:], along[:-1]), (along[:-1], along[1:])):
            cut[one[(one >= 0) & (other < 0)]] = True
    return Basins(paths.ids, classes, np.bincount(its, minlength=n).astype(np.int64), low, high, peaks, cut)


def _saddles(paths: Ascent, *, region: Region, near: Region, shape: Shape) -> Saddles:
    """Return a spanning forest of the highest saddles between a block's basins, and to those of the next blocks."""
    labels, local, distances = paths.labels, paths.local, paths.distances
    own, size = within(region, near), region.shape
    keys = []
    for axis in range(3):
        step = [int(axis == other) for other in range(3)]
        here, there = shifted(step, near.shape)
        met = np.zeros(near.shape, bool)
        met[here] = (labels[here] == labels[there]) & (local[here] != local[there])
        places = np.flatnonzero(met[own])
        z, y, x = np.unravel_index(places, size)
        heights = np.minimum(distances[own].ravel()[places], distances[z + step[0], y + step[1], x + step[2]])
        # Bits of floats that are not negative are ordered as they are. Below them the place, the first the highest.
        keys.append(
            (heights.view(np.uint32).astype(np.uint64) << np.uint64(32))
            | (~(3 * places + axis) & 0xFFFFFFFF).astype(np.uint64)
        )
    ordered = np.sort(np.concatenate(keys))[::-1]
    heights = (ordered >> np.uint64(32)).astype(np.uint32).view(np.float32)
    places, axes = np.divmod(~ordered.astype(np.int64) & 0xFFFFFFFF, 3)
    first = np.stack(np.unravel_index(places, size))
    second = first + (np.arange(3)[:, None] == axes)
    pairs = np.stack([local[tuple(first)], local[tuple(second)]], axis=1).astype(np.int64)
    numbers = 3 * voxel_numbers(places, region, shape) + axes
    return _forest(Saddles(pairs, heights, numbers), len(paths.ids))


def _forest(saddles: Saddles, n: int) -> Saddles:
    """Return those of the saddles, the highest first, that join basins which no higher one has joined."""
    if not len(saddles.heights):
        return saddles
    pairs = np.sort(saddles.pairs, axis=1)
    _, first = np.unique(pairs[:, 0] * n + pairs[:, 1], return_index=True)
    rows, columns = pairs[first].T
    starts = np.searchsorted(rows, np.arange(n + 1))
    tree = minimum_spanning_tree(csr_array((first + 1.0, columns, starts), shape=(n, n)))
    return saddles.chosen(np.sort(tree.data.astype(np.int64)) - 1)


def _free(paths: Ascent, region: Region, shape: Shape) -> Bool[np.ndarray, " basin"]:
    """Return which basins have no voxel on the block's faces to other blocks, nor beyond: all of them is known."""
    free = np.ones(len(paths.ids), bool)
    for axis, ((start, stop), size) in enumerate(zip(ends(region), shape, strict=True)):
        planes = np.moveaxis(paths.local, axis, 0)
        for beside in ([planes[0]] if start > 0 else []) + ([planes[-2:]] if stop < size else []):
            free[beside[beside >= 0]] = False
    return free


def _stands(peak: float, saddle: float, *, step: float) -> bool:
    """Return whether a maximum stands high enough above its saddle to count."""
    return peak - saddle >= max(SHARE * peak, step)


def _settled(
    peaks: Float64[np.ndarray, " basin"], saddles: Saddles, free: Bool[np.ndarray, " basin"], *, step: float
) -> tuple[Int64[np.ndarray, " basin"], Bool[np.ndarray, " saddle"]]:
    """Return which basin each joins for certain, whatever lies beyond the block, and which saddles are left over.

    The highest saddle of a basin of which all is known is in the forest of any volume around it. Where the basin does
    not stand high enough above it, it joins there: the lower of the two does not count then, and its own saddle is
    this one. Where it does stand, it counts.
    """
    parents, tops, open_ = list(range(len(peaks))), peaks.tolist(), free.tolist()
    kept = np.ones(len(saddles.heights), bool)
    for order, ((one, other), height) in enumerate(zip(saddles.pairs.tolist(), saddles.heights.tolist(), strict=True)):
        a, b = _root(parents, one), _root(parents, other)
        if open_[b] and not _stands(tops[b], height, step=step):
            a, b = b, a
        if open_[a] and not _stands(tops[a], height, step=step):
            parents[a], tops[b], open_[b], kept[order] = b, max(tops[a], tops[b]), open_[a] and open_[b], False
        else:
            open_[a] = open_[b] = False
    return np.array([_root(parents, place) for place in range(len(peaks))], np.int64), kept


def _root(parents: list[int], place: int) -> int:
    """Return the root of a tree, and shorten the way to it (R. E. Tarjan, 1975, DOI 10.1145/321879.321884)."""
    while parents[place] != place:
        parents[place] = parents[parents[place]]
        place = parents[place]
    return place


def join(blocks: Iterable[BlockBasins], *, voxel_size_um: Edges) -> Basins:
    """Return the particles of a volume from the basins of its blocks.

    Parameters
    ----------
    blocks
        What `find_basins` gave for each block, in any order.
    voxel_size_um
        As `find_basins` was given.

    Examples
    --------
    >>> labels = np.zeros((3, 3, 30), np.uint8)
    >>> labels[1, 1, 2:9] = labels[:, :, 12:15] = 1
    >>> block = find_basins(lambda region: labels[region.slices], Region.whole(labels.shape), shape=labels.shape,
    ...     voxel_size_um=(1, 1, 1))
    >>> particles = join([block], voxel_size_um=(1, 1, 1))
    >>> sorted(zip(particles.classes.tolist(), particles.voxels.tolist()))
    [(0, 101), (0, 135), (1, 7), (1, 27)]
    """
    several = list(blocks)
    basins = _gathered(
        [block.basins for block in several], np.concatenate([block.saddles.pairs.ravel() for block in several])
    )
    saddles = Saddles(
        np.searchsorted(basins.ids, np.concatenate([block.saddles.pairs for block in several])),
        np.concatenate([block.saddles.heights for block in several]),
        np.concatenate([block.saddles.places for block in several]),
    )
    ordered = saddles.chosen(np.lexsort((saddles.places, -saddles.heights)))
    into = _joined(basins.peaks, _forest(ordered, len(basins.ids)), step=max(relative(voxel_size_um)))
    joined = basins.together(into)
    return joined.chosen(joined.voxels > 0)


def _gathered(several: Sequence[Basins], named: Int64[np.ndarray, " id"]) -> Basins:
    """Return each basin once, by rising id, with what all blocks tell of it; `named` are ids that saddles name."""
    ids = np.unique(np.concatenate([named, *(one.ids for one in several)]))
    n = len(ids)
    found = Basins(ids, np.zeros(n, np.uint8), np.zeros(n, np.int64), np.full((n, 3), np.iinfo(np.int64).max),
                   np.zeros((n, 3), np.int64), np.zeros(n), np.zeros(n, bool))  # fmt: skip
    for one in several:
        at = np.searchsorted(ids, one.ids)
        found.classes[at] = one.classes
        found.voxels[at] += one.voxels
        found.cut[at] |= one.cut
        found.low[at] = np.minimum(found.low[at], one.low)
        found.high[at] = np.maximum(found.high[at], one.high)
        found.peaks[at] = np.maximum(found.peaks[at], one.peaks)
    return found


def _joined(peaks: Float64[np.ndarray, " basin"], saddles: Saddles, *, step: float) -> Int64[np.ndarray, " basin"]:
    """Return which basin each joins: over each saddle the lower of two maxima, with all that joined it, or neither."""
    trees, parents, tops = list(range(len(peaks))), list(range(len(peaks))), peaks.tolist()
    for (one, other), height in zip(saddles.pairs.tolist(), saddles.heights.tolist(), strict=True):
        a, b = _root(trees, one), _root(trees, other)
        if not _stands(min(tops[a], tops[b]), height, step=step):
            parents[_root(parents, one)] = _root(parents, other)
        trees[a], tops[b] = b, max(tops[a], tops[b])
    return np.array([_root(parents, place) for place in range(len(peaks))], np.int64)
