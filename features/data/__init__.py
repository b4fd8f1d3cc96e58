"""Data sets, as `--data` takes them: a file for each kind, whose `read_FILE` returns a Manifest."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING

from features.errors import InputError, OptionError, nearest

if TYPE_CHECKING:
    from features.data.manifest import Manifest


@dataclass(frozen=True)
class Reader:
    """The reader of one kind of data, imported when it is used."""

    file: str
    """The file in this folder; the function is called `read_FILE`."""
    argument: str = ""
    """What a person writes after the colon, in capitals; empty for kinds that are not listed."""
    caches_images: bool = False
    """Whether its images are written out in the toolkit's cache folder."""

    def function(self) -> Callable[..., Manifest]:
        """The function: it takes the path after the colon, and options as keywords."""
        read: Callable[..., Manifest] = getattr(
            import_module(f"features.data.{self.file}"), f"read_{self.file}"
        )
        return read


READERS = {
    "adience": Reader("adience", "DIR"),
    "fairface": Reader("fairface", "CSV"),
    "hf": Reader("huggingface", "DIR", caches_images=True),
    "lfw": Reader("lfw", "DIR"),
    "unlabelled": Reader("unlabelled"),
    "utkface": Reader("utkface", "DIR"),
    "webdataset": Reader("webdataset", "GLOB", caches_images=True),
}
"""Readers by the word before the colon."""

FILES = {
    ".npz": Reader("images", caches_images=True),
    ".h5": Reader("images", caches_images=True),
    ".hdf5": Reader("images", caches_images=True),
    ".parquet": Reader("parquet"),
}
"""Readers of single files by suffix; any other file is a CSV or TSV manifest."""

KINDS = ", ".join(f"{word}:{kind.argument}" for word, kind in READERS.items() if kind.argument)
"""The listed kinds as a person writes them: `adience:DIR, fairface:CSV, ...`."""


def read_data(spec: str, standing: Collection[str] | None = None) -> Manifest:
    """Read the data set that `spec` names.

    Args:
        spec: A folder of class folders, a `.csv`, `.tsv` or `.parquet` manifest, an `.npz` or `.h5`
            file of images, `sample`, or one of KINDS, with options as in
            `adience:DIR?faces=coarse&labels=ranges` or `DIR?levels=fold/label`.
        standing: The columns of a study that was made of the data: those of a table keep these names, and
            none is refused as likely to be no label.

    Raises:
        InputError: It is none of these, or cannot be used.
    """
    if spec == "sample":
        return Reader("sample").function()()
    word, colon, rest = spec.partition(":")
    if colon and word in READERS:
        where, options = _options(rest)
        return _read(READERS[word], word, Path(where), options)
    where, options = options_in(spec)
    path = Path(where)
    if path.is_dir():
        return _read(Reader("folders"), "a folder", path, options)
    if path.is_file():
        reader = FILES.get(path.suffix, Reader("table"))
        return _read(reader, f"a {path.suffix} file", path, options, standing)
    words = [f"{word}:" for word in READERS]
    hint = f"; {nearest(word + ':', words)}" if colon and "/" not in word else ""
    raise InputError(
        f"--data {spec}: there is no such folder or file{hint or '.'} Give a folder of class "
        f"folders, a CSV, TSV or Parquet manifest, an .npz or .h5 file of images, {KINDS} or sample."
    )


def caches_images(source: str) -> bool:
    """Whether the images of the data `source` were written out in the toolkit's cache folder."""
    where, _ = _options(source)
    reader = READERS.get(where.partition(":")[0]) or FILES.get(Path(where).suffix)
    return source == "sample" or (reader is not None and reader.caches_images)


def with_options(spec: str, options: Mapping[str, str | None]) -> str:
    """`spec` followed by the options that are not None, as `read_data` takes them."""
    pairs = "&".join(
        f"{name}={_quoted(value)}" for name, value in options.items() if value is not None
    )
    return f"{spec}?{pairs}" if pairs else spec


def _read(
    reader: Reader,
    kind: str,
    path: Path,
    options: Mapping[str, str],
    standing: Collection[str] | None = None,
) -> Manifest:
    """The manifest of `path`; its source includes the options that are not the default."""
    read = reader.function()
    _, *keywords = signature(read).parameters.values()
    defaults = {keyword.name: keyword.default for keyword in keywords}
    known_columns = {"standing": standing} if "standing" in defaults else {}
    defaults.pop("standing", None)  # no option
    for name in options:
        if name not in defaults:
            known = ", ".join(name.replace("_", "-") for name in defaults)
            takes = f"takes {known}" if defaults else "takes no options"
            raise OptionError(f"--{name.replace('_', '-')}: {kind} {takes}; leave it out.")
    manifest = read(path, **options, **known_columns)
    changed = {name: value for name, value in options.items() if value != defaults[name]}
    if "root" in changed:  # another command may run in another folder
        from features.data.image_paths import root_of

        changed["root"] = str(root_of(path, changed["root"]))
    return replace(manifest, source=with_options(manifest.source, changed))


def options_in(spec: str) -> tuple[str, dict[str, str]]:
    """`spec` without its options, and these by name."""
    # Not Path.exists, which raises where a name is too long.
    return (spec, {}) if os.path.lexists(spec) else _options(spec)


def _options(rest: str) -> tuple[str, dict[str, str]]:
    """`DIR?faces=coarse&labels=ranges` as folder and options; a folder's name may have a question mark."""
    where, mark, pairs = rest.rpartition("?")
    if not mark or not re.fullmatch(r"\w+=[^&?]*(&\w+=[^&?]*)*", pairs):
        return rest, {}
    given = dict(pair.split("=", 1) for pair in pairs.split("&"))
    return where, {name: _unquoted(value) for name, value in given.items()}


_SIGNS = {"%": "%25", "&": "%26", "?": "%3F"}
"""What part options from each other, and how a value has them."""


def _quoted(value: str) -> str:
    for sign, written in _SIGNS.items():
        value = value.replace(sign, written)
    return value


def _unquoted(value: str) -> str:
    for sign, written in reversed(_SIGNS.items()):
        value = value.replace(written, sign)
    return value
