"""`probe finetune` from the command line: its words, its errors, killed from outside."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from brighthalves import rows_of, write_data
from safetensors.torch import load_file
from typer.testing import CliRunner

from cli.app import app
from probe.finetuning import history
from probe.results import predictions
from probe.results.rows import read


def run(*words: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["finetune", "--device", "cpu", *words])
    return done.exit_code, done.stderr


def test_command(tmp_path: Path, card: str, data: str) -> None:
    study = tmp_path / "study"
    words = ["finetune", "--study", str(study), "-b", card, "--data", data, "-t", "side", "--json"]
    words += ["--freeze-through", "all", "--epochs", "1", "--patience", "0", "--device", "cpu"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert {r["layer"] for r in json.loads(done.stdout)["rows"]} == {
        "pixels",
        "conv",
        "act",
        "pool",
        "fc",
    }
    done = CliRunner().invoke(app, words)
    assert "0 networks trained" in done.stderr
    assert "5 results kept from before" in done.stderr


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--freeze-through", "cnv"], 3, "error: tiny has no layer cnv; did you mean conv"),
        (["-t", "sidd"], 3, "error: --task sidd: there is no such label column; did you mean side"),
        (["--recipe", "x"], 2, "Error: Invalid value for '--recipe': x: not a recipe; choose from"),
        (["--views", "11crop"], 2, "error: --view 11crop: not a view; did you mean 10crop"),
        (["--accumulate", "0"], 2, "error: --accumulate 0"),
        (["--precision", "amp"], 3, "error: --precision amp: mixed precision is for a GPU"),
        (
            ["--precision", "fp16"],
            3,
            "error: --precision fp16: needs a GPU; on a processor use float32",
        ),
        (["--precision", "int8"], 2, "error: --precision int8: not a precision; use auto, float32"),
        (["--keep-above"], 2, "error: --keep-above: goes with a cut, and none is given"),
        (["--rate", "1e35", "-t", "side"], 4, "error: the loss became NaN or infinite in epoch "),
    ],
)
def test_errors_are_one_sentence(
    tmp_path: Path, card: str, data: str, words: list[str], code: int, message: str
) -> None:
    study = tmp_path / "study"
    exit_code, stderr = run("--study", str(study), "-b", card, "--data", data, *words)
    assert exit_code == code
    assert stderr.splitlines()[-1].startswith(message)
    assert code == 4 or not study.exists()


def test_epochs_go_to_tensorboard(
    tmp_path: Path, card: str, data: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["--study", str(tmp_path / "s"), "-b", card, "--data", data, "-t", "side"]
    words += ["--epochs", "2", "--patience", "2", "--views", "center"]
    words += ["--tensorboard", str(tmp_path / "board")]
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "torch.utils.tensorboard", None)
        code, stderr = run(*words)
    assert code == 3
    assert "the package tensorboard is not installed; run `pip install" in stderr.splitlines()[-1]
    assert not (tmp_path / "s").exists()
    loading = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    assert run(*words)[0] == 0
    for line in history.read(tmp_path / "s" / "training.csv"):
        stage = line.stage if line.stage == "whole" else f"inner-{line.rate:g}"
        folder = tmp_path / "board" / f"tiny@side-finetune-fold{line.fold}-{stage}"
        board = loading.EventAccumulator(str(folder))
        board.Reload()
        scalars = {(e.step): e.value for e in board.Scalars("loss")}
        assert scalars[line.epoch.epoch + 1] == pytest.approx(line.epoch.loss, rel=1e-4)
        assert ("inner_loss" in board.Tags()["scalars"]) == (line.stage == "inner")


NORMED = """
name = "normed"
domain = "d"
network = "./normed.py:build"
[input]
size = [8, 8]
[layers]
norm = "1"
"""
BUILD = """
from torch import nn
def build():
    return nn.Sequential(nn.Conv2d(3, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(72, 5))
"""


@pytest.mark.parametrize(
    "words", [["--batch-size", "1"], ["--batch-size", "4", "--accumulate", "4"]]
)
def test_batches_of_one_are_refused_with_a_batch_norm_that_learns(
    tmp_path: Path, data: str, words: list[str]
) -> None:
    (tmp_path / "normed.py").write_text(BUILD)
    (tmp_path / "normed.toml").write_text(NORMED)
    words = [*words, "-b", str(tmp_path / "normed.toml"), "--data", data, "--weights", "random"]
    words += ["-t", "side", "--epochs", "1", "--patience", "0", "--study", str(tmp_path / "s")]
    code, stderr = run(*words)
    assert code == 3
    message = stderr.splitlines()[-1]
    assert message.startswith("error: --batch-size ")
    assert "the batch norm 1 needs two images or more at a time, and gets 1" in message
    assert not (tmp_path / "s").exists()
    assert run(*words, "--freeze-through", "norm")[0] == 0


def test_a_class_in_one_fold_only_is_said(tmp_path: Path, card: str) -> None:
    other = write_data(tmp_path / "d", other={0: "both", 6: "both"})
    words = ["-b", card, "--data", str(other), "-t", "side", "--epochs", "1", "--patience", "0"]
    exit_code, stderr = run("--study", str(tmp_path / "s"), *words)
    assert exit_code == 0
    assert "side: all images of the class 'both' are in one fold" in stderr
    rows = read(tmp_path / "s" / "results.csv")
    result = next(row for row in rows if row.fold == 0 and row.method == "finetune")
    stored = predictions.read(tmp_path / "s" / "predictions", result.stored)
    assert stored.fold[[0, 6]].tolist() == [-1, -1]
    assert result.n_test == int((stored.fold == 0).sum()) > 0


def test_a_backbone_without_weights_cannot_be_trained(tmp_path: Path, data: str) -> None:
    exit_code, stderr = run("--study", str(tmp_path / "s"), "-b", "control:pixels", "--data", data)
    assert exit_code == 3
    assert "has no weights that could be trained" in stderr


@pytest.mark.slow
def test_killed_from_outside_at_twenty_moments(tmp_path: Path, card: str, data: str) -> None:
    """SIGKILL, again and again, until the run is through: weights and scores of a run left alone."""
    words = [sys.executable, "-c", "from cli.app import main; main()", "finetune", "-b", card]
    words += ["--data", data, "-t", "side", "--device", "cpu", "--epochs", "30", "--patience", "30"]
    words += ["--batch-size", "8", "--save"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    whole = tmp_path / "whole"
    started = time.monotonic()
    subprocess.run([*words, "--study", str(whole)], env=environment, check=True)
    seconds = time.monotonic() - started
    (row, *_) = rows_of(whole)
    scores = predictions.read(whole / "predictions", row.stored).scores
    kills, number, chance, resumed = 0, 0, np.random.default_rng(0), 0
    while kills < 20:
        study = tmp_path / str(number)
        for _ in range(3):
            with subprocess.Popen([*words, "--study", str(study)], env=environment) as process:
                time.sleep(seconds * chance.uniform(0.3, 0.95))
                process.send_signal(signal.SIGKILL)
            kills += process.returncode == -signal.SIGKILL
        resumed += any((study / "training").rglob("fold-*"))
        subprocess.run([*words, "--study", str(study)], env=environment, check=True)
        again = predictions.read(study / "predictions", row.stored).scores
        np.testing.assert_array_equal(again, scores)
        for fold in range(3):
            name = f"networks/tiny@side-finetune-fold{fold}.safetensors"
            first, other = load_file(whole / name), load_file(study / name)
            assert first.keys() == other.keys()
            assert all(torch.equal(first[key], other[key]) for key in first)
        number += 1
        assert number < 40
    assert resumed  # some were killed amid training, not only before or after
