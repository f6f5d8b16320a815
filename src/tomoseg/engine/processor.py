"""What sums are rounded by: the processor's vector instructions."""

from __future__ import annotations

import platform
import re
from functools import cache
from pathlib import Path

_ROUNDING = (
    *("avx2", "fma", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_int8", "amx_bf16"),
    *("asimd", "sve", "bf16", "i8mm"),
)
"""Instructions with which libraries take other ways through a sum, as Linux calls them."""

_FROM_TORCH = {"avx512_f": "avx512f", "fma3": "fma"}


def processor() -> str:
    """Return the kind of processor and those of its instructions by which sums are rounded.

    Examples
    --------
    >>> processor().split()[0] in ("x86_64", "AMD64", "aarch64", "arm64")
    True
    """
    there = _instructions()
    return " ".join([platform.machine(), *(name for name in _ROUNDING if name in there)])


def has_bf16() -> bool:
    """Return whether the processor multiplies bf16 itself; where it does not, bf16 is slower than f32."""
    return not _instructions().isdisjoint(("amx_bf16", "avx512_bf16"))


@cache
def _instructions() -> frozenset[str]:
    """Return the instructions: Linux says them at once, elsewhere torch is asked, which takes seconds to load."""
    try:
        told = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        import torch

        found = torch.cpu.get_capabilities()
        return frozenset(_FROM_TORCH.get(name, name) for name, has in found.items() if has is True)
    line = re.search(r"^(?:flags|Features)\s*:(.*)$", told, re.MULTILINE)
    return frozenset(line[1].split()) if line else frozenset()
