"""Points of a grid on one training set as the solver takes them, and the scores that come of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from probe.probes.layer import Prepared
from probe.probes.losses import Loss
from probe.probes.matrix import Rows
from probe.probes.settings import TOL
from probe.probes.solver import Problems, Solved, Stop, solve_together

_MARGIN_BYTES = 128 << 20
"""What the margins of the problems that are solved side by side may take."""
_COPIES = 18
"""How many arrays as large as the margins are held at once: measured."""


@dataclass(frozen=True)
class Scored:
    """Class scores of held-out rows at one point of the grid."""

    scores: npt.NDArray[np.float32]
    """`(rows, K)`; the largest is the prediction."""
    value: float
    """The C, alpha or k itself."""
    converged: bool = True
    error: float | None = None
    """The relative error of the objective, at most; None where it is solved directly."""
    start: Tensor | None = field(default=None, repr=False, compare=False)
    """What the solver may start from at a weaker penalty."""


@dataclass(frozen=True)
class GridFit:
    """One probe at some values of C on a training set."""

    cs: list[float]
    k: int
    """Columns of weights at each."""
    problems: Callable[[list[float], Tensor | None], Problems]
    """From values of C, and what to start from, to the problems."""
    scored: Callable[[Solved, list[float]], list[Scored]]
    """From their solution and those values to the scores of the other rows."""
    start: Tensor | None = None
    """`Scored.start` of the same training set at another C."""


def searched(prepared: Prepared, fits: Sequence[GridFit]) -> list[list[Scored]]:
    """The scores of several probes on one training set, solved side by side where memory allows."""
    n = prepared.train.n
    if not fits:
        return []
    if sum(fit.k * len(fit.cs) for fit in fits) <= at_once(n, 1):
        made = solve_together(prepared.space, [fit.problems(fit.cs, fit.start) for fit in fits])
        return [fit.scored(solved, fit.cs) for fit, solved in zip(fits, made, strict=True)]
    results = []
    for fit in fits:
        some, begin, of_fit = at_once(n, fit.k), fit.start, list[Scored]()
        for first in range(0, len(fit.cs), some):
            cs = fit.cs[first : first + some]
            (solved,) = solve_together(prepared.space, [fit.problems(cs, begin)])
            of_fit += fit.scored(solved, cs)
            begin = of_fit[-1].start
        results.append(of_fit)
    return results


def at_once(n: int, columns: int) -> int:
    """How many values of C are solved side by side on `n` rows, as memory allows; at least one."""
    return max(1, _MARGIN_BYTES // (4 * n * columns))


def margin_bytes(n: int, columns: int, points: int) -> int:
    """The bytes of an array as large as the margins, for so many rows, columns and values of C."""
    return 4 * n * columns * min(points, at_once(n, columns))


def column_bytes(n: int, columns: int, points: int) -> int:
    """About what the solver holds besides the rows, for so many rows, columns and values of C."""
    return _COPIES * margin_bytes(n, columns, points)


def coupled(loss: Loss, k: int, stop: Stop) -> Callable[[list[float], Tensor | None], Problems]:
    """The problems of a loss of all `k` columns, without a penalty on the bias."""

    def problems(cs: list[float], start: Tensor | None) -> Problems:
        c = torch.tensor(cs, dtype=torch.float64)
        begin = None if start is None else start.expand(len(cs), -1, -1)
        return Problems(lambda _: loss, c, k, False, begin, stop)

    return problems


def apart(
    loss: Callable[[Tensor], Loss], k: int, penalise_bias: bool, stop: Stop
) -> Callable[[list[float], Tensor | None], Problems]:
    """The problems of `k` columns that share the rows and nothing else, a problem each.

    Args:
        loss: From the numbers of problems to their loss: problem q is column q % k at C number q // k.
        k: The columns.
        penalise_bias: Whether the bias counts in the penalty.
        stop: When a problem is done.
    """

    def problems(cs: list[float], start: Tensor | None) -> Problems:
        c = torch.tensor(cs, dtype=torch.float64).repeat_interleave(k)
        begin = None if start is None else start.reshape(k, 1, -1).repeat(len(cs), 1, 1)
        return Problems(loss, c, 1, penalise_bias, begin, stop)

    return problems


def by_point(solved: Solved, points: int) -> tuple[Tensor, Tensor, Tensor]:
    """A solution by values of C, whether its columns are problems of their own or not.

    Returns:
        Weights `(p + 1, points, k)`, the largest error at each C, and what another search may start from
        there, `(points, k, size + 1)`.
    """
    weights = solved.weights.reshape(len(solved.weights), points, -1)
    gap = solved.gap.reshape(points, -1).amax(1)
    return weights, gap, solved.start.reshape(points, weights.shape[2], -1)


def scored(
    other: Rows,
    weights: Tensor,
    cs: Sequence[float],
    gap: Tensor | None = None,
    tol: float = TOL,
    starts: Tensor | None = None,
) -> list[Scored]:
    """Scores by weights `(p + 1, points, K)`; `starts` is what the solver goes on from at each point."""
    points, k = weights.shape[1:]
    flat = weights.reshape(len(weights), -1).to(other.dtype)
    margins = (other.times(flat[:-1]) + flat[-1]).reshape(-1, points, k).float().cpu().numpy()
    errors = [None] * points if gap is None else gap.tolist()
    return [
        Scored(
            margins[:, i],
            c,
            error is None or error <= tol,
            error,
            None if starts is None else starts[i],
        )
        for i, (c, error) in enumerate(zip(cs, errors, strict=True))
    ]
