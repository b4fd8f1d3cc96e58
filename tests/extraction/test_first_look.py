"""A first look: few layers, averaged, and as many images as half a minute allows."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.app import app
from features.extraction import first_look
from features.extraction.extract import extract
from features.store.featurefile import PENDING
from features.study.study import open_study


def test_stages_alone_averaged_of_all_images_where_they_take_no_time(tmp_path: Path) -> None:
    folder = tmp_path / "study"
    done = extract(folder, "sample-faces", quick=True, limit=30)
    assert done.layers == ["conv1:avg", "conv2:avg", "conv5:avg", "pool5:avg", "fc7"]
    assert extract(folder, "control:pixels", quick=True).pending == 1170  # as the first one


def test_where_time_is_short_a_part_is_drawn_and_said_and_filled_in_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, said = tmp_path / "study", []
    monkeypatch.setattr(first_look, "_seconds_of_an_image", lambda *_: 0.07)
    done = extract(folder, "sample-objects", quick=True, announce=said.append)
    assert done.computed == 400
    assert said[-1].startswith(
        "a first look: all 1,200 images would take about 84 s, so 400 are drawn; "
    )
    again = extract(folder, "sample-objects", quick=True, announce=said.append)
    assert again.computed == 0
    assert len(said) == 1
    assert extract(folder, "sample-objects", layers=["fc7"]).computed == 800
    with open_study(folder).features("sample-objects") as file:
        assert not (file.status == PENDING).any()


def test_an_image_takes_a_measured_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    took = []
    measured = first_look._seconds_of_an_image

    def noted(*args: object) -> float:
        took.append(measured(*args))  # type: ignore[arg-type]
        return took[-1]

    monkeypatch.setattr(first_look, "_seconds_of_an_image", noted)
    extract(tmp_path / "study", "control:tiny", quick=True)
    assert 1e-6 < took[0] < 1


def test_seeds_draw_random_weights_so_many_times(tmp_path: Path) -> None:
    words = ["extract", "-b", "sample-faces", "--weights", "random", "--limit", "8", "-l", "fc7"]
    study = ["--study", str(tmp_path / "study")]
    done = CliRunner().invoke(app, [*words, "--seeds", "3", *study])
    assert done.exit_code == 0, done.output
    names = {"sample-faces@random", "sample-faces@random-1", "sample-faces@random-2"}
    assert set(open_study(tmp_path / "study").backbones()) == names
    for refused in (["--seeds", "0"], ["--seeds", "2", "--weights", "x.pt"]):
        assert CliRunner().invoke(app, [*words, *refused, *study]).exit_code == 2
