"""Several labels an image: against scikit-learn, by hand, and through the whole chain."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import studies
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from features.arrays import Doubles, Floats, Ints
from features.data.named_task import choose
from features.data.tasks import Task
from features.errors import InputError
from features.study.study import Study, open_study
from probe.analysis.compare import compare
from probe.analysis.curves import curves
from probe.exported.export import export
from probe.finetuning.finetune import finetune
from probe.fitting.crossval import cross_validate
from probe.fitting.fit import fit
from probe.folds.splits import Splits
from probe.probes.knn import vote
from probe.probes.settings import ProbeSettings
from probe.reporting.report import report
from probe.results import label_metrics as measures
from probe.results import predictions
from probe.results import rows as results
from probe.results.label_metrics import LabelledImages
from probe.scoring.rank import rank

pytestmark = pytest.mark.usefixtures("svg_alone")

NAMES = ("smiling", "hat", "glasses", "beard", "bald", "scarf")
"""The last but one is rare, and the last is not known of every image."""


def drawn(n: int, dim: int = 12, seed: int = 0) -> tuple[Floats, Ints]:
    random = np.random.default_rng(seed)
    x = random.standard_normal((n, dim)).astype(np.float32)
    margin = x @ random.standard_normal((dim, 6)) / 2 + random.logistic(size=(n, 6))
    frequent = np.array([0.5, 0.3, 0.4, 0.2, 0.06, 0.4])
    least = [np.quantile(m, 1 - f) for m, f in zip(margin.T, frequent, strict=True)]
    y = (margin > np.array(least)).astype(np.int64)
    y[random.random(n) < 0.3, 5] = -1
    return x, y


def mean_of(score: object, scores: Floats | Doubles, y: Ints) -> float:
    """The mean over labels of a score of scikit-learn, on the images of which each is known."""
    assert callable(score)
    each = [score(t[t >= 0], s[t >= 0]) for s, t in zip(scores.T, y.T, strict=True)]
    return float(np.mean(each))


@pytest.mark.parametrize("seed", range(6))
def test_the_metrics_are_scikit_learns(seed: int) -> None:
    random = np.random.default_rng(seed)
    _, y = drawn(200, seed=seed)
    scores = np.round(random.standard_normal(y.shape) + y, seed % 3 + 1)  # with ties
    fold = np.arange(200) % 2
    images = LabelledImages(scores, y, fold)
    for made, score in (
        (measures.mean_average_precision, average_precision_score),
        (measures.macro_auc, roc_auc_score),
    ):
        halves = [mean_of(score, scores[fold == f], y[fold == f]) for f in (0, 1)]
        assert made(images) == pytest.approx(np.mean(halves), abs=1e-12)
    wanted = mean_of(lambda t, s: f1_score(t, s > 0), scores, y)
    assert measures.macro_f1(images) == pytest.approx(wanted, abs=1e-12)
    for each, whole in (
        (measures.mean_average_precision_by_image, measures.mean_average_precision),
        (measures.macro_auc_by_image, measures.macro_auc),
        (measures.macro_f1_by_image, measures.macro_f1),
    ):
        assert each(images).mean() == pytest.approx(whole(images), abs=1e-12)


@pytest.mark.parametrize(
    ("whole", "each"),
    [
        (measures.mean_average_precision, measures.mean_average_precision_by_image),
        (measures.macro_auc, measures.macro_auc_by_image),
        (measures.macro_f1, measures.macro_f1_by_image),
    ],
)
def test_values_by_image_spread_as_the_jackknife_says(whole: object, each: object) -> None:
    assert callable(whole)
    assert callable(each)
    _, y = drawn(240, seed=9)
    y[:, 4] = y[:, 3]  # with few images of a label no linearisation is near
    scores = np.random.default_rng(1).standard_normal(y.shape) + y
    fold = np.arange(240) % 2
    without = [
        whole(LabelledImages(*(np.delete(a, row, axis=0) for a in (scores, y, fold))))
        for row in range(240)
    ]
    jackknife = np.sqrt(239 / 240 * np.square(np.array(without) - np.mean(without)).sum())
    spread = each(LabelledImages(scores, y, fold)).std() / np.sqrt(240)
    assert spread == pytest.approx(jackknife, rel=0.06)


def test_a_label_that_does_not_occur_is_left_out_of_the_mean() -> None:
    scores = np.array([[3.0, 1.0, np.nan], [2.0, 0.5, np.nan], [1.0, 0.0, np.nan]])
    y = np.array([[0, 0, 1], [1, 0, 0], [0, -1, 1]])
    images = LabelledImages(scores, y, np.zeros(3, dtype=np.int64))
    assert measures.mean_average_precision(images) == pytest.approx(0.5)
    assert measures.macro_auc(images) == pytest.approx(0.5)
    nothing = LabelledImages(scores[:, 1:2], y[:, 1:2], np.zeros(3, dtype=np.int64))
    assert measures.mean_average_precision(nothing) is None


@pytest.mark.parametrize("method", ["logistic", "svm"])
@pytest.mark.parametrize("dim", [12, 150])
def test_every_label_is_scikit_learns_probe_of_its_known_images(method: str, dim: int) -> None:
    x, y = drawn(120, dim)
    y[:, 4] = y[:, 3]
    fold = np.arange(120) % 4
    settings = ProbeSettings(method, "standard", (0.001, 0.1), False, "grid", 1e-10)
    made = cross_validate(x, y, 6, Splits(fold, np.arange(4)), settings)
    assert made.inner is None
    for number, chosen in enumerate(made.folds[:2]):
        parts = sorted(set(range(4)) - {number})
        worth = []
        for c in settings.grid:
            of_parts = []
            for part in parts:
                here = fold == part
                inner = margins(method, c, x, y, (fold != number) & ~here, here)
                if method == "logistic":
                    lost = np.logaddexp(0, np.where(y[here] == 1, -inner, inner))
                    of_parts.append(-lost[y[here] >= 0].mean())
                else:
                    of_parts.append(mean_of(average_precision_score, inner, y[here]))
            worth.append(np.mean(of_parts))  # parts are of one size
        assert chosen.selection == pytest.approx(max(worth), abs=2e-4)
        assert chosen.value == settings.grid[int(np.argmax(worth))]
        wanted = margins(method, chosen.value, x, y, fold != number, fold == number)
        np.testing.assert_allclose(made.scores[fold == number], wanted, atol=2e-3)
    by_sklearn = cross_validate(
        x,
        y,
        6,
        Splits(fold, np.arange(4)),
        ProbeSettings(method, "standard", (0.1,), False, "sklearn"),
    )
    one = ProbeSettings(method, "standard", (0.1,), False, "grid", 1e-10)
    here = cross_validate(x, y, 6, Splits(fold, np.arange(4)), one)
    np.testing.assert_allclose(here.scores, by_sklearn.scores, atol=2e-2)  # as far as it goes


def margins(method: str, c: float, x: Floats, y: Ints, train: object, test: object) -> Doubles:
    """Of scikit-learn: scaled by all training rows, fitted on those of which the label is known."""
    scaler = StandardScaler().fit(x[train].astype(float))
    columns = []
    for label in y.T:
        known = np.asarray(train) & (label >= 0)
        model = (
            LogisticRegression(C=c, tol=1e-7, solver="newton-cholesky")
            if method == "logistic"
            else LinearSVC(C=c, dual=False, tol=1e-10, max_iter=100_000)
        )
        model.fit(scaler.transform(x[known]), label[known])
        columns.append(model.decision_function(scaler.transform(x[test])))
    return np.stack(columns, axis=1)


def test_neighbours_vote_on_the_labels_that_are_known_of_them() -> None:
    similarity = np.array([[1.0, 1.0, 1.0, 1.0]], dtype=np.float32)
    y = np.array([[1, -1], [0, -1], [1, -1], [-1, -1], [0, 0]])
    near = {0: (np.repeat(similarity, 5, 0), np.tile(np.arange(4), (5, 1)))}
    (made,) = vote(near, frozenset(), np.array([4]), y, 2, 4, [4])
    np.testing.assert_allclose(made.scores, [[2 / 3, 0.5]])


def write_study(folder: Path, n: int = 150) -> Study:
    """Six attributes in columns of 0 and 1, and the same in one column with bars."""
    x, y = drawn(n, seed=4)
    columns: dict[str, list[str]] = {
        name: ["" if v < 0 else str(v) for v in y[:, i]] for i, name in enumerate(NAMES)
    }
    columns["tags"] = [
        "|".join(name for name, v in zip(NAMES, row, strict=True) if v == 1) or "|" for row in y
    ]
    study = studies.begin(folder, columns, subject=np.arange(n) // 2)
    studies.add(study, "net", {"low": x[:, :4], "high": x}, domain="faces")
    studies.add(study, "net@random", {"low": x[:, :2], "high": x[:, :3]}, domain="none")
    return study


COLUMNS = f"attributes:labels={','.join(NAMES)}"


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Study:
    folder = tmp_path_factory.mktemp("labels") / "study"
    write_study(folder)
    said: list[str] = []
    fit(folder, tasks=[COLUMNS], probes=["logistic", "svm", "knn"], c=[0.01, 1.0],
        announce=said.append)  # fmt: skip
    assert any("labels are not known and left out" in sentence for sentence in said)
    return open_study(folder)


def test_the_mean_average_precision_is_scikit_learns_of_the_scores(fitted: Study) -> None:
    rows = results.read(fitted.folder / "results.csv")
    y = fitted.targets("attributes")
    for row in rows:
        stored = predictions.read(fitted.folder / predictions.STORE, row.stored)
        here = stored.fold == row.fold
        wanted = mean_of(average_precision_score, stored.scores[here], y[here])
        assert row.mean_ap == pytest.approx(wanted, abs=1e-6)
        assert row.auc == pytest.approx(mean_of(roc_auc_score, stored.scores[here], y[here]))
        assert row.accuracy is None
    floor = [row for row in rows if row.method == "prevalence"]
    y_0 = y[predictions.read(fitted.folder / predictions.STORE, floor[0].stored).fold == 0]
    assert floor[0].mean_ap == pytest.approx(np.mean([t[t >= 0].mean() for t in y_0.T]))
    (task,) = curves(fitted)
    best = next(b for b in task.best if (b.backbone, b.method) == ("net", "logistic"))
    own = [row.mean_ap for row in best.rows]
    assert best.headline.value == pytest.approx(np.mean(own))
    assert best.headline.low < best.headline.value < best.headline.high
    assert task.floor is not None
    assert best.headline.low > task.floor.headline.value


def test_the_report_says_what_its_numbers_are(fitted: Study) -> None:
    made = report(fitted)
    page = made.index.read_text()
    assert "mean average precision" in page
    assert "mAP" in made.contents.tasks[0].sentence
    assert (made.folder / "curves-attributes.svg").is_file()
    lines = list(csv.DictReader((made.folder / "each-label.csv").read_text().splitlines()))
    assert [line["label"] for line in lines] == list(NAMES)
    scarf = fitted.targets("attributes")[:, 5]
    assert int(lines[5]["known"]) == (scarf >= 0).sum()
    assert int(lines[5]["with"]) == (scarf == 1).sum()
    (found,) = compare(fitted.folder, "net/best/logistic", "net@random/best/logistic")
    assert found.difference.low > 0


def test_one_column_and_many_give_the_same_numbers(fitted: Study, tmp_path: Path) -> None:
    study = write_study(tmp_path / "study")
    for name in ("tags", "scarf"):  # what is not known in a column of its own is absent in one
        assert name in study.default_tasks
    fit(study.folder, tasks=["tags:labels"], probes=["logistic"], c=[1.0], layers=["high"])
    told = open_study(study.folder)
    assert told.tasks["tags"].kind == "labels"
    order = [told.tasks["tags"].classes.index(name) for name in NAMES[:5]]
    np.testing.assert_array_equal(
        told.targets("tags")[:, order], fitted.targets("attributes")[:, :5]
    )


def test_study_toml_groups_columns(fitted: Study) -> None:
    task = fitted.tasks["attributes"]
    assert (task.kind, task.columns) == ("labels", NAMES)
    assert "attributes" in fitted.default_tasks
    assert not set(NAMES) & set(fitted.default_tasks)
    file = fitted.folder / "study.toml"
    text = file.read_text()
    try:
        file.write_text(text.replace('kind = "labels"\n', ""))
        assert open_study(fitted.folder).tasks["attributes"] == task
        file.write_text(text.replace('"scarf"]', '"scarfs"]'))
        with pytest.raises(InputError, match="names scarfs, and images"):
            open_study(fitted.folder)
    finally:
        file.write_text(text)


def test_what_is_not_made_of_labels_is_said(fitted: Study) -> None:
    with pytest.raises(InputError, match="no probe is exported yet"):
        export(fitted.folder, "net/best/logistic", tasks=["attributes"])
    with pytest.raises(InputError, match="transfer scores are of classes"):
        rank(fitted.folder, tasks=["attributes"])
    with pytest.raises(InputError, match="no network is trained yet"):
        finetune(fitted.folder, "sample-faces", tasks=["attributes"])


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("a:labels", "there is no column a"),
        ("a:labels=one,thre", "no label column thre"),
        ("a:labels=one", "needs two columns or more"),
        ("one:labels=one,two", "one is a column too"),
        ("a:labels=one,odd", "'maybe' in the column odd is neither yes nor no"),
        ("same:labels", "fewer than two labels"),
        ("one:labels", "every cell of one holds one label, so they are classes"),
        ("a:number=one,two", "after the colon"),
    ],
)
def test_what_is_no_task_of_labels_is_said(name: str, words: str) -> None:
    columns = {
        "one": ["0", "1", ""], "two": ["no", "yes", "yes"], "odd": ["0", "maybe", "1"],
        "same": ["x", "x", "x"],
    }  # fmt: skip
    with pytest.raises(InputError, match=words):
        choose({}, columns, name)


def test_minus_one_is_no_where_no_column_has_a_nought() -> None:
    columns = {"a": ["-1", "1", ""], "b": ["1", "-1", "-1"]}
    assert choose({}, columns, "t:labels=a,b").targets(columns).tolist() == [
        [0, 1],
        [1, 0],
        [-1, 0],
    ]
    columns["b"][0] = "0"
    with pytest.raises(InputError, match="--missing -1"):
        choose({}, columns, "t:labels=a,b")


def test_cells_name_labels_with_bars_between() -> None:
    task = Task("tags", ("hat", "smiling"), kind="labels")
    cells = {"tags": ["smiling|hat", " hat ", "|", "", "smiling"]}
    assert task.targets(cells).tolist() == [[1, 1], [1, 0], [0, 0], [-1, -1], [0, 1]]


def test_a_label_that_a_training_set_lacks_is_left_out_and_named(tmp_path: Path) -> None:
    x, y = drawn(60, seed=2)
    y[:, 5] = np.maximum(y[:, 5], 0)
    y[:, 4] = np.arange(60) == 7  # one image: no training set without it knows the label
    columns = {name: list(y[:, i]) for i, name in enumerate(NAMES)}
    study = studies.begin(tmp_path / "study", columns)
    studies.add(study, "net", {"fc": x})
    said: list[str] = []
    fit(study.folder, tasks=[COLUMNS], probes=["logistic"], c=[0.1], announce=said.append)
    assert any("the label 'bald' is left out" in sentence for sentence in said)
    row = next(r for r in results.read(study.folder / "results.csv") if r.method == "logistic")
    stored = predictions.read(study.folder / predictions.STORE, row.stored)
    assert np.isnan(stored.scores[:, 4]).all()
    assert not np.isnan(stored.scores[:, [0, 1, 2, 3, 5]]).any()
