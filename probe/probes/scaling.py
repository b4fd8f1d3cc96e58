"""Means and products of features by part, and of every union of parts without another look at the rows.

Each part keeps its count, its mean and the products of its deviations from its own mean. Those of a
training set, a union of parts, follow exactly (Chan, Golub and LeVeque 1983); a part that is left out
has no say in it, not even in the rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

SCALES = ("standard", "l2", "none")

AUTO = ("standard", "l2")
"""What the scale `auto` chooses between, inside the training folds."""

FLOOR = 1e-3
"""The least SD of a feature, as a share of the root mean square SD of all: a unit that is dead on all but a
few training images would otherwise be blown up by a thousand on the test images that wake it."""


@dataclass(frozen=True)
class Moments:
    """The count, mean and products of a set of rows, `(n, dim)`."""

    n: int
    mean: Tensor
    """`(dim,)` float64; a float32 number, so that columns that never vary agree to the bit."""
    squares: Tensor
    """Sums of squared deviations from the mean, `(dim,)` float64."""
    products: Tensor | None
    """Sums of products of deviations, `(dim, dim)` float32, where asked for."""


@dataclass(frozen=True)
class Scaling:
    """The mean that is subtracted from every row, and the factors that it is then multiplied by."""

    shift: Tensor
    """`(dim,)` float32."""
    weight: Tensor
    """`(dim,)` float32."""
    unit: float
    """Mean squared length of the scaled training rows."""

    def __call__(self, x: Tensor) -> Tensor:
        """Rows `(n, dim)`, scaled."""
        return (x - self.shift) * self.weight

    def in_place(self, x: Tensor) -> Tensor:
        """The scaled rows, written over the rows given."""
        return x.sub_(self.shift).mul_(self.weight)

    def part(self, start: int, stop: int) -> Scaling:
        """The scaling of some columns."""
        return Scaling(self.shift[start:stop], self.weight[start:stop], self.unit)


def moments(x: Tensor, products: bool) -> Moments:
    """The moments of rows `(n, dim)` float32."""
    mean = x.mean(0, dtype=torch.float64).to(torch.float32)
    away = x - mean
    squares = away.square().sum(0, dtype=torch.float64)
    return Moments(len(x), mean.double(), squares, away.T @ away if products else None)


def pooled(parts: Sequence[Moments]) -> Moments:
    """The moments of the union of disjoint sets of rows."""
    if len(parts) == 1:
        return parts[0]
    n = sum(part.n for part in parts)
    mean = torch.stack([part.mean * (part.n / n) for part in parts]).sum(0)
    mean = mean.to(torch.float32).double()
    away = torch.stack([(part.mean - mean) * part.n**0.5 for part in parts])  # (parts, dim)
    squares = torch.stack([part.squares for part in parts]).sum(0) + away.square().sum(0)
    known = [part.products for part in parts if part.products is not None]
    products = None
    if len(known) == len(parts):
        small = away.to(torch.float32)
        products = small.T @ small
        for more in known:
            products += more
    return Moments(n, mean, squares, products)


def scaling(m: Moments, scale: str, centre: bool) -> Scaling:
    """The scaling of training rows with these moments; rows of `l2` come with a length of one.

    A probe whose bias is not penalised may `centre` the rows too: the bias makes up for the mean.
    """
    variance = m.squares / m.n
    if scale == "standard":
        sd = variance.sqrt()
        floor = float(FLOOR * variance.mean().sqrt())
        # A unit that never varies in training is left out: nothing is known of it.
        weight = torch.where(sd > 0, 1 / sd.clamp_min(max(floor, 1e-30)), 0)
        unit = float((variance * weight.square()).sum())
        return Scaling(m.mean.to(torch.float32), weight.to(torch.float32), unit)
    unit = float((variance + m.mean.square()).sum())
    mean = m.mean.to(torch.float32)
    return Scaling(mean if centre else torch.zeros_like(mean), torch.ones_like(mean), unit)


def gram(m: Moments, s: Scaling) -> Tensor:
    """[X, 1]'[X, 1] of the scaled rows, `(dim + 1, dim + 1)` float32."""
    assert m.products is not None
    dim = len(m.mean)
    mean = (m.mean.to(torch.float32) - s.shift) * s.weight
    out = mean.new_empty(dim + 1, dim + 1)
    torch.mul(m.products, s.weight[:, None], out=out[:-1, :-1])
    out[:-1, :-1] *= s.weight
    out[:-1, :-1].addr_(mean, mean, alpha=m.n)
    out[-1, :-1] = out[:-1, -1] = m.n * mean
    out[-1, -1] = m.n
    return out


def statistics(train: Tensor) -> tuple[Tensor, Tensor]:
    """The mean of every feature, and one over its floored SD, `(dim,)` each."""
    sd, mean = torch.std_mean(train, 0, correction=0)
    floor = float(FLOOR * sd.double().square().mean().sqrt())
    # A unit that never varies in training is left out: nothing is known of it.
    return mean, torch.where(sd > 0, 1 / sd.clamp_min(max(floor, 1e-30)), 0)
