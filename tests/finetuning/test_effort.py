"""How long a fine-tune is said to take, held against what it then trains."""

import json
from pathlib import Path

import pytest
from brighthalves import QUICK

from features.machine.home import home
from features.machine.spent import Spent
from features.study.drafting import open_or_draft
from probe.finetuning import effort
from probe.finetuning import foreseen as foreseen_module
from probe.finetuning.finetune import finetune
from probe.finetuning.foreseen import foresee
from probe.finetuning.job import FineTuneJob, FineTuneRun
from probe.finetuning.options import FineTuneOptions
from probe.fitting.foreseen import ForeseenResults
from probe.training.recipes import recipe


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PROBE_HOME", str(tmp_path / "cache"))


def foreseen(folder: Path, data: str, card: str, **options: object) -> ForeseenResults:
    study, _ = open_or_draft(folder, data)
    wanted = FineTuneOptions(folder, card, **options)  # type: ignore[arg-type]
    told = foresee(study, wanted, {}, exactly=True)
    assert told is not None
    return told


def test_of_a_draft_a_batch_is_trained_and_nothing_written(
    data: str, card: str, tmp_path: Path
) -> None:
    options = {"recipe": QUICK, "views": ("center", "10crop"), "device": "cpu", "tasks": ("side",)}
    first = foreseen(tmp_path / "study", data, card, **options)
    assert (first.kept, first.todo, first.stale) == (0, 2, 0)
    assert first.seconds is not None
    assert 0 < first.seconds < 100
    assert not (tmp_path / "study").exists()
    assert not home().exists()


def test_seconds_are_those_of_the_images_trained_and_a_third_of_those_scored(
    data: str, card: str, tmp_path: Path
) -> None:
    options = {"recipe": QUICK, "views": ("center", "10crop"), "device": "cpu", "tasks": ("side",)}
    effort.note(effort.TrainingKind("tiny", "finetune", "cpu", "float32", 8), Spent(30.0), 60.0)
    # Three folds of sixteen: two epochs of 32 images, and 11 crops of 16.
    assert foreseen(tmp_path / "study", data, card, **options).seconds == pytest.approx(
        3 * (2 * 32 + 11 * 16 / 3) * 0.5
    )
    other = recipe("modern", epochs=2, patience=0, batch_size=4)
    measured = foreseen(tmp_path / "study", data, card, **{**options, "recipe": other}).seconds
    assert measured is not None
    assert measured < 20


def test_what_was_trained_is_what_the_next_one_is_told_by(
    data: str, card: str, tmp_path: Path
) -> None:
    stops = recipe("modern", epochs=4, patience=1, batch_size=8)
    options = {"recipe": stops, "views": ("center",), "device": "cpu", "tasks": ("side",)}
    finetune(tmp_path / "study", card, data=data, **options)  # type: ignore[arg-type]
    by_kind = json.loads((home() / "training-seconds.json").read_text())
    assert list(by_kind) == ["tiny finetune cpu float32 8"]
    seconds, processor = by_kind["tiny finetune cpu float32 8"]
    assert processor > 0
    assert foreseen(tmp_path / "study", data, card, **options).seconds == 0.0
    again = foreseen(tmp_path / "other", data, card, **options).seconds
    # At most: each of three folds chooses among four epochs of 16 images, scores 16, and trains on 32.
    most = 3 * (4 * (16 + 16 / 3) + 4 * 32 + 16 / 3)
    assert again == pytest.approx(most * seconds / 1000, rel=1e-3)


def test_a_batch_is_timed_once_for_all_tasks_of_a_network(
    data: str, card: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    timed: list[str] = []

    def noted(run: FineTuneRun, job: FineTuneJob, images: float) -> float:
        timed.append(job.tasks[0].name)
        return 0.5

    monkeypatch.setattr(foreseen_module, "measure", noted)
    options = {"recipe": QUICK, "views": ("center",), "device": "cpu"}
    one = foreseen(tmp_path / "study", data, card, tasks=("side",), **options)
    timed.clear()
    both = foreseen(tmp_path / "study", data, card, **options)  # every task by itself
    assert len(timed) == 1
    assert (both.todo, both.seconds) == (2 * one.todo, pytest.approx(2 * (one.seconds or 0)))
