from pathlib import Path
from typing import Any

import numpy as np
import pytest
import studies
from typer.testing import CliRunner

from cli.app import app
from features.study import Study
from probe import predictions
from probe.fewshot import drawn, few_shot_table
from probe.fitting import fit
from probe.folds import make_splits
from probe.reporting import report
from probe.results import BEST


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
            made = drawn(splits, y, fold, shots, 0, 7)
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
        other = drawn(splits, y, fold, 5, 1, 7)
        assert seen[2] != set(other.training_rows(other.tested(0)).tolist())


def test_few_shots_of_every_probe(study: Study) -> None:
    probes = ("logistic", "svm", "ridge", "knn")
    done = fit(study.folder, probes=probes, shots=(1, 20), draws=3)
    assert done.fitted == 4 * (1 + 2 * 3)
    few = [row for row in done.rows if row.shots is not None]
    assert len(few) == 4 * (2 + 1) * 3 * 5  # one image per class chooses no layer
    assert {(r.shots, r.n_train) for r in few} == {(1, 3), (20, 60)}
    assert {r.selection is None for r in few if r.shots == 1} == {True}
    for row in few:
        found = predictions.read(study.folder / "predictions.h5", row.stored)
        here = found.fold == row.fold
        right = found.scores[here].argmax(1) == study.labels("label")[here]
        assert row.accuracy == pytest.approx(right.mean())
    table = few_shot_table(done.rows)
    assert table is not None
    for line in table.rows:
        shots = line[5]
        each = [
            np.mean([r.accuracy for r in few if (r.method, r.shots, r.draw) == (line[1], shots, d)])
            for d in range(3)
        ]
        assert line[6] == 3
        assert list(line[7:9]) == pytest.approx([np.mean(each), np.std(each, ddof=1)])
    mean = {(line[1], line[5]): line[7] for line in table.rows}
    assert all(mean[probe, 20] > mean[probe, 1] for probe in probes)  # type: ignore[operator]
    again = fit(study.folder, probes=probes, shots=(1, 20), draws=3)
    assert (again.fitted, again.kept, again.rows) == (0, done.fitted, done.rows)
    assert (report(study).folder / "shots.csv").is_file()


@pytest.mark.parametrize("before", [{"seed": 1}, {"c": [1e-9]}, {"folds": 3}])
def test_draws_of_other_settings_go(study: Study, before: dict[str, Any]) -> None:
    fit(study.folder, probes=("ridge",), shots=(2, 5), draws=3, **before)
    rows = fit(study.folder, probes=("ridge",), shots=(5,), draws=2).rows
    assert {(r.shots, r.draw) for r in rows if r.shots is not None} == {(5, 0), (5, 1)}
    for name in ("results.csv", "predictions.h5"):
        (study.folder / name).unlink()
    alone = fit(study.folder, probes=("ridge",), shots=(5,), draws=2).rows
    assert few_shot_table(rows) == few_shot_table(alone)
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
        found, its = (
            predictions.read(study.folder / "predictions.h5", r.stored) for r in (row, wanted)
        )
        here = found.fold == row.fold
        np.testing.assert_array_equal(found.scores[here], its.scores[here])
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
    assert [line.split("\t")[3:7] for line in lines] == [["best", "", "5", "2"]]
    assert CliRunner().invoke(app, [*words, "few"]).exit_code != 0
