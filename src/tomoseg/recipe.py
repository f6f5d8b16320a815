"""Recipes: the network's size and all that steers its training, with the two that have a name."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tomoseg.errors import SettingError
from tomoseg.patches import PatchSettings
from tomoseg.unet_config import UNetConfig


class Recipe(BaseModel):
    """How a network is built and trained; the defaults are the recipe `fast`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    widths: tuple[int, ...] = Field(default=(16, 32, 64), description="channels of each step, full resolution first")
    bottleneck: int = Field(default=128, description="channels at the coarsest resolution")
    enlarge: Literal["transposed", "nearest"] = Field(
        default="nearest",
        description="transposed convolution, or a 1x1 convolution whose result is repeated for each fine pixel",
    )
    first: int = Field(default=1, ge=1, le=2, description="convolutions before the first pooling")
    stem: int = Field(
        default=1,
        ge=1,
        le=4,
        description="edge of the squares of pixels that become channels at the start, and pixels again at the end",
    )
    dropout: float = Field(
        default=0.5, ge=0, lt=1, description="share of the bottleneck's channels left out at a training step"
    )
    context: int | None = Field(default=None, description="context slices; None: 2 where slices are neighbours, else 0")
    patches: PatchSettings = PatchSettings()
    optimiser: Literal["muon", "adamw", "adam"] = Field(
        default="muon", description="muon: for the convolutions' kernels, with AdamW for the rest"
    )
    learning_rate: float = Field(default=2e-3, gt=0, description="largest learning rate of AdamW and Adam")
    kernel_rate: float = Field(default=0.03, gt=0, description="largest learning rate of Muon")
    weight_decay: float = Field(default=1e-2, ge=0)
    warm_up: float = Field(default=0.05, ge=0, lt=1, description="share of the budget with a rising learning rate")
    schedule: Literal["cosine", "constant"] = Field(default="cosine", description="after the warm-up; cosine ends at 0")
    settle: float = Field(
        default=0.4, gt=0, le=1, description="share of the budget after which batch norms keep their running statistics"
    )
    loss_power: float = Field(
        default=0.5, gt=0, le=1, description="exponent of each patch's loss; below 1, noisy patches drown no clean ones"
    )
    average: float = Field(
        default=0.99, ge=0, lt=1, description="decay a step of the averaged weights; 0: not averaged"
    )

    def network(self, *, classes: int, context: int) -> UNetConfig:
        """Return the config of its network."""
        shape = self.model_dump(include={"widths", "bottleneck", "enlarge", "first", "stem", "dropout"})
        return UNetConfig(classes=classes, context=context, **shape)


FAST = Recipe()

POSTER = Recipe(
    widths=(64, 128, 256, 512),
    bottleneck=1024,
    enlarge="transposed",
    first=2,
    dropout=0.0,
    context=0,
    patches=PatchSettings(size=128, batch=8, draw="small", turn=False, noise_std=(0.0, 0.0)),
    optimiser="adam",
    learning_rate=1e-3,
    weight_decay=0.0,
    warm_up=0.0,
    schedule="constant",
    settle=1.0,
    loss_power=1.0,
    average=0.0,
)

RECIPES = {"fast": FAST, "poster": POSTER}


def load_recipe(name: str) -> Recipe:
    """Return the recipe of that name, or the one in a TOML file: what it leaves out is as in `fast`.

    Raises
    ------
    SettingError
        If there is no such recipe or file, or a setting in it is unknown or out of range.

    Examples
    --------
    >>> load_recipe("poster").bottleneck
    1024
    """
    if name in RECIPES:
        return RECIPES[name]
    path = Path(name)
    if path.suffix != ".toml":
        raise SettingError(f"--recipe {name!r} is neither {' nor '.join(RECIPES)} nor a .toml file")
    try:
        return Recipe.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise SettingError(f"{path}: cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingError(f"{path}: is no TOML: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        raise SettingError(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error
