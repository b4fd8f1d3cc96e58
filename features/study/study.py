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
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from features.arrays import Bools, Doubles, Ints
from features.data.cells import unquoted, yes_or_no
from features.data.table import read_rows
from features.data.task_columns import still_tasks, unfit
from features.data.tasks import Task, numbers_of
from features.errors import InputError, nearest
from features.machine.files import file_name
from features.machine.regular_files import read_regular
from features.store.featurefile import FeatureFile
from features.study import copies
from features.study.copies import Copies, Group, merged
from features.study.settings import read_settings


@dataclass(frozen=True, repr=False)
class Study:
    """One data set and everything made of it; a row is a row of images.csv throughout."""

    folder: Path
    source: str
    root: Path
    columns: Mapping[str, list[str]]
    tasks: Mapping[str, Task]
    closest: str | None = None
    synthetic: bool = False
    max_pixels: int | None = None
    """The most pixels of a picture that is read, where a person gave another number than Pillow's."""
    copies: Copies | None = None
    """Which rows show the same image; None if `probe data check` was not run."""

    def __len__(self) -> int:
        """The number of rows."""
        return len(self.columns["path"])

    def __repr__(self) -> str:
        """The folder, the data, and how many images and tasks there are."""
        tasks = ", ".join(f"{task.name} ({len(task.classes)})" for task in self.tasks.values())
        return f"<study {self.folder}: {self.source}, {len(self)} rows, tasks {tasks}>"

    @property
    def paths(self) -> list[str]:
        """Image paths relative to `root`, one per row."""
        return self.columns["path"]

    @cached_property
    def used(self) -> Bools:
        """Which rows take part, `(n,)`.

        Those do not whose column `use` is 0 (or `False`, `no`), and those of a file that more than ten
        subjects share: it is a placeholder, and no picture of them.
        """
        cells = self.columns.get("use", ["1"] * len(self))
        used = np.array([yes_or_no(use) is not False for use in cells])
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

    @property
    def whose(self) -> str:
        """What `subjects` numbers, in the plural: without a named subject they are groups of copies."""
        return "subjects" if any(self.columns.get("subject", ())) else "groups of copies"

    @cached_property
    def no_tasks(self) -> dict[str, str]:
        """The label columns that are not tasks, each with the reason in a sentence."""
        return unfit(self.columns, self.tasks)

    @cached_property
    def images_hash(self) -> str:
        """SHA-256 of the paths in order, with which the rows of a feature file are aligned."""
        return hash_of(self.paths)

    @property
    def default_tasks(self) -> dict[str, Task]:
        """The tasks where no command names any; a column of several labels an image is none of its own."""
        within = {column for task in self.tasks.values() for column in task.columns}
        return {
            name: task
            for name, task in self.tasks.items()
            if not task.when_named and name not in within
        }

    def labels(self, task: str) -> Ints:
        """The class number of every row in `task`, `(n,)`; -1 where there is no label.

        Raises:
            InputError: There is no such task, or it is a number or several labels an image.
        """
        if not self._task(task).has_classes:
            what = "is a number" if self.tasks[task].is_number else "has several labels an image"
            raise InputError(
                f"{self.folder}: the task {task} {what}, and classes are asked for; name another task."
            )
        return self.tasks[task].codes(self.columns[task])

    def numbers(self, task: str) -> Doubles:
        """The number of every row in `task`, `(n,)`; NaN where there is none.

        Raises:
            InputError: There is no such task, or a cell holds no number.
        """
        self._task(task)
        return numbers_of(task, self.columns[task])

    def targets(self, task: str) -> Ints:
        """Which labels every row has in a task of several, `(n, labels)`: 1, 0, and -1 where not known.

        Raises:
            InputError: There is no such task, or a cell says neither yes nor no.
        """
        return self._task(task).targets(self.columns)

    def truth(self, task: str) -> Ints | Doubles:
        """The class number of every row, `(n,)`, or its number, or which labels it has, `(n, labels)`.

        Raises:
            InputError: There is no such task, or a cell cannot be read.
        """
        if self._task(task).is_number:
            return self.numbers(task)
        return self.targets(task) if self.tasks[task].has_labels else self.labels(task)

    def labelled(self, task: str) -> Bools:
        """Which rows have a class, a number or a label that is known in `task`, `(n,)`."""
        if self._task(task).is_number:
            return ~np.isnan(self.numbers(task))
        if self.tasks[task].has_labels:
            return np.asarray((self.targets(task) >= 0).any(1))
        return np.asarray(self.labels(task) >= 0)

    def _task(self, name: str) -> Task:
        if name not in self.tasks:
            raise InputError(f"{self.folder}: no task {name}; {nearest(name, self.tasks)}")
        return self.tasks[name]

    def feature_path(self, backbone: str) -> Path:
        """The path of the finished feature file of `backbone`, which may not exist."""
        return self.folder / "features" / f"{file_name(backbone)}.h5"

    def finished_files(self) -> list[Path]:
        """The finished feature files, by name."""
        return sorted((self.folder / "features").glob("*.h5"))

    def file_is_there(self, backbone: str) -> bool:
        """Whether anything stands where the finished feature file of `backbone` belongs."""
        return os.path.lexists(self.feature_path(backbone))

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
        if not self.file_is_there(backbone):
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
        if open_study(self.folder).images_hash != self.images_hash:
            raise InputError(
                f"{self.folder / 'images.csv'}: has gained rows since this began; run the command again."
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
    if not has_study(folder):
        raise InputError(
            f"{folder}: there is no study here; `probe extract --study {folder}` begins one."
        )
    file = folder / "study.toml"
    try:
        text = read_regular(file).decode("utf-8", errors="surrogateescape")
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror}); check it.") from error
    settings = read_settings(text, file)
    header, rows = read_rows(folder / "images.csv", filled="path")
    if not rows:
        raise InputError(
            f"{folder / 'images.csv'}: a header and no rows, where the study's images were; restore it."
        )
    columns = {
        unquoted(name): [unquoted(c) if (c := row[i])[:1] == "'" else c for row in rows]
        for i, name in enumerate(header)
    }
    known = {t.name: t for t in settings.tasks if set(t.sources) <= set(columns)}
    for task in settings.tasks:
        for column in task.columns:
            if column not in columns:
                raise InputError(
                    f"{file}: tasks.{task.name}.columns names {column}, and images.csv has no such column; "
                    f"{nearest(column, columns)}"
                )
    study = Study(
        folder=folder,
        source=settings.source,
        root=Path(settings.root),
        columns=columns,
        tasks=still_tasks(columns, known),
        closest=settings.closest,
        synthetic=settings.synthetic,
        max_pixels=settings.max_pixels,
    )
    held = copies.load(folder / "copies.json", study.images_hash, len(study))
    return replace(study, copies=held)


def has_study(folder: Path) -> bool:
    """Whether there is a study in `folder`, which need not exist.

    Raises:
        InputError: There is something at its name, or at that of study.toml, that no study can be in.
    """
    for above in (folder, *folder.absolute().parents):
        if os.path.lexists(above):
            if not above.is_dir():
                what = "a link to nothing" if not above.exists() else "a file, not a folder"
                raise InputError(f"--study {folder}: {above} is {what}; name another folder.")
            break
    file = folder / "study.toml"
    if os.path.lexists(file) and not file.is_file():
        raise InputError(
            f"{file}: a folder, a link to nothing or a device, not a file; restore it, or remove it "
            "to begin another study."
        )
    return file.is_file()
