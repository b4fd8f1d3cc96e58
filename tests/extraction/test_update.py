"""`--update`: the rows that a study's data gained."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import studies
from hypothesis import given, settings
from hypothesis import strategies as st

from features.data.manifest import Manifest
from features.data.tasks import Task
from features.errors import InputError
from features.extraction import imported
from features.extraction.update import updated
from features.machine import files
from features.store import making
from features.store.featurefile import DONE, PENDING, FeatureFile
from features.store.making import copy
from features.study import drafting
from features.study.study import Study, open_study


@settings(max_examples=40, deadline=None)
@given(
    width=st.integers(1, 9),
    before=st.integers(1, 40),
    more=st.integers(0, 40),
    chunk=st.integers(1, 400),
    how=st.sampled_from([("none", None), ("none", "gzip"), ("lzf", None), ("gzip", "none")]),
)
def test_rows_keep_their_features_whatever_chunks_they_lie_in(
    tmp_path_factory: pytest.TempPathFactory,
    width: int,
    before: int,
    more: int,
    chunk: int,
    how: tuple[str, str | None],
) -> None:
    """Of a layer and of a narrow one beside it: the rows of before are as they were, new ones pending."""
    folder = tmp_path_factory.mktemp("grown")
    x = np.random.default_rng(before).standard_normal((before, width)).astype(np.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(making, "_CHUNK_BYTES", chunk)
        tasks = {"label": Task("label", ("0", "1"))}
        study = studies.begin(folder, {"label": [0] * before}, tasks)
        studies.add(study, "net", {"wide": x, "narrow": x[:, :1]})
        path = study.feature_path("net")
        first, then = how
        copy(path, path, compress=first)
        copy(path, path, n=before + more, compress=then)
    with FeatureFile(path) as file:
        assert file.verify() == []
        assert file.status.tolist() == [DONE] * before + [PENDING] * more
        np.testing.assert_array_equal(file.read("wide")[:before], x)
        np.testing.assert_array_equal(file.read("narrow")[:before], x[:, :1])
    with h5py.File(path) as file:
        assert not file["layers/wide"][before:].any()
        assert not file["checksums/wide"][before:].any()


def begun(folder: Path) -> Study:
    """A study of 30 rows with a layer of 1.1 MB and a narrow one of another backbone."""
    study = studies.begin(folder, {"label": [i % 2 for i in range(30)]})
    x = np.random.default_rng(0).standard_normal((30, 9216)).astype(np.float32)
    studies.add(study, "net", {"fc": x})
    studies.add(study, "other", {"fc": x[:, :3]})
    return open_study(folder)


@pytest.fixture
def gained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The data has 18 rows more, the last of a new class."""
    columns = {
        "path": [f"{i:03}.png" for i in range(48)],
        "label": [str(i % 2) for i in range(47)] + ["7"],
    }
    monkeypatch.setattr(
        drafting, "read_data", lambda _, standing: Manifest("toys", tmp_path, columns)
    )


def check_grown(study: Study) -> None:
    assert len(study) == 48
    assert study.tasks["label"].classes == ("0", "1", "7")
    for name in ("net", "other"):
        with study.features(name) as file:
            assert file.status.tolist() == [DONE] * 30 + [PENDING] * 18
            assert file.verify() == []


def held(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.endswith(".lock")
    }


@pytest.mark.usefixtures("gained")
def test_a_layer_of_several_chunks_grows(tmp_path: Path) -> None:
    study = begun(tmp_path)
    with study.features("net") as file:
        before = file.read("fc")
    check_grown(updated(study, None))
    check_grown(open_study(tmp_path))
    with open_study(tmp_path).features("net") as file:
        np.testing.assert_array_equal(file.read("fc")[:30], before)


def each_change_of_the_disk(patch: pytest.MonkeyPatch, tick: Callable[[], None]) -> None:
    """Call `tick` before each thing that changes the disk."""

    def before(where: Any, name: str) -> None:
        real = getattr(where, name)

        def instead(*given: Any, **named: Any) -> Any:
            tick()
            return real(*given, **named)

        patch.setattr(where, name, instead)

    for name in ("replace", "fsync", "posix_fallocate"):
        before(os, name)
    for name in ("write_bytes", "chmod"):
        before(Path, name)
    before(making, "with_room")
    before(making, "_allot")
    before(files.tempfile, "mkstemp")


@pytest.mark.usefixtures("gained")
def test_a_failure_at_any_moment_leaves_the_study_as_it_was_or_grown(tmp_path: Path) -> None:
    """Only when its own files take their places is it between the two, and the next run ends that."""
    between = 0
    for moment in range(1000):
        study = begun(tmp_path / str(moment))
        before, left = held(study.folder), moment

        def tick() -> None:
            nonlocal left
            left -= 1
            if left == -1:
                raise OSError(28, os.strerror(28))

        with pytest.MonkeyPatch.context() as patch:
            each_change_of_the_disk(patch, tick)
            try:
                updated(study, None)
                break
            except (OSError, InputError):
                pass
        now = held(study.folder)
        assert sorted(now) == sorted(before)
        if now != before:
            between += 1
            assert [name for name in before if now[name] != before[name]][-1] == "study.toml"
            if now["images.csv"] != before["images.csv"]:
                with pytest.raises(InputError, match="--update` adds them"):
                    open_study(study.folder).features("other")
        check_grown(updated(open_study(study.folder), None))
        assert sorted(held(study.folder)) == sorted(before)
        shutil.rmtree(study.folder)
    check_grown(open_study(study.folder))
    assert moment > 20
    assert between == 3  # study.toml has taken its place and images.csv, a file, another one not


@pytest.mark.usefixtures("gained")
def test_a_damaged_file_leaves_the_study_as_it_was(tmp_path: Path) -> None:
    study = begun(tmp_path)
    study.feature_path("other").write_bytes(b"no HDF5")
    before = held(tmp_path)
    with pytest.raises(InputError, match=r"other\.h5: not a complete HDF5 file"):
        updated(study, None)
    assert held(tmp_path) == before


def test_two_imports_that_begin_one_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second is refused where the first was quicker, and leaves its study as it is."""
    np.savez(tmp_path / "a.npz", features=np.ones((4, 3)), label=np.arange(4) % 2)
    np.savez(tmp_path / "b.npz", features=np.ones((5, 3)), age=np.arange(5) % 2)
    study, real = tmp_path / "study", imported.draft

    def slow(*given: Any) -> Study:
        monkeypatch.setattr(imported, "draft", real)
        imported.import_features(study, tmp_path / "a.npz", name="a", layer="fc")
        return real(*given)

    monkeypatch.setattr(imported, "draft", slow)
    with pytest.raises(InputError, match="another process has just begun a study here"):
        imported.import_features(study, tmp_path / "b.npz", name="b", layer="fc")
    opened = open_study(study)
    assert (len(opened), list(opened.tasks), opened.backbones()) == (4, ["label"], ["a"])
