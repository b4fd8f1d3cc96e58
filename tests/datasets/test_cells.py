"""What is written for other programs to read: nothing in it runs there, and all reads back the same."""

import csv
import io
from pathlib import Path

import numpy as np
import pytest
import studies
from hypothesis import given
from hypothesis import strategies as st

from features.cards.reading import read_file
from features.data.cells import quoted, unquoted
from features.data.manifest import Manifest
from features.errors import InputError
from features.extraction.imported import import_features
from features.study.drafting import draft
from features.study.study import open_study
from probe.reporting.tables.table import Column, Table, to_csv, to_latex, to_markdown

FORMULA = '=HYPERLINK("http://x","y")'


@given(st.text(alphabet="'=+-@\t\ra1.e", max_size=6))
def test_a_cell_reads_back_the_same_and_is_no_formula(text: str) -> None:
    cell = quoted(text)
    assert unquoted(cell) == text
    try:
        float(text)
    except ValueError:
        assert not cell.startswith(("=", "+", "-", "@", "\t", "\r"))


@pytest.mark.parametrize("text", ["-1", "+1.5", "-1e-3", "a=b", "", "25-32", "'tis"])
def test_numbers_and_usual_texts_stand_as_they_are(text: str) -> None:
    assert quoted(text) == text


def test_a_study_of_formulas(tmp_path: Path) -> None:
    labels = [FORMULA, "@SUM(A1)", "-1", "'=b"]
    study = studies.begin(tmp_path, {"+label": labels})
    assert open_study(tmp_path).columns == study.columns
    with (tmp_path / "images.csv").open(newline="") as file:
        cells = {cell for row in csv.reader(file) for cell in row}
    assert {"'" + FORMULA, "'@SUM(A1)", "-1", "''=b", "'+label"} <= cells


TEXTS = [
    "<script>alert(1)</script>",
    "[x](javascript:1)",
    "a|b",
    "a\n\nb",
    "\\input{x}",
    "[5mm]",
    "50%",
]


def table() -> Table:
    return Table("t", "A table", (Column("name", "name", "text"),), tuple((x,) for x in TEXTS))


def test_markdown_and_tex_of_hostile_names() -> None:
    lines = to_markdown(table(), synthetic=False).splitlines()
    assert len(lines) == 2 + len(TEXTS)
    assert "<" not in "".join(lines)
    assert "](" not in "".join(lines)
    tex = to_latex(table(), synthetic=False)
    assert "\n\n" not in tex
    assert "\\textbackslash{}input\\{x\\}" in tex
    assert "{}[5mm]" in tex
    assert "50\\%" in tex


def test_a_tables_csv_runs_nothing() -> None:
    made = Table("t", "A table", (Column("name", "name", "text"),), ((FORMULA,), ("-1",)))
    rows = list(csv.reader(io.StringIO(to_csv(made))))
    assert rows[1:] == [["'" + FORMULA], ["-1"]]


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"label": ["a", "b\0"]}, "a NUL"),
        ({"label": ["a", "b" * 200_000]}, "200,000 characters"),
        ({"label": ["a", "b"], " label": ["a", "b"]}, "the column ' label' has a NUL"),
        ({"a\0": ["a", "b"]}, "the column 'a\\x00' has a NUL"),
    ],
)
def test_what_could_never_be_opened_begins_no_study(
    tmp_path: Path, columns: dict[str, list[str]], said: str
) -> None:
    manifest = Manifest("toys", tmp_path, {"path": ["0.png", "1.png"], **columns})
    with pytest.raises(InputError) as caught:
        draft(tmp_path / "study", manifest)
    assert said in str(caught.value)


def test_a_columns_name_loses_the_blanks_at_its_ends(tmp_path: Path) -> None:
    study = studies.begin(tmp_path, {" age\r": ["a", "b"]})
    assert list(study.tasks) == list(open_study(tmp_path).tasks) == ["age"]


@pytest.mark.parametrize("layer", ["best", ".", "..", "all", "a\0b"])
def test_layers_that_no_study_can_hold(tmp_path: Path, layer: str) -> None:
    np.savez(tmp_path / "x.npz", features=np.ones((4, 3)), label=np.arange(4) % 2)
    with pytest.raises(InputError, match="--layer"):
        import_features(tmp_path / "study", tmp_path / "x.npz", name="net", layer=layer)
    assert not (tmp_path / "study").exists()
    card = tmp_path / "card.toml"
    name = layer.replace("\0", "/")
    card.write_text(
        f'name = "a"\ndomain = "b"\nnetwork = "torchvision:alexnet"\n[layers]\n"{name}" = "classifier.1"\n'
    )
    with pytest.raises(InputError, match="a layer is NAME"):
        read_file(card)


def test_features_whose_squares_overflow(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", features=np.full((4, 3), 1e37), label=np.arange(4) % 2)
    with pytest.raises(InputError, match="divide them by a constant"):
        import_features(tmp_path / "study", tmp_path / "x.npz", name="net", layer="fc")
