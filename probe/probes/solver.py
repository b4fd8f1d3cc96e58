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

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from probe.probes.columns import Columns, Losses
from probe.probes.losses import Loss
from probe.probes.newton import Gradient, Now, newton_step
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


_STOP = Stop()


@dataclass(frozen=True)
class Problems:
    """Problems of one kind on a training set."""

    loss: Callable[[Tensor], Loss]
    """From the numbers of the problems still running, `(q,)`, to their loss."""
    c: Tensor
    """C of every problem, `(q,)` float64."""
    k: int
    """Columns of weights per problem: K for softmax, else 1."""
    penalise_bias: bool
    """Whether the bias counts in the penalty."""
    start: Tensor | None = None
    """`Solved.start` of a search at smaller C, `(q, k, size + 1)`; zeros by default."""
    stop: Stop = field(default=_STOP)
    """When a problem is done."""


@dataclass(frozen=True)
class Solved:
    """The optimum of every problem of one kind."""

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
    """Minimise every problem of a grid on one training set: `solve_together` of one kind."""
    return solve_together(space, [Problems(loss, c, k, penalise_bias, start, stop)])[0]


def solve_together(space: Space, kinds: Sequence[Problems]) -> list[Solved]:
    """Minimise problems of several kinds on one training set side by side.

    Args:
        space: The training rows, `(n, p)`, and the coordinates of weights on them.
        kinds: The problems.
    """
    rows, device = space.rows, space.rows.device
    columns = Columns.of_kinds([len(kind.c) for kind in kinds], [kind.k for kind in kinds], device)
    firsts = [sum(columns.counts[:i]) for i in range(len(kinds))]
    now, losses = _begun(space, kinds, columns, firsts)

    def of_problems(what: Callable[[Problems], float]) -> Tensor:
        of_kind = torch.tensor([what(kind) for kind in kinds], dtype=torch.float64)
        return of_kind.repeat_interleave(torch.tensor(columns.counts)).to(device)

    tol, caution = (
        of_problems(lambda kind: kind.stop.tol),
        of_problems(lambda kind: kind.stop.caution),
    )
    near = (tol / caution).maximum(tol.clamp_max(_FINE))
    only_choose = caution <= TO_CHOOSE
    kinked = of_problems(lambda kind: kind.loss(torch.arange(1, device=device)).kinked) > 0
    fine_end = kinked & ~only_choose
    total, wide = len(tol), len(now.places)
    weights = torch.zeros(wide, rows.p + 1, dtype=torch.float64, device=device)
    kept = torch.zeros(wide, space.size + 1, device=device)
    objective = torch.zeros(total, dtype=torch.float64, device=device)
    gap = torch.full((total,), torch.inf, dtype=torch.float64, device=device)
    steps = torch.zeros(total, dtype=torch.int64, device=device)
    iterations = 0
    while True:
        g = _gradient(space, losses, now)
        on_the_way = (g.gap <= _NEAR) & (now.c < now.goal)
        if bool(on_the_way.any()):
            now.c = torch.where(on_the_way, now.goal.minimum(now.c * _NEXT), now.c)
            now.left = torch.where(on_the_way, torch.inf, now.left)
            g = _gradient(space, losses, now)
        single = space.rows.dtype == torch.float32
        here = now.problems
        proven = (g.gap <= tol[here]) & (g.off <= near[here]) | (g.gap <= _NOTHING)
        proven = proven & (now.c >= now.goal)
        coarse = (now.c * space.unit > _COARSE) & fine_end[here]
        finished = proven & ~coarse if single else proven
        finished = finished | (iterations >= _MAX_ITER)
        if bool(finished.any()):
            _, mine = losses.columns.kept(finished)
            done = now.of(finished, mine)
            weights[done.places] = torch.cat([done.w.double(), done.b], 1)
            kept[done.places] = torch.cat([done.a, done.b.to(done.a.dtype)], 1).to(kept.dtype)
            objective[done.problems], gap[done.problems] = g.objective[finished], g.gap[finished]
            steps[done.problems] = iterations
            left = ~finished
            if not bool(left.any()):
                break
            some, mine = losses.columns.kept(left)
            now, g, proven, coarse = (
                now.of(left, mine),
                g.of(left, mine),
                proven[left],
                coarse[left],
            )
            losses = _losses(kinds, some, firsts, now.problems)
            here = now.problems
        step, change, worth, remains = newton_step(space, losses, now, g)
        remains = torch.where(only_choose[here], remains, torch.inf)  # an estimate is not enough
        last = (g.gap <= tol[here]) & (remains <= near[here] * g.length)
        stalled = (worth <= _STALLED * (tol / caution)[here] * g.objective) & ~last
        if single and (bool((coarse | proven | stalled).all()) or iterations == _SINGLE_STEPS):
            space, now = space.double(), now.double()
            now.w = space.weights(now.a)
            now.m = _margins(space, now.w, now.b)
            now.value, now.residual = losses.value(now.m)
            now.left = torch.full_like(now.left, torch.inf)
            continue
        now = _line_search(space, losses, now, step, change)
        now.left = remains
        iterations += 1
    made = zip(kinds, columns.by_kind(weights), columns.by_kind(kept), firsts, strict=True)
    return [
        Solved(
            of_weights.permute(2, 0, 1),
            of_kept,
            objective[first : first + len(kind.c)],
            gap[first : first + len(kind.c)],
            int(steps[first : first + len(kind.c)].max()),
        )
        for kind, (_, of_weights), (_, of_kept), first in made
    ]


def _begun(
    space: Space, kinds: Sequence[Problems], columns: Columns, firsts: Sequence[int]
) -> tuple[Now, Losses]:
    """Where every problem begins, and its loss."""
    device = space.rows.device
    begin, first, goal, penalty = [], [], [], []
    for kind in kinds:
        c = kind.c.to(device)
        goal.append(c)
        a = torch.zeros(len(c), kind.k, space.size + 1, device=device)
        if kind.start is not None:
            a = kind.start.to(device, torch.float32).expand_as(a)
        begin.append(a.reshape(-1, space.size + 1))
        penalty.append(torch.full((len(begin[-1]), 1), float(kind.penalise_bias), device=device))
        if kind.loss(torch.arange(1, device=device)).kinked:
            easy = c.min() if kind.start is not None else c.new_tensor(_EASY / space.unit)
            first.append(c.minimum(easy))
        else:
            first.append(c)
    both = torch.cat(begin)
    b, a = both[:, -1:].double(), both[:, :-1].contiguous()
    w = space.weights(a)
    m = _margins(space, w, b)
    problems = torch.arange(sum(columns.counts), device=device)
    losses = _losses(kinds, columns, firsts, problems)
    far = torch.full_like(torch.cat(goal), torch.inf)
    places, free = torch.arange(len(a), device=device), torch.cat(penalty).double()
    now = Now(
        problems, places, torch.cat(first), torch.cat(goal), free, a, w, b, m, *losses.value(m), far
    )  # fmt: skip
    return now, losses


def _losses(
    kinds: Sequence[Problems], columns: Columns, firsts: Sequence[int], problems: Tensor
) -> Losses:
    """The losses of the problems that still run."""
    parts = zip(kinds, torch.split(problems, list(columns.counts)), firsts, strict=True)
    return Losses(columns, tuple(kind.loss(part - first) for kind, part, first in parts))


def _gradient(space: Space, losses: Losses, now: Now) -> Gradient:
    columns = losses.columns
    pull = columns.wide(now.c, now.residual) * now.residual
    by_b = pull.sum(1, keepdim=True, dtype=torch.float64) + now.penalty * now.b
    a = space.coordinates(pull) + now.a
    by_w = space.weights(a)
    diagonal = losses.diagonal(now.residual).sum(1, keepdim=True, dtype=torch.float64)
    of_bias = columns.wide(now.c, diagonal) * diagonal
    of_bias = torch.where(now.penalty > 0, 1.0, of_bias).clamp_min(1e-300)
    length = columns.summed(now.w * now.w) + columns.summed(now.penalty * now.b * now.b)
    objective = now.c * now.value + length / 2
    left = columns.summed(by_w * by_w) + columns.summed(by_b.square() / of_bias)
    curvature = now.c * columns.summed(diagonal) / (columns.width * space.rows.n)
    gap = left / 2 / objective.clamp_min(1e-300)
    off = left.minimum(now.left) / length.clamp_min(1e-300)
    return Gradient(a, by_b, objective, gap, off, length, curvature)


def _line_search(space: Space, losses: Losses, now: Now, step: Tensor, change: Tensor) -> Now:
    """The problems moved along their steps to where the slope is near zero: safeguarded Newton from 1."""
    columns = losses.columns
    d = space.weights(step)
    dm = _margins(space, d, change)
    wd = columns.summed(now.w * d) + columns.summed(now.penalty * now.b * change)
    dd = columns.summed(d * d) + columns.summed(now.penalty * change * change)
    slope = now.c * columns.summed(now.residual * dm) + wd
    far = used = torch.ones_like(slope)
    low, high = torch.zeros_like(far), torch.full_like(far, torch.inf)
    for _ in range(_LINE_STEPS):
        used = far
        m = now.m + columns.wide(far, dm) * dm
        value, residual = losses.value(m)
        here = now.c * columns.summed(residual * dm) + wd + far * dd
        good = here.abs() <= _SLOPE * slope.abs()
        if bool(good.all()):
            break
        curved = now.c * columns.summed(losses.bent(residual, dm) * dm) + dd
        newton = far - here / curved.clamp_min(1e-300)
        low, high = torch.where(here < 0, far, low), torch.where(here > 0, far, high)
        inside = (newton > low) & (newton < high) & (newton < 10 * far)
        middle = torch.where(high.isinf(), 4 * far, (low + high) / 2)
        far = torch.where(good, far, torch.where(inside, newton, middle))
    a, w = now.a + columns.wide(used, step) * step, now.w + columns.wide(used, d) * d
    b = now.b + columns.wide(used, change) * change
    return Now(
        now.problems, now.places, now.c, now.goal, now.penalty, a, w, b, m, value, residual, now.left
    )  # fmt: skip


def _margins(space: Space, w: Tensor, b: Tensor) -> Tensor:
    return space.rows.times(w.T).T.contiguous().add_(b.to(w.dtype))
