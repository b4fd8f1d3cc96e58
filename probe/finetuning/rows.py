"""The rows that a fine-tune trains and tests on: those that are extracted and decode."""

from __future__ import annotations

import numpy as np

from features.arrays import Bools
from features.errors import InputError
from features.store.featurefile import DONE, PENDING
from features.study.study import Study, has_study
from probe.training.feed import ImageFeed


def extracted_rows(study: Study) -> Bools:
    """The rows that an extraction has reached, `(n,)`, so that probes and fine-tunes see the same images.

    Of several backbones the one counts that has reached most rows; all rows where nothing is extracted.
    """
    reached = []
    for name in study.backbones():
        with study.features(name) as file:
            reached.append(np.asarray(file.status != PENDING))
    return max(reached, key=np.count_nonzero, default=np.ones(len(study), dtype=np.bool_))


def readable_rows(study: Study, feed: ImageFeed, wanted: Bools) -> Bools:
    """Which of the rows `wanted` decode, `(n,)`: as an extraction recorded it, else tried now.

    Raises:
        InputError: None does.
    """
    if feed.images.kept is None:
        for name in study.backbones():
            with study.features(name) as file:
                status = file.status
            if (status[wanted] != PENDING).all():
                return np.asarray((status == DONE) & wanted)
    readable = np.zeros(len(study), dtype=np.bool_)
    readable[wanted] = feed.images.readable(np.flatnonzero(wanted))
    if not readable.any():
        moved = ", or give --root DIR if they are in another folder now"
        raise InputError(
            f"{study.source}: none of its {wanted.sum()} images can be read; check the paths"
            f"{moved if has_study(study.folder) else ''}."
        )
    return readable
