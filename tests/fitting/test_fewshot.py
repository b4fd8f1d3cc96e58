import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import studies
from typer.testing import CliRunner

from cli.app import app
from features.study.study import Study
from probe.analysis.label_efficiency import few_images
from probe.fitting.few_shot import Draw, drawn
from probe.fitting.fit import fit
from probe.folds.make_splits import make_splits
from probe.reporting.report import report
from probe.reporting.tables.variations import few_shot_table
from probe.results import predictions
from probe.results.rows import BEST

pytestmark = pytest.mark.usefixtures("svg_alone")


@pytest.fixture
def study(tmp_path: Path) -> Study:
    y = (np.arange(120) % 3).tolist()
    study = studies.begin(tmp_path / "study", {"label": y})
    studies.add(study, "net", {"fc": studies.signal(np.array(y), 6, 1.5)})
    return study


def test_draws_are_nested_and_never_tested(study: Study) -> None:
    y = study.labels("label")
    splits = make_splits(study, study.tasks["label"], np.ones(len(y), dtype=bool), None, 0)
    for fold in splits.folds:
        test = splits.held_out_rows(splits.tested(fold))
        seen = []
        for shots in (1, 2, 5, 1000):
            made = drawn(splits, y, study.subjects, fold, Draw(shots, 0, 7))
            train = made.training_rows(made.tested(0))
            assert not set(train) & set(test)
            assert np.flatnonzero(made.fold == 0).tolist() == test.tolist()
            counts = np.bincount(y[train]).tolist()
            assert counts == [
                min(shots, int((y == c).sum() - (y[test] == c).sum())) for c in range(3)
            ]
            seen.append(set(train.tolist()))
            inner = list(made.inner(0))
            assert len(inner) == {1: 0, 2: 2}.get(shots, 3)
            for part, left_out in inner:
                away = set(np.flatnonzero(made.part == part).tolist())
                assert set(made.training_rows(left_out).tolist()) == seen[-1] - away
        assert seen[0] < seen[1] < seen[2] < seen[3]
        other = drawn(splits, y, study.subjects, fold, Draw(5, 1, 7))
        assert seen[2] != set(other.training_rows(other.tested(0)).tolist())


@pytest.mark.parametrize("shots", [2, 5, 30, 1000])
@pytest.mark.parametrize("mixed", [False, True])
def test_no_subject_both_trains_and_validates(tmp_path: Path, shots: int, mixed: bool) -> None:
    """Thirty people of twelve images, of one class each or with a few of another."""
    person = np.arange(360) // 12
    y = (person + (np.arange(360) % 5 == 0) * mixed) % 3
    study = studies.begin(tmp_path / "s", {"label": y.tolist()}, subject=person.tolist())
    splits = make_splits(study, study.tasks["label"], np.ones(360, dtype=bool), None, 0)
    for fold in splits.folds:
        for draw in range(5):
            made = drawn(splits, y, study.subjects, fold, Draw(shots, draw, 0))
            train = made.training_rows(made.tested(0))
            inner = list(made.inner(0))
            sizes = np.zeros((len(inner), 3), dtype=int)
            for part, left_out in inner:
                away, rest = np.flatnonzero(made.part == part), made.training_rows(left_out)
                assert not set(person[away]) & set(person[rest])
                assert sorted([*away, *rest]) == train.tolist()
                assert set(y[rest]) == {0, 1, 2}
                sizes[part] = np.bincount(y[away], minlength=3)
            if shots >= 30:
                assert len(inner) == 3
                assert sizes.sum() == len(train)
                assert (sizes.max(0) <= sizes.sum(0) / 2).all()


def test_a_subject_that_alone_shows_a_class_always_trains(tmp_path: Path) -> None:
    """Its class could be learnt from nothing else; where all are so, there is nothing to choose on."""
    person = np.arange(120) // 10  # in each half two of every class, but one alone of class 2
    y = np.array([0, 0, 1, 1, 2, 2] * 2)[person]
    person[(person == 5) | (person == 11)] -= 1
    own = np.arange(120) // 60
    study = studies.begin(
        tmp_path / "s", {"label": y.tolist()}, subject=person.tolist(), fold=own.tolist()
    )
    x = studies.signal(y, 5, 0.5)
    studies.add(study, "net", {"fc": x, "gc": x[:, :2]})
    splits = make_splits(study, study.tasks["label"], np.ones(120, dtype=bool), None, 0)
    made = drawn(splits, y, study.subjects, 0, Draw(20, 0, 0))
    parts = made.part[60:].reshape(6, 10)
    assert (parts == parts[:, :1]).all()
    assert sorted(parts[:4, 0]) == [0, 0, 1, 1]
    assert parts[0, 0] != parts[1, 0]
    assert (parts[4:] == 2).all()
    assert [part for part, _ in made.inner(0)] == [0, 1]
    one_each = person // 2  # and nobody else of any class
    assert not list(drawn(splits, y, one_each, 0, Draw(20, 0, 0)).inner(0))
    done = fit(study.folder, probes=("logistic", "ridge", "knn"), shots=(20,), draws=2)
    few = [row for row in done.rows if row.shots == 20]
    assert {row.selection is None for row in few} == {False}
    assert {row.layer for row in few} == {"fc", "gc", BEST}


def test_draws_that_validate_nothing_choose_no_layer(tmp_path: Path) -> None:
    """Of two people of a class a fold tests one, and the other is alone."""
    person = np.arange(80) // 20
    y = person % 2
    study = studies.begin(
        tmp_path / "s",
        {"label": y.tolist()},
        subject=person.tolist(),
        fold=(np.arange(80) // 40).tolist(),
    )
    x = studies.signal(y, 5, 0.5)
    studies.add(study, "net", {"fc": x, "gc": x[:, :2]})
    rows = fit(study.folder, probes=("logistic", "knn"), shots=(5,), draws=2).rows
    few = [row for row in rows if row.shots == 5]
    assert {(row.layer, row.selection) for row in few} == {("fc", None), ("gc", None)}
    assert few_shot_table(few_images(study, rows)) is not None


def test_few_shots_of_every_probe(study: Study) -> None:
    probes = ("logistic", "svm", "ridge", "knn")
    options: dict[str, Any] = {"shots": (1, 20), "draws": 2, "folds": 3, "c": (0.01, 0.1, 1.0)}
    done = fit(study.folder, probes=probes, **options)
    assert done.fitted == 4 * (1 + 2 * 2)
    few = [row for row in done.rows if row.shots is not None]
    assert len(few) == 4 * (2 + 1) * 2 * 3  # one image per class chooses no layer
    assert {(r.shots, r.n_train) for r in few} == {(1, 3), (20, 60)}
    assert {r.selection is None for r in few if r.shots == 1} == {True}
    for row in few:
        prediction = predictions.read(study.folder / "predictions", row.stored)
        here = prediction.fold == row.fold
        right = prediction.scores[here].argmax(1) == study.labels("label")[here]
        assert row.accuracy == pytest.approx(right.mean())
    table = few_shot_table(few_images(study, done.rows))
    assert table is not None
    for line in table.rows:
        shots = line[5]
        each = [
            np.mean([r.accuracy for r in few if (r.method, r.shots, r.draw) == (line[1], shots, d)])
            for d in range(2)
        ]
        assert line[7:9] == (shots, 2)
        assert [line[9], line[11]] == pytest.approx([np.mean(each), np.std(each, ddof=1)])
    mean = {(line[1], line[5]): line[9] for line in table.rows}
    assert all(mean[probe, 20] > mean[probe, 1] for probe in probes)  # type: ignore[operator]
    again = fit(study.folder, probes=probes, **options)
    assert (again.fitted, again.kept, again.rows) == (0, done.fitted, done.rows)
    assert (report(study).folder / "shots.csv").is_file()


@pytest.mark.parametrize("before", [{"seed": 1}, {"c": [1e-9]}, {"folds": 3}])
def test_draws_of_other_settings_go(study: Study, before: dict[str, Any]) -> None:
    fit(study.folder, probes=("ridge",), shots=(2, 5), draws=3, **before)
    rows = fit(study.folder, probes=("ridge",), shots=(5,), draws=2).rows
    assert {(r.shots, r.draw) for r in rows if r.shots is not None} == {(5, 0), (5, 1)}
    (study.folder / "results.csv").unlink()
    shutil.rmtree(study.folder / "predictions")
    alone = fit(study.folder, probes=("ridge",), shots=(5,), draws=2).rows
    assert few_shot_table(few_images(study, rows)) == few_shot_table(few_images(study, alone))
    more = fit(study.folder, probes=("ridge",), shots=(1,), draws=1).rows
    assert {r.shots for r in more} == {None, 1, 5}  # alike, so they stay


def test_the_layer_of_a_best_row_is_chosen_inside_the_draw(tmp_path: Path) -> None:
    """By inner score alone, fold by fold: other test features change no choice."""
    y = np.arange(120) % 3
    study = studies.begin(
        tmp_path / "study", {"label": y.tolist()}, fold=(np.arange(120) // 24).tolist()
    )
    layers = {name: studies.signal(y, 6, 0.5, seed) for seed, name in enumerate(("low", "high"))}
    studies.add(study, "net", layers)
    for name in layers:
        layers[name] = layers[name].copy()
        layers[name][96:] = studies.signal(y[96:], 6, 5.0 * (name == "low"), 9)  # the last fold
    studies.add(study, "other", layers)
    rows = fit(study.folder, probes=("ridge",), shots=(1, 4), draws=4).rows
    best = [r for r in rows if r.layer == BEST and r.shots is not None]
    assert {(r.backbone, r.shots, r.draw, r.fold) for r in best} == {
        (b, 4, d, f) for b in ("net", "other") for d in range(4) for f in range(5)
    }
    for row in best:
        by_layer = {
            r.layer: r
            for r in rows
            if r.layer != BEST
            and (r.backbone, r.shots, r.draw, r.fold)
            == (row.backbone, row.shots, row.draw, row.fold)
        }
        wanted = max(by_layer.values(), key=lambda r: r.selection or 0.0)
        assert (row.chosen, row.accuracy) == (wanted.layer, wanted.accuracy)
        prediction, its = (
            predictions.read(study.folder / "predictions", r.stored) for r in (row, wanted)
        )
        here = prediction.fold == row.fold
        np.testing.assert_array_equal(prediction.scores[here], its.scores[here])
    chosen = {
        b: [r.chosen for r in best if r.backbone == b and r.fold == 4] for b in ("net", "other")
    }
    assert chosen["net"] == chosen["other"]
    assert {r.chosen for r in best} == {"low", "high"}
    whole = {r.chosen for r in rows if r.layer == BEST and r.shots is None}
    assert whole <= {"low", "high"}


def test_the_command_shows_the_draws(study: Study) -> None:
    words = ["fit", "--study", str(study.folder), "-p", "ridge", "--draws", "2", "--shots"]
    done = CliRunner().invoke(app, [*words, "1,5"])
    assert done.exit_code == 0
    lines = [line for line in done.stdout.splitlines() if line.startswith("label\tridge\tnet\t")]
    assert [line.split("\t")[3:8] for line in lines] == [
        ["fc", "none", "", "1", "2"],
        ["best", "", "", "5", "2"],
    ]
    assert CliRunner().invoke(app, [*words, "few"]).exit_code != 0
