"""Training keeps the matrix units of a card as exact as its precision says, gradients too."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from finetuning.brighthalves import write_data
from torch import Tensor, nn

from features.backbone import load
from features.data import read_data
from features.study.drafting import draft
from probe.training import epoch, kept_prefix
from probe.training import train as training
from probe.training.feed import ImageFeed
from probe.training.kept_prefix import kept_features
from probe.training.recipes import recipe
from probe.training.setup import Goal, TrainingJob
from probe.training.variants import Variant, start

Seen = list[tuple[str, str | None]]


class Noted(nn.Module):
    """Passes images on; notes what precision there is when it does, and when gradients come back."""

    def __init__(self, inner: nn.Module, now: list[str], seen: Seen) -> None:
        super().__init__()
        self.inner, self.now, self.seen = inner, now, seen

    def forward(self, x: Tensor) -> Any:
        """What the network gives."""
        self.seen.append(("forward", self.now[-1] if self.now else None))
        y = self.inner(x)
        if y.requires_grad:
            y.register_hook(self.note)
        return y

    def note(self, _: Tensor) -> None:
        """Gradients have come back."""
        self.seen.append(("backward", self.now[-1] if self.now else None))


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The precisions that are in force, the last one last."""
    inside: list[str] = []

    @contextmanager
    def precise(_: torch.device, precision: str) -> Iterator[None]:
        inside.append(precision)
        try:
            yield
        finally:
            inside.pop()

    for module in (epoch, kept_prefix, training):
        monkeypatch.setattr(module, "precise", precise, raising=False)
    return inside


@pytest.mark.parametrize("precision", ["float32", "tf32"])
def test_passes_both_ways_are_as_exact_as_asked(
    tmp_path: Path, tiny_card: Callable[..., Path], now: list[str], precision: str
) -> None:
    study = draft(tmp_path / "study", read_data(str(write_data(tmp_path / "data", folds=2))))
    backbone = load(str(tiny_card()))
    chosen = recipe("modern", epochs=1, patience=0, batch_size=8)
    rows = torch.arange(8).numpy()
    feed = ImageFeed(study, backbone.architecture.input, chosen, torch.device("cpu"))
    seen: Seen = []
    network, prefix = start(backbone, Variant("finetune"), 2, 0)
    network.body = Noted(network.body, now, seen)
    network.place = network.place and f"inner.{network.place}"
    goal = Goal((rows % 2)[:, None], (2,))
    job = TrainingJob(network, prefix, chosen, 1.0, goal, feed, 1, 0, precision=precision)
    training.train(job, rows)
    assert set(seen) == {("forward", precision), ("backward", precision)}
    seen.clear()
    training.head_features(job, rows)
    training.predict(job, rows, "center")
    assert set(seen) == {("forward", precision)}


def test_kept_features_are_exact(
    tmp_path: Path, tiny_card: Callable[..., Path], now: list[str]
) -> None:
    study = draft(tmp_path / "study", read_data(str(write_data(tmp_path / "data", folds=2))))
    backbone = load(str(tiny_card()))
    chosen = recipe("modern", epochs=1)
    feed = ImageFeed(study, backbone.architecture.input, chosen, torch.device("cpu"))
    (layer,) = backbone.layers(("conv",))
    network, prefix = start(backbone, Variant("frozen", layer), 2, 0)
    seen: Seen = []
    network.body.register_forward_pre_hook(
        lambda *_: seen.append(("forward", now[-1] if now else None))
    )
    rows = torch.arange(8).numpy()
    with kept_features(network, backbone.architecture, prefix, feed, rows, tmp_path) as kept:
        assert kept is not None
    assert set(seen) == {("forward", "float32")}
