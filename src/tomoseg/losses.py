"""Losses that skip the pixels that nobody labelled."""

from __future__ import annotations

from jaxtyping import Float, Int64, UInt8
from torch import Tensor
from torch.nn import functional

from tomoseg.labels import UNLABELLED

_TINY = 1e-6


def cross_entropy(
    logits: Float[Tensor, "batch class y x"], label: UInt8[Tensor, "batch y x"], *, power: float = 1.0
) -> Float[Tensor, ""]:
    """Return the cross entropy over the labelled pixels; 0 where there are none.

    Parameters
    ----------
    logits
        Of the network (batch, class, y, x).
    label
        Class indices (batch, y, x), `UNLABELLED` where nothing is known.
    power
        Exponent of each patch's mean cross entropy, in nats, before the mean over patches, which is weighted by their
        labelled pixels. 1 is the plain mean over pixels. Below 1 a patch counts by its relative gain: with patches of
        little and of much noise, whose losses differ tenfold, 0.25 keeps the noisy ones from drowning the clean ones.

    Examples
    --------
    >>> import torch
    >>> logits = torch.zeros(1, 4, 1, 2)
    >>> round(float(cross_entropy(logits, torch.tensor([[[2, 255]]], dtype=torch.uint8))), 4)
    1.3863
    """
    return over_patches(*of_patches(logits, label), power=power)


def of_patches(
    logits: Float[Tensor, "batch class y x"], label: UInt8[Tensor, "batch y x"]
) -> tuple[Float[Tensor, " batch"], Int64[Tensor, " batch"]]:
    """Return each patch's mean cross entropy over its labelled pixels, 0 where there are none, and their number."""
    each = functional.cross_entropy(logits.float(), label.long(), ignore_index=UNLABELLED, reduction="none")
    pixels = (label != UNLABELLED).sum(dim=(1, 2))
    return each.sum(dim=(1, 2)) / pixels.clamp(min=1), pixels


def over_patches(
    losses: Float[Tensor, " batch"], pixels: Int64[Tensor, " batch"], *, power: float = 1.0
) -> Float[Tensor, ""]:
    """Return the mean of the patches' losses to a power, weighted by their labelled pixels, as `cross_entropy` does."""
    if power != 1.0:
        losses = (losses + _TINY) ** power - _TINY**power  # no infinite slope at 0
    return (losses * pixels).sum() / pixels.sum().clamp(min=1)
