"""The solver: one training set, a whole grid of C, all at once, to the optimum.

For every problem q of the grid it minimises, over weights W, `(p + 1, k)` with the bias as last row,

    f_q(W) = C_q sum_i loss(x_i W, t_i) + |D W|^2 / 2,    D = 1, but 0 for a bias that is not penalised,

a strictly convex function, by L-BFGS (Nocedal and Wright, Numerical Optimization, algorithm 7.4):

- All problems share the rows, so the margins X W and the gradients X'R of all of them are one large
  matrix product each, which runs at full speed where a single problem would wait for memory.
- The Hessian of the loss at W = 0 is C_q a X'X, a being the curvature of the loss. Its Cholesky factor
  with the penalty, one for all problems within a decade and a half of C, is the initial inverse
  Hessian: ten or twenty iterations instead of hundreds.
- Along a direction the margins change linearly, so the line search passes over the margins and not
  over the features; the step of 1 is nearly always taken, and its slope is the next gradient's.
- A problem that has converged is taken out of the products.

Products are float32 and sums float64. Where C is so large that almost every training row is fitted,
what is left of the loss is smaller than the rounding of the margins; such problems go on in float64
once float32 has brought them near.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from probe.probes.losses import Loss, summed
from probe.probes.matrix import Rows

_MAX_ITER = 1_000
"""Iterations after which a problem stops in any case; its `gap` then says how far it came."""
_MEMORY = 12
_LINE_STEPS = 12
_ROUGH = 0.1
"""Mean loss of a row below which float32 margins are too coarse."""
_SINGLE_STEPS = 100
_SPAN = 32
"""Largest ratio of C within which one factor will do."""
_CAUTION = 50
"""The estimate of the error is of its order only; it must be this much smaller than asked."""


@dataclass(frozen=True)
class Solved:
    """The optimum of every problem."""

    weights: Tensor
    """`(p + 1, q, k)` float64; the last row is the bias."""
    objective: Tensor
    """`(q,)` float64."""
    gap: Tensor
    """Estimated error of the objective, relative, `(q,)`."""
    iterations: int


def solve(
    rows: Rows,
    gram: Tensor,
    loss: Callable[[Tensor], Loss],
    c: Tensor,
    k: int,
    *,
    penalise_bias: bool,
    start: Tensor | None = None,
    tol: float = 1e-4,
) -> Solved:
    """Minimise every problem of a grid on one training set.

    Args:
        rows: The training rows, `(n, p)`.
        gram: [X, 1]'[X, 1], `(p + 1, p + 1)`; it decides the speed, not the answer.
        loss: From the numbers of the problems still running, `(q,)`, to their loss.
        c: C of every problem, `(q,)` float64.
        k: Columns of weights per problem: K for softmax, else 1.
        penalise_bias: Whether the bias counts in the penalty.
        start: Weights to start from, `(p + 1, q, k)`; zeros by default.
        tol: Stop when the relative error of the objective is at most this.
    """
    device, total = rows.device, len(c)
    penalty = torch.ones(rows.p + 1, device=device)
    penalty[-1] = float(penalise_bias)
    problems = torch.arange(total, device=device)
    out = torch.zeros(total, k, rows.p + 1, dtype=torch.float64, device=device)
    objective = torch.zeros(total, dtype=torch.float64, device=device)
    gap = torch.full((total,), torch.inf, dtype=torch.float64, device=device)

    c = c.to(device)
    now = loss(problems)
    inverse = _Inverse(gram, c * now.curvature, penalty)
    w = out.to(torch.float32)
    if start is not None:
        w = start.to(device, torch.float32).permute(1, 2, 0).contiguous()
    m = _times(rows, w)
    f, g = _objective(rows, now, c, penalty, m, w)
    pg = inverse(g, problems)
    steps = _Steps.none(total, k * (rows.p + 1), device)
    calm = torch.zeros(total, dtype=torch.int64, device=device)
    iterations = 0
    while True:
        d = -steps.inverse(g, pg)
        slope = _dot(g, d)  # (q,), negative
        error = -slope / 2 / f.abs().clamp_min(1e-300)
        single = rows.dtype == torch.float32
        calm = torch.where(error <= tol / _CAUTION / (1 if single else 100), calm + 1, 0)
        rough = f < _ROUGH * c * rows.n if single else torch.zeros_like(slope, dtype=torch.bool)
        finished = ((calm >= 2) | (slope >= 0)) & ~rough | (iterations >= _MAX_ITER)
        if single and not finished.all():
            near = (error <= tol / 5) | (slope >= 0)
            if bool((finished | (rough & near)).all()) or iterations >= _SINGLE_STEPS:
                rows, penalty, w, steps = (
                    rows.double(),
                    penalty.double(),
                    w.double(),
                    steps.double(),
                )
                m = _times(rows, w)
                f, g = _objective(rows, now, c, penalty, m, w)
                pg = inverse(g, problems)
                continue
        # Taking problems out copies everything, so it waits until a quarter are done.
        if finished.all() or int(finished.sum()) * 4 >= len(problems):
            done = problems[finished]
            out[done] = w[finished].to(out.dtype)
            objective[done], gap[done] = f[finished], error[finished]
            left = ~finished
            problems, calm, f, slope, c = (a[left] for a in (problems, calm, f, slope, c))
            if not len(problems):
                break
            now, steps = loss(problems), steps.of(left)
            w, m, g, pg, d = (a[left] for a in (w, m, g, pg, d))
        w, m, f, residual, step = _line_search(now, c, m, _times(rows, d), w, d, penalty, slope)
        g_before, g = g, _gradient(rows, c, penalty, residual, w)
        pg_before, pg = pg, inverse(g, problems)
        steps.add(_wide(step, d) * d, g - g_before, pg - pg_before)
        iterations += 1
    return Solved(out.permute(2, 0, 1), objective, gap, iterations)


class _Inverse:
    """Inverses P of c X'X + D for many c: one Cholesky factor for all within a decade and a half."""

    def __init__(self, gram: Tensor, c: Tensor, penalty: Tensor) -> None:
        self.group = torch.zeros(len(c), dtype=torch.int64, device=c.device)
        self.factors: list[Tensor] = []
        left = torch.ones_like(c, dtype=torch.bool)
        while left.any():
            low = c[left].min()
            here = left & (c <= low * _SPAN)
            middle = float((c[here].log().mean()).exp())
            matrix = middle * gram
            matrix.diagonal().add_(penalty + 1e-6 * matrix.diagonal().max())
            self.group[here] = len(self.factors)
            self.factors.append(torch.linalg.cholesky(matrix))
            left &= ~here

    def __call__(self, v: Tensor, problems: Tensor) -> Tensor:
        """P times `v`, `(q, k, p + 1)`, of these problems."""
        out = torch.empty_like(v)
        group = self.group[problems]
        for number, factor in enumerate(self.factors):
            here = group == number
            if here.any():
                some = v[here].to(factor.dtype)
                flat = torch.cholesky_solve(some.reshape(-1, v.shape[2]).T, factor).T
                out[here] = flat.reshape(some.shape).to(v.dtype)
        return out


@dataclass
class _Steps:
    """The last steps s of every problem and the changes y of its gradient, scaled to s'y = 1.

    They make the inverse Hessian H of L-BFGS out of P. In the compact form (Byrd, Nocedal and Schnabel
    1994, theorem 2.2), with U the upper triangle of S'Y and a scalar h that fits h P to the last step,

        H = h P + [S  h P Y] [U'^-1 (1 + h Y'P Y) U^-1   -U'^-1;  -U^-1   0] [S  h P Y]',

    H g is a few products of all steps at once; P Y comes from differences of P g, so that P is applied
    once in an iteration.
    """

    s: Tensor
    """`(q, steps, k (p + 1))`, oldest first."""
    py: Tensor
    """P Y, alike."""
    sy: Tensor
    """S'Y, `(q, steps, steps)` float64; nothing below its diagonal is used."""
    ypy: Tensor
    """Y'P Y, alike."""

    @classmethod
    def none(cls, q: int, size: int, device: torch.device) -> _Steps:
        """No steps yet."""
        vectors = torch.zeros(q, 0, size, device=device)
        numbers = torch.zeros(q, 0, 0, dtype=torch.float64, device=device)
        return cls(vectors, vectors, numbers, numbers)

    def of(self, which: Tensor) -> _Steps:
        """The steps of some problems."""
        return _Steps(self.s[which], self.py[which], self.sy[which], self.ypy[which])

    def double(self) -> _Steps:
        """The same in float64."""
        return _Steps(self.s.double(), self.py.double(), self.sy, self.ypy)

    def add(self, s: Tensor, y: Tensor, py: Tensor) -> None:
        """Add a step and its change of gradient, `(q, k, p + 1)` each; a full list drops its oldest."""
        sy = _dot(s, y)
        unit = _wide(torch.where(sy > 0, sy.clamp_min(1e-300).rsqrt(), 0), s)
        s, y, py = ((unit * a).flatten(1)[:, None] for a in (s, y, py))
        old = slice(max(0, self.s.shape[1] - _MEMORY + 1), None)
        self.s = torch.cat([self.s[:, old], s], 1)
        self.py = torch.cat([self.py[:, old], py], 1)
        self.sy = _bordered(self.sy[:, old, old], torch.bmm(self.s, y.mT))
        self.ypy = _bordered(self.ypy[:, old, old], torch.bmm(self.py, y.mT))

    def inverse(self, g: Tensor, pg: Tensor) -> Tensor:
        """H g, `(q, k, p + 1)`, from `g` and `P g`."""
        count = self.s.shape[1]
        if not count:
            return pg
        upper = self.sy.triu(1) + torch.eye(count, dtype=self.sy.dtype, device=self.sy.device)
        last = self.ypy[:, -1, -1]
        h = torch.where(last > 0, 1 / last.clamp_min(1e-300), 1.0)[:, None, None]
        flat = g.flatten(1)[:, :, None]
        a, b = torch.bmm(self.s, flat).double(), torch.bmm(self.py, flat).double()
        t = torch.linalg.solve_triangular(upper, a, upper=True)
        along = torch.linalg.solve_triangular(upper.mT, t + h * (self.ypy @ t) - h * b, upper=False)
        change = torch.bmm(along.mT.to(g.dtype), self.s) - torch.bmm(
            (h * t).mT.to(g.dtype), self.py
        )
        return _wide(h[:, 0, 0], pg) * pg + change.reshape(g.shape)


def _bordered(square: Tensor, column: Tensor) -> Tensor:
    """A symmetric matrix `(q, a, a)` with a last row and column `(q, a + 1, 1)`."""
    column = column.double()
    return torch.cat([torch.cat([square, column[:, :-1].mT], 1), column], 2)


def _line_search(
    loss: Loss,
    c: Tensor,
    m: Tensor,
    change: Tensor,
    w: Tensor,
    d: Tensor,
    penalty: Tensor,
    slope: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The first step at which the slope has fallen to a half, by safeguarded Newton from 1.

    Returns:
        Weights, margins, objective `(q,)`, slope of the loss by the margins, and the step `(q,)`.
    """
    wd, dd, ww = _dot(penalty * w, d), _dot(penalty * d, d), _dot(penalty * w, w)
    step = torch.ones_like(slope)
    low, high = torch.zeros_like(step), torch.full_like(step, torch.inf)
    for _ in range(_LINE_STEPS):
        at = m + _wide(step, m) * change
        value, residual = loss.value(at)
        first = c * _dot(residual, change) + wd + step * dd
        good = first.abs() <= 0.5 * slope.abs()
        if bool(good.all()):
            break
        newton = step - first / (c * loss.bend(residual, change) + dd).clamp_min(1e-300)
        low = torch.where(first < 0, step, low)
        high = torch.where(first > 0, step, high)
        inside = (newton > low) & (newton < high) & (newton < 10 * step)
        middle = torch.where(high.isinf(), 4 * step, (low + high) / 2)
        step = torch.where(good, step, torch.where(inside, newton, middle))
    f = c * value + ww / 2 + step * wd + step * step * dd / 2
    return w + _wide(step, d) * d, at, f, residual, step


def _objective(
    rows: Rows, loss: Loss, c: Tensor, penalty: Tensor, m: Tensor, w: Tensor
) -> tuple[Tensor, Tensor]:
    value, residual = loss.value(m)
    return c * value + _dot(penalty * w, w) / 2, _gradient(rows, c, penalty, residual, w)


def _gradient(rows: Rows, c: Tensor, penalty: Tensor, residual: Tensor, w: Tensor) -> Tensor:
    q, k, n = residual.shape
    r = _wide(c, residual) * residual
    product = rows.back(r.reshape(-1, n).T).T.reshape(q, k, -1)
    bias = r.sum(2, keepdim=True, dtype=torch.float64).to(r.dtype)
    return torch.cat([product, bias], 2) + penalty * w


def _times(rows: Rows, w: Tensor) -> Tensor:
    """Margins `(q, k, n)` of weights `(q, k, p + 1)`."""
    flat = w.reshape(-1, rows.p + 1)
    margins = rows.times(flat[:, :-1].T).T + flat[:, -1:]
    return margins.contiguous().reshape(*w.shape[:2], rows.n)


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """Inner product of each problem's numbers, `(q, k, n)` twice to `(q,)` float64."""
    return summed(a * b)


def _wide(a: Tensor, like: Tensor) -> Tensor:
    return a.to(like.dtype)[:, None, None]
