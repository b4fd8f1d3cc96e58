"""What a person names to be written: no other file is lost, no device replaced."""

import os
import sys
from pathlib import Path

import pytest

from features.errors import InputError
from features.machine.files import replacing
from features.machine.replaceable import check_replaceable


def test_only_an_empty_file_or_one_of_the_commands_own_is_replaced(tmp_path: Path) -> None:
    file = tmp_path / "file"
    check_replaceable(file, "--out", [b"ours"])
    for content in (b"", b"x" * 5_000_000 + b"this is ours too"):
        file.write_bytes(content)
        check_replaceable(file, "--out", [b"theirs", b"ours"])
    file.write_bytes(b"a photo")
    with pytest.raises(InputError, match=r"--out .*file: is there already .* delete it\."):
        check_replaceable(file, "--out", [b"theirs", b"ours"])


def test_nothing_but_a_file_is_replaced(tmp_path: Path) -> None:
    pipe, nowhere = tmp_path / "pipe", tmp_path / "nowhere"
    os.mkfifo(pipe)
    nowhere.symlink_to(tmp_path / "gone")
    for path in (tmp_path, pipe, Path("/dev/null"), nowhere):
        with pytest.raises(InputError, match=r"name (a|another) file"):
            check_replaceable(path, "--out", [b""])
    with pytest.raises(InputError, match="there is no folder"):
        check_replaceable(nowhere / "file", "--out", [])


@pytest.mark.skipif(not Path("/dev/null").is_char_device(), reason="there are no devices")
def test_a_device_keeps_its_name() -> None:
    with pytest.raises(OSError, match="not a file"), replacing(Path("/dev/null")):
        pass
    assert Path("/dev/null").is_char_device()


@pytest.mark.skipif(sys.platform == "win32", reason="what is open there cannot be renamed")
def test_the_next_writer_removes_what_a_killed_one_left_and_nothing_of_a_running_one(
    tmp_path: Path,
) -> None:
    file, pipe = tmp_path / "a.csv", tmp_path / ".a.csv.ffffffff.csv"
    killed, another = tmp_path / ".a.csv.abcd_678.csv", tmp_path / ".b.csv.abcd_678.csv"
    for left in (killed, another):
        left.write_text("half")
    os.mkfifo(pipe)
    with replacing(file) as first:
        assert not killed.exists()
        with replacing(file) as second:
            second.write_text("second")
            assert first.exists()
        first.write_text("first")
    assert file.read_text() == "first"
    assert set(tmp_path.iterdir()) == {file, another, pipe}
