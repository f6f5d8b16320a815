"""How a trained network is run: by torch, OpenVINO or ONNX Runtime."""

from tomoseg.engine.base import Engine, EngineChoice, EngineName, Probabilities, Stack

__all__ = [
    "Engine",
    "EngineChoice",
    "EngineName",
    "Probabilities",
    "Stack",
]
