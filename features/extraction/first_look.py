"""A first look (`extract --quick`): a few stages of a network, on as many images as take half a minute."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import closing

import numpy as np

from features.arrays import Ints
from features.backbone import Architecture, choose
from features.cards.stages import stages
from features.extraction.batches import blocks, rows_within, windows
from features.extraction.pipeline import Pass, compute
from features.extraction.rounds import FeatureTarget
from features.store.contents import contents_of
from features.store.featurefile import PENDING
from features.study.study import Study

POOLS = ("avg",)
_SECONDS = 30.0
"""Beyond which a part of the images is drawn."""
_FEWEST = 400
"""Images that are taken however long they take: fewer tell next to nothing."""
_TIMED = 3
"""Batches that are timed, the first of which is not counted: it warms up."""


def stage_names(architecture: Architecture) -> tuple[str, ...]:
    """The default layers of a network that end a stage, six at most."""
    layers = choose(architecture, ())
    return tuple(layers[i].name for i in stages([layer.shape for layer in layers]))


def rows_in_time(
    study: Study,
    targets: Sequence[FeatureTarget],
    announce: Callable[[str], None],
    clock: Callable[[float], str],
) -> Ints:
    """The rows whose images a first look takes.

    They are those that the study has features of, so that backbones can be compared; else as many as are
    computed in half a minute, by the time of the first batches.
    """
    for path in study.finished_files():
        contents = contents_of(path)
        if contents is not None:
            return np.flatnonzero(contents.status != PENDING)
    seconds = sum(_seconds_of_an_image(study, target) for target in targets)
    whole = seconds * len(study)
    if whole <= _SECONDS or len(study) <= _FEWEST:
        return rows_within(study, None)
    limit = max(_FEWEST, int(_SECONDS / seconds) // 100 * 100)
    if limit < len(study):
        announce(
            f"a first look: all {len(study):,} images would take about {clock(whole)}, so {limit:,} are "
            "drawn; the same command without --quick extracts the others too"
        )
    return rows_within(study, limit)


def _seconds_of_an_image(study: Study, target: FeatureTarget) -> float:
    """The seconds that an image takes, from the file to features, with all lanes at work."""
    job = target.job
    todo = windows([blocks(study, target.rows, job.batch_size)[: _TIMED * job.lanes]])
    done, started = 0, time.perf_counter()
    with closing(compute([Pass(job, target.wanted)], todo)) as computed:
        for number, window in enumerate(computed):
            if number == 0 and len(todo) > 1:
                started = time.perf_counter()
                continue
            done += sum(len(batch.rows) + len(batch.refused) for batch in window.batches)
    return (time.perf_counter() - started) / max(done, 1)
