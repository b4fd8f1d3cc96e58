"""The weights of a backbone on this machine, and the tensors in them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from features.cards.card import CARDS, Card, Input, WeightsEntry
from features.cards.network import file_of
from features.cards.onnx_network import digest_of
from features.errors import InputError
from features.formats.recognise import read, recognise
from features.machine.home import offline
from features.weights import converted
from features.weights.add import fetch
from features.weights.assign import Assignment, Target, assign, refuse_misfit, weigh
from features.weights.convention import input_for
from features.weights.converted import Kept, kept_as
from features.weights.entries import (
    WeightsFile,
    by_checksum,
    by_likeness,
    digests_of,
    entries_of,
    split,
)


def locate(
    target: Target, given: str | None, announce: Callable[[str], None] = lambda _: None
) -> WeightsFile:
    """The weights to use: the file `given`, or else the card's own, fetched if they are not here.

    `FILE#PART` is the network at the prefix PART in a file of several.

    Raises:
        InputError: The file does not exist, fails its checksum, or cannot be had here.
    """
    card = target.card
    if given is not None:
        file, part = split(given)
        if not file.exists():
            raise InputError(
                f"{given}: there is no such weights file; give a path, or --weights random."
            )
        return _given(card, file, part)
    entries = entries_of(card)
    for entry in entries:
        path = path_of(card, entry)
        if path is not None and path.exists():
            return _own(card, path, entry)
        kept = kept_as(card, entry)
        if kept is not None:
            return as_file(kept, entry)
    kept = kept_as(card, WeightsEntry())
    if kept is not None:
        return as_file(kept, WeightsEntry())
    for damaged in (kept for kept in converted.kept(card.name) if not kept.recipe):
        converted.read(damaged.path)  # refuses it, instead of fetching it again without a word
    for entry in entries:
        if entry.url is not None:
            added = fetch(target, entry, announce=announce)
            for note in added.notes:
                announce(note)
            return as_file(added.kept, entry)
    for entry in entries:
        path = path_of(card, entry)
        if path is not None and entry.url is None:
            raise InputError(
                f"{card.name}: its card names the weights {path}, where there is no file; put it there, "
                "give it as --weights FILE, or use --weights random."
            )
    own = card.file is not None and card.file.parent != CARDS
    why = "its weights cannot be fetched: they are not published at an address and under a licence "
    why += "that allow it"
    if own and not card.weights:
        why = "its card names no weights"
    if converted.kept(card.name):
        why = "its card has changed since its weights were added"
    raise InputError(
        f"{card.name}: {why}; bring the file with `probe weights add {card.file if own else card.name} "
        "FILE`, give it as "
        "--weights FILE, or use --weights random."
    )


def inside(card: Card, given: str | None) -> WeightsFile | None:
    """The weights that stand in the network's own file, as in an ONNX file; None for other networks.

    Raises:
        InputError: Others are given, or the file is not the one whose checksum the card has.
    """
    if not card.network.startswith("onnx:"):
        return None
    if given is not None:
        raise InputError(
            f"{card.name}: its weights are inside {card.network} and cannot be replaced; leave "
            "--weights out."
        )
    path = file_of(card)
    digest = digest_of(path)
    listed = [entry for entry in card.weights if entry.sha256]
    if any(entry.path or entry.url or not entry.sha256 for entry in card.weights):
        raise InputError(
            f"{card.line('weights')}: [[weights]] of an ONNX file may have only sha256; leave the rest out."
        )
    if listed and digest not in [str(entry.sha256).lower() for entry in listed]:
        raise InputError(
            f"{path}: not the file that {card.name}'s card describes (its checksum differs); fetch it "
            "again."
        )
    return WeightsFile(path, digest, True, bool(listed), path.name, WeightsEntry())


def here(card: Card) -> bool:
    """Whether weights of the card's own are on this machine."""
    entries = entries_of(card)
    paths = [path_of(card, entry) for entry in entries]
    return any(path is not None and path.exists() for path in paths) or any(
        kept_as(card, entry) for entry in (*entries, WeightsEntry())
    )


def lacking(card: Card) -> str | None:
    """How to get weights of the card's own that are not here and cannot be fetched; None otherwise."""
    if here(card) or (not offline() and any(entry.url for entry in entries_of(card))):
        return None
    return how_to_get(card)


def how_to_get(card: Card) -> str:
    """That the weights of a card are not on this machine, and the ways to bring them, in words."""
    urls = [entry.url for entry in entries_of(card) if entry.url]
    where = f" from {urls[0]}" if urls else ""
    return (
        f"the weights of {card.name} are not here; `probe weights add {card.name} FILE` adds them{where}, "
        f"or give --weights {card.name}=FILE"
    )


def assigned(file: WeightsFile, target: Target) -> Assignment:
    """The tensors that the network loads.

    Raises:
        InputError: The file is damaged, or belongs to another network.
    """
    if file.kept:
        tensors = converted.read(file.path)
        shapes = {name: tensor.shape for name, tensor in target.model.state_dict().items()}
        assignment = Assignment({n: t for n, t in tensors.items() if shapes.get(n) == t.shape})
        assignment.missing = [
            n for n in shapes if n not in tensors and not n.endswith("num_batches_tracked")
        ]
        assignment.left = {
            name: f"{name} is {tuple(tensor.shape)} in the file"
            for name, tensor in tensors.items()
            if name not in assignment.state
        }
        weigh(assignment, target, Path(file.source))
    else:
        assignment = assign(target, read(file.path, file.entry.format), file.entry, file.path)
    refuse_misfit(assignment, target, file.path)
    return assignment


def input_of(file: WeightsFile, card_input: Input) -> Input:
    """The preprocessing for these weights."""
    return input_for(file.entry, card_input)


def path_of(card: Card, entry: WeightsEntry) -> Path | None:
    """Where an entry's file lies, if the card says so."""
    if entry.path is None:
        return None
    return (card.file.parent if card.file else Path()) / entry.path


def as_file(kept: Kept, entry: WeightsEntry) -> WeightsFile:
    """A converted file as weights to load."""
    name, _, part = kept.source.partition("#")
    if part and part != entry.key:
        entry = replace(entry, key=part)
    return WeightsFile(
        kept.path, kept.sha256, kept.published, kept.verified, name, entry, kept=True
    )


def _given(card: Card, path: Path, part: str | None) -> WeightsFile:
    """A file that the user names: recognised by its checksum, or else read like others of its format."""
    entries, digests = entries_of(card), digests_of(path)
    number = by_checksum(entries, digests)
    if number is not None:
        file = WeightsFile(path, digests.sha256, True, True, path.name, entries[number])
        return _at(file, part)
    for entry in entries:
        own = path_of(card, entry)
        same = own is not None and own.exists() and own.samefile(path)
        if same and digests.meet(entry) is None:
            return _at(WeightsFile(path, digests.sha256, True, False, path.name, entry), part)
    kind = recognise(path)
    number = by_likeness(card, entries, range(len(entries)), str(path), path.name, kind)
    entry = WeightsEntry() if number is None else entries[number]
    return _at(WeightsFile(path, digests.sha256, False, False, path.name, entry), part)


def _at(file: WeightsFile, part: str | None) -> WeightsFile:
    """The network at `part` of a file; where the card names another part, it is not the card's own."""
    if part is None or part == file.entry.key:
        return file
    return replace(file, published=False, entry=replace(file.entry, key=part))


def _own(card: Card, path: Path, entry: WeightsEntry) -> WeightsFile:
    digests = digests_of(path)
    meets = digests.meet(entry)
    if meets is False:
        raise InputError(
            f"{path}: not the file that {card.name}'s card describes (its checksum differs); "
            "fetch it again, or give it as --weights FILE if you mean to use it."
        )
    return WeightsFile(path, digests.sha256, True, bool(meets), path.name, entry)
