"""Folds in several processes come to what one process comes to, and end together."""

import errno
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from brighthalves import QUICK, rows_of

from features.errors import InputError, OptionError, Stopped
from features.machine.processes import together
from probe.finetuning import fold
from probe.finetuning.finetune import finetune
from probe.finetuning.fold_file import FoldResult
from probe.training.recipes import recipe
from probe.training.setup import Diverged

CPU = torch.device("cpu")


@pytest.fixture
def two_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand in for two GPUs; each process computes with the threads of this one."""
    monkeypatch.setattr(
        "probe.finetuning.plan.several", lambda device: [CPU] * (2 if "," in device else 1)
    )
    monkeypatch.setenv("OMP_NUM_THREADS", str(torch.get_num_threads()))


def contents(study: Path) -> dict[str, bytes]:
    trained = sorted(study.rglob("*.safetensors"))
    return {str(f.relative_to(study)): f.read_bytes() for f in [study / "results.csv", *trained]}


def test_folds_on_two_devices_come_to_what_one_comes_to(
    tmp_path: Path,
    card: str,
    data: str,
    two_processors: None,
) -> None:
    told: dict[str, list[str]] = {"single": [], "two": []}
    asked = {"tasks": ["side"], "recipe": QUICK, "save": True}
    cuts = {"freeze_through": ["conv"], "views": ["center"]}
    for name, device in (("single", "cpu"), ("two", "cpu,cpu")):
        for more in ({}, cuts):
            finetune(
                tmp_path / name,
                card,
                data=data if not more else None,
                device=device,
                progress=lambda _done, _all, now, name=name: told[name].append(now),
                **(asked | more),  # type: ignore[arg-type]
            )
    assert contents(tmp_path / "single") == contents(tmp_path / "two")
    assert len(rows_of(tmp_path / "two")) == 9
    assert any(told["two"])
    assert all(now.startswith("cpu: ") for now in told["two"] if now)
    assert not any(now.startswith("cpu: ") for now in told["single"])
    again = finetune(tmp_path / "two", card, device="cpu,cpu", **asked)  # type: ignore[arg-type]
    assert (again.trained, again.kept) == (0, 1)


def test_a_loss_that_diverges_in_one_of_them_ends_all(
    tmp_path: Path,
    card: str,
    data: str,
    two_processors: None,
) -> None:
    wild = recipe("modern", epochs=2, patience=0, batch_size=8, rate=1e30)
    with pytest.raises(Diverged, match="became NaN or infinite"):
        finetune(tmp_path / "s", card, data=data, tasks=["side"], recipe=wild, device="cpu,cpu")


def _count(upto: int, send: Callable[[int], None]) -> None:
    for i in range(upto):
        send(i)


def _die(_: int, send: Callable[[int], None]) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _refuse(_: int, send: Callable[[int], None]) -> None:
    raise InputError("no.")


def _err(_: int, send: Callable[[int], None]) -> None:
    raise KeyError("here")


def test_what_processes_send_and_how_they_end() -> None:
    assert sorted(together(_count, [(2,), (3,)])) == [0, 0, 1, 1, 2]
    with pytest.raises(Stopped, match="exit code -9"):
        list(together(_die, [(0,)]))
    with pytest.raises(InputError, match=r"no\."):
        list(together(_refuse, [(0,)]))
    with pytest.raises(RuntimeError, match="KeyError: 'here'"):
        list(together(_err, [(0,)]))


def test_shares_of_the_folds_come_to_what_one_command_comes_to(
    tmp_path: Path, card: str, data: str
) -> None:
    """In any order; a share writes no row, and the command that collects trains what no share did."""
    asked = {"data": data, "tasks": ["side"], "recipe": QUICK, "save": True, "device": "cpu"}
    finetune(tmp_path / "single", card, **asked)  # type: ignore[arg-type]
    for share, folds in (("2/3", 1), ("0/3", 1), ("0/3", 1)):
        assert finetune(tmp_path / "two", card, share=share, **asked).trained == folds  # type: ignore[arg-type]
    assert not (tmp_path / "two" / "results.csv").exists()
    assert len(list((tmp_path / "two").glob("training/*/*/fold-*.npz"))) == 2
    finetune(tmp_path / "two", card, **asked)  # type: ignore[arg-type]
    assert contents(tmp_path / "single") == contents(tmp_path / "two")
    assert not list((tmp_path / "two").glob("training/*/*"))
    with pytest.raises(OptionError, match="say --search or --no-search"):
        finetune(tmp_path / "new", card, data=data, tasks=["side"], share="0/2", device="cpu")
    with pytest.raises(OptionError, match="does not go with --redo"):
        finetune(tmp_path / "two", card, share="0/2", redo=True)


def test_a_damaged_fold_of_a_share_is_trained_again(
    tmp_path: Path, card: str, data: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut short, of another text, or a link to nothing that is one; a folder is refused first."""
    asked = {"data": data, "tasks": ["side"], "recipe": QUICK, "device": "cpu"}
    finetune(tmp_path / "single", card, **asked)  # type: ignore[arg-type]
    study = tmp_path / "two"
    finetune(study, card, share="0/1", **asked)  # type: ignore[arg-type]
    first, second, third = sorted(study.glob("training/*/*/fold-*.npz"))

    def unread(_: Path) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr("probe.finetuning.fold_file.open_regular", unread)
        with pytest.raises(OSError, match="Input/output error"):
            finetune(study, card, **asked)  # type: ignore[arg-type]
    assert first.is_file()
    first.write_bytes(first.read_bytes()[:-40])
    other = tmp_path / "other"
    other.write_text("not a fold")
    second.unlink()
    second.symlink_to(other)
    third.unlink()
    third.mkdir()
    with pytest.raises(InputError, match=f"{third.name}: a folder where a file belongs"):
        finetune(study, card, **asked)  # type: ignore[arg-type]
    assert not (study / "results.csv").exists()
    third.rmdir()
    finetune(study, card, **asked)  # type: ignore[arg-type]
    assert contents(tmp_path / "single") == contents(study)
    assert other.read_text() == "not a fold"


def test_a_share_ends_when_the_folds_are_collected_meanwhile(
    tmp_path: Path, card: str, data: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = {"data": data, "tasks": ["side"], "recipe": QUICK, "device": "cpu"}
    inner, collected = fold.write_fold, []

    def late(file: Path, result: FoldResult) -> None:
        monkeypatch.setattr(fold, "write_fold", inner)
        collected.append(finetune(tmp_path / "study", card, **asked).trained)  # type: ignore[arg-type]
        inner(file, result)

    monkeypatch.setattr(fold, "write_fold", late)
    share = finetune(tmp_path / "study", card, share="0/2", **asked)  # type: ignore[arg-type]
    assert (share.trained, len(collected)) == (0, 1)
    assert not list((tmp_path / "study").glob("training/*/*"))
