import multiprocessing
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import forkserver
import pytest
import torch
import toys
from filelock import FileLock

from features.extraction import pipeline
from features.sample import dataset
from probe.reporting.charts import figure_frame


@pytest.fixture(autouse=True, scope="session")
def _home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One cache folder for the whole run, so that the sample is drawn once; no network."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PROBE_HOME", str(tmp_path_factory.mktemp("home")))
        patch.setenv("PROBE_OFFLINE", "1")
        patch.setenv("PROBE_TRUST", "1")  # many networks of the tests stand in .py files
        patch.delenv("PROBE_STUDY", raising=False)
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # no waiting for a busy core
        yield
        torch.set_num_threads(threads)


@pytest.fixture(autouse=True, scope="session")
def _sample(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The sample is drawn once for all processes of the run, which copy it."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent

    write = dataset.write_sample

    def copied(to: Path) -> None:
        with FileLock(folder / "drawn.lock"):
            if not (folder / "drawn" / "sample.csv").exists():
                write(folder / "drawn")
        shutil.copytree(folder / "drawn", to, dirs_exist_ok=True)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dataset, "write_sample", copied)
        yield


@pytest.fixture(autouse=True, scope="session")
def _forked() -> Iterator[None]:
    """Worker processes are forked from one that has imported what they need."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(multiprocessing, "get_context", forkserver.get_context)
        yield


@pytest.fixture
def spawned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Worker processes are started as the program itself starts them."""
    monkeypatch.setattr(multiprocessing, "get_context", forkserver.real_context)


@pytest.fixture
def tiny_card(tmp_path: Path) -> Callable[..., Path]:
    """`tiny_card(old, new, ...)` writes toys.CARD with those changes and returns its path."""

    def write(*changes: str, seed: int = 0) -> Path:
        return toys.write_card(tmp_path / "cards", *changes, seed=seed)

    return write


@pytest.fixture
def svg_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures are drawn as SVG and not twice more: for tests of what a report says."""
    monkeypatch.setattr(figure_frame, "_METADATA", {"svg": figure_frame._METADATA["svg"]})


@pytest.fixture
def not_root() -> None:
    """Skip where permissions do not bind."""
    if os.geteuid() == 0:
        pytest.skip("permissions do not bind root")


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often extraction has read each image file, by its name."""
    found: Counter[str] = Counter()
    inner = pipeline.read_bytes

    def counted(path: Path) -> bytes:
        found[path.name] += 1
        return inner(path)

    monkeypatch.setattr(pipeline, "read_bytes", counted)
    return found
