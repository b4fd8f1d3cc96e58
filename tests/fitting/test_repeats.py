"""Repeated cross-validation: folds drawn anew, and an image counted once however often it is tested."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import studies
from typer.testing import CliRunner

from cli.app import app
from features.errors import InputError
from features.study.study import Study
from probe.analysis.answer import answer
from probe.analysis.curves import curves
from probe.analysis.statistics import mean_interval
from probe.fitting.fit import fit
from probe.folds.make_splits import make_splits
from probe.reporting.report import report
from probe.reporting.tables.variations import repeats_table
from probe.results import predictions

pytestmark = pytest.mark.usefixtures("svg_alone")


@pytest.fixture
def study(tmp_path: Path) -> Study:
    """Thirty people of four images."""
    y = np.arange(120) % 3
    people = (np.arange(120) // 4).tolist()
    study = studies.begin(tmp_path / "study", {"label": y.tolist()}, subject=people)
    studies.add(study, "net", {name: studies.signal(y, 6, 0.7, ord(name)) for name in "ab"})
    studies.add(study, "toy", {"only": studies.signal(y, 6, 0.3, 9)})
    return study


def test_every_repeat_has_the_folds_of_a_seed_of_its_own(study: Study) -> None:
    done = fit(study.folder, probes=("ridge",), repeats=3, seed=4)
    assert done.fitted == 3 * 3
    y = study.labels("label")
    for repeat in range(3):
        wanted = make_splits(
            study, study.tasks["label"], np.ones(120, dtype=bool), None, 4 + repeat
        )
        mine = [r for r in done.rows if r.repeat == repeat and r.method == "ridge"]
        assert {(r.backbone, r.layer) for r in mine} == {
            ("net", "a"), ("net", "b"), ("net", "best"), ("toy", "only"), ("toy", "best"),
        }  # fmt: skip
        for row in mine:
            prediction = predictions.read(study.folder / "predictions", row.stored)
            np.testing.assert_array_equal(prediction.fold, wanted.fold)
            assert np.isfinite(prediction.scores).all()
            here = prediction.fold == row.fold
            assert row.accuracy == pytest.approx(prediction.correct(y)[here].mean())
    again = fit(study.folder, probes=("ridge",), repeats=3, seed=4)
    assert (again.fitted, again.kept, again.rows) == (0, 9, done.rows)


def test_repeats_of_an_image_are_one_value(study: Study) -> None:
    rows = fit(study.folder, probes=("ridge",), repeats=4).rows
    table = repeats_table(study, rows)
    assert table is not None
    lines = {(line[2], line[3]): line for line in table.rows}
    assert list(lines) == [
        ("net", "a"), ("net", "b"), ("toy", "only"), ("net", "best"), ("toy", "best"),
    ]  # fmt: skip
    for (backbone, layer), line in lines.items():
        names = ["ridge", *(f"ridge,repeat={r}" for r in range(1, 4))]
        file, y = study.folder / "predictions", study.labels("label")
        right = np.stack(
            [
                predictions.read(file, ("label", str(backbone), str(layer), name)).scores.argmax(1)
                == y
                for name in names
            ]
        )
        each = right.mean(1)
        wider = np.mean(
            [studies.wider(study, {(str(backbone), str(layer), name): 1}) for name in names]
        )
        wanted = mean_interval(right.mean(0), study.subjects, float(wider))
        assert line[5] == 4
        assert line[6] == pytest.approx(wanted.value)
        assert line[7] == pytest.approx((wanted.low, wanted.high))
        assert line[8:] == pytest.approx((each.std(ddof=1), each.min(), each.max()))
        assert isinstance(line[7], tuple)
        alone = mean_interval(right[0].astype(float), study.subjects, float(wider))
        assert line[7][1] - line[7][0] > 0.7 * (
            alone.high - alone.low
        )  # four times the images: 0.5
    assert (report(study).folder / "repeats.csv").is_file()


def test_the_answer_is_that_of_the_first(study: Study) -> None:
    fit(study.folder, probes=("ridge",))
    assert repeats_table(study, fit(study.folder, probes=("ridge",)).rows) is None
    before = [answer(task, None) for task in curves(study)]
    fit(study.folder, probes=("ridge",), repeats=2)
    assert [answer(task, None) for task in curves(study)] == before


@pytest.mark.parametrize("before", [{"seed": 1}, {"c": [1e-9]}, {"scale": "none"}, {"folds": 3}])
def test_repeats_of_other_settings_go(study: Study, before: dict[str, Any]) -> None:
    """A seed of one more has repeats on the same folds as this one's, which are no repeats of it."""
    fit(study.folder, probes=("ridge", "knn"), repeats=4, **before)
    rows = fit(study.folder, probes=("ridge",), repeats=2).rows
    repeats = {(r.method, r.layer, r.repeat) for r in rows if r.backbone == "net"}
    assert {repeat for method, _, repeat in repeats if method == "ridge"} == {0, 1}
    assert {repeat for method, _, repeat in repeats if method == "knn"} == {0, 1, 2, 3}
    table = repeats_table(study, [row for row in rows if row.method == "ridge"])
    (study.folder / "results.csv").unlink()
    shutil.rmtree(study.folder / "predictions")
    alone = fit(study.folder, probes=("ridge",), repeats=2).rows
    assert table == repeats_table(study, alone)
    assert len(fit(study.folder, probes=("ridge",), repeats=3).rows) > len(alone)
    more = fit(study.folder, probes=("ridge",))
    assert {r.repeat for r in more.rows} == {0, 1, 2}  # alike, so they stay
    assert more.fitted == 0


def test_the_command(study: Study) -> None:
    words = ["fit", "--study", str(study.folder), "-p", "ridge", "--repeats"]
    done = CliRunner().invoke(app, [*words, "2"])
    assert done.exit_code == 0
    (line,) = [
        text for text in done.stdout.splitlines() if text.startswith("label\tridge\tnet\ta\t")
    ]
    assert line.split("\t")[5] == "2"
    assert CliRunner().invoke(app, [*words, "0"]).exit_code == 2


@pytest.mark.parametrize("column", ["fold", "split"])
def test_folds_that_cannot_change_are_not_repeated(tmp_path: Path, column: str) -> None:
    own = [("test", "train")[i % 5 > 0] if column == "split" else i % 5 for i in range(60)]
    more: dict[str, Any] = {column: own}
    study = studies.begin(tmp_path / "study", {"label": [0, 1] * 30}, **more)
    studies.add(study, "net", {"fc": studies.signal(np.arange(60) % 2, 4, 1.0)})
    with pytest.raises(InputError, match="--repeats 2: toys comes with folds or a split"):
        fit(study.folder, probes=("ridge",), repeats=2)
    assert fit(study.folder, probes=("ridge",)).fitted == 1
