"""Run the tasks of a prediction: here, a few at a time so that disk and processor overlap, or on a cluster."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any
from uuid import uuid4

from tomoseg.errors import OutputError, SettingError
from tomoseg.workflow.cluster import completions, count_workers, dask_client, refuse_lost_scheduler
from tomoseg.workflow.console import Console
from tomoseg.workflow.predict_plan import Lanes, Task
from tomoseg.workflow.predict_task import Job, open_work, run_task

_LOOK_SECONDS = 0.5
_POLL_SECONDS, _ALONE_SECONDS = 0.02, 20.0


def run_here(job: Job, tasks: Sequence[Task], *, title: str, console: Console) -> None:
    """Run tasks in this process.

    Raises
    ------
    InputError
        If the source can't be read, or the disk is full.
    """
    work = open_work(job)
    slices = itertools.count(1)
    done = 0

    def count() -> None:
        nonlocal done
        done = next(slices)

    work.progress = count
    work.stopped.clear()
    waiting, at_a_time = iter(tasks), work.plan.lanes.in_flight
    with console.progress(title, _slices(tasks)) as bar, ThreadPoolExecutor(at_a_time) as pool:
        running = {pool.submit(run_task, job, task) for task in itertools.islice(waiting, at_a_time)}
        try:
            while running:
                ended, running = wait(running, timeout=_LOOK_SECONDS, return_when=FIRST_COMPLETED)
                bar.update(done)
                running |= _next(pool, job, waiting, ended)
        except BaseException:
            work.stopped.set()
            raise


def _next(pool: ThreadPoolExecutor, job: Job, waiting: Iterator[Task], ended: set[Future[str]]) -> set[Future[str]]:
    """Raise what a task raised; start as many as have ended."""
    for future in ended:
        future.result()
    return {pool.submit(run_task, job, task) for task in itertools.islice(waiting, len(ended))}


def run_on_cluster(
    job: Job,
    tasks: Sequence[Task],
    *,
    lanes: Lanes,
    workers: int,
    scheduler: str | None,
    title: str,
    console: Console,
) -> None:
    """Run tasks on worker processes, a few in flight each; those of a lost worker are done again by another.

    Raises
    ------
    InputError
        If the source can't be read by a worker, or the disk is full.
    """
    with (
        dask_client(
            workers=workers, scheduler=scheduler, threads=lanes.in_flight, purpose="prediction on workers"
        ) as client,
        console.progress(title, _slices(tasks)) as bar,
    ):
        waiting, run = iter(tasks), uuid4().hex
        sizes = {task.name: task.planes for task in tasks}
        running = completions(client, [])
        in_flight = done = 0
        while done < sum(sizes.values()):
            # workers come and go
            room = lanes.in_flight * max(1, count_workers(client)) - in_flight
            for task in itertools.islice(waiting, max(0, room)):
                running.add(client.submit(run_task, job, task, key=f"{task.name}-{run}"))
                in_flight += 1
            _wait(running, client, console)
            done += sizes[_result(next(running))]
            in_flight -= 1
            bar.update(done)


def _wait(running: Any, client: Any, console: Console) -> None:
    """Wait until a task has ended; say so when there has been no worker for a while."""
    alone, warned = time.monotonic(), False
    while not running.has_ready():
        time.sleep(_POLL_SECONDS)
        if warned or time.monotonic() - alone < _ALONE_SECONDS:
            continue
        if count_workers(client):
            alone = time.monotonic()
        else:
            console.warn("no worker is left; waiting for one to come")
            warned = True


def _result(future: Any) -> str:
    refuse_lost_scheduler(future)
    error = future.exception() if future.status == "error" else None
    if type(error).__name__ == "KilledWorker":
        raise OutputError("the workers die again and again on the same block; give them more memory, or fewer of them")
    if isinstance(error, ImportError):
        raise SettingError(f"the workers have not what it takes ({error}); install the same tomoseg where they run")
    return str(future.result())


def _slices(tasks: Sequence[Task]) -> int:
    return max(1, sum(task.planes for task in tasks))
