"""Candidates for copies: searched among cells they are those of comparing all with all, to the copy."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from features.machine import device
from probe.checking import candidates, find_copies, screening
from probe.checking.candidates import in_cells, most_similar


def unit(x: np.ndarray) -> np.ndarray:
    x = x.astype(np.float32)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def drawn(n: int, seed: int) -> np.ndarray:
    """Grey pictures `(n, 64, 64)` with the spectrum of photographs."""
    rng = np.random.default_rng(seed)
    f = np.fft.fftfreq(64)
    power = 1 / np.maximum(np.hypot(f[:, None], f), 1 / 64) ** 1.5
    x = np.fft.ifft2(np.fft.fft2(rng.normal(size=(n, 64, 64))) * power).real
    x /= x.std((1, 2), keepdims=True)
    return np.clip(128 + 45 * x, 0, 255).astype(np.uint8)


def by_hand(base: np.ndarray, queries: np.ndarray, k: int, least: float) -> list[list[int]]:
    """Every query against every row, spelled out."""
    pairs = []
    for number, query in enumerate(queries):
        values = [(float(row @ query), i) for i, row in enumerate(base)]
        pairs += [[number, i] for value, i in sorted(values)[-k:] if value > least]
    return sorted(pairs)


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 60), st.integers(1, 12), st.floats(-0.2, 0.8), st.integers(0, 99))
def test_where_every_cell_is_probed_nothing_differs(
    n: int, k: int, least: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    base, queries = unit(rng.normal(size=(n, 8))), unit(rng.normal(size=(17, 8)))
    wanted = by_hand(base, queries, k, least)
    assert sorted(most_similar(base, queries, k, least).tolist()) == wanted
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(candidates, "_ALL_PAIRS", 0)
        cells = in_cells(base)
    assert isinstance(cells, candidates.Cells)
    assert len(cells.ends) == 4 * int(n**0.5) or n < 16
    assert sorted(most_similar(cells, queries, k, least).tolist()) == wanted


@pytest.mark.parametrize("seed", range(3))
def test_among_cells_the_same_copies_are_found(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Versions of pictures: fainter, noisy, cropped by up to a tenth at each side, mirrored, turned."""
    rng = np.random.default_rng(seed)
    grey = drawn(1500, seed)
    originals = torch.from_numpy(grey[:60].astype(np.float32))[:, None]
    sides = rng.integers(0, 7, size=(60, 4))
    cropped = [
        torch.nn.functional.interpolate(
            picture[None, :, a : 64 - b, c : 64 - d], (64, 64), mode="bilinear", antialias=True
        )[0, 0].numpy()
        for picture, (a, b, c, d) in zip(originals, sides, strict=True)
    ]
    versions = np.stack(cropped) * rng.uniform(0.6, 1, (60, 1, 1)) + rng.normal(0, 3, (60, 64, 64))
    versions = np.clip(versions, 0, 255).astype(np.uint8)
    versions[20:30] = versions[20:30, :, ::-1]
    versions[30:40] = versions[30:40].swapaxes(1, 2)[:, ::-1]
    both = np.concatenate([grey, versions])
    wanted = find_copies._near(both, np.arange(len(both)))
    planted = {(i, 1500 + i) for i in range(60)}
    assert len(planted & {(a, b) for a, b, _ in wanted}) > 50
    monkeypatch.setattr(candidates, "_ALL_PAIRS", 0)
    monkeypatch.setattr(candidates, "_PROBED", 20)  # of 156, hardly more than 64 of 1,264
    found = find_copies._near(both, np.arange(len(both)))
    assert [(a, b) for a, b, _ in found] == [(a, b) for a, b, _ in wanted]
    np.testing.assert_allclose([v for *_, v in found], [v for *_, v in wanted], atol=1e-5)


def test_cells_hold_every_row_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(candidates, "_ALL_PAIRS", 0)
    base = unit(np.random.default_rng(0).normal(size=(500, 6)))
    base[100:] = base[0]  # cells that stay empty
    cells = in_cells(base)
    assert isinstance(cells, candidates.Cells)
    assert sorted(cells.row.tolist()) == list(range(500))
    assert cells.ends[-1] == 500
    np.testing.assert_array_equal(cells.base.numpy(), base[cells.row.numpy()])


def test_in_fewer_numbers_the_nearest_are_still_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of 256 numbers, of which eight are searched: what they confuse, all numbers set right."""
    monkeypatch.setattr(candidates, "_ALL_PAIRS", 0)
    monkeypatch.setattr(candidates, "_NUMBERS", 8)
    monkeypatch.setattr(candidates, "_SHORTLISTED", 8)
    rng = np.random.default_rng(0)
    mix = rng.normal(size=(256, 256)) * 0.8 ** np.arange(256)[:, None]
    base = unit(rng.normal(size=(600, 256)) @ mix)
    queries = unit(base[:100] + rng.normal(size=(100, 256)) * 0.002)
    wanted = by_hand(base, queries, 3, 0.5)
    found = most_similar(in_cells(base), queries, 3, 0.5).tolist()
    assert len(found) == len(wanted)
    assert sum(pair in wanted for pair in found) >= 0.98 * len(wanted)
    assert [[i, i] for i in range(100)] == [found[i] for i in range(0, 300, 3)]


def test_of_rows_that_are_all_alike_each_query_takes_a_few(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Frames of a film: what is held while they are searched does not grow with their square."""
    monkeypatch.setattr(candidates, "_ALL_PAIRS", 0)
    rng = np.random.default_rng(0)
    base = unit(1 + 1e-4 * rng.normal(size=(800, 16)))
    held: list[int] = []
    best = candidates._best

    def noted(pairs: torch.Tensor, *more: object) -> object:
        held.append(len(pairs))
        return best(pairs, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(candidates, "_best", noted)
    found = most_similar(in_cells(base), base, 3, 0.4)
    assert np.bincount(found[:, 0]).tolist() == [3] * 800
    assert max(held) <= 800 * 3 * candidates._PROBED


def test_the_number_of_cores_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pairs and likenesses to the bit, of more images than a block holds."""
    monkeypatch.setattr(candidates, "_ALL_PAIRS", 0)
    monkeypatch.setattr(candidates, "_QUERIES", 500)
    monkeypatch.setattr(screening, "_PAIRS", 1000)
    grey = drawn(1500, 8)
    noise = np.random.default_rng(9).normal(0, 3, (300, 64, 64))
    both = np.concatenate([grey, np.clip(grey[:300] + noise, 0, 255).astype(np.uint8)])
    found = []
    for cores in (1, 2, 5):
        monkeypatch.setattr(device, "cores", lambda cores=cores: cores)
        with device.threads(cores):
            found.append(find_copies._near(both, np.arange(len(both))))
    assert len(found[0]) >= 300
    assert found[0] == found[1] == found[2]
