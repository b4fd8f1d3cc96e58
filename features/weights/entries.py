"""Which of a card's weights entries a file is: by its checksum, or else by its name and format."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlparse

from features.cards import huggingface
from features.cards.card import Card, WeightsEntry
from features.cards.published import timm_weights, torchvision_weights
from features.errors import InputError
from features.formats.shards import files_of
from features.machine.regular_files import open_regular

_BLOCK = 1 << 20


@dataclass(frozen=True)
class WeightsFile:
    """A file of weights on this machine and what is known of it."""

    path: Path
    sha256: str
    """The checksum of the file as it was published or given, before any conversion."""
    published: bool
    """Whether the card names it, by checksum, path or url."""
    verified: bool
    """Whether it matched a published checksum."""
    source: str
    """The name under which it was published or given."""
    entry: WeightsEntry
    """The card's entry for it; empty if the card has none."""
    kept: bool = False
    """Whether `path` is the converted copy."""

    @property
    def name(self) -> str:
        """The end of the backbone's name where the weights are not the card's own."""
        return Path(self.source).stem + (f"#{self.entry.key}" if self.entry.key else "")

    @property
    def identity(self) -> str:
        """What identifies the tensors: the checksum of the file, the part of the file, the renaming."""
        key, rename = self.entry.key, self.entry.rename
        renamed = f", renamed by {json.dumps(dict(rename), sort_keys=True)}" if rename else ""
        return self.sha256 + (f"#{key}" if key else "") + renamed


@dataclass(frozen=True)
class Digests:
    """The checksums of a file by kind, as `WeightsEntry` names them."""

    by_kind: dict[str, str]

    @property
    def sha256(self) -> str:
        """The checksum by which every file is identified."""
        return self.by_kind["sha256"]

    def meet(self, entry: WeightsEntry) -> bool | None:
        """Whether the checksums are the published ones; None if no checksum is published."""
        published = entry.checksums
        if published:
            return all(self.by_kind[kind] == digest.lower() for kind, digest in published.items())
        short = hash_in_name(entry)
        return None if short is None else self.sha256.startswith(short)


def entries_of(card: Card) -> tuple[WeightsEntry, ...]:
    """The card's weights entries, or else the publisher's own for torchvision, timm and hf.

    Raises:
        InputError: It is a folder of transformers that holds none.
    """
    kind, _, name = card.network.partition(":")
    if kind == "hf" and not card.weights:
        return huggingface.weights_entries(card, name)
    if card.weights or kind not in ("torchvision", "timm"):
        return card.weights
    weights = torchvision_weights(name) if kind == "torchvision" else timm_weights(name)
    entry = WeightsEntry(url=getattr(weights, "url", None))
    if kind == "timm" and getattr(weights, "hf_hub_id", None) and not hash_in_name(entry):
        from huggingface_hub import hf_hub_url  # timm brings it

        # There the names are those of timm; at other addresses they are often another library's.
        file = weights.hf_hub_filename or "model.safetensors"
        entry = WeightsEntry(url=hf_hub_url(weights.hf_hub_id, file))
    return (entry,) if entry.url else ()


def split(given: str) -> tuple[Path, str | None]:
    """The file and the part that `FILE#PART` names; a `#` may also belong to the file's name."""
    file, mark, part = given.rpartition("#")
    if not mark or not part or Path(given).exists():
        return Path(given), None
    return Path(file), part


def digests_of(path: Path) -> Digests:
    """Every kind of checksum of a file that a card can give; for several files, of the list of theirs."""
    several = files_of(path)
    if several is not None and [path] != several:
        listed = "".join(f"{sha256_of(part)}  {part.name}\n" for part in sorted(several)).encode()
        return Digests(_hashed(len(listed), [listed]))
    with open_regular(path) as file:
        return Digests(_hashed(path.stat().st_size, iter(lambda: file.read(_BLOCK), b"")))


def _hashed(size: int, blocks: Iterable[bytes]) -> dict[str, str]:
    git = hashlib.sha1(f"blob {size}\0".encode(), usedforsecurity=False)
    kinds = {
        "sha256": hashlib.sha256(),
        "sha1": hashlib.sha1(usedforsecurity=False),
        "md5": hashlib.md5(usedforsecurity=False),
        "git_sha1": git,
    }
    for block in blocks:
        for running in kinds.values():
            running.update(block)
    return {kind: running.hexdigest() for kind, running in kinds.items()}


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash_in_name(entry: WeightsEntry) -> str | None:
    """The first eight digits of the SHA-256, in which torchvision's file names end; None for others."""
    stem = Path(urlparse(entry.url or "").path).stem
    tail = stem.rpartition("-")[2]
    is_hash = len(tail) == 8 and all(c in "0123456789abcdef" for c in tail)
    return tail if is_hash and "-" in stem else None


def published_name(entry: WeightsEntry) -> str:
    """The file's published name, empty if the card gives none."""
    return Path(urlparse(entry.url or entry.path or "").path).name


def by_checksum(entries: Sequence[WeightsEntry], digests: Digests) -> int | None:
    """The number of the entry whose published checksum the file has."""
    return next((i for i, entry in enumerate(entries) if digests.meet(entry)), None)


def by_likeness(
    card: Card,
    entries: Sequence[WeightsEntry],
    among: Sequence[int],
    shown: str,
    name: str,
    file_format: str,
) -> int | None:
    """The number of the entry, `among` some, that fits a file of this name and format, if any.

    Raises:
        InputError: Several fit, and they differ in how the file is read.
    """
    fits = [i for i in among if entries[i].format in (None, file_format)]
    named = [i for i in fits if published_name(entries[i]) == name]
    fits = named or fits
    if len({_conventions(entries[i]) for i in fits}) > 1:
        listed = "; ".join(f"{i + 1}: {in_words(entries[i])}" for i in fits)
        raise InputError(
            f"{shown}: may be several of the weights that {card.name}'s card lists ({listed}), "
            f"whose conventions differ; say which: `probe weights add {card.name} FILE --entry N`."
        )
    return fits[0] if fits else None


def in_words(entry: WeightsEntry) -> str:
    """A card's entry for a file in a few words."""
    words = [published_name(entry), entry.format or "", entry.note or ""]
    words += [f"{entry.channel_order.upper()} channels"] if entry.channel_order else []
    words += [f"mean {entry.mean}"] if entry.mean else []
    words += [f"flatten {entry.flatten}"] if entry.flatten else []
    words += [f"the network at {entry.key}"] if entry.key else []
    return ", ".join(word for word in words if word) or "a file without a name"


def _conventions(entry: WeightsEntry) -> tuple[object, ...]:
    renamed = tuple(sorted((entry.rename or {}).items()))
    return entry.channel_order, entry.mean, entry.flatten, entry.key, renamed
