"""LP-FT: the head starts as the logistic probe of its features, then the whole network is tuned.

Kumar et al., "Fine-tuning can distort pretrained features and underperform out-of-distribution",
ICLR 2022, arXiv 2202.10054.
"""

from __future__ import annotations

import warnings

import numpy as np
import torch

from features.arrays import Doubles, Ints
from probe.probes.linear import sklearn_model
from probe.probes.methods import GRID
from probe.results.scores import NEVER_SEEN, log_losses, probabilities
from probe.training.setup import TrainingJob
from probe.training.train import head_features, standardise

_UNSEEN = -10.0  # the bias of a class without training rows


def start_from_probe(job: TrainingJob, rows: Ints, inner: tuple[Ints, Ints]) -> None:
    """Start the head with the weights of the logistic probe on `rows`.

    Args:
        job: Its head is standardised by `rows` and changed in place.
        rows: The training rows of the stage that follows.
        inner: Rows that fit a probe with every C of the grid, and rows that choose C by log loss.
    """
    train, other = inner
    everyone = np.unique(np.concatenate([rows, train, other]))
    features = head_features(job, everyone)

    def scaled(these: Ints) -> Doubles:
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
            p = probabilities(scaled(choose) @ w.T + b, "logits")
            losses.append(log_losses(p, y[choose], NEVER_SEEN).sum())
        w, b = _logistic(scaled(own), y[own], size, GRID[::2][int(np.argmin(losses))])
        with torch.no_grad():
            head.linear.weight[part] = torch.from_numpy(w).to(head.linear.weight)
            head.linear.bias[part] = torch.from_numpy(b).to(head.linear.bias)


def _logistic(z: Doubles, y: Ints, classes: int, point: float) -> tuple[Doubles, Doubles]:
    """Weights `(classes, dim)` and biases of the probe with C = point / mean squared length of z."""
    seen = np.unique(y)
    weight, bias = np.zeros((classes, z.shape[1])), np.full(classes, _UNSEEN)
    if len(seen) == 1:
        bias[seen] = 0.0
        return weight, bias
    model = sklearn_model("logistic", point / max(float((z**2).sum(1).mean()), 1e-12))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # nearly converged is good enough for a start
        model.fit(z, y)
    w, b = model.coef_, model.intercept_
    if len(seen) == 2:
        w, b = np.concatenate([-w, w]) / 2, np.concatenate([-b, b]) / 2
    weight[seen], bias[seen] = w, b
    return weight, bias
