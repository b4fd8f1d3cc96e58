"""One run: passes over the images until every feature file is complete."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass

import torch

from features.errors import InputError
from features.extraction.batches import Window, windows
from features.extraction.files import (
    Files,
    check_room,
    fill_repeats,
    lock_files,
    make_files,
    put_in_place,
)
from features.extraction.options import ExtractOptions
from features.extraction.pipeline import STAGES, Computed, compute
from features.extraction.rounds import FeatureTarget, Round, next_round
from features.extraction.summary import Extraction, Plan
from features.extraction.units import parts_for, sweep_parts, take_parts
from features.extraction.workers import WrittenWindow, work_together, written
from features.machine.device import device_name
from features.machine.spent import Spent, Stopwatch
from features.store.contents import FileContents, contents_of
from features.store.paths import parts_of
from features.store.seconds import Timing, note_seconds
from features.store.writer import Writer
from features.study.saving import begin
from features.study.study import Study, has_study


@dataclass
class ExtractRun:
    """A run over the images for one or several backbones."""

    study: Study
    begun: bool
    """Whether the study exists, and the files of the run are locked."""
    targets: list[FeatureTarget]
    results: list[Extraction]
    devices: list[torch.device]
    """The device of each worker."""
    options: ExtractOptions
    locks: ExitStack
    """Holds the locks of the feature files."""


def carry_out(run: ExtractRun, files: Sequence[Files]) -> list[FileContents]:
    """Complete every file, in as many passes as it needs.

    Args:
        run: The run.
        files: The contents of each target's files.

    Returns:
        The contents of each target's finished file in the end.

    Raises:
        InputError: An image, a feature or an existing file cannot be used.
        Stopped: A worker was killed.
        OSError: A file could not be written.
    """
    contents = list(files)
    while True:
        for number, target in enumerate(run.targets):
            contents[number], taken = collected(target, contents[number], run.options)
            run.results[number].taken += taken
        following = [next_round(t, *c) for t, c in zip(run.targets, contents, strict=True)]
        rounds = [round_ for round_ in following if round_ is not None]
        if not rounds:
            whole = [finished for finished, _ in contents if finished is not None]
            for target, finished in zip(run.targets, whole, strict=True):
                if (left := sweep_parts(target, finished)) is not None:
                    run.options.announce(left)
            return whole
        results = [r for r, round_ in zip(run.results, following, strict=True) if round_]
        _pass_over(run, rounds, results)
        for number, round_ in enumerate(following):
            if round_ is not None:
                round_.target.tried.update(round_.again)
                contents[number] = contents_of(round_.target.path), None


def collected(target: FeatureTarget, files: Files, options: ExtractOptions) -> tuple[Files, int]:
    """The contents of a target's files, after rows that shares have computed were taken in; how many.

    Raises:
        InputError: A part was made otherwise than this run makes features.
    """
    if not parts_of(target.path).is_dir():
        return files, 0
    round_ = next_round(target, *files)
    parts = parts_for(round_, options.announce) if round_ is not None else {}
    if round_ is None or not parts:
        return files, 0
    if round_.begins != "resumed":
        check_room([round_], target.path.parent)
        make_files([round_])
    taken = take_parts(round_, parts, options.announce)
    return (contents_of(target.path), contents_of(target.partial)), taken


def check_not_begun(study: Study) -> None:
    """Check that no other process has begun the study in the meantime.

    Raises:
        InputError: Another process has.
    """
    if has_study(study.folder):
        raise InputError(
            f"{study.folder}: another process has just begun a study here; run the command again."
        )


def _pass_over(run: ExtractRun, rounds: list[Round], results: list[Extraction]) -> None:
    """Announce the plans, compute the first windows, create the files, and fill them."""
    watch, before = Stopwatch(), [result.computed for result in results]
    todo = windows([round_.todo for round_ in rounds])
    passes = [round_.reader for round_ in rounds]
    many = len(run.devices) > 1
    unread = {number for number, round_ in enumerate(rounds) if round_.new}
    head: list[Computed] = []
    for round_ in rounds:
        if round_.new:
            run.options.planned(_plan(round_))
    check_room(rounds, run.study.folder)
    with ExitStack() as stack:
        computed: Iterator[Computed] = iter(())
        if not many:
            computed = stack.enter_context(closing(compute(passes, todo)))
        while unread and todo[len(head) :]:
            head.append(next(compute(passes, [todo[len(head)]]) if many else computed))
            unread -= {batch.number for batch in head[-1].batches if batch.rows.size}
        _begin(run, rounds, unread, head, len(todo))
        writers = [stack.enter_context(Writer(round_.target.partial)) for round_ in rounds]
        rest = todo[len(head) :] if many else []
        _fill(run, rounds, results, _windows_written(run, rounds, writers, head, computed, rest))
        for round_, writer in zip(rounds, writers, strict=True):
            fill_repeats(round_, writer)
    spent = watch.spent()
    for round_, result, computed_before in zip(rounds, results, before, strict=True):
        measured = _measured(run, rounds, spent, result.computed - computed_before)
        note_seconds(round_.target.path, [p.key for p in round_.wanted], measured)
    for round_ in rounds:  # last, so that a run killed before it measures the time again
        put_in_place(round_)
    total = sum(len(round_.aim) for round_ in rounds)
    run.options.progress(total, total, results[0].bottleneck)


def _begin(
    run: ExtractRun, rounds: list[Round], unread: set[int], head: list[Computed], count: int
) -> None:
    """Announce how long a run that begins files will take, and create them.

    Args:
        run: The run.
        rounds: Its rounds.
        unread: Those that begin a file and have had no readable image so far.
        head: The windows computed so far.
        count: The number of all windows.
    """
    new = [round_ for round_ in rounds if round_.new]
    if unread:
        moved = ", or give --root DIR if they are in another folder now" if run.begun else ""
        reasons = (why for c in head for batch in c.batches for why in batch.refused.values())
        raise InputError(
            f"{run.study.source}: none of its {len(new[0].aim)} images can be read (the first: "
            f"{next(reasons, 'there are no rows')}); check the paths{moved}."
        )
    if new:
        lanes = rounds[0].target.job.lanes * len(run.devices)
        run.options.estimated(sum(head[-1].seconds.values()) / lanes * count)
    if not run.begun:
        lock_files(run.locks, [target.path for target in run.targets])
        begin(run.study)
        run.begun = True
    make_files(rounds)


def _plan(round_: Round) -> Plan:
    backbone = round_.target.job.backbone
    return Plan(
        backbone=backbone.name,
        file=round_.target.path,
        rows=len(round_.aim),
        layers=tuple(p.key for p in round_.wanted),
        bytes=round_.bytes_on_disk,
        licence=backbone.architecture.card.licence if backbone.weights else None,
    )


def _fill(
    run: ExtractRun,
    rounds: list[Round],
    results: list[Extraction],
    written_windows: Iterator[WrittenWindow],
) -> None:
    """Count the rows and seconds of written windows, and report progress."""
    total = sum(len(round_.aim) for round_ in rounds)
    done = sum(len(r.aim) - sum(map(len, r.todo)) for r in rounds if not r.new)
    run.options.progress(done, total, "")
    for window in written_windows:
        for number, (computed, refused) in window.rows.items():
            results[number].computed += computed
            done += computed + refused
        for result in results:
            for stage, seconds in window.seconds.items():
                result.stages[stage] = result.stages.get(stage, 0.0) + seconds
            result.bottleneck = _busiest(result, run.devices[0])
        run.options.progress(done, total, results[0].bottleneck)


def _windows_written(
    run: ExtractRun,
    rounds: list[Round],
    writers: list[Writer],
    head: list[Computed],
    computed: Iterator[Computed],
    rest: list[Window],
) -> Iterator[WrittenWindow]:
    for window in head:
        yield written(writers, window)
    for window in computed:
        yield written(writers, window)
    if rest:
        with closing(work_together(rounds, rest, run.devices)) as others:
            yield from others


def _measured(run: ExtractRun, rounds: list[Round], spent: Spent, images: int) -> Timing:
    job, workers = rounds[0].target.job, len(run.devices)
    return Timing(
        seconds=spent.seconds,
        processor=spent.processor,
        images=images,
        device=device_name(job.device),
        precision=job.precision,
        workers=workers,
        threads=job.threads * job.lanes * workers,
        together=tuple(round_.target.job.backbone.name for round_ in rounds),
    )


def _busiest(result: Extraction, device: torch.device) -> str:
    """The stage that took longest, its seconds divided by the threads that can work on it at once."""
    most = dict.fromkeys(STAGES, result.lanes * result.workers)
    most["writing"] = result.workers
    if device.type != "cpu":
        most["computing"] = result.workers
    return max(STAGES, key=lambda stage: result.stages.get(stage, 0.0) / most[stage])
