"""The convex relaxation of the Potts model with known grey levels, minimised by a primal-dual method.

`potts.py --images DIR --labels DIR --test DIR [--three-d] [--noise-std 0 5000] [--out results]`: classes have the mean
and std of their grey values on the labelled slices; the weight of boundaries is the one of `WEIGHTS` with the best mean
IoU on the middle labelled slice with the test's noise. Seconds are of one core.

Minimised over u(x) on the simplex, one share a class: sum over classes c and pixels of u_c f_c + weight / 2 |grad u_c|,
with f_c the negative log likelihood of the grey value: a normal density whose variance is the class's plus the noise's.
C. Zach et al., VMV 2008 (the relaxation); A. Chambolle and T. Pock, 2011, DOI 10.1007/s10851-010-0251-1 (the method);
A. Chambolle, D. Cremers and T. Pock, 2012, DOI 10.1137/110856733 (a tighter relaxation, and how near both are).
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from tomoseg.labels import UNLABELLED
from tomoseg.metrics import confusion, mean_iou
from work import Work, open_work, parser, peak_mb, record

WEIGHTS = (0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 9.0, 14.0, 20.0, 30.0, 45.0)
"""Of an interface, in nats a pixel of its length (in 3D: of its area)."""
ITERATIONS = 300
REACH = 2
"""Slices on either side of a slice, or of a run of slices, that are segmented with it in 3D."""
_LEAST_STD = 0.5


@dataclass(frozen=True)
class Levels:
    """Mean and std of each class's grey values."""

    means: np.ndarray
    stds: np.ndarray

    def cost(self, grey: np.ndarray, noise: float) -> np.ndarray:
        """Return the negative log likelihood (class, *grey.shape) of grey values with added noise of that std."""
        variances = self.stds**2 + noise**2
        return np.stack(
            [(grey - m) ** 2 / np.float32(2 * v) + np.float32(np.log(v) / 2)
             for m, v in zip(np.float32(self.means), variances, strict=True)]
        )  # fmt: skip


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--three-d", action="store_true", help="segment runs of consecutive slices as volumes")
    given = options.parse_args()
    work = open_work(given)
    levels = measure(work)
    for noise_std in given.noise_std:
        run(work, levels, noise_std, given)


def run(work: Work, levels: Levels, noise_std: float, given: argparse.Namespace) -> None:
    """Tune the weight, segment the test slices, record the scores."""
    reach, began = REACH if given.three_d else 0, time.process_time()
    tuned = tune(work, levels, noise_std, reach)
    weight, middle = max(tuned, key=lambda one: tuned[one]), time.process_time()
    found: dict[int, np.ndarray] = {}
    for zs in runs(work, joined=given.three_d):
        found |= segmented(work, levels, zs, noise_std=noise_std, weight=weight, reach=reach)
    record(given.out, row="potts 3D" if given.three_d else "potts 2D", test=str(given.test), labelled=len(work.zs),
           tested=len(found), noise_std=noise_std, **work.scores(found), weight=weight, tuned=tuned,
           tuning_s=middle - began, seconds=time.process_time() - middle, peak_MB=peak_mb())  # fmt: skip


def measure(work: Work) -> Levels:
    """Return the grey levels of the classes on the labelled slices."""
    n = len(work.names)
    sums = np.zeros((3, n))
    for z in work.zs:
        label, grey = work.scan.read_label(z), work.scan.read_grey(z).astype(np.float64)
        known = label != UNLABELLED
        for power in range(3):
            sums[power] += np.bincount(label[known], grey[known] ** power, minlength=n)
    means = sums[1] / sums[0]
    return Levels(means, np.maximum(np.sqrt(np.maximum(sums[2] / sums[0] - means**2, 0)), _LEAST_STD))


def tune(work: Work, levels: Levels, noise_std: float, reach: int) -> dict[float, float]:
    """Return the mean IoU of each weight on the middle labelled slice."""
    z = work.zs[len(work.zs) // 2]
    label, scores = work.scan.read_label(z), {}
    for weight in WEIGHTS:
        index = segmented(work, levels, [z], noise_std=noise_std, weight=weight, reach=reach)[z]
        scores[weight] = mean_iou(confusion(label, index, len(work.names)))
    return scores


def runs(work: Work, *, joined: bool) -> list[list[int]]:
    """Return the test slices one by one, or `joined` in runs of consecutive ones."""
    if not joined:
        return [[z] for z in work.tests]
    numbered = enumerate(work.tests)
    return [[z for _, z in run] for _, run in groupby(numbered, key=lambda one: work.scan.numbers[one[1]] - one[0])]


def segmented(
    work: Work, levels: Levels, zs: list[int], *, noise_std: float, weight: float, reach: int
) -> dict[int, np.ndarray]:
    """Return the class indices of consecutive slices, segmented together with `reach` more on either side."""
    at = {number: z for z, number in enumerate(work.scan.numbers)}
    first, last = work.scan.numbers[zs[0]], work.scan.numbers[zs[-1]]
    stack = [at[number] for number in range(first - reach, last + reach + 1) if number in at]
    grey = np.stack([work.read(z, noise_std=noise_std) for z in stack])
    cost = levels.cost(grey if len(stack) > 1 else grey[0], work.noise_grey(noise_std))
    index = minimise(cost, weight).reshape(grey.shape)
    return {z: index[stack.index(z)] for z in zs}


def minimise(cost: np.ndarray, weight: float, iterations: int = ITERATIONS) -> np.ndarray:
    """Return the class indices of the minimiser of the relaxed Potts model.

    Parameters
    ----------
    cost
        Of each class at each pixel, float32 (class, *shape), in nats.
    weight
        Of an interface.

    Examples
    --------
    >>> cost = np.ones((2, 5, 5), np.float32)
    >>> cost[0] = 0; cost[0, 2, 2] = 3  # one pixel that would rather be of class 1
    >>> int(minimise(cost, 0.1).sum()), int(minimise(cost, 1.0).sum())
    (1, 0)
    """
    axes, half = cost.ndim - 1, weight / 2
    # Steps whose product is 1 / |grad|^2; their ratio suits duals as long as `half` and primals up to 1.
    rise, fall = np.float32(half / np.sqrt(4 * axes)), np.float32(1 / half / np.sqrt(4 * axes))
    u = (cost == cost.min(axis=0)).astype(np.float32)
    u /= u.sum(axis=0)
    ahead, dual, buffer = u.copy(), np.zeros((len(cost), axes, *cost.shape[1:]), np.float32), np.empty_like(u)
    for _ in range(iterations):
        for c in range(len(cost)):
            _ascend(dual[c], ahead[c], rise, np.float32(half), buffer[c])
        np.copyto(ahead, u)
        for c in range(len(cost)):
            _divergence(dual[c], buffer[c])
        buffer -= cost
        buffer *= fall
        u += buffer
        _project_to_simplex(u, buffer)
        np.subtract(u, ahead, out=ahead)
        ahead += u
    return u.argmax(axis=0).astype(np.uint8)


def _ascend(dual: np.ndarray, u: np.ndarray, step: np.float32, longest: np.float32, length: np.ndarray) -> None:
    """Add `step` times the forward differences of `u` to its dual (axis, *shape), and shorten what got too long."""
    for axis, part in enumerate(dual):
        inner = np.moveaxis(part, axis, 0)[:-1]  # the last one points out of the picture and stays 0
        inner += step * np.diff(np.moveaxis(u, axis, 0), axis=0)
    np.einsum("a...,a...->...", dual, dual, out=length)
    np.sqrt(length, out=length)
    length /= longest
    np.maximum(length, 1, out=length)
    dual /= length


def _divergence(dual: np.ndarray, out: np.ndarray) -> None:
    """Write minus the adjoint of the forward differences of a dual (axis, *shape) to `out`."""
    np.sum(dual, axis=0, out=out)
    for axis, part in enumerate(dual):
        np.moveaxis(out, axis, 0)[1:] -= np.moveaxis(part, axis, 0)[:-1]


def _project_to_simplex(u: np.ndarray, buffer: np.ndarray) -> None:
    """Replace `u` (class, *shape) by the nearest point of the simplex: what is above a threshold, less that.

    The threshold is the largest over k of (sum of the k largest - 1) / k: J. Duchi et al., ICML 2008,
    DOI 10.1145/1390156.1390191.
    """
    np.copyto(buffer, u)
    for end in range(len(u) - 1, 0, -1):  # a sorting network, largest first
        for c in range(end):
            least = np.minimum(buffer[c], buffer[c + 1])
            np.maximum(buffer[c], buffer[c + 1], out=buffer[c])
            buffer[c + 1] = least
    total = buffer[0] - 1
    threshold = total.copy()
    for c in range(1, len(u)):
        total += buffer[c]
        np.maximum(threshold, total / np.float32(c + 1), out=threshold)
    u -= threshold
    np.maximum(u, 0, out=u)


if __name__ == "__main__":
    main()
