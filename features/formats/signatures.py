"""What the first bytes of a file tell: HDF5's signature, and the names in a zip file."""

from __future__ import annotations

import zipfile
from pathlib import Path

HDF5 = b"\x89HDF\r\n\x1a\n"


def members(path: Path, head: bytes) -> list[str]:
    """The names of a zip file's members; none where `head`, its first bytes, are not those of one.

    Where its directory is lost, its first member's name alone.
    """
    if not head.startswith(b"PK\x03\x04"):
        return []
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    except Exception:  # damaged in one of many ways: the format's own reader will say so
        length = int.from_bytes(head[26:28], "little")
        return [head[30 : 30 + length].decode("utf-8", "replace")]
