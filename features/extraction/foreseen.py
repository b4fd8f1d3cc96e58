"""What an extraction would do, and nothing is written: rows that are there, images, bytes, seconds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from torch import nn

from features.arrays import Ints
from features.backbone import Backbone, architecture_of, choose, in_range, load
from features.cards.reading import find
from features.errors import InputError
from features.extraction.batches import rows_within, windows
from features.extraction.files import Files
from features.extraction.options import ExtractOptions
from features.extraction.pipeline import compute
from features.extraction.rounds import FeatureTarget, Round, next_round
from features.extraction.targets import job_of, layers_read, wanted_arrays
from features.machine import device as devices
from features.machine.spent import alone
from features.store.contents import FileContents, contents_of
from features.store.few_rows import bytes_on_disk
from features.store.paths import partial_of
from features.store.seconds import read_seconds
from features.store.size import bytes_to_be
from features.study.study import Study
from features.weights import here


@dataclass(frozen=True)
class ForeseenFeatures:
    """What an extraction would do for one backbone."""

    backbone: str
    rows: int
    """The rows that are asked for."""
    dims: Mapping[str, int]
    """The data sets of the centre crop that its file would have in the end, with the numbers of a row."""
    taking_part: Ints
    """The rows of images.csv that it would have in the end."""
    kept: int
    """Those asked for of which every data set is there."""
    images: int = 0
    """Images to compute, those of several passes counted several times."""
    bytes: int = 0
    """Bytes that its file would grow by."""
    seconds: float | None = 0.0
    """About how long that takes here where nothing else runs; None where nothing was measured."""
    stale: str = ""
    """Why the file that is there would be refused, in a sentence."""


def foresee(
    study: Study, backbones: Mapping[str, str | None], options: ExtractOptions, *, measure: bool
) -> list[ForeseenFeatures]:
    """What `extract` would do for each of `backbones` with these options.

    Args:
        study: The study, or a draft of it.
        backbones: Each backbone with its weights, as in ExtractSeveral.
        options: Everything else.
        measure: Whether to compute a few batches where nothing tells how long it takes.

    Raises:
        InputError: A card, a layer, weights that are here or an option cannot be used.
    """
    device = devices.several(options.device)[0]
    precision = devices.usable_precision(options.precision, device, lambda _: None)
    options = replace(options, precision=precision)
    return [_foreseen(study, name, file, options, measure) for name, file in backbones.items()]


def _foreseen(
    study: Study, name: str, weights: str | None, options: ExtractOptions, measure: bool
) -> ForeseenFeatures:
    backbone, is_here = _loaded(study, name, weights, options)
    path = study.feature_path(backbone.name)
    files = (contents_of(path), contents_of(partial_of(path)))
    workers = [devices.several(options.device)[0]] * (options.workers or 1)
    target = FeatureTarget(
        job_of(study, backbone, files, workers, options),
        wanted_arrays(backbone, files, options),
        rows_within(study, options.limit),
        options.compress,
        (name, weights, options.seed, options.geometry),
    )
    held = files[0].poolings if files[0] else {}
    stored = [key for key, (_, _, view) in held.items() if view == "center"]
    dims = _dims(study, backbone.name, stored)
    dims |= {p.key: p.dim for p in target.wanted if p.view == "center"}
    done = np.flatnonzero(files[0].status) if files[0] else np.zeros(0, dtype=np.int64)
    after = ForeseenFeatures(
        backbone.name,
        len(target.rows),
        dims=dims,
        taking_part=np.union1d(done, target.rows),
        kept=_kept(target, files),
    )
    try:
        round_ = next_round(target, *files) if is_here or files == (None, None) else None
    except InputError as error:
        return replace(after, kept=0, stale=str(error))
    if round_ is None:
        return replace(after, kept=after.rows)
    images = _images(round_, target, files[0])
    seconds = _seconds(study, backbone.name, images)
    if seconds is None and measure and is_here:
        seconds = _first_batches(round_, images)
    size = _bytes(target, round_, files)
    return replace(after, images=images, bytes=size, seconds=seconds)


def _dims(study: Study, backbone: str, keys: Sequence[str]) -> dict[str, int]:
    """The numbers of a row in data sets that are there."""
    if not keys:
        return {}
    with study.features(backbone) as file:
        return {key: int(file.about(key)["dim"]) for key in keys}


def _loaded(
    study: Study, name: str, weights: str | None, options: ExtractOptions
) -> tuple[Backbone, bool]:
    """The backbone, and whether its weights are here; without them it is only its architecture."""
    card = find(name)
    if weights is not None or here(card) or (not card.weights and _has_none(card.network)):
        made = load(
            card,
            weights,
            options.seed,
            options.geometry,
            layers=partial(layers_read, study, options),
        )
        return in_range(made, options.range), True
    architecture = architecture_of(card)
    if not architecture.parameters:
        return load(card, None, options.seed, options.geometry), True
    choose(architecture, tuple(options.layers))
    if options.geometry is None:
        # Its layers tell all that is asked; a network of these sizes is not worth being drawn.
        return Backbone(card.name, card.domain, architecture, nn.Module(), None, 0), False
    made = load(card, "random", 0, options.geometry)
    name = made.name.replace("@random", "", 1)
    return replace(made, name=name, domain=card.domain), False


def _has_none(network: str) -> bool:
    """Whether a network brings its weights itself."""
    return network.startswith("onnx:")


def _kept(target: FeatureTarget, files: Files) -> int:
    """How many of the rows asked for are there with every data set."""
    finished, partial_ = files
    contents = finished or partial_
    if contents is None or any(p.key not in contents.poolings for p in target.wanted):
        return 0
    return int((contents.status[target.rows] != 0).sum())


def _images(round_: Round, target: FeatureTarget, finished: FileContents | None) -> int:
    """Images to compute in this pass and in those that follow it, for further views."""
    here_now = sum(len(block) for block in round_.todo)
    views = {p.view for p in round_.wanted}
    have = set(finished.poolings) if finished else set()
    others = {p.view for p in target.wanted if p.key not in have} - views
    return here_now + len(others) * len(round_.aim)


def _bytes(target: FeatureTarget, round_: Round, files: Files) -> int:
    """The bytes of the file in the end, less those that are on the disk now."""
    finished, partial_ = files
    n, width = len(target.job.study), np.dtype(target.job.dtype).itemsize
    dims = {p.key: p.dim for p in (*target.wanted, *round_.wanted)}
    have = set(finished.poolings) if finished else set()
    if finished is None or round_.begins == "reopened":
        done = np.flatnonzero(finished.status) if finished else np.zeros(0, dtype=np.int64)
        rows = np.union1d(done, round_.aim)
        there = target.path if finished else partial_of(target.path)
        held = bytes_on_disk(there) if finished or partial_ else 0
        return max(0, bytes_to_be(n, rows, list(dims.values()), width) - held)
    new = [dim for key, dim in dims.items() if key not in have]
    return bytes_to_be(n, round_.aim, new, width) - bytes_to_be(n, round_.aim, [], width)


def _seconds(study: Study, backbone: str, images: int) -> float | None:
    """By what was measured in this study with the same network, trained or not; None if nothing was."""
    own = study.feature_path(backbone)
    network = own.stem.partition("@")[0]
    every = [t for path in study.finished_files() for t in read_seconds(path).values()]
    for path in (own, *(p for p in study.finished_files() if p.stem.partition("@")[0] == network)):
        timings = list(read_seconds(path).values())
        if timings:
            seconds = alone(timings[-1].spent, (timing.spent for timing in every))
            return seconds / timings[-1].images / max(1, len(timings[-1].together)) * images
    return None


def _first_batches(round_: Round, images: int) -> float | None:
    """By computing a few batches now; None where none of their images can be read."""
    lanes = round_.target.job.lanes
    some = windows([round_.todo])[: lanes + 1]
    computed = list(compute([round_.reader], some))
    if not computed or not any(batch.rows.size for batch in computed[-1].batches):
        return None
    each = sum(computed[-1].seconds.values()) / lanes / len(some[-1][0][1])
    return each * images
