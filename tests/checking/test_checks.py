"""What `probe data check` counts and refuses, and what becomes of leaks that are planted."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pictures
import pytest
import studies
from PIL import Image
from typer.testing import CliRunner, Result

from cli.app import app
from features.data.manifest import Manifest
from features.errors import InputError
from features.study.copies import Copies
from features.study.drafting import draft
from features.study.saving import save
from features.study.study import Study, has_study, open_study
from probe.checking.check import check
from probe.checking.find_copies import checked
from probe.fitting.fit import fit
from probe.folds.make_splits import make_splits
from probe.probes.methods import METHODS


def faces(folder: Path, n: int = 30, **more: list[str]) -> Path:
    """A manifest of `n` drawn pictures, `y` by turns; further columns as given."""
    columns = {"path": [f"{i}.jpg" for i in range(n)], "y": ["ab"[i % 2] for i in range(n)]} | more
    for i in range(n):
        pictures.save(pictures.drawn(i, (80, 80)), folder / f"{i}.jpg")
    lines = [",".join(columns), *(",".join(row) for row in zip(*columns.values(), strict=True))]
    (folder / "data.csv").write_text("\n".join(lines) + "\n")
    return folder / "data.csv"


def run(*words: object) -> Result:
    return CliRunner().invoke(app, ["data", "check", *map(str, words)])


def check_as_json(*words: object) -> dict[str, Any]:
    return dict(json.loads(run(*words, "--json").stdout))


def test_counts_by_hand(tmp_path: Path) -> None:
    columns = {
        "path": list("abcdefgh"),
        "y": ["p", "q", "p", "q", "p", "", "q", "q"],
        "subject": ["1", "1", "2", "2", "3", "3", "3", "4"],
        "fold": ["0", "0", "1", "1", "2", "2", "1", "0"],
        "use": ["1"] * 7 + ["0"],
    }
    result = check(draft(tmp_path, Manifest("here", tmp_path, columns)), Copies(((0, 2), (1, 7))))
    task = result.tasks["y"]
    assert (task.n, task.classes) == (6, {"p": 3, "q": 3})
    assert [fold.classes for fold in task.folds] == [
        {"p": 1, "q": 1}, {"p": 1, "q": 2}, {"p": 1, "q": 0},
    ]  # fmt: skip
    assert (result.subjects, result.subjects_across) == (3, ("3",))
    assert result.copies_across == ((0, 2),)  # row 7 is not in use
    assert result.conflicts == ()
    assert "1 subjects are in several folds (first: 3)" in result.refused[0]


def test_a_class_in_one_fold_alone_is_named(tmp_path: Path) -> None:
    columns = {"path": list("abcdef"), "y": list("pqpqrr"), "fold": list("010122")}
    result = check(draft(tmp_path, Manifest("here", tmp_path, columns)), Copies())
    assert result.tasks["y"].absent == ((0, "p"), (1, "q"), (2, "r"))
    assert len(result.refused) == 1


def test_a_sheet_that_has_no_place_is_refused_before_the_check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from probe.checking import find_copies

    monkeypatch.setattr(find_copies, "examine", lambda *_, **__: pytest.fail("it was checked"))
    data = faces(tmp_path)
    for place, words in (
        (tmp_path / "nowhere" / "sheet.png", "there is no folder"),
        (data / "sheet.png", "there is no folder"),
        (tmp_path, "a folder"),
    ):
        done = run("--data", data, "--study", tmp_path / "study", "--sheet", place)
        assert done.exit_code == 3, done.output
        assert f"error: --sheet {place}: {words}" in done.stderr


def test_a_clean_data_set_begins_no_study(tmp_path: Path) -> None:
    study = tmp_path / "study"
    done = run("--data", faces(tmp_path), "--study", study)
    assert done.exit_code == 0
    assert not has_study(study)
    assert [path.name for path in study.iterdir()] == ["checked-data.txt"]
    report = check_as_json("--data", tmp_path / "data.csv", "--study", study)
    assert report["tasks"]["y"]["n"] == 30
    assert report["tasks"]["y"]["classes"] == {"a": 15, "b": 15}
    assert len(report["tasks"]["y"]["folds"]) == 5
    assert sum(fold["n"] for fold in report["tasks"]["y"]["folds"]) == 30
    assert report["duplicates"] == {
        "exact": [], "near": [], "across_folds": [], "too_large": [], "placeholders": [],
        "conflicts": [],
    }  # fmt: skip
    assert report["unreadable"] == {}


def leaking(folder: Path) -> Path:
    """Three folds; 3.jpg copies 0.jpg into another fold, 10.jpg copies 9.jpg under another label."""
    file = faces(folder, fold=[str(i // 2 % 3) for i in range(30)])
    (folder / "3.jpg").write_bytes((folder / "0.jpg").read_bytes())
    pictures.save(pictures.encoded(pictures.drawn(9, (80, 80)), 50), folder / "10.jpg")
    (folder / "20.jpg").write_text("no image")
    return file


def test_copies_across_given_folds_are_refused_until_dropped(tmp_path: Path) -> None:
    file, study = leaking(tmp_path), tmp_path / "study"
    done = run("--data", file, "--study", study, "--sheet", tmp_path / "sheet.png")
    assert done.exit_code == 3
    assert "error: " in done.stderr
    assert "copies in another fold (first: 0.jpg and 3.jpg)" in done.stderr
    assert (tmp_path / "sheet.png").read_bytes()[:4] == b"\x89PNG"
    report = check_as_json("--data", file, "--study", study)
    assert sorted(report["duplicates"]["across_folds"]) == [["0.jpg", "3.jpg"], ["9.jpg", "10.jpg"]]
    (conflict,) = [c for c in report["duplicates"]["conflicts"] if "9.jpg" in c["paths"]]
    assert conflict == {"task": "y", "paths": ["9.jpg", "10.jpg"], "labels": ["b", "a"]}
    assert report["unreadable"] == {"20.jpg": "not an image"}
    grouped = run("--data", file, "--study", study, "--group-duplicates")
    assert grouped.exit_code == 3
    assert "comes with folds of its own" in grouped.stderr
    assert not study.exists()
    dropped = run("--data", file, "--study", study, "--drop-duplicates")
    assert dropped.exit_code == 0, dropped.stderr
    opened = open_study(study)
    unused = [opened.paths[r] for r in np.flatnonzero(~opened.used)]
    assert unused == ["0.jpg", "3.jpg", "9.jpg", "10.jpg"]  # labels of both pairs conflict
    assert len(opened) == 30
    assert run("--study", study).exit_code == 0


def test_the_first_of_agreeing_copies_stays(tmp_path: Path) -> None:
    file = faces(tmp_path, fold=[str(i // 2 % 3) for i in range(30)])
    (tmp_path / "4.jpg").write_bytes((tmp_path / "0.jpg").read_bytes())
    assert run("--data", file, "--study", tmp_path / "study", "--drop-duplicates").exit_code == 0
    opened = open_study(tmp_path / "study")
    assert [opened.paths[r] for r in np.flatnonzero(~opened.used)] == ["4.jpg"]


def test_copies_are_on_one_side_of_every_split_that_is_made(tmp_path: Path) -> None:
    file = faces(tmp_path)
    for i in range(0, 20, 2):
        pictures.save(pictures.encoded(pictures.drawn(i, (80, 80)), 40), tmp_path / f"{i + 1}.jpg")
    assert run("--data", file, "--study", tmp_path / "study", "--group-duplicates").exit_code == 0
    study = open_study(tmp_path / "study")
    splits = make_splits(study, study.tasks["y"], np.ones(30, dtype=bool), None, 0)
    for i in range(0, 20, 2):
        assert splits.part[i] == splits.part[i + 1]
        assert study.subjects[i] == study.subjects[i + 1]


def test_a_picture_that_many_share_is_kept_to_one_fold(tmp_path: Path) -> None:
    file = faces(tmp_path, fold=[str(i // 2 % 3) for i in range(30)])
    for i in range(11):
        (tmp_path / f"{i}.jpg").write_bytes((tmp_path / "29.jpg").read_bytes())
    done = run("--data", file, "--study", tmp_path / "study")
    assert done.exit_code == 3
    assert "12 images have copies" not in done.stderr  # 11 rows are away from the first's fold
    assert "images have copies in another fold" in done.stderr


def test_a_placeholder_of_many_subjects_is_left_out_and_named(tmp_path: Path) -> None:
    file = faces(tmp_path, 36, subject=[str(i) for i in range(36)])
    for i in range(12):
        (tmp_path / f"{i}.jpg").write_bytes((tmp_path / "0.jpg").read_bytes())
    report = check_as_json("--data", file, "--study", tmp_path / "study")
    assert report["duplicates"]["placeholders"] == [[f"{i}.jpg" for i in range(12)]]
    assert report["refused"] == []
    assert report["tasks"]["y"]["n"] == 24
    done = run("--data", file, "--study", tmp_path / "study")
    assert (
        "12 rows of 12 subjects have the same file as 0.jpg: a placeholder, left out" in done.stderr
    )


def memorising(folder: Path, given: bool, times: int = 2) -> Study:
    """Shuffled labels, every picture `times` with one label, and features that tell pictures apart."""
    rng = np.random.default_rng(0)
    n = 400
    y = np.repeat(rng.integers(0, 2, n // times), times)
    columns = {"path": [f"{i}.png" for i in range(n)], "y": [str(v) for v in y]}
    if given:
        columns["fold"] = [str(f) for f in rng.integers(0, 5, n)]
    made = draft(folder, Manifest("here", folder, columns))
    save(made)
    x = np.repeat(rng.standard_normal((n // times, 8)), times, axis=0) + 1e-3 * rng.standard_normal(
        (n, 8)
    )
    studies.add(made, "net", {"fc": x.astype(np.float32)})
    return made


@pytest.mark.parametrize("times", [2, 20])
def test_one_nearest_neighbour_remembers_nothing_with_leaks_planted(
    times: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Copies with random labels: left alone they are remembered, grouped it is chance."""
    monkeypatch.setitem(METHODS, "knn", replace(METHODS["knn"], grid=(1.0,)))
    same = Copies(tuple(tuple(range(i, i + times)) for i in range(0, 400, times)))
    study = memorising(tmp_path / "made", False, times)
    leaked = [r for r in fit(study.folder, probes=("knn",)).rows if r.layer == "fc"]
    assert np.mean([row.accuracy for row in leaked]) > 0.8
    save(replace(study, copies=same))
    grouped = [r for r in fit(study.folder, probes=("knn",)).rows if r.layer == "fc"]
    right = sum(row.accuracy * row.n_test for row in grouped)
    assert abs(right - 200) < 3.5 * np.sqrt(400 / 4 * times)  # the images of a group fall together
    own = memorising(tmp_path / "given", True, times)
    save(replace(own, copies=same))
    with pytest.raises(InputError, match=r"copies in another fold .*--drop-duplicates"):
        fit(own.folder, probes=("knn",))


def test_before_the_first_fit_copies_are_looked_for_once(tmp_path: Path) -> None:
    file = faces(tmp_path)
    (tmp_path / "7.jpg").write_bytes((tmp_path / "5.jpg").read_bytes())
    assert run("--data", file, "--study", tmp_path / "study", "--group-duplicates").exit_code == 0
    study = tmp_path / "study"
    (study / "copies.json").unlink()
    announced: list[str] = []
    assert checked(open_study(study), announced.append).copies == Copies(((5, 7),))
    assert announced == ["looking for copies among 30 images, once"]
    assert checked(open_study(study), announced.append).copies == Copies(((5, 7),))
    assert len(announced) == 1


def test_pictures_alike_by_their_kind_are_no_copies_of_each_other() -> None:
    few = Copies(near=((0, 1, 0.9), (2, 3, 0.9)))
    many = Copies(exact=((8, 9),), near=(*few.near, (4, 5, 0.9)))
    assert few.plausible(30) == few
    assert many.plausible(60) == many
    assert many.plausible(59) == Copies(exact=((8, 9),))


def test_images_that_are_gone_are_said_in_one_sentence(tmp_path: Path) -> None:
    """What was found of them while they were there is kept."""
    file, study = faces(tmp_path), tmp_path / "study"
    assert run("--data", file, "--study", study, "--group-duplicates").exit_code == 0
    before = {path: path.read_bytes() for path in study.iterdir() if path.is_file()}
    for image in tmp_path.glob("*.jpg"):
        image.unlink()
    for words in ([], ["--drop-duplicates"], ["--sheet", tmp_path / "sheet.png"]):
        done = run("--study", study, *words)
        assert (done.exit_code, done.stdout) == (3, "")
        (sentence,) = done.stderr.splitlines()
        assert f"{tmp_path}: none of the 30 images is there (0.jpg is the first)" in sentence
        assert "--root DIR" in sentence
    assert {path: path.read_bytes() for path in study.iterdir() if path.is_file()} == before
    done = run("--data", file, "--study", tmp_path / "other")
    assert done.exit_code == 3
    assert f"not even {tmp_path / '0.jpg'}; correct the paths." in done.stderr
    assert not (tmp_path / "other").exists()


def test_a_study_of_arrays_has_no_images_to_check(tmp_path: Path) -> None:
    studies.begin(tmp_path, {"label": [0, 1] * 5})
    done = run("--study", tmp_path)
    assert (done.exit_code, done.stdout) == (3, "")
    assert "none of the 10 images is there" in done.stderr


def test_many_rows_of_one_image_are_a_short_line(tmp_path: Path) -> None:
    for name in "abcdefgh":
        Image.new("RGB", (8, 8), (200, 10, 10)).save(tmp_path / f"{name}.png")
    lines = [f"{name}.png,{label}" for name in "abcdefgh" for label in "xy" * 100]
    (tmp_path / "data.csv").write_text("\n".join(["path,label", *lines]))
    words = ["data", "check", "--data", str(tmp_path / "data.csv"), "--study", str(tmp_path / "s")]
    checked = CliRunner().invoke(app, words)
    said = checked.stderr.splitlines()
    assert "  a.png = b.png = c.png = d.png = e.png and 3 more" in said
    assert "  label: a.png 'x', a.png 'y', b.png 'x', b.png 'y', c.png 'x' and 11 more" in said
