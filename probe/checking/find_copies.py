"""Looking for copies among the images of a study: the same bytes, or the same picture saved anew."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from features.arrays import Doubles, Floats, Images, Ints
from features.errors import InputError, OptionError
from features.images.bit_depth import Range
from features.images.thumbnails import SIDE, thumbnails
from features.machine.device import thread_per_core
from features.machine.locks import locked
from features.study import copies
from features.study.checked_data import note_checked
from features.study.copies import Copies
from features.study.drafting import open_or_draft
from features.study.saving import begin, save_copies, save_images
from features.study.study import Study, has_study
from probe.checking.candidates import Cells, in_cells, most_similar
from probe.checking.check import Check, cautions, check, without_copies
from probe.checking.likeness import alikeness
from probe.checking.screening import may_be_alike, may_be_alike_closer
from probe.counts import count
from probe.folds.given import own_folds

ALIKE = 0.85
"""The likeness at which two images count as one picture. Of versions of an image 99 in 100 lie above
0.95; the most alike of 188,191 pairs of photographs of people (LFW, aligned) at 0.77."""
Turn = Callable[[npt.NDArray[Any]], npt.NDArray[Any]]
_COARSE = 16
_NEIGHBOURS = 10
_SIMILAR = 0.4
_NEIGHBOURS_TURNED = 3
_SIMILAR_TURNED = 0.7
"""A turned copy is seldom cropped as well, so that fewer candidates will do: they cost the most here."""
_BATCH = 4096
_BLOCK = 512
_FLAT = 2.0  # grey levels: an image with less spread shows nothing that could be compared


def find(study: Study, progress: Callable[[int, int], None] = lambda _done, _all: None) -> Copies:
    """The copies among all images of the study.

    Exact copies have the same bytes, or are rows of the same path. For near copies, each image's ten
    nearest by a 16 x 16 grey picture are candidates (of more than 20,000 images, the nearest in cells of
    similar ones: probe/checking/candidates.py), and every candidate is laid over the image and
    compared in detail (probe/checking/likeness.py). That tells re-encoded, resized and slightly cropped
    versions of an image from two photographs of one person. The same is done with every image mirrored
    and turned.

    Args:
        study: The study.
        progress: Is called with the number of files read, and of all files.
    """
    return _copies_of(study, progress)[0]


def _copies_of(
    study: Study, progress: Callable[[int, int], None]
) -> tuple[Copies, tuple[str, ...]]:
    """The copies, and in sentences which pictures have values that nothing tells the range of."""
    first: dict[str, int] = {}
    rows_of: defaultdict[str, list[int]] = defaultdict(list)
    for row, path in enumerate(study.paths):
        first.setdefault(path, row)
        rows_of[path].append(row)
    seen = thumbnails([study.root / path for path in first], progress)
    rows = list(first.values())
    by_digest: defaultdict[bytes, list[int]] = defaultdict(list)
    for place, digest in enumerate(seen.digest):
        if place not in seen.unreadable:
            by_digest[digest].append(place)
    same = [[rows[place] for place in places] for places in by_digest.values()]
    exact = copies.joined([*same, *rows_of.values()])
    originals = np.array([places[0] for places in by_digest.values()], dtype=np.int64)
    near = [(rows[a], rows[b], alike) for a, b, alike in _near(seen.grey, np.sort(originals))]
    unreadable = {
        row: seen.unreadable[place]
        for place, path in enumerate(first)
        if place in seen.unreadable
        for row in rows_of[path]
    }
    deep = {path: seen.deep[place] for place, path in enumerate(first) if place in seen.deep}
    place_of = {row: place for place, row in enumerate(rows)}
    digests = {
        row: seen.digest[place_of[row]].hex()
        for row in copies.sampled(study.paths)
        if seen.digest[place_of[row]]
    }
    found = Copies(exact, tuple(near), unreadable, digests=digests)
    return found, _range_sentence(deep)


def _range_sentence(deep: dict[str, Range]) -> tuple[str, ...]:
    if not deep:
        return ()
    low, high = min(low for low, _ in deep.values()), max(high for _, high in deep.values())
    return (
        f"{count(len(deep), 'picture')} of more than eight bits (the first: {next(iter(deep))}): their "
        f"values go from {low:g} to {high:g}; where a file does not tell which are black and white, 16 "
        "bits are read from 0 to 65535 and others are unreadable; "
        f"`probe extract --range {low:g},{high:g}` says it.",
    )


def checked(study: Study, announce: Callable[[str], None] = lambda _: None) -> Study:
    """The study with its copies known: looked for now unless they are, and saved if it is on disk.

    Where none of the image files exists, as with imported features, the study is returned as it is.
    """
    known = study.copies is not None and study.copies.turned
    if not known and _any_there(study):
        announce(f"looking for copies among {len(set(study.paths))} images, once")
        study = replace(study, copies=find(study))
        if has_study(study.folder):
            save_copies(study)
    for sentence in cautions(study):
        announce(sentence)
    return study


def examine(
    study: Path,
    *,
    data: str | None = None,
    drop: bool = False,
    group: bool = False,
    progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> Check:
    """Check a study, or the data that would begin one; every image is read anew.

    The copies are saved in a study that exists. Where there is none, one is begun only if `drop` or
    `group` is given; else its folder notes the data, which `probe extract` then takes.

    Args:
        study: The study's folder, which need not exist.
        data: What `--data` takes, where there is no study.
        drop: Mark copies as unused.
        group: Keep copies on one side of every split, which is the default.
        progress: Is called with the number of files read, and of all files.

    Raises:
        InputError: The data cannot be read, `group` is asked for data with folds of its own, or none of
            the images exists.
    """
    if drop and group:
        raise OptionError("--drop-duplicates and --group-duplicates: choose one of them.")
    opened, manifest = open_or_draft(study, data)
    if group and own_folds(opened) is not None:
        raise InputError(
            f"--group-duplicates: {opened.source} comes with folds of its own, which cannot be "
            "changed; use --drop-duplicates."
        )
    if not _any_there(opened):
        raise InputError(
            f"{opened.root}: none of the {len(set(opened.paths))} images is there ({opened.paths[0]} is "
            f"the first), so nothing can be checked; put them back, or name the "
            "folder that they are in now by --root DIR."
            if manifest is None
            else f"{opened.source}: names {len(set(opened.paths))} images and none is there, not even "
            f"{opened.root / opened.paths[0]}; correct the paths."
        )
    all_copies, ranges = _copies_of(opened, progress)
    opened = without_copies(opened, all_copies) if drop else replace(opened, copies=all_copies)
    if manifest is None:
        with locked(study / ".results.lock", str(study / "images.csv")):
            (save_images if drop else save_copies)(opened)
    elif drop or group:
        begin(opened)
    result = check(opened, all_copies)
    result = replace(result, notes=(*ranges, *result.notes))
    if manifest is None:
        return result
    if data is not None and not (drop or group or result.refused):
        note_checked(study, manifest.source)
    notes = tuple(f"{note}." for note in manifest.notes)
    return replace(result, left_out=manifest.left_out, notes=(*notes, *result.notes))


def _any_there(study: Study) -> bool:
    return any((study.root / path).is_file() for path in study.paths)


def _near(grey: npt.NDArray[np.uint8], places: Ints) -> list[tuple[int, int, float]]:
    """Pairs among the images at `places` that show one picture, with their likeness, the highest first."""
    places = places[_spread(grey, places) > _FLAT]
    if len(places) < 2:
        return []
    likeness: dict[tuple[int, int], float] = {}
    coarse = _coarse(grey, places)
    small = _small(coarse)
    mean, base = _base(small)
    for turn in _TURNS:
        turned = small if turn is _as_it_is else _small(turn(coarse))
        pairs = _candidates(base, mean, turned, turn)
        alike = np.zeros(len(pairs))
        laid = partial(_laid, grey, places[pairs], turn)
        for order in (1, -1):
            first, second = (small, turned) if order == 1 else (turned, small)
            kept = np.flatnonzero(may_be_alike(first, second, pairs[:, ::order]))
            seen = [may_be_alike_closer(*laid(some, order)) for some in _batches(kept)]
            for some in _batches(kept[np.concatenate(seen)]):
                found = alikeness(*laid(some, order))
                alike[some] = np.maximum(alike[some], found)
        for (a, b), value in zip(np.sort(pairs, axis=1).tolist(), alike.tolist(), strict=True):
            if value >= ALIKE:
                likeness[a, b] = max(value, likeness.get((a, b), 0.0))
    ordered = sorted(likeness, key=lambda pair: (-likeness[pair], pair))
    return [(int(places[a]), int(places[b]), likeness[a, b]) for a, b in ordered]


def _laid(grey: Images, pairs: Ints, turn: Turn, some: Ints, order: int) -> tuple[Images, Ints]:
    """The images of some of `pairs`, the second turned, and their numbers, in reverse if `order` is -1."""
    pairs = pairs[some]
    images = np.concatenate([grey[pairs[:, 0]], turn(grey[pairs[:, 1]])])
    return images, np.arange(len(images)).reshape(2, -1).T[:, ::order]


def _base(small: Floats) -> tuple[Floats | float, Floats | Cells]:
    """The mean of the small images, and what is left of each, of length 1.

    The mean image is subtracted since aligned faces all look alike; that of a few images is as much
    image as mean.
    """
    mean = small.mean(0) if len(small) > _NEIGHBOURS else 0.0
    return mean, in_cells(_in_blocks(lambda some: _unit(some - mean), small))


def _candidates(base: Floats | Cells, mean: Floats | float, turned: Floats, turn: Turn) -> Ints:
    """Pairs `(m, 2)` of images, the second of which looks like the first once it is turned by `turn`.

    They are compared when they are small, `turned` being `(n, 256)`. As `turn` is undone by itself or by
    another of `_TURNS`, either order of a pair will do.
    """
    as_it_is = turn is _as_it_is
    found = most_similar(
        base,
        _in_blocks(lambda some: _unit(some - mean), turned),
        _NEIGHBOURS + 1 if as_it_is else _NEIGHBOURS_TURNED,  # itself is among the former
        _SIMILAR if as_it_is else _SIMILAR_TURNED,
    )
    pairs = found[found[:, 0] != found[:, 1]][:, ::-1]
    if turn is not _quarter:
        pairs = np.sort(pairs, axis=1)
    return np.unique(pairs, axis=0)


def _spread(grey: Images, places: Ints) -> Doubles:
    """The SD of each image at `places`, `(n,)`."""
    return _in_blocks(lambda some: grey[some].std((1, 2)), places)


def _coarse(grey: Images, places: Ints) -> Floats:
    """The images at `places` at 16 x 16, `(n, 16, 16)`."""
    step = SIDE // _COARSE
    shape = (-1, _COARSE, step, _COARSE, step)
    return _in_blocks(lambda some: grey[some].reshape(shape).mean((2, 4), dtype=np.float32), places)


def _batches(rows: npt.NDArray[Any]) -> list[npt.NDArray[Any]]:
    """The rows in parts, so that what is made of them takes little memory."""
    return np.array_split(rows, len(rows) // _BATCH + 1)


def _small(coarse: Floats) -> Floats:
    """The images as rows, `(n, 256)`, each of mean 0 and length 1."""

    def of_some(some: Floats) -> Floats:
        x = some.reshape(len(some), -1)
        return _unit(x - x.mean(1, keepdims=True), 1e-6)

    return _in_blocks(of_some, coarse)


def _in_blocks(work: Callable[[Any], npt.NDArray[Any]], rows: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """What `work` makes of the rows, in blocks on all cores."""
    with thread_per_core() as pool:
        return np.concatenate(list(pool.map(work, np.array_split(rows, len(rows) // _BLOCK + 1))))


def _unit(x: Floats, least: float = 1e-12) -> Floats:
    return np.asarray(x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), least))


def _as_it_is(images: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return images


def _mirrored(images: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return images[:, :, ::-1]


def _flipped(images: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return images[:, ::-1]


def _upside_down(images: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return images[:, ::-1, ::-1]


def _quarter(images: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return images.swapaxes(1, 2)[:, ::-1]


_TURNS: tuple[Turn, ...] = (_as_it_is, _mirrored, _flipped, _upside_down, _quarter)
"""A pair is found by one of its orders, so that three quarters are one quarter seen from the other."""
