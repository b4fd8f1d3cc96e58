"""The sections of gpu.py: each yields its figures, one by one."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from gpu_run import Row, Run, drawn, manifest, peak, reset_peak

HERE = Path(__file__).resolve().parent


def device_tests(run: Run) -> Iterator[Row]:
    """The suite's device tests, on this device."""
    report = run.scratch / "tests.xml"
    command = [
        sys.executable, "-m", "pytest", "-q", "-o", "addopts=", "-W", "default", "-p", "no:cacheprovider",
        "--continue-on-collection-errors",
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
            with precise(run.device, precision):
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
