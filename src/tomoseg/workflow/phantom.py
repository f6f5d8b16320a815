"""`tomoseg phantom`: a three-phase tomogram, its labels, and its truth."""

from __future__ import annotations

from contextlib import ExitStack
from functools import reduce
from operator import add
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from pydantic import Field

from tomoseg.errors import OutputError, SettingError
from tomoseg.provenance import record
from tomoseg.workflow.common import Common, Target
from tomoseg.workflow.console import Console

if TYPE_CHECKING:
    from tomoseg.phantom import PhantomSpec
    from tomoseg.phantom_truth import TruthSums

TRUTH = "truth.json"


class PhantomSettings(Common):
    """Make a tomogram of a solid-oxide-cell-like electrode whose truth is known below the voxel."""

    out: Annotated[Target, Field(description="folder for images/, labels/ and truth.json")]
    shape: Annotated[tuple[int, int, int], Field(description="voxels along z, y and x, 16 or more each")] = (
        64,
        256,
        256,
    )
    noise_std: Annotated[
        float, Field(ge=0, le=20_000, description="std of the scan's own noise in grey values, 1/65535 of full range")
    ] = 740.0
    chord: Annotated[
        float, Field(ge=5.0, description="mean run of a phase along a line, in voxels; less makes finer structures")
    ] = 38.5
    force: Annotated[bool, Field(description="replace a phantom that is there")] = False


def run(settings: PhantomSettings, console: Console) -> None:
    """Make the phantom and write it."""
    from tomoseg.phantom import SMALLEST, PhantomSpec

    if min(settings.shape) < SMALLEST:
        raise SettingError(
            f"--shape {' '.join(map(str, settings.shape))} is too small; each edge needs {SMALLEST} or more"
        )
    if settings.out.is_file():
        raise OutputError(f"{settings.out}: is a file; a phantom needs a folder")
    spec = PhantomSpec(shape=settings.shape, seed=settings.seed, noise_std=settings.noise_std, chord=settings.chord)
    there = settings.out.exists()
    try:
        truth = _write_slices(spec, settings, console)
    finally:
        if not there and settings.out.is_dir() and not any(settings.out.iterdir()):
            settings.out.rmdir()
    from tomoseg.report import write_json

    write_json(settings.out / TRUTH, truth_json(spec, truth))
    console.result(f"images, labels (0 pore, 128 YSZ, 255 Ni) and {TRUTH}: {settings.out}")


def _write_slices(spec: PhantomSpec, settings: PhantomSettings, console: Console) -> TruthSums:
    from tomoseg.labels import decode
    from tomoseg.phantom import PHANTOM_CLASSES, make_phantom
    from tomoseg.volume import SliceWriter, check_target

    depth = spec.shape[0]
    names = [f"slice_{z:04d}.tif" for z in range(depth)]
    targets: dict[str, np.dtype[Any]] = {"images": np.dtype(np.uint16), "labels": np.dtype(np.uint8)}
    for folder in targets:
        check_target(settings.out / folder, settings.force)
    parts = []
    with ExitStack() as stack:
        images, labels = (
            stack.enter_context(
                SliceWriter(settings.out / folder, shape=spec.shape, dtype=dtype, names=names, force=settings.force)
            )
            for folder, dtype in targets.items()
        )
        for one in console.track(make_phantom(spec), "making the phantom", depth):
            images.write(one.grey)
            labels.write(decode(one.label, PHANTOM_CLASSES, outside=254))
            parts.append(one.truth)
    return reduce(add, parts)


def truth_json(spec: PhantomSpec, truth: TruthSums) -> dict[str, Any]:
    """Return the truth as it is written: the measurements, and what was measured on the grey values and labels."""
    from tomoseg.phantom import GREY_LEVELS, PHANTOM_CLASSES

    names = tuple(item.name for item in PHANTOM_CLASSES)
    return {
        "measurements": truth.measurements(names),
        "interface_density": dict(zip("zyx", truth.interface_density.tolist(), strict=True)),
        "pair_shares": {
            f"{a}-{b}": share
            for (a, b), share in zip(
                ((names[0], names[1]), (names[0], names[2]), (names[1], names[2])),
                truth.areas / truth.areas.sum(),
                strict=True,
            )
        },
        "blur_px": truth.blur_px,
        "noise_std": truth.noise_std,
        "grey_levels": dict(zip(names, GREY_LEVELS.tolist(), strict=True)),
        "shape": list(spec.shape),
        "provenance": record("phantom", seed=spec.seed, settings=spec.model_dump(mode="json")).model_dump(),
    }
