"""The sentence before a fine-tune: how much there is to train, and about how long."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace as Made
from typing import Any

import pytest

from features.store.seconds import Timing, note_seconds
from probe.finetuning import expected_time


def run_of(folder: Path, patience: int) -> Any:
    study = Made(folder=folder, feature_path=lambda name: folder / f"{name}.h5")
    recipe = Made(patience=patience)
    return Made(
        study=study, recipe=recipe, backbone=Made(name="net"), rates=(1,), views=("center",)
    )


def test_by_hand_from_epochs_from_extraction_and_from_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two jobs of three folds and 500 images each: 1,000 images at .2 s, or at two to seven times .03 s."""
    jobs: list[Any] = [Made(splits=Made(folds=(0, 1, 2)))] * 2
    monkeypatch.setattr(expected_time, "images_of", lambda *_: 500)
    monkeypatch.setattr(expected_time, "kind_of", lambda *_: "net")
    monkeypatch.setattr(expected_time, "most_work", lambda *_: 500 / 3)
    monkeypatch.setattr(expected_time, "seconds_per_image", lambda _: None)
    said = expected_time.expected_time(run_of(tmp_path, 5), jobs)
    what = "6 networks to train on at most 1,000 images, every epoch counted: "
    assert said == f"{what}how long that takes is known after the first epoch"
    timing = Timing(30.0, 1000, "cpu", "float32", 1, 2, ("net",))
    note_seconds(tmp_path / "net.h5", ["fc"], timing)
    said = expected_time.expected_time(run_of(tmp_path, 5), jobs)
    assert said == f"{what}about 60 s to 4 min, by the time that extracting it took here"
    monkeypatch.setattr(expected_time, "seconds_per_image", lambda _: 0.2)
    said = expected_time.expected_time(run_of(tmp_path, 0), jobs)
    what = what.replace("at most ", "")
    assert said == f"{what}about 3 min, as it took on this machine before"
