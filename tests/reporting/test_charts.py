"""The geometry of the page's charts: ticks, paths, places."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from probe.analysis.shorten import shorten, shorten_draws
from probe.reporting.charts.plane import (
    HEIGHT,
    RIGHT,
    TOP,
    band,
    path,
    plane_of,
    spaced,
    whiskers,
)


def test_ticks_by_hand() -> None:
    """20 to 80 % with 3.6 % of room at both ends: less than seven steps of ten, so every tenth."""
    plane = plane_of([0.2, 0.8, float("nan")], "accuracy", factor=100)
    assert (plane.low, plane.high) == (pytest.approx(0.164), pytest.approx(0.836))
    assert [text for _, text in plane.y_ticks] == ["20", "30", "40", "50", "60", "70", "80"]
    wanted = [plane.y(tenth / 10) for tenth in range(2, 9)]
    assert [y for y, _ in plane.y_ticks] == pytest.approx(wanted)
    assert plane.y(plane.high) == pytest.approx(TOP)
    assert plane.y(plane.low) == pytest.approx(plane.bottom) == pytest.approx(HEIGHT - 42)
    assert [text for _, text, _ in plane.x_ticks] == ["0", "0.25", "0.5", "0.75", "1"]


@given(st.floats(-3, 3), st.floats(0, 5), st.sampled_from([1, 100]))
def test_ticks_are_few_round_numbers_within_the_axis(low: float, span: float, factor: int) -> None:
    plane = plane_of([low, low + span], "distance", factor=factor)
    ticks = [float(text) for _, text in plane.y_ticks]
    assert 2 <= len(ticks) <= 8
    assert all(factor * plane.low <= tick <= factor * plane.high for tick in ticks)
    assert "-0" not in [text for _, text in plane.y_ticks]
    step = np.diff(ticks)
    assert step == pytest.approx(np.full(len(step), step[0]), rel=1e-3)
    digits = step[0] / 10 ** np.floor(np.log10(step[0]) + 1e-9)
    assert min(abs(digits - leading) for leading in (1, 2, 5, 10)) < 1e-2


def test_names_that_are_long_or_many_are_shortened_in_the_middle_or_thinned() -> None:
    names = {f"layer-{i:02}-of-many": i for i in range(50)}
    plane = plane_of([0, 1], "accuracy", factor=100, names=names)
    texts = [text for _, text, _ in plane.x_ticks]
    assert texts == ["layer…f-many"] * len(texts)
    for line in (0, 1):  # two lines of text in turn, in which no names touch
        places = [x for x, _, own in plane.x_ticks if own == line]
        assert np.diff(places).min() >= 6 * len("layer…f-many")
    places = [plane.x(name, 0.0) for name in names]
    assert places == sorted(places)
    assert places[-1] < RIGHT


def test_names_that_have_room_stand_in_one_line() -> None:
    plane = plane_of([0, 1], "accuracy", factor=100, names={"conv1": 0, "conv2": 1, "fc": 2})
    assert [(text, line) for _, text, line in plane.x_ticks] == [
        ("conv1", 0), ("conv2", 0), ("fc", 0),
    ]  # fmt: skip


def test_names_shortened_by_hand() -> None:
    assert shorten("conv1", 12) == "conv1"
    assert shorten("blocks.11.mlp.fc2", 12) == "block…lp.fc2"
    assert len(shorten("x" * 50, 22)) == 22


def test_a_name_of_random_weights_keeps_the_end_that_tells_so() -> None:
    assert shorten_draws("net@random, 3 draws", 20) == "net@random, 3 draws"
    assert shorten_draws("squeezenet1_1-caffe@random", 20) == "squeez…-caffe@random"
    assert shorten_draws("squeezenet1_1-caffe@random, 3 draws", 20) == "sque…affe@random, 3x"
    assert shorten_draws("conv1-of-a-network", 12) == shorten("conv1-of-a-network", 12)


@given(st.lists(st.floats(0, 300), max_size=20))
def test_labels_moved_apart_do_not_touch_and_keep_their_order(places: list[float]) -> None:
    moved = spaced(places, 12, 0, 300)
    assert all(-1e-6 <= y <= 300 + 1e-6 for y in moved)
    order = np.argsort(places, kind="stable")
    assert (np.diff(np.array(moved)[order]) >= 12 - 1e-6).all()
    if len(places) == 1:
        assert moved == places


def test_whiskers_by_hand() -> None:
    assert whiskers([(1, 5, 2), (3, 6, 4)]) == "M1.0 5.0V2.0M3.0 6.0V4.0"


def test_paths_by_hand() -> None:
    assert path([(1, 2), (3.04, 4.06)]) == "M1.0 2.0 3.0 4.1"
    assert band([(1, 5, 2), (3, 6, 4)]) == "M1.0 2.0 3.0 4.0 3.0 6.0 1.0 5.0Z"
    assert band([]) == ""
