"""`tomoseg export`: a model as one ONNX file, window and softmax inside, for other programs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from pydantic import Field

from tomoseg.errors import OutputError
from tomoseg.whole_file import whole_file
from tomoseg.workflow.common import Common, ModelFile, Target, limit_threads
from tomoseg.workflow.console import Console

if TYPE_CHECKING:
    from tomoseg.model_file import Model

MOST_DIFFERENT = 1e-4
"""Largest difference between the file's probabilities and torch's that is taken for rounding."""

_TRIED_CELLS = ((8, 12), (13, 9))


class ExportSettings(Common):
    """Write a model as ONNX: grey values in, class probabilities out."""

    model: Annotated[ModelFile, Field(description="model file, NAME.tomoseg")]
    out: Annotated[Target, Field(description="file to write, NAME.onnx")]
    force: Annotated[bool, Field(description="replace an existing file")] = False


def run(settings: ExportSettings, console: Console) -> None:
    """Make the graph, compare it with torch, write it."""
    _check_target(settings)
    limit_threads(settings.threads)
    from tomoseg.engine.graph import FromGrey, to_onnx
    from tomoseg.model_file import load_model

    model = load_model(settings.model)
    network = model.record.network
    with console.progress("making the graph", 1.0):
        graph = to_onnx(
            FromGrey(model.network(), model.record.window), channels=network.channels, grid=network.grid, given="grey"
        )
        for key, value in describe(model).items():
            graph.metadata_props.add(key=key, value=value)
    difference = _compare(graph, model, settings)
    with whole_file(settings.out) as draft:
        draft.write_bytes(graph.SerializeToString())
    console.result(f"written: {settings.out}; probabilities differ from torch's by {difference:.1e} at most")


def describe(model: Model) -> dict[str, str]:
    """Return what a user of the file must know, as texts by their names."""
    record = model.record
    return {
        "classes": json.dumps([item.name for item in record.classes]),
        "label_values": json.dumps([item.value for item in record.classes]),
        "window": json.dumps([record.window.low, record.window.high]),
        "axes": json.dumps({"grey": ["batch", "channel", "y", "x"], "probabilities": ["batch", "class", "y", "x"]}),
        "channels": f"the slice and {record.network.context} slices on either side, rising in z; beyond a scan's ends "
        "tomoseg foretells slices (tomoseg.ends.continued), the last one again is a little worse",
        "context": str(record.network.context),
        "halo": str(record.network.halo),
        "grid": str(record.network.grid),
        "grey_type": record.grey_type,
        "padding": "reflect by the halo and up to whole cells of the grid, then crop",
        "model": model.content,
    }


def _check_target(settings: ExportSettings) -> None:
    if settings.out.suffix.lower() != ".onnx":
        raise OutputError(f"{settings.out}: the name of an exported model ends in .onnx")
    if settings.out.exists() and not settings.force:
        raise OutputError(f"{settings.out}: exists; choose another name, or replace it with --force")


def _compare(graph: Any, model: Model, settings: ExportSettings) -> float:
    """Return the largest difference from torch on two sizes; refuse to write what differs."""
    from tomoseg.engine.onnx_engine import session
    from tomoseg.engine.torch_engine import TorchEngine

    network, window = model.record.network, model.record.window
    exact, made = TorchEngine(model.network()), session(graph.SerializeToString(), threads=settings.threads or 1)
    rng, worst = np.random.default_rng(settings.seed), 0.0
    for cells in _TRIED_CELLS:
        size = (network.channels, *(network.grid * n for n in cells))
        grey = (window.low + window.width * rng.random(size)).astype(np.float32)
        (found,) = made.run(["probabilities"], {"grey": grey[None]})
        worst = max(worst, float(np.abs(found[0] - exact.run(window.apply(grey))).max()))
    if worst > MOST_DIFFERENT:
        raise OutputError(f"{settings.out}: is not written, its probabilities differ from torch's by {worst:.2g}")
    return worst
