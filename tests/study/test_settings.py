"""study.toml as people may write it: what is wrong is named, with what it should be."""

from pathlib import Path

import pytest
import studies
from typer.testing import CliRunner

from cli.app import app
from features.errors import InputError
from features.study.settings import read_settings
from features.study.study import has_study, open_study

WHOLE = """
closest = "faces"

[data]
source = "faces.csv"
root = "/images"
synthetic = true

[tasks.age]
classes = ["0-2", "4-6"]
ordered = true
"""


def test_what_it_says() -> None:
    read = read_settings(WHOLE, Path("study.toml"))
    assert (read.source, read.root, read.closest, read.synthetic) == (
        "faces.csv", "/images", "faces", True,
    )  # fmt: skip
    [age] = read.tasks
    assert (age.name, age.classes, age.ordered) == ("age", ("0-2", "4-6"), True)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('"faces.csv"', "5", "data.source is 5, and should be a text in quotes; correct it."),
        ('source = "faces.csv"', "", "data.source is missing; it is a text in quotes, restore it."),
        ('"/images"', '["/images"]', r"data.root is \['/images'\], and should be a text"),
        ("true\n\n", '"no"\n\n', "data.synthetic is 'no', and should be true or false; "),
        ('"faces"', "[[1]]", "closest is .* and should be the name of a domain in quotes"),
        ("ordered = true", 'ordered = "no"', "tasks.age.ordered is 'no', and should be true or false"),
        ('["0-2", "4-6"]', "[[1], [2]]", "tasks.age.classes is .* a list of texts in quotes"),
        ('["0-2", "4-6"]', '["0-2", "0-2"]', "tasks.age.classes has '0-2' twice; name each class"),
        ('["0-2", "4-6"]', '["0-2"]', "tasks.age.classes is .* two classes or more"),
        ("[tasks.age]", "[[tasks]]", "tasks is .* a table for each task"),
        ("[data]", "[[data]]", r"the table \[data\] is missing"),
        ("[data]", "[data", "not a TOML file, .*line 4"),
        ('"faces"', "[" * 5000, "not a TOML file, nested too deeply|not a TOML file, "),
    ],
)  # fmt: skip
def test_what_is_of_another_kind_is_named(old: str, new: str, told: str) -> None:
    assert old in WHOLE
    with pytest.raises(InputError, match=told):
        read_settings(WHOLE.replace(old, new, 1), Path("study.toml"))


def test_a_header_alone_is_no_study(tmp_path: Path) -> None:
    studies.begin(tmp_path, {"label": [0, 1]})
    images = tmp_path / "images.csv"
    images.write_text(images.read_text().partition("\n")[0] + "\n")
    with pytest.raises(InputError, match=r"images\.csv: a header and no rows"):
        open_study(tmp_path)


def test_no_study_begins_over_the_images_of_another(tmp_path: Path) -> None:
    study = studies.begin(tmp_path / "study", {"label": [0, 1] * 6})
    studies.add(study, "net", {"fc": studies.signal(study.labels("label"), 4, 2.0)})
    (study.folder / "study.toml").unlink()
    before = (study.folder / "images.csv").read_bytes()
    words = ["extract", "--backbone", "control:pixels", "--study", str(study.folder)]
    ran = CliRunner().invoke(app, words)
    assert ran.exit_code == 3
    assert "has features/net.h5 of a study whose study.toml is gone" in ran.stderr
    assert (study.folder / "images.csv").read_bytes() == before


def test_where_no_study_can_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    (tmp_path / "taken" / "study.toml").mkdir(parents=True)
    for place, told in (
        ("file", "file is a file, not a folder"),
        ("file/below/study", "file is a file, not a folder"),
        ("link", "link is a link to nothing"),
        ("link/below", "link is a link to nothing"),
        ("taken", r"study\.toml: a folder, a link to nothing or a device, not a file"),
    ):
        with pytest.raises(InputError, match=told):
            has_study(tmp_path / place)
    assert not has_study(tmp_path / "new" / "study")
