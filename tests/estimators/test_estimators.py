"""The estimators: scikit-learn's own checks, its objectives, its grid search, and groups."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import sklearn
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV, RidgeClassifier
from sklearn.model_selection import GroupKFold, StratifiedGroupKFold, cross_validate
from sklearn.svm import LinearSVC
from sklearn.utils.estimator_checks import parametrize_with_checks

from probe.sklearn import LogisticProbeCV, RidgeProbeCV, SVMProbeCV

FEW = (0.1, 1.0)


@parametrize_with_checks(
    [
        LogisticProbeCV(Cs=FEW, cv=2),
        SVMProbeCV(Cs=FEW, cv=2),
        RidgeProbeCV(alphas=FEW, cv=2),
    ]
)
def test_scikit_learn_takes_them(estimator: Any, check: Any) -> None:
    check(estimator)


def drawn(n: int, dim: int, classes: int, seed: int = 0) -> tuple[Any, Any]:
    random = np.random.default_rng(seed)
    y = np.arange(n) % classes
    means = random.standard_normal((classes, dim))
    return (random.standard_normal((n, dim)) + 0.6 * means[y] + 3).astype(np.float32), y


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("dim", [10, 200])  # fewer features than rows, and more
def test_weights_are_those_of_scikit_learn(classes: int, dim: int) -> None:
    x, y = drawn(120, dim, classes)
    names = np.array(list("dbca"))[y]
    exact: dict[str, Any] = {"tol": 1e-8, "max_iter": 5000}
    for ours, theirs in (
        (LogisticProbeCV([0.02], scale="none", tol=1e-8), LogisticRegression(C=0.02, **exact)),
        (RidgeProbeCV([30.0], scale="none"), RidgeClassifier(30.0)),
        (SVMProbeCV([0.02], scale="none", tol=1e-8), LinearSVC(C=0.02, dual=False, **exact)),
    ):
        ours.fit(x, names)
        theirs.fit(x.astype(np.float64), names)
        assert ours.classes_.tolist() == theirs.classes_.tolist()
        wanted = np.atleast_2d(theirs.coef_)
        assert ours.coef_.shape == wanted.shape
        np.testing.assert_allclose(ours.coef_, wanted, atol=2e-3 * np.abs(wanted).max())
        np.testing.assert_array_equal(ours.predict(x), theirs.predict(x))
        kept = ours.alpha_ if isinstance(ours, RidgeProbeCV) else ours.C_
        assert kept == pytest.approx(30.0 if isinstance(ours, RidgeProbeCV) else 0.02)


def test_the_c_chosen_is_that_of_logistic_regression_cv() -> None:
    x, y = drawn(150, 20, 3, seed=1)
    people = np.arange(150) // 3
    folds = list(StratifiedGroupKFold(5).split(x, y, people))
    grid = [0.001, 0.01, 0.1, 1.0, 10.0]
    theirs = LogisticRegressionCV(
        Cs=grid, cv=folds, scoring="neg_log_loss", solver="newton-cholesky", use_legacy_attributes=False,
        l1_ratios=(0,), tol=1e-7,
    ).fit(x, y)  # fmt: skip
    ours = LogisticProbeCV(Cs=grid, scale="none", tol=1e-7).fit(x, y, groups=people)
    assert pytest.approx(theirs.C_) == ours.C_
    np.testing.assert_allclose(ours.predict_proba(x), theirs.predict_proba(x), atol=1e-3)


def test_scaling_is_part_of_the_weights() -> None:
    x, y = drawn(100, 8, 3)
    wide = x * np.array([1, 10, 100, 1, 1, 0.1, 1, 1], dtype=np.float32)
    a, b = (LogisticProbeCV().fit(each, y) for each in (x, wide))
    np.testing.assert_allclose(a.predict_proba(x), b.predict_proba(wide), atol=1e-3)


def test_groups_come_by_metadata_routing() -> None:
    """Rows of a group are copies: apart, they would praise the weakest penalty."""
    random = np.random.default_rng(5)
    x = np.repeat(random.standard_normal((40, 60)), 3, axis=0)
    y = np.repeat(random.integers(2, size=40), 3)
    groups = np.repeat(np.arange(40), 3)
    assert LogisticProbeCV(cv=4).fit(x, y, groups=groups).C_ < LogisticProbeCV(cv=4).fit(x, y).C_
    with sklearn.config_context(enable_metadata_routing=True):
        made = cross_validate(
            LogisticProbeCV(cv=4).set_fit_request(groups=True), x, y, cv=GroupKFold(4),
            params={"groups": groups}, return_estimator=True,
        )  # fmt: skip
    train, _ = next(GroupKFold(4).split(x, y, groups))
    alone = LogisticProbeCV(cv=4).fit(x[train], y[train], groups=groups[train])
    assert made["estimator"][0].C_ == alone.C_


@pytest.mark.parametrize(
    ("estimator", "message"),
    [
        (LogisticProbeCV(Cs=[0.0, 1.0]), "above 0"),
        (LogisticProbeCV(Cs=[]), "one or more"),
        (RidgeProbeCV(alphas=[0.0]), "above 0"),
        (SVMProbeCV(scale="l2"), "standard, none"),
        (LogisticProbeCV(cv=[(np.arange(5, 30), np.arange(5))]), "never tested"),
        (LogisticProbeCV(cv=[(np.arange(15), np.arange(30))] * 2), "tested twice"),
        (LogisticProbeCV(cv=1), "no two folds"),
    ],
)
def test_what_cannot_be_is_said(estimator: Any, message: str) -> None:
    x, y = drawn(30, 3, 3)
    with pytest.raises(ValueError, match=message):
        estimator.fit(x, y)


@pytest.mark.parametrize("cv", [None, np.int64(5), 5])
def test_folds_are_of_groups_however_many_are_asked_for(cv: Any) -> None:
    """Groups whose rows are alike to the digit: a fold that parts them sees no need of a penalty."""
    random = np.random.default_rng(0)
    groups = np.repeat(np.arange(30), 10)
    x = random.standard_normal((30, 40)).astype(np.float32)[groups]
    y = random.integers(0, 2, 30)[groups]
    made = LogisticProbeCV(cv=cv).fit(x, y, groups=groups)
    assert made.C_ == LogisticProbeCV(cv=5).fit(x, y, groups=groups).C_
    assert made.C_ < LogisticProbeCV(cv=GroupKFold(5)).fit(x, y, groups=np.arange(300)).C_


def test_numbers_beyond_float32_are_refused() -> None:
    x, y = drawn(30, 3, 3)
    far = x.astype(np.float64)
    far[0, 0] = 1e39
    with pytest.raises(ValueError, match="infinity in float32"):
        LogisticProbeCV().fit(far, y)
