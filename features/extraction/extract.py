"""Images to a feature file: one forward pass for all layers, resumed where it was interrupted."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from features.backbone import Architecture, Backbone, Layer, choose, in_range, load
from features.errors import InputError
from features.extraction import pool as pooling
from features.extraction.batches import rows_within
from features.extraction.files import Files, files_on_disk, lock_files
from features.extraction.first_look import POOLS, rows_in_time, stage_names
from features.extraction.options import ExtractOne, ExtractOptions, ExtractSeveral
from features.extraction.pipeline import ExtractJob, default_batch_size
from features.extraction.provenance import batch_size_of, seen_in_training
from features.extraction.rounds import FeatureTarget, next_round
from features.extraction.run import ExtractRun, carry_out, check_not_begun
from features.extraction.summary import Extraction
from features.extraction.units import make_share
from features.extraction.update import updated
from features.keywords import taken_from
from features.machine import device as devices
from features.machine import pixel_limit
from features.machine.shares import Share, share_of
from features.store.contents import FileContents, contents_of
from features.store.featurefile import PENDING
from features.store.paths import partial_of
from features.study.alike import unlike_files
from features.study.beginning import begun_once
from features.study.drafting import open_or_draft
from features.study.saving import save_max_pixels
from features.study.study import Study


@taken_from(ExtractOne, older={"said": "planned"})
def extract(options: ExtractOne) -> Extraction:
    """Write the features of one backbone into the study, all layers in one forward pass.

    Existing features are kept: an interrupted run is continued, further layers are added, and rows that
    `limit` left out are filled in.

    Raises:
        InputError: An argument cannot be used; then no new study is begun.
    """
    [extraction] = extract_with(options.study, {options.backbone: options.weights}, options)
    return extraction


@taken_from(ExtractSeveral, older={"said": "planned"})
def extract_together(options: ExtractSeveral) -> list[Extraction]:
    """Write the features of several backbones into the study, decoding each image once for all.

    Raises:
        InputError: As in `extract`.
    """
    return extract_with(options.study, options.backbones, options)


def extract_with(
    study: Path | str, backbones: Mapping[str, str | None], options: ExtractOptions
) -> list[Extraction]:
    """Write the features of several backbones into the study.

    Args:
        study: The study's folder.
        backbones: Each backbone with its weights, as in ExtractSeveral.
        options: Everything else.

    Raises:
        InputError: As in `extract`.
    """
    available = devices.several(options.device)
    precision = devices.usable_precision(options.precision, available[0], options.announce)
    options = replace(options, precision=precision)
    opened, manifest = open_or_draft(Path(study), options.data)
    if options.share is not None and manifest is not None:
        opened, manifest = begun_once(opened, options.data), None
    most = pixel_limit.given()
    if manifest is None and most is not None and most != opened.max_pixels:
        save_max_pixels(opened.folder, most)
    arguments = [(name, file, options.seed, options.geometry) for name, file in backbones.items()]
    read = partial(layers_read, opened, options)
    loaded = [
        in_range(load(*each, announce=options.announce, layers=read), options.range)
        for each in arguments
    ]
    paths = [opened.feature_path(backbone.name) for backbone in loaded]
    _check_paths(paths)
    if options.update and manifest is None:
        for backbone, path in zip(loaded, paths, strict=True):
            _check_layers(backbone, path)
        before = len(opened)
        opened = updated(opened, options.data)
        options.announce(f"{opened.folder}: {len(opened) - before} rows are new")
    count = options.workers or len(available)
    workers = [available[i % len(available)] for i in range(count)]
    if options.share is not None:
        unlocked = [(contents_of(path), contents_of(partial_of(path))) for path in paths]
        targets = _targets(opened, loaded, arguments, unlocked, workers, options)
        return _extract_share(targets, share_of(options.share), options)
    with ExitStack() as locks:
        if manifest is None:
            lock_files(locks, paths)
        else:
            check_not_begun(opened)
        files = [files_on_disk(opened, path) for path in paths]
        targets = _targets(opened, loaded, arguments, files, workers, options)
        if options.quick and options.limit is None:
            drawn = rows_in_time(opened, targets, options.announce, options.clock)
            targets = [replace(t, rows=drawn) for t in targets]
        results = [_empty_result(target, len(workers)) for target in targets]
        if manifest is not None:
            for result in results:
                result.left_out = dict(manifest.left_out)
            for sentence in (*manifest.notes, *opened.no_tasks.values()):
                options.announce(sentence)
        started = time.perf_counter()
        run = ExtractRun(opened, manifest is None, targets, results, workers, options, locks)
        finished = carry_out(run, files)
    for target, result, contents in zip(targets, results, finished, strict=True):
        result.seconds = time.perf_counter() - started
        _summarise(target, result, contents)
    with suppress(InputError):  # a damaged file of another backbone does not concern this run
        if (unlike := unlike_files(opened, dict(zip(paths, finished, strict=True)))) is not None:
            results[-1].notes.append(unlike)
    return results


def _targets(
    study: Study,
    loaded: Sequence[Backbone],
    arguments: Sequence[tuple[str, str | None, int, str | None]],
    files: Sequence[Files],
    workers: Sequence[torch.device],
    options: ExtractOptions,
) -> list[FeatureTarget]:
    """What the file of each backbone should have in the end."""
    rows = rows_within(study, options.limit)
    targets = []
    for each, backbone, existing in zip(arguments, loaded, files, strict=True):
        job = job_of(study, backbone, existing, workers, options)
        wanted = wanted_arrays(backbone, existing, options)
        targets.append(FeatureTarget(job, wanted, rows, options.compress, each))
    return targets


def _extract_share(
    targets: Sequence[FeatureTarget], share: Share, options: ExtractOptions
) -> list[Extraction]:
    """Make the units of a share; nothing is locked, and no feature file is written.

    Of several views the next one alone is shared, as a file gains one view after another.
    """
    started = time.perf_counter()
    results = [_empty_result(target, 1) for target in targets]
    contents = [(contents_of(t.path), contents_of(t.partial)) for t in targets]
    following = [next_round(t, *files) for t, files in zip(targets, contents, strict=True)]
    rounds = [round_ for round_ in following if round_ is not None]
    mine = [result for result, round_ in zip(results, following, strict=True) if round_ is not None]
    total = done = 0
    for left, made in make_share(rounds, share):
        rows = sum(computed + len(refused) for computed, refused in made.values())
        done += rows
        total = done + left * rows  # units have about as many rows each
        for number, (computed, refused) in made.items():
            mine[number].computed += computed
            paths = rounds[number].target.job.study.paths
            mine[number].unreadable |= {paths[row]: why for row, why in refused.items()}
        options.progress(done, total, "")
    for result in results:
        result.seconds = time.perf_counter() - started
        result.notes.append(
            f"share {share} is made; the same command without --share collects all shares"
        )
    return results


def _check_paths(paths: Sequence[Path]) -> None:
    for path in paths:
        if paths.count(path) > 1:
            raise InputError(f"{path}: two of the backbones would be written there; ask for one.")


def _check_layers(backbone: Backbone, path: Path) -> None:
    """Refuse a file with layers that the network lacks, before any file gains a row."""
    for contents in (contents_of(path), contents_of(partial_of(path))):
        if contents is not None:
            stored = dict.fromkeys(layer for layer, _, _ in contents.poolings.values())
            choose(backbone.architecture, tuple(stored))


def job_of(
    study: Study,
    backbone: Backbone,
    files: Files,
    workers: Sequence[torch.device],
    options: ExtractOptions,
) -> ExtractJob:
    """The job that computes the features, in batches of the size in the existing file, on all cores."""
    lanes = options.lanes or max(1, devices.cores() // len(workers))
    device = workers[0]
    finished, partial = files
    return ExtractJob(
        study,
        backbone,
        options.dtype,
        options.batch_size
        or batch_size_of(partial or finished)
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
    if _is_only_a_view(options):
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
    if _is_only_a_view(options):
        stored = _stored(backbone.architecture, files[0] or files[1])
        if stored is not None:
            return [pooling.pooled(layer, pool, view) for view in views for layer, pool in stored]
    pools = tuple(options.pool or (POOLS if options.quick else ("auto", "avg")))
    names = _names(backbone.architecture, options)
    return pooling.plan(backbone.layers(tuple(names)), pools, views)


def _is_only_a_view(options: ExtractOptions) -> bool:
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


def _empty_result(target: FeatureTarget, workers: int) -> Extraction:
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


def _summarise(target: FeatureTarget, result: Extraction, contents: FileContents) -> None:
    paths = target.job.study.paths
    result.unreadable = {paths[row]: why for row, why in contents.reasons.items()}
    result.pending = int((contents.status == PENDING).sum())
    assert not (contents.status[target.rows] == PENDING).any()
