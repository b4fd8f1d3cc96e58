"""The device of these tests: a simulated one, or the card that PROBE_TEST_DEVICE names (`cuda`)."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from features.machine.device import resolve
from features.store.featurefile import FeatureFile

WORD = os.environ.get("PROBE_TEST_DEVICE", "simulated")
if WORD == "simulated":
    import simulated_device


@pytest.fixture(params=[WORD])
def device(request: pytest.FixtureRequest) -> Iterator[str]:
    """The name of the device."""
    if request.param != "simulated":
        yield request.param
        return
    with simulated_device.switched_on():
        yield request.param


@pytest.fixture
def simulated(device: str) -> Any:
    """The module of the simulated device, switched on; skipped on a card."""
    if device != "simulated":
        pytest.skip("of the simulated device alone")
    return simulated_device


@pytest.fixture
def two_devices(device: str) -> str:
    """The name of two devices."""
    import torch

    if torch.get_device_module(resolve(device)).device_count() < 2:
        pytest.skip("there is one device")
    return f"{device}:0,1"


@pytest.fixture
def near(device: str) -> Callable[..., None]:
    """`near(made, wanted, share)`: within that share of the largest; on the simulated device the same."""

    def check(made: Any, wanted: Any, share: float) -> None:
        made, wanted = np.asarray(made), np.asarray(wanted)
        if device == "simulated":
            np.testing.assert_array_equal(made, wanted)
        else:
            np.testing.assert_allclose(made, wanted, rtol=0, atol=share * np.nanmax(np.abs(wanted)))

    return check


def features_in(study: Path) -> dict[str, Any]:
    """Every array of the study's only feature file, by its name."""
    (path,) = (study / "features").glob("*.h5")
    with FeatureFile(path) as file:
        return {name: file.read(name) for name in file.stored}
