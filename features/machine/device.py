"""The device on which a network runs, its precision, and how memory is reused."""

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from features.errors import InputError, OptionError

PRECISIONS = ("float32", "tf32", "bf16", "fp16")


def resolve(device: str) -> torch.device:
    """The device called `auto`, `cpu`, `cuda` or `cuda:I`; `auto` is the GPU if there is one.

    Raises:
        InputError: There is no such device here.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    kind, _, index = device.partition(":")
    if kind not in ("cpu", "cuda") or (index and not index.isdigit()):
        raise OptionError(f"--device {device}: not one device; use auto, cpu, cuda or cuda:0.")
    if kind == "cuda" and not torch.cuda.is_available():
        raise InputError(f"--device {device}: PyTorch sees no GPU here; use --device cpu.")
    if kind == "cuda" and index and int(index) >= torch.cuda.device_count():
        raise InputError(
            f"--device {device}: there are {torch.cuda.device_count()} GPUs here, counted from 0."
        )
    return torch.device(device)


def several(device: str) -> list[torch.device]:
    """The devices called `cuda:I,J,...`, or the single device of any other name.

    Raises:
        InputError: This machine lacks one of them, or one is named twice.
    """
    first, *others = device.split(",")
    kind = first.partition(":")[0]
    devices = [resolve(first), *(resolve(f"{kind}:{index}") for index in others)]
    if len(set(devices)) < len(devices):
        raise OptionError(f"--device {device}: names a device twice; name each once.")
    return devices


def device_name(device: torch.device) -> str:
    """The device in words: `cpu`, or the name of the GPU."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)


def check_precision(precision: str, device: torch.device) -> None:
    """Refuse a precision in which the device does not compute.

    Raises:
        InputError: There is no such precision, or the device does not have it.
    """
    if precision not in PRECISIONS:
        raise OptionError(
            f"--precision {precision}: not a precision; use float32, tf32, bf16 or fp16."
        )
    if device.type == "cpu" and precision in ("tf32", "fp16"):
        raise InputError(
            f"--precision {precision}: needs a GPU; on a processor use float32 or bf16."
        )


@contextmanager
def precise(device: torch.device, precision: str) -> Iterator[None]:
    """Let a GPU compute float32 exactly, or as TensorFloat-32 where `precision` is `tf32`."""
    if device.type != "cuda":
        yield
        return
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    matmul.allow_tf32 = cudnn.allow_tf32 = precision == "tf32"
    try:
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before


def cores() -> int:
    """The processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Compute each operation on `count` threads of the processor."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


# glibc's mallopt: names and defaults.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -3, -4, -8
_LARGEST_BLOCK = 32 << 20


@contextmanager
def reusing_memory(largest: int) -> Iterator[None]:
    """Keep freed memory for the next batch instead of returning it to the system.

    A forward pass allocates and frees the same large maps repeatedly, and by default glibc returns
    each to the system, which then clears every page again. The gain depends on the network
    and the batch size; tests/bench/extraction.py measures it.

    Args:
        largest: Bytes of the largest map of a batch.
    """
    if not sys.platform.startswith("linux"):
        yield
        return
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "mallopt"):
        yield
        return
    libc.mallopt(_TRIM_THRESHOLD, 2**31 - 1)
    if largest <= _LARGEST_BLOCK:
        libc.mallopt(_MMAP_THRESHOLD, _LARGEST_BLOCK)
    else:  # larger blocks fit only into the arena, which grows without bound
        libc.mallopt(_MMAP_MAX, 0)
        libc.mallopt(_ARENA_MAX, 1)
    try:
        yield
    finally:
        # Setting any of these permanently switches off glibc's own rule, which raises the thresholds when
        # a large block is freed. So they are left at the values at which that rule arrives once a block
        # of 32 MiB has been freed. Restoring the defaults instead made a block of 1 MiB, allocated, filled
        # and freed, cost 480 to 510 us for the rest of the process; it was 30 to 34 before and inside.
        libc.mallopt(_MMAP_THRESHOLD, _LARGEST_BLOCK)
        libc.mallopt(_TRIM_THRESHOLD, 2 * _LARGEST_BLOCK)
        libc.mallopt(_MMAP_MAX, 1 << 16)
        libc.mallopt(_ARENA_MAX, 0)
        libc.malloc_trim(0)


def placed(model: nn.Module, device: torch.device, kind: torch.dtype | None = None) -> nn.Module:
    """The network on a device, with the kernels of its convolutions channels last in memory.

    That is the faster layout for convolutions, on a processor (1.3 to 2.7 times, measured on four
    networks) as on a GPU's matrix units; the numbers are the same but for rounding. `kind` is the type of
    its numbers.
    """
    model = model.to(device, kind)
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.dim() == 4 and not tensor.is_quantized:  # Module.to would refuse 3D convolutions
            tensor.data = tensor.data.contiguous(memory_format=torch.channels_last)
    return model
