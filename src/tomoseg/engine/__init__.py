"""How a trained network is run: by torch, OpenVINO or ONNX Runtime."""

from tomoseg.engine.base import Engine, EngineChoice, EngineName, Probabilities, Stack
from tomoseg.engine.torch_engine import TorchEngine, limit_torch_threads

__all__ = [
    "Engine",
    "EngineChoice",
    "EngineName",
    "Probabilities",
    "Stack",
    "TorchEngine",
    "limit_torch_threads",
]
