"""HDF5 to knowledge: folds, probes, statistics, curves, the report.

From Python:

    from probe import extract, fit, open_study, report

    extract("study", "vggface", data="faces.csv", layers=["fc6"])   # features/extract.py
    fit("study", probes=["logistic"])                               # probe/fitting.py
    study = open_study("study")                                     # features/study.py
    report(study)                                                   # probe/reporting.py

Reading order: crossval, linear, solver; then results, curves, report.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from features.extract import extract
    from features.study import open_study
    from probe.fitting import fit
    from probe.reporting import report

__all__ = ["extract", "fit", "open_study", "report"]

_HOMES = {
    "extract": "features.extract",
    "fit": "probe.fitting",
    "open_study": "features.study",
    "report": "probe.reporting",
}


def __getattr__(name: str) -> Any:
    """Import on first use, so that `probe --help` need not wait for PyTorch."""
    if name in _HOMES:
        found = getattr(import_module(_HOMES[name]), name)
        globals()[name] = found
        return found
    raise AttributeError(f"module 'probe' has no attribute {name!r}")
