"""The solver: one training set, a whole grid of C, all at once, to the optimum.

For every problem q of the grid it minimises, over weights W, `(r + 1, k)` with the bias as last row,

    f_q(W) = C_q sum_i loss(x_i W, t_i) + |D W|^2 / 2,    D = 1, but 0 for a bias that is not penalised,

a strictly convex function, by L-BFGS (Nocedal and Wright, Numerical Optimization, algorithm 7.4):

- All problems share the rows, so the margins X W and the gradients X'R of all of them are one large
  matrix product each, which runs at full speed where a single problem would wait for memory.
- The rows come in principal axes (probe/axes.py), where the Hessian of the loss at W = 0 is
  C_q a diag(s^2), a being the curvature of the loss. Its inverse with the penalty, a vector, is the
  initial inverse Hessian: ten or twenty iterations instead of hundreds.
- Along a direction the margins change linearly, so the line search, Newton's method on a convex
  function of one variable, passes over the margins and not over the features.
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

from probe.axes import Axes

_MEMORY = 12
_LINE_STEPS = 12
_ROUGH = 0.1
"""Mean loss of a row below which float32 margins are too coarse."""
_SINGLE_STEPS = 60


@dataclass(frozen=True)
class Loss:
    """A convex loss of margins, `(n, q, k)`."""

    value: Callable[[Tensor], Tensor]
    """`(n, q, k)` to the sum over rows, `(q,)` float64."""
    slope: Callable[[Tensor], Tensor]
    """Derivative by the margins, `(n, q, k)`."""
    along: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
    """First and second derivative of the sum along a direction of margins, each `(q,)` float64."""
    curvature: float
    """Second derivative at zero margins, the a above."""


@dataclass(frozen=True)
class Solved:
    """The optimum of every problem."""

    weights: Tensor
    """`(r + 1, q, k)` float64; the last row is the bias."""
    objective: Tensor
    """`(q,)` float64."""
    gap: Tensor
    """Estimated error of the objective, relative, `(q,)`: half the Newton decrement g'Hg."""
    iterations: int


def softmax_loss(y: Tensor, classes: int) -> Loss:
    """Multinomial logistic loss of labels `(n,)`; margins are `(n, q, K)`."""
    hot = torch.nn.functional.one_hot(y, classes).to(torch.float32)[:, None]  # (n, 1, K)

    def along(m: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
        pd = m.softmax(2) * d
        mean = pd.sum(2)
        return _sum(mean - (hot * d).sum(2)), _sum((pd * d).sum(2) - mean * mean)

    return Loss(
        value=lambda m: _sum(m.logsumexp(2) - (m * hot).sum(2)),
        slope=lambda m: m.softmax(2) - hot,
        along=along,
        curvature=1 / classes,
    )


def logistic_loss(sign: Tensor) -> Loss:
    """Binary logistic loss of signs `(n,)`, -1 or 1; margins are `(n, q, 1)`."""
    t = sign[:, None, None]

    def along(m: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
        p = (-t * m).sigmoid()
        return _sum(-t * p * d), _sum(p * (1 - p) * d * d)

    return Loss(
        value=lambda m: _sum(torch.nn.functional.softplus(-t * m)),
        slope=lambda m: -t * (-t * m).sigmoid(),
        along=along,
        curvature=0.25,
    )


def squared_hinge_loss(signs: Tensor) -> Loss:
    """Squared hinge loss of signs `(n, q)`, -1 or 1; margins are `(n, q, 1)`."""
    t = signs[:, :, None]

    def along(m: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
        short = (1 - t * m).clamp_min(0)
        return _sum(-2 * t * short * d), _sum(2 * d * d * (short > 0))

    return Loss(
        value=lambda m: _sum((1 - t * m).clamp_min(0) ** 2),
        slope=lambda m: -2 * t * (1 - t * m).clamp_min(0),
        along=along,
        curvature=2.0,
    )


def solve(
    axes: Axes,
    loss: Callable[[Tensor], Loss],
    c: Tensor,
    k: int,
    *,
    penalise_bias: bool,
    tol: float = 1e-6,
    max_iter: int = 500,
) -> Solved:
    """Minimise every problem of a grid on one training set.

    Args:
        axes: The training rows, in principal axes.
        loss: From the numbers of the problems still running, `(q,)`, to their loss.
        c: C of every problem, `(q,)` float64.
        k: Columns of weights per problem: K for softmax, else 1.
        penalise_bias: Whether the bias counts in the penalty.
        tol: Stop when the estimated relative error of the objective is at most this.
        max_iter: Stop in any case; `gap` then says how far it came.
    """
    n, r = axes.train.shape
    x = torch.cat([axes.train, axes.train.new_ones(n, 1)], 1)  # (n, r + 1)
    penalty = x.new_ones(r + 1, 1, 1)
    penalty[-1] = float(penalise_bias)
    squares = torch.cat([axes.squares, axes.squares.new_tensor([float(n)])])
    problems = torch.arange(len(c))
    out = torch.zeros(r + 1, len(c), k, dtype=torch.float64)
    objective = torch.zeros(len(c), dtype=torch.float64)
    gap = torch.full((len(c),), torch.inf, dtype=torch.float64)

    now = loss(problems)
    scale = c[:, None].to(torch.float32)  # (q, 1)
    first = 1 / (c[None] * now.curvature * squares[:, None] + penalty[:, :, 0].double())
    inverse = first.to(torch.float32)[:, :, None]  # (r + 1, q, 1)
    w = x.new_zeros(r + 1, len(c), k)
    m = x.new_zeros(n, len(c), k)
    f = c * now.value(m)
    g = _times(x.T, scale * now.slope(m)) + penalty * w
    history: list[tuple[Tensor, Tensor, Tensor]] = []  # s, y, 1 / s'y
    calm = torch.zeros(len(c), dtype=torch.int64)
    iterations = 0
    while len(problems):
        d = -_apply_inverse(g, history, inverse)
        slope = _dot(g, d)  # (q,), negative
        error = -slope / 2 / f.abs().clamp_min(1e-300)
        single = x.dtype == torch.float32
        calm = torch.where(error <= (tol if single else tol / 100), calm + 1, 0)
        rough = f < _ROUGH * c * n if single else torch.zeros_like(slope, dtype=torch.bool)
        finished = ((calm >= 2) | (slope >= 0)) & ~rough | (iterations >= max_iter)
        if single and not finished.all():
            near = (error <= 10 * tol) | (slope >= 0)
            if bool((finished | (rough & near)).all()) or iterations >= _SINGLE_STEPS:
                x, penalty, scale, inverse, w, d = (
                    a.double() for a in (x, penalty, scale, inverse, w, d)
                )
                history = [(s.double(), y.double(), rho) for s, y, rho in history]
                m = _times(x, w)
                f = c * now.value(m) + _dot(penalty * w, w) / 2
                g = _times(x.T, scale * now.slope(m)) + penalty * w
                continue
        # Taking problems out copies everything, so it waits until a quarter are done.
        if finished.all() or int(finished.sum()) * 4 >= len(problems):
            done = problems[finished]
            out[:, done] = w[:, finished].to(out.dtype)
            objective[done], gap[done] = f[finished], error[finished]
            left = ~finished
            problems, calm, f, slope = problems[left], calm[left], f[left], slope[left]
            if not len(problems):
                break
            scale, c, now = scale[left], c[left], loss(problems)
            w, m, g, d = w[:, left], m[:, left], g[:, left], d[:, left]
            inverse = inverse[:, left]
            history = [(s[:, left], y[:, left], rho[left]) for s, y, rho in history]
        change = _times(x, d)  # (n, q, k)
        step = _line_search(now, c, m, change, w, d, penalty, slope)
        m = m + _wide(step, m) * change
        moved = _wide(step, d) * d
        w = w + moved
        f = c * now.value(m) + _dot(penalty * w, w) / 2
        before, g = g, _times(x.T, scale * now.slope(m)) + penalty * w
        y = g - before
        sy = _dot(moved, y)
        rho = torch.where(sy > 0, 1 / sy.clamp_min(1e-300), 0)
        history = [*history[-_MEMORY + 1 :], (moved, y, rho)]
        iterations += 1
    return Solved(out, objective, gap, iterations)


def _apply_inverse(
    g: Tensor, history: list[tuple[Tensor, Tensor, Tensor]], inverse: Tensor
) -> Tensor:
    """The two-loop recursion: the inverse Hessian times `g`, `(r + 1, q, k)`."""
    v = g
    alphas = []
    for s, y, rho in reversed(history):
        alpha = rho * _dot(s, v)
        v = v - _wide(alpha, v) * y
        alphas.append(alpha)
    if history:
        s, y, rho = history[-1]
        sy = torch.where(rho > 0, 1 / rho.clamp_min(1e-300), 1.0)
        yhy = _dot(y, inverse * y)
        v = inverse * v * _wide(torch.where(rho > 0, sy / yhy.clamp_min(1e-300), 1.0), v)
    else:
        v = inverse * v
    for (s, y, rho), alpha in zip(history, reversed(alphas), strict=True):
        v = v + _wide(alpha - rho * _dot(y, v), v) * s
    return v


def _line_search(
    loss: Loss,
    c: Tensor,
    m: Tensor,
    change: Tensor,
    w: Tensor,
    d: Tensor,
    penalty: Tensor,
    slope: Tensor,
) -> Tensor:
    """The step `(q,)` at which the slope has fallen to a tenth, by safeguarded Newton from 1."""
    wd, dd = _dot(penalty * w, d), _dot(penalty * d, d)
    step = torch.ones_like(slope)
    low, high = torch.zeros_like(step), torch.full_like(step, torch.inf)
    for _ in range(_LINE_STEPS):
        at = m + _wide(step, m) * change
        down, bend = loss.along(at, change)
        first = c * down + wd + step * dd
        good = first.abs() <= 0.1 * slope.abs()
        if bool(good.all()):
            break
        low = torch.where(first < 0, step, low)
        high = torch.where(first > 0, step, high)
        second = c * bend + dd
        newton = step - first / second.clamp_min(1e-300)
        middle = torch.where(high.isinf(), 4 * step, (low + high) / 2)
        inside = (newton > low) & (newton < high) & (newton < 10 * step)
        step = torch.where(good, step, torch.where(inside, newton, middle))
    return step


def _times(a: Tensor, b: Tensor) -> Tensor:
    """A `(p, q)` times B `(q, problems, k)`, as one product."""
    return (a @ b.reshape(b.shape[0], -1)).reshape(a.shape[0], *b.shape[1:])


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """Inner product of each problem's numbers, `(rows, q, k)` twice to `(q,)` float64."""
    return _sum(a * b)


def _sum(a: Tensor) -> Tensor:
    """Sum over all axes but the problems', in float64: `(rows, q)` or `(rows, q, k)` to `(q,)`."""
    total = a.sum(0, dtype=torch.float64)
    return total.sum(1) if total.ndim > 1 else total


def _wide(a: Tensor, like: Tensor) -> Tensor:
    return a.to(like.dtype)[None, :, None]
