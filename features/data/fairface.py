"""FairFace: age in nine ordered classes, gender and race of faces, from its label file.

Kärkkäinen, Joo, "FairFace: face attribute dataset for balanced race, gender, and age", WACV 2021. It names
no subjects.
"""

from __future__ import annotations

from pathlib import Path

from features.data.manifest import Manifest
from features.data.table import read_rows
from features.data.tasks import Task
from features.errors import InputError

AGES = (
    "0-2",
    "3-9",
    "10-19",
    "20-29",
    "30-39",
    "40-49",
    "50-59",
    "60-69",
    "more than 70",
)
_LABELS = ("age", "gender", "race")


def read_fairface(file: Path) -> Manifest:
    """Tasks `age`, `gender` and `race`; paths such as `train/1.jpg` start at the file's folder.

    Raises:
        InputError: It is no such file, or an age is none of FairFace's.
    """
    if not file.is_file():
        raise InputError(f"fairface:{file}: there is no such file; give fairface_label_train.csv.")
    header, rows = read_rows(file, filled="file")
    for name in _LABELS:
        if name not in header:
            raise InputError(f"{file}: no column {name}; give FairFace's own label file.")
    columns = {name: [row[header.index(name)] for row in rows] for name in _LABELS}
    odd = set(columns["age"]) - {*AGES, ""}
    if odd:  # spreadsheets turn 3-9 into a date
        raise InputError(
            f"{file}: {min(odd)!r} is none of FairFace's ages; fetch the file again, a spreadsheet "
            "may have changed it."
        )
    columns["path"] = [row[header.index("file")] for row in rows]
    root = file.resolve().parent
    tasks = {"age": Task("age", AGES, ordered=True)}
    return Manifest(f"fairface:{file.resolve()}", root, columns, tasks, closest="faces")
