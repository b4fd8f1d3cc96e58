"""Images that are away for a while: tried again, or the run stops and says where."""

import errno
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from toys import write_card, write_images

import features.extraction.outages as outages
import features.images.decode as decode
from features.errors import Stopped
from features.extraction.extract import extract
from features.machine import pixel_limit
from features.store.featurefile import DONE, PENDING, FeatureFile

N = 12


@pytest.fixture
def data(tmp_path: Path) -> Path:
    write_images(tmp_path / "data", N)
    table = tmp_path / "data" / "m.csv"
    names = sorted(path.name for path in (tmp_path / "data").glob("*.png"))
    lines = [f"{name},{'ab'[i % 2]}" for i, name in enumerate(names)]
    table.write_text("\n".join(["path,label", *lines]) + "\n")
    return table


@pytest.fixture
def card(tmp_path: Path) -> str:
    return str(write_card(tmp_path / "cards"))


def read(study: Path) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    (path,) = (study / "features").glob("*.h5")
    with FeatureFile(path) as file:
        return file.status, {key: file.read(key) for key in file.keys}


@pytest.mark.parametrize("compress", ["none", "gzip"])
def test_an_image_that_was_away_is_tried_again(
    tmp_path: Path, data: Path, card: str, compress: str
) -> None:
    options: dict[str, Any] = {"weights": "random", "batch_size": 4, "compress": compress}
    extract(tmp_path / "whole", card, data=str(data), **options)
    away = sorted(data.parent.glob("*.png"))[5]
    away.rename(tmp_path / "away.png")
    first = extract(tmp_path / "s", card, data=str(data), **options)
    assert list(first.unreadable.values()) == ["no such file"]
    again = extract(tmp_path / "s", card, **options)
    assert (len(again.unreadable), again.computed) == (1, 0)  # it is still away, so nothing is done
    (tmp_path / "away.png").rename(away)
    back = extract(tmp_path / "s", card, **options)
    assert not back.unreadable
    status, layers = read(tmp_path / "s")
    wanted_status, wanted = read(tmp_path / "whole")
    np.testing.assert_array_equal(status, wanted_status)
    for key, values in wanted.items():
        np.testing.assert_array_equal(layers[key], values)


def test_a_forbidden_image_is_unreadable_and_tried_again(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = sorted(data.parent.glob("*.png"))[5]
    opened = decode.open_regular

    def forbidding(path: Path) -> Any:
        if Path(path) == bad:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return opened(path)

    with monkeypatch.context() as patched:
        patched.setattr(decode, "open_regular", forbidding)
        patched.setattr(outages, "open_regular", forbidding)
        first = extract(tmp_path / "s", "control:pixels", data=str(data))
    assert first.unreadable == {bad.name: decode.FORBIDDEN}
    assert not extract(tmp_path / "s", "control:pixels").unreadable
    assert (read(tmp_path / "s")[0] == DONE).all()


@pytest.mark.parametrize("kind", [errno.EACCES, errno.ENOENT])
def test_an_image_that_opens_and_is_refused_all_the_same_is_tried_again_once(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch, kind: int
) -> None:
    bad = sorted(data.parent.glob("*.png"))[5]
    opened, reads = decode.open_regular, []

    def refusing(path: Path) -> Any:
        if Path(path) == bad:
            reads.append(path)
            assert len(reads) < 20, "it is read without end"
            raise OSError(kind, os.strerror(kind), str(path))
        return opened(path)

    with monkeypatch.context() as patched:
        patched.setattr(decode, "open_regular", refusing)
        first = extract(tmp_path / "s", "control:pixels", data=str(data))
        once = len(reads)
        again = extract(tmp_path / "s", "control:pixels")
    assert list(first.unreadable) == list(again.unreadable) == [bad.name]
    assert len(reads) > once  # every run tries anew
    assert not extract(tmp_path / "s", "control:pixels").unreadable
    assert (read(tmp_path / "s")[0] == DONE).all()


def test_a_picture_above_the_limit_of_pixels_is_read_once_that_admits_it(
    tmp_path: Path, data: Path, card: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    large = sorted(data.parent.glob("*.png"))[5]
    with Image.open(large) as opened:
        picture = opened.resize((80, 80))
    picture.save(large)
    options: dict[str, Any] = {"weights": "random", "batch_size": 4}
    extract(tmp_path / "whole", card, data=str(data), **options)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 3000)
    first = extract(tmp_path / "s", card, data=str(data), **options)
    (why,) = first.unreadable.values()
    assert why == ("too many pixels to be a photo (6,400, above 6,000): give --max-pixels 6400")
    again = extract(tmp_path / "s", card, **options)
    assert (len(again.unreadable), again.computed) == (1, 0)
    monkeypatch.setenv("PROBE_MAX_PIXELS", "6400")
    assert not extract(tmp_path / "s", card, workers=2, **options).unreadable
    assert "max_pixels = 6400" in (tmp_path / "s" / "study.toml").read_text()
    extract(tmp_path / "kept", card, data=str(data), limit=4, **options)
    monkeypatch.delenv("PROBE_MAX_PIXELS")  # the study keeps it
    assert not extract(tmp_path / "kept", card, **options).unreadable
    pixel_limit.of_study(None)
    status, layers = read(tmp_path / "s")
    wanted_status, wanted = read(tmp_path / "whole")
    np.testing.assert_array_equal(status, wanted_status)
    for key, values in wanted.items():
        np.testing.assert_array_equal(layers[key], values)


@pytest.mark.parametrize("is_empty", [False, True])
def test_where_the_folder_is_gone_no_image_is_called_unreadable(
    is_empty: bool, tmp_path: Path, data: Path, card: str
) -> None:
    extract(tmp_path / "s", card, data=str(data), weights="random", limit=4)
    data.parent.rename(tmp_path / "elsewhere")
    if is_empty:  # the place of a disk that is not mounted
        data.parent.mkdir()
    with pytest.raises(Stopped, match="the folder of the images is gone or empty"):
        extract(tmp_path / "s", card, weights="random")
    (tmp_path / "elsewhere").rename(data.parent)
    assert not extract(tmp_path / "s", card, weights="random").unreadable
    assert (read(tmp_path / "s")[0] == DONE).all()


@pytest.mark.parametrize("kind", [errno.EIO, errno.ESTALE])
def test_a_disk_that_fails_leaves_rows_pending(
    tmp_path: Path, data: Path, card: str, kind: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = sorted(data.parent.glob("*.png"))[9]
    opened = decode.open_regular

    def failing(path: Path) -> Any:
        if Path(path) == bad:
            raise OSError(kind, os.strerror(kind), str(path))
        return opened(path)

    with monkeypatch.context() as patched:
        patched.setattr(decode, "open_regular", failing)
        with pytest.raises(Stopped) as caught:
            extract(tmp_path / "s", card, data=str(data), weights="random", batch_size=2)
    assert str(bad) in str(caught.value)
    assert "its disk or mount fails" in str(caught.value)
    (partial,) = (tmp_path / "s" / "features").glob("*.partial")
    with FeatureFile(partial) as file:
        assert set(file.status.tolist()) <= {PENDING, DONE}
        assert file.status[9] == PENDING
    assert not extract(tmp_path / "s", card, weights="random", batch_size=2).unreadable
    assert (read(tmp_path / "s")[0] == DONE).all()
