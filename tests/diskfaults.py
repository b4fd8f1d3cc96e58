"""Run commands of `probe` with a fault of the disk at their n-th operation.

`LD_PRELOAD=SHIM python diskfaults.py SHIM PLAN FOLDER`: PLAN is a JSON list of objects, each with a `name`,
the command lines `before` and the `command` with `{study}` in them, `faults` (each an errno, which every
write meets from the n-th on, or `kill`) and `tries`, how many n to try, spread over all; null: every n. It
prints a line of JSON for each: how the command ended, how it ended when it was run again, and where the
study then differs from one that nothing had happened to; and before them one that counts the operations.

Each run is in a child forked from this process, which has imported what it needs, so that a crash is
one too and an operation costs a fraction of a second. The folder {study} has a subfolder `home`, where
weights are kept. Figures are not drawn: a few bytes stand for each.
"""

import csv
import ctypes
import functools
import gc
import hashlib
import json
import os
import shutil
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

Child = Callable[[], int]
KILL = -1
TIMED = ("training.csv", "cost.csv", "cost.md", "cost.tex", "index.html")
"""The ends of names of files that tell how long something took."""


def in_a_child(run: Child) -> tuple[int, str]:
    """The exit status (negative: the signal that ended it) and what it said on stderr."""
    with tempfile.TemporaryFile() as said:
        child = os.fork()
        if not child:
            code = 1
            try:
                os.dup2(said.fileno(), 2)
                code = run()
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(code)
        _, status = os.waitpid(child, 0)
        said.seek(0)
        return os.waitstatus_to_exitcode(status), said.read().decode(errors="replace")


@functools.cache
def program() -> Callable[[list[str]], Any]:
    """The command line, built once, whose figures are not drawn."""
    import typer.main

    import probe.reporting.charts.figure_frame as frames
    from cli.app import app

    frames.render = lambda _, kind: f"a figure as {kind}".encode()
    return typer.main.get_command(app)


def command(arguments: list[str]) -> int:
    """The exit code of `probe` with these arguments; `rows FILE N` leaves N rows in a manifest."""
    if arguments[0] == "rows":
        file = Path(arguments[1])
        lines = file.with_suffix(".all").read_text().splitlines(keepends=True)
        file.write_text("".join(lines[: int(arguments[2]) + 1]))
        return 0
    try:
        program()(arguments)
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


def content(study: Path) -> dict[str, str]:
    """What the files of a study hold, by name; of what took time, all but how long."""
    held = {}
    for path in sorted(study.rglob("*")):
        name = str(path.relative_to(study))
        # Killed between the last row and its time, a pass has left none.
        if path.is_dir() or name.endswith((".lock", "trusted-networks.txt", "seconds.json")):
            continue
        if "-seconds.json" in name:  # the next that is timed removes what a killed one left of it
            continue
        data = path.read_bytes()
        if name == "training.csv":
            lines = csv.DictReader(data.decode().splitlines())
            data = repr(
                [{k: v for k, v in line.items() if k != "seconds"} for line in lines]
            ).encode()
        elif name == "results.csv":  # in the order in which results were made
            data = b"\n".join(sorted(data.splitlines()))
        elif name.endswith(TIMED):
            data = b""
        held[name] = hashlib.sha256(data).hexdigest()
    return held


def is_unfinished(name: str) -> bool:
    """Whether a file is one that takes another's place when it is whole."""
    return Path(name).name.startswith(".") or name.endswith((".merging", ".new", ".grown"))


def points(count: int, tries: int | None) -> list[int]:
    """The operations to try of `count`, spread evenly, the first and the last among them."""
    if tries is None or tries >= count:
        return list(range(count))
    return sorted({round(i * (count - 1) / max(tries - 1, 1)) for i in range(tries)})


class Bench:
    """A folder in which commands meet faults."""

    def __init__(self, library: ctypes.CDLL, folder: Path) -> None:
        self.library = library
        self.study, self.whole = folder / "study", folder / "whole"

    def run(self, lines: Sequence[list[str]]) -> int:
        """The worst exit code of command lines."""
        named = [[p.replace("{study}", str(self.study)) for p in line] for line in lines]
        return max(map(command, named), default=0)

    def begin(self) -> None:
        """Put the study back as it is before the command."""
        shutil.rmtree(self.study)
        shutil.copytree(self.whole, self.study)

    def armed(self, line: list[str], at: int, fault: int) -> tuple[int, str, int]:
        """How a command with a fault at its operation `at` ended, what it said, how many it began."""
        with tempfile.TemporaryFile() as counted:

            def child() -> int:
                self.library.faults_arm(str(self.study).encode(), at, fault)
                code = self.run([line])
                seen = ctypes.c_long.in_dll(self.library, "faults_seen").value
                os.write(counted.fileno(), str(seen).encode())
                return code

            code, said = in_a_child(child)
            counted.seek(0)
            return code, said, int(counted.read() or 0)

    def tried(self, setup: dict[str, Any], told: Callable[..., None]) -> None:
        """Meet a command with every fault of its plan."""
        line = setup["command"]
        for folder in (self.study, self.whole):
            shutil.rmtree(folder, ignore_errors=True)
        self.study.mkdir()
        # In this process, so that its children have imported what they need.
        assert self.run(setup["before"]) == 0, setup["name"]
        shutil.copytree(self.study, self.whole)
        assert self.run([line]) == 0, setup["name"]
        finished = content(self.study)
        for fault in setup["faults"]:
            number = KILL if fault == "kill" else int(fault)
            self.begin()
            code, said, count = self.armed(line, -1, number)
            assert code == 0, said
            told(name=setup["name"], fault=fault, points=count)
            for at in points(count, setup["tries"]):
                self.begin()
                code, said, _ = self.armed(line, at, number)
                left = sorted(name for name in content(self.study) if is_unfinished(name))
                again, then = in_a_child(lambda: self.run([line]))
                now = content(self.study)
                told(
                    name=setup["name"], fault=fault, at=at, code=code, said=said[-2000:], left=left,
                    again=again, then=then[-2000:],
                    differ=sorted(n for n in now | finished if now.get(n) != finished.get(n)),
                )  # fmt: skip


def main(shim: str, plan: str, folder: Path) -> None:
    """Try all commands of the plan."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    bench = Bench(ctypes.CDLL(shim), folder)
    os.environ["PROBE_HOME"] = str(bench.study / "home")
    for setup in json.loads(plan):
        gc.collect()
        gc.freeze()  # so that children share the pages
        bench.tried(setup, lambda **line: print(json.dumps(line), file=out, flush=True))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
