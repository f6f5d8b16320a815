"""What a prediction will do, decided once: it is kept with the output, and every task and every resume goes by it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from tomoseg.engine import EngineChoice
from tomoseg.errors import BegunOtherwiseError
from tomoseg.shading import Shading
from tomoseg.volume import Region
from tomoseg.volume.folder import picture_files
from tomoseg.volume.ome_zarr_writer import shard_regions, whole_chunks
from tomoseg.volume.source import split_inner
from tomoseg.volume.turned import Axis, turn_region
from tomoseg.window import Window
from tomoseg.workflow.common import Reading

Shape = tuple[int, int, int]
Pass = Literal["labels", "z", "y", "x"]
"""What a task gives: labels and what belongs to them, or the probabilities along one axis."""

THICKNESS = 16
"""Slices of a block."""

_LANES = 2


@dataclass(frozen=True)
class Lanes:
    """How the tasks of a process share it.

    Attributes
    ----------
    computing
        Tasks that run the network at a time: while one of two prepares a tile or keeps what it gave, the other has the
        processor. More would take more memory.
    threads
        Threads that each of them has.
    """

    computing: int
    threads: int

    @classmethod
    def of(cls, threads: int) -> Lanes:
        """Return the lanes of a process with `threads` threads.

        Examples
        --------
        >>> Lanes.of(1), Lanes.of(9)
        (Lanes(computing=1, threads=1), Lanes(computing=2, threads=4))
        """
        computing = min(_LANES, threads)
        return cls(computing, threads // computing)

    @property
    def in_flight(self) -> int:
        """Tasks at a time: one more, that reads or writes."""
        return self.computing + 1


@dataclass(frozen=True)
class Task:
    """A block of a pass; its region counts from the first voxel of the output."""

    which: Pass
    region: Region

    @property
    def planes(self) -> int:
        """Slices, or planes across the pass's axis."""
        return turn_region(self.region, axis_of(self.which)).shape[0]

    @property
    def name(self) -> str:
        """Name of the task's record: the pass and the first voxel."""
        return f"{self.which}-{self.region.z0:05d}-{self.region.y0:05d}-{self.region.x0:05d}"


class Plan(BaseModel):
    """What was asked of a prediction, and what was chosen for it.

    Attributes
    ----------
    model, source
        Hashes of the weights, and of what the source's files are.
    shape, region
        Voxels of the source along (z, y, x), and the part that is segmented: z0, z1, y0, y1, x0, x1.
    mask, axes, values, probabilities, uncertainty
        As asked.
    window
        Turns grey values into network input.
    shading, correction
        Whether slow changes of the grey values were asked to be taken away, and those that were found.
    beyond_ends
        What stands for slices beyond the scan's ends; repeated where the network sees none.
    voxel_size_um
        Edge lengths of a voxel along (z, y, x) in micrometres; None where not known.
    label_values, label_type, outside_value
        Value of each class in the output, its type, and the value outside the field of view.
    engine, threads
        What runs the network, and the processor threads of a process.
    tile, block
        Edge of a tile in pixels, and voxels of a block along (z, y, x).
    peak_bytes
        Memory that a process takes at its peak, without what it takes to build a network.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    source: str
    shape: Shape
    region: tuple[int, int, int, int, int, int]
    mask: str | None
    axes: Literal["z", "zyx"]
    values: Literal["labels", "indices"]
    probabilities: bool
    uncertainty: bool
    window: Window
    shading: Literal["keep", "fit"] = "keep"
    correction: Shading | None = None
    beyond_ends: Literal["repeated", "foretold"] = "repeated"
    voxel_size_um: tuple[float, float, float] | None
    label_values: tuple[int, ...]
    label_type: str
    outside_value: int
    engine: EngineChoice
    tile: int
    threads: int
    block: Shape
    peak_bytes: int

    @property
    def lanes(self) -> Lanes:
        """How a process runs its tasks."""
        return Lanes.of(self.threads)

    @property
    def box(self) -> Region:
        """The part of the volume that is segmented."""
        return Region(*self.region)

    def passes(self) -> tuple[Pass, ...]:
        """Return the passes in their order; the last gives the labels."""
        return ("labels",) if self.axes == "z" else ("z", "y", "x", "labels")

    def thin(self, which: Pass) -> Shape:
        """Return a block's edges along (z, y, x) in a pass: thin along its axis, wide along the others."""
        thickness, height, width = self.block
        if which == "y":
            return height, thickness, width
        return (height, width, thickness) if which == "x" else self.block

    def tasks(self, which: Pass) -> tuple[Task, ...]:
        """Return the tasks of a pass, in order."""
        depth, height, width = self.box.shape
        edges = whole_chunks((depth, height, width), shard=self.thin(which), chunk=pass_chunk(which))
        return tuple(Task(which, region) for region in shard_regions((depth, height, width), edges))


CHOSEN = ("engine", "tile", "threads", "block", "peak_bytes", "correction")
"""Fields of a plan that are chosen at the start and taken over when it goes on."""


def pass_chunk(which: Pass) -> Shape:
    """Return the chunk's edges of what a pass writes: thin along z, where it is read again, and along its own axis."""
    return {"y": (THICKNESS, THICKNESS, 256), "x": (THICKNESS, 256, THICKNESS)}.get(which, (THICKNESS, 128, 128))


def refuse_other_plan(plan: Plan, begun: Plan, *, out: Path, asked_engine: str) -> None:
    """Refuse to go on with an output that was begun with something else.

    Raises
    ------
    BegunOtherwiseError
        If the source, the model, or anything asked for has changed.
    """
    if plan.source != begun.source:
        raise BegunOtherwiseError(
            f"{out}: the source, its mask or how it is read has changed since this was begun; restore it, or begin "
            "again with --force"
        )
    if plan.model != begun.model:
        raise BegunOtherwiseError(f"{out}: was begun with another model; give that one, or begin again with --force")
    fields = [name for name in Plan.model_fields if name not in CHOSEN]
    odd = [name for name in fields if getattr(plan, name) != getattr(begun, name)]
    if odd:
        said = ", ".join(f"{name} {getattr(begun, name)}, now {getattr(plan, name)}" for name in odd)
        raise BegunOtherwiseError(f"{out}: was begun with {said}; go on with the same, or begin again with --force")
    if asked_engine not in ("auto", begun.engine.name):
        raise BegunOtherwiseError(
            f"{out}: was begun with --engine {begun.engine.name}; go on with it, or begin again with --force"
        )


def source_state(path: Path, *, how: Reading, others: Sequence[Path] = ()) -> str:
    """Return a hash that tells when a source, its mask, or the way it is read has changed.

    It is made from the names, sizes and times of change of the files that are read: a folder's pictures, all of a
    Zarr store, or a file and `others` that it leads to.
    """
    digest = hashlib.sha256(f"{how.opening}".encode())
    masks = [] if how.mask in (None, "auto") else [Path(how.mask)]
    for given in (path, *masks, *others):
        root, _ = split_inner(given)
        for file in _files(root):
            found = file.stat()
            digest.update(f"{file.name} {found.st_size} {found.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:16]


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    if any((path / name).exists() for name in ("zarr.json", ".zgroup", ".zarray")):
        return [Path(folder) / name for folder, _, files in sorted(os.walk(path)) for name in sorted(files)]
    return picture_files(path)


def parse_threads(threads: int | None, *, workers: int, scheduler: str | None) -> int:
    """Return the processor threads of a process: as asked, else its share of the cores; one for a cluster's worker."""
    if threads is not None:
        return threads
    if scheduler is not None:
        return 1
    return max(1, (os.cpu_count() or 1) // workers)


def axis_of(which: Pass) -> Axis:
    """Return the axis across which a pass takes its planes."""
    return "z" if which == "labels" else which


def region_of(task: Task, plan: Plan) -> Region:
    """Return the task's region in voxels of the volume, turned so that the pass's axis comes first."""
    box, part = plan.box, task.region
    moved = Region(
        part.z0 + box.z0, part.z1 + box.z0, part.y0 + box.y0, part.y1 + box.y0, part.x0 + box.x0, part.x1 + box.x0
    )
    return turn_region(moved, axis_of(task.which))
