"""How much a number differs from one sample to another, with the interval of the difference.

Two samples are independent pieces: the half widths of their intervals add in squares. An interval need not be
symmetric, so each end of the difference takes the half widths of those two sides that push it there (square-and-add:
R. G. Newcombe, Interval estimation for the difference between independent proportions, Stat. Med. 17 (1998) 873, DOI
10.1002/(SICI)1097-0258(19980430)17:8<873::AID-SIM779>3.0.CO;2-I).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from pydantic import BaseModel, ConfigDict, Field

from tomoseg.quantify.measurement import Measurement

Interval = tuple[float, float]

SQUARE_AND_ADD = "Newcombe 1998, DOI 10.1002/(SICI)1097-0258(19980430)17:8<873::AID-SIM779>3.0.CO;2-I"

_ADDED = f"of both samples, which are independent: half widths add in squares ({SQUARE_AND_ADD})"


class Difference(BaseModel):
    """How much a number of a sample is larger than that of a reference; no value where one of them has none."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str = Field(description="of the number")
    sample: str
    reference: str = Field(description="the sample whose value is taken off")
    value: float | None
    unit: str
    interval: Interval | None = None
    interval_contains: str | None = None

    @property
    def excludes_zero(self) -> bool:
        """Whether there is an interval and 0 lies outside it."""
        return self.interval is not None and not self.interval[0] <= 0 <= self.interval[1]


def square_and_add(value: float, interval: Interval, *, reference: float, of_reference: Interval) -> Interval:
    """Return the interval of `value - reference`, two independent numbers with their intervals.

    Its lower end lies sqrt((value - low)^2 + (high_reference - reference)^2) below the difference, its upper end
    sqrt((high - value)^2 + (reference - low_reference)^2) above (method 10 of Newcombe 1998).

    Examples
    --------
    >>> square_and_add(10.0, (7.0, 16.0), reference=5.0, of_reference=(-3.0, 9.0))
    (0.0, 15.0)
    """
    difference = value - reference
    below = math.hypot(value - interval[0], of_reference[1] - reference)
    above = math.hypot(interval[1] - value, reference - of_reference[0])
    return difference - below, difference + above


def difference(one: Measurement, reference: Measurement, *, sample: str, of: str) -> Difference:
    """Return how much a number of one sample is larger than the same one of the reference.

    Where a correction stands beside the value, intervals lie around the corrected values, and so does the
    difference's.

    Parameters
    ----------
    one, reference
        The number in both samples, in the same unit.
    sample, of
        What the sample and the reference are called.

    Raises
    ------
    ValueError
        If they are not the same quantity in the same unit.

    Examples
    --------
    >>> low, high = (Measurement(name="a", value=value, unit="um", method="", source="") for value in (1.0, 3.5))
    >>> difference(high, low, sample="B", of="A").value
    2.5
    """
    if (one.name, one.unit) != (reference.name, reference.unit):
        raise ValueError(
            f"{one.name} in {one.unit} and {reference.name} in {reference.unit} are not the same quantity in one unit"
        )
    value = None if one.value is None or reference.value is None else one.value - reference.value
    ends = _ends(one, reference)
    return Difference(
        name=one.name,
        sample=sample,
        reference=of,
        value=value,
        unit=one.unit,
        interval=ends,
        interval_contains=f"what the intervals contain {_ADDED}" if ends else None,
    )


def _ends(one: Measurement, reference: Measurement) -> Interval | None:
    if one.interval is None or reference.interval is None:
        return None
    centre, other = _centre(one), _centre(reference)
    if centre is None or other is None:
        return None
    return square_and_add(centre, one.interval, reference=other, of_reference=reference.interval)


def _centre(one: Measurement) -> float | None:
    """Return what a number's interval lies around: its value, or the corrected one that stands beside it."""
    corrected: float | None = one.settings.get("corrected", one.value)
    return corrected


def differences(samples: Mapping[str, Sequence[Measurement]]) -> list[Difference]:
    """Return the differences of each further sample to the first, for each number that both have, in its order.

    Parameters
    ----------
    samples
        Name of a sample -> its numbers.

    Examples
    --------
    >>> fresh, aged = (Measurement(name="a", value=value, unit="1", method="", source="") for value in (1, 3))
    >>> [(one.sample, one.reference, one.value) for one in differences({"A": [fresh], "B": [aged]})]
    [('B', 'A', 2.0)]
    """
    (of, first), *others = samples.items()
    tables = {sample: {one.name: one for one in found} for sample, found in others}
    return [
        difference(table[reference.name], reference, sample=sample, of=of)
        for reference in first
        for sample, table in tables.items()
        if reference.name in table
    ]
