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


def offline() -> bool:
    """Whether `$PROBE_OFFLINE` forbids the network."""
    return os.environ.get("PROBE_OFFLINE", "") not in ("", "0")
