"""Distances between two sets of images, measured on features of a few dimensions.

Each takes the features `(n, d)` and `(m, d)` of both sets in one space and returns a number that is
not negative, and 0 for a set and itself.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from features.arrays import Doubles, Ints

Distance = Callable[[Doubles, Doubles], float]

DIMENSIONS = 64
_FOLDS = 5
_RIDGE = 1e-3


def common_space(*sets: npt.NDArray[np.floating], dimensions: int = DIMENSIONS) -> list[Doubles]:
    """The sets, each in the coordinates of the first principal axes of their union.

    In the union every set has the same weight, whatever its size. All axes are divided by one number,
    so that their mean variance is 1: this keeps their proportions and makes layers comparable.
    """
    weights = np.concatenate([np.full(len(x), 1 / np.sqrt(len(x))) for x in sets])
    means = [x.mean(0, dtype=np.float64) for x in sets]
    union = np.concatenate([np.asarray(x, dtype=np.float64) for x in sets]) - np.mean(means, axis=0)
    weighted = union * weights[:, None]
    wide = weighted.shape[1] > weighted.shape[0]
    values, vectors = np.linalg.eigh(weighted @ weighted.T if wide else weighted.T @ weighted)
    kept = slice(-min(dimensions, len(values)), None)
    values, vectors = values[kept], vectors[:, kept]
    values = np.maximum(values, values[-1] * 1e-12)
    axes = weighted.T @ vectors / np.sqrt(values) if wide else vectors
    moved = union @ axes / np.sqrt(values.mean() / len(sets))
    cuts = np.cumsum([len(x) for x in sets])[:-1]
    return np.split(moved, cuts)


def frechet(a: Doubles, b: Doubles) -> float:
    """The squared 2-Wasserstein distance of two normals with the means and covariances of the sets.

    It is |mean a - mean b|^2 + tr(A + B - 2 (A B)^1/2), A and B being the covariances (Dowson and
    Landau 1982; known as FID since Heusel et al. 2017, arXiv 1706.08500). The trace of
    (A B)^1/2 is that of (A^1/2 B A^1/2)^1/2, whose eigenvalues are real and not negative.
    """
    apart = a.mean(0) - b.mean(0)
    first, second = (np.cov(x, rowvar=False, ddof=0).reshape(x.shape[1], -1) for x in (a, b))
    values, vectors = np.linalg.eigh(first)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    middle = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ second @ root), 0)).sum()
    squared = float(apart @ apart + np.trace(first) + np.trace(second) - 2 * middle)
    return max(0.0, squared)


def proxy_a(a: Doubles, b: Doubles) -> float:
    """The proxy A-distance, 2 (1 - 2 e), e being the error of a linear classifier of the two sets.

    Ben-David et al., Analysis of representations for domain adaptation, 2007. The classifier is
    least squares on +1 and -1 with a small ridge, each set with a total weight of one half; e is
    cross-validated over five folds of rows. The distance is 0 where the classifier is no better than a
    coin, and 2 where it is always right.
    """
    x = np.concatenate([a, b])
    side = np.concatenate([np.ones(len(a)), -np.ones(len(b))])
    share = np.concatenate([np.full(len(a), 0.5 / len(a)), np.full(len(b), 0.5 / len(b))])
    # A row has the same fold in both sets, so that a set and itself cannot be told apart.
    fold = np.concatenate([_folds(len(a)), _folds(len(b))])
    x = np.concatenate([x - np.average(x, axis=0, weights=share), np.ones((len(x), 1))], axis=1)
    wrong = 0.0
    for number in range(_FOLDS):
        train, test = fold != number, fold == number
        weighted = x[train] * share[train, None]
        size = np.trace(weighted.T @ x[train]) / x.shape[1]
        ridge = _RIDGE * size * np.eye(x.shape[1])
        w = np.linalg.solve(weighted.T @ x[train] + ridge, weighted.T @ side[train])
        margin = x[test] @ w
        miss = np.where(margin == 0, 0.5, np.sign(margin) != side[test])
        wrong += float((miss * share[test]).sum())
    return max(0.0, 2 * (1 - 2 * wrong))


DISTANCES: dict[str, Distance] = {"frechet": frechet, "proxy_a": proxy_a}
NAMES = {"frechet": "Fréchet distance", "proxy_a": "proxy A-distance"}
"""The distances' names for people."""


def _folds(n: int) -> Ints:
    return np.random.default_rng(0).permutation(n) % _FOLDS
