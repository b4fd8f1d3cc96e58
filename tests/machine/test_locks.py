"""Locks: held against other processes, with the operating system's locks and where there are none."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import toys

from features.errors import InputError
from features.machine.locks import lock_of, locked
from features.store.making import create
from features.store.writer import Writer

FAULTS = {"flock": 0, "ENOSYS": errno.ENOSYS, "ENOLCK": errno.ENOLCK}

HOLD = """
import fcntl, sys, time
from pathlib import Path
from features.machine.locks import locked

def flock(*_):
    raise OSError(int(sys.argv[2]), "injected")

if int(sys.argv[2]):
    fcntl.flock = flock
with locked(Path(sys.argv[1]), "here"):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture(params=FAULTS)
def fault(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """The error that `flock` answers with, here and in `holding`; 0: it works."""
    number = FAULTS[request.param]
    if number:

        def flock(*_: object) -> None:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(fcntl, "flock", flock)
    return number


@contextmanager
def holding(path: Path, fault: int) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock `path`."""
    command = [sys.executable, "-c", HOLD, str(path), str(fault)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_another_process_is_kept_out_until_it_ends(
    tmp_path: Path, fault: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("features.machine.locks._SETTLE", 0.3)
    path = tmp_path / ".results.lock"
    with holding(path, fault) as process:
        with pytest.raises(InputError) as refused, locked(path, "results.csv"):
            pass
        said = str(refused.value)
        assert said == "results.csv: another process is writing it; wait until it has finished."
        process.kill()  # leaves its marker behind
        process.wait()
        assert Path(f"{path}.owner").exists() == bool(fault)
        with locked(path, "results.csv"):
            assert Path(f"{path}.owner").exists() == bool(fault)
    with locked(path, "results.csv"):
        pass
    assert not Path(f"{path}.owner").exists()


def test_one_process_excludes_itself_and_waits_as_long_as_it_may(
    tmp_path: Path, fault: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("features.machine.locks._SETTLE", 0.1)
    path, held, free = tmp_path / ".lock", threading.Event(), threading.Event()

    def hold() -> None:
        with locked(path, "it"):
            held.set()
            free.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    started = time.monotonic()
    with pytest.raises(InputError, match="another process is writing"), locked(path, "it", 0.4):
        pass
    assert time.monotonic() - started >= 0.4
    threading.Timer(0.3, free.set).start()
    with locked(path, "it", wait=30):
        assert free.is_set()
    thread.join()


def test_the_marker_of_another_host_is_named_with_what_to_delete(
    tmp_path: Path, fault: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("features.machine.locks._SETTLE", 0.1)
    path = tmp_path / ".results.lock"
    marker = tmp_path / ".results.lock.owner"
    marker.write_text("filelock/2\npid=41\nhost=elsewhere\nmode=exclusive\nstart=7\n")
    if not fault:  # the lock itself decides
        with locked(path, "results.csv"):
            return
    with pytest.raises(InputError) as refused, locked(path, "results.csv"):
        pass
    assert str(refused.value) == (
        "results.csv: process 41 of the host elsewhere is writing it; wait until it has finished, or "
        f"delete {marker} if that process no longer runs."
    )
    marker.unlink()
    with locked(path, "results.csv"):
        pass


def test_an_empty_marker_is_named_too(
    tmp_path: Path, fault: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not fault:
        return
    monkeypatch.setattr("features.machine.locks._SETTLE", 0.1)
    (tmp_path / ".lock.owner").touch()
    with (
        pytest.raises(InputError, match=r"or delete .*\.lock\.owner if"),
        locked(tmp_path / ".lock", "it"),
    ):
        pass


def test_a_link_is_refused_and_its_target_kept(tmp_path: Path, fault: int) -> None:
    diary, path = tmp_path / "diary", tmp_path / ".lock"
    diary.write_text("dear diary")
    for target in (diary, tmp_path / "nowhere"):
        path.symlink_to(target)
        with (
            pytest.raises(InputError, match="a symbolic link, not a lock file; delete"),
            locked(path, "it"),
        ):
            pass
        path.unlink()
    Path(f"{path}.owner").symlink_to(diary)
    with locked(path, "it", wait=30):
        pass
    assert diary.read_text() == "dear diary"
    assert not (tmp_path / "nowhere").exists()


def test_what_lock_files_held_before_stays(tmp_path: Path, fault: int) -> None:
    path = tmp_path / ".lock"
    path.write_text("")  # as earlier versions left it
    with locked(path, "it"):
        pass
    path.write_text("kept")
    with locked(path, "it"):
        assert path.read_text() == "kept"


def test_two_writers_of_one_file_exclude_each_other(
    tmp_path: Path, fault: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("features.machine.locks._SETTLE", 0.1)
    path = tmp_path / "net.h5.partial"
    layer = {"key": "fc", "dim": 2, "layer": "fc", "module": "fc", "pool": "none", "shape": [2]}
    texts = dict.fromkeys(("backbone", "domain", "images", "contract", "preprocessing"), "net")
    objects = dict.fromkeys(("card", "weights", "made_with"), "{}")
    create(path, 3, np.arange(3), [{**layer, "depth": 1.0}], "float32", {**texts, **objects})
    with Writer(path), pytest.raises(InputError, match=r"another process is (using|writing) it"):
        Writer(path)
    with Writer(path) as writer:
        writer.write(np.arange(3), {"fc": np.zeros((3, 2), dtype=np.float32)})
    assert not Path(f"{lock_of(path)}.owner").exists()


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler to replace flock with")
@pytest.mark.parametrize("name", ["ENOLCK"])
def test_a_study_is_made_where_there_are_no_locks(
    tmp_path: Path, tiny_card: Callable[..., Path], name: str
) -> None:
    """The C library's `flock` fails, so that HDF5's own locks fail too."""
    source, library = tmp_path / "no.c", tmp_path / "no.so"
    source.write_text(
        f"#include <errno.h>\nint flock(int f, int o) {{ errno = {name}; return -1; }}"
    )
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source], check=True)
    study = tmp_path / "study"
    twice = (
        "import sys\nfrom cli.app import main\nfor _ in range(2):\n    try:\n        main()\n"
        "    except SystemExit as end:\n        print('exit', end.code, file=sys.stderr)\n"
    )
    command = [sys.executable, "-c", twice, "extract", "--study", study]
    command += ["--backbone", tiny_card(), "--data", toys.write_images(tmp_path / "images", 9)]
    environment = {**os.environ, "LD_PRELOAD": str(library)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = done.stderr.splitlines()
    first, second = (i for i, line in enumerate(lines) if line == "exit 0")
    assert "tiny: 9 images" in lines[first - 1]
    assert "tiny: 0 images" in lines[second - 1]
    assert not list(study.rglob("*.owner"))
