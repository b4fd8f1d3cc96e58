import csv
import os
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from features.data import READERS, Reader, caches_images, read_data
from features.data.manifest import Manifest
from features.data.named_task import choose
from features.data.task_columns import infer, unfit
from features.data.tasks import Task, order
from features.data.utkface import AGES
from features.errors import InputError
from features.study.drafting import appended, draft, open_or_draft
from features.study.saving import save
from features.study.settings import updated
from features.study.study import Study, open_study


def test_a_data_set_is_one_file_and_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = ModuleType("features.data.squares")

    def read_squares(folder: Path, colour: str = "red") -> Manifest:
        return Manifest(f"squares:{folder}", folder, {"path": ["a.png"], "label": [colour]})

    module.read_squares = read_squares  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "features.data.squares", module)
    monkeypatch.setitem(READERS, "squares", Reader("squares", "DIR", caches_images=True))
    assert read_data(f"squares:{tmp_path}").source == f"squares:{tmp_path}"
    blue = read_data(f"squares:{tmp_path}?colour=blue")
    assert (blue.source, blue.columns["label"]) == (f"squares:{tmp_path}?colour=blue", ["blue"])
    assert caches_images(blue.source)
    assert refused(f"squares:{tmp_path}?size=3") == "--size: squares takes colour; leave it out."
    assert "did you mean squares:" in refused(f"square:{tmp_path.name}")


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder


def table(tmp_path: Path, text: str | bytes, name: str = "data.csv") -> Path:
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def refused(spec: object) -> str:
    with pytest.raises(InputError) as caught:
        read_data(str(spec))
    message = str(caught.value)
    assert "\n" not in message
    assert message.endswith((".", "?"))
    return message


def kept(study: Study, folder: Path) -> Study:
    """The study as it is read back from disk, seen to be what was saved."""
    save(study)
    found = open_study(folder)
    assert found == study
    assert list(found.columns) == list(study.columns)
    return found


# --- folders ---


def test_class_folders(tmp_path: Path) -> None:
    touch(
        tmp_path,
        "dog/2.jpg",
        "dog/10.JPEG",
        "cat/1.png",
        "cat/deep/er/3.webp",
        "cat/z.png",
        "cat/n.txt",
    )
    touch(tmp_path, ".hidden/4.jpg", "cat/.5.jpg", "cat/archive.jpg.zip")
    found = read_data(str(tmp_path))
    assert dict(found.columns) == {
        "path": ["cat/1.png", "cat/deep/er/3.webp", "cat/z.png", "dog/10.JPEG", "dog/2.jpg"],
        "label": ["cat", "cat", "cat", "dog", "dog"],
    }
    assert (found.root, found.source) == (tmp_path, str(tmp_path))
    assert found.left_out == ((".hidden", "a hidden folder, of 1 image"),)
    assert (found.synthetic, found.closest, found.notes) == (False, None, ())


def test_the_order_does_not_depend_on_the_file_system(tmp_path: Path) -> None:
    names = [f"{c}/{i}.jpg" for c in "zay" for i in (3, 1, 2)]
    first = read_data(str(touch(tmp_path / "a", *names))).columns["path"]
    again = read_data(str(touch(tmp_path / "b", *reversed(names)))).columns["path"]
    assert first == again == sorted(names)


def test_loose_images_are_left_out_and_named(tmp_path: Path) -> None:
    found = read_data(str(touch(tmp_path, "a/1.jpg", "b/2.jpg", "cover.jpg")))
    assert found.columns["path"] == ["a/1.jpg", "b/2.jpg"]
    assert found.left_out == (("cover.jpg", "in no class folder"),)


def test_folders_without_classes_or_images(tmp_path: Path) -> None:
    assert "there are no image files in it" in refused(tmp_path)
    assert "there are no image files in it" in refused(touch(tmp_path, "a/x.txt"))
    loose = touch(tmp_path / "loose", "1.jpg", "2.jpg")
    assert "its 2 images lie in no class folder" in refused(loose)


def test_a_relative_folder_is_remembered_by_its_whole_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path, "here/a/1.jpg", "here/b/2.jpg")
    monkeypatch.chdir(tmp_path)
    found = read_data("here")
    assert (found.source, found.root) == (str(tmp_path / "here"), tmp_path / "here")


def test_links_in_a_circle_end(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.jpg", "b/2.jpg")
    (tmp_path / "a" / "loop").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "b" / "up").symlink_to(tmp_path.parent, target_is_directory=True)
    found = read_data(str(tmp_path))
    assert found.columns["path"] == ["a/1.jpg", "b/2.jpg"]
    assert found.left_out == (
        ("a/loop", "a link to a folder that is read already"),
        ("b/up", "a link to a folder that this one lies in"),
    )


@pytest.mark.parametrize("spec", ["/gone", "gone.csv", "adiense:x", "utkfac:/x"])
def test_data_that_is_not_there(spec: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    message = refused(spec)
    assert message.startswith(f"--data {spec}: there is no such folder or file")
    assert "utkface:DIR" in message
    if spec == "utkfac:/x":
        assert "did you mean utkface" in message


# --- tables ---


def test_a_csv_manifest(tmp_path: Path) -> None:
    file = table(
        tmp_path, 'path,age,subject\na.jpg,4-6,s1\n"b,1.jpg",,s2\nsub/c.jpg,"8 ""x""",s1\n'
    )
    found = read_data(str(file))
    assert dict(found.columns) == {
        "path": ["a.jpg", "b,1.jpg", "sub/c.jpg"],
        "age": ["4-6", "", '8 "x"'],
        "subject": ["s1", "s2", "s1"],
    }
    assert (found.root, found.source) == (tmp_path, str(file))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("t.tsv", "path\tage\na.jpg\t1,5\nb.jpg\t2\n"),
        ("t.txt", "path\tage\na.jpg\t1,5\nb.jpg\t2\n"),
        ("t.csv", 'path,age\na.jpg,"1,5"\nb.jpg,2\n'),
        ("t.csv", 'path,age\r\na.jpg,"1,5"\r\nb.jpg,2\r\n'),
        ("t.csv", '\ufeffpath,age\na.jpg,"1,5"\nb.jpg,2'),
        ("t.csv", ' path , age\na.jpg,"1,5"\n\nb.jpg,2\n\n'),
    ],
)
def test_tables_of_every_make_read_the_same(tmp_path: Path, name: str, text: str) -> None:
    found = read_data(str(table(tmp_path, text, name)))
    assert dict(found.columns) == {"path": ["a.jpg", "b.jpg"], "age": ["1,5", "2"]}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("file,age\na.jpg,1\n", "the manifest has no column path; "),
        ("", "the manifest has no column path; "),
        ("path,age\n", "the manifest has a header and no rows; "),
        ("path,age\na.jpg,1\nb.jpg\n", " 3: 1 cells under 2 columns; "),
        ("path,age\na.jpg,1,2\n", " 2: 3 cells under 2 columns; "),
        ("path,age,age\na.jpg,1,2\n", "the column 'age' occurs twice; rename one."),
        ("path,age\na.jpg,1\n,2\n", "line 3: the path is empty; "),
        ("path,age\na\0.jpg,1\n", "not a text file; "),
        (b"\x89PNG\r\n\x1a\n\0\0", "not a text file; "),
    ],
)
def test_tables_that_cannot_be_used(tmp_path: Path, text: str | bytes, said: str) -> None:
    file = table(tmp_path, text)
    message = refused(file)
    assert message.startswith(str(file))
    assert said in message


@pytest.mark.parametrize(
    "text", ["path,age\na.jpg," + "x" * 200_000 + "\n", 'path,age\n"a.jpg,1\n']
)
def test_odd_tables_are_read_or_refused_in_a_sentence(tmp_path: Path, text: str) -> None:
    file = table(tmp_path, text)
    try:
        said = read_data(str(file)).source
    except InputError as error:
        said = str(error)
    assert said.startswith(str(file))


def test_a_line_is_counted_as_an_editor_counts_it(tmp_path: Path) -> None:
    message = refused(table(tmp_path, 'path,age\n\n"a\nb.jpg",1\n\nc.jpg\n'))
    assert " 6: 1 cells under 2 columns" in message
    message = refused(table(tmp_path, "path,age\n\n\n,1\n"))
    assert " 4: the path is empty" in message


@pytest.mark.parametrize(
    "mark", ["\x0b", "\x0c", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029"]
)
def test_only_line_ends_end_a_line(tmp_path: Path, mark: str) -> None:
    found = read_data(str(table(tmp_path, f"path,age\na{mark}b.jpg,1{mark}2\nc.jpg,3\n")))
    assert dict(found.columns) == {"path": [f"a{mark}b.jpg", "c.jpg"], "age": [f"1{mark}2", "3"]}


# --- UTKFace ---


def test_utkface_bins_every_age(tmp_path: Path) -> None:
    edges = {0: "0-2", 2: "0-2", 3: "3-7", 7: "3-7", 8: "8-13", 13: "8-13", 14: "14-22"}
    edges |= {22: "14-22", 23: "23-34", 34: "23-34", 35: "35-45", 45: "35-45", 46: "46-57"}
    edges |= {57: "46-57", 58: "58+", 99: "58+", 116: "58+"}
    names = {f"{age}_{age % 2}_2_20170116174525125.jpg.chip.jpg": age for age in edges}
    found = read_data(f"utkface:{touch(tmp_path, *names)}")
    assert len(found) == len(edges)
    for path, age, gender in zip(
        *(found.columns[c] for c in ("path", "age", "gender")), strict=True
    ):
        assert age == edges[names[path]]
        assert gender == ("female" if names[path] % 2 else "male")
    assert found.tasks["age"] == Task("age", AGES, ordered=True)
    assert found.tasks["gender"].classes == ("male", "female")
    assert (found.closest, found.source) == ("faces", f"utkface:{tmp_path}")


def test_utkface_names_that_lack_a_field_are_left_out_and_reported(tmp_path: Path) -> None:
    lacking = [
        "39_1_20170116174525125.jpg.chip.jpg",  # the published ones
        "61_1_20170109142408075.jpg.chip.jpg",
        "61_3_20170109150557335.jpg.chip.jpg",
        "24_0_1_.jpg",
        "24_2_1_20170116.jpg",
        "24_0_5_20170116.jpg",
        "a_0_1_20170116.jpg",
        "_0_1_20170116.jpg",
        "portrait.jpg",
    ]
    touch(tmp_path, *lacking, "24_0_1_20170116.jpg", "part2/30_1_0_20170117.jpg", "readme.txt")
    found = read_data(f"utkface:{tmp_path}")
    assert found.columns["path"] == ["24_0_1_20170116.jpg", "part2/30_1_0_20170117.jpg"]
    assert sorted(name for name, _ in found.left_out) == sorted(lacking)
    assert {why for _, why in found.left_out} == {"its name is not AGE_GENDER_RACE_STAMP"}


def test_utkface_of_something_else(tmp_path: Path) -> None:
    assert "there is no such folder" in refused(f"utkface:{tmp_path / 'gone'}")
    assert "no file in it is named" in refused(f"utkface:{touch(tmp_path, 'a/b.jpg')}")


# --- tasks ---


def column(n: int) -> list[str]:
    return [f"v{i}" for i in range(n)] * 2


def test_columns_of_classes_are_tasks() -> None:
    columns: Mapping[str, list[str]] = {
        "path": column(3),
        "subject": column(2),
        "fold": column(2),
        "split": column(2),
        "use": column(2),
        "one": column(1),
        "none": ["", ""],
        "two": column(2),
        "hundred": column(100),
        "more": column(10_000),
    }
    found = infer(columns, {})
    assert list(found) == ["two", "hundred", "more"]
    assert found["two"] == Task("two", ("v0", "v1"), ordered=False)
    assert len(found["more"].classes) == 10_000
    known = Task("more", ("v1", "v0"), ordered=True)
    assert infer(columns, {"more": known})["more"] is known
    assert set(unfit(columns, found)) == {"one", "none"}


ROWS = 240


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ([str(i) for i in range(120)] * 2, None),  # the numbers of classes
        ([str(1 + i) for i in range(120)] * 2, None),
        ([f"{i:03}" for i in range(120)] * 2, None),
        ([f"s{i}" for i in range(120)] * 2, None),
        ([str(i) for i in range(40)] * 6, None),  # few numbers are classes, as they were before
        ([*(f"{i / 7:.3f}" for i in range(58)), *["0.5"] * 2, *[""] * 180],
         "59 distinct numbers look like a quantity"),
        ([str(2 + i) for i in range(120)] * 2, "120 distinct numbers look like a quantity"),
        ([str(i * 7 % 361) for i in range(120)] * 2, "120 distinct numbers look like a quantity"),
        ([f"{i / 7:.3f}" for i in range(120)] * 2, "120 distinct numbers look like a quantity"),
        ([*map(str, range(120)), *map(str, range(119)), "0"], "120 distinct numbers look like a"),
        ([str(i) for i in range(240)], "all 240 values differ, so they are no classes"),
        ([f"word {i}" for i in range(240)], "all 240 values differ, so they are no classes"),
        ([f"{i % 9}.JPG" for i in range(240)], "its values are names of files and no classes"),
        ([f"w{min(i, 150)}" for i in range(240)], "150 of its 240 values occur once, so they are"),
    ],
)  # fmt: skip
def test_what_holds_classes_and_what_does_not(labels: list[str], said: str | None) -> None:
    assert len(labels) == ROWS
    columns = {"path": labels, "x": labels, "good": ["a", "b"] * 120}
    found = infer(columns, {})
    assert list(found) == (["good"] if said else ["x", "good"])
    assert ("".join(unfit(columns, found).values())).startswith(f"task x: {said}" if said else "")


def test_a_study_of_before_gains_no_task(tmp_path: Path) -> None:
    """A column of more than a hundred values was none then: the folds that tasks share depend on it."""
    columns = {
        "path": [f"{i}.jpg" for i in range(240)],
        "label": ["a", "b"] * 120,
        "name": [f"s{i % 120}" for i in range(240)],
    }
    new = kept(draft(tmp_path, Manifest("/d", Path("/d"), columns)), tmp_path)
    assert list(new.tasks) == ["label", "name"]
    toml = tmp_path / "study.toml"
    text = toml.read_text()
    toml.write_text(text[: text.index("[tasks.name]")])
    assert list(open_study(tmp_path).tasks) == ["label"]
    assert list(open_study(tmp_path).no_tasks) == []


def test_the_empty_label_is_no_class() -> None:
    task = infer({"path": ["a", "b", "c"], "x": ["p", "", "q"]}, {})["x"]
    assert task.classes == ("p", "q")
    np.testing.assert_array_equal(task.codes(["q", "", "p", "z"]), [1, -1, 0, -1])


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (
            [f"{i / 3:.2f}" for i in range(150)] * 2,
            "150 distinct numbers look like a quantity and not",
        ),
        (["a", "a"], "the data has only the class 'a'; a task needs at least two classes."),
        (["", ""], "the data has no label at all; a task needs at least two classes."),
    ],
)
def test_a_column_that_is_no_task_is_refused_with_what_to_do(labels: list[str], said: str) -> None:
    columns = {"path": labels, "age": labels}
    if "quantity" in said:  # which is fitted as a number where there are no classes
        assert infer(columns, {}) == {"age": Task("age", (), kind="number")}
    else:
        with pytest.raises(InputError) as caught:
            infer(columns, {})
        assert said in str(caught.value)
    columns["good"] = ["x", *["y"] * (len(labels) - 1)]
    tasks = infer(columns, {})
    with pytest.raises(InputError) as caught:
        choose(tasks, columns, "age")
    assert str(caught.value).startswith(f"task age: {said[:20]}")


def test_no_label_column() -> None:
    with pytest.raises(
        InputError, match=r"no label column \(its columns: path, subject\); add one"
    ):
        infer({"path": ["a"], "subject": ["s"]}, {})


def test_choosing_a_task() -> None:
    columns = {"path": ["1", "2"], "age": ["4-6", "25-32"], "label": ["a", "b"]}
    tasks = infer(columns, {})
    assert choose(tasks, columns, "age") == Task("age", ("4-6", "25-32"), ordered=False)
    assert choose(tasks, columns, "age:ordered") == Task("age", ("4-6", "25-32"), ordered=True)
    for asked, said in {
        "aeg": "there is no such label column; did you mean age",
        "path": "there is no such label column",
        "age:sorted": "after the colon stands `ordered`, `number` or `labels`",
        "age:number": "task age: '4-6' of row 0 is no number",
    }.items():
        with pytest.raises(InputError, match=said):
            choose(tasks, columns, asked)


@pytest.mark.parametrize(
    "classes",
    [
        ("0-2", "4-6", "8-13", "15-20", "25-32", "38-43", "48-53", "60+"),
        ("(0, 2)", "(4, 6)", "(25, 32)", "(60, 100)"),
        ("-5", "-1.5", "0", "1.25", "3", "10"),
        ("2", "10", "100"),
        ("B", "a", "b"),
        ("1 day", "2 days", "10 days"),
        ("10x", "9x", "none"),  # one has no number, so by name
    ],
)
def test_classes_come_in_their_natural_order(classes: tuple[str, ...]) -> None:
    assert order(set(classes)) == classes


# --- the study on disk ---


LABELS = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=6
) | st.sampled_from(
    ["", " ", "=1+1", "'", '"', '",', "a,b", "a\nb", "\r", "\r\n", "#", "\ufeff", "\u2028"]
)


@settings(max_examples=40, deadline=None)
@example(labels=["0", "1"], task="0\r0", source="")
@given(
    labels=st.lists(LABELS, min_size=2, max_size=6).filter(lambda ls: len(set(ls) - {""}) > 1),
    task=LABELS.filter(
        lambda s: s and s == s.strip() and s not in ("path", "subject", "fold", "use")
    ),
    source=LABELS,
)
def test_hostile_labels_names_and_paths_survive(
    tmp_path_factory: pytest.TempPathFactory, labels: list[str], task: str, source: str
) -> None:
    folder = tmp_path_factory.mktemp("study")
    columns = {"path": [f"{i}{label}" for i, label in enumerate(labels)], task: labels}
    if task == "split":
        columns["other"] = labels
    manifest = Manifest(f"/{source}", Path("/", source), columns)
    kept(draft(folder, manifest), folder)


@pytest.mark.parametrize(
    "name", ["\U0001f600", "é中", "a b", 'q"uote', "back\\slash", "tab\t", "\x7f"]
)
def test_a_data_folder_of_any_name(tmp_path: Path, name: str) -> None:
    touch(tmp_path / name, f"{name}/1.jpg", "b/2.jpg")
    manifest = read_data(str(tmp_path / name))
    study = kept(draft(tmp_path / "study", manifest), tmp_path / "study")
    assert study.root == tmp_path / name
    assert set(study.tasks["label"].classes) == {"b", name}
    assert open_or_draft(tmp_path / "study", str(tmp_path / name))[1] is None


def test_names_that_are_not_utf_8(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"data\xff")
    try:
        touch(folder, os.fsdecode(b"caf\xe9/1\xfe.jpg"), "b/2.jpg")
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    manifest = read_data(str(folder))
    study = kept(draft(tmp_path / "study", manifest), tmp_path / "study")
    assert study.columns["label"][1] == os.fsdecode(b"caf\xe9")
    assert all((study.root / path).is_file() for path in study.paths)
    assert b"caf\xe9/1\xfe.jpg" in (tmp_path / "study" / "images.csv").read_bytes()
    assert len(study.images_hash) == 64


def test_what_a_reader_knows_is_kept(tmp_path: Path) -> None:
    tasks = {"age": Task("age", ("young", "old", "older"), ordered=True)}
    columns = {
        "fold": ["0", "1"],
        "age": ["old", "young"],
        "path": ["a.jpg", "b.jpg"],
        "subject": ["s", ""],
        "label": ["x", "y"],
    }
    manifest = Manifest("utkface:/d", Path("/d"), columns, tasks, closest="faces", synthetic=True)
    study = kept(draft(tmp_path, manifest), tmp_path)
    assert list(study.columns) == ["path", "age", "label", "subject", "fold", "use"]
    assert study.tasks["age"] == tasks["age"]
    assert (study.closest, study.synthetic, study.source) == ("faces", True, "utkface:/d")
    with (tmp_path / "images.csv").open(newline="") as file:
        assert list(csv.DictReader(file))[1] == {
            "path": "b.jpg", "age": "young", "label": "y", "subject": "", "fold": "1", "use": "1"
        }  # fmt: skip


def test_study_toml_may_be_edited(tmp_path: Path) -> None:
    columns = {"path": ["a", "b", "c"], "age": ["kid", "adult", "kid"]}
    save(draft(tmp_path, Manifest("/d", Path("/d"), columns)))
    file = tmp_path / "study.toml"
    text = file.read_text()
    assert 'classes = ["adult", "kid"]\nordered = false' in text
    text = text.replace('["adult", "kid"]\nordered = false', '["kid", "adult"]\nordered = true')
    file.write_text(text.replace("[data]", 'closest = "faces"\n\n[data]'))
    study = open_study(tmp_path)
    assert study.tasks["age"] == Task("age", ("kid", "adult"), ordered=True)
    assert study.closest == "faces"
    assert study.labels("age").tolist() == [0, 1, 0]
    with pytest.raises(InputError, match=r"no task aeg; did you mean age"):
        study.labels("aeg")


def test_subjects_and_use(tmp_path: Path) -> None:
    columns = {
        "path": ["a", "b", "c", "d", "e"],
        "label": ["x", "y", "x", "y", "x"],
        "subject": ["s", "", "t", "s", ""],
        "use": ["1", "0", "", "1", "0"],
    }
    study = draft(tmp_path, Manifest("/d", Path("/d"), columns))
    assert study.subjects.tolist() == [0, 1, 2, 0, 3]
    assert study.used.tolist() == [True, False, True, True, False]


@pytest.mark.parametrize(
    "broken",
    ["[data", "", "[data]\nsource = 3\n", "data = 3\n", "[data]\nsource='x'\nroot='y'\n[tasks]\nlabel=1\n",
     "[data]\nsource='x'\nroot='y'\n[tasks.label]\nclasses=3\n", "\xff"],
)  # fmt: skip
def test_a_broken_study_toml_is_refused_in_a_sentence(tmp_path: Path, broken: str) -> None:
    columns = {"path": ["a", "b"], "label": ["x", "y"]}
    save(draft(tmp_path, Manifest("/d", Path("/d"), columns)))
    (tmp_path / "study.toml").write_bytes(broken.encode("latin-1"))
    with pytest.raises(InputError, match=r"study\.toml: "):
        open_study(tmp_path)


def test_a_broken_images_csv_is_refused_in_a_sentence(tmp_path: Path) -> None:
    columns = {"path": ["a", "b"], "label": ["x", "y"]}
    save(draft(tmp_path, Manifest("/d", Path("/d"), columns)))
    for broken in ("", "label\nx\ny\n", "path,label\na,x\nb\n", None):
        if broken is None:
            (tmp_path / "images.csv").unlink()
        else:
            (tmp_path / "images.csv").write_text(broken)
        with pytest.raises(InputError, match=r"images\.csv"):
            open_study(tmp_path)
    with pytest.raises(InputError, match="there is no study here"):
        open_study(tmp_path / "gone")


def test_the_sample_is_a_manifest_of_two_kinds_of_task() -> None:
    manifest = read_data("sample")
    assert (len(manifest), manifest.synthetic, manifest.closest) == (1200, True, "faces")
    assert manifest.tasks["age"].ordered
    assert not manifest.tasks["coin"].ordered
    assert (manifest.root / manifest.columns["path"][0]).is_file()
    assert read_data("sample") == manifest


def test_rows_keep_their_order_and_their_copies(tmp_path: Path) -> None:
    file = table(tmp_path, "path,label\nz.jpg,a\na.jpg,b\nz.jpg,a\n")
    study, manifest = open_or_draft(tmp_path / "study", str(file))
    assert manifest is not None
    assert study.paths == ["z.jpg", "a.jpg", "z.jpg"]
    assert not (tmp_path / "study").exists()
    assert kept(study, tmp_path / "study").paths == study.paths


def edited(tmp_path: Path, ordered: bool) -> tuple[Study, Path]:
    """A study whose classes a person put into an order of their own, and its data."""
    data = table(tmp_path, "path,age\n0.png,old\n1.png,young\n2.png,unknown\n")
    study = draft(tmp_path / "study", read_data(str(data)))
    save(study)
    toml = study.folder / "study.toml"
    said = toml.read_text().replace('["old", "unknown", "young"]', '["young", "old"]')
    toml.write_text(said.replace("ordered = false", f"ordered = {str(ordered).lower()}"))
    return open_study(study.folder), data


def test_a_column_without_a_name_is_no_task(tmp_path: Path) -> None:
    """As pandas writes its index."""
    file = table(tmp_path, ",path,label\n0,a.jpg,x\n1,b.jpg,y\n")
    study = kept(draft(tmp_path / "study", read_data(str(file))), tmp_path / "study")
    assert list(study.tasks) == ["label"]
    bare = table(tmp_path, ",path\n0,a.jpg\n1,b.jpg\n", "bare.csv")
    with pytest.raises(InputError, match="a column without a name is no task; give it one"):
        draft(tmp_path / "bare", read_data(str(bare)))


def test_what_a_person_wrote_in_study_toml_stays(tmp_path: Path) -> None:
    study, data = edited(tmp_path, ordered=False)
    toml = study.folder / "study.toml"
    written = (
        "# Our lab's faces.\n"
        + toml.read_text()
        .replace('["young", "old"]', '[\n  "young",  # below 30\n  "old",\n]')
        .replace("[tasks.age]", "[tasks.age]\n# the youngest first\nnote = 'from the form'")
        + "\n[ours]\nroom = 12  # second floor\n"
    )
    toml.write_text(written)
    study = open_study(study.folder)
    save(study)
    assert toml.read_text() == written
    data.write_text(data.read_text() + "3.png,child\n")
    save(appended(study))
    assert toml.read_text() == written.replace('  "old",\n', '  "old",\n  "child",\n')
    assert open_study(study.folder).tasks["age"].classes == ("young", "old", "child")


@given(text=st.text(st.characters(codec=None), min_size=1), root=st.text(st.characters(codec=None)))
def test_any_text_survives_in_study_toml(text: str, root: str) -> None:
    """Also the surrogates that stand for bytes of odd file names."""
    values = {"data": {"root": root}, "tasks": {text: {"classes": [text, root]}}}
    assert tomllib.loads(updated(updated("", values), values)) == values


@pytest.mark.parametrize("ordered", [False, True])
def test_classes_stay_as_a_person_ordered_them_where_rows_are_appended(
    tmp_path: Path, ordered: bool
) -> None:
    """A label that they left out of the classes stays out of them."""
    study, data = edited(tmp_path, ordered)
    data.write_text(data.read_text() + "3.png,old\n4.png,\n5.png,unknown\n")
    save(appended(study))
    for found in (appended(study), open_study(study.folder)):
        assert found.tasks == {"age": Task("age", ("young", "old"), ordered)}
        assert found.labels("age").tolist() == [1, 0, -1, 1, -1, -1]


def test_new_classes_come_after_those_that_are_there(tmp_path: Path) -> None:
    study, data = edited(tmp_path, ordered=False)
    data.write_text(data.read_text() + "3.png,middle\n4.png,child\n5.png,old\n")
    save(appended(study))
    found = open_study(study.folder)
    assert found.tasks["age"].classes == ("young", "old", "child", "middle")
    assert found.labels("age").tolist() == [1, 0, -1, 3, 2, 1]


def test_a_person_puts_a_new_class_into_the_order(tmp_path: Path) -> None:
    study, data = edited(tmp_path, ordered=True)
    data.write_text(data.read_text() + "3.png,middle\n")
    toml = study.folder / "study.toml"
    before = toml.read_bytes(), (study.folder / "images.csv").read_bytes()
    with pytest.raises(InputError, match="task age: new rows are of the class 'middle', which is"):
        appended(study)
    assert (toml.read_bytes(), (study.folder / "images.csv").read_bytes()) == before
    toml.write_text(toml.read_text().replace('"young", ', '"young", "middle", '))
    found = appended(open_study(study.folder))
    assert found.tasks["age"] == Task("age", ("young", "middle", "old"), ordered=True)
    assert found.labels("age").tolist() == [2, 0, -1, 1]


def test_row_numbers_without_a_name_are_no_task(tmp_path: Path) -> None:
    """As pandas writes them: the first column of the header is empty."""
    rows = [f"{i},{i}.png,{'ab'[i % 2]}" for i in range(10)]
    (tmp_path / "data.csv").write_text("\n".join([",path,label", *rows]) + "\n")
    manifest = read_data(str(tmp_path / "data.csv"))
    assert set(infer(manifest.columns, {})) == {"label"}
    with pytest.raises(InputError, match="a column without a name is no task; give it one"):
        infer({"path": ["0.png", "1.png"], "": ["0", "1"]}, {})
    known = {"": Task("", ("0", "1"))}  # of a study made before
    assert infer({"path": ["0.png", "1.png"], "": ["0", "1"]}, known) == known


def test_several_labels_in_a_cell_are_said_to_be_one_class_for_each_combination() -> None:
    columns = {
        "seen": ["hat", "smile|hat", "smile", "hat|glasses", "glasses", "hat"],
        "place": ["a|b", "c", "a|b", "c", "d|e", "d|e"],  # whose parts are nowhere else
    }
    made = infer(columns, {})
    assert list(made) == ["seen", "place"]
    (sentence,) = unfit(columns, made).values()
    assert sentence.startswith("task seen: 'hat|glasses' looks like several labels of one image, ")
