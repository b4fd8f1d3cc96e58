"""The program's start: from here on a signal ends it in a sentence, also while packages are imported.

Nothing is imported here that takes time.
"""

from __future__ import annotations

import os
import signal
import sys

from cli.signal_messages import INTERRUPTED, TERMINATED, ended
from cli.unheard import leave, watch


def main() -> None:
    """Start the program `probe`."""
    _open_standard_files()
    signal.signal(signal.SIGINT, lambda *_: _end(ended(INTERRUPTED, None), 130))
    signal.signal(signal.SIGTERM, lambda *_: _end(ended(TERMINATED, None), 4))
    watch()
    from cli.app import main as run

    try:
        run()
    except SystemExit as ends:
        leave(ends.code if isinstance(ends.code, int) else 1)
        raise


def _end(message: str, code: int) -> None:
    """End at once: nothing is under way, and an import that is cut short may raise anything."""
    os.write(2, f"error: {message}\n".encode())
    os._exit(code)


def _open_standard_files() -> None:
    """Open those of stdin, stdout and stderr that are closed, as by `>&-`, to nowhere.

    The next file to be opened would take the number, and what is printed would be written into it.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115 - while it runs
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115
