"""Folds trained beside each other, one process per device.

A fold is a training of its own, so that folds on several GPUs need no exchange of gradients and come
to what one GPU comes to; each process leaves its folds where an interrupted run would, and the first
process collects them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from features.machine.device import cores
from features.machine.processes import together
from probe.finetuning.fold import train_folds
from probe.finetuning.job import Asked, Run
from probe.finetuning.progress import Counter, images_of

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Share:
    """What one of several processes trains: every `of`-th fold of these results, from `number` on."""

    number: int
    of: int
    folders: frozenset[str]
    """Of the results, where their checkpoints lie."""


def train_share(run: Run, jobs: Sequence[Asked], share: Share) -> None:
    """Train the folds of a share and leave them in the folders of their results."""
    pairs = [(j, f) for j in jobs if str(j.folder) in share.folders for f in j.splits.folds]
    mine = pairs[share.number :: share.of]
    counter = Counter(run, sum(images_of(run, job, [fold]) for job, fold in mine))
    for job in jobs:
        folds = [fold for one, fold in mine if one is job]
        if folds:
            train_folds(run, job, counter, folds)
    counter.end()


def train_beside(
    given: dict[str, Any], on: Sequence[str], folders: set[str], progress: Progress
) -> None:
    """Train the results of `folders`, a process on every device.

    Args:
        given: What `finetune` was given, but device, share and whom to tell.
        on: The devices.
        folders: Where the checkpoints of the results lie; the caller holds their locks.
        progress: As of `finetune`.

    Raises:
        InputError, Diverged, Stopped: As `finetune`.
    """
    shares = [Share(number, len(on), frozenset(folders)) for number in range(len(on))]
    threads = given["workers"] or max(1, cores() // len(on))
    each = [
        (given | {"data": None, "workers": threads, "device": d}, s)
        for d, s in zip(on, shares, strict=True)
    ]
    seen = [(0, 0)] * len(on)
    with closing(together(_work, each)) as messages:
        for number, done, total, now in messages:
            seen[number] = done, total
            progress(sum(d for d, _ in seen), sum(t for _, t in seen), f"{on[number]}: {now}")


def _work(given: dict[str, Any], share: Share, send: Callable[[Any], None]) -> None:
    from probe.finetuning.finetune import finetune  # which is what brought us here

    finetune(
        **given,
        share=share,
        progress=lambda done, total, now: send((share.number, done, total, now)),
    )
