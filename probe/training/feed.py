"""The inputs of a network in training and at test: images under their views, or kept features."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from features.arrays import Floats, Ints
from features.cards.card import Input
from features.images.views import canvas_of, inputs
from features.machine.device import sent
from features.study.study import Study
from probe.training.augment import augment
from probe.training.image_cache import ImageCache
from probe.training.recipes import Recipe


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

        Where training crops, the centre view is the middle of the same canvas, else the card's own.
        """
        self.wanted, self.recipe, self.device = wanted, recipe, device
        canvas = canvas_of(wanted)
        self.images = ImageCache(study, canvas if recipe.crop else wanted, workers)
        self.canvases = (
            self.images if recipe.crop else ImageCache(study, canvas, workers, keep=False)
        )

    @property
    def ahead(self) -> bool:
        """Whether it pays to prepare the next batch while this one is computed."""
        return self.device.type != "cpu" or self.images.kept is None

    def training(self, rows: Ints, rng: np.random.Generator) -> Tensor:
        """Inputs of `rows` as the recipe changes them, `(len(rows), channels, h, w)` on the device."""
        return augment(self.images[rows], self.wanted, self.recipe, rng, self.device)

    def views(self, rows: Ints, view: str) -> Iterator[Tensor]:
        """The inputs of `rows` under every crop of `view`, one after the other."""
        pixels = (self.canvases if view == "10crop" else self.images)[rows]
        yield from inputs(sent(pixels, self.device), view, self.wanted)


class KeptFeed:
    """Features at the cut, in the place of images."""

    ahead = False

    def __init__(self, features: Floats, device: torch.device) -> None:
        """`features` are `(n, ...)`, rows as images.csv."""
        self.features, self.device = features, device

    def training(self, rows: Ints, rng: np.random.Generator) -> Tensor:
        """The features of `rows`; nothing about them is random."""
        return sent(torch.from_numpy(self.features[rows]), self.device)

    def views(self, rows: Ints, view: str) -> Iterator[Tensor]:
        """The features of `rows`, which are those of the centre."""
        assert view == "center"
        yield sent(torch.from_numpy(self.features[rows]), self.device)
