"""The learning rate chosen on the inner part."""

import csv
from pathlib import Path

import pytest
from brighthalves import rows_of

from features.errors import Stopped
from probe.finetuning import history, rate_search
from probe.finetuning.finetune import finetune
from probe.finetuning.options import FineTuneOptions
from probe.finetuning.plan import prepare
from probe.training.recipes import RECIPES, recipe


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
        patch.setattr("probe.finetuning.rate_search.SEARCH", (1e-22, 1.0))
        finetune(
            tmp_path / "b", card, data=data, tasks=["side"], recipe=wild, search=True, device="cpu"
        )
    assert {r.recipe for r in rows_of(tmp_path / "b")} == {"gilnet; rate 0.0001 chosen"}


def test_by_default_the_rate_is_chosen_where_it_ends_within_an_hour(
    tmp_path: Path, card: str, data: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what the study holds is gone on with, whatever the clock says now."""
    said: list[str] = []
    short = recipe("modern", epochs=1, batch_size=8)
    monkeypatch.setitem(RECIPES, "modern", short)

    def asked(where: str, **more: object) -> FineTuneOptions:
        given = {"data": data, "tasks": ["side"], "recipe": "modern", "device": "cpu", **more}
        return FineTuneOptions(tmp_path / where, card, announce=said.append, **given)  # type: ignore[arg-type]

    def tried(where: str, **more: object) -> int:
        return len(prepare(asked(where, **more)).run.rates)

    assert tried("new") == 3
    assert any("the learning rate is chosen of 3 rates" in sentence for sentence in said)
    assert tried("new", search=False) == 1
    assert tried("new", recipe=recipe("modern", epochs=2)) == 1, "no longer the recipe as it stands"
    assert tried("new", recipe="gilnet") == 1

    options = asked("quick")
    finetune(**{name: getattr(options, name) for name in vars(options)})
    assert {(row.method, "chosen" in row.recipe) for row in rows_of(tmp_path / "quick")} == {
        ("finetune", True)
    }
    monkeypatch.setattr(rate_search, "_LONGEST", 0.0)
    assert tried("new") == 1
    assert any("could take" in sentence for sentence in said)
    assert tried("quick") == 3

    options = asked("slow")
    finetune(**{name: getattr(options, name) for name in vars(options)})
    assert not any("chosen" in row.recipe for row in rows_of(tmp_path / "slow"))
    monkeypatch.setattr(rate_search, "_LONGEST", 3600.0)
    assert tried("slow") == 1


def test_timing_leaves_what_is_trained_as_it_is(tmp_path: Path, card: str, data: str) -> None:
    """The same scores as without the batches that are trained to time them."""
    made = []
    for search in (None, True):
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(RECIPES, "modern", recipe("modern", epochs=1, batch_size=8))
            given = {"data": data, "tasks": ["side"], "recipe": "modern", "device": "cpu"}
            finetune(tmp_path / str(search), card, search=search, **given)  # type: ignore[arg-type]
        made.append(
            [(r.fold, r.views, r.log_loss, r.epochs) for r in rows_of(tmp_path / str(search))]
        )
    assert made[0] == made[1]
    methods = {row.method for row in rows_of(tmp_path / "True")}
    assert methods == {"finetune+search"}
