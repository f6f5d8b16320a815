"""How the error of tortuosity factors in a thin slab goes with that in space, by the length of the slab's parts.

`python benchmarks/slab_tortuosity.py [--out results]`: 160 x 334 x 334 voxels of a phantom are segmented by thresholds
after a blur: wrong on 4 to 5 % of the voxels, so that the errors are far above what chance does to them. A line of JSON
in OUT/slab_tortuosity.jsonl for each segmentation: in parts of 160 x 167 x 167 voxels, the truth; and in
slabs of 24 slices, in parts of several edges, along the plane and across it. Errors are in per cent, by phase, and for
slabs by slab; None where a phase conducts in no part.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import tifffile
from scipy import ndimage

from common import parse_out, record
from tomoseg.quantify.grid import cut
from tomoseg.quantify.transport import tortuosity
from tomoseg.workflow import phantom
from tomoseg.workflow.console import Console

SHAPE, SEED, EDGE = (160, 501, 501), 7, 334
VALUES = (0, 128, 255)
SLABS = [slice(start, start + 24) for start in (0, 45, 90, 134)]
IN_SPACE = ([slice(0, SHAPE[0])], 167, (1, 2))
BLURS = {"blurred in space": (0.0, (1.0, 1.0, 1.0)), "noise, blurred in the plane": (5000.0, (0.5, 1.6, 1.6)),
         "less noise, blurred in space": (2500.0, (1.2, 1.2, 1.2))}  # fmt: skip
"""Segmentation -> std of the noise that is added, and of the Gaussian along (z, y, x)."""

PARTS = ((334, (1, 2)), (167, (1, 2)), (84, (1, 2)), (48, (1, 2)), (24, (1, 2)), (24, (0,)), (334, (0,)))
"""Longest edge of a part, and the axes along which it is solved."""


def main() -> None:
    out = parse_out(__doc__ or "")
    folder = out / "slab_tortuosity_phantom"
    if not folder.exists():
        phantom.run(phantom.PhantomSettings(out=folder, shape=SHAPE, seed=SEED), Console())
    label = np.searchsorted(VALUES, stack(folder / "labels")).astype(np.uint8)
    grey = stack(folder / "images").astype(np.float32)
    found = {name: segmented(grey, label, std, blur) for name, (std, blur) in BLURS.items()}
    for bodies, edge, axes in (IN_SPACE, *((SLABS, edge, axes) for edge, axes in PARTS)):
        for name, errors in compare(label, found, bodies, edge, axes).items():
            record(out, "slab_tortuosity", segmented=name, thickness=len(label[bodies[0]]), edge=edge,
                   axes=["zyx"[axis] for axis in axes], errors=errors)  # fmt: skip


def stack(folder: Path) -> np.ndarray:
    return np.stack([tifffile.imread(path)[:EDGE, :EDGE] for path in sorted(folder.iterdir())])


def segmented(grey: np.ndarray, label: np.ndarray, std: float, blur: Sequence[float]) -> np.ndarray:
    """Segment by the thresholds halfway between the phases, after noise and a blur."""
    means = [grey[label == phase].mean() for phase in range(len(VALUES))]
    noisy = grey + np.random.default_rng(0).normal(0, std, grey.shape).astype(np.float32)
    smooth = ndimage.gaussian_filter(noisy, blur)
    return np.searchsorted([(low + high) / 2 for low, high in pairwise(means)], smooth)


def compare(
    label: np.ndarray, found: Mapping[str, np.ndarray], bodies: Sequence[slice], edge: int, axes: Sequence[int]
) -> dict[str, list[list[float | None]]]:
    """Return for each segmentation the errors by body and phase, in per cent."""
    errors: dict[str, list[list[float | None]]] = {name: [] for name in found}
    for body in bodies:
        labelled = factors(label[body], edge, axes)
        for name, its in found.items():
            both = zip(labelled, factors(its[body], edge, axes), strict=True)
            errors[name].append([None if a is None or b is None else round(100 * (b / a - 1), 1) for a, b in both])
    return errors


def factors(labels: np.ndarray, edge: int, axes: Sequence[int]) -> list[float | None]:
    """Return the tortuosity factor of each phase: mean fraction over mean diffusivity of all parts and axes."""
    depth, height, width = labels.shape
    parts = [labels[part.slices] for part in cut((depth, height, width), edge=edge)]
    found = []
    for phase in range(len(VALUES)):
        its = [(one.size, tortuosity(one == phase, axis=axis, voxel_size=(1, 1, 1))) for one in parts for axis in axes]
        flow = sum(size * (solved.diffusivity or 0.0) for size, solved in its)
        found.append(sum(size * solved.fraction for size, solved in its) / flow if flow else None)
    return found


if __name__ == "__main__":
    main()
