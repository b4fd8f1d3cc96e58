"""Pictures of more than eight bits whose range nothing tells: listed, and read as a person says."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from toys import write_card
from typer.testing import CliRunner

from cli.app import app
from features.extraction.extract import extract
from features.store.featurefile import FeatureFile
from probe.checking.find_copies import examine

N = 8


def table(folder: Path, kind: str) -> Path:
    """Pictures of 12 bits in 16, or of floats from 0 to 1; returns their table."""
    folder.mkdir()
    lines = ["path,label"]
    for i in range(N):
        values = np.kron(np.random.default_rng(i).integers(0, 4096, (4, 4)), np.ones((8, 8)))
        values[0, 0], values[0, 1] = 0, 4095
        pixels = values.astype(np.uint16) if kind == "bits" else (values / 4095).astype(np.float32)
        Image.fromarray(pixels).save(folder / f"{i}.{'png' if kind == 'bits' else 'tif'}")
        lines.append(f"{i}.{'png' if kind == 'bits' else 'tif'},{'ab'[i % 2]}")
    (folder / "m.csv").write_text("\n".join(lines) + "\n")
    return folder / "m.csv"


@pytest.mark.parametrize(("kind", "white"), [("bits", 4095), ("floats", 1)])
def test_data_check_lists_the_range_and_extract_takes_it(
    tmp_path: Path, kind: str, white: float
) -> None:
    data = table(tmp_path / "data", kind)
    checked = examine(tmp_path / "none", data=str(data))
    sentence = next(note for note in checked.notes if "more than eight bits" in note)
    assert f"{N} pictures" in sentence
    assert f"`probe extract --range 0,{white:g}` says it" in sentence
    card = str(write_card(tmp_path / "cards"))
    made = extract(
        tmp_path / "s", card, data=str(data), weights="random", range=(0, white), layers=["pixels"]
    )
    assert not made.unreadable
    with FeatureFile(next((tmp_path / "s" / "features").glob("*.h5"))) as file:
        assert f"values 0..{white:g} of deep pictures" in str(file.attributes["preprocessing"])
        x = file.read(file.keys[0])
    eight = tmp_path / "eight"
    eight.mkdir()
    lines = ["path,label"]
    for i in range(N):
        values = np.asarray(Image.open(data.parent / f"{i}.{'png' if kind == 'bits' else 'tif'}"))
        Image.fromarray(np.round(255 * values.astype(float) / white).astype(np.uint8)).save(
            eight / f"{i}.png"
        )
        lines.append(f"{i}.png,{'ab'[i % 2]}")
    (eight / "m.csv").write_text("\n".join(lines) + "\n")
    extract(tmp_path / "e", card, data=str(eight / "m.csv"), weights="random", layers=["pixels"])
    with FeatureFile(next((tmp_path / "e" / "features").glob("*.h5"))) as file:
        wanted = file.read(file.keys[0])
    assert np.abs(x - wanted).max() < 0.02 * np.abs(wanted).max()


def test_twelve_bits_in_sixteen_are_said_to_be_dark_without_a_range(tmp_path: Path) -> None:
    words = "0.png is of 16 bits with values from 0 to 4095, and is read as nearly black"
    for kind, bounds, said in (
        ("bits", None, True),
        ("bits", (0, 4095), False),
        ("floats", (0, 1), False),
    ):
        study, announced = tmp_path / f"{kind}{bounds}", list[str]()
        data = str(table(tmp_path / f"data{kind}{bounds}", kind))
        extract(study, "control:pixels", data=data, range=bounds, announce=announced.append)
        assert any(words in sentence for sentence in announced) == said
        assert any("--range 0,4095" in sentence for sentence in announced) == said


def test_a_range_that_is_none_is_a_wrong_command_line(tmp_path: Path) -> None:
    words = ["extract", "--study", str(tmp_path / "s"), "-b", "sample-faces", "--range", "9,3"]
    ran = CliRunner().invoke(app, words)
    assert ran.exit_code == 2
    assert "write BLACK,WHITE, such as 0,4095" in " ".join(ran.output.split()).replace("│ ", "")
