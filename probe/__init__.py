"""HDF5 to knowledge: folds, probes, statistics, curves, the report.

From Python:

    from probe import extract, fit, open_study, report

    extract("study", "vggface", data="faces.csv", layers=["fc6"])   # features/extraction/extract.py
    fit("study", probes=["logistic"])                               # probe/fitting/fit.py
    study = open_study("study")                                     # features/study/study.py
    report(study)                                                   # probe/reporting/report.py

Reading order: crossval, linear, solver; then results, curves, report.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from features.extraction.extract import extract
    from features.study.study import open_study
    from probe.fitting.fit import fit
    from probe.reporting.report import report

__all__ = ["extract", "fit", "open_study", "report"]

_HOMES = {
    "extract": "features.extraction.extract",
    "fit": "probe.fitting.fit",
    "open_study": "features.study.study",
    "report": "probe.reporting.report",
}


def __getattr__(name: str) -> Any:
    """Import on first use, so that `probe --help` need not wait for PyTorch."""
    if name in _HOMES:
        found = getattr(import_module(_HOMES[name]), name)
        globals()[name] = found
        return found
    raise AttributeError(f"module 'probe' has no attribute {name!r}")
