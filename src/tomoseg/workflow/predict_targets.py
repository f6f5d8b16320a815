"""The names under which a prediction ends up: a Zarr store as it is, other formats written from it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr
from jaxtyping import Shaped

from tomoseg.volume import Content, SliceWriter, check_content
from tomoseg.volume.state import NOTES, RECORD
from tomoseg.volume.writer import remove, replace_folder, writing
from tomoseg.whole_file import PARTIAL, to_disk
from tomoseg.workflow.console import Console
from tomoseg.workflow.predict_plan import THICKNESS, Plan
from tomoseg.workflow.predict_store import Store

if TYPE_CHECKING:
    from tomoseg.model_file import Model
    from tomoseg.workflow.predict import PredictSettings

_SLAB_BYTES = 128_000_000


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


def check_targets(settings: PredictSettings, plan: Plan, model: Model, names: Sequence[str]) -> None:
    """Refuse, before anything is computed, other formats that can't hold what will be written.

    Raises
    ------
    InputError
        If one can't, or the package that writes it is not installed.
    """
    if settings.out.suffix.lower() == ".zarr":
        return
    for target in _others(settings, model):
        dtype = np.dtype(plan.label_type if target.group == "labels" else np.uint8)
        check_content(target.path, Content(plan.box.shape, dtype, tuple(names), plan.voxel_size_um))


def put_in_place(
    settings: PredictSettings, store: Store, *, model: Model, names: Sequence[str], console: Console
) -> Iterator[Path]:
    """Give a finished store its name, or write the other format from it and remove it; yield what was written."""
    if settings.out.suffix.lower() == ".zarr":
        with writing(settings.out):
            if store.path != settings.out:
                replace_folder(store.path, settings.out)
        replace(store, path=settings.out).finish()  # last: killed before it, the same command ends here
        yield settings.out
        return
    others = _others(settings, model)
    begun = store.begun_targets()
    store.begin_targets([target.path.name for target in others])
    for target in others:
        array = zarr.open_array(str(store.group(target.group)), path="0", mode="r")
        writer = SliceWriter(
            target.path,
            shape=store.plan.box.shape,
            dtype=array.dtype,
            names=names,
            voxel_size_um=store.plan.voxel_size_um,
            force=settings.force or target.path.name in begun,
            extra_json=_record(store),
        )
        with writer:
            for page in console.track(_pages(array, target.channel), f"writing {target.path.name}", len(names)):
                writer.write(page)
        with writing(target.path):
            to_disk(target.path)
    gone = store.path.with_name(store.path.name + PARTIAL)  # half a store would look like someone else's
    with writing(store.path):
        remove(gone)
        store.path.replace(gone)
        remove(gone)
    yield from (target.path for target in others)


def _pages(array: Any, channel: int | None) -> Iterator[Shaped[np.ndarray, "y x"]]:
    """Yield the slices of an array (z, y, x) or of one channel of (c, z, y, x), read some at a time."""
    depth, height, width = array.shape[-3:]
    step = max(1, min(THICKNESS, _SLAB_BYTES // (height * width * array.dtype.itemsize)))
    for z in range(0, depth, step):
        part = slice(z, z + step)
        yield from np.asarray(array[part] if channel is None else array[channel, part])


def _record(store: Store) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((store.path / NOTES / RECORD).read_text(encoding="utf-8"))
    return found
