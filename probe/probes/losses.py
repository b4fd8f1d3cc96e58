"""Losses of margins as the solver takes them: softmax, binary logistic and squared hinge."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Loss:
    """A convex loss of margins, `(q, k, n)`."""

    value: Callable[[Tensor], tuple[Tensor, Tensor]]
    """The sum over rows, `(q,)` float64, and its derivative by the margins, `(q, k, n)`."""
    bend: Callable[[Tensor, Tensor], Tensor]
    """The sum's second derivative along a direction of margins, `(q,)` float64, from the derivative."""
    curvature: float
    """Second derivative at zero margins: a in solver.py."""


def softmax_loss(y: Tensor, classes: int) -> Loss:
    """Multinomial logistic loss of labels `(n,)`; margins are `(q, K, n)`."""
    place = y[None, None]

    def value(m: Tensor) -> tuple[Tensor, Tensor]:
        at = place.expand(len(m), 1, -1)
        log_p = m.log_softmax(1)
        loss = -summed(log_p.gather(1, at))
        p = log_p.exp_()
        return loss, p.scatter_add_(1, at, p.new_full((), -1).expand(at.shape))

    def bend(residual: Tensor, d: Tensor) -> Tensor:
        at = place.expand(len(d), 1, -1)
        pd = residual.scatter_add(1, at, residual.new_ones(()).expand(at.shape)) * d
        return summed(pd * d) - summed(pd.sum(1, keepdim=True) ** 2)

    return Loss(value, bend, 1 / classes)


def logistic_loss(sign: Tensor) -> Loss:
    """Binary logistic loss of signs `(n,)`, -1 or 1; margins are `(q, 1, n)`."""

    def value(m: Tensor) -> tuple[Tensor, Tensor]:
        wrong = -sign * m
        return summed(torch.nn.functional.softplus(wrong)), -sign * wrong.sigmoid()

    def bend(residual: Tensor, d: Tensor) -> Tensor:
        p = residual.abs()
        return summed(p * (1 - p) * d * d)

    return Loss(value, bend, 0.25)


def squared_hinge_loss(signs: Tensor) -> Loss:
    """Squared hinge loss of signs `(q, n)`, -1 or 1; margins are `(q, 1, n)`."""
    t = signs[:, None]

    def value(m: Tensor) -> tuple[Tensor, Tensor]:
        short = (1 - t * m).clamp_min_(0)
        return summed(short * short), -2 * t * short

    return Loss(value, lambda residual, d: summed(2 * d * d * (residual != 0)), 2.0)


def summed(a: Tensor) -> Tensor:
    """Sum over all axes but the problems', in float64: `(q, k, n)` to `(q,)`."""
    return a.sum((1, 2), dtype=torch.float64)
