"""The end of the program where a signal does not end it in time.

Python tells the first thread of a signal between two of its own instructions: not while a long call into
a library lasts, and what ends then still waits for the threads at work. A kill at any moment loses no more
than this does, so the program ends in its sentence all the same; results that are being written are waited
for.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import threading
import time
from contextlib import suppress

from cli.signal_messages import INTERRUPTED, TERMINATED, ended
from features.machine.keeping import is_keeping

SECONDS = 2.0
"""What the program has to end by itself, and to leave nothing behind."""
LONGEST = 60.0
"""What it has where results are being written, say to a disk of another machine."""
_ENDS = {int(signal.SIGINT): (INTERRUPTED, 130), int(signal.SIGTERM): (TERMINATED, 4)}
_SHOW_CURSOR = b"\n\x1b[?25h"
_heard = threading.Event()


def watch() -> None:
    """Begin to watch for signals, in a thread that needs no turn of the first one."""
    mine, of_python = socket.socketpair()
    of_python.setblocking(False)
    signal.set_wakeup_fd(of_python.fileno(), warn_on_full_buffer=False)
    if hasattr(os, "register_at_fork"):  # its signals are not this process's
        os.register_at_fork(after_in_child=lambda: signal.set_wakeup_fd(-1))
    threading.Thread(target=_wait, args=(mine, of_python), daemon=True).start()


def heard() -> None:
    """Note that the first thread says itself that a signal ended it."""
    _heard.set()


def leave(code: int) -> None:
    """End at once where a signal ends the program: to take the interpreter apart takes seconds more."""
    if not _heard.is_set():
        return
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


def _wait(mine: socket.socket, _of_python: socket.socket) -> None:
    """End the program some seconds after a signal; it holds both ends open."""
    while (number := mine.recv(1)[0]) not in _ENDS:
        pass
    began = time.monotonic()
    time.sleep(SECONDS)
    while is_keeping() and time.monotonic() - began < LONGEST:
        time.sleep(0.05)
    message, code = _ENDS[number]
    if not _heard.is_set():
        command = next((word for word in sys.argv[1:] if not word.startswith("-")), None)
        _say(f"error: {ended(message, command)}\n")
    os._exit(code)


def _say(sentence: str) -> None:
    """Write to stderr, unless its reader is gone, or reads no more: that would last for ever."""
    with suppress(OSError, ValueError):
        if select.select([], [2], [], 0.5)[1]:
            os.write(2, (_SHOW_CURSOR if os.isatty(2) else b"") + sentence.encode())
