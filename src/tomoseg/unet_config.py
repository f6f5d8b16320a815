"""The shape of a U-Net: what of it must be known without running it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Enlarge = Annotated[
    Literal["transposed", "nearest"],
    Field(description="transposed convolution, or a 1x1 convolution whose result is repeated for each fine pixel"),
]
First = Annotated[int, Field(ge=1, le=2, description="convolutions before the first pooling")]
Dropout = Annotated[
    float, Field(ge=0, lt=1, description="share of the bottleneck's channels left out at a training step")
]
Widths = Annotated[
    tuple[Annotated[int, Field(ge=1, le=4096)], ...],
    Field(min_length=1, max_length=6, description="channels of each step, full resolution first"),
]
Bottleneck = Annotated[int, Field(ge=1, le=4096, description="channels at the coarsest resolution")]


class NetworkShape(BaseModel):
    """What of a network a recipe chooses; the defaults are those of model files that do not say."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    widths: Widths = (16, 32, 64)
    bottleneck: Bottleneck = 128
    stem: int = Field(
        default=1,
        ge=1,
        le=4,
        description="edge of the squares of pixels that become channels at the start, and pixels again at the end",
    )
    enlarge: Enlarge = "transposed"
    first: First = 2
    dropout: Dropout = 0.0
    mirrored: Literal[1, 2, 4] = Field(
        default=1,
        description="views that prediction averages over: as it is; turned by 180 degrees, too; mirrored, too",
    )

    @property
    def grid(self) -> int:
        """Edge of the pooling cells in pixels; inputs are whole cells."""
        return self.stem << len(self.widths)


class UNetConfig(NetworkShape):
    """Shape of a U-Net, with its input and its classes.

    Examples
    --------
    >>> config = UNetConfig(classes=3, context=2)
    >>> config.channels, config.grid, config.halo
    (5, 8, 56)
    """

    classes: int = Field(ge=2, le=32, description="number of classes")
    context: int = Field(default=0, ge=0, le=8, description="slices on either side that the network sees")

    @property
    def channels(self) -> int:
        """Input channels: the slice and its context, rising in z."""
        return 2 * self.context + 1

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
        for step in reversed(range(len(self.widths))):
            seen = 2 if step else self.first
            low, high = 2 * low - seen, 2 * high + 1 + seen
        return self.stem * low, self.stem * (high + 1) - 1

    @property
    def halo(self) -> int:
        """Pixels around a tile that the network is given: `reach`, rounded up to whole pooling cells."""
        return -(-self.reach // self.grid) * self.grid
