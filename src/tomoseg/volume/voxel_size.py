"""Voxel sizes in micrometres, from the lengths and units that a file states."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any
from xml.etree import ElementTree

VoxelSize = tuple[float, float, float]

_MICROMETRES = {
    "nm": 1e-3, "nanometer": 1e-3, "um": 1.0, "µm": 1.0, "μm": 1.0, "\\u00b5m": 1.0, "micron": 1.0,
    "microns": 1.0, "micrometer": 1.0, "mm": 1e3, "millimeter": 1e3, "cm": 1e4, "centimeter": 1e4, "m": 1e6,
    "meter": 1e6, "å": 1e-4, "angstrom": 1e-4, "nanometre": 1e-3, "micrometre": 1.0, "millimetre": 1e3, "metre": 1e6,
}  # fmt: skip
_LENGTH = re.compile(r"(?P<number>[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*(?P<unit>[^\W\d_]*)")
LENGTHS = "takes one length above 0, or three along z, y and x, in micrometres or with a unit: 0.018, 18nm, 36 18 18 nm"
_PRINTING_DPI = (72, 96, 100, 144, 150, 200, 300, 600, 1200)


def from_imagej(metadata: Mapping[str, Any], *, x_per_unit: float, y_per_unit: float) -> VoxelSize | None:
    """Return the voxel size (z, y, x) that ImageJ wrote, or None where it wrote no length.

    Parameters
    ----------
    metadata
        ImageJ's description: `unit`, and `spacing` along z, which is x's where it is missing.
    x_per_unit, y_per_unit
        Pixels a unit, from the TIFF resolution tags; 0 where they are missing.

    Examples
    --------
    >>> from_imagej({"unit": "nm", "spacing": 20.0}, x_per_unit=0.1, y_per_unit=0.1)
    (0.02, 0.01, 0.01)
    """
    unit = metadata.get("unit")
    factors = [micrometres_in(metadata.get(key, unit)) for key in ("zunit", "yunit", "unit")]
    if None in factors or x_per_unit <= 0:
        return None
    z_um, y_um, x_um = (f for f in factors if f is not None)
    x = x_um / x_per_unit
    y = y_um / y_per_unit if y_per_unit > 0 else x
    return _filled(z_um * abs(float(metadata.get("spacing", 0))), y, x)


def from_ome(xml: str) -> VoxelSize | None:
    """Return the voxel size (z, y, x) of the first image of an OME-XML text, or None where it has none.

    A size along z or y that is missing is taken to be x's.

    Examples
    --------
    >>> from_ome('<OME><Image><Pixels PhysicalSizeX="50" PhysicalSizeXUnit="nm"/></Image></OME>')
    (0.05, 0.05, 0.05)
    """
    pixels = ome_pixels(xml)
    x, y, z = (_ome_length(pixels, axis) for axis in "XYZ")
    return _filled(z, y, x)


def from_tiff(*, x_per_unit: float, y_per_unit: float, unit: int) -> VoxelSize | None:
    """Return the voxel size (z, y, x) of plain TIFF resolution tags, or None.

    Only centimetres (`unit` 3) are taken for a length: resolutions in inches (2) are printing defaults, as
    are centimetres that come to a printer's number of dots an inch.

    Examples
    --------
    >>> from_tiff(x_per_unit=20000, y_per_unit=20000, unit=3)
    (0.5, 0.5, 0.5)
    >>> from_tiff(x_per_unit=300, y_per_unit=300, unit=2) is None
    True
    """
    dpi = x_per_unit * 2.54
    printing = any(math.isclose(dpi, usual, rel_tol=2e-3) for usual in _PRINTING_DPI)
    if unit != 3 or x_per_unit <= 0 or printing:
        return None
    return _filled(0.0, 1e4 / y_per_unit if y_per_unit > 0 else 0.0, 1e4 / x_per_unit)


def ome_pixels(xml: str) -> Mapping[str, str]:
    """Return the attributes of the first `Pixels` element of an OME-XML text; empty where there is none.

    Examples
    --------
    >>> ome_pixels('<OME><Image><Pixels SizeC="1" SizeZ="5"/></Image></OME>')
    {'SizeC': '1', 'SizeZ': '5'}
    """
    for element in ElementTree.fromstring(xml).iter():
        if element.tag.rpartition("}")[2] == "Pixels":
            return dict(element.attrib)
    return {}


def micrometres_in(unit: object) -> float | None:
    """Return how many micrometres a unit of length has, by its name or symbol; None for what is none.

    Examples
    --------
    >>> micrometres_in("nanometer"), micrometres_in("mm"), micrometres_in("pixel") is None
    (0.001, 1000.0, True)
    """
    return _MICROMETRES.get(unit.strip().lower()) if isinstance(unit, str) else None


def stated_lengths(text: str) -> tuple[float, ...]:
    """Return the lengths that somebody typed, in micrometres; a unit behind the last one is that of all.

    Raises
    ------
    ValueError
        If it is anything else than lengths.

    Examples
    --------
    >>> stated_lengths("0.018"), stated_lengths("18nm"), stated_lengths("0.036 0.018 0.018 um")
    ((0.018,), (0.018,), (0.036, 0.018, 0.018))
    """
    found = [match.groups() for match in _LENGTH.finditer(text)]
    units = [unit for _, unit in found]
    if not any(units[:-1]):
        units = units[-1:] * len(units)
    factors = [micrometres_in(unit or "um") for unit in units]
    if _LENGTH.sub("", text).strip() or None in factors or ("" in units and any(units)) or not found:
        raise ValueError(f"{text} is no voxel size; it {LENGTHS}")
    # 15 digits hide that 18 / 1000 is not quite the number nearest to 0.018.
    return tuple(float(f"{float(n) * (f or 0):.15g}") for (n, _), f in zip(found, factors, strict=True))


def in_micrometres(edges: Sequence[float], unit: object) -> VoxelSize | None:
    """Return a voxel size (z, y, x), or None where it is not known: unless there are three finite lengths above 0.

    Parameters
    ----------
    edges
        Lengths along (z, y, x) as a file states them.
    unit
        Their unit, or a list of one for each.

    Examples
    --------
    >>> in_micrometres([20, 10, 10], "nm"), in_micrometres([2, 0, 1], "mm"), in_micrometres([2, 1, 1], "pixel")
    ((0.02, 0.01, 0.01), None, None)
    """
    units = unit if isinstance(unit, list) else [unit] * 3
    factors = [micrometres_in(each) or 0.0 for each in units]
    if len(edges) != 3 or len(factors) != 3:
        return None
    z, y, x = (float(edge) * factor for edge, factor in zip(edges, factors, strict=True))
    return (z, y, x) if all(0 < edge < math.inf for edge in (z, y, x)) else None


def millimetres_xyz(size_um: VoxelSize) -> str:
    """Return a voxel size (z, y, x) in micrometres as headers of x, y and z in millimetres have it.

    Examples
    --------
    >>> millimetres_xyz((20.0, 18.0, 19.0))
    '0.019 0.018 0.02'
    """
    return " ".join(repr(edge / 1000) for edge in reversed(size_um))


def _ome_length(pixels: Mapping[str, str], axis: str) -> float:
    factor = micrometres_in(pixels.get(f"PhysicalSize{axis}Unit", "µm"))
    return float(pixels.get(f"PhysicalSize{axis}", 0)) * (factor or 0.0)


def _filled(z: float, y: float, x: float) -> VoxelSize | None:
    """Fill in what is 0 with the size along x; 12 digits hide the rounding of rational tags only."""
    return in_micrometres([float(f"{length:.12g}") for length in (z or x, y or x, x)], "um")
