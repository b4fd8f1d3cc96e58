"""Probes that predict a number: against scikit-learn, by hand, and through the whole chain."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import studies
from scipy import stats
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import PredefinedSplit
from sklearn.preprocessing import StandardScaler

from features.data.tasks import Task
from features.errors import InputError
from features.study.study import Study, open_study
from probe.analysis.compare import compare
from probe.analysis.curves import curves
from probe.fitting.crossval_numbers import cross_validate_numbers
from probe.fitting.fit import fit
from probe.folds.splits import Splits
from probe.probes.layer import Source
from probe.probes.methods import METHODS
from probe.probes.settings import ProbeSettings
from probe.reporting.report import report
from probe.results import predictions
from probe.results import rows as results
from probe.results.number_metrics import PredictedNumbers, spearman_by_image

ALPHAS = (100.0, 10.0, 1.0, 0.1, 0.01)
YEARS = Task("years", (), kind="number", unit="years")


def drawn(n: int, dim: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    x = (random.standard_normal((n, dim)) * random.uniform(0.1, 9, dim) + 7).astype(np.float32)
    weights = random.standard_normal(dim)
    return x, 40 + x @ weights / dim + 3 * random.standard_normal(n)


@pytest.mark.parametrize("dim", [7, 120])
def test_ridge_is_scikit_learns_ridge_cv(dim: int) -> None:
    x, y = drawn(100, dim)
    fold = np.arange(100) % 5
    settings = ProbeSettings("ridge", "standard", tuple(1 / a for a in ALPHAS), False, "grid")
    outcome = cross_validate_numbers(x, y, Splits(fold, np.arange(5)), settings)
    for number, chosen in enumerate(outcome.folds):
        train, test = fold != number, fold == number
        # The scaling is of each inner training set alone, so scikit-learn is asked part by part.
        errors = np.zeros(len(ALPHAS))
        for part in set(range(5)) - {number}:
            inner, left = train & (fold != part), fold == part
            scaler = StandardScaler().fit(x[inner].astype(float))
            for i, alpha in enumerate(ALPHAS):
                model = RidgeCV([alpha]).fit(scaler.transform(x[inner]), y[inner])
                errors[i] += np.square(model.predict(scaler.transform(x[left])) - y[left]).sum()
        assert chosen.value == pytest.approx(ALPHAS[int(errors.argmin())])
        scaler = StandardScaler().fit(x[train].astype(float))
        model = RidgeCV([chosen.value]).fit(scaler.transform(x[train]), y[train])
        wanted = model.predict(scaler.transform(x[test].astype(float)))
        np.testing.assert_allclose(outcome.scores[test, 0], wanted, rtol=1e-6)


def test_the_whole_grid_is_ridge_cvs_on_one_training_set() -> None:
    x, y = drawn(90, 40, seed=3)
    fold = np.arange(90) % 3
    settings = ProbeSettings("ridge", "none", tuple(1 / a for a in ALPHAS), False, "grid")
    make = METHODS["ridge"].numbers
    assert make is not None
    made = make()(Source.of(x), y, Splits(fold, np.arange(3)), settings, None)(frozenset({2}))
    train = fold != 2
    rule = PredefinedSplit(fold[train])
    model = RidgeCV(ALPHAS, cv=rule, scoring="neg_mean_squared_error").fit(x[train], y[train])
    place = ALPHAS.index(model.alpha_)
    wanted = model.predict(x[fold == 2].astype(float))
    np.testing.assert_allclose(made.numbers[:, place], wanted, rtol=1e-6)
    assert made.values == pytest.approx(ALPHAS)


def test_neighbours_predict_the_weighted_mean_of_theirs() -> None:
    x = np.array([[1, 0], [1, 0.1], [0, 1], [1, 0.02]], dtype=np.float32)
    y = np.array([10.0, 20.0, 90.0, 0.0])
    splits = Splits(np.array([0, 0, 0, 1]), np.array([-1, 0]))
    settings = ProbeSettings("knn", "l2", (1.0, 2.0, 3.0), False, "torch")
    make = METHODS["knn"].numbers
    assert make is not None
    made = make()(Source.of(x), y, splits, settings, None)(frozenset({1}))
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    weight = np.exp(unit[:3] @ unit[3] / 0.07)
    wanted = [10.0, np.average(y[:2], weights=weight[:2]), np.average(y[:3], weights=weight)]
    np.testing.assert_allclose(made.numbers[0], wanted, rtol=1e-4)


def test_values_by_image_have_the_metrics_as_their_mean_and_the_spread_of_a_jackknife() -> None:
    random = np.random.default_rng(0)
    y = random.integers(0, 30, 60).astype(float)
    predicted = y + 6 * random.standard_normal(60)
    values = spearman_by_image(PredictedNumbers(predicted, y))
    assert values.mean() == pytest.approx(stats.spearmanr(predicted, y).statistic)
    left = [stats.spearmanr(np.delete(predicted, i), np.delete(y, i)).statistic for i in range(60)]
    jackknife = np.sqrt(59 / 60 * np.square(left - np.mean(left)).sum())
    assert values.std(ddof=1) / np.sqrt(60) == pytest.approx(jackknife, rel=0.1)


@pytest.fixture(scope="module")
def number_study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Eight age groups and the years behind them, two backbones, fitted by ridge."""
    folder = tmp_path_factory.mktemp("numbers") / "study"
    random = np.random.default_rng(1)
    years = random.integers(1, 80, 120)
    labels = {"age": years // 20, "years": [*map(str, years[:-3]), "", "", ""]}
    tasks = {"years": replace(YEARS, when_named=True)}
    made = studies.begin(folder, labels, tasks, closest="faces", subject=np.arange(120) // 2)
    for name, domain, noise in (("near", "faces", 5), ("far", "objects", 30)):
        layers = {
            layer: (years[:, None] + (noise + extra) * random.standard_normal((120, 6))).astype(
                np.float32
            )
            for layer, extra in (("low", 20), ("high", 0))
        }
        studies.add(made, name, layers, domain=domain)
    fit(folder, probes=["ridge", "knn"])
    before = (folder / "results.csv").read_bytes()
    fit(folder, tasks=["years:number"])
    assert before in (folder / "results.csv").read_bytes()  # the classes' rows stay to the byte
    return open_study(folder)


def test_a_number_is_a_task_only_where_it_is_named(number_study: Study) -> None:
    rows = results.read(number_study.folder / "results.csv")
    assert {row.method for row in rows if row.task == "years"} == {"ridge", "median"}
    assert {row.method for row in rows if row.task == "age"} == {"ridge", "knn", "majority"}
    assert set(number_study.default_tasks) == {"age"}
    assert number_study.tasks["years"].unit == "years"


def test_rows_have_the_errors_of_their_predictions(number_study: Study) -> None:
    rows = [
        row
        for row in results.read(number_study.folder / "results.csv")
        if row.task == "years" and row.method == "ridge"
    ]
    y = number_study.numbers("years")
    for row in rows:
        stored = predictions.read(number_study.folder / predictions.STORE, row.stored)
        here = stored.fold == row.fold
        off = stored.scores[here, 0] - y[here]
        assert row.mae == pytest.approx(np.abs(off).mean(), rel=1e-6)
        assert row.rmse == pytest.approx(np.sqrt(np.square(off).mean()), rel=1e-6)
        assert row.r2 == pytest.approx(1 - np.square(off).sum() / (y[here].var() * here.sum()))
        assert row.accuracy is None
        assert row.n_test == here.sum()
        assert not np.isnan(y[here]).any()


def test_curves_lead_by_the_smaller_error_in_the_unit(number_study: Study) -> None:
    of_task = {task.task: task for task in curves(number_study)}
    task = of_task["years"]
    assert [best.backbone for best in task.best] == ["near", "far"]
    top = task.best[0].metrics["mae"]
    assert 0 < top.low < top.value < top.high
    assert task.floor is not None
    assert task.floor.metrics["mae"].low > top.high
    ((_, first, second, apart),) = task.differences
    assert (first, second) == ("near", "far")
    wanted = task.best[1].metrics["mae"].value - top.value
    assert apart.value == pytest.approx(wanted)
    assert apart.low > 0
    (compared,) = compare(number_study.folder, "near/best/ridge", "far/best/ridge", tasks=["years"])
    assert "near/best/ridge is ahead" in str(compared)
    assert "years closer" in str(compared)


def test_the_report_names_the_unit(number_study: Study) -> None:
    made = report(number_study)
    table = (made.folder / "numbers.csv").read_text()
    assert "mae,mae_interval_low,mae_interval_high,rmse," in table.splitlines()[0]
    assert ",years," in table.splitlines()[1]
    assert "MAE (years)" in (made.folder / "numbers.md").read_text()
    assert "mean absolute error in years" in (made.folder / "curves-years.svg").read_text()
    assert "years" not in (made.folder / "table.csv").read_text()
    page = made.index.read_text()
    assert "years closer" in page
    assert "the median of the training images is off by" in page


def test_what_is_no_number_is_named(tmp_path: Path) -> None:
    study = studies.begin(
        tmp_path / "s", {"label": ["a", "b"] * 10, "size": ["1.5", "?"] * 10, "none": [""] * 20}
    )
    studies.add(study, "net", {"top": np.ones((20, 2), dtype=np.float32)})
    with pytest.raises(InputError, match="task size: '\\?' of row 1 is no number"):
        fit(tmp_path / "s", tasks=["size:number"])
    with pytest.raises(InputError, match="--task none:number: no row has a value"):
        fit(tmp_path / "s", tasks=["none:number"])
    with pytest.raises(InputError, match="after the colon stands `ordered`, `number` or `labels`"):
        fit(tmp_path / "s", tasks=["size:numbers"])


@pytest.mark.parametrize("cell", ["1e300", "-1e308", "9" * 40, "4e38", "1e999", "nan", "-inf"])
def test_a_number_that_scores_cannot_hold_is_named(tmp_path: Path, cell: str) -> None:
    size = [str(i) for i in range(20)]
    study = studies.begin(
        tmp_path, {"label": ["a", "b"] * 10, "size": [*size[:9], cell, *size[10:]]}
    )
    studies.add(study, "net", {"top": np.ones((20, 2), dtype=np.float32)})
    with pytest.raises(InputError, match=r"of row 9 is (no number|beyond 1e\+37, the most that)"):
        fit(tmp_path, tasks=["size:number"])
    assert not (tmp_path / "results.csv").exists()


def test_a_column_that_is_named_a_number_is_remembered_and_its_classes_are_outdated(
    tmp_path: Path,
) -> None:
    y = np.arange(40) % 4
    study = studies.begin(tmp_path / "s", {"grade": y})
    studies.add(study, "net", {"top": studies.signal(y, 4, 2.0)})
    fit(tmp_path / "s", probes=["ridge"])
    fit(tmp_path / "s", tasks=["grade:number"])
    again = open_study(tmp_path / "s")
    assert again.tasks["grade"].is_number
    assert again.tasks["grade"].unit_words == "units of grade"
    (task,) = curves(again)
    assert task.is_number
    assert {best.method for best in task.best} == {"ridge"}


def test_numbers_alone_make_a_study(tmp_path: Path) -> None:
    y = np.random.default_rng(0).standard_normal(60)
    study = studies.begin(tmp_path / "s", {"score": y})
    assert study.tasks["score"].is_number
    assert list(study.no_tasks) == ["score"]
    studies.add(study, "net", {"top": np.stack([y, y**2], 1).astype(np.float32)})
    fit(tmp_path / "s")
    (task,) = curves(open_study(tmp_path / "s"))
    assert task.best[0].metrics["r2"].value > 0.95
