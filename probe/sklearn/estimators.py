"""Linear probes whose C is chosen by cross-validation, as estimators of scikit-learn.

The whole grid is solved at once, as `probe fit` does it; the objectives are those of LogisticRegression,
LinearSVC and RidgeClassifier, as probe/probes/linear.py states them.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from numbers import Integral
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from scipy.special import expit, softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.model_selection import StratifiedGroupKFold, check_cv
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from features.arrays import Doubles, Ints
from probe.exported.refit import refit
from probe.folds.splits import Splits
from probe.probes.layer import Source
from probe.probes.methods import METHODS
from probe.probes.settings import TOL, ProbeSettings

_SCALES = ("standard", "none")

Array = npt.NDArray[Any]


class _ProbeCV(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """What the probes have in common; each has its own parameters."""

    cv: Any
    scale: str
    tol: float

    coef_: Doubles
    """`(1, dim)` of two classes, else `(K, dim)`, of the features as they were given."""
    intercept_: Doubles
    """`(1,)` or `(K,)`."""
    classes_: Array
    """`(K,)`, sorted."""
    n_features_in_: int

    def _settings(self) -> ProbeSettings:
        """The probe, its grid and its scale."""
        raise NotImplementedError

    def _keep(self, value: float) -> None:
        """Keep the value that was chosen."""
        raise NotImplementedError

    def fit(self, X: Any, y: Any, groups: Any = None) -> Self:
        """Choose from the grid by cross-validation, and fit on all rows.

        Args:
            X: Features, `(n, dim)`; taken as float32.
            y: Classes, `(n,)`.
            groups: Rows of one group, such as the images of a person, are in one fold, `(n,)`. Through
                other estimators of scikit-learn they come by metadata routing (`set_fit_request`).

        Raises:
            ValueError: These are no features, classes or folds.
        """
        if self.scale not in _SCALES:
            raise ValueError(f"scale={self.scale!r}: give one of {', '.join(_SCALES)}.")
        settings = self._settings()
        X, y = validate_data(self, X, y, ensure_min_samples=2)
        check_classification_targets(y)
        self.classes_, codes = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"y holds 1 class, {self.classes_[0]!r}; a probe tells two or more.")
        part = _parts(self.cv, X, codes, groups)
        splits = Splits(part, np.arange(int(part.max()) + 1))
        with np.errstate(over="ignore"):
            x = np.array(X, dtype=np.float32)
        if not np.isfinite(x).all():
            raise ValueError(
                "X: holds infinity in float32; divide the features by their size first."
            )
        source = Source.of(x)
        made = refit(source, codes.astype(np.int64), len(self.classes_), splits, settings)
        scaler = made.probe.scaler
        coef = np.asarray(made.probe.weight * scaler.scale, dtype=np.float64)
        intercept = np.asarray(made.probe.bias - coef @ scaler.mean, dtype=np.float64)
        if len(self.classes_) == 2:  # a margin and its negative; of logistic, half of each
            times = 2.0 if METHODS[settings.method].scores == "logits" else 1.0
            coef, intercept = times * coef[1:], times * intercept[1:]
        self.coef_, self.intercept_ = coef, intercept
        self._keep(made.choice.value)
        return self

    def decision_function(self, X: Any) -> Doubles:
        """The scores of rows `(n, dim)`: `(n, K)`, or of two classes that of the second, `(n,)`."""
        check_is_fitted(self)
        X = validate_data(self, X, reset=False)
        scores = np.asarray(X @ self.coef_.T + self.intercept_, dtype=np.float64)
        return scores[:, 0] if len(self.classes_) == 2 else scores

    def predict(self, X: Any) -> Array:
        """The classes of rows `(n, dim)`, `(n,)`."""
        scores = self.decision_function(X)
        chosen = (scores > 0).astype(int) if scores.ndim == 1 else scores.argmax(1)
        return np.asarray(self.classes_[chosen])


class LogisticProbeCV(_ProbeCV):
    """Logistic regression, its C chosen by the mean log loss of held-out rows; `C_` is it.

    Args:
        Cs: The values of C to choose from; by default those of `probe fit`, thirteen over six decades of C
            times the mean squared length of the rows.
        cv: The number of folds, stratified and by `groups` where they are given; or a splitter or an
            iterable of splits as scikit-learn has them, in which every row is tested once.
        scale: `standard`: features are standardised by the training rows of each fold; or `none`.
        tol: The relative error of the objective.
    """

    C_: float

    def __init__(
        self,
        Cs: Sequence[float] | None = None,
        cv: Any = 5,
        scale: str = "standard",
        tol: float = TOL,
    ) -> None:
        """Nothing is computed yet."""
        self.Cs = Cs
        self.cv = cv
        self.scale = scale
        self.tol = tol

    def predict_proba(self, X: Any) -> Doubles:
        """The probabilities of the classes, `(n, K)`."""
        scores = self.decision_function(X)
        if scores.ndim == 1:
            return np.stack([expit(-scores), expit(scores)], axis=1)
        return np.asarray(softmax(scores, axis=1))

    def predict_log_proba(self, X: Any) -> Doubles:
        """Their logarithms, `(n, K)`."""
        return np.log(self.predict_proba(X))

    def _settings(self) -> ProbeSettings:
        return _settings("logistic", self.Cs, self.scale, self.tol)

    def _keep(self, value: float) -> None:
        self.C_ = value


class SVMProbeCV(_ProbeCV):
    """A linear SVM with squared hinge loss, one class against the others; `C_` is chosen by accuracy.

    Its scores are margins and no probabilities. The arguments are those of `LogisticProbeCV`.
    """

    C_: float

    def __init__(
        self,
        Cs: Sequence[float] | None = None,
        cv: Any = 5,
        scale: str = "standard",
        tol: float = TOL,
    ) -> None:
        """Nothing is computed yet."""
        self.Cs = Cs
        self.cv = cv
        self.scale = scale
        self.tol = tol

    def _settings(self) -> ProbeSettings:
        return _settings("svm", self.Cs, self.scale, self.tol)

    def _keep(self, value: float) -> None:
        self.C_ = value


class RidgeProbeCV(_ProbeCV):
    """Ridge regression on the classes, as RidgeClassifierCV; `alpha_` is chosen by accuracy.

    Its scores are margins and no probabilities. `alphas` are the penalties to choose from, by default
    those of `probe fit`; the other arguments are those of `LogisticProbeCV`.
    """

    alpha_: float

    def __init__(
        self,
        alphas: Sequence[float] | None = None,
        cv: Any = 5,
        scale: str = "standard",
        tol: float = TOL,
    ) -> None:
        """Nothing is computed yet."""
        self.alphas = alphas
        self.cv = cv
        self.scale = scale
        self.tol = tol

    def _settings(self) -> ProbeSettings:
        given = self.alphas
        cs = None if given is None else [1 / alpha if alpha else 0.0 for alpha in given]
        return _settings("ridge", cs, self.scale, self.tol)

    def _keep(self, value: float) -> None:
        self.alpha_ = value


_FOLDS = 5


def _settings(method: str, cs: Iterable[float] | None, scale: str, tol: float) -> ProbeSettings:
    """A probe's settings; of given values the strongest penalty first."""
    grid = METHODS[method].grid if cs is None else tuple(sorted(float(c) for c in cs))
    if not grid or not all(0 < c < np.inf for c in grid):
        raise ValueError("Cs, or alphas: give one or more numbers above 0.")
    return ProbeSettings(method, scale, grid, relative=cs is None, solver="grid", tol=tol)


def _parts(cv: Any, X: Array, codes: Ints, groups: Any) -> Ints:
    """The fold that tests every row, `(n,)`.

    Raises:
        ValueError: There are too few rows or groups, or a row is not tested once.
    """
    cv = _FOLDS if cv is None else cv
    if isinstance(cv, Integral):
        most = int(np.bincount(codes).max()) if groups is None else len(np.unique(groups))
        cv = min(int(cv), most)
        if cv < 2:
            raise ValueError("cv: there are no two folds; give two rows of a class, or two groups.")
        if groups is not None:
            cv = StratifiedGroupKFold(cv)
    splitter = check_cv(cv, codes, classifier=True)
    part = np.full(len(codes), -1)
    with warnings.catch_warnings():
        # A class with fewer rows than folds is missing in some of them.
        warnings.filterwarnings("ignore", "The least populated class", UserWarning)
        for number, (_, tested) in enumerate(splitter.split(X, codes, groups)):
            if (part[tested] >= 0).any():
                raise ValueError("cv: a row is tested twice; give folds that test every row once.")
            part[tested] = number
    if (part < 0).any():
        raise ValueError("cv: a row is never tested; give folds that test every row once.")
    return part
