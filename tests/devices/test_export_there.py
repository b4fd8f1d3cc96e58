"""Exports made and used on an accelerator are those of the processor."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from exported.conftest import write_photos

from features.extraction.extract import extract
from probe.exported.export import export
from probe.exported.exported_probe import load_probe
from probe.finetuning.finetune import finetune
from probe.fitting.fit import fit
from probe.training.recipes import recipe


def test_a_probe_is_exported_and_predicts_there_as_here(
    tmp_path: Path, tiny_card: Callable[..., Path], device: str
) -> None:
    card, data = str(tiny_card()), str(write_photos(tmp_path / "photos", range(24)))
    study = tmp_path / "study"
    extract(study, card, data=data, device=device, layers=["fc"], batch_size=8)
    fit(study, probes=["logistic"], c=[0.01], device=device)
    files = [tmp_path / "photos" / f"{row:03}.png" for row in range(8)]
    made = []
    for where in (device, "cpu"):
        file = tmp_path / f"{where.partition(':')[0]}.probe"
        export(study, "tiny/fc/logistic", out=file, backbone=card, device=where)
        made += [load_probe(file, backbone=card, device=used) for used in (device, "cpu")]
    wanted = made[-1].predict(files).probabilities
    far = 1e-4 if device == "simulated" else 2e-3
    for probe in made:
        np.testing.assert_allclose(probe.predict(files).probabilities, wanted, atol=far)
    pixels = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), dtype=np.uint8)
    np.testing.assert_allclose(
        made[0].predict(pixels).probabilities, made[-1].predict(pixels).probabilities, atol=far
    )


@pytest.mark.slow
def test_a_fine_tune_is_exported_and_predicts_there_as_here(
    tmp_path: Path, tiny_card: Callable[..., Path], device: str
) -> None:
    card, data = str(tiny_card()), str(write_photos(tmp_path / "photos", range(24)))
    short = recipe("modern", epochs=1, patience=0, batch_size=8)
    asked = {"recipe": short, "views": ["center"], "folds": 3, "precision": "float32"}
    finetune(tmp_path / "study", card, data=data, device=device, **asked)  # type: ignore[arg-type]
    files = [tmp_path / "photos" / f"{row:03}.png" for row in range(8)]
    told = []
    for where in (device, "cpu"):
        file = tmp_path / f"{where.partition(':')[0]}.probe"
        export(tmp_path / "study", "tiny/-/finetune", out=file, backbone=card, device=where)
        told += [
            load_probe(file, device=used).predict(files).probabilities for used in (where, "cpu")
        ]
    for other in told[1:]:
        np.testing.assert_allclose(other, told[0], atol=1e-4 if device == "simulated" else 2e-2)
