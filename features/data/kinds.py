"""Kinds of image files by their endings: those that can be read, and what the others need."""

from __future__ import annotations

from contextlib import suppress
from functools import cache
from importlib import import_module
from importlib.util import find_spec

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
    ".exr", ".hdr", ".dcm", ".nii", ".tga", ".ico", ".pcx", ".qoi", ".jxr",
)  # fmt: skip


@cache
def extensions() -> tuple[str, ...]:
    """The endings of files that are read here, in lower case."""
    from PIL import features

    avif = (".avif",) if features.check("avif") else ()
    return (*_ALWAYS, *avif, *(kind for kind, module in _PLUGINS.items() if find_spec(module)))


def needed(kind: str) -> str | None:
    """What an ending of an image that is not read here needs, in a few words; None for any other ending."""
    if kind in extensions():
        return None
    if kind in _PLUGINS:
        return f"`pip install {_PACKAGES[_PLUGINS[kind]]}` reads it"
    if kind == ".avif":
        return "a newer Pillow reads it"
    return "convert it to PNG or JPEG" if kind in _NEVER else None


@cache
def register() -> None:
    """Let Pillow open what the installed plug-ins read."""
    for module in dict.fromkeys(_PLUGINS.values()):
        with suppress(ImportError):  # pillow_jxl registers itself
            plugin = import_module(module)
            if module == "pillow_heif":
                plugin.register_heif_opener()
