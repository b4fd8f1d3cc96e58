"""Nearest neighbours that predict a number: the mean of theirs, weighted as the votes of `knn`."""

from __future__ import annotations

import numpy as np

from features.arrays import Doubles
from probe.folds.splits import Splits
from probe.probes.knn import TEMPERATURE, neighbours
from probe.probes.layer import Source
from probe.probes.ridge_numbers import Predicted
from probe.probes.scorer import HeldOut, Left
from probe.probes.settings import ProbeSettings


class KnnNumbers:
    """The neighbours of all rows in every part of one layer, searched once."""

    def __init__(
        self,
        source: Source,
        y: Doubles,
        splits: Splits,
        settings: ProbeSettings,
        held_out: HeldOut | None = None,
    ) -> None:
        """Search; the arguments are those of `RidgeNumbers`."""
        self.source, self.y, self.splits = source, y, splits
        self.cosine = settings.scale != "none"
        self.grid = [int(k) for k in settings.grid]
        self.to_score = held_out or splits.held_out_rows
        queries = None
        if held_out is not None:
            queries = np.concatenate([held_out(splits.tested(fold)) for fold in splits.folds])
        self.by_part = neighbours(
            source, splits.part, self.grid[-1], settings.solver, self.cosine, queries
        )

    def __call__(self, left: Left) -> Predicted:
        """The predictions for the rows left out by the training set without the parts `left`.

        A k larger than the training set is left out, but for k = 1 where all are.
        """
        parts = [part for part in self.by_part if part not in left]
        rows = self.to_score(left)
        similarity = np.concatenate([self.by_part[p][0][rows] for p in parts], axis=1)
        place = np.concatenate([self.by_part[p][1][rows] for p in parts], axis=1)
        order = np.argsort(-similarity, axis=1, kind="stable")[:, : self.grid[-1]]
        similarity = np.take_along_axis(similarity, order, axis=1).astype(np.float64)
        near = self.y[np.take_along_axis(place, order, axis=1)]
        unit = TEMPERATURE * (1.0 if self.cosine else self._spread(parts))
        weight = np.exp((similarity - similarity[:, :1]) / unit)
        n_train = len(self.splits.training_rows(left))
        grid = [k for k in self.grid if k <= n_train] or [1]
        numbers = [(weight[:, :k] * near[:, :k]).sum(1) / weight[:, :k].sum(1) for k in grid]
        return Predicted(np.stack(numbers, 1), tuple(map(float, grid)))

    def _spread(self, parts: list[int]) -> float:
        """The mean squared distance of the training rows from their mean."""
        m = self.source.moments(self.splits.part, parts, False)
        return max(float(m.squares.sum()) / m.n, 1e-30)
