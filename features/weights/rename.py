"""Renaming: the names that a card gives to the tensors of a file with other names than the network."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from features.errors import InputError
from features.machine.time_limit import time_limit

_LONGEST = 10.0  # seconds: thousands of names and tens of patterns take less than one


def renamed(sources: Sequence[str], rules: Mapping[str, str], file: Path) -> dict[str, str]:
    r"""The file's own name by the new name; a name that no rule matches stays as it is.

    A rule's pattern is a regular expression for the whole name of a layer (`conv2d_(\d+)`), or of a
    tensor, after any prefix that ends in a dot; its name may use `\1`. The first rule that matches counts.

    Raises:
        InputError: A rule matches no name, two names become equal, or a pattern takes for ever.
    """
    try:
        with time_limit(_LONGEST):
            return _renamed(sources, rules, file)
    except TimeoutError as error:
        raise InputError(
            f"{file}: rename has a pattern that takes for ever with its layers, such as (a+)+ does; write "
            "it without a repetition inside a repetition."
        ) from error


def _renamed(sources: Sequence[str], rules: Mapping[str, str], file: Path) -> dict[str, str]:
    compiled = {re.compile(pattern): name for pattern, name in rules.items()}
    used: set[str] = set()
    by_new_name: dict[str, str] = {}
    for source in sources:
        new = source
        for pattern, name in compiled.items():
            changed = _changed(source, pattern, name)
            if changed is not None:
                new = changed
                used.add(pattern.pattern)
                break
        if new in by_new_name:
            raise InputError(
                f"{file}: rename makes {new} of both {by_new_name[new]} and {source}; correct it in the "
                "card."
            )
        by_new_name[new] = source
    idle = [pattern for pattern in rules if pattern not in used]
    if idle:
        raise InputError(
            f"{file}: rename has {idle[0]!r}, which matches none of its layers ("
            f"{', '.join(dict.fromkeys(source.rpartition('.')[0] for source in sources[:6]))}, ...); "
            "correct it in the card."
        )
    return by_new_name


def _changed(source: str, pattern: re.Pattern[str], name: str) -> str | None:
    start = 0
    while True:
        layer, dot, part = source[start:].rpartition(".")
        for text, rest in ((layer, dot + part), (source[start:], "")):
            match = pattern.fullmatch(text) if text else None
            if match is not None:
                return source[:start] + match.expand(name) + rest
        following = source.find(".", start)
        if following < 0:
            return None
        start = following + 1
