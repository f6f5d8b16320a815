"""What runs a network, and the record of which one was chosen."""

from __future__ import annotations

from typing import Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32
from pydantic import BaseModel, ConfigDict, Field

Stack = Float32[np.ndarray, "channel y x"]
Probabilities = Float32[np.ndarray, "class y x"]

EngineName = Literal["torch", "openvino", "onnx"]
Precision = Literal["f32", "bf16", "int8"]


@runtime_checkable
class Engine(Protocol):
    """Runs a network on one stack; several threads may do so at a time."""

    def run(self, stack: Stack) -> Probabilities:
        """Return class probabilities (class, y, x) of network input (channel, y, x), whole pooling cells."""
        ...


class EngineChoice(BaseModel):
    """An engine that was chosen: every task and every resume of a run uses the same one.

    Examples
    --------
    >>> str(EngineChoice(name="torch", precision="f32", version="2.13.0", processor="AVX2"))
    'torch f32'
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: EngineName
    precision: Precision
    version: str = Field(description="of the library that runs it; another one may round differently")
    processor: str = Field(description="what it runs on, as `processor` says; another one may round differently")
    network: str = Field(default="", description="hash of a network that was built for it, like the int8 one")
    found: dict[str, float] = Field(default_factory=dict, description="what its check gave; nothing in f32")

    def __str__(self) -> str:
        return f"{self.name} {self.precision}"
