"""Through the command line, every row keeps its own image: features, labels, folds, predictions."""

from __future__ import annotations

import csv
import time
from pathlib import Path

import h5py
import numpy as np
from forkserver import Probe
from PIL import Image
from typer.testing import CliRunner

from cli.app import app

BITS = 8
ROWS = 60
BAD = (7, 31, 32, 59)
CARD = """
name = "eye"
domain = "d"
network = "./eye.py:build"
[input]
size = [8, 32]
[layers]
pixels = "1"
"""
NETWORK = """
import time, torch
class Slow(torch.nn.Module):
    def forward(self, x):
        time.sleep(0.02)
        return x
def build():
    return torch.nn.Sequential(Slow(), torch.nn.Flatten())
"""


def drawn(row: int) -> Image.Image:
    """The row's number as eight bars, black for 0 and white for 1, over a little noise."""
    bits = [(row >> b) & 1 for b in range(BITS)]
    pixels = np.repeat(np.array(bits) * 200 + 20, 4)[None, :, None] * np.ones((8, 1, 3))
    noise = np.random.default_rng(row).integers(0, 20, pixels.shape)
    return Image.fromarray((pixels + noise).astype(np.uint8))


def read(features: np.ndarray) -> np.ndarray:
    """The numbers that rows of features, `(n, 3 * 8 * 32)`, show."""
    bars = features.reshape(-1, 3, 8, BITS, 4).mean((1, 2, 4))
    return ((bars > 0.5) * 2 ** np.arange(BITS)).sum(1)


def test_every_row_decodes_to_its_own_number(tmp_path: Path) -> None:
    (tmp_path / "eye.py").write_text(NETWORK)
    (tmp_path / "eye.toml").write_text(CARD)
    order = np.random.default_rng(1).permutation(ROWS)  # names say nothing about rows
    with (tmp_path / "m.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "odd", "fold"])
        for row in range(ROWS):
            name = f"{order[row]:03}.png"
            writer.writerow([name, row % 2, row % 4])
            if row in BAD:
                (tmp_path / name).write_text("not an image")
            else:
                drawn(row).save(tmp_path / name)
    study = tmp_path / "study"
    words = ["extract", "--backbone", str(tmp_path / "eye.toml"), "--study", str(study)]
    words += ["--data", str(tmp_path / "m.csv"), "--batch-size", "3"]
    partial = study / "features" / "eye.h5.partial"
    for moment in (0.05, 0.15, 0.1):  # killed three times on the way
        process = Probe(words, tmp_path)
        for _ in range(1200):
            if partial.is_file() or process.poll() is not None:
                break
            time.sleep(0.05)
        time.sleep(moment)
        process.kill()
    run = CliRunner()
    assert run.invoke(app, words).exit_code == 0
    fit = ["fit", "--study", str(study), "--probe", "logistic", "--probe", "knn"]
    assert run.invoke(app, fit).exit_code == 0

    good = np.setdiff1d(np.arange(ROWS), BAD)
    with h5py.File(study / "features" / "eye.h5") as file:
        status = file["status"][:]
        numbers = read(file["layers/pixels"][:][good])
    np.testing.assert_array_equal(np.flatnonzero(status == 2), BAD)
    np.testing.assert_array_equal(numbers, good)
    with (study / "images.csv").open() as file:
        table = list(csv.DictReader(file))
    assert [row["path"] for row in table] == [f"{o:03}.png" for o in order]
    assert [int(row["odd"]) for row in table] == [row % 2 for row in range(ROWS)]
    with np.load(study / "predictions/odd/eye/pixels/logistic.npz") as file:
        fold, scores = file["fold"], file["scores"]
    np.testing.assert_array_equal(fold[good], good % 4)
    np.testing.assert_array_equal(fold[list(BAD)], -1)
    assert np.isnan(scores[list(BAD)]).all()
    np.testing.assert_array_equal(scores[good].argmax(1), good % 2)  # the first bar is the label
