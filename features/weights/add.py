"""Bringing published weights in: recognised, checked, fitted, converted once and kept."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from features.cards.card import Card, WeightsEntry
from features.errors import InputError
from features.formats.recognise import read, recognise
from features.machine.files import is_full
from features.machine.home import offline
from features.weights import converted
from features.weights.archive import unpack
from features.weights.assign import Fitted, Target, fit, refuse_misfit
from features.weights.converted import Kept, kept_as
from features.weights.entries import (
    Digests,
    by_checksum,
    by_likeness,
    digests_of,
    entries_of,
    in_words,
    name_of,
    split,
)
from features.weights.fetch import Progress, download, drop

Announce = Callable[[str], None]


@dataclass(frozen=True)
class Added:
    """What was brought in, and what a person should know of it."""

    kept: Kept
    new: bool
    """Whether it was converted now; otherwise it was here already."""
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Source:
    file: Path
    name: str
    """Under which it was published or brought."""
    shown: str
    """What messages call it."""
    digests: Digests
    archive: Digests | None = None
    part: str | None = None
    """Where in the file the network stands, if the user says so."""

    @property
    def full_name(self) -> str:
        """The name with the part, as it is kept."""
        return self.name + (f"#{self.part}" if self.part else "")


def add(
    target: Target,
    path: Path,
    *,
    member: str | None = None,
    entry: int | None = None,
    announce: Announce = lambda _: None,
) -> Added:
    """Bring a file of published weights in, to be used wherever the backbone is.

    Args:
        target: The backbone.
        path: The file, or an archive that it is in; FILE#PART where the file holds several networks.
        member: The name of the file in the archive, where several are weights.
        entry: Which of the card's weights it is, from 1; by default told from checksum, name and
            format.
        announce: Is told, tensor by tensor, what does not fit.

    Raises:
        InputError: The file is damaged, fails its checksum, or belongs to another network.
    """
    path, part = split(str(path))
    if not path.exists():
        raise InputError(f"{path}: there is no such weights file; check the path.")
    listed = len(entries_of(target.card))
    if entry is not None and not 1 <= entry <= listed:
        raise InputError(
            f"--entry {entry}: {target.card.name}'s card lists {listed} files of weights; count "
            "from 1."
        )
    with (
        converted.alone(target.card.name) as folder,
        _opened(path, path.name, str(path), folder, member) as source,
    ):
        if part is not None:
            source = replace(source, part=part)
        return _brought(target, source, folder, entry, announce)


def fetch(
    target: Target,
    entry: WeightsEntry | None = None,
    *,
    announce: Announce = lambda _: None,
    progress: Progress = lambda _done, _all: None,
) -> Added:
    """Download the weights that the card has an address for, check them and keep them.

    Args:
        target: The backbone.
        entry: Which of the card's weights; by default the first with an address.
        announce: Is told of the download before it starts, licence included.
        progress: Is called with bytes done and bytes in all.

    Raises:
        InputError: There is no address, or the file could not be fetched or used.
        OSError: The disk is full; what is here of the file is kept.
    """
    card, entries = target.card, entries_of(target.card)
    entry = entry or next((one for one in entries if one.url), None)
    if entry is None or entry.url is None:
        raise InputError(
            f"{card.name}: its card has no address to fetch weights from; bring the file with "
            f"`probe weights add {card.name} FILE`."
        )
    here = kept_as(card, entry)
    if here is not None:
        return Added(here, new=False)
    how = (
        f"download {entry.url} elsewhere and bring it with `probe weights add {card.name} FILE` or "
        "give it as --weights FILE, or use --weights random."
    )
    if offline():
        raise InputError(f"{card.name}: its weights are not here and PROBE_OFFLINE is set; {how}")
    with converted.alone(card.name) as folder:
        announce(f"fetching {entry.url} (licence: {card.licence or 'not stated'}) to {folder}")
        try:
            partial = download(entry.url, folder, progress)
        except OSError as error:
            if is_full(error):
                raise
            raise InputError(
                f"{card.name}: its weights are not here and could not be fetched ({error}); {how}"
            ) from error
        try:
            with _opened(partial, name_of(entry), entry.url, folder, None) as source:
                return _brought(target, source, folder, entries.index(entry) + 1, announce)
        finally:
            drop(partial)


@contextmanager
def _opened(
    path: Path, name: str, shown: str, folder: Path, member: str | None
) -> Iterator[_Source]:
    """The file itself, or what is in it if it is an archive; messages about either name `shown`."""
    digests = digests_of(path)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".unpacked-") as unpacked:
        source = _Source(path, name, shown, digests)
        try:
            if recognise(path) == "archive":
                file, inside = unpack(path, Path(unpacked), member)
                base = inside.rpartition("/")[2]
                source = _Source(file, base, f"{shown}: {inside}", digests_of(file), digests)
            yield source
        except InputError as error:
            raise InputError(
                str(error).replace(str(source.file), source.shown).replace(str(path), shown)
            ) from error


def _brought(
    target: Target, source: _Source, folder: Path, number: int | None, announce: Announce
) -> Added:
    """Check, convert and keep a file."""
    card, file_format = target.card, recognise(source.file)
    index, verified = _which(card, source, file_format, number)
    entry = WeightsEntry() if index is None else entries_of(card)[index]
    before = kept_as(card, entry)
    part = "" if before is None else before.source.partition("#")[2]
    same = before is not None and before.sha256 == source.digests.sha256
    if before is not None and same and part == (source.part or ""):
        converted.read(before.path)
        return Added(before, new=False)
    if before is not None:
        raise InputError(
            f"{source.shown}: another file or part is kept for {card.name} ({before.source}, sha256 "
            f"{before.sha256[:12]}...); `probe weights remove {card.name}` first if you mean to "
            "replace it."
        )
    meant = entry if source.part is None else replace(entry, key=source.part)
    found = fit(target, read(source.file, entry.format), meant, source.file)
    state = _sound(found, target, source, announce)
    recipe = converted.recipe_of(card, entry)
    described = Kept(
        path=folder
        / f"{Path(source.name).stem}-{source.digests.sha256[:6]}{recipe[:6]}.safetensors",
        card=card.name,
        source=source.full_name,
        sha256=source.digests.sha256,
        archive_sha256=source.archive.sha256 if source.archive else "",
        format=file_format,
        licence=card.licence or "",
        verified=verified,
        published=index is not None and source.part in (None, entry.key),
        recipe=recipe,
    )
    for old in converted.kept(card.name):
        if old.sha256 == described.sha256:  # read by an earlier version of the card
            old.path.unlink()
    notes = [*_said(described, entry, index, bool(entries_of(card))), *found.notes]
    if found.unused:
        notes.append(f"not used by the network: {', '.join(found.unused)}")
    return Added(converted.keep(state, described), new=True, notes=notes)


def _which(
    card: Card, source: _Source, file_format: str, number: int | None
) -> tuple[int | None, bool]:
    """Which of the card's entries the file is, if any, and whether a published checksum says so."""
    entries = entries_of(card)
    digests = [source.digests, *([source.archive] if source.archive else [])]
    if number is not None:
        met = [one.meet(entries[number - 1]) for one in digests]
        if any(met) or met[0] is None:
            return number - 1, any(met)
        raise _not_published(source)
    for one in digests:
        known = by_checksum(entries, one)
        if known is not None:
            return known, True
    without = [i for i, entry in enumerate(entries) if source.digests.meet(entry) is None]
    index = by_likeness(card, entries, without, source.shown, source.name, file_format)
    if index is None and any(entry.format in (None, file_format) for entry in entries):
        raise _not_published(source)
    return index, False


def _not_published(source: _Source) -> InputError:
    return InputError(
        f"{source.shown}: its checksum is not the published one (its sha256 is "
        f"{source.digests.sha256}); fetch it again, or use it as it is by `probe extract --weights "
        "FILE`."
    )


def _sound(found: Fitted, target: Target, source: _Source, announce: Announce) -> dict[str, Tensor]:
    """The tensors as they are kept, in the network's own precision.

    Raises:
        InputError: Some do not fit, or hold what no weight can be.
    """
    for what in ("missing", "mismatched", "unused"):
        if found.missing or found.mismatched:
            for name in getattr(found, what):
                announce(f"{what}: {name}")
    refuse_misfit(found, target, source.file)
    kinds = {name: tensor.dtype for name, tensor in target.model.state_dict().items()}
    state = {name: tensor.to(kinds[name]) for name, tensor in found.state.items()}
    for name, tensor in state.items():
        if not bool(torch.isfinite(tensor).all()):
            raise InputError(
                f"{source.shown}: {name} has numbers that are NaN or infinite; the file is damaged, "
                "fetch it again."
            )
    return state


def _said(described: Kept, entry: WeightsEntry, index: int | None, any_listed: bool) -> list[str]:
    """What a person should know: the format, whether it was checked, and how it was read."""
    checked = (
        "its checksum is the published one"
        if described.verified
        else "UNVERIFIED: no checksum is published for it, so its sha256 "
        f"{described.sha256} is recorded"
    )
    notes = [f"{described.source}: a {described.format} file; {checked}"]
    if index is not None:
        notes.append(f"read as the card says of {in_words(entry)}")
    elif any_listed:
        notes.append("the card lists no such file: its channels are taken to be in [input]'s order")
    return notes
