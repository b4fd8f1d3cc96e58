"""An accelerator made of the processor: `--device simulated` where no other is.

It is registered with PyTorch as the backends of other makers are. Its tensors hold a tensor of the
processor, on which every operation is done, so that the numbers are the processor's; all else is as on a
card:

- A tensor of one device refuses to meet one of another, and NumPy refuses it.
- An asynchronous copy to the processor is done when its stream is waited for; until then the numbers that
  are read are NaN, or the least there is.
- The source of an asynchronous copy to the device must not change before its stream is waited for.
- A tensor written in one stream must not be read in another that has not waited for it.
- Random numbers come of a generator of the device; one of the processor is refused.

`counts` says how many copies there were and how often the processor waited. There are two devices, of any
number of streams. Importing this registers it, once and for all; `switched_on` lets PyTorch see it.
"""

from __future__ import annotations

import functools
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from simulated_streams import DEVICES, NAME, Stream, counts, current_stream, index_of
from simulated_tensors import Simulated, copied, generators, lacks, run
from torch import Tensor
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

ENVIRONMENT = "PROBE_SIMULATED_DEVICE"
"""Tells the processes that a test starts that the device is switched on."""
_aten = torch.ops.aten
_on = False


class _Hooks(torch._C._acc.PrivateUse1Hooks):
    def is_available(self) -> bool:
        return _on

    def has_primary_context(self, _index: int) -> bool:
        return True

    def is_built(self) -> bool:
        return True


class _Guard(torch._C._acc.DeviceGuard):
    def type_(self) -> Any:
        return torch._C._autograd.DeviceType.PrivateUse1


class _Module:
    """`torch.simulated`."""

    Stream = Stream
    current_stream = staticmethod(current_stream)

    @staticmethod
    def stream(stream: Stream) -> Stream:
        return stream

    @staticmethod
    def synchronize(device: Any = None) -> None:
        current_stream(device).synchronize()

    @staticmethod
    def is_initialized() -> bool:
        return True

    @staticmethod
    def is_available() -> bool:
        return _on

    @staticmethod
    def device_count() -> int:
        return DEVICES if _on else 0

    @staticmethod
    def current_device() -> int:
        return 0

    @staticmethod
    def get_device_name(device: Any = None) -> str:
        return f"simulated device {index_of(device)}"

    @staticmethod
    def _is_in_bad_fork() -> bool:
        return False

    @staticmethod
    def manual_seed_all(seed: int) -> None:
        for generator in generators:
            generator.manual_seed(seed)

    @staticmethod
    def get_rng_state(device: Any = NAME) -> Tensor:
        return generators[index_of(device)].get_state()

    @staticmethod
    def set_rng_state(state: Tensor, device: Any = NAME) -> None:
        generators[index_of(device)].set_state(state)

    @staticmethod
    def get_amp_supported_dtype() -> list[torch.dtype]:
        return [torch.bfloat16, torch.float16]


_library: list[torch.library.Library] = []


def _register() -> None:
    _setup_privateuseone_for_python_backend(NAME, _Module(), _Hooks(), _Guard())
    every = torch.library.Library("_", "IMPL")
    every.fallback(lambda op, *args, **kwargs: run(op, args, kwargs), "PrivateUse1")
    # torch.tensor copies with __torch_dispatch__ shut off.
    copies = torch.library.Library("aten", "IMPL")
    copies.impl(
        "_copy_from", lambda *args: copied(_aten._copy_from.default, args, {}), "PrivateUse1"
    )
    others = torch.library.Library("_", "IMPL")
    others.fallback(torch.library.fallthrough_kernel, "AutocastPrivateUse1")
    for name in _HALVED:
        copies.impl(
            name, functools.partial(_halved, getattr(_aten, name).default), "AutocastPrivateUse1"
        )
    _library.extend((every, copies, others))


_HALVED = ("conv2d", "linear", "matmul", "mm", "addmm", "bmm")
"""What is done in the halved type under autocast."""


def _halved(func: Any, *args: Any, **kwargs: Any) -> Any:
    kind = torch.get_autocast_dtype(NAME)
    autocast = torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastPrivateUse1)
    cast = [x.to(kind) if isinstance(x, Tensor) and x.is_floating_point() else x for x in args]
    with torch._C._ExcludeDispatchKeyGuard(autocast):
        return func(*cast, **kwargs)


_register()
_plain_pin, _plain_attention = Tensor.pin_memory, torch.nn.functional.scaled_dot_product_attention


def switch(on: bool) -> None:
    """Let PyTorch see the device, or not."""
    global _on
    _on = on
    # One thread per device would be started, and PyTorch believes that a Python backend has one.
    torch.autograd.set_multithreading_enabled(not on)
    Tensor.pin_memory = (lambda self, device=None: self.clone()) if on else _plain_pin
    torch.nn.functional.scaled_dot_product_attention = _attention if on else _plain_attention


def _attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Any = None,
    p: float = 0.0,
    causal: bool = False,
    **more: Any,
) -> Tensor:
    """Attention by its formula: PyTorch asks a backend which fused kernel it has, in C++ alone."""
    if not isinstance(q, Simulated):
        return _plain_attention(q, k, v, mask, p, causal, **more)
    made: Tensor = _aten._scaled_dot_product_attention_math.default(
        q, k, v, mask, p, causal, None, **more
    )[0]
    return made


@contextmanager
def switched_on() -> Iterator[Counter[str]]:
    """PyTorch sees the device; yields `counts`, from nought."""
    counts.clear()
    switch(True)
    os.environ[ENVIRONMENT] = "1"
    try:
        yield counts
    finally:
        switch(False)
        os.environ.pop(ENVIRONMENT)
        lacks.clear()
