"""Measures beside accuracy, once more from the stored scores: calibration, CS(k), and where they stand."""

from pathlib import Path

import numpy as np
import pytest
import studies
from scipy.special import softmax

from features.data.tasks import Task
from features.study.study import Study
from probe.analysis.answer import answer
from probe.fitting.fit import fit
from probe.reporting.short_answer import facts
from probe.reporting.tables.cumulative import cumulative_table, distances
from probe.reporting.tables.layers import layer_table
from probe.results import predictions


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    study = studies.labelled(tmp_path_factory.mktemp("measures") / "study")
    studies.backbone(study, "net", (0.3, 0.8, 1.2), domain="faces")
    fit(study.folder, probes=("logistic", "knn"), c=(0.01, 0.1))
    return study


def test_calibration_is_of_all_images_together(study: Study) -> None:
    """Guo et al.: fifteen bins, each its distance of confidence and accuracy times its share."""
    task = studies.only(study)
    table = layer_table([task])
    place = {column.name: i for i, column in enumerate(table.columns)}
    (line,) = [row for row in table.rows if row[1:3] == ("logistic", "net") and row[5] == "mid"]
    stored = predictions.read(study.folder / "predictions", ("label", "net", "mid", "logistic"))
    p = softmax(stored.scores.astype(float), axis=1)
    confidence, right = p.max(1), p.argmax(1) == study.labels("label")
    wanted = 0.0
    for low in np.arange(15) / 15:
        inside = (confidence > low) & (confidence <= low + 1 / 15)
        if inside.any():
            wanted += inside.mean() * abs(confidence[inside].mean() - right[inside].mean())
    assert line[place["calibration_pooled"]] == pytest.approx(wanted, abs=1e-6)
    (rows,) = [
        p.rows
        for panel in task.panels
        if panel.method == "logistic"
        for p in panel.curves[0].points
        if p.layer == "mid"
    ]
    per_fold = np.mean([row.calibration_error or 0 for row in rows])
    assert per_fold > wanted + 0.01  # that of folds of 24 images is not what is shown
    titles = [column.title for column in table.shown]
    assert {"mean per class", "log loss", "calibration error", "MAE (classes)"} <= set(titles)
    assert "AUC" not in titles  # of three classes there is none


def test_cumulative_scores_of_classes(study: Study) -> None:
    task = studies.only(study)
    table = cumulative_table([task])
    off = np.abs(
        studies.predicted(study, "net", "best", "logistic", "label") - study.labels("label")
    )
    mine = [row for row in table.rows if row[1] == "logistic"]
    assert [(row[4], row[5]) for row in mine] == [(0, "classes"), (1, "classes")]
    assert [row[6] for row in mine] == pytest.approx([(off <= k).mean() for k in (0, 1)])
    best = next(best for best in task.best if best.method == "logistic")
    interval = mine[0][7]
    assert isinstance(interval, tuple)
    assert interval == pytest.approx((best.accuracy.low, best.accuracy.high))


def test_cumulative_scores_of_numbers(tmp_path: Path) -> None:
    years = np.arange(100) % 50 + 10.0
    task = Task("age", (), kind="number", unit="years")
    study = studies.begin(tmp_path / "study", {"age": years.tolist()}, {"age": task})
    x = np.stack([years + np.random.default_rng(1).normal(0, 6, 100)], axis=1).astype(np.float32)
    studies.add(study, "net", {"fc": x})
    fit(study.folder, probes=("ridge",))
    curve = studies.only(study)
    assert distances(curve) == [2, 5, 10]  # the median is 12.5 years off
    stored = predictions.read(study.folder / "predictions", ("age", "net", "best", "ridge"))
    off = np.abs(stored.scores[:, 0] - years)
    lines = cumulative_table([curve]).rows
    assert [row[4:6] for row in lines] == [(2, "years"), (5, "years"), (10, "years")]
    assert [row[6] for row in lines] == pytest.approx([(off <= k).mean() for k in (2, 5, 10)])


def test_the_first_screen_has_the_leader_by_other_measures(study: Study) -> None:
    task = studies.only(study)
    words = dict(facts(task, answer(task, "faces"), "faces"))["net by other measures?"]
    assert "mean per class" in words
    assert "MAE" in words
    assert "calibration error" in words
