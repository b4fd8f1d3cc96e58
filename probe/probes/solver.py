"""The solver: one training set, a whole grid of C, all at once, to a proven distance from the optimum.

For every problem q of the grid it minimises, over weights w and biases b of k columns,

    f_q(w, b) = C_q sum_i loss(x_i w + b, t_i) + |w|^2 / 2 (+ |b|^2 / 2 where the bias is penalised),

a convex function, by Newton's method with conjugate gradients (Nocedal and Wright, Numerical
Optimization, algorithm 7.1):

- All problems share the rows, so that their products with the features are one large product, which runs
  at full speed where a single problem would wait for memory. A problem that is done is taken out.
- The Hessian is 1 + C X'DX, D being the second derivatives of the loss. The conjugate gradients are
  preconditioned by the same with the mean of D in its place (spaces.py), at which they take about ten
  iterations. They need not be exact: what is kept of them is a direction.
- Along it the margins change linearly, so the line search passes over the margins and not over the
  features; the step of 1 is nearly always taken.
- f is 1-strongly convex in w, so that f - min f <= |df/dw|^2 / 2 where b is at its best for w. That is
  the proof by which a problem ends. A bias that is penalised is a weight like the others; of one that is
  not, what it may still gain is added as an estimate, to the second order and class by class, which is low
  where a class is rare. What is asked is made fifty times smaller, so that `tol` holds there too, but not
  where scores only choose C. There how far the weights are off is taken from what
  the last step was worth, in which the second derivatives of the loss count, where that is less.
- The squared hinge's second derivative jumps, and from far away Newton's steps would go in circles at a
  large C. It goes there by smaller ones, each begun where the last one ended.

Products are float32 and sums float64. At the largest C of the squared hinge, and where float32 does not
bring the proof, the search goes on in float64.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from probe.probes.losses import Loss, summed
from probe.probes.newton import Gradient, Now, newton_step, wide
from probe.probes.spaces import Space

_MAX_ITER = 300
"""Newton steps after which a problem stops in any case; its `gap` then says how far it came."""
_SINGLE_STEPS = 30
"""Newton steps after which a problem goes on in float64."""
_COARSE = 500.0
"""C times the mean squared length of a row above which float32 margins are too coarse for the squared hinge
to end with, but where scores only choose C."""
_LINE_STEPS = 12
_SLOPE = 0.1
"""The part of the slope that may be left at the end of a line search."""
_EASY = 10.0
"""C times the mean squared length of a row up to which a kinked loss is begun with."""
_NEXT = 10**0.5
_NEAR = 1e-3
"""Relative error at which it goes on to the next C."""
CAUTION = 50.0
"""How much smaller than asked the error is made, and of the penalty alone: then no weight vector is further
off than the root of `tol` / 50, as a share of its length, and scores hardly know it."""
TO_CHOOSE = 1.0
"""The same where scores only choose C: weights are off by about 1 % of their length, or less."""
_FINE = 1e-6
"""So near that float32 can just prove it."""
_NOTHING = 1e-9
"""A relative error at which a problem ends in any case."""
_STALLED = 1e-2
"""Part of the error asked for at which a Newton step has nothing more to give."""


@dataclass(frozen=True)
class Stop:
    """When a problem is done."""

    tol: float = 1e-4
    """The relative error of the objective is proven to be at most this."""
    caution: float = CAUTION
    """And that relative to the penalty alone at most `tol` divided by this."""


@dataclass(frozen=True)
class Solved:
    """The optimum of every problem."""

    weights: Tensor
    """`(p + 1, q, k)` float64; the last row is the bias."""
    start: Tensor
    """What another search on the same training set may start from, `(q, k, size + 1)` float32."""
    objective: Tensor
    """`(q,)` float64."""
    gap: Tensor
    """The objective's relative distance from its minimum, `(q,)`; a bias without penalty is estimated."""
    iterations: int
    """Newton steps of the problem that took most."""


_STOP = Stop()


def solve(
    space: Space,
    loss: Callable[[Tensor], Loss],
    c: Tensor,
    k: int,
    *,
    penalise_bias: bool,
    start: Tensor | None = None,
    stop: Stop = _STOP,
) -> Solved:
    """Minimise every problem of a grid on one training set.

    Args:
        space: The training rows, `(n, p)`, and the coordinates of weights on them.
        loss: From the numbers of the problems still running, `(q,)`, to their loss.
        c: C of every problem, `(q,)` float64.
        k: Columns of weights per problem: K for softmax, else 1.
        penalise_bias: Whether the bias counts in the penalty.
        start: `Solved.start` of a search at smaller C; zeros by default.
        stop: When a problem is done.
    """
    rows, penalty, tol, caution = space.rows, float(penalise_bias), stop.tol, stop.caution
    device, total = rows.device, len(c)
    c = c.to(device)
    a = torch.zeros(total, k, space.size + 1, device=device)
    if start is not None:
        a = start.to(device, torch.float32)
    b, a = a[:, :, -1:].double(), a[:, :, :-1].contiguous()
    w = space.weights(a)
    m = _margins(space, w, b)
    problems = torch.arange(total, device=device)
    make = loss(problems)
    first = c
    if make.kinked:
        first = c.minimum(c.min() if start is not None else c.new_tensor(_EASY / space.unit))
    far = torch.full_like(c, torch.inf)
    now = Now(problems, first, c, a, w, b, m, *make.value(m), far)
    weights = torch.zeros(total, k, rows.p + 1, dtype=torch.float64, device=device)
    kept = torch.zeros(total, k, space.size + 1, device=device)
    objective = torch.zeros(total, dtype=torch.float64, device=device)
    gap = torch.full((total,), torch.inf, dtype=torch.float64, device=device)
    iterations, near = 0, max(tol / caution, min(tol, _FINE))
    while True:
        g = _gradient(space, make, now, penalty)
        on_the_way = (g.gap <= _NEAR) & (now.c < now.goal)
        if bool(on_the_way.any()):
            now.c = torch.where(on_the_way, now.goal.minimum(now.c * _NEXT), now.c)
            now.left = torch.where(on_the_way, torch.inf, now.left)
            g = _gradient(space, make, now, penalty)
        single = space.rows.dtype == torch.float32
        proven = (g.gap <= tol) & (g.off <= near) | (g.gap <= _NOTHING)
        proven = proven & (now.c >= now.goal)
        coarse = (now.c * space.unit > _COARSE) & (caution > TO_CHOOSE and make.kinked)
        finished = proven & ~coarse if single else proven
        finished = finished | (iterations >= _MAX_ITER)
        if bool(finished.any()):
            done, of_done = now.of(finished), now.problems[finished]
            weights[of_done] = torch.cat([done.w.double(), done.b], 2)
            kept[of_done] = torch.cat([done.a, done.b.to(done.a.dtype)], 2).to(kept.dtype)
            objective[of_done], gap[of_done] = g.objective[finished], g.gap[finished]
            left = ~finished
            if not bool(left.any()):
                break
            now, proven, coarse = now.of(left), proven[left], coarse[left]
            g = Gradient(**{name: tensor[left] for name, tensor in vars(g).items()})
            make = loss(now.problems)
        step, change, worth, remains = newton_step(space, make, now, g, penalty)
        if caution > TO_CHOOSE:  # an estimate is not enough
            remains = torch.full_like(remains, torch.inf)
        last = (g.gap <= tol) & (remains <= near * g.length)
        stalled = (worth <= _STALLED * tol / caution * g.objective) & ~last
        if single and (bool((coarse | proven | stalled).all()) or iterations == _SINGLE_STEPS):
            space, now = space.double(), now.double()
            now.w = space.weights(now.a)
            now.m = _margins(space, now.w, now.b)
            now.value, now.residual = make.value(now.m)
            now.left = torch.full_like(now.left, torch.inf)
            continue
        now = _line_search(space, make, now, step, change, penalty)
        now.left = remains
        iterations += 1
    return Solved(weights.permute(2, 0, 1), kept, objective, gap, iterations)


def _gradient(space: Space, loss: Loss, now: Now, penalty: float) -> Gradient:
    pull = wide(now.c, now.residual) * now.residual
    a = space.coordinates(pull) + now.a
    by_w = space.weights(a)
    by_b = pull.sum(2, keepdim=True, dtype=torch.float64) + penalty * now.b
    diagonal = loss.diagonal(now.residual)
    of_bias = torch.ones_like(by_b[:, :, 0])
    if not penalty:
        of_bias = now.c[:, None] * diagonal.sum(2, dtype=torch.float64)
    length = summed(now.w * now.w) + penalty * summed(now.b * now.b)
    objective = now.c * now.value + length / 2
    left = summed(by_w * by_w) + (by_b[:, :, 0].square() / of_bias.clamp_min(1e-300)).sum(1)
    curvature = now.c * diagonal.mean((1, 2), dtype=torch.float64)
    gap = left / 2 / objective.clamp_min(1e-300)
    off = left.minimum(now.left) / length.clamp_min(1e-300)
    return Gradient(a, by_b, objective, gap, off, length, curvature)


def _line_search(
    space: Space, loss: Loss, now: Now, step: Tensor, change: Tensor, penalty: float
) -> Now:
    """The problems moved along their steps to where the slope is near zero: safeguarded Newton from 1."""
    d = space.weights(step)
    dm = _margins(space, d, change)
    wd = summed(now.w * d) + penalty * summed(now.b * change)
    dd = summed(d * d) + penalty * summed(change * change)
    slope = now.c * summed(now.residual * dm) + wd
    far = used = torch.ones_like(slope)
    low, high = torch.zeros_like(far), torch.full_like(far, torch.inf)
    for _ in range(_LINE_STEPS):
        used = far
        m = now.m + wide(far, dm) * dm
        value, residual = loss.value(m)
        here = now.c * summed(residual * dm) + wd + far * dd
        good = here.abs() <= _SLOPE * slope.abs()
        if bool(good.all()):
            break
        curved = now.c * summed(loss.bent(residual, dm) * dm) + dd
        newton = far - here / curved.clamp_min(1e-300)
        low, high = torch.where(here < 0, far, low), torch.where(here > 0, far, high)
        inside = (newton > low) & (newton < high) & (newton < 10 * far)
        middle = torch.where(high.isinf(), 4 * far, (low + high) / 2)
        far = torch.where(good, far, torch.where(inside, newton, middle))
    a, w = now.a + wide(used, step) * step, now.w + wide(used, d) * d
    b = now.b + used[:, None, None] * change
    return Now(now.problems, now.c, now.goal, a, w, b, m, value, residual, now.left)


def _margins(space: Space, w: Tensor, b: Tensor) -> Tensor:
    made = space.rows.times(w.reshape(-1, w.shape[2]).T).T.reshape(*w.shape[:2], -1)
    return made.contiguous().add_(b.to(made.dtype))
