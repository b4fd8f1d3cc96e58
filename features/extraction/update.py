"""`--update`: the rows that a study's data gained, in all its files."""

from __future__ import annotations

from pathlib import Path

from features.extraction.provenance import grown
from features.machine.files import lock_of, locked
from features.store.featurefile import FeatureFile, every_file
from features.store.making import copy
from features.study.study import Study, append, hash_of


def updated(study: Study, data: str | None) -> Study:
    """The study with the rows that its data gained, pending in every feature file.

    Raises:
        InputError: The data is not the study's, an ordered task gains a class, or another process is
            writing a file.
    """
    with locked(study.folder / ".images.lock", str(study.folder / "images.csv")):
        more = append(study, data)
        for path in every_file(study.folder):
            with locked(lock_of(path.with_name(path.name.removesuffix(".partial"))), str(path)):
                grow(more, path)
    return more


def grow(study: Study, path: Path) -> None:
    """Give a file the rows that its study gained since, pending; any other file is left alone."""
    if not path.is_file():
        return
    with FeatureFile(path) as file:
        attributes, n = file.attributes, len(file)
    if n < len(study) and attributes["images"] == hash_of(study.paths[:n]):
        copy(path, path, n=len(study), attributes=grown(attributes, study.images_hash))
