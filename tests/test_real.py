"""On real faces, where the folder with them lies beside the project; skipped elsewhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from features.data import read_data
from features.extraction.extract import extract
from features.study.drafting import draft
from features.study.study import open_study
from probe.folds.make_splits import make_splits

ROOT = Path(__file__).parent.parent
REAL = ROOT.parent / "shared" / "real"
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


@pytest.mark.slow
@pytest.mark.parametrize(("order", "rate"), [("rgb", 0.81), ("bgr", 0.76)])
def test_faces_are_told_apart_as_well_as_the_channels_are_right(
    order: str, rate: float, tmp_path: Path
) -> None:
    """The true-accept rate at a false-accept rate of 1e-3: the AUC is above .99 either way."""
    text = (ROOT / "features" / "cards" / "mobilefacenet.toml").read_text()
    card = tmp_path / "card.toml"
    card.write_text(text.replace('channel_order = "rgb"', f'channel_order = "{order}"'))
    weights = str(REAL / "weights" / "mobilefacenet.ckpt")
    done = extract(
        tmp_path / "study",
        str(card),
        data=str(REAL / "lfw.csv"),
        weights=weights,
        layers=["linear1"],
        device="cpu",
    )
    study = open_study(tmp_path / "study")
    with study.features(done.backbone) as file:
        x = file.read("linear1")
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    subject = np.array(study.columns["subject"])
    above = np.triu_indices(len(x), 1)
    same, likeness = (subject[:, None] == subject)[above], (x @ x.T)[above]
    strangers = np.sort(likeness[~same])[::-1]
    threshold = strangers[len(strangers) // 1000]
    assert abs(np.mean(likeness[same] > threshold) - rate) < 0.005
