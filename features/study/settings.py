"""Changing study.toml, which people edit too: their comments, order and spacing stay."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from typing import Any


def updated(text: str, settings: Mapping[str, Any]) -> str:
    """The TOML `text` with the values of `settings`, whose mappings are tables; the rest is unchanged."""
    import tomlkit

    document = tomlkit.parse(text)
    _update(document, settings)
    return tomlkit.dumps(document)


def _update(table: MutableMapping[str, Any], settings: Mapping[str, Any]) -> None:
    from tomlkit import table as new_table

    for key, value in settings.items():
        if isinstance(value, Mapping):
            if key not in table:
                table[key] = new_table(
                    is_super_table=any(isinstance(v, Mapping) for v in value.values())
                )
            _update(table[key], value)
            continue
        before = table.get(key)
        if isinstance(value, list) and before and list(before) == value[: len(before)]:
            before.extend(value[len(before) :])  # so that comments between the items stay
        elif before != value:
            table[key] = value
