"""Whether the values of an HDF5 data set are there: the library fills in what is missing, in silence."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py

from tomoseg.errors import VolumeError


def check_stored(found: h5py.Dataset, place: str, *, empty_chunks: bool = False) -> tuple[Path, ...]:
    """Return the files that hold a data set; refuse one that is not wholly stored, or in a file of any kind.

    Parameters
    ----------
    found
        The data set; of a virtual one, the data sets that it is made of are looked at, too.
    place
        Where it is, for messages.
    empty_chunks
        Whether what is missing holds the fill value; else it is an error.

    Raises
    ------
    VolumeError
        If chunks or source files are missing, as after a scan that was aborted or a copy without its parts; if the
        values lie in external raw storage, by which a file could show any other file that its reader may read.
    """
    seen: set[tuple[str, str]] = set()
    missing = list(_missing(found, seen))
    if missing and not empty_chunks:
        more = f", and {len(missing) - 1} more like it" if len(missing) > 1 else ""
        raise VolumeError(
            f"{place}: {missing[0]}{more}; copy the volume with all its files again, or, if it is meant to be empty "
            "there, say --empty-chunks"
        )
    return tuple(sorted({Path(file) for file, _ in seen}))


def _missing(found: h5py.Dataset, seen: set[tuple[str, str]]) -> Iterator[str]:
    """Say what of a data set the library would fill in."""
    if (found.file.filename, found.name) in seen:
        return
    seen.add((found.file.filename, found.name))
    if found.external:
        raise VolumeError(
            f"{found.file.filename}:{found.name}: its values lie in {found.external[0][0]!r}, which an HDF5 file is "
            "not trusted to name; save it without external storage"
        )
    if found.is_virtual:
        yield from _missing_sources(found, seen)
    elif found.chunks is not None:
        expected = math.prod(-(-size // edge) for size, edge in zip(found.shape, found.chunks, strict=True))
        lost = expected - found.id.get_num_chunks()
        if lost:
            yield f"{lost:,} of the {expected:,} chunks of {found.name} were never written"
    elif found.size and found.id.get_space_status() == h5py.h5d.SPACE_STATUS_NOT_ALLOCATED:
        yield f"{found.name} was never written"


def _missing_sources(found: h5py.Dataset, seen: set[tuple[str, str]]) -> Iterator[str]:
    """Say which parts of a virtual data set have no source, or one that lacks something."""
    grows = None in found.maxshape  # such a data set is as large as its sources
    sources = found.virtual_sources()
    mapped = 0 if grows else sum(source.vspace.get_select_npoints() for source in sources)
    if not grows and mapped < found.size:
        yield f"{found.size - mapped:,} of the {found.size:,} values of {found.name} have no source"
    for source in sources:
        name = source.file_name.replace("%%", "%")
        if grows and "%b" in name:
            continue  # a pattern of names, of which those that are there count
        file = _source_file(found, name)
        if file is None:
            yield f"the file {name}, of which {found.name} is made, is missing"
            continue
        with h5py.File(file, "r") as opened:
            part = opened.get(source.dset_name)
            if not isinstance(part, h5py.Dataset):
                yield f"{name} holds no {source.dset_name}, of which {found.name} is made"
            elif not grows and part.size < source.vspace.get_select_npoints():
                yield f"{name}:{source.dset_name} holds fewer values than {found.name} takes from it"
            else:
                yield from _missing(part, seen)


def _source_file(found: h5py.Dataset, name: str) -> Path | None:
    """Return the source file of a virtual data set where the library looks for it: `.` is the file itself."""
    own = Path(found.file.filename)
    if name == ".":
        return own
    folders: list[Any] = [own.parent, own.resolve().parent, Path()]
    tried = [Path(name), *(folder / part for folder in folders for part in (name, Path(name).name))]
    return next((file for file in tried if file.is_file()), None)
