"""Where weights live while they are solved for: among the features, or as a combination of training rows.

The optimal weights of an L2 penalty are a combination of the training rows, w = X'a, so they can be kept
as a. With K = X X' the margins are K a and a gradient X'r + w has the coefficients r + a; the inner
product of two weights is a'K b. So in the rows each vector has an image under the metric K, and one
product with K an iteration makes the image of the gradient, of which all other images are combinations.
Among the features the metric is the identity, and an iteration takes a product with X and one with X'.
In both the bias is one coordinate more, the last; where the rows have a mean and the bias a penalty, K + 1
stands for K in the rows, and the coordinate stays 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from probe.probes.matrix import Held, Rows, factored
from probe.probes.steps import Vectors

_PASSES = 3_000
"""Iterations times columns of a training set that the probes of a layer take: the order of it, measured."""


def rows_are_cheaper(n: int, other: int, dim: int) -> bool:
    """Whether `n` training rows of `dim` features are solved as combinations of rows.

    The one place that weighs both: their inner products among themselves (one triangle) and with `other`
    rows, and then 2 n^2 operations a column and iteration; against 4 n dim among the features.
    """
    among_rows = n * n * dim + 2 * other * n * dim + _PASSES * 2 * n * n
    among_features = _PASSES * 4 * n * dim + 2 * n * min(n, dim) * dim
    return among_rows < among_features


@dataclass(frozen=True)
class Turn:
    """From the coordinates of one space to those of another and back; None: they are the same."""

    coordinates: Tensor | None = None
    """Those of the training rows in the other space, `(n, r)` float64."""
    some: Tensor | None = None
    """The r rows whose coordinates are a lower triangle."""

    def there(self, own: Tensor) -> Tensor:
        """Weights in the other space."""
        own = own.double()
        if self.coordinates is None:
            return own
        return torch.cat([own[:, :-1] @ self.coordinates, own[:, -1:]], 1)

    def back(self, own: Tensor) -> Tensor:
        """Weights of the other space as combinations of those rows."""
        if self.coordinates is None or self.some is None:
            return own
        made = own.new_zeros(len(own), len(self.coordinates) + 1)
        upper = self.coordinates[self.some].T
        made[:, self.some] = torch.linalg.solve_triangular(upper, own[:, :-1].T, upper=True).T
        made[:, -1] = own[:, -1]
        return made


class Space(Protocol):
    """Coordinates of weights on one training set."""

    @property
    def n(self) -> int:
        """Training rows."""

    @property
    def size(self) -> int:
        """Coordinates of a weight, without the bias."""

    @property
    def augmented(self) -> bool:
        """The strong directions have a bias, since the rows have a mean."""

    @property
    def dtype(self) -> torch.dtype:
        """The number type of the products."""

    @property
    def device(self) -> torch.device:
        """Where they are made."""

    def vectors(self, own: Tensor) -> Vectors:
        """Coordinates `(columns, size + 1)` with their images."""

    def margins(self, v: Vectors) -> Tensor:
        """Those of the training rows, `(columns, n)`."""

    def gradient(self, r: Tensor, w: Vectors, penalty: Tensor) -> Vectors:
        """X'r + w and its bias.

        Args:
            r: The loss's derivative by the margins, `(columns, n)`.
            w: The weights.
            penalty: 1 where the bias counts in the penalty, `(columns,)`.
        """

    @property
    def order(self) -> int:
        """Rows of the matrix whose eigenvectors are the strong directions."""

    @property
    def total(self) -> float:
        """The trace of that matrix."""

    def products(self, v: Tensor) -> Tensor:
        """That matrix times `v`, `(order, columns)`."""

    def directions(self, vectors: Tensor, values: Tensor) -> Vectors:
        """Unit weights of eigenvectors `(order, r)`, as `(r, size + 1)`."""

    def double(self) -> tuple[Space, Turn]:
        """The same in float64, and what turns weights `(columns, size + 1)` to it and back."""


@dataclass(frozen=True)
class FeatureSpace:
    """Weights as they are, `(p,)`."""

    rows: Rows
    augmented: bool
    """The bias is among the strong directions, since the rows have a mean."""
    has_bias: bool = True
    """Else the bias is among the features, and the last coordinate stays 0."""
    made: Tensor | None = None
    """[X, 1]'[X, 1] where it was made without the rows, `(p + 1, p + 1)`."""

    @cached_property
    def gram(self) -> Tensor:
        """[X, 1]'[X, 1], `(p + 1, p + 1)` float32."""
        if self.made is not None:
            return self.made
        assert isinstance(self.rows, Held)
        x = torch.cat([self.rows.x, self.rows.x.new_ones(self.n, 1)], 1)
        return x.T @ x

    @property
    def n(self) -> int:
        """Training rows."""
        return self.rows.n

    @property
    def size(self) -> int:
        """Features."""
        return self.rows.p

    @property
    def dtype(self) -> torch.dtype:
        """As `Space.dtype`."""
        return self.rows.dtype

    @property
    def device(self) -> torch.device:
        """As `Space.device`."""
        return self.rows.device

    def vectors(self, own: Tensor) -> Vectors:
        """As `Space.vectors`."""
        return Vectors(own, own)

    def margins(self, v: Vectors) -> Tensor:
        """As `Space.margins`."""
        return self.rows.times(v.own[:, :-1].T).T.contiguous().add_(v.own[:, -1:])

    def gradient(self, r: Tensor, w: Vectors, penalty: Tensor) -> Vectors:
        """As `Space.gradient`."""
        own = torch.empty_like(w.own)
        torch.add(self.rows.back(r.T).T, w.own[:, :-1], out=own[:, :-1])
        own[:, -1] = 0
        if self.has_bias:
            own[:, -1] = r.sum(1, dtype=torch.float64) + penalty * w.own[:, -1]
        return Vectors(own, own)

    @property
    def order(self) -> int:
        """As `Space.order`."""
        return self.size + self.augmented

    @cached_property
    def total(self) -> float:
        """As `Space.total`."""
        if self.made is not None:
            return float(self.made.diagonal()[: self.order].sum(dtype=torch.float64))
        assert isinstance(self.rows, Held)
        return float(self.rows.x.square().sum(dtype=torch.float64)) + self.augmented * self.n

    def products(self, v: Tensor) -> Tensor:
        """As `Space.products`."""
        if self.made is not None:
            return self.made[: self.order, : self.order] @ v
        m = self.rows.times(v[: self.size])
        if self.augmented:
            m += v[-1]
        back = self.rows.back(m)
        return torch.cat([back, m.sum(0, keepdim=True)]) if self.augmented else back

    def directions(self, vectors: Tensor, values: Tensor) -> Vectors:
        """As `Space.directions`."""
        own = vectors.T
        if not self.augmented:
            own = torch.nn.functional.pad(own, (0, 1))
        return self.vectors(own.contiguous())

    def nbytes(self) -> int:
        """The bytes that it holds in memory."""
        held = self.n * self.size if isinstance(self.rows, Held) else 0
        return 4 * (held + (0 if self.made is None else self.made.numel()))

    def double(self) -> tuple[FeatureSpace, Turn]:
        """As `Space.double`."""
        return FeatureSpace(self.rows.double(), self.augmented, self.has_bias), Turn()


@dataclass(frozen=True)
class RowSpace:
    """Weights as combinations of the training rows, `(n,)`."""

    products_of_rows: Tensor
    """K = X X', `(n, n)`, symmetric to the bit; augmented, K + 1."""
    augmented: bool
    """The rows have a mean and the bias a penalty: it is the weight of a feature that is always 1."""

    @property
    def n(self) -> int:
        """Training rows."""
        return len(self.products_of_rows)

    @property
    def size(self) -> int:
        """Training rows, too."""
        return len(self.products_of_rows)

    @property
    def dtype(self) -> torch.dtype:
        """As `Space.dtype`."""
        return self.products_of_rows.dtype

    @property
    def device(self) -> torch.device:
        """As `Space.device`."""
        return self.products_of_rows.device

    def vectors(self, own: Tensor) -> Vectors:
        """As `Space.vectors`."""
        image = torch.empty_like(own)
        torch.mm(own[:, :-1], self.products_of_rows, out=image[:, :-1])
        image[:, -1] = own[:, -1]
        return Vectors(own, image)

    def margins(self, v: Vectors) -> Tensor:
        """As `Space.margins`."""
        return v.image[:, :-1] + v.image[:, -1:]

    def gradient(self, r: Tensor, w: Vectors, penalty: Tensor) -> Vectors:
        """As `Space.gradient`."""
        own = torch.empty_like(w.own)
        torch.add(r, w.own[:, :-1], out=own[:, :-1])
        if not self.augmented:
            # The rows add up to nothing; what is of no effect must not grow by rounding.
            own[:, :-1] -= own[:, :-1].mean(1, keepdim=True)
            own[:, -1] = r.sum(1, dtype=torch.float64) + penalty * w.own[:, -1]
        else:
            own[:, -1] = 0
        return self.vectors(own)

    @property
    def order(self) -> int:
        """As `Space.order`."""
        return self.n

    @cached_property
    def total(self) -> float:
        """As `Space.total`."""
        return float(self.products_of_rows.diagonal().sum(dtype=torch.float64))

    def products(self, v: Tensor) -> Tensor:
        """As `Space.products`."""
        return self.products_of_rows @ v

    def directions(self, vectors: Tensor, values: Tensor) -> Vectors:
        """As `Space.directions`."""
        own = (vectors / values.clamp_min(1e-30).sqrt()).T
        return self.vectors(torch.nn.functional.pad(own, (0, 1)))

    def nbytes(self) -> int:
        """The bytes that it holds in memory."""
        return 4 * self.products_of_rows.numel()

    def double(self) -> tuple[FeatureSpace, Turn]:
        """As `Space.double`: in the coordinates of their span, where rounding leaves no row negative."""
        coordinates, some = factored(self.products_of_rows.double())
        space = FeatureSpace(Held(coordinates), False, has_bias=not self.augmented)
        return space, Turn(coordinates, some)
