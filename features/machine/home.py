"""The toolkit's cache folder, for what it fetched or drew: `$PROBE_HOME`, else in the platform's cache."""

import os
import sys
from pathlib import Path

from features.errors import InputError


def home() -> Path:
    """The cache folder, which may not exist yet.

    Raises:
        InputError: Nothing says where the user's home is.
    """
    if chosen := os.environ.get("PROBE_HOME"):
        return Path(chosen)
    cache = os.environ.get("XDG_CACHE_HOME")
    if cache and sys.platform != "darwin":
        return Path(cache) / "probe"
    try:
        own = Path.home()
    except RuntimeError as error:
        raise InputError(
            "this user has no home folder, in which weights and drawn images would be kept; set "
            "PROBE_HOME to a folder for them."
        ) from error
    return own / ("Library/Caches" if sys.platform == "darwin" else ".cache") / "probe"


def make(folder: Path) -> None:
    """Make a folder in the cache folder, with those above it, where they are not there.

    Raises:
        InputError: The cache folder is where none can be.
        OSError: It may not be written, or the disk is full.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileNotFoundError, FileExistsError, NotADirectoryError) as error:
        raise InputError(
            f"{folder}: cannot be made in the cache folder ({error.strerror}); set PROBE_HOME to a folder "
            "for fetched weights and drawn images."
        ) from error


def offline() -> bool:
    """Whether `$PROBE_OFFLINE` forbids the network."""
    return os.environ.get("PROBE_OFFLINE", "") not in ("", "0")
