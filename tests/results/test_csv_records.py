"""Dataclasses as CSV: every file of a study goes through these, so bytes and messages are held here."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from features.errors import InputError
from probe.results import csv_records


@dataclass(frozen=True)
class Layer:
    name: str
    depth: float | None
    images: int
    value: float = 0.5


ROWS = [
    Layer('conv, "3"', 1 / 3, 7, 1e-300),
    Layer("größe\n2", None, -1, float("inf")),
    Layer("", 0.1 + 0.2, 0, -0.0),
]


def test_records_come_back_as_they_were(tmp_path: Path) -> None:
    csv_records.write(tmp_path / "a.csv", Layer, ROWS)
    assert csv_records.read(tmp_path / "a.csv", Layer, "") == ROWS
    assert csv_records.read(tmp_path / "none.csv", Layer, "") == []
    assert csv_records.has_columns(tmp_path / "a.csv", Layer)


def test_the_bytes_are_these(tmp_path: Path) -> None:
    csv_records.write(tmp_path / "a.csv", Layer, ROWS[:2])
    assert (tmp_path / "a.csv").read_bytes() == (
        b"name,depth,images,value\n"
        b'"conv, ""3""",0.3333333333333333,7,1e-300\n'
        b'"gr\xc3\xb6\xc3\x9fe\n2",,-1,inf\n'
    )
    csv_records.write(tmp_path / "a.csv", Layer, [Layer("a", 2 / 3, 12345678, 2.0)], digits=6)
    assert (tmp_path / "a.csv").read_text().splitlines()[1] == "a,0.666667,12345678,2"


def test_numbers_of_numpy_are_written_as_numbers(tmp_path: Path) -> None:
    csv_records.write(tmp_path / "a.csv", Layer, [Layer("a", np.float64(0.1), np.int64(3))])  # type: ignore[arg-type]
    assert (tmp_path / "a.csv").read_text().splitlines()[1] == "a,0.1,3,0.5"


def test_columns_may_be_fewer_or_more(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text("mine,images,name,depth\nx,3,a,\n")
    assert csv_records.read(file, Layer, "") == [Layer("a", None, 3)]
    assert not csv_records.has_columns(file, Layer)


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("name,images\na,3\n", "the column depth is missing"),
        ("name,depth,images\na,,\n", "a number is missing"),
        ("name,depth,images\na,much,1\n", "much"),
        ("name,depth,images\na,1,1.5\n", "1.5"),
    ],
)
def test_what_does_not_read_is_said_with_what_to_do(tmp_path: Path, text: str, wrong: str) -> None:
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(InputError) as caught:
        csv_records.read(tmp_path / "a.csv", Layer, "delete it.")
    assert str(caught.value).startswith(f"{tmp_path / 'a.csv'}")
    assert wrong in str(caught.value)
    assert str(caught.value).endswith("; delete it.")
