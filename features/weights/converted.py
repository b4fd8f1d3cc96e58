"""Converted weights: safetensors files in `$PROBE_HOME/weights/BACKBONE/`, sealed by a checksum.

Each holds the tensors of one network under the network's own names, and in its header where they
came from. The seal covers both, so that a changed byte is noticed. A file is either complete or not
there at all: it is renamed when it is complete.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from features.cards.card import Card, WeightsEntry
from features.errors import InputError
from features.machine.files import file_name, replacing
from features.machine.home import home, make
from features.machine.locks import locked_open
from features.machine.regular_files import check_regular
from features.machine.tensors import write_tensors

_VERSION = "1"
_LATER = ("key", "rename")


@dataclass(frozen=True)
class Kept:
    """One converted file, as its header describes it."""

    path: Path
    card: str
    """The name of the backbone."""
    source: str
    """The name of the file that was converted."""
    sha256: str
    """The checksum of that file."""
    archive_sha256: str
    """The checksum of the archive that it was in, if it was in one."""
    format: str
    licence: str
    verified: bool
    published: bool
    """Whether the card lists this file."""
    recipe: str
    """A hash of everything in the card that decides how the file is read."""


def recipe_of(card: Card, entry: WeightsEntry) -> str:
    """A hash of everything in the card that decides how a file becomes the network's tensors."""
    decisive = {
        "version": _VERSION,
        "network": card.network,
        "options": dict(card.options),
        "layers": dict(card.layers or {}),
        "order": card.input.channel_order if card.input else "rgb",
        "entry": {
            key: value
            for key, value in asdict(entry).items()
            # keys that cards gained later change no hash of a card without them
            if key != "note" and not (key in _LATER and value is None)
        },
    }
    return hashlib.sha256(json.dumps(decisive, sort_keys=True, default=str).encode()).hexdigest()


def folder_of(name: str) -> Path:
    """Where the converted weights of a backbone lie."""
    return home() / "weights" / file_name(name)


def kept(name: str | None = None) -> list[Kept]:
    """The converted files of one backbone or of all, newest first."""
    top = home() / "weights"
    folders = [folder_of(name)] if name is not None else sorted(top.glob("*/"))
    files = [path for folder in folders for path in folder.glob("*.safetensors")]
    shown = [path for path in files if not path.name.startswith(".")]
    shown.sort(key=lambda path: (path.parent, -path.stat().st_mtime_ns))
    return [_described(path) for path in shown]


def kept_as(card: Card, entry: WeightsEntry) -> Kept | None:
    """The converted file of this entry, as the card describes it today."""
    recipe = recipe_of(card, entry)
    return next((file for file in kept(card.name) if file.recipe == recipe), None)


def keep(state: Mapping[str, Tensor], described: Kept) -> Kept:
    """Write a converted file in one step; returns its description."""
    about = {k: str(v) for k, v in asdict(described).items() if k != "path"}
    tensors = {name: tensor.contiguous().clone() for name, tensor in state.items()}
    about["seal"] = _seal(tensors, about)
    with replacing(described.path) as written:
        write_tensors(written, tensors, about)
    return described


def read(path: Path) -> dict[str, Tensor]:
    """The tensors of a converted file.

    Raises:
        InputError: A byte of it has changed since it was written.
    """
    from safetensors import SafetensorError, safe_open

    try:
        check_regular(path)
        with safe_open(path, "pt") as file:
            about = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        intact = about.pop("seal", "") == _seal(tensors, about)
    except (SafetensorError, OSError, ValueError):
        intact = False
    if not intact:
        raise InputError(
            f"{path}: not what was written (its checksum differs); `probe weights remove "
            f"{path.parent.name}` and add or fetch the weights again."
        )
    return tensors


def verify(file: Kept) -> dict[str, str | bool]:
    """Whether a converted file is `whole`, and its `state` in words."""
    try:
        read(file.path)
    except InputError as error:
        return {"whole": False, "state": str(error)}
    return {"whole": True, "state": "whole, " + ("verified" if file.verified else "unverified")}


def remove(name: str) -> list[Kept]:
    """Remove all converted weights of a backbone, and what a broken download left.

    Raises:
        InputError: There are none.
    """
    removed, folder = kept(name), folder_of(name)
    if not folder.is_dir() or not any(folder.iterdir()):
        raise InputError(
            f"{name}: no weights of it are stored here; `probe weights list` shows what is."
        )
    with locked_folder(name):  # the folder stays: another process may wait for its lock
        for path in folder.iterdir():
            path.unlink()
    return removed


@contextmanager
def locked_folder(name: str) -> Iterator[Path]:
    """Lock a backbone's folder for the block, cleared of what a killed process left behind.

    Raises:
        InputError: Another process has locked it.
    """
    folder = folder_of(name)
    make(folder)
    handle = os.open(folder, os.O_RDONLY)
    refusal = (
        f"{folder}: another process is changing the weights of {name}; wait until it has finished."
    )
    try:
        with locked_open(handle, folder, refusal):
            for left in folder.glob(".*"):
                if left.is_dir():
                    shutil.rmtree(left)
                elif left.suffix == ".safetensors":
                    left.unlink()
            yield folder
    finally:
        os.close(handle)


def _described(path: Path) -> Kept:
    from safetensors import SafetensorError, safe_open

    try:
        check_regular(path)
        with safe_open(path, "pt") as file:
            about = dict(file.metadata() or {})
        for key in ("verified", "published"):
            about[key] = about[key] == "True"
        about.pop("seal")
        return Kept(path=path, **about)
    except (SafetensorError, OSError, KeyError, TypeError):
        # Still listed, so that `verify` reports it and `remove` deletes it.
        name = path.parent.name
        return Kept(path, name, path.name, "", "", "damaged", "", False, False, "")


def _seal(tensors: Mapping[str, Tensor], about: Mapping[str, str]) -> str:
    running = hashlib.sha256(json.dumps(dict(about), sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        running.update(f"\n{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        running.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return running.hexdigest()
