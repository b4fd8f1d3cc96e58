"""Transfer scores: how well features suit a task, without training a probe; larger is better.

Each takes features `(n, d)` and class numbers `(n,)` and uses every row at once. A score is not an
accuracy: only the order of layers or backbones by it means something.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from features.arrays import Doubles, Ints

_ROUNDS, _CLOSE, _TINY = 200, 1e-5, 1e-12


@dataclass(frozen=True)
class Basis:
    """The singular vectors of features, of the singular values above 0."""

    u: Doubles
    """The left singular vectors, `(n, r)`."""
    s: Doubles
    """The squared singular values, `(r,)`."""
    dim: int
    """How wide the features are."""


def basis(x: npt.NDArray[np.floating]) -> Basis:
    """The singular basis of features `(n, d)`, from the smaller of X X' and X'X."""
    x = np.asarray(x, dtype=np.float64)
    n, d = x.shape
    s, v = np.linalg.eigh(x.T @ x if d <= n else x @ x.T)
    kept = s > s[-1] * max(n, d) * np.finfo(np.float64).eps
    u = x @ v[:, kept] / np.sqrt(s[kept]) if d <= n else v[:, kept]
    return Basis(u, s[kept], d)


def logme(x: npt.NDArray[np.floating] | Basis, y: Ints) -> float:
    """LogME: log evidence of a Bayesian linear model of each class's indicator, per image.

    You, Liu, Wang and Long, LogME: practical assessment of pre-trained models, 2021 (arXiv
    2102.11005). With t the indicator, weights w ~ N(0, 1/alpha) and noise N(0, 1/beta), the evidence
    is maximised over alpha and beta by MacKay's fixed point, in the singular basis of the features:

        gamma = sum_k beta s_k / (alpha + beta s_k),  alpha = gamma / |m|^2,
        beta = (n - gamma) / |X m - t|^2
    """
    singular = x if isinstance(x, Basis) else basis(x)
    u, s, d = singular.u, singular.s, singular.dim
    n = len(u)
    evidence = []
    for label in np.unique(y):
        t = (y == label).astype(np.float64)
        z = (u.T @ t) ** 2  # squared coordinates of t in the singular basis
        rest = max(float(t @ t - z.sum()), 0.0)  # of t outside the span of the features
        if not len(s):  # features of 0: alpha grows without bound, and only noise is left
            evidence.append((float(np.log(n / (2 * np.pi * rest))) - 1) / 2)
            continue
        alpha = beta = 1.0
        for _ in range(_ROUNDS):
            lam = alpha / beta
            gamma = float((s / (s + lam)).sum())
            alpha = gamma / max(float((s * z / (s + lam) ** 2).sum()), _TINY)
            beta = (n - gamma) / max(float((z * lam**2 / (s + lam) ** 2).sum()) + rest, _TINY)
            if abs(alpha / beta - lam) <= _CLOSE * lam:
                break
        lam = alpha / beta
        length = float((s * z / (s + lam) ** 2).sum())  # |m|^2
        residual = float((z * lam**2 / (s + lam) ** 2).sum()) + rest  # |X m - t|^2
        log_det = float(np.log(alpha + beta * s).sum()) + (d - len(s)) * np.log(alpha)
        twice = d * np.log(alpha) + n * np.log(beta / (2 * np.pi))
        evidence.append((twice - beta * residual - alpha * length - log_det) / (2 * n))
    return float(np.mean(evidence))


def h_score(x: npt.NDArray[np.floating], y: Ints) -> float:
    """Regularised H-score: tr(cov(f)^-1 cov(E[f|y])), the covariance shrunk.

    Ibrahim, Ponomareva and Mazumder, Newer is not always better, 2021 (arXiv 2110.06893), on the
    H-score of Bao et al. 2019. Ledoit and Wolf's (2004) shrinkage a pulls cov(f) towards
    mean(diag) I, and the class means are weighted by 1 - a. Where features outnumber rows the same
    trace is taken in the space of the rows.
    """
    f = np.array(x, dtype=np.float64)
    f = f[
        :, f.min(0) < f.max(0)
    ]  # a constant feature tells nothing, and a covariance of 0 has no inverse
    n, d = f.shape
    if d == 0:
        return 0.0
    f -= f.mean(0)
    shrink, mean = ledoit_wolf(f)
    if shrink == 1:
        return 0.0
    classes, number = np.unique(y, return_inverse=True)
    member = (number[:, None] == np.arange(len(classes))).astype(np.float64)  # (n, K)
    sizes = member.sum(0)
    # cov(E[f|y]) = G'G / n with G the class means weighted by the root of their sizes, (K, d).
    g = (member.T @ f) / np.sqrt(sizes)[:, None]
    ridge = shrink * mean
    if d <= n:
        covariance = (1 - shrink) * (f.T @ f) / n + ridge * np.eye(d)
        solved = np.linalg.pinv(covariance, hermitian=True) @ g.T
    elif ridge > 0:
        # (a X'X/n + r I)^-1 = (I - X' (n r / a I + X X')^-1 X) / r
        inner = f @ f.T + n * ridge / (1 - shrink) * np.eye(n)
        solved = (g.T - f.T @ np.linalg.solve(inner, f @ g.T)) / ridge
    else:
        # pinv(X'X) = X' pinv(X X')^2 X, in the space of the rows
        inner = np.linalg.pinv(f @ f.T, hermitian=True)
        solved = n * f.T @ (inner @ (inner @ (f @ g.T)))
    return float((1 - shrink) * np.trace(g @ solved) / n)


def ledoit_wolf(x: Doubles) -> tuple[float, float]:
    """The shrinkage of the covariance of centred `x`, 0 to 1, and the mean of its diagonal.

    Ledoit and Wolf, A well-conditioned estimator for large-dimensional covariance matrices, 2004;
    sums over the d x d covariance are taken from the smaller of X'X and X X'.
    """
    n, d = x.shape
    mean = float((x**2).sum() / (n * d))
    gram = x @ x.T if n < d else x.T @ x
    squared = float((gram**2).sum()) / n**2  # |S|^2
    delta = squared / d - mean**2
    fourth = float(((x**2).sum(1) ** 2).sum()) / n
    beta = min((fourth - squared) / (n * d), delta)
    return (max(beta / delta, 0.0) if delta > 0 else 0.0), mean


def leep(probabilities: npt.NDArray[np.floating], y: Ints) -> float:
    """LEEP: mean log of sum_z P(y|z) p(z|x), z being the classes that the network was trained on.

    Nguyen, Hassner, Seeger and Archambeau, LEEP: a new measure to evaluate transferability, 2020
    (arXiv 2002.12462). P(y|z) is estimated from the same images.

    Args:
        probabilities: The network's own output after softmax, `(n, Z)`.
        y: Class numbers, `(n,)`.
    """
    p = np.asarray(probabilities, dtype=np.float64)
    classes, number = np.unique(y, return_inverse=True)
    member = (number[:, None] == np.arange(len(classes))).astype(np.float64)
    joint = member.T @ p / len(p)  # (K, Z)
    marginal = joint.sum(0)
    given = np.divide(joint, marginal, out=np.zeros_like(joint), where=marginal > 0)
    expected = (p @ given.T)[np.arange(len(p)), number]
    return float(np.log(np.maximum(expected, np.finfo(np.float64).tiny)).mean())
