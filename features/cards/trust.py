"""Whether a `.py` file that a card names may run: a person allows it once, for the file as it is.

A card is data, a network in a `.py` file is code that can do anything. `--trust` allows the file, and its
SHA-256 is remembered in the cache folder; a changed file is asked about again. `PROBE_TRUST=1`
allows every file and remembers none.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from features.errors import InputError
from features.machine.home import home, make
from features.machine.regular_files import read_regular

REMEMBER = "remember"
"""The value that `--trust` gives PROBE_TRUST, which the processes of a command inherit."""


class Untrusted(InputError):
    """A file of code that no person has allowed to run yet."""

    def __init__(self, path: Path, code: bytes) -> None:
        """The refusal of the file at `path`, whose bytes are `code`."""
        super().__init__(
            f"{path}: is code, and loading this network would run it; read it, then give --trust, "
            "once for the file as it is now."
        )
        self.path, self.code = path, code

    def __reduce__(self) -> tuple[type[Untrusted], tuple[Path, bytes]]:
        """Pickle the arguments, so that a worker process can raise the error."""
        return Untrusted, (self.path, self.code)


def check(path: Path, code: bytes) -> None:
    """Return if the code may run.

    Raises:
        Untrusted: No person has allowed these bytes.
    """
    allowed = os.environ.get("PROBE_TRUST", "")
    if allowed == REMEMBER:
        trust(code)
    elif allowed in ("", "0") and _digest(code) not in _remembered():
        raise Untrusted(path, code)


def trust(code: bytes) -> None:
    """Remember that a file of these bytes may run."""
    remembered = _remembered()
    if _digest(code) not in remembered:
        make(_file().parent)
        with _file().open("a", encoding="ascii") as file:
            file.write(_digest(code) + "\n")


def _remembered() -> set[str]:
    try:
        return set(read_regular(_file()).decode("ascii", errors="replace").split())
    except OSError:
        return set()


def _file() -> Path:
    return home() / "trusted-networks.txt"


def _digest(code: bytes) -> str:
    return hashlib.sha256(code).hexdigest()
