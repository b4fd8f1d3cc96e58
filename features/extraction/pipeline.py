"""Images to features, batch by batch: lanes that decode, run the networks and pool at the same time.

A lane is a thread that takes a window of images through all stages. On a processor each lane computes
with its own cores, so that decoding and computing overlap and no two threads wait for each other
inside an operation. On a GPU one lane's network runs while the others decode and copy. An image is
decoded once for all the backbones of a run, and resized once for those with the same geometry.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from features.arrays import Ints
from features.backbone import Backbone
from features.cards.card import Input
from features.errors import InputError
from features.extraction import pool as pooling
from features.extraction.batches import Window
from features.extraction.capture import capture
from features.extraction.outages import check_root
from features.images import preprocess
from features.images.decode import Reading, Unreadable, decode, read_bytes
from features.images.views import canvas, inputs
from features.machine.device import (
    has_streams,
    new_stream,
    placed,
    precise,
    reusing_memory,
    threads,
    wait,
    within,
)
from features.study.study import Study

STAGES = ("reading", "decoding", "computing", "writing")


@dataclass(frozen=True)
class ExtractJob:
    """A backbone and everything that decides how its features are computed."""

    study: Study
    backbone: Backbone
    dtype: str
    batch_size: int
    lanes: int
    device: torch.device
    strict: bool
    precision: str = "float32"
    threads: int = 1
    """The threads of an operation of the network on a processor."""


@dataclass(frozen=True)
class Pass:
    """A pass of one backbone over the images, for the data sets `wanted`."""

    job: ExtractJob
    wanted: Sequence[pooling.Pooled]

    @property
    def views(self) -> dict[str, Input]:
        """The preprocessing by view: the network's input, or the canvas of its crops."""
        wanted = self.job.backbone.architecture.input
        return {view: canvas(view, wanted) for view in dict.fromkeys(p.view for p in self.wanted)}


@dataclass(frozen=True)
class Batch:
    """The features of one batch of one pass."""

    number: int
    """The number of the pass."""
    rows: Ints
    """Rows whose image was decoded, ascending."""
    features: Mapping[str, npt.NDArray[Any]]
    """By data set, `(len(rows), dim)`."""
    refused: dict[int, str]
    """The reason by row whose image could not be decoded."""


@dataclass(frozen=True)
class Computed:
    """A window's batches, and the seconds that its lane spent on it by stage."""

    batches: list[Batch]
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))


class _Ended(Exception):
    """The run has ended: the result of this lane is not needed."""


def default_batch_size(backbone: Backbone, device: torch.device) -> int:
    """The number of images per forward pass with which the network computes fastest.

    On a processor small batches keep their maps in its caches, large ones read the weights of fully
    connected layers less often. Measured on two cores: AlexNet is fastest with 32, MobileFaceNet and
    VGG-16 with 16, SqueezeNet with 8.
    """
    if device.type != "cpu":
        return 32
    size = largest_map(backbone)
    return next((n for n in (32, 16) if n * size <= 26 << 20), 16 if size > 8 << 20 else 8)


def largest_map(backbone: Backbone) -> int:
    """Bytes of the largest output for one image, as float32."""
    fired = backbone.architecture.traced.fired.values()
    return 4 * max((int(np.prod(output.shape)) for output in fired), default=0)


def compute(
    passes: Sequence[Pass], todo: Iterator[Window] | Sequence[Window]
) -> Generator[Computed, None, None]:
    """The computed windows of `todo`, in order; a few are computed ahead.

    Raises:
        InputError: A feature is NaN or infinite, or an image is unreadable and the job is strict.
    """
    job = passes[0].job
    over = threading.Event()
    with ExitStack() as stack:
        stack.enter_context(precise(job.device, job.precision))
        largest = max(largest_map(p.job.backbone) * p.job.batch_size for p in passes)
        if job.device.type == "cpu":
            stack.enter_context(reusing_memory(largest))
        stack.enter_context(threads(job.threads))
        networks = [stack.enter_context(_network(pass_, over)) for pass_ in passes]
        # A new thread has all cores for its products until it is told, and rounds them so.
        with ThreadPoolExecutor(
            job.lanes, initializer=torch.set_num_threads, initargs=(job.threads,)
        ) as lanes:
            waiting: deque[Future[Computed]] = deque()
            try:
                for window in todo:
                    waiting.append(lanes.submit(_window, passes, networks, window, over))
                    if len(waiting) > job.lanes + 1:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:
                over.set()
                for future in waiting:
                    future.cancel()


Pixels = npt.NDArray[Any]
"""uint8, or float32 in 0..255 where pictures have more than eight bits."""
Network = Callable[[Mapping[str, Pixels]], dict[str, torch.Tensor]]


@contextmanager
def _network(pass_: Pass, over: threading.Event) -> Iterator[Network]:
    """Yield a function from pixels by view, `(n, h, w, channels)`, to features by data set, on the host."""
    job = pass_.job
    kind = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(job.precision, torch.float32)
    # Fusing what follows a convolution into it (TorchScript's freezing) gained nothing on VGG-16.
    model = placed(job.backbone.model, job.device, kind)
    wait(job.device)  # the lanes' streams would not wait for the weights
    by_layer: dict[str, list[pooling.Pooled]] = {}
    for pooled in pass_.wanted:
        by_layer.setdefault(pooled.layer.name, []).append(pooled)
    layers = [group[0].layer for group in by_layer.values()]
    stored = torch.float16 if job.dtype == "float16" else torch.float32
    wanted = job.backbone.architecture.input
    beside = has_streams(job.device)
    mine = threading.local()

    def reduce(layer: str, output: torch.Tensor) -> dict[str, torch.Tensor]:
        if over.is_set():
            raise _Ended
        # the mean over crops is taken in float32, whatever the precision and dtype
        summed = stored if mine.view == "center" else torch.float32
        here = [p for p in by_layer[layer] if p.view == mine.view]
        return {p.key: pooling.apply(output, p).to(summed) for p in here}

    def stream() -> Any:
        if not hasattr(mine, "stream"):
            mine.stream = new_stream(job.device)
        return within(mine.stream, job.device)

    with capture(model, layers, job.backbone.architecture.traced, reduce) as run:

        def network(pixels: Mapping[str, Pixels]) -> dict[str, torch.Tensor]:
            features: dict[str, torch.Tensor] = {}
            with torch.inference_mode(), stream():
                for mine.view, images in pixels.items():
                    x = torch.from_numpy(images)
                    if beside:
                        x = x.pin_memory()
                    x = x.permute(0, 3, 1, 2).to(job.device, non_blocking=beside)
                    seen = [run(crop.to(kind)) for crop in inputs(x, mine.view, wanted)]
                    for layer, keys in seen[0].items():
                        for key in keys:
                            features[key] = _mean([made[layer][key] for made in seen]).to(stored)
                features = {k: v.to("cpu", non_blocking=beside) for k, v in features.items()}
                wait(job.device)
            return features

        yield network


def _mean(crops: list[torch.Tensor]) -> torch.Tensor:
    """The mean of the features of a view's crops; a single crop's unchanged."""
    return crops[0] if len(crops) == 1 else torch.stack(crops).mean(0)


def _window(
    passes: Sequence[Pass], networks: Sequence[Network], window: Window, over: threading.Event
) -> Computed:
    done = Computed([])
    pixels, refused = _decoded(passes, window, over, done.seconds)
    started = time.perf_counter()
    for number, block in window:
        if over.is_set():
            raise _Ended
        job = passes[number].job
        read = preprocess.reading(job.backbone.architecture.input)
        kinds = {v: preprocess.geometry(seen) for v, seen in passes[number].views.items()}
        why = {row: refused[row, read] for row in block.tolist() if (row, read) in refused}
        rows = np.array([row for row in block.tolist() if row not in why], dtype=np.int64)
        features: dict[str, npt.NDArray[Any]] = {}
        if len(rows):
            stacked = {v: np.stack([pixels[r, k] for r in rows.tolist()]) for v, k in kinds.items()}
            outputs = networks[number](stacked)
            features = {key: _finite(job, rows, key, x) for key, x in outputs.items()}
        done.batches.append(Batch(number, rows, features, why))
    done.seconds["computing"] += time.perf_counter() - started
    return done


def _decoded(
    passes: Sequence[Pass], window: Window, over: threading.Event, seconds: dict[str, float]
) -> tuple[dict[tuple[int, preprocess.Geometry], Pixels], dict[tuple[int, Reading], str]]:
    """The pixels `(h, w, channels)` by row and geometry, and why there are none by row and reading."""
    wanted: dict[int, dict[Reading, dict[preprocess.Geometry, Input]]] = {}
    for number, block in window:
        kinds = {preprocess.geometry(seen): seen for seen in passes[number].views.values()}
        read = preprocess.reading(passes[number].job.backbone.architecture.input)
        for row in block.tolist():
            wanted.setdefault(row, {}).setdefault(read, {}).update(kinds)
    pixels: dict[tuple[int, preprocess.Geometry], Pixels] = {}
    refused: dict[tuple[int, Reading], str] = {}
    for row in sorted(wanted):
        for read, inputs_of in wanted[row].items():
            if over.is_set():
                raise _Ended
            try:
                made = _image(passes[0].job, row, read, inputs_of, seconds)
            except Unreadable as error:
                refused[row, read] = str(error)
            else:
                pixels |= {(row, kind): array for kind, array in made.items()}
    return pixels, refused


def _image(
    job: ExtractJob,
    row: int,
    read: Reading,
    wanted: Mapping[preprocess.Geometry, Input],
    seconds: dict[str, float],
) -> dict[preprocess.Geometry, Pixels]:
    """The pixels of an image by geometry.

    Raises:
        Unreadable: It cannot be decoded.
        InputError: It cannot be decoded, and the job is strict.
    """
    path = job.study.root / job.study.paths[row]
    started = decoding = time.perf_counter()
    try:
        data = read_bytes(path)
        decoding = time.perf_counter()
        image = decode(data, read)
        arrays = {kind: preprocess.to_pixels(image, seen) for kind, seen in wanted.items()}
        return {kind: array.transpose(1, 2, 0) for kind, array in arrays.items()}
    except Unreadable as error:
        check_root(job.study)
        if job.strict:
            raise InputError(
                f"{path}: {error}; correct or remove it, or leave --strict out."
            ) from error
        raise
    finally:
        seconds["reading"] += decoding - started
        seconds["decoding"] += time.perf_counter() - decoding


def _finite(job: ExtractJob, rows: Ints, key: str, stored: torch.Tensor) -> npt.NDArray[Any]:
    """The features as an array; refused if there is not a row for each image, or one is not finite."""
    if len(stored) != len(rows):
        raise InputError(
            f"layer {key} of {job.backbone.name} gave {len(stored)} rows for {len(rows)} images; leave "
            "this layer out."
        )
    # a sum is finite if all its terms are, and costs a third of checking each of them
    if not bool(torch.isfinite(stored.sum(dtype=torch.float32))):
        odd = ~torch.isfinite(stored)
        if bool(odd.any()):
            row = int(rows[int(odd.any(1).nonzero()[0])])
            large = stored.dtype == torch.float16 and not bool(stored.isnan().any())
            half = job.precision == "fp16" and not bool(stored.isnan().any())
            why = (
                "too large for fp16; use --precision bf16 or float32."
                if half
                else "too large for float16; use --dtype float32."
                if large
                else "NaN or infinite; check the weights and the card's scale, mean and std."
            )
            raise InputError(
                f"{job.study.paths[row]}: its features at layer {key} of {job.backbone.name} are {why}"
            )
    return stored.numpy()
