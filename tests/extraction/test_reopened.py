"""A finished file of some rows that becomes a partial one again, to get more."""

import fcntl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from toys import write_images

from features.arrays import Ints
from features.errors import InputError
from features.extraction.extract import extract
from features.extraction.summary import Extraction
from features.store.writer import Writer

TinyCard = Callable[..., Path]


def run(study: Path, card: Path, manifest: Path | None = None, **options: Any) -> Extraction:
    data = None if manifest is None else str(manifest)
    return extract(
        study, str(card), data=data, layers=("fc",), batch_size=4, device="cpu", **options
    )


@pytest.mark.parametrize("compress", [None, "gzip"])
def test_killed_as_it_reopens_a_limited_file_the_rerun_makes_the_same_file(
    tiny_card: TinyCard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compress: str | None
) -> None:
    """The aim was half written: with the old half, rows would be computed in other batches."""
    card, manifest = tiny_card(), write_images(tmp_path / "images", 12, twice={9: 2})
    for name in ("whole", "killed"):
        run(tmp_path / name, card, manifest, limit=6, compress=compress)
    whole = run(tmp_path / "whole", card, limit=10)
    aim = Writer.aim

    def killed(writer: Writer, rows: Ints) -> None:
        aim(writer, np.concatenate([rows[rows < 6], writer.aimed[writer.aimed >= 6]]))
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Writer, "aim", killed)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "killed", card, limit=10)
    again = run(tmp_path / "killed", card, limit=10)
    with h5py.File(whole.file) as one, h5py.File(again.file) as other:
        for name in ("aim", "status", "seal", "layers/fc"):
            np.testing.assert_array_equal(one[name][:], other[name][:], name)


def test_a_file_that_another_process_reads_stays_finished(
    tiny_card: TinyCard, tmp_path: Path
) -> None:
    card, manifest = tiny_card(), write_images(tmp_path / "images", 12)
    done = run(tmp_path / "study", card, manifest, limit=6)
    with done.file.open("rb") as reader:
        fcntl.flock(reader, fcntl.LOCK_SH)
        with pytest.raises(InputError, match="another process is using it"):
            run(tmp_path / "study", card, limit=10)
        assert done.file.is_file()
    assert run(tmp_path / "study", card, limit=10).computed == 4
