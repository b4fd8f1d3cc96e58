"""HDF5 to knowledge: folds, probes, statistics, curves, the report.

From Python:

    from probe import extract, fit, open_study, report

    extract("study", "vggface", data="faces.csv", layers=["fc6"])   # features/extraction/extract.py
    fit("study", probes=["logistic"])                               # probe/fitting/fit.py
    study = open_study("study")                                     # probe/notebook/opened.py
    study.results(), study.curve("age")                             # a table, a figure
    report(study)                                                   # probe/reporting/report.py

Reading order: fitting/crossval, probes/linear, probes/solver; then results, analysis, reporting.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from features.extraction.extract import extract
    from probe.analysis.compare import compare
    from probe.analysis.curves import curves
    from probe.exported.export import export
    from probe.exported.exported_probe import load_probe
    from probe.finetuning.finetune import finetune
    from probe.fitting.fit import fit
    from probe.notebook.opened import open_study
    from probe.reporting.report import report
    from probe.scoring.rank import rank

__all__ = [
    "compare", "curves", "export", "extract", "finetune", "fit", "load_probe", "open_study", "rank",
    "report",
]  # fmt: skip

_HOMES = {
    "compare": "probe.analysis.compare",
    "curves": "probe.analysis.curves",
    "export": "probe.exported.export",
    "extract": "features.extraction.extract",
    "finetune": "probe.finetuning.finetune",
    "fit": "probe.fitting.fit",
    "load_probe": "probe.exported.exported_probe",
    "open_study": "probe.notebook.opened",
    "rank": "probe.scoring.rank",
    "report": "probe.reporting.report",
}


def __getattr__(name: str) -> Any:
    """Import on first use, so that `probe --help` need not wait for PyTorch."""
    if name in _HOMES:
        value = getattr(import_module(_HOMES[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'probe' has no attribute {name!r}")


def __dir__() -> list[str]:
    """What can be imported from here."""
    return sorted(__all__)
