"""Damage every file of a study in every way, and run every command on each.

    PROBE_TRUST=1 python tests/fuzz.py FOLDER --every 1

makes a study of everything that the toolkit writes and tries damage by command, some fifty of them in each
child that is forked, so that a crash or a hang ends nothing else. What ends other than well is tried once
more in a child of its own, and if it does so again it is a line of JSON; the last line counts the cases. A
case ends well with exit 0, or with exit 2 or 3, one sentence on stderr and every file as it was; within 20
seconds of the processor (and 120 of the clock, for what waits), and with nothing outside touched. Figures
of the report are drawn once only. Cases come in an order that is drawn, the same each time, so that those
of a run that is cut short (`--seconds`) are a sample of all.
"""

import argparse
import contextlib
import gc
import io
import json
import os
import random
import re
import resource
import select
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import damage
import h5py
import numpy as np
import torch
from toys import write_card, write_images

LONGEST = 20  # seconds of the processor: others may be at work on the machine
LONGEST_WAIT = 120.0  # seconds of the clock
TOGETHER = 50
"""Cases in one child."""
Case = tuple[Path, str, damage.Damage, str]
"""The file, what is done to it, and the command."""
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
    "fit, a number": ["fit", "--probe", "knn", "--folds", "2", "--task", "size:number"],
    "finetune": [*TUNED, "--save", "--seed", "1"],
    "finetune, once more": [*TUNED, "--save"],
    "report": ["report"],
    "compare": ["compare", "tiny/best/ridge", "net/best/ridge"],
    "rank": ["rank"],
    "extract a saved network": ["extract", "--backbone", "{saved}", *TINY[2:], "--layer", "fc"],
    "import": ["import", "{features}", "--name", "net", "--layer", "fc7"],
    "export": ["export", "tiny/best/ridge", "--device", "cpu"],
    "export, with weights": ["export", "tiny/fc/ridge", *TINY[:4], "--with-weights"],
    "predict": ["predict", "{study}/label.probe", "{images}", *TINY],
    "remove": ["remove", "net"],
    "run --from-study": ["run", "{study}/again.toml", "--from-study", "{study}"],
    "run": ["run", "{run}"],
    "features export": ["features", "export", "tiny", "--format", "npz"],
}
SHARES = {
    "extract more, a share": [*COMMANDS["extract more"], "--share", "0/2"],
    "fit, a share": [*COMMANDS["fit"], "--share", "0/2"],
    "finetune, a share": [*COMMANDS["finetune"], "--share", "0/2"],
}
"""Commands whose parts lie in the study until the same ones without `--share` collect them."""
COMMANDS |= SHARES
RUN = """[[extract]]
backbone = "{card}"
layer = ["conv", "fc"]
pool = "avg"
device = "cpu"
[[fit]]
probe = ["ridge", "centroid"]
folds = 2
[report]
compare = "tiny,net"
"""


class Program:
    """The program `probe` in this process, its command line built once."""

    def __init__(self) -> None:
        import typer.main

        from cli.app import app

        self._group = typer.main.get_command(app)

    def run(self, arguments: list[str]) -> int:
        """The exit code of `probe` with these arguments."""
        try:
            self._group(arguments)
        except SystemExit as ended:
            return int(ended.code or 0)
        return 0


class Bench:
    """A study to damage, and what its commands need beside it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.program = Program()
        self.whole, self.study = folder / "whole", folder / "study"
        self.outside = folder / damage.OUTSIDE
        self.card = write_card(folder / "cards")
        self.manifest = write_images(folder / "images", 16, bad=(5,), twice={9: 2})
        lines = self.manifest.read_text().splitlines()
        use = ["use", *("0" if i == 5 else "1" for i in range(16))]
        size = ["size", *(str(i / 8) for i in range(16))]
        self.manifest.write_text("".join(map("{},{},{}\n".format, lines, use, size)))
        self.run_file = folder / "run.toml"
        self.run_file.write_text(RUN.replace("{card}", str(self.card)))
        self.features = folder / "features.npz"
        x = np.random.default_rng(0).normal(size=(16, 6))
        np.savez(self.features, features=x, label=np.arange(16) % 2)

    def arguments(self, line: list[str], study: Path) -> list[str]:
        """A command line on `study`."""
        known = {
            "{card}": self.card, "{features}": self.features, "{images}": self.folder / "images",
            "{saved}": study / "networks" / "tiny@label-finetune-fold0.toml",
            "{study}/label.probe": study / "label.probe", "{study}/again.toml": study / "again.toml",
            "{study}": study, "{run}": self.run_file,
        }  # fmt: skip
        alone = line[0] == "predict" or "--from-study" in line
        of_study = [] if alone else ["--study", str(study)]
        return [*(str(known.get(part, part)) for part in line), *of_study]

    def make(self) -> None:
        """Write the study whole: features, results, networks, a report, and two runs that were stopped."""
        import probe.finetuning.finetune as tuning
        import probe.reporting.report as reporting
        from features.errors import Stopped

        begun = [*COMMANDS["extract"], "--data", str(self.manifest)]
        both = ["--task", "label", "--task", "size:number"]
        lines = [
            begun, [*COMMANDS["import"][:-1], "fc"], COMMANDS["data check"],
            COMMANDS["extract to the end"], [*COMMANDS["fit --redo"], *both],
            [*COMMANDS["finetune, once more"], "--task", "label"], COMMANDS["rank"], COMMANDS["report"],
            COMMANDS["export"], *SHARES.values(),
        ]  # fmt: skip
        for line in lines:
            assert self.program.run(self.arguments(line, self.whole)) == 0, line
        pixels = self.whole / "features" / "control_pixels.h5"
        with h5py.File(pixels, "r+") as file:
            file["status"][8:] = 0
        pixels.rename(pixels.with_name(pixels.name + ".partial"))

        def stopped(*_: object) -> None:
            raise Stopped("stopped.")

        commit, tuning.commit = tuning.commit, stopped  # type: ignore[assignment]
        assert self.program.run(self.arguments(COMMANDS["finetune"], self.whole)) == 4
        tuning.commit = commit
        reporting._figures = lambda *_: {}  # type: ignore[assignment]
        with self.manifest.open("a") as file:
            file.write("0001.png,a,1,2\n0002.png,b,1,3\n")
        (self.whole / ".study").touch()
        shutil.copytree(self.whole, self.study)
        self.outside.write_text("not the study's")
        self._as_made = everything(self.whole)

    def files(self) -> list[Path]:
        """The files of the study, from its folder; of those that are alike one stands for all."""
        every = sorted(p.relative_to(self.whole) for p in self.whole.rglob("*") if p.is_file())
        kept: dict[tuple[Path, str], Path] = {}
        for path in every:
            alike = (
                path.parts[0] in ("report", "networks", "training", "predictions", "fitting")
                or path.suffix == ".lock"
                or path.parent.suffix == ".parts"
            )
            kept.setdefault((path.parent, path.suffix) if alike else (path, ""), path)
        return [path for path in kept.values() if path.name != ".study"]

    def cases(self) -> list[Case]:
        """Every file, damage and command; values inside a file are tried by every third command in turn."""
        commands, other, turn = list(COMMANDS), self.whole / "copies.json", 0
        cases: list[Case] = []
        for file in self.files():
            for name, way in damage.of(self.whole / file, other).items():
                cases += [(file, name, way, command) for command in commands]
            if file.parts[0] == "report":  # which nothing reads
                continue
            for name, way in damage.inside(self.whole / file).items():
                turn += 1
                cases += [(file, name, way, command) for command in commands[turn % 3 :: 3]]
        random.Random(0).shuffle(cases)
        return cases

    def fault(self, case: Case, said: io.FileIO) -> str | None:
        """What goes wrong with a command on the damaged study; None if nothing does.

        Args:
            case: The case.
            said: The file that is stderr.
        """
        file, _, way, command = case
        try:
            way(self.study / file)
            before = everything(self.study)
            said.truncate(0)
            said.seek(0)
            code = self.ended(self.arguments(COMMANDS[command], self.study))
            after = everything(self.study)
            return _judged(code, text_of(said), changes(before, after), self.outside)
        finally:
            self.restore()

    def ended(self, arguments: list[str]) -> int:
        """The exit code of the command, 1 with the traceback printed where it raises."""
        used = resource.getrusage(resource.RUSAGE_SELF)
        limit = int(used.ru_utime + used.ru_stime) + LONGEST + 1
        resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.RLIM_INFINITY))
        try:
            return self.program.run(arguments)
        except BaseException:
            traceback.print_exc()
            return 1
        finally:
            sys.stderr.flush()

    def restore(self) -> None:
        """Give the study back the files that have changed."""
        for name in sorted(changes(self._as_made, everything(self.study))):
            path, source = self.study / name, self.whole / name
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
            if source.is_dir():
                shutil.copytree(source, path, dirs_exist_ok=True)
            elif source.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source, path)
        self.outside.write_text("not the study's")


def everything(study: Path) -> dict[str, object]:
    """What stands at every name of a study: bytes, links and kinds."""
    state: dict[str, object] = {}
    for path in study.rglob("*"):
        name = str(path.relative_to(study))
        if path.is_symlink():
            state[name] = path.readlink()
        elif path.is_file():
            large = path.stat().st_size > 1 << 30
            try:
                state[name] = path.stat().st_size if large else path.read_bytes()
            except PermissionError:
                state[name] = None
        else:
            state[name] = path.stat().st_mode
    return state


def changes(before: dict[str, object], after: dict[str, object]) -> set[str]:
    """The names at which two states differ."""
    return {name for name in before | after if before.get(name, 0) != after.get(name, 0)}


def text_of(said: io.FileIO) -> str:
    """What was written to a file that is a standard stream."""
    said.seek(0)
    return (said.read() or b"").decode(errors="replace")


def _judged(code: int, said: str, changed: set[str], outside: Path) -> str | None:
    if outside.read_text() != "not the study's":
        return "wrote through a link"
    if "Traceback" in said or code not in (0, 2, 3, 4):
        return f"exit {code}: {said[-3000:]}"
    if code and sum(line.startswith("error: ") for line in said.splitlines()) != 1:
        return f"exit {code} without one sentence: {said[-1000:]}"
    # What was seen of the images is kept, whatever follows.
    lost = {n for n in changed if not n.endswith((".lock", "training")) and n != "copies.json"}
    if code and lost:
        return f"exit {code}, and changed {sorted(lost)[:5]}: {said[-500:]}"
    return None


def tried(bench: Bench, cases: Sequence[Case]) -> Iterator[tuple[str | None, float]]:
    """What goes wrong with each case and the seconds it took, all in one child until one ends it."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        with tempfile.TemporaryFile(buffering=0) as said:
            os.setsid()
            os.dup2(said.fileno(), 2)
            signal.alarm(0)
            for case in cases:
                started = time.process_time()
                try:
                    fault = bench.fault(case, said)
                except BaseException:
                    fault = traceback.format_exc()
                line = json.dumps([fault, time.process_time() - started]) + "\n"
                os.write(writer, line.encode())
                gc.collect()  # what an error holds open would be open in the next case
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb", buffering=0) as lines:
        for _ in cases:
            ready = select.select([lines], [], [], LONGEST_WAIT)[0]
            line = lines.readline() if ready else b""
            if not line:
                os.killpg(child, signal.SIGKILL)
                status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
                bench.restore()
                yield f"it ended with signal {-status}" if ready else "it waits for ever", 0.0
                return
            yield tuple(json.loads(line))
    os.waitpid(child, 0)


def main() -> None:
    """Try the cases that the arguments choose."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--every", type=int, default=1, help="only every N-th case")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=1e9, help="begin no case after as many")
    parser.add_argument("--only", default="", help="expression that FILE|DAMAGE|COMMAND matches")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
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
    gc.collect()
    gc.freeze()
    chosen = [case for case in bench.cases() if re.search(given.only, name_of(case))]
    chosen = chosen[given.first :: given.every]
    count: Counter[str] = Counter(cases=0, faults=0)
    spent: Counter[str] = Counter()
    until = time.monotonic() + given.seconds
    while count["cases"] < len(chosen) and time.monotonic() < until:
        together = chosen[count["cases"] : count["cases"] + TOGETHER]
        ended = list(tried(bench, together))
        for case, (fault, seconds) in zip(together, ended, strict=False):
            count["cases"] += 1
            spent[case[3]] += seconds
            if fault is not None and (fault := next(tried(bench, [case]))[0]) is not None:
                count["faults"] += 1
                print(json.dumps({"case": name_of(case), "fault": fault}), file=told, flush=True)
        print(count["cases"], "of", len(chosen), file=sys.__stderr__, flush=True)
    done = chosen[: count["cases"]]
    summary = dict(count) | {
        "of": len(chosen), "files": len({case[0] for case in done}),
        "damages": len({case[:2] for case in done}), "commands": len({case[3] for case in done}),
        "seconds": {name: round(seconds, 1) for name, seconds in spent.items()},
    }  # fmt: skip
    print(json.dumps(summary), file=told, flush=True)


def name_of(case: Case) -> str:
    file, way, _, command = case
    return f"{file}|{way}|{command}"


if __name__ == "__main__":
    main()
