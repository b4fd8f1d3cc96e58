"""What of a fine-tune is kept, resumed or trained again, as what it hangs on changes in between."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from brighthalves import PLAIN, rows_of

from features.errors import InputError, Stopped
from features.extraction.extract import extract
from features.machine.locks import locked
from probe.analysis.compare import compare
from probe.finetuning import fold as fold_module
from probe.finetuning.finetune import Finetuned, finetune
from probe.training import checkpoint
from probe.training.recipes import recipe

OTHER = recipe(
    "modern", epochs=4, patience=0, batch_size=8, crop=False, mirror=False, colour=0.0, rate=0.03
)


class Killed(Exception):
    pass


@contextmanager
def killed_after(folds: int) -> Iterator[None]:
    """The run inside ends when so many folds are finished."""
    written = fold_module.write_fold
    left = [folds]

    def write(*given: Any) -> None:
        written(*given)
        left[0] -= 1
        if not left[0]:
            raise Killed

    with pytest.MonkeyPatch.context() as patch, suppress(Killed):
        patch.setattr(fold_module, "write_fold", write)
        yield
    assert not left[0]


@pytest.fixture
def train(tmp_path: Path, card: str, data: str) -> Callable[..., Finetuned]:
    """Fine-tunes the study, quickly, on the centre."""

    def call(backbone: str = card, **more: Any) -> Finetuned:
        quick = {"data": data, "tasks": ["side"], "recipe": PLAIN, "views": ["center"]}
        return finetune(tmp_path / "s", backbone, device="cpu", **{**quick, **more})

    return call


def losses(study: Path, **wanted: object) -> list[float | None]:
    return [r.log_loss for r in rows_of(study, **wanted)]


def test_another_weights_file_of_the_same_name_is_trained_anew(
    tmp_path: Path,
    train: Callable[..., Finetuned],
    tiny_card: Callable[..., Path],
) -> None:
    files = []
    for folder, seed in (("x", 1), ("y", 2)):
        (tmp_path / folder).mkdir()
        files.append(tmp_path / folder / "w.safetensors")
        made = tiny_card(seed=seed).with_name("tiny.safetensors")
        files[-1].write_bytes(made.read_bytes())
    assert train(weights=str(files[0])).trained == 3
    assert train(weights=str(files[0])).kept == 1
    assert train(weights=str(files[1])).trained == 3


def test_a_card_that_feeds_its_network_otherwise_is_trained_anew(
    tmp_path: Path,
    card: str,
    train: Callable[..., Finetuned],
) -> None:
    train()
    before = losses(tmp_path / "s")
    text = Path(card).read_text()
    Path(card).write_text(text.replace("std = [64.0, 64.0, 64.0]", "std = [9.0, 9.0, 9.0]"))
    assert train().trained == 3
    assert losses(tmp_path / "s") != before
    Path(card).write_text(text.replace('conv = "conv"\n', ""))
    assert train().trained == 3
    Path(card).write_text(text)
    assert train().kept == 1


def test_from_scratch_the_weights_do_not_matter(
    tmp_path: Path, train: Callable[..., Finetuned], tiny_card: Callable[..., Path]
) -> None:
    assert train(from_scratch=True).trained == 3
    assert train(from_scratch=True, freeze_through=["conv"]).kept == 1
    before = losses(tmp_path / "s", method="scratch")
    assert train(from_scratch=True, redo=True).trained == 3
    assert losses(tmp_path / "s", method="scratch") == before


def test_another_base_network_is_begun_with_in_every_fold(
    tmp_path: Path, train: Callable[..., Finetuned]
) -> None:
    study, cut = tmp_path / "s", {"base": "finetune", "freeze_through": ["pool"]}
    train(save=True)
    with killed_after(1):
        train(**cut)
    train(save=True, recipe=OTHER)
    assert train(**cut).trained == 3
    before = losses(study, method="frozen")
    assert train(**cut).kept == 1
    train(**cut, redo=True)
    assert losses(study, method="frozen") == before
    train(save=True)
    assert train(**cut).trained == 3
    assert losses(study, method="frozen") != before


def test_unlike_networks_are_still_compared(
    tmp_path: Path,
    train: Callable[..., Finetuned],
    card: str,
) -> None:
    train()
    text = Path(card).read_text()
    other = Path(card).with_name("other.toml")
    other.write_text(
        text.replace('"tiny"', '"other"', 1).replace("[64.0, 64.0, 64.0]", "[9.0, 9.0, 9.0]")
    )
    train(str(other))
    (comparison,) = compare(tmp_path / "s", "tiny/-/finetune", "other/-/finetune")
    assert comparison.images == 48


def test_a_fold_that_lacks_a_view_is_trained_again(
    tmp_path: Path, train: Callable[..., Finetuned]
) -> None:
    with killed_after(2):
        train()
    assert train(views=["center", "10crop"]).trained == 3
    views = [(r.fold, r.views) for r in rows_of(tmp_path / "s")]
    assert sorted(views) == [(fold, view) for fold in range(3) for view in ("10crop", "center")]


def test_a_result_without_its_networks_is_trained_again_to_save_them(
    tmp_path: Path, train: Callable[..., Finetuned]
) -> None:
    networks = tmp_path / "s" / "networks"
    train()
    before = losses(tmp_path / "s")
    assert train(save=True).trained == 3
    assert len(list(networks.glob("*.toml"))) == 3
    assert losses(tmp_path / "s") == before
    assert train(save=True).kept == 1
    (networks / "tiny@side-finetune-fold1.safetensors").write_bytes(b"damaged")
    assert train(save=True).trained == 3
    assert train(save=True).kept == 1
    train(recipe=OTHER)
    assert (
        train(recipe=OTHER, save=True).trained == 3
    )  # the networks there were of the other recipe
    assert train(recipe=OTHER, save=True).kept == 1


def test_a_finished_fold_without_its_network_is_trained_again_to_save_it(
    tmp_path: Path, train: Callable[..., Finetuned]
) -> None:
    with killed_after(1):
        train()
    train(save=True)
    networks = sorted(file.stem for file in (tmp_path / "s" / "networks").glob("*.toml"))
    assert networks == [f"tiny@side-finetune-fold{fold}" for fold in range(3)]
    assert train(base="finetune", freeze_through=["conv"]).trained == 3


def test_a_result_waits_while_another_process_writes(
    tmp_path: Path, train: Callable[..., Finetuned], monkeypatch: pytest.MonkeyPatch
) -> None:
    study = tmp_path / "s"
    train()
    with ThreadPoolExecutor(1) as thread:
        with locked(study / ".results.lock", "this test"):
            trained = thread.submit(train, recipe=OTHER, freeze_through=["conv", "pool"])
            while not list((study / "training").rglob("fold-2.npz")):
                time.sleep(0.02)
            with pytest.raises(TimeoutError):
                trained.result(timeout=0.5)
        assert trained.result().trained == 6
    monkeypatch.setattr("probe.finetuning.commit._PATIENCE", 0.3)
    with (
        locked(study / ".results.lock", "this test"),
        pytest.raises(Stopped, match=r"another process has been writing it .* run this again"),
    ):
        train(recipe=OTHER)
    assert train(recipe=OTHER).trained == 3


@pytest.mark.parametrize("shares", [(0.1, 0.0), (0.0, 0.1)])
def test_a_training_goes_on_when_the_disk_has_less_room_or_more(
    tmp_path: Path,
    train: Callable[..., Finetuned],
    monkeypatch: pytest.MonkeyPatch,
    shares: tuple[float, float],
) -> None:
    """Whether a frozen prefix's features are kept or recomputed, it comes to the same network."""
    cut = {"freeze_through": ["pool"], "recipe": OTHER}
    written = checkpoint.write
    epochs: list[int] = []

    def write(*given: Any) -> None:
        written(*given)
        epochs.append(len(given[-1]))
        if len(epochs) == 6:  # two epochs into the second fold
            raise Killed

    monkeypatch.setattr(checkpoint, "write", write)
    monkeypatch.setattr("probe.training.kept_prefix._DISK_SHARE", shares[0])
    with pytest.raises(Killed):
        train(**cut)
    monkeypatch.setattr("probe.training.kept_prefix._DISK_SHARE", shares[1])
    assert train(**cut).trained == 3
    assert epochs == [1, 2, 3, 4, 1, 2, 3, 4, 1, 2, 3, 4]
    before = losses(tmp_path / "s")
    train(**cut, redo=True)
    assert losses(tmp_path / "s") == pytest.approx(before, rel=1e-4)


def test_an_image_that_is_damaged_since_it_was_extracted_is_said(
    tmp_path: Path,
    train: Callable[..., Finetuned],
    card: str,
    data: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where memory is short, each image is decoded when its turn comes."""
    monkeypatch.setattr("probe.training.image_cache.free_memory", lambda: 0.0)
    extract(tmp_path / "s", card, data=data, layers=["fc"], device="cpu")
    image = tmp_path / "data" / "5.png"
    whole = image.read_bytes()
    image.write_text("no image")
    with pytest.raises(InputError, match=r"5\.png: cannot be read any more, .*; put it back"):
        train()
    image.write_bytes(whole)
    assert train().trained == 3
