"""Several backbones, several processes, compressed files, rows that come later, changed bytes."""

import hashlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from toys import draw, write_images

from features.errors import InputError
from features.extraction.extract import extract, extract_together
from features.store.featurefile import DONE, PENDING, FeatureFile
from features.study.study import open_study

TinyCard = Callable[..., Path]


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_two_processes_end_in_the_bytes_of_one(
    tiny_card: TinyCard, tmp_path: Path, precision: str, request: pytest.FixtureRequest
) -> None:
    if precision == "float32":
        request.getfixturevalue("spawned")
    card = tiny_card()
    manifest = write_images(tmp_path / "images", 40, (3, 11), {20: 3, 22: 2})
    digests = set()
    for workers in (1, 2):  # as many threads an operation in both
        result = extract(
            tmp_path / str(workers),
            str(card),
            data=str(manifest),
            device="cpu",
            batch_size=4,
            lanes=2 // workers,
            workers=workers,
            precision=precision,
        )
        assert (result.computed, result.workers) == (36, workers)
        digests.add(digest(result.file))
    assert len(digests) == 1


def test_two_backbones_decode_an_image_once(
    tiny_card: TinyCard, tmp_path: Path, reads: Counter[str]
) -> None:
    card = tiny_card()
    other = card.with_name("other.toml")
    other.write_text(card.read_text().replace('"tiny"', '"other"', 1))
    manifest = write_images(tmp_path / "images", 23, (5,))
    alone = [extract(tmp_path / "alone", str(c), data=str(manifest)) for c in (card, other)]
    reads.clear()
    both = extract_together(
        tmp_path / "both", {str(card): None, str(other): None}, data=str(manifest)
    )
    assert set(reads.values()) == {1}
    assert len(reads) == 23
    for one, two in zip(alone, both, strict=True):
        assert digest(one.file) == digest(two.file)


@pytest.mark.parametrize("kind", ["gzip", "lzf"])
def test_a_compressed_file_holds_the_same_and_is_filled_later(
    tiny_card: TinyCard, tmp_path: Path, kind: str
) -> None:
    card, manifest = tiny_card(), write_images(tmp_path / "images", 30, (5,))
    plain = extract(tmp_path / "plain", str(card), data=str(manifest))
    study = tmp_path / "packed"
    extract(study, str(card), data=str(manifest), limit=10, compress=kind, layers=("conv",))
    packed = extract(study, str(card))
    with (
        FeatureFile(plain.file) as one,
        FeatureFile(packed.file) as two,
        h5py.File(packed.file) as raw,
    ):
        assert two.verify() == []
        for key in one.keys:
            np.testing.assert_array_equal(one.read(key), two.read(key))
            assert raw["layers"][key].compression == kind
    with pytest.raises(InputError, match="--compress zip: not a filter"):
        extract(study, str(card), compress="zip")


def test_rows_that_the_data_gained_are_appended_pending(
    tiny_card: TinyCard, tmp_path: Path
) -> None:
    card, manifest = tiny_card(), write_images(tmp_path / "images", 9)
    other = card.with_name("other.toml")
    other.write_text(card.read_text().replace('"tiny"', '"other"', 1))
    study = tmp_path / "study"
    for one in (card, other):
        extract(study, str(one), data=str(manifest))
    with FeatureFile(study / "features" / "tiny.h5") as file:
        before = file.read("fc")
    draw(9).save(tmp_path / "images" / "0009.png")
    manifest.write_text(manifest.read_text() + "0009.png,b\n")
    result = extract(study, str(card), update=True)
    assert (result.rows, result.computed) == (10, 1)
    opened = open_study(study)
    assert opened.paths[-1] == "0009.png"
    with opened.features("tiny") as file:
        np.testing.assert_array_equal(file.read("fc")[:9], before)
        assert (file.status == DONE).all()
    with opened.features("other") as file:
        assert file.status.tolist() == [DONE] * 9 + [PENDING]
        assert file.verify() == []
    assert extract(study, str(other)).computed == 1


def test_a_changed_byte_anywhere_is_reported(tiny_card: TinyCard, tmp_path: Path) -> None:
    card, manifest = tiny_card(), write_images(tmp_path / "images", 9)
    path = extract(tmp_path / "study", str(card), data=str(manifest)).file
    whole = path.read_bytes()
    with h5py.File(path) as file:
        names = [
            "status",
            "reasons",
            *(f"{g}/{k}" for g in ("layers", "checksums") for k in file[g]),
        ]
        places = {}
        for name in names:
            data = file[name]
            start = (
                data.id.get_offset()
                if data.chunks is None
                else data.id.get_chunk_info(0).byte_offset
            )
            places[name] = (start, data.dtype.itemsize * int(np.prod(data.shape)))
    rng = np.random.default_rng(0)
    for name, (start, size) in places.items():
        for place in rng.integers(0, size, 3):
            changed = bytearray(whole)
            changed[start + place] ^= 1 << int(rng.integers(8))
            path.write_bytes(changed)
            with FeatureFile(path) as file:
                found = file.verify()
            assert found, (name, place)
            if name.startswith("layers/"):
                row = int(place) // (size // 9)
                assert (found[0].what, found[0].rows) == (name.removeprefix("layers/"), (row,))
    path.write_bytes(whole)
    with FeatureFile(path) as file:
        assert file.verify() == []


@pytest.mark.parametrize(
    ("precision", "said"),
    [("tf32", "needs a GPU"), ("fp16", "needs a GPU"), ("int8", "not a precision")],
)
def test_a_precision_that_the_device_lacks(
    tiny_card: TinyCard, tmp_path: Path, precision: str, said: str
) -> None:
    with pytest.raises(InputError, match=said):
        extract(tmp_path / "study", str(tiny_card()), precision=precision, device="cpu")


def test_bf16_is_near_and_is_not_mixed_with_float32(tiny_card: TinyCard, tmp_path: Path) -> None:
    card, manifest = tiny_card(), write_images(tmp_path / "images", 9)
    exact = extract(tmp_path / "one", str(card), data=str(manifest))
    near = extract(tmp_path / "two", str(card), data=str(manifest), precision="bf16")
    with FeatureFile(exact.file) as one, FeatureFile(near.file) as two:
        a, b = one.read("fc"), two.read("fc")
    assert 0 < np.abs(a - b).max() < 0.05 * np.abs(a).max()
    with pytest.raises(InputError, match="made with another precision"):
        extract(tmp_path / "two", str(card))
