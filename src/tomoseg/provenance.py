"""One frozen record of where a result comes from; it goes with everything that tomoseg writes."""

from __future__ import annotations

import hashlib
import os
import platform
import sys
from importlib.metadata import version
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from tomoseg import __version__

_LIBRARIES = ("torch", "numpy", "scipy", "scikit-image", "scikit-learn", "tifffile")


class Provenance(BaseModel):
    """What a result was made from, and with what."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    verb: str = Field(description="the verb that wrote the result")
    tomoseg: str = Field(description="version of tomoseg")
    libraries: dict[str, str] = Field(description="versions of the libraries that the figures depend on")
    python: str
    machine: str = Field(description="operating system, processor and number of cores")
    seed: int | None = None
    inputs: dict[str, str] = Field(default_factory=dict, description="name of an input -> its content hash")
    settings: dict[str, Any] = Field(default_factory=dict, description="what was asked for")
    timing: dict[str, float] = Field(
        default_factory=dict,
        description="for timed runs: seconds, steps, megapixels seen, matrix-product rate at the start in GFLOP/s",
    )


def record(
    verb: str,
    *,
    seed: int | None = None,
    inputs: dict[str, str] | None = None,
    settings: dict[str, Any] | None = None,
    timing: dict[str, float] | None = None,
) -> Provenance:
    """Return the record of this process for `verb`."""
    return Provenance(
        verb=verb,
        tomoseg=__version__,
        libraries={name: version(name) for name in _LIBRARIES},
        python=sys.version.split()[0],
        machine=f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        seed=seed,
        inputs=inputs or {},
        settings=settings or {},
        timing=timing or {},
    )


def content_hash(*arrays: np.ndarray) -> str:
    """Return a short hash of the shapes, types and values of `arrays`: 16 hexadecimal digits of SHA-256.

    Examples
    --------
    >>> content_hash(np.zeros(3)) == content_hash(np.zeros(3)), content_hash(np.zeros(3)) == content_hash(np.ones(3))
    (True, False)
    """
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.shape}{array.dtype.str}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()[:16]
