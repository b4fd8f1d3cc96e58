"""The protocol: everything that defines a number besides the network, as one short hash."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from features.data.tasks import Task
from features.study.study import Study
from probe.folds.splits import GROUPS, Splits
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
    "choosing": "groups of folds that choose",
}
_OPTIONS = {
    "grid": "--C",
    "relative": "--C",
    "scale": "--scale",
    "solver": "--solver",
    "tol": "--tol",
}
"""The option behind a setting of a probe."""


def protocol(
    study: Study, task: Task, splits: Splits, settings: DataclassInstance, seed: int
) -> str:
    """The protocol as JSON: the data, folds, scaler, grid, rule of selection and metrics.

    Args:
        study: The study.
        task: The task.
        splits: Which images are tested in which fold, and which validate.
        settings: A dataclass of what else decides the numbers of a probe or a fine-tune.
        seed: The seed of everything that is drawn by chance.
    """
    tested = splits.part >= 0
    defining = {
        "version": _VERSION,
        "metrics": metrics.IN_PROTOCOL,
        "images": study.images_hash,
        "classes": task.classes,
        "ordered": task.ordered,
        "labels": _hash(_targets(study, task.name)[tested].tobytes()),
        "subjects": _hash(study.subjects[tested].tobytes()),
        "truth": _truth(study, task.name, splits.fold),
        "folds": len(splits.folds),
        "parts": _hash(splits.part.tobytes()),
        "settings": asdict(settings),
        "seed": seed,
    }
    if splits.in_groups:
        defining["choosing"] = GROUPS
    if task.is_number:
        defining |= {"kind": task.kind, "metrics": list(metrics.OF_NUMBERS)}
    if task.has_labels:
        defining |= {"kind": task.kind, "metrics": list(metrics.OF_LABELS)}
    return json.dumps(defining, sort_keys=True)


def _targets(study: Study, task: str) -> npt.NDArray[Any]:
    """What is predicted of every row: the number of its class, or its number, `(n,)`; labels `(n, L)`."""
    if study.tasks[task].has_labels:
        return study.targets(task)
    is_number = study.tasks[task].is_number
    return study.numbers(task) if is_number else study.labels(task)


def outdated(study: Study, task: str, under: str, fold: npt.NDArray[np.integer]) -> str | None:
    """What of the study has changed since scores were made of it; None if nothing has.

    Args:
        study: The study as it is now.
        task: The task's name.
        under: The protocol that the scores were made under; may be empty where it is unknown.
        fold: The fold in which every image was tested, `(n,)`; -1 where not.
    """
    then = json.loads(under) if under else {}
    if len(fold) != len(study) or then.get("images", study.images_hash) != study.images_hash:
        return "its images"
    if then and then.get("kind", "classes") != study.tasks[task].kind:
        return f"the kind of {task}"
    if tuple(then.get("classes", study.tasks[task].classes)) != study.tasks[task].classes:
        return f"the classes of {task}"
    now = _truth(study, task, fold)
    if then.get("truth", now) != now:
        return f"the labels of {task}, or subjects"
    return "which images are in use" if not study.used[fold >= 0].all() else None


def _truth(study: Study, task: str, fold: npt.NDArray[np.integer]) -> str:
    """The hash of the labels and subjects of the tested images."""
    tested = fold >= 0
    return _hash(_targets(study, task)[tested].tobytes() + study.subjects[tested].tobytes())


def mark(under: str) -> str:
    """The hash of a protocol, twelve hexadecimal digits: what stands in every row."""
    return _hash(under.encode())[:12]


def without_folds(under: str) -> str:
    """The protocol without which images are in which fold: what repeats of a cross-validation share."""
    defining = json.loads(under)
    defining.pop("parts", None)
    return json.dumps(defining, sort_keys=True)


def differences(a: str, b: str) -> list[str]:
    """What differs between two protocols, each in a few words; `method` stands for another method.

    Rows of different methods can be compared if nothing else differs: each method has its own scaling
    and grid, and each fine-tune its own recipe. Of a protocol that is not known, an empty text, nothing
    is told.
    """
    if not a or not b:
        return []
    first, second = json.loads(a), json.loads(b)
    different = [words for name, words in _WORDS.items() if first.get(name) != second.get(name)]
    mine, theirs = first.get("settings", {}), second.get("settings", {})
    tuned = "recipe" in mine and "recipe" in theirs
    if mine.get("method") != theirs.get("method") or (tuned and mine != theirs):
        return [*different, "method"]
    unlike = sorted(k for k in {*mine, *theirs} if mine.get(k) != theirs.get(k))
    return [
        *different,
        *(
            name
            if isinstance(mine.get(name), list | dict)
            else f"{name} ({mine.get(name)} and {theirs.get(name)})"
            for name in unlike
        ),
    ]


def options_apart(a: str, b: str) -> list[str]:
    """The options, or else what of the study, in which two protocols of one probe differ.

    Args:
        a: A protocol; an empty text is one that is not known.
        b: Another.
    """
    if not a or not b:
        return ["settings that are not known"]
    first, second = json.loads(a), json.loads(b)
    mine, theirs = first.get("settings", {}), second.get("settings", {})
    unlike = [option for name, option in _OPTIONS.items() if mine.get(name) != theirs.get(name)]
    unlike += [f"--{name}" for name in ("folds", "seed") if first.get(name) != second.get(name)]
    of_study = [
        words
        for name, words in _WORDS.items()
        if first.get(name) != second.get(name) and f"--{name}" not in unlike
    ]
    if unlike and set(of_study) <= {_WORDS["parts"], _WORDS["choosing"]}:
        of_study = []  # they follow from the others
    return list(dict.fromkeys([*unlike, *of_study]))


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
