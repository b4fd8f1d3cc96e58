"""`probe extract` as a process of its own, killed (SIGKILL) at random moments and resumed.

    python tests/sigkill.py --kills 100
    python tests/sigkill.py --kills 20 --workers 2

The toy network writes down which rows it computes, so that rows computed twice are counted and not
guessed. A moment lies anywhere between the start of the process and the end of an uninterrupted run,
nine in ten of them after the first batch. The resumed file is compared byte by byte with that of the
uninterrupted run. `--kills-each K` kills a study K times before it is left to finish. The processes are
forked from one that has imported what they need, so that few kills meet an import.

Measured on two cores, 900 rows in batches of 4: of 120 kills, 100 met a running process (the others came
just after its end); all 120 files were the same to the byte as that of the uninterrupted run, with 5 rows
computed twice in the mean and 16 at most, which is what the 4 batches under way can hold.
"""

from __future__ import annotations

import argparse
import hashlib
import multiprocessing
import os
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch._dynamo  # noqa: F401 - the meta device asks for it; importing it takes longer than all else
import toys

from cli.app import main as probe
from features.extraction.extract import extract  # noqa: F401 - imported once, before the processes are forked
from features.machine.device import cores

BATCH = 4
# Rows carry their number in their pixels: 77 in the third channel of the left half says that they do.
LOGGING = """
import os

import torch


class Noted(nn.Identity):
    def forward(self, x):
        if x.device.type == "cpu" and (x[:, 2, 0, 0] == 77).all():
            rows = (x[:, 0, 0, 0] + 256 * x[:, 1, 0, 0]).to(torch.uint16)
            handle = os.open(os.environ["ROWS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
            os.write(handle, rows.numpy().tobytes())
            os.close(handle)
        return x
"""


@dataclass
class Outcome:
    """What the kills of one study came to."""

    killed: int = 0
    """Kills that met a running process."""
    same: bool = False
    twice: int = 0
    """Rows computed more than once."""
    most: int = 0
    """That the batches under way at the kills can hold."""


@dataclass
class Runner:
    """Starts `probe extract` on one data set."""

    folder: Path
    workers: int
    images: int

    def __post_init__(self) -> None:
        """Write the card and the images."""
        self.card = toys.write_card(self.folder / "cards")
        network = self.card.with_name("tiny.py")
        text = network.read_text().replace("pixels=nn.Identity()", "pixels=Noted()")
        network.write_text(text.replace("\n\n\ndef build", LOGGING + "\n\ndef build", 1))
        self.data = toys.write_images(self.folder / "images", self.images, (5, 11))
        started = time.monotonic()
        process = self.start("timed")
        self.head = self.first_batch("timed", process) - started
        process.join()
        self.length = time.monotonic() - started - self.head
        self.digest = self.finish("whole")

    def file(self, study: str) -> Path:
        return self.folder / study / "features" / "tiny.h5"

    def log(self, study: str) -> Path:
        return self.folder / f"{study}.rows"

    def start(self, study: str) -> multiprocessing.process.BaseProcess:
        words = f"extract --backbone {self.card} --data {self.data} --study {self.folder / study}"
        words += f" --batch-size {BATCH} --workers {self.workers} --device cpu"
        process = multiprocessing.get_context("fork").Process(
            target=run, args=(words.split(), str(self.log(study)))
        )
        process.start()
        return process

    def finish(self, study: str) -> str:
        """Let the extraction run to its end; the digest of the file."""
        process = self.start(study)
        process.join()
        assert process.exitcode == 0
        return hashlib.sha256(self.file(study).read_bytes()).hexdigest()

    def first_batch(self, study: str, process: multiprocessing.process.BaseProcess) -> float:
        """Wait until the process has computed something, or has ended; when that was."""
        before = size(self.log(study))
        while process.is_alive() and size(self.log(study)) == before:
            time.sleep(0.001)
        return time.monotonic()

    def kill(self, study: str, times: int, rng: np.random.Generator) -> Outcome:
        """Kill a study's extraction at random moments, let it finish, and look at what came of it."""
        found = Outcome()
        for _ in range(times):
            process = self.start(study)
            if rng.random() < 0.9:
                self.first_batch(study, process)
                time.sleep(rng.uniform(0, self.length))
            else:
                time.sleep(rng.uniform(0, self.head))
            process.kill()
            process.join()
            found.killed += process.exitcode == -9
        found.same = self.finish(study) == self.digest
        rows = np.fromfile(self.log(study), np.uint16)
        assert len(np.unique(rows)) == self.images - 2
        found.twice = len(rows) - len(np.unique(rows))
        # A worker computes as many batches ahead as it has lanes and one more, and writes another.
        lanes = max(1, cores() // self.workers)
        found.most = times * BATCH * self.workers * (lanes + 2)
        return found


def run(words: list[str], log: str) -> None:
    """What a person types, in a process whose stderr nobody reads."""
    os.environ["ROWS"] = log
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    sys.argv = ["probe", *words]
    probe()


def size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def main() -> None:
    """Kill, resume, compare, count; print what came of it, and exit with 1 if it was not as promised."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--kills-each", type=int, default=1)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--images", type=int, default=900)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    rng = np.random.default_rng(asked.seed)
    with tempfile.TemporaryDirectory() as folder:
        runner = Runner(Path(folder), asked.workers, asked.images)
        outcomes = [
            runner.kill(str(number), asked.kills_each, rng)
            for number in range(asked.kills // asked.kills_each)
        ]
    killed, same = sum(one.killed for one in outcomes), sum(one.same for one in outcomes)
    twice = [one.twice for one in outcomes]
    print(
        f"{killed} kills of a running process in {len(outcomes)} studies of {asked.images} rows, {same} of "
        f"them the same to the byte; rows computed twice: {np.mean(twice):.1f} in the mean, "
        f"{max(twice)} at most, {outcomes[0].most} allowed"
    )
    sys.exit(same < len(outcomes) or any(one.twice > one.most for one in outcomes))


if __name__ == "__main__":
    main()
