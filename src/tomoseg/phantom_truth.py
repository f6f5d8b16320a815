"""What is known of a phantom exactly: interface areas, triple lines and the rest, summed up slice by slice.

Areas and lengths come from marching tetrahedra on linearly interpolated fields: inside a tetrahedron the fields are
linear, so an interface is a plane polygon and a triple line a straight segment, both computed exactly. Faces and
edges of voxels are never counted: they are about 1.5 times too large whatever the resolution.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import permutations
from typing import Any

import numpy as np
from jaxtyping import Float, Int64
from scipy.special import ndtr

PAIRS = ((0, 1), (0, 2), (1, 2))
BLURS = np.linspace(0.8, 1.4, 61)
"""Blurs in pixels among which the measured one is found."""

Layer = Float[np.ndarray, "field y x"]
Points = Float[np.ndarray, "n corner axis"]

# Kuhn's split of a cube into six tetrahedra, one for each order of the axes; neighbouring cubes' faces match.
_TETRAHEDRA = np.array(
    [np.cumsum([np.zeros(3, int), *np.eye(3, dtype=int)[list(order)]], axis=0) for order in permutations(range(3))]
)


@dataclass(frozen=True)
class TruthSums:
    """Sums over some slices of a phantom; add those of all slices to get the whole's.

    Attributes
    ----------
    class_points
        Sub-voxel points in each class.
    changes, neighbours
        Neighbouring voxels along z, y, x whose labels differ, and all of them.
    areas
        Of the interfaces in `PAIRS`, in squared voxel edges.
    line
        Length of the triple lines in voxel edges.
    volume
        In which areas and lines were counted, in voxels.
    blur_errors
        Summed squared error of the grey values' edges for each of `BLURS`.
    noise_squares, voxels
        Summed squared difference of noisy and noiseless grey values, and the number of voxels.
    """

    class_points: Int64[np.ndarray, " class"]
    changes: Int64[np.ndarray, " axis"]
    neighbours: Int64[np.ndarray, " axis"]
    areas: Float[np.ndarray, " pair"]
    line: float
    volume: float
    blur_errors: Float[np.ndarray, " blur"]
    noise_squares: float
    voxels: int

    def __add__(self, other: TruthSums) -> TruthSums:
        """Return the sums over both."""
        return TruthSums(*(getattr(self, item.name) + getattr(other, item.name) for item in fields(self)))

    @property
    def fractions(self) -> Float[np.ndarray, " class"]:
        """Share of each class in the volume."""
        return np.asarray(self.class_points / self.class_points.sum())

    @property
    def interface_density(self) -> Float[np.ndarray, " axis"]:
        """Changes of class per voxel along z, y and x."""
        return np.asarray(self.changes / np.maximum(self.neighbours, 1))

    @property
    def blur_px(self) -> float:
        """Std in pixels of the Gaussian that, applied to sharp interfaces, fits the grey values' edges best."""
        return float(BLURS[np.argmin(self.blur_errors)])

    @property
    def noise_std(self) -> float:
        """Measured std of the scan's noise in grey values."""
        return float(np.sqrt(self.noise_squares / self.voxels))

    def measurements(self, names: tuple[str, ...]) -> list[dict[str, Any]]:
        """Return fractions, areas and triple lines as `truth.json` and `quantities.json` list them, in voxel units."""
        linear = "marching tetrahedra on the linearly interpolated fields"
        found = [
            _measurement(f"phase fraction {name}", share, "1", "share of sub-voxel points")
            for name, share in zip(names, self.fractions, strict=True)
        ]
        for (i, j), area in zip(PAIRS, self.areas, strict=True):
            name = f"interface area {names[i]}-{names[j]} per volume"
            found.append(_measurement(name, area / self.volume, "1/voxel", linear))
        name = "triple-phase boundary density"
        return [*found, _measurement(name, self.line / self.volume, "voxel/voxel3", linear)]


def _measurement(name: str, value: float, unit: str, method: str) -> dict[str, Any]:
    return {
        "name": name,
        "value": float(value),
        "unit": unit,
        "interval": None,
        "interval_contains": None,
        "method": method,
        "source": "the phantom's fields",
    }


def surfaces_between(lower: Layer, upper: Layer) -> tuple[Float[np.ndarray, " pair"], float]:
    """Return interface areas and triple-line length between two layers of sample points one unit apart.

    The class at a point is that of the largest of three fields, which are linear in each tetrahedron.

    Parameters
    ----------
    lower, upper
        Values of the three fields (field, y, x) on a square grid of unit spacing.

    Returns
    -------
    areas
        Of the interfaces in `PAIRS`, in squared units.
    line
        Length of the triple lines in units.

    Examples
    --------
    >>> x = np.broadcast_to(np.arange(4.0), (3, 4))
    >>> layer = np.stack([x, 3 * np.ones((3, 4)) - x, -9 * np.ones((3, 4))])
    >>> areas, line = surfaces_between(layer, layer)
    >>> areas.round(12).tolist(), line
    ([2.0, 0.0, 0.0], 0.0)
    """
    both = np.stack([lower, upper], axis=1)  # (field, 2, y, x)
    largest = both.argmax(axis=0)
    cells = np.stack(
        [largest[:, dy : largest.shape[1] - 1 + dy, dx : largest.shape[2] - 1 + dx] for dy in (0, 1) for dx in (0, 1)]
    )
    mixed = cells.max(axis=(0, 1)) != cells.min(axis=(0, 1))
    corner = np.argwhere(mixed)  # (cell, 2)
    areas, line = np.zeros(len(PAIRS)), 0.0
    for tetrahedron in _TETRAHEDRA:
        values = np.stack(
            [both[:, z, corner[:, 0] + y, corner[:, 1] + x] for z, y, x in tetrahedron], axis=-1
        )  # (field, cell, corner)
        of_pairs, its_line = _tetrahedra(tetrahedron.astype(np.float64), values.astype(np.float64))
        areas += of_pairs
        line += its_line
    return areas, line


def _tetrahedra(
    corners: Float[np.ndarray, "corner axis"], values: Float[np.ndarray, "field n corner"]
) -> tuple[Float[np.ndarray, " pair"], float]:
    """Return areas and line length in tetrahedra of the same shape, by the fields at their corners."""
    areas, line = np.zeros(len(PAIRS)), 0.0
    for pair, (i, j) in enumerate(PAIRS):
        third = 3 - i - j
        difference, lead = values[i] - values[j], values[i] - values[third]
        for points, leads in _sections(corners, difference, lead):
            areas[pair] += _area_where_positive(points, leads)
            if pair == 0:  # a triple line lies in all three interfaces
                line += _zero_line(points, leads)
    return areas, line


def _sections(
    corners: Float[np.ndarray, "corner axis"],
    difference: Float[np.ndarray, "n corner"],
    lead: Float[np.ndarray, "n corner"],
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the plane sections difference = 0 as triangles, with `lead` at their corners."""
    positive = difference > 0
    n_positive = positive.sum(axis=1)
    order = np.argsort(~positive, axis=1, kind="stable")  # positive corners first
    ways = {1: [(0, 1, 0, 2, 0, 3)], 3: [(0, 3, 1, 3, 2, 3)], 2: [(0, 2, 0, 3, 1, 3), (0, 2, 1, 3, 1, 2)]}
    found = []
    for count, triangles in ways.items():
        chosen = np.flatnonzero(n_positive == count)
        its = order[chosen]
        for ends in triangles:
            cut = [
                _crossing(corners, difference, lead=lead, rows=chosen, a=its[:, a], b=its[:, b])
                for a, b in zip(ends[::2], ends[1::2], strict=True)
            ]
            found.append((np.stack([p for p, _ in cut], axis=1), np.stack([e for _, e in cut], axis=1)))
    return found


def _crossing(
    corners: np.ndarray, difference: np.ndarray, *, lead: np.ndarray, rows: np.ndarray, a: np.ndarray, b: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return where difference = 0 on the edges from corners `a` to `b`, and `lead` there."""
    at_a, at_b = difference[rows, a], difference[rows, b]
    share = at_a / (at_a - at_b)
    points = corners[a] + share[:, None] * (corners[b] - corners[a])
    return points, lead[rows, a] + share * (lead[rows, b] - lead[rows, a])


def _area_where_positive(points: Points, leads: Float[np.ndarray, "n corner"]) -> float:
    """Return the area of the part of triangles where the linear function with values `leads` is positive."""
    areas = np.linalg.norm(np.cross(points[:, 1] - points[:, 0], points[:, 2] - points[:, 0]), axis=1) / 2
    n_positive = (leads > 0).sum(axis=1)
    single = _share_at_single(leads, n_positive)
    share = np.select([n_positive == 3, n_positive == 1, n_positive == 2], [1.0, single, 1 - single], 0.0)
    return float((areas * share).sum())


def _share_at_single(leads: np.ndarray, n_positive: np.ndarray) -> np.ndarray:
    """Return the share of a triangle on the side of its corner whose sign differs from the other two's."""
    rows, alone, others = _alone(leads, n_positive)
    at, (b, c) = leads[rows, alone], (leads[rows, other] for other in others)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(at / (at - b) * at / (at - c))


def _alone(leads: np.ndarray, n_positive: np.ndarray) -> tuple[np.ndarray, np.ndarray, tuple[np.ndarray, np.ndarray]]:
    alone = np.where(n_positive == 1, leads.argmax(axis=1), leads.argmin(axis=1))
    return np.arange(len(leads)), alone, ((alone + 1) % 3, (alone + 2) % 3)


def _zero_line(points: Points, leads: Float[np.ndarray, "n corner"]) -> float:
    """Return the length of the segments of triangles where the linear function with values `leads` is zero."""
    n_positive = (leads > 0).sum(axis=1)
    crossed = (n_positive == 1) | (n_positive == 2)
    points, leads = points[crossed], leads[crossed]
    rows, alone, others = _alone(leads, n_positive[crossed])
    at = leads[rows, alone]
    ends = [
        points[rows, alone] + (at / (at - leads[rows, b]))[:, None] * (points[rows, b] - points[rows, alone])
        for b in others
    ]
    return float(np.linalg.norm(ends[0] - ends[1], axis=1).sum())


def blur_errors(
    layers: Sequence[Layer], grey: Float[np.ndarray, "y x"], levels: Float[np.ndarray, " class"]
) -> Float[np.ndarray, " blur"]:
    """Return the summed squared error of the edges of noiseless grey values for each of `BLURS`.

    Near a smooth interface at signed distance d, a Gaussian blur of std s makes of a step its cumulative
    distribution at d/s; d is the difference of the two largest fields over its gradient. Voxels near a third class
    or an interface with little contrast are left aside.

    Parameters
    ----------
    layers
        The fields at the voxel centres of three slices: the one below, the one that is looked at, the one above.
    grey
        Grey values of the middle slice.
    levels
        Grey level of each class.
    """
    below, here, above = layers
    order = np.argsort(here, axis=0)[::-1]
    first, second, third = np.take_along_axis(here, order, axis=0)
    slopes = np.stack([(above - below) / 2, *np.gradient(here, axis=(1, 2))])  # (axis, field, y, x)
    ordered = np.take_along_axis(slopes, order[None, :2], axis=1)
    slope = np.linalg.norm(ordered[:, 0] - ordered[:, 1], axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        distance = (first - second) / slope
        clear = (distance < 2.5) & ((second - third) / slope > 8)
    high, low = levels[order[0]][clear], levels[order[1]][clear]
    share = (grey[clear] - low) / (high - low)
    return np.array([float(((share - ndtr(distance[clear] / blur)) ** 2).sum()) for blur in BLURS])
