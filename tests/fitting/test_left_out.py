"""Columns that are no tasks, tasks that cannot be fitted and classes too small stop nothing else."""

from pathlib import Path

import numpy as np
import studies
from typer.testing import CliRunner

from cli.app import app
from features.study.study import open_study
from probe.fitting.fit import fit
from probe.results import predictions
from probe.results.rows import read


def begun(folder: Path) -> Path:
    y = np.arange(60) % 3
    labels = {
        "good": y,
        "side": ["left", "right"] * 30,
        "lone": ["x"] * 59 + ["y"],
        "few": ["p", "q", *[""] * 58],
        "name": [f"{i:02}.png" for i in range(60)],
        "same": ["z"] * 60,
    }
    study = studies.begin(folder, labels, subject=[0, 0, *range(1, 59)])
    studies.add(study, "net", {"fc": studies.signal(y, 4, 2.0)})
    return folder


def test_two_tasks_of_four_that_cannot_be_fitted_are_named(tmp_path: Path) -> None:
    folder = begun(tmp_path / "study")
    assert list(open_study(folder).tasks) == ["good", "side", "lone", "few"]
    done = CliRunner().invoke(app, ["fit", "--study", str(folder), "--probe", "ridge"])
    assert done.exit_code == 0, done.output
    for said in (
        "task name: all 60 values differ, so they are no classes; ",
        "task same: the data has only the class 'z'; ",
        "not fitted: task lone: all images of the class 'y' are in fold ",
        "not fitted: task few: all images are of one subject, ",
    ):
        assert done.stderr.count(said) == 1
    rows = read(folder / "results.csv")
    assert {row.task for row in rows} == {"good", "side"}
    assert np.mean([row.accuracy for row in rows if row.task == "good"]) > 0.5
    assert CliRunner().invoke(app, ["report", "--study", str(folder)]).exit_code == 0
    named = CliRunner().invoke(app, ["fit", "--study", str(folder), "--task", "lone"])
    assert named.exit_code == 3
    assert "error: task lone: all images of the class 'y'" in named.stderr


def test_rows_of_a_class_too_small_are_not_tested_and_the_rest_are(tmp_path: Path) -> None:
    y = np.arange(61) % 3
    labels = {"label": [*map(str, y[:-1]), "rare"]}
    study = studies.begin(tmp_path / "study", labels)
    studies.add(study, "net", {"fc": studies.signal(y, 4, 2.0)})
    words = ["fit", "--study", str(study.folder), "--probe", "logistic", "--probe", "knn"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    said = (
        "label: all images of the class 'rare' are in one fold, so nothing can be learnt about it"
    )
    assert f"{said} there; 1 image is left out of this task" in done.stderr
    for method in ("logistic", "knn"):
        stored = predictions.read(study.folder / "predictions", ("label", "net", "fc", method))
        assert stored.fold[-1] == -1
        assert (stored.fold[:-1] >= 0).all()
        assert np.isnan(stored.scores[-1]).all()
        assert stored.scores.shape == (61, 4)
        predicted = stored.scores[:-1].argmax(1)
        assert 3 not in predicted
        assert (predicted == y[:-1]).mean() > 0.8


def test_a_class_of_which_nothing_is_readable_is_named(tmp_path: Path) -> None:
    y = np.array(["cat", "dog"] * 20 + ["fox"] * 3)
    study = studies.begin(tmp_path / "study", {"label": y, "other": ["a", "b", "c"] * 14 + ["a"]})
    x = np.random.default_rng(0).standard_normal((43, 5)).astype(np.float32)
    studies.add(study, "net", {"fc": x}, refused=[40, 41, 42])
    said: list[str] = []
    fit(study.folder, probes=["ridge"], announce=said.append)
    (sentence,) = [sentence for sentence in said if "readable" in sentence]
    assert sentence.startswith("label: no image of the class 'fox' is readable and extracted")
