"""Processes forked from one that has imported what they need, so that a test need not wait for PyTorch.

Two seconds of imports and three of PyTorch's compiler, which running a network on the meta device asks for,
are spent once in a run of the tests. `spawned` tests start processes as the program itself does.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.forkserver
import os
import runpy
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch

TESTS = Path(__file__).parent
_PRELOADED = [
    "torch._dynamo",
    "torchvision.models",
    "cli.app",
    "cli.start",
    "probe.finetuning.finetune",
    "features.extraction.extract",
    "probe.fitting.fit",
]
if os.environ.get("PROBE_TEST_DEVICE", "simulated") == "simulated":
    _PRELOADED.append("simulated_device")
real_context = multiprocessing.get_context


class Forked(ForkServerContext):
    """Stands in for the context `spawn`: its processes have the environment of their parent too."""

    def Process(self, target: Callable[..., Any], args: Iterable[Any]) -> BaseProcess:  # type: ignore[override]
        return server().Process(target=_in, args=(dict(os.environ), target, tuple(args)))


def server() -> ForkServerContext:
    """The context whose server has imported what the tests' processes need."""
    context = real_context("forkserver")
    paths = os.pathsep.join((str(TESTS.parent), str(TESTS)))
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = paths
    try:
        context.set_forkserver_preload(_PRELOADED)
        multiprocessing.forkserver.ensure_running()
    finally:
        os.environ.pop("PYTHONPATH") if before is None else os.environ.update(PYTHONPATH=before)
    return context


def get_context(method: str | None = None) -> Any:
    """In the place of `multiprocessing.get_context`."""
    return Forked() if method == "spawn" else real_context(method)


def _in(environment: Mapping[str, str], target: Callable[..., Any], args: tuple[Any, ...]) -> None:
    os.environ.clear()
    os.environ.update(environment)
    if "OMP_NUM_THREADS" in environment:  # which PyTorch reads when it is imported
        torch.set_num_threads(int(environment["OMP_NUM_THREADS"]))
    if os.environ.get("PROBE_SIMULATED_DEVICE"):
        import simulated_device

        simulated_device.switch(True)
    target(*args)


class Probe:
    """The program `probe` in a process of its own, the leader of a session."""

    longest = 100.0
    """Seconds that `end` waits."""

    @staticmethod
    def _begin(words: list[str], folder: str, here: str, terminal: str | None) -> None:
        _probe(words, folder, here, terminal)

    def __init__(self, words: Iterable[object], folder: Path, terminal: str | None = None) -> None:
        """Start it; its outputs go into files in `folder`, and are read by `end`.

        Args:
            words: What a person types after `probe`.
            folder: A folder for the files.
            terminal: The device that is stdin and stderr, if they are a terminal.
        """
        self._folder = Path(tempfile.mkdtemp(dir=folder))
        work = (list(map(str, words)), str(self._folder), str(Path.cwd()), terminal)
        self._process = Forked().Process(self._begin, work)
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid
        while (
            not self._begun() and self.poll() is None
        ):  # before that a signal would meet no handler
            time.sleep(0.002)

    def _begun(self) -> bool:
        return (self._folder / "begun").exists()

    def poll(self) -> int | None:
        """The exit code, or minus a signal's number; None while the process runs."""
        return self._process.exitcode

    def kill(self) -> None:
        """SIGKILL; returns when the process has ended."""
        self._process.kill()
        self._process.join()

    def end(self) -> tuple[int, str, str]:
        """The exit code, stdout and stderr, once the process has ended."""
        self._process.join(self.longest)
        if self.poll() is None:
            self.kill()
        code = self.poll()
        assert code is not None
        out, errors = (self._folder / name for name in ("out", "errors"))
        return code, out.read_text(), errors.read_text() if errors.exists() else ""


class Script(Probe):
    """A file of Python, the first of `words`, with those that follow, in such a process."""

    longest = 3600.0

    @staticmethod
    def _begin(words: list[str], folder: str, here: str, terminal: str | None) -> None:
        _enter(words, folder, here, terminal)
        Path(folder, "begun").touch()
        runpy.run_path(words[0], run_name="__main__")


def _probe(words: list[str], folder: str, here: str, terminal: str | None) -> None:
    from cli.start import main

    _enter(["probe", *words], folder, here, terminal)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    Path(folder, "begun").touch()
    main()


def _enter(words: list[str], folder: str, here: str, terminal: str | None) -> None:
    os.setsid()
    os.chdir(here)
    new = os.O_WRONLY | os.O_CREAT
    places = [terminal or os.devnull, f"{folder}/out", terminal or f"{folder}/errors"]
    for number, (place, mode) in enumerate(zip(places, (os.O_RDWR, new, new), strict=True)):
        os.dup2(os.open(place, mode), number)
    sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w")  # noqa: SIM115
    sys.argv = words
