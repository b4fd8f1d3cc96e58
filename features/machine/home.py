"""The toolkit's cache folder, for what it fetched or drew: `$PROBE_HOME`, else in the platform's cache."""

import os
import sys
from pathlib import Path


def home() -> Path:
    """The cache folder, which may not exist yet."""
    if chosen := os.environ.get("PROBE_HOME"):
        return Path(chosen)
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "probe"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "probe"


def offline() -> bool:
    """Whether `$PROBE_OFFLINE` forbids the network."""
    return os.environ.get("PROBE_OFFLINE", "") not in ("", "0")
