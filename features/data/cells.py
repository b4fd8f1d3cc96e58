"""The cells of a CSV file: a spreadsheet must not take a text for a formula.

A text that begins with `=`, `+`, `-` or `@` and is no number is written with an apostrophe before it, which
spreadsheets take as the sign of a text; it is read back as it was.
"""

from __future__ import annotations

import re

_FORMULA = re.compile(r"'*[=+\-@\t\r]")
_QUOTED = re.compile(r"'+[=+\-@\t\r]")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")

_NO = ("0", "false", "no", "n", "f", "off")
_YES = ("1", "true", "yes", "y", "t", "on")


def yes_or_no(cell: str) -> bool | None:
    """What a cell says; None where it says neither yes nor no."""
    word = cell.strip().casefold()
    try:
        return {0.0: False, 1.0: True}.get(float(word))
    except ValueError:
        return False if word in _NO else True if word in _YES else None


def quoted(text: str) -> str:
    """The text as a cell that no spreadsheet takes for a formula."""
    formula = _FORMULA.match(text) and not _NUMBER.fullmatch(text)
    return f"'{text}" if formula else text


def unquoted(cell: str) -> str:
    """The text of a cell that `quoted` wrote."""
    return cell[1:] if cell.startswith("'") and _QUOTED.match(cell) else cell
