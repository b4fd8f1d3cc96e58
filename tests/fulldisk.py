"""Run commands of `probe` on a disk that is full from their n-th write on, for every n.

`LD_PRELOAD=SHIM python fulldisk.py SHIM SETUP FOLDER ERRNO STEP` prints a line of JSON for every n that is
tried: how the command ended, and how it ended when it was run again with room. Each runs in a child
that is forked, so that a crash is one too.
"""

import ctypes
import json
import os
import shutil
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path

Child = Callable[[], int]


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
    """The exit code of `probe` with these arguments."""
    from cli.app import app

    try:
        app(arguments)
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


def is_unfinished(name: str) -> bool:
    """Whether a file is one that takes another's place when it is whole."""
    hidden = name.startswith(".") and not name.endswith(".lock")
    return hidden or name.endswith((".merging", ".new", ".grown"))


def main(shim: str, setup: str, folder: Path, error: int, step: int) -> None:
    """Try `setup`, a JSON object of `before` and `commands` with `{study}` in them, at every write."""
    library = ctypes.CDLL(shim)
    told = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    given = json.loads(setup)
    whole = folder / "whole"

    def run(arguments: list[str], study: Path) -> int:
        return command([part.replace("{study}", str(study)) for part in arguments])

    def all_of(lines: list[list[str]], study: Path) -> Child:
        return lambda: max((run(line, study) for line in lines), default=0)

    # Once in this process, so that its children have imported what they need.
    assert all_of([*given["before"], given["command"]], folder / "warm")() == 0
    code, said = in_a_child(all_of(given["before"], whole))
    assert code == 0, said
    at = 0
    while True:
        study = folder / f"study{at}"
        if whole.exists():
            shutil.copytree(whole, study)

        def armed(study: Path = study, at: int = at) -> int:
            library.fulldisk_arm(str(study).encode(), at, error)
            return run(given["command"], study)

        code, said = in_a_child(armed)
        left = [path.name for path in study.rglob("*") if is_unfinished(path.name)]
        again, then = in_a_child(all_of([given["command"]], study))
        line = {"at": at, "code": code, "said": said, "left": left, "again": again, "then": then}
        print(json.dumps(line), file=told, flush=True)
        if code == 0:
            return
        shutil.rmtree(study)
        at += step


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5]))
