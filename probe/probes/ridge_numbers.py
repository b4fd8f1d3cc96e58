"""Ridge regression on numbers, in float64, exact at every alpha of the grid.

With features x, scaled by their training rows, and numbers y it minimises

    sum_i (y_i - w x_i - b)^2 + alpha |w|^2

which is scikit-learn's Ridge. Where a training set has no more rows than features, w = X'a and
(XX' + alpha) a = y - mean y; otherwise (X'X + alpha) w = X'(y - mean y). Each alpha has a Cholesky factor.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from features.arrays import Doubles, Ints
from probe.folds.splits import Splits
from probe.probes.layer import Source
from probe.probes.scaling import Scaling, scaling
from probe.probes.scorer import HeldOut, Left
from probe.probes.settings import ProbeSettings


@dataclass(frozen=True)
class Predicted:
    """The predictions of a training set for the rows that it leaves out."""

    numbers: Doubles
    """`(rows, points)`: a column for every value of the grid."""
    values: tuple[float, ...]
    """Alpha or k at every point."""


class RidgeNumbers:
    """Ridge regressions on the training sets of one layer."""

    def __init__(
        self,
        source: Source,
        y: Doubles,
        splits: Splits,
        settings: ProbeSettings,
        held_out: HeldOut | None = None,
    ) -> None:
        """Nothing is computed yet.

        Args:
            source: Features, `(n, dim)`.
            y: Numbers, `(n,)`.
            splits: Folds and parts.
            settings: The scale and the grid.
            held_out: The rows to score, where they are others than those left out.
        """
        self.y, self.splits, self.settings = y, splits, settings
        self.to_score = held_out or splits.held_out_rows
        if settings.scale == "l2":
            scored = [self.to_score(splits.tested(fold)) for fold in splits.folds]
            source = source.unit_rows(
                np.union1d(np.flatnonzero(splits.part >= 0), np.concatenate(scored))
            )
        self.source = source

    def __call__(self, left: Left) -> Predicted:
        """The predictions for the rows left out by the training set without the parts `left`."""
        source = self.source
        train, other = self.splits.training_rows(left), self.to_score(left)
        parts = np.unique(self.splits.part[train]).tolist()
        scales = scaling(
            source.moments(self.splits.part, parts, False), self.settings.scale, centre=True
        )
        away = torch.from_numpy(self.y[train] - self.y[train].mean()).to(source.device)
        in_rows = len(train) <= source.dim
        square, across = (_of_rows if in_rows else _of_features)(source, train, other, scales)
        target = away if in_rows else _against(source, train, scales, away)
        unit = float(square.diagonal().sum()) / len(train)
        cs = np.array(self.settings.grid) / ((unit or 1.0) if self.settings.relative else 1.0)
        columns = []
        for alpha in 1 / cs:
            shifted = square.clone()
            shifted.diagonal().add_(float(alpha))
            factor = torch.linalg.cholesky(shifted)
            columns.append(torch.cholesky_solve(target[:, None], factor))
        weights = torch.cat(columns, 1)
        made = weights.new_empty(len(other), len(cs))
        if in_rows:
            made[:] = across @ weights
        else:
            done = 0
            for block in source.blocks(other):
                z = _scaled(block, scales) - across
                made[done : done + len(z)] = z @ weights
                done += len(z)
        numbers = made.cpu().numpy() + self.y[train].mean()
        return Predicted(np.asarray(numbers), tuple(map(float, 1 / cs)))


def _scaled(x: Tensor, scales: Scaling) -> Tensor:
    """Rows scaled in float64."""
    return (x.double() - scales.shift.double()) * scales.weight.double()


def _of_rows(source: Source, train: Ints, other: Ints, scales: Scaling) -> tuple[Tensor, Tensor]:
    """XX' of the scaled, centred training rows, `(n, n)`, and the other rows times them, `(rows, n)`."""
    n, m = len(train), len(other)
    inner = torch.zeros(n, n, dtype=torch.float64, device=source.device)
    across = torch.zeros(m, n, dtype=torch.float64, device=source.device)
    lengths = None if source.lengths is None else torch.from_numpy(source.lengths[:, None])
    for start in range(0, source.dim, source.width):
        stop = min(start + source.width, source.dim)
        columns = torch.from_numpy(source.columns(start, stop)).to(source.device)
        if lengths is not None:
            columns = columns / lengths.to(source.device)
        part = scales.part(start, stop)
        x = _scaled(columns[torch.from_numpy(train)], part)
        mean = x.mean(0)  # the mean that was subtracted is a float32 number
        x -= mean
        inner += x @ x.T
        across += (_scaled(columns[torch.from_numpy(other)], part) - mean) @ x.T
    return inner, across


def _of_features(
    source: Source, train: Ints, other: Ints, scales: Scaling
) -> tuple[Tensor, Tensor]:
    """X'X of the scaled, centred training rows, `(dim, dim)`, and the mean that was left, `(dim,)`."""
    square = torch.zeros(source.dim, source.dim, dtype=torch.float64, device=source.device)
    total = torch.zeros(source.dim, dtype=torch.float64, device=source.device)
    for block in source.blocks(train):
        x = _scaled(block, scales)
        square += x.T @ x
        total += x.sum(0)
    mean = total / len(train)
    return square - len(train) * torch.outer(mean, mean), mean


def _against(source: Source, train: Ints, scales: Scaling, away: Tensor) -> Tensor:
    """X'y of the scaled training rows and numbers whose mean is 0, `(dim,)`."""
    made = torch.zeros(source.dim, dtype=torch.float64, device=source.device)
    done = 0
    for block in source.blocks(train):
        made += _scaled(block, scales).T @ away[done : done + len(block)]
        done += len(block)
    return made
