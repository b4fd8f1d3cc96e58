"""Curves over depth and `best` rows, again from the stored scores; what cannot be compared."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import studies

from features.errors import InputError
from probe.analysis.statistics import accuracy_interval, mean_interval
from probe.fitting.fit import fit
from probe.reporting.report import report
from probe.results.rows import BEST

pytestmark = pytest.mark.usefixtures("svg_alone")


def test_curves_are_accuracies_over_depth_with_intervals_over_subjects(tmp_path: Path) -> None:
    study = studies.pair(tmp_path / "study")
    for curve in studies.panel(study).curves:
        assert [(p.layer, p.depth) for p in curve.points] == list(
            zip(studies.LAYERS, studies.DEPTHS, strict=True)
        )
        for point in curve.points:
            hits = studies.right(study, curve.backbone, point.layer)
            wider = studies.wider(study, {(curve.backbone, point.layer, "ridge"): 1})
            again = accuracy_interval(hits, study.subjects, wider)
            assert point.accuracy.value == again.value
            ends = (point.accuracy.low, point.accuracy.high)
            assert ends == pytest.approx((again.low, again.high))


def test_chance_majority_and_counts_again(tmp_path: Path) -> None:
    y = np.repeat([0, 1, 2], [60, 36, 24])
    fold = np.arange(120) % 4
    fold[fold == 3] = np.where(y[fold == 3] == 0, 3, 0)  # fold 3 is of class 0 alone
    subjects = fold * 100 + np.arange(120) // 4 % 7
    labels = [str(v) for v in y]
    labels[5] = ""
    study = studies.begin(tmp_path / "study", {"label": labels}, fold=fold, subject=subjects)
    studies.add(study, "net", {"fc": studies.signal(y, 4, 1.0)}, refused=[9])
    fit(study.folder, probes=("ridge",))
    task = studies.only(study)
    kept = np.setdiff1d(np.arange(120), [5, 9])
    hits = 0
    for number in range(4):
        train, test = kept[fold[kept] != number], kept[fold[kept] == number]
        hits += (y[test] == np.bincount(y[train]).argmax()).sum()
    assert task.majority == pytest.approx(hits / 118)
    assert (task.chance, task.n, task.folds) == (pytest.approx(1 / 3), 118, 4)
    _, sizes = np.unique(subjects[kept], return_counts=True)
    assert task.subjects == len(sizes)
    assert task.effective_subjects == pytest.approx(118**2 / (sizes**2).sum())


def test_best_and_its_differences_again(tmp_path: Path) -> None:
    study = studies.pair(tmp_path / "study")
    task = studies.only(study)
    assert [b.backbone for b in task.best] == ["near", "far"]
    for best in task.best:
        hits = studies.right(study, best.backbone, BEST)
        wider = studies.wider(study, {(best.backbone, BEST, "ridge"): 1})
        again = accuracy_interval(hits, study.subjects, wider)
        assert (best.accuracy.low, best.accuracy.high) == pytest.approx((again.low, again.high))
    ((method, a, b, difference),) = task.differences
    assert (method, a, b) == ("ridge", "near", "far")
    apart = studies.right(study, "near", BEST) - studies.right(study, "far", BEST)
    wider = studies.wider(study, {("near", BEST, "ridge"): 1, ("far", BEST, "ridge"): -1})
    again = mean_interval(apart, study.subjects, wider)
    assert (difference.low, difference.high) == pytest.approx((again.low, again.high))


def test_the_protocol_of_most_results_is_shown_and_the_rest_is_named(tmp_path: Path) -> None:
    study = studies.pair(tmp_path / "study")
    fit(study.folder, probes=("ridge",), backbones=("near",), layers=("high",), c=[1.0])
    made = report(study.folder)
    (task,) = made.tasks
    shown = {(r.backbone, r.layer) for c in task.panels[0].curves for p in c.points for r in p.rows}
    assert len(shown) == 5
    assert ("near", "high") not in shown
    assert {best.backbone for best in task.best} == {"far", "near"}  # as most layers were made
    (words,) = task.left_out
    assert words.startswith("ridge: 1 result of near left out: made under another protocol")
    assert "which differs in grid, relative (True and False); run `probe fit` once" in words
    assert f"label, {words}" in made.contents.warnings
    fit(study.folder, probes=("ridge",), c=[1.0])
    (task,) = report(study.folder).tasks
    assert task.left_out == ()
    assert len(task.best) == 2


def test_after_another_number_of_folds_there_is_a_report(tmp_path: Path) -> None:
    study = studies.pair(tmp_path / "study")
    fit(study.folder, probes=("ridge",), folds=3)
    (task,) = report(study.folder).tasks
    assert task.folds == 3


def test_nothing_fitted_yet(tmp_path: Path) -> None:
    study = studies.labelled(tmp_path / "study")
    with pytest.raises(InputError, match=r"nothing is fitted yet; run `probe fit` first"):
        report(study.folder)
    assert not (study.folder / "report").exists()
