"""Lengths of the lines where three classes meet.

Around an edge between four voxels of three classes, two of the same class side by side, one comes by all three classes
in an order that gives the edge a sense. With this sense the edges form paths that end only where a fourth class, the
mask or the volume's edge does away with the three, like the vortex lines of a field of angles, so that their steps back
cancel. Counted in full (`stair_lengths`) edges are about 1.5 times too long, however small the voxels.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import reduce
from itertools import combinations
from operator import and_

import numpy as np
from jaxtyping import Float64, Int32, Int64, Shaped

from tomoseg.labels import UNLABELLED
from tomoseg.quantify.steps import (
    Labels,
    Steps,
    VoxelSize,
    check_classes,
    cosines,
    guard_voxels,
    inside,
    sigma_in_voxels,
)
from tomoseg.volume import Region

LINE_SIGMA = 2.5
"""Std in a voxel's longest edges of the Gaussian that smooths tangents.

With less, stairs are seen as such (straight lines 2 % too long at 1.5); with more, narrow bends are rounded further. A
circle of radius 20 comes out within 1 %, of 10 within 3 %, of 6 some 4 % too short.
"""

# The other two axes around each, and the four voxels around an edge in turn, by their steps up these.
_OTHERS = ((1, 2), (2, 0), (0, 1))
_TURN = ((0, 0), (1, 0), (1, 1), (0, 1))


@dataclass(frozen=True)
class LineEdges:
    """The edges of a block's triple lines.

    Attributes
    ----------
    triples
        Which of `class_triples` meets at each.
    axes
        Axis along which each edge runs.
    lengths
        What each adds to its line's length, in the voxel size's unit. Steps back are negative.
    places
        Index (z, y, x) in the block's labels of the lowest voxel around each, int32 (edge, axis).
    """

    triples: Int64[np.ndarray, " edge"]
    axes: Int64[np.ndarray, " edge"]
    lengths: Float64[np.ndarray, " edge"]
    places: Int32[np.ndarray, "edge 3"]

    @property
    def voxels(self) -> Int32[np.ndarray, "edge 4 3"]:
        """Index (z, y, x) in the block's labels of the four voxels around each edge in turn; two are of one class."""
        return np.asarray(self.places[:, None] + np.stack([_around(axis) for axis in range(3)])[self.axes])


_NO_EDGES = LineEdges(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0), np.zeros((0, 3), np.int32))


@dataclass(frozen=True)
class LineSums:
    """Sums over some edges; add those of all blocks to get the whole volume's.

    Attributes
    ----------
    lengths
        Of the lines where each of `class_triples` meets, by the axis of the edges, float64 (axis, triple), in the voxel
        size's unit.
    stair_lengths
        The same with every edge counted in full.
    volumes
        In which edges along each axis were looked for, float64 (axis,): a voxel's for every four labelled
        voxels around an edge.
    """

    lengths: Float64[np.ndarray, "axis triple"]
    stair_lengths: Float64[np.ndarray, "axis triple"]
    volumes: Float64[np.ndarray, " axis"]

    def __add__(self, other: LineSums) -> LineSums:
        """Return the sums over both."""
        return LineSums(
            self.lengths + other.lengths, self.stair_lengths + other.stair_lengths, self.volumes + other.volumes
        )

    @property
    def densities(self) -> Float64[np.ndarray, " triple"]:
        """Length per volume of each triple's lines; zeros where there is no volume.

        Each axis's edges are divided by the volume that could hold such edges, so that the edges of volume and mask,
        where there are fewer, make no difference.
        """
        volumes = np.where(self.volumes > 0, self.volumes, np.inf)
        return np.asarray((self.lengths / volumes[:, None]).sum(axis=0))


def class_triples(n_classes: int) -> list[tuple[int, int, int]]:
    """Return all triples of classes in the order in which lengths are given.

    Examples
    --------
    >>> class_triples(4)
    [(0, 1, 2), (0, 1, 3), (0, 2, 3), (1, 2, 3)]
    """
    return list(combinations(range(n_classes), 3))


def line_guard(*, voxel_size: VoxelSize = (1.0, 1.0, 1.0), sigma: float = LINE_SIGMA) -> tuple[int, int, int]:
    """Return how many voxels around its own a block needs along (z, y, x) for `measure_lines` and `line_edges`.

    Examples
    --------
    >>> line_guard(sigma=2.0)
    (8, 8, 8)
    """
    return guard_voxels(sigma, voxel_size)


def measure_lines(
    labels: Labels,
    *,
    n_classes: int,
    voxel_size: VoxelSize = (1.0, 1.0, 1.0),
    own: Region | None = None,
    sigma: float = LINE_SIGMA,
) -> LineSums:
    """Return the lengths of the lines in a block where three classes meet; parameters as in `line_edges`.

    Examples
    --------
    >>> labels = np.zeros((9, 8, 8), np.uint8)
    >>> labels[:, 4:], labels[:, :4, 4:] = 1, 2
    >>> sums = measure_lines(labels, n_classes=3)
    >>> sums.lengths.sum(), sums.densities.round(4)
    (np.float64(9.0), array([0.0204]))
    """
    own = own or Region.whole(labels.shape)
    edges = line_edges(labels, n_classes=n_classes, voxel_size=voxel_size, own=own, sigma=sigma)
    return sum_edges(edges, labels, n_classes=n_classes, voxel_size=voxel_size, own=own)


def sum_edges(
    edges: LineEdges, labels: Labels, *, n_classes: int, voxel_size: VoxelSize = (1.0, 1.0, 1.0), own: Region
) -> LineSums:
    """Return the lengths of the lines in a block from its `line_edges`; the other parameters as given to these."""
    shape = 3, len(class_triples(n_classes))
    at = edges.axes * shape[1] + edges.triples
    lengths, stairs = (
        np.bincount(at, weights=weights, minlength=shape[0] * shape[1]).reshape(shape).astype(np.float64)
        for weights in (edges.lengths, np.asarray(voxel_size)[edges.axes])
    )
    return LineSums(lengths, stairs, float(np.prod(voxel_size)) * _sites(labels, own))


def line_edges(
    labels: Labels,
    *,
    n_classes: int,
    voxel_size: VoxelSize = (1.0, 1.0, 1.0),
    own: Region | None = None,
    sigma: float = LINE_SIGMA,
) -> LineEdges:
    """Return the edges of the block's triple lines, what each adds to the length, and its voxels.

    With the smoothed unit tangent t of the line at an edge along axis k, an edge in the line's sense adds t_k times its
    length; see `tomoseg.quantify.steps`.

    Parameters
    ----------
    labels
        Class indices, uint8 (z, y, x). `UNLABELLED` is outside: no line runs along a mask's edge, nor the volume's.
    n_classes
        Number of classes.
    voxel_size
        Edges of a voxel along (z, y, x) in any unit.
    own
        The block's own voxels within `labels`; by default all. An edge belongs to the block that owns its lowest voxel.
        Around them `labels` must hold `line_guard` voxels, or as many as there are before the volume ends.
    sigma
        Std of the Gaussian that smooths the tangents, in a voxel's longest edges. It is round in space, whatever the
        voxel's shape.

    Raises
    ------
    LabelError
        If there are class indices of `n_classes` and more.

    Examples
    --------
    >>> labels = np.array([[[0, 0], [1, 2]]], np.uint8)
    >>> edges = line_edges(labels, n_classes=3)
    >>> edges.lengths, edges.voxels.tolist()
    (array([1.]), [[[0, 0, 0], [0, 1, 0], [0, 1, 1], [0, 0, 1]]])
    """
    check_classes(labels, n_classes)
    own = own or Region.whole(labels.shape)
    found = [_edges(labels, axis, n_classes) for axis in range(3)]
    parts = [_NO_EDGES]
    for triple in np.unique(np.concatenate([triples[inside(steps.places, own)] for steps, triples in found])):
        steps = [Steps(one.places[:, triples == triple], one.signs[triples == triple]) for one, triples in found]
        weights = cosines(steps, sizes=voxel_size, sigma=sigma_in_voxels(sigma, voxel_size), lines=True)
        for axis, (one, weight) in enumerate(zip(steps, weights, strict=True)):
            mine = inside(one.places, own)
            lengths = voxel_size[axis] * weight[mine].astype(np.float64)
            both = np.full(len(lengths), triple), np.full(len(lengths), axis)
            parts.append(LineEdges(*both, lengths, one.places[:, mine].T))
    return LineEdges(*(np.concatenate([getattr(part, item.name) for part in parts]) for item in fields(LineEdges)))


def _around(axis: int) -> Int32[np.ndarray, "voxel axis"]:
    """Return the four voxels around an edge along `axis` in turn, from the lowest one of them."""
    steps = np.zeros((4, 3), np.int32)
    steps[:, _OTHERS[axis]] = _TURN
    return steps


def _four(labels: Shaped[np.ndarray, "z y x"], axis: int) -> list[np.ndarray]:
    """Return the voxels around every edge along `axis`, in turn."""
    counts = np.array(labels.shape) - (np.arange(3) != axis)
    return [labels[tuple(slice(at, at + n) for at, n in zip(step, counts, strict=True))] for step in _around(axis)]


def _edges(labels: Labels, axis: int, n_classes: int) -> tuple[Steps, Int64[np.ndarray, " edge"]]:
    """Return the edges along `axis` where three classes meet in turn, and the triple of each."""
    four = _four(labels, axis)
    after = [*four[1:], four[0]]
    # In a ring of four just one pair of neighbours is equal only where there are three classes, one of them twice.
    changes = sum((a != b).view(np.uint8) for a, b in zip(four, after, strict=True))
    places = np.array(np.nonzero(changes == 3), np.int32)
    ring = np.stack([one[tuple(places)] for one in four])
    inner = (ring != UNLABELLED).all(axis=0)
    places, ring = places[:, inner], ring[:, inner].astype(np.int64)
    # Of the ring a, b, c, d the three classes in turn are a, b, c if c and d, or d and a, are the same; else a, c, d.
    late = (ring[0] == ring[1]) | (ring[1] == ring[2])
    a, b, c = ring[0], np.where(late, ring[2], ring[1]), np.where(late, ring[3], ring[2])
    low, high = np.minimum(np.minimum(a, b), c), np.maximum(np.maximum(a, b), c)
    rising = (np.stack([b - a, c - b, a - c]) > 0).sum(axis=0) == 2
    return Steps(places, np.where(rising, 1, -1).astype(np.int8)), _triple(low, a + b + c - low - high, high, n_classes)


def _triple(i: np.ndarray, j: np.ndarray, k: np.ndarray, n_classes: int) -> Int64[np.ndarray, " edge"]:
    """Return the place of triples i < j < k in `class_triples`."""
    numbers = np.zeros((n_classes,) * 3, np.int64)
    for number, triple in enumerate(class_triples(n_classes)):
        numbers[triple] = number
    return np.asarray(numbers[i, j, k])


def _sites(labels: Labels, own: Region) -> Int64[np.ndarray, " axis"]:
    """Return how many edges between four labelled voxels the block owns along each axis."""
    labelled = labels != UNLABELLED
    return np.array([np.count_nonzero(reduce(and_, _four(labelled, axis))[own.slices]) for axis in range(3)])
