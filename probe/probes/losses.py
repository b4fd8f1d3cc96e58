"""Losses of margins, for many problems side by side: softmax, binary logistic and squared hinge.

Margins are `(columns, n)`, the columns of a problem one after another: K for softmax, else one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol, Self

import torch
from torch import Tensor


class Loss(Protocol):
    """The summed convex loss of some problems on the same rows."""

    @property
    def columns(self) -> int:
        """Columns of margins per problem."""

    def value(self, m: Tensor) -> tuple[Tensor, Tensor]:
        """The sum over rows of every problem, `(q,)` float64, and its derivative, `(columns, n)`."""

    def bend(self, residual: Tensor, d: Tensor) -> Tensor:
        """The sum's second derivative along a direction of margins, `(q,)` float64."""

    def second(self, residual: Tensor) -> Tensor:
        """The second derivative by the margin of every row and column, `(columns, n)`."""

    def curvature(self, residual: Tensor) -> Tensor:
        """The mean second derivative by the margins of a row, of every column, `(columns,)`."""

    def of(self, problems: Tensor) -> Self:
        """Those of some problems alone."""

    def double(self) -> Self:
        """The same in float64."""


@dataclass(frozen=True)
class Softmax:
    """Multinomial logistic loss of labels `(n,)`."""

    y: Tensor
    columns: int

    def value(self, m: Tensor) -> tuple[Tensor, Tensor]:
        """As `Loss.value`."""
        cube = m.view(-1, self.columns, m.shape[1])
        at = self.y.expand(len(cube), 1, -1)
        log_p = cube.log_softmax(1)
        loss = -log_p.gather(1, at).sum((1, 2), dtype=torch.float64)
        p = log_p.exp_()
        p.scatter_add_(1, at, p.new_full((), -1).expand(at.shape))
        return loss, p.view(m.shape)

    def bend(self, residual: Tensor, d: Tensor) -> Tensor:
        """As `Loss.bend`."""
        r, along = (a.view(-1, self.columns, a.shape[1]) for a in (residual, d))
        at = self.y.expand(len(r), 1, -1)
        pd = r.scatter_add(1, at, r.new_ones(()).expand(at.shape)) * along
        squares = (pd * along).sum((1, 2), dtype=torch.float64)
        return squares - pd.sum(1).square().sum(1, dtype=torch.float64)

    def second(self, residual: Tensor) -> Tensor:
        """As `Loss.second`: p (1 - p), those between classes left out."""
        return residual.abs() * (1 - residual.abs())

    def curvature(self, residual: Tensor) -> Tensor:
        """As `Loss.curvature`: p (1 - p)."""
        return _spread(residual)

    def of(self, problems: Tensor) -> Softmax:
        """As `Loss.of`: all have the same labels."""
        return self

    def double(self) -> Softmax:
        """As `Loss.double`."""
        return self


@dataclass(frozen=True)
class Logistic:
    """Binary logistic loss of signs `(n,)`, -1 or 1."""

    sign: Tensor
    columns: int = 1

    def value(self, m: Tensor) -> tuple[Tensor, Tensor]:
        """As `Loss.value`."""
        wrong = -self.sign * m
        loss = torch.nn.functional.softplus(wrong).sum(1, dtype=torch.float64)
        return loss, -self.sign * wrong.sigmoid_()

    def bend(self, residual: Tensor, d: Tensor) -> Tensor:
        """As `Loss.bend`."""
        p = residual.abs()
        return (p * (1 - p) * d * d).sum(1, dtype=torch.float64)

    def second(self, residual: Tensor) -> Tensor:
        """As `Loss.second`: p (1 - p)."""
        return residual.abs() * (1 - residual.abs())

    def curvature(self, residual: Tensor) -> Tensor:
        """As `Loss.curvature`: p (1 - p)."""
        return _spread(residual)

    def of(self, problems: Tensor) -> Logistic:
        """As `Loss.of`: all have the same labels."""
        return self

    def double(self) -> Logistic:
        """As `Loss.double`."""
        return replace(self, sign=self.sign.double())


@dataclass(frozen=True)
class SquaredHinge:
    """Squared hinge loss of signs, -1 or 1, those of problem q in row `which[q]`."""

    signs: Tensor
    """`(K, n)`."""
    which: Tensor
    """`(q,)`."""
    columns: int = 1

    def value(self, m: Tensor) -> tuple[Tensor, Tensor]:
        """As `Loss.value`."""
        t = self.signs[self.which]
        short = (1 - t * m).clamp_min_(0)
        return short.square().sum(1, dtype=torch.float64), short.mul_(t).mul_(-2)

    def bend(self, residual: Tensor, d: Tensor) -> Tensor:
        """As `Loss.bend`."""
        return (2 * d * d * (residual != 0)).sum(1, dtype=torch.float64)

    def second(self, residual: Tensor) -> Tensor:
        """As `Loss.second`: 2 for a row inside its margin."""
        return 2 * (residual != 0).to(residual.dtype)

    def curvature(self, residual: Tensor) -> Tensor:
        """As `Loss.curvature`: 2 for a row inside its margin."""
        return 2 * (residual != 0).sum(1).double() / residual.shape[1]

    def of(self, problems: Tensor) -> SquaredHinge:
        """As `Loss.of`."""
        return replace(self, which=self.which[problems])

    def double(self) -> SquaredHinge:
        """As `Loss.double`."""
        return replace(self, signs=self.signs.double())


def _spread(residual: Tensor) -> Tensor:
    """The mean of p (1 - p), p or 1 - p being the size of a residual."""
    size = residual.abs().sum(1, dtype=torch.float64)
    return (size - residual.square().sum(1, dtype=torch.float64)) / residual.shape[1]
