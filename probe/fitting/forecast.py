"""What a fit says before it starts: how many fits, how long, what it replaces, and what it parts from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import groupby

from probe.counts import count
from probe.fitting.fit_seconds import FitSize, estimate, read_fit_seconds
from probe.fitting.job import ProbeJob
from probe.fitting.plan import FitPlan
from probe.fitting.probe_job import features_of
from probe.folds.splits import Splits
from probe.probes.methods import METHODS
from probe.results.ledger import Ledger, series_of
from probe.results.protocol import mark, options_apart, protocol
from probe.results.rows import BEST, Row

_LONG = 60.0
"""Seconds, from which on a first look is offered."""
_MANY = 100
"""Fits, from which on it is offered where nobody knows how long they take."""


@dataclass(frozen=True)
class _Coming:
    """A result that the run is going to keep or to make."""

    job: ProbeJob
    under: str
    """The protocol."""
    size: FitSize
    is_kept: bool


def foretell(plan: FitPlan, ledger: Ledger, clock: Callable[[float], str]) -> Iterator[str]:
    """The sentences, each of which a person may want to read before the first fit.

    Args:
        plan: What is going to be fitted.
        ledger: What is there.
        clock: Writes seconds for people.
    """
    coming = list(_coming(plan, ledger))
    todo = [each for each in coming if not each.is_kept]
    if not todo:
        return
    yield _how_many(plan, coming, todo, clock)
    claimed = {series_of(each.job.stored): each.under for each in coming}
    gone = ledger.replaced_by(claimed)
    if gone:
        first = _first_layer(gone)
        apart = options_apart(ledger.protocol_of(first.stored), claimed[series_of(first.stored)])
        yield (
            f"replaces {_results(gone)} made with other {_listed(apart)} (the first: {_name(first)}); to "
            "keep both, stop now and fit in a copy of the study's folder"
        )
    yield from _parted(ledger, coming, {id(row) for row in gone})


def size_of(job: ProbeJob, splits: Splits, dim: int) -> FitSize:
    """The size of the fit of a job."""
    rows = int((splits.part >= 0).sum())
    classes = 1 if job.task.is_number else len(job.task.classes)
    if job.shots is not None:
        rows = min(rows, job.shots * classes)
    elif job.fraction is not None:
        rows = round(rows * job.fraction)
    return FitSize(job.method, max(rows, 1), dim, classes, len(splits.folds))


def _coming(plan: FitPlan, ledger: Ledger) -> Iterator[_Coming]:
    run = plan.run
    for backbone, jobs in groupby(plan.jobs, key=lambda job: job.backbone):
        with run.study.features(backbone) as file:
            for job in jobs:
                splits = run.splits_of(job.task, file, job.repeat)
                settings = run.settings(job.method)
                under = protocol(run.study, job.task, splits, settings, run.options.seed)
                is_kept = not run.options.redo and ledger.holds(
                    job.stored, under, splits.folds, features_of(job, file, splits)
                )
                size = size_of(job, splits, file.about(job.key)["dim"])
                yield _Coming(job, under, size, is_kept)


def _how_many(
    plan: FitPlan, coming: list[_Coming], todo: list[_Coming], clock: Callable[[float], str]
) -> str:
    known = read_fit_seconds()
    seconds = [estimate(each.size, known) for each in todo]
    measured = [each for each in seconds if each is not None]
    arrays = len({(each.job.backbone, each.job.key) for each in todo})
    fits = f"{count(len(todo), 'fit')} of {count(arrays, 'array')}"
    if len(measured) < len(todo):
        how_long = "how long they take is known once some are done"
    else:
        how_long = f"about {clock(sum(measured))}, as measured on this machine before"
    kept = len(coming) - len(todo)
    there = f"; {count(kept, 'result')} kept from before" if kept else ""
    is_long = sum(measured) > _LONG or (len(measured) < len(todo) and len(todo) > _MANY)
    offer = ""
    if is_long and not plan.run.options.quick:
        offer = "; `probe fit --quick` is a first look, ridge on about six layers of each"
    return f"{fits}: {how_long}{there}{offer}"


def _parted(ledger: Ledger, coming: list[_Coming], gone: set[int]) -> Iterator[str]:
    """Which results stay that were made with other options, task by task and probe by probe."""
    under = {(each.job.task.name, each.job.method): each.under for each in coming}
    for (task, method), protocol_ in under.items():
        stay = [
            row
            for row in ledger.rows
            if (row.task, row.method) == (task, method)
            and row.method in METHODS
            and not row.variant
            and row.layer != BEST
            and id(row) not in gone
            and row.protocol != mark(protocol_)
        ]
        if not stay:
            continue
        apart = options_apart(ledger.protocol_of(stay[0].stored), protocol_)
        if any(words.startswith("--") for words in apart):
            yield (
                f"{task}: {_results(stay)} by {method} of other layers stay, made with other "
                f"{_listed(apart)}; they are not compared with these: the report shows the settings that "
                "most results share, and names the rest"
            )


def _results(rows: list[Row]) -> str:
    layers = {row.stored for row in rows if row.layer != BEST} or {row.stored for row in rows}
    return count(len(layers), "result")


def _first_layer(rows: list[Row]) -> Row:
    return next((row for row in rows if row.layer != BEST), rows[0])


def _name(row: Row) -> str:
    return f"{row.task} of {'/'.join(part or '-' for part in row.result_name)}"


def _listed(words: list[str]) -> str:
    return " and ".join(words) or "settings"
