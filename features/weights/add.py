"""Adding published weights: recognised, checked, assigned to their network, converted and stored once."""

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
from features.weights.assign import Assignment, Target, assign, refuse_misfit
from features.weights.converted import Kept, kept_as
from features.weights.entries import (
    Digests,
    by_checksum,
    by_likeness,
    digests_of,
    entries_of,
    in_words,
    published_name,
    split,
)
from features.weights.fetch import Progress, download, drop

Announce = Callable[[str], None]


@dataclass(frozen=True)
class Added:
    """The converted file, and what a person should know of it."""

    kept: Kept
    new: bool
    """Whether it was converted now; otherwise it was here already."""
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _OpenedFile:
    """A file of weights, taken out of its archive if it was in one."""

    file: Path
    name: str
    """The name under which it was published or given."""
    shown: str
    """Its name in messages."""
    digests: Digests
    archive: Digests | None = None
    part: str | None = None
    """The prefix of the network's tensors in the file, if the user gives one."""

    @property
    def full_name(self) -> str:
        """The name with the part, as the converted file records it."""
        return self.name + (f"#{self.part}" if self.part else "")


def add(
    target: Target,
    path: Path,
    *,
    member: str | None = None,
    entry: int | None = None,
    announce: Announce = lambda _: None,
) -> Added:
    """Convert a file of published weights, to be used wherever the backbone is used.

    Args:
        target: The backbone.
        path: The file, or an archive with it; FILE#PART where the file holds several networks.
        member: The name of the file in the archive, where several are weights.
        entry: Which of the card's weights it is, from 1; by default decided by checksum, name and
            format.
        announce: Called with a line for each tensor that does not fit.

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
        converted.locked_folder(target.card.name) as folder,
        _opened(path, path.name, str(path), folder, member) as opened,
    ):
        if part is not None:
            opened = replace(opened, part=part)
        return _convert(target, opened, folder, entry, announce)


def fetch(
    target: Target,
    entry: WeightsEntry | None = None,
    *,
    announce: Announce = lambda _: None,
    progress: Progress = lambda _done, _all: None,
) -> Added:
    """Download the weights that the card has an address for, check and convert them.

    Args:
        target: The backbone.
        entry: Which of the card's weights; by default the first with an address.
        announce: Called with a message, licence included, before the download starts.
        progress: Called with bytes done and bytes in all.

    Raises:
        InputError: There is no address, or the file could not be fetched or used.
        OSError: The disk is full; what is here of the file is kept.
    """
    card, entries = target.card, entries_of(target.card)
    entry = entry or next((listed for listed in entries if listed.url), None)
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
    with converted.locked_folder(card.name) as folder:
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
            with _opened(partial, published_name(entry), entry.url, folder, None) as opened:
                return _convert(target, opened, folder, entries.index(entry) + 1, announce)
        finally:
            drop(partial)


@contextmanager
def _opened(
    path: Path, name: str, shown: str, folder: Path, member: str | None
) -> Iterator[_OpenedFile]:
    """The file itself, or the weights in it if it is an archive; messages about either name `shown`."""
    digests = digests_of(path)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".unpacked-") as unpacked:
        opened = _OpenedFile(path, name, shown, digests)
        try:
            if recognise(path) == "archive":
                file, inside = unpack(path, Path(unpacked), member)
                base = inside.rpartition("/")[2]
                opened = _OpenedFile(file, base, f"{shown}: {inside}", digests_of(file), digests)
            yield opened
        except InputError as error:
            raise InputError(
                str(error).replace(str(opened.file), opened.shown).replace(str(path), shown)
            ) from error


def _convert(
    target: Target, opened: _OpenedFile, folder: Path, number: int | None, announce: Announce
) -> Added:
    """Check, convert and store a file."""
    card, file_format = target.card, recognise(opened.file)
    index, verified = _which(card, opened, file_format, number)
    entry = WeightsEntry() if index is None else entries_of(card)[index]
    before = kept_as(card, entry)
    part = "" if before is None else before.source.partition("#")[2]
    same = before is not None and before.sha256 == opened.digests.sha256
    if before is not None and same and part == (opened.part or ""):
        converted.read(before.path)
        return Added(before, new=False)
    if before is not None:
        raise InputError(
            f"{opened.shown}: another file or part is kept for {card.name} ({before.source}, sha256 "
            f"{before.sha256[:12]}...); `probe weights remove {card.name}` first if you mean to "
            "replace it."
        )
    meant = entry if opened.part is None else replace(entry, key=opened.part)
    assignment = assign(target, read(opened.file, entry.format), meant, opened.file)
    state = _checked(assignment, target, opened, announce)
    recipe = converted.recipe_of(card, entry)
    described = Kept(
        path=folder
        / f"{Path(opened.name).stem}-{opened.digests.sha256[:6]}{recipe[:6]}.safetensors",
        card=card.name,
        source=opened.full_name,
        sha256=opened.digests.sha256,
        archive_sha256=opened.archive.sha256 if opened.archive else "",
        format=file_format,
        licence=card.licence or "",
        verified=verified,
        published=index is not None and opened.part in (None, entry.key),
        recipe=recipe,
    )
    for old in converted.kept(card.name):
        if old.sha256 == described.sha256:  # read by an earlier version of the card
            old.path.unlink()
    notes = [*_notes(described, entry, index, bool(entries_of(card))), *assignment.notes]
    if assignment.unused:
        notes.append(f"not used by the network: {', '.join(assignment.unused)}")
    return Added(converted.keep(state, described), new=True, notes=notes)


def _which(
    card: Card, opened: _OpenedFile, file_format: str, number: int | None
) -> tuple[int | None, bool]:
    """Which of the card's entries the file is, if any, and whether a published checksum proves it."""
    entries = entries_of(card)
    digests = [opened.digests, *([opened.archive] if opened.archive else [])]
    if number is not None:
        met = [sums.meet(entries[number - 1]) for sums in digests]
        if any(met) or met[0] is None:
            return number - 1, any(met)
        raise _not_published(opened)
    for sums in digests:
        listed = by_checksum(entries, sums)
        if listed is not None:
            return listed, True
    without = [i for i, entry in enumerate(entries) if opened.digests.meet(entry) is None]
    index = by_likeness(card, entries, without, opened.shown, opened.name, file_format)
    if index is None and any(entry.format in (None, file_format) for entry in entries):
        raise _not_published(opened)
    return index, False


def _not_published(opened: _OpenedFile) -> InputError:
    return InputError(
        f"{opened.shown}: its checksum is not the published one (its sha256 is "
        f"{opened.digests.sha256}); fetch it again, or use it as it is by `probe extract --weights "
        "FILE`."
    )


def _checked(
    assignment: Assignment, target: Target, opened: _OpenedFile, announce: Announce
) -> dict[str, Tensor]:
    """The tensors to be stored, in the network's own precision.

    Raises:
        InputError: Some do not fit, or hold NaN or infinity.
    """
    for problem in ("missing", "mismatched", "unused"):
        if assignment.missing or assignment.mismatched:
            for name in getattr(assignment, problem):
                announce(f"{problem}: {name}")
    refuse_misfit(assignment, target, opened.file)
    kinds = {name: tensor.dtype for name, tensor in target.model.state_dict().items()}
    state = {name: tensor.to(kinds[name]) for name, tensor in assignment.state.items()}
    for name, tensor in state.items():
        if not bool(torch.isfinite(tensor).all()):
            raise InputError(
                f"{opened.shown}: {name} has numbers that are NaN or infinite; the file is damaged, "
                "fetch it again."
            )
    return state


def _notes(described: Kept, entry: WeightsEntry, index: int | None, any_listed: bool) -> list[str]:
    """What a person should know of the file: its format, whether it was verified, and how it was read."""
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
