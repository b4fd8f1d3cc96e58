"""What an accelerator proves and gives: `bash tests/bench/gpu.sh` says how it is called.

Sections in the order of their worth, each with the seconds that it may take; a figure that is begun is
finished, and what is left when the time is up is told as not reached. Pictures are drawn here: some hundred
JPEGs, each under many names. Networks have random weights. The processor's part of a comparison is measured
on one layer and multiplied, where the figure says so.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

Row = dict[str, Any]
HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parents[1])]


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    images: int
    drawn: int
    sides: tuple[int, ...]
    networks: tuple[str, ...]
    seconds: float
    """Seconds of one extraction, at most, by the limits measured before it."""
    grid: tuple[int, int]
    layers: tuple[int, int, int]
    """Rows, features and how many such layers."""
    classes: tuple[tuple[int, int, int], ...]
    """Rows, features and classes; the first is measured on the processor too."""
    points: int
    """Values of C."""
    trained: tuple[str, int]
    tests: str


FULL = Size(
    20_000, 400, (200, 816),
    ("torchvision:resnet50", "vgg16", "torchvision:vit_b_16", "alexnet"), 8.0,
    (17_000, 4_096), (2_000, 8_192, 40), ((2_000, 512, 100), (20_000, 512, 1_000)), 13,
    ("torchvision:resnet50", 2_048), "not slow",
)  # fmt: skip
TINY = Size(
    12, 4, (64,), ("torchvision:squeezenet1_1",), 1.0, (60, 8), (24, 30, 2), ((60, 8, 10),), 2,
    ("torchvision:squeezenet1_1", 8), "not slow",
)  # fmt: skip


@dataclass
class Run:
    """What the sections share."""

    device: torch.device
    size: Size
    scratch: Path
    ends: float
    until: float = 0.0
    images: dict[int, list[Path]] = field(default_factory=dict)

    @property
    def tiny(self) -> bool:
        """Whether this is a trial of the script itself."""
        return self.size is TINY

    def left(self) -> float:
        """Seconds that the section under way may still take."""
        return min(self.until, self.ends) - time.monotonic()


def device_tests(run: Run) -> Iterator[Row]:
    """The suite's device tests, on this device."""
    report = run.scratch / "tests.xml"
    command = [
        sys.executable, "-m", "pytest", "-q", "-o", "addopts=", "-W", "default", "-p", "no:cacheprovider",
        "-m", run.size.tests, f"--junitxml={report}", str(HERE.parent / "devices"),
    ]  # fmt: skip
    if run.tiny:
        command += ["-k", "halved_precision or every_probe and ridge"]
    environment = {**os.environ, "PROBE_TEST_DEVICE": run.device.type}
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=max(run.left(), 30)
        )
    except subprocess.TimeoutExpired:
        yield {"what": "device tests", "state": "not finished in their time"}
        return
    if not report.is_file():
        yield {
            "what": "device tests",
            "state": "did not run",
            "said": (done.stdout + done.stderr)[-2_000:],
        }
        return
    cases = list(ET.parse(report).iter("testcase"))
    failed = [c for c in cases if c.find("failure") is not None or c.find("error") is not None]
    skipped = [c for c in cases if c.find("skipped") is not None]
    yield {
        "what": "device tests",
        "passed": len(cases) - len(failed) - len(skipped),
        "failed": len(failed),
        "skipped": len(skipped),
        "names of the failed": [c.get("name") for c in failed],
        "said": done.stdout[-6_000:] if failed else "",
    }


def drawn(run: Run, side: int) -> list[Path]:
    """The JPEGs of a side, some drawn and all others links to them."""
    from concurrent.futures import ThreadPoolExecutor

    if side not in run.images:
        first, folder = run.scratch / f"drawn-{side}", run.scratch / f"images-{side}"
        first.mkdir()
        files = [first / f"{i}.jpg" for i in range(run.size.drawn)]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(draw_one, files, [side] * len(files), range(len(files))))
        paths = []
        for i in range(run.size.images):
            path = folder / "ab"[i % 2] / f"{i:05}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            os.link(files[i % len(files)], path)
            paths.append(path)
        run.images[side] = sorted(paths)
    return run.images[side]


def draw_one(path: Path, side: int, seed: int) -> None:
    """One JPEG, as in extraction.py."""
    from extraction import photo

    photo(side, seed).save(path, quality=90)


def forward_rate(run: Run, backbone: Any, precision: str, seconds: float) -> float:
    """Images a second of the network's pass with pooling, alone, on the device."""
    from features.extraction import pool as pooling
    from features.extraction.capture import capture
    from features.extraction.pipeline import default_batch_size
    from features.machine.device import placed, precise, wait

    kind = {"bf16": torch.bfloat16}.get(precision, torch.float32)
    size = default_batch_size(backbone, run.device)
    model = placed(backbone.model, run.device, kind)
    x = torch.randn(size, 3, *backbone.architecture.input.size, dtype=kind).to(run.device)
    x = x.contiguous(memory_format=torch.channels_last)
    layers = backbone.layers()
    wanted = pooling.plan(layers, ("avg",))

    def reduce(layer: str, output: torch.Tensor) -> list[torch.Tensor]:
        return [pooling.apply(output, p) for p in wanted if p.layer.name == layer]

    with (
        precise(run.device, precision),
        torch.inference_mode(),
        capture(model, layers, backbone.architecture.traced, reduce) as once,
    ):
        for _ in range(1 if run.tiny else 4):
            once(x)
        wait(run.device)
        count, started = 0, time.perf_counter()
        while time.perf_counter() - started < seconds:
            for _ in range(1 if run.tiny else 8):
                once(x)
                count += size
            wait(run.device)
        return count / (time.perf_counter() - started)


def extraction(nets: slice, sides: slice) -> Callable[[Run], Iterator[Row]]:
    """JPEG files to a finished file: averages of every layer, float16."""

    def section(run: Run) -> Iterator[Row]:
        from extraction import decode_rate

        from features.backbone import load
        from features.extraction.extract import extract

        for net in run.size.networks[nets]:
            for side in run.size.sides[sides]:
                paths = drawn(run, side)
                backbone = load(net, "random")
                decode = decode_rate(backbone, paths[: 64 if run.tiny else 2_000])
                for precision in ("float32", "bf16", "tf32"):
                    if run.left() < 0:
                        yield {"what": f"{net}, {side} pixels, {precision}", "state": "not reached"}
                        continue
                    reset_peak(run.device)
                    forward = forward_rate(
                        run, load(net, "random"), precision, 0.1 if run.tiny else 1
                    )
                    slower = min(decode, forward)
                    n = int(min(len(paths), max(512, run.size.seconds * slower)))
                    study, some = run.scratch / "study", run.scratch / "some"
                    data = manifest(some, paths[:n])
                    result = extract(
                        study, net, data=data, weights="random", device=str(run.device),
                        pool=["avg"], dtype="float16", precision=precision,
                    )  # fmt: skip
                    rate = result.computed / result.seconds
                    lanes = result.lanes * result.workers
                    yield {
                        "what": f"{net}, {side} pixels, {precision}",
                        "images": result.computed,
                        "images/s": rate,
                        "forward alone, images/s": forward,
                        "decoding alone, images/s": decode,
                        "share of the slower": rate / slower,
                        "slower": "forward" if forward < decode else "decoding",
                        "busiest": result.bottleneck,
                        "batch": result.batch_size,
                        "lanes": result.lanes,
                        "shares of the lanes' time": {
                            k: v / result.seconds / lanes for k, v in result.stages.items()
                        },
                        "peak on the device, MB": peak(run.device),
                    }
                    shutil.rmtree(study)

    section.__doc__ = extraction.__doc__
    return section


def manifest(folder: Path, paths: list[Path]) -> str:
    """A table of the first images."""
    folder.mkdir(exist_ok=True)
    lines = ["path,label", *(f"{path},{path.parent.name}" for path in paths)]
    (folder / "data.csv").write_text("\n".join(lines) + "\n")
    return str(folder / "data.csv")


def grid_of(
    x: Any, y: Any, method: str, device: torch.device, points: int = 13
) -> tuple[float, Any]:
    """Seconds of the whole nested grid (`points` values of C, 5 folds), and what came of it."""
    import numpy as np

    from features.machine.device import wait
    from probe.fitting.crossval import cross_validate
    from probe.folds.splits import Splits
    from probe.probes.layer import Source
    from probe.probes.methods import GRID
    from probe.probes.settings import ProbeSettings

    splits = Splits(np.arange(len(x)) % 5, np.arange(5))
    settings = ProbeSettings(method, "standard", GRID[:points], True, "grid")
    started = time.perf_counter()
    outcome = cross_validate(Source.of(x, device), y, int(y.max()) + 1, splits, settings)
    wait(device)
    return time.perf_counter() - started, outcome


def compared(
    run: Run, shape: tuple[int, int, int], method: str, what: str, here_too: bool = True
) -> Iterator[Row]:
    """A grid there and on the processor, whose scores are held against each other."""
    import numpy as np
    from probes import drawn as features

    x, y = features(*shape)
    reset_peak(run.device)
    there, made = grid_of(x, y, method, run.device, run.size.points)
    yield {"what": what, "seconds there": there, "peak on the device, MB": peak(run.device)}
    if not here_too or run.left() < (0 if run.tiny else 20):
        yield {"what": f"{what}, on the processor", "state": "not measured"}
        return
    here, wanted = grid_of(x, y, method, torch.device("cpu"), run.size.points)
    finite = np.isfinite(wanted.scores)
    off = np.abs(made.scores[finite] - wanted.scores[finite])
    yield {
        "what": f"{what}, on the processor",
        "seconds here": here,
        "times faster there": here / there,
        "same C in folds": sum(
            bool(np.isclose(a.value, b.value))
            for a, b in zip(made.folds, wanted.folds, strict=True)
        ),
        "scores differ by at most": float(off.max()),
        "predictions that differ": int((made.scores.argmax(1) != wanted.scores.argmax(1)).sum()),
    }


def one_layer(run: Run) -> Iterator[Row]:
    """The probe grid of one layer: 8 classes, 13 values of C, 5 folds, C chosen inside."""
    grid_of(*warm(), "logistic", run.device, 2)
    for method in ("logistic", "svm", "ridge"):
        rows, dim = run.size.grid
        yield from compared(run, (rows, dim, 8), method, f"{method}, {rows:,} x {dim:,}")
        if method == "logistic":
            yield from by_cuml(run)


def warm() -> tuple[Any, Any]:
    """A small problem, so that libraries are loaded before anything is timed."""
    from probes import drawn as features

    return features(60, 8, 3)


def by_cuml(run: Run) -> Iterator[Row]:
    """One logistic fit by cuML, and the grid's 135 fits estimated from it."""
    import numpy as np
    from probes import drawn as features

    what = "logistic by cuML, one fit of three fifths of the rows"
    try:
        from cuml.linear_model import LogisticRegression  # type: ignore[import-not-found]
    except Exception as error:  # absent, or a build for something else
        yield {"what": what, "state": f"not measured: {type(error).__name__}"}
        return
    x, y = features(*run.size.grid, 8)
    train = np.arange(len(x)) % 5 < 3
    z = (x[train] - x[train].mean(0)) / np.maximum(x[train].std(0), 1e-6)
    LogisticRegression(C=1e-4, max_iter=20).fit(z[:200], y[train][:200])
    started = time.perf_counter()
    LogisticRegression(C=1.0 / z.shape[1], max_iter=2_000).fit(z, y[train])
    seconds = time.perf_counter() - started
    yield {"what": what, "seconds": seconds, "135 of them, estimated": 135 * seconds}


def many_layers(run: Run) -> Iterator[Row]:
    """Layers that are wider than they have rows; as many as there is time for, and the rest multiplied."""
    import numpy as np
    from probes import drawn as features

    rows, dim, layers = run.size.layers
    for method in ("logistic", "svm"):
        spent = []
        for seed in range(layers):
            if spent and run.left() < 2 * float(np.mean(spent)):
                break
            x, y = features(rows, dim, 8, seed)
            spent.append(grid_of(x, y, method, run.device, run.size.points)[0])
        mean = float(np.mean(spent))
        yield {
            "what": f"{method}, {rows:,} x {dim:,} x {layers} layers",
            "seconds there": mean * layers,
            "layers measured": len(spent),
        }
        if run.left() > 20 * mean:
            here, _ = grid_of(x, y, method, torch.device("cpu"), run.size.points)
            yield {
                "what": f"{method}, the same on the processor, of one layer, multiplied",
                "seconds here": here * layers,
                "times faster there": here / mean,
            }


def many_classes(run: Run) -> Iterator[Row]:
    """The grid with many classes."""
    for number, (rows, dim, classes) in enumerate(run.size.classes):
        what = f"logistic, {rows:,} x {dim:,}, {classes:,} classes"
        if run.left() < 0:
            yield {"what": what, "state": "not reached"}
            continue
        yield from compared(run, (rows, dim, classes), "logistic", what, number == 0)


def fine_tuning(run: Run) -> Iterator[Row]:
    """An epoch of all layers against a plain loop with a loader of as many workers as cores."""
    import numpy as np

    from features.backbone import load
    from features.data import read_data
    from features.study.drafting import draft
    from probe.training.feed import ImageFeed
    from probe.training.recipes import recipe

    name, n = run.size.trained
    backbone = load(name, "random")
    batch = {"batch_size": 4} if run.tiny else {}
    chosen = recipe("modern", colour=0.0, patience=0, epochs=9, **batch)
    paths = drawn(run, run.size.sides[0])[:n]
    study = draft(run.scratch / "trained", read_data(manifest(run.scratch / "tuned", paths)))
    feed = ImageFeed(study, backbone.architecture.input, chosen, run.device)
    feed.images.readable(np.arange(len(paths)))
    for precision in ("float32", "bf16"):
        what = f"{name}, an epoch of {len(paths):,} images in {precision}"
        if run.left() < 0:
            yield {"what": what, "state": "not reached"}
        else:
            reset_peak(run.device)
            yield {
                "what": what,
                **epochs(run, backbone, feed, chosen, precision),
                "peak on the device, MB": peak(run.device),
            }


def epochs(run: Run, backbone: Any, feed: Any, chosen: Any, precision: str) -> Row:
    """Epochs of both in turn, the first of each left out."""
    import numpy as np
    from torch.nn import functional
    from torch.utils.data import DataLoader
    from training import Plain

    from features.machine.device import cores, precise, wait
    from probe.training.setup import Goal, TrainingJob
    from probe.training.train import train
    from probe.training.variants import Variant, start

    rows = np.arange(len(feed.images.study))
    labels = rows % 2

    def fresh() -> Any:
        network, prefix = start(backbone, Variant("finetune"), 2, 0)
        return network.to(run.device, memory_format=torch.channels_last), prefix

    network, prefix = fresh()
    goal = Goal(labels[:, None], (2,))
    job = TrainingJob(network, prefix, chosen, 10.0, goal, feed, 9, 0, precision=precision)
    plain = fresh()[0].train()
    optimiser = torch.optim.AdamW(plain.parameters(), chosen.rate, weight_decay=chosen.decay)
    workers = 0 if run.tiny else cores()
    loader = DataLoader(
        Plain(feed.images[rows], labels, backbone.architecture.input), chosen.batch_size, shuffle=True,
        num_workers=workers, persistent_workers=workers > 0, pin_memory=run.device.type == "cuda",
    )  # fmt: skip

    def plain_epoch() -> float:
        started = time.perf_counter()
        for x, y in loader:
            x = x.to(run.device, non_blocking=True)
            x = x.contiguous(memory_format=torch.channels_last)
            half = torch.autocast(run.device.type, torch.bfloat16, enabled=precision == "bf16")
            with precise(run.device, precision), half:
                loss = functional.cross_entropy(plain(x).float(), y.to(run.device))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        wait(run.device)
        return len(rows) / (time.perf_counter() - started)

    def our_epoch() -> float:
        started = time.perf_counter()
        train(job, rows, until=1)
        wait(run.device)
        return len(rows) / (time.perf_counter() - started)

    pairs = []
    for number in range(2 if run.tiny else 4):
        pairs.append((our_epoch(), plain_epoch()))
        if number and run.left() < 0:
            break
    ours, theirs = np.median(pairs[1:], axis=0)
    return {
        "ours, images/s": float(ours),
        "plain loop, images/s": float(theirs),
        "ours over plain": float(ours / theirs),
        "rounds": len(pairs) - 1,
    }


def reset_peak(device: torch.device) -> None:
    """Begin to count memory anew."""
    reset = getattr(torch.get_device_module(device), "reset_peak_memory_stats", None)
    if reset is not None and device.type != "cpu":
        reset(device)


def peak(device: torch.device) -> float | None:
    """Megabytes that tensors took on the device at most; None where it does not tell."""
    most = getattr(torch.get_device_module(device), "max_memory_allocated", None)
    return None if most is None or device.type == "cpu" else most(device) / 1e6


FIRST, REST, ALL = slice(0, 1), slice(1, None), slice(None)
SECTIONS: dict[str, tuple[float, Callable[[Run], Iterator[Row]]]] = {
    "device tests": (150, device_tests),
    "extraction, the first network and side": (60, extraction(FIRST, FIRST)),
    "probes, one layer": (90, one_layer),
    "fine-tuning": (60, fine_tuning),
    "extraction, the other side": (50, extraction(FIRST, REST)),
    "extraction, the other networks": (150, extraction(REST, ALL)),
    "probes, many layers": (60, many_layers),
    "probes, many classes": (60, many_classes),
}
"""By name: the seconds that a section may take, and the section."""


class OutOfTime(Exception):
    """A section has taken far more than its seconds."""


def _out_of_time(*_: object) -> None:
    raise OutOfTime


def main() -> None:
    """Run the sections, and write what they give after every figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true", help="sizes of a trial of the script itself")
    parser.add_argument("--seconds", type=float, default=515, help="for all sections together")
    parser.add_argument("--out", type=Path, default=Path())
    asked = parser.parse_args()
    begun = time.monotonic()
    switch = nullcontext()
    if asked.device == "simulated":
        import simulated_device

        switch = simulated_device.switched_on()  # type: ignore[assignment]
    from features.errors import InputError
    from features.images import jpeg
    from features.machine.device import cores, device_name, resolve

    with switch, tempfile.TemporaryDirectory() as scratch:
        try:
            device = resolve(asked.device)
        except InputError as error:
            parser.exit(2, f"error: {error}\n")
        report: Row = {
            "device": device_name(device),
            "machine": f"{platform.processor() or platform.machine()}, {cores()} cores",
            "torch": torch.__version__,
            "python": platform.python_version(),
            "decoder": jpeg.name(),
            "size": "tiny" if asked.tiny else "full",
            "sections": {name: {"state": "not reached", "rows": []} for name in SECTIONS},
        }
        run = Run(device, TINY if asked.tiny else FULL, Path(scratch), begun + asked.seconds)
        write(report, asked.out)
        signal.signal(signal.SIGALRM, _out_of_time)
        for name, (seconds, section) in SECTIONS.items():
            if time.monotonic() > run.ends - (0 if asked.tiny else 10):
                break
            here = report["sections"][name]
            started = time.monotonic()
            run.until = started + seconds
            signal.setitimer(signal.ITIMER_REAL, 1.3 * seconds + 15)
            here["state"] = "not finished"
            try:
                for row in section(run):
                    print(name, row, flush=True)
                    here["rows"].append(row)
                    write(report, asked.out)
                here["state"] = "measured"
            except OutOfTime:
                here["state"] = "not finished in its time"
            except Exception as error:  # the other sections go on
                here["state"] = f"failed: {type(error).__name__}: {error}"
                here["traceback"] = traceback.format_exc()
                print(here["traceback"], flush=True)
            signal.setitimer(signal.ITIMER_REAL, 0)
            here["seconds"] = time.monotonic() - started
            write(report, asked.out)
        print(table(report))


def write(report: Row, folder: Path) -> None:
    """gpu.json and gpu.md."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "gpu.json").write_text(json.dumps(finite(report), indent=1, allow_nan=False))
    (folder / "gpu.md").write_text(table(report))


def finite(value: Any) -> Any:
    """What JSON can hold: None for a number that is not finite."""
    if isinstance(value, dict):
        return {str(key): finite(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(each) for each in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)


def table(report: Row) -> str:
    """The figures in Markdown, a line each."""
    lines = [
        f"{report['device']}, {report['machine']}, PyTorch {report['torch']}, {report['decoder']}"
        + (" (a trial of the script: no figures)" if report["size"] == "tiny" else ""),
        "", "| section | what | figures |", "| --- | --- | --- |",
    ]  # fmt: skip
    for name, section in report["sections"].items():
        if section["state"] != "measured":
            lines.append(f"| {name} | | {section['state'].splitlines()[0]} |")
        for row in section["rows"]:
            told = "; ".join(
                f"{k}: {shown(v)}" for k, v in row.items() if k not in ("what", "said")
            )
            lines.append(f"| {name} | {row['what']} | {told} |")
    return "\n".join(lines) + "\n"


def shown(value: Any) -> str:
    """A figure in four digits."""
    if isinstance(value, dict):
        return ", ".join(f"{k} {shown(v)}" for k, v in value.items())
    return f"{value:.4g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
