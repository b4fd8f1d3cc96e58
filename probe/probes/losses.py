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
    bent: Callable[[Tensor, Tensor], Tensor]
    """The second derivative, at the margins of a derivative, times a direction of margins: `(q, k, n)`."""
    diagonal: Callable[[Tensor], Tensor]
    """The second derivative by each margin alone, from the derivative, `(q, k, n)`."""
    kinked: bool = False
    """The second derivative jumps: from far away Newton's steps may go in circles where C is large."""


def softmax_loss(y: Tensor) -> Loss:
    """Multinomial logistic loss of labels `(n,)`; margins are `(q, K, n)`."""
    place = y[None, None]

    def value(m: Tensor) -> tuple[Tensor, Tensor]:
        at = place.expand(len(m), 1, -1)
        log_p = m.log_softmax(1)
        loss = -summed(log_p.gather(1, at))
        p = log_p.exp_()
        return loss, p.scatter_add_(1, at, p.new_full((), -1).expand(at.shape))

    def shares(residual: Tensor) -> Tensor:
        at = place.expand(len(residual), 1, -1)
        return residual.scatter_add(1, at, residual.new_ones(()).expand(at.shape))

    def bent(residual: Tensor, d: Tensor) -> Tensor:
        p = shares(residual)
        of_d = p * d
        return of_d.addcmul_(p, of_d.sum(1, keepdim=True), value=-1)

    def diagonal(residual: Tensor) -> Tensor:
        p = shares(residual)
        return p * (1 - p)

    return Loss(value, bent, diagonal)


def logistic_loss(sign: Tensor, known: Tensor | None = None) -> Loss:
    """Binary logistic loss of signs -1 or 1, `(n,)` or `(q, 1, n)`; margins are `(q, 1, n)`.

    Where not all are `known`, 1 or 0 in the same shape, the signs of the others are 0 and cost nothing.
    """

    def value(m: Tensor) -> tuple[Tensor, Tensor]:
        wrong = -sign * m
        cost = torch.nn.functional.softplus(wrong)
        return summed(cost if known is None else cost * known), -sign * wrong.sigmoid()

    def diagonal(residual: Tensor) -> Tensor:
        p = residual.abs()
        return p * (1 - p)

    return Loss(value, lambda residual, d: diagonal(residual) * d, diagonal)


def squared_hinge_loss(signs: Tensor, known: Tensor | None = None) -> Loss:
    """Squared hinge loss of signs `(q, n)`, -1 or 1; margins are `(q, 1, n)`. `known` is as above."""
    t = signs[:, None]

    def value(m: Tensor) -> tuple[Tensor, Tensor]:
        short = (1 - t * m).clamp_min_(0)
        if known is not None:
            short = short * known[:, None]
        return summed(short * short), -2 * t * short

    def diagonal(residual: Tensor) -> Tensor:
        return 2 * (residual != 0).to(residual.dtype)

    return Loss(value, lambda residual, d: diagonal(residual) * d, diagonal, kinked=True)


def summed(a: Tensor) -> Tensor:
    """Sum over all axes but the problems', in float64: `(q, k, n)` to `(q,)`."""
    return a.sum((1, 2), dtype=torch.float64)
