"""Weights: found or fetched, checked, and read as tensors that a network can load."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError
from urllib.parse import urlparse

import torch
from torch import Tensor, nn

from features.card import Card, WeightsEntry
from features.errors import InputError
from features.home import home, offline
from features.network import torchvision_weights
from features.trace import Trace


@dataclass(frozen=True)
class WeightsFile:
    """A file of weights on this machine and what is known of it."""

    path: Path
    sha256: str
    published: bool
    """Whether the card names it, by checksum, path or url."""
    verified: bool
    """Whether it matched a published checksum."""


def locate(
    card: Card, given: str | None, announce: Callable[[str], None] = lambda _: None
) -> WeightsFile:
    """The weights to use: the file `given`, else the card's own, fetched if it is not here.

    Raises:
        InputError: The file does not exist, fails its checksum, or cannot be had here.
    """
    entries = entries_of(card)
    if given is not None:
        file = Path(given)
        if not file.is_file():
            raise InputError(
                f"{given}: there is no such weights file; give a path, or --weights random."
            )
        return _given(card, file, entries)
    readable = [e for e in entries if e.format in (None, "pytorch", "safetensors")]
    for entry in readable:
        path = local_path(card, entry)
        if path is not None and path.is_file():
            return _checked(card, path, entry)
    for entry in readable:
        if entry.url is not None:
            return _fetch(card, entry, announce)
    raise InputError(
        f"{card.name}: its weights cannot be fetched, since no address is known for them in a format "
        "that is read here; give a PyTorch or safetensors file as --weights FILE, or use --weights "
        "random."
    )


def _given(card: Card, file: Path, entries: tuple[WeightsEntry, ...]) -> WeightsFile:
    """The file a person gave: the card's own by its checksum, its place, or the hash in its name."""
    found = _identify(file, entries)
    if found.verified:
        return found
    for entry in entries:
        short = _hash_in_name(entry)
        if short and found.sha256.startswith(short):
            return WeightsFile(file, found.sha256, published=True, verified=True)
        own = local_path(card, entry)
        if own is not None and own.is_file() and own.samefile(file):
            return _checked(card, file, entry)
    return found


def here(card: Card) -> bool:
    """Whether one of the card's own weights files is on this machine."""
    paths = [local_path(card, entry) for entry in entries_of(card)]
    return any(path is not None and path.is_file() for path in paths)


def entries_of(card: Card) -> tuple[WeightsEntry, ...]:
    """The card's weights entries, or else torchvision's own for a network of torchvision."""
    kind, _, name = card.network.partition(":")
    if card.weights or kind != "torchvision":
        return card.weights
    weights = torchvision_weights(name)
    return () if weights is None else (WeightsEntry(url=weights.url, format="pytorch"),)


def local_path(card: Card, entry: WeightsEntry) -> Path | None:
    """Where this entry's file lies or would lie after fetching; None if the user keeps it."""
    if entry.path is not None:
        return (card.file.parent if card.file else Path()) / entry.path
    if entry.url is not None:
        folder = hashlib.sha256(entry.url.encode()).hexdigest()[:12]  # two files may share a name
        return home() / "weights" / folder / Path(urlparse(entry.url).path).name
    return None


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _identify(path: Path, entries: tuple[WeightsEntry, ...]) -> WeightsFile:
    digest = sha256_of(path)
    known = any(entry.sha256 == digest for entry in entries)
    if not known:
        for entry in entries:
            for kind in ("sha1", "md5"):
                wanted = getattr(entry, kind)
                if wanted is not None:
                    with path.open("rb") as file:
                        known |= hashlib.file_digest(file, kind).hexdigest() == wanted
    return WeightsFile(path, digest, published=known, verified=known)


def _checked(card: Card, path: Path, entry: WeightsEntry) -> WeightsFile:
    found = _identify(path, (entry,))
    has_checksum = entry.sha256 or entry.sha1 or entry.md5
    short = _hash_in_name(entry)
    if (has_checksum and not found.verified) or (short and not found.sha256.startswith(short)):
        raise InputError(
            f"{path}: not the file that {card.name}'s card describes (its checksum differs); "
            "fetch it again, or give it as --weights FILE if you mean to use it."
        )
    return WeightsFile(path, found.sha256, published=True, verified=bool(has_checksum or short))


def _hash_in_name(entry: WeightsEntry) -> str | None:
    """Torchvision's published names end in the first eight digits of the SHA-256."""
    stem = Path(urlparse(entry.url or "").path).stem
    tail = stem.rpartition("-")[2]
    is_hash = len(tail) == 8 and all(c in "0123456789abcdef" for c in tail)
    return tail if is_hash and "-" in stem else None


def _fetch(card: Card, entry: WeightsEntry, announce: Callable[[str], None]) -> WeightsFile:
    path = local_path(card, entry)
    assert path is not None
    assert entry.url is not None
    how = f"download {entry.url} elsewhere and give it as --weights FILE, or use --weights random."
    if offline():
        raise InputError(f"{card.name}: its weights are not here and PROBE_OFFLINE is set; {how}")
    announce(f"fetching {entry.url} (licence: {card.licence or 'not stated'}) to {path}")
    path.parent.mkdir(parents=True, exist_ok=True)
    wanted = entry.sha256 or _hash_in_name(entry)
    try:
        torch.hub.download_url_to_file(entry.url, str(path), hash_prefix=wanted, progress=False)
    except RuntimeError as error:
        raise InputError(f"{entry.url}: its checksum is not the published one; {how}") from error
    except (URLError, OSError) as error:
        reason = getattr(error, "reason", error)
        raise InputError(
            f"{card.name}: its weights are not here and could not be fetched ({reason}); {how}"
        ) from error
    return _checked(card, path, entry)


def read(path: Path) -> dict[str, Tensor]:
    """The tensors of a PyTorch or safetensors file; nothing in it is ever executed.

    Raises:
        InputError: It is neither, or holds no tensors.
    """
    with path.open("rb") as file:
        head = file.read(512)
    if not head:
        raise InputError(f"{path}: the file is empty; fetch it again.")
    start = head.lstrip().lower()
    if start.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        raise InputError(
            f"{path}: a web page, not weights; the download went wrong, fetch it again."
        )
    if start.startswith(b"version https://git-lfs"):
        raise InputError(f"{path}: a git-lfs pointer, not weights; run git lfs pull, or fetch it.")
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < os.path.getsize(path):  # noqa: PTH202
        return _read_safetensors(path)
    if head.startswith((b"PK", b"\x80")):
        return _read_pytorch(path)
    raise InputError(f"{path}: neither a PyTorch nor a safetensors file; give one of these.")


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return _state_dict(load_file(path))
    except (SafetensorError, OSError) as error:
        raise InputError(
            f"{path}: a damaged safetensors file ({error}); fetch it again."
        ) from error


def _read_pytorch(path: Path) -> dict[str, Tensor]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds; all mean that the file is unusable
        reason = str(error).splitlines()[0].split(". ")[0].rstrip(".")[:160]
        raise InputError(
            f"{path}: not a PyTorch file of plain tensors ({reason}); save its state_dict() alone, "
            "or convert it to safetensors."
        ) from error
    found = _state_dict(content)
    if not found:
        raise InputError(f"{path}: holds no tensors; give a state_dict.")
    return found


def _state_dict(content: object) -> dict[str, Tensor]:
    """The largest group of named tensors inside a checkpoint, without DataParallel's prefix."""
    best: dict[str, Tensor] = {}
    if isinstance(content, Mapping):
        best = {str(k): v for k, v in content.items() if isinstance(v, Tensor)}
        for value in content.values():
            inner = _state_dict(value)
            best = inner if len(inner) > len(best) else best
    if best and all(key.startswith("module.") for key in best):
        best = {key.removeprefix("module."): value for key, value in best.items()}
    return best


def load(
    model: nn.Module, tensors: dict[str, Tensor], card: Card, traced: Trace, file: Path
) -> list[str]:
    """Copy `tensors` into `model`; returns the names in the file that the network has no use for.

    Blobs may carry the module names of the network or the layer names of the card (`fc6.weight`).

    Raises:
        InputError: A tensor is missing or has another shape.
    """
    wanted = model.state_dict()
    if card.layers and not set(tensors) & set(wanted):
        tensors = _by_module(tensors, card, traced)
    missing = [n for n in wanted if n not in tensors and not n.endswith("num_batches_tracked")]
    unused = [n for n in tensors if n not in wanted]
    wrong = [
        f"{n} is {tuple(tensors[n].shape)} in the file and {tuple(wanted[n].shape)} in the network"
        for n in wanted
        if n in tensors and tensors[n].shape != wanted[n].shape
    ]
    if missing or wrong:
        parts = [f"{len(missing)} of {len(wanted)} tensors are missing ({_some(missing)})"] * bool(
            missing
        )
        parts += [f"{len(wrong)} have another shape ({_some(wrong)})"] * bool(wrong)
        parts += [f"the file has {len(unused)} others ({_some(unused)})"] * bool(unused)
        raise InputError(
            f"{file}: not the weights of {card.network} as {card.line('network')} builds it: "
            f"{'; '.join(parts)}; give the file that belongs to this network, or mend the card's "
            "network or options."
        )
    model.load_state_dict({n: tensors[n] for n in wanted if n in tensors}, strict=False)
    return unused


def _by_module(tensors: dict[str, Tensor], card: Card, traced: Trace) -> dict[str, Tensor]:
    """Rename `LAYER.weight` to the module with weights that feeds the layer's module."""
    assert card.layers is not None
    modules = {
        layer: traced.fired[module].weight_module
        for layer, module in card.layers.items()
        if module in traced.fired
    }
    renamed = {}
    for name, tensor in tensors.items():
        layer, _, kind = name.rpartition(".")
        renamed[f"{modules[layer]}.{kind}" if modules.get(layer) else name] = tensor
    return renamed


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
