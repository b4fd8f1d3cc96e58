"""What the feature files of an extraction should have in the end, and the empty results of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

import torch

from features.backbone import Architecture, Backbone, Layer, choose, in_range, load
from features.errors import InputError
from features.extraction import pool as pooling
from features.extraction.batches import rows_within
from features.extraction.files import Files
from features.extraction.first_look import POOLS, stage_names
from features.extraction.options import ExtractOptions
from features.extraction.pipeline import ExtractJob, default_batch_size
from features.extraction.provenance import batch_size_of, seen_in_training
from features.extraction.rounds import FeatureTarget
from features.extraction.summary import Extraction
from features.extraction.units import batch_size_of_parts
from features.machine import device as devices
from features.store.contents import FileContents, contents_of
from features.store.paths import partial_of, parts_of
from features.study.study import Study

LoadArguments = tuple[str, str | None, int, str | None]
"""Name, weights, seed and geometry, as `backbone.load` takes them."""


def loaded_for(
    study: Study, backbones: Mapping[str, str | None], options: ExtractOptions
) -> list[tuple[LoadArguments, Backbone]]:
    """Every backbone, loaded, with the arguments it was loaded with.

    Raises:
        InputError: One cannot be loaded, lacks a layer, or would be written where another is.
    """
    read = partial(layers_read, study, options)
    loaded = []
    for name, file in backbones.items():
        each = (name, file, options.seed, options.geometry)
        backbone = load(*each, announce=options.announce, layers=read)
        loaded.append((each, in_range(backbone, options.range)))
    _check_paths([study.feature_path(backbone.name) for _, backbone in loaded])
    return loaded


def _check_paths(paths: Sequence[Path]) -> None:
    for path in paths:
        if paths.count(path) > 1:
            raise InputError(f"{path}: two of the backbones would be written there; ask for one.")


def targets_of(
    study: Study,
    loaded: Sequence[tuple[LoadArguments, Backbone]],
    files: Sequence[Files],
    workers: Sequence[torch.device],
    options: ExtractOptions,
) -> list[FeatureTarget]:
    """What the file of each backbone should have in the end."""
    rows = rows_within(study, options.limit)
    targets = []
    for (each, backbone), existing in zip(loaded, files, strict=True):
        job = job_of(study, backbone, existing, workers, options)
        wanted = wanted_arrays(backbone, existing, options)
        targets.append(FeatureTarget(job, wanted, rows, options.compress, each))
    return targets


def job_of(
    study: Study,
    backbone: Backbone,
    files: Files,
    workers: Sequence[torch.device],
    options: ExtractOptions,
) -> ExtractJob:
    """The job that computes the features, in batches of the size in the existing file, on all cores.

    Raises:
        InputError: Shares have computed parts in batches of another size than is asked for.
    """
    lanes = options.lanes or max(1, devices.cores() // len(workers))
    device = workers[0]
    finished, partial = files
    of_parts = batch_size_of_parts(path := study.feature_path(backbone.name))
    if options.batch_size and of_parts not in (None, options.batch_size):
        raise InputError(
            f"--batch-size {options.batch_size}: the parts in {parts_of(path)} are computed in batches of "
            f"{of_parts}; give that, or remove the folder."
        )
    return ExtractJob(
        study,
        backbone,
        options.dtype,
        options.batch_size
        or batch_size_of(partial or finished)
        or of_parts
        or default_batch_size(backbone, device),
        lanes,
        device,
        options.strict,
        options.precision,
        threads=max(1, devices.cores() // (lanes * len(workers))),
    )


def layers_read(
    study: Study, options: ExtractOptions, name: str, architecture: Architecture
) -> tuple[Layer, ...]:
    """The layers that will be read of the backbone called `name`, in depth order."""
    stored = None
    if is_only_a_view(options):
        path = study.feature_path(name)
        stored = _stored(architecture, contents_of(path) or contents_of(partial_of(path)))
    names = _names(architecture, options) if stored is None else [layer.name for layer, _ in stored]
    return choose(architecture, tuple(names))


def _names(architecture: Architecture, options: ExtractOptions) -> Sequence[str]:
    """The names of the layers asked for; none stand for the default."""
    return stage_names(architecture) if options.quick and not options.layers else options.layers


def wanted_arrays(
    backbone: Backbone, files: Files, options: ExtractOptions
) -> list[pooling.Pooled]:
    """The data sets to write; if only views are asked for, at the layers and poolings of the file."""
    views = list(dict.fromkeys(("center", *options.views)))
    if is_only_a_view(options):
        stored = _stored(backbone.architecture, files[0] or files[1])
        if stored is not None:
            return [pooling.pooled(layer, pool, view) for view in views for layer, pool in stored]
    pools = tuple(options.pool or (POOLS if options.quick else ("auto", "avg")))
    names = _names(backbone.architecture, options)
    return pooling.plan(backbone.layers(tuple(names)), pools, views)


def is_only_a_view(options: ExtractOptions) -> bool:
    """Whether further views are asked for, and neither layers nor poolings."""
    return bool(set(options.views) - {"center"}) and not options.layers and not options.pool


def _stored(
    architecture: Architecture, contents: FileContents | None
) -> list[tuple[Layer, str]] | None:
    """Layers and poolings of the centre crop in a file; None if the network lacks one of the layers."""
    if contents is None:
        return None
    centre = [(layer, pool) for layer, pool, view in contents.poolings.values() if view == "center"]
    with suppress(InputError):
        return [(choose(architecture, (layer,))[0], pool) for layer, pool in centre]
    return None


def empty_result(target: FeatureTarget, workers: int) -> Extraction:
    """The result before the run, with what is known by then."""
    job = target.job
    return Extraction(
        backbone=job.backbone.name,
        file=target.path,
        layers=[p.key for p in target.wanted],
        rows=len(job.study),
        lanes=job.lanes,
        workers=workers,
        batch_size=job.batch_size,
        precision=job.precision,
        notes=_notes(job.backbone, job.study.source),
    )


def _notes(backbone: Backbone, source: str) -> list[str]:
    notes = list(backbone.notes)
    if backbone.unused:
        notes.append(
            f"{len(backbone.unused)} tensors in the weights file are not used by the network "
            f"({', '.join(backbone.unused[:3])}{', ...' if len(backbone.unused) > 3 else ''})"
        )
    if backbone.weights is not None and not backbone.weights.verified:
        notes.append(
            f"weights {backbone.weights.source} are unverified: no checksum is published for "
            f"them; sha256 {backbone.weights.sha256[:12]}... is recorded"
        )
    for name in seen_in_training(backbone, source):
        notes.append(
            f"the weights of {backbone.name} were trained on {name}, which seems to be this study's data: "
            "the network has seen the test images, so its accuracy is too high"
        )
    return notes
