"""One epoch of training: batches, prepared ahead where that pays, and steps.

The seed, the epoch and the batch decide everything random in it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from features.arrays import Ints
from features.machine.device import precise, seeded, sent, widest
from probe.training.cut import train_mode
from probe.training.recipes import Recipe, rate_factor
from probe.training.setup import Diverged, Epoch, TrainingJob, TrainingProgress

Watch = Callable[[TrainingProgress], None]

_ASK = 20  # batches between two looks at a GPU's loss
_AHEAD = 2  # batches prepared in advance


def one_epoch(
    job: TrainingJob,
    optimiser: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    rows: Ints,
    weights: list[Tensor],
    epoch: int,
    checkpoint: Path | None,
    watch: Watch,
) -> Epoch:
    """Train on every row once; the network and the optimiser change in place.

    Args:
        job: The network and how it is trained.
        optimiser: Its groups have `times`, the factor on the current learning rate.
        scaler: Scales the loss where gradients are of half precision, and does nothing otherwise.
        rows: Rows of images.csv.
        weights: The weight of every class, task by task.
        epoch: Its number, from 0.
        checkpoint: Where the last epoch was kept; named if the loss diverges.
        watch: Called after every batch, on a GPU after every 20.

    Raises:
        Diverged: The loss became NaN or infinite.
    """
    device = job.feed.device
    train_mode(job.network.body, job.prefix)
    job.network.top.train()
    todo = batches(rows, job.recipe, job.seed, epoch)
    loss_sum = torch.zeros((), dtype=widest(device), device=device)
    right = torch.zeros((), dtype=widest(device), device=device)
    trained = labelled = unseen = 0
    classed = [column for column in range(len(job.goal.sizes)) if not job.goal.is_number(column)]
    # Closed here: later it would be the garbage collector's, which may run in the very thread it waits for.
    with closing(_inputs(job, todo, epoch)) as inputs:
        for number, batch in enumerate(todo):
            _set_rates(optimiser, job, epoch + number / len(todo))
            optimiser.zero_grad(set_to_none=True)
            labels = torch.from_numpy(job.goal.labels[batch])
            targets = (
                None if job.goal.numbers is None else torch.from_numpy(job.goal.targets(batch))
            )
            loss, hits = _one_batch(
                job, scaler, (labels, targets), weights, inputs, (epoch, number)
            )
            scaler.step(optimiser)
            scaler.update()
            loss_sum += loss * len(batch)
            right += hits
            labelled += int((labels[:, classed] >= 0).sum())
            trained, unseen = trained + len(batch), unseen + len(batch)
            # Reading the loss waits for the GPU, so it is read only now and then.
            if device.type == "cpu" or number % _ASK == _ASK - 1 or number == len(todo) - 1:
                mean = float(loss_sum) / trained
                if not np.isfinite(mean):
                    _diverged(job, epoch, number, checkpoint)
                accuracy = float(right) / labelled if labelled else float("nan")
                watch(TrainingProgress(unseen, epoch, job.epochs, mean, accuracy))
                unseen = 0
    accuracy = float(right) / labelled if labelled else float("nan")
    return Epoch(epoch, float(loss_sum) / len(rows), accuracy)


def _parts(batch: Ints, job: TrainingJob) -> list[Ints]:
    """The positions in a batch that make up each of the parts it is computed in."""
    cuts = np.array_split(np.arange(len(batch)), min(job.accumulate, len(batch)))
    return [cut for cut in cuts if len(cut)]


def _inputs(job: TrainingJob, todo: Sequence[Ints], epoch: int) -> Generator[Tensor, None, None]:
    """The inputs of every part of every batch, prepared a little ahead where that pays."""
    parts = [
        (batch[part], (job.seed, epoch, number, turn))
        for number, batch in enumerate(todo)
        for turn, part in enumerate(_parts(batch, job))
    ]

    def make(rows: Ints, seed: tuple[int, ...]) -> Tensor:
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
    job: TrainingJob,
    scaler: torch.amp.GradScaler,
    truth: tuple[Tensor, Tensor | None],
    weights: list[Tensor],
    inputs: Iterator[Tensor],
    number: tuple[int, int],
) -> tuple[Tensor, Tensor]:
    """Gradients of the mean loss over a batch; returns the loss and how many answers were right.

    `truth` are the labels and, where a task is a number, what its scores should be, `(batch, tasks)`.
    """
    device = job.feed.device
    labels, targets = truth
    # Over the whole batch, so that parts of it add up to the same mean.
    denominators = [
        sent(w[y[y >= 0]].sum().clamp_min(1e-12), device)
        for w, y in zip(weights, labels.unbind(1), strict=True)
    ]
    moved = [sent(w, device) for w in weights]
    loss = torch.zeros((), device=device)
    right = torch.zeros((), device=device)
    for turn, part in enumerate(_parts(np.arange(len(labels)), job)):
        x = next(inputs)
        with _dropout(job, *number, turn), precision_of(job):
            scores = job.network(x).float()
        part_loss = torch.zeros((), device=device)
        for column, where in enumerate(job.goal.parts()):
            here = labels[part, column]
            if targets is not None and job.goal.is_number(column):
                wanted = sent(targets[part, column], device)
                away = (scores[:, where.start] - wanted).abs()
                known = sent(torch.nonzero(here >= 0)[:, 0], device)
                part_loss = part_loss + away[known].sum() / denominators[column]
                continue
            y = sent(here, device)
            task_loss = functional.cross_entropy(
                scores[:, where],
                y,
                weight=moved[column],
                ignore_index=-1,
                reduction="sum",
                label_smoothing=job.recipe.smoothing,
            )
            part_loss = part_loss + task_loss / denominators[column]
            right += (scores[:, where].detach().argmax(1) == y).sum()
        with precise(device, job.precision):  # a convolution's gradients ask again what is allowed
            scaler.scale(part_loss).backward()  # type: ignore[no-untyped-call]
        loss += part_loss.detach()
    return loss, right


def _diverged(job: TrainingJob, epoch: int, batch: int, checkpoint: Path | None) -> None:
    kept = (
        f"the checkpoint after epoch {epoch} is kept in {checkpoint}"
        if checkpoint is not None and checkpoint.is_file()
        else "no epoch was finished"
    )
    raise Diverged(
        f"the loss became NaN or infinite in epoch {epoch + 1}, batch {batch + 1}, at a rate of "
        f"{job.recipe.rate:g}; {kept}; use a smaller --rate."
    )


def batches(rows: Ints, recipe: Recipe, seed: int, epoch: int) -> list[Ints]:
    """The batches of one epoch: all rows in a random order; a single row left over joins the last."""
    order = np.random.default_rng([seed, epoch]).permutation(rows)
    size = recipe.batch_size
    cut = [order[i : i + size] for i in range(0, len(order), size)]
    if len(cut) > 1 and len(cut[-1]) == 1:
        cut[-2:] = [np.concatenate(cut[-2:])]
    return cut


def _set_rates(optimiser: torch.optim.Optimizer, job: TrainingJob, epoch: float) -> None:
    factor = rate_factor(job.recipe, epoch, job.epochs)
    for group in optimiser.param_groups:
        group["lr"] = job.recipe.rate * group["times"] * factor


@contextmanager
def _dropout(job: TrainingJob, *number: int) -> Iterator[None]:
    """Let the seed, epoch and batch decide dropout; the random state outside stays as it was."""
    seed = int(np.random.SeedSequence([job.seed, *number, 1]).generate_state(1)[0])
    with seeded(seed, job.feed.device):
        yield


@contextmanager
def precision_of(job: TrainingJob) -> Iterator[None]:
    """Let the network compute in the job's precision: mixed in bf16 or fp16, float32 and tf32 as such."""
    device = job.feed.device
    with precise(device, job.precision):
        if job.precision in ("bf16", "fp16"):
            kind = torch.float16 if halves(job) else torch.bfloat16
            with torch.autocast(device.type, dtype=kind):
                yield
        else:
            yield


def halves(job: TrainingJob) -> bool:
    """Whether gradients are of half precision, so that the loss has to be scaled."""
    return job.precision == "fp16"
