"""JSON in which every number is finite: NaN and infinity are not in the standard."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any


def finite(value: object) -> object:
    """`value` as dictionaries, lists, numbers and text, with None for NaN and the infinities."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: finite(getattr(value, field.name)) for field in fields(value)}
    return str(value) if isinstance(value, Path) else value


def to_json(value: object, separators: tuple[str, str] | None = None) -> str:
    """`finite(value)` as JSON."""
    return json.dumps(finite(value), ensure_ascii=False, allow_nan=False, separators=separators)


def from_json(text: str | bytes) -> Any:
    """What JSON that others wrote says.

    Raises:
        ValueError: It is none, or nested too deeply to be read.
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
