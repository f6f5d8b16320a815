"""What `quantify` says of a small volume beside PoreSpy, scikit-image and taufactor: `oracle/microstructure.py`."""

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile

from tomoseg.cli import run

FOLDER = Path(__file__).parent / "reference/microstructure"
REFERENCE = json.loads((FOLDER / "reference.json").read_text())
PHASES = list(zip(("a", "b", "c"), REFERENCE["phases"], strict=True))


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, float]:
    """Return the numbers that `quantify` gives by name, lengths in voxels."""
    place = tmp_path_factory.mktemp("reference")
    tifffile.imwrite(place / "labels.tif", np.load(FOLDER / "labels.npz")["labels"], photometric="minisblack")
    words = ["quantify", place / "labels.tif", "-o", place / "out", "--classes", "a=0", "b=1", "c=2", "--block", 20]
    assert run([*map(str, words), "--sizes", "--transport", "--quiet"]) == 0
    measured = json.loads((place / "out/quantities.json").read_text())["measurements"]
    return {one["name"]: one["value"] for one in measured}


@pytest.fixture(scope="module")
def volume() -> int:
    return int(np.load(FOLDER / "labels.npz")["labels"].size)


@pytest.mark.parametrize(("name", "theirs"), PHASES)
def test_what_is_counted_is_the_same(name, theirs, found, volume):
    assert found[f"phase fraction {name}"] == pytest.approx(theirs["fraction"], rel=1e-12)
    assert found[f"number of parts {name}"] == theirs["parts"]
    assert found[f"Euler number {name} per volume"] * volume == pytest.approx(theirs["Euler number"], rel=1e-12)
    for axis, percolating in zip("zyx", theirs["percolating"], strict=True):
        share = found[f"percolating fraction {name} along {axis}"]
        assert share * theirs["fraction"] == pytest.approx(percolating, rel=1e-12)


@pytest.mark.parametrize(("name", "theirs"), PHASES)
def test_a_phase_conducts_as_much(name, theirs, found):
    """taufactor stops where flows in all planes agree within a hundredth, and adds up in float32."""
    assert found[f"tortuosity factor {name} along z"] == pytest.approx(theirs["tortuosity factor z"], rel=1e-3)
    assert found[f"effective diffusivity {name} along z"] == pytest.approx(theirs["effective diffusivity z"], rel=1e-3)


@pytest.mark.parametrize(("name", "theirs"), PHASES)
def test_surfaces_are_those_of_a_mesh_of_the_smooth_field(name, theirs, found):
    """Voxels know a surface within 3 %, where they resolve the phase; the mesh of the field within 1 %."""
    assert found[f"surface area {name} per volume"] == pytest.approx(theirs["surface area"], rel=0.03)


@pytest.mark.parametrize(("name", "theirs"), PHASES)
def test_balls_cover_half_of_a_phase_at_the_same_diameter(name, theirs, found):
    """PoreSpy's balls end at the phase's last voxel centres, up to a voxel earlier, and tomoseg has 16 of them."""
    assert found[f"median diameter {name}"] == pytest.approx(theirs["median diameter"], abs=1)
