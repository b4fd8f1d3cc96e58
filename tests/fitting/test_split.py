"""A split of train, val and test that the data set comes with."""

from pathlib import Path

import numpy as np
import pytest
import studies
from scored import check, stored
from sklearn.linear_model import RidgeClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from probe.analysis.compare import compare
from probe.analysis.curves import curves
from probe.analysis.detectable import detectable
from probe.analysis.statistics import mean_interval
from probe.fitting.fit import fit
from probe.reporting.report import report
from probe.results import predictions
from probe.results.rows import BEST


def test_a_split_is_tested_once(tmp_path: Path) -> None:
    """C is that which val likes best after training on train, and the refit is on both."""
    y = np.arange(90) % 2
    y[60:] = np.arange(30) % 3 // 2  # test has another majority than train and val
    own = ["train"] * 40 + ["val"] * 20 + ["test"] * 30
    study = studies.begin(tmp_path / "study", {"label": y.tolist()}, split=own)
    x = studies.signal(y, 20, 0.4)
    studies.add(study, "net", {"fc": x})
    told: list[str] = []
    rows = fit(study.folder, probes=("ridge",), c=[1e-6, 1e3], announce=told.append).rows
    assert any("split is used" in line for line in told)
    assert [(r.layer, r.fold, r.n_train, r.n_test) for r in rows] == [
        ("fc", 0, 60, 30),
        (BEST, 0, 60, 30),
        ("majority", 0, 60, 30),
    ]
    check(study, rows)
    assert np.flatnonzero(stored(study, rows[0]).fold == 0).tolist() == list(range(60, 90))
    scores = {}
    for alpha in (1e6, 1e-3):
        model = make_pipeline(StandardScaler(), RidgeClassifier(alpha))
        scores[alpha] = model.fit(x[:40], y[:40]).score(x[40:60], y[40:60])
    assert rows[0].selection == pytest.approx(max(scores.values()))
    assert scores[1e6] != scores[1e-3]
    assert pytest.approx(max(scores, key=lambda alpha: scores[alpha])) == rows[0].C
    made = report(study)
    (task,) = made.tasks
    predicted = np.bincount(y[:60]).argmax()
    assert task.majority == pytest.approx((y[60:] == predicted).mean())
    layers = next(table for table in made.tables if table.name == "table")
    (line,) = [row for row in layers.rows if "control:majority" in row]
    assert task.majority in line
    assert task.floor is not None
    assert [(r.n_train, r.n_test, r.balanced_accuracy) for r in task.floor.rows] == [(60, 30, 0.5)]
    told.clear()
    assert len(fit(study.folder, probes=("ridge",), folds=3, announce=told.append).rows) == 9
    assert any("split is not used" in line for line in told)


@pytest.mark.parametrize("shots", [(), (5,)])
def test_only_rows_with_features_count_as_trained_on(
    tmp_path: Path, shots: tuple[int, ...]
) -> None:
    """A hundred of a thousand training images have features, and another majority than the rest."""
    y = (np.arange(1200) % 4 > 0).astype(int)
    y[100:1000] = 0
    own = ["train" if row < 1000 else "test" for row in range(1200)]
    study = studies.begin(tmp_path / "study", {"label": y.tolist()}, split=own)
    for name, seed in (("a", 1), ("b", 2)):
        x = studies.signal(y, 4, 0.3, seed)
        studies.add(study, name, {"fc": x}, refused=range(100, 1000))
    told: list[str] = []
    rows = fit(study.folder, probes=("ridge",), shots=shots, draws=1, announce=told.append).rows
    assert {(r.n_train, r.n_test) for r in rows if r.shots is None} == {(100, 200)}
    trained = 100 if not shots else 10
    wider = (1 + 200 / 4 / trained) ** 0.5
    right = {}
    for name in ("a", "b"):
        key = ("label", name, "fc", "ridge" + ",shots=5,draw=0" * bool(shots))
        right[name] = predictions.read(study.folder / "predictions", key).correct(y)[1000:]
    wanted = mean_interval(right["a"] - right["b"], np.arange(200), wider)
    names = [f"{name}/fc/ridge" + ",shots=5,draw=0" * bool(shots) for name in ("a", "b")]
    assert compare(study.folder, *names)[0].difference == wanted
    of_all = 1.5**0.5
    smallest = [100 * detectable(np.arange(200), apart, of_all) for apart in (0.2, 0.3)]
    assert f"a true difference of {smallest[0]:.1f} points" in "".join(told)
    assert f"{smallest[1]:.1f} points at 30 %" in "".join(told)
    (task,) = curves(study)
    assert task.outcomes.wider({("a", "fc", "ridge"): 1.0}) == pytest.approx(of_all)
    (majority,) = [r for r in rows if r.backbone == "control:majority"]
    assert majority.accuracy == task.majority == 0.75
    assert task.floor is not None
    assert [(r.n_train, r.accuracy) for r in task.floor.rows] == [(100, 0.75)]
