"""An afternoon's ordinary commands, one after the other on one small study.

Each ends in a result, or in one sentence that helps, and with the exit code that stands here.
"""

from __future__ import annotations

import csv
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from cli.app import app

pytestmark = pytest.mark.usefixtures("svg_alone")

AFTERNOON: tuple[tuple[str, int, str], ...] = (
    # What is typed, the exit code, and what is said.
    ("data check --data faces.csv", 0, "48 rows"),
    ("extract -b sample-faces -l conv1 -l fc7 --pool avg", 0, "which `probe data check` looked at"),
    ("report", 3, "`probe fit`"),
    ("fit --probe ridge --folds 3", 0, "results fitted"),
    ("fit --probe ridge --folds 3", 0, "kept from before"),
    ("fit --probe logistic --folds 3 -l fc7 --C 0.1,1 -t smile", 0, "fitted"),
    ("fit --probe ridge --folds 3 -l fc7 --seed 1", 0, "fitted"),
    ("fit --probe knn --folds 3 -l fc7 --repeats 2", 0, "fitted"),
    ("extract -b sample-faces -l conv1 -l fc7 --pool avg", 0, "0 images"),
    ("extract -b sample-faces --data other.csv", 3, "--study"),
    ("extract -b sample-objects -l conv1 -l fc7 --pool avg", 0, "48 images"),
    ("extract -b sample-faces -l pool5 --pool avg", 0, "48 images"),
    ("extract -b sample-faces -l fc7 --weights random --seeds 2", 0, "sample-faces@random-1"),
    ("extract -b sample-faces --weights nowhere.pt", 3, "nowhere.pt"),
    ("extract -b sample-face -l fc7", 3, "sample-faces"),
    ("extract -b sample-faces -l fc77", 3, "fc7"),
    ("fit --probe ridge --folds 3", 0, "fitted"),
    ("fit --probe rigde", 2, "ridge"),
    ("fit --probe ridge -t age", 3, "smile"),
    ("fit --probe ridge -l fc66", 3, "fc7"),
    ("fit --quick --folds 3", 0, "kept from before"),
    ("rank -t smile --rows 48", 0, "LogME"),
    ("compare sample-faces sample-objects -t smile", 0, "points"),
    ("compare sample-faces sample-object -t smile", 3, "sample-objects"),
    ("report --by subject", 3, "subject"),
    ("report", 0, "index.html"),
    ("status", 0, "sample-objects"),
    ("extrct", 2, "extract"),
    ("fit --lyer fc7", 2, "--layer"),
    ("fit --as seed1 --seed 1", 2, "what it would replace"),
    ("fit --seeds 3", 2, "--repeats N"),
    ("finetune -b sample-faces --seeds 2", 2, "--seed N"),
    ("explain flor", 2, "floor"),
    ("explain floor", 0, "random"),
    ("MOVE faces moved", 0, ""),
    ("extract -b control:pixels", 3, "--root"),
    ("finetune -b sample-faces -t smile --epochs 1 --folds 3", 3, "--root"),
    ("data check", 3, "--root"),
    ("extract -b control:pixels --root moved", 0, "48 images"),
    ("data check", 0, "48 rows"),
    (
        "finetune -b sample-faces -t smile --epochs 1 --folds 3",
        0,
        "3 networks to train on",
    ),
    ("remove sample-objects", 0, "sample-objects"),
    ("export sample-faces/fc7/ridge -t smile", 0, "smile.probe"),
    ("predict study/smile.probe moved --out new.csv", 0, "smile by sample-faces"),
    ("extract -b sample-faces --data faces.csv", 3, "--root"),
    ("--version", 0, ""),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """48 faces-to-be of 24 subjects, smiling or not: bright or dark, and a tilt that stands for a sex."""
    made = tmp_path_factory.mktemp("afternoon")
    rng = np.random.default_rng(0)
    (made / "faces").mkdir()
    rows = []
    for i in range(48):
        smile, sex = i % 2, i // 4 % 2
        pixels = rng.normal(90 + 70 * smile, 30, (32, 32, 3))
        pixels[:, :, sex] += np.arange(32)
        path = f"faces/{i:02}.png"
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(made / path)
        rows.append([path, ("no", "yes")[smile], "fm"[sex], f"s{i // 2:02}"])
    for name, several in (("faces.csv", rows), ("other.csv", rows[:-2])):
        with (made / name).open("w", newline="") as file:
            csv.writer(file).writerows([["path", "smile", "sex", "subject"], *several])
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(made)
        yield made


def test_every_command_of_an_afternoon_ends_in_a_result_or_one_sentence(folder: Path) -> None:
    faults = []
    for line, code, said in AFTERNOON:
        words = line.split()
        if words[0] == "MOVE":
            Path(words[2]).mkdir()
            shutil.move(folder / words[1], folder / words[2] / words[1])
            continue
        result = CliRunner().invoke(app, words)
        errors = [row for row in result.stderr.splitlines() if row.lower().startswith("error")]
        if (
            result.exit_code != code
            or said not in result.output
            or "Traceback" in result.output
            or len(errors) > 1
            or (code != 0 and len(errors) != 1)
        ):
            faults.append(f"probe {line}: {result.exit_code}, not {code}; {result.output[-600:]}")
    assert not faults, "\n\n".join(faults)
