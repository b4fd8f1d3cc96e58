"""The learning rate chosen on the inner part."""

import csv
from pathlib import Path

import pytest
from brighthalves import rows_of

from features.errors import Stopped
from probe.finetuning import history
from probe.finetuning.finetune import finetune
from probe.training.recipes import recipe


def test_search_takes_the_rate_with_the_best_inner_loss(
    tmp_path: Path, card: str, data: str
) -> None:
    study = tmp_path / "study"
    tried = recipe("modern", epochs=6, patience=3, batch_size=8, rate=1e-3)
    finetune(study, card, data=data, tasks=["side"], recipe=tried, search=True, device="cpu")
    with (study / "training.csv").open() as file:
        lines = list(csv.DictReader(file))
    for row in rows_of(study, views="center"):
        inner = [x for x in lines if x["stage"] == "inner" and int(x["fold"]) == row.fold]
        assert len({x["rate"] for x in inner}) == 3
        best = min(inner, key=lambda x: float(x["inner_loss"]))
        assert row.epochs == int(best["epoch"])
        assert f"rate {float(best['rate']):g} chosen" in row.recipe
        whole = [x for x in lines if x["stage"] == "whole" and int(x["fold"]) == row.fold]
        assert {x["rate"] for x in whole} == {best["rate"]}
        assert row.selection == pytest.approx(-float(best["inner_loss"]), rel=1e-4)


def test_search_without_patience_chooses_the_rate_alone(
    tmp_path: Path, card: str, data: str
) -> None:
    """All epochs are trained, so that a rate is judged by what it comes to after all of them."""
    tried = recipe("modern", epochs=6, patience=0, batch_size=8, rate=0.1)
    done = finetune(
        tmp_path / "s", card, data=data, tasks=["side"], recipe=tried, search=True, device="cpu"
    )
    assert not done.notes
    epochs = history.read(tmp_path / "s" / "training.csv")
    for row in rows_of(tmp_path / "s", views="center"):
        mine = [e for e in epochs if e.fold == row.fold]
        last = {
            e.rate: e.epoch.inner_loss for e in mine if e.stage == "inner" and e.epoch.epoch == 5
        }
        best = min(last, key=lambda rate: last[rate] or 0.0)
        assert len(last) == 3
        assert {e.rate for e in mine if e.stage == "whole"} == {best}
        assert len([e for e in mine if e.stage == "whole"]) == row.epochs == 6
        assert row.selection == pytest.approx(-(last[best] or 0.0))
        assert (row.at_edge, row.converged) == (0, 1)


def test_a_rate_that_diverges_loses_the_search(tmp_path: Path, card: str, data: str) -> None:
    wild = recipe("gilnet", epochs=2, batch_size=8, rate=1e18, crop=False)
    with pytest.raises(Stopped):
        finetune(tmp_path / "a", card, data=data, tasks=["side"], recipe=wild, device="cpu")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("probe.finetuning.plan.SEARCH", (1e-22, 1.0))
        finetune(
            tmp_path / "b", card, data=data, tasks=["side"], recipe=wild, search=True, device="cpu"
        )
    assert {r.recipe for r in rows_of(tmp_path / "b")} == {"gilnet; rate 0.0001 chosen"}
