"""Ray's own nodes, two of them with a core each: killed, without the images, and with disks that fail."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from toys import write_images

from features.extraction.extract import extract
from features.study.status import held
from features.study.study import open_study
from probe.finetuning.finetune import finetune
from probe.fitting.fit import fit
from probe.training.recipes import recipe

pytestmark = pytest.mark.slow
ROWS, BROKEN, TWICE = 240, (3, 11), {20: 3, 90: 2}
KILLS = int(os.environ.get("PROBE_KILLS", "20"))
SLOW = """
class Slow(nn.Identity):
    def forward(self, x):
        import time

        time.sleep(0.04)
        if self.training:
            with open(__file__ + ".batches", "a") as log:
                log.write("x")
        return x


def build"""
FAULTY = """
import os, builtins, errno
kind, root = os.environ["FAULT"], os.environ["FAULT_ROOT"]
def guarded(inner):
    def call(path, *more, **named):
        if isinstance(path, (str, bytes, os.PathLike)) and os.fsdecode(path).startswith(root):
            raise OSError(getattr(errno, kind), os.strerror(getattr(errno, kind)), os.fsdecode(path))
        return inner(path, *more, **named)
    return call
if kind == "ENOENT":
    os.stat, os.lstat = guarded(os.stat), guarded(os.lstat)
os.open, builtins.open = guarded(os.open), guarded(builtins.open)
"""


class Nodes:
    """A cluster of this machine, in a process of its own."""

    def __init__(self, head_cores: int) -> None:
        program = Path(__file__).with_name("ray_cluster.py")
        self._process = subprocess.Popen(
            [sys.executable, str(program), str(head_cores)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.address = self._answer()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        for line in self._process.stdout:  # Ray's own words may come between
            with suppress(ValueError):
                return json.loads(line)
        raise AssertionError("the cluster has ended")

    def _ask(self, *words: object) -> Any:
        assert self._process.stdin is not None
        print(json.dumps(words), file=self._process.stdin, flush=True)
        return self._answer()

    def add(self, **environment: str) -> int:
        """The number of a new node."""
        return int(self._ask("add", environment))

    def kill(self, node: int) -> None:
        """Its raylet and workers, by SIGKILL."""
        self._ask("kill", node)

    def workers(self, doing: str = "_make|IDLE") -> list[int]:
        """The processes that make pieces, or wait for one."""
        listed = subprocess.check_output(["ps", "-eo", "pid,ppid,args"], text=True)
        rows = [line.split(None, 2) for line in listed.splitlines()[1:]]
        raylets = set(map(str, self._ask("raylets")))
        return [
            int(pid)
            for pid, parent, what in rows
            if parent in raylets and re.match(f"ray::({doing})", what)
        ]

    def end(self) -> None:
        """Let all its processes end."""
        with self._process as process:  # which closes its pipes
            assert process.stdin is not None
            process.stdin.close()
            process.wait(120)


@pytest.fixture
def nodes() -> Iterator[Callable[..., Nodes]]:
    if importlib.util.find_spec("ray") is None:
        pytest.skip("Ray is not installed")
    started: list[Nodes] = []

    def start(head_cores: int = 1) -> Nodes:
        started.append(Nodes(head_cores))
        return started[-1]

    yield start
    for each in started:
        each.end()


@pytest.fixture
def images(tiny_card: Callable[..., Path], tmp_path: Path) -> tuple[str, str]:
    """A network that takes its time, and the manifest."""
    card = tiny_card()
    network = card.with_name("tiny.py")
    text = network.read_text()
    network.write_text(text.replace("def build", SLOW, 1).replace("nn.Identity()", "Slow()"))
    return str(card), str(write_images(tmp_path / "images", ROWS, BROKEN, TWICE))


def digest(study: Path) -> str:
    (file,) = (study / "features").glob("*.h5")
    assert not list((study / "features").glob("*.parts"))
    return hashlib.sha256(file.read_bytes()).hexdigest()


def begun(task: Callable[[], object]) -> int:
    """Start `task` in a process of its own."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            task()
            code = 0
        finally:
            os._exit(code)
    return child


def ended(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def parts(study: Path) -> int:
    return len(list(study.glob("features/*.parts/*.h5")))


def await_parts(study: Path, many: int, child: int) -> bool:
    """Wait until so many parts are there, or the command has ended; whether it is still at work."""
    while parts(study) < many:
        if os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            return False
        time.sleep(0.01)
    return True


def options(manifest: str) -> dict[str, Any]:
    return {"data": manifest, "device": "cpu", "batch_size": 2}


@pytest.mark.parametrize("what", ["driver", "node", "worker"])
def test_kills_at_random_moments(
    what: str, nodes: Callable[..., Nodes], images: tuple[str, str], tmp_path: Path
) -> None:
    """Of workers, nodes or drivers; gone on with by another engine and number of workers: same bytes."""
    drawn = random.Random(0)
    card, manifest = images
    given = options(manifest)
    extract(tmp_path / "here", card, workers=2, **given)
    whole = digest(tmp_path / "here")
    at = nodes()
    second = at.add()

    def on_ray(study: Path) -> None:
        extract(study, card, on=f"ray:{at.address}", **given)

    began = time.monotonic()
    assert ended(begun(lambda: on_ray(tmp_path / "plain"))) == 0
    assert digest(tmp_path / "plain") == whole
    killed = number = 0
    while killed < KILLS:
        number += 1
        study = tmp_path / f"{what}-{number}"
        child = begun(lambda study=study: on_ray(study))  # type: ignore[misc]
        done = 0
        for _ in range(5):
            done = max(done, parts(study)) + drawn.randint(1, 14)
            if not await_parts(study, done, child):
                break
            time.sleep(drawn.random() * 0.2)
            if what == "worker" and (pids := at.workers()):
                os.kill(drawn.choice(pids), signal.SIGKILL)
            elif what == "node":
                at.kill(second)
                second = at.add()
            elif what == "driver":
                os.kill(child, signal.SIGKILL)
                ended(child)
                child = begun(lambda study=study: on_ray(study))  # type: ignore[misc]
            else:
                continue
            killed += 1
            print(what, killed, parts(study), f"{time.monotonic() - began:.0f} s", flush=True)
        if what == "driver":
            os.kill(child, signal.SIGKILL)
            killed += ended(child) < 0
            extract(study, card, workers=1 + number % 3, **given)
        elif code := ended(child):  # a piece was hit three times
            print(what, number, "ended with", code, flush=True)
            extract(study, card, workers=1 + number % 3, **given)
        assert digest(study) == whole, (what, number)
        print(what, killed, "same bytes", f"{time.monotonic() - began:.0f} s", flush=True)


@pytest.mark.parametrize("kind", ["ENOENT", "EIO", "ESTALE"])
def test_images_that_one_node_does_not_see(
    kind: str, nodes: Callable[..., Nodes], images: tuple[str, str], tmp_path: Path
) -> None:
    """The other makes all; alone that node ends the command with 4, and no row is unreadable."""
    card, manifest = images
    (faulty := tmp_path / "faulty").mkdir()
    (faulty / "sitecustomize.py").write_text(FAULTY)
    extract(tmp_path / "here", card, workers=2, **options(manifest))
    at = nodes(0)
    path = f"{faulty}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    root = Path(manifest).parent / ("" if kind == "ENOENT" else "0")  # all, or images alone
    at.add(PYTHONPATH=path, FAULT=kind, FAULT_ROOT=str(root))

    def command(study: str) -> subprocess.CompletedProcess[str]:
        words = f"extract --backbone {card} --data {manifest} --device cpu --batch-size 2".split()
        more = ["--study", str(tmp_path / study), "--on", f"ray:{at.address}"]
        return subprocess.run(
            [sys.executable, "-m", "cli", *words, *more],
            capture_output=True,
            text=True,
            check=False,
        )

    alone = command("alone")
    print(alone.stderr[-400:])
    assert alone.returncode == 4, alone.stderr
    assert re.search(rf"failed 3 times, last on {re.escape(os.uname().nodename)} \(", alone.stderr)
    study = open_study(tmp_path / "alone")
    assert [each.unreadable for each in held(study)] == []
    assert parts(tmp_path / "alone") == 0
    at.add()
    for name in ("beside", "alone"):
        made = command(name)
        assert made.returncode == 0, made.stderr
        assert digest(tmp_path / name) == digest(tmp_path / "here")
    assert " failed on " in made.stderr


def trained(card: str) -> int:
    """The training batches so far."""
    log = Path(card).with_name("tiny.py.batches")
    return log.stat().st_size if log.exists() else 0


TUNED: dict[str, Any] = {
    "tasks": ["label"],
    "recipe": recipe("modern", epochs=4, patience=0, batch_size=16),
}
TUNED |= {"device": "cpu", "search": False}
FITTED: dict[str, Any] = {"probes": ("ridge", "logistic", "knn")}


def results(study: Path) -> dict[str, bytes]:
    assert not (study / "fitting").exists()
    files = [study / "results.csv", *sorted((study / "predictions").rglob("*.npz"))]
    return {str(file.relative_to(study)): file.read_bytes() for file in files}


def test_fits_and_fine_tunes_on_two_nodes(
    nodes: Callable[..., Nodes], images: tuple[str, str], tmp_path: Path
) -> None:
    """The bytes of the commands alone; a worker killed in a fold goes on at its last epoch."""
    card, manifest = images
    for name in ("here", "there"):
        extract(tmp_path / name, card, workers=2, **(options(manifest) | {"batch_size": 16}))
    assert ended(begun(lambda: fit(tmp_path / "here", **FITTED))) == 0
    assert ended(begun(lambda: finetune(tmp_path / "here", card, **TUNED))) == 0
    alone = trained(card)
    at = nodes()
    at.add()
    on = f"ray:{at.address}"
    assert ended(begun(lambda: fit(tmp_path / "there", on=on, **FITTED))) == 0
    child = begun(lambda: finetune(tmp_path / "there", card, on=on, **TUNED))
    while trained(card) < alone * 1.3:
        assert not os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        time.sleep(0.02)
    os.kill(at.workers("_make")[0], signal.SIGKILL)
    assert ended(child) == 0
    assert results(tmp_path / "there") == results(tmp_path / "here")
    one_epoch = alone // (5 * 4)
    print("batches", alone, trained(card) - alone, "one epoch", one_epoch)
    assert alone <= trained(card) - alone <= alone + 2 * one_epoch


@pytest.mark.parametrize("command", ["fit", "finetune"])
def test_killed_shares(command: str, images: tuple[str, str], tmp_path: Path) -> None:
    """Shares of a fit and a fine-tune, killed at random moments: the bytes of the command alone."""
    drawn = random.Random(1)
    card, manifest = images
    for name in ("here", "there"):
        extract(tmp_path / name, card, workers=2, **(options(manifest) | {"batch_size": 16}))

    def work(name: str, **more: Any) -> Any:
        if command == "fit":
            return fit(tmp_path / name, **FITTED, **more)
        return finetune(tmp_path / name, card, **TUNED, **more)

    began = time.monotonic()
    assert ended(begun(lambda: work("here"))) == 0
    seconds = (time.monotonic() - began) / 2
    for number in range(10):
        child = begun(lambda number=number: work("there", share=f"{number % 2}/2"))  # type: ignore[misc]
        time.sleep(seconds * drawn.uniform(0.05, 0.7))
        os.kill(child, signal.SIGKILL)
        print(number, "killed" if ended(child) < 0 else "had ended", flush=True)
    work("there")
    assert results(tmp_path / "there") == results(tmp_path / "here")
