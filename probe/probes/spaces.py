"""The coordinates in which the solver seeks weights: those of the features, or one for every training row.

Optimal weights are combinations of the training rows, w = X'a, so with no more rows than features a is
the smaller thing to look for. The solver needs (1 + s X'X)^-1, the inverse of the penalised problem with
one curvature s for all rows, of a vector X'r, and the margins of the result. With K = XX' both are

    X'z and (r - z) / s,    z = (1 + s K)^-1 r,

so a step costs one product with an `(n, n)` matrix where the features take three. The matrices are made
once for every 1.5 decades of s, and serve every C, class, task and probe on the same training rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from math import log
from typing import Protocol, Self

import torch
from torch import Tensor

from probe.probes.matrix import Half, Held, Rows, half_is_fast

_WORTHWHILE = 1 << 19
"""Numbers in the rows from which products in bfloat16 save more than making them costs."""
_BASE = 10**1.5
"""Half as many inverses as decades take hardly more steps."""
_NONE = -1
"""The level up to which the penalty all but rules, so that 1 will do for the inverse."""
_LARGEST = {torch.float32: 3e5, torch.float64: 1e13}
"""Largest s times the trace of X'X at which a factor is safe from rounding."""

_ROUNDING = 1e-6
"""Of float32 products, relative to their trace, what rounding may be at most; it decides only the speed."""

Solve = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Levels:
    """The curvature s of every column, rounded to a power of `_BASE` over the unit."""

    of_column: Tensor
    """The power, `(columns,)`; at the lowest the weights themselves stand for the inverse times them."""
    s: Tensor
    """`(columns,)` float64."""
    groups: tuple[tuple[int, Tensor], ...]
    """Every power that a column has, and the numbers of those columns."""

    def of(self, which: Tensor) -> Levels:
        """Those of some of the columns, a mask."""
        return _grouped(self.of_column[which], self.s[which])


def _grouped(of_column: Tensor, s: Tensor) -> Levels:
    numbers = sorted(set(of_column.tolist()))
    if len(numbers) == 1:
        return Levels(of_column, s, ((numbers[0], torch.arange(len(s), device=s.device)),))
    groups = tuple((n, torch.nonzero(of_column == n)[:, 0]) for n in numbers)
    return Levels(of_column, s, groups)


class Space(Protocol):
    """Coordinates of weights on one training set; those of columns are `(columns, size)`."""

    @property
    def rows(self) -> Rows:
        """The training rows, `(n, p)`."""

    @property
    def size(self) -> int:
        """The number of coordinates."""

    @property
    def unit(self) -> float:
        """Mean squared length of the rows; 1 where they are all zero."""

    def coordinates(self, r: Tensor) -> Tensor:
        """Those of the weights X'r, from `(columns, n)`."""

    def weights(self, a: Tensor) -> Tensor:
        """The weights of coordinates, `(columns, p)`."""

    def solve(self, r: Tensor, level: Levels) -> tuple[Tensor, Tensor]:
        """(1 + s X'X)^-1 times weights, s being that of every column's level, and its margins."""

    def image(self, a: Tensor, margins: Tensor) -> Tensor:
        """What the inner product of other weights with these is taken with, coordinate by coordinate."""

    @property
    def rough(self) -> Self:
        """The same with faster products, good enough for the direction of a step."""

    def double(self) -> Self:
        """The same in float64."""


@dataclass(frozen=True)
class FeatureSpace:
    """The weights themselves."""

    rows: Rows
    gram: Tensor
    """X'X in its upper left `(p, p)`; it decides the speed, not the answer."""
    inverses: dict[int, Solve] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Features."""
        return self.rows.p

    @cached_property
    def unit(self) -> float:
        """As `Space.unit`."""
        return (
            float(self.gram.diagonal()[: self.size].double().mean()) * self.size / self.rows.n
            or 1.0
        )

    def coordinates(self, r: Tensor) -> Tensor:
        """X'r itself."""
        return _columns(self.rows.back, r)

    def weights(self, a: Tensor) -> Tensor:
        """They are their own coordinates."""
        return a

    def solve(self, r: Tensor, level: Levels) -> tuple[Tensor, Tensor]:
        """As `Space.solve`."""
        z = _by_level(self, lambda: self.gram[: self.size, : self.size], r, level)
        return z, _columns(self.rows.times, z)

    def image(self, a: Tensor, margins: Tensor) -> Tensor:
        """The weights."""
        return a

    @property
    def rough(self) -> FeatureSpace:
        """As `Space.rough`: in bfloat16, where the processor has it."""
        return self if self._half is None else self._half

    @cached_property
    def _half(self) -> FeatureSpace | None:
        """None where that is no faster; itself would be a cycle, which keeps its rows for long."""
        rows = self.rows
        worthwhile = rows.dtype == torch.float32 and rows.n * rows.p >= _WORTHWHILE
        if type(rows) is not Held or not worthwhile or not half_is_fast(rows.device):
            return None
        return FeatureSpace(Half(rows.x.to(torch.bfloat16)), self.gram, self.inverses)

    def double(self) -> FeatureSpace:
        """The same in float64."""
        return FeatureSpace(self.rows.double(), self.gram.double())


@dataclass(frozen=True)
class RowSpace:
    """A number for every training row: w = X'a, with nothing in a that X' takes to nothing."""

    rows: Held
    nothing: Tensor
    """An orthonormal basis of what X' takes to nothing, `(n, few)`; in a it would grow unseen."""
    products: Tensor
    """K = XX'."""
    inverses: dict[int, Solve] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Training rows."""
        return self.rows.n

    @cached_property
    def unit(self) -> float:
        """As `Space.unit`."""
        return float(self.rows.x.square().sum(dtype=torch.float64)) / self.rows.n or 1.0

    def coordinates(self, r: Tensor) -> Tensor:
        """The same numbers but for what is nothing."""
        if not self.nothing.shape[1]:
            return r
        return r - (r @ self.nothing) @ self.nothing.T

    def weights(self, a: Tensor) -> Tensor:
        """X'a."""
        return _columns(self.rows.back, a)

    def solve(self, r: Tensor, level: Levels) -> tuple[Tensor, Tensor]:
        """As `Space.solve`."""
        z = self.coordinates(_by_level(self, lambda: self.products, r, level))
        margins = (r - z) / level.s.to(r.dtype)[:, None]
        number, none = level.groups[0]
        if number == _NONE:
            margins[none] = z[none] @ self.products
        return z, margins

    def image(self, a: Tensor, margins: Tensor) -> Tensor:
        """The margins: a'K b is the inner product of X'a and X'b."""
        return margins

    @property
    def rough(self) -> RowSpace:
        """As `Space.rough`: the same, since its margins are small differences."""
        return self

    def double(self) -> RowSpace:
        """The same in float64."""
        rows = self.rows.double()
        return RowSpace(rows, self.nothing.double(), rows.x @ rows.x.T)


def levels(space: Space, curvature: Tensor) -> Levels:
    """The level of every column: the power of `_BASE` nearest to its s times the unit.

    Args:
        space: The training rows.
        curvature: C times the mean second derivative of its problem's loss, `(columns,)` float64.
    """
    most = _highest(space.rows.n, space.rows.dtype)
    exact = (curvature * space.unit).clamp_min(1e-30).log() / log(_BASE)
    power = exact.round().long().clamp(_NONE, most)
    return _grouped(power, _BASE ** power.double() / space.unit)


def inverses(n: int) -> int:
    """How many levels have an inverse on `n` rows, at most."""
    return 1 + _highest(n, torch.float32)


def _highest(n: int, dtype: torch.dtype) -> int:
    return max(0, int(log(_LARGEST[dtype] / max(n, 1)) / log(_BASE)))


def _by_level(
    space: FeatureSpace | RowSpace, products: Callable[[], Tensor], r: Tensor, level: Levels
) -> Tensor:
    """(1 + s products)^-1 r of every column, `(columns, size)`."""
    for number, _ in level.groups:
        if number != _NONE and number not in space.inverses:
            space.inverses[number] = _inverse(products(), _BASE**number / space.unit)
    if len(level.groups) == 1 and level.groups[0][0] != _NONE:
        return space.inverses[level.groups[0][0]](r)
    out = r.clone()
    for number, here in level.groups:
        if number != _NONE:
            out[here] = space.inverses[number](r[here])
    return out


def _inverse(products: Tensor, s: float) -> Solve:
    """What multiplies rows `(columns, size)` by (1 + s products)^-1."""
    matrix = s * products
    matrix.diagonal().add_(1)
    factor, failed = torch.linalg.cholesky_ex(matrix)
    if failed:  # in float64 s may make more of the products' rounding than the penalty is
        matrix.diagonal().add_(_ROUNDING * float(matrix.diagonal().sum()))
        factor, failed = torch.linalg.cholesky_ex(matrix)
    if failed:
        raise RuntimeError("1 + s X'X has no Cholesky factor")
    # Not the factor: solving with it copies it, each time, and takes five times as long for few columns.
    inverse = torch.cholesky_inverse(factor)
    return lambda a: a @ inverse


def _columns(product: Solve, a: Tensor) -> Tensor:
    """`product`, of a matrix with a column for each row of `a`, as rows again."""
    return product(a.T).T.contiguous()
