"""Made-up samples without end: structures of two to five phases, and the grey values that a scan of them would have.

Random fields (level sets; the largest of several), cells, bodies, fibres and cracks, with textures, blur, fringes of
phase contrast and uneven brightness. Samples of three phases are never grains that meet, nor the largest of several
fields: that is what the phantom shows, on which networks are tested that were trained on these. Some small patches of
samples of four and five phases will show three of them as such.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int64, UInt8
from scipy import fft, ndimage
from scipy.spatial import cKDTree

DEPTH, EDGE = 9, 192
FEWEST, MOST = 2, 5

Shape = tuple[int, int, int]
Field = Float32[np.ndarray, "z y x"]
Phases = Int64[np.ndarray, "z y x"]
Maker = Callable[[np.random.Generator, Shape, int], Phases]

_LEAST_DEPTH = 16  # of a random field, whose ends meet
_MOST_CELLS, _MOST_BODIES = 4000, 120


@dataclass(frozen=True)
class Sample:
    """A made-up scan.

    Attributes
    ----------
    grey
        Grey values, most of them from 0 to 1, float16 (z, y, x), without noise.
    phase
        Of each voxel before blur, uint8 (z, y, x).
    n
        Number of phases; some may not occur.
    """

    grey: np.ndarray
    phase: UInt8[np.ndarray, "z y x"]
    n: int


def make_samples(rng: np.random.Generator, *, scans: int = 2) -> list[Sample]:
    """Return one structure as several scans show it: each with its own grey values, blur and brightness."""
    phase, n = structure(rng, (DEPTH, EDGE, EDGE))
    return [Sample(grey_values(rng, phase, n).astype(np.float16), phase, n) for _ in range(scans)]


def structure(rng: np.random.Generator, shape: Shape) -> tuple[UInt8[np.ndarray, "z y x"], int]:
    """Return the phase of each voxel, and how many phases there may be."""
    n = int(rng.choice([2, 3, 4, 5], p=[0.3, 0.35, 0.2, 0.15]))
    if n != 3:
        phase = _one_of(rng, level_sets, largest, cells, bodies)(rng, shape, n)
    elif rng.random() < 0.6:  # two phases of any kind, the third within one of them
        phase = _one_of(rng, level_sets, largest, cells, bodies)(rng, shape, 2)
        within = _one_of(rng, level_sets, cells, bodies)(rng, shape, 2)
        phase[(phase == rng.integers(2)) & (within == 1)] = 2
    else:
        phase = bodies(rng, shape, n)
    if n > FEWEST and rng.random() < 0.15:
        phase[crack(rng, shape)] = rng.integers(n)
    return phase.astype(np.uint8), n


def _one_of(rng: np.random.Generator, *makers: Maker) -> Maker:
    return makers[int(rng.integers(len(makers)))]


def field(rng: np.random.Generator, shape: Shape, length: float, stretch: tuple[float, ...] = (1.0, 1.0, 1.0)) -> Field:
    """Return a random field of mean 0 and std 1: smooth, nearly periodic or rough, its scale `length` voxels."""
    whole = (max(shape[0], _LEAST_DEPTH), *shape[1:])
    z, y, x = (fft.fftfreq(n) * by for n, by in zip(whole, stretch, strict=True))
    waves = length * np.sqrt(z[:, None, None] ** 2 + y[:, None] ** 2 + x[: shape[2] // 2 + 1] ** 2)
    gains = (
        lambda: np.exp(-2 * (np.pi * waves / 2.5) ** 2),
        lambda: np.exp(-(((waves - 0.5) / 0.12) ** 2) / 2),
        lambda: (0.05 + waves) ** -rng.uniform(1.5, 3) * np.exp(-((waves / 2) ** 2)),
    )
    gain = gains[rng.integers(len(gains))]().astype(np.float32)
    found = fft.irfftn(fft.rfftn(rng.standard_normal(whole, dtype=np.float32)) * gain, s=whole)[: shape[0]]
    return np.asarray((found - found.mean()) / (found.std() + 1e-9), np.float32)


def level_sets(rng: np.random.Generator, shape: Shape, n: int) -> Phases:
    """Return what lies between `n - 1` levels of one field: phases that do not all touch."""
    one = field(rng, shape, _log_uniform(rng, 8, 60), _stretch(rng))
    levels = np.quantile(one[::3, ::4, ::4], np.cumsum(rng.dirichlet(np.full(n, 3.0)))[:-1])
    return np.asarray(rng.permutation(n)[np.searchsorted(levels, one.ravel()).reshape(shape)])


def largest(rng: np.random.Generator, shape: Shape, n: int) -> Phases:
    """Return which of `n` fields is the largest: grains that meet in threes."""
    length, stretch = _log_uniform(rng, 8, 60), _stretch(rng)
    several = [field(rng, shape, length * np.exp(rng.normal(0, 0.3)), stretch) + rng.normal(0, 0.4) for _ in range(n)]
    return np.asarray(np.argmax(several, axis=0), np.int64)


def cells(rng: np.random.Generator, shape: Shape, n: int) -> Phases:
    """Return cells around random points, some warped, each of a random phase; in some a phase between them."""
    edge = _log_uniform(rng, 10, 50)
    box = np.array(shape) + 2 * edge
    count = int(np.clip(np.prod(box) / edge**3, 8, _MOST_CELLS))
    centres, stretch = rng.uniform(-edge, box - edge, (count, 3)), np.array(_stretch(rng))
    at = _places(shape)
    if rng.random() < 0.6:
        at = at + np.stack([field(rng, shape, edge) for _ in range(3)], -1) * edge * rng.uniform(0.02, 0.12)
    between = n > FEWEST and rng.random() < 0.4
    found = cKDTree(centres * stretch).query(at.reshape(-1, 3) * stretch, k=[1, 2])
    distance, which = (np.asarray(one) for one in found)
    of_cells = n - 1 if between else n
    phase = rng.choice(of_cells, count, p=rng.dirichlet(np.full(of_cells, 4.0)))[which[:, 0]]
    if between:
        phase[distance[:, 1] - distance[:, 0] < rng.uniform(1, 4)] = n - 1
    return np.asarray(phase.reshape(shape))


def bodies(rng: np.random.Generator, shape: Shape, n: int) -> Phases:
    """Return ellipsoids or fibres of `n - 1` phases in a matrix, later ones over earlier ones."""
    phase, put = np.zeros(shape, np.int64), _fibre if rng.random() < 0.35 else _ellipsoid
    for which in range(1, n):
        share, radius, axis = rng.uniform(0.05, 0.5), _log_uniform(rng, 3, 28), rng.standard_normal(3)
        for _ in range(_MOST_BODIES):
            if (phase == which).mean() >= share:
                break
            put(rng, phase, which, radius * np.exp(rng.normal(0, 0.3)), axis)
    return phase


def _ellipsoid(rng: np.random.Generator, phase: Phases, which: int, radius: float, axis: np.ndarray) -> None:
    centre = np.array([rng.uniform(-radius, n + radius) for n in phase.shape])
    low = np.maximum(0, np.floor(centre - 1.6 * radius)).astype(int)
    high = np.minimum(phase.shape, np.ceil(centre + 1.6 * radius)).astype(int)
    if (low < high).all():
        turned = np.linalg.qr(rng.standard_normal((3, 3)))[0] / np.exp(rng.normal(0, 0.22, 3))[:, None]
        z, y, x = (int(n) for n in high - low)
        at = (_places((z, y, x)) + (low - centre).astype(np.float32)) @ turned.T.astype(np.float32)
        box = tuple(slice(start, stop) for start, stop in zip(low, high, strict=True))
        phase[box][(at**2).sum(-1) < radius**2] = which


def _fibre(rng: np.random.Generator, phase: Phases, which: int, radius: float, axis: np.ndarray) -> None:
    along = axis * rng.uniform(0, 3) + rng.standard_normal(3)
    along /= np.linalg.norm(along)
    at = _places(phase.shape) - np.array([rng.uniform(-radius, n + radius) for n in phase.shape], np.float32)
    phase[(at**2).sum(-1) - (at @ along.astype(np.float32)) ** 2 < radius**2 / 4] = which


def crack(rng: np.random.Generator, shape: Shape) -> np.ndarray:
    """Return where a thin sheet runs, or parts of one, bool (z, y, x)."""
    one = field(rng, shape, _log_uniform(rng, 20, 80))
    slope = np.sqrt(sum(along**2 for along in np.gradient(one))) + 1e-3
    thin = np.abs(one - rng.normal(0, 0.7)) / slope < rng.uniform(0.7, 3)
    return np.asarray(thin & (field(rng, shape, 40) > rng.normal(0, 0.5)) if rng.random() < 0.5 else thin)


def grey_values(rng: np.random.Generator, phase: UInt8[np.ndarray, "z y x"], n: int) -> Field:
    """Return what a scan shows, its first and last hundredth brought to 0 and 1."""
    found = _levels(rng, n).astype(np.float32)[phase]
    for which in np.flatnonzero(rng.random(n) < 0.3):
        texture = field(rng, phase.shape, _log_uniform(rng, 3, 30))
        found += (phase == which) * texture * np.float32(rng.uniform(0, 0.06))
    if rng.random() < 0.85:
        found = ndimage.gaussian_filter(found, rng.uniform(0.3, 1.6), truncate=3)
        if rng.random() < 0.25:  # fringes
            found += rng.uniform(0.2, 1.5) * (found - ndimage.gaussian_filter(found, rng.uniform(0.8, 2), truncate=3))
    if rng.random() < 0.25:
        y, x = (np.linspace(-1, 1, edge, dtype=np.float32) for edge in phase.shape[1:])
        down, across, bowl = rng.normal(0, 0.06, 3)
        found = found * (1 + down * y[:, None] + across * x + bowl * (y[:, None] ** 2 + x**2)).astype(np.float32)
    low, high = np.quantile(found[::2, ::4, ::4], (0.01, 0.99))
    return np.asarray((found - low) / max(high - low, 0.05), np.float32)


def _levels(rng: np.random.Generator, n: int) -> np.ndarray:
    while True:
        levels = rng.uniform(0.05, 0.95, n)
        if np.diff(np.sort(levels)).min() > 0.1 * min(1.0, 3 / n):
            return levels


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _stretch(rng: np.random.Generator) -> tuple[float, ...]:
    return tuple(np.exp(rng.normal(0, 0.25, 3))) if rng.random() < 0.4 else (1.0, 1.0, 1.0)


def _places(shape: Shape) -> Float32[np.ndarray, "z y x 3"]:
    return np.stack(np.meshgrid(*(np.arange(n, dtype=np.float32) for n in shape), indexing="ij"), -1)
