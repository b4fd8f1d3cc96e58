"""Pieces of work as tasks of Ray, on this machine or on a cluster (https://docs.ray.io, the extra `ray`).

Ray runs the pieces and nothing else: what they make are files in the study's folder, which every node sees
under the same path, and the command that started them collects these. Ray's own retries are off, since
those after a lack of memory have no end; a piece that fails is started again here, on another node where
there is one, three times in all. A plan travels as the words it is made of, never as the study, and each
worker makes it once.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from features.errors import InputError, OptionError, Stopped, first_line, whole_sentence
from features.machine.device import cores
from features.machine.pieces import Piece
from features.machine.tally import Node, Tally

TIMES = 3
"""How often a piece is tried."""
_LOOK = 10.0  # seconds without a piece, after which it is looked whether any node can make one

Plan = Callable[[Any], Sequence[Piece]]
"""A function of a module, which makes the same pieces of the same words in every process."""

_plans: dict[str, tuple[str, Sequence[Piece]]] = {}
"""The command and the pieces of the last plan of each kind that this worker made."""


@dataclass(frozen=True)
class Failure:
    """Why a piece was not made."""

    message: str
    is_final: bool = False
    """Whether it would fail anywhere."""


def address_of(on: str) -> str:
    """The address of `ray` or `ray:ADDRESS`; `local` without one.

    Raises:
        OptionError: It names something else, or Ray is not installed.
    """
    engine, _, address = on.partition(":")
    if engine != "ray":
        raise OptionError(f"--on {on}: not an engine; write ray, or ray:ADDRESS of a cluster.")
    try:
        import ray  # noqa: F401
    except ImportError as error:
        raise OptionError(
            "--on ray: Ray is not installed; `pip install 'transfer-probe[ray]'`, or use --share."
        ) from error
    return address or "local"


def make_on_ray(
    on: str,
    plan: Plan,
    words: Any,
    *,
    alike: Callable[[], Mapping[str, str]],
    threads: int,
    device: str,
    tally: Tally,
) -> None:
    """Make the pieces of a plan that are not there, as tasks of Ray.

    Args:
        on: `ray` or `ray:ADDRESS`.
        plan: The function that makes the pieces.
        words: What it is given.
        alike: A function of a module: versions by name, which must be the same on every node.
        threads: The cores of a task, and the threads of its operations.
        device: A task takes a GPU where this is not `cpu`.
        tally: Is told what is made and what failed.

    Raises:
        OptionError: No node of the cluster has these cores and this device.
        InputError: A piece cannot be made, or a node has another toolkit, torch or decoder.
        Stopped: Pieces failed three times, or no node is left; what is made is kept.
    """
    pieces = plan(words)
    left = [number for number, piece in enumerate(pieces) if not piece.is_made()]
    if not left:
        return
    tally.total, gpus = len(left), 0 if device == "cpu" else 1
    failed: dict[int, list[tuple[Node, Failure]]] = {}
    sent = plan, words, threads, uuid.uuid4().hex
    with closing(tally), _connected(address_of(on)) as ray:
        if lacking := _lacking(ray, threads, gpus):
            raise OptionError(f"--on {on}: {lacking}")
        task, shared, versions = ray.remote(_make), ray.put(sent), alike()

        def start(number: int) -> Any:
            tried = {node for (_, node), _ in failed.get(number, ())}
            where = _elsewhere(ray, tried, threads, gpus)
            placed = task.options(
                max_retries=0, num_cpus=threads, num_gpus=gpus, scheduling_strategy=where
            )
            return placed.remote(shared, number, pieces[number].name, alike, versions)

        waiting = {start(number): number for number in left}
        while waiting:
            ready, _ = ray.wait(list(waiting), num_returns=1, timeout=_LOOK)
            if not ready and (lacking := _lacking(ray, threads, gpus)):
                raise Stopped(f"{lacking} What is made is kept; run the same command again.")
            if not ready:
                tally.tell()
            for one in ready:
                number = waiting.pop(one)
                node, failure = _outcome(ray, one)
                if failure is None:
                    tally.add(node)
                    continue
                if failure.is_final:
                    raise InputError(failure.message)
                tally.fail(pieces[number].name, node, failure.message)
                failed.setdefault(number, []).append((node, failure))
                if len(failed[number]) < TIMES:
                    waiting[start(number)] = number
    lost = [number for number, tries in sorted(failed.items()) if len(tries) >= TIMES]
    if lost:
        (host, _), why = failed[lost[0]][-1]
        raise Stopped(
            f"{pieces[lost[0]].name}: failed {TIMES} times, last on {host} ({why.message.rstrip('. ')}); "
            f"of {len(left)} pieces of work {len(lost)} failed, the others are kept; run the same command "
            "again."
        )


def _lacking(ray: Any, threads: int, gpus: int) -> str:
    """A sentence where no node can make a piece, with what they have; else empty."""
    alive = [node for node in ray.nodes() if node["Alive"]]
    if any(_is_able(node, threads, gpus) for node in alive):
        return ""
    offers = [(n["Resources"].get("CPU", 0), n["Resources"].get("GPU", 0)) for n in alive]
    hosts = (node["NodeManagerHostname"] for node in alive)
    there = [f"{h}: {c:g} cores, {g:g} GPUs" for h, (c, g) in zip(hosts, offers, strict=True)]
    return (
        f"no node has the {threads} cores{' and the GPU' if gpus else ''} that a piece of work takes "
        f"({'; '.join(there) or 'none is there'}); larger nodes, OMP_NUM_THREADS=1 or --device cpu do."
    )


@contextmanager
def _connected(address: str) -> Iterator[Any]:
    """Ray, connected to a cluster or to one of this machine's own, which ends with the block."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_worker_niceness", "0")  # else what is here is done after all else
    import ray

    own: dict[str, Any] = {"num_cpus": cores(), "include_dashboard": False}
    ours = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(
            address=address,
            log_to_driver=False,
            logging_level=logging.ERROR,
            **(own if address == "local" else {}),
        )
    except (ConnectionError, OSError, RuntimeError, ValueError) as error:
        raise InputError(
            f"--on ray:{address}: no cluster answers there ({first_line(error)}); check the address, or "
            "leave it out for this machine."
        ) from error
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, ours)  # Ray's own ends the program without its sentence
    try:
        yield ray
    finally:
        ray.shutdown()


def _outcome(ray: Any, ready: Any) -> tuple[Node, Failure | None]:
    """The node that made a piece, or its failure; a worker or node that died is one."""
    try:
        node, failure = ray.get(ready)
        return node, failure
    except ray.exceptions.RayError as error:
        why = str(error).strip().splitlines()[-1]  # of a traceback, what was raised
        return ("a worker that ended", ""), Failure(why)


def _is_able(node: Mapping[str, Any], threads: int, gpus: int) -> bool:
    """Whether a node lives and has what a piece takes; one that only leads has no cores."""
    has = node["Resources"]
    return bool(node["Alive"]) and has.get("CPU", 0) >= threads and has.get("GPU", 0) >= gpus


def _elsewhere(ray: Any, failed: set[str], threads: int, gpus: int) -> Any:
    """Where to try again: an able node that has not failed yet, if there is one; else anywhere."""
    if not failed:
        return "DEFAULT"
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    able = [node["NodeID"] for node in ray.nodes() if _is_able(node, threads, gpus)]
    others = [node for node in able if node not in failed]
    return NodeAffinitySchedulingStrategy(others[0], soft=True) if others else "DEFAULT"


def _make(
    shared: tuple[Plan, Any, int, str],
    number: int,
    name: str,
    alike: Callable[[], Mapping[str, str]],
    versions: Mapping[str, str],
) -> tuple[Node, Failure | None]:
    """Make a piece in a worker: the node, and why it was not made."""
    import ray

    node = socket.gethostname(), ray.get_runtime_context().get_node_id()
    for what, here in alike().items():
        if here != versions[what]:
            unlike = f"has {what} {here}, the command has {versions[what]}; install the same."
            return node, Failure(f"{node[0]}: {unlike}", is_final=True)
    try:
        piece = _planned(*shared)[number]
    except Exception as error:  # it was made where the command runs: something is not seen here
        return node, Failure(whole_sentence(error))
    try:
        if piece.name != name:
            raise Stopped(f"plans {piece.name} in the place of {name}")
        if not piece.is_made():
            piece.make()
    except InputError as error:
        return node, Failure(str(error), is_final=True)
    except (OSError, Stopped) as error:
        return node, Failure(whole_sentence(error))
    return node, None


def _planned(plan: Plan, words: Any, threads: int, command: str) -> Sequence[Piece]:
    """The pieces, made once in this worker; words that were sent twice need not be equal."""
    torch.set_num_threads(threads)
    key = f"{plan.__module__}.{plan.__qualname__}"
    if key not in _plans or _plans[key][0] != command:
        _plans[key] = command, plan(words)
    return _plans[key][1]
