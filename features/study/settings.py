"""study.toml, which people edit too: what it says is checked; their comments, order and spacing stay."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from features.data.tasks import Task
from features.errors import InputError


@dataclass(frozen=True)
class Settings:
    """What study.toml says."""

    source: str
    """What `--data` named."""
    root: str
    """The folder that paths in images.csv start from."""
    tasks: tuple[Task, ...]
    closest: str | None = None
    synthetic: bool = False
    max_pixels: int | None = None


def read_settings(text: str, file: Path) -> Settings:
    """What the TOML `text` of study.toml says.

    Raises:
        InputError: It is no TOML, or something is missing or of another kind; `file` is named.
    """
    try:
        raw = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        why = str(error) if isinstance(error, tomllib.TOMLDecodeError) else "nested too deeply"
        raise InputError(f"{file}: not a TOML file, {why}; correct that line.") from error
    data = raw.get("data")
    if not isinstance(data, dict):
        raise InputError(f"{file}: the table [data] is missing; restore it.")
    for name in ("source", "root"):
        if not isinstance(data.get(name), str) or "\0" in data[name]:
            _refuse(file, f"data.{name}", data.get(name), "a text in quotes")
    closest, synthetic = raw.get("closest"), data.get("synthetic", False)
    if closest is not None and not isinstance(closest, str):
        _refuse(file, "closest", closest, "the name of a domain in quotes")
    if not isinstance(synthetic, bool):
        _refuse(file, "data.synthetic", synthetic, "true or false")
    most = data.get("max_pixels")
    if most is not None and (not isinstance(most, int) or isinstance(most, bool) or most < 1):
        _refuse(file, "data.max_pixels", most, "a whole number of pixels, 1 or more")
    tasks = raw.get("tasks", {})
    if not isinstance(tasks, dict):
        _refuse(file, "tasks", tasks, "a table for each task")
    known = tuple(_task(file, name, about) for name, about in tasks.items())
    return Settings(data["source"], data["root"], known, closest, synthetic, most)


def _task(file: Path, name: str, about: Any) -> Task:
    if not isinstance(about, dict):
        _refuse(file, f"tasks.{name}", about, "a table with classes")
    kind, when_named = about.get("kind", "classes"), about.get("when_named", False)
    if "columns" in about and "kind" not in about:
        kind = "labels"
    if kind not in ("classes", "number", "labels"):
        _refuse(file, f"tasks.{name}.kind", kind, '"classes", "number" or "labels"')
    if not isinstance(when_named, bool):
        _refuse(file, f"tasks.{name}.when_named", when_named, "true or false, without quotes")
    if kind == "number":
        unit = about.get("unit", "")
        if not isinstance(unit, str):
            _refuse(file, f"tasks.{name}.unit", unit, "a text in quotes")
        return Task(name, (), kind="number", unit=unit, when_named=when_named)
    columns = about.get("columns", [])
    if not isinstance(columns, list) or not all(isinstance(c, str) for c in columns):
        _refuse(file, f"tasks.{name}.columns", columns, "a list of texts in quotes")
    if columns and kind != "labels":
        _refuse(file, f"tasks.{name}.kind", kind, '"labels" where it has columns')
    if columns and name in columns:
        _refuse(file, f"tasks.{name}.columns", columns, "columns of other names than the task")
    classes, ordered = columns or about.get("classes"), about.get("ordered", False)
    if not isinstance(classes, list) or not all(isinstance(c, str) for c in classes):
        _refuse(file, f"tasks.{name}.classes", classes, "a list of texts in quotes")
    if len(classes) < 2:
        _refuse(file, f"tasks.{name}.classes", classes, "two classes or more")
    twice = next((c for c in classes if classes.count(c) > 1), None)
    if twice is not None:
        raise InputError(f"{file}: tasks.{name}.classes has {twice!r} twice; name each class once.")
    if not isinstance(ordered, bool):
        _refuse(file, f"tasks.{name}.ordered", ordered, "true or false, without quotes")
    if kind == "labels":
        return Task(
            name, tuple(classes), kind="labels", when_named=when_named, columns=tuple(columns)
        )
    return Task(name, tuple(classes), ordered, when_named=when_named)


def _refuse(file: Path, name: str, value: object, wanted: str) -> NoReturn:
    if value is None:
        raise InputError(f"{file}: {name} is missing; it is {wanted}, restore it.")
    shown = repr(value) if len(repr(value)) < 60 else f"{repr(value)[:60]}..."
    raise InputError(f"{file}: {name} is {shown}, and should be {wanted}; correct it.")


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
