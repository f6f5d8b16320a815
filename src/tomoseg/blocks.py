"""A block of a volume in, its labels, probabilities, uncertainty and sums out.

A block is what one task reads, segments and writes: a few whole slices, or a part of them. Blocks see their
surroundings (context slices and halo), so that cutting a volume into other blocks changes nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from operator import itemgetter

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64, Shaped, UInt8, UInt16

from tomoseg.ends import FITTED, MARGIN, TAKEN, End, beyond, fit_end, inward, spots_of
from tomoseg.engine import Stack
from tomoseg.labels import UNLABELLED
from tomoseg.noise_level import estimate_noise_std
from tomoseg.predict import Runner
from tomoseg.slices import context_slices
from tomoseg.tiles import Tile, needed
from tomoseg.unet_config import UNetConfig
from tomoseg.volume import Grey, Region, Volume
from tomoseg.window import Window

BINS = 64
"""Bins of a slice's histogram, from half a window's width below the window to half a width above it."""

_LOOK_EDGE = 256
_NOISE_EDGE = 128
_LEAST_EDGE = 16

LEVELS_16 = 65535
"""Probability 1 in 16 bits."""

Take = Callable[[int, tuple[slice, slice], Float32[np.ndarray, "class y x"]], None]


@dataclass(frozen=True)
class Slab:
    """The grey values that a block needs: its slices and their context, its pixels and their halo.

    Attributes
    ----------
    region
        The block in voxels of the volume.
    values
        Grey values (z, y, x).
    start
        Where in the volume `values` begins, (z, y, x).
    shape
        Pixels of a whole slice of the volume along (y, x).
    numbers
        Position of each slice of the volume along z.
    foretold
        Slices beyond the volume's ends that the block sees, each as wide as `values`.
    """

    region: Region
    values: Grey
    start: tuple[int, int, int]
    shape: tuple[int, int]
    numbers: Sequence[int]
    foretold: Mapping[int, Shaped[np.ndarray, "y x"]] = field(default_factory=dict)

    def context(self, z: int, context: int) -> tuple[int, ...]:
        """Return slice `z` of the volume and its context, rising in z, as positions in the volume."""
        return context_slices(z, numbers=self.numbers, context=context)

    def slice(self, z: int) -> Shaped[np.ndarray, "y x"]:
        """Return what there is of slice `z` of the volume, or beyond it."""
        values: Shaped[np.ndarray, "y x"] = self.foretold[z] if z in self.foretold else self.values[z - self.start[0]]
        return values

    def own(self, z: int) -> Shaped[np.ndarray, "y x"]:
        """Return the block's own pixels of slice `z`."""
        _, y, x = self.start
        region = self.region
        return self.values[z - self.start[0], region.y0 - y : region.y1 - y, region.x0 - x : region.x1 - x]


def slab_region(shape: tuple[int, int, int], region: Region, *, network: UNetConfig, numbers: Sequence[int]) -> Region:
    """Return the part of a volume of `shape` (z, y, x) that must be read for a block.

    Examples
    --------
    >>> network = UNetConfig(classes=2, context=1)
    >>> slab_region((9, 200, 50), Region(4, 6, 0, 100, 0, 50), network=network, numbers=range(9))
    Region(z0=3, z1=7, y0=0, y1=160, x0=0, x1=50)
    """
    zs = _seen(region, network=network, numbers=numbers)
    outside = {z for z in zs if beyond(z, shape[0])}
    zs |= {near for z in outside for near in inward(z, shape[0], slices=TAKEN)}
    rows, columns = needed(
        shape[1:],
        halo=network.halo,
        grid=network.grid,
        box=(slice(region.y0, region.y1), slice(region.x0, region.x1)),
    )
    if outside:
        rows, columns = (
            slice(max(0, part.start - MARGIN), min(size, part.stop + MARGIN))
            for part, size in zip((rows, columns), shape[1:], strict=True)
        )
    return Region(min(zs - outside), max(zs - outside) + 1, rows.start, rows.stop, columns.start, columns.stop)


def _seen(region: Region, *, network: UNetConfig, numbers: Sequence[int]) -> set[int]:
    """Return the slices that a block sees, those beyond the volume's ends among them."""
    each = (context_slices(z, numbers=numbers, context=network.context) for z in range(region.z0, region.z1))
    return {z for found in each for z in found}


class Ends:
    """The ends of a volume, each fitted once, when a block first sees beyond it."""

    def __init__(self, volume: Volume) -> None:
        self._volume, self._found, self._fitting = volume, dict[bool, End](), threading.Lock()

    def beside(self, z: int) -> End:
        """Return the end beyond which slice `z` lies; raises as the volume's `read` does."""
        with self._fitting:
            if (z < 0) not in self._found:
                self._found[z < 0] = fit_end(list(self._spots(inward(z, self._volume.shape[0], slices=FITTED))))
            return self._found[z < 0]

    def _spots(self, zs: Sequence[int]) -> Iterator[list[Shaped[np.ndarray, "y x"]]]:
        """Yield the same spot of slices `zs`, spot by spot; those in the same rows are read at once."""
        _, height, width = self._volume.shape
        for rows, spots in groupby(spots_of((height, width)), key=itemgetter(0)):
            band = self._volume.read(Region(min(zs), max(zs) + 1, rows.start, rows.stop, 0, width))
            for _, columns in spots:
                yield [band[z - min(zs), :, columns] for z in zs]


def read_slab(volume: Volume, region: Region, *, network: UNetConfig, numbers: Sequence[int], ends: Ends) -> Slab:
    """Read what a block needs, and foretell what it sees beyond the volume; raises as the volume's `read` does."""
    part, count = slab_region(volume.shape, region, network=network, numbers=numbers), volume.shape[0]
    slab = Slab(region, volume.read(part), (part.z0, part.y0, part.x0), volume.shape[1:], numbers)
    foretold = {
        z: ends.beside(z).foretell(beyond(z, count), [slab.slice(i) for i in inward(z, count, slices=TAKEN)])
        for z in _seen(region, network=network, numbers=numbers)
        if beyond(z, count)
    }
    return replace(slab, foretold=foretold)


def run_slab(runner: Runner, slab: Slab, take: Take) -> Iterator[int]:
    """Run the network on a block; yield how many slices are done, or their worth in tiles.

    Tile by tile, and in each slice by slice, so that a slice is prepared once and not again as its neighbours' context.

    Parameters
    ----------
    runner
        Runs the network.
    slab
        What the block needs.
    take
        Gets the slice's place in the block, the place (y, x) in it, and the class probabilities there.
    """
    region = slab.region
    box = (slice(region.y0, region.y1), slice(region.x0, region.x1))
    parts = runner.tiles(slab.shape, box)

    for done, (part, z, stack) in enumerate(_stacks(runner, slab, parts), start=1):
        core, found = runner.placed(part, runner.engine.run(stack), box=box)
        rows, columns = (
            slice(place.start - start, place.stop - start)
            for place, start in zip(core, (region.y0, region.x0), strict=True)
        )
        take(z - region.z0, (rows, columns), found)
        if done % len(parts) == 0:
            yield done // len(parts)


def _stacks(runner: Runner, slab: Slab, parts: Sequence[Tile]) -> Iterator[tuple[Tile, int, Stack]]:
    """Yield each tile of each slice with the network's input, the same array each time; each plane is prepared once."""
    origin = (slab.start[1], slab.start[2])
    for part in parts:
        stack = np.empty((runner.network.channels, part.height, part.width), np.float32)
        planes: dict[int, Float32[np.ndarray, "height width"]] = {}
        for z in range(slab.region.z0, slab.region.z1):
            seen = slab.context(z, runner.network.context)
            planes = {
                i: planes[i] if i in planes else runner.plane(slab.slice(i), part, shape=slab.shape, origin=origin)
                for i in seen
            }
            yield part, z, np.stack([planes[i] for i in seen], out=stack)


class Levels16:
    """Probabilities of a block in 16 bits, as they are kept while the axes are averaged."""

    def __init__(self, shape: tuple[int, int, int], classes: int) -> None:
        self.values: UInt16[np.ndarray, "class z y x"] = np.empty((classes, *shape), np.uint16)

    def take(self, z: int, core: tuple[slice, slice], found: Float32[np.ndarray, "class y x"]) -> None:
        """Keep the probabilities of a tile."""
        self.values[(slice(None), z, *core)] = np.rint(found * LEVELS_16)


@dataclass(frozen=True)
class Wanted:
    """Which outputs a block gives beside its class indices."""

    probabilities: bool = False
    uncertainty: bool = False


class Outputs:
    """Class indices of a block, the outputs that are wanted, and exact sums for each slice.

    Attributes
    ----------
    index
        Class indices, `UNLABELLED` outside the field of view.
    levels
        Probability of each class, 0 to 255; no classes where not wanted.
    uncertainty
        Entropy of the probabilities over that of equal ones, 0 to 255; empty where not wanted. 255 means that
        the network can't tell; DOI 10.1002/j.1538-7305.1948.tb01338.x (Shannon).
    voxels
        Voxels of each class in each slice.
    sums
        Sum of each class's probability in each slice.
    confidence
        Sum of the largest probability in each slice.
    """

    def __init__(self, shape: tuple[int, int, int], *, classes: int, wanted: Wanted, inside: Bool[np.ndarray, "z y x"]):
        depth = shape[0]
        self._inside = inside
        self.index: UInt8[np.ndarray, "z y x"] = np.full(shape, UNLABELLED, np.uint8)
        self.levels: UInt8[np.ndarray, "class z y x"] = np.zeros((wanted.probabilities * classes, *shape), np.uint8)
        self.uncertainty: UInt8[np.ndarray, "z y x"] = np.zeros((wanted.uncertainty * depth, *shape[1:]), np.uint8)
        self.voxels: Int64[np.ndarray, "z class"] = np.zeros((depth, classes), np.int64)
        self.sums: Float64[np.ndarray, "z class"] = np.zeros((depth, classes))
        self.confidence: Float64[np.ndarray, " z"] = np.zeros(depth)

    def take(self, z: int, core: tuple[slice, slice], found: Float32[np.ndarray, "class y x"]) -> None:
        """Keep what a tile gives."""
        inside = self._inside[(z, *core)]
        best, top = most_probable(found)
        self.index[(z, *core)] = np.where(inside, best, np.uint8(UNLABELLED))
        if len(self.levels):
            self.levels[(slice(None), z, *core)] = np.rint(255 * found) * inside
        if len(self.uncertainty):
            self.uncertainty[(z, *core)] = np.rint(255 * normalised_entropy(found)) * inside
        self.voxels[z] += [np.count_nonzero((best == order) & inside) for order in range(len(found))]
        if not inside.all():
            found, top = found * inside, top * inside
        self.sums[z] += found.sum(axis=(1, 2), dtype=np.float64)
        self.confidence[z] += top.sum(dtype=np.float64)


def most_probable(
    found: Float32[np.ndarray, "class y x"],
) -> tuple[UInt8[np.ndarray, "y x"], Float32[np.ndarray, "y x"]]:
    """Return the most probable class of each pixel, of several the first, and its probability.

    Class by class over whole planes: numpy's `argmax` along the first axis takes twenty times as long.

    Examples
    --------
    >>> most_probable(np.array([[[0.2, 0.5]], [[0.8, 0.5]]], np.float32))[0]
    array([[1, 0]], dtype=uint8)
    """
    best, top = np.zeros(found.shape[1:], np.uint8), found[0].copy()
    for order, plane in enumerate(found[1:], start=1):
        best += (plane > top).view(np.uint8) * (np.uint8(order) - best)  # wraps round, as it should
        np.maximum(top, plane, out=top)
    return best, top


def normalised_entropy(probabilities: Float32[np.ndarray, "class y x"]) -> Float32[np.ndarray, "y x"]:
    """Return the entropy of class probabilities over its largest value: 0 certain, 1 all classes alike.

    Examples
    --------
    >>> normalised_entropy(np.array([[[1.0, 0.5]], [[0.0, 0.5]]], np.float32)).round(3)
    array([[0., 1.]], dtype=float32)
    """
    logs = np.log(np.maximum(probabilities, np.float32(1e-12)))
    negative = (probabilities * logs).sum(axis=0) / np.float32(np.log(len(probabilities)))
    entropy: Float32[np.ndarray, "y x"] = np.abs(np.clip(negative, -1, 0))
    return entropy


def average(levels: Sequence[UInt16[np.ndarray, "class y x"]]) -> Float32[np.ndarray, "class y x"]:
    """Return the mean of probabilities in 16 bits, in a fixed order."""
    total = np.zeros(levels[0].shape, np.float32)
    for found in levels:
        total += found
    return total / np.float32(LEVELS_16 * len(levels))


@dataclass(frozen=True)
class GreyStatistics:
    """What the grey values of a slice look like, in units of the model's window.

    Attributes
    ----------
    histogram
        Counts in `BINS` bins over the window and half its width on either side; beyond, the last bin counts.
    noise
        Std of the noise in window widths; None where it can't be told.
    """

    histogram: Int64[np.ndarray, " bin"]
    noise: float | None


@dataclass(frozen=True)
class PixelGrid:
    """Evenly spaced pixels of a slice, some 256 x 256, the same ones however the slice is cut into blocks.

    Attributes
    ----------
    rows, columns
        Those that lie in the block.
    """

    rows: slice
    columns: slice

    @classmethod
    def over(cls, shape: tuple[int, int], *, origin: tuple[int, int] = (0, 0)) -> PixelGrid:
        """Return the grid of a slice of `shape` (y, x), for a block whose first pixel is `origin`.

        Examples
        --------
        >>> PixelGrid.over((1024, 1024), origin=(0, 510))
        PixelGrid(rows=slice(0, None, 4), columns=slice(2, None, 4))
        """
        step = max(1, round(np.sqrt(shape[0] * shape[1]) / _LOOK_EDGE))
        rows, columns = (slice(-first % step, None, step) for first in origin)
        return cls(rows, columns)


def grey_statistics(
    values: Shaped[np.ndarray, "y x"],
    *,
    window: Window,
    inside: Bool[np.ndarray, "y x"],
    grid: PixelGrid | None = None,
) -> GreyStatistics:
    """Measure the grey values of a slice, or of a block of one, inside the field of view.

    The histogram takes the pixels of `grid`, without one those of a whole slice; the noise is estimated in a square of
    128 pixels in the middle: both for every slice of a volume at a cost that does not matter.
    """
    grid = grid or PixelGrid.over(values.shape)
    counts = histogram_of(window.apply(values[grid.rows, grid.columns][inside[grid.rows, grid.columns]]))
    rows, columns = (slice(max(0, (size - _NOISE_EDGE) // 2), (size + _NOISE_EDGE) // 2) for size in values.shape)
    middle, shown = values[rows, columns], inside[rows, columns]
    noise = estimate_noise_std(middle, inside=shown) if min(middle.shape) >= _LEAST_EDGE and shown.any() else 0.0
    return GreyStatistics(counts, noise / window.width if noise > 0 else None)


def histogram_of(relative: Float32[np.ndarray, " value"]) -> Int64[np.ndarray, " bin"]:
    """Count grey values, in units of the window, in the bins of `GreyStatistics`."""
    bins = np.clip((relative + 0.5) * (BINS / 2), 0, BINS - 1).astype(np.int64)
    return np.bincount(bins, minlength=BINS)
