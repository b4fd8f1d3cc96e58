from pathlib import Path

import numpy as np
import pytest
import studies

from features.data.tasks import Task
from probe.analysis.outcomes import Outcomes
from probe.fitting.fit import fit


@pytest.mark.parametrize("classes", [200, 300])
def test_more_classes_than_a_byte_counts(tmp_path: Path, classes: int) -> None:
    """Every image right: also by what is read back of the scores, not only by the folds' figures."""
    y = np.arange(4 * classes) // 4
    tasks = {"label": Task("label", tuple(str(i) for i in range(classes)), ordered=True)}
    study = studies.begin(tmp_path, {"label": y}, tasks)
    studies.add(study, "net", {"fc": 10 * np.eye(classes, dtype=np.float32)[y]})
    rows = [
        row for row in fit(tmp_path, probes=("ridge",), folds=2, c=(1.0,)).rows if row.layer == "fc"
    ]
    assert {row.accuracy for row in rows} == {1.0}
    measured = Outcomes(study, "label", rows).measure(rows)
    values = [measured[name].value for name in ("accuracy", "balanced", "one_off", "mae")]
    assert values == pytest.approx([1, 1, 1, 0])
