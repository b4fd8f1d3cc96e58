"""A contact sheet of the pairs of copies that a check found, worst first: leaks, conflicts, the rest."""

from __future__ import annotations

import os
from itertools import combinations
from pathlib import Path

from PIL import Image, ImageDraw
from PIL.PngImagePlugin import PngInfo

from features.errors import InputError
from features.images.decode import Unreadable, read_rgb
from features.machine.files import replacing
from features.machine.replaceable import check_replaceable
from probe.checking.check import Check

_SIDE = 160
_ACROSS = 3
_CAPTION = 34
_MOST = 60
_LETTERS = 50
_MADE_BY = "contact sheet of transfer-probe"


def check_place(file: Path) -> None:
    """Refuse a place where no sheet can be written, before the work that it would show.

    Raises:
        InputError: Its folder is not there or may not be written to, or another file is there already.
    """
    check_replaceable(file, "--sheet", [_MADE_BY.encode()])
    if not os.access(file.parent, os.W_OK):
        raise InputError(
            f"--sheet {file}: the folder {file.parent} may not be written to; name another."
        )


def write_sheet(check: Check, file: Path) -> int:
    """Draw up to sixty pairs of copies side by side, with their paths; returns how many pairs.

    Pairs in two folds come first, then those with conflicting labels, then all others by likeness.
    Nothing is written where there is no pair.
    """
    pairs = worst(check)[:_MOST]
    if not pairs:
        return 0
    wide, high = 2 * _SIDE + 12, _SIDE + _CAPTION
    lines = -(-len(pairs) // _ACROSS)
    sheet = Image.new("RGB", (_ACROSS * wide, lines * high), "white")
    draw = ImageDraw.Draw(sheet)
    for number, (a, b, caption) in enumerate(pairs):
        x, y = number % _ACROSS * wide, number // _ACROSS * high
        for i, row in enumerate((a, b)):
            sheet.paste(_small(check.study.root / check.study.paths[row]), (x + i * _SIDE, y))
        names = [check.study.paths[row] for row in (a, b)]
        for i, text in enumerate((*names, caption)):
            draw.text((x + 2, y + _SIDE + 11 * i), _plain(text), fill="black", font_size=9)
    about = PngInfo()
    about.add_text("Software", _MADE_BY)
    with replacing(file) as making:
        sheet.save(making, "png", pnginfo=about)
    return len(pairs)


def worst(check: Check) -> list[tuple[int, int, str]]:
    """Pairs of rows that are copies, with what is wrong with each pair in words, the worst first."""
    alike = {(a, b): value for a, b, value in check.copies.near}
    across = {row: group for group in check.copies_across for row in group}
    conflicts = {
        (c.rows, c.task): dict(zip(c.rows, c.labels, strict=True)) for c in check.conflicts
    }
    ranked = []
    for group in check.copies.groups:
        for a, b in list(combinations(group, 2))[:_MOST]:
            if check.study.paths[a] == check.study.paths[b]:
                continue
            same = alike.get((a, b), alike.get((b, a)))
            likeness = "same bytes" if same is None else f"alike {same:.3f}"
            unlike = [
                f"{task} {of[a]!r} and {of[b]!r}"
                for (rows, task), of in conflicts.items()
                if a in rows and b in rows and of[a] != of[b]
            ]
            leak = a in across and b in across[a]
            words = [*(["in two folds"] if leak else []), *unlike, likeness]
            rank = (not leak, not unlike, -(1.0 if same is None else same))
            ranked.append((rank, (a, b, ", ".join(words))))
    return [pair for _, pair in sorted(ranked, key=lambda entry: entry[0])]


def _small(file: Path) -> Image.Image:
    try:
        image = read_rgb(file)
    except Unreadable:
        return Image.new("RGB", (_SIDE, _SIDE), "grey")
    image.thumbnail((_SIDE, _SIDE))
    return image


def _plain(text: str) -> str:
    short = text if len(text) <= _LETTERS else f"...{text[3 - _LETTERS :]}"
    return short.encode("ascii", "replace").decode()
