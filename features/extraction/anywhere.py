"""An extraction whose units are made anywhere: a share of them here, or all as tasks of an engine."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from features.extraction.options import ExtractOptions
from features.extraction.provenance import made_by
from features.extraction.rounds import FeatureTarget, Round, next_round
from features.extraction.summary import Extraction
from features.extraction.targets import empty_result, is_only_a_view, loaded_for, targets_of
from features.extraction.units import make_share, pieces_of
from features.keywords import quiet
from features.machine import device as devices
from features.machine import pixel_limit
from features.machine.on_ray import make_on_ray
from features.machine.pieces import Piece
from features.machine.shares import share_of
from features.machine.tally import Tally
from features.store.contents import contents_of
from features.store.paths import partial_of
from features.study.beginning import opened_or_begun
from features.study.drafting import open_or_draft
from features.study.saving import save_max_pixels

Words = tuple[Path, dict[str, str | None], ExtractOptions]
"""The study's folder, the backbones and the options, from which every process makes the same units."""


def extract_share(
    folder: Path, backbones: Mapping[str, str | None], options: ExtractOptions
) -> list[Extraction]:
    """Make the units of a share; nothing is locked, and no feature file is written.

    Of several views the next one alone is shared, as a file gains one view after another.

    Raises:
        InputError: As in `extract`.
    """
    share = share_of(options.share or "")
    begin(folder, backbones, options)
    targets, following = _planned((folder, dict(backbones), options), 1)
    started = time.perf_counter()
    results = [empty_result(target, 1) for target in targets]
    rounds = [round_ for round_ in following if round_ is not None]
    mine = [result for result, round_ in zip(results, following, strict=True) if round_ is not None]
    done = 0
    for left, made in make_share(rounds, share):
        rows = sum(computed + len(refused) for computed, refused in made.values())
        done += rows
        for number, (computed, refused) in made.items():
            mine[number].computed += computed
            paths = rounds[number].target.job.study.paths
            mine[number].unreadable |= {paths[row]: why for row, why in refused.items()}
        options.progress(done, done + left * rows, "")  # units have about as many rows each
    for result in results:
        result.seconds = time.perf_counter() - started
        result.notes.append(
            f"share {share} is made; the same command without --share collects all shares"
        )
    return results


def make_views_on(
    folder: Path, backbones: Mapping[str, str | None], options: ExtractOptions
) -> Iterator[ExtractOptions]:
    """Make all units on an engine, one view after another; yields the options that collect each.

    Raises:
        InputError: As in `extract`, or a unit cannot be made.
        Stopped: Units failed, three times each; the others are made.
    """
    begin(folder, backbones, options)
    views = [view for view in options.views if view != "center"]
    targets, _ = _planned((folder, dict(backbones), options), 1)
    is_there = all(target.path.is_file() for target in targets)  # with layers of its own
    for number in range(is_only_a_view(options) and is_there, len(views) + 1):
        step = replace(options, views=views[:number])
        words = (folder.absolute(), dict(backbones), quiet(replace(step, on=None)))
        make_on_ray(
            options.on or "",
            extraction_pieces,
            words,
            alike=made_by,
            threads=1,
            device=devices.several(options.device)[0].type,
            tally=Tally(folder, "extract", options.announce),
        )
        yield replace(step, on=None)


def extraction_pieces(words: Words) -> list[Piece]:
    """The units as pieces of work, each of one lane with one thread."""
    return pieces_of([r for r in _planned(words, devices.cores())[1] if r is not None])


def begin(folder: Path, backbones: Mapping[str, str | None], options: ExtractOptions) -> None:
    """Begin the study, unless it is there or another process does; it keeps a limit of pixels.

    Raises:
        InputError: The data or a backbone cannot be used, or the folder holds another study.
    """
    opened = opened_or_begun(
        folder, options.data, lambda draft: loaded_for(draft, backbones, options)
    )
    most = pixel_limit.given()
    if most is not None and most != opened.max_pixels:
        save_max_pixels(opened.folder, most)


def _planned(words: Words, workers: int) -> tuple[list[FeatureTarget], list[Round | None]]:
    """What the files should have, and the next round of each; they are read and not locked."""
    folder, backbones, options = words
    device = devices.several(options.device)[0]
    precision = devices.usable_precision(options.precision, device, options.announce)
    options = replace(options, precision=precision)
    study, _ = open_or_draft(folder, options.data)
    loaded = loaded_for(study, backbones, options)
    paths = [study.feature_path(backbone.name) for _, backbone in loaded]
    files = [(contents_of(path), contents_of(partial_of(path))) for path in paths]
    targets = targets_of(study, loaded, files, [device] * workers, options)
    return targets, [next_round(t, *each) for t, each in zip(targets, files, strict=True)]
