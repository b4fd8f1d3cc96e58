from __future__ import annotations

from pathlib import Path

import pytest

from features.cards.trust import trust
from features.data.image_cache import written_out
from features.data.sample import read_sample
from features.errors import InputError
from features.weights.converted import locked_folder


@pytest.mark.parametrize("place", ["file", "file/below", "dangling", "/proc/nowhere"])
def test_a_cache_folder_that_cannot_be_made_is_told_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    if place.startswith("/proc") and not Path("/proc/self").exists():
        pytest.skip("there is no /proc here")
    (tmp_path / "file").touch()
    (tmp_path / "dangling").symlink_to(tmp_path / "file" / "nowhere")
    monkeypatch.setenv("PROBE_HOME", str(tmp_path / place))
    for use in (
        read_sample,
        lambda: written_out("0", []),
        lambda: locked_folder("net").__enter__(),
        lambda: trust(b"code"),
    ):
        with pytest.raises(InputError, match=r"cache folder .* set PROBE_HOME"):
            use()
