"""Run an extraction again and again, each time killed (SIGKILL) at another moment.

`python killed.py CARD MANIFEST FOLDER KEPT EVERY` makes FOLDER/SCENARIO/whole without interruption, and
FOLDER/SCENARIO/N killed at some moment N and then run again; it prints scenario, N and what happened then,
line by line.
"""

import json
import os
import pathlib
import shutil
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
SCENARIOS = ("first", "layers", "limit", "views")


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


def main(card: str, manifest: str, folder: Path, scenario: str, kept: int, every: int) -> None:
    """Run the scenario whole, then killed at every moment chosen.

    Args:
        card: The card.
        manifest: The data.
        folder: The folder of the scenario.
        scenario: One of SCENARIOS.
        kept: How many moments besides those at which a file changes its name; a third of as many kills come
            from outside, after a while.
        every: Only every such moment at which a file is replaced or unlinked, of each scenario others.
    """
    before, armed = steps(card, manifest, scenario)
    folder.mkdir()
    ready = folder / "ready"

    def prepare() -> None:
        for step in before:
            step(ready)

    def begin(study: Path) -> None:
        if before:
            shutil.copytree(ready, study)

    def whole(study: Path) -> None:
        started = time.monotonic()
        seen = watch(-1)
        armed(study)
        (folder / "seen.json").write_text(json.dumps([time.monotonic() - started, seen]))

    def killed(study: Path, moment: int) -> None:
        (study.parent / f"{study.name}.armed").touch()
        watch(moment)
        armed(study)

    assert os.waitpid(fork(prepare), 0)[1] == 0
    begin(folder / "whole")
    assert os.waitpid(fork(lambda: whole(folder / "whole")), 0)[1] == 0
    seconds, seen = json.loads((folder / "seen.json").read_text())
    step = len(seen) // kept
    often = ("__setitem__", "pwrite", "fsync", "posix_fallocate")
    moments = [n for n, name in enumerate(seen) if name.split()[1] not in often or n % step == 1]
    number = SCENARIOS.index(scenario)
    thinned = ("replace", "unlink")
    moments = [
        n
        for i, n in enumerate(moments)
        if seen[n].split()[1] not in thinned or (i - number) % every == 0
    ]
    for moment in moments:
        study = folder / str(moment)
        begin(study)
        status = os.waitpid(fork(lambda s=study, m=moment: killed(s, m)), 0)[1]
        assert os.WIFSIGNALED(status), (moment, status)
        print(scenario, moment, seen[moment], flush=True)
    delays = kept // 3
    for number in range(delays):
        study = folder / f"late-{number}"
        begin(study)
        child = fork(lambda s=study: killed(s, -1))
        while not (folder / f"{study.name}.armed").exists():
            time.sleep(0.001)
        time.sleep(seconds * (number + 0.5) / delays)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        print(scenario, study.name, "from outside", flush=True)
    for line in [*map(str, moments), *(f"late-{n}" for n in range(delays))]:
        status = os.waitpid(fork(lambda s=folder / line: armed(s)), 0)[1]
        assert status == 0, (line, status)


if __name__ == "__main__":
    torch.set_num_threads(1)
    load(sys.argv[1])  # imports what the children need, once
    Image.init()
    for name in SCENARIOS:
        main(sys.argv[1], sys.argv[2], Path(sys.argv[3]) / name, name, *map(int, sys.argv[4:]))
