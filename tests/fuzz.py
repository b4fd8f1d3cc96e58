"""Damage every file of a study in every way, and run every command on each.

    PROBE_TRUST=1 python tests/fuzz.py FOLDER --every 1

makes a study of everything that the toolkit writes and tries damage by command, each in a child that is
forked, so that a crash or a hang ends nothing else. It prints a line of JSON for every case that ended
other than well, and one that counts the cases. A case ends well with exit 0, or with exit 2 or 3, one
sentence on stderr and every file as it was; within 20 seconds of the processor (and 120 of the clock, for
what waits), and with nothing outside touched. Figures of the report are drawn once only.
"""

import argparse
import contextlib
import io
import json
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import damage
import h5py
import numpy as np
import torch
from toys import write_card, write_images

LONGEST = 20  # seconds of the processor: others may be at work on the machine
LONGEST_WAIT = 120.0  # seconds of the clock
TINY = ["--backbone", "{card}", "--device", "cpu", "--batch-size", "4"]
LAYERS = ["--layer", "conv", "--layer", "fc", "--pool", "avg"]
TUNED = ["finetune", *TINY, "--epochs", "1", "--patience", "0", "--view", "center", "--folds", "2"]
COMMANDS = {
    "status": ["status"],
    "status --verify": ["status", "--verify"],
    "status --json": ["status", "--json"],
    "data check": ["data", "check"],
    "extract": ["extract", *TINY, *LAYERS],
    "extract more": ["extract", *TINY, "--layer", "pool"],
    "extract --update": ["extract", *TINY, *LAYERS, "--update"],
    "extract to the end": ["extract", "--backbone", "control:pixels"],
    "fit": ["fit", "--probe", "ridge", "--probe", "knn", "--C", "1", "--folds", "2"],
    "fit --redo": ["fit", "--probe", "ridge", "--C", "1", "--folds", "2", "--redo"],
    "finetune": [*TUNED, "--save", "--seed", "1"],
    "finetune, once more": [*TUNED, "--save"],
    "report": ["report"],
    "compare": ["compare", "tiny/best/ridge", "net/best/ridge"],
    "rank": ["rank"],
    "extract a saved network": ["extract", "--backbone", "{saved}", *TINY[2:], "--layer", "fc"],
    "import": ["import", "{features}", "--name", "net", "--layer", "fc7"],
    "remove": ["remove", "net"],
}


def run(arguments: list[str]) -> int:
    """The exit code of `probe` with these arguments."""
    from cli.app import app

    try:
        app(arguments)
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


def in_a_child(task: Callable[[], int]) -> tuple[int, str]:
    """The exit status (negative: the signal that ended it) and what it said on stderr."""
    with tempfile.TemporaryFile() as said:
        child = os.fork()
        if not child:
            code = 1
            try:
                os.setsid()
                os.dup2(said.fileno(), 2)
                signal.alarm(0)
                resource.setrlimit(resource.RLIMIT_CPU, (LONGEST, LONGEST))
                code = task()
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(code)
        until, status = time.monotonic() + LONGEST_WAIT, 0
        while not (ended := os.waitpid(child, os.WNOHANG))[0]:
            if time.monotonic() > until:
                os.killpg(child, signal.SIGKILL)
            time.sleep(0.003)
        status = ended[1]
        said.seek(0)
        return os.waitstatus_to_exitcode(status), said.read().decode(errors="replace")


class Bench:
    """A study to damage, and what its commands need beside it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.whole = folder / "whole"
        self.card = write_card(folder / "cards")
        self.manifest = write_images(folder / "images", 16, bad=(5,), twice={9: 2})
        lines = self.manifest.read_text().splitlines()
        use = ["use", *("0" if i == 5 else "1" for i in range(16))]
        self.manifest.write_text("".join(f"{a},{b}\n" for a, b in zip(lines, use, strict=True)))
        self.features = folder / "features.npz"
        x = np.random.default_rng(0).normal(size=(16, 6))
        np.savez(self.features, features=x, label=np.arange(16) % 2)

    def arguments(self, line: list[str], study: Path) -> list[str]:
        """A command line on `study`."""
        saved = study / "networks" / "tiny@label-finetune-fold0.toml"
        known = {"{card}": self.card, "{features}": self.features, "{saved}": saved}
        return [*(str(known.get(part, part)) for part in line), "--study", str(study)]

    def make(self) -> None:
        """Write the study whole: features, results, networks, a report, and two runs that were stopped."""
        import probe.finetuning.finetune as tuning
        import probe.reporting.report as reporting
        from features.errors import Stopped

        begun = [*COMMANDS["extract"], "--data", str(self.manifest)]
        lines = [
            begun, [*COMMANDS["import"][:-1], "fc"], COMMANDS["data check"],
            COMMANDS["extract to the end"], COMMANDS["fit --redo"], COMMANDS["finetune, once more"],
            COMMANDS["rank"], COMMANDS["report"],
        ]  # fmt: skip
        for line in lines:
            assert run(self.arguments(line, self.whole)) == 0, line
        pixels = self.whole / "features" / "control_pixels.h5"
        with h5py.File(pixels, "r+") as file:
            file["status"][8:] = 0
        pixels.rename(pixels.with_name(pixels.name + ".partial"))

        def stopped(*_: object) -> None:
            raise Stopped("stopped.")

        commit, tuning.commit = tuning.commit, stopped  # type: ignore[assignment]
        assert run(self.arguments(COMMANDS["finetune"], self.whole)) == 4
        tuning.commit = commit
        reporting._write_figures = lambda *_: None  # type: ignore[assignment]
        with self.manifest.open("a") as file:
            file.write("0001.png,a,1\n0002.png,b,1\n")
        (self.whole / ".study").touch()

    def files(self) -> list[Path]:
        """The files of the study, from its folder; of those that are alike one stands for all."""
        every = sorted(p.relative_to(self.whole) for p in self.whole.rglob("*") if p.is_file())
        kept: dict[tuple[Path, str], Path] = {}
        for path in every:
            alike = (
                path.parts[0] in ("report", "networks", "training", "predictions")
                or path.suffix == ".lock"
            )
            kept.setdefault((path.parent, path.suffix) if alike else (path, ""), path)
        return [path for path in kept.values() if path.name != ".study"]

    def cases(self) -> Iterator[tuple[Path, str, damage.Damage, str]]:
        """Every file, damage and command; values inside a file are tried by every third command in turn."""
        commands, other, turn = list(COMMANDS), self.whole / "copies.json", 0
        for file in self.files():
            for name, way in damage.of(self.whole / file, other).items():
                for command in commands:
                    yield file, name, way, command
            if file.parts[0] == "report":  # which nothing reads
                continue
            for name, way in damage.inside(self.whole / file).items():
                turn += 1
                for command in commands[turn % 3 :: 3]:
                    yield file, name, way, command

    def fault(self, file: Path, way: damage.Damage, command: str) -> str | None:
        """What went wrong with a command on the damaged study; None if nothing did."""
        study, outside = self.folder / "study", self.folder / damage.OUTSIDE
        shutil.copytree(self.whole, study)
        outside.write_text("not the study's")
        try:
            way(study / file)
            before = state(study)
            code, said = in_a_child(lambda: run(self.arguments(COMMANDS[command], study)))
            after = state(study)
        finally:
            shutil.rmtree(study)
        if outside.read_text() != "not the study's":
            return "wrote through a link"
        if "Traceback" in said or code not in (0, 2, 3, 4):
            return f"exit {code}: {said[-3000:]}"
        if code and sum(line.startswith("error: ") for line in said.splitlines()) != 1:
            return f"exit {code} without one sentence: {said[-1000:]}"
        changed = {path for path in before | after if before.get(path) != after.get(path)}
        changed.discard("copies.json")  # what was seen of the images is kept, whatever follows
        if code and changed:
            return f"exit {code}, and changed {sorted(changed)[:5]}: {said[-500:]}"
        return None


def state(study: Path) -> dict[str, object]:
    """What stands at every name of a study but those of locks: bytes, links and kinds."""
    state: dict[str, object] = {}
    for path in study.rglob("*"):
        name = str(path.relative_to(study))
        if path.is_symlink():
            state[name] = path.readlink()
        elif path.is_file():
            large = path.stat().st_size > 1 << 30
            with contextlib.suppress(PermissionError):
                state[name] = path.stat().st_size if large else path.read_bytes()
        else:
            state[name] = path.stat().st_mode
    return {name: held for name, held in state.items() if not name.endswith((".lock", "training"))}


def main() -> None:
    """Try the cases that the arguments choose."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--every", type=int, default=1, help="only every N-th case")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--only", default="", help="FILE|DAMAGE|COMMAND has this in it")
    given = parser.parse_args()
    torch.set_num_threads(1)
    told = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    bench = Bench(given.folder)
    with contextlib.redirect_stderr(io.StringIO()) as said:
        try:
            bench.make()
        except BaseException:
            print(said.getvalue(), file=sys.__stderr__)
            raise
    count: Counter[str] = Counter()
    seen: dict[str, set[str]] = {"files": set(), "damages": set(), "commands": set()}
    spent: Counter[str] = Counter()
    for number, (file, name, way, command) in enumerate(bench.cases()):
        case = f"{file}|{name}|{command}"
        if number % given.every != given.first or given.only not in case:
            continue
        count["cases"] += 1
        for kind, value in zip(seen, (str(file), f"{file} {name}", command), strict=True):
            seen[kind].add(value)
        started = time.monotonic()
        fault = bench.fault(file, way, command)
        spent[command] += time.monotonic() - started
        if fault is not None:
            count["faults"] += 1
            print(json.dumps({"case": case, "fault": fault}), file=told, flush=True)
    summary = dict(count) | {kind: len(values) for kind, values in seen.items()}
    summary["seconds"] = {name: round(seconds, 1) for name, seconds in spent.items()}
    print(json.dumps(summary), file=told, flush=True)


if __name__ == "__main__":
    main()
