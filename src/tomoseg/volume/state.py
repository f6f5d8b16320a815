"""What tomoseg notes in a Zarr store that it writes, so that an unfinished one is known, and others' are left alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

STATE = "tomoseg"
"""Attribute of a group that tomoseg wrote: by which verb, and whether it is finished."""

NOTES = "tomoseg"
"""Group in a store for what is no image: the record, and what is known of each block."""


def read_state(path: Path) -> Mapping[str, Any] | None:
    """Return what tomoseg noted in the root of a store that it wrote; None for a store of others, or no store."""
    for name, keys in (("zarr.json", ("attributes", STATE)), (".zattrs", (STATE,))):
        try:
            found: Any = json.loads((path / name).read_text(encoding="utf-8"))
            for key in keys:
                found = found[key]
        except (OSError, ValueError, KeyError, TypeError):
            continue
        return found if isinstance(found, dict) else None
    return None
