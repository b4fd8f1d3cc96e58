"""Images to a feature file: one forward pass for all layers, resumed where it was interrupted."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path

from features.backbone import Backbone, choose
from features.errors import InputError
from features.extraction.anywhere import extract_share, make_views_on
from features.extraction.files import files_on_disk, lock_files
from features.extraction.first_look import rows_in_time
from features.extraction.nearly_black import nearly_black
from features.extraction.options import ExtractOne, ExtractOptions, ExtractSeveral
from features.extraction.rounds import FeatureTarget
from features.extraction.run import ExtractRun, carry_out, check_not_begun
from features.extraction.summary import Extraction
from features.extraction.targets import empty_result, loaded_for, targets_of
from features.extraction.update import updated
from features.keywords import taken_from
from features.machine import device as devices
from features.machine import pixel_limit
from features.store.contents import FileContents, contents_of
from features.store.featurefile import PENDING
from features.store.paths import partial_of
from features.study.alike import unlike_files
from features.study.drafting import open_or_draft
from features.study.saving import save_max_pixels


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
    if options.share is not None:
        return extract_share(Path(study), backbones, options)
    if options.on is not None:
        for step in make_views_on(Path(study), backbones, options):
            results = extract_with(study, backbones, step)
        return results
    available = devices.several(options.device)
    precision = devices.usable_precision(options.precision, available[0], options.announce)
    options = replace(options, precision=precision)
    opened, manifest = open_or_draft(Path(study), options.data)
    most = pixel_limit.given()
    if manifest is None and most is not None and most != opened.max_pixels:
        save_max_pixels(opened.folder, most)
    loaded = loaded_for(opened, backbones, options)
    paths = [opened.feature_path(backbone.name) for _, backbone in loaded]
    if options.update and manifest is None:
        for (_, backbone), path in zip(loaded, paths, strict=True):
            _check_layers(backbone, path)
        before = len(opened)
        opened = updated(opened, options.data)
        options.announce(f"{opened.folder}: {len(opened) - before} rows are new")
    count = options.workers or len(available)
    workers = [available[i % len(available)] for i in range(count)]
    with ExitStack() as locks:
        if manifest is None:
            lock_files(locks, paths)
        else:
            check_not_begun(opened)
        files = [files_on_disk(opened, path) for path in paths]
        targets = targets_of(opened, loaded, files, workers, options)
        if options.quick and options.limit is None:
            drawn = rows_in_time(opened, targets, options.announce, options.clock)
            targets = [replace(t, rows=drawn) for t in targets]
        results = [empty_result(target, len(workers)) for target in targets]
        if manifest is not None:
            for result in results:
                result.left_out = dict(manifest.left_out)
            dark = nearly_black(opened, (backbone for _, backbone in loaded))
            for sentence in (*manifest.notes, *opened.no_tasks.values(), *dark):
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


def _check_layers(backbone: Backbone, path: Path) -> None:
    """Refuse a file with layers that the network lacks, before any file gains a row."""
    for contents in (contents_of(path), contents_of(partial_of(path))):
        if contents is not None:
            stored = dict.fromkeys(layer for layer, _, _ in contents.poolings.values())
            choose(backbone.architecture, tuple(stored))


def _summarise(target: FeatureTarget, result: Extraction, contents: FileContents) -> None:
    paths = target.job.study.paths
    result.unreadable = {paths[row]: why for row, why in contents.reasons.items()}
    result.pending = int((contents.status == PENDING).sum())
    assert not (contents.status[target.rows] == PENDING).any()
