"""Networks trained on an accelerator come to what the processor comes to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import simulated_device
import torch
from finetuning.brighthalves import rows_of, write_data
from safetensors.numpy import load_file

from features.errors import InputError
from features.study.study import open_study
from probe.finetuning.finetune import finetune
from probe.results import predictions
from probe.training.recipes import recipe

SHORT = recipe("modern", epochs=2, patience=0, batch_size=8, colour=0.2)
DROPOUT = ("flatten=nn.Flatten(),", "drop=nn.Dropout(0.4),\n            flatten=nn.Flatten(),")


@pytest.fixture
def data(tmp_path: Path) -> str:
    return str(write_data(tmp_path / "data", folds=2))


@pytest.fixture
def card(tiny_card: Callable[..., Path], device: str) -> str:
    """A small network, with dropout where the device draws what the processor draws."""
    written = tiny_card("[8, 8]", "[8, 8]\nmean = [127.0, 127.0, 127.0]\nstd = [64.0, 64.0, 64.0]")
    if device != "simulated":
        return str(written)
    network = written.with_name("tiny.py")
    text = network.read_text()
    assert DROPOUT[0] in text
    network.write_text(text.replace(*DROPOUT))
    return str(written)


def trained(study: Path, card: str, device: str, **options: Any) -> dict[str, Any]:
    """Scores by what was trained, and the weights that were kept."""
    options = {
        "tasks": ["side"], "recipe": SHORT, "precision": "float32", "views": ["center"], "save": True,
        **options,
    }  # fmt: skip
    finetune(study, card, device=device, **options)
    folder = open_study(study).folder / "predictions"
    found = {
        f"{r.method} {r.layer} {r.fold}": predictions.read(folder, r.stored).scores
        for r in rows_of(study)
    }
    for file in sorted(study.rglob("*.safetensors")):
        found |= {f"{file.relative_to(study)} {k}": v for k, v in load_file(file).items()}
    return found


def alike(there: dict[str, Any], here: dict[str, Any], far: float = 1e-4) -> None:
    assert there.keys() == here.keys()
    for key, x in here.items():
        np.testing.assert_allclose(there[key], x, rtol=far, atol=far, err_msg=key)


KINDS: dict[str, dict[str, Any]] = {
    "all layers": {},
    "a frozen prefix": {"freeze_through": ["conv"]},
    "in parts": {"accumulate": 2},
}


@pytest.mark.parametrize("how", KINDS.values(), ids=KINDS)
def test_a_fine_tune_comes_to_the_processors(
    tmp_path: Path, card: str, data: str, device: str, how: dict[str, Any]
) -> None:
    there = trained(tmp_path / "there", card, device, data=data, **how)
    far = 1e-4 if device == "simulated" else 2e-2  # rounding turns some of AdamW's first steps
    alike(there, trained(tmp_path / "here", card, "cpu", data=data, **how), far)


def test_a_fine_tune_that_was_stopped_goes_on(
    tmp_path: Path, card: str, data: str, device: str
) -> None:
    whole = trained(tmp_path / "whole", card, device, data=data)
    calls: list[object] = []

    def stop(*now: object) -> None:
        calls.append(now)
        if list((tmp_path / "parts").rglob("*.pt")):  # an epoch is behind
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "parts", card, device, data=data, progress=stop)
    # To the bit, but on a card, where gradients of convolutions are added up in any order.
    far = 0 if device == "simulated" else 2e-2
    alike(trained(tmp_path / "parts", card, device), whole, far)


def test_a_checkpoint_of_the_device_goes_on_here(
    tmp_path: Path, card: str, data: str, device: str
) -> None:
    """It holds tensors of the processor, whatever trained."""

    def stop(*_: object) -> None:
        if list(tmp_path.rglob("*.pt")):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "s", card, device, data=data, progress=stop)
    (file,) = tmp_path.rglob("*.pt")
    state = torch.load(file, weights_only=True)
    assert {x.device.type for x in state["network"].values()} == {"cpu"}


@pytest.mark.slow
def test_folds_on_two_devices_come_to_what_one_comes_to(
    tmp_path: Path,
    card: str,
    data: str,
    two_devices: str,
    device: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", str(torch.get_num_threads()))  # as many there as here
    one = trained(tmp_path / "one", card, device, data=data)
    two = trained(tmp_path / "two", card, two_devices, data=data)
    alike(two, one, 0)


def test_mixed_precision_is_refused_where_it_is_not_there(
    tmp_path: Path, card: str, data: str, simulated: Any
) -> None:
    simulated.lacks.add(torch.bfloat16)
    said: list[str] = []
    trained(tmp_path / "s", card, "simulated", data=data, precision="amp", announce=said.append)
    assert "simulated: no bfloat16; computed in float32" in said
    with pytest.raises(InputError, match="mixed precision is for a GPU"):
        trained(tmp_path / "t", card, "cpu", data=data, precision="amp")


@pytest.mark.parametrize("goal", ["side", "years:number"])
def test_no_batch_waits_for_what_it_sends(
    tmp_path: Path, card: str, data: str, device: str, goal: str
) -> None:
    """Where copies wait, the processor cannot ask ahead: three epochs wait as often as one."""
    if device != "simulated":
        pytest.skip("copies are counted on the simulated device")
    table = Path(data)
    head, *rows = table.read_text().splitlines()
    numbers = [f"{row},{place % 3}.5" for place, row in enumerate(rows)]
    numbers[3] = f"{rows[3]},"  # not known
    table.write_text("\n".join([f"{head},years", *numbers]) + "\n")
    waited = []
    for epochs in (1, 3):
        simulated_device.counts.clear()
        short = recipe("modern", epochs=epochs, patience=0, batch_size=8, colour=0.2)
        trained(tmp_path / str(epochs), card, device, data=data, recipe=short, tasks=[goal])
        waited.append(simulated_device.counts["to, waited for"])
    assert waited[0] == waited[1]
