"""A study made by version 0.1.0 before folders became wings: it opens, and says what it said then.

`tests/kept/study.tar.xz` was made on the built-in sample, and `study.json` holds what was then printed:

    probe extract -b sample-faces -l fc6 -l fc7 --data sample --limit 60 --view flip \\
        --dtype float16 --compress gzip
    probe extract -b sample-objects -l fc7 --limit 60 --compress gzip
    probe fit -p ridge -t coin -b sample-faces --view flip --shots 2 --draws 2
    probe fit -p logistic -p svm -t age -t coin
    probe finetune -b sample-faces -t coin --freeze-through fc6 --epochs 1 --patience 0 \\
        --view center --batch-size 16
    probe rank
"""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from cli.app import app
from features.data import read_data
from features.study.study import open_study
from probe.finetuning import history
from probe.finetuning.finetune import finetune
from probe.fitting.fit import fit
from probe.results import csv_records, predictions
from probe.results import rows as results
from probe.results.ledger import Ledger
from probe.results.protocol import mark
from probe.scoring import score_files
from probe.training.recipes import DEFAULT, recipe

pytestmark = pytest.mark.usefixtures("svg_alone")

KEPT = Path(__file__).parent.parent / "kept"
SAID = json.loads((KEPT / "study.json").read_text())

SAFE: dict[str, Any] = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
"""The first Python 3.11 knows no filter, and a later one asks for it."""


@pytest.fixture
def study(tmp_path: Path) -> Path:
    with tarfile.open(KEPT / "study.tar.xz") as packed:
        packed.extractall(tmp_path, **SAFE)
    return tmp_path / "study"


def printed(*words: str) -> Any:
    done = CliRunner().invoke(app, [*words, "--json"])
    assert done.exit_code == 0, done.stderr
    return json.loads(done.stdout)


def assert_contains(now: Any, then: Any) -> None:
    """Every value of `then` stands in `now`, numbers within the last digits.

    But for the ends of intervals: these count since then what training on other images would change.
    """
    if isinstance(then, dict) and {"value", "low", "high"} <= then.keys():
        assert now["value"] == pytest.approx(then["value"], rel=1e-9, abs=1e-12)
        assert (now["low"] is None) == (then["low"] is None)
        assert now["low"] is None or now["low"] <= now["value"] <= now["high"]
    elif isinstance(then, dict):
        for name, value in then.items():
            assert_contains(now[name], value)
    elif isinstance(then, list):
        assert len(now) == len(then)
        for mine, theirs in zip(now, then, strict=True):
            assert_contains(mine, theirs)
    elif isinstance(then, float):
        assert now == pytest.approx(then, rel=1e-9, abs=1e-12)
    else:
        assert now == then


def test_its_status_and_comparison_are_the_same(study: Path) -> None:
    assert_contains(printed("status", "--study", str(study))["features"], SAID["status"])
    names = ("sample-faces/fc7/logistic", "sample-objects/fc7/logistic")
    compared = printed("compare", *names, "--study", str(study), "--task", "coin")
    assert_contains(compared, SAID["compare"])


def test_its_report_says_the_same(study: Path) -> None:
    tasks = printed("report", "--study", str(study))["tasks"]
    for now, then in zip(tasks, SAID["tasks"], strict=True):
        assert_contains(now, {k: v for k, v in then.items() if k != "curves"})
        curves = [
            {
                "method": panel["method"],
                "backbone": curve["backbone"],
                "layers": [point["layer"] for point in curve["points"]],
                "accuracy": [point["accuracy"] for point in curve["points"]],
            }
            for panel in now["panels"]
            for curve in panel["curves"]
        ]
        assert_contains(curves, then["curves"])


def with_new_columns(text: str) -> str:
    """results.csv of before as it is written now: columns that came since are last, and empty."""
    header, *lines = text.splitlines()
    now = ",".join(csv_records.columns(results.Row))
    assert now.startswith(header + ",")
    more = "," * now.removeprefix(header).count(",")
    return "\n".join([now, *(line + more for line in lines), ""])


def test_fitted_again_it_keeps_all_rows(study: Path) -> None:
    before = (study / "results.csv").read_text()
    done = fit(study, probes=("logistic", "svm"), tasks=("age", "coin"))
    assert (done.fitted, done.kept) == (0, 12)
    more = {"views": ("flip",), "shots": (2,), "draws": 2}
    done = fit(study, backbones=("sample-faces",), probes=("ridge",), tasks=("coin",), **more)
    assert (done.fitted, done.kept) == (0, 8)
    after = (study / "results.csv").read_text()
    assert sorted(after.splitlines()[1:]) == sorted(with_new_columns(before).splitlines()[1:])


def test_its_ledger_holds_every_result_whole(study: Path) -> None:
    ledger = Ledger(study)
    stored = {row.stored for row in ledger.rows}
    assert len(stored) == 35
    for key, made in predictions.read_all(study / "predictions", list(stored)).items():
        assert ledger.holds(key, made.protocol, range(5), made.features)
        assert {row.protocol for row in ledger.rows_of(key)} == {mark(made.protocol)}


def test_its_tables_are_written_as_they_were(study: Path) -> None:
    before = {path.name: path.read_bytes() for path in study.glob("*.csv")}
    results.write(study / "results.csv", results.read(study / "results.csv"))
    lines = history.read(study / "training.csv")
    assert len(lines) == 5
    history.add(study / "training.csv", lines)
    history.add(study / "training.csv", [])
    opened = open_study(study)
    scores, missing = score_files.read(opened)
    assert (len(scores), missing) == (9, [])
    score_files.write(opened, scores, *score_files.read_alike(opened))
    before["results.csv"] = with_new_columns(before["results.csv"].decode()).encode()
    assert {path.name: path.read_bytes() for path in study.glob("*.csv")} == before


def test_fine_tuned_again_it_keeps_the_result(study: Path) -> None:
    settings = study / "study.toml"
    root = read_data("sample").root
    settings.write_text(settings.read_text().replace("/tmp/before-home/sample-1", str(root)))
    asked = recipe(DEFAULT, epochs=1, patience=0, batch_size=16)
    more = {"freeze_through": ["fc6"], "views": ("center",), "recipe": asked, "device": "cpu"}
    done = finetune(study, "sample-faces", tasks=["coin"], **more)
    assert (done.trained, done.kept, len(done.rows)) == (0, 1, 5)
