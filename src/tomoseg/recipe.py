"""Recipes: the network's size and all that steers its training, with those that have a name."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError, model_validator

from tomoseg.errors import SettingError
from tomoseg.patches import PatchSettings
from tomoseg.unet_config import Bottleneck, Dropout, Enlarge, First, NetworkShape, UNetConfig, Widths


class Recipe(NetworkShape):
    """How a network is built and trained; the defaults are the recipe `fast`."""

    widths: Widths = (16, 32)
    bottleneck: Bottleneck = 64
    enlarge: Enlarge = "nearest"
    first: First = 1
    dropout: Dropout = 0.1
    context: int | None = Field(default=None, description="context slices; None: 2 where slices are neighbours, else 0")
    patches: PatchSettings = PatchSettings()
    optimiser: Literal["muon", "adamw", "adam"] = Field(
        default="muon", description="muon: for the convolutions' kernels, with AdamW for the rest"
    )
    learning_rate: float = Field(default=5e-3, gt=0, description="largest learning rate of AdamW and Adam")
    kernel_rate: float = Field(default=0.03, gt=0, description="largest learning rate of Muon")
    weight_decay: float = Field(default=1e-2, ge=0)
    warm_up: float = Field(default=0.05, ge=0, lt=1, description="share of the budget with a rising learning rate")
    schedule: Literal["cosine", "constant"] = Field(default="cosine", description="after the warm-up; cosine ends at 0")
    settle: float = Field(
        default=0.25, gt=0, le=1, description="share of the budget after which batch norms keep running statistics"
    )
    loss_power: float = Field(
        default=0.25, gt=0, le=1, description="exponent of a patch's loss; below 1, noisy patches drown no clean ones"
    )
    average: float = Field(
        default=0.99, ge=0, lt=1, description="decay a step of the averaged weights; 0: not averaged"
    )
    pseudo_labels: bool = Field(
        default=True, description="where few pixels are labelled, learn from guesses for the others, too"
    )
    calibrate: bool = Field(
        default=True, description="divide the logits by a temperature fitted on validation data, at all noise levels"
    )

    @model_validator(mode="after")
    def _whole_cells(self) -> Recipe:
        if self.patches.size % self.grid:
            near = max(1, round(self.patches.size / self.grid)) * self.grid
            raise ValueError(
                f"patches of {self.patches.size} pixels do not hold whole pooling cells of {self.grid}; take {near}"
            )
        return self

    def network(self, *, classes: int, context: int) -> UNetConfig:
        """Return the config of its network."""
        return UNetConfig(classes=classes, context=context, **self.model_dump(include=set(NetworkShape.model_fields)))


FAST = Recipe()

BRIEF = Recipe(widths=(12, 24), bottleneck=48)
"""For a minute: of a smaller network more steps are made, and while these are few each counts more than its size."""

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
    pseudo_labels=False,
    calibrate=False,
)

THOROUGH = Recipe(mirrored=4)
"""For who has the time: fewer errors, where prediction may take several times as long."""

ROBUST = Recipe(patches=PatchSettings(artefact_share=0.25, resized_share=0.3))
"""For scans with rings, streaks, blur, drift, beam hardening or correlated noise that the labelled ones don't have."""

RECIPES = {"fast": FAST, "brief": BRIEF, "thorough": THOROUGH, "robust": ROBUST, "poster": POSTER}


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
        raise SettingError(f"--recipe {name!r} is none of {', '.join(RECIPES)}, and no .toml file")
    try:
        return Recipe.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise SettingError(f"{path}: cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingError(f"{path}: is no TOML: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = [".".join(map(str, first["loc"]))] if first["loc"] else []
        raise SettingError(": ".join([str(path), *place, first["msg"].removeprefix("Value error, ")])) from error
