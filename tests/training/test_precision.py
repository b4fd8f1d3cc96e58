"""What a network computes in while it trains."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from probe.training.epoch import halves, precision_of


@pytest.mark.parametrize(
    ("precision", "kind"), [("float32", torch.float32), ("bf16", torch.bfloat16)]
)
def test_products_are_of_the_precision_asked_for(precision: str, kind: torch.dtype) -> None:
    job = cast(
        Any, SimpleNamespace(precision=precision, feed=SimpleNamespace(device=torch.device("cpu")))
    )
    linear = torch.nn.Linear(3, 2)
    with precision_of(job):
        assert linear(torch.ones(1, 3)).dtype == kind
    assert linear(torch.ones(1, 3)).dtype == torch.float32
    assert not halves(job)


def test_only_half_precision_scales_its_loss() -> None:
    assert halves(cast(Any, SimpleNamespace(precision="fp16")))
