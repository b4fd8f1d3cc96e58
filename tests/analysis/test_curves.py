import csv
import io
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import studies
from numpy.typing import NDArray
from sklearn.metrics import balanced_accuracy_score, f1_score

from features.data.tasks import Task
from features.errors import InputError
from features.extraction.imported import import_features
from features.study.study import Study, open_study
from probe.analysis.answer import answer
from probe.analysis.curves import Panel, TaskCurves, curves
from probe.analysis.gaps import Gap
from probe.analysis.statistics import accuracy_interval, band, mean_interval
from probe.fitting.fit import fit
from probe.reporting.charts.chart import Chart
from probe.reporting.page.page import looks, page
from probe.reporting.report import Report, contents_of, report
from probe.results import predictions
from probe.results import rows as results
from probe.results.rows import BEST

Floats = NDArray[np.float64]

LAYERS = ("low", "mid", "high")
DEPTHS = (0.25, 0.5, 1.0)


def labelled(folder: Path, closest: str | None = "faces", n: int = 120, **more: Any) -> Study:
    y = np.arange(n) % 3
    tasks = {"label": Task("label", ("0", "1", "2"), ordered=True)}
    people = np.arange(n) // 3 % (n // 6)
    return studies.begin(folder, {"label": y}, tasks, closest, subject=people, **more)


def backbone(study: Study, name: str, apart: tuple[float, ...], **options: Any) -> None:
    """Layers `low`, `mid` and `high` that show the label as strongly as `apart` says."""
    y, seed = study.labels("label"), sum(name.encode())
    layers = {
        layer: studies.signal(y, 6, one, seed + i)
        for i, (layer, one) in enumerate(zip(LAYERS, apart, strict=True))
    }
    studies.add(study, name, layers, **({"depths": DEPTHS} | options))


def only(study: Study) -> TaskCurves:
    (found,) = curves(open_study(study.folder))
    return found


def panel(study: Study) -> Panel:
    (found,) = only(study).panels
    return found


def right(study: Study, name: str, layer: str, method: str = "ridge") -> Floats:
    """1 where the stored scores name the class, by a reader of its own."""
    found = predictions.read(study.folder / "predictions.h5", ("label", name, layer, method))
    said = [int(np.argmax(row)) for row in found.scores]
    return (np.array(said) == study.labels("label")).astype(np.float64)


def pair(folder: Path, **card: Any) -> Study:
    """`near`, of faces, names `far`, of objects, as its pair."""
    study = labelled(folder)
    backbone(study, "near", (0.3, 0.8, 2.0), domain="faces", card={"pair": "far"} | card)
    backbone(study, "far", (0.4, 0.6, 0.3), domain="objects")
    fit(study.folder, probes=("ridge",))
    return study


def test_two_unrelated_backbones_have_no_gap(tmp_path: Path) -> None:
    study = pair(tmp_path / "study", pair="another")
    assert panel(study).gaps == ()
    assert [curve.backbone for curve in panel(study).curves] == ["near", "far"]
    text = report(study).index.read_text()
    assert "No gap is drawn" in text
    assert not list((study.folder / "report").glob("gap-*"))


def test_imported_features_have_no_gap(tmp_path: Path) -> None:
    y = np.arange(60) % 2
    for name in ("a", "b"):
        np.savez(tmp_path / "x.npz", features=studies.signal(y, 4, 1.0, ord(name)), label=y)
        import_features(tmp_path / "study", tmp_path / "x.npz", name=name, layer="fc")
    fit(tmp_path / "study", probes=("ridge",))
    (found,) = curves(open_study(tmp_path / "study"))
    assert found.panels[0].gaps == ()


def check_gap(study: Study, gap: Gap, near: str, far: list[str]) -> None:
    """The gap, its band and its slope again, from predictions.h5."""
    columns = [
        right(study, near, layer) - np.mean([right(study, one, layer) for one in far], axis=0)
        for layer in LAYERS
    ]
    values = np.stack(columns, axis=1)
    again = band(values, study.subjects, 1.5)
    assert [p.layer for p in gap.points] == list(LAYERS)
    assert [p.depth for p in gap.points] == list(DEPTHS)
    for i, point in enumerate(gap.points):
        assert point.gap == pytest.approx(values[:, i].mean())
        assert (point.low, point.high) == (
            pytest.approx(again.low[i]),
            pytest.approx(again.high[i]),
        )
    assert gap.slope.value == pytest.approx(np.polyfit(DEPTHS, values.mean(0), 1)[0])


def test_a_pair_has_the_gap_of_its_predictions(tmp_path: Path) -> None:
    study = pair(tmp_path / "study")
    (gap,) = panel(study).gaps
    assert (gap.near, gap.far, gap.near_domain, gap.far_domain) == (
        "near", "far", "faces", "objects",
    )  # fmt: skip
    check_gap(study, gap, "near", ["far"])
    assert gap.points[-1].gap > 0.1
    assert gap.slope.low > 0


@pytest.mark.parametrize("closest", ["faces", "objects"])
def test_the_closest_domain_comes_first(tmp_path: Path, closest: str) -> None:
    study = labelled(tmp_path / "study", closest)
    backbone(study, "x", (0.3, 0.8, 2.0), domain="objects", card={"pair": "y"})
    backbone(study, "y", (0.4, 0.6, 0.9), domain="faces", card={"pair": "x"})
    fit(study.folder, probes=("ridge",))
    (gap,) = panel(study).gaps
    assert (gap.near_domain == closest, gap.far_domain == closest) == (True, False)
    check_gap(study, gap, gap.near, [gap.far])


def test_the_same_names_of_other_modules_are_no_pair(tmp_path: Path) -> None:
    study = labelled(tmp_path / "study")
    backbone(study, "near", (0.3, 0.8, 2.0), card={"pair": "far"})
    y = study.labels("label")
    turned = {layer: studies.signal(y, 6, 1.0, i) for i, layer in enumerate(reversed(LAYERS))}
    studies.add(study, "far", turned, depths=DEPTHS)
    fit(study.folder, probes=("ridge",))
    assert panel(study).gaps == ()


def test_a_gap_is_drawn_at_the_layers_that_both_have(tmp_path: Path) -> None:
    study = labelled(tmp_path / "study")
    backbone(study, "near", (0.3, 0.8, 2.0), card={"pair": "far"})
    y = study.labels("label")
    studies.add(study, "far", {"low": studies.signal(y, 6, 1.0)}, depths=DEPTHS[:1])
    fit(study.folder, probes=("ridge",))
    (gap,) = panel(study).gaps
    assert [point.layer for point in gap.points] == ["low"]


@pytest.mark.parametrize("far_layer", ["low", "other"])
def test_a_pair_without_a_gap_at_the_chosen_layer_is_still_a_pair(
    tmp_path: Path, far_layer: str
) -> None:
    study = labelled(tmp_path / "study")
    backbone(study, "near", (0.3, 0.8, 2.0), domain="faces", card={"pair": "far"})
    y = study.labels("label")
    studies.add(study, "far", {far_layer: studies.signal(y, 6, 1.0)}, depths=DEPTHS[:1])
    fit(study.folder, probes=("ridge",))
    text = report(open_study(study.folder)).index.read_text()
    assert "they are a pair, but the domain gap at high is not known" in text
    assert "They differ in architecture" not in text
    assert "no two of these backbones are a pair" not in text


def test_two_that_are_no_pair_are_told_so(tmp_path: Path) -> None:
    text = report(open_study(pair(tmp_path / "study", pair="x").folder)).index.read_text()
    assert "They differ in architecture" in text


def test_results_of_no_task_of_the_study(tmp_path: Path) -> None:
    study = pair(tmp_path / "study")
    file = study.folder / "study.toml"
    file.write_text(file.read_text().replace("[tasks.label]", "[tasks.other]"))
    table = study.folder / "images.csv"
    table.write_text(table.read_text().replace("label", "other", 1))
    with pytest.raises(InputError, match=r"all results are of label, and study\.toml has no such"):
        curves(open_study(study.folder))


def imported(folder: Path, **domain: str) -> Study:
    """A network of faces beside weaker features that were imported."""
    study = labelled(folder / "study")
    backbone(study, "net", (0.3, 0.8, 2.0), domain="faces")
    np.savez(folder / "x.npz", features=studies.signal(study.labels("label"), 6, 0.4))
    import_features(study.folder, folder / "x.npz", name="clip", layer="fc", **domain)
    return study


def test_a_domain_that_nobody_said_is_no_floor(tmp_path: Path) -> None:
    study = imported(tmp_path)
    with study.features("clip") as file:
        assert file.domain == "unknown"
    fit(study.folder, probes=("ridge",))
    answered = answer(only(study), "faces")
    assert answered is not None
    assert (answered.random, answered.closest) == (None, None)
    assert "Over the floor" not in report(open_study(study.folder)).index.read_text()


def test_a_domain_that_was_said_stays(tmp_path: Path) -> None:
    study = imported(tmp_path, domain="none")
    with study.features("clip") as file:
        assert file.domain == "none"
    import_features(study.folder, tmp_path / "x.npz", name="clip", layer="other")
    with pytest.raises(InputError, match="of the domain none; leave --domain out"):
        import_features(
            study.folder, tmp_path / "x.npz", name="clip", layer="third", domain="faces"
        )
    fit(study.folder, probes=("ridge",))
    answered = answer(only(study), "faces")
    assert answered is not None
    assert answered.random is not None
    assert answered.random.b == "clip"
    report(open_study(study.folder))  # also its table of weights


def test_features_imported_before_domains_were_asked_for(tmp_path: Path) -> None:
    """The file says `none` and that it was imported, and rows of results.csv say `none`."""
    study = imported(tmp_path)
    path = study.feature_path("clip")
    with h5py.File(path, "r+") as file:
        file.attrs["domain"] = "none"
        file.attrs["card"] = json.dumps({"name": "clip", "domain": "none"})
        del file["seal"]
    fit(study.folder, probes=("ridge",))
    table = study.folder / "results.csv"
    table.write_text(table.read_text().replace("clip,unknown", "clip,none"))
    found = only(study)
    assert {b.backbone: b.domain for b in found.best} == {"net": "faces", "clip": "unknown"}
    answered = answer(found, "faces")
    assert answered is not None
    assert answered.random is None


def test_random_weights_are_averaged_over_their_draws(tmp_path: Path) -> None:
    study = labelled(tmp_path / "study")
    backbone(study, "near", (0.3, 0.8, 2.0), domain="faces")
    for seed in range(3):
        backbone(
            study,
            f"near@random-{seed}",
            (0.2, 0.3, 0.3),
            domain="none",
            card={"name": "near", "domain": "faces"},
            weights={"random": True, "seed": seed},
        )
    fit(study.folder, probes=("ridge",))
    (gap,) = panel(study).gaps
    assert (gap.near, gap.far_domain) == ("near", "none")
    assert "3 draws" in gap.far
    check_gap(study, gap, "near", [f"near@random-{seed}" for seed in range(3)])


def test_draws_alone_have_no_gap_among_them(tmp_path: Path) -> None:
    study = labelled(tmp_path / "study")
    for seed in range(2):
        backbone(
            study,
            f"near@random-{seed}",
            (0.2, 0.3, 0.3),
            domain="none",
            card={"name": "near"},
            weights={"random": True, "seed": seed},
        )
    fit(study.folder, probes=("ridge",))
    assert panel(study).gaps == ()


def test_a_control_has_no_gap(tmp_path: Path) -> None:
    study = labelled(tmp_path / "study")
    backbone(study, "near", (0.3, 0.8, 2.0), card={"pair": "control:tiny"})
    backbone(study, "control:tiny", (0.3, 0.5, 0.9), domain="control")
    fit(study.folder, probes=("ridge",))
    assert panel(study).gaps == ()
    assert panel(study).curves[-1].backbone == "control:tiny"


def test_poolings_have_panels_of_their_own(tmp_path: Path) -> None:
    study = labelled(tmp_path / "study")
    y = study.labels("label")
    for name, card in (("near", {"pair": "far"}), ("far", {})):
        maps = {
            key: studies.signal(y, 6, apart, seed + len(name))
            for seed, (key, apart) in enumerate(
                {"c1": 0.3, "c1:avg": 1.0, "c2": 0.5, "c2:avg": 1.5}.items()
            )
        }
        studies.add(study, name, maps, card=card, depths=(0.5, 1.0))
    fit(study.folder, probes=("ridge",))
    found = only(study)
    assert [p.pool for p in found.panels] == ["auto", "avg"]
    for one, suffix in zip(found.panels, ("", ":avg"), strict=True):
        (gap,) = one.gaps
        for point in gap.points:
            apart = right(study, gap.near, point.layer + suffix) - right(
                study, gap.far, point.layer + suffix
            )
            assert point.gap == pytest.approx(apart.mean())
        for curve in one.curves:
            for point in curve.points:
                wanted = right(study, curve.backbone, point.layer + suffix).mean()
                assert point.accuracy.value == pytest.approx(wanted)


def test_curves_are_accuracies_over_depth_with_intervals_over_subjects(tmp_path: Path) -> None:
    study = pair(tmp_path / "study")
    for curve in panel(study).curves:
        assert [(p.layer, p.depth) for p in curve.points] == list(zip(LAYERS, DEPTHS, strict=True))
        for point in curve.points:
            wanted = accuracy_interval(right(study, curve.backbone, point.layer), study.subjects)
            assert point.accuracy == wanted


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
    found = only(study)
    kept = np.setdiff1d(np.arange(120), [5, 9])
    hits = 0
    for one in range(4):
        train, test = kept[fold[kept] != one], kept[fold[kept] == one]
        hits += (y[test] == np.bincount(y[train]).argmax()).sum()
    assert found.majority == pytest.approx(hits / 118)
    assert (found.chance, found.n, found.folds) == (pytest.approx(1 / 3), 118, 4)
    _, sizes = np.unique(subjects[kept], return_counts=True)
    assert found.subjects == len(sizes)
    assert found.effective_subjects == pytest.approx(118**2 / (sizes**2).sum())


def test_best_and_its_differences_again(tmp_path: Path) -> None:
    study = pair(tmp_path / "study")
    found = only(study)
    assert [b.backbone for b in found.best] == ["near", "far"]
    for best in found.best:
        hits = right(study, best.backbone, BEST)
        assert best.accuracy == accuracy_interval(hits, study.subjects)
    ((method, a, b, difference),) = found.differences
    assert (method, a, b) == ("ridge", "near", "far")
    apart = right(study, "near", BEST) - right(study, "far", BEST)
    assert difference == mean_interval(apart, study.subjects, 1.5)


def test_unlike_protocols_are_refused(tmp_path: Path) -> None:
    study = pair(tmp_path / "study")
    fit(study.folder, probes=("ridge",), backbones=("near",), c=[1.0])
    with pytest.raises(
        InputError, match=r"under unlike protocols \(other grid, relative \(True and False\)\)"
    ):
        report(study.folder)
    fit(study.folder, probes=("ridge",), c=[1.0])
    assert report(study.folder).tasks


def test_after_another_number_of_folds_there_is_a_report(tmp_path: Path) -> None:
    study = pair(tmp_path / "study")
    fit(study.folder, probes=("ridge",), folds=3)
    (task,) = report(study.folder).tasks
    assert task.folds == 3


def test_nothing_fitted_yet(tmp_path: Path) -> None:
    study = labelled(tmp_path / "study")
    with pytest.raises(InputError, match=r"nothing is fitted yet; run `probe fit` first"):
        report(study.folder)
    assert not (study.folder / "report").exists()


# The report folder.

KINDS = ("svg", "png", "pdf")


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.*")}


def test_every_promised_file_is_there(tmp_path: Path) -> None:
    study = pair(tmp_path / "study")
    made = report(study)
    drawn = {f"{stem}-label.{kind}" for stem in ("curves", "gap") for kind in KINDS}
    tables = ("table", "folds", "classes", "confusion", "backbones", "cost")
    written = {f"{stem}.{kind}" for stem in tables for kind in ("csv", "md", "tex")}
    assert set(files_of(made.folder)) == drawn | written | {"index.html"}
    found = files_of(made.folder)
    for name, start in (("svg", b"<?xml"), ("png", b"\x89PNG"), ("pdf", b"%PDF")):
        assert found[f"curves-label.{name}"].startswith(start)


def test_two_runs_draw_the_same_bytes(tmp_path: Path) -> None:
    """The second in a process of its own, where strings hash otherwise."""
    study = pair(tmp_path / "study")
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
    study = pair(tmp_path / "study")
    made = report(study)
    text = made.index.read_text()
    (section,), (task,) = made.contents.tasks, made.tasks
    assert [c.metric for c in section.charts] == ["accuracy", "balanced", "one_off", "mae", "gap"]
    figures = re.findall(r"<figure data-chart=.*?</figure>", text, re.DOTALL)
    for chart, figure in zip(section.charts, figures[:5], strict=True):
        assert f"<h4>{chart.title}</h4>" in figure
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
    """Every metric of a curve against scikit-learn on predictions.h5."""
    study = pair(tmp_path / "study")
    for curve in panel(study).curves:
        for point in curve.points:
            again = measured_again(study, curve.backbone, point.layer)
            assert point.metrics["accuracy"].value == pytest.approx(again["accuracy"])
            assert point.metrics["balanced"].value == pytest.approx(again["balanced_accuracy"])
            assert point.metrics["one_off"].value == pytest.approx(again["one_off"])
            assert point.metrics["mae"].value == pytest.approx(again["mae"])


def measured_again(study: Study, name: str, key: str) -> dict[str, float]:
    """Metrics of one layer by scikit-learn, from predictions.h5 alone."""
    found = predictions.read(study.folder / "predictions.h5", ("label", name, key, "ridge"))
    y, said = study.labels("label"), found.scores.argmax(1)
    folds = [found.fold == f for f in range(5)]
    accuracy = [(said == y)[here].mean() for here in folds]
    return {
        "accuracy": (said == y).mean(),
        "fold_mean": np.mean(accuracy),
        "fold_sd": np.std(accuracy, ddof=1),
        "fold_sem": np.std(accuracy, ddof=1) / np.sqrt(5),
        "balanced_accuracy": np.mean([balanced_accuracy_score(y[f], said[f]) for f in folds]),
        "macro_f1": np.mean([f1_score(y[f], said[f], average="macro") for f in folds]),
        "one_off": (np.abs(said - y) <= 1).mean(),
        "mae": np.abs(said - y).mean(),
    }


def test_tables_agree_with_each_other_and_with_the_predictions(tmp_path: Path) -> None:
    study = pair(tmp_path / "study")
    folder = report(study).folder
    table = list(csv.DictReader(io.StringIO((folder / "table.csv").read_text())))
    assert [row["layer"] for row in table] == [BEST, BEST, "majority", *LAYERS, *LAYERS]
    table.pop(2)  # nobody's predictions
    shown = []
    for row in table:
        again = measured_again(study, row["backbone"], row["layer"])
        for name, value in again.items():
            assert float(row[name]) == pytest.approx(value, abs=1e-5), name
        hits = right(study, row["backbone"], row["layer"])
        interval = accuracy_interval(hits, study.subjects)
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
    study = labelled(tmp_path / "study")
    studies.begin(tmp_path / "drawn", {"label": study.columns["label"]}, synthetic=True)
    for folder, stamped in ((study.folder, False), (tmp_path / "drawn", True)):
        one = open_study(folder)
        backbone(one, "near", (0.3, 0.8, 2.0))
        fit(folder, probes=("ridge",))
        for name, content in files_of(report(folder).folder).items():
            if not name.endswith((".png", ".pdf", ".csv")):
                assert (b"SYNTHETIC" in content) == stamped, name


HOSTILE = {
    "script": "<script>alert(1)</script>",
    "quotes": "\"'><img src=x onerror=alert(1)>",
    "path": "../../escape",
    "long": "x" * 300,
    "right to left": "\u202eשלום العربية",
    "markup": "a|b`*_#&amp;\\{}~^%$",
    "mathematics": "$\\frac$",
    "hidden": "_hidden",
    "no glyphs": "日本語",
}


class Tags(HTMLParser):
    """The elements and attributes of a page, and the text between them."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.attributes: set[str] = set()
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.text += data


def around(folder: Path) -> set[str]:
    return {
        str(path.relative_to(folder)) for path in folder.rglob("*") if "study" not in path.parts
    }


def check_safe(made: Report, name: str) -> None:
    text = made.index.read_text()
    tags = Tags()
    tags.feed(text)
    assert not tags.names & {"img", "iframe", "object", "embed", "form", "base", "a"}
    assert not {name for name in tags.attributes if name.startswith("on")}
    assert text.count("<script") == 2  # the numbers and the page's own
    script = (Path(page.__code__.co_filename).parent / "page.js").read_text()
    assert f"<script>{script}</script></body></html>" in text
    assert name in tags.text
    assert all(path.parent == made.folder for path in made.folder.rglob("*"))


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_names_are_text_and_stay_in_the_folder(tmp_path: Path, kind: str) -> None:
    """As backbone, task, layer, domain and class at once."""
    name = HOSTILE[kind]
    layer = name.replace("/", ".")
    y = np.arange(60) % 2
    study = studies.begin(tmp_path / "study", {name: [(name, "other")[v] for v in y]})
    before = around(tmp_path)
    layers = {layer: studies.signal(y, 4, 0.5), "fc": studies.signal(y, 4, 1.0)}
    studies.add(study, name, layers, domain=name, card={"pair": "far"})
    studies.add(study, "far", layers)
    fit(study.folder, probes=("ridge",))
    made = report(study.folder)
    check_safe(made, name)
    assert around(tmp_path) == before
    for stem in ("curves", "gap"):
        drawn = sorted(path.suffix for path in made.folder.glob(f"{stem}-*"))
        assert drawn == [".pdf", ".png", ".svg"]
    table = list(csv.DictReader(io.StringIO((made.folder / "table.csv").read_text())))
    assert {row["backbone"] for row in table} == {name, "far", "control:majority"}
    assert {row["task"] for row in table} == {name}
    markdown = (made.folder / "table.md").read_text().splitlines()
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in markdown}) == 1
    if kind not in ("long", "script", "quotes"):  # those are cut to the width of a figure
        svg = Tags()
        svg.feed((made.folder / next(made.folder.glob("curves-*.svg")).name).read_text())
        assert name in svg.text


def test_a_hostile_source(tmp_path: Path) -> None:
    study = labelled(tmp_path / "study", n=60)
    backbone(study, "net", (0.3, 0.8, 2.0))
    fit(study.folder, probes=("ridge",))
    found = curves(study)
    for name in HOSTILE.values():
        text = page(contents_of(replace(study, source=name), found))
        tags = Tags()
        tags.feed(text)
        assert text.count("<script") == 2
        assert name in tags.text


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
    study = pair(tmp_path / "study")
    fit(study.folder, probes=("ridge", "knn"))
    text = report(study.folder).index.read_text()
    (found,) = curves(study)
    for best in found.best:
        assert str(best.accuracy) in text
    gap = found.panels[0].gaps[0]
    assert f"{100 * gap.points[0].gap:+.1f} points at low" in text
    assert f"{100 * gap.points[-1].gap:+.1f} at high" in text
    assert "it grows with depth" in text


def test_results_of_a_removed_backbone_do_not_stop_the_report(tmp_path: Path) -> None:
    study = pair(tmp_path / "study")
    study.feature_path("far").unlink()
    (found,) = report(study.folder).tasks
    assert found.panels[0].gaps == ()
    assert {row.backbone for row in results.read(study.folder / "results.csv")} == {
        "near", "far", "control:majority",
    }  # fmt: skip


def test_a_network_trained_from_scratch_has_a_colour_of_its_own() -> None:
    found = looks([("net", "faces"), ("net", "task"), ("other", "faces")])
    assert found["net", "faces"][0] == found["other", "faces"][0] != found["net", "task"][0]
    assert found["net", "faces"][1] == found["net", "task"][1] != found["other", "faces"][1]
