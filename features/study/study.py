"""A study: a folder that holds one data set's manifest, features, results and report.

study.toml       data source, tasks, the closest domain, toolkit version; may be edited
images.csv       one row per manifest row: path (from the root in study.toml), label columns,
subject, fold, use; frozen when the study is made, rows are only ever appended
copies.json      which rows show one image (features/study/copies.py)
features/        one feature file per backbone (features/store/featurefile.py)
results.csv, predictions/, report/    what `probe` makes of them
"""

from __future__ import annotations

import csv
import hashlib
import io
import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np

from features.arrays import Bools, Ints
from features.data import caches_images, read_data
from features.data.cells import quoted, unquoted
from features.data.manifest import Manifest
from features.data.table import read_rows
from features.data.tasks import Task, grown, infer, still_tasks, unfit
from features.errors import InputError, nearest
from features.machine.files import file_name, write_text, write_texts
from features.machine.locks import locked
from features.store.featurefile import FeatureFile
from features.study import copies
from features.study.copies import Copies, Group, merged
from features.study.settings import updated

__all__ = ["Study", "draft", "open_study", "save"]


_MOST_SIGNS = 100_000  # of a cell; Python's csv reads up to 131,072


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
    """Which rows show one image; None if no `probe data check` has looked."""

    def __len__(self) -> int:
        """The number of rows."""
        return len(self.columns["path"])

    @property
    def paths(self) -> list[str]:
        """Image paths from `root`, one per row."""
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
        """As `named_subjects`, with subjects that share a picture, in rows in use, made one."""
        named = self.named_subjects
        if self.copies is None:
            return named
        used = self.used
        groups = [[r for r in group if used[r]] for group in self.copies.acted_on(len(self))]
        return merged(named, [tuple(group) for group in groups if len(group) > 1])

    @cached_property
    def no_tasks(self) -> dict[str, str]:
        """The label columns that are no tasks, each with the reason in a sentence."""
        return unfit(self.columns, self.tasks)

    @cached_property
    def images_hash(self) -> str:
        """SHA-256 of the paths in order: what a feature file's rows are aligned with."""
        return hash_of(self.paths)

    def labels(self, task: str) -> Ints:
        """The class number of every row in `task`, `(n,)`; -1 where there is no label."""
        if task not in self.tasks:
            raise InputError(f"{self.folder}: no task {task}; {nearest(task, self.tasks)}")
        return self.tasks[task].codes(self.columns[task])

    def feature_path(self, backbone: str) -> Path:
        """The finished feature file of `backbone`, there or not."""
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
        """Make sure that the rows of a feature file are those of this study.

        Args:
            path: The feature file.
            attributes: Its root attributes.
            n: How many rows it has.

        Raises:
            InputError: They are not.
        """
        images, name = attributes.get("images"), attributes["backbone"]
        if images == self.images_hash:
            return
        if images == hash_of(self.paths[:n]):
            raise InputError(
                f"{path}: lacks the rows that its study gained; `probe extract --backbone {name} "
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


def draft(folder: Path, manifest: Manifest) -> Study:
    """The study that `manifest` would make in `folder`; nothing is written yet.

    Raises:
        InputError: No column of the manifest is a task.
    """
    columns = _storable(manifest)
    columns.setdefault("use", ["1"] * len(manifest))
    last = [name for name in ("subject", "fold", "use") if name in columns]
    ordered = {"path": columns.pop("path")}
    ordered |= {name: values for name, values in columns.items() if name not in last}
    ordered |= {name: columns[name] for name in last}
    return Study(
        folder=folder,
        source=manifest.source,
        root=manifest.root,
        columns=ordered,
        tasks=infer(ordered, manifest.tasks),
        closest=manifest.closest,
        synthetic=manifest.synthetic,
    )


def _storable(manifest: Manifest) -> dict[str, list[str]]:
    """The columns, their names without blanks at the ends, which images.csv would lose.

    Raises:
        InputError: A name or a cell cannot be written so that it is read back the same.
    """
    columns: dict[str, list[str]] = {}
    for name, values in manifest.columns.items():
        stripped = name.strip()
        if stripped in columns or "\0" in name:
            raise InputError(
                f"{manifest.source}: a column is called {name!r}, and a name has no NUL and "
                "differs from the others in more than blanks; rename it."
            )
        for row, value in enumerate(values):
            if "\0" in value or len(value) > _MOST_SIGNS:
                what = "a NUL" if "\0" in value else f"{len(value):,} signs"
                raise InputError(
                    f"{manifest.source}: {stripped} of row {row} has {what}, so it is no path and no "
                    "label; correct it or leave the column out."
                )
        columns[stripped] = values
    return columns


def save(study: Study) -> None:
    """Write study.toml, images.csv and what is known of copies; the folder is made if need be."""
    (study.folder / "features").mkdir(parents=True, exist_ok=True)
    images, settings = study.folder / "images.csv", study.folder / "study.toml"
    texts = {images: _csv(study), settings: _toml(study)}
    if settings.exists():  # rows whose classes study.toml lacks would be left out of their tasks
        texts = {path: texts[path] for path in (settings, images)}
    write_texts(texts)
    if study.copies is not None:
        copies.save(study.folder / "copies.json", study.copies, study.images_hash)


def begin(study: Study) -> None:
    """Save a study in a folder that has none.

    Raises:
        InputError: Another process has begun one there meanwhile.
    """
    study.folder.mkdir(parents=True, exist_ok=True)
    with locked(study.folder / ".images.lock", str(study.folder / "images.csv")):
        if (study.folder / "study.toml").exists():
            raise InputError(
                f"{study.folder}: another process has just begun a study here; run the command again."
            )
        save(study)


def save_images(study: Study) -> None:
    """Write images.csv, and copies.json if copies have been looked for."""
    write_text(study.folder / "images.csv", _csv(study))
    if study.copies is not None:
        copies.save(study.folder / "copies.json", study.copies, study.images_hash)


def _csv(study: Study) -> str:
    text = io.StringIO()
    returns = any("\r" in cell for name in study.columns for cell in (name, *study.columns[name]))
    # Python's writer leaves a bare carriage return unquoted, and its reader ends the line there.
    quoting: Literal[0, 1] = csv.QUOTE_ALL if returns else csv.QUOTE_MINIMAL
    writer = csv.writer(text, lineterminator="\n", quoting=quoting)
    writer.writerow(map(quoted, study.columns))
    writer.writerows(map(quoted, row) for row in zip(*study.columns.values(), strict=True))
    return text.getvalue()


def open_or_draft(folder: Path, data: str | None) -> tuple[Study, Manifest | None]:
    """The study in `folder`, or the one that `data` would make there with its manifest.

    Raises:
        InputError: The study holds other data, or the data cannot be used.
    """
    if not (folder / "study.toml").is_file():
        manifest = read_data(data if data is not None else "sample")
        return draft(folder, manifest), manifest
    study = open_study(folder)
    if caches_images(study.source) and not study.root.is_dir():
        study = replace(study, root=read_data(study.source).root)  # the cache was emptied or moved
    if data is not None:
        manifest = read_data(data)
        if manifest.source != study.source:
            raise InputError(
                f"{folder}: this study is of {study.source}, not of {manifest.source}; give "
                "another --study for other data, or leave --data out."
            )
    return study, None


def appended(study: Study, data: str | None = None) -> Study:
    """The study with the rows that its data gained since after the others; nothing is written yet.

    Rows that are there stay as they are, whatever the data says of them now, and so do the classes of
    study.toml; new ones come after them.

    Raises:
        InputError: The data is not the study's, or cannot be used, or an ordered task gains a class.
    """
    manifest = read_data(data if data is not None else study.source)
    if manifest.source != study.source:
        raise InputError(f"{study.folder}: this study is of {study.source}, not of that data.")
    there = Counter(study.paths)
    new = []
    for row, path in enumerate(manifest.columns["path"]):
        there[path] -= 1
        if there[path] < 0:
            new.append(row)
    if not new:
        return study
    blank = {"use": "1"}
    columns = {}
    for name, values in study.columns.items():
        added = manifest.columns.get(name, [blank.get(name, "")] * len(manifest))
        columns[name] = [*values, *(added[row] for row in new)]
    known = {
        name: grown(task, set(columns[name]) - set(study.columns[name]))
        for name, task in study.tasks.items()
    }
    tasks = still_tasks(columns, {**manifest.tasks, **known})
    return replace(study, columns=columns, tasks=tasks, copies=None)  # new rows may be copies too


def _toml(study: Study) -> str:
    file = study.folder / "study.toml"
    if file.is_file():
        text = file.read_bytes().decode("utf-8", errors="surrogateescape")
    elif study.closest is None:
        text = ""
    else:
        text = 'toolkit = ""\nclosest = ""  # the domain nearest to these images\n'
    closest = {} if study.closest is None else {"closest": study.closest}
    data = {"source": study.source, "root": str(study.root), "synthetic": study.synthetic}
    tasks = {
        task.name: {"classes": list(task.classes), "ordered": task.ordered}
        for task in study.tasks.values()
    }
    return updated(
        text, {"toolkit": version("transfer-probe"), **closest, "data": data, "tasks": tasks}
    )
