"""Run a command of `probe` with a fault of the disk at its n-th operation, for every n.

`LD_PRELOAD=SHIM python diskfaults.py SHIM SETUP FOLDER FAULT STEP`: the fault is an errno, which every
write meets from the n-th on, or `kill`, and every STEP-th n is tried. It prints a line of JSON for each:
how the command ended, how it ended when it was run again, and where the study then differs from one that
nothing had happened to. Each run is in a child that is forked, so that a crash is one too.

SETUP is a JSON object: `before` and `command` are command lines with `{study}` in them, and `environment`
may name variables, likewise. The folder {study} has a subfolder `home`, where weights are kept.
"""

import csv
import ctypes
import hashlib
import json
import os
import shutil
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path

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


def command(arguments: list[str]) -> int:
    """The exit code of `probe` with these arguments; `rows FILE N` leaves N rows in a manifest."""
    from cli.app import app

    if arguments[0] == "rows":
        file = Path(arguments[1])
        lines = file.with_suffix(".all").read_text().splitlines(keepends=True)
        file.write_text("".join(lines[: int(arguments[2]) + 1]))
        return 0
    try:
        app(arguments)
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


def main(shim: str, setup: str, folder: Path, fault: str, step: int) -> None:
    """Try a command at every operation."""
    library = ctypes.CDLL(shim)
    told = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    given = json.loads(setup)
    study, whole = folder / "study", folder / "whole"
    for name, value in given.get("environment", {}).items():
        os.environ[name] = value.replace("{study}", str(study))
    kill = fault == "kill"

    def run(arguments: list[str]) -> int:
        return command([part.replace("{study}", str(study)) for part in arguments])

    def all_of(lines: list[list[str]]) -> Child:
        return lambda: max((run(line) for line in lines), default=0)

    # Once in this process, so that its children have imported what they need.
    assert all_of([*given["before"], given["command"]])() == 0
    shutil.rmtree(study)
    study.mkdir()
    code, said = in_a_child(all_of(given["before"]))
    assert code == 0, said
    study.rename(whole)
    shutil.copytree(whole, study)
    code, said = in_a_child(all_of([given["command"]]))
    assert code == 0, said
    finished = content(study)
    at = 0
    while True:
        shutil.rmtree(study)
        shutil.copytree(whole, study)

        def armed(at: int = at) -> int:
            library.faults_arm(str(study).encode(), at, KILL if kill else int(fault))
            return run(given["command"])

        code, said = in_a_child(armed)
        left = sorted(name for name in content(study) if is_unfinished(name))
        again, then = in_a_child(all_of([given["command"]]))
        now = content(study)
        differ = sorted(name for name in now | finished if now.get(name) != finished.get(name))
        line = {"at": at, "code": code, "said": said[-2000:], "left": left, "again": again}
        print(json.dumps(line | {"then": then[-2000:], "differ": differ}), file=told, flush=True)
        if code == 0:
            return
        at += step


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), sys.argv[4], int(sys.argv[5]))
