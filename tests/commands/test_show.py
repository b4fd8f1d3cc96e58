"""What a person sees, in terminals wide and narrow."""

from __future__ import annotations

import sys

import pytest

from cli import show
from probe.counts import count

HEADER = ["backbone", "domain", "state"]
ROWS = [["a-long-backbone-name@random-2", "none", "unfinished: run `probe extract` again"]]


@pytest.mark.parametrize("columns", [20, 40, 60, 80, 200])
def test_a_table_never_cuts_a_name_short(
    columns: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    show.put_table(HEADER, ROWS)
    said = capsys.readouterr().out
    assert ROWS[0][0] in said
    assert "…" not in said
    assert "unfinished:runprobeextractagain" in "".join(said.split()).replace("`", "")


def test_a_table_in_a_pipe_is_tab_separated(capsys: pytest.CaptureFixture[str]) -> None:
    show.put_table(HEADER, ROWS)
    assert capsys.readouterr().out == "\n".join("\t".join(r) for r in (HEADER, *ROWS)) + "\n"


def test_a_count_has_the_plural_of_its_noun() -> None:
    shown = [count(n, "array") for n in (0, 1, 2, 1_200)]
    assert shown == ["0 arrays", "1 array", "2 arrays", "1,200 arrays"]
