"""What a report says, in words and tables, equals numbers recomputed from predictions.h5 alone."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import h5py
import numpy as np
import pytest
import studies
from numpy.typing import NDArray
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support
from typer.testing import CliRunner

from cli.app import app
from features.data.tasks import Task
from features.errors import InputError
from features.study.study import Study, open_study
from probe.analysis.answer import answer
from probe.analysis.curves import TaskCurves, curves
from probe.analysis.statistics import accuracy_interval, band, mean_interval
from probe.fitting.fit import fit
from probe.reporting.report import report
from probe.reporting.tables.literature import ADIENCE, literature_table
from probe.reporting.words import findings, headline
from probe.results import rows as results
from probe.results.rows import BEST, Row

Floats = NDArray[np.float64]
STRENGTHS = {"near": (0.3, 0.8, 1.6), "far": (0.4, 0.5, 0.4), "near@random": (0.1, 0.1, 0.1)}


def three(folder: Path, strengths: dict[str, tuple[float, ...]] = STRENGTHS) -> Study:
    """Faces, their pair of objects, and random weights, on an ordered task; subjects of two images."""
    y = np.arange(180) % 3
    sexes = ["f" if i // 3 % 2 else "m" for i in range(180)]
    tasks = {
        "age": Task("age", ("0-2", "4-6", "8-12"), ordered=True),
        "sex": Task("sex", ("f", "m")),
    }
    labels = {"age": [tasks["age"].classes[v] for v in y], "sex": sexes}
    study = studies.begin(folder, labels, tasks, "faces", subject=np.arange(180) // 2)
    cards = {"near": {"pair": "far"}, "far": {"pair": "near"}, "near@random": {"name": "near"}}
    for name, apart in strengths.items():
        random = "random" in name
        layers = {
            f"l{i}": studies.signal(y, 6, one, sum(name.encode()) + i)
            for i, one in enumerate(apart)
        }
        studies.add(
            study, name, layers, depths=(0.25, 0.5, 1.0), card=cards[name],
            domain="none" if random else "faces" if name == "near" else "objects",
            weights={"random": True, "seed": 0} if random else None,
        )  # fmt: skip
    fit(folder, tasks=("age",), probes=("ridge", "knn"))
    return open_study(folder)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return three(tmp_path_factory.mktemp("words") / "study")


def said(study: Study, name: str, layer: str, method: str) -> NDArray[np.int64]:
    """The predicted classes, by plain h5py."""
    with h5py.File(study.folder / "predictions.h5") as file:
        return np.asarray(file[f"age/{name}/{layer}/{method}/scores"][:].argmax(1))


def right(study: Study, name: str, layer: str, method: str) -> Floats:
    return (said(study, name, layer, method) == study.labels("age")).astype(np.float64)


def points(text: str) -> list[float]:
    """The numbers of a difference in points and its interval."""
    found = re.search(r"([+-][\d.]+) points \[([+-][\d.]+), ([+-][\d.]+)\]", text)
    assert found is not None, text
    return [float(one) for one in found.groups()]


def hundredfold(interval: object) -> list[float]:
    return [round(100 * getattr(interval, end), 1) for end in ("value", "low", "high")]


def only(study: Study) -> TaskCurves:
    (found,) = curves(study)
    return found


def test_the_headline_equals_the_predictions(study: Study) -> None:
    said_first, *others = headline(only(study), "faces")
    scores = {
        (name, method): right(study, name, BEST, method).mean()
        for name in STRENGTHS
        for method in ("ridge", "knn")
    }
    (leader, method), accuracy = max(scores.items(), key=lambda one: one[1])
    assert said_first.startswith(f"Transfer from {leader} (faces): {method} reaches ")
    interval = accuracy_interval(right(study, leader, BEST, method), study.subjects)
    assert (
        f"{100 * accuracy:.1f} % [{100 * interval.low:.1f}, {100 * interval.high:.1f}]"
        in said_first
    )
    # Of the next: the whole family of differences between rows of unlike backbones, by hand.
    rows = sorted(scores, key=lambda key: -scores[key])
    pairs = [(a, b) for a, b in combinations(rows, 2) if a[0] != b[0]]
    apart = [right(study, a[0], BEST, a[1]) - right(study, b[0], BEST, b[1]) for a, b in pairs]
    family = band(np.stack(apart, axis=1), study.subjects, 1.5)
    runner_up = next(row for row in rows if row[0] != leader)
    i = pairs.index(((leader, method), runner_up))
    wanted = [round(100 * float(v[i]), 1) for v in (family.value, family.low, family.high)]
    assert points(said_first) == pytest.approx(wanted, abs=0.051)
    far = max((row for row in rows if row[0] == "far"), key=lambda row: scores[row])
    closest = mean_interval(
        right(study, leader, BEST, method) - right(study, far[0], BEST, far[1]),
        study.subjects,
        1.5,
    )
    (sentence,) = (s for s in others if s.startswith("The closest domain, faces: near against far"))
    assert points(sentence) == pytest.approx(hundredfold(closest), abs=0.051)
    assert "they are a pair" in sentence
    floor = max((row for row in rows if "random" in row[0]), key=lambda row: scores[row])
    over = mean_interval(
        right(study, leader, BEST, method) - right(study, floor[0], BEST, floor[1]),
        study.subjects,
        1.5,
    )
    (sentence,) = (s for s in others if s.startswith("Over the floor"))
    assert points(sentence) == pytest.approx(hundredfold(over), abs=0.051)
    assert any("fine-tuning" in s for s in others)


def test_no_winner_is_named_where_nothing_tells_backbones_apart(tmp_path: Path) -> None:
    alike = dict.fromkeys(STRENGTHS, (0.5, 0.5, 0.5))
    found = only(three(tmp_path / "study", alike))
    made = answer(found, "faces")
    assert made is not None
    first = headline(found, "faces")[0]
    assert made.wins == first.startswith("Transfer from")
    for contrast in made.noise:
        assert contrast.difference.low <= 0
        assert contrast.b in first
    if not made.wins:
        assert first.startswith("No single winner")


class Drawn:
    """Outcomes of probes that all guess, of 150 images."""

    subjects = np.arange(150)

    def __init__(self, names: list[tuple[str, str, str]], seed: int) -> None:
        right_ = np.random.default_rng(seed).random((len(names), 150)) < 0.5
        self.values = dict(zip(names, right_.astype(np.float64), strict=True))

    def has(self, *names: tuple[str, str, str]) -> bool:
        return all(name in self.values for name in names)

    def correct(self, name: tuple[str, str, str]) -> Floats:
        return self.values[name]

    def alike(self, *_names: tuple[str, str, str]) -> bool:
        return True

    def wider(self, *_names: tuple[str, str, str]) -> float:
        """These guess independently of each other, unlike probes that were trained: see test_headline."""
        return 1.0


def test_a_winner_among_guesses_is_named_in_one_study_of_twenty(study: Study) -> None:
    """200 studies of two backbones that guess, one probe each; at most 5 % and three errors of it.

    More probes or backbones make it rarer: a winner must be ahead of the best of every other.

    Measured: a winner in 13 of 200.
    """
    found = only(study)
    two = tuple(b for b in found.best if "random" not in b.backbone and b.method == "ridge")
    found = replace(found, best=two)
    names = [best.rows[0].stored[1:] for best in found.best]
    wins = 0
    for seed in range(200):
        drawn = Drawn(names, seed)
        best = tuple(
            replace(b, metrics={"accuracy": accuracy_interval(drawn.correct(name), drawn.subjects)})
            for b, name in zip(found.best, names, strict=True)
        )
        made = answer(replace(found, best=best, outcomes=drawn), None)  # type: ignore[arg-type]
        assert made is not None
        wins += made.wins
    assert wins / 200 <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 200)


def test_gap_sentences_equal_the_predictions(study: Study) -> None:
    near, far = (
        np.stack([right(study, b, f"l{i}", "ridge") for i in range(3)], 1) for b in ("near", "far")
    )
    gap = (near - far).mean(0)
    (sentence,) = (s for s in findings(only(study)) if "ridge, domain gap near − far" in s)
    assert f"{100 * gap[0]:+.1f} points at l0, {100 * gap[2]:+.1f} at l2" in sentence
    slope = np.polyfit([0.25, 0.5, 1.0], 100 * gap, 1)[0]
    assert f"(slope {slope:+.1f} [" in sentence


def read(study: Study, name: str) -> list[dict[str, str]]:
    with (study.folder / "report" / f"{name}.csv").open() as file:
        return list(csv.DictReader(file))


def test_class_confusion_and_subgroup_tables_equal_scikit_learns(study: Study) -> None:
    report(study)
    y = study.labels("age")
    for name in STRENGTHS:
        told = said(study, name, BEST, "knn")
        mine = [r for r in read(study, "classes") if (r["backbone"], r["method"]) == (name, "knn")]
        precision, recall, f1, n = precision_recall_fscore_support(y, told, zero_division=0)
        assert [int(r["images"]) for r in mine] == n.tolist()
        for column, wanted in (("recall", recall), ("precision", precision), ("f1", f1)):
            assert [float(r[column] or 0) for r in mine] == pytest.approx(wanted, abs=1e-5)
        cells = [int(r["images"]) for r in read(study, "confusion")
                 if (r["backbone"], r["method"]) == (name, "knn")]  # fmt: skip
        assert cells == confusion_matrix(y, told).ravel().tolist()
        sexes = np.array(study.columns["sex"])
        for row in read(study, "subgroups"):
            if (row["backbone"], row["method"]) == (name, "knn"):
                here = sexes == row["group"]
                assert row["column"] == "sex"
                assert int(row["images"]) == here.sum()
                interval = accuracy_interval((told == y)[here].astype(float), study.subjects[here])
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


def test_cost_is_what_the_features_take(study: Study) -> None:
    report(study)
    rows = read(study, "cost")
    assert len(rows) == 9
    assert {int(row["bytes"]) for row in rows} == {180 * 6 * 4}
    assert {(row["dim"], row["images"]) for row in rows} == {("6", "180")}


def test_a_subgroup_that_is_not_there(study: Study) -> None:
    with pytest.raises(InputError, match="--by sexx: no such column"):
        report(study, by=["sexx"])


def test_json_holds_the_same_numbers(study: Study) -> None:
    result = CliRunner().invoke(app, ["report", "--study", str(study.folder), "--json"])
    assert result.exit_code == 0
    data = json.loads(result.stdout)
    (task,) = data["tasks"]
    (found,) = curves(study)
    assert task["answer_words"] == headline(found, "faces")
    assert task["answer"]["leader"]["accuracy"]["value"] == pytest.approx(
        found.best[0].accuracy.value
    )
    panel = next(p for p in task["panels"] if p["method"] == "ridge")
    curve = next(c for c in panel["curves"] if c["backbone"] == "near")
    wanted = [right(study, "near", f"l{i}", "ridge").mean() for i in range(3)]
    assert [p["accuracy"]["value"] for p in curve["points"]] == pytest.approx(wanted)
    assert len(data["tables"]["folds"]) == len(results.read(study.folder / "results.csv"))


# Pieces that are missing.


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
    study = three(tmp_path / "study")
    rows = [r for r in results.read(study.folder / "results.csv") if r.method == "ridge"]
    results.write(study.folder / "results.csv", rows)
    (study.folder / "predictions.h5").unlink()
    (found,) = report(study.folder).tasks
    folds = [r.accuracy for r in rows if (r.backbone, r.layer) == ("near", "l2")]
    point = found.panels[0].curves[0].points[2]
    assert point.accuracy.value == pytest.approx(np.mean(folds))
    assert np.isnan(point.accuracy.low)
    assert found.majority is None
    assert any("predictions.h5 lacks" in sentence for sentence in findings(found))
    result = CliRunner().invoke(app, ["report", "--study", str(study.folder), "--json"])
    assert json.loads(result.stdout)["tasks"][0]["majority"] is None


def test_features_that_are_gone_leave_a_report_of_results(tmp_path: Path) -> None:
    study = three(tmp_path / "study")
    for name in STRENGTHS:
        study.feature_path(name).unlink()
    (found,) = report(study.folder).tasks
    assert found.panels[0].gaps == ()
    assert len(found.best) == 6


# Fine-tunes, and the logs of Yosinski et al. 2014.

# github.com/yosinski/convnet_transfer: final test accuracies in its training logs, by the layer through
# which a network was copied. Random halves of ImageNet (means of 4 and 8 runs of BnB and AnB), and man-made
# against natural classes in both directions; the base is training from scratch.
DEPTH = 7
HALVES = {
    "scratch": [0.6245],
    "frozen B": [0.6262, 0.6228, 0.6203, 0.6041, 0.5933, 0.6185, 0.6229],
    "frozen A": [0.6275, 0.6233, 0.6183, 0.5994, 0.5777, 0.5804, 0.5419],
    "copied B": [0.6166, 0.6214, 0.6303, 0.6284, 0.6292, 0.6274, 0.6263],
    "copied A": [0.6364, 0.6347, 0.6421, 0.6394, 0.6443, 0.6455, 0.6457],
}
NATURAL = {
    "scratch": [0.5352],
    "frozen man-made": [0.5375, 0.5209, 0.4997, 0.4609, 0.4083, 0.3728, 0.2898],
}
MANMADE = {
    "scratch": [0.6531],
    "frozen natural": [0.6566, 0.6494, 0.6244, 0.5811, 0.5196, 0.4828, 0.3964],
}


def yosinski(folder: Path) -> Study:
    """Their numbers as rows of results.csv; no features and no predictions."""
    logs = {"random half": HALVES, "natural": NATURAL, "man-made": MANMADE}
    studies.begin(folder, {task: np.arange(20) % 10 for task in logs})
    rows = []
    for task, runs in logs.items():
        for run, values in runs.items():
            method, _, name = run.partition(" ")
            for i, value in enumerate(values):
                layer = f"conv{i + 1}" if i < 5 else f"fc{i + 1}"
                rows.append(
                    Row(
                        backbone=name or "base", domain=name or "task", task=task, method=method,
                        layer=layer if name else "", depth=(i + 1) / 8 if name else 0.0, fold=0,
                        accuracy=value, balanced_accuracy=value, macro_f1=value, n_test=25_000,
                        n_train=640_000, protocol="yosinski",
                    )
                )  # fmt: skip
    results.write(folder / "results.csv", rows)
    return open_study(folder)


def test_the_logs_of_yosinski_give_their_figure(tmp_path: Path) -> None:
    study = yosinski(tmp_path / "study")
    made = report(study)
    by_task = {task.task: task for task in made.tasks}
    drawn = {(c.method, c.backbone): c for c in by_task["random half"].tuned}
    at = {key: [p.accuracy.value for p in c.points] for key, c in drawn.items()}
    # Their order at the last layer: copied and tuned above all, the selffer, the base, frozen transfer.
    last = {key: values[-1] for key, values in at.items()}
    assert sorted(last, key=lambda key: -last[key]) == [
        ("copied", "A"), ("copied", "B"), ("scratch", "base"), ("frozen", "B"), ("frozen", "A"),
    ]  # fmt: skip
    assert at["frozen", "B"][4] < at["frozen", "B"][0] < at["copied", "A"][0]  # co-adaptation
    drops = {}
    for task in made.tasks:
        for sentence in findings(task):
            found = re.search(
                r"frozen through .*; through fc7: .*?, ([+-][\d.]+) points against", sentence
            )
            if found and not sentence.startswith("B "):
                drops[task.task] = float(found[1])
    assert drops == {"random half": -8.3, "natural": -24.5, "man-made": -25.7}
    for stem in ("random_half", "natural", "man-made"):
        assert (made.folder / f"tuned-{stem}.svg").is_file()
    charts = {c.task: c for s in made.contents.tasks for c in s.charts if c.metric == "accuracy"}
    line = next(x for x in charts["random half"].lines if x.name == "frozen A")
    assert [p[2] for p in line.points] == HALVES["frozen A"]
    assert "No probe has been fitted" in made.contents.tasks[0].answer[0]


def test_what_fine_tuning_adds_and_scratch_lacks(tmp_path: Path) -> None:
    study = three(tmp_path / "study")
    rows = results.read(study.folder / "results.csv")
    base = [r for r in rows if (r.backbone, r.layer, r.method) == ("near", "l2", "ridge")]
    more = [
        replace(row, method=method, backbone=name, domain=domain, layer="", depth=0.0, pool="",
                accuracy=min(1.0, row.accuracy + change))
        for row in base
        for method, name, domain, change in (
            ("finetune", "near", "faces", 0.05), ("scratch", "small", "task", -0.2),
        )
    ]  # fmt: skip
    results.write(study.folder / "results.csv", [*rows, *more])
    found = only(open_study(study.folder))
    made = answer(found, "faces")
    assert made is not None
    assert made.tuning is not None
    assert made.scratch is not None
    lead = max(b.accuracy.value for b in found.best)
    tuned = np.mean([row.accuracy for row in more if row.method == "finetune"])
    assert made.tuning.difference.value == pytest.approx(tuned - lead)
    text = " ".join(headline(found, "faces"))
    assert f"{100 * (tuned - lead):+.1f} points" in text
    assert "from scratch: near over scratch of small" in text


# The literature.


def test_the_literature_stands_beside_a_study_of_adience_alone() -> None:
    table = literature_table("adience:/data", ())
    assert table is not None
    ozbulak = next(row for row in table.rows if "zbulak" in str(row[0]))
    assert table.cells(ozbulak)[2:5] == ["57.9", "", ""]
    gilnet = next(row for row in table.rows if "GilNet, 10 crops" in str(row[0]))
    assert table.cells(gilnet)[2:5] == ["50.7", "84.7", "86.8"]
    assert all(p.source for p in ADIENCE)
    assert literature_table("utkface:/data", ()) is None
