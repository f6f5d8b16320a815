"""Tomograms and label pictures in files: opened lazily, read slice by slice, written whole or not at all."""

from tomoseg.volume.base import ArrayVolume, Grey, Region, Volume, read_slice
from tomoseg.volume.page import PagedVolume, Pictures
from tomoseg.volume.sink import Content
from tomoseg.volume.source import AS_IT_IS, Opening, RawLayout, open_pictures, open_volume
from tomoseg.volume.writer import SliceWriter, check_content, check_target

__all__ = [
    "AS_IT_IS",
    "ArrayVolume",
    "Content",
    "Grey",
    "Opening",
    "PagedVolume",
    "Pictures",
    "RawLayout",
    "Region",
    "SliceWriter",
    "Volume",
    "check_content",
    "check_target",
    "open_pictures",
    "open_volume",
    "read_slice",
]
