from collections.abc import Callable
from pathlib import Path

import pytest
from brighthalves import write_data


@pytest.fixture
def data(tmp_path: Path) -> str:
    """The manifest of the small images."""
    return str(write_data(tmp_path / "data"))


@pytest.fixture
def card(tiny_card: Callable[..., Path]) -> str:
    """The card of a small network that takes them."""
    return str(
        tiny_card("[8, 8]", "[8, 8]\nmean = [127.0, 127.0, 127.0]\nstd = [64.0, 64.0, 64.0]")
    )
