"""The protocol: everything that defines a number besides the network, as one short hash."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from typing import TYPE_CHECKING

from features.data.tasks import Task
from features.study.study import Study
from probe.folds import Splits
from probe.results import metrics

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from _typeshed import DataclassInstance

_VERSION = 3  # raised when the meaning of a number changes

_WORDS = {
    "version": "version of the protocol",
    "metrics": "metrics",
    "images": "images",
    "classes": "classes",
    "ordered": "order of the classes",
    "labels": "labels",
    "subjects": "subjects",
    "folds": "number of folds",
    "parts": "images of the folds",
}


def protocol(
    study: Study, task: Task, splits: Splits, settings: DataclassInstance, seed: int
) -> str:
    """The protocol as JSON, over the data, folds, scaler, grid, rule of selection and metrics.

    Args:
        study: The study.
        task: The task.
        splits: Who is tested where, and who validates.
        settings: A dataclass of what else decides the numbers of a method: of a probe or a fine-tune.
        seed: Of whatever is drawn.
    """
    tested = splits.part >= 0
    said = {
        "version": _VERSION,
        "metrics": metrics.NAMES,
        "images": study.images_hash,
        "classes": task.classes,
        "ordered": task.ordered,
        "labels": _hash(study.labels(task.name)[tested].tobytes()),
        "subjects": _hash(study.subjects[tested].tobytes()),
        "truth": _truth(study, task.name, splits.fold),
        "folds": len(splits.folds),
        "parts": _hash(splits.part.tobytes()),
        "settings": asdict(settings),
        "seed": seed,
    }
    return json.dumps(said, sort_keys=True)


def outdated(study: Study, task: str, said: str, fold: npt.NDArray[np.integer]) -> str | None:
    """What of the study has changed since scores were made of it; None if nothing has.

    Args:
        study: The study as it is now.
        task: The task's name.
        said: The protocol that the scores were made under.
        fold: The fold in which every image was tested, `(n,)`; -1 where not.
    """
    then = json.loads(said) if said else {}
    if len(fold) != len(study) or then.get("images", study.images_hash) != study.images_hash:
        return "its images"
    if tuple(then.get("classes", study.tasks[task].classes)) != study.tasks[task].classes:
        return f"the classes of {task}"
    now = _truth(study, task, fold)
    if then.get("truth", now) != now:
        return f"the labels of {task}, or subjects"
    return "which images are in use" if not study.used[fold >= 0].all() else None


def _truth(study: Study, task: str, fold: npt.NDArray[np.integer]) -> str:
    """What the scores of the tested images are held against."""
    tested = fold >= 0
    return _hash(study.labels(task)[tested].tobytes() + study.subjects[tested].tobytes())


def mark(said: str) -> str:
    """A protocol's hash, twelve hexadecimal digits: what stands in every row."""
    return _hash(said.encode())[:12]


def without_folds(said: str) -> str:
    """A protocol less which images are in which fold: what the repeats of a cross-validation share."""
    known = json.loads(said)
    known.pop("parts", None)
    return json.dumps(known, sort_keys=True)


def differences(a: str, b: str) -> list[str]:
    """What tells two protocols apart, each in a few words; `method` stands for another method.

    Rows of unlike methods can be compared if nothing else differs: their scaling and grids are
    their own, and so is all that a fine-tune is trained by.
    """
    one, other = json.loads(a), json.loads(b)
    said = [words for name, words in _WORDS.items() if one.get(name) != other.get(name)]
    mine, theirs = one.get("settings", {}), other.get("settings", {})
    tuned = "recipe" in mine and "recipe" in theirs
    if mine.get("method") != theirs.get("method") or (tuned and mine != theirs):
        return [*said, "method"]
    unlike = sorted(k for k in {*mine, *theirs} if mine.get(k) != theirs.get(k))
    return [
        *said,
        *(
            name
            if isinstance(mine.get(name), list | dict)
            else f"{name} ({mine.get(name)} and {theirs.get(name)})"
            for name in unlike
        ),
    ]


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
