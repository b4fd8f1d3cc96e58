"""The checkpoint of a training: all that it needs to go on, written after every epoch.

A frozen prefix, which nothing changes, may be missing from it: where the disk has room its features are
kept instead, and there may be more or less room when training goes on.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from copy import copy
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from features.errors import InputError
from features.machine.files import replacing
from probe.training.setup import Epoch, TrainingJob


def write(
    checkpoint: Path,
    job: TrainingJob,
    optimiser: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    history: Sequence[Epoch],
) -> None:
    """Write the state after the epochs of `history`, in one step."""
    state = {
        "network": job.network.state_dict(),
        "optimiser": optimiser.state_dict(),
        "scaler": scaler.state_dict(),
        "history": [asdict(epoch) for epoch in history],
    }
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    with replacing(checkpoint) as written:
        made = io.BytesIO()  # PyTorch's own writer does not tell that the disk is full
        torch.save(_on_processor(state), made)
        written.write_bytes(made.getbuffer())


def _on_processor(state: Any) -> Any:
    """A state with its tensors on the processor, so that any device can go on from it."""
    if isinstance(state, Tensor):
        return state.cpu()
    if isinstance(state, dict):
        made = copy(state)  # with the versions that PyTorch keeps beside a network's tensors
        made.update({key: _on_processor(value) for key, value in state.items()})
        return made
    return [_on_processor(each) for each in state] if isinstance(state, list) else state


def resume(
    checkpoint: Path,
    job: TrainingJob,
    optimiser: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
) -> list[Epoch]:
    """Bring everything to the state of the checkpoint; returns the epochs before it.

    Raises:
        InputError: It is damaged, or of another training.
    """
    try:
        state = torch.load(checkpoint, map_location="cpu", weights_only=True)
        _load(job, state["network"])
        optimiser.load_state_dict(state["optimiser"])
        scaler.load_state_dict(state["scaler"])
        return [Epoch(**epoch) for epoch in state["history"]]
    except Exception as error:  # a damaged pickle can raise anything
        raise InputError(
            f"{checkpoint}: not a checkpoint of this training; delete it to begin again."
        ) from error


def _load(job: TrainingJob, tensors: dict[str, Tensor]) -> None:
    """Load a checkpoint's tensors; only tensors of the frozen prefix may be missing on either side."""
    body = {name for name in {*tensors, *job.network.state_dict()} if name.startswith("body.")}
    frozen = {name for name in body if job.prefix.holds(name.removeprefix("body."))}
    missing, unexpected = job.network.load_state_dict(tensors, strict=False)
    if not frozen.issuperset((*missing, *unexpected)):
        raise KeyError("other layers")
