"""Drafting a study from a data set, and adding the rows that the data gained; nothing is written."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from features.data import caches_images, options_in, read_data, with_options
from features.data.manifest import Manifest
from features.data.roles import roles_asked
from features.data.task_columns import infer, still_tasks
from features.data.tasks import RESERVED, grown
from features.errors import InputError
from features.machine import pixel_limit
from features.study.checked_data import checked_data
from features.study.study import Study, has_study, open_study

_MOST_CHARACTERS = 100_000  # of a cell; Python's csv reads up to 131,072


def open_or_draft(folder: Path, data: str | None) -> tuple[Study, Manifest | None]:
    """The study in `folder`, or a draft of one of `data` and its manifest.

    Without `data` a new study is of the data that `probe data check` noted there, else of the sample. From
    now on the limit of pixels that the study keeps holds.

    Raises:
        InputError: The study holds other data, or the data cannot be used.
    """
    if not has_study(folder):
        _check_bare(folder)  # before the data are read, which may take long
        manifest = read_data(data or checked_data(folder) or "sample")
        pixel_limit.of_study(None)
        return draft(folder, manifest), manifest
    study = open_study(folder)
    pixel_limit.of_study(study.max_pixels)
    if caches_images(study.source) and not study.root.is_dir():
        study = replace(study, root=_of_study(study).root)  # the cache was emptied or moved
    if data is not None:
        _of_study(study, data)
    return study, None


def draft(folder: Path, manifest: Manifest) -> Study:
    """The study of the data set `manifest` in `folder`; nothing is written yet.

    Raises:
        InputError: No column of the manifest is a task, or the folder has what is left of another study.
    """
    _check_bare(folder)
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
        max_pixels=pixel_limit.given(),
    )


def _check_bare(folder: Path) -> None:
    """Refuse a folder with features or results, whose images.csv a new study would replace."""
    if has_study(folder):
        raise InputError(
            f"{folder}: another process has just begun a study here; run the command again."
        )
    # Not the locks, which are hidden: a run that was killed before it wrote anything leaves them.
    files = sorted(p for p in folder.glob("features/*.h5*") if not p.name.startswith("."))
    left = [*files, folder / "results.csv", folder / "predictions"]
    for path in left:
        if os.path.lexists(path):
            raise InputError(
                f"{folder}: has {path.relative_to(folder)} of a study whose study.toml is gone; put "
                "study.toml back, or name another --study."
            )


def _storable(manifest: Manifest) -> dict[str, list[str]]:
    """The columns, with names stripped of blanks at the ends, which images.csv would lose.

    Raises:
        InputError: A name or a cell cannot be written so that it is read back the same.
    """
    columns: dict[str, list[str]] = {}
    for name, values in manifest.columns.items():
        stripped = name.strip()
        if stripped in columns or "\0" in name:
            raise InputError(
                f"{manifest.source}: the name of the column {name!r} has a NUL, or differs from another "
                "only in blanks; rename it."
            )
        for row, value in enumerate(values):
            if "\0" in value or len(value) > _MOST_CHARACTERS:
                problem = "a NUL" if "\0" in value else f"{len(value):,} characters"
                raise InputError(
                    f"{manifest.source}: {stripped} of row {row} has {problem}, so it is no path and no "
                    "label; correct it or leave the column out."
                )
        columns[stripped] = values
    return columns


def appended(study: Study, data: str | None = None) -> Study:
    """The study with the rows that its data gained appended; nothing is written yet.

    Existing rows stay as they are, even if the data has changed them, and so do the classes of
    study.toml; new classes come after them.

    Raises:
        InputError: The data is not the study's, or cannot be used, or an ordered task gains a class.
    """
    manifest = _of_study(study, data)
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
        name: grown(task, set(columns.get(name, ())) - set(study.columns.get(name, ())))
        for name, task in study.tasks.items()
    }
    tasks = still_tasks(columns, {**manifest.tasks, **known})
    return replace(study, columns=columns, tasks=tasks, copies=None)  # new rows may be copies too


def _of_study(study: Study, data: str | None = None) -> Manifest:
    """The data of a study as they are now, with its columns called and taken as when it was made.

    Args:
        study: The study.
        data: What was given as its data, with or without the columns' roles; else what study.toml has.

    Raises:
        InputError: `data` is of something else or has other roles, or it cannot be used.
    """
    own, recorded = options_in(study.source)
    if "root" in recorded:  # a relative one was meant from the folder where the study was begun
        root = Path(recorded["root"]).expanduser()
        recorded["root"] = str(root.resolve() if root.is_absolute() else study.root)
    columns = recorded.pop("columns", None)
    where, given = (own, dict(recorded)) if data is None else options_in(data)
    asked = given.pop("columns", None)
    _check_roles(study, roles_asked(asked), roles_asked(columns))
    if columns is not None and Path(where).is_file():
        given["columns"] = columns
    manifest = read_data(with_options(where, given), standing=tuple(study.columns))
    now, options = options_in(manifest.source)
    options.pop("columns", None)
    if (now, options) != (own, recorded):
        raise InputError(
            f"{study.folder}: this study is of {study.source}, not of {manifest.source}; give "
            "another --study for other data, or leave --data out."
        )
    return manifest


def _check_roles(study: Study, asked: Mapping[str, str], recorded: Mapping[str, str]) -> None:
    """Refuse roles that the columns of a study do not have in it; of other columns any may be asked."""
    for name, role in asked.items():
        standing = name if name in RESERVED else "label"
        has = recorded.get(name, standing if name in study.columns else role)
        if role != has:
            what = "a label" if has == "label" else f"the {has}"
            raise InputError(
                f"--columns {name}={role}: the column {name} is {what} in "
                f"{study.folder}; give another --study to begin one where it is otherwise."
            )
