"""The optimiser of the recipe `fast`: Muon for the kernels of convolutions, AdamW for all other weights.

K. Jordan et al., Muon: an optimizer for hidden layers in neural networks (2024); analysed for scale in J. Liu et al.,
Muon is scalable for LLM training (2025), DOI 10.48550/arXiv.2502.16982. AdamW: I. Loshchilov, F. Hutter, Decoupled
weight decay regularization (2019), DOI 10.48550/arXiv.1711.05101.

torch's own Muon takes matrices only, and multiplies them in bf16, which is slow on processors without it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim.adamw import adamw

Kernel = Float[Tensor, "first *others"]

_MOMENTUM = 0.95
_BETAS = (0.9, 0.999)
_TINY = 1e-8
_NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
_ITERATIONS = 5


class Muon(torch.optim.Optimizer):
    """Moves each kernel along its momentum with all singular values made about equal.

    A kernel's gradient is dominated by a few directions. Evened out, the rare ones are learnt as fast as the common
    ones, in a fraction of the steps.

    Parameters
    ----------
    network
        Whose weights are trained: those with four axes by Muon, the last layer's excepted; the rest by AdamW.
    lr
        Learning rate of the AdamW part.
    kernel_lr
        Share of its typical size by which a kernel moves in a step.
    weight_decay
        Share of a weight, times its learning rate, that is taken off in a step.
    """

    def __init__(self, network: nn.Module, *, lr: float, kernel_lr: float, weight_decay: float) -> None:
        weights = list(network.parameters())
        # The last kernel makes the logits, whose size matters; no batch norm evens it out.
        *kernels, last = [weight for weight in weights if weight.ndim == 4]
        others = [weight for weight in weights if weight.ndim != 4] + [last]
        groups: list[dict[str, Any]] = [
            {"params": kernels, "lr": kernel_lr, "peak_lr": kernel_lr, "kernels": True},
            {"params": others, "lr": lr, "peak_lr": lr, "kernels": False, "fused": True},
        ]
        super().__init__(groups, {"weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Move all weights that have a gradient."""
        loss = None if closure is None else torch.enable_grad()(closure)()
        for group in self.param_groups:
            pairs = [(weight, weight.grad) for weight in group["params"] if weight.grad is not None]
            if not group["kernels"]:
                _move_by_adamw(pairs, [self.state[weight] for weight, _ in pairs], group)
                continue
            for weight, gradient in pairs:
                weight.mul_(1 - group["lr"] * group["weight_decay"])
                _move_kernel(weight, gradient, self.state[weight], group["lr"])
        return loss


def _move_kernel(weight: Kernel, gradient: Kernel, state: dict[str, Tensor], lr: float) -> None:
    momentum = state.setdefault("momentum", torch.zeros_like(weight))
    momentum.lerp_(gradient, 1 - _MOMENTUM)
    ahead = gradient.lerp(momentum, _MOMENTUM)  # Nesterov's
    even = orthogonalised(ahead.reshape(len(ahead), -1))
    weight.add_(even.reshape(weight.shape), alpha=-lr * max(1.0, even.shape[0] / even.shape[1]) ** 0.5)


def _move_by_adamw(pairs: list[tuple[Tensor, Tensor]], states: list[dict[str, Tensor]], group: dict[str, Any]) -> None:
    for (weight, _), state in zip(pairs, states, strict=True):
        if not state:
            state["step"] = torch.zeros((), device=weight.device)
            state |= {"mean": torch.zeros_like(weight), "square": torch.zeros_like(weight)}
    weights, gradients = ([pair[i] for pair in pairs] for i in (0, 1))
    means, squares, steps = ([state[name] for state in states] for name in ("mean", "square", "step"))
    adamw(
        weights, gradients, means, squares, [], steps, fused=True, amsgrad=False, maximize=False, beta1=_BETAS[0],
        beta2=_BETAS[1], lr=group["lr"], weight_decay=group["weight_decay"], eps=_TINY,
    )  # fmt: skip


def orthogonalised(matrix: Float[Tensor, "row column"]) -> Float[Tensor, "row column"]:
    """Return a matrix with the same singular vectors whose singular values are all about 1 (0.7 to 1.2).

    Five steps of a Newton-Schulz iteration whose polynomial lifts small values fast. Values below a hundredth of the
    matrix's norm end lower.

    Examples
    --------
    >>> matrix = torch.diag(torch.tensor([3.0, 1.0, 0.3]))
    >>> values = torch.linalg.svdvals(orthogonalised(matrix))
    >>> bool(values.min() > 0.6), bool(values.max() < 1.3)
    (True, True)
    """
    a, b, c = _NEWTON_SCHULZ
    tall = matrix.shape[0] > matrix.shape[1]
    found: Tensor = (matrix.T if tall else matrix).float()
    found = found / found.norm().clamp(min=_TINY)
    for _ in range(_ITERATIONS):
        gram = found @ found.T
        found = torch.addmm(found, torch.addmm(gram, gram, gram, beta=b, alpha=c), found, beta=a)
    return found.T if tall else found
