"""What a fine-tune is planned to train: tasks that share a network, what tells results apart."""

from collections.abc import Callable
from pathlib import Path

import pytest
import toys
from test_finetuning import PLAIN, card  # noqa: F401

from features.errors import InputError
from probe.finetuning import finetune

PEOPLE = 30


def write_people(folder: Path, *, folds: bool) -> str:
    """Two images of every person, the first labelled for age, the second for gender.

    One age is rare, so that folds which are made serve each task by itself.
    """
    folder.mkdir()
    lines = ["path,age,gender,subject,fold" if folds else "path,age,gender,subject"]
    for row in range(2 * PEOPLE):
        person = row // 2
        toys.draw(row).save(folder / f"{row}.png")
        age = "rare" if person < 3 else ("young", "old")[person % 2]
        gender = "fm"[person // 2 % 2]
        labels = f"{age}," if row % 2 == 0 else f",{gender}"
        lines.append(f"{row}.png,{labels},{person}" + (f",{person % 3}" if folds else ""))
    (folder / "data.csv").write_text("\n".join(lines) + "\n")
    return str(folder / "data.csv")


def test_tasks_whose_folds_part_a_subject_are_not_trained_together(
    tmp_path: Path,
    card: str,  # noqa: F811
) -> None:
    asked = {"recipe": PLAIN, "views": ["center"], "device": "cpu"}
    data = write_people(tmp_path / "made", folds=False)
    with pytest.raises(
        InputError,
        match=r"tasks age and gender: \d+ subjects or copies have images in several folds \(first: ",
    ):
        finetune(tmp_path / "a", card, data=data, tasks=["age", "gender"], **asked)  # type: ignore[arg-type]
    assert not (tmp_path / "a").exists()
    data = write_people(tmp_path / "given", folds=True)
    done = finetune(tmp_path / "b", card, data=data, tasks=["age", "gender"], **asked)  # type: ignore[arg-type]
    assert done.trained == 3
