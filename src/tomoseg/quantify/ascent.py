"""Steepest paths up the distance to other phases, from each voxel of a block to a local maximum.

A path goes to the neighbour of the same phase towards which the distance rises most steeply, if it rises at all. Where
a phase is flat, so far from all others that distances are not told apart, it goes to the lowest voxel of the flat that
it gets to within a cell of the volume. Near a block paths are followed for all voxels at once, and beyond for those
that leave it, however long they are: what a block gives is the same whatever the other blocks are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from jaxtyping import Bool, Float32, Int32, Int64, Integer

from tomoseg.labels import UNLABELLED
from tomoseg.quantify.distances import Distances, class_distances, guarded
from tomoseg.quantify.grid import Edges, Labels, Read, Shape, grown, within
from tomoseg.volume.base import Region

MOST_DISTANCE = 64.0
"""In a voxel's shortest edges: beyond, a phase is flat."""

_FLAT_CELL = 16
"""Edge in voxels of the cells in which flat voxels lead to one: without, each would be a maximum of its own."""

_AHEAD = 32.0
"""How much further than needed is read to follow a path, in a voxel's shortest edges."""

_STEPS = sorted((step for step in product((-1, 0, 1), repeat=3) if any(step)), key=lambda step: np.abs(step).sum())
"""To the neighbours of a voxel, those across faces first."""

Slices = tuple[slice, ...]

Depths = Float32[np.ndarray, "_"]
"""Of the planes across an axis, the distance up to which what is read is enough."""


@dataclass(frozen=True)
class Ascent:
    """Where the paths of a region lead.

    Attributes
    ----------
    labels
        Class indices of the region, uint8 (z, y, x).
    distances
        To other phases in a voxel's shortest edges, up to `MOST_DISTANCE`.
    ids
        Number in the volume, x fastest, of each maximum, rising, int64 (maximum,).
    local
        Which of these each voxel's path leads to, int32 (z, y, x); -1 at masked voxels.
    """

    labels: Labels
    distances: Distances
    ids: Int64[np.ndarray, " maximum"]
    local: Int32[np.ndarray, "z y x"]


def ascend(read: Read, near: Region, *, edges: Edges, shape: Shape, guard: float) -> Ascent:
    """Return where the steepest paths of a region lead.

    The guard grows until all paths end in sight, or shows all that the region's own voxels need and somewhat more:
    longer paths are followed one by one.

    Parameters
    ----------
    read
        Gives class indices, uint8 (z, y, x), `UNLABELLED` outside the mask.
    near
        The region.
    edges
        Edge lengths of a voxel along (z, y, x) in its shortest.
    shape
        Voxels of the volume along (z, y, x).
    guard
        How far around the region is read at first, in the shortest edges.
    """
    guard, longest = max(guard, *edges), _sight(edges) + _AHEAD
    while (found := _in_sight(read, near, edges=edges, shape=shape, guard=guard, last=guard >= longest)) is None:
        guard = min(1.25 * guard, longest)
    return found


def _in_sight(read: Read, near: Region, *, edges: Edges, shape: Shape, guard: float, last: bool) -> Ascent | None:
    """Return where paths lead, if a guard shows it, or is the last one and shows enough to follow them."""
    box, around = guarded(near, guard, edges, shape), grown(near, by=(1, 1, 1), shape=shape)
    labels, distances = _look(read, box, edges)
    depths, own, inner, middle = (
        _depths(box, edges, shape),
        within(near, box),
        within(around, box),
        within(near, around),
    )
    visible = labels[own] != UNLABELLED
    if not last and (_unsure(distances[own], depths, own) & visible).any():
        return None
    first = (around.z0, around.y0, around.x0)
    ends, of_voxel = np.unique(
        _climb(labels[inner], distances[inner], middle, edges=edges, first=first)[middle][visible], return_inverse=True
    )
    starts = np.stack(np.unravel_index(ends, around.shape)) + np.array(first)[:, None]
    at, ended = _trace(labels, distances, starts, box=box, depths=depths, edges=edges)
    if not last and not ended.all():
        return None
    at = _followed(read, at, ended, edges=edges, shape=shape)
    ids, of_end = np.unique(np.ravel_multi_index(tuple(at), shape), return_inverse=True)
    local = np.full(near.shape, -1, np.int32)
    local[visible] = of_end[of_voxel]
    return Ascent(labels[own].copy(), distances[own].copy(), ids, local)


def _look(read: Read, box: Region, edges: Edges) -> tuple[Labels, Distances]:
    labels = read(box)
    return labels, np.minimum(class_distances(labels, edges), np.float32(MOST_DISTANCE))


def _followed(
    read: Read, at: Int64[np.ndarray, "axis path"], ended: Bool[np.ndarray, " path"], *, edges: Edges, shape: Shape
) -> Int64[np.ndarray, "axis path"]:
    """Return where paths end that have come to places, some of which have not ended there."""
    at, ended = at.copy(), ended.copy()
    while not ended.all():
        z, y, x = at[:, np.flatnonzero(~ended)[0]].tolist()
        box = guarded(Region(z, z + 1, y, y + 1, x, x + 1), _sight(edges) + _AHEAD, edges, shape)
        inside = ((at >= [[box.z0], [box.y0], [box.x0]]) & (at < [[box.z1], [box.y1], [box.x1]])).all(axis=0)
        those = np.flatnonzero(~ended & inside)
        labels, distances = _look(read, box, edges)
        depths = _depths(box, edges, shape)
        at[:, those], ended[those] = _trace(labels, distances, at[:, those], box=box, depths=depths, edges=edges)
    return at


def _slack(edges: Edges) -> float:
    """Return how much further than a voxel's distance must be read to know the next step.

    A neighbour's distance is larger by a voxel's diagonal at most, and it is a voxel nearer to what was not read.
    """
    return float(np.linalg.norm(edges)) + max(edges)


def _sight(edges: Edges) -> float:
    """Return how far from a voxel must be read to know the next step, whatever its distance."""
    return MOST_DISTANCE + _slack(edges)


def _depths(box: Region, edges: Edges, shape: Shape) -> list[Depths]:
    """Return along each axis up to which distance the next step from a plane of a box is sure.

    What was not read is that far from each voxel and its neighbours.
    """
    slack, found = _slack(edges), []
    for (start, stop), edge, size in zip(ends(box), edges, shape, strict=True):
        steps = np.arange(1, stop - start + 1, dtype=np.float32)
        low, high = (steps if start > 0 else np.inf), (steps[::-1] if stop < size else np.inf)
        found.append((np.minimum(low, high) * edge - slack + 0 * steps).astype(np.float32))
    return found


def _unsure(distances: Distances, depths: Sequence[Depths], where: Slices) -> Bool[np.ndarray, "z y x"]:
    """Return where more must be read to know the next step."""
    z, y, x = (depth[part] for depth, part in zip(depths, where, strict=True))
    return np.asarray((distances > z[:, None, None]) | (distances > y[:, None]) | (distances > x))


def _climb(
    labels: Labels, distances: Distances, inner: Slices, *, edges: Edges, first: Shape
) -> Int32[np.ndarray, "z y x"]:
    """Return the place, counted x fastest, that the steepest path from each voxel ends at, or where it leaves `inner`.

    Steps across edges and corners are for voxels whose neighbours are all of their phase: what they join is joined by
    faces. `first` is the first voxel's place in the volume.
    """
    places = np.arange(distances.size, dtype=np.int32).reshape(distances.shape)
    up, steepest = places.copy(), np.zeros(distances.shape, np.float32)
    deep, flat = distances > _all_around(edges), distances >= MOST_DISTANCE
    for step in _STEPS:
        here, there = shifted(step, distances.shape)
        slope = (distances[there] - distances[here]) / _length(step, edges)
        better = (slope > steepest[here]) & (labels[there] == labels[here])
        if np.abs(step).sum() > 1:
            better &= deep[here]
        np.copyto(steepest[here], slope, where=better)
        np.copyto(up[here], places[there], where=better)
    for axis in (2, 1, 0):  # the first axis that can be gone along counts
        here, there = shifted([-int(axis == other) for other in range(3)], distances.shape)
        further = flat[here] & flat[there] & (labels[there] == labels[here])
        along = np.arange(distances.shape[axis])[here[axis]] + first[axis]
        further &= (along % _FLAT_CELL != 0).reshape([-1 if axis == other else 1 for other in range(3)])
        np.copyto(up[here], places[there], where=further)
    outside = np.ones(distances.shape, bool)
    outside[inner] = False
    np.copyto(up, places, where=outside)
    ends = up.reshape(-1)
    while not np.array_equal(further := ends[ends], ends):
        ends = further
    return ends.reshape(distances.shape)


def _trace(
    labels: Labels, distances: Distances, starts: Int64[np.ndarray, "axis path"], *, box: Region,
    depths: Sequence[Depths], edges: Edges,
) -> tuple[Int64[np.ndarray, "axis path"], Bool[np.ndarray, " path"]]:  # fmt: skip
    """Return where the steepest paths from voxels lead within a box, and which end there; steps as in `_climb`.

    Places are those in the volume.
    """
    shape, low = np.array(box.shape)[:, None], np.array([[box.z0], [box.y0], [box.x0]])
    at, ended = starts.astype(np.int64) - low, np.zeros(starts.shape[1], bool)
    of_path, going = np.arange(starts.shape[1]), np.arange(starts.shape[1])
    while going.size:
        z, y, x = here = at[:, going]
        its, own = distances[z, y, x], labels[z, y, x]
        sure = (its <= depths[0][z]) & (its <= depths[1][y]) & (its <= depths[2][x])
        steepest, best, deep = np.zeros(len(z), np.float32), here.copy(), its > _all_around(edges)
        for step in _STEPS:
            there, alike = _beside(here, step, shape=shape, labels=labels, own=own)
            slope = (distances[tuple(there)] - its) / _length(step, edges)
            better = (slope > steepest) & alike & (deep | (np.abs(step).sum() == 1)) & sure
            steepest[better], best[:, better] = slope[better], there[:, better]
        for axis in (2, 1, 0):
            there, alike = _beside(here, [-int(axis == o) for o in range(3)], shape=shape, labels=labels, own=own)
            flat = (its >= MOST_DISTANCE) & (distances[tuple(there)] >= MOST_DISTANCE) & alike & sure
            flat &= (here[axis] + low[axis]) % _FLAT_CELL != 0
            best[:, flat] = there[:, flat]
        moved = (best != here).any(axis=0)
        ended[going[~moved]] = sure[~moved]
        at[:, going] = best
        going = going[moved]
        # Paths that have met go on as one.
        _, one, met = np.unique(np.ravel_multi_index(tuple(at), box.shape), return_index=True, return_inverse=True)
        going = going[np.isin(going, one)]
        at, ended, of_path, going = at[:, one], ended[one], met[of_path], met[going]
    return (at + low)[:, of_path], ended[of_path]


def _beside(
    here: Int64[np.ndarray, "axis path"], step: Sequence[int], *, shape: Int64[np.ndarray, "axis 1"], labels: Labels,
    own: Integer[np.ndarray, " path"],
) -> tuple[Int64[np.ndarray, "axis path"], Bool[np.ndarray, " path"]]:  # fmt: skip
    """Return the voxels a step further, or the same ones where there are none, and whether they are of their phase."""
    there = here + np.array(step)[:, None]
    known = ((there >= 0) & (there < shape)).all(axis=0)
    there = np.where(known, there, here)
    return there, known & (labels[tuple(there)] == own)


def _all_around(edges: Edges) -> np.float32:
    """Return the distance beyond which all neighbours across faces and edges are of a voxel's own phase."""
    return np.float32(np.linalg.norm(sorted(edges)[1:]))


def _length(step: Sequence[int], edges: Edges) -> np.float32:
    return np.float32(np.linalg.norm(np.multiply(step, edges)))


def shifted(step: Sequence[int], shape: Sequence[int]) -> tuple[Slices, Slices]:
    """Return where voxels are that have a neighbour a step further, and where these are."""
    here = tuple(slice(max(0, -d), n - max(0, d)) for d, n in zip(step, shape, strict=True))
    there = tuple(slice(max(0, d), n - max(0, -d)) for d, n in zip(step, shape, strict=True))
    return here, there


def voxel_numbers(places: Integer[np.ndarray, "*many"], box: Region, shape: Shape) -> Int64[np.ndarray, "*many"]:
    """Return the numbers in the volume of voxels that are counted in a box, both x fastest."""
    z, y, x = np.unravel_index(places, box.shape)
    return np.asarray(((z + box.z0) * shape[1] + y + box.y0) * np.int64(shape[2]) + x + box.x0)


def ends(region: Region) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
    """Return where a region begins and ends along z, y and x."""
    return (region.z0, region.z1), (region.y0, region.y1), (region.x0, region.x1)
