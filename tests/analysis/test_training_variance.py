"""The share of an error that is due to the images trained on: by hand, by its laws, where it is read."""

from pathlib import Path

import numpy as np
import pytest
import studies

from probe.analysis.compare import compare
from probe.analysis.curves import curves
from probe.analysis.statistics import mean_interval
from probe.analysis.training_variance import UNKNOWN, CrossValidated, share_of_training, widening
from probe.fitting.fit import fit
from probe.results import predictions

FOLD = np.arange(5).repeat(2)


def inside(right: list[list[float]]) -> np.ndarray:
    """Of ten images in five folds, what the four inner probes of each say; NaN at its own fold."""
    inner = np.full((10, 5), np.nan)
    for row, told in enumerate(right):
        inner[row, np.arange(5) != FOLD[row]] = told
    return inner


def test_by_hand() -> None:
    """Half of the images right, variance 1/4. Of one image one inner probe of four differs: 1/4 x 3/4
    x 4/3 = 1/4; of another two: 1/3. Mean over ten 7/120, times 3/2, over 1/4: 0.35; a choice: times 2."""
    values = np.array([1.0, 0] * 5)
    told = [[value] * 4 for value in values]
    told[3], told[6] = [0, 0, 1, 0], [1, 0, 0, 1]
    assert share_of_training(values, inside(told), FOLD) == pytest.approx(0.35)
    assert share_of_training(values, inside(told), FOLD, best=True) == pytest.approx(0.35 * 4 / 3)
    result = CrossValidated(values, FOLD, inside(told), 8)
    assert widening([result], [1.0], np.arange(10)) == pytest.approx(1.35**0.5)
    assert widening([result, result], [1.0, -1.0], np.arange(10)) == 1  # nothing varies


def test_two_folds_compare_probes_that_share_nothing() -> None:
    values, fold = np.array([1.0, 0, 1, 0]), np.array([0, 0, 1, 1])
    inner = np.array([[np.nan, 1], [np.nan, 1], [1, np.nan], [0, np.nan]])
    assert share_of_training(values, inner, fold) == pytest.approx(0.8**0.5 * (1 / 4) / 2 / (1 / 4))


def test_probes_that_always_agree_are_settled_and_guesses_are_not() -> None:
    drawn = np.random.default_rng(0)
    values, fold = drawn.integers(0, 2, 900).astype(float), np.arange(900) % 5
    own = fold[:, None] == np.arange(5)
    agree = np.where(own, np.nan, values[:, None])
    guess = np.where(own, np.nan, drawn.integers(0, 2, (900, 5)))
    assert share_of_training(values, agree, fold) == 0
    assert share_of_training(values, guess, fold) == 1


def test_without_inner_predictions_and_with_a_split() -> None:
    values = np.array([1.0, 0] * 5)
    unknown = CrossValidated(values, FOLD, None, 8)
    assert widening([unknown], [1.0], np.arange(10)) == pytest.approx((1 + UNKNOWN) ** 0.5)
    known = CrossValidated(values[::-1].copy(), FOLD, inside([[1.0] * 4] * 10), 8)
    both = widening([known, unknown], [1.0, -1.0], np.arange(10))
    assert both == pytest.approx((1 + UNKNOWN) ** 0.5)
    split = CrossValidated(values, np.zeros(10, dtype=int), None, 40, split=True)
    assert widening([split], [1.0], np.arange(10)) == pytest.approx((1 + 10 / 160) ** 0.5)


def test_few_shot_probes_err_as_their_folds_do() -> None:
    """Folds that are all right or all wrong: the error is that of five draws, with four degrees."""
    values = np.repeat([1.0, 1, 0, 1, 0], 40)
    fold, subjects = np.repeat(np.arange(5), 40), np.arange(200)
    wider = widening([CrossValidated(values, fold, None, 8, few=True)], [1.0], subjects)
    interval = mean_interval(values, subjects, wider)
    assert interval.high - interval.value == pytest.approx(2.776445 * (0.3 / 5) ** 0.5)


def test_comparisons_and_curves_widen_by_the_inner_probes_that_are_kept(tmp_path: Path) -> None:
    y = np.arange(90) % 3
    study = studies.begin(tmp_path / "study", {"label": y.tolist()})
    for seed, name in enumerate(("a", "b")):
        studies.add(study, name, {"fc": studies.signal(y, 5, 0.4, seed)})
    fit(study.folder, probes=("ridge",))
    right, inner = [], []
    for name in ("a", "b"):
        stored = predictions.read(study.folder / "predictions", ("label", name, "fc", "ridge"))
        assert stored.inner is not None
        fold = stored.fold
        # An image of a fold validates for the four others, and never for its own.
        np.testing.assert_array_equal(stored.inner >= 0, fold[:, None] != np.arange(5))
        right.append(stored.correct(y))
        inner.append(np.where(stored.inner < 0, np.nan, stored.inner == y[:, None]))
    share = share_of_training(right[0] - right[1], inner[0] - inner[1], fold.astype(int))
    assert 0 < share < 1
    wanted = mean_interval(right[0] - right[1], study.subjects, (1 + share) ** 0.5)
    (comparison,) = compare(study.folder, "a/fc/ridge", "b/fc/ridge")
    assert comparison.difference == wanted
    (task,) = curves(study)
    weights = {("a", "fc", "ridge"): 1.0, ("b", "fc", "ridge"): -1.0}
    assert task.outcomes.wider(weights) == pytest.approx((1 + share) ** 0.5)


def test_inner_predictions_are_those_of_probes_without_the_fold_and_the_images_own_part(
    tmp_path: Path,
) -> None:
    """Again with scikit-learn: ridge at the alpha chosen for the fold, features scaled on its rows."""
    from sklearn.linear_model import Ridge
    from sklearn.preprocessing import StandardScaler

    y = np.arange(90) % 3
    study = studies.begin(tmp_path / "study", {"label": y.tolist()})
    x = studies.signal(y, 5, 0.3, 2)
    studies.add(study, "a", {"fc": x})
    rows = fit(study.folder, probes=("ridge",)).rows
    stored = predictions.read(study.folder / "predictions", ("label", "a", "fc", "ridge"))
    assert stored.inner is not None
    alpha = {row.fold: row.C for row in rows if row.layer == "fc"}
    for test, part in ((0, 1), (3, 2), (4, 0)):
        train, held = ~np.isin(stored.fold, (test, part)), stored.fold == part
        scale = StandardScaler().fit(x[train])
        signs = np.where(y[train, None] == np.arange(3), 1.0, -1.0)
        solved = Ridge(alpha=alpha[test]).fit(scale.transform(x[train]), signs)
        wanted = solved.predict(scale.transform(x[held])).argmax(1)
        np.testing.assert_array_equal(stored.inner[held, test], wanted)
