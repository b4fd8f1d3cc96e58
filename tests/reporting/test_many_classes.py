"""A hundred classes: five guesses counted, tables that fold, memory said before, cuts of the grid alike."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import studies
from sklearn.metrics import top_k_accuracy_score
from trainingsets import prepare
from typer.testing import CliRunner

from cli.app import app
from features.study.study import Study, open_study
from probe.analysis.curves import curves
from probe.fitting.fit import fit
from probe.probes import grid_fit, linear
from probe.reporting.report import report
from probe.reporting.tables.failures import confusion_matrices, hardest_classes
from probe.results import predictions, rows
from probe.results.scores import in_top

pytestmark = pytest.mark.usefixtures("svg_alone")

CLASSES = 102


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    folder = tmp_path_factory.mktemp("many") / "study"
    y = np.arange(CLASSES * 6) % CLASSES
    begun = studies.begin(folder, {"label": [f"flower {v:03}" for v in y]})
    studies.add(begun, "net", {"fc": studies.signal(y, 24, 1.0)})
    fit(folder, probes=("ridge", "logistic"), c=(0.1, 1.0))
    return open_study(folder)


def read(study: Study, name: str) -> list[dict[str, str]]:
    with (study.folder / "report" / f"{name}.csv").open() as file:
        return list(csv.DictReader(file))


def test_five_guesses_are_scikit_learns(study: Study) -> None:
    y = study.labels("label")
    for row in rows.read(study.folder / "results.csv"):
        stored = predictions.read(study.folder / predictions.STORE, row.stored)
        here = stored.fold == row.fold
        if row.method != "majority":  # whose scores are ties
            wanted = top_k_accuracy_score(y[here], stored.scores[here], k=5, labels=range(CLASSES))
            assert row.top5_accuracy == pytest.approx(wanted)
            assert row.top5_accuracy > row.accuracy > 1 / CLASSES
        assert row.top5_accuracy is not None
    (task,) = curves(study)
    assert task.metrics == ("accuracy", "balanced", "top5")
    best = task.best[0]
    assert best.metrics["top5"].low < best.metrics["top5"].value < best.metrics["top5"].high


def test_among_equal_scores_the_first_class_counts() -> None:
    scores = np.array([[1.0, 1.0, 1.0], [0.0, 2.0, 1.0]])
    assert in_top(scores, np.array([1, 2]), 1).tolist() == [False, False]
    assert in_top(scores, np.array([1, 2]), 2).tolist() == [True, True]
    assert in_top(scores, np.array([2, 0]), 2).tolist() == [False, False]


def test_few_classes_have_no_five_guesses(tmp_path: Path) -> None:
    few = studies.labelled(tmp_path)
    studies.backbone(few, "net", (0.3, 0.8, 1.0))
    fit(few.folder, probes=("ridge",))
    assert {row.top5_accuracy for row in rows.read(few.folder / "results.csv")} == {None}
    assert studies.only(few).metrics == ("accuracy", "balanced", "one_off", "mae")
    report(few)
    assert "top5_accuracy" not in read(few, "table")[0]


def test_tables_of_many_classes_fold(study: Study) -> None:
    report(study)
    assert len(read(study, "classes")) == 2 * CLASSES
    cells = read(study, "confusion")
    tested = sum(int(cell["images"]) for cell in cells)
    assert tested == 2 * len(study)
    assert len(cells) <= tested < CLASSES**2
    assert float(read(study, "table")[0]["top5_accuracy"]) > 0.1
    (task,) = curves(study)
    page = hardest_classes(task)
    assert len(page.rows) == 20
    f1 = [row[-1] or 0 for row in page.rows]
    assert f1 == sorted(f1)
    everything = [float(row["f1"] or 0) for row in read(study, "classes")]
    assert max(f1) <= sorted(everything)[len(everything) // 2]
    for table in confusion_matrices(task):
        assert 0 < len(table.rows) <= 20
        assert all(true != predicted for true, predicted, _ in table.rows)
        counts = [count for *_, count in table.rows]
        assert counts == sorted(counts, reverse=True)
    html = (study.folder / "report" / "index.html").read_text()
    assert len(html) < 2_000_000
    assert "all are in classes.csv" in html


def test_memory_is_said_and_the_check_folds(study: Study, tmp_path: Path) -> None:
    words = ["fit", "--study", str(study.folder), "--probe", "logistic", "--C", "0.1,1"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert "label: 102 classes take about " in done.stderr
    checked = CliRunner().invoke(app, ["data", "check", "--study", str(study.folder)])
    assert checked.exit_code == 3  # a study of arrays has no images
    data = tmp_path / "data"
    for i in range(40):
        for j in range(3 if i else 9):
            path = data / f"species {i}" / f"{j}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(f"{i} {j}".encode())
    checked = CliRunner().invoke(app, ["data", "check", "--data", str(data)])
    lines = [line.split("\t") for line in checked.stdout.splitlines()]
    assert len(lines) == 1 + 5 + 1 + 5 + 1
    assert lines[1][1:3] == ["species 0", "9"]
    assert lines[6][1:3] == ["30 more classes of 3 images each", "90"]


@pytest.mark.parametrize("method", ["logistic", "svm"])
def test_the_grid_in_parts_is_the_grid(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where memory is short C is solved value by value, to the same optimum."""
    import torch

    from probe.probes.settings import ProbeSettings

    x, y = studies.blobs(90, 12, 30, 1.0)
    made = prepare(torch.from_numpy(x[:60]), torch.from_numpy(x[60:]), "standard", True)
    settings = ProbeSettings(method, "standard", (0.01, 0.1, 1.0), True, "grid", 1e-8)
    whole = linear.fit_linear(settings, made, y[:60], 30, range(3))
    monkeypatch.setattr(grid_fit, "_MARGIN_BYTES", 1)
    assert grid_fit.at_once(60, 30) == 1
    parts = linear.fit_linear(settings, made, y[:60], 30, range(3))
    for a, b in zip(whole, parts, strict=True):
        np.testing.assert_allclose(a.scores, b.scores, atol=2e-3)
