"""A study: a folder that holds one data set's manifest, features, results and report.

    study.toml       data source, tasks, the closest domain, toolkit version; may be edited
    images.csv       one row per manifest row: path (relative to the root in study.toml), label columns,
                     subject, fold, use; fixed when the study is made, rows are only ever appended
    copies.json      which rows show the same image (features/study/copies.py)
    features/        one feature file per backbone (features/store/featurefile.py)
    results.csv, predictions/, report/    written by `probe`

drafting.py makes studies, saving.py writes them.
"""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from features.arrays import Bools, Ints
from features.data.cells import unquoted
from features.data.table import read_rows
from features.data.tasks import Task, still_tasks, unfit
from features.errors import InputError, nearest
from features.machine.files import file_name
from features.store.featurefile import FeatureFile
from features.study import copies
from features.study.copies import Copies, Group, merged


@dataclass(frozen=True)
class Study:
    """One data set and everything made of it; a row is a row of images.csv throughout."""

    folder: Path
    source: str
    root: Path
    columns: Mapping[str, list[str]]
    tasks: Mapping[str, Task]
    closest: str | None = None
    synthetic: bool = False
    copies: Copies | None = None
    """Which rows show the same image; None if `probe data check` was not run."""

    def __len__(self) -> int:
        """The number of rows."""
        return len(self.columns["path"])

    @property
    def paths(self) -> list[str]:
        """Image paths relative to `root`, one per row."""
        return self.columns["path"]

    @cached_property
    def used(self) -> Bools:
        """Which rows take part, `(n,)`.

        Those do not whose column `use` is 0, and those of a file that more than ten subjects share: it
        is a placeholder, and no picture of them.
        """
        used = np.array([use != "0" for use in self.columns.get("use", ["1"] * len(self))])
        for group in self.placeholders:
            used[list(group)] = False
        return used

    @cached_property
    def placeholders(self) -> tuple[Group, ...]:
        """Rows whose one file is given as the picture of more than ten subjects."""
        if self.copies is None or "subject" not in self.columns:
            return ()
        return self.copies.shared(self.columns["subject"])

    @cached_property
    def named_subjects(self) -> Ints:
        """The subject of every row as a number, `(n,)`; a row without one is its own subject."""
        names = self.columns.get("subject", [""] * len(self))
        keys = [("subject", name) if name else ("row", str(i)) for i, name in enumerate(names)]
        number = {key: i for i, key in enumerate(dict.fromkeys(keys))}
        return np.array([number[key] for key in keys], dtype=np.int64)

    @cached_property
    def subjects(self) -> Ints:
        """As `named_subjects`, with subjects merged that share an image in rows in use."""
        named = self.named_subjects
        if self.copies is None:
            return named
        used = self.used
        groups = [[r for r in group if used[r]] for group in self.copies.acted_on(len(self))]
        return merged(named, [tuple(group) for group in groups if len(group) > 1])

    @cached_property
    def no_tasks(self) -> dict[str, str]:
        """The label columns that are not tasks, each with the reason in a sentence."""
        return unfit(self.columns, self.tasks)

    @cached_property
    def images_hash(self) -> str:
        """SHA-256 of the paths in order, with which the rows of a feature file are aligned."""
        return hash_of(self.paths)

    def labels(self, task: str) -> Ints:
        """The class number of every row in `task`, `(n,)`; -1 where there is no label."""
        if task not in self.tasks:
            raise InputError(f"{self.folder}: no task {task}; {nearest(task, self.tasks)}")
        return self.tasks[task].codes(self.columns[task])

    def feature_path(self, backbone: str) -> Path:
        """The path of the finished feature file of `backbone`, which may not exist."""
        return self.folder / "features" / f"{file_name(backbone)}.h5"

    def finished_files(self) -> list[Path]:
        """The finished feature files, by name."""
        return sorted((self.folder / "features").glob("*.h5"))

    def backbones(self) -> list[str]:
        """The backbones with a finished feature file, by name."""
        names = []
        for path in self.finished_files():
            with FeatureFile(path) as file:
                names.append(file.backbone)
        return names

    def features(self, backbone: str) -> FeatureFile:
        """Open the feature file of `backbone`.

        Raises:
            InputError: There is none, or its rows are not those of this study.
        """
        path = self.feature_path(backbone)
        if not path.is_file():
            raise InputError(
                f"{self.folder}: no features of {backbone}; {nearest(backbone, self.backbones())} "
                f"`probe extract --backbone {backbone}` makes them."
            )
        file = FeatureFile(path)
        try:
            self.check_rows(path, file.attributes, len(file))
        except InputError:
            file.close()
            raise
        return file

    def check_rows(self, path: Path, attributes: Mapping[str, Any], n: int) -> None:
        """Check that the rows of a feature file are those of this study.

        Args:
            path: The feature file.
            attributes: Its root attributes.
            n: Its number of rows.

        Raises:
            InputError: They are not.
        """
        images, name = attributes.get("images"), attributes["backbone"]
        if images == self.images_hash:
            return
        if images == hash_of(self.paths[:n]):
            raise InputError(
                f"{path}: lacks the rows that were added to its study; `probe extract --backbone {name} "
                "--update` adds them."
            )
        raise InputError(
            f"{path}: its rows belong to another images.csv; `probe remove {name}` and extract it again."
        )


def hash_of(paths: Sequence[str]) -> str:
    """SHA-256 of the paths of images in order."""
    return hashlib.sha256("\0".join(paths).encode("utf-8", errors="surrogateescape")).hexdigest()


def open_study(folder: Path | str) -> Study:
    """Open the study in `folder`.

    Raises:
        InputError: There is none, or its study.toml or images.csv cannot be used.
    """
    folder = Path(folder)
    file = folder / "study.toml"
    if not file.is_file():
        raise InputError(
            f"{folder}: there is no study here; `probe extract --study {folder}` begins one."
        )
    try:
        raw = tomllib.loads(file.read_bytes().decode("utf-8", errors="surrogateescape"))
        data = raw["data"]
        known = {
            name: Task(name, tuple(task["classes"]), bool(task.get("ordered", False)))
            for name, task in raw.get("tasks", {}).items()
        }
        header, rows = read_rows(folder / "images.csv", filled="path")
        columns = {
            unquoted(name): [unquoted(row[i]) for row in rows] for i, name in enumerate(header)
        }
        study = Study(
            folder=folder,
            source=data["source"],
            root=Path(data["root"]),
            columns=columns,
            tasks=still_tasks(columns, {k: v for k, v in known.items() if k in columns}),
            closest=raw.get("closest"),
            synthetic=bool(data.get("synthetic", False)),
        )
        return replace(study, copies=copies.load(folder / "copies.json", study.images_hash))
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{file}: not a TOML file, {error}; mend that line.") from error
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{file}: {error} is missing or wrong; restore it.") from error
