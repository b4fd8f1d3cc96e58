"""Tables as programs and people write them: read rightly, or refused in a sentence that says what to do."""

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from cli.app import app
from features.data import read_data
from features.data.manifest import Manifest
from features.errors import InputError
from features.study.drafting import appended, draft, open_or_draft
from features.study.saving import begin
from features.study.study import Study, open_study
from probe.exported.images import images_named

N = 12
PLAIN = [f"p/{i:02}.png" for i in range(N)]
LABELS = ["ab"[i % 2] for i in range(N)]


@pytest.fixture
def drawn(tmp_path: Path) -> Path:
    """A folder with twelve pictures in `p`."""
    for name in PLAIN:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (4, 4), (int(name[2:4]), 9, 9)).save(tmp_path / name)
    return tmp_path


def write(folder: Path, text: str, name: str = "m.csv", encoding: str = "utf-8") -> str:
    (folder / name).write_bytes(text.encode(encoding))
    return str(folder / name)


def lines(head: str, row: Callable[[int], str], sign: str = ",") -> str:
    return "".join(f"{line}\n" for line in (head, *(f"{row(i)}" for i in range(N)))).replace(
        ",", sign
    )


def studied(folder: Path, manifest: Manifest) -> Study:
    return draft(folder / "s", manifest)


def there(manifest: Manifest) -> bool:
    return all((manifest.root / path).is_file() for path in manifest.columns["path"])


def said(manifest: Manifest, words: str) -> bool:
    return any(words in note for note in manifest.notes)


@pytest.mark.parametrize(
    "name",
    [
        "filename",
        "file_name",
        "image",
        "image_path",
        "img",
        "file",
        "filepath",
        "image_id",
        "uid",
        "foto",
    ],
)
def test_the_one_column_that_names_files_has_the_paths(drawn: Path, name: str) -> None:
    table = write(drawn, lines(f"id,{name},label", lambda i: f"{i},{PLAIN[i]},{LABELS[i]}"))
    manifest = read_data(table)
    assert manifest.columns["path"] == PLAIN
    assert name not in manifest.columns
    assert said(manifest, f"the column {name} has the paths of the images")


def test_path_in_capitals_is_path(drawn: Path) -> None:
    manifest = read_data(write(drawn, lines("Path,label", lambda i: f"{PLAIN[i]},{LABELS[i]}")))
    assert manifest.columns["path"] == PLAIN
    assert said(manifest, "the column Path is the path")


@pytest.mark.parametrize(
    ("head", "row", "sentence"),
    [
        (
            "path,label",
            lambda i: f"p/{i:02},{LABELS[i]}",
            "p/00.png is there, so give --extension .png",
        ),
        ("id_code,label", lambda i: f"p/{i:02},{LABELS[i]}", "--extension .png"),
        ("path,label", lambda i: f"p/{i:02}.jpg,{LABELS[i]}", "p/00.png is there, of another kind"),
        (
            "path,label",
            lambda i: f"p/{i:02}.PNG,{LABELS[i]}",
            "p/00.png is there, written otherwise",
        ),
        (
            "path,label",
            lambda i: f"P/{i:02}.PNG,{LABELS[i]}",
            "p/00.png is there, written otherwise; write the paths as the files are.",
        ),
        (
            "id_code,label",
            lambda i: f"{i:02},{LABELS[i]}",
            "/p --extension .png; give --path-column id_code,",
        ),
        (
            "image id,label",
            lambda i: f"{i:02},{LABELS[i]}",
            "no column path, and no other names files",
        ),
        ("a 1,b,label", lambda i: f"{PLAIN[i]},{PLAIN[i]},{LABELS[i]}", "--path-column 'a 1'."),
        ("path,label", lambda i: f"{i:02}.png,{LABELS[i]}", "/p, so give --root "),
        ("path,label", lambda i: f"data/p/{i:02}.png,{LABELS[i]}", "so leave out data/ before it"),
        ("path,label", lambda i: f"C:\\d\\p\\{i:02}.png,{LABELS[i]}", "so leave out d/ before it"),
        ("a,b,label", lambda i: f"{PLAIN[i]},{PLAIN[i]},{LABELS[i]}", "all name files; say which"),
        ("one,two", lambda i: f"{i},{LABELS[i]}", "no column path, and no other names files"),
    ],
)
def test_where_no_image_is_there_looking_around_says_what_would_match(
    drawn: Path, head: str, row: Callable[[int], str], sentence: str
) -> None:
    with pytest.raises(InputError) as caught:
        read_data(write(drawn, lines(head, row)))
    assert sentence in str(caught.value)


def test_the_options_lead_to_the_images(drawn: Path) -> None:
    table = write(drawn, lines("code,label", lambda i: f"{i:02},{LABELS[i]}"))
    manifest = read_data(f"{table}?path_column=code&root=p&extension=.png")
    assert manifest.columns["path"] == [f"{i:02}.png" for i in range(N)]
    assert manifest.root == drawn.resolve() / "p"
    assert there(manifest)
    assert read_data(manifest.source).columns == manifest.columns


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda p: p.replace("/", "\\"), "backslashes in the paths are read as slashes"),
        (lambda p: f" {p} ", "blanks around the paths are left out"),
    ],
)
def test_paths_that_are_written_otherwise_are_read(
    drawn: Path, change: Callable[[str], str], words: str
) -> None:
    table = write(drawn, lines("path,label", lambda i: f"{change(PLAIN[i])},{LABELS[i]}"))
    manifest = read_data(table)
    assert manifest.columns["path"] == PLAIN
    assert said(manifest, words)


def test_accents_are_read_as_the_files_have_them(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "Glu\u0308ck.png")
    manifest = read_data(write(tmp_path, "path,label\nGl\u00fcck.png,a\n"))
    assert there(manifest)
    assert said(manifest, "(NFD)")


@pytest.mark.parametrize(
    ("text", "name", "encoding", "words"),
    [
        (
            lines("path,label", lambda i: f"{PLAIN[i]},Gl\u00fcck", ";"),
            "m.csv",
            "utf-8",
            "separator is ';'",
        ),
        (
            "sep=;\r\n" + lines("path,label", lambda i: f"{PLAIN[i]},Gl\u00fcck", ";"),
            "m.csv",
            "utf-8",
            "';'",
        ),
        (
            "sep=\t\r\n" + lines("path,label", lambda i: f"{PLAIN[i]},Gl\u00fcck", "\t"),
            "m.csv",
            "utf-8",
            "",
        ),
        (
            lines("path,label", lambda i: f"{PLAIN[i]},Gl\u00fcck", "\t"),
            "m.tsv",
            "utf-16",
            "UTF-16",
        ),
        (lines("path,label", lambda i: f"{PLAIN[i]},Gl\u00fcck"), "m.csv", "latin-1", "not UTF-8"),
        (
            lines("path,label", lambda i: f'"{PLAIN[i]}","Gl\u00fcck"').replace("\n", "\r\n"),
            "m.csv",
            "utf-8",
            "",
        ),
        (lines("path,label", lambda i: f"{PLAIN[i]},Gl\u00fcck"), "m.csv", "utf-8-sig", ""),
    ],
)
def test_encodings_and_signs_between_cells(
    drawn: Path, text: str, name: str, encoding: str, words: str
) -> None:
    manifest = read_data(write(drawn, text, name, encoding))
    assert manifest.columns == {"path": PLAIN, "label": ["Gl\u00fcck"] * N}
    assert said(manifest, words) if words else not manifest.notes


def test_a_latin_1_table_leads_to_files_of_utf_8(drawn: Path, tmp_path: Path) -> None:
    labels = ["Gl\u00fcck", "b"] * N
    text = lines("path,label", lambda i: f"{PLAIN[i]},{labels[i]}")
    study = ["--study", str(tmp_path / "s")]
    data = ["--data", write(drawn, text, encoding="latin-1")]
    for words in (
        ["extract", *study, *data, "-b", "control:pixels"],
        ["fit", *study, "--probe", "ridge", "--folds", "2"],
        ["report", *study],
    ):
        done = CliRunner().invoke(app, words)
        assert done.exit_code == 0, done.output
    for name in ("images.csv", "study.toml", "report/index.html"):
        assert "Gl\u00fcck" in (tmp_path / "s" / name).read_bytes().decode("utf-8")


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf_16_without_a_mark(drawn: Path, encoding: str) -> None:
    text = lines("path,label", lambda i: f"{PLAIN[i]},Gl\u00fcck")
    manifest = read_data(write(drawn, text, encoding=encoding))
    assert manifest.columns == {"path": PLAIN, "label": ["Gl\u00fcck"] * N}
    assert said(manifest, "read as UTF-16 (it has no mark)")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (
            b"PK\x03\x04" + bytes(40),
            "a workbook or another archive and no table; save its sheet as",
        ),
        (b"\xd0\xcf\x11\xe0" + bytes(40), "an Excel workbook and no table; save its sheet as CSV."),
        (b"\x1f\x8b\x08" + bytes(40), "compressed; unpack it with gunzip."),
        (b"PAR1" + bytes(40), "a Parquet file; give it the ending .parquet."),
        (b'{"path": "p/00.png", "label": "a"}\n' * 3, "JSON and no table; save it as CSV,"),
        (b'[\n{"path": "p/00.png",\n"label": "a"}]\n', "JSON and no table; save it as CSV,"),
        (b"\x00\x01\x02" * 40, "not a text file; give a CSV or TSV manifest."),
    ],
)
def test_what_is_no_table_is_called_what_it_is(drawn: Path, data: bytes, words: str) -> None:
    (drawn / "m.csv").write_bytes(data)
    with pytest.raises(InputError) as caught:
        read_data(str(drawn / "m.csv"))
    assert words in str(caught.value)


def test_a_folder_of_tables_or_archives_says_how_to_give_them(tmp_path: Path) -> None:
    for name, words in (
        ("a/data/train-0.parquet", "give one of its Parquet files, such as "),
        ("b/0000.tar", f"give its archives as 'webdataset:{tmp_path}/b/*.tar'."),
    ):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
        with pytest.raises(InputError) as caught:
            read_data(str(tmp_path / name[0]))
        assert words in str(caught.value)


def test_values_that_look_missing_are_said_and_settled(drawn: Path) -> None:
    values = ["a", "b", "nan", "?", "-1", "A "] * 2
    table = write(drawn, lines("path,label", lambda i: f"{PLAIN[i]},{values[i]}"))
    manifest = read_data(table)
    assert manifest.columns["label"] == values  # nothing is merged in silence
    assert said(manifest, "--missing 'nan,?,-1' leaves them out")
    assert said(manifest, "'a' (2) and 'A ' (2) of the column label look like one another")
    settled = read_data(f"{table}?missing=nan,%3F,-1")
    assert set(settled.columns["label"]) == {"a", "b", "A ", ""}
    assert studied(drawn, settled).tasks["label"].classes == ("A ", "a", "b")
    assert read_data(settled.source).columns == settled.columns


def test_numbers_written_in_two_ways_and_leading_zeros(drawn: Path) -> None:
    values = ["1", "1.0", "01", "2"] * 3
    manifest = read_data(write(drawn, lines("path,label", lambda i: f"{PLAIN[i]},{values[i]}")))
    assert manifest.columns["label"] == values
    assert said(manifest, "'1' (3) and '1.0' (3)")
    assert not said(manifest, "'01'")


def test_use_is_read_as_what_it_says(drawn: Path) -> None:
    words = ["True", "False", "0.0", "no", "1", "yes"] * 2
    table = write(drawn, lines("path,label,use", lambda i: f"{PLAIN[i]},{LABELS[i]},{words[i]}"))
    manifest = read_data(table)
    np.testing.assert_array_equal(studied(drawn, manifest).used, [1, 0, 0, 0, 1, 1] * 2)
    with pytest.raises(InputError, match="row 0: use is '', which is neither yes nor no"):
        read_data(write(drawn, lines("path,label,use", lambda i: f"{PLAIN[i]},{LABELS[i]},")))
    for word in ("nan", "inf", "-1", "2"):
        with pytest.raises(InputError, match="neither yes nor no"):
            read_data(
                write(drawn, lines("path,label,use", lambda i, w=word: f"{PLAIN[i]},a,{w}"))  # type: ignore[misc]
            )


def test_reserved_names_count_in_any_case(drawn: Path) -> None:
    table = write(
        drawn,
        lines(
            "path,label,Subject,Split",
            lambda i: f"{PLAIN[i]},{LABELS[i]},{' ' * (i % 2)}s{i // 4},train",
        ),
    )
    manifest = read_data(table)
    assert set(manifest.columns) == {"path", "label", "subject", "split"}
    assert set(manifest.columns["subject"]) == {"s0", "s1", "s2"}
    assert said(manifest, "the column Subject is the subject")
    assert said(manifest, "blanks around values of subject are left out")
    both = lines("path,label,Subject,subject", lambda i: f"{PLAIN[i]},{LABELS[i]},s{i},s{i}")
    with pytest.raises(InputError, match="the columns Subject and subject are both subject"):
        read_data(write(drawn, both))


def test_likely_groups_are_asked_about(drawn: Path) -> None:
    table = write(
        drawn, lines("path,label,patient_id", lambda i: f"{PLAIN[i]},{LABELS[i]},s{i // 4}")
    )
    with pytest.raises(
        InputError, match="--columns patient_id=subject or --columns patient_id=label"
    ):
        read_data(table)
    as_subject = read_data(f"{table}?columns=patient_id=subject")
    assert as_subject.columns["subject"] == [f"s{i // 4}" for i in range(N)]
    assert set(read_data(f"{table}?columns=patient_id=label").columns) == {
        "path",
        "label",
        "patient_id",
    }
    with pytest.raises(InputError, match="write NAME=ROLE"):
        read_data(f"{table}?columns=patient_id=person")


def test_subjects_that_differ_in_blanks_are_one(drawn: Path) -> None:
    text = lines(
        "path,label,subject", lambda i: f"{PLAIN[i]},{LABELS[i]},{' s1' if i % 2 else 's1 '}"
    )
    manifest = read_data(write(drawn, text))
    assert set(manifest.columns["subject"]) == {"s1"}
    assert said(manifest, "blanks around values of subject are left out")


def test_a_subject_called_nan_is_no_subject(drawn: Path) -> None:
    table = write(
        drawn,
        lines("path,label,subject", lambda i: f"{PLAIN[i]},{LABELS[i]},{'nan' if i % 2 else i}"),
    )
    manifest = read_data(table)
    assert len(np.unique(studied(drawn, manifest).subjects)) == N
    assert said(manifest, "'nan' (6) in the column subject is read as no subject")


@pytest.mark.parametrize("name", ["fold", "split"])
def test_a_fold_or_split_called_nan_is_none(drawn: Path, name: str) -> None:
    cells = ["nan", "train", "NA", "test"] * 3
    table = write(drawn, lines(f"path,label,{name}", lambda i: f"{PLAIN[i]},a,{cells[i]}"))
    manifest = read_data(table)
    assert manifest.columns[name] == ["", "train", "", "test"] * 3
    assert said(manifest, f"'nan' (3) and 'NA' (3) in the column {name} are read as no {name}")


def begun(folder: Path, source: str, columns: dict[str, list[str]]) -> Study:
    """A study as it was begun before columns were asked about."""
    study = draft(folder / "s", Manifest(source, folder, columns))
    begin(study)
    return study


def test_a_study_keeps_its_columns_as_they_stand(drawn: Path) -> None:
    def row(i: int) -> str:
        return f"{PLAIN[i]},{LABELS[i]},s{i // 4},{LABELS[i]}"

    table = write(drawn, lines("path,label,patient_id,Subject", row))
    old = begun(
        drawn,
        table,
        {
            "path": PLAIN[:9],
            "label": LABELS[:9],
            "patient_id": [f"s{i // 4}" for i in range(9)],
            "Subject": LABELS[:9],
        },
    )
    assert open_or_draft(old.folder, table)[1] is None
    for spec in (None, table, f"{table}?columns=patient_id=label"):
        more = appended(open_study(old.folder), spec)
        assert more.columns["patient_id"] == [f"s{i // 4}" for i in range(N)]
        assert more.columns["Subject"] == LABELS
        assert more.source == table
    with pytest.raises(InputError, match="the column patient_id is a label in"):
        open_or_draft(old.folder, f"{table}?columns=patient_id=subject")
    with pytest.raises(InputError, match="this study is of"):
        open_or_draft(old.folder, f"{table}?missing=a")


def test_a_study_with_roles_takes_its_table_with_and_without_them(drawn: Path) -> None:
    table = write(
        drawn, lines("path,label,patient_id", lambda i: f"{PLAIN[i]},{LABELS[i]},s{i // 4}")
    )
    whole = read_data(f"{table}?columns=patient_id=subject").columns
    source = f"{table}?columns=patient_id=subject"
    old = begun(drawn, source, {name: cells[:9] for name, cells in whole.items()})
    for spec in (None, table, source):
        assert appended(old, spec).columns["subject"] == whole["subject"]
    with pytest.raises(InputError, match="the column patient_id is the subject in"):
        appended(old, f"{table}?columns=patient_id=label")


def test_a_relative_root_holds_in_another_folder(
    drawn: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (drawn / "t").mkdir()
    table = write(drawn / "t", lines("path,label", lambda i: f"{PLAIN[i][2:]},{LABELS[i]}"))
    monkeypatch.chdir(drawn)
    manifest = read_data(f"{table}?root=p")
    cut = {name: cells[:9] for name, cells in manifest.columns.items()}
    new = draft(drawn / "s", Manifest(manifest.source, manifest.root, cut))
    old = draft(drawn / "s", Manifest(f"{table}?root=p", manifest.root, cut))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    for study in (new, old):
        assert appended(study).paths == manifest.columns["path"]
        assert appended(study, f"{table}?root=../p").paths == manifest.columns["path"]


@pytest.mark.parametrize("first", [".", "/", "./", "x" * 5000, ".."])
def test_a_first_path_that_names_no_file(drawn: Path, first: str) -> None:
    table = write(drawn, f"path,label\n{first},a\n{first},b\n")
    assert read_data(table).columns["path"] == [first, first]


@pytest.mark.parametrize("name", ["subject", "fold", "split", "use"])
def test_a_reserved_column_cannot_be_a_label(drawn: Path, name: str) -> None:
    table = write(drawn, lines(f"path,label,{name}", lambda i: f"{PLAIN[i]},a,1"))
    with pytest.raises(InputError, match=f"a column that is called {name} is never a label"):
        read_data(f"{table}?columns={name}=label")


def test_the_column_of_paths_is_named_as_the_table_has_it(drawn: Path) -> None:
    table = write(drawn, lines("Path,label", lambda i: f"{PLAIN[i]},a"))
    assert read_data(f"{table}?path_column=Path").columns["path"] == PLAIN


def test_lines_are_counted_from_the_top_of_the_file(drawn: Path) -> None:
    with pytest.raises(InputError, match="line 4: 1 cells"):
        read_data(write(drawn, f"sep=;\npath;label\n{PLAIN[0]};a\nb\n"))
    with pytest.raises(InputError, match="line 4: the path is empty"):
        read_data(write(drawn, f"sep=;\npath;label\n{PLAIN[0]};a\n;a\n"))


def test_several_values_are_named_as_in_a_sentence(drawn: Path) -> None:
    cells = ["nan", "?", "NA", "x"] * 3
    table = write(drawn, lines("path,label", lambda i: f"{PLAIN[i]},{cells[i]}"))
    assert said(read_data(table), "'nan' (3), '?' (3) and 'NA' (3) of the column label")


def test_a_table_to_predict_takes_the_options_and_is_not_asked_about(drawn: Path) -> None:
    (drawn / "t").mkdir()
    text = lines("file,label,patient_id", lambda i: f"{PLAIN[i][2:-4]},{LABELS[i]},s{i // 4}")
    table = write(drawn / "t", text)
    options = {"path_column": "file", "root": str(drawn / "p"), "extension": ".png"}
    images = images_named([table], "label", options)
    assert images.files == [drawn / name for name in PLAIN]
    assert images.labels == LABELS
    roles = {**options, "columns": "patient_id=subject"}
    assert images_named([table], "label", roles).subjects == [f"s{i // 4}" for i in range(N)]
    with pytest.raises(InputError, match="--root x: goes with a table"):
        images_named([str(drawn / "p")], "label", {"root": "x"})


def png(i: int) -> bytes:
    made = io.BytesIO()
    Image.new("RGB", (4, 4), (i, 0, 0)).save(made, "png")
    return made.getvalue()


@pytest.mark.parametrize("inside", [True, False])
def test_parquet_with_the_images_in_it(drawn: Path, inside: bool) -> None:
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    cells = [{"bytes": png(i), "path": f"{i}.png"} if inside else png(i) for i in range(N)]
    parquet.write_table(arrow.table({"image": cells, "label": LABELS}), drawn / "hub.parquet")
    manifest = read_data(str(drawn / "hub.parquet"))
    assert there(manifest)
    assert manifest.columns["label"] == LABELS
    assert Image.open(manifest.root / manifest.columns["path"][7]).getpixel((0, 0)) == (7, 0, 0)
    assert said(manifest, "those that the column image holds")


def test_arrays_as_keras_has_them(tmp_path: Path) -> None:
    x = np.random.default_rng(0).integers(0, 256, (10, 3, 6, 5))
    y = np.eye(2)[np.arange(10) % 2]
    np.savez(
        tmp_path / "a.npz",
        x_train=(x[:8] / 255).astype(np.float32), y_train=y[:8],
        x_test=(x[8:] / 255).astype(np.float32), y_test=y[8:],
    )  # fmt: skip
    manifest = read_data(str(tmp_path / "a.npz"))
    assert manifest.columns["label"] == [str(i % 2) for i in range(10)]
    assert manifest.columns["split"] == ["train"] * 8 + ["test"] * 2
    read = np.asarray(Image.open(manifest.root / manifest.columns["path"][9]))
    np.testing.assert_array_equal(read, np.moveaxis(x[9], 0, 2))
    assert said(manifest, "the channels of the images come first")
    assert said(manifest, "floats from 0 to 1")
    np.savez(tmp_path / "b.npz", x=x[:4].astype(np.float32), y=y[:4])
    with pytest.raises(InputError, match="the pixels are floats from 0 to 255; save them as uint8"):
        read_data(str(tmp_path / "b.npz"))


def test_keys_with_dots_in_them(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for i in range(8):
            label = json.dumps({"label": LABELS[i]}).encode()
            for name, data in (
                (f"shot.{i}.png", png(i)), (f"shot.{i}.json", label),
                (f"{i:04}.seg.png", png(0)), (f"{i:04}.png", png(i)), (f"{i:04}.cls", b"a"),
            ):  # fmt: skip
                member = tarfile.TarInfo(name)
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
    manifest = read_data(f"webdataset:{tmp_path / 'a.tar'}")
    paths = [path.split("/")[1] for path in manifest.columns["path"]]
    assert sorted(paths) == sorted(
        [f"shot.{i}.png" for i in range(8)] + [f"{i:04}.png" for i in range(8)]
    )
    assert there(manifest)
    assert manifest.columns["label"][paths.index("shot.3.png")] == LABELS[3]
