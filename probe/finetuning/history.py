"""training.csv: how the training of every fine-tune went, one row per fold, stage and epoch."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from features.data.table import read_rows
from features.errors import InputError
from features.machine.files import write_text
from probe.training.setup import Epoch

COLUMNS = (
    "backbone", "layer", "method", "task", "fold", "stage", "rate", "epoch", "loss", "accuracy",
    "inner_loss", "inner_accuracy", "seconds",
)  # fmt: skip


@dataclass(frozen=True)
class Line:
    """One epoch of one training."""

    backbone: str
    layer: str
    """The cut, empty without one."""
    method: str
    task: str
    fold: int
    stage: str
    """`inner`, which chooses the epochs and has an inner loss, or `whole`, on all training rows."""
    rate: float
    """The learning rate at its highest."""
    epoch: Epoch
    """Its losses are means in nats; its accuracies fractions."""

    @property
    def cells(self) -> list[str]:
        """As they stand in the file."""
        e = self.epoch
        numbers = (e.loss, e.accuracy, e.inner_loss, e.inner_accuracy, e.seconds)
        return [
            self.backbone,
            self.layer,
            self.method,
            self.task,
            str(self.fold),
            self.stage,
            f"{self.rate:g}",
            str(e.epoch + 1),
            *("" if x is None else f"{x:.6g}" for x in numbers),
        ]


def read(file: Path) -> list[Line]:
    """All epochs; none where nothing was trained.

    Raises:
        InputError: A cell does not read.
    """
    if not file.is_file():
        return []
    header, rows = read_rows(file)
    try:
        return [_line(dict(zip(header, row, strict=True))) for row in rows]
    except (KeyError, ValueError) as error:
        raise InputError(
            f"{file}: {error}; restore the file, or delete it: only the curves of training are lost."
        ) from error


def _line(cell: dict[str, str]) -> Line:
    def number(name: str) -> float | None:
        return float(cell[name]) if cell[name] else None

    return Line(
        cell["backbone"],
        cell["layer"],
        cell["method"],
        cell["task"],
        int(cell["fold"]),
        cell["stage"],
        float(cell.get("rate", 0)),
        Epoch(
            int(cell["epoch"]) - 1,
            float(cell["loss"]),
            float(cell["accuracy"]),
            number("inner_loss"),
            number("inner_accuracy"),
            float(cell["seconds"]),
        ),
    )


def add(file: Path, lines: Sequence[Line]) -> None:
    """Put the epochs of whole results into the file, in the place of older ones."""
    kept: list[list[str]] = []
    new = [line.cells for line in lines]
    made = {tuple(cells[:4]) for cells in new}
    if file.is_file():
        _, there = read_rows(file)
        kept = [cells for cells in there if tuple(cells[:4]) not in made]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows([*kept, *new])
    write_text(file, text.getvalue())
