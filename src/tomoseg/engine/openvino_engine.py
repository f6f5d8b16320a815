"""OpenVINO (extra `fast`): float32 or bf16 as the network is, int8 after quantisation by NNCF."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import numpy as np

from tomoseg.engine.base import Precision, Probabilities, Stack
from tomoseg.extras import load_extra

if TYPE_CHECKING:
    from tomoseg.unet import UNet


def _load(module: str) -> Any:
    """Return a module of the extra without the telemetry by which it reports to its makers."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    return load_extra(module, extra="fast", purpose="--engine openvino")


class OpenVinoEngine:
    """Runs an OpenVINO model on the processor.

    Parameters
    ----------
    model
        As `convert` or `read` return it.
    precision
        Of the arithmetic; an int8 model is run with float32 between its quantised layers, a bf16 one up to the first
        ReLU in float32, as torch's.
    threads
        Processor threads of a call.
    at_a_time
        Calls that run at a time; further ones wait.
    """

    def __init__(self, model: Any, *, precision: Precision, threads: int, at_a_time: int = 1) -> None:
        openvino = _load("openvino")
        # The first call fills a table under a lock, and waits there for the interpreter's own: two threads that make
        # it at the same time wait for each other for ever.
        openvino.Type.f32.to_dtype()
        settings = {
            "INFERENCE_NUM_THREADS": threads * at_a_time,
            "NUM_STREAMS": at_a_time,
            "ENABLE_CPU_PINNING": False,  # else the processes of a machine are pinned to the same first cores
        }
        parts = zip(_cut(model), ("f32", "bf16"), strict=True) if precision == "bf16" else [(model, "f32")]
        compiled = [
            openvino.Core().compile_model(part, "CPU", {**settings, "INFERENCE_PRECISION_HINT": hint})
            for part, hint in parts
        ]
        self._free: SimpleQueue[list[Any]] = SimpleQueue()
        for _ in range(at_a_time):
            self._free.put([part.create_infer_request() for part in compiled])

    def run(self, stack: Stack) -> Probabilities:
        """Return class probabilities (class, y, x) of network input (channel, y, x), whole pooling cells."""
        requests, given = self._free.get(), np.ascontiguousarray(stack)[None]
        try:
            for request in requests:
                request.infer([given], share_inputs=True, share_outputs=True)
                given = request.get_output_tensor(0)
            found: Probabilities = np.array(given.data[0], np.float32)
        finally:
            self._free.put(requests)
        return found


def _cut(model: Any) -> tuple[Any, Any]:
    """Return what a model does up to its first ReLU, and what it does from there on; the model is taken apart."""
    openvino = _load("openvino")
    cut = next(node for node in model.get_ordered_ops() if node.get_type_name() == "Relu")
    features = openvino.op.Parameter(openvino.Type.f32, cut.get_output_partial_shape(0))
    for target in cut.output(0).get_target_inputs():
        target.replace_source_output(features.output(0))
    return openvino.Model([cut], model.get_parameters()), openvino.Model(model.get_results(), [features])


def convert(network: UNet) -> Any:
    """Return the OpenVINO model of a network and softmax, for any size of whole pooling cells."""
    import torch

    from tomoseg.engine.graph import Probable

    openvino = _load("openvino")
    config = network.config
    example = torch.zeros(1, config.channels, 4 * config.grid, 6 * config.grid)
    with torch.no_grad():
        model = openvino.convert_model(Probable(network).eval(), example_input=example)
    model.reshape([1, config.channels, -1, -1])
    return model


def quantise(model: Any, stacks: Sequence[Stack]) -> Any:
    """Return an int8 version of an OpenVINO model, calibrated on network inputs (channel, y, x).

    The first convolution stays in float32: noisy inputs span three windows and more, of which 256 levels are too coarse
    for a clean slice. It costs a thirtieth of the speed and saves half of the differing labels and more.
    """
    nncf = _load("nncf")
    convolutions = [node for node in model.get_ordered_ops() if node.get_type_name() == "Convolution"]
    kept = nncf.IgnoredScope(names=[convolutions[0].get_friendly_name()])
    logging.getLogger("nncf").setLevel(logging.ERROR)
    given = nncf.Dataset([np.ascontiguousarray(stack)[None] for stack in stacks])
    mixed = nncf.QuantizationPreset.MIXED
    with contextlib.redirect_stdout(io.StringIO()):  # its own progress bars
        return nncf.quantize(
            model,
            given,
            subset_size=len(stacks),
            preset=mixed,
            fast_bias_correction=False,
            ignored_scope=kept,
        )


def save(model: Any, path: Path) -> None:
    """Write a model as `path`.xml and `path`.bin, the second first; raises OSError where it can't."""
    openvino = _load("openvino")
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}-{uuid4().hex}")
    try:
        openvino.save_model(model, f"{draft}.xml", compress_to_fp16=False)
        for ending in (".bin", ".xml"):
            Path(f"{draft}{ending}").replace(f"{path}{ending}")
    except RuntimeError as error:  # OpenVINO's own, where it can't write
        raise OSError(errno.EIO, "OpenVINO can't write it") from error
    finally:
        for ending in (".bin", ".xml"):
            Path(f"{draft}{ending}").unlink(missing_ok=True)


def read(path: Path) -> Any:
    """Read a model that `save` wrote; nothing in it is executed but its graph."""
    openvino = _load("openvino")
    return openvino.Core().read_model(f"{path}.xml", f"{path}.bin")


def digest(path: Path) -> str:
    """Return a hash of the two files of a model, 16 hexadecimal digits; nothing where one is missing."""
    try:
        found = hashlib.sha256(Path(f"{path}.xml").read_bytes())
        found.update(Path(f"{path}.bin").read_bytes())
    except OSError:
        return ""
    return found.hexdigest()[:16]
