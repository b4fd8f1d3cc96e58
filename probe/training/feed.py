"""What a network is fed in training and at test: images under their views, or kept features."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from features.cards.card import Input
from features.images.views import canvas_of, inputs
from features.study.study import Study
from probe.training.augment import augment
from probe.training.image_cache import Pictures
from probe.training.recipes import Recipe

Rows = npt.NDArray[np.int64]


class ImageFeed:
    """Images of a study, prepared as a card wants them."""

    def __init__(
        self,
        study: Study,
        wanted: Input,
        recipe: Recipe,
        device: torch.device,
        workers: int | None = None,
    ) -> None:
        """Nothing is decoded yet.

        Where training crops, the centre is the middle of the same canvas; else it is the card's own.
        """
        self.wanted, self.recipe, self.device = wanted, recipe, device
        canvas = canvas_of(wanted)
        self.pictures = Pictures(study, canvas if recipe.crop else wanted, workers)
        self.canvas = self.pictures if recipe.crop else Pictures(study, canvas, workers, keep=False)

    @property
    def ahead(self) -> bool:
        """Whether it pays to prepare the next batch while this one is computed."""
        return self.device.type == "cuda" or self.pictures.kept is None

    def training(self, rows: Rows, chance: np.random.Generator) -> Tensor:
        """Inputs of `rows` as the recipe changes them, `(len(rows), 3, h, w)` on the device."""
        return augment(self.pictures[rows], self.wanted, self.recipe, chance, self.device)

    def views(self, rows: Rows, view: str) -> Iterator[Tensor]:
        """The inputs of `rows` under every crop of `view`, one after the other."""
        pixels = (self.canvas if view == "10crop" else self.pictures)[rows]
        yield from inputs(pixels.to(self.device), view, self.wanted)


class KeptFeed:
    """Features at the cut, in the place of images."""

    ahead = False

    def __init__(self, features: npt.NDArray[np.float32], device: torch.device) -> None:
        """`features` are `(n, ...)`, rows as images.csv."""
        self.features, self.device = features, device

    def training(self, rows: Rows, chance: np.random.Generator) -> Tensor:
        """The features of `rows`; nothing about them is random."""
        return torch.from_numpy(self.features[rows]).to(self.device)

    def views(self, rows: Rows, view: str) -> Iterator[Tensor]:
        """The features of `rows`, which are those of the centre."""
        assert view == "center"
        yield torch.from_numpy(self.features[rows]).to(self.device)
