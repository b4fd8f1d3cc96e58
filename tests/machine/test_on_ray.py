"""Pieces of work as tasks: with a stand-in for Ray in the quick suite, with Ray itself by hand."""

from __future__ import annotations

import hashlib
import os
import signal
import socket
import sys
import types
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toys import write_images

from features.errors import InputError, OptionError, Stopped
from features.extraction.extract import extract
from features.machine import on_ray
from features.machine.on_ray import make_on_ray
from features.machine.pieces import Piece
from features.machine.tally import Tally, at_work
from probe.fitting.fit import fit


class RayError(Exception):
    """What Ray raises where a worker or node died."""


class Died(BaseException):
    """A worker that is killed while it works."""


class StandIn(types.ModuleType):
    """Ray, as far as it is used: tasks run when they are waited for, each on the next of its nodes."""

    def __init__(self, nodes: Sequence[str] = ("a", "b")) -> None:
        super().__init__("ray")
        self.names, self.turn, self.asked = list(nodes), 0, []
        self.node = ""
        self.resources = {"CPU": 2.0}
        self.exceptions = types.SimpleNamespace(RayError=RayError)

    def init(self, **how: Any) -> None:
        if how["address"] == "nowhere:1":
            raise ConnectionError("refused")

    def shutdown(self) -> None:
        pass

    def put(self, value: Any) -> Any:
        return value

    def nodes(self) -> list[dict[str, Any]]:
        some = {"Alive": True, "Resources": self.resources}
        leads = {"NodeID": "leads", "NodeManagerHostname": "l", "Alive": True, "Resources": {}}
        able = [{"NodeID": name, "NodeManagerHostname": name, **some} for name in self.names]
        return [leads, *able]

    def get_runtime_context(self) -> Any:
        return types.SimpleNamespace(get_node_id=lambda: self.node)

    def remote(self, function: Callable[..., Any]) -> Any:
        def placed(scheduling_strategy: str, **asked: object) -> Any:
            assert (asked["max_retries"], asked["num_gpus"]) == (0, 0)
            where = None if scheduling_strategy == "DEFAULT" else scheduling_strategy
            return types.SimpleNamespace(
                remote=lambda *arguments: (where, partial(function, *arguments))
            )

        return types.SimpleNamespace(options=placed)

    def wait(
        self, waiting: Sequence[Any], num_returns: int, timeout: float
    ) -> tuple[list[Any], list[Any]]:
        assert num_returns == 1
        if not self.names:  # after so many seconds
            return [], list(waiting)
        return [waiting[0]], list(waiting[1:])

    def get(self, ready: Any) -> Any:
        where, call = ready
        self.turn += 1
        self.node = where or self.names[self.turn % len(self.names)]
        self.asked.append(self.node)
        try:
            return call()
        except Died as error:
            raise RayError("The worker died unexpectedly.") from error


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    stand_in = StandIn()
    strategies = types.ModuleType("ray.util.scheduling_strategies")
    strategies.NodeAffinitySchedulingStrategy = lambda node, soft: node  # type: ignore[attr-defined]
    for name, module in (
        ("ray", stand_in),
        ("ray.util", types.ModuleType("ray.util")),
        ("ray.util.scheduling_strategies", strategies),
    ):
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(on_ray, "_plans", {})
    return stand_in


MADE: dict[str, list[str]] = {"made": [], "planned": []}


def versions() -> Mapping[str, str]:
    return {"torch": "1"}


def plan(faults: dict[str, list[Exception | BaseException]]) -> list[Piece]:
    """Four pieces, which fail as often as `faults` has errors for them."""
    MADE["planned"].append("")

    def make(name: str) -> None:
        left = faults.get(name, [])
        if left:
            raise left.pop(0)
        MADE["made"].append(name)

    names = [f"piece {number}" for number in range(4)]
    return [
        Piece(name, partial(MADE["made"].__contains__, name), partial(make, name)) for name in names
    ]


Run = Callable[..., list[str]]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """`run(plan, words)` makes the pieces as tasks, and returns what was said."""
    MADE["made"].clear()
    MADE["planned"].clear()

    def make(
        plan: Callable[[Any], list[Piece]],
        words: Any,
        on: str = "ray",
        alike: Callable[[], Mapping[str, str]] = versions,
        threads: int = 1,
    ) -> list[str]:
        said: list[str] = []
        tally = Tally(tmp_path, "fit", said.append)
        make_on_ray(on, plan, words, alike=alike, threads=threads, device="cpu", tally=tally)
        assert not list(tmp_path.glob(".*"))
        return said

    return make


def test_every_piece_is_made_once_and_the_plan_once_in_a_worker(ray: StandIn, run: Run) -> None:
    class Sent(dict[str, Any]):
        """Words with a function in them, which are no longer equal once they are sent."""

        def __ne__(self, other: object) -> bool:
            return True

    MADE["made"].append("piece 1")
    said = run(plan, Sent())
    assert sorted(MADE["made"]) == [f"piece {number}" for number in range(4)]
    assert said[0].startswith("fit: 1 of 3 pieces of work made, about ")
    assert said[-3] == "fit: 3 of 3 pieces of work made"
    one, two = (line.rpartition(" made, ")[0] for line in said[-2:])
    host = socket.gethostname()
    assert sorted([one, two]) == [f"{host} a: 1", f"{host} b: 2"]
    assert len(MADE["planned"]) == 2


def test_a_piece_that_fails_is_tried_elsewhere(ray: StandIn, run: Run) -> None:
    """After an error of the place, and after the death of a worker."""
    faults = {"piece 0": [OSError(116, "Stale file handle")], "piece 2": [Died()]}
    said = run(plan, faults)
    assert f"piece 0 failed on {socket.gethostname()} ([Errno 116] Stale file handle)" in said
    assert "piece 2 failed on a worker that ended (The worker died unexpectedly.)" in said
    assert sorted(MADE["made"]) == [f"piece {number}" for number in range(4)]
    first = ray.asked[0]
    assert ray.asked[4] == next(name for name in ray.names if name != first)


def test_a_piece_that_fails_three_times_is_named_and_the_others_are_made(
    ray: StandIn, run: Run
) -> None:
    """What is said of it is the whole sentence, however long the paths in it are."""
    why = f"/data/{'folder/' * 40}a.jpg cannot be read; mount it"
    faults: dict[str, list[Exception]] = {"piece 2": [Stopped(f"{why}.") for _ in range(9)]}
    whole = rf"piece 2: failed 3 times, last on .* \({why}\); of 4 pieces"
    with pytest.raises(Stopped, match=whole):
        run(plan, faults)
    assert sorted(MADE["made"]) == ["piece 0", "piece 1", "piece 3"]
    assert len(faults["piece 2"]) == 6


def test_what_would_fail_anywhere_ends_the_command(
    ray: StandIn, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match="NaN"):
        run(plan, {"piece 0": [InputError("NaN")]})
    answers = iter(["1", "2"])
    with pytest.raises(InputError, match=r"has torch 2, the command has 1; install the same"):
        run(plan, {}, alike=lambda: {"torch": next(answers)})
    with pytest.raises(
        InputError, match=r"--on ray:nowhere:1: no cluster answers there \(refused\)"
    ):
        run(plan, {}, on="ray:nowhere:1")
    with pytest.raises(OptionError, match="--on dask: not an engine"):
        run(plan, {}, on="dask")
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(OptionError, match="Ray is not installed"):
        run(plan, {})


def test_a_cluster_without_a_node_that_is_large_enough_is_refused(ray: StandIn, run: Run) -> None:
    """Before anything runs; where the nodes end while it runs, what is made is kept."""
    with pytest.raises(OptionError, match=r"no node has the 4 cores .*; a: 2 cores, 0 GPUs; b: 2 "):
        run(plan, {}, threads=4)
    assert MADE["made"] == []

    def last() -> None:
        ray.names.clear()
        raise OSError(5, "gone")

    def failing(faults: Any) -> list[Piece]:
        pieces = plan(faults)
        return [*pieces[:3], Piece("piece 3", pieces[3].is_made, last)]

    with pytest.raises(Stopped, match=r"no node has the 1 cores .*\(l: 0 cores, 0 GPUs\); .* kept"):
        run(failing, {})
    assert len(MADE["made"]) == 3


def test_what_is_noted_is_told_elsewhere_with_its_age(tmp_path: Path) -> None:
    tally = Tally(tmp_path, "extract", lambda _: None, total=2)
    tally.add(("a", "1"))
    tally.fail("piece 1", ("b", "2"), "no disk")
    tally.tell(at_once=True)
    first, second, third = at_work(tmp_path)
    assert first.startswith("extract: 1 of 2 pieces of work made, about ")
    assert second.startswith("a: 1 made, ")
    assert third == "piece 1 failed on b (no disk)"
    (note,) = tmp_path.iterdir()
    os.utime(note, (1, 1))
    assert "min ago; nothing since)" in at_work(tmp_path)[0]
    note.write_text("[")
    assert at_work(tmp_path) == []
    tally.close()
    assert not list(tmp_path.iterdir())
    os.mkfifo(tmp_path / ".at-work-fit.json")  # of a study from elsewhere
    assert at_work(tmp_path) == []


def test_an_engine_that_is_none_is_refused_before_a_study_is_begun(tmp_path: Path) -> None:
    """Also where nothing is left to do."""
    with pytest.raises(OptionError, match="--on dask: not an engine"):
        extract(tmp_path / "study", "vggface", data=str(tmp_path), on="dask")
    assert not (tmp_path / "study").exists()
    with pytest.raises(OptionError, match="--on dask: not an engine"):
        fit(tmp_path / "study", on="dask")


def test_an_extraction_and_a_fit_on_an_engine_end_in_the_bytes_of_those_here(
    ray: StandIn, tiny_card: Callable[..., Path], tmp_path: Path
) -> None:
    card = str(tiny_card())
    manifest = str(write_images(tmp_path / "images", 40, (3, 11), {20: 3}))
    options: dict[str, Any] = {"data": manifest, "device": "cpu", "batch_size": 4}
    views = {"views": ("flip",)}
    here = extract(tmp_path / "here", card, **options, **views)
    there = extract(tmp_path / "there", card, on="ray", **options, **views)
    assert there.computed == 0
    assert digest(here.file) == digest(there.file)
    for folder in ("here", "there"):
        fit(tmp_path / folder, probes=("ridge", "knn"), on="ray" if folder == "there" else None)
    one, two = scores(tmp_path / "here"), scores(tmp_path / "there")
    assert one.keys() == two.keys()
    assert all(one[name] == two[name] for name in one)
    texts = [(tmp_path / name / "results.csv").read_bytes() for name in ("here", "there")]
    assert texts[0] == texts[1]
    assert not (tmp_path / "there" / "fitting").exists()


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def scores(study: Path) -> dict[str, bytes]:
    files = sorted((study / "predictions").rglob("*.npz"))
    return {str(file.relative_to(study)): np.load(file)["scores"].tobytes() for file in files}


def deadly(folder: Path) -> list[Piece]:
    """Pieces of which one kills its worker the first time."""

    def make(number: int) -> None:
        first = folder / f"tried {number}"
        if number == 1 and not first.exists():
            first.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        (folder / f"{number}").touch()

    return [
        Piece(f"piece {number}", (folder / f"{number}").exists, partial(make, number))
        for number in range(3)
    ]


@pytest.mark.slow
def test_ray_itself(tiny_card: Callable[..., Path], tmp_path: Path, run: Run) -> None:
    """The bytes of two workers here; and a worker that is killed."""
    ray = pytest.importorskip("ray")
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # a worker cannot import it
    card = str(tiny_card())
    manifest = str(write_images(tmp_path / "images", 40, (3, 11), {20: 3}))
    options: dict[str, Any] = {"data": manifest, "device": "cpu", "batch_size": 4}
    here = extract(tmp_path / "here", card, workers=2, **options)
    there = extract(tmp_path / "there", card, on="ray", **options)
    assert digest(here.file) == digest(there.file)
    run(deadly, tmp_path)
    assert [(tmp_path / str(number)).exists() for number in range(3)] == [True] * 3
