"""Tomograms and label pictures in files: opened lazily, read slice by slice, written whole or not at all."""

from tomoseg.volume.base import ArrayVolume, Grey, Region, Volume
from tomoseg.volume.page import PagedVolume, Pictures
from tomoseg.volume.source import open_pictures, open_volume
from tomoseg.volume.writer import SliceWriter, check_target

__all__ = [
    "ArrayVolume",
    "Grey",
    "PagedVolume",
    "Pictures",
    "Region",
    "SliceWriter",
    "Volume",
    "check_target",
    "open_pictures",
    "open_volume",
]
