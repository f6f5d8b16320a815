"""What PoreSpy, scikit-image and taufactor say of a small labelled volume: `make oracle`."""

import json
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import porespy
import taufactor
from scipy import ndimage
from skimage import measure

SHAPE = (40, 44, 48)
PACKAGES = ("porespy", "scikit-image", "taufactor", "torch")


def phases() -> tuple[np.ndarray, list[float]]:
    """Return three smooth phases of equal shares, uint8 (z, y, x), and the area of each one's surface a volume.

    The areas are those of meshes of the smooth field, whose levels the phases lie between, in the box of the voxels'
    centres.
    """
    field = ndimage.gaussian_filter(np.random.default_rng(7).standard_normal(SHAPE), 4.0)
    levels = np.quantile(field, [1 / 3, 2 / 3])
    meshes = [measure.marching_cubes(field, level)[:2] for level in levels]
    low, high = (measure.mesh_surface_area(*mesh) / np.prod(np.subtract(SHAPE, 1)) for mesh in meshes)
    return np.digitize(field, levels).astype(np.uint8), [float(low), float(low + high), float(high)]


def described(phase: np.ndarray) -> dict[str, object]:
    """Return the numbers of one phase, lengths in voxels."""
    solver = taufactor.Solver(phase.astype(np.uint8), device="cpu")
    solver.solve(verbose=False, iter_limit=100_000)
    return {
        "fraction": float(porespy.metrics.phase_fraction(phase)[1]),
        "percolating": [float(porespy.metrics.percolating_porosity(phase, axis=axis)) for axis in range(3)],
        "parts": int(measure.label(phase, connectivity=1).max()),
        "Euler number": int(measure.euler_number(phase, connectivity=1)),
        "median diameter": float(2 * np.median(porespy.filters.local_thickness(phase, method="bf")[phase])),
        "tortuosity factor z": float(np.ravel(solver.tau)[0]),
        "effective diffusivity z": float(np.ravel(solver.D_eff)[0]),
    }


def main(folder: Path) -> None:
    """Write the volume and what the packages say."""
    folder.mkdir(parents=True, exist_ok=True)
    volume, areas = phases()
    np.savez_compressed(folder / "labels.npz", labels=volume)
    found = {
        "versions": {name: version(name) for name in PACKAGES},
        "phases": [described(volume == order) | {"surface area": area} for order, area in enumerate(areas)],
    }
    (folder / "reference.json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
