"""One run: passes over the images until every feature file holds what was asked for."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field

import torch

from features.errors import InputError
from features.extraction.batches import Window, windows
from features.extraction.pipeline import STAGES, Computed, compute
from features.extraction.rounds import (
    Round,
    Target,
    check_room,
    end,
    make_files,
    next_round,
    put_in_place,
)
from features.extraction.summary import Extraction, Plan
from features.extraction.workers import Report, work_together, written
from features.machine.device import name_of
from features.machine.files import lock_of, locked
from features.store.making import sweep
from features.store.seconds import Measured, note_seconds
from features.store.writer import Writer
from features.study.study import Study, save


@dataclass
class Run:
    """What goes on for all backbones of a run together."""

    study: Study
    begun: bool
    """The study stands already."""
    targets: list[Target]
    results: list[Extraction]
    devices: list[torch.device]
    """One per worker."""
    said: Callable[[Plan], None]
    progress: Callable[[int, int, str], None]
    locks: ExitStack = field(default_factory=ExitStack)
    """Of the feature files."""


def carry_out(run: Run) -> None:
    """Bring every file to what was asked, in as many passes as their present state needs.

    Raises:
        InputError: An image, a feature or a file that is there cannot be used.
        Stopped: A worker was killed.
        OSError: A file could not be written.
    """
    with run.locks:
        if run.begun:
            _lock(run)
        else:
            _check_not_begun(run.study)
        for target in run.targets:
            sweep(target.path)
        while True:
            found = [next_round(target) for target in run.targets]
            rounds = [one for one in found if one is not None]
            if not rounds:
                return
            results = [r for r, one in zip(run.results, found, strict=True) if one is not None]
            _pass_over(run, rounds, results)


def _lock(run: Run) -> None:
    """Keep others from the feature files until the run ends."""
    for path in sorted(target.path for target in run.targets):
        path.parent.mkdir(parents=True, exist_ok=True)
        run.locks.enter_context(locked(lock_of(path), str(path)))


def _check_not_begun(study: Study) -> None:
    if (study.folder / "study.toml").is_file():
        raise InputError(
            f"{study.folder}: another process has just begun a study here; run the command again."
        )


def _pass_over(run: Run, rounds: list[Round], results: list[Extraction]) -> None:
    """Compute the first windows, say what will be written, make the files, and fill them."""
    started, before = time.perf_counter(), [result.computed for result in results]
    todo = windows([one.todo for one in rounds])
    passes = [one.reader for one in rounds]
    many = len(run.devices) > 1
    new = {i for i, one in enumerate(rounds) if one.new}
    head: list[Computed] = []
    with ExitStack() as held:
        computed: Iterator[Computed] = iter(())
        if not many:
            computed = held.enter_context(closing(compute(passes, todo)))
        while new and todo[len(head) :]:
            head.append(next(compute(passes, [todo[len(head)]]) if many else computed))
            new -= {batch.number for batch in head[-1].batches if batch.rows.size}
        _begin(run, rounds, new, head, len(todo))
        writers = [held.enter_context(Writer(one.target.partial)) for one in rounds]
        total = sum(len(one.aim) for one in rounds)
        done = sum(len(one.aim) - sum(map(len, one.todo)) for one in rounds if not one.new)
        run.progress(done, total, "")
        reports = _reports(run, rounds, writers, head, computed, todo[len(head) :] if many else [])
        for report in reports:
            for number, (well, badly) in report.rows.items():
                results[number].computed += well
                done += well + badly
            for result in results:
                for stage, seconds in report.seconds.items():
                    result.stages[stage] = result.stages.get(stage, 0.0) + seconds
                result.bottleneck = _busiest(result, run.devices[0])
            run.progress(done, total, results[0].bottleneck)
        for one, writer in zip(rounds, writers, strict=True):
            end(one, writer)
    for one in rounds:
        put_in_place(one)
    seconds = time.perf_counter() - started
    for one, result, then in zip(rounds, results, before, strict=True):
        measured = _measured(run, rounds, seconds, result.computed - then)
        note_seconds(one.target.path, [p.key for p in one.wanted], measured)
    run.progress(total, total, results[0].bottleneck)


def _begin(
    run: Run, rounds: list[Round], unread: set[int], head: list[Computed], count: int
) -> None:
    """Say what will be written where nothing is yet, and make the files."""
    first = [one for one in rounds if one.new]
    if not first:
        return
    if unread:
        why = (r for c in head for batch in c.batches for r in batch.refused.values())
        raise InputError(
            f"{run.study.source}: none of its {len(first[0].aim)} images can be read (the first: "
            f"{next(why, 'there are no rows')}); check the paths."
        )
    lanes = rounds[0].target.job.lanes * len(run.devices)
    seconds = sum(head[-1].seconds.values()) / lanes * count
    for one in first:
        backbone = one.target.job.backbone
        run.said(
            Plan(
                backbone.name,
                one.target.path,
                len(one.aim),
                tuple(p.key for p in one.wanted),
                one.bytes,
                seconds,
                backbone.architecture.card.licence if backbone.weights else None,
            )
        )
    check_room(rounds, run.study.folder)
    if not run.begun:
        _lock(run)
        _check_not_begun(run.study)
        save(run.study)
        run.begun = True
    make_files(rounds)


def _reports(
    run: Run,
    rounds: list[Round],
    writers: list[Writer],
    head: list[Computed],
    computed: Iterator[Computed],
    rest: list[Window],
) -> Iterator[Report]:
    for one in head:
        yield written(writers, one)
    for one in computed:
        yield written(writers, one)
    if rest:
        with closing(work_together(rounds, rest, run.devices)) as reports:
            yield from reports


def _measured(run: Run, rounds: list[Round], seconds: float, images: int) -> Measured:
    job, workers = rounds[0].target.job, len(run.devices)
    backbones = tuple(one.target.job.backbone.name for one in rounds)
    threads = job.threads * job.lanes * workers
    return Measured(
        seconds, images, name_of(job.device), job.precision, workers, threads, backbones
    )


def _busiest(result: Extraction, device: torch.device) -> str:
    """The stage that its threads were longest at, each for as many as can be at it at once."""
    most = dict.fromkeys(STAGES, result.lanes * result.workers)
    most["writing"] = result.workers
    if device.type != "cpu":
        most["computing"] = result.workers
    return max(STAGES, key=lambda stage: result.stages.get(stage, 0.0) / most[stage])
