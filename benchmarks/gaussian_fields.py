"""Random fields that are alike only nearby, for phantoms whose pieces say what the next piece would be like."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy.fft
from jaxtyping import Float32, Float64

from tomoseg.phantom import OFFSETS, wavenumber_of

BOX = 240
"""Edge in voxels of the periodic box; a phantom of 160 voxels is not alike across its border."""
BANDWIDTH = 0.15
"""Std of the wave numbers over their mean: the squared correlation falls to 1/e of its envelope in 1.8 chords."""

Grid = Float32[np.ndarray, "z y x"]


class GaussianFields:
    """Three Gaussian random fields of mean 0 and std 1, offsets aside, whose wave numbers have a band, not one value.

    Sums of waves of one length are alike at any distance; these are alike for some 1 / (bandwidth * wave number).
    Each is filtered white noise on a periodic box (M. Shinozuka, G. Deodatis, Applied Mechanics Reviews 44 (1991)
    191, DOI 10.1115/1.3119501); between the voxels it is shifted by its waves' phases, which is exact. What was
    asked for once is kept: 1.5 GB for a phantom in a box of 240 voxels.

    Parameters
    ----------
    seed
        Draws the noise.
    chord
        As of a phantom's fields of one wavelength; the band makes runs one per cent shorter.
    box
        Edge of the box in voxels.
    """

    def __init__(self, seed: int, *, chord: float, box: int = BOX) -> None:
        self._box = box
        along, last = 2 * np.pi * scipy.fft.fftfreq(box), 2 * np.pi * scipy.fft.rfftfreq(box)
        self._frequencies = along[:, None, None], along[:, None], last
        gain = band(wavenumber_of(chord), self._frequencies)
        self._waves = [scipy.fft.rfftn(_white(seed, field, box)) * gain for field in range(3)]
        self._grids: dict[tuple[float, ...], list[Grid]] = {}

    def layer(
        self, z: float, y: Float64[np.ndarray, " y"], x: Float64[np.ndarray, " x"]
    ) -> Float32[np.ndarray, "field y x"]:
        """Return the fields on a grid at height `z`, float32 (field, y, x); places a whole voxel apart are cheap."""
        found = np.empty((3, len(y), len(x)), np.float32)
        for shift_y, rows in _by_shift(y):
            for shift_x, columns in _by_shift(x):
                grids = self._shifted((z % 1.0, shift_y, shift_x))
                places = np.ix_(np.floor(y[rows]).astype(int) % self._box, np.floor(x[columns]).astype(int) % self._box)
                for field, grid in enumerate(grids):
                    found[np.ix_([field], rows, columns)] = grid[int(np.floor(z)) % self._box][places] + OFFSETS[field]
        return found

    def _shifted(self, shift: tuple[float, ...]) -> list[Grid]:
        if shift not in self._grids:
            turn = 1.0
            for along, by in zip(self._frequencies, shift, strict=True):
                turn = turn * np.exp(1j * along * by).astype(np.complex64)
            self._grids[shift] = [scipy.fft.irfftn(waves * turn, s=(self._box,) * 3) for waves in self._waves]
        return self._grids[shift]


def band(wavenumber: float, frequencies: Sequence[np.ndarray]) -> Float32[np.ndarray, "z y x"]:
    """Return by how much each wave of white noise counts, so that a field's std is 1."""
    k = np.sqrt(sum(np.square(along) for along in frequencies))
    amount = np.exp(-(((k - wavenumber) / (2 * BANDWIDTH * wavenumber)) ** 2)) / np.maximum(k, 1e-9)
    amount[0, 0, 0] = 0.0
    twice = np.full(k.shape[2], 2.0)  # a real field's other half
    twice[0] = 1.0
    if k.shape[0] % 2 == 0:
        twice[-1] = 1.0
    return np.asarray(amount / np.sqrt((amount**2 * twice).sum() / k.shape[0] ** 3), np.float32)


def _white(seed: int, field: int, box: int) -> Grid:
    return np.random.default_rng([seed, field]).standard_normal((box,) * 3, dtype=np.float32)


def _by_shift(places: Float64[np.ndarray, " place"]) -> list[tuple[float, np.ndarray]]:
    shifts = places % 1.0
    return [(float(shift), np.flatnonzero(shifts == shift)) for shift in np.unique(shifts)]
