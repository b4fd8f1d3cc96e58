"""The weights of a probe that is fitted once more on all rows, against scikit-learn and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.svm import LinearSVC
from studies import blobs

from features.arrays import Floats, Ints
from probe.exported.refit import Refitted, refit, temperature_of
from probe.folds.splits import Splits
from probe.probes.layer import Source
from probe.probes.settings import ProbeSettings

GRID = (0.01, 0.1, 1.0, 10.0)


def fitted(x: Floats, y: Ints, method: str, scale: str, grid: tuple[float, ...] = GRID) -> Refitted:
    splits = Splits(np.arange(len(y)) // 3 % 5, np.arange(5))
    settings = ProbeSettings(method, scale, grid, True, "grid", 1e-6)
    return refit(Source.of(x), y, int(y.max()) + 1, splits, settings)


def sklearn_scores(x: Floats, y: Ints, method: str, scale: str, value: float) -> Floats:
    """Centred scores of the same objective, fitted by scikit-learn on all rows."""
    z = x.astype(np.float64)
    if scale == "l2":
        z = z / np.linalg.norm(z, axis=1, keepdims=True)
    if scale == "standard":
        z = (z - z.mean(0)) / z.std(0)
    models = {
        "logistic": lambda: LogisticRegression(C=value, tol=1e-8, max_iter=5000),
        "svm": lambda: LinearSVC(C=value, dual=False, tol=1e-8, max_iter=50000),
        "ridge": lambda: RidgeClassifier(alpha=value),
    }
    scores = np.asarray(models[method]().fit(z, y).decision_function(z))
    return scores if scores.ndim == 2 else np.stack([-scores, scores], 1)


@pytest.mark.parametrize("scale", ["standard", "l2", "none"])
@pytest.mark.parametrize("method", ["logistic", "svm", "ridge"])
@pytest.mark.parametrize(("dim", "classes"), [(7, 2), (90, 3)], ids=["tall", "wide"])
def test_the_weights_are_those_of_scikit_learn(
    method: str, scale: str, dim: int, classes: int
) -> None:
    x, y = blobs(60, dim, classes, 0.5)
    x += 3  # a mean that must not matter
    made = fitted(x, y, method, scale)
    assert made.choice.value > 0
    ours = made.probe.scores(x)
    wanted = sklearn_scores(x, y, method, scale, made.choice.value)
    if classes == 2 and method == "logistic":
        wanted = wanted / 2  # half of the margin on either side
    if method == "logistic":  # a softmax does not know a constant that all classes share
        ours, wanted = (s - s.mean(1, keepdims=True) for s in (ours, wanted))
    np.testing.assert_allclose(ours, wanted, atol=5e-3 * np.abs(wanted).max())


def test_c_is_that_of_the_folds_all_together() -> None:
    x, y = blobs(90, 12, 3, 0.6, seed=3)
    made = fitted(x, y, "logistic", "none", (1e-3, 1e-2, 1e-1, 1.0, 10.0))
    unit = float(np.square(x).sum(1).mean())
    losses = []
    for c in (1e-3, 1e-2, 1e-1, 1.0, 10.0):
        total = 0.0
        for fold in range(5):
            out = np.arange(90) // 3 % 5 == fold
            own = float(np.square(x[~out]).sum(1).mean())
            model = LogisticRegression(C=c / own, max_iter=5000).fit(
                x[~out] - x[~out].mean(0), y[~out]
            )
            p = model.predict_proba(x[out] - x[~out].mean(0))
            total -= np.log(p[np.arange(len(p)), y[out]]).sum()
        losses.append(total)
    best = (1e-3, 1e-2, 1e-1, 1.0, 10.0)[int(np.argmin(losses))]
    assert made.choice.value == pytest.approx(best / unit, rel=0.05)


def test_rows_of_no_part_and_dead_features_have_no_say() -> None:
    x, y = blobs(60, 6, 2, 1.0)
    x[:, 2] = 4.0  # never varies
    wild = np.concatenate([x, 1e3 * np.ones((5, 6), dtype=np.float32)])
    part = np.concatenate([np.arange(60) // 3 % 5, np.full(5, -1)])
    settings = ProbeSettings("logistic", "standard", GRID, True, "grid", 1e-6)
    labels = np.concatenate([y, np.full(5, -1)])
    made = refit(Source.of(wild), labels, 2, Splits(part, np.arange(5)), settings)
    alone = fitted(x, y, "logistic", "standard")
    np.testing.assert_allclose(made.probe.weight, alone.probe.weight, atol=1e-5)
    assert np.abs(made.probe.weight[:, 2]).max() < 1e-6


def test_a_class_without_images_is_left_out() -> None:
    x, y = blobs(60, 6, 2, 1.0)
    splits = Splits(np.arange(60) // 3 % 5, np.arange(5))
    settings = ProbeSettings("ridge", "standard", GRID, True, "grid", 1e-6)
    made = refit(Source.of(x), y * 2, 3, splits, settings)
    assert made.classes == (0, 2)
    assert made.probe.weight.shape == (2, 6)


def test_the_temperature_is_that_of_the_least_log_loss() -> None:
    drawn = np.random.default_rng(0)
    logits = drawn.standard_normal((4000, 3)) * 2
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    y = (p.cumsum(1) < drawn.random((4000, 1))).sum(1)
    assert temperature_of((logits / 5).astype(np.float32), y) == pytest.approx(5, rel=0.1)
