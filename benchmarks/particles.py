"""How often the intervals of `tomoseg quantify --sizes` hold the truth, on balls of known sizes.

`python benchmarks/particles.py [--out results] [--volumes 4] [--balls]`: balls that do not touch, with diameters of 16
voxels (median of a lognormal distribution, a standard deviation of 0.25 in the logarithm), fill a fifth of a volume
of 480 voxels along each axis, which goes on at its faces; it is cut into 27 windows of 160. Particles are the balls
themselves, as a perfect watershed would give them. `alike`: large ones lie where a smooth random field is high.
`--balls` measures the local thickness as well, which takes ten times as long; its truth is that of all windows.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterator
from functools import reduce
from itertools import product
from operator import add
from pathlib import Path

import numpy as np
from scipy import ndimage

from common import record
from tomoseg.intervals import correlation_length
from tomoseg.quantify.grid import cut
from tomoseg.quantify.measurement import Measurement
from tomoseg.quantify.names import Names
from tomoseg.quantify.particles import QUANTILES, weighted_quantile, whole_runs
from tomoseg.quantify.quantities import Counted
from tomoseg.quantify.size_quantities import particle_sizes, size_distribution
from tomoseg.quantify.sizes import Sizes, cover_block, default_radii, exceeded_diameter
from tomoseg.quantify.watershed import Basins

EDGE, WINDOW, BLOCK = 480, 160, 40
SHARE, MEDIAN, SPREAD = 0.2, 16.0, 0.25
NAMES, CUBIC = Names(("rest", "ball"), "voxel"), (1.0, 1.0, 1.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("results"))
    parser.add_argument("--volumes", type=int, default=4)
    parser.add_argument("--balls", action="store_true", help="local thickness, too")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    for alike in (False, True):
        found = [one for seed in range(given.volumes) for one in measure_volume(seed, alike=alike, balls=given.balls)]
        tell(given.out, found, alike=alike)


def measure_volume(seed: int, *, alike: bool, balls: bool) -> list[tuple[dict[str, float], list[Measurement]]]:
    """Return the truth of a volume, and what each of its windows tells."""
    volume = filled(np.random.default_rng(seed), alike=alike)
    truth = truth_of(volume)
    windows = [np.ascontiguousarray(volume[place]) for place in places()]
    found = [measure(window) for window in windows]
    if balls:
        covered = [cover(window > 0) for window in windows]
        truth["median diameter ball"] = exceeded_diameter(reduce(add, map(total, covered)), index=1, share=0.5) or 0.0
        for its, one, window in zip(found, covered, windows, strict=True):
            its.extend(size_distribution(one, counted(window), NAMES))
    return [(truth, one) for one in found]


def filled(rng: np.random.Generator, *, alike: bool) -> np.ndarray:
    """Return the number of the ball that each voxel lies in, int32 (z, y, x), 0 outside; the largest come first."""
    volume, radii = np.zeros((EDGE,) * 3, np.int32), []
    while sum(radii_volume := [4 / 3 * np.pi * radius**3 for radius in radii]) < SHARE * EDGE**3:
        radii.append(MEDIAN / 2 * np.exp(SPREAD * rng.standard_normal()))
    field = ndimage.gaussian_filter(rng.standard_normal((EDGE // 8,) * 3), 2, mode="wrap")
    field = np.argsort(np.argsort(field.ravel())).reshape(field.shape) / field.size
    for order, radius in enumerate(sorted(radii, reverse=True)):
        wanted = 1 - order / len(radii_volume)
        while True:
            centre = rng.uniform(0, EDGE, 3)
            if alike and abs(field[tuple((centre // 8).astype(int))] - wanted) > 0.4:
                continue
            low, high = np.ceil(centre - radius - 0.5).astype(int), np.floor(centre + radius + 0.5).astype(int)
            along = [np.arange(a, b) for a, b in zip(low, high, strict=True)]
            z, y, x = ((at + 0.5 - c) ** 2 for at, c in zip(along, centre, strict=True))
            inside = z[:, None, None] + y[:, None] + x < radius**2
            box = np.ix_(*(at % EDGE for at in along))
            if not volume[box][inside].any():
                volume[box] += (order + 1) * inside.astype(np.int32)
                break
    return volume


def places() -> Iterator[tuple[slice, ...]]:
    starts = range(0, EDGE, WINDOW)
    return (tuple(slice(start, start + WINDOW) for start in place) for place in product(starts, starts, starts))


def truth_of(volume: np.ndarray) -> dict[str, float]:
    voxels = np.sort(np.bincount(volume.ravel())[1:])
    diameters = np.cbrt(6 * voxels / np.pi)
    found = {
        f"particle diameter ball D{100 * share:.0f} by volume": weighted_quantile(diameters, 1.0 * voxels, share)
        for share in QUANTILES
    }
    found["particle diameter ball median by number"] = weighted_quantile(diameters, np.ones(len(voxels)), 0.5)
    return {"particles ball per volume": len(voxels) / volume.size, **found}


def measure(window: np.ndarray) -> list[Measurement]:
    grid, runs = cut(window.shape, edge=BLOCK), [whole_runs(window.shape, axis=axis) for axis in range(3)]
    found = particle_sizes(basins(window), counted(window), NAMES, runs=runs, grid=grid, voxel_size_um=CUBIC)
    return [one for one in found if "ball" in one.name and "wholly" not in one.name]


def basins(window: np.ndarray) -> Basins:
    """Return the balls in a window as particles."""
    ids, numbers = np.unique(window, return_inverse=True)
    numbers = numbers.reshape(window.shape)
    boxes = ndimage.find_objects(numbers)
    low, high = (np.array([[getattr(along, end) for along in box] for box in boxes]) for end in ("start", "stop"))
    n = len(ids) - 1
    voxels = np.bincount(numbers.ravel())[1:]
    return Basins(ids[1:].astype(np.int64), np.ones(n, np.uint8), voxels, low, high, np.zeros(n), np.zeros(n, bool))


def counted(window: np.ndarray) -> Counted:
    labels, grid = (window > 0).astype(np.uint8), cut(window.shape, edge=BLOCK)
    voxels = np.stack([np.bincount(labels[block.slices].ravel(), minlength=2) for block in grid])
    cells = np.stack(np.unravel_index(np.arange(len(grid)), grid.counts), axis=1)
    middle = [np.take(labels, WINDOW // 2, axis=axis) for axis in range(3)]
    return Counted(voxels, [], [], cells, (float(BLOCK),) * 3, float(max(map(correlation_length, middle))))


def cover(inside: np.ndarray) -> list[Sizes]:
    labels, radii = inside.astype(np.uint8), default_radii(18.0, voxel_size_um=CUBIC)
    return [
        cover_block(lambda region: labels[region.slices].copy(), block, shape=labels.shape, radii_um=radii,
                    voxel_size_um=CUBIC, n_classes=2)
        for block in cut(labels.shape, edge=BLOCK)
    ]  # fmt: skip


def total(several: list[Sizes]) -> Sizes:
    return reduce(add, several)


def tell(out: Path, found: list[tuple[dict[str, float], list[Measurement]]], *, alike: bool) -> None:
    """Print and keep, for each number, how often its interval holds the truth, and how wide it is."""
    rows, without = defaultdict(list), defaultdict(int)
    for truth, its in found:
        for one in its:
            if one.name not in truth:
                continue
            if one.interval is None or one.value is None:
                without[one.name] += 1
                continue
            (low, high), true = one.interval, truth[one.name]
            rows[one.name].append((low <= true <= high, one.value / true - 1, (high - low) / 2 / true, true < low))
    for name, its in rows.items():
        held, error, half, above = np.array(its, float).T
        record(out, "particles", name=name, alike=alike, windows=len(found), without=without[name],
               held=round(held.mean(), 3), too_high=round(above.mean(), 3), bias=round(error.mean(), 4),
               half_width_over_2_std=round(half.mean() / 1.96 / error.std(), 2), std=round(error.std(), 4))  # fmt: skip


if __name__ == "__main__":
    main()
