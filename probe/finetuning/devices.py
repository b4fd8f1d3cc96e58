"""Folds trained beside each other, one process per device.

A fold is a training of its own, so folds on several GPUs exchange no gradients and come to what one
GPU comes to. Each process leaves its folds where an interrupted run would, and the first process
collects them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from features.machine.device import cores
from features.machine.pieces import Piece
from features.machine.processes import together
from features.machine.shares import Share
from probe.finetuning.fold import is_trained, train_folds
from probe.finetuning.job import network_name
from probe.finetuning.options import FineTuneOptions
from probe.finetuning.plan import FineTunePlan, prepare
from probe.finetuning.progress import ImageCounter, images_of


def train_beside(
    options: FineTuneOptions, devices: Sequence[torch.device], folders: set[str]
) -> None:
    """Train the results of `folders`, with a process on every device.

    Args:
        options: What `finetune` was asked; its `progress` is called with the sums over all processes.
        devices: Where to train.
        folders: The folders of the results' checkpoints; the caller holds their locks.

    Raises:
        InputError, Diverged, Stopped: As `finetune` does.
    """
    n = len(devices)
    alone = replace(
        options,
        data=None,  # the study is on disk by now
        workers=options.workers or max(1, cores() // n),
        announce=_ignore,
        progress=_ignore,
    )
    each = [
        (replace(alone, device=str(device)), Share(number, n), frozenset(folders))
        for number, device in enumerate(devices)
    ]
    seen = [(0, 0)] * n
    with closing(together(_work, each)) as messages:
        for number, done, total, now in messages:
            seen[number] = done, total
            sums = sum(d for d, _ in seen), sum(t for _, t in seen)
            options.progress(*sums, f"{devices[number]}: {now}")


def _ignore(*_message: object) -> None:
    """Do nothing: a callback that can be sent to another process."""


def _work(
    options: FineTuneOptions, share: Share, folders: frozenset[str], send: Callable[[Any], None]
) -> None:
    """Train a share in a process of its own."""

    def progress(done: int, total: int, now: str) -> None:
        send((share.number, done, total, now))

    train_share(prepare(replace(options, progress=progress)), share, folders)


def fold_pieces(options: FineTuneOptions) -> list[Piece]:
    """The folds of a fine-tune as pieces of work, each of which leaves its result in a file."""
    plan = prepare(options)
    counter = ImageCounter(plan.run, 0)
    return [
        Piece(
            f"fold {fold + 1} of {network_name(plan.run, job, fold)}",
            partial(is_trained, plan.run, job, fold),
            partial(train_folds, plan.run, job, counter, [fold]),
        )
        for job in plan.jobs
        if job.folder.is_dir()  # the command made those of the results that are not there
        for fold in job.splits.folds
    ]


def train_share(plan: FineTunePlan, share: Share, folders: Collection[str]) -> int:
    """Train a share of the folds and leave them in the folders of their results; how many are trained.

    Args:
        plan: What is going to be trained.
        share: Which of the folds.
        folders: The results, by the folders of their checkpoints.
    """
    every = [
        (job, fold) for job in plan.jobs if str(job.folder) in folders for fold in job.splits.folds
    ]
    own = share.taken(every)
    counter = ImageCounter(plan.run, sum(images_of(plan.run, job, [fold]) for job, fold in own))
    trained = 0
    for job in plan.jobs:
        folds = [fold for owner, fold in own if owner is job]
        try:
            if folds:
                trained += len(train_folds(plan.run, job, counter, folds))
        except FileNotFoundError:
            if job.folder.is_dir():
                raise
            # another command has collected the result meanwhile, and trained what was missing
    counter.end()
    return trained
