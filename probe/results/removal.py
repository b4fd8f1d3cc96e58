"""Taking a backbone out of a study: its features, its rows and its predictions."""

from __future__ import annotations

from pathlib import Path

from features.machine.files import locked
from features.store.featurefile import partial_of
from features.study.status import remove_features
from features.study.study import open_study
from probe.results import predictions
from probe.results import rows as results


def remove(study: Path | str, backbone: str) -> int:
    """Delete everything about `backbone`; returns how many rows of results.csv went with it.

    Raises:
        InputError: The study has neither features nor rows of it, or another process is at work on them.
    """
    opened = open_study(study)
    table = opened.folder / "results.csv"
    with locked(opened.folder / ".results.lock", str(table)):
        rows = results.read(table)
        kept = [row for row in rows if row.backbone != backbone]
        path = opened.feature_path(backbone)
        if path.is_file() or partial_of(path).is_file() or len(kept) == len(rows):
            remove_features(opened, backbone)
        if len(kept) < len(rows):
            results.write(table, kept)
            predictions.discard(opened.folder / "predictions.h5", backbone)
    return len(rows) - len(kept)
