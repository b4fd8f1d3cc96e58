"""An export in use: images, or features, to classes with their probabilities."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from scipy.special import softmax

from features.arrays import Doubles, Floats
from features.backbone import Backbone
from features.errors import InputError, OptionError
from features.extraction import pool as pooling
from features.extraction.batches import blocks, first_of_path, windows
from features.extraction.capture import capture
from features.extraction.pipeline import ExtractJob, Pass, compute, default_batch_size
from features.extraction.pool import Pooled
from features.images import preprocess
from features.machine import device as devices
from features.study.study import Study
from probe.exported.file import About, Contents, read
from probe.exported.network import network_for, pooled_of
from probe.exported.predictions import Predictions, joined
from probe.html_table import html_table

Progress = Callable[[int, int], None]


def _no_progress(_done: int, _all: int) -> None:
    """Show nothing."""


def load_probe(
    file: Path | str,
    *,
    backbone: str | None = None,
    weights: str | None = None,
    device: str = "auto",
    announce: Callable[[str], None] = lambda _: None,
) -> ExportedProbe:
    """The probe in a file that `probe export` wrote; its network is loaded when images are predicted.

    Args:
        file: The file.
        backbone: The card of its network, where that is neither the package's nor found by its name.
        weights: The file of the network's weights, where they are neither inside nor the card's own.
        device: `auto`, `cpu`, `cuda`, `cuda:I`, `mps` or `xpu`.
        announce: Called with a sentence, as before a download.

    Raises:
        InputError: It is no export, or it changed since it was written.
    """
    path = Path(file)
    return ExportedProbe(path, read(path), backbone, weights, device, announce)


@dataclass(frozen=True, repr=False)
class ExportedProbe:
    """A linear probe with its scaler, the promise of its accuracy and what its network is."""

    path: Path
    contents: Contents
    backbone_given: str | None = None
    weights_given: str | None = None
    device: str = "auto"
    announce: Callable[[str], None] = lambda _: None

    @property
    def about(self) -> About:
        """Task, layer, promise, and everything else that the file says."""
        return self.contents.about

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes, in the order of the probabilities; none of a number."""
        return self.about.classes

    @cached_property
    def network(self) -> Backbone:
        """The network, loaded when it is first asked for.

        Raises:
            InputError: It is not here, or is another than the one that made the features.
        """
        return network_for(
            self.contents, self.path, backbone=self.backbone_given, weights=self.weights_given,
            announce=self.announce,
        )  # fmt: skip

    @cached_property
    def pooled(self) -> Pooled:
        """The layer and pooling that the probe reads."""
        pooled = pooled_of(self.about, self.network)
        if pooled.dim != len(self.contents.probe.scaler.mean):
            raise InputError(
                f"{self.path}: {self.about.layer or 'the output'} of {self.about.backbone} has "
                f"{pooled.dim} numbers here, and the probe reads {len(self.contents.probe.scaler.mean)}; "
                "give the card that it was made with as --backbone CARD.toml."
            )
        return pooled

    def predict(
        self,
        images: Any,
        *,
        batch_size: int | None = None,
        progress: Progress = _no_progress,
        resized: bool = False,
    ) -> Predictions:
        """The classes of images, with their probabilities; or their numbers, as `values`.

        Args:
            images: Paths of image files, or one; PIL images or uint8 arrays `(h, w, 3)` in RGB, one or
                several (also `(n, h, w, 3)`); or features of the layer, `(n, dim)` floats.
            batch_size: Images per forward pass; by default the network's fastest.
            progress: Called with images done and in all.
            resized: Images in memory are resized and cropped already, as the card says.

        Raises:
            InputError: They are none of these, or the network is not here.
        """
        _check_batch_size(batch_size)
        if isinstance(images, str | Path | Image.Image):
            images = [images]
        if isinstance(images, torch.Tensor):
            images = images.detach().cpu().numpy()
        if isinstance(images, np.ndarray) and images.dtype == np.uint8 and images.ndim == 3:
            images = images[None]
        if isinstance(images, np.ndarray) and images.dtype.kind == "f":
            return self._of_features(images)
        images = list(images)
        if not images:
            raise InputError("there are no images to predict; give one or more.")
        if all(isinstance(image, str | Path) for image in images):
            files = [Path(image) for image in images]
            parts = self.stream(files, batch_size=batch_size, progress=progress)
            return joined(list(parts))
        return self._of_pixels(images, batch_size or 32, progress, resized)

    def stream(
        self,
        files: Sequence[Path],
        names: Sequence[str] | None = None,
        *,
        batch_size: int | None = None,
        progress: Progress = _no_progress,
    ) -> Iterator[Predictions]:
        """The predictions of image files, some at a time and in their order; each file is read once.

        Args:
            files: The files.
            names: What each is called in the predictions; by default its path.
            batch_size: Images per forward pass; by default the network's fastest.
            progress: Called with images done and in all.

        Raises:
            InputError: As in `predict`.
        """
        _check_batch_size(batch_size)
        shown = [str(file) for file in files] if names is None else list(names)
        study = Study(Path(), "", Path(), {"path": [str(file) for file in files]}, {})
        first = first_of_path(study)
        values = np.full((len(files), len(self.contents.probe.bias) + 2), np.nan)
        refused: dict[int, str] = {}
        start = 0
        for rows, features, why in self._passes(study, batch_size):
            values[rows] = self._values(features)
            refused |= why
            stop = max([*rows.tolist(), *why], default=start - 1) + 1
            while stop < len(files) and first[stop] < stop:  # listed before
                stop += 1
            reasons = [refused.get(row, "") for row in first[start:stop].tolist()]
            yield self._made(shown[start:stop], values[first[start:stop]], reasons)
            start = stop
            progress(stop, len(files))

    def _passes(
        self, study: Study, batch_size: int | None
    ) -> Iterator[tuple[Any, Floats, dict[int, str]]]:
        """Rows, their features and what could not be read, batch by batch."""
        device = devices.resolve(self.device)
        backbone, pooled = self.network, self.pooled
        precision = self.about.precision
        if precision in ("tf32", "fp16") and device.type == "cpu":
            precision = "float32"
        precision = devices.usable_precision(precision, device, self.announce)
        lanes = devices.cores()
        job = ExtractJob(
            study, backbone, "float32", batch_size or default_batch_size(backbone, device), lanes,
            device, False, precision, threads=max(1, devices.cores() // lanes),
        )  # fmt: skip
        every = np.arange(len(study))
        todo = windows([blocks(study, every, job.batch_size)])
        for computed in compute([Pass(job, [pooled])], todo):
            for batch in computed.batches:
                features = batch.features.get(pooled.key)
                if features is None:
                    features = np.zeros((0, pooled.dim), dtype=np.float32)
                yield batch.rows, features, batch.refused

    def _values(self, features: Floats) -> Doubles:
        """Probabilities (or a number), distance and quantile of features `(n, dim)`, `(n, K + 2)`."""
        scores = self.contents.probe.scores(features).astype(np.float64)
        p = scores if self.about.is_number else softmax(scores * self.about.temperature, axis=1)
        distances = self.contents.distance(features)
        quantiles = self.contents.distance.quantile(distances)
        return np.concatenate([p, distances[:, None], quantiles[:, None]], axis=1)

    def _made(self, names: list[str], values: Doubles, reasons: Sequence[str]) -> Predictions:
        """Predictions of what `_values` gives; `reasons` has why an image is unreadable, else nothing."""
        unreadable = {place: why for place, why in enumerate(reasons) if why}
        p, distances, quantiles = values[:, :-2], values[:, -2], values[:, -1]
        said = None
        if self.about.is_number:
            said, p = p[:, 0], p[:, :0]
        return Predictions(
            names, self.classes, p, distances, quantiles, self.about.threshold, unreadable, said
        )

    def _of_features(self, x: Any) -> Predictions:
        """The predictions of features, `(n, dim)`."""
        dim = len(self.contents.probe.scaler.mean)
        if x.ndim == 1:
            x = x[None]
        if x.ndim != 2 or x.shape[1] != dim:
            raise InputError(
                f"an array of floats of shape {x.shape}: features of "
                f"{self.about.layer or 'the network'} are (n, {dim}); give images as uint8 of "
                "shape (n, height, width, 3)."
            )
        values = self._values(np.asarray(x, dtype=np.float32))
        return self._made([str(i) for i in range(len(x))], values, [])

    def _of_pixels(
        self, images: Sequence[Any], batch_size: int, progress: Progress, resized: bool
    ) -> Predictions:
        """The predictions of images in memory."""
        wanted, pooled = self.network.architecture.input, self.pooled
        device = devices.resolve(self.device)
        model = self.network.model.to(device)
        traced = self.network.architecture.traced
        made = []
        with capture(
            model, [pooled.layer], traced, lambda _, x: pooling.apply(x, pooled).float()
        ) as run:
            for start in range(0, len(images), batch_size):
                some = [_rgb(image) for image in images[start : start + batch_size]]
                pixels = np.stack(
                    [
                        np.asarray(image).transpose(2, 0, 1)
                        if resized
                        else preprocess.to_pixels(image, wanted)
                        for image in some
                    ]
                )
                x = preprocess.normalise(torch.from_numpy(pixels).to(device), wanted)
                made.append(self._values(run(x)[pooled.layer.name].cpu().numpy()))
                progress(start + len(some), len(images))
        return self._made([str(i) for i in range(len(images))], np.concatenate(made), [])

    def __repr__(self) -> str:
        """Task, result and promise in one line."""
        about = self.about
        return (
            f"<{self.path.name}: {about.task}, {about.name}, "
            f"promised {about.promised}, trained on {about.trained_on['images']} images>"
        )

    def _repr_html_(self) -> str:
        """The same as a table, for a notebook."""
        about = self.about
        return html_table(
            {
                "task": f"{about.task}: {', '.join(about.classes) or 'a number'}",
                "probe": about.name,
                "promised" if about.is_number else "promised accuracy": str(about.promised),
                "trained on": f"{about.trained_on['images']} images of {about.trained_on['source']}",
                "preprocessing": about.preprocessing,
                "weights": json.dumps(about.weights),
            }
        )


def _check_batch_size(batch_size: int | None) -> None:
    """Refuse a batch of no image."""
    if batch_size is not None and batch_size < 1:
        raise OptionError(
            f"--batch-size {batch_size}: a batch has at least one image; give 1 or more."
        )


def _rgb(image: Any) -> Image.Image:
    if isinstance(image, Image.Image):
        return image.convert("RGB")
    pixels = np.asarray(image)
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        raise InputError(
            f"an image of shape {pixels.shape} and type {pixels.dtype}: give paths, PIL images, or "
            "uint8 arrays of shape (height, width, 3) in RGB."
        )
    return Image.fromarray(pixels)
