"""How often the intervals of `tomoseg quantify --sizes` hold the truth, on bodies of known sizes.

`python benchmarks/particles.py [--out results] [--volumes 4] [--fields 150]`: balls that do not touch, with diameters
of 16 voxels (median of a lognormal distribution, a standard deviation of 0.25 in the logarithm), fill a fifth of a
volume of 480 voxels along each axis, which goes on at its faces; it is cut into 27 windows of 160. Particles are the
balls themselves, as a perfect watershed would give them. `alike`: large ones lie where a smooth random field is high.
Balls that fit are measured in two phases of random fields, 64 voxels along each axis; the truth is that of all fields.
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
LOOKED_AT = 2  # volumes by which it was chosen how many particles an interval takes, they test nothing
SHARE, MEDIAN, SPREAD = 0.2, 16.0, 0.25
Found = tuple[dict[str, float], list[Measurement]]
NAMES, CUBIC = Names(("rest", "ball"), "voxel"), (1.0, 1.0, 1.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("results"))
    parser.add_argument("--volumes", type=int, default=4, help="of balls, for particles")
    parser.add_argument("--fields", type=int, default=150, help="for balls that fit")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    for alike in (False, True) if given.volumes else ():
        found = [
            one for seed in range(LOOKED_AT, LOOKED_AT + given.volumes) for one in measure_volume(seed, alike=alike)
        ]
        tell(given.out, found, alike=alike)
    if given.fields:
        tell(given.out, measure_fields(given.fields))


def measure_volume(seed: int, *, alike: bool) -> list[Found]:
    """Return the truth of a volume, and what each of its windows tells."""
    volume = filled(np.random.default_rng(seed), alike=alike)
    truth = truth_of(volume)
    return [(truth, measure(np.ascontiguousarray(volume[place]))) for place in places()]


def measure_fields(n: int) -> list[Found]:
    """Return the median diameters of all fields together, and what each of them tells."""
    fields = [ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal((80,) * 3), 2) for seed in range(n)]
    windows = [(field[8:-8, 8:-8, 8:-8] > 0.3 * field.std()).astype(np.uint8) for field in fields]
    covered = [cover(window) for window in windows]
    whole = reduce(add, [one for several in covered for one in several])
    truth = {f"median diameter {name}": exceeded_diameter(whole, index=index, share=0.5) or 0.0
             for index, name in enumerate(NAMES.classes)}  # fmt: skip
    return [(truth, size_distribution(its, counted(window, edge=16), NAMES))
            for its, window in zip(covered, windows, strict=True)]  # fmt: skip


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


def counted(window: np.ndarray, *, edge: int = BLOCK) -> Counted:
    labels, grid = (window > 0).astype(np.uint8), cut(window.shape, edge=edge)
    voxels = np.stack([np.bincount(labels[block.slices].ravel(), minlength=2) for block in grid])
    cells = np.stack(np.unravel_index(np.arange(len(grid)), grid.counts), axis=1)
    middle = [np.take(labels, len(labels) // 2, axis=axis) for axis in range(3)]
    return Counted(voxels, [], [], cells, (float(edge),) * 3, float(max(map(correlation_length, middle))))


def cover(labels: np.ndarray) -> list[Sizes]:
    radii = default_radii(9.0, voxel_size_um=CUBIC)
    return [
        cover_block(lambda region: labels[region.slices].copy(), block, shape=labels.shape, radii_um=radii,
                    voxel_size_um=CUBIC, n_classes=2)
        for block in cut(labels.shape, edge=16)
    ]  # fmt: skip


def tell(out: Path, found: list[Found], *, alike: bool = False) -> None:
    """Print and keep, for each number, how often its interval holds the truth, and how wide it is."""
    rows, without = defaultdict(list), defaultdict(int)
    for truth, its in found:
        for one in its:
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
