"""A study begun by several processes that start beside each other: by one of them."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from features.errors import InputError
from features.study.drafting import open_or_draft
from features.study.saving import begin
from features.study.study import Study, has_study

_PATIENCE = 60.0  # seconds: whoever begins it only writes small files
_POLL = 0.2


def opened_or_begun(
    folder: Path, data: str | None, check: Callable[[Study], object] = lambda _: None
) -> Study:
    """The study in `folder`, begun from `data` where there is none yet, by this process or another.

    Args:
        folder: The study's folder.
        data: The data set.
        check: Raises where the draft should not be begun.

    Raises:
        InputError: The data cannot be used, or the folder holds another study; or what `check` raises.
    """
    was_there = has_study(folder)
    try:
        study, manifest = open_or_draft(folder, data)
    except InputError:
        if was_there or not has_study(folder):
            raise
        study, manifest = open_or_draft(
            folder, data
        )  # another process began it while it was drafted
    if manifest is None:
        return study
    check(study)
    return begun_once(study, data)


def begun_once(study: Study, data: str | None) -> Study:
    """The study on disk, which this process or another has begun.

    Args:
        study: The draft.
        data: The data set it is drafted from, which that of another process must be too.

    Raises:
        InputError: The folder cannot hold it, or another process has begun a study of other data there.
    """
    deadline = time.monotonic() + _PATIENCE
    while not has_study(study.folder):
        try:
            begin(study)
        except InputError:  # another process is about to
            if time.monotonic() > deadline:
                raise
            time.sleep(_POLL)
    return open_or_draft(study.folder, data)[0]
