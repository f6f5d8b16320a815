"""A solid-oxide-cell-like tomogram of three phases whose truth is known below the voxel.

The phase at a point is that of the largest of three smooth random fields, so that all pairs of phases touch. Each
field is a sum of plane waves of one wavelength, as in models of phases that have coarsened: N. F. Berk, Scattering
properties of a model bicontinuous structure with a well defined length scale, Physical Review Letters 58 (1987), DOI
10.1103/PhysRevLett.58.2718. It can be computed anywhere, slice by slice.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32, Float64, UInt8, UInt16
from pydantic import BaseModel, ConfigDict, Field, field_validator
from scipy import ndimage

from tomoseg.labels import LabelClass
from tomoseg.phantom_truth import BLURS, TruthSums, blur_errors, surfaces_between

Layer = Float32[np.ndarray, "field y x"]

PHANTOM_CLASSES = (
    LabelClass(name="pore", value=0, colour="#1d2530"),
    LabelClass(name="YSZ", value=128, colour="#56b4e9"),
    LabelClass(name="Ni", value=255, colour="#e69f00"),
)
GREY_LEVELS = np.array([21_400.0, 35_000.0, 41_200.0], np.float32)
"""Grey level of pore, YSZ and nickel, as read off a published histogram of such an electrode."""

OFFSETS = np.array([-0.043, 0.078, -0.035], np.float32)
"""What is added to the fields, of std 1, so that the phases' fractions are 0.315, 0.367 and 0.318."""

SMALLEST = 16
CHORD = 38.5
"""Mean length in voxels of a line's runs through one phase, of a phantom as it comes."""
SHORTEST_CHORD = 5.0
"""Below, voxels and the scan's blur no longer resolve a phase."""
_WAVES = 64
_WAVENUMBER = 0.0945  # radians per pixel: makes 0.026 changes of class per pixel, which is a chord of 38.5
_BLUR = 1.05
_SUPERSAMPLING = 2
_MARGIN = 5  # slices and pixels around the volume that the blur reaches
_BLUR_SAMPLED_EVERY = 8
_NOISE_STREAM = 3


class PhantomSpec(BaseModel):
    """Size, seed, noise and coarseness of a phantom."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    shape: tuple[int, int, int] = Field(default=(64, 256, 256), description="voxels along z, y, x")
    seed: int = Field(default=0, ge=0, description="another seed makes another, unrelated phantom")
    noise_std: float = Field(default=740.0, ge=0, le=20_000, description="std of the scan's noise in grey values")
    chord: float = Field(default=CHORD, ge=SHORTEST_CHORD, description="mean run of a phase along a line, in voxels")

    @field_validator("shape")
    @classmethod
    def _large_enough(cls, shape: tuple[int, int, int]) -> tuple[int, int, int]:
        if min(shape) < SMALLEST:
            raise ValueError(f"{' x '.join(map(str, shape))} is too small; each edge needs {SMALLEST} voxels or more")
        return shape


@dataclass(frozen=True)
class PhantomSlice:
    """One slice: grey values, class indices in the order of `PHANTOM_CLASSES`, and its part of the truth."""

    grey: UInt16[np.ndarray, "y x"]
    label: UInt8[np.ndarray, "y x"]
    truth: TruthSums


@runtime_checkable
class Fields(Protocol):
    """Three random fields; a point's phase is that of the largest."""

    def layer(self, z: float, y: Float64[np.ndarray, " y"], x: Float64[np.ndarray, " x"]) -> Layer:
        """Return the fields on a grid at height `z`, float32 (field, y, x)."""


def make_phantom(spec: PhantomSpec, fields: Fields | None = None) -> Iterator[PhantomSlice]:
    """Yield the slices of a phantom by rising z, in memory that does not depend on their number.

    Parameters
    ----------
    spec
        Size, seed and noise; its chord counts where there are no `fields`.
    fields
        None: those of `FieldSampler`.

    Examples
    --------
    >>> slices = list(make_phantom(PhantomSpec(shape=(16, 32, 32))))
    >>> len(slices), slices[0].grey.shape, str(slices[0].grey.dtype)
    (16, (32, 32), 'uint16')
    """
    depth, height, width = spec.shape
    field = FieldSampler(spec.seed, chord=spec.chord) if fields is None else fields
    y, x = np.arange(height, dtype=np.float64), np.arange(width, dtype=np.float64)
    shares: deque[np.ndarray] = deque(maxlen=2 * _MARGIN + 1)
    for z in range(-_MARGIN, _MARGIN):
        shares.append(_partial_volume(field, z, height, width))
    below, here = field.layer(-1.0, y, x), field.layer(0.0, y, x)
    last: np.ndarray | None = None
    for z in range(depth):
        shares.append(_partial_volume(field, z + _MARGIN, height, width))
        above = field.layer(z + 1.0, y, x)
        label = here.argmax(axis=0).astype(np.uint8)
        clean = _blurred(shares)
        grey = _noisy(clean, spec, z)
        counts = _partial_volume_counts(shares[_MARGIN])
        # Between the last slice and the next there is no more of the volume.
        areas, line = surfaces_between(here, above) if z < depth - 1 else (np.zeros(3), 0.0)
        edges = (
            blur_errors((below, here, above), clean, GREY_LEVELS)
            if z % _BLUR_SAMPLED_EVERY == 0
            else np.zeros(len(BLURS))
        )
        yield PhantomSlice(
            grey,
            label,
            TruthSums(
                counts,
                *_changes(label, last),
                areas,
                line,
                float((height - 1) * (width - 1)) if z < depth - 1 else 0.0,
                edges,
                float(((grey.astype(np.float64) - clean) ** 2).sum()),
                label.size,
            ),
        )
        last, below, here = label, here, above


def _changes(label: np.ndarray, last: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    pairs = [(label, label if last is None else last), (label[1:], label[:-1]), (label[:, 1:], label[:, :-1])]
    changes = np.array([int((a != b).sum()) for a, b in pairs], np.int64)
    return changes, np.array([0 if last is None else label.size, pairs[1][0].size, pairs[2][0].size], np.int64)


def _partial_volume(field: Fields, z: int, height: int, width: int) -> UInt8[np.ndarray, "class y x"]:
    """Return how many of a voxel's points lie in each class, uint8 (class, y, x), margins included."""
    offsets = (np.arange(_SUPERSAMPLING) + 0.5) / _SUPERSAMPLING - 0.5
    y, x = ((np.arange(-_MARGIN, size + _MARGIN)[:, None] + offsets).ravel() for size in (height, width))
    counts = np.zeros((3, height + 2 * _MARGIN, width + 2 * _MARGIN), np.uint8)
    for offset in offsets:
        first, second, third = field.layer(z + offset, y, x)
        is_first, is_second = (first >= second) & (first >= third), (second > first) & (second >= third)
        for c, mask in enumerate((is_first, is_second, ~(is_first | is_second))):
            halves = mask[:, 0::2].view(np.uint8) + mask[:, 1::2].view(np.uint8)
            counts[c] += halves[0::2] + halves[1::2]
    return counts


def _partial_volume_counts(share: np.ndarray) -> np.ndarray:
    inner = share[:, _MARGIN:-_MARGIN, _MARGIN:-_MARGIN]
    return np.asarray(inner.sum(axis=(1, 2), dtype=np.int64))


def _blurred(shares: deque[np.ndarray]) -> Float32[np.ndarray, "y x"]:
    """Return the noiseless grey values of the middle slice: partial volume, blurred along z, y and x."""
    # The points of a voxel blur already, with the variance of their offsets.
    sigma = np.sqrt(_BLUR**2 - (1 - 1 / _SUPERSAMPLING**2) / 12)
    weights = np.exp(-0.5 * (np.arange(-_MARGIN, _MARGIN + 1) / sigma) ** 2)
    weights = (weights / weights.sum()).astype(np.float32)
    mixed = sum(
        weight * np.tensordot(GREY_LEVELS, share, axes=1) for weight, share in zip(weights, shares, strict=True)
    )
    mixed = mixed / _SUPERSAMPLING**3
    for axis in (0, 1):
        mixed = ndimage.correlate1d(mixed, weights, axis=axis)
    return np.asarray(mixed[_MARGIN:-_MARGIN, _MARGIN:-_MARGIN], np.float32)


def _noisy(clean: Float32[np.ndarray, "y x"], spec: PhantomSpec, z: int) -> UInt16[np.ndarray, "y x"]:
    rng = np.random.default_rng([spec.seed, _NOISE_STREAM, z])
    noise = rng.standard_normal(clean.shape, dtype=np.float32) * np.float32(spec.noise_std)
    return np.asarray(np.clip(np.round(clean + noise), 0, 65535), np.uint16)


def wavenumber_of(chord: float) -> float:
    """Return the wave number, in radians per voxel, of fields whose phases have that mean chord in voxels."""
    return _WAVENUMBER * (CHORD / chord)


class FieldSampler:
    """The three fields of a phantom, of mean near 0 and std 1, at any height above an area of voxels.

    Their waves run in directions spread evenly over the sphere, turned at random, so that no axis is special.

    Parameters
    ----------
    seed
        Draws each field's turn and the phases of its waves.
    chord
        Mean length in voxels of a line's runs through one phase.
    """

    def __init__(self, seed: int, *, chord: float = CHORD) -> None:
        wavenumber = wavenumber_of(chord)
        self._waves = [_plane_waves(np.random.default_rng([seed, field]), wavenumber) for field in range(3)]

    def layer(self, z: float, y: Float64[np.ndarray, " y"], x: Float64[np.ndarray, " x"]) -> Layer:
        """Return the fields on a grid at height `z`, float32 (field, y, x).

        Examples
        --------
        >>> sampler, places = FieldSampler(0), np.arange(20.0)
        >>> part = sampler.layer(3.0, places[5:], places)
        >>> bool(np.allclose(part, sampler.layer(3.0, places, places)[:, 5:], atol=1e-5))
        True
        """
        return np.stack(
            [_sum_of_waves(waves, z, y, x) + offset for waves, offset in zip(self._waves, OFFSETS, strict=True)]
        )


def _plane_waves(rng: np.random.Generator, wavenumber: float) -> Float64[np.ndarray, "4 wave"]:
    """Draw waves: wave vectors along z, y, x (radians per pixel) and phases."""
    # A spiral of equal steps in height and of golden angles; a wave and its opposite are one, so half a sphere.
    height = (np.arange(_WAVES) + 0.5) / _WAVES
    angle, radius = np.arange(_WAVES) * np.pi * (3 - 5**0.5), np.sqrt(1 - height**2)
    spiral = np.stack([height, radius * np.cos(angle), radius * np.sin(angle)])
    turn, _ = np.linalg.qr(rng.standard_normal((3, 3)))
    return np.vstack([wavenumber * turn @ spiral, rng.uniform(0, 2 * np.pi, _WAVES)])


def _sum_of_waves(
    waves: Float64[np.ndarray, "4 wave"], z: float, y: Float64[np.ndarray, " y"], x: Float64[np.ndarray, " x"]
) -> Float32[np.ndarray, "y x"]:
    along_z, along_y, along_x, phase = waves
    # cos(a + b) = cos a cos b - sin a sin b makes a matrix product of all waves at all pixels.
    rows = np.outer(y, along_y) + (along_z * z + phase)
    columns = np.outer(x, along_x)
    left = np.hstack([np.cos(rows), -np.sin(rows)]).astype(np.float32)
    right = np.hstack([np.cos(columns), np.sin(columns)]).astype(np.float32)
    return np.asarray(left @ right.T * np.float32(np.sqrt(2 / _WAVES)))
