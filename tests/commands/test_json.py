"""What `--json` prints is JSON as the standard has it, of every command that knows the option."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pictures
import pytest
import studies
import typer
from typer.testing import CliRunner

from cli.app import app
from cli.show import put_json
from features.machine.strict_json import to_json
from probe.analysis.statistics import Interval

pytestmark = pytest.mark.usefixtures("svg_alone")


def strictly(text: str) -> Any:
    """`text` read by a parser that knows no NaN."""
    return json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} in {text[:300]}"))


def knowing(group: typer.Typer) -> set[str]:
    """The commands that take --json."""
    found: set[str] = set()

    def walk(command: Any, *before: str) -> None:
        for name, inner in getattr(command, "commands", {}).items():
            walk(inner, *before, name)
        if any("--json" in option.opts for option in command.params):
            found.add(" ".join(before))

    walk(typer.main.get_command(group))
    return found


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """A study whose numbers are partly unknown: backbones alike at their best have no order."""
    y = np.arange(40) % 2
    made = studies.begin(tmp_path / "study", {"label": y})
    layers = {
        "zeros": np.zeros((40, 3), np.float32),
        "wide": np.eye(40, dtype=np.float32),
        "fc": studies.signal(y, 4, 1.0),
    }
    studies.add(made, "net", layers)
    for name in ("other", "third"):
        studies.add(made, name, {"fc": layers["fc"]})
    return made.folder


def test_every_command_prints_strict_json(study: Path, tiny_card: Any, tmp_path: Path) -> None:
    card = str(tiny_card())
    here, own = ("--study", str(study)), ("--study", str(tmp_path / "own"))
    for i in range(16):
        label = tmp_path / "images" / "ab"[i % 2]
        label.mkdir(parents=True, exist_ok=True)
        pictures.save(pictures.drawn(i, (40, 40)), label / f"{i}.jpg")
    data = ("--data", str(tmp_path / "images"))
    commands: dict[str, tuple[str, ...]] = {
        "backbones": (),
        "layers": (card,),
        "doctor": (),
        "weights list": (),
        "weights verify": (),
        "weights match": (str(Path(card).parent / "tiny.safetensors"), "-b", card),
        "data check": (*own, *data),
        "extract": ("-b", "control:pixels", *own, *data),
        "fit": ("--probe", "ridge", *here),
        "export": ("control:pixels/pixels/ridge", *own),
        "predict": (str(tmp_path / "own" / "label.probe"), str(tmp_path / "images")),
        "rank": here,
        "compare": ("net/fc/ridge", "other/fc/ridge", *here),
        "report": here,
        "status": ("--verify", *here),
        "finetune": ("-b", card, *own, "--from-scratch", "--epochs", "1",
                     "--patience", "0", "--folds", "2", "--views", "center"),
    }  # fmt: skip
    assert set(commands) == knowing(app)
    printed = {}
    for name, words in commands.items():
        if name == "export":  # of a study with images
            fitted = CliRunner().invoke(app, ["fit", "--probe", "ridge", "--folds", "2", *own])
            assert fitted.exit_code == 0, fitted.output
        done = CliRunner().invoke(app, [*name.split(), *words, "--json"])
        assert done.exit_code == 0, (name, done.output, done.exception)
        lines = done.stdout.splitlines() if name == "predict" else [done.stdout]
        printed[name] = [strictly(line) for line in lines][-1]  # predict prints a line per image
    orders = {line["over"]: line["tau"] for line in printed["rank"]["agreement"]}
    assert orders["layers"] is not None
    assert orders["backbones"] is None


def test_what_is_not_finite_is_null(capsys: pytest.CaptureFixture[str]) -> None:
    value = {
        "a": Interval(0.5, float("nan"), np.inf, 3.0),
        "b": (np.float64("-inf"), 0.0),
        "c": "NaN",
    }
    put_json(value)
    assert strictly(capsys.readouterr().out) == {
        "a": {"value": 0.5, "low": None, "high": None, "effective": 3.0},
        "b": [None, 0.0],
        "c": "NaN",
    }
    assert strictly(to_json({"y": [float("nan"), 1.0]})) == {"y": [None, 1.0]}
