"""The head of a network that starts as the logistic probe."""

from pathlib import Path

import numpy as np
import pytest
from brighthalves import rows_of
from sklearn.linear_model import LogisticRegression

from features.extraction.extract import extract
from features.study.study import open_study
from probe.finetuning.finetune import finetune
from probe.probes.methods import GRID
from probe.results import predictions
from probe.training.recipes import recipe


@pytest.mark.parametrize("tasks", [["tone"], ["side", "tone"]])
def test_the_head_starts_as_the_probe(
    tmp_path: Path, card: str, data: str, tasks: list[str]
) -> None:
    """At a rate of nothing, what is scored is scikit-learn's logistic regression at one of its C."""
    study = tmp_path / "study"
    still = recipe(
        "modern",
        epochs=1,
        patience=0,
        batch_size=8,
        rate=1e-30,
        crop=False,
        mirror=False,
        colour=0.0,
    )
    finetune(
        study, card, data=data, tasks=tasks, freeze_through=["pool"], probe_first=True, recipe=still,
        views=["center"], device="cpu",
    )  # fmt: skip
    extract(study, card, layers=["pool"], pool=["none"], device="cpu")
    with open_study(study).features("tiny") as file:
        x = file.read("pool").astype(float)
    for task in tasks:
        y = open_study(study).labels(task)
        (row, *_) = rows_of(study, task=task)
        assert "head from the probe" in row.recipe
        stored = predictions.read(study / "predictions", row.stored)
        for fold in range(3):
            train, test = stored.fold != fold, stored.fold == fold
            mean, sd = x[train].mean(0), x[train].std(0)
            z = (x - mean) / np.where(sd > 0, sd, np.inf)
            nearest = np.inf
            for point in GRID[::2]:
                c = point / (z[train] ** 2).sum(1).mean()
                model = LogisticRegression(C=c, max_iter=2000).fit(z[train], y[train])
                apart = np.abs(model.predict_proba(z[test]) - np.exp(stored.scores[test])).max()
                nearest = min(nearest, apart)
            assert nearest < 0.02
