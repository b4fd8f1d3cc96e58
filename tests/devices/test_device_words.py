"""The word `--device`: what it takes, what is told where there is no such device, what a device lacks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from cli.app import app
from features.errors import InputError, OptionError
from features.machine import device as devices

NAMES = {"cuda": "GPU", "mps": "Apple GPU", "xpu": "Intel GPU"}


@pytest.fixture
def none_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch sees no accelerator."""
    for word in NAMES:
        monkeypatch.setattr(torch.get_device_module(word), "is_available", lambda: False)
    monkeypatch.setattr(devices, "accelerator", lambda: None)


@pytest.mark.parametrize("word", NAMES)
def test_a_device_that_is_not_there_is_told_in_a_sentence(
    none_there: None, word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = f"--device {word}: PyTorch sees no {NAMES[word]} here; use --device cpu."
    with pytest.raises(OptionError) as error:
        devices.resolve(word)
    assert str(error.value) == said
    words = ["extract", "-b", "control:pixels", "--data", "sample", "--device", word]
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 2
    assert done.stderr.splitlines()[-1] == f"error: {said}"


@pytest.mark.parametrize("word", ["gpu", "cuda:", "cuda:x", "cuda:0:1", "simulated", "", "tpu"])
def test_what_is_no_device(none_there: None, word: str) -> None:
    with pytest.raises(
        OptionError, match="not one device; use auto, cpu, cuda, cuda:0, mps or xpu"
    ):
        devices.resolve(word)


def test_auto_is_the_accelerator_that_is_there(none_there: None) -> None:
    assert devices.resolve("auto") == torch.device("cpu")


def test_auto_is_a_simulated_device_and_its_numbers_are_counted(simulated: Any) -> None:
    assert devices.resolve("auto") == torch.device("simulated")
    assert devices.several("simulated:0,1") == [torch.device(f"simulated:{i}") for i in (0, 1)]
    assert devices.device_name(torch.device("simulated:1")) == "simulated device 1"
    with pytest.raises(OptionError, match="simulateds here are 2, counted from 0; use simulated:0"):
        devices.resolve("simulated:2")
    with pytest.raises(OptionError, match="names a device twice"):
        devices.several("simulated:1,1")


def test_what_a_simulated_device_lacks_falls_back_with_a_line(simulated: Any) -> None:
    device, said = torch.device("simulated"), list[str]()
    assert devices.usable_precision("bf16", device, said.append) == "bf16"
    assert devices.for_probes(device, said.append) == device
    assert devices.widest(device) == torch.float64
    assert not said
    simulated.lacks.update({torch.bfloat16, torch.float64})
    assert devices.usable_precision("bf16", device, said.append) == "float32"
    assert devices.for_probes(device, said.append) == torch.device("cpu")
    assert devices.widest(device) == torch.float32
    assert len(said) == 2
    assert all(line.startswith("simulated: no ") for line in said)


def test_a_factorisation_that_a_simulated_device_lacks_is_seen(
    simulated: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def not_there(_: torch.Tensor) -> None:
        raise NotImplementedError("linalg_eigh is not there")

    monkeypatch.setattr(torch.linalg, "eigh", not_there)
    assert not devices.computes(torch.device("simulated"), torch.float64)


def test_precisions_of_the_processor() -> None:
    cpu = torch.device("cpu")
    for precision in ("tf32", "fp16"):
        with pytest.raises(InputError, match="needs a GPU"):
            devices.usable_precision(precision, cpu, print)
    assert devices.usable_precision("bf16", cpu, print) == "bf16"


def test_a_seed_decides_what_a_simulated_device_draws(simulated: Any) -> None:
    device = torch.device("simulated:1")
    before = torch.rand(3, device=device).cpu(), torch.rand(3)
    with devices.seeded(5, device):
        drawn = torch.rand(4, device=device).cpu()
    with devices.seeded(5, torch.device("cpu")):
        assert torch.equal(drawn, torch.rand(4))
    torch.manual_seed(0)
    first = torch.rand(3, device=device).cpu(), torch.rand(3)
    torch.manual_seed(0)
    with devices.seeded(5, device):
        torch.rand(4, device=device)
    again = torch.rand(3, device=device).cpu(), torch.rand(3)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert len(before) == 2
