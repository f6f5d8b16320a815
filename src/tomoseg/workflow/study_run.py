"""Run the cells of a study: one study in a folder at a time, cells one after the other or on several processes."""

from __future__ import annotations

import os
import shutil
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from tomoseg.errors import InputError, OutputError
from tomoseg.study import Cell
from tomoseg.workflow.cluster import completions, dask_client, refuse_lost_scheduler
from tomoseg.workflow.console import Console
from tomoseg.workflow.study import StudySettings

LOST_WORKER = "its worker"
"""With what the reason begins why a cell failed together with its worker."""

_FOREST_MINUTES = 0.7
_SCORED_MINUTES = 0.5

_ONE_AT_A_TIME = threading.Lock()
"""Held while a cell runs: a worker may have threads, and torch's random numbers belong to the whole process."""


@contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Keep a second study out of the folder while this one runs; the lock goes with the process, however it ends.

    Raises
    ------
    OutputError
        If one runs already, or the folder cannot be written.
    """
    import fcntl

    new = not folder.exists()
    try:
        (folder / "cells").mkdir(parents=True, exist_ok=True)
        lock = (folder / "cells" / ".lock").open("w")
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written: {error.strerror}") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise OutputError(f"{folder}: another study is running in it; wait, or choose another folder") from error
        try:
            yield
        except InputError:
            if new and not any(path.suffix for path in (folder / "cells").iterdir() if path.name != "study.json"):
                shutil.rmtree(folder)  # made a moment ago, and nothing came of it
            raise


def threads_of(settings: StudySettings) -> int | None:
    """Return the processor threads of a cell: as asked, else its share of the cores; on a cluster, the worker's own."""
    if settings.threads is not None or settings.scheduler is not None:
        return settings.threads
    return None if settings.workers == 1 else max(1, (os.cpu_count() or 1) // settings.workers)


def run_all(missing: Sequence[Cell], settings: StudySettings, console: Console) -> dict[str, str]:
    """Run cells, several at a time if asked; return why those that failed did."""
    if not missing:
        return {}
    failed: dict[str, str] = {}
    minutes = {cell.key: _expected_minutes(cell, settings) for cell in missing}
    done = 0.0
    with _executor(settings) as finished, console.progress("cells", sum(minutes.values())) as bar:
        began = time.monotonic()
        for key, why in finished(missing):
            if why:
                failed[key] = why
            done += minutes[key]
            bar.update(done, f"{key} {'failed' if why else 'done'} after {time.monotonic() - began:.0f} s")
    return failed


def _expected_minutes(cell: Cell, settings: StudySettings) -> float:
    """Return about how long a cell takes beside the others, for the progress bar."""
    if cell.method == "forest":
        return _FOREST_MINUTES
    trained = settings.most_minutes / 2 if cell.to_the_end else settings.minutes_per_cell
    return trained + _SCORED_MINUTES


@contextmanager
def _only_writer(lock: Path) -> Iterator[None]:
    """Wait for whoever runs the same cell, such as a cluster's worker whose study was killed and begun again."""
    import fcntl

    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
    lock.unlink(missing_ok=True)


Finished = Callable[[Sequence[Cell]], Iterator[tuple[str, str | None]]]


@contextmanager
def _executor(settings: StudySettings) -> Iterator[Finished]:
    """Give what runs cells and yields each one's key, and why it failed if it did, as they end."""
    if settings.workers == 1 and settings.scheduler is None:
        yield lambda cells: (try_cell(cell, settings, threads_of(settings)) for cell in cells)
        return
    with dask_client(
        workers=settings.workers, scheduler=settings.scheduler, purpose="a study on several processes"
    ) as client:

        def finished(cells: Sequence[Cell]) -> Iterator[tuple[str, str | None]]:
            # names of their own: other studies may be on the same scheduler
            jobs = {
                client.submit(try_cell, cell, settings, threads_of(settings), key=f"{cell.key}-{uuid4().hex}"): cell
                for cell in cells
            }
            for job in completions(client, jobs):
                refuse_lost_scheduler(job)
                ended = job.status == "finished"
                yield job.result() if ended else (jobs[job].key, f"{LOST_WORKER}: {job.exception()}")

        yield finished


def try_cell(cell: Cell, settings: StudySettings, threads: int | None) -> tuple[str, str | None]:
    """Run a cell; return its key, and in one line why it failed if it did, the traceback kept beside the cells."""
    from tomoseg.workflow.study_cell import run_cell

    try:
        with _ONE_AT_A_TIME, _only_writer(settings.out / "cells" / f".{cell.key}.lock"):
            if not (settings.out / "cells" / f"{cell.key}.json").exists():
                run_cell(cell, settings, threads)
    except Exception as error:  # reported, kept apart: the other cells go on
        (settings.out / "cells" / f"{cell.key}.failed.txt").write_text(traceback.format_exc(), encoding="utf-8")
        return cell.key, f"{type(error).__name__}: {error}"
    Path(settings.out / "cells" / f"{cell.key}.failed.txt").unlink(missing_ok=True)
    return cell.key, None
