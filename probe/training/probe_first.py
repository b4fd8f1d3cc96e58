"""LP-FT: the head starts as the logistic probe of its features, then the whole network is tuned.

Kumar et al., "Fine-tuning can distort pretrained features and underperform out-of-distribution",
ICLR 2022, arXiv 2202.10054.
"""

from __future__ import annotations

import warnings

import numpy as np
import numpy.typing as npt
import torch

from probe.probes.linear import GRID, sklearn_model
from probe.training.setup import Job
from probe.training.train import head_features, standardise

Rows = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
_UNSEEN = -10.0  # the bias of a class that the rows do not have


def start_from_probe(job: Job, rows: Rows, inner: tuple[Rows, Rows]) -> None:
    """Give the head the weights of the logistic probe on `rows`.

    Args:
        job: Its head is standardised by `rows` and set, in place.
        rows: Training rows of the stage that follows.
        inner: Rows that fit every C of the grid, and rows that choose among them by log loss.
    """
    train, other = inner
    everyone = np.unique(np.concatenate([rows, train, other]))
    features = head_features(job, everyone)

    def scaled(these: Rows) -> Floats:
        z = (features[np.searchsorted(everyone, these)] - head.mean.cpu()) * head.scale.cpu()
        return np.asarray(z.double().numpy())

    head = job.network.head
    standardise(job, rows)
    for column, part in enumerate(job.goal.parts()):
        y, size = job.goal.labels[:, column], job.goal.sizes[column]
        own, fit, choose = (these[y[these] >= 0] for these in (rows, train, other))
        losses = []
        for point in GRID[::2]:
            w, b = _logistic(scaled(fit), y[fit], size, point)
            losses.append(_log_loss(scaled(choose) @ w.T + b, y[choose]))
        w, b = _logistic(scaled(own), y[own], size, GRID[::2][int(np.argmin(losses))])
        with torch.no_grad():
            head.linear.weight[part] = torch.from_numpy(w).to(head.linear.weight)
            head.linear.bias[part] = torch.from_numpy(b).to(head.linear.bias)


def _logistic(z: Floats, y: Rows, classes: int, point: float) -> tuple[Floats, Floats]:
    """Weights `(classes, dim)` and biases of the probe at C = point / mean squared length of z."""
    seen = np.unique(y)
    weight, bias = np.zeros((classes, z.shape[1])), np.full(classes, _UNSEEN)
    if len(seen) == 1:
        bias[seen] = 0.0
        return weight, bias
    model = sklearn_model("logistic", point / max(float((z**2).sum(1).mean()), 1e-12))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # not quite converged is near enough for a start
        model.fit(z, y)
    w, b = model.coef_, model.intercept_
    if len(seen) == 2:
        w, b = np.concatenate([-w, w]) / 2, np.concatenate([-b, b]) / 2
    weight[seen], bias[seen] = w, b
    return weight, bias


def _log_loss(scores: Floats, y: Rows) -> float:
    s = scores - scores.max(1, keepdims=True)
    p = np.exp(s[np.arange(len(y)), y]) / np.exp(s).sum(1)
    return float(-np.log(np.maximum(p, 1e-15)).mean()) if len(y) else 0.0
