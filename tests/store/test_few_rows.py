"""A file of few rows takes the space of those, through layers and rows that are added later."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from test_featurefile import about, attributes

from features.arrays import Ints
from features.store import making
from features.store.draft import Draft, drafted
from features.store.featurefile import DONE, PENDING, FeatureFile
from features.store.few_rows import bytes_on_disk
from features.store.writer import Writer

N, DIM = 20_000, 256
FEW = np.array([3, 4, 5, 7_000, 19_999])


def values(rows: Ints, key: str) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    start = {"a": 0.5, "b": 1.5, "c": 2.5}[key]
    return (rows[:, None] + start + np.arange(DIM) / DIM).astype(np.float32)


def write(path: Path, keys: str, rows: Ints) -> None:
    layers = [about(key, DIM, order) for order, key in enumerate(keys)]
    making.create(path, N, rows, layers, "float32", attributes())
    with Writer(path) as writer:
        writer.write(rows, {key: values(rows, key) for key in keys})


def test_few_rows_take_little_space_and_read_as_others_do(tmp_path: Path) -> None:
    finished, partial = tmp_path / "x.h5", tmp_path / "x.partial"
    write(partial, "ab", FEW)
    assert partial.stat().st_size > 2 * N * DIM * 4
    assert bytes_on_disk(partial) < 5 << 20
    making.finish(partial, finished, "none")
    write(partial, "c", FEW)
    making.finish(partial, finished, "none")  # merged
    making.copy(finished, finished, n=N + 10)  # and grown
    assert bytes_on_disk(finished) < 8 << 20
    with FeatureFile(finished) as file:
        assert np.flatnonzero(file.status == DONE).tolist() == FEW.tolist()
        assert len(file) == N + 10
        for key in "abc":
            assert np.array_equal(file.read(key, FEW), values(FEW, key))
        assert file.verify() == []
    # the other rows find their place later
    finished.rename(partial)
    others = np.setdiff1d(np.arange(0, N, 3), FEW)
    with Writer(partial) as writer:
        writer.aim(others)
        writer.write(others, {key: values(others, key) for key in "abc"})
    making.finish(partial, finished, "none")
    with FeatureFile(finished) as file:
        assert int((file.status == PENDING).sum()) == N + 10 - len(FEW) - len(others)
        assert np.array_equal(file.read("b", others), values(others, "b"))
        assert np.array_equal(file.read("b", FEW), values(FEW, "b"))


def test_many_rows_have_all_their_space(tmp_path: Path) -> None:
    rows = np.arange(0, N - 10)
    write(tmp_path / "x.partial", "a", rows)
    path = tmp_path / "x.partial"
    assert bytes_on_disk(path) == path.stat().st_size


def test_a_draft_holds_what_a_file_of_hdf5_does(tmp_path: Path) -> None:
    def fill(file: h5py.File) -> None:
        file.attrs["text"] = "t" * 5000
        file["numbers"] = np.arange(3000)
        making._allot(file, "layers/x", (N, DIM), np.dtype("f4"), "none")

    with drafted(tmp_path / "draft.h5") as file:
        fill(file)
    with h5py.File(tmp_path / "plain.h5", "w") as file:
        fill(file)
    with h5py.File(tmp_path / "draft.h5") as draft, h5py.File(tmp_path / "plain.h5") as plain:
        assert draft.attrs["text"] == plain.attrs["text"]
        assert np.array_equal(draft["numbers"], plain["numbers"])
        same = ("shape", "dtype", "chunks", "maxshape")
        for name in same:
            assert getattr(draft["layers/x"], name) == getattr(plain["layers/x"], name)
        assert draft["layers/x"].id.get_num_chunks() == plain["layers/x"].id.get_num_chunks()
    assert bytes_on_disk(tmp_path / "draft.h5") < 1 << 20


def test_a_draft_reads_back_what_was_written_over_pages() -> None:
    draft, whole = Draft(), bytearray(20_000)
    rng = np.random.default_rng(0)
    for _ in range(50):
        start, size = int(rng.integers(0, 15_000)), int(rng.integers(0, 5_000))
        data = rng.bytes(size)
        draft.seek(start)
        assert draft.write(data) == size
        whole[start : start + size] = data
    draft.seek(0)
    assert draft.read() == bytes(whole[: draft.size])


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_fd: int, _start: int, _size: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full)
    with pytest.raises(OSError, match="No space"):
        write(tmp_path / "x.partial", "a", FEW)
    assert list(tmp_path.iterdir()) == []


def test_checksums_of_a_layer_that_is_gone_are_left_behind(tmp_path: Path) -> None:
    old, new = tmp_path / "x.h5", tmp_path / "y.h5"
    write(old, "ab", FEW)
    with h5py.File(old, "a") as file:
        del file["layers/b"]
    making.copy(old, new, n=N + 5)
    with FeatureFile(new) as file:
        assert file.keys == ["a"]
        np.testing.assert_array_equal(file.read("a", FEW), values(FEW, "a"))
