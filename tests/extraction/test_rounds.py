"""What a run decides from what its files hold, and how often it opens them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from toys import write_images

from features.backbone import load
from features.data import read_data
from features.errors import InputError
from features.extraction import pool as pooling
from features.extraction.extract import extract
from features.extraction.pipeline import ExtractJob
from features.extraction.provenance import file_attributes
from features.extraction.rounds import FeatureTarget, next_round
from features.store.contents import FileContents
from features.store.featurefile import DONE, PENDING, UNREADABLE
from features.study.drafting import draft

TinyCard = Callable[..., Path]


@pytest.fixture
def target(tmp_path: Path, tiny_card: TinyCard) -> FeatureTarget:
    """The layers `conv` (auto and avg) and `fc` of ten images, in batches of four; nothing on disk."""
    data = write_images(tmp_path / "images", 10, twice={9: 2})
    study = draft(tmp_path / "study", read_data(str(data)))
    card = str(tiny_card())
    cpu = torch.device("cpu")
    job = ExtractJob(study, load(card), "float32", 4, 1, cpu, strict=False)
    wanted = pooling.plan(job.backbone.layers(("conv", "fc")), ("auto", "avg"))
    return FeatureTarget(job, wanted, np.arange(10), None, (card, None, 0))


def holding(target: FeatureTarget, status: list[int], keys: tuple[str, ...]) -> FileContents:
    poolings = {p.key: (p.layer.name, p.pool, p.view) for p in target.wanted if p.key in keys}
    aim = np.arange(len(status))
    attributes = file_attributes(target.job)
    return FileContents(attributes, poolings, np.array(status, np.uint8), aim, {}, "none")


ALL = ("conv", "conv:avg", "fc")
WHOLE = [DONE] * 9 + [UNREADABLE]


def test_what_a_file_needs_next(target: FeatureTarget) -> None:
    begun = next_round(target, None, None)
    assert begun is not None
    assert (begun.begins, [p.key for p in begun.wanted]) == ("new", list(ALL))
    # Row 9 lists the image of row 2 again, and so is in no batch of its own.
    assert [block.tolist() for block in begun.todo] == [[0, 1, 2, 3], [4, 5, 6, 7], [8]]
    assert begun.bytes == 10 * 4 * (256 + 4 + 5)

    assert next_round(target, holding(target, WHOLE, ALL), None) is None

    lacking = next_round(target, holding(target, [DONE] * 6 + [PENDING] * 4, ("conv",)), None)
    assert lacking is not None
    assert (lacking.begins, [p.key for p in lacking.wanted]) == ("new", ["conv:avg", "fc"])
    assert lacking.aim.tolist() == [0, 1, 2, 3, 4, 5]  # the rows that the file has

    fewer = replace(target, rows=np.arange(8))
    rows = next_round(fewer, holding(target, [DONE] * 6 + [PENDING] * 4, ALL), None)
    assert rows is not None
    assert (rows.begins, rows.aim.tolist(), rows.bytes) == ("reopened", [6, 7], 0)
    assert [block.tolist() for block in rows.todo] == [[6, 7]]


def test_a_file_in_the_making_comes_first(target: FeatureTarget) -> None:
    """With its own layers; a batch that is not wholly done is computed again as a whole."""
    status = [DONE] * 4 + [DONE, PENDING, DONE, DONE] + [PENDING, PENDING]
    partial = holding(target, status, ("fc",))
    for finished in (None, holding(target, WHOLE, ("conv",))):
        resumed = next_round(target, finished, partial)
        assert resumed is not None
        assert (resumed.begins, [p.key for p in resumed.wanted]) == ("resumed", ["fc"])
        assert [block.tolist() for block in resumed.todo] == [[4, 5, 6, 7], [8]]


def test_compression_is_what_was_asked_or_what_the_file_is(target: FeatureTarget) -> None:
    held = holding(target, [DONE] * 9 + [PENDING], ALL)
    packed = replace(held, compression="lzf")
    asked = replace(target, compress="gzip")
    for each, finished, wanted in (
        (target, held, "none"), (target, packed, "lzf"), (asked, packed, "gzip"), (asked, None, "gzip")
    ):  # fmt: skip
        round_ = next_round(each, finished, None)
        assert round_ is not None
        assert round_.compress == wanted


def test_other_settings_are_refused(target: FeatureTarget) -> None:
    other = replace(target, job=replace(target.job, dtype="float16"))
    held = holding(target, WHOLE, ALL)
    for finished, partial in ((held, None), (None, held)):
        with pytest.raises(
            InputError, match=r"tiny\.h5.*: made with another dtype; `probe remove tiny`"
        ):
            next_round(other, finished, partial)
    whole = replace(target, wanted=pooling.plan(target.job.backbone.layers(("conv",)), ("none",)))
    with pytest.raises(
        InputError, match="has layer conv with --pool auto; `probe remove tiny` first"
    ):
        next_round(whole, held, None)


def test_each_file_is_opened_once(
    tiny_card: TinyCard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A finished file to read it; one in the making to make it, to fill it and to seal it."""
    opened: Counter[str] = Counter()

    class Counted(h5py.File):
        def __init__(self, name: Any, *rest: Any, **options: Any) -> None:
            if isinstance(name, str | Path):  # else a file that is in memory only
                opened[Path(name).name] += 1
            super().__init__(name, *rest, **options)

    monkeypatch.setattr(h5py, "File", Counted)
    data, card = write_images(tmp_path / "images", 11), tiny_card()

    def opens(**options: Any) -> dict[str, int]:
        opened.clear()
        extract(tmp_path / "study", str(card), batch_size=4, lanes=1, device="cpu", **options)
        return dict(opened)

    making = {"tiny.h5.partial.new": 1, "tiny.h5.partial": 2}
    first = opens(data=str(data), layers=("conv",), limit=6)
    assert first == {**making, "tiny.h5": 1}
    assert opens(layers=("conv",)) == {
        "tiny.h5": 3,  # before, for the aim, and after
        "tiny.h5.partial": 3,  # for what is computed again, to fill it and to seal it
    }
    assert opens(layers=("conv",)) == {"tiny.h5": 1}
    assert opens(weights="random", layers=("conv",))["tiny.h5"] == 1  # does it hold the same rows?
