"""How far work is that many machines do: said where it was asked for, and noted for another terminal."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from features.machine.files import replacing, sweep
from features.machine.regular_files import read_regular
from features.machine.strict_json import from_json, to_json

_SAID = 30.0  # seconds between two times that it is said
_NOTED = 2.0  # and noted
_SILENT = 120.0  # seconds, after which a note says its age
_FAILURES = 3
_NOTE = ".at-work-{}.json"

Node = tuple[str, str]
"""The host's name, and what tells its nodes apart."""


@dataclass
class Tally:
    """Pieces made by node, and those that failed."""

    study: Path
    command: str
    """`extract`, `fit` or `finetune`."""
    announce: Callable[[str], None]
    total: int = 0
    made: Counter[Node] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    _began: float = field(default_factory=time.monotonic)
    _said: float = 0.0
    _noted: float = 0.0

    def add(self, node: Node) -> None:
        """Count a piece that is made."""
        self.made[node] += 1
        self.tell(at_once=self.made.total() in (1, self.total))

    def fail(self, piece: str, node: Node, why: str) -> None:
        """Say what failed, where and why."""
        self.failures.append(f"{piece} failed on {node[0]} ({why})")
        self.announce(self.failures[-1])
        self.tell()

    def tell(self, at_once: bool = False) -> None:
        """Say and note how far the work is, unless that was done just now."""
        now = time.monotonic()
        if at_once or now - self._said > _SAID:
            self._said = now
            for line in self.lines():
                self.announce(line)
        if at_once or now - self._noted > _NOTED:
            self._noted = now
            with suppress(OSError), replacing(self._note) as file:
                file.write_text(to_json({"lines": [*self.lines(), *self.failures[-_FAILURES:]]}))

    def lines(self) -> list[str]:
        """What is made of all and what is left, and a line for every node."""
        minutes = max(time.monotonic() - self._began, 1e-9) / 60
        done = self.made.total()
        left = (self.total - done) * minutes / max(done, 1)
        about = f", about {left:.1f} min left" if 0 < done < self.total else ""
        first = f"{self.command}: {done} of {self.total} pieces of work made{about}"
        hosts = Counter(host for host, _ in self.made)
        return [
            first,
            *(
                f"{host if hosts[host] == 1 else f'{host} {node[:6]}'}: {many} made, "
                f"{many / minutes:.1f} a minute"
                for (host, node), many in sorted(self.made.items())
            ),
        ]

    def close(self) -> None:
        """Remove the note."""
        self._note.unlink(missing_ok=True)
        sweep(self._note)

    @property
    def _note(self) -> Path:
        return self.study / _NOTE.format(self.command)


def at_work(study: Path) -> list[str]:
    """What commands that work on a study noted last; with its age where that is more than two minutes."""
    lines: list[str] = []
    for note in sorted(study.glob(_NOTE.format("*"))):
        with suppress(OSError, ValueError, KeyError, TypeError):
            age = time.time() - note.stat().st_mtime
            first, *others = map(str, from_json(read_regular(note))["lines"])
            old = f" (noted {age / 60:.0f} min ago; nothing since)" if age > _SILENT else ""
            lines += [first + old, *others]
    return lines
