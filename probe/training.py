"""One network on one training set: epochs, checkpoints, early stopping, scores.

Everything random in an epoch comes of the seed, the epoch and the batch, and a checkpoint is written
after every epoch, so that a run that was killed goes on to the same weights, on a processor to the
bit.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from features.errors import InputError, Stopped
from features.files import replacing
from probe.augment import VIEWS
from probe.cut import Prefix, train_mode
from probe.head import Network
from probe.recipes import Recipe, rate_factor
from probe.scale import statistics

Rows = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
Watch = Callable[["Now"], None]

_ASK = 20
_AHEAD = 2
_NORMS = (nn.modules.batchnorm._BatchNorm,)


class Feed(Protocol):
    """Where inputs come from."""

    device: torch.device

    @property
    def ahead(self) -> bool:
        """Whether it pays to prepare the next batch while this one is computed."""

    def training(self, rows: Rows, chance: np.random.Generator) -> Tensor:
        """Augmented inputs of `rows`, on the device."""

    def views(self, rows: Rows, view: str) -> Iterator[Tensor]:
        """The inputs of `rows` under every crop of a view, on the device."""


@dataclass(frozen=True)
class Goal:
    """What is learnt: one task or several that share the network."""

    labels: npt.NDArray[np.int64]
    """`(n, tasks)`, rows as images.csv; -1 where there is no label."""
    sizes: tuple[int, ...]
    """Classes of every task; the network's scores stand side by side in this order."""

    def parts(self) -> list[slice]:
        """Where the scores of every task stand."""
        ends = np.cumsum(self.sizes).tolist()
        return [slice(end - size, end) for end, size in zip(ends, self.sizes, strict=True)]


@dataclass
class Epoch:
    """What one epoch came to."""

    epoch: int
    loss: float
    accuracy: float
    inner_loss: float | None = None
    """Log loss of the inner validation rows in nats, summed over tasks."""
    inner_accuracy: float | None = None
    seconds: float = 0.0


@dataclass(frozen=True)
class Now:
    """Where training is, for whoever watches."""

    images: int
    """Trained on since the last call."""
    epoch: int
    epochs: int
    loss: float
    accuracy: float


@dataclass
class Trained:
    """A network after training."""

    epochs: int
    """How many it was trained for, or, with early stopping, which was best."""
    history: list[Epoch] = field(default_factory=list)
    stopped_early: bool = False


@dataclass(frozen=True)
class Job:
    """How one network is trained."""

    network: Network
    prefix: Prefix
    """What is frozen; empty if nothing is."""
    recipe: Recipe
    head_times: float
    goal: Goal
    feed: Feed
    epochs: int
    """Over which the schedule runs."""
    seed: int
    accumulate: int = 1
    """Parts that a batch is computed in, their gradients added."""
    precision: str = "float32"
    """`amp`: mixed precision, on a GPU only."""


class Diverged(Stopped):
    """The loss is no longer a number."""


def train(
    job: Job,
    rows: Rows,
    *,
    inner: Rows | None = None,
    until: int | None = None,
    checkpoint: Path | None = None,
    watch: Watch = lambda _now: None,
) -> Trained:
    """Train on `rows`, in place.

    Args:
        job: The network and how it is trained.
        rows: Rows of images.csv.
        inner: Rows that are scored after every epoch; training stops `patience` epochs after the best.
        until: Stop after so many of the schedule's epochs.
        checkpoint: Where the state after every epoch is written, and found again.
        watch: Is called after every batch.

    Raises:
        InputError: A batch norm would see one image at a time.
        Diverged: The loss became NaN or infinite; the last checkpoint is kept.
    """
    _check_norms(job, rows)
    optimiser = _optimiser(job)
    scaler = torch.amp.GradScaler(job.feed.device.type, enabled=_halves(job))
    done = Trained(0)
    if checkpoint is not None and checkpoint.is_file():
        done.history = _resume(checkpoint, job, optimiser, scaler)
    weights = _class_weights(job, rows)
    last = job.epochs if until is None else until
    while len(done.history) < last and not _is_over(done.history, job.recipe, inner):
        number = len(done.history)
        started = time.perf_counter()
        epoch = _one_epoch(job, optimiser, scaler, rows, weights, number, checkpoint, watch)
        if inner is not None:
            scores = predict(job, inner, "center")
            epoch.inner_loss = log_loss(scores, job.goal, inner)
            epoch.inner_accuracy = accuracy(scores, job.goal, inner)
        epoch.seconds = time.perf_counter() - started
        done.history.append(epoch)
        if checkpoint is not None:
            _write(checkpoint, job, optimiser, scaler, done.history)
    done.epochs = len(done.history)
    if inner is not None:
        done.epochs = best_epoch(done.history)
        done.stopped_early = done.epochs < last
    return done


def best_epoch(history: Sequence[Epoch]) -> int:
    """The number of epochs after which the inner loss was smallest, the first of equals."""
    losses = [np.inf if e.inner_loss is None else e.inner_loss for e in history]
    return int(np.argmin(losses)) + 1


@torch.no_grad()
def predict(job: Job, rows: Rows, view: str, batch_size: int = 64) -> Floats:
    """The mean over a view's crops of every task's softmax, `(len(rows), classes of all tasks)`."""
    job.network.eval()
    found = []
    for start in range(0, len(rows), batch_size):
        total: Tensor | None = None
        for x in job.feed.views(rows[start : start + batch_size], view):
            with _precision(job):
                scores = job.network(x).float()
            parts = [functional.softmax(scores[:, part], 1) for part in job.goal.parts()]
            here = torch.cat(parts, 1).double()
            total = here if total is None else total + here
        assert total is not None
        found.append((total / VIEWS[view]).float().cpu().numpy())
    return np.concatenate(found) if found else np.zeros((0, sum(job.goal.sizes)), np.float32)


def standardise(job: Job, rows: Rows, batch_size: int = 64) -> None:
    """Let the head read features minus their mean over their SD on `rows`, as they are now.

    A feature that never varies is left out; the SD has the floor that probes have.
    """
    mean, weight = statistics(head_features(job, rows, batch_size))
    job.network.head.mean.copy_(mean)
    job.network.head.scale.copy_(weight)


@torch.no_grad()
def head_features(job: Job, rows: Rows, batch_size: int = 64) -> Tensor:
    """What the head reads of the centre of `rows`, `(len(rows), dim)` on the host."""
    job.network.eval()
    with job.network.head.listening() as heard:
        for start in range(0, len(rows), batch_size):
            for x in job.feed.views(rows[start : start + batch_size], "center"):
                job.network(x)
    return torch.cat(heard).float()


def log_loss(probabilities: Floats, goal: Goal, rows: Rows) -> float:
    """Mean of -log p of the true class in nats, summed over tasks; p is at least 1e-15."""
    total = 0.0
    for column, part in enumerate(goal.parts()):
        y = goal.labels[rows, column]
        p = probabilities[y >= 0, part].astype(np.float64)[np.arange((y >= 0).sum()), y[y >= 0]]
        total -= float(np.log(np.maximum(p, 1e-15)).mean()) if len(p) else 0.0
    return total


def accuracy(scores: Floats, goal: Goal, rows: Rows) -> float:
    """The fraction of right answers, averaged over tasks."""
    found = []
    for column, part in enumerate(goal.parts()):
        y = goal.labels[rows, column]
        if (y >= 0).any():
            found.append(float((scores[y >= 0, part].argmax(1) == y[y >= 0]).mean()))
    return float(np.mean(found))


def batches(rows: Rows, recipe: Recipe, seed: int, epoch: int) -> list[Rows]:
    """The batches of one epoch: all rows in a random order; a single row left over joins the last."""
    order = np.random.default_rng([seed, epoch]).permutation(rows)
    found = [order[i : i + recipe.batch_size] for i in range(0, len(order), recipe.batch_size)]
    if len(found) > 1 and len(found[-1]) == 1:
        found[-2:] = [np.concatenate(found[-2:])]
    return found


def _one_epoch(
    job: Job,
    optimiser: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    rows: Rows,
    weights: list[Tensor],
    epoch: int,
    checkpoint: Path | None,
    watch: Watch,
) -> Epoch:
    device = job.feed.device
    train_mode(job.network.body, job.prefix)
    job.network.top.train()
    todo = batches(rows, job.recipe, job.seed, epoch)
    inputs = _inputs(job, todo, epoch)
    loss_sum = torch.zeros((), dtype=torch.float64, device=device)
    right = torch.zeros((), dtype=torch.float64, device=device)
    trained = labelled = unseen = 0
    for number, batch in enumerate(todo):
        _set_rates(optimiser, job, epoch + number / len(todo))
        optimiser.zero_grad(set_to_none=True)
        labels = torch.from_numpy(job.goal.labels[batch])
        loss, hits = _one_batch(job, scaler, labels, weights, inputs, (epoch, number))
        scaler.step(optimiser)
        scaler.update()
        loss_sum += loss * len(batch)
        right += hits
        labelled += int((labels >= 0).sum())
        trained, unseen = trained + len(batch), unseen + len(batch)
        # A GPU is asked now and then: every question waits for it.
        if device.type == "cpu" or number % _ASK == _ASK - 1 or number == len(todo) - 1:
            mean = float(loss_sum) / trained
            if not np.isfinite(mean):
                _diverged(job, epoch, number, checkpoint)
            watch(Now(unseen, epoch, job.epochs, mean, float(right) / max(labelled, 1)))
            unseen = 0
    return Epoch(epoch, float(loss_sum) / len(rows), float(right) / max(labelled, 1))


def _parts(batch: Rows, job: Job) -> list[Rows]:
    """The places in a batch of every part that it is computed in."""
    cuts = np.array_split(np.arange(len(batch)), min(job.accumulate, len(batch)))
    return [cut for cut in cuts if len(cut)]


def _inputs(job: Job, todo: Sequence[Rows], epoch: int) -> Iterator[Tensor]:
    """The inputs of every part of every batch, prepared a little ahead where that pays."""
    parts = [
        (batch[part], (job.seed, epoch, number, turn))
        for number, batch in enumerate(todo)
        for turn, part in enumerate(_parts(batch, job))
    ]

    def make(rows: Rows, seed: tuple[int, ...]) -> Tensor:
        return job.feed.training(rows, np.random.default_rng(seed))

    if not job.feed.ahead:
        yield from (make(*part) for part in parts)
        return
    with ThreadPoolExecutor(1) as thread:
        waiting: deque[Future[Tensor]] = deque()
        try:
            for part in parts:
                waiting.append(thread.submit(make, *part))
                if len(waiting) > _AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _one_batch(
    job: Job,
    scaler: torch.amp.GradScaler,
    labels: Tensor,
    weights: list[Tensor],
    inputs: Iterator[Tensor],
    number: tuple[int, int],
) -> tuple[Tensor, Tensor]:
    """Gradients of the mean loss over a batch; returns the loss and how many answers were right."""
    device = job.feed.device
    # Over the whole batch, so that parts of it add up to the same mean.
    denominators = [
        w[y[y >= 0]].sum().clamp_min(1e-12).to(device)
        for w, y in zip(weights, labels.unbind(1), strict=True)
    ]
    moved = [w.to(device) for w in weights]
    loss = torch.zeros((), device=device)
    right = torch.zeros((), device=device)
    for turn, part in enumerate(_parts(np.arange(len(labels)), job)):
        x = next(inputs)
        with _dropout(job, *number, turn), _precision(job):
            scores = job.network(x).float()
        found = torch.zeros((), device=device)
        for column, where in enumerate(job.goal.parts()):
            y = labels[part, column].to(device)
            one = functional.cross_entropy(
                scores[:, where],
                y,
                weight=moved[column],
                ignore_index=-1,
                reduction="sum",
                label_smoothing=job.recipe.smoothing,
            )
            found = found + one / denominators[column]
            right += (scores[:, where].detach().argmax(1) == y).sum()
        scaler.scale(found).backward()  # type: ignore[no-untyped-call]
        loss += found.detach()
    return loss, right


def _diverged(job: Job, epoch: int, batch: int, checkpoint: Path | None) -> None:
    kept = (
        f"the checkpoint after epoch {epoch} is kept in {checkpoint}"
        if checkpoint is not None and checkpoint.is_file()
        else "no epoch was finished"
    )
    raise Diverged(
        f"the loss became NaN or infinite in epoch {epoch + 1}, batch {batch + 1}, at a rate of "
        f"{job.recipe.rate:g}; {kept}; use a smaller --rate."
    )


def _optimiser(job: Job) -> torch.optim.Optimizer:
    """Four groups: body and head, weights and biases, each with its own rate and decay."""
    recipe = job.recipe
    head = {id(p) for p in job.network.head.parameters()}
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for parameter in job.network.parameters():
        if parameter.requires_grad:
            groups.setdefault((id(parameter) in head, parameter.ndim == 1), []).append(parameter)
    settings = [
        {
            "params": parameters,
            "times": (job.head_times if of_head else 1.0) * (recipe.bias_times if flat else 1.0),
            "weight_decay": 0.0 if flat else recipe.decay,
        }
        for (of_head, flat), parameters in sorted(groups.items(), key=lambda item: item[0])
    ]
    if recipe.optimiser == "sgd":
        return torch.optim.SGD(settings, recipe.rate, momentum=recipe.momentum)
    return torch.optim.AdamW(settings, recipe.rate)


def _set_rates(optimiser: torch.optim.Optimizer, job: Job, epoch: float) -> None:
    factor = rate_factor(job.recipe, epoch, job.epochs)
    for group in optimiser.param_groups:
        group["lr"] = job.recipe.rate * group["times"] * factor


def _class_weights(job: Job, rows: Rows) -> list[Tensor]:
    """The weight of every class, task by task; their mean over the labelled rows is 1."""
    found = []
    for column, size in enumerate(job.goal.sizes):
        y = job.goal.labels[rows, column]
        counts = np.bincount(y[y >= 0], minlength=size)
        weight = np.ones(size)
        if job.recipe.class_weights:
            weight = np.where(
                counts > 0, counts.sum() / np.maximum(counts, 1) / (counts > 0).sum(), 0
            )
        found.append(torch.from_numpy(weight.astype(np.float32)))
    return found


def _is_over(history: Sequence[Epoch], recipe: Recipe, inner: Rows | None) -> bool:
    if inner is None or not recipe.patience or not history:
        return False
    return len(history) - best_epoch(history) >= recipe.patience


def _check_norms(job: Job, rows: Rows) -> None:
    trained = [
        name
        for name, module in job.network.body.named_modules()
        if isinstance(module, _NORMS) and name not in job.prefix.modules
    ]
    smallest = job.recipe.batch_size // job.accumulate
    if trained and min(smallest, len(rows)) < 2:
        raise InputError(
            f"--batch-size {job.recipe.batch_size}: the batch norm {trained[0]} needs two images or "
            f"more at a time, and gets {min(smallest, len(rows))}; use a larger batch."
        )


def _halves(job: Job) -> bool:
    return job.precision == "amp" and not torch.cuda.is_bf16_supported()


def _precision(job: Job) -> Any:
    if job.precision != "amp":
        return nullcontext()
    kind = torch.float16 if _halves(job) else torch.bfloat16
    return torch.autocast(job.feed.device.type, dtype=kind)


@contextmanager
def _dropout(job: Job, *number: int) -> Iterator[None]:
    """Draw dropout from the seed, epoch and batch; the random state outside stays as it was."""
    device = job.feed.device
    seed = int(np.random.SeedSequence([job.seed, *number, 1]).generate_state(1)[0])
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def _write(
    checkpoint: Path,
    job: Job,
    optimiser: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    history: Sequence[Epoch],
) -> None:
    state = {
        "network": job.network.state_dict(),
        "optimiser": optimiser.state_dict(),
        "scaler": scaler.state_dict(),
        "history": [asdict(epoch) for epoch in history],
    }
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    with replacing(checkpoint) as written:
        torch.save(state, written)


def _resume(
    checkpoint: Path, job: Job, optimiser: torch.optim.Optimizer, scaler: torch.amp.GradScaler
) -> list[Epoch]:
    try:
        state = torch.load(checkpoint, map_location=job.feed.device, weights_only=True)
        job.network.load_state_dict(state["network"])
        optimiser.load_state_dict(state["optimiser"])
        scaler.load_state_dict(state["scaler"])
        return [Epoch(**epoch) for epoch in state["history"]]
    except Exception as error:  # a damaged pickle raises what it likes
        raise InputError(
            f"{checkpoint}: not a checkpoint of this training; delete it to begin again."
        ) from error
