"""Whether the feature files of a study hold the same rows, since only those can be compared."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from features.store.featurefile import DONE
from features.study.study import Study


def unlike_rows(study: Study, backbones: Sequence[str]) -> str | None:
    """Two of the backbones that hold other rows, in one sentence; None if all hold the same.

    Only rows that are in use and have a label count.
    """
    labelled = np.any([study.labels(task) >= 0 for task in study.tasks], axis=0)
    takes_part = study.used & labelled
    first: tuple[str, bytes, int] | None = None
    for name in backbones:
        with study.features(name) as file:
            done = (file.status == DONE) & takes_part
        here = (name, done.tobytes(), int(done.sum()))
        if first is None or first[1] == here[1]:
            first = first or here
            continue
        same = "" if first[2] != here[2] else ", which are not the same"
        return (
            f"{first[0]} holds {first[2]:,} of {len(study):,} images and {name} {here[2]:,}{same}; "
            "only the same images can be compared, so extract both alike (with the same --limit, or "
            "without), or set use to 0 for the others in images.csv."
        )
    return None


def held_rows(study: Study, backbone: str) -> npt.NDArray[np.bool_]:
    """The rows with features in the file of `backbone`, `(n,)`.

    A fine-tune has no file; it reads the images that are extracted, so any other file says it. All
    rows where there is none.
    """
    for name in (backbone, *study.backbones()):
        if study.feature_path(name).is_file():
            with study.features(name) as file:
                return np.asarray(file.status == DONE)
    return np.ones(len(study), dtype=np.bool_)
