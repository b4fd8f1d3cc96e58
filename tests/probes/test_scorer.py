"""Training sets side by side."""

from __future__ import annotations

import torch

from features.machine.device import threads
from probe.probes.scorer import side_by_side


def test_a_product_beside_others_rounds_as_on_one_thread() -> None:
    """Also the first one of a new thread, in which MKL would take all cores; this one then differs."""
    draw = torch.Generator().manual_seed(0)
    a, b = torch.randn(7, 64, generator=draw), torch.randn(31, 64, generator=draw).T
    with threads(1):
        alone = a @ b
    assert all(
        torch.equal(made[0], alone)
        for made in side_by_side(lambda _: [a @ b], [None] * 4)  # type: ignore[arg-type, list-item]
    )
