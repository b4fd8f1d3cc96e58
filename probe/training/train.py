"""One network on one training set: epochs, checkpoints, early stopping, scores.

The seed, the epoch and the batch decide everything random in an epoch, and a checkpoint is written after
every epoch, so that a run that was killed comes to the same weights when it is run again; on a CPU to the
bit.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from features.arrays import Floats, Ints
from features.machine.device import precise, widest
from probe.probes.scaling import statistics
from probe.results import scores as measures
from probe.training import checkpoint as checkpoints
from probe.training.epoch import Watch, halves, one_epoch, precision_of
from probe.training.recipes import Recipe
from probe.training.setup import Epoch, Goal, Trained, TrainingJob, check_norms


def train(
    job: TrainingJob,
    rows: Ints,
    *,
    inner: Ints | None = None,
    until: int | None = None,
    checkpoint: Path | None = None,
    watch: Watch = lambda _now: None,
    note: Callable[[Epoch], None] = lambda _epoch: None,
) -> Trained:
    """Train on `rows`, in place.

    Args:
        job: The network and how it is trained.
        rows: Rows of images.csv.
        inner: Rows scored after every epoch; training stops `patience` epochs after the best.
        until: The epoch of the schedule to stop after.
        checkpoint: The file that keeps the state after every epoch; training goes on from it.
        watch: Called after every batch, on a GPU after every 20.
        note: Called after every epoch.

    Raises:
        InputError: A batch norm would see one image at a time.
        Diverged: The loss became NaN or infinite; the last checkpoint is kept.
    """
    check_norms(job.network.body, job.prefix, job.recipe, job.accumulate, len(rows))
    optimiser = _optimiser(job)
    scaler = torch.amp.GradScaler(job.feed.device.type, enabled=halves(job))
    done = Trained(0)
    if checkpoint is not None and checkpoint.is_file():
        done.history = checkpoints.resume(checkpoint, job, optimiser, scaler)
    weights = _class_weights(job, rows)
    last = job.epochs if until is None else until
    while len(done.history) < last and not _is_over(done.history, job.recipe, inner):
        number = len(done.history)
        started = time.perf_counter()
        epoch = one_epoch(job, optimiser, scaler, rows, weights, number, checkpoint, watch)
        if inner is not None:
            scores = predict(job, inner, "center")
            epoch.inner_loss = inner_loss(scores, job.goal, inner)
            epoch.inner_accuracy = accuracy(scores, job.goal, inner)
        epoch.seconds = time.perf_counter() - started
        done.history.append(epoch)
        note(epoch)
        if checkpoint is not None:
            checkpoints.write(checkpoint, job, optimiser, scaler, done.history)
    done.epochs = len(done.history)
    if inner is not None:
        done.epochs = best_epoch(done.history)
        done.stopped_early = done.epochs < last
    return done


def best_epoch(history: Sequence[Epoch]) -> int:
    """The number of epochs with the smallest inner loss, the first of equals."""
    losses = [np.inf if e.inner_loss is None else e.inner_loss for e in history]
    return int(np.argmin(losses)) + 1


@torch.no_grad()
def predict(job: TrainingJob, rows: Ints, view: str, batch_size: int = 64) -> Floats:
    """The mean over a view's crops of every task's softmax, `(len(rows), classes of all tasks)`.

    Of a number it is the mean of the scores.
    """
    job.network.eval()
    batches = []
    for start in range(0, len(rows), batch_size):
        total: Tensor | None = None
        crops = 0
        for x in job.feed.views(rows[start : start + batch_size], view):
            crops += 1
            with precision_of(job):
                scores = job.network(x).float()
            parts = [
                scores[:, part] if job.goal.is_number(i) else functional.softmax(scores[:, part], 1)
                for i, part in enumerate(job.goal.parts())
            ]
            here = torch.cat(parts, 1).to(widest(job.feed.device))
            total = here if total is None else total + here
        assert total is not None
        batches.append((total / crops).float().cpu().numpy())
    return np.concatenate(batches) if batches else np.zeros((0, sum(job.goal.sizes)), np.float32)


def standardise(job: TrainingJob, rows: Ints, batch_size: int = 64) -> None:
    """Let the head standardise its input by mean and SD over `rows`, as the network is now.

    A constant feature is left out; the SD has the floor that probes have.
    """
    mean, weight = statistics(head_features(job, rows, batch_size))
    job.network.head.mean.copy_(mean)
    job.network.head.scale.copy_(weight)


@torch.no_grad()
def head_features(job: TrainingJob, rows: Ints, batch_size: int = 64) -> Tensor:
    """The head's input for the centre view of `rows`, `(len(rows), dim)` on the host."""
    job.network.eval()
    with job.network.head.listening() as inputs, precise(job.feed.device, job.precision):
        for start in range(0, len(rows), batch_size):
            for x in job.feed.views(rows[start : start + batch_size], "center"):
                job.network(x)
    return torch.cat(inputs).float()


def inner_loss(probabilities: Floats, goal: Goal, rows: Ints) -> float:
    """The log loss in nats, summed over tasks; of a number the absolute error in spreads."""
    total = 0.0
    for column, part in enumerate(goal.parts()):
        y = goal.labels[rows, column]
        if (y >= 0).any() and goal.is_number(column):
            off = probabilities[:, part.start] - goal.targets(rows)[:, column]
            total += float(np.abs(off[y >= 0]).mean())
        elif (y >= 0).any():
            p = probabilities[y >= 0, part].astype(np.float64)
            total += measures.log_loss(p, y[y >= 0], measures.NEVER_SEEN)
    return total


def accuracy(scores: Floats, goal: Goal, rows: Ints) -> float:
    """The fraction of right answers, averaged over tasks with classes; NaN where there is none."""
    each = []
    for column, part in enumerate(goal.parts()):
        y = goal.labels[rows, column]
        if (y >= 0).any() and not goal.is_number(column):
            each.append(float((scores[y >= 0, part].argmax(1) == y[y >= 0]).mean()))
    return float(np.mean(each)) if each else float("nan")


def _optimiser(job: TrainingJob) -> torch.optim.Optimizer:
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


def _class_weights(job: TrainingJob, rows: Ints) -> list[Tensor]:
    """The weight of every class, task by task; their mean over the labelled rows is 1."""
    weights = []
    for column, size in enumerate(job.goal.sizes):
        y = job.goal.labels[rows, column]
        counts = np.bincount(y[y >= 0], minlength=size)
        weight = np.ones(size)
        if job.recipe.class_weights:
            weight = np.where(
                counts > 0, counts.sum() / np.maximum(counts, 1) / (counts > 0).sum(), 0
            )
        weights.append(torch.from_numpy(weight.astype(np.float32)))
    return weights


def _is_over(history: Sequence[Epoch], recipe: Recipe, inner: Ints | None) -> bool:
    if inner is None or not recipe.patience or not history:
        return False
    return len(history) - best_epoch(history) >= recipe.patience
