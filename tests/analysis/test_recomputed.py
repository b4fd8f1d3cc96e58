"""A study's numbers once more with scikit-learn, scipy and NumPy alone, from its features and labels.

Nothing here reads what the toolkit keeps between its steps: folds are told by fold numbers, and C, scores,
layers, errors and intervals are made anew from the arrays that the study was made of.
"""

from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import studies
from numpy.typing import NDArray
from scipy import stats
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, balanced_accuracy_score, log_loss
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from probe.analysis.compare import compare
from probe.analysis.curves import curves
from probe.fitting.fit import Fitted, fit

N, FOLDS, GRID, LAYERS = 180, 4, (0.003, 0.03, 0.3, 3.0), ("low", "mid", "high")
Y = np.arange(N) % 3
PEOPLE = np.random.default_rng(5).permutation(np.arange(N) % 47)  # four or so images each
FOLD = PEOPLE % FOLDS
APART = {"near": (0.3, 0.5, 0.9), "far": (0.3, 0.4, 0.5)}
X = {
    name: {
        layer: studies.signal(Y, 7, one, 10 * len(name) + i)
        for i, (layer, one) in enumerate(zip(LAYERS, apart, strict=True))
    }
    for name, apart in APART.items()
}
Floats = NDArray[np.floating]


@dataclass
class Again:
    """A layer fitted once more."""

    c: list[float]
    worth: list[float]
    p: Floats
    """The probabilities of every image, `(n, 3)`."""
    inner: Floats
    """1, 0 or NaN, `(n, folds)`: whether the probe without a fold and an image's own is right."""

    @property
    def right(self) -> Floats:
        return (self.p.argmax(1) == Y).astype(float)


def probabilities(x: Floats, train: NDArray[np.bool], other: NDArray[np.bool], c: float) -> Floats:
    made = make_pipeline(StandardScaler(), LogisticRegression(C=c, tol=1e-10, max_iter=10_000))
    x = x.astype(np.float64)
    return np.asarray(made.fit(x[train], Y[train]).predict_proba(x[other]))


def fitted_again(x: Floats) -> Again:
    again = Again([], [], np.full((N, 3), np.nan), np.full((N, FOLDS), np.nan))
    without = {}  # the probabilities of the images of two folds, by what they are of
    for a, b in combinations(range(FOLDS), 2):
        train = ~np.isin(FOLD, (a, b))
        for c in GRID:
            p = probabilities(x, train, ~train, c)
            for fold, part in ((a, b), (b, a)):
                without[fold, part, c] = p[FOLD[~train] == part]
    for fold in range(FOLDS):
        others = [part for part in range(FOLDS) if part != fold]
        truth = np.concatenate([Y[part == FOLD] for part in others])
        losses = [
            log_loss(truth, np.concatenate([without[fold, part, c] for part in others]))
            for c in GRID
        ]
        best = int(np.argmin(losses))
        again.c.append(GRID[best])
        again.worth.append(-losses[best])
        tested = fold == FOLD
        again.p[tested] = probabilities(x, ~tested, tested, GRID[best])
        for part in others:
            told = without[fold, part, GRID[best]].argmax(1)
            again.inner[part == FOLD, fold] = told == Y[part == FOLD]
    return again


def best_again(layers: list[Again]) -> tuple[Again, list[int]]:
    best = Again([], [], np.full((N, 3), np.nan), np.full((N, FOLDS), np.nan))
    chosen = [int(np.argmax([layer.worth[fold] for layer in layers])) for fold in range(FOLDS)]
    for fold, place in enumerate(chosen):
        best.p[fold == FOLD] = layers[place].p[fold == FOLD]
        best.inner[:, fold] = layers[place].inner[:, fold]
    return best, chosen


def share(values: Floats, inner: Floats, best: bool) -> float:
    """What of the variance is due to training: how often the inner probes disagree about an image."""
    scale = (FOLDS - 1 if best else FOLDS - 2) / (FOLDS - 1) ** 0.5
    return min(1.0, scale * float(np.nanvar(inner, axis=1, ddof=1).mean() / values.var()))


def left_out(values: Floats) -> Floats:
    """The mean without each subject, one after the other."""
    return np.array([values[person != PEOPLE].mean(0) for person in np.unique(PEOPLE)])


def error(values: Floats) -> Floats:
    means = left_out(values)
    g = len(means)
    return np.asarray(np.sqrt((g - 1) / g * ((means - means.mean(0)) ** 2).sum(0)))


def quantile() -> float:
    sizes = np.bincount(PEOPLE)
    return float(stats.t.ppf(0.975, sizes.sum() ** 2 / (sizes**2).sum() - 1))


def correlated_error(right: Floats) -> float:
    """By the analysis of variance between and within subjects, and Kish's design effect."""
    of_person = [right[person == PEOPLE] for person in np.unique(PEOPLE)]
    n, g, p = N, len(of_person), right.mean()
    ms_between = sum(len(r) * (r.mean() - p) ** 2 for r in of_person) / (g - 1)
    ms_within = sum(((r - r.mean()) ** 2).sum() for r in of_person) / (n - g)
    size = sum(len(r) ** 2 for r in of_person) / n
    ratio = (ms_between - ms_within) / (ms_between + ((n - size) / (g - 1) - 1) * ms_within)
    rho = float(np.clip(ratio, 0, 1))
    return float(np.sqrt(p * (1 - p) / n * (1 + (size - 1) * rho) * g / (g - 1)))


def interval_of_accuracy(again: Again, best: bool) -> tuple[float, float, float]:
    right = again.right
    p = right.mean()
    wider = (1 + share(right, again.inner, best)) ** 0.5
    reach = quantile() * wider * max(float(error(right)), correlated_error(right)) / (p * (1 - p))
    return float(p), float(expit(logit(p) - reach)), float(expit(logit(p) + reach))


def interval_of_difference(a: Again, b: Again, best: bool) -> tuple[float, float, float]:
    apart = a.right - b.right
    wider = (1 + share(apart, a.inner - b.inner, best)) ** 0.5
    margin = quantile() * wider * float(error(apart))
    mean = float(apart.mean())
    return mean, mean - margin, mean + margin


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recomputed") / "study"
    study = studies.begin(folder, {"label": Y.tolist()}, None, "faces", subject=PEOPLE, fold=FOLD)
    for name, layers in X.items():
        of_faces = {"domain": "faces", "card": {"pair": "far"}} if name == "near" else {}
        studies.add(study, name, layers, **of_faces)  # type: ignore[arg-type]
    return folder


@pytest.fixture(scope="module")
def made(folder: Path) -> Fitted:
    return fit(folder, probes=("logistic",), c=GRID, tol=1e-9)


@pytest.fixture(scope="module")
def again() -> dict[str, list[Again]]:
    return {name: [fitted_again(x) for x in layers.values()] for name, layers in X.items()}


def test_c_accuracy_and_log_loss_of_every_fold(made: Fitted, again: dict[str, list[Again]]) -> None:
    seen = set()
    for row in made.rows:
        if row.backbone not in X or row.layer == "best":
            continue
        seen.add((row.backbone, row.layer, row.fold))
        layer, tested = again[row.backbone][LAYERS.index(row.layer)], row.fold == FOLD
        p, y = layer.p[tested], Y[tested]
        assert layer.c[row.fold] == row.C
        assert row.selection == pytest.approx(layer.worth[row.fold], abs=1e-4)
        assert row.accuracy == pytest.approx(accuracy_score(y, p.argmax(1)))
        assert row.balanced_accuracy == pytest.approx(balanced_accuracy_score(y, p.argmax(1)))
        assert row.log_loss == pytest.approx(log_loss(y, p), abs=1e-4)
    assert len(seen) == len(X) * len(LAYERS) * FOLDS
    assert len({c for layers in again.values() for layer in layers for c in layer.c}) > 1


def test_best_rows_and_their_intervals(
    folder: Path, made: Fitted, again: dict[str, list[Again]]
) -> None:
    assert made.fitted
    (task,) = curves(made.study)
    choices = []
    for best in task.best:
        wanted, chosen = best_again(again[best.backbone])
        choices += chosen
        assert best.chosen == tuple(LAYERS[place] for place in chosen)
        measured = best.accuracy
        assert (measured.value, measured.low, measured.high) == pytest.approx(
            interval_of_accuracy(wanted, best=True), abs=1e-9
        )
    assert len(set(choices)) > 1
    for curve in task.panels[0].curves:
        for point, layer in zip(curve.points, again[curve.backbone], strict=True):
            got = point.accuracy
            assert (got.value, got.low, got.high) == pytest.approx(
                interval_of_accuracy(layer, best=False), abs=1e-9
            )
    (compared,) = compare(folder, "near", "far")
    wanted = [best_again(again[name])[0] for name in ("near", "far")]
    got = compared.difference
    assert (got.value, got.low, got.high) == pytest.approx(
        interval_of_difference(*wanted, best=True), abs=1e-9
    )


def test_the_band_of_a_gap(made: Fitted, again: dict[str, list[Again]]) -> None:
    """Signs are drawn anew, 40,000 times, so the factor of the band agrees to what 4,000 draws leave."""
    (task,) = curves(made.study)
    (gap,) = task.panels[0].gaps
    pairs = list(zip(again["near"], again["far"], strict=True))
    apart = np.stack([a.right - b.right for a, b in pairs], axis=1)
    influence = left_out(apart) - left_out(apart).mean(0)
    signs = np.random.default_rng(1).choice((-1.0, 1.0), size=(40_000, len(influence)))
    studentised = np.abs(signs @ influence) / np.sqrt((influence**2).sum(0))
    factor = float(np.quantile(studentised.max(1), 0.95) / stats.norm.ppf(0.975))
    for place, (point, (a, b)) in enumerate(zip(gap.points, pairs, strict=True)):
        mean, low, high = interval_of_difference(a, b, best=False)
        assert point.gap == pytest.approx(mean)
        half = factor * (high - low) / 2
        assert (point.high - point.low) / 2 == pytest.approx(half, rel=0.02), place
