import json
import subprocess
import sys
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from features.errors import InputError
from features.store.featurefile import DONE, PENDING, UNREADABLE, FeatureFile
from features.store.making import create, merge
from features.store.writer import Writer

GOLDEN = Path(__file__).parents[1] / "kept" / "v1.h5"
Rows = npt.NDArray[np.int64]


def about(key: str, dim: int, order: int = 0) -> dict[str, Any]:
    layer, _, pool = key.partition(":")
    layer = layer if pool else key
    shape = [dim, 3, 2] if pool else [dim]
    return {
        "key": key, "dim": dim, "layer": layer, "module": f"net.{layer}", "pool": pool or "none",
        "shape": shape, "depth": (order + 1) / 8, "order": order,
    }  # fmt: skip


def attributes(**others: object) -> dict[str, Any]:
    return {
        "backbone": "toy:net",
        "domain": "toys",
        "images": "ab" * 32,
        "contract": "cd" * 32,
        "card": json.dumps({"name": "toy:net", "layers": {"conv1": "net.conv1"}}),
        "weights": json.dumps({"random": True, "seed": 0}),
        "made_with": json.dumps({"toolkit": "0.1.0"}),
        "preprocessing": "as it is",
        **others,
    }


def write(
    path: Path,
    layers: Mapping[str, npt.NDArray[Any]],
    done: Rows,
    refused: Mapping[int, str] | None = None,
    dtype: str = "float32",
) -> None:
    n = len(next(iter(layers.values())))
    described = [about(key, x.shape[1], order) for order, (key, x) in enumerate(layers.items())]
    create(path, n, np.arange(n), described, dtype, attributes())
    with Writer(path) as writer:
        writer.write(done, {key: x[done] for key, x in layers.items()})
        writer.refuse(refused or {})


def golden_numbers() -> dict[str, npt.NDArray[np.float32]]:
    row, column = np.mgrid[:6, :8].astype(np.float32)
    return {
        "conv1": row + column / 8,
        "conv1:avg": (100 * row + column)[:, :3],
        "fc 6.é": -row / 4 + 2.0**column,
    }


def write_golden() -> None:
    """How data/v1.h5 was made; never make it again, since files of that day must open for ever."""
    write(GOLDEN, golden_numbers(), np.array([0, 1, 3, 4]), {2: "no such file: é"})


def check_golden(path: Path) -> None:
    done = [0, 1, 3, 4]
    with FeatureFile(path) as file:
        assert len(file) == 6
        assert file.keys == ["conv1", "conv1:avg", "fc 6.é"]
        assert (file.backbone, file.domain, file.card["name"]) == ("toy:net", "toys", "toy:net")
        assert file.status.tolist() == [1, 1, 2, 1, 1, 0]
        assert file.reasons() == {2: "no such file: é"}
        assert file.about("conv1:avg") == {
            "layer": "conv1", "module": "net.conv1", "output": "", "pool": "avg", "shape": (3, 3, 2),
            "depth": 0.25, "dim": 3,
        }  # fmt: skip
        for key, numbers in golden_numbers().items():
            found = file.read(key)
            assert found.dtype == np.float32
            np.testing.assert_array_equal(found[done], numbers[done])
            assert np.isnan(found[[2, 5]]).all()


def test_a_file_of_version_1_opens_for_ever() -> None:
    check_golden(GOLDEN)


def test_the_golden_file_reads_with_plain_h5py_as_the_format_says() -> None:
    with h5py.File(GOLDEN, "r") as file:
        assert file.attrs["format"] == "probe-features"
        assert file.attrs["version"] == 1
        assert file["status"][:].tolist() == [1, 1, 2, 1, 1, 0]
        for key, numbers in golden_numbers().items():
            data = file["layers"][key]
            assert (data.shape, data.dtype) == (numbers.shape, np.float32)
            np.testing.assert_array_equal(data[:2], numbers[:2])
            assert set(data.attrs) >= {"layer", "module", "pool", "shape", "depth"}
            sums = file["checksums"][key]
            assert sums.dtype == np.uint32
            assert sums[3] == zlib.crc32(numbers[3].astype("<f4").tobytes())


def test_what_is_written_today_reads_as_the_golden_file(tmp_path: Path) -> None:
    write(tmp_path / "now.h5", golden_numbers(), np.array([0, 1, 3, 4]), {2: "no such file: é"})
    check_golden(tmp_path / "now.h5")


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_what_is_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    n = data.draw(st.integers(1, 9), "rows")
    dtype = data.draw(st.sampled_from(["float32", "float16"]))
    names = st.text("abcz19._-: é中", min_size=1, max_size=9).filter(lambda s: s.strip(".") == s)
    keys = data.draw(st.lists(names, min_size=1, max_size=3, unique=True), "keys")
    numbers = {key: data.draw(arrays(dtype, (n, data.draw(st.integers(1, 5))))) for key in keys}
    states = np.array(data.draw(st.lists(st.sampled_from([0, 1, 2]), min_size=n, max_size=n)))
    path = tmp_path_factory.mktemp("round") / "x.h5"
    done = np.flatnonzero(states == DONE)
    refused = {int(row): f"reason {row}" for row in np.flatnonzero(states == UNREADABLE)}
    write(path, numbers, done, refused, dtype)
    asked = np.array(data.draw(st.lists(st.integers(0, n - 1), max_size=6)), dtype=int)
    with FeatureFile(path) as file:
        assert len(file) == n
        assert file.keys == keys
        np.testing.assert_array_equal(file.status, states)
        assert file.reasons() == refused
        for key, x in numbers.items():
            expected = x.astype(np.float32)
            expected[states != DONE] = np.nan
            np.testing.assert_array_equal(file.read(key), expected)
            np.testing.assert_array_equal(file.read(key, asked), expected[asked])


def test_status_follows_what_is_written(tmp_path: Path) -> None:
    path = tmp_path / "x.h5.partial"
    create(path, 6, np.array([1, 2, 4, 5]), [about("fc", 3)], "float32", attributes())
    with Writer(path) as writer:
        assert writer.status.tolist() == [PENDING] * 6
        assert writer.aimed.tolist() == [1, 2, 4, 5]
        assert (writer.keys, writer.about("fc")) == (["fc"], ("fc", "none", "center"))
        writer.write(np.array([1, 2, 5]), {"fc": np.eye(3, dtype=np.float32)})
        writer.refuse({4: "x" * 300, 0: "né"})
        assert writer.status.tolist() == [UNREADABLE, DONE, DONE, PENDING, UNREADABLE, DONE]
        writer.aim(np.array([3]))
        assert writer.aimed.tolist() == [3]
    with FeatureFile(path) as file:
        assert file.reasons() == {0: "né", 4: "x" * 96}
        np.testing.assert_array_equal(file.read("fc", np.array([5, 1])), [[0, 0, 1], [1, 0, 0]])


def test_a_reason_cut_in_a_letter_still_reads(tmp_path: Path) -> None:
    write(tmp_path / "x.h5", {"fc": np.ones((2, 1))}, np.array([0]), {1: "x" + "é" * 90})
    with FeatureFile(tmp_path / "x.h5") as file:
        assert file.reasons()[1].startswith("x" + "é" * 47)


def test_repeats_get_what_their_source_has(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    numbers = np.arange(12, dtype=np.float32).reshape(6, 2)
    write(path, {"fc": numbers}, np.array([0, 1]), {2: "damaged"})
    with Writer(path) as writer:
        writer.repeat(np.array([3, 4, 5]), np.array([1, 2, 3]))
    with FeatureFile(path) as file:
        assert file.status.tolist() == [1, 1, 2, 1, 2, 0]
        assert file.reasons() == {2: "damaged", 4: "damaged"}
        np.testing.assert_array_equal(file.read("fc")[3], numbers[1])


def places(path: Path, name: str) -> list[tuple[int, int]]:
    """Where in the file the bytes of a data set lie: offset and size of its chunks."""
    with h5py.File(path, "r") as file:
        data = file[name]
        if data.chunks is None:
            return [(data.id.get_offset(), data.id.get_storage_size())]
        chunks = [data.id.get_chunk_info(i) for i in range(data.id.get_num_chunks())]
        return [(chunk.byte_offset, chunk.size) for chunk in chunks]


def flip(path: Path, place: int, bit: int = 0) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1 << bit
    path.write_bytes(data)


@pytest.mark.parametrize("key", ["conv1", "conv1:avg"])
@pytest.mark.parametrize("row", [0, 4])
@pytest.mark.parametrize("bit", [0, 7])
def test_one_changed_bit_is_noticed_with_layer_and_row(
    tmp_path: Path, key: str, row: int, bit: int
) -> None:
    path = tmp_path / "x.h5"
    path.write_bytes(GOLDEN.read_bytes())
    width = 4 * golden_numbers()[key].shape[1]
    [(start, _)] = places(path, f"layers/{key}")
    flip(path, start + row * width + width - 1, bit)
    with FeatureFile(path) as file:
        with pytest.raises(InputError) as caught:
            file.read(key)
        assert f"layer {key} has changed on disk in 1 rows (first: [{row}])" in str(caught.value)
        assert "`probe remove toy:net`" in str(caught.value)
        with pytest.raises(InputError):
            file.read(key, np.array([row]))
        others = np.array([r for r in (0, 1, 3, 4) if r != row])
        np.testing.assert_array_equal(file.read(key, others), golden_numbers()[key][others])
        other = "conv1" if key != "conv1" else "conv1:avg"
        assert np.isfinite(file.read(other)[row]).all()


def test_a_changed_checksum_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    path.write_bytes(GOLDEN.read_bytes())
    [(start, _)] = places(path, "checksums/conv1")
    flip(path, start + 4 * 3)
    with FeatureFile(path) as file, pytest.raises(InputError, match=r"in 1 rows \(first: \[3\]\)"):
        file.read("conv1")


def test_a_changed_status_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    path.write_bytes(GOLDEN.read_bytes())
    [(start, _)] = places(path, "status")
    flip(path, start + 5)  # a row without features now says that it is done
    with FeatureFile(path) as file, pytest.raises(InputError, match=r"first: \[5\]"):
        file.read("conv1")


def test_a_row_that_is_not_done_cannot_be_corrupt(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    path.write_bytes(GOLDEN.read_bytes())
    [(start, _)] = places(path, "layers/conv1")
    flip(path, start + 2 * 32)
    with FeatureFile(path) as file:
        assert np.isnan(file.read("conv1")[2]).all()


@pytest.mark.parametrize(
    "content", [b"", b"notes\n", bytes(4096), b"\x89HDF\r\n\x1a\n" + bytes(99)]
)
def test_what_is_no_hdf5_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.h5"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"x\.h5: not a complete HDF5 file; "):
        FeatureFile(path)


@pytest.mark.parametrize("part", [0.1, 0.5, 0.9])
def test_a_truncated_file_is_refused(tmp_path: Path, part: float) -> None:
    path = tmp_path / "x.h5"
    data = GOLDEN.read_bytes()
    path.write_bytes(data[: int(part * len(data))])
    with pytest.raises(InputError, match="not a complete HDF5 file"):
        FeatureFile(path)


def test_another_hdf5_file_and_a_newer_version(tmp_path: Path) -> None:
    other, newer = tmp_path / "other.h5", tmp_path / "newer.h5"
    with h5py.File(other, "w") as file:
        file["features"] = np.ones(3)
    with pytest.raises(InputError, match=r"other\.h5: not a feature file; `probe extract` makes"):
        FeatureFile(other)
    newer.write_bytes(GOLDEN.read_bytes())
    with h5py.File(newer, "r+") as file:
        file.attrs["version"] = 2
    for opening in (FeatureFile, Writer):
        with pytest.raises(InputError, match="format version 2 is newer than this program; update"):
            opening(newer)


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [("pool", "x", "conv1:x"), ("layer", "conv2", "conv2"), ("view", "flip", "conv1@flip")],
)
def test_an_array_of_another_name_than_its_attributes_say_is_refused(
    tmp_path: Path, name: str, value: str, told: str
) -> None:
    path = tmp_path / "x.h5"
    path.write_bytes(GOLDEN.read_bytes())
    with h5py.File(path, "r+") as file:
        file["layers/conv1"].attrs[name] = value
    with pytest.raises(InputError, match=f"damaged, since layer conv1 is {told} by its attributes"):
        FeatureFile(path)


@pytest.mark.parametrize("value", ["x", 5, np.arange(3)])
def test_a_filter_that_is_none_is_refused(tmp_path: Path, value: object) -> None:
    path = tmp_path / "x.h5"
    path.write_bytes(GOLDEN.read_bytes())
    with h5py.File(path, "r+") as file:
        file.attrs["compress"] = value
    with pytest.raises(
        InputError, match="damaged, since it is compressed by a filter that is none"
    ):
        FeatureFile(path)


def test_an_unknown_layer_gets_the_nearest() -> None:
    with FeatureFile(GOLDEN) as file:
        with pytest.raises(InputError, match=r"v1\.h5: no layer conv2; did you mean conv1"):
            file.read("conv2")
        with pytest.raises(InputError, match="no layer"):
            file.about("conv1:max")


def test_a_second_writer_and_a_reader_are_refused_while_one_writes(tmp_path: Path) -> None:
    path = tmp_path / "x.h5.partial"
    create(path, 3, np.arange(3), [about("fc", 2)], "float32", attributes())
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from features.errors import InputError\n"
        "from features.store.featurefile import FeatureFile\n"
        "from features.store.writer import Writer\n"
        "for opening in (Writer, FeatureFile):\n"
        "    try:\n"
        "        opening(Path(sys.argv[1]))\n"
        "    except InputError as error:\n"
        "        print(error)\n"
    )
    command = [sys.executable, "-c", code, str(path)]
    with Writer(path) as writer:
        writer.write(np.array([1]), {"fc": np.ones((1, 2), np.float32)})
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert said == f"{path}: another process is writing it; wait until it has ended.\n" * 2
    with FeatureFile(path) as file:
        assert file.status.tolist() == [0, 1, 0]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert said == ""


ODD = ["blocks.0", "a b", "é中", "conv1:grid:3", "x" * 200, "-", "0", "#", "..a", "\U0001f600"]


def test_odd_layer_names(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    numbers = {name: np.full((2, 1), i, np.float32) for i, name in enumerate(ODD)}
    write(path, numbers, np.arange(2))
    with FeatureFile(path) as file:
        assert file.keys == ODD
        assert [file.read(name)[1, 0] for name in ODD] == list(range(len(ODD)))


def test_keys_come_in_depth_order_not_by_name(tmp_path: Path) -> None:
    names = ["z", "z:avg", "a", "m10", "m9"]
    path = tmp_path / "x.h5"
    described = [about(name, 1, order) for name, order in zip(names, (0, 0, 1, 2, 3), strict=True)]
    create(path, 1, np.arange(1), described, "float32", attributes())
    with FeatureFile(path) as file:
        assert file.keys == names


def test_merging_keeps_both(tmp_path: Path) -> None:
    finished, partial = tmp_path / "x.h5", tmp_path / "x.h5.partial"
    numbers = golden_numbers()
    first = {"conv1": numbers["conv1"]}
    done, refused = np.array([0, 1, 3, 5]), {2: "damaged", 4: "no such file"}
    write(finished, first, done, refused)
    write(partial, {"conv1:avg": numbers["conv1:avg"]}, done, refused)
    merge(partial, finished)
    assert [path.name for path in tmp_path.iterdir()] == ["x.h5"]
    with FeatureFile(finished) as file:
        assert file.keys == ["conv1", "conv1:avg"]
        assert file.status.tolist() == [1, 1, 2, 1, 2, 1]
        assert file.reasons() == refused
        assert file.about("conv1:avg")["pool"] == "avg"
        for key in file.keys:
            np.testing.assert_array_equal(file.read(key)[done], numbers[key][done])
            assert np.isnan(file.read(key)[[2, 4]]).all()
        assert file.attributes["backbone"] == "toy:net"


def test_merging_marks_a_row_done_only_where_both_are(tmp_path: Path) -> None:
    finished, partial = tmp_path / "x.h5", tmp_path / "x.h5.partial"
    numbers = golden_numbers()
    write(finished, {"conv1": numbers["conv1"]}, np.array([0, 1, 3, 4]), {2: "damaged"})
    write(partial, {"fc": numbers["conv1:avg"]}, np.array([0, 1, 2]), {3: "no such file"})
    merge(partial, finished)
    with FeatureFile(finished) as file:
        assert file.status.tolist() == [1, 1, 2, 2, 0, 0]
        assert file.reasons() == {2: "damaged", 3: "no such file"}
        assert np.isfinite(file.read("fc")[:2]).all()
        assert np.isnan(file.read("fc")[2:]).all()


@pytest.mark.parametrize("without", ["x.h5", "x.h5.partial"])
def test_merging_takes_a_file_that_has_no_reasons(tmp_path: Path, without: str) -> None:
    finished, partial = tmp_path / "x.h5", tmp_path / "x.h5.partial"
    numbers = golden_numbers()
    write(finished, {"conv1": numbers["conv1"]}, np.array([0, 1, 3, 4]), {2: "damaged"})
    write(partial, {"fc": numbers["conv1:avg"]}, np.array([0, 1, 2]), {3: "no such file"})
    with h5py.File(tmp_path / without, "a") as file:
        del file["reasons"]
    merge(partial, finished)
    with FeatureFile(finished) as file:
        assert file.status.tolist() == [1, 1, 2, 2, 0, 0]
        kept = {2: "damaged"} if without == "x.h5.partial" else {3: "no such file"}
        assert {row: why for row, why in file.reasons().items() if why} == kept


def test_creating_leaves_an_older_partial_whole_until_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.h5.partial"
    write(path, {"fc": np.ones((2, 1))}, np.arange(2))

    def fails(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("features.store.making._allot", fails)
    with pytest.raises(OSError, match="No space"):
        create(path, 5, np.arange(5), [about("fc", 1)], "float32", attributes())
    with FeatureFile(path) as file:
        assert file.status.tolist() == [1, 1]


def test_a_wide_layer_is_cut_in_chunks_and_read_in_any_order(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    rng = np.random.default_rng(0)
    numbers = rng.normal(size=(70, 30_000)).astype(np.float32)  # 120 kB a row, 8 rows a chunk
    write(path, {"wide": numbers}, np.delete(np.arange(70), [13, 14, 40]))
    assert len(places(path, "layers/wide")) > 5
    rows = rng.permutation(70)[:30]
    with FeatureFile(path) as file:
        found = file.read("wide", rows)
        all_rows = file.read("wide")
    pending = np.isin(rows, [13, 14, 40])
    np.testing.assert_array_equal(found[~pending], numbers[rows[~pending]])
    assert np.isnan(found[pending]).all()
    np.testing.assert_array_equal(all_rows[41:], numbers[41:])
