"""Newton's method for one problem of one column: the last resort where L-BFGS comes no further.

At a C so large that nearly every row is fitted, which rows have a loss decides the Hessian, and that
changes from step to step; with the Hessian itself a few steps do. For a loss that is piecewise
quadratic, as the squared hinge, the last one is exact (Mangasarian 2002, "A finite Newton method for
classification").
"""

from __future__ import annotations

import torch
from torch import Tensor

from probe.probes.losses import Loss

LARGEST = 4_096
"""Coordinates up to which a Hessian is made."""
_STEPS = 60
_HALVINGS = 30
_ENOUGH = 1e-4
"""Share of the promised decrease that a step must bring (Armijo)."""


def newton(x: Tensor, loss: Loss, c: float, penalty: Tensor, start: Tensor, tol: float) -> Tensor:
    """The weights of one problem, `(size + 1,)` float64, the last being the bias.

    Args:
        x: Rows, `(n, size + 1)` float64; the last column is of ones, or of nothing without a bias.
        loss: Of this problem alone.
        c: Its C.
        penalty: What the square of every weight counts in the penalty, `(size + 1,)`.
        start: Weights to start from.
        tol: Squared length of the gradient, relative to the objective and to that of the weights.
    """
    w = start.clone()

    def objective(at: Tensor) -> tuple[float, Tensor]:
        value, residual = loss.value((x @ at)[None])
        return c * float(value) + float((penalty * at * at).sum()) / 2, residual

    f, residual = objective(w)
    for _ in range(_STEPS):
        g = c * (residual @ x)[0] + penalty * w
        if float(g @ g) <= tol * min(2 * f, float(w @ w)):
            break
        bend = c * loss.second(residual)[0]
        hessian = x.T @ (bend[:, None] * x)
        # A bias that no row bends has no curvature of its own.
        hessian.diagonal().add_(penalty.clamp_min(1e-12))
        d = -torch.cholesky_solve(g[:, None], torch.linalg.cholesky(hessian))[:, 0]
        slope, step = float(g @ d), 1.0
        for _ in range(_HALVINGS):
            f_there, residual_there = objective(w + step * d)
            if f_there <= f + _ENOUGH * step * slope:
                break
            step /= 2
        else:
            break
        w, f, residual = w + step * d, f_there, residual_there
    return w
