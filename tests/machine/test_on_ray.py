"""Pieces of work as tasks: with a stand-in for Ray in the quick suite, with Ray itself by hand."""

from __future__ import annotations

import hashlib
import os
import signal
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
from probe.fitting.fit import fit
from probe.results import rows as results


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
        self.exceptions = types.SimpleNamespace(RayError=RayError)

    def init(self, **how: Any) -> None:
        if how["address"] == "nowhere:1":
            raise ConnectionError("refused")

    def shutdown(self) -> None:
        pass

    def put(self, value: Any) -> Any:
        return value

    def nodes(self) -> list[dict[str, Any]]:
        return [{"NodeID": name, "Alive": True} for name in self.names]

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

    def wait(self, waiting: Sequence[Any], num_returns: int) -> tuple[list[Any], list[Any]]:
        assert num_returns == 1
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


@pytest.fixture(autouse=True)
def nothing_made() -> None:
    MADE["made"].clear()
    MADE["planned"].clear()


def test_every_piece_is_made_once_and_the_plan_once_in_a_worker(ray: StandIn) -> None:
    MADE["made"].append("piece 1")
    told: list[tuple[int, int]] = []
    make_on_ray(
        "ray", plan, {}, alike=versions, threads=1,
        progress=lambda done, total, _hosts: told.append((done, total)),
    )  # fmt: skip
    assert sorted(MADE["made"]) == [f"piece {number}" for number in range(4)]
    assert told == [(1, 3), (2, 3), (3, 3)]
    assert len(MADE["planned"]) == 2


def test_a_piece_that_fails_is_tried_elsewhere(ray: StandIn) -> None:
    """After an error of the place, and after the death of a worker."""
    faults = {"piece 0": [OSError(116, "Stale file handle")], "piece 2": [Died()]}
    make_on_ray("ray", plan, faults, alike=versions, threads=1)
    assert sorted(MADE["made"]) == [f"piece {number}" for number in range(4)]
    first = ray.asked[0]
    assert ray.asked[4] == next(name for name in ray.names if name != first)


def test_a_piece_that_fails_three_times_is_named_and_the_others_are_made(ray: StandIn) -> None:
    faults: dict[str, list[Exception]] = {"piece 2": [Stopped("gone") for _ in range(9)]}
    with pytest.raises(Stopped, match=r"piece 2: failed 3 times, last on .* \(gone\); of 4 pieces"):
        make_on_ray("ray", plan, faults, alike=versions, threads=1)
    assert sorted(MADE["made"]) == ["piece 0", "piece 1", "piece 3"]
    assert len(faults["piece 2"]) == 6


def test_what_would_fail_anywhere_ends_the_command(
    ray: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match="NaN"):
        make_on_ray("ray", plan, {"piece 0": [InputError("NaN")]}, alike=versions, threads=1)
    answers = iter(["1", "2"])
    with pytest.raises(InputError, match=r"has torch 2, the command has 1; install the same"):
        make_on_ray("ray", plan, {}, alike=lambda: {"torch": next(answers)}, threads=1)
    with pytest.raises(
        InputError, match=r"--on ray:nowhere:1: no cluster answers there \(refused\)"
    ):
        make_on_ray("ray:nowhere:1", plan, {}, alike=versions, threads=1)
    with pytest.raises(OptionError, match="--on dask: not an engine"):
        make_on_ray("dask", plan, {}, alike=versions, threads=1)
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(OptionError, match="Ray is not installed"):
        make_on_ray("ray", plan, {}, alike=versions, threads=1)


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
    # Of 38 rows in a space of more features the last bit of a ridge score is not always the same.
    one, two = scores(tmp_path / "here"), scores(tmp_path / "there")
    assert one.keys() == two.keys()
    assert all(np.allclose(one[name], two[name], atol=1e-6, equal_nan=True) for name in one)
    rows = [results.read(tmp_path / name / "results.csv") for name in ("here", "there")]
    assert [(r.key, r.accuracy, r.C) for r in rows[0]] == [
        (r.key, r.accuracy, r.C) for r in rows[1]
    ]
    assert not (tmp_path / "there" / "fitting").exists()


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def scores(study: Path) -> dict[str, Any]:
    files = sorted((study / "predictions").rglob("*.npz"))
    return {str(file.relative_to(study)): np.load(file)["scores"] for file in files}


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
def test_ray_itself(tiny_card: Callable[..., Path], tmp_path: Path) -> None:
    """The bytes of two workers here; and a worker that is killed."""
    ray = pytest.importorskip("ray")
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # a worker cannot import it
    card = str(tiny_card())
    manifest = str(write_images(tmp_path / "images", 40, (3, 11), {20: 3}))
    options: dict[str, Any] = {"data": manifest, "device": "cpu", "batch_size": 4}
    here = extract(tmp_path / "here", card, workers=2, **options)
    there = extract(tmp_path / "there", card, on="ray", **options)
    assert digest(here.file) == digest(there.file)
    make_on_ray("ray", deadly, tmp_path, alike=versions, threads=1)
    assert [(tmp_path / str(number)).exists() for number in range(3)] == [True] * 3
