"""Several processes for one run: each takes the next window and writes its rows in place.

They need no lock: a row has its place in the file, and no two workers compute the same row.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from features.backbone import choose, in_range, load
from features.extraction.batches import Window
from features.extraction.files import write
from features.extraction.pipeline import Computed, ExtractJob, Pass, compute
from features.extraction.pool import pooled
from features.extraction.rounds import Round
from features.machine.processes import together
from features.store.writer import Writer
from features.study.study import Study


@dataclass(frozen=True)
class WrittenWindow:
    """A window that was written: rows done and refused by pass, and seconds by stage."""

    rows: dict[int, tuple[int, int]]
    seconds: dict[str, float]


@dataclass(frozen=True)
class _Order:
    """A round as it is sent to a worker process."""

    study: Study
    load_arguments: tuple[str, str | None, int, str | None]
    options: dict[str, Any]
    keys: list[tuple[str, str, str]]
    partial: Path
    range: tuple[float, float] | None


def work_together(
    rounds: Sequence[Round], todo: list[Window], devices: Sequence[torch.device]
) -> Generator[WrittenWindow, None, None]:
    """Compute and write `todo` with one process per entry of `devices`; yields the written windows.

    Raises:
        InputError: As in `pipeline.compute`.
        Stopped: A worker was killed.
        OSError: A worker could not write.
    """
    turn = multiprocessing.get_context("spawn").Value("q", 0)
    orders = [_order(round_) for round_ in rounds]
    return together(_work, [(orders, todo, device, turn) for device in devices])


def written(writers: Sequence[Writer], computed: Computed) -> WrittenWindow:
    """Write a window, and count its rows and seconds."""
    started = time.perf_counter()
    write(writers, computed)
    computed.seconds["writing"] += time.perf_counter() - started
    rows: dict[int, tuple[int, int]] = {}
    for batch in computed.batches:
        done, refused = rows.get(batch.number, (0, 0))
        rows[batch.number] = done + len(batch.rows), refused + len(batch.refused)
    return WrittenWindow(rows, computed.seconds)


def _order(round_: Round) -> _Order:
    job = round_.target.job
    names = ("dtype", "batch_size", "lanes", "strict", "precision", "threads")
    options = {name: getattr(job, name) for name in names}
    keys = [(p.layer.name, p.pool, p.view) for p in round_.wanted]
    bounds = job.backbone.architecture.input.range
    arguments = round_.target.load_arguments
    return _Order(job.study, arguments, options, keys, round_.target.partial, bounds)


def _work(
    orders: list[_Order],
    todo: list[Window],
    device: torch.device,
    turn: Any,
    send: Callable[[WrittenWindow], None],
) -> None:
    passes = [_pass(order, device) for order in orders]
    with ExitStack() as stack:
        writers = [stack.enter_context(Writer(o.partial, alone=False)) for o in orders]
        computed = stack.enter_context(closing(compute(passes, _turns(todo, turn))))
        for window in computed:
            send(written(writers, window))


def _pass(order: _Order, device: torch.device) -> Pass:
    names = tuple(name for name, *_ in order.keys)
    backbone = load(
        *order.load_arguments, layers=lambda _name, architecture: choose(architecture, names)
    )
    backbone = in_range(backbone, order.range)
    job = ExtractJob(order.study, backbone, device=device, **order.options)
    return Pass(job, [pooled(backbone.layers((name,))[0], *how) for name, *how in order.keys])


def _turns(todo: list[Window], turn: Any) -> Iterator[Window]:
    while True:
        with turn.get_lock():
            mine = turn.value
            turn.value += 1
        if mine >= len(todo):
            return
        yield todo[mine]
