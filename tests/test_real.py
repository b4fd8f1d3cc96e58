"""On real faces, where the folder with them lies beside the project; skipped elsewhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from features.data import read_data
from features.study import draft
from probe.folds import make_splits

REAL = Path(__file__).parent.parent.parent / "shared" / "real"
pytestmark = pytest.mark.skipif(not REAL.is_dir(), reason="the real faces are not here")


def test_no_lfw_subject_is_on_both_sides_of_any_split(tmp_path: Path) -> None:
    study = draft(tmp_path, read_data(str(REAL / "lfw.csv")))
    assert len(study) == 614
    assert len(set(study.columns["subject"])) == 200
    splits = make_splits(study, study.tasks["gender"], np.ones(614, dtype=bool), None, 0)
    subject = np.array(study.columns["subject"])
    for fold in splits.folds:
        sets = [splits.tested(fold), *(left_out for _, left_out in splits.inner(fold))]
        for left_out in sets:
            train, held = splits.training_rows(left_out), splits.held_out_rows(left_out)
            assert not set(subject[train]) & set(subject[held])
            assert len(train) + len(held) == 614


def test_utkface_names_that_lack_a_field_are_left_out() -> None:
    found = read_data(f"utkface:{REAL / 'utkface'}")
    assert len(found) == 2000
    assert [name.split(".")[0] for name, _ in found.left_out] == [
        "61_1_20170109142408075",
        "61_3_20170109150557335",
    ]
