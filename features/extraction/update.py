"""`--update`: appending the rows that a study's data gained to all its files."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path

from features.extraction.provenance import grown
from features.machine.locks import lock_of, locked
from features.store.contents import FileContents, contents_of
from features.store.making import GROWN, copy, sweep
from features.store.paths import every_file
from features.study.drafting import appended
from features.study.saving import images_locked, save
from features.study.study import Study, hash_of, open_study


def updated(study: Study, data: str | None) -> Study:
    """The study with the rows that its data gained, pending in every feature file.

    Every file is written beside the old one before any replaces it, so that a full disk or a damaged
    file leaves the study as it was. A process killed while they are replaced leaves some files with
    fewer rows than images.csv; the next run extends those.

    Raises:
        InputError: The data is not the study's, an ordered task gains a class, the rows of a file are
            not the study's, or another process is writing a file.
        OSError: A file could not be written.
    """
    with ExitStack() as stack:
        stack.enter_context(images_locked(study.folder))
        study = open_study(study.folder)  # another process may have written it since it was opened
        more = appended(study, data)
        paths = every_file(study.folder)
        for path in dict.fromkeys(p.with_name(p.name.removesuffix(".partial")) for p in paths):
            stack.enter_context(locked(lock_of(path), str(path)))
            sweep(path)
        new = {path: path.with_name(path.name + GROWN) for path in paths}
        for path, beside in new.items():
            stack.callback(beside.unlink, missing_ok=True)
            held = contents_of(path)
            if held is not None and held.attributes["images"] != hash_of(more.paths[: held.n]):
                more.check_rows(path, held.attributes, held.n)
            _grow(more, path, beside, held)
        if more is not study:
            save(more)
        for path, beside in new.items():
            if beside.exists():
                os.replace(beside, path)  # noqa: PTH105 - one step, whatever is there
    return more


def grow(study: Study, path: Path, contents: FileContents | None) -> FileContents | None:
    """Add the rows that a study gained to a file, as pending; other files are not changed.

    Args:
        study: The study.
        path: The feature file.
        contents: The contents of the file; None where there is none.

    Returns:
        The contents afterwards.
    """
    return contents_of(path) if _grow(study, path, path, contents) else contents


def _grow(study: Study, path: Path, new_path: Path, contents: FileContents | None) -> bool:
    """Write a file with the rows that it lacks as `new_path`; False if it lacks none."""
    if contents is None or contents.n >= len(study):
        return False
    if contents.attributes["images"] != hash_of(study.paths[: contents.n]):
        return False
    copy(path, new_path, n=len(study), attributes=grown(contents.attributes, study.images_hash))
    return True
