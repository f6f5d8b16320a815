"""Blocks: however a volume is cut into them, and along whichever axis, the result is the reference's."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tomoseg.blocks import (
    BINS,
    Ends,
    Levels16,
    Outputs,
    PixelGrid,
    Wanted,
    average,
    grey_statistics,
    normalised_entropy,
    read_slab,
    run_slab,
)
from tomoseg.ends import continued
from tomoseg.engine.torch_engine import TorchEngine
from tomoseg.predict import Runner
from tomoseg.slices import context_slices
from tomoseg.unet import UNet
from tomoseg.unet_config import UNetConfig
from tomoseg.volume import ArrayVolume, Region
from tomoseg.volume.ome_zarr_writer import shard_regions
from tomoseg.volume.turned import TurnedVolume, turn, turn_back, turn_region
from tomoseg.window import Window

WINDOW = Window(low=0, high=1000)


def network(context: int, *, depth: int = 2) -> UNet:
    torch.manual_seed(3)
    made = UNet(UNetConfig(classes=3, context=context, widths=(2, 3)[:depth], bottleneck=4))
    for module in made.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.uniform_(-0.2, 0.2)
            module.running_var.uniform_(0.5, 2)
    return made.eval()


def padded(size: int, grid: int, halo: int) -> np.ndarray:
    at = np.arange(-halo, -(-size // grid) * grid + halo) % max(1, 2 * size - 2)
    return np.minimum(at, max(0, 2 * size - 2 - at.max()) if size == 1 else 2 * size - 2 - at)


def reference(made: UNet, volume: np.ndarray) -> np.ndarray:
    """Each slice with its context, reflect-padded by one halo and up to the pooling grid, run once, cropped."""
    config, depth = made.config, len(volume)
    rows, columns = (padded(size, config.grid, config.halo) for size in volume.shape[1:])
    found, read = [], continued(lambda z: volume[z], depth)
    for z in range(depth):
        seen = np.stack([read(i) for i in context_slices(z, numbers=range(depth), context=config.context)])
        given = WINDOW.apply(seen[:, rows[:, None], columns])
        with torch.inference_mode():
            found.append(torch.softmax(made(torch.from_numpy(given[None])), 1)[0].numpy())
    whole = np.stack(found, axis=1)
    return whole[..., config.halo : config.halo + volume.shape[1], config.halo : config.halo + volume.shape[2]]


@given(data=st.data())
@settings(deadline=None, max_examples=25)
def test_blocks_of_any_size_give_the_references_probabilities(data: st.DataObject) -> None:
    made = network(data.draw(st.integers(0, 2)), depth=data.draw(st.integers(1, 2)))
    shape = data.draw(st.tuples(st.integers(1, 5) | st.integers(12, 14), st.integers(2, 40), st.integers(2, 40)))
    edges = data.draw(st.tuples(st.integers(1, 10), st.integers(1, 40), st.integers(1, 40)))
    values = np.random.default_rng(0).integers(0, 1000, shape, dtype=np.uint16)
    runner = Runner(TorchEngine(made), made.config, WINDOW, data.draw(st.integers(4, 48)))
    expected = reference(made, values)
    ends = Ends(ArrayVolume(values))
    for region in shard_regions(shape, edges):
        slab = read_slab(ArrayVolume(values), region, network=made.config, numbers=range(shape[0]), ends=ends)
        found = np.full((3, *region.shape), np.nan, np.float32)

        def take(z: int, core: tuple[slice, slice], part: np.ndarray, found: np.ndarray = found) -> None:
            found[(slice(None), z, *core)] = part

        assert list(run_slab(runner, slab, take)) == list(range(1, region.shape[0] + 1))
        np.testing.assert_allclose(found, expected[(slice(None), *region.slices)], atol=1e-5)


@pytest.mark.parametrize("axis", ["z", "y", "x"])
def test_along_another_axis_the_planes_are_segmented_as_slices(axis: str) -> None:
    made, values = network(1), np.random.default_rng(1).integers(0, 1000, (20, 24, 28), dtype=np.uint16)
    volume = TurnedVolume(ArrayVolume(values), axis)
    assert np.array_equal(turn_back(turn(values, axis), axis), values)
    region = Region(2, 14, 5, 24, 0, 10)
    runner = Runner(TorchEngine(made), made.config, WINDOW, 16)
    turned = turn_region(region, axis)
    slab = read_slab(volume, turned, network=made.config, numbers=range(volume.shape[0]), ends=Ends(volume))
    levels = Levels16(turned.shape, 3)
    list(run_slab(runner, slab, levels.take))
    expected = turn_back(reference(made, np.ascontiguousarray(turn(values, axis))), axis)
    found = turn_back(levels.values, axis) / 65535
    np.testing.assert_allclose(found, expected[(slice(None), *region.slices)], atol=2e-5)


def test_outputs_hold_best_class_levels_entropy_and_exact_sums_inside_the_view() -> None:
    inside = np.array([[[True, True, False]]])
    out = Outputs((1, 1, 3), classes=2, wanted=Wanted(probabilities=True, uncertainty=True), inside=inside)
    given = np.array([[[0.25, 1.0, 0.5]], [[0.75, 0.0, 0.5]]], np.float32)
    out.take(0, (slice(0, 1), slice(0, 3)), given)
    assert out.index.tolist() == [[[1, 0, 255]]]
    assert out.levels.tolist() == [[[[64, 255, 0]]], [[[191, 0, 0]]]]
    assert out.uncertainty.tolist() == [[[round(255 * 0.8112781), 0, 0]]]
    assert (out.voxels.tolist(), out.sums.tolist(), out.confidence.tolist()) == ([[1, 1]], [[1.25, 0.75]], [1.75])


def test_the_entropy_of_equal_probabilities_is_one_whatever_the_number_of_classes() -> None:
    for n in (2, 3, 32):
        assert normalised_entropy(np.full((n, 1, 1), 1 / n, np.float32)) == pytest.approx(1)


def test_the_average_of_axes_is_the_mean() -> None:
    levels = [np.full((1, 1, 1), value, np.uint16) for value in (0, 65535, 65535)]
    assert average(levels) == pytest.approx(2 / 3)


def test_the_histogram_is_the_same_however_a_slice_is_cut() -> None:
    values = np.random.default_rng(0).integers(0, 1000, (1100, 1300), dtype=np.uint16)
    inside, window = np.ones(values.shape, bool), Window(low=0, high=1000)
    whole = grey_statistics(values, window=window, inside=inside).histogram
    parts = []
    for rows in (slice(0, 1024), slice(1024, 1100)):
        for columns in (slice(0, 515), slice(515, 1300)):
            grid = PixelGrid.over(values.shape, origin=(rows.start, columns.start))
            block = values[rows, columns]
            parts.append(grey_statistics(block, window=window, inside=inside[rows, columns], grid=grid).histogram)
    assert np.array_equal(sum(parts), whole)


def test_grey_statistics_know_noise_and_histogram_in_window_widths() -> None:
    values = np.random.default_rng(0).normal(500, 50, (300, 300)).astype(np.float32)
    found = grey_statistics(values, window=WINDOW, inside=np.ones(values.shape, bool))
    assert found.noise == pytest.approx(0.05, rel=0.1)
    middle = np.average((np.arange(BINS) + 0.5) / (BINS / 2) - 0.5, weights=found.histogram)
    assert middle == pytest.approx(0.5, abs=0.02)
