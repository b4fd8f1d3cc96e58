"""What a fine-tune is planned to train: tasks that share a network, what tells results apart."""

from pathlib import Path

import pytest
import torch
import toys
from brighthalves import PLAIN

from features.backbone import load
from features.errors import InputError
from probe.finetuning.finetune import finetune
from probe.training.variants import Variant, start

PEOPLE = 30


def write_people(folder: Path, *, copied: bool = False, folds: bool = False) -> str:
    """Two images of every person, the first labelled for age, the second for gender.

    One age is rare, so that folds which are made serve each task by itself. `copied`: nobody is named,
    but the images are the same.
    """
    folder.mkdir()
    lines = ["path,age,gender,subject" + (",fold" if folds else "")]
    for row in range(2 * PEOPLE):
        person = row // 2
        toys.draw(person if copied else row).save(folder / f"{row}.png")
        age = "rare" if person < 3 else ("young", "old")[person % 2]
        labels = f"{age}," if row % 2 == 0 else f",{'fm'[person // 2 % 2]}"
        subject = "" if copied else str(person)
        lines.append(f"{row}.png,{labels},{subject}" + (f",{person % 3}" if folds else ""))
    (folder / "data.csv").write_text("\n".join(lines) + "\n")
    return str(folder / "data.csv")


@pytest.mark.parametrize("copied", [False, True])
def test_tasks_whose_folds_part_a_subject_are_not_trained_together(
    tmp_path: Path,
    card: str,
    copied: bool,
) -> None:
    asked = {"tasks": ["age", "gender"], "recipe": PLAIN, "views": ["center"], "device": "cpu"}
    data = write_people(tmp_path / "made", copied=copied)
    with pytest.raises(
        InputError,
        match=r"tasks age and gender: \d+ subjects or copies have images in several folds \(first: ",
    ):
        finetune(tmp_path / "a", card, data=data, **asked)  # type: ignore[arg-type]
    assert not (tmp_path / "a").exists()
    data = write_people(tmp_path / "given", copied=copied, folds=True)
    done = finetune(tmp_path / "b", card, data=data, **asked)  # type: ignore[arg-type]
    assert done.trained == 3


def test_from_scratch_beside_a_cut_is_from_scratch(tmp_path: Path, card: str) -> None:
    """The weights that are loaded for the cut are none of its business."""
    starts = [
        start(load(card, weights, 7), Variant("scratch"), 2, 7)[0].state_dict()
        for weights in (None, "random")
    ]
    assert not torch.equal(starts[0]["body.conv.weight"], load(card).model.conv.weight)  # type: ignore[union-attr]
    for name in starts[0]:
        torch.testing.assert_close(starts[0][name], starts[1][name], rtol=0, atol=0)
