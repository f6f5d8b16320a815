"""The U-Net.

O. Ronneberger, P. Fischer, T. Brox, U-Net: convolutional networks for biomedical image segmentation, MICCAI 2015,
DOI 10.1007/978-3-319-24574-4_28; with batch normalisation and convolutions that keep the size. If asked, squares of
pixels become channels at the start, and pixels again at the end: W. Shi et al., Real-time single image and video
super-resolution using an efficient sub-pixel convolutional neural network, CVPR 2016, DOI 10.1109/CVPR.2016.207.
Pixels that are repeated in place of a transposed convolution: A. Odena et al., Deconvolution and checkerboard
artifacts, 2016, DOI 10.23915/distill.00003.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from tomoseg.unet_config import UNetConfig

_Y, _X = 2, 3
_OTHER_VIEWS = {2: ((_Y, _X),), 4: ((_Y, _X), (_Y,), (_X,))}
"""Axes that are reversed for an image's views but the first, which is as it is."""


class Convolutions(nn.Sequential):
    """Once or twice: 3x3 convolution, batch norm, ReLU.

    Where training keeps a batch norm's running statistics, its factor goes into the kernel: the same numbers, in a
    sixth less time a step on two cores.
    """

    def __init__(self, channels_in: int, channels_out: int, *, n: int = 2) -> None:
        layers: list[nn.Module] = []
        for given in (channels_in, channels_out)[:n]:
            # no bias: the batch norm that follows has one
            layers += [nn.Conv2d(given, channels_out, 3, padding=1, bias=False), nn.BatchNorm2d(channels_out)]
            layers.append(nn.ReLU(inplace=True))
        super().__init__(*layers)

    def forward(self, image: Float[Tensor, "batch channel y x"]) -> Float[Tensor, "batch feature y x"]:
        """Return the features, of the same y and x."""
        layers = list(self)
        for convolve, norm, relu in zip(layers[::3], layers[1::3], layers[2::3], strict=True):
            settled = self.training and not norm.training
            image = relu(_joined(image, convolve, norm) if settled else norm(convolve(image)))
        return image


def _joined(image: Tensor, convolve: Any, norm: Any) -> Tensor:
    """Convolve with a kernel and a bias that hold the batch norm's running statistics."""
    factor = norm.weight / (norm.running_var + norm.eps).sqrt()
    bias = norm.bias - norm.running_mean * factor
    kernel = convolve.weight * factor[:, None, None, None]
    return functional.conv2d(image, kernel, bias, padding=convolve.padding)


class UNet(nn.Module):
    """Contracting path, bottleneck, expanding path with skips: one map of logits a class.

    Examples
    --------
    >>> UNet(UNetConfig(classes=3, widths=(2, 4), bottleneck=8))(torch.zeros(1, 1, 8, 12)).shape
    torch.Size([1, 3, 8, 12])
    """

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        widths = (*config.widths, config.bottleneck)
        cell = config.stem**2
        self.gather = nn.PixelUnshuffle(config.stem) if config.stem > 1 else nn.Identity()
        self.first = Convolutions(config.channels * cell, widths[0], n=config.first)
        self.down = nn.ModuleList(Convolutions(fine, coarse) for fine, coarse in pairwise(widths))
        self.pool = nn.MaxPool2d(2)
        self.drop = nn.Dropout2d(config.dropout)
        pairs = [*pairwise(widths)][::-1]
        self.enlarge = nn.ModuleList(_enlarge(config, coarse, fine) for fine, coarse in pairs)
        self.up = nn.ModuleList(Convolutions(2 * fine, fine) for fine, _ in pairs)
        self.classify = nn.Conv2d(widths[0], config.classes * cell, 1)
        self.spread = nn.PixelShuffle(config.stem) if config.stem > 1 else nn.Identity()

    def forward(self, image: Float[Tensor, "batch channel y x"]) -> Float[Tensor, "batch class y x"]:
        """Return logits; y and x must be multiples of the config's `grid`.

        Out of training, the mean of the logits over the config's `mirrored` views.
        """
        if self.training or self.config.mirrored == 1:
            return self._logits(image)
        others = _OTHER_VIEWS[self.config.mirrored]
        views = self._logits(torch.cat([image, *(image.flip(axes) for axes in others)]))
        first, *found = views.chunk(self.config.mirrored)
        return torch.stack([first, *map(torch.flip, found, others)]).mean(dim=0)

    def _logits(self, image: Float[Tensor, "batch channel y x"]) -> Float[Tensor, "batch class y x"]:
        logits: Tensor = self.spread(self.classify(self.features(image)))
        return logits

    def features(self, image: Float[Tensor, "batch channel y x"]) -> Float[Tensor, "batch feature cell_y cell_x"]:
        """Return what the last layer makes logits of, `widths[0]` numbers for each pixel, or square of `stem`."""
        steps = [self.first(self.gather(image))]  # (batch, widths[0], y, x), or y and x over `stem`
        for convolve in self.down:
            steps.append(convolve(self.pool(steps[-1])))  # half of y and x each time
        features: Tensor = self.drop(steps.pop())
        for enlarge, convolve in zip(self.enlarge, self.up, strict=True):
            features = convolve(torch.cat([steps.pop(), enlarge(features)], dim=1))  # twice y and x each time
        return features


def _enlarge(config: UNetConfig, coarse: int, fine: int) -> nn.Module:
    """Return what doubles y and x. After the second no pattern of pooling cells is left where all pixels are alike."""
    if config.enlarge == "transposed":
        return nn.ConvTranspose2d(coarse, fine, 2, stride=2)
    return nn.Sequential(nn.Conv2d(coarse, fine, 1), nn.Upsample(scale_factor=2, mode="nearest"))


def parameters(network: nn.Module) -> int:
    """Return the number of weights.

    Examples
    --------
    >>> parameters(UNet(UNetConfig(classes=3, widths=(64, 128, 256, 512), bottleneck=1024)))
    31036611
    """
    return sum(weight.numel() for weight in network.parameters())
