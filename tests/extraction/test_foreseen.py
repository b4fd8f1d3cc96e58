"""What an extraction would do, held against what it then does."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from features.extraction.extract import extract
from features.extraction.foreseen import ForeseenFeatures, foresee
from features.extraction.options import ExtractOptions
from features.extraction.summary import Plan
from features.store.few_rows import bytes_on_disk
from features.study.drafting import open_or_draft

ROWS = 200
FACES = "sample-faces"


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    for i in range(ROWS):
        file = folder / "ab"[i % 2] / f"{i}.png"
        file.parent.mkdir(exist_ok=True)
        pixels = np.random.default_rng(i).integers(0, 255, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(file)
    return folder


def foreseen(
    folder: Path, images: Path, backbone: str, measure: bool = False, **options: object
) -> ForeseenFeatures:
    study, _ = open_or_draft(folder, str(images))
    wanted = ExtractOptions(**options)  # type: ignore[arg-type]
    return foresee(study, {backbone: None}, wanted, measure=measure)[0]


@pytest.mark.parametrize("limit", [None, 40])
def test_bytes_are_within_one_per_cent(tmp_path: Path, images: Path, limit: int | None) -> None:
    first = foreseen(tmp_path / "study", images, "control:pixels", limit=limit)
    assert (first.kept, first.images) == (0, limit or ROWS)
    said: list[Plan] = []
    made = extract(
        tmp_path / "study", "control:pixels", data=str(images), limit=limit, planned=said.append
    )
    assert first.bytes == said[0].bytes == pytest.approx(bytes_on_disk(made.file), rel=0.01)
    again = foreseen(tmp_path / "study", images, "control:pixels", limit=limit)
    assert (again.kept, again.images, again.bytes) == (limit or ROWS, 0, 0)


def test_more_rows_and_layers_cost_what_they_add(tmp_path: Path, images: Path) -> None:
    study = tmp_path / "study"
    options = {"layers": ("conv1",), "pool": ("auto",), "batch_size": 8}
    file = extract(study, FACES, data=str(images), limit=150, **options).file  # type: ignore[arg-type]
    before = bytes_on_disk(file)
    layers = foreseen(study, images, FACES, limit=150, **{**options, "layers": ("conv2",)})
    assert (layers.kept, layers.images, tuple(layers.dims)) == (0, 150, ("conv1", "conv2"))
    extract(study, FACES, limit=150, **{**options, "layers": ("conv2",)})  # type: ignore[arg-type]
    assert layers.bytes == pytest.approx(bytes_on_disk(file) - before, rel=0.03)
    rows = foreseen(study, images, FACES, **options)
    assert (rows.kept, rows.images) == (150, 50)
    assert extract(study, FACES, **options).computed == 50  # type: ignore[arg-type]


def test_seconds_are_those_measured_of_the_network_trained_or_not(
    tmp_path: Path, images: Path
) -> None:
    study = tmp_path / "study"
    assert foreseen(study, images, "control:tiny").seconds is None
    assert not study.exists()
    seconds = foreseen(study, images, "control:tiny", measure=True).seconds
    assert seconds is not None
    assert 0 < seconds < 100
    made = extract(study, "control:tiny", data=str(images), limit=50)
    noted = made.file.with_suffix(".seconds.json")
    by_key = json.loads(noted.read_text())
    for timing in by_key.values():
        timing |= {"seconds": 10.0, "images": 100, "together": ["control:tiny", "another"]}
    noted.write_text(json.dumps(by_key))
    # 150 more images at 0.1 s, half of it the other backbone's
    assert foreseen(study, images, "control:tiny").seconds == pytest.approx(7.5)


def test_a_file_made_otherwise_is_stale(tmp_path: Path, images: Path) -> None:
    study = tmp_path / "study"
    extract(study, "control:tiny", data=str(images), dtype="float16")
    assert "made with another dtype" in foreseen(study, images, "control:tiny").stale
