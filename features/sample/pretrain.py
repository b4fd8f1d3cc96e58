"""Pretrain the sample's two networks, on faces and on objects, with everything else equal.

`python -m features.sample.pretrain` draws both training sets, trains both networks on one thread
and writes `faces.safetensors` and `objects.safetensors` beside this file: some ten minutes. The
same machine and library versions give the same bytes. The networks never see the sample: its
people, poses and lights come of other seeds, and its tasks played no part in any choice here.
"""

import hashlib
import json
from math import cos, pi
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image
from PIL import __version__ as pillow
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from features.networks.small import small
from features.sample.dataset import FACES, OBJECTS, YEARS
from features.sample.faces import SIZE, draw_face, draw_person
from features.sample.objects import CLASSES, draw_object

Domain = Literal["faces", "objects"]

SEED = 0
TRAIN, HELD_OUT = 250, 25
"""Images per class for training, and for the accuracy in the file."""

STEPS, BATCH, RATE, DECAY = 2400, 64, 2e-3, 0.02
SHIFT = 6
"""Images are shifted by up to this many pixels, and mirrored, before each step."""

MEAN, STD = 0.5, 0.25
"""The mean and SD of every channel after scaling to 0..1; the cards have the same."""


def draw_example(domain: Domain, label: int, image: int, seed: int = SEED) -> Image.Image:
    """Image number `image` of class `label`, an identity or a kind of object.

    There are as many identities as kinds of object, as many of each age group.
    """
    stream = FACES if domain == "faces" else OBJECTS
    rng = np.random.default_rng([stream, seed, label, 1 + image])
    if domain == "objects":
        return draw_object(label, rng)
    person_rng = np.random.default_rng([stream, seed, label, 0])
    years = list(YEARS.values())[label % len(YEARS)]
    person = draw_person(person_rng.uniform(*years), person_rng)
    return draw_face(person, rng.uniform(0, 2 * pi), rng)


def draw_examples(
    domain: Domain, images: range, seed: int = SEED, *, classes: int = len(CLASSES)
) -> tuple[Tensor, Tensor]:
    """The examples of every class: `(n, 3, SIZE, SIZE)` uint8, and labels `(n,)`."""
    drawn = np.empty((classes * len(images), 3, SIZE, SIZE), np.uint8)
    labels = torch.arange(classes).repeat_interleave(len(images))
    for row, label in enumerate(labels.tolist()):
        image = images[row % len(images)]
        drawn[row] = np.asarray(draw_example(domain, label, image, seed)).transpose(2, 0, 1)
    return torch.from_numpy(drawn), labels


def train(
    images: Tensor, labels: Tensor, *, steps: int = STEPS, batch: int = BATCH, seed: int = SEED
) -> nn.Module:
    """Train `small` from random weights to classify the images.

    Args:
        images: `(n, 3, SIZE, SIZE)`, uint8.
        labels: `(n,)`, counted from 0.
        steps: Each on `batch` images, under a rate that falls to zero as a half cosine.
        batch: Drawn anew for each step.
        seed: The seed of the weights, the batches and the augmentation.

    Returns:
        The network, for evaluation.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = small(len(CLASSES))
    chance = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.AdamW(net.parameters(), RATE, weight_decay=DECAY)
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = RATE * 0.5 * (1 + cos(pi * step / steps))
        rows = torch.randint(len(images), (batch,), generator=chance)
        scores = net(normalise(augment(images[rows], chance)))
        loss = functional.cross_entropy(scores, labels[rows], label_smoothing=0.05)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    return net.eval()


def augment(images: Tensor, chance: torch.Generator) -> Tensor:
    """Mirror every other image and move each a little, `(n, 3, h, w)` to the same."""
    mirrored = torch.rand(len(images), generator=chance) < 0.5
    images = torch.where(mirrored[:, None, None, None], images.flip(3), images)
    height, width = images.shape[2:]
    edged = functional.pad(images.float(), (SHIFT,) * 4, mode="reflect")
    moves = torch.randint(2 * SHIFT + 1, (len(images), 2), generator=chance).tolist()
    moved = [
        image[:, down : down + height, right : right + width]
        for image, (down, right) in zip(edged, moves, strict=True)
    ]
    return torch.stack(moved)


def normalise(images: Tensor) -> Tensor:
    """Pixels of 0 to 255, normalised for the network."""
    return (images.float() / 255 - MEAN) / STD


@torch.inference_mode()
def accuracy(net: nn.Module, images: Tensor, labels: Tensor) -> float:
    """The fraction of images that the network classifies correctly."""
    guesses = [net(normalise(part)).argmax(1) for part in torch.split(images, 256)]
    return (torch.cat(guesses) == labels).float().mean().item()


def main(folder: Path = Path(__file__).parent) -> None:
    """Train both networks and write them, with the settings of the training in the metadata."""
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    domains: tuple[Domain, Domain] = ("faces", "objects")
    for domain in domains:
        net = train(*draw_examples(domain, range(TRAIN)))
        score = accuracy(net, *draw_examples(domain, range(TRAIN, TRAIN + HELD_OUT)))
        made = {
            "by": "python -m features.sample.pretrain",
            "network": "features.networks.small:small",
            "domain": domain,
            "images": f"{len(CLASSES)} classes of {TRAIN}, drawn from seed {SEED}",
            "training": f"{STEPS} steps of {BATCH} images, AdamW, rate {RATE}, decay {DECAY}",
            "held_out_accuracy": f"{score:.4f}, on {HELD_OUT} other images of each class",
            "versions": f"torch {torch.__version__}, numpy {np.__version__}, pillow {pillow}",
        }
        file = folder / f"{domain}.safetensors"
        # one entry only: safetensors writes several in varying order
        save_file(net.state_dict(), file, {"made": json.dumps(made)})
        print(file.name, hashlib.sha256(file.read_bytes()).hexdigest(), made["held_out_accuracy"])


if __name__ == "__main__":
    main()
