"""Shares of an extraction: made beside each other, in any order and more than once, and collected."""

import hashlib
import os
import shutil
import sys
import types
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from toys import write_images

from features.data.manifest import Manifest
from features.errors import InputError, OptionError, Stopped
from features.extraction import units
from features.extraction.extract import extract, extract_together
from features.extraction.summary import Extraction
from features.machine.shares import Share, share_of
from features.store.featurefile import FeatureFile
from features.store.paths import parts_of
from features.study import drafting
from features.study.status import parts_waiting
from features.study.study import open_study
from probe.results.ledger import remove

TinyCard = Callable[..., Path]
BROKEN, REPEATED = (3, 11), {20: 3, 22: 2}


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture(autouse=True)
def small_units(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(units, "_MOST_ROWS", 8)
    monkeypatch.setattr(units, "_FEWEST", 1)


@pytest.fixture
def made(tiny_card: TinyCard, tmp_path: Path) -> Callable[..., Extraction]:
    card = str(tiny_card())
    manifest = str(write_images(tmp_path / "images", 40, BROKEN, REPEATED))

    def make(folder: str, **options: object) -> Extraction:
        given = {"data": manifest, "device": "cpu", "batch_size": 4, "lanes": 1, **options}
        return extract(tmp_path / folder, card, **given)  # type: ignore[arg-type]

    return make


def test_shares_end_in_the_bytes_of_one_command(made: Callable[..., Extraction]) -> None:
    """In any order, one of them twice; two backbones' worth of rows are computed nowhere else."""
    whole = made("whole")
    counted = [made("shared", share=share).computed for share in ("2/3", "0/3", "1/3", "0/3")]
    assert sum(counted) == whole.computed == 36
    assert counted[-1] == 0
    parts = parts_of(whole.file.parent.parent.parent / "shared" / "features" / whole.file.name)
    assert len(list(parts.glob("*.h5"))) == 5
    assert {path.suffix for path in parts.iterdir()} == {".h5"}
    collected = made("shared")
    assert collected.computed == 0
    assert digest(collected.file) == digest(whole.file)
    assert collected.unreadable == whole.unreadable
    assert not parts.exists()
    assert made("shared", share="0/1").computed == 0


def test_what_no_share_has_made_is_computed_when_they_are_collected(
    made: Callable[..., Extraction], tmp_path: Path
) -> None:
    """And so is a part that is cut short or was changed: the same bytes, never a zero."""
    whole = made("whole")
    for share in ("0/2", "1/2"):
        made("shared", share=share)
    first, second, third, *_ = sorted((tmp_path / "shared").glob("features/*.parts/*.h5"))
    first.unlink()
    with second.open("r+b") as file:
        file.truncate(second.stat().st_size // 2)
    with h5py.File(third) as opened:
        place = opened["layers/conv"].id.get_chunk_info(0).byte_offset
        width = opened["layers/conv"].dtype.itemsize * opened["layers/conv"].shape[1]
    row = int(third.name.partition("-")[0])
    with third.open("r+b") as file:
        file.seek(place + row * width)
        byte = file.read(1)
        file.seek(place + row * width)
        file.write(bytes([byte[0] ^ 1]))
    said: list[str] = []
    collected = made("shared", announce=said.append)
    assert digest(collected.file) == digest(whole.file)
    assert sum("rows are computed again" in sentence for sentence in said) == 2
    assert 0 < collected.computed < whole.computed
    assert not parts_of(collected.file).exists()


def test_a_part_whose_machine_did_not_see_the_images_is_made_again(
    made: Callable[..., Extraction], tmp_path: Path
) -> None:
    """Where the images are seen that it did not see; one that is nowhere stays unreadable."""
    gone = tmp_path / "images" / "0039.png"
    there = {path: path.read_bytes() for path in [gone, *sorted(gone.parent.glob("000?.png"))]}
    gone.unlink()
    whole = made("whole")
    for path in there:
        path.unlink(missing_ok=True)
    made("shared", share="0/1")
    for path in set(there) - {gone}:
        path.write_bytes(there[path])
    said: list[str] = []
    collected = made("shared", announce=said.append)
    assert digest(collected.file) == digest(whole.file)
    assert collected.unreadable == whole.unreadable
    assert gone.name in collected.unreadable
    assert sum("images that are here were not seen" in sentence for sentence in said) == 2


def test_a_share_goes_on_where_a_file_was_begun(made: Callable[..., Extraction]) -> None:
    """Rows that a limit left out, a further layer, a view: each round is shared by itself."""
    for folder in ("whole", "shared"):
        made(folder, limit=9, layers=("conv",))
    for more in ({"layers": ("conv",)}, {"layers": ("conv", "fc")}, {"views": ("flip",)}):
        whole = made("whole", **more)
        for share in ("1/2", "0/2"):
            made("shared", share=share, **more)
        collected = made("shared", **more)
        assert digest(collected.file) == digest(whole.file)
        assert not parts_of(collected.file).exists()
    assert collected.computed == 0


def test_two_backbones_share_their_units(tiny_card: TinyCard, tmp_path: Path) -> None:
    card = tiny_card()
    other = card.with_name("other.toml")
    other.write_text(card.read_text().replace('"tiny"', '"other"', 1))
    manifest = str(write_images(tmp_path / "images", 23, (5,)))
    both = {str(card): None, str(other): None}
    options = {"data": manifest, "batch_size": 4, "lanes": 1, "device": "cpu"}
    whole = extract_together(tmp_path / "whole", both, **options)  # type: ignore[arg-type]
    for share in ("0/2", "1/2"):
        extract_together(tmp_path / "shared", both, share=share, **options)  # type: ignore[arg-type]
    shared = extract_together(tmp_path / "shared", both, **options)  # type: ignore[arg-type]
    for one, two in zip(whole, shared, strict=True):
        assert digest(one.file) == digest(two.file)


def test_parts_of_another_toolkit_or_other_settings_are_refused(
    made: Callable[..., Extraction], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("torch.__version__", "99.1.0")
        made("shared", share="0/1")
    with pytest.raises(InputError, match=r"made with torch 99\.1\.0, and this machine has"):
        made("shared")
    for part in (tmp_path / "shared").glob("features/*.parts/*.h5"):
        part.unlink()
    made("shared", share="0/1", precision="bf16")
    with pytest.raises(InputError, match="made with other settings than this command's"):
        made("shared")
    assert parts_waiting(open_study(tmp_path / "shared")) == {"tiny": 5}
    remove(tmp_path / "shared", "tiny")
    assert not list((tmp_path / "shared").glob("features/*.parts"))


def test_parts_say_the_size_of_the_batches(made: Callable[..., Extraction], tmp_path: Path) -> None:
    """It is taken where none is asked for; parts of another are refused, also those beside others."""
    whole = made("whole")
    made("shared", share="0/2")
    with pytest.raises(InputError, match=r"--batch-size 8: the parts in .* in batches of 4; give"):
        made("shared", batch_size=8, share="1/2")
    made("others", batch_size=8, share="0/2")
    (mine, others) = (
        next((tmp_path / name).glob("features/*.parts")) for name in ("shared", "others")
    )
    taken = min(others.glob("*.h5"))
    (late := mine / f"999999999-{taken.name}").write_bytes(taken.read_bytes())
    assert taken.name not in {path.name for path in mine.iterdir()}
    with pytest.raises(InputError, match="computed in batches of 8, and this command's are of 4"):
        made("shared", batch_size=4)
    late.unlink()
    collected = made("shared", batch_size=None)
    assert (collected.batch_size, collected.taken) == (4, 22)
    assert digest(collected.file) == digest(whole.file)


@pytest.mark.parametrize("text", ["3/3", "1", "-1/2", "1/0", "a/b", ""])
def test_what_is_no_share_is_named(text: str) -> None:
    with pytest.raises(OptionError, match="write I/N"):
        share_of(text)


def test_a_share_is_every_nth_piece() -> None:
    assert [Share(i, 3).taken(range(8)) for i in range(3)] == [
        range(0, 8, 3),
        range(1, 8, 3),
        range(2, 8, 3),
    ]


def test_nothing_is_left_of_a_share_that_fails(
    made: Callable[..., Extraction], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_descriptor: int, *_: object) -> int:
        raise OSError(28, os.strerror(28))

    made("shared", limit=4)
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        with pytest.raises(OSError, match="No space"):
            made("shared", share="0/1")
    assert not list((tmp_path / "shared").glob("features/*.parts/*"))


def test_shares_that_begin_a_study_beside_each_other(
    made: Callable[..., Extraction], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process begins it while this one reads the data."""
    inner, others = drafting.read_data, []

    def slow(data: str, **more: object) -> Manifest:
        manifest = inner(data, **more)  # type: ignore[arg-type]
        if not others:
            others.append(made)
            made("shared", share="1/2")
        return manifest

    monkeypatch.setattr(drafting, "read_data", slow)
    made("shared", share="0/2")
    assert digest(made("shared").file) == digest(made("whole").file)


def test_a_share_ends_when_the_features_are_collected_meanwhile(
    made: Callable[..., Extraction], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before it begins a unit, while it writes one, and before the part is put in its place."""
    whole, begin = made("whole"), units._begin_part
    put = units.put_sealed

    def collect_before(moment: str) -> Extraction:
        with monkeypatch.context() as patch:

            def collect(name: str) -> None:
                if name == moment:
                    patch.setattr(units, "_begin_part", begin)
                    patch.setattr(units, "put_sealed", put)
                    made(moment)

            def begins(*about: object) -> Path:
                collect("begun")
                path = begin(*about)  # type: ignore[arg-type]
                collect("written")
                return path

            def puts(*about: object) -> None:
                collect("placed")
                put(*about)  # type: ignore[arg-type]

            patch.setattr(units, "_begin_part", begins)
            patch.setattr(units, "put_sealed", puts)
            return made(moment, share="0/2")

    for moment in ("begun", "written", "placed"):
        share = collect_before(moment)
        assert share.computed <= 8
        assert digest(share.file) == digest(whole.file)
        assert not parts_of(share.file).exists()


def test_a_share_whose_parts_are_removed_says_so(
    made: Callable[..., Extraction], monkeypatch: pytest.MonkeyPatch
) -> None:
    def removed(making: Path, part: Path) -> None:
        shutil.rmtree(part.parent)
        raise FileNotFoundError(2, "No such file or directory", str(making))

    monkeypatch.setattr(units, "put_sealed", removed)
    with pytest.raises(Stopped, match="was removed meanwhile"):
        made("shared", share="0/2")


def test_a_study_may_gain_rows_before_its_shares_are_collected(
    made: Callable[..., Extraction], tmp_path: Path
) -> None:
    """The parts gain them too, and nothing that was computed is computed again."""
    made("whole")
    made("shared", share="0/1")
    manifest = tmp_path / "images" / "data.csv"
    manifest.write_text(manifest.read_text() + "0000.png,b\n0030.png,a\n0001.png,a\n")
    whole, shared = (made(folder, update=True) for folder in ("whole", "shared"))
    assert shared.computed == 0
    with FeatureFile(shared.file) as one, FeatureFile(whole.file) as other:
        assert one.status.tolist() == other.status.tolist()
        for key in other.stored:
            np.testing.assert_array_equal(one.read(key), other.read(key))


@pytest.mark.parametrize("apart", [{"share": "0/2"}, {"on": "ray"}])
def test_no_study_is_begun_where_a_backbone_cannot_be_used(
    made: Callable[..., Extraction],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    apart: dict[str, str],
) -> None:
    monkeypatch.setitem(sys.modules, "ray", types.ModuleType("ray"))
    with pytest.raises(InputError, match="no such weights file"):
        made("shared", weights="nowhere.safetensors", **apart)
    assert not (tmp_path / "shared").exists()
