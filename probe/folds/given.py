"""The folds or the split that a data set comes with."""

from __future__ import annotations

import numpy as np

from features.arrays import Bools, Ints
from features.study.study import Study

SPLIT_NAMES = {
    "train": "train", "training": "train",
    "val": "val", "valid": "val", "validation": "val", "dev": "val",
    "test": "test", "testing": "test",
}  # fmt: skip
"""What a column `split` may hold, in any case, and which split it is."""


def own_folds(study: Study) -> Ints | None:
    """The data set's own fold of every row in use, `(n,)`, -1 elsewhere; None if it has none."""
    own = study.columns.get("fold")
    if own is None or not any(own):
        return None
    named = [name if use else "" for name, use in zip(own, study.used.tolist(), strict=True)]
    number = {name: i for i, name in enumerate(sorted(set(named) - {""}))}
    return np.array([number.get(name, -1) for name in named], dtype=np.int64)


def has_split(study: Study) -> bool:
    """Whether the data set comes with a split to keep to: a column that parts its rows, and no folds."""
    names = study.columns.get("split")
    if names is None or own_folds(study) is not None:
        return False
    used = {name for name, use in zip(names, study.used.tolist(), strict=True) if use}
    return len({SPLIT_NAMES.get(name.casefold(), name) for name in used - {""}}) > 1


def training_of(study: Study, task: str, fold: Ints, number: int, held: Bools) -> Bools:
    """The rows that the tests of fold `number` were trained for, `(n,)`, given the fold of every row.

    Of a split they are all with a label and features (`held`, `(n,)`) outside it, for nobody tests
    them.
    """
    if fold.max() > 0 or not has_split(study):
        return np.asarray((fold >= 0) & (fold != number))
    return np.asarray(study.labelled(task) & study.used & held & (fold < 0) & ~tested_rows(study))


def tested_rows(study: Study) -> Bools:
    """The rows of the split that is tested: test, or val where there is none, `(n,)`."""
    names = np.array([SPLIT_NAMES.get(name.casefold(), name) for name in study.columns["split"]])
    return np.asarray(names == ("test" if "test" in names[study.used] else "val"))
