"""`tomoseg quantify --mesh`, end to end: its files, what it refuses, and what is left when it stops."""

from pathlib import Path

import numpy as np
import pytest
import tifffile

from bodies import ball, places
from meshes import area_and_volume, is_closed, read_ply, read_stl
from tomoseg.cli import run
from tomoseg.report.mesh_files import file_stems
from tomoseg.workflow import quantify_mesh

RADIUS = 12.0


def quantify(*words: object) -> int:
    return run(["quantify", *map(str, words), "--quiet"])


@pytest.fixture(scope="module")
def balls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a ball in a matrix, in flat voxels: 2 micrometres along z, else 1; of a third class there is nothing."""
    path = tmp_path_factory.mktemp("balls") / "balls.tif"
    shape = (18, 30, 30)
    at = places(shape, (9, 15, 14), (2.0, 1.0, 1.0))
    tifffile.imwrite(path, ball(at, RADIUS).astype(np.uint8))
    return path


CLASSES = ("--classes", "matrix=0", "a ball/2=1", "nothing=2")
GIVEN = (*CLASSES, "--voxel-size", 2, 1, 1, "--block", 16, "--mesh")


@pytest.fixture(scope="module")
def meshed(balls: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("meshed") / "out"
    assert quantify(balls, "-o", out, *GIVEN) == 0
    return out / "mesh"


def test_there_are_two_files_of_each_class_that_has_a_surface(meshed: Path):
    names = sorted(path.name for path in meshed.iterdir())
    assert names == ["a_ball_2.ply", "a_ball_2.stl", "matrix.ply", "matrix.stl"]


def test_the_page_shows_bodies_and_says_which_phase_has_none(meshed: Path):
    page = (meshed.parent / "report.html").read_text()
    assert "Three dimensions" in page and "no number on this page comes from it" in page
    assert "nothing does not occur in the volume" in page
    assert (meshed.parent / "figures" / "solids.png").read_bytes().startswith(b"\x89PNG")


def test_a_ply_file_holds_a_closed_surface_in_micrometres(balls: Path, meshed: Path):
    comments, vertices, triangles = read_ply(meshed / "a_ball_2.ply")
    assert comments[0] == "a ball/2, by tomoseg"
    assert is_closed(triangles)
    area, volume = area_and_volume(vertices, triangles)
    radius = RADIUS / 2  # in a voxel's longest edges, of which tests/quantify/test_meshes.py has the tolerances
    truth = 2.0 * tifffile.imread(balls).sum()
    assert area == pytest.approx((36 * np.pi * truth**2) ** (1 / 3), rel=0.005 + 0.33 / radius**2)
    assert volume == pytest.approx(truth, rel=0.5 / radius**2)
    assert (vertices.min(axis=0) + vertices.max(axis=0)) / 2 == pytest.approx([14, 15, 18], abs=0.2)  # x y z


def test_an_stl_file_holds_the_same_triangles_with_their_normals(meshed: Path):
    _, vertices, triangles = read_ply(meshed / "a_ball_2.ply")
    normals, corners = read_stl(meshed / "a_ball_2.stl")
    assert np.array_equal(corners, vertices[triangles])
    outwards = corners.mean(axis=1) - np.array([14, 15, 18])
    outwards /= np.linalg.norm(outwards, axis=1, keepdims=True)
    assert (normals * outwards).sum(axis=1).min() > 0.7
    assert np.linalg.norm(normals, axis=1) == pytest.approx(1, abs=1e-5)


def test_several_processes_write_the_same_bytes(balls: Path, meshed: Path, tmp_path: Path):
    assert quantify(balls, "-o", tmp_path / "out", *GIVEN, "--workers", 2) == 0
    for path in meshed.iterdir():
        assert (tmp_path / "out" / "mesh" / path.name).read_bytes() == path.read_bytes()


def test_a_region_of_interest_lies_where_it_lies_in_the_scan(balls: Path, meshed: Path, tmp_path: Path):
    assert quantify(balls, "-o", tmp_path / "out", *GIVEN, "--roi", "1:18,2:30,1:29") == 0
    _, whole, _ = read_ply(meshed / "a_ball_2.ply")
    _, part, _ = read_ply(tmp_path / "out" / "mesh" / "a_ball_2.ply")
    for end in (np.min, np.max):  # the border, which mirrors, is nearer
        assert end(part, axis=0) == pytest.approx(end(whole, axis=0), abs=0.25)


def test_meshes_that_are_there_are_replaced_with_force_only(balls: Path, tmp_path: Path, capsys):
    taken = tmp_path / "out" / "mesh" / "matrix.stl"
    taken.parent.mkdir(parents=True)
    taken.write_bytes(b"mine")
    assert quantify(balls, "-o", tmp_path / "out", *GIVEN) == 2
    assert "matrix.stl: exists" in capsys.readouterr().err
    assert taken.read_bytes() == b"mine" and not (tmp_path / "out" / "report.html").exists()
    assert quantify(balls, "-o", tmp_path / "out", *GIVEN, "--force") == 0
    assert len(read_stl(taken)[0])


def test_ctrl_c_leaves_no_mesh(balls: Path, tmp_path: Path, monkeypatch):
    whole, blocks = quantify_mesh.mesh_one, iter(range(100))

    def stopped(work, number):
        if next(blocks) == 3:
            raise KeyboardInterrupt
        return whole(work, number)

    monkeypatch.setattr(quantify_mesh, "mesh_one", stopped)
    assert quantify(balls, "-o", tmp_path / "out", *GIVEN) == 130
    assert (tmp_path / "out" / "report.html").exists() and not (tmp_path / "out" / "mesh").exists()


def test_a_disk_without_room_is_told_before_a_mesh_is_begun(balls: Path, tmp_path: Path, capsys, monkeypatch):
    class Full:
        free = 1000

    monkeypatch.setattr(quantify_mesh.psutil, "disk_usage", lambda place: Full)
    assert quantify(balls, "-o", tmp_path / "out", *GIVEN) == 2
    assert "there is room for 1.0 kB" in capsys.readouterr().err
    assert not (tmp_path / "out" / "mesh").exists()


def test_samples_that_are_compared_have_a_mesh_each(balls: Path, tmp_path: Path):
    (tmp_path / "other.tif").write_bytes(balls.read_bytes())
    assert quantify(balls, tmp_path / "other.tif", "--compare", "-o", tmp_path / "out", *GIVEN) == 0
    ours, theirs = ((tmp_path / "out" / name / "mesh" / "matrix.ply").read_bytes() for name in ("balls", "other"))
    assert ours == theirs


def test_names_of_files_are_safe_and_no_two_alike():
    names = ["../x", "CON", "Zr–Y", "a" * 300, "a" * 299, "", "..."]
    stems = file_stems(names)
    assert len({stem.lower() for stem in stems}) == len(names)
    assert all(set(stem) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-+") for stem in stems)
    assert not any(stem.startswith(".") or stem.lower() == "con" or len(stem) > 80 for stem in stems)


def test_a_mesh_of_a_phase_that_is_gone_goes_where_it_is_replaced(tmp_path: Path):
    labels = np.zeros((12, 12, 12), np.uint8)
    labels[3:9, 3:9, 3:9] = 1
    tifffile.imwrite(tmp_path / "labels.tif", labels)
    words = (tmp_path / "labels.tif", "-o", tmp_path / "out", "--mesh", "--force", "--classes", "a=0", "b=1", "c=2")
    (tmp_path / "out/mesh").mkdir(parents=True)
    for name in ("c.stl", "c.ply", "mine.stl"):
        (tmp_path / "out/mesh" / name).write_text("old")
    assert quantify(*words) == 0
    left = {path.name for path in (tmp_path / "out/mesh").iterdir()}
    assert left == {"a.stl", "a.ply", "b.stl", "b.ply", "mine.stl"}
