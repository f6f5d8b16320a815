"""One task of a prediction, in whatever process: read a block, run the network on it, write it, record it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, get_args

import numpy as np
from jaxtyping import Bool, Shaped
from threadpoolctl import threadpool_limits

from tomoseg.blocks import (
    Ends,
    GreyStatistics,
    Levels16,
    Outputs,
    PixelGrid,
    Slab,
    Wanted,
    average,
    grey_statistics,
    read_slab,
    run_slab,
)
from tomoseg.errors import ModelFileError
from tomoseg.predict import Runner
from tomoseg.slices import slice_numbers
from tomoseg.volume import Region
from tomoseg.volume.turned import Axis, TurnedVolume, turn_back
from tomoseg.workflow.cluster import keep_freed_memory
from tomoseg.workflow.common import Reading
from tomoseg.workflow.even_reading import corrected
from tomoseg.workflow.predict_plan import Plan, Task, axis_of, region_of
from tomoseg.workflow.predict_store import Store
from tomoseg.workflow.reading import Source, open_source


@dataclass(frozen=True)
class Job:
    """Where all tasks of a prediction find what they need.

    Attributes
    ----------
    model, source
        As the user gave them, made absolute.
    how
        How the source is read.
    place
        The store.
    plan
        What is done, as JSON.
    run
        The run that holds the store.
    """

    model: Path
    source: Path
    how: Reading
    place: Path
    plan: str
    run: str


@dataclass
class Work:
    """A job opened in this process.

    Attributes
    ----------
    ends
        How slices beyond the volume's ends are foretold, along each axis.
    computing
        Held while the network runs: so many tasks of this process as it lets through compute, another reads or writes.
    stopped
        Whether the tasks are to end without a result.
    progress
        Is told of each slice that is done.
    """

    runner: Runner
    source: Source
    store: Store
    classes: int
    ends: Mapping[Axis, Ends]
    computing: threading.Semaphore
    stopped: threading.Event = field(default_factory=threading.Event)
    progress: Callable[[], None] = lambda: None

    @property
    def plan(self) -> Plan:
        """What is done."""
        return self.store.plan


class StoppedError(Exception):
    """A task was told to end."""


_OPENING = threading.Lock()


def open_work(job: Job) -> Work:
    """Open a job's model, source and store, once a process.

    Raises
    ------
    InputError
        If the model is not the plan's, or the source can't be opened.
    """
    with _OPENING:
        return _open_work(job)


@lru_cache(maxsize=1)
def _open_work(job: Job) -> Work:
    from tomoseg.engine.choose import make_engine
    from tomoseg.model_file import load_model

    keep_freed_memory()
    plan = Plan.model_validate_json(job.plan)
    lanes = plan.lanes
    threadpool_limits(limits=lanes.threads)
    model = load_model(job.model)
    if model.content != plan.model:
        raise ModelFileError(f"{job.model}: is not the model that {job.place} was begun with")
    source = corrected(open_source(job.source, job.how), plan.correction)
    store = Store(job.place, plan, job.run)
    engine = make_engine(model, plan.engine, threads=lanes.threads, at_a_time=lanes.computing, cache=store.engine_files)
    runner = Runner(engine, model.record.network, plan.window, plan.tile)
    ends = {axis: Ends(TurnedVolume(source.volume, axis)) for axis in get_args(Axis)}
    return Work(runner, source, store, len(model.record.classes), ends, threading.Semaphore(lanes.computing))


def run_task(job: Job, task: Task) -> str:
    """Do one task; return its name."""
    work = open_work(job)
    if task.which != "labels":
        _run_pass(work, task)
    elif work.plan.axes == "zyx":
        _run_average(work, task)
    else:
        _run_labels(work, task)
    return task.name


def _run_labels(work: Work, task: Task) -> None:
    """Segment a block along z."""
    slab, inside = _read(work, task), _inside(work, task)
    outputs = _outputs(work, task, inside)
    _compute(work, run_slab(work.runner, slab, outputs.take))
    own = [slab.own(z) for z in range(slab.region.z0, slab.region.z1)]
    _write(work, task, outputs, _grey(work, slab.region, own, inside))


def _run_pass(work: Work, task: Task) -> None:
    """Write a block's probabilities along one axis."""
    slab = _read(work, task)
    levels = Levels16(slab.region.shape, work.classes)
    _compute(work, run_slab(work.runner, slab, levels.take))
    values = turn_back(levels.values, axis_of(task.which))
    work.store.write(task, {f"axis_{task.which}": values}, {})


def _run_average(work: Work, task: Task) -> None:
    """Average the axes' probabilities of a block."""
    found = [work.store.read_levels(which, task.region) for which in work.plan.passes()[:-1]]
    inside = _inside(work, task)
    outputs = _outputs(work, task, inside)
    whole = (slice(0, task.region.shape[1]), slice(0, task.region.shape[2]))

    def each() -> Iterator[int]:
        for z in range(task.region.shape[0]):
            outputs.take(z, whole, average([levels[:, z] for levels in found]))
            yield z + 1

    _compute(work, each())
    region = region_of(task, work.plan)
    _write(work, task, outputs, _grey(work, region, work.source.volume.read(region), inside))


def _read(work: Work, task: Task) -> Slab:
    axis = axis_of(task.which)
    volume = TurnedVolume(work.source.volume, axis)
    network, numbers = work.runner.network, slice_numbers(volume.names)
    return read_slab(volume, region_of(task, work.plan), network=network, numbers=numbers, ends=work.ends[axis])


def _compute(work: Work, slices: Iterator[int]) -> None:
    with work.computing:
        for _ in slices:
            if work.stopped.is_set():
                raise StoppedError
            work.progress()


def _outputs(work: Work, task: Task, inside: Bool[np.ndarray, "z y x"]) -> Outputs:
    wanted = Wanted(probabilities=work.plan.probabilities, uncertainty=work.plan.uncertainty)
    return Outputs(task.region.shape, classes=work.classes, wanted=wanted, inside=inside)


def _inside(work: Work, task: Task) -> Bool[np.ndarray, "z y x"]:
    region = region_of(task, work.plan)
    _, rows, columns = region.slices
    return np.stack([work.source.view.inside(z)[rows, columns] for z in range(region.z0, region.z1)])


def _grey(
    work: Work, region: Region, slices: Iterable[Shaped[np.ndarray, "y x"]], inside: Bool[np.ndarray, "z y x"]
) -> list[GreyStatistics]:
    grid = PixelGrid.over(work.source.volume.shape[1:], origin=(region.y0, region.x0))
    return [
        grey_statistics(values, window=work.runner.window, inside=shown, grid=grid)
        for values, shown in zip(slices, inside, strict=True)
    ]


def _write(work: Work, task: Task, outputs: Outputs, grey: list[GreyStatistics]) -> None:
    images: dict[str, Shaped[np.ndarray, ...]] = {"labels": _labels(work.plan, outputs)}
    if work.plan.probabilities:
        images["probabilities"] = outputs.levels
    if work.plan.uncertainty:
        images["uncertainty"] = outputs.uncertainty
    work.store.write(task, images, _sums(outputs, grey))


def _labels(plan: Plan, outputs: Outputs) -> Shaped[np.ndarray, "z y x"]:
    """Return the class indices as the values that the user wants to have."""
    table = np.full(256, plan.outside_value, plan.label_type)
    table[: len(plan.label_values)] = plan.label_values
    labels: Shaped[np.ndarray, "z y x"] = table[outputs.index]
    return labels


def _sums(outputs: Outputs, grey: list[GreyStatistics]) -> Mapping[str, Any]:
    return {
        "voxels": outputs.voxels.tolist(),
        "probability_sums": outputs.sums.tolist(),
        "confidence_sums": outputs.confidence.tolist(),
        "histograms": [found.histogram.tolist() for found in grey],
        "noise": [found.noise for found in grey],
    }
