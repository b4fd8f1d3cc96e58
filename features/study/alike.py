"""Whether the feature files of a study have the same rows, since only those can be compared."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from features.arrays import Bools
from features.store.contents import FileContents, contents_of
from features.store.featurefile import DONE
from features.study.study import Study


def unlike_rows(study: Study, backbones: Sequence[str]) -> str | None:
    """Two backbones with features of different rows, in one sentence; None if all have the same rows.

    Only rows that are in use and labelled count.
    """
    return _unlike(study, ((name, _done(study, name)) for name in backbones))


def unlike_files(study: Study, known: Mapping[Path, FileContents]) -> str | None:
    """Two backbones of the study with features of different rows, in one sentence; None if there are none.

    Args:
        study: The study.
        known: The contents of files that have been read already.

    Raises:
        InputError: A file is damaged, or its rows are not those of the study.
    """

    def each() -> Iterator[tuple[str, Bools]]:
        for path in study.finished_files():
            contents = known[path] if path in known else contents_of(path)
            if contents is not None:
                study.check_rows(path, contents.attributes, contents.n)
                yield str(contents.attributes["backbone"]), contents.status == DONE

    return _unlike(study, each())


def _unlike(study: Study, each: Iterable[tuple[str, Bools]]) -> str | None:
    """Two backbones whose rows with features, `(n,)`, differ, in one sentence; None if there are none."""
    labelled = np.any([study.labelled(task) for task in study.tasks], axis=0)
    takes_part = study.used & labelled
    first: tuple[str, bytes, int] | None = None
    for name, with_features in each:
        done = with_features & takes_part
        here = (name, done.tobytes(), int(done.sum()))
        if first is None or first[1] == here[1]:
            first = first or here
            continue
        same = "" if first[2] != here[2] else ", which are not the same"
        return (
            f"{first[0]} has {first[2]:,} of {len(study):,} images and {name} {here[2]:,}{same}; "
            "only the same images can be compared, so extract both with the same --limit, or "
            "without, or set use to 0 for the others in images.csv."
        )
    return None


def held_rows(study: Study, backbone: str) -> Bools:
    """The rows with features in the file of `backbone`, `(n,)`.

    A fine-tuned network has no file; it is trained on the extracted images, so any other file gives the
    rows. All rows where there is no file.
    """
    for name in (backbone, *study.backbones()):
        if study.file_is_there(name):
            return _done(study, name)
    return np.ones(len(study), dtype=np.bool_)


def _done(study: Study, backbone: str) -> Bools:
    with study.features(backbone) as file:
        return np.asarray(file.status == DONE)
