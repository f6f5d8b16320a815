"""`tomoseg predict`: a volume in, its segmentation out."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import Field

from tomoseg.errors import PairingError, SettingError
from tomoseg.provenance import record
from tomoseg.workflow.common import ModelFile, Reading, SourcePath, Target, limit_threads
from tomoseg.workflow.console import Console
from tomoseg.workflow.reading import Source, cache_for, open_source

if TYPE_CHECKING:
    from tomoseg.model_file import Model, ModelRecord
    from tomoseg.predict import Runner
    from tomoseg.volume import Volume


class PredictSettings(Reading):
    """Segment a volume with a trained model."""

    model: Annotated[ModelFile, Field(description="model file, NAME.tomoseg")]
    source: Annotated[SourcePath, Field(description="folder of slices, or a multi-page TIFF")]
    out: Annotated[Target, Field(description="folder for one TIFF a slice, or one stack NAME.tif")]
    values: Annotated[
        Literal["labels", "indices"], Field(description="write the values of your labels, or class indices 0, 1, ...")
    ] = "labels"
    probabilities: Annotated[
        bool, Field(description="write each class's probability, too: 0 to 255, beside OUT, _CLASS in the name")
    ] = False
    memory: Annotated[str, Field(description="memory for a tile, like 500MB or 2GB")] = "2GB"
    force: Annotated[bool, Field(description="replace an output that tomoseg wrote")] = False


def make_runner(model: Model, *, memory: str = "2GB") -> Runner:
    """Return the model ready to run."""
    from tomoseg.engine import TorchEngine
    from tomoseg.predict import Runner, choose_tile

    tile = choose_tile(model.record.network, memory=parse_memory(memory))
    return Runner(TorchEngine(model.network()), model.record.network, model.record.window, tile)


def parse_memory(text: str) -> int:
    """Read an amount of memory in bytes.

    Raises
    ------
    SettingError
        If it has another form.

    Examples
    --------
    >>> parse_memory("500MB"), parse_memory("1.5GB")
    (500000000, 1500000000)
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(KB|MB|GB|TB)", text.strip().upper())
    if found is None or float(found[1]) == 0:
        raise SettingError(f"--memory {text!r} is no amount of memory; write it like 500MB or 2GB")
    return int(float(found[1]) * 1000 ** (["KB", "MB", "GB", "TB"].index(found[2]) + 1))


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
            "convert one of them as the other was, or train on this type"
        )


def run(settings: PredictSettings, console: Console) -> None:
    """Segment and write."""
    limit_threads(settings.threads)
    from tomoseg.model_file import load_model
    from tomoseg.slices import slice_numbers
    from tomoseg.volume import check_target

    model = load_model(settings.model)
    if settings.values == "labels" and isinstance(model.record.classes[0].value, str):
        settings = settings.model_copy(update={"values": "indices"})
        names = ", ".join(f"{order} {item.name}" for order, item in enumerate(model.record.classes))
        console.say(f"the labels were colours; the segmentation holds class indices: {names}")
    for target in _targets(settings, model):
        check_target(target, settings.force)
    source = open_source(settings.source, roi=settings.roi, mask=settings.mask)
    refuse_other_type(model.record, source.volume)
    context, numbers = model.record.network.context, slice_numbers(source.volume.names)
    there = set(numbers)
    if context and not any(number + 1 in there for number in numbers):
        raise SettingError(
            f"the model looks at {context} neighbouring slices on either side, but {settings.source} has no two "
            "slices with consecutive numbers; give the whole scan, or a model trained with --context 0"
        )
    _segment(source, model, numbers, settings, console)
    for target in _targets(settings, model):
        console.result(f"written: {target}")


def _targets(settings: PredictSettings, model: Model) -> list[Path]:
    if not settings.probabilities:
        return [settings.out]
    names = [re.sub(r"[^\w.-]+", "_", item.name) for item in model.record.classes]
    return [settings.out, *(settings.out.with_stem(f"{settings.out.stem}_{name}") for name in names)]


def _segment(
    source: Source, model: Model, numbers: tuple[int, ...], settings: PredictSettings, console: Console
) -> None:
    from contextlib import ExitStack

    from tomoseg.predict import read_stack
    from tomoseg.slices import context_slices
    from tomoseg.volume import SliceWriter

    region, runner = source.region, make_runner(model, memory=settings.memory)
    cache = cache_for(source.volume)
    zs = range(region.z0, region.z1)
    sample = _written(np.zeros((1, 1), np.uint8), model.record, settings)
    types = [sample.dtype] + [np.dtype(np.uint8)] * (len(_targets(settings, model)) - 1)
    with ExitStack() as stack:
        writers = [
            stack.enter_context(
                SliceWriter(
                    target,
                    shape=region.shape,
                    dtype=dtype,
                    names=[source.volume.names[z] for z in zs],
                    voxel_size_um=source.volume.voxel_size_um,
                    force=settings.force,
                    extra_json=_record(source, model, settings),
                )
            )
            for target, dtype in zip(_targets(settings, model), types, strict=True)
        ]
        for z in console.track(zs, "segmenting", len(zs)):
            channels = context_slices(z, numbers=numbers, context=runner.network.context)
            index, levels = _one(runner, read_stack(cache.read, channels), source, z, len(writers) > 1)
            writers[0].write(_written(index, model.record, settings))
            for writer, level in zip(writers[1:], levels, strict=True):
                writer.write(level)


def _one(
    runner: Runner, stack: list[np.ndarray], source: Source, z: int, with_levels: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Return the class indices of the region's part of a slice, and each class's probability as 0 to 255."""
    _, rows, columns = source.region.slices
    height, width = source.region.shape[1:]
    index = np.full((height, width), 255, np.uint8)
    levels = np.zeros((runner.network.classes if with_levels else 0, height, width), np.uint8)
    for (y, x), probabilities in runner.parts(stack, box=(rows, columns)):
        here = (
            slice(y.start - rows.start, y.stop - rows.start),
            slice(x.start - columns.start, x.stop - columns.start),
        )
        index[here] = probabilities.argmax(axis=0)
        if with_levels:
            levels[(slice(None), *here)] = np.round(255 * probabilities)
    outside = ~source.view.inside(z)[rows, columns]
    index[outside] = 255
    levels[:, outside] = 0
    return index, levels


def _written(index: np.ndarray, record: ModelRecord, settings: PredictSettings) -> np.ndarray:
    from tomoseg.labels import decode, outside_value

    if settings.values == "indices":
        return index
    return decode(index, record.classes, outside=outside_value(record.classes, record.unlabelled))


def _record(source: Source, model: Model, settings: PredictSettings) -> dict[str, Any]:
    from tomoseg.labels import outside_value

    record_ = model.record
    classes = {
        item.name: order if settings.values == "indices" else item.value for order, item in enumerate(record_.classes)
    }
    outside = 255 if settings.values == "indices" else outside_value(record_.classes, record_.unlabelled)
    return {
        "classes": classes,
        "outside_value": outside,
        "voxel_size_um": source.volume.voxel_size_um,
        "provenance": record(
            "predict",
            seed=settings.seed,
            inputs={"model": model.content},
            settings=settings.model_dump(mode="json", exclude={"model", "source", "out"}),
        ).model_dump(),
    }
