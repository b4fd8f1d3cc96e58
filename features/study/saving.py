"""Saving a study: study.toml, images.csv and copies.json."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from features.data.cells import quoted
from features.data.tasks import Task
from features.errors import InputError
from features.machine.files import sweep, write_text, write_texts
from features.machine.locks import locked
from features.machine.regular_files import read_regular
from features.study import copies
from features.study.settings import updated
from features.study.study import Study, open_study

_PATIENCE = 60.0  # seconds: whoever holds the lock only writes small files


def save(study: Study) -> None:
    """Write study.toml, images.csv and known copies; the caller holds the lock of the images.

    What a killed process left of writing them is removed, and the folder of features is created.
    """
    _sweep(study.folder)
    (study.folder / "features").mkdir(parents=True, exist_ok=True)
    images, settings = study.folder / "images.csv", study.folder / "study.toml"
    texts = {images: _csv(study), settings: _toml(study)}
    if settings.exists():  # a row whose class study.toml lacks would drop out of its task
        texts = {path: texts[path] for path in (settings, images)}
    write_texts(texts)
    if study.copies is not None:
        copies.save(study.folder / "copies.json", study.copies, study.images_hash)


def begin(study: Study) -> None:
    """Save a study in a folder that has none.

    Raises:
        InputError: Another process has begun one there in the meantime.
    """
    study.folder.mkdir(parents=True, exist_ok=True)
    with images_locked(study.folder):
        if (study.folder / "study.toml").exists():
            raise InputError(
                f"{study.folder}: another process has just begun a study here; run the command again."
            )
        save(study)


def save_images(study: Study) -> None:
    """Write images.csv and copies.json of a study that exists.

    Raises:
        InputError: Something in it other than `use` has changed since the study was opened.
    """
    with images_locked(study.folder, _PATIENCE):
        _sweep(study.folder)
        if _but_use(open_study(study.folder)) != _but_use(study):
            raise InputError(
                f"{study.folder / 'images.csv'}: has changed in the meantime; run the command again."
            )
        write_text(study.folder / "images.csv", _csv(study))
        if study.copies is not None:
            copies.save(study.folder / "copies.json", study.copies, study.images_hash)


def save_copies(study: Study) -> None:
    """Write copies.json of a study whose copies are known."""
    assert study.copies is not None
    with images_locked(study.folder, _PATIENCE):
        _sweep(study.folder)
        copies.save(study.folder / "copies.json", study.copies, study.images_hash)


@contextmanager
def images_locked(folder: Path, wait: float = 0.0) -> Iterator[None]:
    """Keep other processes from the images of the study in `folder` for the block.

    Raises:
        InputError: Another process is writing them, and still is after `wait` seconds.
    """
    with locked(folder / ".images.lock", str(folder / "images.csv"), wait):
        yield


def save_tasks(folder: Path, tasks: Mapping[str, Task]) -> None:
    """Add tasks to the study.toml of a study that exists, beside those that it has by now."""
    _save_settings(folder, lambda study: replace(study, tasks={**study.tasks, **tasks}))


def save_place(folder: Path, root: Path, source: str) -> None:
    """Write where the images are, and the data that a study was made of, to its study.toml."""
    _save_settings(folder, lambda study: replace(study, root=root, source=source))


def save_max_pixels(folder: Path, pixels: int) -> None:
    """Write the most pixels of a picture that is read to its study.toml."""
    _save_settings(folder, lambda study: replace(study, max_pixels=pixels))


def _save_settings(folder: Path, changed: Callable[[Study], Study]) -> None:
    with images_locked(folder, _PATIENCE):
        _sweep(folder)
        study = changed(open_study(folder))  # as it is by now
        write_text(folder / "study.toml", _toml(study))


def _but_use(study: Study) -> dict[str, list[str]]:
    return {name: values for name, values in study.columns.items() if name != "use"}


def _about(task: Task) -> dict[str, Any]:
    """What study.toml says of a task."""
    named = {"when_named": True} if task.when_named else {}
    if task.is_number:
        return {"kind": "number", **({"unit": task.unit} if task.unit else {}), **named}
    if task.has_labels:
        of = {"columns": list(task.columns)} if task.columns else {"classes": list(task.classes)}
        return {"kind": "labels", **of, **named}
    return {"classes": list(task.classes), "ordered": task.ordered, **named}


def _sweep(folder: Path) -> None:
    for name in ("images.csv", "study.toml", "copies.json"):
        sweep(folder / name)


def _csv(study: Study) -> str:
    text = io.StringIO()
    returns = any("\r" in cell for name in study.columns for cell in (name, *study.columns[name]))
    # Python's writer leaves a bare carriage return unquoted, and its reader ends the line there.
    quoting: Literal[0, 1] = csv.QUOTE_ALL if returns else csv.QUOTE_MINIMAL
    writer = csv.writer(text, lineterminator="\n", quoting=quoting)
    writer.writerow(map(quoted, study.columns))
    writer.writerows(map(quoted, row) for row in zip(*study.columns.values(), strict=True))
    return text.getvalue()


def _toml(study: Study) -> str:
    file = study.folder / "study.toml"
    if file.is_file():
        text = read_regular(file).decode("utf-8", errors="surrogateescape")
    elif study.closest is None:
        text = ""
    else:
        text = 'toolkit = ""\nclosest = ""  # the domain nearest to these images\n'
    closest = {} if study.closest is None else {"closest": study.closest}
    data = {"source": study.source, "root": str(study.root), "synthetic": study.synthetic}
    data |= {} if study.max_pixels is None else {"max_pixels": study.max_pixels}
    tasks = {task.name: _about(task) for task in study.tasks.values()}
    return updated(
        text, {"toolkit": version("transfer-probe"), **closest, "data": data, "tasks": tasks}
    )
