"""Rows in the coordinates that the solver works in: the features, or the row space where that is smaller.

An L2 penalty does not change when the axes turn. With fewer rows than features the optimal weights are
a combination of the training rows, so the coordinates of all rows in the space that these span will do:
with X X' = L L' they are L for the training rows and Y X' L'^-1 for other rows Y. Same objective, same
margins, and a layer of 100,000 features costs what one of n costs. Rows that add nothing (one that comes
twice, the last of centred rows) come last in the Cholesky factor, which ends before them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np
import torch
from torch import Tensor

from probe.probes.pivoted import pivoted_cholesky

_NOTHING = 1e-8
"""Squared distance of a row from the span of the others, relative, below which it adds nothing."""
_LITTLE = 1e-5
"""Squared distance, relative, below which a row counts as one that may add nothing."""


@dataclass(frozen=True)
class Held:
    """Rows in memory, `(n, p)`."""

    x: Tensor

    @property
    def n(self) -> int:
        """The number of rows."""
        return self.x.shape[0]

    @property
    def p(self) -> int:
        """The number of coordinates."""
        return self.x.shape[1]

    @property
    def dtype(self) -> torch.dtype:
        """The number type of the products."""
        return self.x.dtype

    @property
    def device(self) -> torch.device:
        """Where they are."""
        return self.x.device

    def times(self, w: Tensor) -> Tensor:
        """X W, `(p, columns)` to `(n, columns)`."""
        return self.x @ w

    def back(self, r: Tensor) -> Tensor:
        """X'R, `(n, columns)` to `(p, columns)`."""
        return (r.T @ self.x).T  # ten times X.T @ R where R has eight columns

    def double(self) -> Held:
        """The same matrix in float64."""
        return Held(self.x.double())


@dataclass(frozen=True)
class Half(Held):
    """Rows of bfloat16, `(n, p)`: products of three digits, with sums of float32."""

    @property
    def dtype(self) -> torch.dtype:
        """The number type of what goes in and comes out."""
        return torch.float32

    def times(self, w: Tensor) -> Tensor:
        """X W, `(p, columns)` to `(n, columns)`."""
        return (self.x @ w.to(self.x.dtype)).float()

    def back(self, r: Tensor) -> Tensor:
        """X'R, `(n, columns)` to `(p, columns)`."""
        return (r.T.to(self.x.dtype) @ self.x).T.float()

    def double(self) -> Half:
        """Itself: there are no more digits."""
        return self


def half_is_fast(device: torch.device) -> bool:
    """Whether products of bfloat16 take a third of the time of float32 or less: so with AVX512-BF16."""
    return device.type == "cpu" and bool(torch.cpu.get_capabilities().get("avx512_bf16"))


@dataclass(frozen=True)
class Streamed:
    """Rows read block by block whenever they are needed, `(n, p)`."""

    blocks: Callable[[], Iterator[Tensor]]
    """Starts to read; float32."""
    n: int
    p: int
    device: torch.device
    dtype: torch.dtype = torch.float32

    def times(self, w: Tensor) -> Tensor:
        """X W, `(p, columns)` to `(n, columns)`."""
        return torch.cat([block.to(self.dtype) @ w for block in self.blocks()])

    def back(self, r: Tensor) -> Tensor:
        """X'R, `(n, columns)` to `(p, columns)`."""
        total = r.new_zeros(r.shape[1], self.p)
        start = 0
        for block in self.blocks():
            total += r[start : start + len(block)].T @ block.to(self.dtype)
            start += len(block)
        return total.T

    def double(self) -> Streamed:
        """The same matrix in float64."""
        return Streamed(self.blocks, self.n, self.p, self.device, torch.float64)


def row_space(inner: Tensor, across: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Coordinates in the space that training rows span.

    Args:
        inner: Inner products of training rows, `(n, n)` float64; nothing above its diagonal is used, and
            it may be overwritten.
        across: Those of other rows with them, `(m, n)` float64.

    Returns:
        Coordinates of the training rows, `(n, r)`, and of the others, `(m, r)`, 1 <= r <= n, and an
        orthonormal basis of the combinations of training rows that are nothing, `(n, n - r)`, or `(n, n)`
        where all are; float32.
    """
    n = len(inner)
    if not n:
        return inner.float(), across.float(), inner.float()
    lower, order = _factor(inner)
    rank = lower.shape[1]
    if not rank:  # equal rows, centred; without a coordinate there would be no shape to work in
        zeros, whole = torch.zeros(n, 1), torch.eye(n)
        return (
            zeros.to(across.device),
            across.new_zeros(len(across), 1, dtype=torch.float32),
            whole.to(across.device),
        )
    train = torch.empty(n, rank, dtype=torch.float32)
    train[order] = lower.to(torch.float32)
    top = lower[:rank].to(across.device)
    other = torch.linalg.solve_triangular(top, across[:, order[:rank]].T, upper=False).T
    # Each row that adds nothing, less what it is of those that the factor has.
    nothing = torch.zeros(n, n - rank, dtype=torch.float64)
    nothing[order[:rank]] = -torch.linalg.solve_triangular(
        lower[:rank].T, lower[rank:].T, upper=True
    )
    nothing[order[rank:]] = torch.eye(n - rank, dtype=torch.float64)
    nothing = torch.linalg.qr(nothing)[0].to(torch.float32)
    return (
        train.to(across.device),
        other.to(torch.float32).contiguous(),
        nothing.to(across.device),
    )


def _factor(inner: Tensor) -> tuple[Tensor, Tensor]:
    """A factor L, `(n, rank)`, and the order of its rows, `(n,)`: `inner[order][:, order]` = LL'.

    Few rows add little: the last of centred ones, an image that comes twice. A quick factor in float32 says
    which; they come last and are pivoted among themselves. To pivot all rows takes five times as long.
    """
    inner = inner.cpu()
    n, most = len(inner), float(inner.diagonal().max())
    least = max(most * _NOTHING, 1e-300)
    quick = (inner / max(most, 1e-300)).to(torch.float32)
    quick.diagonal().add_(_LITTLE)
    quick, failed = torch.linalg.cholesky_ex(quick)
    little = quick.diagonal().square() < 4 * _LITTLE
    if n == 1 or failed or int(little.sum()) > n // 4:
        return _pivoted(inner, least)
    little[torch.nonzero(~little)[-1]] = True  # centred rows sum to zero
    some, others = torch.nonzero(~little)[:, 0], torch.nonzero(little)[:, 0]
    del quick
    top, failed = torch.linalg.cholesky_ex(inner[some[:, None], some])
    if failed or float(top.diagonal().square().amin()) <= least:
        return _pivoted(inner, least)
    # Of an entry above the diagonal, its mirror image.
    below = torch.arange(n) <= others[:, None]
    of_others = torch.where(below, inner[others], inner[:, others].T)
    side = torch.linalg.solve_triangular(top, of_others[:, some].T, upper=False).T
    corner, order = _pivoted(of_others[:, others] - side @ side.T, least)
    right = torch.cat([corner.new_zeros(len(some), corner.shape[1]), corner])
    return torch.cat([torch.cat([top, side[order]]), right], 1), torch.cat([some, others[order]])


def _pivoted(inner: Tensor, least: float) -> tuple[Tensor, Tensor]:
    """As `_factor`, with the row that adds most always next; it ends where none adds `least`."""
    # LAPACK takes the first row in any case.
    if not len(inner) or float(inner.diagonal().max()) <= least:
        return inner[:, :0], torch.arange(len(inner))
    # Its transpose is in the order of LAPACK, which then needs no copy.
    factor, order, rank = pivoted_cholesky(np.asfortranarray(inner.numpy().T), least)
    return torch.from_numpy(factor.T).tril_()[:, :rank], torch.from_numpy(order)


class Rows(Protocol):
    """A matrix of rows, `(n, p)`, that can be multiplied from either side."""

    @property
    def n(self) -> int:
        """The number of rows."""

    @property
    def p(self) -> int:
        """The number of coordinates."""

    @property
    def dtype(self) -> torch.dtype:
        """The number type of the products."""

    @property
    def device(self) -> torch.device:
        """Where they are worked on."""

    def times(self, w: Tensor) -> Tensor:
        """X W, `(p, columns)` to `(n, columns)`."""

    def back(self, r: Tensor) -> Tensor:
        """X'R, `(n, columns)` to `(p, columns)`."""

    def double(self) -> Self:
        """The same matrix in float64."""
