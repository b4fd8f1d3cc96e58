"""Probes fitted on an accelerator are those of the processor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import studies
import torch

from features.data.tasks import Task
from features.study.study import Study
from probe.fitting.fit import fit
from probe.probes import knn
from probe.results import predictions
from probe.results.rows import Row

N = 60
GRID = (0.001, 0.1)


@pytest.fixture(autouse=True)
def _same_search(monkeypatch: pytest.MonkeyPatch) -> None:
    """The processor too searches for neighbours with PyTorch."""
    monkeypatch.setattr(knn, "engine", lambda: "torch")


def study_of(folder: Path) -> Study:
    """A tall layer and a wide one; a task of three classes, one of two and one of numbers."""
    y = np.arange(N) % 3
    years = (30 + 9 * studies.signal(y, 1, 2.0, 9)[:, 0]).round(3)
    labels = {"label": y, "sex": y % 2, "years": years}
    tasks = {
        "label": Task("label", ("0", "1", "2")),
        "sex": Task("sex", ("0", "1")),
        "years": Task("years", (), kind="number", unit="years"),
    }
    study = studies.begin(folder, labels, tasks, fold=np.arange(N) // 2 % 3)
    layers = {"tall": studies.signal(y, 6, 0.5, 1), "wide": studies.signal(y, 90, 0.3, 2)}
    studies.add(study, "net", layers)
    return study


def fitted(study: Study, device: str, **options: Any) -> dict[tuple[object, ...], tuple[Row, Any]]:
    """The rows with their stored scores, by what tells them apart."""
    found = {}
    for row in fit(study.folder, device=device, c=GRID, **options).rows:
        scores = predictions.read(study.folder / "predictions", row.stored).scores
        found[row.layer, row.pool, row.method, row.task, row.fold] = (row, scores)
    return found


def same(there: Any, here: Any) -> None:
    assert there.keys() == here.keys()
    for key, (row, scores) in here.items():
        other, other_scores = there[key]
        assert pytest.approx(row.C) == other.C, key
        finite = np.isfinite(scores)
        np.testing.assert_array_equal(np.isfinite(other_scores), finite)
        np.testing.assert_allclose(other_scores[finite], scores[finite], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("probe", "tasks"),
    [
        ("logistic", ("label", "sex")),
        ("svm", ("label", "sex")),
        ("ridge", ("label", "sex", "years")),
        ("knn", ("label", "years")),
    ],
)
def test_every_probe_gives_the_processors_scores(
    tmp_path: Path, device: str, probe: str, tasks: tuple[str, ...]
) -> None:
    there, here = study_of(tmp_path / "there"), study_of(tmp_path / "here")
    options = {"probes": (probe,), "tasks": tasks}
    same(fitted(there, device, **options), fitted(here, "cpu", **options))


def test_scales_and_layers_read_in_blocks(tmp_path: Path, device: str) -> None:
    for scale, memory in (("l2", None), ("none", 3e-5)):
        there, here = study_of(tmp_path / scale / "there"), study_of(tmp_path / scale / "here")
        options = {
            "probes": ("ridge", "svm"), "tasks": ("label",), "scale": scale, "memory": memory,
        }  # fmt: skip
        same(fitted(there, device, **options), fitted(here, "cpu", **options))


def test_a_fit_repeats_to_the_bit(tmp_path: Path, device: str) -> None:
    tables = []
    for name in ("first", "second"):
        study = study_of(tmp_path / name)
        fit(study.folder, device=device, c=GRID, probes=("logistic",), tasks=("label",))
        tables.append((study.folder / "results.csv").read_bytes())
    assert tables[0] == tables[1]


def test_where_there_is_no_float64_the_processor_fits(tmp_path: Path, simulated: Any) -> None:
    simulated.lacks.add(torch.float64)
    there, here = study_of(tmp_path / "there"), study_of(tmp_path / "here")
    said: list[str] = []
    made = fitted(there, "simulated", probes=("ridge",), tasks=("label",), announce=said.append)
    assert (
        said.count(
            "simulated: no float64, in which probes are proven; they are fitted on the processor"
        )
        == 1
    )
    same(made, fitted(here, "cpu", probes=("ridge",), tasks=("label",)))
