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

RECORD = "provenance.json"
"""Name of the record in an output that is a folder; what stands after the name of one that is a file."""


def file_record(path: Path) -> Path:
    """Return where the record of a file or store lies: inside a Zarr store, else beside.

    Examples
    --------
    >>> file_record(Path("out.zarr")).as_posix(), file_record(Path("out.tif")).as_posix()
    ('out.zarr/tomoseg/provenance.json', 'out.tif.provenance.json')
    """
    if path.suffix.lower() == ".zarr":
        return path / NOTES / RECORD
    return path.with_name(f"{path.name}.{RECORD}")


def noted_numbers(path: Path) -> tuple[int, ...] | None:
    """Return where the slices of a volume lie along z, as noted when it was written because some are missing.

    A folder of slices says so by their names, a single file or store can't.
    """
    try:
        found = json.loads(file_record(path).read_text(encoding="utf-8")).get("slice_numbers")
    except (OSError, ValueError, AttributeError):
        return None
    return tuple(found) if isinstance(found, list) and all(type(z) is int for z in found) else None


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
