"""A layer's features, in memory or in its feature file, and the training sets made of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from features.arrays import Bools, Floats, Ints
from features.store.featurefile import FeatureFile
from probe.probes.matrix import Held, Rows, Streamed, row_space
from probe.probes.scaling import Moments, Scaling, gram, moments, pooled, scaling
from probe.probes.spaces import FeatureSpace, RowSpace, inverses

ROWS_BYTES = 64 << 20
"""Bytes of a block of rows."""
COLUMNS = 4096
"""Columns of a block of columns in memory."""
_FEW = 0.9
"""Of the training rows, as a share, that are needed to make the others: below it features are fewer."""
_TRIANGLE = 256
"""Rows whose products are made together: with those before them alone, for the rest is symmetric."""


@dataclass(frozen=True)
class Prepared:
    """One training set and the rows to score, scaled; probes and tasks can share it."""

    train: Rows
    other: Rows
    unit: float
    """Mean squared length of the scaled training rows."""
    scaling: Scaling
    products: Tensor | None = None
    """The matrix `gram`, where it was made without the rows; None: it is made of them."""
    nothing: Tensor | None = None
    """Combinations of the training rows that are nothing, where the coordinates are of the row space."""
    inner: Tensor | None = None
    """Inner products of the training rows there, `(n, n)`."""

    @property
    def gram(self) -> Tensor:
        """[X, 1]'[X, 1] of the training rows, `(p + 1, p + 1)` float32."""
        if self.products is not None:
            return self.products
        assert isinstance(self.train, Held)
        x = torch.cat([self.train.x, self.train.x.new_ones(self.train.n, 1)], 1)
        return x.T @ x

    @cached_property
    def space(self) -> FeatureSpace | RowSpace:
        """The training rows as the solver takes them."""
        if self.inner is None or self.train.p < _FEW * self.train.n:
            return FeatureSpace(self.train, self.gram)
        assert isinstance(self.train, Held)
        assert self.nothing is not None
        return RowSpace(self.train, self.nothing, self.inner)

    def nbytes(self) -> int:
        """The bytes that the training set holds in memory, with the inverses that a grid needs."""
        held = [rows.n * rows.p for rows in (self.train, self.other) if isinstance(rows, Held)]
        size = self.train.n if self.products is None else self.train.p
        rough = self.train.n * self.train.p // 2  # a copy in half as many bytes
        return 4 * (sum(held) + rough + (1 + inverses(self.train.n)) * size**2)


@dataclass
class Source:
    """The features of one layer, `(n, dim)` float32."""

    n: int
    dim: int
    rows: Callable[[Ints], Floats]
    """Reads some rows, `(rows, dim)`."""
    columns: Callable[[int, int], Floats]
    """Reads all rows of the columns from the first number to before the second, `(n, columns)`."""
    held: bool = True
    """They are in memory."""
    width: int = COLUMNS
    """How many columns are read together."""
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    lengths: Floats | None = None
    """The length of every row, `(n,)`, by which it is divided; None: rows are taken as they are."""
    memory: int = 2 << 30
    """Bytes for training sets that are made together."""
    _known: dict[tuple[int, int, bool], Moments] = field(default_factory=dict)

    @classmethod
    def of(cls, x: Floats, device: torch.device | None = None) -> Source:
        """The source of features in memory."""
        return cls(
            len(x), x.shape[1], lambda rows: x[rows], lambda start, stop: x[:, start:stop],
            device=device or torch.device("cpu"),
        )  # fmt: skip

    def broken(self, rows: Ints) -> Bools:
        """Which of `rows` have a feature that is NaN or infinite."""
        some = max(1, ROWS_BYTES // (4 * self.dim))
        blocks = [
            ~np.isfinite(self.rows(rows[start : start + some])).all(1)
            for start in range(0, len(rows), some)
        ]
        return np.concatenate(blocks)

    def block(self, rows: Ints) -> Tensor:
        """Some rows, on the device that computes."""
        x = torch.from_numpy(self.rows(rows)).to(self.device)
        if self.lengths is not None:
            x = x / torch.from_numpy(self.lengths[rows, None]).to(self.device)
        return x

    def blocks(self, rows: Ints) -> Iterator[Tensor]:
        """The rows, some at a time."""
        some = max(1, ROWS_BYTES // (4 * self.dim))
        for start in range(0, len(rows), some):
            yield self.block(rows[start : start + some])

    def unit_rows(self, rows: Ints) -> Source:
        """The source with each of `rows` divided by its length; the others are not read."""
        lengths = np.ones(self.n, dtype=np.float32)
        some = max(1, ROWS_BYTES // (4 * self.dim))
        for start in range(0, len(rows), some):
            here = rows[start : start + some]
            lengths[here] = np.linalg.norm(self.rows(here), axis=1)
        return Source(
            self.n, self.dim, self.rows, self.columns, self.held, self.width, self.device,
            np.maximum(lengths, 1e-12), self.memory,
        )  # fmt: skip

    def followed_by(self, other: Source) -> Source:
        """The source of these rows and then those of `other`, `(n + other.n, dim)`."""

        def rows(wanted: Ints) -> Floats:
            out = np.empty((len(wanted), self.dim), dtype=np.float32)
            mine = wanted < self.n
            out[mine] = self.rows(wanted[mine])
            out[~mine] = other.rows(wanted[~mine] - self.n)
            return out

        def columns(start: int, stop: int) -> Floats:
            return np.concatenate([self.columns(start, stop), other.columns(start, stop)])

        return Source(
            self.n + other.n, self.dim, rows, columns, self.held and other.held,
            self.width, self.device, memory=self.memory,
        )  # fmt: skip

    def turned(self, train: int, other: int) -> int:
        """Bytes of a training set of so many rows in the row space; none where it stays in the features."""
        return 4 * train * (train + other) if train <= self.dim else 0

    def groups(self, sets: Sequence[tuple[Ints, Ints]], room: int) -> list[list[int]]:
        """Numbers of the training sets to make in one pass over the features, as memory allows.

        Args:
            sets: Their rows, and the rows to score.
            room: Bytes that are free besides those for sets under way.
        """
        groups: list[list[int]] = [[]]
        size = 0
        for number, (train, other) in enumerate(sets):
            needs = 2 * self.turned(len(train), len(other))  # products of rows are float64
            if groups[-1] and size + needs > self.memory + room:
                groups.append([])
                size = 0
            groups[-1].append(number)
            size += needs
        return groups

    def moments(self, part: Ints, parts: Sequence[int], products: bool) -> Moments:
        """The moments of the union of some parts; each part is read once."""
        same = hash(part.tobytes())
        for number in parts:
            if (same, number, products) not in self._known:
                total: Moments | None = None
                for block in self.blocks(np.flatnonzero(part == number)):
                    of_block = moments(block, products)
                    total = of_block if total is None else pooled([total, of_block])
                assert total is not None
                self._known[same, number, products] = total
        return pooled([self._known[same, number, products] for number in parts])


def in_blocks(path: Path, key: str, n: int, dim: int, memory: int, device: torch.device) -> Source:
    """A layer of a feature file that is larger than `memory`, in bytes."""

    def rows(wanted: Ints) -> Floats:
        if not len(wanted):
            return np.zeros((0, dim), dtype=np.float32)
        first, last = int(wanted.min()), int(wanted.max())
        # One span of the file and a choice from it: row by row would take far longer.
        some = max(1, ROWS_BYTES // (4 * dim))
        out = np.empty((len(wanted), dim), dtype=np.float32)
        with FeatureFile(path) as file:
            for start in range(first, last + 1, some):
                stop = min(start + some, last + 1)
                here = (wanted >= start) & (wanted < stop)
                if here.any():
                    out[here] = file.read(key, np.arange(start, stop))[wanted[here] - start]
        return out

    def columns(start: int, stop: int) -> Floats:
        with FeatureFile(path) as file:
            return file.columns(key, start, stop)

    # A fifth for a block of columns and its scaled copy, a fifth for products under way.
    width = max(256, memory // (10 * 4 * n))
    return Source(n, dim, rows, columns, held=False, width=width, device=device, memory=memory // 5)


def prepared(
    source: Source, part: Ints, sets: Sequence[tuple[Ints, Ints]], scale: str, centre: bool
) -> Iterator[tuple[int, Prepared]]:
    """Every training set of `sets` (its rows, the rows to score), scaled by its own rows alone.

    With more rows than features it stays in the features, else it goes over to the row space.

    Args:
        source: Features; for the scale `l2` those with rows of length one.
        part: The part of every row, `(n,)`; a training set is a union of whole parts.
        sets: Row numbers.
        scale: `standard`, `l2` or `none`.
        centre: Subtract the mean of the training rows in any case.

    Yields:
        The number of a set, and the set.
    """
    wide = []
    for number, (train, other) in enumerate(sets):
        parts = np.unique(part[train]).tolist()
        tall = len(train) > source.dim
        of_rows = source.moments(part, parts, tall)
        scales = scaling(of_rows, scale, centre)
        if tall:
            z, other_z = _rows(source, train, scales), _rows(source, other, scales)
            yield number, Prepared(z, other_z, scales.unit, scales, gram(of_rows, scales))
        else:
            wide.append((number, train, other, scales))
    if not wide:
        return
    products = [_products(source, train, other) for _, train, other, _ in wide]
    for start in range(0, source.dim, source.width):
        stop = min(start + source.width, source.dim)
        columns = torch.from_numpy(source.columns(start, stop)).to(source.device)
        if source.lengths is not None:
            columns = columns / torch.from_numpy(source.lengths[:, None]).to(source.device)
        for (_, train, other, scales), (inner, across) in zip(wide, products, strict=True):
            scale_in_place = scales.part(start, stop).in_place
            x = scale_in_place(columns[torch.from_numpy(train)])
            for top in range(0, len(x), _TRIANGLE):
                below = slice(top, top + _TRIANGLE)
                inner[below, : below.stop] += x[below] @ x[: below.stop].T
            for top in range(0, len(other), _TRIANGLE):
                some = torch.from_numpy(other[top : top + _TRIANGLE])
                across[top : top + _TRIANGLE] += scale_in_place(columns[some]) @ x.T
    del columns, x
    while products:
        (number, _, _, scales), (inner, across) = wide.pop(0), products.pop(0)
        lower = inner.to(torch.float32).tril_()
        whole = lower + lower.tril(-1).T
        train_x, other_x, nothing = row_space(inner, across)
        made = Prepared(
            Held(train_x), Held(other_x), scales.unit, scales, nothing=nothing, inner=whole
        )
        yield number, made


def _products(source: Source, train: Ints, other: Ints) -> tuple[Tensor, Tensor]:
    n, m = len(train), len(other)
    return (
        torch.zeros(n, n, dtype=torch.float64, device=source.device),
        torch.zeros(m, n, dtype=torch.float64, device=source.device),
    )


def _rows(source: Source, rows: Ints, scales: Scaling) -> Rows:
    if source.held:
        return Held(scales(source.block(rows)))
    return Streamed(
        lambda: (scales(block) for block in source.blocks(rows)),
        len(rows),
        source.dim,
        source.device,
    )
