"""Centred kernel alignment: how alike two representations of the same images are, 0 to 1.

Kornblith, Norouzi, Lee and Hinton, Similarity of neural network representations revisited, 2019
(arXiv 1905.00414). Invariant to rotation and to the scale of either.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def linear_gram(x: npt.NDArray[np.floating]) -> Floats:
    """X X', `(n, n)`."""
    x = np.asarray(x, dtype=np.float64)
    return np.asarray(x @ x.T)


def rbf_gram(x: npt.NDArray[np.floating], width: float = 1.0) -> Floats:
    """exp(-d^2 / (2 width^2 median(d^2))), `(n, n)`, d being the distances between rows.

    The median is over all n x n squared distances, zeros included, as in the authors' code.
    """
    dots = linear_gram(x)
    squares = np.diag(dots)
    distances = squares[:, None] + squares[None, :] - 2 * dots
    return np.asarray(np.exp(-distances / (2 * width**2 * np.median(distances))))


def centred(gram: Floats, unbiased: bool = False) -> Floats:
    """A Gram matrix of features whose mean is zero; `unbiased`: with Szekely and Rizzo's U-centring.

    The U-centred inner products (2014, arXiv 1310.2926) do not grow with the width of the features,
    as those of few images with many features otherwise do. It needs four rows.
    """
    n = len(gram)
    if unbiased:
        made = gram.copy()
        np.fill_diagonal(made, 0)
        means = made.sum(0) / (n - 2)
        means -= means.sum() / (2 * (n - 1))
        made -= means[:, None] + means[None, :]
        np.fill_diagonal(made, 0)
        return made
    means = gram.mean(0)
    return np.asarray(gram - means[:, None] - means[None, :] + means.mean())


def cka(gram_x: Floats, gram_y: Floats, unbiased: bool = False) -> float:
    """CKA of two Gram matrices of the same rows."""
    x, y = centred(gram_x, unbiased), centred(gram_y, unbiased)
    return alignment(x, y)


def alignment(x: Floats, y: Floats) -> float:
    """The cosine of two centred Gram matrices; 0 where one of them is constant."""
    size = float(np.linalg.norm(x) * np.linalg.norm(y))
    return float((x * y).sum()) / size if size > 0 else 0.0
