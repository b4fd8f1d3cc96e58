"""Features for other programs: what every format holds is what the study holds."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from studies import add, begin
from typer.testing import CliRunner

from cli.app import app
from features.errors import InputError, OptionError
from features.study.study import Study
from probe.exported.features_file import export_features
from probe.folds.make_splits import make_splits

N = 24


@pytest.fixture
def study(tmp_path: Path) -> Study:
    """Two tasks, one row that is not in use and one that could not be read."""
    labels = {
        "tone": ["dark", "bright"] * (N // 2),
        "hue": ["", "red", "blue", "red"] + ["blue", "red"] * (N // 2 - 2),
    }
    people = [f"p{i // 2}" for i in range(N)]
    use = ["0" if i == 5 else "1" for i in range(N)]
    made = begin(tmp_path / "study", labels, subject=people, use=use)
    x = np.random.default_rng(0).standard_normal((N, 3)).astype(np.float32)
    add(made, "net", {"low": x, "high": x[:, :2] + 1}, refused=[7])
    return made


def wanted(study: Study) -> tuple[Any, dict[str, Any]]:
    rows = np.array([i for i in range(N) if i not in (5, 7)])
    with study.features("net") as file:
        done = file.status == 1
        found: dict[str, Any] = {f"features.{key}": file[key][rows] for key in ("low", "high")}
    for task in ("tone", "hue"):
        found[f"label.{task}"] = [study.columns[task][row] for row in rows]
        found[f"fold.{task}"] = make_splits(study, study.tasks[task], done, None, 0).fold[rows]
    found["subject"] = [study.columns["subject"][row] for row in rows]
    found["path"] = [study.paths[row] for row in rows]
    return rows, found


def test_npz_holds_rows_in_use_with_labels_subject_and_fold(study: Study) -> None:
    file, table = export_features(study, "net", format="npz")
    assert file == study.folder / "net.npz"
    rows, known = wanted(study)
    with np.load(file, allow_pickle=False) as held:
        assert set(held.files) == {"row", *known}
        np.testing.assert_array_equal(held["row"], rows)
        for name, values in known.items():
            np.testing.assert_array_equal(held[name], values)
    assert len(table) == N - 2


def test_parquet_holds_the_same(study: Study, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    file, _ = export_features(study, "net", ["high"], out=tmp_path / "x.parquet")
    held = parquet.read_table(file)
    _, known = wanted(study)
    assert "features.low" not in held.column_names
    np.testing.assert_array_equal(held["features.high"].to_pylist(), known["features.high"])
    assert held["label.hue"].to_pylist() == [text or None for text in known["label.hue"]]
    assert held["fold.hue"].to_pylist() == known["fold.hue"].tolist()
    assert held.schema.metadata[b"backbone"] == b"net"


def test_safetensors_hold_numbers_and_their_names(study: Study) -> None:
    file, _ = export_features(study, "net", format="safetensors")
    _, known = wanted(study)
    with safe_open(file, "np") as held:
        about = json.loads(held.metadata()["about"])
        names = about["classes"]["label.hue"]
        told = [names[i] if i >= 0 else "" for i in held.get_tensor("label.hue")]
        assert told == known["label.hue"]
        people = [about["subjects"][i] for i in held.get_tensor("subject")]
        assert people == known["subject"]
        assert about["paths"] == known["path"]
        np.testing.assert_array_equal(held.get_tensor("features.low"), known["features.low"])


def test_what_cannot_be_written_is_said(study: Study, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="not a format"):
        export_features(study, "net", format="csv")
    with pytest.raises(InputError, match="a folder where a file belongs"):
        export_features(study, "net", format="npz", out=tmp_path)
    with pytest.raises(InputError, match="no layer hihg; did you mean high"):
        export_features(study, "net", ["hihg"], format="npz")
    assert not (study.folder / "net.npz").exists()


def test_the_command_says_what_is_in_the_file(study: Study, tmp_path: Path) -> None:
    file = tmp_path / "net.npz"
    given = ["features", "export", "net", "--format", "npz", "--study", str(study.folder)]
    done = CliRunner().invoke(app, [*given, "--out", str(file)])
    assert done.exit_code == 0
    assert "22 rows of net; features.low 3, features.high 2" in done.output
    assert file.exists()


def test_what_is_no_class_of_the_task_is_empty(study: Study) -> None:
    hue = replace(study.tasks["hue"], classes=("red",))
    only = replace(study, tasks={"hue": hue})
    file, _ = export_features(only, "net", format="npz")
    with np.load(file) as held:
        assert set(held["label.hue"].tolist()) == {"", "red"}
