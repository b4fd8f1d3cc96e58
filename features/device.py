"""Where the network runs."""

import os

import torch

from features.errors import InputError


def resolve(device: str) -> torch.device:
    """The device called `auto`, `cpu`, `cuda` or `cuda:I`; `auto` is the GPU where there is one.

    Raises:
        InputError: There is no such device here.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    kind, _, index = device.partition(":")
    if kind not in ("cpu", "cuda") or (index and not index.isdigit()):
        raise InputError(f"--device {device}: not a device; use auto, cpu, cuda or cuda:0.")
    if kind == "cuda" and not torch.cuda.is_available():
        raise InputError(f"--device {device}: PyTorch sees no GPU here; use --device cpu.")
    if kind == "cuda" and index and int(index) >= torch.cuda.device_count():
        raise InputError(
            f"--device {device}: there are {torch.cuda.device_count()} GPUs here, counted from 0."
        )
    return torch.device(device)


def cores() -> int:
    """The processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
