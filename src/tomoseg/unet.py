"""The U-Net and its config.

O. Ronneberger, P. Fischer, T. Brox, U-Net: convolutional networks for biomedical image segmentation, MICCAI 2015,
DOI 10.1007/978-3-319-24574-4_28; with batch normalisation and convolutions that keep the size. If asked, squares of
pixels become channels at the start, and pixels again at the end: W. Shi et al., Real-time single image and video
super-resolution using an efficient sub-pixel convolutional neural network, CVPR 2016, DOI 10.1109/CVPR.2016.207.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn


class UNetConfig(BaseModel):
    """Shape of a U-Net.

    Examples
    --------
    >>> config = UNetConfig(classes=3, context=2)
    >>> config.channels, config.grid, config.halo
    (5, 8, 56)
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    classes: int = Field(ge=2, le=32, description="number of classes")
    context: int = Field(default=0, ge=0, le=8, description="slices on either side that the network sees")
    widths: tuple[int, ...] = Field(
        default=(16, 32, 64),
        min_length=1,
        max_length=6,
        description="channels of each step, full resolution first",
    )
    bottleneck: int = Field(default=128, ge=1, le=4096, description="channels at the coarsest resolution")
    stem: int = Field(
        default=1,
        ge=1,
        le=4,
        description="edge of the squares of pixels that become channels at the start, and pixels again at the end",
    )
    dropout: float = Field(
        default=0.0, ge=0, lt=1, description="share of the bottleneck's channels left out at a training step"
    )

    @property
    def channels(self) -> int:
        """Input channels: the slice and its context, rising in z."""
        return 2 * self.context + 1

    @property
    def grid(self) -> int:
        """Edge of the pooling cells in pixels; inputs are whole cells."""
        return self.stem << len(self.widths)

    @property
    def reach(self) -> int:
        """Pixels beyond which no output pixel sees, along y and x, wherever it lies in its pooling cell."""
        return max(
            max(pixel - low, high - pixel) for pixel, (low, high) in enumerate(map(self._seen, range(self.grid)))
        )

    def _seen(self, pixel: int) -> tuple[int, int]:
        # Backwards: two 3x3 convolutions see two pixels more on each side, enlarging one coarse pixel, pooling two.
        low = high = pixel // self.stem
        for _ in self.widths:
            low, high = (low - 2) // 2, (high + 2) // 2
        low, high = low - 2, high + 2
        for _ in self.widths:
            low, high = 2 * low - 2, 2 * high + 1 + 2
        return self.stem * low, self.stem * (high + 1) - 1

    @property
    def halo(self) -> int:
        """Pixels around a tile that the network is given: `reach`, rounded up to whole pooling cells."""
        return -(-self.reach // self.grid) * self.grid


class DoubleConvolution(nn.Sequential):
    """Twice: 3x3 convolution, batch norm, ReLU."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__(
            # no bias: the batch norm that follows has one
            nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels_out),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels_out),
            nn.ReLU(inplace=True),
        )


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
        self.gather = nn.PixelUnshuffle(config.stem)
        self.first = DoubleConvolution(config.channels * cell, widths[0])
        self.down = nn.ModuleList(DoubleConvolution(fine, coarse) for fine, coarse in pairwise(widths))
        self.pool = nn.MaxPool2d(2)
        self.drop = nn.Dropout2d(config.dropout)
        pairs = [*pairwise(widths)][::-1]
        self.enlarge = nn.ModuleList(nn.ConvTranspose2d(coarse, fine, 2, stride=2) for fine, coarse in pairs)
        self.up = nn.ModuleList(DoubleConvolution(2 * fine, fine) for fine, _ in pairs)
        self.classify = nn.Conv2d(widths[0], config.classes * cell, 1)
        self.spread = nn.PixelShuffle(config.stem)

    def forward(self, image: Float[Tensor, "batch channel y x"]) -> Float[Tensor, "batch class y x"]:
        """Return logits; y and x must be multiples of the config's `grid`."""
        steps = [self.first(self.gather(image))]  # (batch, widths[0], y, x), or y and x over `stem`
        for convolve in self.down:
            steps.append(convolve(self.pool(steps[-1])))  # half of y and x each time
        features = self.drop(steps.pop())
        for enlarge, convolve in zip(self.enlarge, self.up, strict=True):
            features = convolve(torch.cat([steps.pop(), enlarge(features)], dim=1))  # twice y and x each time
        logits: Tensor = self.spread(self.classify(features))
        return logits


def parameters(network: nn.Module) -> int:
    """Return the number of weights.

    Examples
    --------
    >>> parameters(UNet(UNetConfig(classes=3, widths=(64, 128, 256, 512), bottleneck=1024)))
    31036611
    """
    return sum(weight.numel() for weight in network.parameters())
