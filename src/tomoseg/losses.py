"""Losses that skip the pixels that nobody labelled."""

from __future__ import annotations

from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional

from tomoseg.labels import UNLABELLED


def cross_entropy(logits: Float[Tensor, "batch class y x"], label: UInt8[Tensor, "batch y x"]) -> Float[Tensor, ""]:
    """Return the mean cross entropy, in nats, over the labelled pixels; 0 where there are none.

    Examples
    --------
    >>> import torch
    >>> logits = torch.zeros(1, 4, 1, 2)
    >>> round(float(cross_entropy(logits, torch.tensor([[[2, 255]]], dtype=torch.uint8))), 4)
    1.3863
    """
    total = functional.cross_entropy(logits.float(), label.long(), ignore_index=UNLABELLED, reduction="sum")
    return total / (label != UNLABELLED).sum().clamp(min=1)
