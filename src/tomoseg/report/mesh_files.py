"""Surfaces for other programs: binary STL and PLY, written piece by piece."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from jaxtyping import Float32, Int64

from tomoseg.errors import OutputError
from tomoseg.report.files import free_name
from tomoseg.whole_file import whole_file

_STL = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])
_PLY_TRIANGLE = np.dtype([("corners", "u1"), ("vertices", "<i4", 3)])
_PLY_VERTEX = np.dtype("<f4")
_STL_TITLE = 80
MOST_VERTICES = 2**31 - 1

KINDS = ("stl", "ply")
"""Endings of a surface's files."""

_RESERVED = {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(1, 10))}
_MOST_LETTERS = 60


@dataclass
class Mesh:
    """The open files of one surface.

    Attributes
    ----------
    vertices, triangles
        How many were written so far.
    """

    stl: BinaryIO
    ply: BinaryIO
    ply_triangles: BinaryIO
    vertices: int = 0
    triangles: int = 0

    def add(
        self,
        corners: Float32[np.ndarray, "triangle 3 3"],
        vertices: Float32[np.ndarray, "vertex 3"],
        triangles: Int64[np.ndarray, "triangle 3"],
    ) -> None:
        """Write triangles.

        Parameters
        ----------
        corners
            Places (x, y, z) of each triangle's corners.
        vertices
            Places of the vertices that were not there yet; they get the next numbers.
        triangles
            The numbers of each triangle's vertices.
        """
        first, second, third = corners[:, 0], corners[:, 1], corners[:, 2]
        normals = np.cross(second - first, third - first)
        rows = np.zeros(len(corners), _STL)
        rows["normal"] = normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), np.float32(1e-30))
        rows["corners"] = corners
        self.stl.write(rows.tobytes())
        self.ply.write(vertices.astype(_PLY_VERTEX).tobytes())
        faces = np.zeros(len(triangles), _PLY_TRIANGLE)
        faces["corners"], faces["vertices"] = 3, triangles
        self.ply_triangles.write(faces.tobytes())
        self.vertices += len(vertices)
        self.triangles += len(triangles)


@contextmanager
def mesh_files(stem: Path, *, title: str, comments: Sequence[str]) -> Iterator[Mesh]:
    """Give the files `STEM.stl` and `STEM.ply`; on a clean end they are in place, whole, else there is neither.

    Parameters
    ----------
    stem
        Path without ending.
    title
        Of the STL file, cut to what fits.
    comments
        Lines of the PLY file.

    Raises
    ------
    OutputError
        If the place cannot be written.
    """
    paths = [stem.with_name(f"{stem.name}.{kind}") for kind in KINDS]
    with (
        whole_file(paths[0]) as stl_draft,
        whole_file(paths[1]) as ply_draft,
        stl_draft.open("w+b") as stl,
        ply_draft.open("w+b") as ply,
        tempfile.TemporaryFile(dir=stem.parent) as later,
    ):
        stl.write(_stl_head(title, 0))
        ply.write(_ply_head(comments, 0, 0))
        mesh = Mesh(stl, ply, later)
        yield mesh
        later.seek(0)
        shutil.copyfileobj(later, ply, 1 << 20)
        stl.seek(0)
        stl.write(_stl_head(title, mesh.triangles))
        ply.seek(0)
        ply.write(_ply_head(comments, mesh.vertices, mesh.triangles))


def check_mesh_folder(folder: Path, stems: Sequence[str], *, force: bool) -> None:
    """Refuse a folder that is a file, or holds one of the files already; nothing is created.

    Raises
    ------
    OutputError
        If so, and for the files if `force` is off.
    """
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder}: is a file; meshes need a folder")
    there = [folder / f"{stem}.{kind}" for stem in stems for kind in KINDS]
    taken = next((path for path in there if path.exists()), None)
    if taken is not None and not force:
        raise OutputError(f"{taken}: exists; choose another folder, or replace it with --force")


def file_stems(names: Sequence[str]) -> list[str]:
    """Return a name for each class's files that every file system takes, no two alike.

    Examples
    --------
    >>> file_stems(["pore", "Ni/YSZ", "ni ysz", "..", "con"])
    ['pore', 'Ni_YSZ', 'ni_ysz-2', '_', 'con_']
    """
    found: list[str] = []
    for name in names:
        plain = "".join(one if one.isascii() and (one.isalnum() or one in "._-+") else "_" for one in name)
        plain = plain[:_MOST_LETTERS].strip(".") or "_"
        plain += "_" if plain.partition(".")[0].lower() in _RESERVED else ""
        found.append(free_name(plain, taken=found))
    return found


def bytes_needed(faces: float) -> float:
    """Return about how many bytes are needed to write a surface whose voxels have so many faces to others.

    Nearly every such face lies between the two voxels of a vertex, and a surface has twice as many triangles as
    vertices; the triangles of the PLY file exist twice while it is written.

    Examples
    --------
    >>> bytes_needed(1_000_000)
    164000000
    """
    return faces * (3 * _PLY_VERTEX.itemsize + 2 * (_STL.itemsize + 2 * _PLY_TRIANGLE.itemsize))


def _stl_head(title: str, triangles: int) -> bytes:
    plain = title.encode("ascii", "replace")[:_STL_TITLE]
    return plain.ljust(_STL_TITLE) + np.uint32(triangles).tobytes()


def _ply_head(comments: Sequence[str], vertices: int, triangles: int) -> bytes:
    """Return a head whose length does not depend on the numbers."""
    digits = len(str(2 * MOST_VERTICES))
    filled = " " * (2 * digits - len(str(vertices)) - len(str(triangles)))
    lines = [
        "ply",
        "format binary_little_endian 1.0",
        *(f"comment {' '.join(one.split())}" for one in comments),
        f"comment{filled}",
        f"element vertex {vertices}",
        *(f"property float {axis}" for axis in "xyz"),
        f"element face {triangles}",
        "property list uchar int vertex_indices",
        "end_header",
    ]
    return "".join(f"{line}\n" for line in lines).encode("ascii", "replace")
