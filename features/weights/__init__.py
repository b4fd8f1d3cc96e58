"""Weights: located, fetched or added, checked, assigned to a network, and stored converted.

Read `locate.py` first, then `assign.py`. Converted files lie in `$PROBE_HOME/weights/` (`converted.py`).
"""

from features.weights.assign import Target
from features.weights.entries import WeightsFile, entries_of, sha256_of
from features.weights.locate import (
    assigned,
    here,
    how_to_get,
    input_of,
    inside,
    lacking,
    locate,
)

__all__ = [
    "Target",
    "WeightsFile",
    "assigned",
    "entries_of",
    "here",
    "how_to_get",
    "input_of",
    "inside",
    "lacking",
    "locate",
    "sha256_of",
]
