"""Run an extraction again and again, each time killed (SIGKILL) at another moment.

`python killed.py CARD MANIFEST FOLDER SCENARIO` makes FOLDER/whole without interruption, and
FOLDER/N killed at some moment N and then run again; it prints what happened at moment N, line by line.
"""

import json
import os
import pathlib
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import torch
from PIL import Image

from features.backbone import load
from features.extraction.extract import extract

Step = Callable[[Path], object]
KEPT = 6  # moments of a scenario besides those at which a file changes its name
DELAYS = 2  # and kills from outside after a while


def steps(card: str, manifest: str, scenario: str) -> tuple[list[Step], Step]:
    """What is done before, and what is killed."""

    def run(study: Path, **options: Any) -> None:
        given = manifest if not (study / "study.toml").exists() else None
        extract(study, card, data=given, batch_size=4, lanes=2, device="cpu", **options)

    before: dict[str, list[Step]] = {
        "first": [],
        "layers": [lambda study: run(study, layers=("conv", "fc"))],
        "limit": [lambda study: run(study, limit=9)],
        "views": [lambda study: run(study)],
    }
    more = {"views": ("flip",)} if scenario == "views" else {}
    return before[scenario], lambda study: run(study, **more)


def watch(moment: int) -> list[str]:
    """Die at the `moment`-th of the things that change the disk; the list grows with them."""
    seen: list[str] = []

    def tick(name: str) -> None:
        if len(seen) == moment:
            os.kill(os.getpid(), signal.SIGKILL)
        seen.append(name)

    def wrap(owner: Any, name: str) -> None:
        inner = getattr(owner, name)

        def wrapped(*args: Any, **kwargs: Any) -> Any:
            if name == "unlink" and not args[0].exists():
                return inner(*args, **kwargs)
            tick(f"before {name}")
            result = inner(*args, **kwargs)
            tick(f"after {name}")
            return result

        setattr(owner, name, wrapped)

    wrap(h5py.Dataset, "__setitem__")
    for name in ("pwrite", "replace", "fsync", "posix_fallocate"):
        wrap(os, name)
    for name in ("rename", "replace", "unlink"):
        wrap(pathlib.Path, name)
    return seen


def fork(task: Callable[[], None]) -> int:
    """Start `task` in a process of its own."""
    child = os.fork()
    if child == 0:
        code = 70
        try:
            task()
            code = 0
        finally:
            sys.stderr.flush()
            os._exit(code)
    return child


def main(card: str, manifest: str, folder: Path, scenario: str) -> None:
    """Run the scenario whole, then killed at every moment chosen."""
    before, armed = steps(card, manifest, scenario)
    load(card)  # imports what the children need, once
    Image.init()

    def whole(study: Path) -> None:
        for step in before:
            step(study)
        started = time.monotonic()
        seen = watch(-1)
        armed(study)
        (folder / "seen.json").write_text(json.dumps([time.monotonic() - started, seen]))

    def killed(study: Path, moment: int) -> None:
        for step in before:
            step(study)
        (study.parent / f"{study.name}.armed").touch()
        watch(moment)
        armed(study)

    assert os.waitpid(fork(lambda: whole(folder / "whole")), 0)[1] == 0
    seconds, seen = json.loads((folder / "seen.json").read_text())
    step = len(seen) // KEPT
    often = ("__setitem__", "pwrite", "fsync", "posix_fallocate")
    moments = [n for n, name in enumerate(seen) if name.split()[1] not in often or n % step == 1]
    for moment in moments:
        study = folder / str(moment)
        status = os.waitpid(fork(lambda s=study, m=moment: killed(s, m)), 0)[1]
        assert os.WIFSIGNALED(status), (moment, status)
        print(moment, seen[moment], flush=True)
    for number in range(DELAYS):
        study = folder / f"late-{number}"
        child = fork(lambda s=study: killed(s, -1))
        while not (folder / f"{study.name}.armed").exists():
            time.sleep(0.001)
        time.sleep(seconds * (number + 0.5) / DELAYS)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        print(study.name, "from outside", flush=True)
    for line in [*map(str, moments), *(f"late-{n}" for n in range(DELAYS))]:
        status = os.waitpid(fork(lambda s=folder / line: armed(s)), 0)[1]
        assert status == 0, (line, status)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), sys.argv[4])
