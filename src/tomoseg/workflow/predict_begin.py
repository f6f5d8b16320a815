"""Before a prediction runs: whether it can, what it will do, and where it will be made."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil

from tomoseg.engine import EngineChoice
from tomoseg.engine.choose import choose_engine, network_files, refuse_other_engine
from tomoseg.errors import BegunOtherwiseError, InputError, SettingError
from tomoseg.grey_levels import sample_values
from tomoseg.labels import UNLABELLED, outside_value
from tomoseg.model_file import Model
from tomoseg.predict import bytes_per_pixel
from tomoseg.slices import slice_numbers
from tomoseg.volume import open_volume
from tomoseg.window import Window, fit_window
from tomoseg.workflow.common import Reading
from tomoseg.workflow.console import Console
from tomoseg.workflow.predict_memory import (
    CLUSTER_BYTES,
    Needs,
    NotEnoughError,
    Promise,
    choose_block,
    parse_memory,
    process_bytes,
    trial_bytes,
)
from tomoseg.workflow.predict_plan import CHOSEN, Lanes, Plan, parse_threads, refuse_other_plan, source_state
from tomoseg.workflow.predict_store import Store, create_store, tidy
from tomoseg.workflow.predict_task import Job
from tomoseg.workflow.reading import Source

if TYPE_CHECKING:
    from tomoseg.workflow.predict import PredictSettings

_SAME_EDGE = 0.01


def check_source(source: Source, model: Model, settings: PredictSettings) -> None:
    """Refuse a source that can't be read as is needed: by blocks, with neighbours, the same along all axes.

    Raises
    ------
    SettingError
        If it can't.
    """
    if getattr(source.volume, "in_order_only", False):
        raise SettingError(
            f"{settings.source}: is one compressed stream, of which no part can be read; convert it first: tomoseg "
            f"convert {settings.source} {settings.source.name.partition('.')[0]}.zarr"
        )
    context, numbers = model.record.network.context, slice_numbers(source.volume.names)
    there = set(numbers)
    if context and not any(number + 1 in there for number in numbers):
        raise SettingError(
            f"the model looks at {context} neighbouring slices on either side, but {settings.source} has no two "
            "slices with consecutive numbers; give the whole scan, or a model trained with --context 0"
        )
    if settings.axes == "zyx":
        _check_cubes(source, numbers, settings)


def _check_cubes(source: Source, numbers: tuple[int, ...], settings: PredictSettings) -> None:
    """Refuse a volume that is not the same along all axes."""
    if numbers != tuple(range(numbers[0], numbers[0] + len(numbers))):
        raise SettingError(f"--axes zyx needs all slices of a scan; in {settings.source} some numbers are missing")
    size = source.volume.voxel_size_um
    if size is None:
        raise SettingError(
            f"--axes zyx needs voxels of one size along all axes, and {settings.source} does not say its voxel size; "
            "state it: tomoseg convert SOURCE OUT.zarr --voxel-size UM"
        )
    if max(size) > (1 + _SAME_EDGE) * min(size):
        edges = " x ".join(f"{edge:g}" for edge in size)
        raise SettingError(f"--axes zyx needs voxels of one size along all axes; here they are {edges} um (z, y, x)")


def make_plan(settings: PredictSettings, source: Source, model: Model, begun: Plan | None, console: Console) -> Plan:
    """Decide what to do; an output that was begun keeps what was chosen for it.

    Raises
    ------
    InputError
        If the memory is not enough, or what was begun is not what is asked for now.
    """
    box, volume = source.region, source.volume
    values, outside = _values(settings, model)
    if begun is None:
        chosen = _choose(settings, source, model, console)
    else:
        refuse_other_engine(begun.engine)
        if settings.threads not in (None, begun.threads):
            console.say(f"it was begun with {begun.threads} threads a process, and goes on with these")
        chosen = {name: getattr(begun, name) for name in CHOSEN}
    plan = Plan(
        model=model.content,
        source=source_state(source.path, how=settings, others=(*getattr(volume, "others", ()), *_mask_files(settings))),
        shape=volume.shape,
        region=(box.z0, box.z1, box.y0, box.y1, box.x0, box.x1),
        mask=settings.mask,
        axes=settings.axes,
        values=settings.values,
        probabilities=settings.probabilities,
        uncertainty=settings.uncertainty,
        window=_window(settings, source, model, console),
        voxel_size_um=volume.voxel_size_um,
        label_values=values,
        label_type=str(np.result_type(*map(np.min_scalar_type, [*values, outside]))),
        outside_value=outside,
        **chosen,
    )
    if begun is not None:
        refuse_other_plan(plan, begun, out=settings.out, asked_engine=settings.engine)
        _refuse_less_memory(plan, settings, bytes_per_pixel=bytes_per_pixel(model.record.network))
    return plan


def _choose(settings: PredictSettings, source: Source, model: Model, console: Console) -> dict[str, Any]:
    """Return what a plan has besides what was asked for: `CHOSEN`."""
    threads = parse_threads(settings.threads, workers=settings.workers, scheduler=settings.scheduler)
    engine = choose_engine(model, asked=settings.engine, threads=threads, say=console.say)
    needs = _needs(settings, source, model, engine=engine, threads=threads)
    promise = _promise(settings, engine, threads, bytes_per_pixel=needs.bytes_per_pixel)
    # what was loaded to build a network stays in this process
    built = 0 if _is_clustered(settings) else max(0, psutil.Process().memory_info().rss - needs.process)
    try:
        block, tile = choose_block(needs.model_copy(update={"process": needs.process + built}), memory=promise.each)
    except NotEnoughError as error:
        again = f"; {built / 1e6:.0f} MB of it went to building the network, which is done now" if built else ""
        raise SettingError(
            f"--memory {settings.memory} is too little even for the smallest blocks and tiles; give "
            f"{promise.enough(error.least) / 1e6 + 1:.0f}MB or more{again}"
        ) from error
    peak = needs.of(block, tile)
    return {"engine": engine, "threads": threads, "tile": tile, "block": block, "peak_bytes": peak}


def _mask_files(settings: PredictSettings) -> tuple[Path, ...]:
    """Return the files that a mask's header leads to."""
    if settings.mask in (None, "auto"):
        return ()
    with suppress(InputError):  # colours, which no volume has, lie in one file
        found: tuple[Path, ...] = getattr(open_volume(Path(settings.mask)), "others", ())
        return found
    return ()


def _window(settings: PredictSettings, source: Source, model: Model, console: Console) -> Window:
    own = model.record.window
    if settings.window == "model":
        return own
    found = fit_window(sample_values(source.volume, region=source.region, inside=source.view.inside))
    console.say(
        f"window refitted: {found.low:.6g} to {found.high:.6g} grey values stand for the {own.low:.6g} to "
        f"{own.high:.6g} of the training scan; this holds where the darkest and the brightest phase are the same"
    )
    return found


def _refuse_less_memory(plan: Plan, settings: PredictSettings, *, bytes_per_pixel: int) -> None:
    wanted = plan.peak_bytes
    if wanted > _promise(settings, plan.engine, plan.threads, bytes_per_pixel=bytes_per_pixel).each:
        raise BegunOtherwiseError(
            f"{settings.out} was begun with more memory: it takes {wanted / 1e6:.0f} MB a process; give more than "
            f"--memory {settings.memory}, or begin again with --force"
        )


def _values(settings: PredictSettings, model: Model) -> tuple[tuple[int, ...], int]:
    """Return the value of each class in the output, and the one for what is outside the field of view."""
    record = model.record
    if settings.values == "indices":
        return tuple(range(len(record.classes))), UNLABELLED
    return tuple(int(item.value) for item in record.classes), outside_value(record.classes, record.unlabelled)


def _needs(settings: PredictSettings, source: Source, model: Model, *, engine: EngineChoice, threads: int) -> Needs:
    network = model.record.network
    outputs = 1 + settings.probabilities * network.classes + settings.uncertainty
    return Needs(
        shape=source.volume.shape,
        itemsize=source.volume.dtype.itemsize,
        network=network,
        outputs=outputs,
        axes=settings.axes,
        bytes_per_pixel=bytes_per_pixel(network),
        threads=threads,
        process=process_bytes(engine) + getattr(source.volume, "kept_bytes", 0),
        reading=getattr(source.volume, "reading_bytes", 0),
    )


def _is_clustered(settings: PredictSettings) -> bool:
    return settings.workers > 1 or settings.scheduler is not None


def _promise(settings: PredictSettings, engine: EngineChoice, threads: int, *, bytes_per_pixel: int) -> Promise:
    """Return how the memory is shared; with workers on this machine, this process takes first what its trial does."""
    memory = parse_memory(settings.memory)
    if settings.scheduler is not None:
        return Promise(memory, extra=CLUSTER_BYTES)
    if settings.workers == 1:
        return Promise(memory)
    own = process_bytes(engine) + CLUSTER_BYTES + trial_bytes(Lanes.of(threads), bytes_per_pixel)
    return Promise(memory, first=own, processes=settings.workers, extra=CLUSTER_BYTES)


def open_store(place: Path, plan: Plan, begun: Plan | None, model: Model) -> Store:
    """Return the store of a plan, new or as it was left, as this run's own."""
    if begun is None:
        Store(place, plan).refuse_held()
        names, files = [item.name for item in model.record.classes], network_files(model, plan.engine)
        return create_store(place, plan, names, engine_files=files).claim()
    store = Store(place, plan).claim()
    tidy(place)
    return store


def make_job(settings: PredictSettings, store: Store) -> Job:
    """Return what tasks need to find their model, source and store in any process."""
    return Job(
        settings.model.absolute(),
        settings.source.absolute(),
        _how(settings),
        store.path.absolute(),
        store.plan.model_dump_json(),
        store.run,
    )


def _how(settings: PredictSettings) -> Reading:
    """Return how a worker reads the source, wherever it was started."""
    mask = settings.mask if settings.mask in (None, "auto") else str(Path(settings.mask).absolute())
    return Reading(
        mask=mask, raw_shape=settings.raw_shape, raw_dtype=settings.raw_dtype, empty_chunks=settings.empty_chunks
    )
