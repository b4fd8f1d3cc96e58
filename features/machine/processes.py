"""Running a function in several processes, which end together."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import traceback
from collections.abc import Callable, Generator, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any

from features.errors import InputError, Stopped


def together(work: Callable[..., None], calls: Sequence[tuple[Any, ...]]) -> Generator[Any]:
    """Run `work(*arguments, send)` in a process for each of `calls`, and yield what they send.

    When the generator is closed, or a process fails, all processes are ended.

    Raises:
        InputError, OSError: `work` raised it.
        Stopped: `work` raised it, or a process was killed.
        RuntimeError: A bug in `work`, with its traceback.
    """
    spawn = multiprocessing.get_context("spawn")
    processes, messages = [], []
    try:
        for arguments in calls:
            mine, theirs = spawn.Pipe(duplex=False)
            process = spawn.Process(target=_run, args=(work, arguments, theirs))
            process.start()
            theirs.close()
            processes.append(process)
            messages.append(mine)
        yield from _listen(processes, messages)
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.join()


def _listen(processes: Sequence[Any], messages: list[Connection]) -> Iterator[Any]:
    waiting = list(messages)
    while waiting:
        for ready in wait(waiting):
            assert isinstance(ready, Connection)
            try:
                ended, message = ready.recv()
            except EOFError:
                process = processes[messages.index(ready)]
                process.join()
                raise Stopped(
                    f"a worker ended with exit code {process.exitcode}, perhaps because memory ran out; "
                    "what was done is kept, run the same command again to go on."
                ) from None
            if isinstance(message, Exception):
                raise message
            if ended:
                waiting.remove(ready)
            else:
                yield message


def _run(work: Callable[..., None], arguments: tuple[Any, ...], to: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the first process ends us
    threading.Thread(target=_die_with_parent, daemon=True).start()
    try:
        work(*arguments, lambda message: to.send((False, message)))
        to.send((True, None))
    except (InputError, Stopped, OSError) as error:
        to.send((True, error))
    except Exception:
        to.send((True, RuntimeError(f"in a worker:\n{traceback.format_exc()}")))


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(4)
