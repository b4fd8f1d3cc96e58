"""The strong directions of a training set and the preconditioner made of them.

The Hessian of a problem is about k X'X + D, k being C times the mean curvature of its loss and D the
penalty. With the strongest eigenvectors V of X'X, their values l and the mean m of the other values,

    P = V (1 / (1 + k l) - 1 / (1 + k m)) V' + 1 / (1 + k m)

is about its inverse for every k at once. Few features have all their eigenvectors, so that P is exact;
else they come from subspace iteration (Halko, Martinsson and Tropp 2011, algorithm 4.4).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from probe.probes.spaces import FeatureSpace, Space
from probe.probes.steps import Vectors

EXACT = 320
"""Features up to which all eigenvectors are taken."""
_STRONG = 128
_MORE = 16
"""Columns beyond those kept, which make the last ones of them good."""
_PASSES = 2
_NO_VALUE = 1e-5
"""An eigenvalue, relative to the largest, that may be rounding alone."""


@dataclass(frozen=True)
class Directions:
    """The strongest directions of one training set."""

    weights: Vectors
    """`(r, size + 1)`; orthonormal."""
    values: Tensor
    """Eigenvalues of X'X, `(r,)`."""
    rest: float
    """The mean of all others."""
    n: int
    augmented: bool

    @classmethod
    def of(cls, space: Space) -> Directions:
        """Those of a training set; the same every time."""
        if isinstance(space, FeatureSpace) and space.order <= EXACT:
            gram = space.gram[: space.order, : space.order]
            values, vectors = torch.linalg.eigh(gram)
            return cls(
                space.directions(vectors, values),
                values.clamp_min(0),
                0.0,
                space.n,
                space.augmented,
            )
        kept = min(_STRONG, space.order)
        random = torch.Generator().manual_seed(0)
        v = torch.randn(space.order, min(kept + _MORE, space.order), generator=random)
        v = v.to(space.device, space.dtype)
        for _ in range(_PASSES):
            v = torch.linalg.qr(space.products(v))[0]
        made = space.products(v)
        values, turn = torch.linalg.eigh((v.T @ made + made.T @ v) / 2)
        values, vectors = values[-kept:].clamp_min(0), v @ turn[:, -kept:]
        left = max(0.0, space.total - float(values.sum(dtype=torch.float64)))
        # In the rows, a value of nothing has no unit weight.
        some = values > _NO_VALUE * values.max().clamp_min(1e-30)
        values, vectors = values[some], vectors[:, some]
        rest = left / max(1, space.order - kept)
        return cls(space.directions(vectors, values), values, rest, space.n, space.augmented)


class Preconditioner:
    """P of every column."""

    def __init__(self, directions: Directions, k: Tensor, penalty: Tensor) -> None:
        """Those of columns.

        Args:
            directions: The strong directions of their training set.
            k: C times the mean curvature of the loss, `(columns,)` float64.
            penalty: 1 where the bias counts in the penalty, `(columns,)`.
        """
        self.directions = directions
        dtype = directions.values.dtype
        weak = 1 / (1 + k * directions.rest)
        self._weak = weak.to(dtype)[:, None]
        strong = 1 / (1 + k[:, None] * directions.values.double())
        self._strong = (strong - weak[:, None]).to(dtype)
        self._bias = (1 / (k * directions.n + penalty)).to(dtype)

    def __call__(self, g: Vectors) -> Vectors:
        """P g."""
        weights = self.directions.weights
        along = (g.image @ weights.own.T).mul_(self._strong)
        own = self._weak * g.own
        own.addmm_(along, weights.own)
        if not self.directions.augmented:
            own[:, -1] = self._bias * g.own[:, -1]
        if g.image is g.own:
            return Vectors(own, own)
        image = self._weak * g.image
        image.addmm_(along, weights.image)
        image[:, -1] = own[:, -1]
        return Vectors(own, image)

    def of(self, columns: Tensor) -> Preconditioner:
        """Those of some columns."""
        made = object.__new__(Preconditioner)
        made.directions = self.directions
        made._weak, made._strong, made._bias = (
            a[columns] for a in (self._weak, self._strong, self._bias)
        )
        return made
