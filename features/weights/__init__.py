"""Weights: found, fetched or brought, checked, fitted to a network, and kept converted.

Read `locate.py` first, then `assign.py`. What is kept lies in `$PROBE_HOME/weights/` (`converted.py`).
"""

from features.weights.assign import Target
from features.weights.entries import WeightsFile, entries_of, sha256_of
from features.weights.locate import fitted, here, input_of, locate

__all__ = [
    "Target",
    "WeightsFile",
    "entries_of",
    "fitted",
    "here",
    "input_of",
    "locate",
    "sha256_of",
]
