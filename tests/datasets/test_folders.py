"""Folders as people have them: what is taken for a class, a split or nothing, and that it is said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pictures
import pytest
from PIL import Image
from typer.testing import CliRunner

from cli.app import app
from features.data import read_data
from features.data.kinds import extensions, needed
from features.errors import InputError
from features.images.decode import read_rgb
from features.study.study import open_study


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder


def laid_out(folder: Path, *tops: str, below: tuple[str, ...] = ("ant", "bee")) -> Path:
    """Two images in each class folder of each top folder."""
    return touch(folder, *(f"{top}/{name}/{i}.jpg" for top in tops for name in below for i in "12"))


@pytest.mark.parametrize(
    "tops",
    [("train", "valid", "test"), ("train", "val"), ("Training", "Testing"), ("dev", "train")],
)
@pytest.mark.parametrize("around", ["", "data/", "a/b/"])
def test_a_split_has_labels_below(tmp_path: Path, tops: tuple[str, ...], around: str) -> None:
    laid_out(tmp_path, *(around + top for top in tops))
    found = read_data(str(tmp_path))
    for path, label, split in zip(
        *(found.columns[name] for name in ("path", "label", "split")), strict=True
    ):
        assert path.startswith(f"{around}{split}/{label}/")
    assert len(found) == 4 * len(tops)
    assert found.columns["path"] == sorted(found.columns["path"])
    (note,) = found.notes
    assert "are the split and the folders below them the classes" in note
    as_classes = read_data(f"{tmp_path}?levels={'-/' * around.count('/')}label")
    assert set(as_classes.columns["label"]) == set(tops)


def test_one_folder_around_all_is_looked_through(tmp_path: Path) -> None:
    found = read_data(str(laid_out(touch(tmp_path, "images/cover.jpg"), "images")))
    assert set(found.columns["label"]) == {"ant", "bee"}
    assert found.columns["path"][0] == "images/ant/1.jpg"
    assert found.left_out == (("images/cover.jpg", "in no class folder"),)


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (
            ("fold_1", "fold_2"),
            "its folders fold_1 and fold_2 look like folds and not like classes",
        ),
        (
            ("1", "2", "3"),
            "look like folds or persons and not like classes; give --levels fold/label,",
        ),
        (
            ("person1", "person2"),
            "look like persons and not like classes; give --levels subject/label",
        ),
        (("S01", "S02", "S03", "S04", "S05"), "S01, S02, S03 and 2 more look like persons"),
    ],
)
def test_folds_and_persons_are_asked_about(
    tmp_path: Path, names: tuple[str, ...], said: str
) -> None:
    laid_out(tmp_path, *names)
    with pytest.raises(InputError) as caught:
        read_data(str(tmp_path))
    assert said in str(caught.value)
    assert "--levels label if they are the classes." in str(caught.value)
    for first in ("fold", "subject", "session"):
        found = read_data(f"{tmp_path}?levels={first}/label")
        assert set(found.columns[first]) == set(names)
        assert set(found.columns["label"]) == {"ant", "bee"}
        assert found.source == f"{tmp_path}?levels={first}/label"
        assert read_data(found.source) == found


@pytest.mark.parametrize(
    "names",
    [
        ("0/1.jpg", "1/1.jpg", "9/1.jpg"),  # digits
        ("person1/a.jpg", "person2/b.jpg"),  # who is it
        ("cat/front/1.jpg", "cat/back/2.jpg", "dog/front/3.jpg", "dog/back/4.jpg"),
        ("control/1.jpg", "test/2.jpg"),  # two classes, one of them called test
        ("p1/a/1.jpg", "p2/b/1.jpg"),
    ],
)
def test_what_was_read_as_classes_is_read_as_before(tmp_path: Path, names: tuple[str, ...]) -> None:
    found = read_data(str(touch(tmp_path, *names)))
    assert list(found.columns["path"]) == sorted(names)
    assert found.columns["label"] == [name.partition("/")[0] for name in sorted(names)]
    assert found.left_out == ()
    assert len(found.notes) == ("front" in names[0])


def test_the_same_folders_in_every_class_are_said_to_mean_nothing(tmp_path: Path) -> None:
    laid_out(tmp_path, "anna", "ben", "cleo", below=("happy", "sad"))
    found = read_data(str(tmp_path))
    assert set(found.columns["label"]) == {"anna", "ben", "cleo"}
    (note,) = found.notes
    assert (
        "anna, ben and cleo are the classes, and happy and sad in each of them mean nothing" in note
    )
    assert set(read_data(f"{tmp_path}?levels=subject/label").columns["label"]) == {"happy", "sad"}
    touch(tmp_path, "cleo/angry/1.jpg")
    assert read_data(str(tmp_path)).notes == ()


def test_folds_without_class_folders_are_asked_about(tmp_path: Path) -> None:
    touch(tmp_path, "fold_1/a.jpg", "fold_2/b.jpg")
    with pytest.raises(InputError, match="look like folds and not like classes"):
        read_data(str(tmp_path))
    touch(tmp_path / "flat", "train/a.jpg", "test/b.jpg")
    with pytest.raises(InputError, match="test and train are named as a split and hold no class"):
        read_data(str(tmp_path / "flat"))


@pytest.mark.parametrize("top", ["", "train/", "a/"])
def test_images_beside_labels_are_asked_about(tmp_path: Path, top: str) -> None:
    touch(tmp_path, f"{top}images/1.jpg", f"{top}images/2.jpg", f"{top}labels/1.txt")
    with pytest.raises(
        InputError, match="the images are in images and their annotations in labels"
    ):
        read_data(str(tmp_path))


def test_an_unlabelled_test_folder_is_no_class(tmp_path: Path) -> None:
    beside = touch(tmp_path / "a", "ant/1.jpg", "bee/1.jpg", "test/1.jpg", "test/2.jpg")
    found = read_data(str(beside))
    assert set(found.columns["label"]) == {"ant", "bee"}
    assert found.left_out == (("test", "2 images in no class folder"),)
    below = touch(laid_out(tmp_path / "b", "train", "val"), "test/1.jpg", "test/2.jpg")
    found = read_data(str(below))
    assert set(found.columns["split"]) == {"train", "val"}
    assert found.left_out == (("test", "2 images in no class folder"),)
    alone = touch(laid_out(tmp_path / "c", "train"), "test/1.jpg")
    found = read_data(str(alone))
    assert "split" not in found.columns
    assert set(found.columns["label"]) == {"ant", "bee"}
    mixed = laid_out(touch(tmp_path / "d", "ant/1.jpg", "bee/1.jpg"), "test")
    with pytest.raises(InputError, match="test has class folders and lies beside class folders"):
        read_data(str(mixed))


def test_links_are_followed_once(tmp_path: Path) -> None:
    data = touch(tmp_path / "d", "ant/1.jpg", "bee/1.jpg")
    touch(tmp_path / "store", "cow/1.jpg", "cow/2.jpg")
    (data / "cow").symlink_to(tmp_path / "store" / "cow")
    (data / "kine").symlink_to(tmp_path / "store" / "cow")
    (data / "gone").symlink_to(tmp_path / "nowhere")
    (tmp_path / "store" / "cow" / "again").symlink_to(data)
    found = read_data(str(data))
    assert found.columns["path"] == ["ant/1.jpg", "bee/1.jpg", "cow/1.jpg", "cow/2.jpg"]
    assert dict(found.left_out) == {
        "cow/again": "a link to a folder that is read already",
        "gone": "a link to nothing",
        "kine": "a link to a folder that is read already",
    }


def test_what_is_no_class_is_named(tmp_path: Path) -> None:
    touch(tmp_path, "ant/1.jpg", "bee/1.jpg", "bee/2.dng", "bee/3.DNG", "raw/1.dng", "notes/a.txt")
    touch(tmp_path, ".cache/1.jpg", "ant/.thumbs/1.jpg", ".git/config")
    (tmp_path / "empty").mkdir()
    found = read_data(str(tmp_path))
    assert found.columns["path"] == ["ant/1.jpg", "bee/1.jpg"]
    no_class = "no class, for there are no images in it"
    assert dict(found.left_out) == {
        "empty": no_class,
        "notes": no_class,
        "raw": f"{no_class} that are read (1 .dng, convert it to PNG or JPEG)",
        ".cache": "a hidden folder, of 1 image",
        "ant/.thumbs": "a hidden folder, of 1 image",
        "bee/*.dng": "2 images of a kind that is not read; convert it to PNG or JPEG",
        "raw/*.dng": "1 image of a kind that is not read; convert it to PNG or JPEG",
    }
    touch(tmp_path / "x", "a/1.dng", "b/1.dng")
    with pytest.raises(InputError, match=r"no image files in it that are read \(2 \.dng, convert"):
        read_data(str(tmp_path / "x"))


def test_files_of_other_kinds_and_without_an_ending_are_named(tmp_path: Path) -> None:
    touch(tmp_path, "ant/1.jpg", "bee/1.jpg", "bee/1.txt", "bee/1.odd", "fox/1.xcf", "fox/2.XCF")
    touch(tmp_path, "LICENSE", "wolf/3.odd")
    for name in ("hen/1", "hen/2", "bee/photo"):
        pictures.save(pictures.drawn(1, (16, 16)), tmp_path / f"{name}.jpg")
        (tmp_path / f"{name}.jpg").rename(tmp_path / name)
    found = read_data(str(tmp_path))
    assert found.columns["path"] == ["ant/1.jpg", "bee/1.jpg"]
    advice = "convert it to PNG or JPEG"
    odd = "if they are images, convert them to PNG or JPEG"
    no_class = "no class, for there are no images in it that are read"
    name_them = "give their names an ending such as .jpg"
    assert dict(found.left_out) == {
        "bee/*": f"1 image without an ending; {name_them}",
        "bee/*.odd": f"1 file of a kind that is not read; {odd}",
        "fox": f"{no_class} (2 .xcf, {advice})",
        "fox/*.xcf": f"2 images of a kind that is not read; {advice}",
        "hen": f"{no_class} (2 without an ending, {name_them})",
        "hen/*": f"2 images without an ending; {name_them}",
        "wolf": f"{no_class} (1 .odd, {odd})",
        "wolf/*.odd": f"1 file of a kind that is not read; {odd}",
    }


@pytest.mark.parametrize("kind", [".heic", ".heif", ".jxl", ".avif", ".dng"])
def test_a_kind_is_read_or_it_is_said_what_it_needs(kind: str) -> None:
    assert (kind in extensions()) == (needed(kind) is None)
    assert needed(".txt") is None


@pytest.mark.parametrize("kind", extensions())
def test_every_kind_that_is_counted_is_decoded(tmp_path: Path, kind: str) -> None:
    drawn = pictures.drawn(1, (40, 30))
    if kind in (".pbm",):
        drawn = drawn.convert("1")
    if kind in (".gif",):
        drawn = drawn.quantize()
    if kind in (".pgm",):
        drawn = drawn.convert("L")
    try:
        drawn.save(tmp_path / f"a{kind}")
    except (ValueError, KeyError):
        drawn.save(tmp_path / f"a{kind}", {".jfif": "JPEG", ".jpe": "JPEG"}[kind])
    read = np.asarray(read_rgb(tmp_path / f"a{kind}"), dtype=float)
    assert read.shape == (30, 40, 3)
    assert np.abs(read - np.asarray(drawn.convert("RGB"), dtype=float)).mean() < 25


def test_levels_that_name_no_columns(tmp_path: Path) -> None:
    laid_out(tmp_path, "x", "y")
    for levels in ("", "label/label", "path/label", "-", "a//b"):
        with pytest.raises(InputError, match="name a column for every level of folders, each once"):
            read_data(f"{tmp_path}?levels={levels}")
    with pytest.raises(InputError, match="lies in so many folders; name fewer levels"):
        read_data(f"{tmp_path}?levels=a/b/c")
    touch(tmp_path, "x/loose.jpg")
    found = read_data(f"{tmp_path}?levels=place/label")
    assert ("x/loose.jpg", "in fewer folders than place/label has") in found.left_out


def test_a_split_of_folders_from_the_command_line(tmp_path: Path) -> None:
    for i in range(18):
        top, name = ("train", "val", "test")[i % 3], ("ant", "bee")[i % 2]
        pictures.save(pictures.drawn(i, (32, 32)), tmp_path / "d" / top / name / f"{i}.jpg")
    Image.new("RGB", (8, 8)).save(tmp_path / "loose.jpg")
    study = ["--study", str(tmp_path / "s")]
    checked = CliRunner().invoke(app, ["data", "check", *study, "--data", str(tmp_path / "d")])
    assert checked.exit_code == 0, checked.output
    assert checked.stderr.count("are the split and the folders below them the classes") == 1
    words = ["extract", *study, "--data", str(tmp_path / "d"), "-b", "control:pixels"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert "note: " not in done.stderr
    assert "test, train and val are the split" in done.stderr
    assert set(open_study(tmp_path / "s").columns["split"]) == {"train", "val", "test"}
    other = ["extract", *study[:1], str(tmp_path / "o"), *words[3:], "--levels", "part/label"]
    assert CliRunner().invoke(app, other).exit_code == 0
    assert list(open_study(tmp_path / "o").tasks) == ["part", "label"]
