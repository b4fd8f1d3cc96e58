"""Data sets: what `--data` takes. A reader turns one kind into a Manifest; one short file each."""

from __future__ import annotations

from pathlib import Path

from features.card import nearest
from features.data.folders import read_folders
from features.data.sample import read_sample
from features.data.table import read_table
from features.data.utkface import read_utkface
from features.errors import InputError
from features.manifest import Manifest

READERS = {"utkface": read_utkface}


def read_data(spec: str) -> Manifest:
    """Read the data set that `spec` names.

    Args:
        spec: A folder of class folders, a `.csv` or `.tsv` manifest, `utkface:DIR`, or `sample`.

    Raises:
        InputError: It is none of these, or cannot be used.
    """
    if spec == "sample":
        return read_sample()
    kind, colon, rest = spec.partition(":")
    if colon and kind in READERS:
        return READERS[kind](Path(rest))
    path = Path(spec)
    if path.is_dir():
        return read_folders(path)
    if path.is_file():
        return read_table(path)
    known = [f"{name}:" for name in READERS]
    hint = f"; {nearest(kind + ':', known)}" if colon and "/" not in kind else ""
    raise InputError(
        f"--data {spec}: there is no such folder or file{hint or '.'} Give a folder of class "
        f"folders, a CSV or TSV manifest, {', '.join(k + 'DIR' for k in known)} or sample."
    )
