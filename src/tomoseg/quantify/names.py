"""What numbers are called, in `quantities.json` and wherever they are looked for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Names:
    """The classes' names, and the unit of length.

    Attributes
    ----------
    classes
        Names of the classes.
    length
        `um`, or `voxel` where no voxel size is known.

    Examples
    --------
    >>> names = Names(("pore", "YSZ", "Ni"), "um")
    >>> names.fraction(0), names.area(0, 2), names.line((0, 1, 2))
    ('phase fraction pore', 'interface area pore-Ni per volume', 'triple-phase boundary density')
    """

    classes: tuple[str, ...]
    length: str

    def fraction(self, i: int) -> str:
        """Return what a class's fraction is called."""
        return f"phase fraction {self.classes[i]}"

    def area(self, i: int, j: int) -> str:
        """Return what the area of the interface of two classes is called."""
        return f"interface area {self.classes[i]}-{self.classes[j]} per volume"

    def integral(self, i: int) -> str:
        """Return what the integral of mean curvature of a class's surface is called."""
        return f"integral of mean curvature {self.classes[i]} per volume"

    def curvature(self, i: int) -> str:
        """Return what the mean curvature of a class's surface is called."""
        return f"mean curvature {self.classes[i]}"

    def line(self, triple: tuple[int, int, int]) -> str:
        """Return what the density of a triple's lines is called: where there is one triple only, without its names."""
        which = "-".join(self.classes[i] for i in triple)
        return "triple-phase boundary density" + (f" {which}" if len(self.classes) > 3 else "")
