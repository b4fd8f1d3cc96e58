"""Kinds of image files by their endings: those that can be read, and what the others need."""

from __future__ import annotations

from contextlib import suppress
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from features.machine.regular_files import open_regular

_ALWAYS = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".dib", ".gif", ".webp", ".tif", ".tiff",
    ".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".j2k",
)  # fmt: skip
_PLUGINS = {
    ".heic": "pillow_heif",
    ".heif": "pillow_heif",
    ".hif": "pillow_heif",
    ".jxl": "pillow_jxl",
}
"""Modules that teach Pillow a kind."""
_PACKAGES = {"pillow_heif": "pillow-heif", "pillow_jxl": "pillow-jxl-plugin"}
_NEVER = (
    ".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".raf", ".rw2", ".raw", ".svg", ".psd", ".eps",
    ".exr", ".hdr", ".dcm", ".nii", ".tga", ".ico", ".pcx", ".qoi", ".jxr", ".xcf", ".kra", ".jpx",
    ".jpf", ".apng", ".fits", ".sgi", ".xpm", ".xbm", ".icns", ".dds", ".pef", ".srw", ".ai", ".heics",
)  # fmt: skip
_BESIDE = (
    ".txt", ".csv", ".tsv", ".json", ".jsonl", ".xml", ".yaml", ".yml", ".toml", ".md", ".rst", ".html",
    ".htm", ".css", ".js", ".pdf", ".doc", ".docx", ".xls", ".xlsx", ".ods", ".ini", ".cfg", ".log", ".db",
    ".py", ".ipynb", ".m", ".r", ".sh", ".bat", ".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar",
    ".lst", ".names", ".idx", ".npy", ".npz", ".h5", ".hdf5", ".mat", ".pkl", ".pt", ".pth", ".parquet",
    ".arrow", ".lnk", ".url", ".license", ".bib", ".tex", ".pts", ".wav", ".mp3",
)  # fmt: skip
"""Endings of files that lie beside images and are none; of others it is said that they are not read."""
_BEGINS = (
    b"\xff\xd8\xff", b"\x89PNG\r\n", b"GIF8", b"BM", b"RIFF", b"II*\0", b"MM\0*", b"\0\0\0\x0cjP",
)  # fmt: skip
"""How files of images begin."""


@cache
def extensions() -> tuple[str, ...]:
    """The endings of files that are read here, in lower case."""
    from PIL import features

    avif = (".avif",) if features.check("avif") else ()
    return (*_ALWAYS, *avif, *(kind for kind, module in _PLUGINS.items() if find_spec(module)))


def needed(kind: str) -> str | None:
    """What a file of an ending that is not read here needs, in a few words; None where it is no image.

    Args:
        kind: The ending in lower case, such as `.xcf`; empty for an image without one.
    """
    if kind in extensions() or kind in _BESIDE:
        return None
    if not kind:
        return "give their names an ending such as .jpg"
    if kind in _PLUGINS:
        return f"`pip install {_PACKAGES[_PLUGINS[kind]]}` reads it"
    if kind == ".avif":
        return "a newer Pillow reads it"
    if kind in _NEVER:
        return "convert it to PNG or JPEG"
    return "if they are images, convert them to PNG or JPEG"


def unread(kind: str, count: int) -> str:
    """So many files of an ending that is not read, in words."""
    noun = "image" if not kind or kind in _NEVER or kind in _PLUGINS or kind == ".avif" else "file"
    return f"{count} {noun}{'s' * (count != 1)}"


def begins_as_image(file: Path) -> bool:
    """Whether the first bytes of a file are those of an image."""
    try:
        with open_regular(file) as opened:
            return opened.read(8).startswith(_BEGINS)
    except OSError:
        return False


@cache
def register() -> None:
    """Let Pillow open what the installed plug-ins read."""
    for module in dict.fromkeys(_PLUGINS.values()):
        with suppress(ImportError):  # pillow_jxl registers itself
            plugin = import_module(module)
            if module == "pillow_heif":
                plugin.register_heif_opener()
