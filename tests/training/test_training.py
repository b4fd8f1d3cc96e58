import copy
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from features.backbone import load
from features.errors import InputError
from probe.training.cut import EMPTY
from probe.training.epoch import batches
from probe.training.feed import KeptFeed
from probe.training.head import Head, Network
from probe.training.recipes import RECIPES, Recipe, epochs_of, rate_factor, recipe
from probe.training.setup import Diverged, Goal, TrainingJob, TrainingProgress
from probe.training.train import inner_loss, predict, standardise, train
from probe.training.variants import Variant, start

PLAIN = recipe("modern", crop=False, mirror=False, colour=0.0, batch_size=8, epochs=4, patience=0)
CPU = torch.device("cpu")
ROWS = np.arange(40)


class Images:
    """Drawn images whose class is their brightest channel; augmented by noise."""

    device = CPU
    ahead = False

    def __init__(self, n: int = 60, size: int = 32, noise: float = 0.2) -> None:
        drawn = torch.Generator().manual_seed(0)
        self.labels = np.arange(n) % 3
        self.x = torch.randn(n, 3, size, size, generator=drawn)
        self.x[range(n), self.labels] += 1.5
        self.noise = noise

    def training(self, rows: np.ndarray, rng: np.random.Generator) -> Tensor:
        noise = rng.standard_normal(self.x[rows].shape, dtype=np.float32)
        return self.x[rows] + self.noise * torch.from_numpy(noise)

    def views(self, rows: np.ndarray, view: str) -> Iterator[Tensor]:
        yield self.x[rows]
        if view == "flip":
            yield self.x[rows].flip(3)


class Small(nn.Module):
    """Convolution, batch norm, dropout: everything that has a state or draws."""

    def __init__(self, norm: bool = True) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3, stride=2)
        self.norm = nn.BatchNorm2d(6) if norm else nn.Identity()
        self.drop = nn.Dropout(0.3 if norm else 0.0)

    def forward(self, x: Tensor) -> Tensor:
        return self.drop(functional.relu(self.norm(self.conv(x))))  # type: ignore[no-any-return]


def job(recipe: Recipe = PLAIN, norm: bool = True, **changes: object) -> TrainingJob:
    torch.manual_seed(0)
    feed = Images()
    network = Network(Small(norm), Head(6, 3, seed=0), None)
    made = TrainingJob(
        network, EMPTY, recipe, 1.0, Goal(feed.labels[:, None], (3,)), feed, recipe.epochs, 0
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def weights(job: TrainingJob) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in job.network.state_dict().items()}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_learns() -> None:
    made = job(replace(PLAIN, epochs=15, rate=2e-2))
    done = train(made, ROWS)
    assert [e.epoch for e in done.history] == list(range(15))
    assert done.history[-1].loss < done.history[0].loss
    rows = np.arange(40, 60)
    p = predict(made, rows, "center")
    np.testing.assert_allclose(p.sum(1), 1, rtol=1e-5)
    assert (p.argmax(1) == made.goal.labels[rows, 0]).mean() > 0.9


def test_equals_a_plain_loop() -> None:
    """Against the textbook's loop in PyTorch: SGD with momentum, all batches, the same order."""
    sgd = replace(RECIPES["gilnet"], batch_size=8, epochs=2, iterations=0, rate=0.05, mirror=False)
    made = job(sgd, norm=False, feed=Images(noise=0.0))
    plain = copy.deepcopy(made.network)
    train(made, ROWS)
    biases = [p for n, p in plain.named_parameters() if n.endswith("bias")]
    matrices = [p for n, p in plain.named_parameters() if n.endswith("weight")]
    optimiser = torch.optim.SGD(
        [
            {"params": biases, "lr": 0.1, "weight_decay": 0.0},
            {"params": matrices, "lr": 0.05, "weight_decay": 5e-4},
        ],
        momentum=0.9,
    )
    feed = made.feed
    assert isinstance(feed, Images)
    step = 0
    for epoch in range(2):
        for batch in batches(ROWS, sgd, 0, epoch):
            for group, rate in zip(optimiser.param_groups, (0.1, 0.05), strict=True):
                group["lr"] = rate * 0.1 ** (step // 2)  # a step after every fifth of ten batches
            loss = functional.cross_entropy(
                plain(feed.x[batch]), torch.from_numpy(feed.labels[batch])
            )
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            step += 1
    for name, tensor in plain.state_dict().items():
        torch.testing.assert_close(made.network.state_dict()[name], tensor, rtol=1e-5, atol=1e-7)


class Killed(BaseException):
    pass


def test_killed_at_twenty_moments_ends_in_the_same_weights(tmp_path: Path) -> None:
    whole = job()
    train(whole, ROWS)
    wanted = weights(whole)
    steps = PLAIN.epochs * len(batches(ROWS, PLAIN, 0, 0))
    for number, moment in enumerate(np.random.default_rng(3).integers(0, steps, 20).tolist()):
        seen = [0]

        def watch(_now: TrainingProgress, seen: list[int] = seen, moment: int = moment) -> None:
            if seen[0] == moment:
                raise Killed
            seen[0] += 1

        checkpoint = tmp_path / f"{number}.pt"
        with pytest.raises(Killed):
            train(job(), ROWS, checkpoint=checkpoint, watch=watch)
        again = job()
        torch.manual_seed(number)  # what is random outside does not matter
        done = train(again, ROWS, checkpoint=checkpoint)
        assert len(done.history) == PLAIN.epochs
        assert same(weights(again), wanted), moment
    assert not list(tmp_path.glob(".*"))


def test_outside_randomness_is_left_alone() -> None:
    made = job()
    torch.manual_seed(7)
    before = torch.random.get_rng_state()
    train(made, ROWS, until=1)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_training_that_was_stopped_leaves_no_thread_behind() -> None:
    """Nor does it where its error is kept, and with it all that was under way."""
    made = job()
    made.feed.ahead = True  # type: ignore[misc]

    def stop(_: TrainingProgress) -> None:
        raise Killed

    before = set(threading.enumerate())
    with pytest.raises(Killed) as kept:
        train(made, ROWS, watch=stop)
    assert kept.tb is not None
    assert set(threading.enumerate()) <= before


def test_a_damaged_checkpoint_is_said(tmp_path: Path) -> None:
    checkpoint = tmp_path / "fold-0.pt"
    checkpoint.write_bytes(b"no checkpoint")
    with pytest.raises(
        InputError, match=r"fold-0\.pt: not a checkpoint of this training; delete it"
    ):
        train(job(), ROWS, checkpoint=checkpoint)


def test_early_stopping_takes_the_best_epoch() -> None:
    made = job(replace(PLAIN, patience=2, epochs=12))
    done = train(made, ROWS, inner=np.arange(40, 60))
    losses = [epoch.inner_loss for epoch in done.history]
    assert done.epochs == int(np.argmin(losses)) + 1  # type: ignore[arg-type]
    assert len(losses) == min(12, done.epochs + 2)
    p = predict(made, np.arange(40, 60), "center")
    assert inner_loss(p, made.goal, np.arange(40, 60)) == pytest.approx(losses[-1])


def test_the_refit_runs_the_schedule_that_was_measured() -> None:
    """Stopped after two of four epochs, it is where the four-epoch run is after two."""
    short, long = job(), job()
    train(short, ROWS, until=2)
    with pytest.raises(Killed):
        train(
            long, ROWS, watch=lambda now: (_ for _ in ()).throw(Killed) if now.epoch == 2 else None
        )
    assert weights(short).keys() == weights(long).keys()
    other = job(replace(PLAIN, epochs=2))
    train(other, ROWS)
    assert not same(weights(short), weights(other))


def test_parts_of_a_batch_add_up_to_it() -> None:
    whole, parts = (job(norm=False, feed=Images(noise=0.0), accumulate=n) for n in (1, 3))
    train(whole, ROWS)
    train(parts, ROWS)
    for name, tensor in weights(whole).items():
        torch.testing.assert_close(weights(parts)[name], tensor, rtol=1e-4, atol=1e-6)


def test_class_weights_weigh_classes_the_same() -> None:
    """With one feature that is constant, the head learns the prior; weighted, no class is ahead."""
    labels = np.array([0] * 30 + [1] * 10)
    found = []
    for weighted in (False, True):
        fit = replace(PLAIN, class_weights=weighted, epochs=60, rate=0.05, smoothing=0.0, decay=0.0)
        network = Network(nn.Identity(), Head(1, 2, seed=0), None)
        feed = KeptFeed(np.ones((40, 1), np.float32), CPU)
        made = TrainingJob(network, EMPTY, fit, 1.0, Goal(labels[:, None], (2,)), feed, 60, 0)
        train(made, ROWS)
        found.append(predict(made, np.arange(1), "center")[0, 0])
    assert found == pytest.approx([0.75, 0.5], abs=0.03)


def test_two_tasks_and_missing_labels() -> None:
    """A row without a label of a task has no part in its loss."""
    feed = Images()
    labels = np.stack([feed.labels, np.where(np.arange(60) < 30, feed.labels, -1)], 1)
    network = Network(Small(), Head(6, 6, seed=0), None)
    fit = replace(PLAIN, epochs=15, rate=2e-2)
    made = TrainingJob(network, EMPTY, fit, 1.0, Goal(labels, (3, 3)), feed, 15, 0)
    train(made, ROWS)
    p = predict(made, np.arange(40, 60), "center")
    np.testing.assert_allclose(p[:, :3].sum(1), 1, rtol=1e-5)
    np.testing.assert_allclose(p[:, 3:].sum(1), 1, rtol=1e-5)
    for part in made.goal.parts():
        assert (p[:, part].argmax(1) == feed.labels[40:60]).mean() > 0.8


def test_views_are_averaged() -> None:
    made = job()
    p = predict(made, ROWS, "flip")
    feed = made.feed
    assert isinstance(feed, Images)
    with torch.no_grad():
        by_hand = (
            functional.softmax(made.network(feed.x[ROWS]), 1)
            + functional.softmax(made.network(feed.x[ROWS].flip(3)), 1)
        ) / 2
    np.testing.assert_allclose(p, by_hand.numpy(), rtol=1e-5)


def test_standardise_reads_the_training_rows() -> None:
    made = job()
    with made.network.head.listening() as heard:
        predict(made, ROWS, "center")
    standardise(made, ROWS)
    z = (torch.cat(heard) - made.network.head.mean) * made.network.head.scale
    torch.testing.assert_close(z.mean(0), torch.zeros(6), atol=1e-4, rtol=0)
    torch.testing.assert_close(z.std(0, correction=0), torch.ones(6), atol=1e-3, rtol=0)


def test_the_frozen_prefix_does_not_change_by_a_bit() -> None:
    faces = load("sample-faces")
    (cut,) = faces.layers(("conv3",))
    network, prefix = start(faces, Variant("frozen", cut), 3, 0)
    feed = Images(size=96)
    made = TrainingJob(
        network,
        prefix,
        replace(PLAIN, epochs=1),
        10.0,
        Goal(feed.labels[:, None], (3,)),
        feed,
        1,
        0,
    )
    before = weights(made)
    train(made, ROWS)
    after = weights(made)
    frozen = {n for n in before if prefix.holds(n.removeprefix("body."))}
    assert {
        "body.norm2.running_mean",
        "body.conv3.weight",
        "body.norm1.num_batches_tracked",
    } <= frozen
    for name in before:
        if name not in ("body.norm5.num_batches_tracked", "body.fc7.mean", "body.fc7.scale"):
            assert torch.equal(before[name], after[name]) == (name in frozen), name


def test_a_loss_that_is_no_number_is_said_and_the_checkpoint_kept(tmp_path: Path) -> None:
    fine, wild = job(), job(replace(PLAIN, rate=1e30, optimiser="sgd"), norm=False)
    checkpoint = tmp_path / "fold-0.pt"
    train(fine, ROWS, until=1, checkpoint=checkpoint)
    with pytest.raises(
        Diverged, match=r"epoch 1, batch .*rate of 1e.30; no epoch was finished; use a s"
    ):
        train(wild, ROWS, checkpoint=tmp_path / "none.pt")
    with torch.no_grad():
        fine.network.body.conv.weight.fill_(float("nan"))  # type: ignore[union-attr, operator]
    good = checkpoint.read_bytes()

    class Bad(Images):
        def training(self, rows: np.ndarray, rng: np.random.Generator) -> Tensor:
            return super().training(rows, rng) * float("inf")

    with pytest.raises(
        Diverged, match=r"in epoch 2, batch 1, .* after epoch 1 is kept in .*fold-0\.pt"
    ):
        train(job(feed=Bad()), ROWS, checkpoint=checkpoint)
    assert checkpoint.read_bytes() == good


@pytest.mark.parametrize(("size", "accumulate"), [(1, 1), (4, 4)])
def test_batch_norm_needs_two_images(size: int, accumulate: int) -> None:
    lonely = replace(PLAIN, batch_size=size)
    with pytest.raises(
        InputError, match=f"--batch-size {size}: the batch norm norm needs two images"
    ):
        train(job(lonely, accumulate=accumulate), ROWS)
    train(job(lonely, norm=False, accumulate=accumulate), ROWS[:8], until=1)


def test_no_batch_of_one_is_left_over() -> None:
    rows = np.arange(17)
    found = batches(rows, PLAIN, 0, 0)
    assert [len(batch) for batch in found] == [8, 9]
    assert sorted(np.concatenate(found).tolist()) == rows.tolist()
    assert not np.array_equal(found[0], batches(rows, PLAIN, 0, 1)[0])
    assert not np.array_equal(found[0], batches(rows, PLAIN, 1, 0)[0])


def test_rates() -> None:
    solver = RECIPES["gilnet"]
    assert [rate_factor(solver, e, 100) for e in (0, 19.9, 20, 40, 99)] == pytest.approx(
        [1, 1, 0.1, 0.01, 1e-4]
    )
    modern = RECIPES["modern"]
    assert rate_factor(modern, 0.25, 20) == pytest.approx(0.5, abs=0.01)
    assert rate_factor(modern, 0.5, 20) == pytest.approx(1)
    assert rate_factor(modern, 10.25, 20) == pytest.approx(0.5)
    assert rate_factor(modern, 20, 20) == pytest.approx(0)


def test_published_settings() -> None:
    """The solver that Levi and Hassner published, in our terms: facts that the paper's recipe lacks."""
    solver = RECIPES["gilnet"]
    assert (solver.rate, solver.momentum, solver.decay, solver.batch_size) == (1e-3, 0.9, 5e-4, 50)
    assert epochs_of(solver, 14_000) == round(50_000 * 50 / 14_000)
    assert solver.step * solver.iterations == 10_000
    assert not solver.ours
    assert {"rate", "batch_size", "head_times"} <= set(RECIPES["paper"].ours)
    assert epochs_of(recipe("gilnet", epochs=7), 14_000) == 7


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"name": "modem"}, "--recipe modem: not a recipe; did you mean modern?"),
        ({"batch_size": 0}, "--batch-size 0: a batch has"),
        ({"epochs": 0}, "--epochs 0: training takes"),
        ({"rate": -1.0}, "--rate -1: a learning rate"),
        ({"rate": float("nan")}, "--rate nan: a learning rate"),
        ({"patience": -1}, "--patience -1: give"),
    ],
)
def test_recipes_are_checked(changes: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=said.replace("?", r"\?")):
        recipe(**{"name": "modern", **changes})  # type: ignore[arg-type]
