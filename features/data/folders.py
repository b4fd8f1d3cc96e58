"""A folder of class folders: the first folder of an image's path is its label."""

from __future__ import annotations

from pathlib import Path

from features.data.imagefiles import image_files
from features.data.manifest import Manifest
from features.data.tasks import Task, order
from features.errors import InputError


def read_folders(folder: Path) -> Manifest:
    """One row per image file under `folder`, in order of path; the task is called `label`.

    Raises:
        InputError: There is no image, or images lie beside class folders but in none.
    """
    paths = image_files(folder)
    if not paths:
        raise InputError(
            f"{folder}: there are no image files in it; give a folder with one folder of images "
            "per class."
        )
    labels = [path.split("/")[0] if "/" in path else "" for path in paths]
    if not any(labels):
        raise InputError(
            f"{folder}: its {len(paths)} images lie in no class folder; sort them into one folder "
            "per class, or write a CSV manifest with the columns path and label."
        )
    loose = tuple(
        (p, "in no class folder") for p, label in zip(paths, labels, strict=True) if not label
    )
    kept = [(p, label) for p, label in zip(paths, labels, strict=True) if label]
    columns = {"path": [p for p, _ in kept], "label": [label for _, label in kept]}
    classes = order(set(columns["label"]))
    tasks = {"label": Task("label", classes)} if len(classes) > 1 else {}
    return Manifest(str(folder.resolve()), folder.resolve(), columns, tasks, left_out=loose)
