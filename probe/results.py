"""results.csv: one row per backbone, layer, method, task and fold."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, get_type_hints

from features.data.table import read_rows
from features.errors import InputError
from features.files import write_text

BEST = "best"
"""The layer of a row whose layer was chosen inside the training folds."""


@dataclass(frozen=True)
class Row:
    """One line of results.csv; accuracies are fractions, an empty cell is not applicable."""

    backbone: str
    domain: str
    layer: str
    """A layer's name, or `best`: the layer and pooling chosen inside the training folds."""
    pool: str
    depth: float | None
    method: str
    task: str
    fold: int
    accuracy: float
    balanced_accuracy: float
    macro_f1: float
    one_off: float | None
    mae: float | None
    n_test: int
    n_train: int
    dim: int | None
    scale: str
    solver: str
    C: float
    """The C chosen; alpha for ridge, k for knn."""
    at_edge: int
    """1: the choice is the first or last of its grid."""
    selection: float
    """The inner score of the choice: minus log loss (logistic) or accuracy; larger is better."""
    chosen: str
    """For `best` rows, the layer (and pooling) that was chosen."""
    seed: int
    views: str
    repeat: int
    shots: str
    draw: str
    crops: int
    converged: int
    protocol: str

    @property
    def key(self) -> tuple[str, ...]:
        """What makes two rows the same result made twice."""
        return (self.task, self.backbone, self.layer, self.pool, self.method, str(self.fold))

    @property
    def features_key(self) -> str:
        """The layer as feature files and predictions.h5 name it."""
        return self.layer if self.pool in ("", "none", "auto") else f"{self.layer}:{self.pool}"


COLUMNS = tuple(f.name for f in fields(Row))


def read(file: Path) -> list[Row]:
    """All rows; none if the file does not exist.

    Raises:
        InputError: A column is missing or a cell does not read.
    """
    if not file.is_file():
        return []
    header, lines = read_rows(file)
    missing = [name for name in COLUMNS if name not in header]
    if missing:
        raise InputError(
            f"{file}: the column {missing[0]} is missing; delete the file and fit again."
        )
    types = get_type_hints(Row)
    place = {name: header.index(name) for name in COLUMNS}
    try:
        return [
            Row(**{name: _read_cell(line[place[name]], types[name]) for name in COLUMNS})
            for line in lines
        ]
    except ValueError as error:
        raise InputError(
            f"{file}: {error}; restore the file, or delete it and fit again."
        ) from error


def write(file: Path, rows: Iterable[Row]) -> None:
    """Write all rows in one step, in order of key."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in rows:
        writer.writerow([_cell(getattr(row, name)) for name in COLUMNS])
    write_text(file, text.getvalue())


def replace(rows: Iterable[Row], new: Iterable[Row]) -> list[Row]:
    """`rows` with every one that `new` makes again replaced, the rest in their order."""
    kept = {row.key: row for row in rows}
    kept.update({row.key: row for row in new})
    return list(kept.values())


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _read_cell(text: str, wanted: Any) -> Any:
    if wanted is str:
        return text
    if text == "":
        if "None" in str(wanted):
            return None
        raise ValueError("a number is missing")
    return int(text) if wanted is int else float(text)
