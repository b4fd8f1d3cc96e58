"""Several labels an image: in one column with `|` between them, or in a column of 0 and 1 each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from features.arrays import Ints
from features.data.cells import yes_or_no
from features.errors import InputError

BETWEEN = "|"
"""What stands between the labels of one cell."""


def names_in(cells: Iterable[str]) -> set[str]:
    """All labels that cells such as `smiling|hat` name."""
    return {part for cell in set(cells) for part in _parts(cell)}


def targets_of(task: str, labels: Sequence[str], columns: Mapping[str, Sequence[str]]) -> Ints:
    """Which labels every image has, `(n, labels)`: 1, 0, and -1 where that is not known.

    An empty cell says that nothing is known. In a single column an image without any label is written
    `|`. In columns of their own labels are 0 or 1 (or no and yes); -1 is no where no column has a 0.

    Args:
        task: For messages.
        labels: In their order.
        columns: A single one under the task's name, else one for every label.

    Raises:
        InputError: A cell of a label's column says neither yes nor no.
    """
    if set(columns) == {task}:
        (cells,) = columns.values()
        place = {label: i for i, label in enumerate(labels)}
        made = np.zeros((len(cells), len(labels)), dtype=np.int64)
        for row, cell in enumerate(cells):
            if not cell.strip():
                made[row] = -1
            for part in _parts(cell):
                if part in place:
                    made[row, place[part]] = 1
        return made
    minus = not any(yes_or_no(cell) is False for cells in columns.values() for cell in set(cells))
    return np.stack([_column(task, label, columns[label], minus) for label in labels], axis=1)


def _column(task: str, label: str, cells: Sequence[str], minus: bool) -> Ints:
    says = {cell: yes_or_no(cell) for cell in set(cells)}
    for cell in says:
        if minus and cell.strip() in ("-1", "-1.0"):
            says[cell] = False
        elif says[cell] is None and cell.strip():
            raise InputError(
                f"task {task}: {cell!r} in the column {label} is neither yes nor no; write 1 or 0, or give "
                f"`--missing {cell.strip()}` to a new study if it means that nothing is known."
            )
    code = {cell: -1 if said is None else int(said) for cell, said in says.items()}
    return np.array([code[cell] for cell in cells], dtype=np.int64)


def _parts(cell: str) -> list[str]:
    return [part.strip() for part in cell.split(BETWEEN) if part.strip()]
