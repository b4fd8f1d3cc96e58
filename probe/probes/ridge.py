"""Ridge regression on the classes, from the normal equations: every alpha on one training set."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from features.arrays import Ints
from probe.probes.layer import Prepared
from probe.probes.scored import Scored
from probe.probes.spaces import FeatureSpace

ALPHAS_AT_ONCE = 1_024
"""Up to so many features, or rows, ridge takes one eigendecomposition for all alphas."""
_REFINED = 5
_LEFT = 1e-8
"""Residual of the normal equations, relative, at which a solution is refined no further."""


def ridge(prepared: Prepared, y: Ints, classes: int, cs: list[float]) -> list[Scored]:
    """Scores of the other rows for every C = 1 / alpha, one column per class.

    The normal equations are (X'X + alpha) w = X't among the features, (X X' + alpha) a = t among the
    rows; these are centred, so the bias is the mean of t.
    """
    space, other = prepared.space, prepared.other
    labels = torch.from_numpy(y).to(space.device)
    signs = 2 * torch.nn.functional.one_hot(labels, classes).to(torch.float32) - 1  # (n, K)
    if classes == 2:
        signs = signs[:, 1:]
    mean = signs.mean(0, dtype=torch.float64)
    target = signs - mean.float()
    if isinstance(space, FeatureSpace):
        square, target = space.gram[:-1, :-1], space.rows.back(target)
    else:
        square = space.products_of_rows
    weights = _solved(square, target.double(), [1 / c for c in cs])  # (size, alphas, K)
    margins = other.times(weights.flatten(1).to(other.dtype))
    margins = (margins.view(-1, *weights.shape[1:]).double() + mean).float()
    if classes == 2:
        margins = torch.cat([-margins, margins], 2)
    scores = np.asarray(margins.cpu().numpy())
    return [Scored(scores[:, i], 0.0) for i in range(len(cs))]


def _solved(square: Tensor, target: Tensor, alphas: list[float]) -> Tensor:
    """(G + alpha)^-1 b for every alpha, `(size, alphas, K)` float64.

    A small G has one eigendecomposition V S V' for every alpha. Of a large one that costs more than a
    Cholesky factor for each of them.
    """
    if len(square) > ALPHAS_AT_ONCE:
        return torch.stack([_solved_at(square, alpha, target) for alpha in alphas], 1)
    values, turn = torch.linalg.eigh(square.double())
    alpha = torch.tensor(alphas, dtype=torch.float64, device=square.device)[None, :, None]
    bent = (turn.T @ target)[:, None] / (values.clamp_min(0)[:, None, None] + alpha)
    solved: Tensor = (turn @ bent.flatten(1)).reshape(bent.shape)
    return solved


def _solved_at(square: Tensor, alpha: float, target: Tensor) -> Tensor:
    """(G + alpha)^-1 b, `(size, K)` float64, by a factor in float32, refined, or in float64."""
    exact = square.double()
    exact.diagonal().add_(alpha)
    factor, failed = torch.linalg.cholesky_ex(exact.to(torch.float32))
    if not failed:
        w = torch.zeros_like(target)
        for _ in range(_REFINED):
            left = target - exact @ w
            if float(left.norm()) <= _LEFT * float(target.norm()):
                return w
            w = w + torch.cholesky_solve(left.to(torch.float32), factor).double()
    return torch.cholesky_solve(target, torch.linalg.cholesky(exact))
