"""Wide features without their width: an exact change of axes for probes with an L2 penalty.

With fewer rows than features the optimal weights of an L2-penalised linear model are a combination
of the training rows (the representer theorem). With X = U S V' the rows keep all their inner
products in the coordinates Z = X V = U S, so a model fitted to Z, `(n, r)` with r <= n, is the model
fitted to X, `(n, dim)`. V itself is never formed: Z = U S comes from the eigenvectors of X X', and
other rows from Z* = (X* X') U / S.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.linalg import eigh

Matrix = npt.NDArray[np.float64]


def rotate(train: Matrix, other: Matrix) -> tuple[Matrix, Matrix]:
    """Training and other rows, `(n, dim)`, in the axes of the training rows, `(n, r)`.

    Unchanged where there are at least as many rows as features.
    """
    n, dim = train.shape
    if dim <= n:
        return train, other
    values, u = eigh(train @ train.T)  # ascending, (n,) and (n, n)
    keep = values > values[-1] * n * np.finfo(np.float64).eps
    s = np.sqrt(values[keep])
    u = u[:, keep]
    return u * s, (other @ train.T) @ (u / s)
