"""What the tests of fits share."""

from pathlib import Path

import numpy as np
import pytest
import studies

from features.extraction.imported import import_features
from features.study.study import Study, open_study


@pytest.fixture
def study(tmp_path: Path) -> Study:
    """Two tasks, two imported layers of one backbone and one of another."""
    y = np.arange(90) % 3
    labels = {"label": y, "other": (y > 0).astype(int), "subject": np.arange(90) // 3 % 20}
    for name, layer, apart in (("net", "low", 0.3), ("net", "high", 1.0), ("toy", "only", 0.5)):
        file = tmp_path / f"{name}-{layer}.npz"
        np.savez(file, features=studies.signal(y, 5, apart, len(layer)), **labels)
        depth = 0.5 if layer == "low" else 1.0
        import_features(
            tmp_path / "study", file, name=name, layer=layer, domain="faces", depth=depth
        )
    return open_study(tmp_path / "study")
