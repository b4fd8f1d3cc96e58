"""Features projected to one width: by NumPy, and beside the features as they are."""

from pathlib import Path

import numpy as np
import pytest
import studies

from features.errors import OptionError
from features.study.study import open_study
from probe.fitting.fit import fit
from probe.fitting.projection import projected
from probe.reporting.report import report
from probe.reporting.tables.width import width_table


def test_a_wide_layer_is_projected_and_a_narrow_one_stays(tmp_path: Path) -> None:
    y = np.arange(120) % 2
    study = studies.begin(tmp_path / "study", {"label": y.tolist()})
    x = studies.signal(y, 40, 0.4)
    studies.add(study, "net", {"wide": x, "narrow": x[:, :4]}, refused=(7,))
    before = fit(study.folder, probes=("ridge",)).rows
    done = fit(study.folder, probes=("ridge",), project=8)
    assert done.kept == 2
    assert done.fitted == 2
    assert [row for row in done.rows if row.project is None] == before
    of_eight = {row.layer: row for row in done.rows if row.project == 8}
    assert {layer: row.dim for layer, row in of_eight.items() if layer != "best"} == {
        "wide": 8,
        "narrow": 4,
    }
    by_fold = {(r.layer, r.project, r.fold): r.accuracy for r in done.rows}
    for fold in range(5):
        assert by_fold["narrow", 8, fold] == by_fold["narrow", None, fold]
    with study.features("net") as file:
        made = projected(file, "wide", 8, 0)
    drawn = np.random.default_rng([0, 40, 8]).standard_normal((40, 8), dtype=np.float32)
    np.testing.assert_allclose(made[8:], x[8:] @ drawn / 8**0.5, rtol=1e-4, atol=1e-5)
    assert np.isnan(made[7]).all()
    table = width_table(open_study(study.folder), done.rows)
    assert table is not None
    (line,) = table.rows
    full, eight = (
        np.average(
            [r.accuracy for r in done.rows if (r.layer, r.project) == ("best", width)],
            weights=[r.n_test for r in done.rows if (r.layer, r.project) == ("best", width)],
        )
        for width in (None, 8)
    )
    assert line[3:5] == (40, 8)
    assert (line[5], line[7], line[9]) == pytest.approx((full, eight, eight - full))
    assert (report(study).folder / "width.csv").is_file()


def test_a_width_is_one_at_least(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="--project 0"):
        fit(tmp_path, project=0)
