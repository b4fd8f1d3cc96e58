"""The tables of a report, and its JSON, again from the stored scores alone."""

from __future__ import annotations

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
import studies
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support
from typer.testing import CliRunner

from cli.app import app
from features.errors import InputError
from features.study.study import Study
from probe.analysis.curves import curves
from probe.analysis.points import Curve, Point
from probe.analysis.statistics import accuracy_interval
from probe.reporting.report import report
from probe.reporting.tables.literature import literature_table
from probe.reporting.tables.reference import reference
from probe.reporting.tables.table import show
from probe.reporting.words import headline
from probe.results import rows as results
from probe.results.rows import BEST


def read(study: Study, name: str) -> list[dict[str, str]]:
    with (study.folder / "report" / f"{name}.csv").open() as file:
        return list(csv.DictReader(file))


def test_class_confusion_and_subgroup_tables_equal_scikit_learns(study: Study) -> None:
    report(study)
    y = study.labels("age")
    for name in studies.STRENGTHS:
        predicted = studies.predicted(study, name, BEST, "knn", "age")
        mine = [r for r in read(study, "classes") if (r["backbone"], r["method"]) == (name, "knn")]
        precision, recall, f1, n = precision_recall_fscore_support(y, predicted, zero_division=0)
        assert [int(r["images"]) for r in mine] == n.tolist()
        for column, wanted in (("recall", recall), ("precision", precision), ("f1", f1)):
            assert [float(r[column] or 0) for r in mine] == pytest.approx(wanted, abs=1e-5)
        cells = [int(r["images"]) for r in read(study, "confusion")
                 if (r["backbone"], r["method"]) == (name, "knn")]  # fmt: skip
        assert cells == confusion_matrix(y, predicted).ravel().tolist()
        sexes = np.array(study.columns["sex"])
        for row in read(study, "subgroups"):
            if (row["backbone"], row["method"]) == (name, "knn"):
                here = sexes == row["group"]
                assert row["column"] == "sex"
                assert int(row["images"]) == here.sum()
                wider = studies.wider(study, {(name, BEST, "knn"): 1}, "age")
                hits = (predicted == y)[here].astype(float)
                interval = accuracy_interval(hits, study.subjects[here], wider)
                ends = [float(row[c]) for c in ("accuracy", "low", "high")]
                wanted = [interval.value, interval.low, interval.high]
                assert ends == pytest.approx(wanted, abs=1e-5)


def test_the_page_has_the_cells_of_its_tables(study: Study) -> None:
    made = report(study)
    text = made.index.read_text()
    for table in made.contents.tasks[0].tables:
        for row in table.rows:
            for cell in table.cells(row):
                assert f">{cell}</td>" in text


def test_the_c_of_a_fold_is_never_printed_as_zero() -> None:
    shown = [show(c, "significant") for c in (1e-6, 0.00031622776, 0.1, 3.1622776, 1000.0)]
    assert shown == ["1e-06", "0.000316", "0.1", "3.16", "1000"]


def test_cost_is_what_the_features_take(study: Study) -> None:
    report(study)
    rows = read(study, "cost")
    assert len(rows) == 9
    assert {int(row["bytes"]) for row in rows} == {180 * 6 * 4}
    assert {(row["dim"], row["images"]) for row in rows} == {("6", "180")}


def test_a_subgroup_that_is_not_there(study: Study) -> None:
    with pytest.raises(InputError, match="--by sexx: no such column"):
        report(study, by=["sexx"])
    with pytest.raises(InputError, match=r"--by subject: .*of your own, such as age, sex"):
        report(study, by=["subject"])


def test_json_holds_the_same_numbers(study: Study) -> None:
    result = CliRunner().invoke(app, ["report", "--study", str(study.folder), "--json"])
    assert result.exit_code == 0
    data = json.loads(result.stdout)
    (task,) = data["tasks"]
    (computed,) = curves(study)
    assert task["answer_words"] == headline(computed, "faces")
    assert task["answer"]["leader"]["accuracy"]["value"] == pytest.approx(
        computed.best[0].accuracy.value
    )
    panel = next(p for p in task["panels"] if p["method"] == "ridge")
    curve = next(c for c in panel["curves"] if c["backbone"] == "near")
    wanted = [studies.right(study, "near", f"l{i}", "ridge", "age").mean() for i in range(3)]
    assert [p["accuracy"]["value"] for p in curve["points"]] == pytest.approx(wanted)
    assert len(data["tables"]["folds"]) == len(results.read(study.folder / "results.csv"))


def test_the_literature_stands_beside_a_study_of_adience_alone() -> None:
    table = literature_table("adience:/data", ())
    assert table is not None
    ozbulak = next(row for row in table.rows if "zbulak" in str(row[0]))
    assert table.cells(ozbulak)[2:5] == ["57.9", "", ""]
    gilnet = next(row for row in table.rows if "GilNet, 10 crops" in str(row[0]))
    assert table.cells(gilnet)[2:5] == ["50.7", "84.7", "86.8"]
    assert all(p.source for p in reference("adience").system)
    assert literature_table("utkface:/data", ()) is None


def test_fine_tunes_stand_beside_the_literature_too(study: Study) -> None:
    computed = studies.only(study)
    best = computed.best[0]
    point = Point("", "", 0.0, best.metrics, best.rows)
    tuned = replace(computed, tuned=(Curve("net", "task", "scratch", (point,)),))
    table = literature_table("adience:/data", [tuned])
    assert table is not None
    row = next(row for row in table.rows if row[0] == "this study: net, scratch")
    assert row[2] == best.accuracy.value
    assert row[-1] == "whole network, 180 images"
