"""Fine-tunes on a number: the absolute error is what is learnt, and rows are in the column's unit."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from brighthalves import PLAIN, rows_of
from PIL import Image

from features.errors import InputError
from features.study.study import open_study
from probe.analysis.curves import curves
from probe.finetuning.finetune import finetune
from probe.results import predictions
from probe.training.recipes import recipe
from probe.training.setup import Goal

N = 36


def test_numbers_are_learnt_in_mean_distances_from_the_median_of_the_training_rows() -> None:
    numbers = np.array([[10.0], [20.0], [60.0], [np.nan], [1e6]])
    goal = Goal(np.array([[0], [0], [0], [-1], [0]]), (1,), numbers, (0,)).scaled_by(np.arange(4))
    assert goal.centre == (20.0,)
    assert goal.spread == ((10 + 0 + 40) / 3,)
    targets = goal.targets(np.array([0, 3, 2]))
    np.testing.assert_allclose(targets[:, 0], [-0.6, 0.0, 2.4], rtol=1e-6)


def test_a_fine_tune_predicts_a_number_in_its_unit(
    tmp_path: Path, tiny_card: Callable[..., Path]
) -> None:
    card = tiny_card("[8, 8]", "[8, 8]\nmean = [127.0, 127.0, 127.0]\nstd = [64.0, 64.0, 64.0]")
    (tmp_path / "data").mkdir()
    lines = ["path,light,half"]
    for row in range(N):
        light = 40 + 5 * row
        Image.new("RGB", (8, 8), (light, light, light)).save(tmp_path / "data" / f"{row}.png")
        lines.append(f"{row}.png,{'' if row == 7 else 1000 + light},{'ab'[row % 2]}")
    (tmp_path / "data" / "m.csv").write_text("\n".join(lines) + "\n")
    trained = recipe(
        "modern",
        epochs=40,
        patience=0,
        batch_size=8,
        rate=0.02,
        crop=False,
        mirror=False,
        colour=0.0,
    )
    made = finetune(
        tmp_path / "s", str(card), data=str(tmp_path / "data" / "m.csv"), tasks=["light:number"],
        weights="random", recipe=trained, folds=2, views=["center"],
    )  # fmt: skip
    rows = rows_of(tmp_path / "s", method="finetune", task="light")
    assert [row.fold for row in rows] == [0, 1]
    study = open_study(tmp_path / "s")
    assert study.tasks["light"].is_number
    (task,) = [task for task in curves(study) if task.task == "light"]
    assert task.floor is not None
    assert task.floor.metrics["mae"].value > 30
    (curve,) = task.tuned
    assert curve.points[0].metrics["mae"].value < 0.6 * task.floor.metrics["mae"].value
    stored = predictions.read(study.folder / predictions.STORE, rows[0].stored)
    here = stored.fold == rows[0].fold
    assert not here[7]
    off = stored.scores[here, 0] - study.numbers("light")[here]
    assert rows[0].mae == pytest.approx(np.abs(off).mean(), rel=1e-5)
    (summary,) = made.summary()
    assert summary.accuracy is None
    assert summary.mae is not None
    with pytest.raises(
        InputError, match="the head starts as a logistic probe, and light is a number"
    ):
        finetune(
            tmp_path / "s",
            str(card),
            tasks=["light:number"],
            recipe=PLAIN,
            probe_first=True,
            weights="random",
        )
