"""The images of a study before normalisation: decoded once and kept where memory allows, else each time."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from math import prod

import numpy as np
import torch
from torch import Tensor

from features.arrays import Bools, Ints
from features.cards.card import Input
from features.errors import InputError
from features.extraction.batches import first_of_path
from features.images import preprocess
from features.images.decode import Unreadable, decode, read_bytes
from features.machine.device import cores
from features.study.study import Study

_MEMORY_SHARE = 0.4
"""The share of the free memory that decoded images may take."""


class ImageCache:
    """Images resized and centre-cropped to `wanted.size`, by row of images.csv."""

    def __init__(
        self, study: Study, wanted: Input, workers: int | None = None, keep: bool = True
    ) -> None:
        """Nothing is decoded yet; with `keep`, decoded images stay in memory if all of them fit."""
        self.study, self.wanted = study, wanted
        self.workers = workers or cores()
        self.first = first_of_path(study)
        needed = len(np.unique(self.first)) * prod(wanted.shape) * self._bytes_of_a_number()
        self.kept: dict[int, Tensor] | None = {} if keep and needed <= free_memory() else None

    def readable(self, rows: Ints) -> Bools:
        """Which of `rows` decode, `(len(rows),)`; images decoded for this are kept."""
        images = np.unique(self.first[rows])
        with ThreadPoolExecutor(self.workers) as threads:
            fine = dict(zip(images.tolist(), threads.map(self._try, images.tolist()), strict=True))
        return np.array([fine[int(row)] for row in self.first[rows]], dtype=np.bool_)

    def __getitem__(self, rows: Ints) -> Tensor:
        """`(len(rows), channels, h, w)` as `to_pixels` gives them; float32 if one of them is.

        Raises:
            InputError: A file does not decode.
        """
        images = self.first[rows].tolist()
        missing = [i for i in dict.fromkeys(images) if self.kept is None or i not in self.kept]
        if not missing:
            assert self.kept is not None
            return _stacked([self.kept[i] for i in images])
        with ThreadPoolExecutor(self.workers) as threads:
            decoded = dict(zip(missing, threads.map(self._decoded, missing), strict=True))
        if self.kept is not None:
            self.kept |= decoded
            decoded = self.kept
        return _stacked([decoded[i] for i in images])

    def _bytes_of_a_number(self) -> int:
        """As in the first image, for all of a study are of a kind; 1 if it cannot be read."""
        try:
            return self._decode(0).element_size()
        except Unreadable:
            return 1

    def _try(self, image: int) -> bool:
        try:
            decoded = self._decode(image)
        except Unreadable:
            return False
        if self.kept is not None:
            self.kept[image] = decoded
        return True

    def _decoded(self, image: int) -> Tensor:
        try:
            return self._decode(image)
        except Unreadable as error:
            raise InputError(
                f"{self.study.root / self.study.paths[image]}: cannot be read any more, {error}; put "
                "it back as it was and run this again, which goes on after the last finished epoch."
            ) from error

    def _decode(self, image: int) -> Tensor:
        path = self.study.root / self.study.paths[image]
        picture = decode(read_bytes(path), preprocess.reading(self.wanted))
        pixels = preprocess.to_pixels(picture, self.wanted)
        return torch.from_numpy(np.ascontiguousarray(pixels))


def _stacked(images: list[Tensor]) -> Tensor:
    if len({image.dtype for image in images}) > 1:  # some have more than eight bits
        images = [image.float() for image in images]
    return torch.stack(images)


def free_memory() -> float:
    """The bytes that decoded images may take."""
    return _MEMORY_SHARE * os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
