"""How far the integral of mean curvature that `tomoseg quantify` measures is from that of bodies known in closed form.

`python benchmarks/curvature.py [--out results]`: bodies at random places and in random directions. A line of JSON in
OUT/curvature.jsonl for each kind: the mean error, its std and its ends in per cent of the true integral, for planes and
gyroids (whose is 0) of one over a length, for lenses of what the edge adds. Five minutes.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import reduce
from itertools import product
from operator import add

import numpy as np
from scipy import ndimage

from common import parse_out, record
from tomoseg.phantom import FieldSampler, PhantomSpec, make_phantom
from tomoseg.quantify.curvature import count_cubes, cube_curvatures
from tomoseg.quantify.surfaces import measure_surfaces

RADII = (3, 5, 10, 20)
DIHEDRALS = (150, 120, 90, 60, 45, 30)
CHORDS = (9.0, 19.0, 38.5)
SIZES = ((1.0, 1.0, 1.0), (1.0, 0.5, 0.5), (1.0, 0.5, 0.25))
NOISE = (0.0, 0.05, 0.1, 0.15)
BLUR = 1.05

Body = np.ndarray


def main() -> None:
    out, rng = parse_out(str(__doc__)), np.random.default_rng(0)

    def show(body: str, errors: Iterator[float]) -> None:
        found = 100 * np.array(list(errors))
        told = {"mean": found.mean(), "std": found.std(), "lowest": found.min(), "highest": found.max()}
        record(out, "curvature", body=body, **{what: round(float(value), 2) for what, value in told.items()})

    for size in SIZES:
        for radius in RADII:
            show(f"ball, R {radius}, voxel {size}", (integral(ball(radius, rng, size), size) / (4 * np.pi * radius) - 1
                                                     for _ in range(10)))  # fmt: skip
    for radius in RADII:
        show(f"ball of the other phase, R {radius}", (integral(~ball(radius, rng)) / (-4 * np.pi * radius) - 1
                                                      for _ in range(10)))  # fmt: skip
    for size in SIZES:
        for radius in (4, 8):
            for axis in range(3):
                show(f"cylinder along {'zyx'[axis]}, R {radius}, voxel {size}",
                     (cylinder_error(radius, np.eye(3)[axis], rng, size) for _ in range(2)))  # fmt: skip
            show(f"cylinder in any direction, R {radius}, voxel {size}",
                 (cylinder_error(radius, unit(rng), rng, size) for _ in range(20)))  # fmt: skip
    show("plane in any direction: H x voxel", (mean_curvature(half_space(unit(rng), rng)) for _ in range(20)))
    show("plane along an axis: H x voxel", (mean_curvature(half_space(one, rng)) for one in np.eye(3)))
    for period in (16, 32):
        show(f"gyroid, period {period}: H x period", (period * mean_curvature(gyroid(period, rng)) for _ in range(5)))
    for dihedral in DIHEDRALS:
        show(f"lens with an edge of {dihedral} degrees, error over the edge's part",
             (lens_error(24, np.radians(dihedral), rng) for _ in range(4)))  # fmt: skip
    for chord in CHORDS:
        show(f"two random phases, chord {chord}: over three times as fine", two_phases(chord))
        show(f"three random phases, chord {chord}: edges, from the triple lines", three_phases(chord))
    for std, step in product(NOISE, (1, 2)):
        show(f"ball, R 20, in a scan with noise of {std} of the contrast, by steps of {step} voxels",
             (noisy(20, std, step, rng) for _ in range(4)))  # fmt: skip


def integral(body: Body, size: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> float:
    return float(count_cubes(body.astype(np.uint8), n_classes=2)[1] @ cube_curvatures(size))


def mean_curvature(body: Body) -> float:
    """Return the mean curvature of the surface, 1 over voxels."""
    density = integral(body) / np.prod(np.subtract(body.shape, 1))
    return float(density / measure_surfaces(body.astype(np.uint8), n_classes=2).densities[0, 1])


def unit(rng: np.random.Generator) -> np.ndarray:
    vector = rng.standard_normal(3)
    return np.asarray(vector / np.linalg.norm(vector))


def places(lengths: np.ndarray, rng: np.random.Generator, size: tuple[float, ...] = (1, 1, 1)) -> np.ndarray:
    """Return each voxel's place from a random point near the middle of a volume, (axis, z, y, x)."""
    shape = np.ceil(np.asarray(lengths) / size).astype(int) + 4
    centre = (shape - 1) / 2 + rng.uniform(-0.5, 0.5, 3)
    return np.asarray((np.indices(shape) - centre[:, None, None, None]) * np.reshape(size, (3, 1, 1, 1)))


def ball(radius: float, rng: np.random.Generator, size: tuple[float, ...] = (1, 1, 1)) -> Body:
    return np.asarray((places(np.full(3, 2.0 * radius), rng, size) ** 2).sum(axis=0) < radius**2)


def cylinder_error(
    radius: float, along: np.ndarray, rng: np.random.Generator, size: tuple[float, float, float]
) -> float:
    """Return the error of the side of a cylinder that ends in half balls."""
    length = 10 * radius
    at = places(length * np.abs(along) + 2 * radius, rng, size)
    height = np.clip(np.tensordot(along, at, 1), -length / 2, length / 2)
    body = ((at - along[:, None, None, None] * height) ** 2).sum(axis=0) < radius**2
    return (integral(body, size) - 4 * np.pi * radius) / (np.pi * length) - 1


def half_space(normal: np.ndarray, rng: np.random.Generator) -> Body:
    return np.asarray(np.tensordot(normal, places(np.full(3, 60.0), rng), 1) > 0)


def gyroid(period: float, rng: np.random.Generator) -> Body:
    turn, _ = np.linalg.qr(rng.standard_normal((3, 3)))
    z, y, x = np.tensordot(turn, 2 * np.pi / period * places(np.full(3, 96.0), rng), 1) + rng.uniform(
        0, 6, (3, 1, 1, 1)
    )
    return np.asarray(np.sin(z) * np.cos(y) + np.sin(y) * np.cos(x) + np.sin(x) * np.cos(z) > 0)


def lens_error(rim: float, dihedral: float, rng: np.random.Generator) -> float:
    """Return the error of a body between two spheres over what the edge adds: half the angle that it turns by."""
    radius = rim / np.sin(dihedral / 2)
    away, at, up = np.sqrt(radius**2 - rim**2), places(np.full(3, 2 * rim + 2.0), rng), unit(rng)
    both = [((at - side * away * up[:, None, None, None]) ** 2).sum(axis=0) < radius**2 for side in (-1, 1)]
    edge = np.pi * rim * (np.pi - dihedral)
    return float((integral(both[0] & both[1]) - 4 * np.pi * (radius - away) - edge) / edge)


def two_phases(chord: float) -> Iterator[float]:
    """Yield the error against voxels a third as large: of what lies above 0.7 in a phantom's first field."""
    for seed in range(4):
        sampler, fine = FieldSampler(seed, chord=chord), np.arange(0, 95.1, 1 / 3)
        field = np.stack([sampler.layer(z, fine, fine)[0] for z in fine])
        true = integral(field > 0.7) / 3
        yield integral(field[::3, ::3, ::3] > 0.7) / true - 1


def three_phases(chord: float) -> Iterator[float]:
    """Yield the error of the sum over all phases: interfaces cancel, lines add half a turn times their length."""
    for seed in range(4):
        slices = list(make_phantom(PhantomSpec(shape=(96, 160, 160), seed=seed, noise_std=0, chord=chord)))
        truth = reduce(add, [one.truth for one in slices])
        counts = count_cubes(np.stack([one.label for one in slices]), n_classes=3)
        density = counts @ cube_curvatures() / counts.sum(axis=1)
        yield float(density.sum() / (np.pi / 2 * truth.line / truth.volume) - 1)


def noisy(radius: float, std: float, step: int, rng: np.random.Generator) -> float:
    """Return the error of a ball segmented by a threshold, with noise in the scan, by every voxel or every second."""
    body = np.pad(ball(radius, rng), 8).astype(float)
    scan = ndimage.gaussian_filter(body, BLUR) + rng.normal(0, std, body.shape)
    return step * integral((scan > 0.5)[::step, ::step, ::step]) / (4 * np.pi * radius) - 1


if __name__ == "__main__":
    main()
