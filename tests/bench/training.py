"""Fine-tuning against a plain hand-written loop: same network, images, batches, one machine, one run.

    python tests/bench/training.py                       # MobileFaceNet and SqueezeNet at 224
    python tests/bench/training.py --backbone sample-faces --images 1000

Both train all layers with the same optimiser on the same images, decoded once and kept as uint8, with
random crop and mirror; the plain loop is what one writes on an afternoon: a Dataset, a DataLoader and
torchvision's transforms on tensors, in the same memory layout. Both read their images from the loader
inside the time that is measured; epochs take turns, each loop first in every other round, and the first
of each is not counted.
"""

from __future__ import annotations

import argparse
import platform
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from features.backbone import load
from features.cards.card import Input
from features.data import read_data
from features.images.views import canvas_of
from features.machine.device import cores, resolve
from features.study.drafting import draft
from probe.training.feed import ImageFeed
from probe.training.recipes import recipe
from probe.training.setup import Goal, TrainingJob
from probe.training.train import train
from probe.training.variants import Variant, start


class Plain(Dataset):  # type: ignore[type-arg]
    """Images in memory, cropped, mirrored and normalised one by one."""

    def __init__(self, pixels: torch.Tensor, labels: np.ndarray, wanted: Input) -> None:
        self.pixels, self.labels = pixels, labels
        mean = [float(m) / wanted.scale for m in wanted.mean]
        std = [float(s) / wanted.scale for s in wanted.std]
        self.change = v2.Compose(
            [
                v2.RandomCrop(wanted.size),
                v2.RandomHorizontalFlip(),
                v2.ToDtype(torch.float32, scale=True),
                v2.Normalize(mean, std),
            ]
        )

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, row: int) -> tuple[torch.Tensor, int]:
        return self.change(self.pixels[row]), int(self.labels[row])


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbone", nargs="*", default=["mobilefacenet", "squeezenet1_1"])
    parser.add_argument("--images", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--device", default="auto")
    given = parser.parse_args()
    device = resolve(given.device)
    print(
        f"{platform.machine()}, {cores()} cores, {torch.get_num_threads()} threads, {device}, "
        f"torch {torch.__version__}, Python {platform.python_version()}"
    )
    print("backbone | plain loop images/s | ours images/s | ours over plain, median [all rounds]")
    for name in given.backbone:
        one(name, given.images, given.rounds, device)


def one(name: str, images: int, rounds: int, device: torch.device) -> None:
    """Measure one network and print its line."""
    backbone = load(name, None if name.startswith("sample") else "random")
    wanted = backbone.architecture.input
    chosen = recipe("modern", colour=0.0, patience=0, epochs=rounds + 1)
    with tempfile.TemporaryDirectory() as folder:
        study = draft(Path(folder), read_data("sample"))
        rows = np.arange(images)
        feed = ImageFeed(study, wanted, chosen, device)
        feed.images.readable(rows)
        pixels = feed.images[rows]
        assert canvas_of(wanted).size == tuple(pixels.shape[2:])
    labels = rows % 2

    def fresh() -> nn.Module:
        network, _ = start(backbone, Variant("finetune"), 2, 0)
        return network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    network, prefix = start(backbone, Variant("finetune"), 2, 0)
    network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    goal = Goal(labels[:, None], (2,))
    job = TrainingJob(network, prefix, chosen, 10.0, goal, feed, rounds + 1, 0)
    plain = fresh().train()
    optimiser = torch.optim.AdamW(plain.parameters(), chosen.rate, weight_decay=chosen.decay)
    loader = DataLoader(Plain(pixels, labels, wanted), chosen.batch_size, shuffle=True)

    def plain_epoch() -> float:
        started = time.perf_counter()
        for x, y in loader:
            x = x.to(device).contiguous(memory_format=torch.channels_last)
            loss = functional.cross_entropy(plain(x), y.to(device))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        if device.type == "cuda":
            torch.cuda.synchronize()
        return images / (time.perf_counter() - started)

    def our_epoch() -> float:
        started = time.perf_counter()
        train(job, rows, until=1)
        return images / (time.perf_counter() - started)

    speeds = []
    for number in range(rounds + 1):
        if number % 2:
            mine, other = our_epoch(), plain_epoch()
        else:
            other, mine = plain_epoch(), our_epoch()
        speeds.append((other, mine))
    speeds = speeds[1:]
    ratios = sorted(ours / theirs for theirs, ours in speeds)
    theirs, ours = np.median(speeds, axis=0)
    shown = ", ".join(f"{ratio:.2f}" for ratio in ratios)
    print(f"{name} | {theirs:.1f} | {ours:.1f} | {np.median(ratios):.2f} [{shown}]", flush=True)


if __name__ == "__main__":
    main()
