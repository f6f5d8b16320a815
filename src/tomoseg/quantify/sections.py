"""What a segmentation does to the numbers, measured on labelled slices: predicted beside labelled.

Pixel accuracy hides it: a blurred edge between black and white passes through grey, and a threshold that is right on
0.988 of the pixels loses nearly all contact of black and white. In a section, interfaces are lines and triple lines are
points. Their length and number per area are proportional to area and length per volume (E. E. Underwood, Quantitative
stereology, 1970; for any orientation where sections are isotropic), so the ratio of labelled to predicted carries over.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
from jaxtyping import Float64, Int64, UInt8
from pydantic import BaseModel, ConfigDict, Field

from tomoseg.intervals import even_parts
from tomoseg.labels import UNLABELLED
from tomoseg.quantify.measurement import Measurement
from tomoseg.quantify.names import Names
from tomoseg.quantify.sampling import LEVEL, jackknife
from tomoseg.quantify.surfaces import SURFACE_SIGMA, weighted_faces
from tomoseg.quantify.triple_lines import class_triples, points_of_slice
from tomoseg.volume import Region

Index = UInt8[np.ndarray, "y x"]
Tiles = Float64[np.ndarray, "tile 2 number"]
Places = Int64[np.ndarray, "block axis"]

MOST_FACTOR = 1.5
"""Beyond, what is seen in sections does not carry over to the volume: speckles that cross a section often are hardly
longer in space."""

SHORTEST_TILE = 64
"""Errors are independent over shorter distances than classes; a tile of this edge holds enough interface to count."""


class Effect(BaseModel):
    """A number of the labelled pixels as it is labelled and as it is predicted.

    `correction` is what to add to a predicted fraction, or to multiply other predicted numbers with.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    labelled: float = Field(
        description="fraction; or length, or number of points, per area; in slabs area, or length, per volume"
    )
    predicted: float
    correction: float | None = Field(description="None where nothing is predicted, or nothing labelled")
    interval: tuple[float, float] | None = Field(default=None, description="95 %, of the correction")
    n_blocks: int = 0
    unit: str | None = Field(default=None, description="1, 1/pixel or 1/pixel2; in slabs 1/um, um/um3, or in voxels")
    voxels: int | None = Field(default=None, description="labelled voxels of the slabs; None where sections tell it")
    note: str | None = None


def number_names(classes: Sequence[str]) -> list[str]:
    """Return the names of the numbers that a section tells, as `quantities.json` has them.

    Examples
    --------
    >>> number_names(["a", "b"])
    ['phase fraction a', 'phase fraction b', 'interface area a-b per volume']
    """
    n, names = len(classes), Names(tuple(classes), "voxel")
    found = [names.fraction(i) for i in range(n)] + [names.area(i, j) for i, j in combinations(range(n), 2)]
    return found + [names.line(triple) for triple in class_triples(n)]


def section_tiles(label: Index, found: Index, *, n_classes: int, edge: int) -> Tiles:
    """Return pixels of each class, interface length of each pair, triple points of each triple, labelled and predicted.

    Parameters
    ----------
    label, found
        Class indices of a slice, uint8 (y, x); pixels that are not labelled count in neither.
    n_classes
        Number of classes.
    edge
        Smallest edge of a tile in pixels.

    Returns
    -------
    array (tile, way, number)
        Way 0 is labelled, 1 predicted; numbers as in `number_names`, in pixels.

    Examples
    --------
    >>> label = np.zeros((8, 8), np.uint8)
    >>> label[:, 4:] = 1
    >>> section_tiles(label, np.zeros_like(label), n_classes=2, edge=8).tolist()
    [[[32.0, 32.0, 8.0], [64.0, 0.0, 0.0]]]
    """
    rows, columns = (even_parts(size, edge) for size in label.shape)
    tiles = _tile_of_pixels(rows, columns)
    ways = label, np.where(label == UNLABELLED, label, found)
    return np.stack([_numbers(way, tiles, n_classes) for way in ways], axis=1)


def _tile_of_pixels(rows: Sequence[slice], columns: Sequence[slice]) -> Int64[np.ndarray, "y x"]:
    """Return the number of the tile that each pixel lies in."""
    y, x = (np.repeat(np.arange(len(parts)), [p.stop - p.start for p in parts]) for parts in (rows, columns))
    return np.add.outer(y * len(columns), x)


def _numbers(labels: Index, tiles: Int64[np.ndarray, "y x"], n: int) -> Float64[np.ndarray, "tile number"]:
    """Return the numbers of a slice by tile; a face and a point belong to the tile of their lowest pixel."""
    n_tiles, pairs, triples = int(tiles.max()) + 1, list(combinations(range(n), 2)), len(class_triples(n))
    found = np.zeros((n_tiles, n + len(pairs) + triples))
    counted = np.bincount(tiles.ravel() * 256 + labels.ravel(), minlength=256 * n_tiles).reshape(n_tiles, 256)
    found[:, :n] = counted[:, :n]
    whole = Region.whole((1, *labels.shape))
    for faces in weighted_faces(labels[None], n_classes=n, voxel_size=(1.0, 1.0, 1.0), own=whole, sigma=SURFACE_SIGMA):
        at = tiles[faces.places[1], faces.places[2]]
        found[:, n + pairs.index(faces.pair)] += np.bincount(at, weights=faces.weights, minlength=n_tiles)
    places, which = points_of_slice(labels, n_classes=n)
    np.add.at(found, (tiles[places[0], places[1]], n + len(pairs) + which), 1)
    return found


def effects(
    blocks: Float64[np.ndarray, "block 2 number"],
    classes: Sequence[str],
    *,
    places: Places | None = None,
    slabs_in: str | None = None,
) -> dict[str, Effect]:
    """Return what the segmentation does to each number, with intervals over blocks.

    Parameters
    ----------
    blocks
        Sums of `section_tiles` over the tiles of each block; blocks without a labelled pixel do not count.
    classes
        Names of the classes.
    places
        Of the blocks, as `sampling.jackknife` has them; without it they are independent.
    slabs_in
        Unit of length, um or voxel, of `slab_tiles`; None for sections.

    Examples
    --------
    >>> alike = np.tile([[30.0, 70.0, 10.0], [40.0, 60.0, 8.0]], (9, 1, 1))
    >>> found = effects(alike, ["a", "b"])
    >>> found["phase fraction a"].correction, found["interface area a-b per volume"].correction
    (-0.1, 1.25)
    """
    n = len(classes)
    there = blocks[:, 0, :n].sum(axis=1) > 0
    counted, at = blocks[there], None if places is None else places[there]
    found = {
        name: _effect(counted, at, number, n, is_fraction=number < n)
        for number, name in enumerate(number_names(classes))
    }
    voxels = int(counted[:, 0, :n].sum()) if slabs_in else None
    return {
        name: one.model_copy(update={"voxels": voxels, "unit": _unit(name, slabs_in)}) for name, one in found.items()
    }


def _unit(name: str, slabs_in: str | None) -> str:
    if name.startswith("phase"):
        return "1"
    if slabs_in is None:
        return "1/pixel" if name.startswith("interface") else "1/pixel2"
    return f"1/{slabs_in}" if name.startswith("interface") else f"{slabs_in}/{slabs_in}3"


def _effect(
    blocks: Float64[np.ndarray, "block 2 number"], places: Places | None, number: int, n: int, *, is_fraction: bool
) -> Effect:
    pixels = blocks[:, 0, :n].sum(axis=1)
    sums = np.stack([blocks[:, 0, number], blocks[:, 1, number], pixels], axis=1)
    labelled, predicted = (float(total / pixels.sum()) for total in sums[:, :2].sum(axis=0))
    if not is_fraction and not (labelled > 0 and predicted > 0):
        return Effect(labelled=labelled, predicted=predicted, correction=None, note="nothing to compare")

    far = _too_far(sums) if not is_fraction else None
    if far is not None:
        return Effect(labelled=labelled, predicted=predicted, correction=None, note=far)

    def correction(total: Float64[np.ndarray, " sum"]) -> Float64[np.ndarray, " value"]:
        return np.asarray((total[:1] - total[1:2]) / total[2] if is_fraction else total[:1] / total[1:2])

    spread = jackknife(sums, correction, places=places, of="the labelled slices hold")
    ends = None if spread.why_not else (float(spread.low[0]), float(spread.high[0]))
    return Effect(
        labelled=labelled,
        predicted=predicted,
        correction=round(float(spread.values[0]), 12),
        interval=ends,
        n_blocks=spread.n_blocks,
        note=spread.why_not,
    )


def _too_far(sums: Float64[np.ndarray, "block 3"]) -> str | None:
    """Return why a length or a number of points can't be corrected by a factor; None where it can.

    Sections of a segmentation that is far off (speckles, a lost class) do not tell what it does in the volume, and a
    number that hangs on one block has no spread.
    """
    total = sums.sum(axis=0)
    without = total[:2] - sums[:, :2]
    if not (without > 0).all():
        return "it is predicted or labelled in one block only"
    factor = total[0] / total[1]
    if not 1 / MOST_FACTOR <= factor <= MOST_FACTOR:
        return f"predicted {1 / factor:.3g} times as much as labelled: too far off to be corrected"
    return None


def with_segmentation(one: Measurement, effect: Effect, *, correct: bool, voxels: int) -> Measurement:
    """Return a number whose interval contains the segmentation's error as well, as far as labelled slices tell it.

    The interval lies around the corrected value; the sampling's half width and the correction's add up in squares.
    Where nobody knows how sure the correction is, nothing is corrected.

    Parameters
    ----------
    one
        The number of the volume, with its sampling interval if there is one.
    effect
        What the segmentation did to this number on labelled slices that the model had not seen.
    correct
        Whether the corrected value takes the place of the value; the other one is kept in the settings.
    voxels
        Of the volume that count.
    """
    if one.value is None:
        return one
    if effect.correction is None or effect.interval is None:
        told = {"segmentation": f"not corrected: {effect.note}"}
        note = one.note or f"the segmentation's error is not known: {effect.note}"
        return one.model_copy(update={"settings": {**one.settings, **told}, "note": note})
    value, scale = _corrected(one.value, effect.correction, one.unit)
    ends = _both(one, effect, value, scale=scale)
    kept: dict[str, object] = {"uncorrected": one.value} if correct else {"corrected": value}
    own = own_interval(one, effect, voxels=voxels)
    if own is not None:
        kept["interval_of_this_volume"] = own
    contains = (
        f"sampling, and the segmentation's error on labelled slices ({effect.n_blocks} blocks) at {LEVEL:.0%}, around "
        "the corrected value"
    )
    return one.model_copy(
        update={
            "value": value if correct else one.value,
            "interval": ends,
            "interval_contains": contains if ends else None,
            "settings": {**one.settings, **kept},
        }
    )


def made_consistent(found: Sequence[Measurement], names: Names) -> list[Measurement]:
    """Return all numbers with surfaces and active lines that go with corrected interfaces and lines.

    A class's surface is the sum of its interfaces; half widths add up, for what one interface has too much another one
    often has, too. The active, inactive and unknown parts of a line are corrected like the whole.
    """
    by_name = {one.name: one for one in found}
    changed: dict[str, Measurement] = {}
    for i, name in enumerate(names.classes):
        surface = by_name[f"surface area {name} per volume"]
        pairs = [by_name[names.area(*sorted((i, j)))] for j in range(len(names.classes)) if j != i]
        if surface.value is not None and any("uncorrected" in one.settings for one in pairs):
            changed[surface.name] = _summed(surface, [one for one in pairs if one.value is not None])
    for triple in class_triples(len(names.classes)):
        line = by_name[names.line(triple)]
        uncorrected = line.settings.get("uncorrected")
        if line.value is None or not uncorrected:
            continue
        factor = line.value / float(uncorrected)
        for its in found:
            if its.name.startswith(f"{line.name}, ") and its.value is not None:
                settings = {**its.settings, "uncorrected": its.value}
                changed[its.name] = its.model_copy(update={"value": factor * its.value, "settings": settings})
    return [changed.get(one.name, one) for one in found]


def _summed(surface: Measurement, pairs: Sequence[Measurement]) -> Measurement:
    value = sum(one.value for one in pairs if one.value is not None)
    halves = [(one.interval[1] - one.interval[0]) / 2 for one in pairs if one.interval is not None]
    ends = (value - sum(halves), value + sum(halves)) if len(halves) == len(pairs) else None
    return surface.model_copy(
        update={
            "value": value,
            "interval": ends,
            "interval_contains": "what those of its interfaces contain, half widths added up" if ends else None,
            "settings": {**surface.settings, "uncorrected": surface.value},
        }
    )


def own_interval(one: Measurement, effect: Effect, *, voxels: int) -> tuple[float, float] | None:
    """Return where this very volume's number lies at 95 %, whatever the rest of the material is like; None if unknown.

    The correction is as sure as the labelled slabs make it, and what segmenting did in this volume varies about it like
    what it did in as many labelled voxels.
    """
    if one.value is None or effect.correction is None or effect.interval is None or effect.voxels is None:
        return None
    value, scale = _corrected(one.value, effect.correction, one.unit)
    half = scale * (effect.interval[1] - effect.interval[0]) / 2 * float(np.sqrt(1 + effect.voxels / voxels))
    return value - half, value + half


def _corrected(value: float, correction: float, unit: str) -> tuple[float, float]:
    """Return the corrected value, and by what an error of the correction is multiplied."""
    return (value + correction, 1.0) if unit == "1" else (value * correction, value)


def _both(one: Measurement, effect: Effect, value: float, *, scale: float) -> tuple[float, float] | None:
    if one.interval is None or effect.interval is None:
        return None
    sampling, segmentation = ((ends[1] - ends[0]) / 2 for ends in (one.interval, effect.interval))
    half = float(np.hypot(sampling, segmentation * scale))
    return value - half, value + half


def read_effects(scores: object) -> dict[str, Effect]:
    """Return the effects that `scores.json` holds; raises ValueError where it holds none."""
    numbers = scores.get("numbers") if isinstance(scores, Mapping) else None
    if not isinstance(numbers, Mapping) or not numbers:
        raise ValueError("holds no numbers of labelled slices; evaluate the model again")
    return {str(name): Effect.model_validate(its) for name, its in numbers.items()}
