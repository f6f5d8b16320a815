"""A number with its unit, its interval, and where it comes from."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class Measurement(BaseModel):
    """A number with a unit, a 95 % interval, what that interval contains, the method and its source.

    A number that a volume does not have (the tortuosity of a phase that does not percolate, an interface of a phase
    that is absent) has no value, and says why: it is never NaN, and never a silent 0.

    Examples
    --------
    >>> one = Measurement(name="phase fraction pore", value=0.3, unit="1", method="share of voxels", source="DOI ...")
    >>> one.interval is None
    True
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str
    value: float | None
    unit: str = Field(description="1, um, 1/um, um/um3; voxel in um's place where no voxel size is known")
    interval: tuple[float, float] | None = None
    interval_contains: str | None = None
    method: str
    source: str = Field(description="where the method is described, with its DOI where it has one")
    settings: dict[str, Any] = {}
    note: str | None = Field(default=None, description="why there is no value or no interval")
