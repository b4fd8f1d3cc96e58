"""Several processes at work on one run: each takes the next window and writes its rows in place.

No lock stands between them: a row has its place in the file, and no two workers compute the same row.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import torch

from features.backbone import load
from features.errors import InputError, Stopped
from features.passes import Round, write
from features.pipeline import Job, Pass, Window, compute
from features.pool import pooled
from features.study import Study
from features.writer import Writer


@dataclass(frozen=True)
class Report:
    """A window that is on disk: rows done and refused by pass, and seconds by stage."""

    rows: dict[int, tuple[int, int]]
    seconds: dict[str, float]


@dataclass(frozen=True)
class _Order:
    """A round as a worker needs it: nothing that cannot be sent to another process."""

    study: Study
    given: tuple[str, str | None, int]
    options: dict[str, Any]
    keys: list[tuple[str, str]]
    partial: Path


def work_together(
    rounds: Sequence[Round], todo: list[Window], devices: Sequence[torch.device]
) -> Generator[Report, None, None]:
    """Compute and write `todo` with one process per entry of `devices`; reports as they come.

    Raises:
        InputError: As `pipeline.compute`.
        Stopped: A worker was killed.
        OSError: A worker could not write.
    """
    spawn = multiprocessing.get_context("spawn")
    turn = spawn.Value("q", 0)
    orders = [_order(one) for one in rounds]
    processes, reports = [], []
    try:
        for device in devices:
            mine, theirs = spawn.Pipe(duplex=False)
            process = spawn.Process(target=_work, args=(orders, todo, device, turn, theirs))
            process.start()
            theirs.close()
            processes.append(process)
            reports.append(mine)
        yield from _listen(processes, reports)
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.join()


def written(writers: Sequence[Writer], computed: Any) -> Report:
    """Write one window, and say what it was."""
    started = time.perf_counter()
    write(writers, computed)
    computed.seconds["writing"] += time.perf_counter() - started
    rows: dict[int, tuple[int, int]] = {}
    for batch in computed.batches:
        done, refused = rows.get(batch.number, (0, 0))
        rows[batch.number] = done + len(batch.rows), refused + len(batch.refused)
    return Report(rows, computed.seconds)


def _listen(processes: Sequence[Any], reports: list[Connection]) -> Iterator[Report]:
    waiting = list(reports)
    while waiting:
        for one in wait(waiting):
            assert isinstance(one, Connection)
            try:
                message = one.recv()
            except EOFError:
                process = processes[reports.index(one)]
                process.join()
                raise Stopped(
                    f"a worker ended with exit code {process.exitcode}, perhaps for want of memory; "
                    "what was done is kept, run the same command again to go on."
                ) from None
            if isinstance(message, Report):
                yield message
            elif message is None:
                waiting.remove(one)
            elif isinstance(message, Exception):
                raise message
            else:
                raise RuntimeError(f"in a worker:\n{message}")


def _order(one: Round) -> _Order:
    job = one.target.job
    names = ("dtype", "batch_size", "lanes", "strict", "precision", "threads")
    options = {name: getattr(job, name) for name in names}
    keys = [(p.layer.name, p.pool) for p in one.wanted]
    return _Order(job.study, one.target.given, options, keys, one.target.partial)


def _work(
    orders: list[_Order], todo: list[Window], device: torch.device, turn: Any, report: Connection
) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the first process ends us
    threading.Thread(target=_die_with_parent, daemon=True).start()
    try:
        passes = [_pass(order, device) for order in orders]
        with ExitStack() as held:
            writers = [held.enter_context(Writer(o.partial, alone=False)) for o in orders]
            computed = held.enter_context(closing(compute(passes, _turns(todo, turn))))
            for one in computed:
                report.send(written(writers, one))
        report.send(None)
    except (InputError, OSError) as error:
        report.send(error)
    except Exception:
        report.send(traceback.format_exc())


def _pass(order: _Order, device: torch.device) -> Pass:
    backbone = load(*order.given)
    job = Job(order.study, backbone, device=device, **order.options)
    return Pass(job, [pooled(backbone.layers((name,))[0], pool) for name, pool in order.keys])


def _turns(todo: list[Window], turn: Any) -> Iterator[Window]:
    while True:
        with turn.get_lock():
            mine = turn.value
            turn.value += 1
        if mine >= len(todo):
            return
        yield todo[mine]


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(4)
