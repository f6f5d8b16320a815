"""`tomoseg inspect`: what a scan is before anything is done with it."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro
from pydantic import Field

from tomoseg.provenance import record
from tomoseg.workflow.common import Reading, SourcePath, limit_threads
from tomoseg.workflow.console import Console, duration, sized
from tomoseg.workflow.reading import Source, open_source

_TRIED_EDGE = 512


class InspectSettings(Reading):
    """Tell shape, type, voxel size, grey levels, noise and blur of a scan, and what segmenting it will take."""

    source: Annotated[SourcePath, Field(description="folder of slices, or a multi-page TIFF")]
    out: Annotated[
        Path | None,
        tyro.conf.arg(aliases=["-o"]),
        Field(description="folder for report.html and inspect.json, if wanted"),
    ] = None
    force: Annotated[bool, Field(description="replace an existing report")] = False


def run(settings: InspectSettings, console: Console) -> None:
    """Inspect, print, and write the report if it is asked for."""
    limit_threads(settings.threads)
    from tomoseg.grey_levels import inspect_grey_levels, sketch
    from tomoseg.report import check_folder

    if settings.out is not None:
        check_folder(settings.out, force=settings.force)
    source = open_source(settings.source, settings)
    with console.progress("measuring grey levels", 1.0):
        levels = inspect_grey_levels(source.volume, region=source.region, inside=source.view.inside)
    with console.progress("trying the network", 1.0):
        cost = expected_cost(source)
    found = {**_of_volume(source), **{k: v for k, v in asdict(levels).items() if k != "histogram"}, **cost}
    for name, value in facts(found):
        console.result(f"{name:24}{value}")
    console.result(sketch(levels.histogram))
    if settings.out is not None:
        _write(settings.out, found, histogram=levels.histogram, settings=settings)
        console.result(f"report: {settings.out / 'report.html'}")


def _of_volume(source: Source) -> dict[str, Any]:
    volume = source.volume
    return {
        "name": source.path.name,
        "shape": list(volume.shape),
        "roi_shape": list(source.region.shape),
        "dtype": str(volume.dtype),
        "voxel_size_um": None if volume.voxel_size_um is None else list(volume.voxel_size_um),
        "first": volume.names[0],
        "last": volume.names[-1],
    }


def expected_cost(source: Source) -> dict[str, float]:
    """Measure how fast the default network runs here, and return the time and memory that segmenting would take."""
    from tomoseg.engine.torch_engine import TorchEngine
    from tomoseg.predict import DEFAULT_MEMORY
    from tomoseg.recipe import FAST
    from tomoseg.unet import UNet

    engine = TorchEngine(UNet(FAST.network(classes=3, context=0)).eval())
    stack = np.zeros((1, _TRIED_EDGE, _TRIED_EDGE), np.float32)
    engine.run(stack)
    began = time.perf_counter()
    engine.run(stack)
    rate = _TRIED_EDGE**2 / (time.perf_counter() - began)
    depth, height, width = source.region.shape
    return {
        "predict_seconds": depth * height * width / rate,
        "predict_bytes": float(DEFAULT_MEMORY + 8 * height * width * source.volume.dtype.itemsize),
        "predict_pixels_per_second": rate,
    }


def facts(found: dict[str, Any]) -> list[tuple[str, str]]:
    """Return what was found in words."""
    size, noise = found["voxel_size_um"], found["noise_std_65535"]
    unit = f", {noise:.4g} in 1/65535 of full range" if noise is not None else ""
    blur = f"{found['blur_px']:.2f} pixels" if found["blur_px"] is not None else "cannot be told"
    shape, part = (" x ".join(map(str, found[name])) for name in ("shape", "roi_shape"))
    return [
        ("shape (z, y, x)", shape if part == shape else f"{shape}, of which {part} count"),
        ("type", found["dtype"]),
        ("voxel size (z, y, x)", " x ".join(f"{edge:g}" for edge in size) + " um" if size else "the file does not say"),
        ("slices", f"{found['first']} to {found['last']}"),
        ("grey values", f"{found['minimum']:g} to {found['maximum']:g}, mean {found['mean']:.5g}"),
        ("clipped", f"{100 * found['clipped_low']:.2f} % at the low end, {100 * found['clipped_high']:.2f} % high"),
        ("noise std", f"{found['noise_std']:.4g} grey values{unit}"),
        ("blur", blur),
        ("segmenting it takes", f"about {duration(found['predict_seconds'])} and {sized(found['predict_bytes'])} of "
                                "memory, with the default network on this machine as busy as it is now"),
    ]  # fmt: skip


def _write(folder: Path, found: dict[str, Any], *, histogram: Any, settings: InspectSettings) -> None:
    from tomoseg.report import Facts, Headline, Report, Section, figures, write_json, write_report

    noise = f"{found['noise_std']:.4g}"
    report = Report(
        title=f"{found['name']} before segmentation",
        subtitle=f"{' x '.join(map(str, found['shape']))} voxels (z, y, x), {found['dtype']}",
        headlines=[
            Headline("Noise std", noise, "grey values, white noise assumed"),
            Headline(
                "Blur",
                "-" if found["blur_px"] is None else f"{found['blur_px']:.2f}",
                "pixels, std of the sharpest edges",
            ),
            Headline("Clipped", f"{100 * (found['clipped_low'] + found['clipped_high']):.1f} %", "of the values"),
        ],
        sections=[
            Section("Grey values", [figures.histogram_picture(histogram.edges, histogram.counts)]),
            Section("All that was found", [Facts(facts(found))]),
        ],
    )
    write_report(folder, report, force=settings.force)
    made = record("inspect", seed=settings.seed, settings=settings.model_dump(mode="json", exclude={"source", "out"}))
    levels = {"edges": histogram.edges, "counts": histogram.counts}
    write_json(folder / "inspect.json", {**found, "histogram": levels, "provenance": made.model_dump()})
