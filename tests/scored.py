"""Rows held against the scores that are stored of them."""

import numpy as np
import pytest

from features.study.study import Study
from probe.results import predictions
from probe.results.metrics import kind_of, measure
from probe.results.rows import Row


def stored(study: Study, row: Row) -> predictions.Prediction:
    return predictions.read(study.folder / "predictions", row.stored)


def check(study: Study, rows: list[Row]) -> None:
    """Every row's metrics are those of its stored scores, and every image is tested once."""
    assert rows
    for row in rows:
        prediction, y = stored(study, row), study.labels(row.task)
        here = prediction.fold == row.fold
        assert row.n_test == here.sum()
        assert np.isfinite(prediction.scores[prediction.fold >= 0]).any(1).all()
        assert np.isnan(prediction.scores[prediction.fold < 0]).all()
        metrics = measure(
            prediction.scores[here], y[here], row.one_off is not None, kind_of(row.method)
        )
        for name, value in metrics.items():
            assert getattr(row, name) == pytest.approx(value, abs=1e-5)
