"""Files that somebody else wrote: nothing outside them is read, and no size is believed unchecked."""

import io
import os
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from features.cards.reading import read_file
from features.data import read_data
from features.data.arrayfile import read_arrays
from features.errors import InputError
from features.extraction.imported import import_features
from features.images.thumbnails import thumbnails
from features.machine.regular_files import read_regular
from features.store.featurefile import FeatureFile
from features.study.study import open_study
from features.weights.fetch import download

IMAGES = np.zeros((4, 3, 3), dtype=np.uint8)
pytestmark = pytest.mark.skipif(os.name != "posix", reason="pipes are POSIX's")


@pytest.fixture(autouse=True)
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROBE_HOME", str(tmp_path / "home"))


def refusal(call: Callable[[], object]) -> str:
    with pytest.raises(InputError) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message
    assert message.endswith(".")
    return message


def other(folder: Path) -> Path:
    """A file that is none of the data set's."""
    file = folder / "other.h5"
    with h5py.File(file, "w") as opened:
        opened["secret"] = np.arange(4)
    return file


def external_link(file: h5py.File, folder: Path) -> None:
    file["label"] = h5py.ExternalLink(other(folder), "secret")


def soft_link(file: h5py.File, folder: Path) -> None:
    file["group/out"] = h5py.ExternalLink(other(folder), "secret")
    file["label"] = h5py.SoftLink("/group/out")


def pipe(file: h5py.File, folder: Path) -> None:
    os.mkfifo(folder / "pipe.h5")
    file["label"] = h5py.ExternalLink(folder / "pipe.h5", "secret")


def external_storage(file: h5py.File, folder: Path) -> None:
    (folder / "secret").write_bytes(b"s3cr3t!!" * 4)
    file.create_dataset("label", (4,), "i8", external=[(str(folder / "secret"), 0, 32)])


def virtual(file: h5py.File, folder: Path) -> None:
    layout = h5py.VirtualLayout((4,), "i8")
    layout[:] = h5py.VirtualSource(str(other(folder)), "secret", shape=(4,))
    file.create_virtual_dataset("label", layout)


@pytest.mark.timeout(20)
@pytest.mark.parametrize("make", [external_link, soft_link, pipe, external_storage, virtual])
def test_no_other_file_is_read_for_an_hdf5_file(
    tmp_path: Path, make: Callable[[h5py.File, Path], None]
) -> None:
    file = tmp_path / "data.h5"
    with h5py.File(file, "w") as opened:
        opened["images"] = IMAGES
        opened["features"] = np.ones((4, 3))
        make(opened, tmp_path)
    said = refusal(lambda: read_data(str(file)))
    assert "other file" in said
    study = tmp_path / "study"
    assert refusal(lambda: import_features(study, file, name="net", layer="fc")) == said
    assert not study.exists()


def huge_hdf5(file: Path) -> None:
    with h5py.File(file, "w") as opened:
        opened["label"] = np.arange(4)
        opened.create_dataset("features", (10**6, 3_000), "f8", chunks=(1, 3_000))


def long_texts(file: Path) -> None:
    """One text of a million signs and many short ones, each of which NumPy would give as much room."""
    with h5py.File(file, "w") as opened:
        data = opened.create_dataset("label", (10**6,), h5py.string_dtype(), compression="gzip")
        data[0] = "x" * 1_000_000


def npz(file: Path, shape: tuple[int, ...]) -> None:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "<f8", "fortran_order": False, "shape": shape}
    )
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("features.npy", header.getvalue() + bytes(64))


def npz_of_zeros(file: Path) -> None:
    """200 MB in 200 kB."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("features.npy", bytes(200_000_000))


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("huge.h5", huge_hdf5),
        ("texts.h5", long_texts),
        ("huge.npz", lambda file: npz(file, (10**12, 22))),
        ("short.npz", lambda file: npz(file, (9,))),
        ("zeros.npz", npz_of_zeros),
    ],
)
def test_arrays_that_a_file_cannot_hold_are_refused_before_they_take_memory(
    tmp_path: Path, name: str, make: Callable[[Path], None]
) -> None:
    file = tmp_path / name
    make(file)
    said = refusal(lambda: read_arrays(file))
    assert any(why in said for why in ("more than it can hold", "declared in", "it ends early"))


def test_texts_of_an_hdf5_file_come_as_they_are(tmp_path: Path) -> None:
    file, texts = tmp_path / "data.h5", [f"größe {i}" for i in range(200)]
    with h5py.File(file, "w") as opened:
        opened["label"] = texts
        opened["column"] = np.array(texts, dtype=object)[:, None]
        opened["none"] = np.zeros((0, 3))
    arrays = read_arrays(file)
    assert arrays["label"].tolist() == texts
    assert arrays["column"].tolist() == [[text] for text in texts]
    assert arrays["none"].shape == (0, 3)


def test_more_rows_than_a_parquet_file_can_hold(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    file = tmp_path / "data.parquet"
    path = arrow.DictionaryArray.from_arrays(arrow.array(np.zeros(2**21, np.int8)), ["a.png"])
    parquet.write_table(arrow.table({"path": path}), file, compression="zstd")
    assert "declares 2,097,152 rows in" in refusal(lambda: read_data(str(file)))


def test_an_archive_that_unpacks_to_far_more_than_it_is(tmp_path: Path) -> None:
    file = tmp_path / "shard.tar"
    with tarfile.open(file, "w:gz") as opened:
        member = tarfile.TarInfo("0.jpg")
        member.size = 100_000_000
        opened.addfile(member, io.BytesIO(bytes(member.size)))
    assert "'0.jpg' would unpack to far more" in refusal(lambda: read_data(f"webdataset:{file}"))
    sparse = tarfile.TarInfo("0.jpg")
    sparse.pax_headers = {
        "GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "0.jpg",
        "GNU.sparse.realsize": str(10**12),
    }  # fmt: skip
    content = b"1\n0\n10\n".ljust(512, b"\0") + b"0123456789"
    sparse.size = len(content)
    with tarfile.open(file, "w", format=tarfile.PAX_FORMAT) as opened:
        opened.addfile(sparse, io.BytesIO(content))
    assert "'0.jpg' would unpack to far more" in refusal(lambda: read_data(f"webdataset:{file}"))


@pytest.mark.parametrize(
    ("header", "content"),
    [
        ({"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}, b""),
        ({"GNU.sparse.map": "1,x"}, b""),
        ({"GNU.sparse.size": "y"}, b"12"),
        ({"size": "many"}, b"12"),
    ],
)
def test_an_archive_whose_headers_are_none(
    tmp_path: Path, header: dict[str, str], content: bytes
) -> None:
    file = tmp_path / "shard.tar"
    member = tarfile.TarInfo("0.jpg")
    member.pax_headers, member.size = {**header, "GNU.sparse.name": "0.jpg"}, len(content)
    with tarfile.open(file, "w", format=tarfile.PAX_FORMAT) as opened:
        opened.addfile(member, io.BytesIO(content))
    assert "shard.tar: " in refusal(lambda: read_data(f"webdataset:{file}"))


@pytest.mark.parametrize(
    "line", ["size = [200000, 200000]", "size = [0, 3]", "size = [8, 8]\nresize = 200000"]
)
def test_a_card_of_more_pixels_than_fit_into_memory(tmp_path: Path, line: str) -> None:
    file = tmp_path / "card.toml"
    file.write_text(
        f'name = "a"\ndomain = "b"\nnetwork = "torchvision:alexnet"\n[input]\n{line}\n'
        "mean = [0.0, 0.0, 0.0]\nstd = [1.0, 1.0, 1.0]\n"
    )
    assert "pixels a side" in refusal(lambda: read_file(file))


@pytest.mark.timeout(30)
@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_what_is_no_file_is_refused_at_once_wherever_a_name_leads_to_it(
    tmp_path: Path, kind: str
) -> None:
    def put(file: Path) -> Path:
        file.unlink(missing_ok=True)
        if kind == "pipe":
            os.mkfifo(file)
        elif kind == "device":
            file.symlink_to("/dev/zero")
        else:
            file.mkdir()
        return file

    with pytest.raises(OSError, match=r"(?i)not a file|is a directory"):
        read_regular(put(tmp_path / "any"))
    seen = thumbnails([put(tmp_path / "x.png")])
    assert seen.digest == (b"",)
    why = "is a directory" if kind == "folder" else "not a file"
    assert why in seen.unreadable[0]
    csv = put(tmp_path / "x.csv")
    assert refusal(lambda: read_data(f"fairface:{csv}"))
    if kind != "folder":
        assert "there is no such folder or file" in refusal(lambda: read_data(str(csv)))
    assert why in refusal(lambda: read_data(f"webdataset:{put(tmp_path / 'x.tar')}")).lower()
    assert "not a text file" in refusal(lambda: read_file(put(tmp_path / "card.toml")))
    with pytest.raises(OSError, match=r"(?i)not a file|is a directory"):
        download(put(tmp_path / "weights").as_uri(), tmp_path)
    with pytest.raises(InputError):
        FeatureFile(put(tmp_path / "x.h5"))
    study = tmp_path / "study"
    np.savez(tmp_path / "ok.npz", features=np.ones((4, 3)), label=np.arange(4) % 2)
    import_features(study, tmp_path / "ok.npz", name="net", layer="fc")
    put(study / "copies.json")
    assert open_study(study).copies is None
    put(study / "images.csv")
    assert "images.csv: cannot be read" in refusal(lambda: open_study(study))


def test_a_link_to_a_file_is_a_file(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    (tmp_path / "b.png").symlink_to("a.png")
    assert thumbnails([tmp_path / "b.png"]).unreadable == {}
