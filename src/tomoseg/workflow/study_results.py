"""A study that has run, by method and by cell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tomoseg.study import Cell
from tomoseg.window import Window
from tomoseg.workflow.study import StudySettings
from tomoseg.workflow.study_data import Layout

Results = Mapping[str, dict[str, Any]]

OURS = ("ours", "ours 2D", "ours clean")
PER_LEVEL = ", at each level"
WITH_A_CURVE = ("poster, no noise", "poster", *OURS, "forest", f"poster{PER_LEVEL}", f"ours{PER_LEVEL}")
"""All methods that can have a curve, in the order in which they are drawn."""


@dataclass(frozen=True)
class Study:
    """A study that has run: its cells and what those that are done gave."""

    settings: StudySettings
    layout: Layout
    cells: tuple[Cell, ...]
    done: Results

    def of(self, **wanted: Any) -> list[dict[str, Any]]:
        """Return the results, one a seed, of the cells with these attributes; others as `Cell` has them."""
        wanted = {
            "share": None,
            "split": self.settings.split,
            "to_the_end": False,
            "noise_std": None,
            "varied": False,
            **wanted,
        }
        chosen = [cell for cell in self.cells if all(getattr(cell, name) == value for name, value in wanted.items())]
        return [self.done[cell.key] for cell in chosen if cell.key in self.done]

    def curves(self, method: str, *, like_scan: bool = False) -> list[list[dict[str, Any]]]:
        """Return a method's curves, one a seed, of the largest size; a forest's is put together from its levels."""
        size = self.settings.sizes[-1]
        if method == "forest":
            return self._joined(like_scan, method=method, size=size)
        if method.endswith(PER_LEVEL):
            name = method.removesuffix(PER_LEVEL)
            return self._joined(like_scan, method=name, size=size, share=0.5 if name == "poster" else None)
        if method == "poster":
            return [self._curve(one, like_scan) for one in self.posters()]
        name = "poster" if method.startswith("poster") else method
        return [self._curve(one, like_scan) for one in self.of(method=name, size=size)]

    def posters(self) -> list[dict[str, Any]]:
        """Return the results, one a seed, of the poster's curve: half of the images noisy, with noise of any std."""
        varied = self.settings.kind == "gaussian"
        return self.of(method="poster", size=self.settings.sizes[-1], share=0.5, varied=varied)

    def _joined(self, like_scan: bool, **wanted: Any) -> list[list[dict[str, Any]]]:
        """Return the curves, one a seed, of cells that were trained for one level each."""
        curves = []
        for seed in self.settings.seeds:
            levels = self.settings.all_levels
            found = [self.of(**wanted, seed=seed, noise_std=level) for level in levels]
            if all(found):
                points = [self._curve(one[0], like_scan) for one in found]
                curves.append(
                    [next(p for p in own if p["level"] == at) for own, at in zip(points, levels, strict=True)]
                )
        return curves

    @staticmethod
    def _curve(result: dict[str, Any], like_scan: bool) -> list[dict[str, Any]]:
        curve: list[dict[str, Any]] = result[
            "curve_like_scan" if like_scan and "curve_like_scan" in result else "curve"
        ]
        return curve

    @property
    def methods(self) -> list[str]:
        """Methods that have a whole curve."""
        n = len(self.settings.all_levels)
        return [name for name in WITH_A_CURVE if any(len(curve) == n for curve in self.curves(name))]

    def window(self) -> Window:
        """Return the window of grey values that its networks have."""
        from tomoseg.model_file import load_model

        key = next(cell.key for cell in self.cells if cell.method != "forest" and cell.key in self.done)
        return load_model(self.settings.out / "cells" / f"{key}.tomoseg").record.window
