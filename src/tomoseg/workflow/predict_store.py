"""The store that a prediction is written to: block by block, each recorded once it is on the disk."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import psutil
import zarr
from jaxtyping import Shaped, UInt16

from tomoseg.errors import OutputError
from tomoseg.volume import Region
from tomoseg.volume.ome_zarr_writer import ImageSpec, create_image, shard_files, write_shards, write_state
from tomoseg.volume.state import NOTES, RECORD, read_state
from tomoseg.volume.writer import remove, replace_folder, write_text, writing
from tomoseg.whole_file import PARTIAL, to_disk
from tomoseg.workflow.predict_plan import Pass, Plan, Task, pass_chunk

BLOCKS = "blocks"
"""Folder of the records among the notes, one JSON a finished task."""

RUN = "run.json"
"""Note of the run that may write to a store, and of the process that leads it."""

ENGINE = "engine"
"""Folder of the network that was built for the run among the notes, so that all workers have it."""

TARGETS = "targets.json"
"""Note of the outputs that are written from a store that is not the output itself."""

UNFINISHED = ".unfinished.zarr"
"""Ending of the store in which an output is made that is not a new Zarr store itself."""


@dataclass(frozen=True)
class Store:
    """A prediction's store, its plan, and the run that may write to it."""

    path: Path
    plan: Plan
    run: str = ""

    def claim(self) -> Store:
        """Return the store as that of a new run: what is left of an earlier one writes to it no more.

        Raises
        ------
        OutputError
            If a process on this machine is at work on it, or it cannot be written.
        """
        self.refuse_held()
        run, here = uuid4().hex, psutil.Process()
        record = {"run": run, "host": platform.node(), "pid": here.pid, "started": here.create_time()}
        with writing(self.path):
            (self.path / NOTES / RUN).write_text(json.dumps(record) + "\n", encoding="utf-8")
        return replace(self, run=run)

    def refuse_held(self) -> None:
        """Refuse a store, or a place for one, that a process on this machine is at work on.

        Raises
        ------
        OutputError
            If one is.
        """
        held = self._holder()
        if held.get("host") == platform.node() and _is_at_work(held):
            raise OutputError(f"{self.path}: process {held['pid']} is writing it; wait for it, or stop it first")

    def _holder(self) -> dict[str, Any]:
        try:
            return dict(json.loads((self.path / NOTES / RUN).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return {}

    @property
    def engine_files(self) -> Path | None:
        """Folder of the network that was built for the run; None where none was."""
        folder = self.path / NOTES / ENGINE
        return folder if folder.is_dir() else None

    def group(self, name: str) -> Path:
        """Return the folder of an image: the labels are the root."""
        return self.path if name == "labels" else self.path / name

    def record(self, task: Task) -> Path:
        """Return where a task's record is."""
        return self.path / NOTES / BLOCKS / f"{task.name}.json"

    def write(self, task: Task, images: Mapping[str, Shaped[np.ndarray, ...]], sums: Mapping[str, Any]) -> None:
        """Write a task's images, wait until they are on the disk, and then its record.

        Raises
        ------
        OutputError
            If the disk is full or refuses for another reason, or another run has taken the store over.
        """
        if self._holder().get("run", "") != self.run:
            raise OutputError(f"{self.path}: another run has taken it over; this one ends")
        with writing(self.path):
            files = [
                file for name, values in images.items() for file in write_shards(self.group(name), values, task.region)
            ]
            found = {file.relative_to(self.path).as_posix(): checksum(file) for file in files}
            record = {"files": found, **sums}
            draft = self.record(task).with_suffix(PARTIAL)
            with draft.open("w", encoding="utf-8") as file:
                json.dump(record, file)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(self.record(task))

    def is_done(self, task: Task) -> bool:
        """Return whether a task has a record and its files are what the record says."""
        try:
            files = json.loads(self.record(task).read_text(encoding="utf-8"))["files"]
            return all(checksum(self.path / name) == known for name, known in files.items())
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return False

    def refuse_missing(self, tasks: Iterable[Task]) -> None:
        """Refuse to go on where a file of a task that is done has gone since: its voxels would read as 0.

        Raises
        ------
        OutputError
            If one has.
        """
        self._refuse_gone(self.path / name for task in tasks for name in self.read_record(task)["files"])

    def _refuse_gone(self, files: Iterable[Path]) -> None:
        for file in files:
            if not file.is_file():
                raise OutputError(f"{file}: has gone since it was written; the same command makes it again")

    def read_record(self, task: Task) -> dict[str, Any]:
        """Return the record of a task that is done."""
        found: dict[str, Any] = json.loads(self.record(task).read_text(encoding="utf-8"))
        return found

    def read_levels(self, which: Pass, region: Region) -> UInt16[np.ndarray, "class z y x"]:
        """Return the probabilities along an axis, 0 to 65535.

        Raises
        ------
        OutputError
            If a file of them has gone.
        """
        group = self.group(f"axis_{which}")
        self._refuse_gone(shard_files(group, region))
        array = zarr.open_array(str(group), path="0", mode="r")
        return np.asarray(array[(slice(None), *region.slices)])

    def complete(self, record: Mapping[str, Any]) -> None:
        """Write the record of the whole and drop what was only needed on the way."""
        with writing(self.path):
            for which in self.plan.passes()[:-1]:
                for task in self.plan.tasks(which):
                    self.record(task).unlink(missing_ok=True)
                remove(self.group(f"axis_{which}"))
            remove(self.path / NOTES / ENGINE)
            write_text(self.path / NOTES / RECORD, json.dumps(record, indent=2) + "\n")

    def finish(self) -> None:
        """Say that it is finished."""
        with writing(self.path):
            write_state(self.path, {**_state(self.plan), "finished": True})
            to_disk(self.path)
            (self.path / NOTES / RUN).unlink(missing_ok=True)

    def begun_targets(self) -> list[str]:
        """Return the names of the outputs in other formats that a run has begun to write from this store."""
        try:
            return list(json.loads((self.path / NOTES / TARGETS).read_text(encoding="utf-8")))
        except (OSError, ValueError):
            return []

    def begin_targets(self, names: Sequence[str]) -> None:
        """Note which outputs are about to be written from this store: a later run may replace them."""
        with writing(self.path):
            (self.path / NOTES / TARGETS).write_text(json.dumps(list(names)) + "\n", encoding="utf-8")


def _is_at_work(held: Mapping[str, Any]) -> bool:
    """Return whether the process that holds a store lives; this one itself does not count."""
    try:
        found = psutil.Process(int(held["pid"]))
        lives = found.status() != psutil.STATUS_ZOMBIE  # killed, and not yet waited for by whoever started it
        return lives and found.pid != os.getpid() and bool(abs(found.create_time() - float(held["started"])) < 1)
    except (psutil.Error, KeyError, TypeError, ValueError):
        return False


def checksum(file: Path) -> str:
    """Return a hash of a file's bytes, 32 hexadecimal digits of BLAKE2b."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def working_place(out: Path, *, force: bool) -> Path:
    """Return the store in which an output is made: itself, or one beside it, that takes its place when it is done.

    Examples
    --------
    >>> working_place(Path("labels.tif"), force=False).name, working_place(Path("new.zarr"), force=False).name
    ('labels.tif.unfinished.zarr', 'new.zarr')
    """
    beside = out.with_name(out.name + UNFINISHED)
    if out.suffix.lower() != ".zarr":
        return beside
    if not out.exists():
        return beside if beside.exists() else out  # killed while the one took the place of the other
    return beside if force and (read_state(out) or {}).get("finished", True) else out


def begun_plan(place: Path) -> Plan | None:
    """Return the plan of an unfinished store; None where there is no store of a prediction."""
    state = read_state(place)
    if state is None or state.get("verb") != "predict" or state.get("finished", True):
        return None
    try:
        return Plan.model_validate_json(json.dumps(state["plan"]))
    except (KeyError, ValueError):
        return None


def create_store(place: Path, plan: Plan, names: Sequence[str], *, engine_files: Sequence[Path] = ()) -> Store:
    """Make the store with all its metadata and no values; it has its name only when that is complete.

    Parameters
    ----------
    place, plan
        Where, and what for.
    names
        Of the classes.
    engine_files
        Of the network that was built for the plan's engine; they go along.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    draft = place.with_name(place.name + PARTIAL)
    with writing(place):
        place.parent.mkdir(parents=True, exist_ok=True)
        remove(draft)
        draft.mkdir()
        _create_images(draft, plan, tuple(names))
        (draft / NOTES / BLOCKS).mkdir()
        if engine_files:
            (draft / NOTES / ENGINE).mkdir()
        for file in engine_files:
            shutil.copyfile(file, draft / NOTES / ENGINE / file.name)
        if place.exists():
            replace_folder(draft, place)
        else:
            draft.replace(place)
    return Store(place, plan)


def _create_images(path: Path, plan: Plan, names: tuple[str, ...]) -> None:
    shape, size = plan.box.shape, plan.voxel_size_um
    classes = dict(zip(plan.label_values, names, strict=True))
    labels = ImageSpec("labels", shape, np.dtype(plan.label_type), plan.block, size, classes=classes)
    create_image(path, labels, state=_state(plan))
    if plan.probabilities:
        spec = ImageSpec("probabilities", shape, np.dtype(np.uint8), plan.block, size, channels=names)
        create_image(path / "probabilities", spec)
    if plan.uncertainty:
        create_image(path / "uncertainty", ImageSpec("uncertainty", shape, np.dtype(np.uint8), plan.block, size))
    for which in plan.passes()[:-1]:
        spec = ImageSpec(f"axis_{which}", shape, np.dtype(np.uint16), plan.thin(which), size, names,
                         chunk=pass_chunk(which), pyramid=False)  # fmt: skip
        create_image(path / f"axis_{which}", spec)


def _state(plan: Plan) -> dict[str, Any]:
    return {"verb": "predict", "finished": False, "plan": plan.model_dump(mode="json")}


def tidy(place: Path) -> None:
    """Remove drafts that a killed run left in a store."""
    with writing(place):
        for draft in place.rglob(f"*{PARTIAL}"):
            remove(draft)


def refuse_unreadable(place: Path) -> None:
    """Refuse a place where something lies that is no store of a prediction.

    Raises
    ------
    OutputError
        If it does.
    """
    if place.exists() and read_state(place) is None and any(place.iterdir()):
        raise OutputError(f"{place}: was not written by tomoseg and is not replaced; choose another place")
