"""Data sets: what `--data` takes. A reader turns one kind into a Manifest; one short file each."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from inspect import signature
from pathlib import Path

from features.data.adience import read_adience
from features.data.arrayfile import SUFFIXES
from features.data.fairface import read_fairface
from features.data.folders import read_folders
from features.data.huggingface import read_huggingface
from features.data.images import read_images
from features.data.lfw import read_lfw
from features.data.manifest import Manifest
from features.data.parquet import read_parquet
from features.data.sample import read_sample
from features.data.table import read_table
from features.data.unlabelled import read_unlabelled
from features.data.utkface import read_utkface
from features.data.webdataset import read_webdataset
from features.errors import InputError, nearest

READERS: dict[str, tuple[Callable[..., Manifest], tuple[str, ...]]] = {
    "adience": (read_adience, ("faces", "labels")),
    "fairface": (read_fairface, ()),
    "hf": (read_huggingface, ()),
    "lfw": (read_lfw, ("labels",)),
    "unlabelled": (read_unlabelled, ()),
    "utkface": (read_utkface, ()),
    "webdataset": (read_webdataset, ()),
}
"""What stands before the colon, with the options that the reader takes."""

KINDS = "adience:DIR, fairface:CSV, hf:DIR, lfw:DIR, utkface:DIR, webdataset:GLOB"


def read_data(spec: str) -> Manifest:
    """Read the data set that `spec` names.

    Args:
        spec: A folder of class folders, a `.csv`, `.tsv` or `.parquet` manifest, an `.npz` or `.h5`
            file of images, `sample`, or one of `adience:DIR`, `fairface:CSV`, `hf:DIR`, `lfw:DIR`,
            `utkface:DIR` and `webdataset:GLOB`, with options as in
            `adience:DIR?faces=coarse&labels=ranges`.

    Raises:
        InputError: It is none of these, or cannot be used.
    """
    if spec == "sample":
        return read_sample()
    kind, colon, rest = spec.partition(":")
    if colon and kind in READERS:
        read, known = READERS[kind]
        where, options = _options(rest)
        for name in options:
            if name not in known:
                takes = f"takes {', '.join(known)}" if known else "takes no options"
                raise InputError(f"--{name}: {kind} {takes}; leave it out.")
        manifest = read(Path(where), **options)
        usual = signature(read).parameters
        unusual = {name: value for name, value in options.items() if value != usual[name].default}
        return replace(manifest, source=with_options(manifest.source, unusual))
    path = Path(spec)
    if path.is_dir():
        return read_folders(path)
    if path.is_file():
        if path.suffix in SUFFIXES:
            return read_images(path)
        return read_parquet(path) if path.suffix == ".parquet" else read_table(path)
    known_kinds = [f"{name}:" for name in READERS]
    hint = f"; {nearest(kind + ':', known_kinds)}" if colon and "/" not in kind else ""
    raise InputError(
        f"--data {spec}: there is no such folder or file{hint or '.'} Give a folder of class "
        f"folders, a CSV, TSV or Parquet manifest, an .npz or .h5 file of images, {KINDS} or sample."
    )


def is_kept(source: str) -> bool:
    """Whether the images of the data `source` lie in the toolkit's cache folder, where it wrote them."""
    inside = source.startswith(("hf:", "webdataset:")) or Path(source).suffix in SUFFIXES
    return inside or source == "sample"


def with_options(spec: str, options: Mapping[str, str | None]) -> str:
    """`spec` with the options that are not None put behind it, as `read_data` takes them."""
    pairs = "&".join(f"{name}={value}" for name, value in options.items() if value is not None)
    return f"{spec}?{pairs}" if pairs else spec


def _options(rest: str) -> tuple[str, dict[str, str]]:
    """`DIR?faces=coarse&labels=ranges` taken apart; a folder may have a question mark in its name."""
    where, mark, pairs = rest.rpartition("?")
    if not mark or not re.fullmatch(r"\w+=[^&?]*(&\w+=[^&?]*)*", pairs):
        return rest, {}
    return where, dict(pair.split("=", 1) for pair in pairs.split("&"))
