"""How often the headline names a winner where there is none, counted over the real command line."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import studies
from typer.testing import CliRunner

from cli.app import app

pytestmark = pytest.mark.usefixtures("svg_alone")

PEOPLE, EACH, DIM = 60, 4, 8


def null_study(folder: Path, seed: int, apart: float) -> None:
    """Two backbones of two layers, alike in what they know of the labels: `apart`, or nothing.

    240 images of 60 people who share a part of their features; the label is a person's own in every
    other study, else an image's.
    """
    drawn = np.random.default_rng([seed, 11])
    people = np.repeat(np.arange(PEOPLE), EACH)
    n = len(people)
    y = drawn.integers(0, 2, PEOPLE)[people] if seed % 2 else drawn.integers(0, 2, n)
    study = studies.begin(folder, {"label": y.tolist()}, subject=people.tolist())
    for name in ("one", "other"):
        layers = {}
        for layer in ("low", "high"):
            own = drawn.standard_normal((PEOPLE, DIM))[people]
            x = own + drawn.standard_normal((n, DIM))
            x[:, 0] += apart * (2 * y - 1)
            layers[layer] = x.astype(np.float32)
        studies.add(study, name, layers)


def run(*words: str) -> str:
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    return done.stdout


def wins(folder: Path, seed: int, apart: float) -> bool:
    null_study(folder, seed, apart)
    run("fit", "--study", str(folder))
    (task,) = json.loads(run("report", "--study", str(folder), "--json"))["tasks"]
    words = task["answer_words"]
    won = any(sentence.startswith("Transfer from") for sentence in words)
    assert task["answer"]["wins"] or not won, words
    return won


@pytest.mark.parametrize("seed", [17, 80, pytest.param(64, marks=pytest.mark.slow)])
def test_no_winner_where_images_alone_would_name_one(tmp_path: Path, seed: int) -> None:
    """With errors between images alone, each of these studies of equals would have a winner."""
    assert not wins(tmp_path, seed, 0.8)


@pytest.mark.slow
@pytest.mark.parametrize("apart", [0.0, 0.8])
def test_a_winner_is_seldom_named_among_equals(
    tmp_path: Path, apart: float, record_property: Any
) -> None:
    """Winners: 2 and 1 of 200. With errors between images alone they were 8 and 15."""
    won = 0
    for seed in range(200):
        won += wins(tmp_path / str(seed), seed, apart)
    record_property("winners", won)
    print(f"\napart by {apart}: a winner in {won} of 200 studies of equals")
    assert won <= 10
