import numpy as np
import pytest
import torch

from tomoseg.engine.torch_engine import TorchEngine
from tomoseg.predict import Runner
from tomoseg.tiles import reflected
from tomoseg.unet import UNet, parameters
from tomoseg.unet_config import UNetConfig
from tomoseg.window import Window

WINDOW = Window(low=0, high=1)


def network(widths=(2, 3), bottleneck=4, context=0, **shape):
    torch.manual_seed(0)
    made = UNet(UNetConfig(classes=3, context=context, widths=widths, bottleneck=bottleneck, **shape))
    for module in made.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.uniform_(module.bias, -0.5, 0.5)
            module.running_mean.uniform_(-0.1, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    return made.eval()


def reference(made, image):
    """Run the slice, reflect-padded by one halo and up to the grid, at once, and crop."""
    halo, grid = made.config.halo, made.config.grid
    rows, columns = (
        reflected(-halo, -(-size // grid) * grid + 2 * halo, size) for size in (image.shape[-2], image.shape[-1])
    )
    with torch.inference_mode():
        given = torch.softmax(made(torch.from_numpy(image[None][..., rows[:, None], columns])), 1)[0].numpy()
    return given[:, halo : halo + image.shape[-2], halo : halo + image.shape[-1]]


@pytest.mark.parametrize("mirrored", [1, 2, 4])
@pytest.mark.parametrize(("shape", "tile"), [((61, 83), 16), ((40, 40), 8), ((33, 70), 24), ((5, 90), 64)])
def test_a_slice_in_tiles_equals_the_reference(shape, tile, mirrored):
    made = network(mirrored=mirrored)
    image = np.random.default_rng(1).random(shape).astype(np.float32)
    runner = Runner(TorchEngine(made), made.config, WINDOW, tile)
    found = np.zeros((3, *shape), np.float32)
    for core, probabilities in runner.parts([image]):
        found[(slice(None), *core)] = probabilities
    np.testing.assert_allclose(found, reference(made, image[None]), atol=2e-6)


def test_a_box_equals_that_part_of_the_whole_slice():
    made = network(context=1)
    stack = list(np.random.default_rng(2).random((3, 50, 60)).astype(np.float32))
    runner = Runner(TorchEngine(made), made.config, WINDOW, 16)
    found = np.zeros((3, 50, 60), np.float32)
    box = (slice(7, 45), slice(3, 22))
    for core, probabilities in runner.parts(stack, box=box):
        found[(slice(None), *core)] = probabilities
    np.testing.assert_allclose(found[:, 7:45, 3:22], reference(made, np.stack(stack))[:, 7:45, 3:22], atol=2e-6)
    assert not found[:, :7].any()


@pytest.mark.parametrize(
    ("widths", "stem"), [((2,), 1), ((2, 2), 1), ((2, 2, 2), 1), ((2,), 2), ((2, 2), 2), ((2,), 3)]
)
@pytest.mark.parametrize(("enlarge", "first"), [("transposed", 2), ("nearest", 1)])
def test_no_pixel_sees_further_than_the_reach_and_one_sees_as_far(widths, stem, enlarge, first):
    config = UNetConfig(classes=2, widths=widths, bottleneck=2, stem=stem, enlarge=enlarge, first=first)
    made = UNet(config).double().eval()
    for name, weight in made.named_parameters():
        torch.nn.init.uniform_(weight, 0.5, 1.0) if "bias" not in name else torch.nn.init.ones_(weight)
    for pool in (module for module in made.modules() if isinstance(module, torch.nn.MaxPool2d)):
        made.pool = torch.nn.AvgPool2d(pool.kernel_size)  # all inputs of a maximum may decide it
    size = config.grid * (2 * config.reach // config.grid + 4)
    middle = size // 2 // config.grid * config.grid
    furthest = 0
    for offset in range(config.grid):
        image = torch.zeros(1, 1, size, size, dtype=torch.float64, requires_grad=True)
        made(image)[0, 0, middle + offset, middle].backward()
        rows = torch.nonzero(image.grad[0, 0].abs().sum(1))
        furthest = max(furthest, int((rows - middle - offset).abs().max()))
    assert furthest == config.reach


def test_a_constant_slice_gives_the_same_pooling_cell_everywhere():
    made, grid = network(), 4
    runner = Runner(TorchEngine(made), made.config, WINDOW, 16)
    found = np.zeros((3, 36, 48), np.float32)
    for core, probabilities in runner.parts([np.full((36, 48), 0.3, np.float32)]):
        found[(slice(None), *core)] = probabilities
    np.testing.assert_allclose(found, np.tile(found[:, :grid, :grid], (1, 36 // grid, 48 // grid)), atol=1e-6)


def test_a_constant_slice_is_the_same_everywhere_where_pixels_are_repeated():
    made = network(enlarge="nearest")
    runner = Runner(TorchEngine(made), made.config, WINDOW, 16)
    found = np.zeros((3, 36, 48), np.float32)
    for core, probabilities in runner.parts([np.full((36, 48), 0.3, np.float32)]):
        found[(slice(None), *core)] = probabilities
    np.testing.assert_allclose(found, np.broadcast_to(found[:, :1, :1], found.shape), atol=1e-6)


@pytest.mark.parametrize("shape", [{}, {"stem": 2}, {"enlarge": "nearest", "first": 1}])
def test_folded_batch_norms_change_nothing(shape):
    made = network(**shape)
    image = np.random.default_rng(3).random((1, 32, 32)).astype(np.float32)
    with torch.inference_mode():
        direct = torch.softmax(made(torch.from_numpy(image[None])), 1)[0].numpy()
    np.testing.assert_allclose(TorchEngine(made).run(image), direct, atol=1e-5)


@pytest.mark.parametrize(("views", "alike"), [(1, []), (2, [(1, 2)]), (4, [(1, 2), (1,), (2,)])])
def test_what_prediction_averages_over_makes_no_difference_to_it(views, alike):
    made = network(enlarge="nearest", first=1, mirrored=views)
    image = np.random.default_rng(3).random((1, 32, 48)).astype(np.float32)
    found = made(torch.from_numpy(image[None]))[0].detach().numpy()
    for axes in [(1, 2), (1,), (2,)]:
        seen = made(torch.from_numpy(np.flip(image, axes)[None].copy()))[0].detach().numpy()
        same = np.allclose(np.flip(seen, axes), found, atol=1e-6)
        assert same == (axes in alike), axes


def test_views_are_averaged_as_logits_and_only_out_of_training():
    plain, made = network(), network(mirrored=2)
    image = torch.rand(1, 1, 16, 24)
    turned = plain(image.flip(2, 3)).flip(2, 3)
    torch.testing.assert_close(made(image), (plain(image) + turned) / 2)
    torch.testing.assert_close(made.train()(image), plain.train()(image))


def test_training_with_kept_statistics_is_as_if_batch_norms_stood_alone():
    made, image = network(dropout=0.0), torch.rand(2, 1, 24, 32)
    norms = [module for module in made.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    ran, found = [], []
    for norm in norms:
        norm.register_forward_hook(lambda *_: ran.append(training))
    for training in (False, True):
        made.train(training)
        for norm in norms:
            norm.eval()
        made.zero_grad()
        logits = made(image)
        logits.square().mean().backward()
        found.append([logits.detach(), *(weight.grad for weight in made.parameters())])
    assert ran == [False] * len(norms)  # none of them runs by itself in training
    assert len(found[0]) == 1 + len(list(made.parameters()))
    for alone, joined in zip(*found, strict=True):
        torch.testing.assert_close(joined, alone, rtol=1e-4, atol=1e-6)


def test_the_posters_network_has_31_million_weights():
    config = UNetConfig(classes=3, widths=(64, 128, 256, 512), bottleneck=1024)
    with torch.device("meta"):
        assert parameters(UNet(config)) == 31_036_611
