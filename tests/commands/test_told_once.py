"""What `extract` and `data check` say of files, rows and labels: once, and in the words of the options."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from cli.app import app


def told(*words: str) -> str:
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    return done.output


@pytest.fixture
def faces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Twenty-four pictures of ages 8 to 31, named as UTKFace names them, and one that is not."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "faces"
    folder.mkdir()
    for i in range(24):
        pixels = np.random.default_rng(i).integers(0, 256, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{8 + i}_{i % 2}_0_2017{i:04}.jpg")
    (folder / "39_1_2017.jpg").touch()
    return folder


def test_a_file_that_is_left_out_is_said_once_for_all_backbones(faces: Path) -> None:
    both = ("-b", "control:pixels", "-b", "control:tiny", "--limit", "10")
    said = told("extract", "--data", f"utkface:{faces}", *both)
    assert said.count("39_1_2017.jpg") == 1
    assert said.count("14 rows left out by --limit") == 2
    assert "pending" not in said
    assert told("status").count("finished, of a part (--limit or --quick)") == 2


def test_classes_that_are_years_may_be_a_number_and_stand_in_their_order(faces: Path) -> None:
    paths = sorted(faces.glob("*_0_*"))
    rows = [
        f"faces/{p.name},{8 + i + n},{i % 2}" for i, p in enumerate(paths) for n in (0, 24, 0, 24)
    ]
    Path("ages.csv").write_text("\n".join(["path,age,digit", *rows, ""]))
    said = told("data", "check", "--data", "ages.csv")
    ages = [line.split("\t")[1] for line in said.splitlines() if line.startswith("age\t")]
    numbers = [int(age) for age in ages if age.isdecimal()]
    assert len(numbers) == 10  # the ends of 48
    assert numbers == sorted(numbers)
    assert said.count("`probe fit --task age:number`") == 1
    assert "digit:number" not in said
