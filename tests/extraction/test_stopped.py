"""Extraction killed, stopped, out of disk or not alone: a sentence, an exit code, and it goes on."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import h5py
import pytest
from forkserver import Probe, Script
from toys import write_card, write_images
from typer.testing import CliRunner

from cli.app import app
from features.extraction.extract import extract
from features.store.featurefile import DONE, FeatureFile

TESTS = Path(__file__).parents[1]
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": f"{TESTS.parent}{os.pathsep}{TESTS}",
    "PYTHONUNBUFFERED": "1",
    "PROBE_TRUST": "1",  # the tests' networks stand in .py files
}


def test_killed_at_random_moments_no_row_is_lost_or_computed_twice_but_a_few(
    tmp_path: Path,
) -> None:
    words = (TESTS / "sigkill.py", "--kills", "4", "--images", "120")
    code, told, errors = Script(words, tmp_path).end()
    assert code == 0, told + errors
    assert "4 of them the same to the byte" in told


@pytest.fixture
def slow_card(tmp_path: Path) -> Path:
    """The toy network, a quarter of a second per batch."""
    card = write_card(tmp_path / "cards")
    network = card.with_name("tiny.py")
    network.write_text(
        network.read_text().replace("pixels=nn.Identity()", "pixels=Slow()")
        + "\nimport time\n\n\nclass Slow(nn.Module):\n    def forward(self, x):\n"
        "        time.sleep(0.25 * (x.device.type == 'cpu'))\n        return x.clone()\n"
    )
    return card


class Started:
    """`probe extract` in a process of its own, with some rows done already and some to do."""

    def __init__(self, words: Sequence[str], file: Path) -> None:
        before = done(file)
        self.process = Probe(words, file.parents[2])
        started = time.monotonic()
        while done(file) < before + 2 and self.process.poll() is None:
            assert time.monotonic() - started < 200
            time.sleep(0.02)

    def workers(self) -> list[int]:
        """Its worker processes."""
        task = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        found = []
        for child in map(int, task.read_text().split()):
            if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes():
                found.append(child)
        return found

    def end(self) -> tuple[int, str]:
        """Exit code, and the one line that tells the error."""
        code, _, errors = self.process.end()
        assert "Traceback" not in errors
        [line] = [line for line in errors.splitlines() if line.startswith("error: ")]
        assert line.endswith(".")
        return code, line


def done(file: Path) -> int:
    """Rows that are marked in the file in the making: its status, read past HDF5's lock."""
    partial = file.with_name(file.name + ".partial")
    if not partial.is_file():
        return 0
    with h5py.File(partial, "r", locking=False) as opened:
        return int((opened["status"][:] == DONE).sum())


TERM = "error: stopped by SIGTERM; what was done is kept, run the same command again to go on."
INTERRUPTED = "error: interrupted; what was done is kept, run the same command again to go on."
DEAD = (
    "error: a worker ended with exit code -9, perhaps because memory ran out; what was done is kept, "
    "run the same command again to go on."
)


def terminate(started: Started) -> None:
    os.kill(started.process.pid, signal.SIGTERM)


def interrupt(started: Started) -> None:
    os.killpg(started.process.pid, signal.SIGINT)  # as a terminal does: all of them get it


def kill_a_worker(started: Started) -> None:
    os.kill(started.workers()[0], signal.SIGKILL)


@pytest.mark.parametrize(
    ("workers", "stops"),
    [
        (1, [(terminate, 4, TERM), (interrupt, 130, INTERRUPTED)]),
        (2, [(kill_a_worker, 4, DEAD)]),
        pytest.param(
            2, [(terminate, 4, TERM), (interrupt, 130, INTERRUPTED)], marks=pytest.mark.slow
        ),
    ],
)
def test_stopped_in_a_sentence_and_taken_up_again(
    slow_card: Path,
    tmp_path: Path,
    workers: int,
    stops: list[tuple[Callable[[Started], None], int, str]],
) -> None:
    manifest = write_images(tmp_path / "images", 140, (3,))
    words = f"extract --backbone {slow_card} --data {manifest} --batch-size 1 --device cpu"
    words += f" --study {tmp_path / 'study'} --workers {workers}"
    file = tmp_path / "study" / "features" / "tiny.h5"
    for stop, code, said in stops:
        started = Started(words.split(), file)
        second = CliRunner().invoke(app, words.split())
        assert second.exit_code == 3
        assert (
            f"{file}: another process is writing it; wait until it has finished." in second.stderr
        )
        stop(started)
        assert started.end() == (code, said)
        assert not file.exists()
        assert started.process.poll() is not None
    kept = done(file)
    assert kept >= 2 * len(stops)
    slow_card.with_name("tiny.py").write_text(
        slow_card.with_name("tiny.py").read_text().replace("0.25 *", "0 *")
    )
    result = extract(tmp_path / "study", str(slow_card), batch_size=1, device="cpu", lanes=2)
    whole = extract(tmp_path / "w", str(slow_card), data=str(manifest), batch_size=1, device="cpu")
    assert result.computed == 139 - kept
    with FeatureFile(result.file) as one, FeatureFile(whole.file) as other:
        assert one.verify() == []
        for key in other.keys:
            assert one.read(key).tobytes() == other.read(key).tobytes()


FULL = """
import multiprocessing, shutil, subprocess, sys, forkserver, h5py, torch
from pathlib import Path
from types import SimpleNamespace
from cli.app import main
from features.store import making, room

multiprocessing.get_context = forkserver.get_context
# What statvfs says is not what can be written: elsewhere a quota or another program takes it.
shutil.disk_usage = lambda _: SimpleNamespace(free=10**9)
card, manifest, disk, reserving, *more = sys.argv[1:]
if reserving == "unreserved":  # on some file systems space cannot be had beforehand
    making.reserve = room.reserve = lambda _path, _size: None
file = Path(disk) / "study" / "features" / "tiny.h5"


def size(size):
    subprocess.run(["mount", "-o", f"remount,size={size}", disk], check=True)


def run():
    sys.argv = ["probe", "extract", "--backbone", card, "--data", manifest, "--batch-size", "4"]
    sys.argv += ["--device", "cpu", "--study", str(Path(disk) / "study"), *more]
    try:
        main()
    except SystemExit as end:
        print("exit", end.code, flush=True)


def done(path):
    with h5py.File(path) as opened:
        return int((opened["status"][:] == 1).sum())


if __name__ == "__main__":
    torch.set_num_threads(1)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", disk], check=True)
    run()
    partial = Path(f"{file}.partial")
    print(done(partial) if partial.exists() else 0, file.exists(), flush=True)
    size("20m")
    run()
    Path(disk + ".h5").write_bytes(file.read_bytes())
"""


@pytest.mark.parametrize(
    ("reserving", "workers"),
    [
        ("reserved", 1),
        ("unreserved", 2),
        pytest.param("reserved", 2, marks=pytest.mark.slow),
        pytest.param("unreserved", 1, marks=pytest.mark.slow),
    ],
)
def test_a_disk_that_fills_up_loses_nothing(tmp_path: Path, reserving: str, workers: int) -> None:
    command = ["unshare", "--mount", "--map-root-user"]
    if subprocess.run([*command, "true"], capture_output=True, check=False).returncode:
        pytest.skip("needs a file system of its own")
    card, manifest = write_card(tmp_path / "cards"), write_images(tmp_path / "i", 150, (3,))
    disk, script = tmp_path / "disk", tmp_path / "full.py"
    disk.mkdir()
    script.write_text(FULL)
    words = [card, manifest, disk, reserving, "--workers", str(workers)]
    ran = subprocess.run(
        [*command, sys.executable, script, *words],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    first, between, second = ran.stdout.splitlines()
    assert (first, second) == ("exit 4", "exit 0")
    kept, finished = between.split()
    assert (int(kept) > 0, finished) == (reserving == "unreserved", "False")
    errors = [line for line in ran.stderr.splitlines() if line.startswith("error: ")]
    assert errors == ["error: the disk is full; make room and run the same command again to go on."]
    assert "Traceback" not in ran.stderr
    whole = extract(tmp_path / "w", str(card), data=str(manifest), batch_size=4, device="cpu")
    assert Path(f"{disk}.h5").read_bytes() == whole.file.read_bytes()


def test_status_verify_names_the_layer_and_the_rows_of_a_flipped_byte(tmp_path: Path) -> None:
    card, manifest = write_card(tmp_path / "cards"), write_images(tmp_path / "images", 9)
    file = extract(tmp_path / "study", str(card), data=str(manifest), device="cpu").file
    words = ["status", "--verify", "--study", str(tmp_path / "study")]
    whole = CliRunner().invoke(app, words)
    assert whole.exit_code == 0, whole.output
    with h5py.File(file) as opened:
        data = opened["layers/conv"]
        place = data.id.get_chunk_info(0).byte_offset + 4 * data.shape[1] * 6 + 11
    changed = bytearray(file.read_bytes())
    changed[place] ^= 16
    file.write_bytes(changed)
    found = CliRunner().invoke(app, words)
    assert found.exit_code == 3
    assert "tiny: conv has changed on disk in 1 row: 6\n" in found.stderr
