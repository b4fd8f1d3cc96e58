"""The last steps of a search and the inverse Hessian that they make (L-BFGS), for many columns at once."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Vectors:
    """A vector of every column, and its image under the metric.

    The inner product of u and v is the sum of `u.own * v.image`. In the features both are the same.
    """

    own: Tensor
    """`(columns, size)`."""
    image: Tensor
    """Alike."""

    def of(self, columns: Tensor) -> Vectors:
        """Those of some columns."""
        own = self.own[columns]
        return Vectors(own, own if self.image is self.own else self.image[columns])

    def double(self) -> Vectors:
        """The same in float64."""
        own = self.own.double()
        return Vectors(own, own if self.image is self.own else self.image.double())

    def dot(self, other: Vectors) -> Tensor:
        """Inner products with those of `other`, `(columns,)` float64."""
        return (self.own * other.image).sum(1, dtype=torch.float64)

    def of_weights(self, other: Vectors) -> Tensor:
        """The same without the last coordinate, the bias, which may be far larger."""
        return (self.own[:, :-1] * other.image[:, :-1]).sum(1, dtype=torch.float64)

    def times(self, factor: Tensor) -> Vectors:
        """Each times its factor, `(columns,)`."""
        some = factor.to(self.own.dtype)[:, None]
        own = self.own * some
        return Vectors(own, own if self.image is self.own else self.image * some)

    def plus(self, other: Vectors) -> Vectors:
        """The sums with those of `other`."""
        own = self.own + other.own
        return Vectors(own, own if self.image is self.own else self.image + other.image)

    def minus(self, other: Vectors) -> Vectors:
        """The differences from those of `other`."""
        own = self.own - other.own
        return Vectors(own, own if self.image is self.own else self.image - other.image)


def sums(of_columns: Tensor, owner: Tensor, problems: int) -> Tensor:
    """Sums over the columns of every problem, `(columns, ...)` to `(problems, ...)` float64."""
    if problems == len(owner):
        return of_columns.double()
    shape = (problems, *of_columns.shape[1:])
    total = torch.zeros(shape, dtype=torch.float64, device=of_columns.device)
    return total.index_add_(0, owner, of_columns.double())


class Steps:
    """The last steps s of every problem and the changes y of its gradient, scaled to s'y = 1.

    They make the inverse Hessian H of L-BFGS out of P. In the compact form (Byrd, Nocedal and Schnabel
    1994, theorem 2.2), with U the upper triangle of S'Y and a scalar h that fits h P to the last step,

        H = h P + [S  h P Y] [U'^-1 (1 + h Y'P Y) U^-1   -U'^-1;  -U^-1   0] [S  h P Y]',

    H g is a few products of all steps at once; P Y comes from differences of P g, so that P is applied
    once in an iteration. A problem of several columns has one step; its inner products are sums over them.
    """

    def __init__(self, most: int, owner: Tensor, problems: int, like: Vectors) -> None:
        """No steps yet.

        Args:
            most: How many are kept.
            owner: The problem of every column, `(columns,)`, in order.
            problems: How many there are.
            like: Vectors of the shape and number type of the steps.
        """
        self.most, self.owner, self.problems = most, owner, problems
        self.count = 0
        shape = (len(owner), 2 * most, like.own.shape[1])
        self._own = like.own.new_zeros(shape)
        self._image = self._own if like.image is like.own else like.own.new_zeros(shape)
        numbers = (problems, most, most)
        self._sy = torch.zeros(numbers, dtype=torch.float64, device=like.own.device)
        self._ypy = torch.zeros_like(self._sy)

    def _sums(self, of_columns: Tensor) -> Tensor:
        return sums(of_columns, self.owner, self.problems)

    def keep(self, columns: Tensor, problems: Tensor, owner: Tensor) -> None:
        """Let go of all but some columns and problems; `owner` is anew that of every column."""
        alone = self._image is self._own
        self._own = self._own[columns]
        self._image = self._own if alone else self._image[columns]
        self._sy, self._ypy = self._sy[problems], self._ypy[problems]
        self.owner, self.problems = owner, len(self._sy)

    def add(self, s: Vectors, y: Vectors, py: Vectors) -> None:
        """One more; the oldest goes when there are too many."""
        slot = self.count % self.most
        sy = self._sums(s.dot(y))
        unit = torch.where(sy > 0, sy.clamp_min(1e-300).rsqrt(), 0)
        scale = (unit if self.problems == len(self.owner) else unit[self.owner]).to(s.own.dtype)
        scale = scale[:, None]
        places = ((self._own, s.own, py.own), (self._image, s.image, py.image))
        for kept, of_s, of_py in places[: 1 if self._image is self._own else 2]:
            torch.mul(of_s, scale, out=kept[:, slot])
            torch.mul(of_py, scale, out=kept[:, self.most + slot])
        with_y = self._sums(torch.bmm(self._own, (y.image * scale)[:, :, None])[:, :, 0])
        self._sy[:, :, slot] = with_y[:, : self.most]
        self._ypy[:, :, slot] = self._ypy[:, slot] = with_y[:, self.most :]
        self.count += 1

    def inverse(self, g: Vectors, pg: Vectors) -> Vectors:
        """H g from g and P g."""
        held = min(self.count, self.most)
        if not held:
            return pg
        # From the oldest to the newest.
        order = [number % self.most for number in range(self.count - held, self.count)]
        upper = self._sy[:, order][:, :, order].triu_(1)
        upper.diagonal(dim1=1, dim2=2).fill_(1)
        ypy = self._ypy[:, order][:, :, order]
        last = ypy[:, -1, -1]
        h = torch.where(last > 0, 1 / last.clamp_min(1e-300), 1.0)[:, None, None]
        along = self._sums(torch.bmm(self._own, g.image[:, :, None])[:, :, 0])[:, :, None]
        a, b = along[:, order], along[:, [self.most + at for at in order]]
        t = torch.linalg.solve_triangular(upper, a, upper=True)
        s = torch.linalg.solve_triangular(upper.mT, t + h * (ypy @ t) - h * b, upper=False)
        weights = torch.zeros_like(along)
        weights[:, order] = s
        weights[:, [self.most + at for at in order]] = -h * t
        weights, h = weights[:, :, 0], h[:, 0]
        if self.problems < len(self.owner):
            weights, h = weights[self.owner], h[self.owner]
        w, h = weights.to(g.own.dtype)[:, None], h.to(g.own.dtype)
        own = torch.bmm(w, self._own)[:, 0].addcmul_(h, pg.own)
        if self._image is self._own:
            return Vectors(own, own)
        return Vectors(own, torch.bmm(w, self._image)[:, 0].addcmul_(h, pg.image))
