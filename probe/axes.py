"""Features in the principal axes of their training rows: an exact rotation for probes with an L2 penalty.

An L2 penalty does not change when the axes turn. With X = U S V', `(n, dim)`, a linear model on the
coordinates Z = X V is the model on X: same objective, same margins. In these axes Z'Z = S^2 is
diagonal, which makes the solver's preconditioner a vector; and with fewer rows than features there
are only n of them (the optimal weights are a combination of the training rows), so that a layer of
100,000 features costs what one of n costs.

S and the smaller of U and V come from the eigenvectors of the smaller of X X' and X'X. Products are
taken in float32 over blocks and added up in float64: their error is that of one block.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_BLOCK = 512


@dataclass(frozen=True)
class Axes:
    """Rows in the principal axes of the training rows."""

    train: Tensor
    """`(n, r)` float32, r <= min(n, dim)."""
    other: Tensor
    """`(m, r)` float32."""
    squares: Tensor
    """Squared length of each column of `train`, `(r,)` float64: its Gram matrix is diagonal."""


def principal_axes(train: Tensor, other: Tensor) -> Axes:
    """Turn training rows `(n, dim)` and other rows `(m, dim)`, float32, into principal axes."""
    n, dim = train.shape
    if dim < n:
        values, v = torch.linalg.eigh(_inner(train.T, train.T))  # (dim,), (dim, dim)
        turn = v.to(torch.float32)
        return Axes(train @ turn, other @ turn, values.clamp_min(0))
    values, u = torch.linalg.eigh(_inner(train, train))  # ascending, (n,), (n, n)
    keep = values > values[-1].clamp_min(1e-30) * 1e-9
    values, u = values[keep], u[:, keep]
    root = values.sqrt()
    turned = _inner(other, train) @ (u / root)
    return Axes((u * root).to(torch.float32), turned.to(torch.float32), values)


def _inner(a: Tensor, b: Tensor) -> Tensor:
    """A B', `(p, q)` float64, from `(p, dim)` and `(q, dim)` float32."""
    total = torch.zeros(a.shape[0], b.shape[0], dtype=torch.float64, device=a.device)
    for start in range(0, a.shape[1], _BLOCK):
        total += a[:, start : start + _BLOCK] @ b[:, start : start + _BLOCK].T
    return total
