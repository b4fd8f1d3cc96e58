"""Data sets inside other files: saved Hugging Face data sets and WebDataset archives."""

import io
import json
import shutil
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as arrow
import pytest
from PIL import Image

from features.data import caches_images, read_data
from features.errors import InputError
from features.images.decode import read_rgb
from features.study.drafting import draft, open_or_draft
from features.study.saving import save


@pytest.fixture(autouse=True)
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PROBE_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def drawn(i: int) -> bytes:
    """A PNG whose pixels tell its number."""
    data = io.BytesIO()
    Image.new("RGB", (4, 3), (i, 2 * i, 255 - i)).save(data, "png")
    return data.getvalue()


def shown(file: Path) -> int:
    """The number of the image, from its pixels."""
    pixels = np.asarray(read_rgb(file))
    i = int(pixels[0, 0, 0])
    assert pixels.tolist() == [[[i, 2 * i, 255 - i]] * 4] * 3
    return i


def refused(spec: str) -> str:
    with pytest.raises(InputError) as caught:
        read_data(spec)
    message = str(caught.value)
    assert "\n" not in message
    assert message.endswith(".")
    return message


def archive(file: Path, members: list[tuple[str, bytes]]) -> None:
    with tarfile.open(file, "w") as opened:
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            opened.addfile(member, io.BytesIO(data))


def shards(folder: Path) -> None:
    """Six images in two archives; the labels of the last stand before it, the fifth has none."""
    said = json.dumps({"sex": "f", "years": 31, "box": [1, 2]}).encode()
    archive(
        folder / "a-1.tar",
        [("x/3.PNG", drawn(3)), ("x/3.cls", b"0"), ("5.png", drawn(5)), ("6.json", said),
         ("6.png", drawn(6)), ("readme", b"not an image")],
    )  # fmt: skip
    archive(
        folder / "a-0.tar",
        [(f"x/{i}.{kind}", data) for i in range(3)
         for kind, data in (("png", drawn(i)), ("cls", b" %d\n" % (i % 2)), ("seg.png", b"a mask"))],
    )  # fmt: skip


def test_archives_are_read_in_order_with_their_labels(tmp_path: Path) -> None:
    shards(tmp_path)
    found = read_data(f"webdataset:{tmp_path}/a-*.tar")
    assert found.columns == {
        "path": ["a-0.tar/x/0.png", "a-0.tar/x/1.png", "a-0.tar/x/2.png", "a-1.tar/x/3.PNG",
                 "a-1.tar/5.png", "a-1.tar/6.png"],
        "label": ["0", "1", "0", "0", "", ""],
        "sex": ["", "", "", "", "", "f"],
        "years": ["", "", "", "", "", "31"],
    }  # fmt: skip
    assert [shown(found.root / path) for path in found.columns["path"]] == [0, 1, 2, 3, 5, 6]
    assert found.source == f"webdataset:{tmp_path}/a-*.tar"
    assert read_data(found.source).root == found.root
    archive(tmp_path / "a-1.tar", [("5.png", drawn(50)), ("5.cls", b"1")])
    again = read_data(found.source)
    assert again.columns["path"][3:] == ["a-1.tar/5.png"]
    assert shown(again.root / "a-1.tar/5.png") == 50
    assert shown(found.root / "a-1.tar/5.png") == 5


def test_archives_that_cannot_be_used(tmp_path: Path) -> None:
    where = f"webdataset:{tmp_path}"
    assert "no file matches; quote the pattern" in refused(f"{where}/*.tar")
    (tmp_path / "a.tar").write_bytes(b"no tar file" * 100)
    assert "a.tar: not a complete tar file" in refused(f"{where}/*.tar")
    archive(tmp_path / "a.tar", [("1.txt", b"x")])
    assert "hold no images" in refused(f"{where}/*.tar")
    archive(tmp_path / "a.tar", [("1.png", drawn(1))])
    assert "images but no labels" in refused(f"{where}/*.tar")
    archive(tmp_path / "a.tar", [("1.png", drawn(1)), ("1.json", b"{")])
    assert "1.json is not JSON" in refused(f"{where}/*.tar")
    shards(tmp_path)
    whole = (tmp_path / "a-0.tar").read_bytes()
    (tmp_path / "a-0.tar").write_bytes(whole[:1200])
    assert "not a complete tar file" in refused(f"{where}/a-*.tar")


def test_an_archive_cannot_write_outside_the_cache(tmp_path: Path, kept: Path) -> None:
    members = [("../../../out.png", drawn(1)), ("../../../out.cls", b"0")]
    members += [(f"{tmp_path}/out.png", drawn(2)), (f"{tmp_path}/out.cls", b"1")]
    archive(tmp_path / "a.tar", [*members, ("1.png", drawn(3)), ("1.cls", b"1")])
    with tarfile.open(tmp_path / "a.tar", "a") as opened:
        link = tarfile.TarInfo("2.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        opened.addfile(link)
    found = read_data(f"webdataset:{tmp_path}/a.tar")
    assert found.columns["path"] == ["a.tar/1.png"]
    files = [one for one in kept.rglob("*") if not one.is_dir()]
    assert files == [found.root / "a.tar" / "1.png"]
    assert not list(tmp_path.rglob("out.png"))


def dataset(
    folder: Path, rows: list[dict[str, Any]], kinds: dict[str, Any], files: int = 2
) -> None:
    """What `Dataset.save_to_disk` writes, in Arrow's stream format, several batches to a file."""
    folder.mkdir(parents=True)
    names = [f"data-{i:05}-of-{files:05}.arrow" for i in range(files)]
    step = -(-len(rows) // files)
    schema = arrow.Table.from_pylist(rows).schema
    for i, name in enumerate(names):
        table = arrow.Table.from_pylist(rows[i * step : (i + 1) * step], schema=schema)
        with arrow.ipc.new_stream(folder / name, schema) as out:
            out.write_table(table, max_chunksize=2)
    (folder / "dataset_info.json").write_text(json.dumps({"features": kinds}))
    state = {"_data_files": [{"filename": name} for name in names], "_indices_files": None}
    (folder / "state.json").write_text(json.dumps(state))


KINDS = {
    "id": {"dtype": "int64", "_type": "Value"},
    "image": {"_type": "Image"},
    "label": {"names": ["cat", "dog"], "_type": "ClassLabel"},
    "place": {"dtype": "string", "_type": "Value"},
    "boxes": {"feature": {"dtype": "int64", "_type": "Value"}, "_type": "Sequence"},
    "parts": [{"dtype": "int64", "_type": "Value"}],
}


def row(i: int, **image: Any) -> dict[str, Any]:
    given = image or {"bytes": drawn(i), "path": f"cat{i}.png" if i % 2 else None}
    return {
        "id": i, "image": given, "label": (0, 1, -1)[i % 3], "place": None if i == 4 else f"p{i}",
        "boxes": [i, i], "parts": [i],
    }  # fmt: skip


def test_a_saved_data_set_is_read_in_order_with_the_names_of_its_classes(tmp_path: Path) -> None:
    dataset(tmp_path / "set", [row(i) for i in range(7)], KINDS)
    found = read_data(f"hf:{tmp_path / 'set'}")
    assert found.source == f"hf:{tmp_path / 'set'}"
    assert {name: column for name, column in found.columns.items() if name != "path"} == {
        "id": list("0123456"),
        "label": ["cat", "dog", "", "cat", "dog", "", "cat"],
        "place": ["p0", "p1", "p2", "p3", "", "p5", "p6"],
    }
    assert [shown(found.root / path) for path in found.columns["path"]] == list(range(7))


def test_splits_of_a_saved_data_set_are_a_column(tmp_path: Path) -> None:
    dataset(tmp_path / "train", [row(i) for i in range(4)], KINDS)
    dataset(tmp_path / "test", [row(i) for i in range(4, 6)], KINDS, files=1)
    (tmp_path / "dataset_dict.json").write_text(json.dumps({"splits": ["train", "test"]}))
    found = read_data(f"hf:{tmp_path}")
    assert found.columns["split"] == ["train"] * 4 + ["test"] * 2
    assert [shown(found.root / path) for path in found.columns["path"]] == list(range(6))


def test_a_saved_data_set_of_paths(tmp_path: Path) -> None:
    files = [tmp_path / f"{i}.png" for i in range(3)]
    for i, file in enumerate(files):
        file.write_bytes(drawn(i))
    rows = [row(i, bytes=None, path=str(file)) for i, file in enumerate(files)]
    dataset(tmp_path / "set", rows, KINDS, files=1)
    found = read_data(f"hf:{tmp_path / 'set'}")
    assert [shown(found.root / path) for path in found.columns["path"]] == [0, 1, 2]
    rows[1] = row(1)
    dataset(tmp_path / "mixed", rows, KINDS, files=1)
    assert "some rows have no images" in refused(f"hf:{tmp_path / 'mixed'}")


def test_saved_data_sets_that_cannot_be_used(tmp_path: Path) -> None:
    assert "dataset_info.json is missing or damaged" in refused(f"hf:{tmp_path}")
    dataset(tmp_path / "set", [row(i) for i in range(4)], KINDS)
    where, state = f"hf:{tmp_path / 'set'}", tmp_path / "set" / "state.json"
    whole = state.read_text()
    state.write_text(whole.replace("null", '[{"filename": "indices.arrow"}]'))
    assert "call flatten_indices()" in refused(where)
    state.write_text("{}")
    assert "state.json is missing or damaged" in refused(where)
    state.write_text(whole)
    file = tmp_path / "set" / "data-00001-of-00002.arrow"
    file.write_bytes(file.read_bytes()[:-300])
    assert "not a complete Arrow file" in refused(where)
    file.unlink()
    assert "not a complete Arrow file" in refused(where)
    dataset(tmp_path / "other", [row(0)], {"label": KINDS["label"]}, files=1)
    assert "no column of images among label" in refused(f"hf:{tmp_path / 'other'}")


@pytest.mark.parametrize("kind", ["hf", "webdataset"])
def test_a_study_finds_its_images_when_the_cache_was_emptied(
    tmp_path: Path, kept: Path, kind: str
) -> None:
    shards(tmp_path)
    dataset(tmp_path / "set", [row(i) for i in range(6)], KINDS)
    manifest = read_data(
        {"hf": f"hf:{tmp_path / 'set'}", "webdataset": f"webdataset:{tmp_path}/a-*.tar"}[kind]
    )
    assert caches_images(manifest.source)
    save(draft(tmp_path / "study", manifest))
    shutil.rmtree(kept)
    study, _ = open_or_draft(tmp_path / "study", None)
    assert all((study.root / path).is_file() for path in study.paths)
