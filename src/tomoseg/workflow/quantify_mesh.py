"""`tomoseg quantify --mesh`: the surface of each phase at full resolution, as STL and PLY."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack, suppress
from functools import reduce
from operator import add
from pathlib import Path

import numpy as np
import psutil
from jaxtyping import Float64

from tomoseg.errors import OutputError
from tomoseg.quantify.grid import cut
from tomoseg.quantify.meshes import MESH_SIGMA, BlockMesh, Joiner, mesh_block
from tomoseg.report.mesh_files import (
    KINDS,
    MOST_VERTICES,
    Mesh,
    bytes_needed,
    check_mesh_folder,
    file_stems,
    mesh_files,
)
from tomoseg.workflow.console import Console, sized
from tomoseg.workflow.quantify_run import Sums
from tomoseg.workflow.segmentation import Segmentation, Work, open_again
from tomoseg.workflow.spreading import spread_work

_TOLD_FROM_BYTES = 500e6


def mesh_folder(out: Path, segmentation: Segmentation, *, force: bool) -> Path:
    """Return where the meshes go.

    Raises
    ------
    OutputError
        If one of them is there and `force` is off.
    """
    folder = out / "mesh"
    check_mesh_folder(folder, file_stems([item.name for item in segmentation.classes]), force=force)
    return folder


def voxel_faces(sums: Sums, work: Work) -> Float64[np.ndarray, " class"]:
    """Return how many faces the voxels of each class have to those of others, float64 (class,)."""
    areas = reduce(add, (block.surfaces for block in sums.blocks)).stair_areas.sum(axis=2)
    faces = np.prod(work.voxel_size) / np.array(work.voxel_size)
    return np.asarray(areas.T @ (1 / faces))


def write_meshes(
    folder: Path,
    segmentation: Segmentation,
    work: Work,
    *,
    faces: Float64[np.ndarray, " class"],
    workers: int,
    scheduler: str | None,
    console: Console,
) -> None:
    """Write NAME.stl and NAME.ply of each class that has a surface: both of them whole, or neither.

    Files of classes that have none now, which were to be replaced, go.

    Parameters
    ----------
    folder
        Where they go.
    segmentation, work
        What is meshed.
    faces
        Of each class's voxels to other classes, as `voxel_faces` counts them.
    workers, scheduler
        As in `measure`.
    console
        Is told how large they will be, and shows progress.

    Raises
    ------
    OutputError
        If there is no room, or the place cannot be written.
    """
    _check_room(folder, faces, console)
    names = [item.name for item in segmentation.classes]
    grid = cut(segmentation.shape, edge=work.block)
    joiners = [Joiner(grid) for _ in names]
    open_files: dict[int, Mesh] = {}
    try:
        with ExitStack() as stack, spread_work(work, workers, scheduler) as spread:
            found = console.track(spread(mesh_one, range(len(grid))), "meshing blocks", len(grid))
            for number, several in enumerate(found):
                for order, (joiner, one) in enumerate(zip(joiners, several, strict=True)):
                    vertices, triangles = joiner.add(number, one)
                    if not len(triangles):
                        continue
                    if order not in open_files:
                        open_files[order] = stack.enter_context(_files(folder, segmentation, order))
                    open_files[order].add(one.vertices[one.triangles], vertices, triangles)
        for order, stem in enumerate(file_stems(names)):
            if order not in open_files:
                for kind in KINDS:
                    (folder / f"{stem}.{kind}").unlink(missing_ok=True)
    finally:
        with suppress(OSError):  # it stays unless it is empty
            folder.rmdir()
    _tell(folder, names, open_files, console)


def mesh_one(work: Work, number: int) -> list[BlockMesh]:
    """Return the surface of each class in one block."""
    segmentation = open_again(work)
    grid, region = cut(segmentation.shape, edge=work.block), segmentation.source.region
    return list(
        mesh_block(
            segmentation.read,
            grid[number],
            shape=grid.shape,
            n_classes=len(work.classes),
            voxel_size=work.voxel_size,
            origin=(region.z0, region.y0, region.x0),
        )
    )


def _check_room(folder: Path, faces: Float64[np.ndarray, " class"], console: Console) -> None:
    if faces.max() > MOST_VERTICES:
        raise OutputError(
            f"{folder}: a mesh of about {faces.max():.2g} vertices is more than its files can number; take a part of "
            "the volume with --roi"
        )
    need = bytes_needed(float(faces.sum()))
    near = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
    free = psutil.disk_usage(str(near)).free
    if need > free:
        raise OutputError(
            f"{folder}: the meshes take about {sized(need)} on the disk, and there is room for {sized(free)}; take a "
            "part of the volume with --roi"
        )
    if need > _TOLD_FROM_BYTES:
        console.say(f"the meshes take about {sized(need)} on the disk while they are written")


def _files(folder: Path, segmentation: Segmentation, order: int) -> AbstractContextManager[Mesh]:
    names = [item.name for item in segmentation.classes]
    unit = "micrometres" if segmentation.voxel_size_um else "voxels"
    return mesh_files(
        folder / file_stems(names)[order],
        title=f"{names[order]}, {unit}, by tomoseg",
        comments=[
            f"{names[order]}, by tomoseg",
            f"x y z in {unit} from the centre of the scan's first voxel; normals point out of the phase",
            f"smoothed by Gaussians of {MESH_SIGMA:g} and {2 * MESH_SIGMA:g} voxels; open where scan or mask end",
        ],
    )


def _tell(folder: Path, names: Sequence[str], written: dict[int, Mesh], console: Console) -> None:
    for order, (name, stem) in enumerate(zip(names, file_stems(names), strict=True)):
        if order in written:
            console.result(f"mesh: {folder / stem}.stl and .ply, {written[order].triangles:,} triangles")
        else:
            console.say(f"mesh: {name} has no surface that could be meshed; there is no file")
