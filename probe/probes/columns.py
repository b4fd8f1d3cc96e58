"""Columns of weights side by side: which problem each belongs to, and sums over those of a problem.

The solver works on all columns at once, `(columns, n)`, whatever their loss: products with the rows are
then one large product. Only the loss itself is taken kind by kind.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from probe.probes.losses import Loss


@dataclass(frozen=True)
class Columns:
    """The columns of the problems that still run, kind after kind and problem after problem."""

    counts: tuple[int, ...]
    """The problems of every kind, `q` in all."""
    widths: tuple[int, ...]
    """The columns of a problem of every kind."""
    of: Tensor
    """The problem of every column, `(columns,)`."""

    @classmethod
    def of_kinds(
        cls, counts: Sequence[int], widths: Sequence[int], device: torch.device
    ) -> Columns:
        """The columns of so many problems of every kind, so wide each."""
        wide = [width for count, width in zip(counts, widths, strict=True) for _ in range(count)]
        of = torch.repeat_interleave(torch.tensor(wide, dtype=torch.int64))
        return cls(tuple(counts), tuple(widths), of.to(device))

    @cached_property
    def each_alone(self) -> bool:
        """Whether every problem has one column."""
        return all(w == 1 for c, w in zip(self.counts, self.widths, strict=True) if c)

    @cached_property
    def width(self) -> Tensor:
        """The columns of every problem, `(q,)` float64."""
        return torch.bincount(self.of, minlength=sum(self.counts)).double()

    def together(self, a: Tensor) -> Tensor:
        """The sum of a number of every column over those of a problem, `(columns,)` to `(q,)`."""
        if self.each_alone:
            return a
        return a.new_zeros(sum(self.counts)).index_add_(0, self.of, a)

    def summed(self, a: Tensor) -> Tensor:
        """Sum over the columns of a problem and along them, in float64: `(columns, n)` to `(q,)`."""
        return self.together(a.sum(1, dtype=torch.float64))

    def quickly(self, a: Tensor) -> Tensor:
        """As `summed` with the digits of `a`, since a sum in float64 copies all of it first."""
        return self.together(a.sum(1).double())

    def wide(self, a: Tensor, like: Tensor) -> Tensor:
        """A number of every problem, `(q,)`, to be multiplied with `like`: `(columns, 1)`."""
        a = a.to(like.dtype)
        return (a if self.each_alone else a[self.of])[:, None]

    def kept(self, which: Tensor) -> tuple[Columns, Tensor]:
        """Those of some problems, a mask `(q,)`, and which columns they are, a mask too."""
        counts = tuple(int(part.sum()) for part in torch.split(which, list(self.counts)))
        mine = which if self.each_alone else which[self.of]
        place = which.long().cumsum(0) - 1
        return Columns(counts, self.widths, place[self.of[mine]]), mine

    def by_kind(self, a: Tensor) -> list[tuple[int, Tensor]]:
        """The kinds that still run and what `a`, `(columns, n)`, has of them: `(q, k, n)`."""
        sizes = [count * width for count, width in zip(self.counts, self.widths, strict=True)]
        return [
            (kind, part.view(self.counts[kind], self.widths[kind], -1))
            for kind, part in enumerate(torch.split(a, sizes))
            if len(part)
        ]


@dataclass(frozen=True)
class Losses:
    """The losses of columns of several kinds, each as `Loss` has them, of margins `(columns, n)`."""

    columns: Columns
    kinds: tuple[Loss, ...]

    def value(self, m: Tensor) -> tuple[Tensor, Tensor]:
        """The sum over rows of every problem, `(q,)` float64, and its derivative by the margins."""
        made = [self.kinds[kind].value(part) for kind, part in self.columns.by_kind(m)]
        return torch.cat([value for value, _ in made]), _joined([slope for _, slope in made])

    def bent(self, residual: Tensor, d: Tensor) -> Tensor:
        """The second derivative at the margins of a derivative, times a direction of margins."""
        return self._each(lambda loss: loss.bent, residual, d)

    def diagonal(self, residual: Tensor) -> Tensor:
        """The second derivative by each margin alone, from the derivative."""
        return self._each(lambda loss: loss.diagonal, residual)

    def of(self, columns: Columns) -> Losses:
        """The same of fewer columns, for second derivatives: the value may hang on the problem."""
        return Losses(columns, self.kinds)

    def _each(self, what: Callable[[Loss], Callable[..., Tensor]], *arrays: Tensor) -> Tensor:
        parts = zip(*(self.columns.by_kind(a) for a in arrays), strict=True)
        return _joined(
            [what(self.kinds[same[0][0]])(*(part for _, part in same)) for same in parts]
        )


def _joined(parts: Sequence[Tensor]) -> Tensor:
    flat = [part.reshape(-1, part.shape[2]) for part in parts]
    return flat[0] if len(flat) == 1 else torch.cat(flat)
