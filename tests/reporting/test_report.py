"""The report folder: its files, the tables again from the stored scores, and the lines of the page."""

from __future__ import annotations

import csv
import io
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import studies
from sklearn.metrics import balanced_accuracy_score, f1_score

from features.errors import InputError
from features.extraction.imported import import_features
from features.study.study import Study, open_study
from probe.analysis.curves import curves
from probe.analysis.statistics import accuracy_interval
from probe.fitting.fit import fit
from probe.reporting.charts.chart import Chart
from probe.reporting.page.page import data_name, looks
from probe.reporting.report import report
from probe.results import predictions
from probe.results import rows as results
from probe.results.rows import BEST

KINDS = ("svg", "png", "pdf")


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.*")}


def test_every_promised_file_is_there(tmp_path: Path) -> None:
    study = studies.pair(tmp_path / "study")
    made = report(study)
    drawn = {f"{stem}-label.{kind}" for stem in ("curves", "gap") for kind in KINDS}
    tables = (
        "best", "table", "folds", "cumulative", "classes", "confusion", "backbones", "cost",
    )  # fmt: skip
    written = {f"{stem}.{kind}" for stem in tables for kind in ("csv", "md", "tex")}
    assert set(files_of(made.folder)) == drawn | written | {"index.html"}
    written = files_of(made.folder)
    for name, start in (("svg", b"<?xml"), ("png", b"\x89PNG"), ("pdf", b"%PDF")):
        assert written[f"curves-label.{name}"].startswith(start)


def test_two_runs_draw_the_same_bytes(tmp_path: Path) -> None:
    """The second in a process of its own, where strings hash otherwise."""
    study = studies.pair(tmp_path / "study")
    first = files_of(report(study).folder)
    again = files_of(report(study).folder)
    code = f"from probe import report; report({str(study.folder)!r})"
    subprocess.run(
        [sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONHASHSEED": "7"}
    )
    other = files_of(study.folder / "report")
    for name, content in first.items():
        assert again[name] == content, name
        assert other[name] == content, name


def values_of(chart: Chart, svg: str) -> list[list[float]]:
    """The values that the drawn lines of a chart pass through, back from the SVG's coordinates."""
    offset, factor = chart.drawing.scale
    drawn = re.findall(r'<path class="line[^"]*" d="M([^"]*)"', svg)
    return [[(float(y) - offset) / factor for y in line.split()[1::2]] for line in drawn]


def test_the_lines_on_the_page_pass_through_the_numbers(tmp_path: Path) -> None:
    study = studies.pair(tmp_path / "study")
    made = report(study)
    text = made.index.read_text()
    (section,), (task,) = made.contents.tasks, made.tasks
    assert section.curve is not None
    charts = [section.curve, *(chart for _, part in section.parts for chart in part)]
    assert [c.metric for c in charts] == ["accuracy", "gap", "balanced", "one_off", "mae"]
    figures = re.findall(
        r'<figure data-chart="\d+"><h3>(.*?)</h3>.*?(<svg class="chart".*?</svg>)', text, re.DOTALL
    )
    for chart, (heading, figure) in zip(charts, figures[:5], strict=True):
        assert heading == chart.title
        wanted = (
            [[p.gap for p in gap.points] for gap in task.panels[0].gaps]
            if chart.metric == "gap"
            else [[p.metrics[chart.metric].value for p in c.points] for c in task.panels[0].curves]
        )
        drawn = values_of(chart, figure)
        assert len(drawn) == len(wanted)
        for ours, theirs, line in zip(drawn, wanted, chart.lines, strict=True):
            assert ours == pytest.approx(theirs, abs=2e-3)
            assert [p[2] for p in line.points] == theirs


def test_metrics_are_means_over_images_or_folds(tmp_path: Path) -> None:
    """Every metric of a curve against scikit-learn on the stored scores."""
    study = studies.pair(tmp_path / "study")
    for curve in studies.panel(study).curves:
        for point in curve.points:
            again = measured_again(study, curve.backbone, point.layer)
            assert point.metrics["accuracy"].value == pytest.approx(again["accuracy"])
            assert point.metrics["balanced"].value == pytest.approx(again["balanced_accuracy"])
            assert point.metrics["one_off"].value == pytest.approx(again["one_off"])
            assert point.metrics["mae"].value == pytest.approx(again["mae"])


def measured_again(study: Study, name: str, key: str) -> dict[str, float]:
    """Metrics of one layer by scikit-learn, from the stored scores alone."""
    stored = predictions.read(study.folder / "predictions", ("label", name, key, "ridge"))
    y, predicted = study.labels("label"), stored.scores.argmax(1)
    folds = [stored.fold == f for f in range(5)]
    accuracy = [(predicted == y)[here].mean() for here in folds]
    return {
        "accuracy": (predicted == y).mean(),
        "fold_mean": np.mean(accuracy),
        "fold_sd": np.std(accuracy, ddof=1),
        "fold_sem": np.std(accuracy, ddof=1) / np.sqrt(5),
        "balanced_accuracy": np.mean([balanced_accuracy_score(y[f], predicted[f]) for f in folds]),
        "macro_f1": np.mean([f1_score(y[f], predicted[f], average="macro") for f in folds]),
        "one_off": (np.abs(predicted - y) <= 1).mean(),
        "mae": np.abs(predicted - y).mean(),
    }


def test_tables_agree_with_each_other_and_with_the_predictions(tmp_path: Path) -> None:
    study = studies.pair(tmp_path / "study")
    folder = report(study).folder
    table = list(csv.DictReader(io.StringIO((folder / "table.csv").read_text())))
    assert [row["layer"] for row in table] == [
        BEST,
        BEST,
        "majority",
        *studies.LAYERS,
        *studies.LAYERS,
    ]
    table.pop(2)  # nobody's predictions
    shown = []
    for row in table:
        again = measured_again(study, row["backbone"], row["layer"])
        for name, value in again.items():
            assert float(row[name]) == pytest.approx(value, abs=1e-5), name
        hits = studies.right(study, row["backbone"], row["layer"])
        wider = studies.wider(study, {(row["backbone"], row["layer"], "ridge"): 1})
        interval = accuracy_interval(hits, study.subjects, wider)
        assert (float(row["low"]), float(row["high"])) == (
            pytest.approx(interval.low, abs=1e-5),
            pytest.approx(interval.high, abs=1e-5),
        )
        assert int(row["images"]) == 120
        layer = f"best: {row['chosen']}" if row["layer"] == BEST else row["layer"]
        depth = f"{float(row['depth']):.2f}" if row["depth"] else ""
        shown.append(
            [
                "label", "ridge", row["backbone"], row["domain"], layer, row["pool"], depth,
                f"{100 * again['accuracy']:.1f}",
                f"{100 * interval.low:.1f}–{100 * interval.high:.1f}",
                f"{100 * again['fold_mean']:.1f}", f"{100 * again['fold_sd']:.1f}",
                f"{100 * again['balanced_accuracy']:.1f}", f"{100 * again['one_off']:.1f}",
                f"{again['mae']:.2f}",
            ]
        )  # fmt: skip
    markdown = (folder / "table.md").read_text().splitlines()
    cells = [[c.strip() for c in line.strip("|").split("|")] for line in markdown[2:]]
    assert cells.pop(2)[1:4] == ["majority", "control:majority", "control"]
    assert cells == shown
    tex = (folder / "table.tex").read_text().splitlines()
    rows = [line.removesuffix(" \\\\").split(" & ") for line in tex if line.count("&") > 9][1:]
    rows.pop(2)
    assert rows == [[c.replace("–", "--") for c in row] for row in shown]
    text = (folder / "index.html").read_text()
    for row in shown:
        for cell in row:
            assert f">{cell}</td>" in text


def test_a_synthetic_study_is_stamped_everywhere(tmp_path: Path) -> None:
    study = studies.labelled(tmp_path / "study")
    studies.begin(
        tmp_path / "drawn",
        {"label": study.columns["label"], "Gender": study.columns["label"]},
        synthetic=True,
    )
    for folder, stamped in ((study.folder, False), (tmp_path / "drawn", True)):
        study_ = open_study(folder)
        studies.backbone(study_, "near", (0.3, 0.8, 2.0))
        fit(folder, probes=("ridge",))
        for name, content in files_of(report(folder).folder).items():
            reads_people = stamped and name == "index.html"
            assert (b"What age and gender inference is not fit for" in content) == reads_people
            if not name.endswith((".png", ".pdf", ".csv")):
                assert (b"SYNTHETIC" in content) == stamped, name


def test_tasks_whose_names_look_alike_as_files_keep_their_own(tmp_path: Path) -> None:
    y = np.arange(60)
    study = studies.begin(tmp_path / "study", {"a b": y % 2, "a_b": y % 3})
    studies.add(study, "net", {"fc": studies.signal(y % 3, 4, 1.0)})
    fit(study.folder, probes=("ridge",))
    made = report(study.folder)
    drawn = [path.read_text() for path in made.folder.glob("curves-*.svg")]
    assert len(drawn) == 2
    for task in ("a b", "a_b"):
        assert sum(f">{task}: accuracy over depth<" in svg for svg in drawn) == 1


def test_backbones_whose_names_look_alike_as_files_keep_their_own(tmp_path: Path) -> None:
    """Or the second is refused; it must not end up among the layers of the first."""
    y = np.arange(60) % 2
    np.savez(tmp_path / "x.npz", features=studies.signal(y, 4, 1.0), label=y)
    import_features(tmp_path / "study", tmp_path / "x.npz", name="a b", layer="fc6")
    try:
        import_features(tmp_path / "study", tmp_path / "x.npz", name="a_b", layer="fc7")
    except InputError as error:
        assert "a b" in str(error)  # noqa: PT017
    else:
        assert sorted(open_study(tmp_path / "study").backbones()) == ["a b", "a_b"]
    with open_study(tmp_path / "study").features("a b") as file:
        assert (file.backbone, file.keys) == ("a b", ["fc6"])


def test_a_study_of_everything_at_once_reads_in_words(tmp_path: Path) -> None:
    study = studies.pair(tmp_path / "study")
    fit(study.folder, probes=("ridge", "knn"))
    text = report(study.folder).index.read_text()
    (task,) = curves(study)
    for best in task.best:
        assert str(best.accuracy) in text
    gap = task.panels[0].gaps[0]
    assert f"{100 * gap.points[0].gap:+.1f} points at low" in text
    assert f"{100 * gap.points[-1].gap:+.1f} at high" in text
    assert "near passes it with depth" in text  # from behind it at low


def test_results_of_a_removed_backbone_do_not_stop_the_report(tmp_path: Path) -> None:
    study = studies.pair(tmp_path / "study")
    study.feature_path("far").unlink()
    (task,) = report(study.folder).tasks
    assert task.panels[0].gaps == ()
    assert {row.backbone for row in results.read(study.folder / "results.csv")} == {
        "near", "far", "control:majority",
    }  # fmt: skip


def test_a_network_trained_from_scratch_has_a_colour_of_its_own() -> None:
    numbered = looks([("net", "faces"), ("net", "task"), ("other", "faces")])
    assert (
        numbered["net", "faces"][0] == numbered["other", "faces"][0] != numbered["net", "task"][0]
    )
    assert (
        numbered["net", "faces"][1] == numbered["net", "task"][1] != numbered["other", "faces"][1]
    )


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("utkface:/work/real/utkface?faces=coarse", "utkface"),
        ("lfw:/data/people", "lfw:people"),
        ("/home/anna/faces.csv", "faces.csv"),
        ("hf:org/set", "hf:org/set"),
        ("sample", "sample"),
    ],
)
def test_the_page_names_the_data_without_the_folders_of_this_machine(
    source: str, name: str
) -> None:
    assert data_name(source) == name
