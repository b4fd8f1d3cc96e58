"""A study begun by several processes that start beside each other: by one of them."""

from __future__ import annotations

import time

from features.errors import InputError
from features.study.drafting import open_or_draft
from features.study.saving import begin
from features.study.study import Study, has_study

_PATIENCE = 60.0  # seconds: whoever begins it only writes small files
_POLL = 0.2


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
