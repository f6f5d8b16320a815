"""ONNX Runtime (extra `onnx`)."""

from __future__ import annotations

from typing import Any

import numpy as np

from tomoseg.engine.base import Probabilities, Stack
from tomoseg.extras import load_extra

_PURPOSE = "--engine onnx"


def session(graph: bytes, *, threads: int) -> Any:
    """Return an ONNX Runtime session of a graph, as it stands in a file, on the processor.

    Raises
    ------
    SettingError
        If the extra `onnx` is not installed.
    """
    runtime = load_extra("onnxruntime", extra="onnx", purpose=_PURPOSE)
    options = runtime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    return runtime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


class OnnxEngine:
    """Runs the graph of a network and softmax in float32 with ONNX Runtime."""

    def __init__(self, graph: bytes, *, threads: int) -> None:
        self._session = session(graph, threads=threads)

    def run(self, stack: Stack) -> Probabilities:
        """Return class probabilities (class, y, x) of network input (channel, y, x), whole pooling cells."""
        given = np.ascontiguousarray(stack)[None]
        found: Probabilities = self._session.run(["probabilities"], {"stack": given})[0][0]
        return found
