"""Numbers of a microstructure: each a pure function of a block's class indices, each a `Measurement` in the end."""

from tomoseg.quantify.measurement import Measurement

__all__ = ["Measurement"]
