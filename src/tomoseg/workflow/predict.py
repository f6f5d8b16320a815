"""`tomoseg predict`: a volume in, its segmentation out, whatever its size, and nothing lost on the way."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import psutil
from pydantic import Field, field_validator
from threadpoolctl import threadpool_limits

from tomoseg.errors import BegunOtherwiseError, InputError, PairingError, SettingError, VolumeError
from tomoseg.provenance import record
from tomoseg.slices import numbers_apart
from tomoseg.workflow.common import ModelFile, Reading, Shading, SourcePath, Target, checked_address
from tomoseg.workflow.console import Console, counted, duration, sized
from tomoseg.workflow.reading import Source, open_source, refuse_same_place

if TYPE_CHECKING:
    from tomoseg.model_file import Model, ModelRecord
    from tomoseg.predict import Runner
    from tomoseg.volume import Volume
    from tomoseg.workflow.predict_plan import Lanes, Pass, Plan, Task
    from tomoseg.workflow.predict_store import Store
    from tomoseg.workflow.predict_task import Job


class PredictSettings(Reading):
    """Segment a volume with a trained model."""

    model: Annotated[ModelFile, Field(description="model file, NAME.tomoseg")]
    source: Annotated[SourcePath, Field(description="folder of slices, or a volume in any format that is read")]
    out: Annotated[
        Target, Field(description="NAME.zarr, a folder for one TIFF a slice, or another volume, like NAME.tif")
    ]
    axes: Annotated[
        Literal["z", "zyx"], Field(description="along z, or along all three axes, averaged; three times the work")
    ] = "z"
    values: Annotated[
        Literal["labels", "indices"], Field(description="write the values of your labels, or class indices 0, 1, ...")
    ] = "labels"
    probabilities: Annotated[
        bool,
        Field(
            description="write each class's probability, too: 0 to 255, inside NAME.zarr or beside, _CLASS in the name"
        ),
    ] = False
    uncertainty: Annotated[bool, Field(description="write where the model is unsure, too: entropy, 0 to 255")] = False
    window: Annotated[
        Literal["model", "refit", "keep"],
        Field(
            description="how grey values are read: as in the training scan if they fit; refit to this scan, for the "
            "same phases under another exposure, scaling or type; or keep, as in training whether they fit or not"
        ),
    ] = "model"
    shading: Shading = "keep"
    engine: Annotated[
        Literal["auto", "torch", "openvino", "onnx"],
        Field(
            description="what runs the network: auto is the first of OpenVINO int8, OpenVINO bf16, torch bf16, ONNX "
            "Runtime, torch that is installed and passes its check"
        ),
    ] = "auto"
    memory: Annotated[
        str, Field(description="memory for all processes together, like 500MB or 2GB; for each worker of a --scheduler")
    ] = "2GB"
    workers: Annotated[int, Field(ge=1, description="processes on this machine")] = 1
    scheduler: Annotated[
        str | None, Field(description="an existing Dask scheduler, tcp://HOST:PORT; its workers see the same paths")
    ] = None
    force: Annotated[bool, Field(description="replace an output that tomoseg wrote")] = False

    @field_validator("scheduler")
    @classmethod
    def _is_an_address(cls, address: str | None) -> str | None:
        return checked_address(address)


_OTHERWISE = "for another exposure or scaling there is --window refit, for beam hardening and drift --shading fit"


def make_runner(model: Model) -> Runner:
    """Return the model ready to run with torch in float32, by which it is judged."""
    from tomoseg.engine.torch_engine import TorchEngine
    from tomoseg.predict import Runner, choose_tile

    network = model.record.network
    return Runner(TorchEngine(model.network()), network, model.record.window, choose_tile(network))


def refuse_other_type(record: ModelRecord, volume: Volume) -> None:
    """Refuse a volume whose grey values are of another type than those the window was fitted to.

    Raises
    ------
    PairingError
        If the types differ.
    """
    if str(volume.dtype) != record.grey_type:
        raise PairingError(
            f"{volume.names[0]} holds {volume.dtype} grey values, the model was trained on {record.grey_type}; "
            "convert one of them as the other was, train on this type, fit the model to it with tomoseg adapt, or "
            "predict with --window refit"
        )


def run(settings: PredictSettings, console: Console) -> None:
    """Segment and write; an output that was begun goes on where it was."""
    from tomoseg.model_file import load_model
    from tomoseg.volume import PagedVolume
    from tomoseg.workflow.cluster import dask_client
    from tomoseg.workflow.predict_begin import check_source, make_job, make_plan, open_store, refuse_other_grey
    from tomoseg.workflow.predict_store import begun_plan, working_place
    from tomoseg.workflow.predict_targets import check_targets

    refuse_same_place(settings.out, settings.source)
    if settings.shading == "fit" and settings.window == "refit":
        raise SettingError("--shading fit brings grey values into the model's window; leave out --window refit")
    model = load_model(settings.model)
    settings = _with_values(settings, model, console)
    place = working_place(settings.out, force=settings.force)
    begun = begun_plan(place)
    _check_targets(settings, model, place, begun)
    source = open_source(settings.source, settings)
    if settings.scheduler is not None:
        console.say(f"looking for workers at {settings.scheduler}")
        with dask_client(workers=1, scheduler=settings.scheduler, purpose="prediction on workers"):
            pass  # before anything is made
    if settings.window != "refit":
        refuse_other_type(model.record, source.volume)
    check_source(source, model, settings)
    as_it_is, source = source, _read_evenly(settings, source, model, begun=begun, console=console)
    if settings.window == "model" and begun is None:
        refuse_other_grey(source, model)
    if settings.axes == "zyx" and isinstance(as_it_is.volume, PagedVolume):
        console.say(
            f"along y and x every slice of {settings.source} is opened again for each block; if that takes long, "
            "tomoseg convert it to a .zarr first"
        )
    try:
        plan = make_plan(settings, source, model=model, begun=begun, console=console)
    except BegunOtherwiseError:
        if begun is None or not settings.force:
            raise
        console.say("what was begun can't go on with what is asked for now; beginning again")
        begun, source = None, _read_evenly(settings, as_it_is, model, begun=None, console=console)
        plan = make_plan(settings, source, model=model, begun=None, console=console)
    check_targets(settings, plan, model, source.volume.names[plan.box.z0 : plan.box.z1])
    threadpool_limits(limits=plan.threads)
    store = open_store(place, plan, begun, model)
    job = make_job(settings, store)
    began = time.monotonic()
    try:
        voxels = _run_tasks(settings, store, job, console)
        _finish(settings, store, source=source, model=model, console=console)
    except KeyboardInterrupt:
        console.say(f"what is done is kept in {place}; the same command goes on with it")
        raise
    took = time.monotonic() - began
    if voxels:
        console.say(
            f"{voxels / 1e6:.4g} million voxels in {duration(took)}, {voxels / 1e6 / took:.3g} million a second"
        )


def _read_evenly(
    settings: PredictSettings, source: Source, model: Model, *, begun: Plan | None, console: Console
) -> Source:
    """Return the source without slow changes of its grey values, if asked for: those that were found at the start."""
    from tomoseg.workflow.even_reading import corrected, read_evenly

    if begun is not None and begun.shading == settings.shading:
        return corrected(source, begun.correction)
    return read_evenly(source, model, settings.shading, console)


def _with_values(settings: PredictSettings, model: Model, console: Console) -> PredictSettings:
    """Turn to class indices where the labels were colours."""
    if settings.values == "indices" or not isinstance(model.record.classes[0].value, str):
        return settings
    names = ", ".join(f"{order} {item.name}" for order, item in enumerate(model.record.classes))
    console.say(f"the labels were colours; the segmentation holds class indices: {names}")
    return settings.model_copy(update={"values": "indices"})


def _check_targets(settings: PredictSettings, model: Model, place: Path, begun: Plan | None) -> None:
    from tomoseg.volume import check_target
    from tomoseg.workflow.predict_store import Store, refuse_unreadable
    from tomoseg.workflow.predict_targets import targets

    places = targets(settings, model)
    twice = next((target for target in places if places.count(target) > 1), None)
    if twice is not None:
        raise SettingError(f"{twice}: two outputs would have this name; rename a class, or write to NAME.zarr")
    own = [] if begun is None else [place.name, *Store(place, begun).begun_targets()]
    for target in places:
        if target.name not in own:
            check_target(target, settings.force)
    refuse_unreadable(place)


def _run_tasks(settings: PredictSettings, store: Store, job: Job, console: Console) -> int:
    """Run the passes one after the other, each with the tasks that are missing; return the voxels segmented."""
    passes = store.plan.passes()
    labels = _missing(store, passes[-1], console)
    if not labels:
        return 0  # what the passes before were for is done, and may be gone
    todo = {which: _missing(store, which, console) for which in passes[:-1]} | {passes[-1]: labels}
    _announce(settings, store, todo=todo, job=job, console=console)
    for which, tasks in todo.items():
        if tasks:
            title = "segmenting" if which == "labels" else f"along {which}"
            _run_pass(settings, job, tasks, lanes=store.plan.lanes, title=title, console=console)
    return sum(int(np.prod(task.region.shape, dtype=np.int64)) for task in labels)


def _missing(store: Store, which: Pass, console: Console) -> list[Task]:
    tasks = store.plan.tasks(which)
    if not any(store.record(task).exists() for task in tasks):
        return list(tasks)
    return [task for task in console.track(tasks, "checking what is done", len(tasks)) if not store.is_done(task)]


def _run_pass(
    settings: PredictSettings, job: Job, tasks: list[Task], *, lanes: Lanes, title: str, console: Console
) -> None:
    from tomoseg.workflow.predict_run import run_here, run_on_cluster

    try:
        if settings.workers == 1 and settings.scheduler is None:
            run_here(job, tasks, title=title, console=console)
        else:
            run_on_cluster(
                job,
                tasks,
                lanes=lanes,
                workers=settings.workers,
                scheduler=settings.scheduler,
                title=title,
                console=console,
            )
    except VolumeError as error:
        raise VolumeError(
            f"{error}. What is done is kept in {job.place}, but can't go on with a source that was mended: then begin "
            "again with --force"
        ) from error
    except InputError as error:
        raise type(error)(f"{error}. What is done is kept in {job.place}: the same command goes on with it") from error


def _announce(
    settings: PredictSettings, store: Store, *, todo: dict[Pass, list[Task]], job: Job, console: Console
) -> None:
    """Say what is to be done, and what it will take: time by a short trial of the network."""
    from tomoseg.workflow.predict_cost import expected_bytes, expected_seconds
    from tomoseg.workflow.predict_task import open_work

    plan = store.plan
    planned = sum(len(plan.tasks(which)) for which in plan.passes())
    left = sum(len(tasks) for tasks in todo.values())
    bytes_ = expected_bytes(plan, copied=store.path != settings.out)
    free = psutil.disk_usage(str(store.path.parent)).free
    console.say(
        f"{np.prod(plan.box.shape, dtype=np.int64):,} voxels, {left} of {planned} blocks to do, "
        f"{plan.engine}, tiles of {plan.tile} pixels, {counted(plan.threads, 'thread')}"
    )
    seconds = expected_seconds(open_work(job).runner, plan, todo)
    if settings.scheduler is None:
        seconds /= settings.workers
    where = "on this machine as busy as it is now" if settings.scheduler is None else "on one worker like this machine"
    each = "" if settings.scheduler is None else " a worker"
    start = "" if settings.workers == 1 and settings.scheduler is None else ", once the workers have started"
    console.say(
        f"expected: about {duration(seconds)} {where}{start}, at most {settings.memory} of memory{each} and "
        f"{sized(bytes_)} of disk ({sized(free)} are free)"
    )
    if bytes_ > free:
        console.warn("the disk may not have room enough; if it fills up, what is done is kept")


def _finish(settings: PredictSettings, store: Store, *, source: Source, model: Model, console: Console) -> None:
    """Make what is done a finished output: pyramids, the record of the whole, and its name or format."""
    from tomoseg.volume.ome_zarr_writer import build_pyramid
    from tomoseg.volume.writer import writing
    from tomoseg.workflow.predict_store import tidy
    from tomoseg.workflow.predict_summary import add_up, summarise
    from tomoseg.workflow.predict_targets import put_in_place

    tasks = store.plan.tasks("labels")
    totals = add_up([(task, store.read_record(task)) for task in tasks], depth=store.plan.box.shape[0],
                    classes=len(model.record.classes))  # fmt: skip
    tidy(store.path)  # of a worker that was killed while it wrote
    store.refuse_missing(tasks)
    names = source.volume.names[store.plan.box.z0 : store.plan.box.z1]
    summary = summarise(totals, model, names)
    if settings.out.suffix.lower() == ".zarr":
        for name in ("labels", *_beside(store.plan)):
            with writing(store.path), console.progress(f"smaller levels of {name}", 1.0) as bar:
                for share in build_pyramid(store.group(name)):
                    bar.update(share)
    store.complete(_record(store.plan, model, settings, summary) | {"slice_numbers": numbers_apart(names)})
    for written in put_in_place(settings, store, model=model, names=names, console=console):
        console.result(f"written: {written}")
    _tell(summary, console, refit=settings.window == "refit", slices=len(names))


def _beside(plan: Plan) -> list[str]:
    return ["probabilities"] * plan.probabilities + ["uncertainty"] * plan.uncertainty


def _tell(summary: dict[str, Any], console: Console, *, refit: bool, slices: int) -> None:
    shares = ", ".join(f"{name} {share:.4f}" for name, share in summary["share"].items())
    console.result(f"share of voxels: {shares}; mean confidence {summary['mean_confidence']:.4f}")
    odd = summary["unlike_training"]
    if odd:
        console.warn(
            f"unlike the training data: {counted(len(odd), 'slice')}, first {odd[0]['slice']}: {odd[0]['why']} (all "
            "are in provenance.json); look at them before you trust their numbers"
            + ("" if refit or len(odd) < slices / 2 else f"; {_OTHERWISE}")
        )


def _record(plan: Plan, model: Model, settings: PredictSettings, summary: dict[str, Any]) -> dict[str, Any]:
    names = [item.name for item in model.record.classes]
    return {
        "classes": dict(zip(names, plan.label_values, strict=True)),
        "outside_value": plan.outside_value,
        "voxel_size_um": plan.voxel_size_um,
        "summary": summary,
        "plan": plan.model_dump(mode="json"),
        "provenance": record(
            "predict",
            seed=settings.seed,
            inputs={"model": model.content, "source": plan.source},
            settings=settings.model_dump(
                mode="json", exclude={"model", "source", "out", "workers", "scheduler", "memory", "force", "quiet"}
            ),
        ).model_dump(),
    }
