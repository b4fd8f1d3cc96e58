"""The solver: one training set, and every problem on it side by side, each to its optimum.

A problem minimises, over weights w and a bias b of each of its columns,

    f = C sum_i loss(x_i w + b, t_i) + (|w|^2 + p b^2) / 2,    p = 1, or 0 where the bias has no penalty,

a strictly convex function, by L-BFGS (Nocedal and Wright, Numerical Optimization, algorithm 7.4):

- All values of C, all classes, both losses and all tasks are columns of one block, so that what is done
  with the rows is one large matrix product, which runs at full speed where a single problem would wait
  for memory. Weights are coordinates among the features or the rows, whichever is cheaper (spaces.py).
- The initial inverse Hessian is made of the strongest directions of the rows (curvature.py), once for
  all problems: tens of iterations instead of hundreds.
- Along a direction the margins change linearly, so the line search passes over the margins and not
  over the features; the step of 1 is nearly always taken.
- f is 1-strongly convex in w, so half the squared length of its gradient is more than what f is above
  its minimum (it is also the duality gap); for a bias without penalty the curvature at hand stands for
  the 1. Over f this is the error; a problem stops when it is small enough.
- A problem that has converged leaves the block.

Products are float32 and sums float64. Where that is too coarse for the error asked for, as at C so large
that almost every training row is fitted, a problem goes on in float64.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from probe.probes.curvature import Directions, Preconditioner
from probe.probes.losses import Loss
from probe.probes.matrix import Held
from probe.probes.newton import LARGEST, newton
from probe.probes.problems import Problems, Solved
from probe.probes.spaces import FeatureSpace, Space, Turn
from probe.probes.steps import Steps, Vectors, sums

_MEMORY = 16
"""Steps kept of every problem."""
_LINE_STEPS = 12
_STALLED = 20
"""Iterations without progress after which float32 is too coarse."""
_STALLED_DOUBLE = 100
"""The same of float64, which then goes no further."""
_PROGRESS = 0.8
"""Share of its error that a problem must fall below to count as progress."""
_LEAST_CURVATURE = 1e-3
"""Mean curvature below which rows that are fitted would leave a direction without any."""
_AWAY = 1
"""Times `tol`, what `away` may be."""
_NO_WEIGHT = 1e-12
"""Squared length of weights, relative to the objective, that is none."""
_ROUNDING = {torch.float32: 2e-7, torch.float64: 1e-15}
_NOTHING = {torch.float32: 1e-7, torch.float64: 1e-14}
"""Decrease of the objective, relative, that is not worth a search for the step."""
_SINGLE_STEPS = 300
"""Iterations after which what is left goes on in float64 in any case."""


def solve(space: Space, directions: Directions, problems: Sequence[Problems]) -> list[Solved]:
    """Minimise every problem on one training set.

    Args:
        space: The training rows.
        directions: Their strong directions; they decide the speed, not the answer.
        problems: What to solve, one record for each loss and labels.
    """
    block = _Block(space, directions, problems)
    while not block.finished():
        block.iterate()
    made = []
    for number, asked in enumerate(problems):
        here = block.series == number
        k = asked.loss.columns
        made.append(
            Solved(
                block.weights[here.repeat_interleave(block.widths)].view(len(asked.c), k, -1),
                block.objective[here],
                block.gap[here],
                block.iterations,
            )
        )
    return made


class _Block:
    """The problems under way; numbers of problems are those of all that were asked for, in order."""

    error: Tensor
    away: Tensor
    f: Tensor
    g: Vectors
    m: Tensor

    def __init__(self, space: Space, directions: Directions, asked: Sequence[Problems]) -> None:
        device = space.device
        counts = torch.tensor([len(a.c) for a in asked], device=device)
        self.series = torch.arange(len(asked), device=device).repeat_interleave(counts)
        self.widths = torch.tensor([a.loss.columns for a in asked], device=device)[self.series]
        total, columns = len(self.series), int(self.widths.sum())
        self.first = self.widths.cumsum(0) - self.widths
        self.weights = torch.zeros(columns, space.size + 1, dtype=torch.float64, device=device)
        self.objective = torch.zeros(total, dtype=torch.float64, device=device)
        self.gap = torch.full_like(self.objective, torch.inf)
        self.iterations = 0

        self.space, self.directions, self.turn = space, directions, Turn()
        self.losses = [a.loss for a in asked]
        self.counts = counts.tolist()
        self.numbers = torch.arange(total, device=device)
        self.owner = self.numbers.repeat_interleave(self.widths)
        self.c = torch.cat([a.c for a in asked]).to(device)
        self.free = torch.tensor([not a.penalise_bias for a in asked], device=device)[self.series]
        self.tol = torch.tensor([a.tol for a in asked], dtype=torch.float64, device=device)[
            self.series
        ]
        self.limit = torch.tensor([a.steps for a in asked], device=device)[self.series]
        self.single = torch.tensor([a.single for a in asked], device=device)[self.series]
        self.penalty = (~self.free[self.owner]).to(space.dtype)
        self.w = space.vectors(torch.cat([_started(a, space) for a in asked]))
        self._begin()

    def _begin(self) -> None:
        """The preconditioner that the curvature at the weights asks for, and no steps."""
        residual = self._evaluate()
        k = self.c[self.owner] * self._curvature(residual).clamp_min(_LEAST_CURVATURE)
        self.precondition = Preconditioner(self.directions, k, self.penalty)
        self.pg = self.precondition(self.g)
        self.steps = Steps(_MEMORY, self.owner, len(self.numbers), self.w)
        self.best, self.since = self.error.clone(), torch.zeros_like(self.numbers)

    def _evaluate(self) -> Tensor:
        """Margins, objective, gradient and error from the weights alone; the derivative by the margins.

        What is carried from step to step adds up roundings, so nothing is done before this.
        """
        self.w = self.space.vectors(self.w.own)
        self.m = self.space.margins(self.w)
        value, residual = self._loss(self.m)
        self.f = self.c * value + self._inner(self.w, self.w) / 2
        self.g = self.space.gradient(self._weighed(residual), self.w, self.penalty)
        self._measure(residual)
        return residual

    def finished(self) -> bool:
        """Take out the problems that are solved; whether none is left."""
        done, stuck = self._state()
        # Taking problems out copies everything, so it waits until a fifth are done.
        if int(done.sum()) * 5 < len(done) and not bool((done | stuck).all()):
            return False
        self._evaluate()
        self.pg = self.precondition(self.g)
        before = done
        done, stuck = self._state()
        self.since += 5 * (before & ~done)
        single = self.space.dtype == torch.float32
        if not bool((done | stuck).all()):
            if bool(done.any()):
                self._take_out(done)
            return False
        self._take_out(done if single else done | stuck)
        if not len(self.numbers):
            return True
        self._to_double()
        return self.finished()

    def _state(self) -> tuple[Tensor, Tensor]:
        """Which problems are solved, and which come no further with this number type."""
        done = (self.error <= self.tol) & (self.away <= _AWAY * self.tol)
        done |= self.iterations >= self.limit
        if self.space.dtype == torch.float32:
            coarse = (self.since >= _STALLED) | (self.iterations >= _SINGLE_STEPS)
            done |= coarse & self.single
            return done, ~done & coarse
        return done, ~done & (self.since >= _STALLED_DOUBLE)

    def iterate(self) -> None:
        """One step of every problem."""
        d = self.steps.inverse(self.g, self.pg).times(-torch.ones_like(self.owner))
        slope = self._sums(d.dot(self.g))
        lost = ~(slope < 0)  # rounding has taken the direction
        change = self.space.margins(d)
        step, f, residual = self._line_search(d, change, slope, lost)
        wide = step[self.owner]
        s = d.times(wide)
        self.w = self.w.plus(s)
        self.m = torch.addcmul(self.m, wide.to(self.m.dtype)[:, None], change)
        self.f = f
        g = self.space.gradient(self._weighed(residual), self.w, self.penalty)
        pg = self.precondition(g)
        self.steps.add(s, g.minus(self.g), pg.minus(self.pg))
        self.g, self.pg = g, pg
        self._measure(residual)
        better = (self.error < _PROGRESS * self.best) & ~lost
        self.best = torch.where(better, self.error, self.best)
        self.since = torch.where(better, 0, self.since + 1 + 10 * lost)
        self.iterations += 1

    def _line_search(
        self, d: Vectors, change: Tensor, slope: Tensor, lost: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The step at which the slope has fallen enough, by safeguarded Newton from 1.

        Returns:
            The step and the objective, `(q,)`, and the derivative by the margins.
        """
        wd, dd, ww = self._inner(self.w, d), self._inner(d, d), self._inner(self.w, self.w)
        tiny = _NOTHING[self.m.dtype]
        step = (~lost).double()
        low, high = torch.zeros_like(step), torch.full_like(step, torch.inf)
        for _ in range(_LINE_STEPS):
            at = torch.addcmul(self.m, step[self.owner].to(self.m.dtype)[:, None], change)
            value, residual = self._loss(at)
            along = (residual * change).sum(1, dtype=torch.float64)
            first = self.c * self._sums(along) + wd + step * dd
            good = (first <= -0.5 * slope) & (first >= 0.9 * slope) | ~(slope < -tiny * self.f)
            if bool(good.all()):
                break
            bend = self._bend(residual, change)
            newton = step - first / (self.c * bend + dd).clamp_min(1e-300)
            low = torch.where(first < 0, step, low)
            high = torch.where(first > 0, step, high)
            inside = (newton > low) & (newton < high) & (newton < 10 * step)
            middle = torch.where(high.isinf(), 4 * step, (low + high) / 2)
            step = torch.where(good, step, torch.where(inside, newton, middle))
        return step, self.c * value + ww / 2 + step * wd + step * step * dd / 2, residual

    def _measure(self, residual: Tensor) -> None:
        """Set the error, which is more than what the objective is above its minimum, relative, `(q,)`.

        With it `away`, the squared length of the gradient over that of the weights: the gradient is
        longer than what they are away from the optimum, and at a small C, where they hardly move the
        objective, it tells what the error does not.
        """
        squared, length = self.g.of_weights(self.g).abs(), self.w.of_weights(self.w).abs()
        g, b = (v.own[:, -1].double().square() for v in (self.g, self.w))
        bend = self.c[self.owner] * self._curvature(residual).clamp_min(1e-12) * self.space.n
        bend = torch.where(self.free[self.owner], bend, 1)
        squared, length = squared + g / bend, length + b * bend
        rounding = torch.zeros_like(squared)
        if self.g.image is not self.g.own:  # what rounding may have taken from it
            lengths = self.g.own.norm(dim=1) * self.g.image.norm(dim=1)
            rounding = _ROUNDING[self.g.own.dtype] * lengths
        self.error = self._sums(squared + rounding) / 2 / self.f.abs().clamp_min(1e-300)
        least = (_NO_WEIGHT * self.f.abs()).clamp_min(1e-300)
        self.away = self._sums(squared) / torch.maximum(self._sums(length), least)

    def _inner(self, u: Vectors, v: Vectors) -> Tensor:
        """Inner products in the penalty, `(q,)`."""
        bias = u.own[:, -1].double() * v.own[:, -1] * self.penalty
        return self._sums(u.of_weights(v) + bias)

    def _sums(self, of_columns: Tensor) -> Tensor:
        return sums(of_columns, self.owner, len(self.numbers))

    def _weighed(self, residual: Tensor) -> Tensor:
        return residual * self.c[self.owner].to(residual.dtype)[:, None]

    def _loss(self, m: Tensor) -> tuple[Tensor, Tensor]:
        pieces = [loss.value(part) for loss, part in self._parts(m)]
        if len(pieces) == 1:
            return pieces[0]
        return torch.cat([value for value, _ in pieces]), torch.cat([r for _, r in pieces])

    def _bend(self, residual: Tensor, change: Tensor) -> Tensor:
        both = zip(self._parts(residual), self._parts(change), strict=True)
        return torch.cat([loss.bend(r, d) for (loss, r), (_, d) in both])

    def _curvature(self, residual: Tensor) -> Tensor:
        return torch.cat([loss.curvature(r) for loss, r in self._parts(residual)])

    def _parts(self, of_columns: Tensor) -> list[tuple[Loss, Tensor]]:
        sizes = [count * loss.columns for count, loss in zip(self.counts, self.losses, strict=True)]
        return list(zip(self.losses, torch.split(of_columns, sizes), strict=True))

    def _take_out(self, done: Tensor) -> None:
        """Keep the weights of some problems and go on without them."""
        columns = done[self.owner]
        numbers = self.numbers[done]
        widths = self.widths[numbers]
        places = torch.arange(int(widths.sum()), device=done.device)
        places += (self.first[numbers] - (widths.cumsum(0) - widths)).repeat_interleave(widths)
        self.weights[places] = self.turn.back(self.w.own[columns].double())
        self.objective[numbers], self.gap[numbers] = self.f[done], self.error[done]
        left, stay = ~done, ~columns
        parts = torch.split(left, self.counts)
        self.losses = [
            loss.of(part.nonzero()[:, 0])
            for loss, part in zip(self.losses, parts, strict=True)
            if bool(part.any())
        ]
        self.counts = [int(part.sum()) for part in parts if bool(part.any())]
        self.numbers = self.numbers[left]
        self.owner = torch.arange(len(self.numbers), device=done.device).repeat_interleave(
            self.widths[self.numbers]
        )
        self.c, self.free, self.tol, self.f = (
            a[left] for a in (self.c, self.free, self.tol, self.f)
        )
        self.error, self.away, self.best, self.since = (
            a[left] for a in (self.error, self.away, self.best, self.since)
        )
        self.limit, self.single = self.limit[left], self.single[left]
        self.m, self.penalty = self.m[stay], self.penalty[stay]
        self.w, self.g, self.pg = (v.of(stay) for v in (self.w, self.g, self.pg))
        self.precondition = self.precondition.of(stay)
        self.steps.keep(stay, left, self.owner)

    def _to_double(self) -> None:
        self.space, self.turn = self.space.double()
        self.directions = Directions.of(self.space)
        self.penalty = self.penalty.double()
        own = self.turn.there(self.w.own)
        self.w = Vectors(own, own)
        self.losses = [loss.double() for loss in self.losses]
        self._finish_one_by_one()
        self._begin()

    def _finish_one_by_one(self) -> None:
        """Newton's method for the problems of one column, where a Hessian is not too large."""
        if not isinstance(self.space, FeatureSpace) or self.space.size >= LARGEST:
            return
        rows = self.space.rows
        if not isinstance(rows, Held):
            return
        ones = rows.x.new_full((rows.n, 1), float(self.space.has_bias))
        x = torch.cat([rows.x, ones], 1)
        own = self.w.own
        places = torch.split(torch.arange(len(self.numbers)), self.counts)
        firsts = (self.widths[self.numbers].cumsum(0) - self.widths[self.numbers]).tolist()
        for loss, numbers in zip(self.losses, places, strict=True):
            for place, number in enumerate(numbers.tolist() if loss.columns == 1 else ()):
                column = firsts[number]
                penalty = own.new_ones(own.shape[1])
                penalty[-1] = self.penalty[column]
                alone = loss.of(torch.tensor([place], device=own.device))
                c, tol = float(self.c[number]), float(self.tol[number])
                own[column] = newton(x, alone, c, penalty, own[column], tol)


def _started(asked: Problems, space: Space) -> Tensor:
    if asked.start is not None:
        return asked.start.flatten(0, 1).to(space.device, space.dtype)
    columns = len(asked.c) * asked.loss.columns
    return torch.zeros(columns, space.size + 1, dtype=space.dtype, device=space.device)
