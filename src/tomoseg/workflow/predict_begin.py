"""Before a prediction runs: whether it can, what it will do, and where it will be made."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
from jaxtyping import Shaped

from tomoseg.adapt import match_window
from tomoseg.blocks import GreyStatistics, grey_statistics, histogram_of
from tomoseg.engine import EngineChoice
from tomoseg.engine.choose import choose_engine, network_files, refuse_other_engine
from tomoseg.errors import BegunOtherwiseError, InputError, SettingError
from tomoseg.grey_levels import evenly, sample_values
from tomoseg.labels import UNLABELLED, outside_value
from tomoseg.likeness import MOST_MOVED, expect
from tomoseg.model_file import Model
from tomoseg.predict import bytes_per_pixel
from tomoseg.shading import CorrectedVolume
from tomoseg.volume import open_volume, read_slice
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
from tomoseg.workflow.reading import Source, refuse_uneven, refuse_without_parts

if TYPE_CHECKING:
    from tomoseg.workflow.predict import PredictSettings

_FAR_OUTSIDE, _LEAST_NEAR = 0.25, 0.5  # widths of the window; share of the values
_FEWEST_VALUES = 10_000
_LOOKED_AT = 8
_CLEARLY = 0.5  # twice the share of grey values that another range explains better


def check_source(source: Source, model: Model, settings: PredictSettings) -> None:
    """Refuse a source that can't be read as is needed: by blocks, with neighbours, the same along all axes.

    Raises
    ------
    SettingError
        If it can't.
    """
    refuse_without_parts(source, context=model.record.network.context)
    if settings.axes == "zyx":
        _check_cubes(source, settings)


def refuse_other_grey(source: Source, model: Model) -> None:
    """Refuse a scan whose grey values don't fit the model's window: most far outside, or all scaled or shifted.

    Where no scaling or shift would make them fit either, the summary and `tomoseg check` tell.

    Raises
    ------
    SettingError
        If they don't fit.
    """
    window = model.record.window
    chosen = sample_values(source.volume, region=source.region, inside=source.view.inside)
    values = np.concatenate([np.empty(0, source.volume.dtype), *chosen])
    if not values.size or values.min() == values.max():
        return
    relative = window.apply(values)
    near = (relative >= -_FAR_OUTSIDE) & (relative <= 1 + _FAR_OUTSIDE)
    if near.mean() >= _LEAST_NEAR:
        told = _scaled(source, values, model)
    else:  # unless the rest is what the model knows, and what is far outside surrounds the sample
        told = None if _known(values[near], model) else f"{100 * (1 - near.mean()):.0f} % lie far outside"
    if told:
        raise SettingError(
            f"{source.path}: its grey values don't fit the model: {told} the {window.low:.6g} to {window.high:.6g} of "
            "its training scan. For the same phases under another exposure or scaling give --window refit, under beam "
            "hardening or drift --shading fit, or fit the model to this scan with tomoseg adapt; --window keep goes on "
            "as it is, --roi or --mask leave out what is no sample"
        )


def _known(values: Shaped[np.ndarray, " value"], model: Model) -> bool:
    """Return whether grey values are distributed like the training data's; a few of them are no sign."""
    expected = expect(model)
    if expected is None or values.size < _FEWEST_VALUES:
        return False
    counts = histogram_of(model.record.window.apply(values))
    return expected.moved(GreyStatistics(counts, None)) <= MOST_MOVED[1]


def _scaled(source: Source, values: Shaped[np.ndarray, " value"], model: Model) -> str | None:
    """Return what in this scan stands for the model's window, where that is clearly another range of grey values."""
    expected, samples = expect(model), model.samples
    if expected is None or samples is None:
        return None
    window, view = model.record.window, source.view
    _, rows, columns = source.region.slices
    looks = [
        grey_statistics(
            read_slice(source.volume, z)[rows, columns], window=window, inside=view.inside(z)[rows, columns]
        )
        for z in evenly(source.region.z0, source.region.z1, _LOOKED_AT)
    ]
    looks = [look for look in looks if look.histogram.any()]
    if not looks or np.median([expected.moved(look) for look in looks]) <= MOST_MOVED[1]:
        return None
    noise = float(np.median([look.noise for look in looks if look.noise is not None] or [0.0])) * window.width
    found = match_window(samples, window, values, noise_grey=noise, noise=expected.noise, least_gain=_CLEARLY)
    return None if found == window else f"{found.low:.6g} to {found.high:.6g} seem to stand for"


def _check_cubes(source: Source, settings: PredictSettings) -> None:
    """Refuse a volume that is not the same along all axes, or does not say."""
    refuse_uneven(source.volume, place=settings.source, asking="--axes zyx")
    if source.volume.voxel_size_um is None:
        raise SettingError(
            f"--axes zyx needs voxels of one size along all axes, and {settings.source} does not say its voxel size; "
            "state it: tomoseg convert SOURCE OUT.zarr --voxel-size UM"
        )


def make_plan(settings: PredictSettings, source: Source, *, model: Model, begun: Plan | None, console: Console) -> Plan:
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
        shading=settings.shading,
        beyond_ends="foretold" if model.record.network.context else "repeated",
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
    correction = source.volume.shading if isinstance(source.volume, CorrectedVolume) else None
    return {
        "engine": engine, "threads": threads, "tile": tile, "block": block, "peak_bytes": peak, "correction": correction
    }  # fmt: skip


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
    if settings.window != "refit":
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
