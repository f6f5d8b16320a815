"""The names under which a prediction ends up: a Zarr store as it is, other formats written from it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr

from tomoseg.volume import SliceWriter
from tomoseg.volume.state import NOTES
from tomoseg.volume.writer import RECORD, remove, replace_folder, writing
from tomoseg.workflow.console import Console
from tomoseg.workflow.predict_store import Store

if TYPE_CHECKING:
    from tomoseg.model_file import Model
    from tomoseg.workflow.predict import PredictSettings


@dataclass(frozen=True)
class Target:
    """An output that is not the store itself, and where in the store it comes from."""

    path: Path
    group: str
    channel: int | None


def targets(settings: PredictSettings, model: Model) -> list[Path]:
    """Return the places that will be written."""
    if settings.out.suffix.lower() == ".zarr":
        return [settings.out]
    return [target.path for target in _others(settings, model)]


def _others(settings: PredictSettings, model: Model) -> list[Target]:
    found = [Target(settings.out, "labels", None)]
    if settings.probabilities:
        for channel, item in enumerate(model.record.classes):
            name = re.sub(r"[^\w.-]+", "_", item.name)
            found.append(Target(_beside(settings.out, name), "probabilities", channel))
    if settings.uncertainty:
        found.append(Target(_beside(settings.out, "uncertainty"), "uncertainty", None))
    return found


def _beside(out: Path, name: str) -> Path:
    return out.with_name(f"{out.name.removesuffix(''.join(out.suffixes))}_{name}{''.join(out.suffixes)}")


def put_in_place(
    settings: PredictSettings, store: Store, model: Model, names: Sequence[str], console: Console
) -> Iterator[Path]:
    """Give a finished store its name, or write the other format from it and remove it; yield what was written."""
    if settings.out.suffix.lower() == ".zarr":
        with writing(settings.out):
            if store.path != settings.out:
                replace_folder(store.path, settings.out)
        yield settings.out
        return
    others = _others(settings, model)
    record: Mapping[str, Any] = _record(store)
    with ExitStack() as stack:
        writers = [
            stack.enter_context(
                SliceWriter(
                    target.path,
                    shape=store.plan.box.shape,
                    dtype=_array(store, target).dtype,
                    names=names,
                    voxel_size_um=store.plan.voxel_size_um,
                    force=settings.force,
                    extra_json=record,
                )
            )
            for target in others
        ]
        starts = range(0, store.plan.box.shape[0], store.plan.block[0])
        for z in console.track(starts, f"writing {settings.out.name}", len(starts)):
            for target, writer in zip(others, writers, strict=True):
                for page in _slab(store, target, z):
                    writer.write(page)
    with writing(store.path):
        remove(store.path)
    yield from (target.path for target in others)


def _array(store: Store, target: Target) -> Any:
    return zarr.open_array(str(store.group(target.group)), path="0", mode="r")


def _slab(store: Store, target: Target, z: int) -> np.ndarray:
    part = slice(z, z + store.plan.block[0])
    array = _array(store, target)
    return np.asarray(array[part] if target.channel is None else array[target.channel, part])


def _record(store: Store) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((store.path / NOTES / RECORD).read_text(encoding="utf-8"))
    return found
