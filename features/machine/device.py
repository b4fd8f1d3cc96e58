"""The device on which a network runs, its precision, and how memory is reused."""

import ctypes
import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from features.errors import InputError, OptionError

PRECISIONS = ("float32", "tf32", "bf16", "fp16")


_NAMES = {"cuda": "GPU", "mps": "Apple GPU", "xpu": "Intel GPU"}


def accelerator() -> torch.device | None:
    """The accelerator that PyTorch sees here, of whatever maker; None: there is none."""
    return torch.accelerator.current_accelerator(check_available=True)


def resolve(device: str) -> torch.device:
    """The device called `auto`, `cpu`, `cuda`, `mps`, `xpu` or, say, `cuda:I`; `auto` is the accelerator.

    Another maker's accelerator goes by the name under which it is registered with PyTorch.

    Raises:
        OptionError: There is no such device here.
    """
    here = accelerator()
    if device == "auto":
        return torch.device("cpu") if here is None else torch.device(here.type)
    kind, _, index = device.partition(":")
    known = {"cpu", *_NAMES} | ({here.type} if here is not None else set())
    if kind not in known or (":" in device and not index.isdigit()):
        raise OptionError(
            f"--device {device}: not one device; use auto, cpu, cuda, cuda:0, mps or xpu."
        )
    if kind == "cpu":
        return torch.device(device)
    module = torch.get_device_module(kind)
    name = _NAMES.get(kind, kind)
    if not module.is_available():
        raise OptionError(f"--device {device}: PyTorch sees no {name} here; use --device cpu.")
    if index and int(index) >= module.device_count():
        raise OptionError(
            f"--device {device}: {name}s here are {module.device_count()}, counted from 0; use {kind}:0."
        )
    return torch.device(device)


def several(device: str) -> list[torch.device]:
    """The devices called `cuda:I,J,...`, or the single device of any other name.

    Raises:
        OptionError: This machine lacks one of them, or one is named twice.
    """
    first, *others = device.split(",")
    kind = first.partition(":")[0]
    devices = [resolve(first), *(resolve(f"{kind}:{index}") for index in others)]
    if len(set(devices)) < len(devices):
        raise OptionError(f"--device {device}: names a device twice; name each once.")
    return devices


def device_name(device: torch.device) -> str:
    """The device in words: `cpu`, or the name of the accelerator."""
    if device.type == "cpu":
        return str(device)
    named = getattr(torch.get_device_module(device), "get_device_name", None)
    return str(device) if named is None or device.type == "mps" else str(named(device))


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


def computes(device: torch.device, kind: torch.dtype) -> bool:
    """Whether the device multiplies matrices of `kind` and, of float64, factorises them."""
    if device.type == "cpu":
        return True
    if device.type == "cuda":  # where it was tried, bfloat16 would be emulated
        return kind != torch.bfloat16 or torch.cuda.is_bf16_supported(including_emulation=False)
    try:
        x = torch.eye(2, device=device, dtype=kind)
        x = x @ x
        if kind == torch.float64:
            torch.linalg.eigh(x)
            torch.linalg.cholesky_ex(x)
        return bool(x.sum().cpu() == 2)
    except (RuntimeError, TypeError):  # NotImplementedError is a RuntimeError
        return False


def usable_precision(precision: str, device: torch.device, announce: Callable[[str], None]) -> str:
    """`precision`, or float32 where the device has no such numbers, with a line that says so.

    Raises:
        InputError: As `check_precision`.
    """
    check_precision(precision, device)
    if precision == "bf16" and not computes(device, torch.bfloat16):
        announce(f"{device}: no bfloat16; computed in float32")
        return "float32"
    if precision == "tf32" and device.type != "cuda":
        announce(f"{device}: no TensorFloat-32; computed in float32")
        return "float32"
    return precision


def for_probes(device: torch.device, announce: Callable[[str], None]) -> torch.device:
    """Where probes are fitted: on the device, or on the processor where it has no float64, with a line."""
    if computes(device, torch.float64):
        return device
    announce(f"{device}: no float64, in which probes are proven; they are fitted on the processor")
    return torch.device("cpu")


def widest(device: torch.device) -> torch.dtype:
    """The type for sums: float64, or float32 where the device has no wider one."""
    return torch.float64 if computes(device, torch.float64) else torch.float32


def has_streams(device: torch.device) -> bool:
    """Whether copies and threads can have queues of their own on the device; Apple's were never tried."""
    return device.type not in ("cpu", "mps") and hasattr(torch.get_device_module(device), "Stream")


def sent(x: Tensor, device: torch.device) -> Tensor:
    """`x` on the device, for which the processor does not wait until what it asked of it before is done."""
    return x.to(device, non_blocking=has_streams(device))


def new_stream(device: torch.device) -> Any:
    """A queue of the device's work; None where there is only one."""
    return torch.get_device_module(device).Stream(device) if has_streams(device) else None


def within(stream: Any, device: torch.device) -> AbstractContextManager[Any]:
    """What this thread asks of the device goes into `stream`."""
    if stream is None:
        return nullcontext()
    made: AbstractContextManager[Any] = torch.get_device_module(device).stream(stream)
    return made


def wait(device: torch.device) -> None:
    """Return when the device has done what this thread asked of it."""
    if device.type == "cpu":
        return
    module = torch.get_device_module(device)
    if has_streams(device):
        module.current_stream(device).synchronize()
    else:
        module.synchronize()


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Let `seed` decide what is drawn on the device; the random state outside stays as it was."""
    with torch.random.fork_rng(devices=[]):
        if device.type == "cpu":
            # `torch.manual_seed` also notes for every kind of GPU where it was called from, which takes
            # longer than a small batch.
            torch.default_generator.manual_seed(seed)
            yield
            return
        module = torch.get_device_module(device)
        which = () if device.type == "mps" else (device,)
        before = module.get_rng_state(*which)
        torch.manual_seed(seed)
        try:
            yield
        finally:
            module.set_rng_state(before, *which)


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


@contextmanager
def thread_per_core() -> Iterator[ThreadPoolExecutor]:
    """Threads, one for each core, for blocks of work too small to be shared: PyTorch computes each on one.

    What is computed so does not depend on the number of cores. After an error no further block is begun.
    Every thread is told so itself: MKL takes all cores in one that was not, until an operation of PyTorch's
    own comes along, so that the rounding of a product hung on which thread came to it first.
    """
    single = torch.set_num_threads
    with threads(1):
        pool = ThreadPoolExecutor(cores(), initializer=single, initargs=(1,))
        try:
            yield pool
        finally:
            pool.shutdown(cancel_futures=True)


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
