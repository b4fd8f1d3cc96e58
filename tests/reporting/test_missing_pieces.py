"""Reports of studies in which something is missing."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import studies
from typer.testing import CliRunner

from cli.app import app
from probe.fitting.fit import fit
from probe.reporting.report import report
from probe.reporting.words import findings
from probe.results import rows as results

pytestmark = pytest.mark.usefixtures("svg_alone")


def test_one_backbone_one_layer_one_fold(tmp_path: Path) -> None:
    y = np.arange(60) % 2
    study = studies.begin(tmp_path / "study", {"label": y})
    studies.add(study, "net", {"fc": studies.signal(y, 4, 1.0)})
    fit(study.folder, probes=("ridge",))
    rows = results.read(study.folder / "results.csv")
    results.write(study.folder / "results.csv", [row for row in rows if row.fold == 0])
    made = report(study.folder)
    assert made.index.is_file()
    assert "No gap is drawn" in made.index.read_text()


def test_without_predictions_there_are_means_over_folds_and_no_intervals(tmp_path: Path) -> None:
    study = studies.three(tmp_path / "study")
    rows = [r for r in results.read(study.folder / "results.csv") if r.method == "ridge"]
    results.write(study.folder / "results.csv", rows)
    shutil.rmtree(study.folder / "predictions")
    (task,) = report(study.folder).tasks
    folds = [r.accuracy for r in rows if (r.backbone, r.layer) == ("near", "l2")]
    point = task.panels[0].curves[0].points[2]
    assert point.accuracy.value == pytest.approx(np.mean(folds))
    assert np.isnan(point.accuracy.low)
    assert task.majority is None
    assert any("of 12 results in results.csv are missing" in line for line in findings(task))
    text = (study.folder / "report" / "index.html").read_text()
    (data,) = re.findall(r'<script type="application/json" id="data">(.*)</script>', text)
    charts = json.loads(data, parse_constant=lambda name: pytest.fail(f"{name} in the page"))
    assert charts["charts"][0]["lines"][0]["p"][2][3:] == [None, None]
    result = CliRunner().invoke(app, ["report", "--study", str(study.folder), "--json"])
    assert json.loads(result.stdout)["tasks"][0]["majority"] is None


def test_features_that_are_gone_leave_a_report_of_results(tmp_path: Path) -> None:
    study = studies.three(tmp_path / "study")
    for name in studies.STRENGTHS:
        study.feature_path(name).unlink()
    (task,) = report(study.folder).tasks
    assert task.panels[0].gaps == ()
    assert len(task.best) == 6
