"""Debiased linear CKA: how alike two representations of the same images are, 1 being the same.

Centred kernel alignment is Kornblith, Norouzi, Lee and Hinton's (Similarity of neural network
representations revisited, 2019, arXiv 1905.00414). It does not change when either representation is
rotated or scaled.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from features.arrays import Doubles


def linear_gram(x: npt.NDArray[np.floating]) -> Doubles:
    """X X', `(n, n)`, of features `(n, d)`."""
    x = np.asarray(x, dtype=np.float64)
    return np.asarray(x @ x.T)


def u_centred(gram: Doubles) -> Doubles:
    """A Gram matrix `(n, n)` with Szekely and Rizzo's U-centring; it needs four rows.

    The inner products of U-centred matrices (2014, arXiv 1310.2926) do not grow with the width of the
    features, as those of matrices centred as usual do where few images have many features.
    """
    n = len(gram)
    made = gram.copy()
    np.fill_diagonal(made, 0)
    means = made.sum(0) / (n - 2)
    means -= means.sum() / (2 * (n - 1))
    made -= means[:, None] + means[None, :]
    np.fill_diagonal(made, 0)
    return made


def alignment(x: Doubles, y: Doubles) -> float:
    """The cosine of two centred Gram matrices; 0 where one of them is constant."""
    size = float(np.linalg.norm(x) * np.linalg.norm(y))
    return float((x * y).sum()) / size if size > 0 else 0.0
