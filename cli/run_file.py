"""A study as one file: each table is a command, each key its long option, a list is that option repeated.

Only `each` makes a grid. What is about machines (devices, workers) is no part of a study and stands on the
command line of `probe run`.
"""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import prod
from pathlib import Path
from typing import Any

from features.errors import InputError, OptionError, nearest
from features.machine.regular_files import read_regular

ORDER = ("extract", "fit", "finetune", "report")
"""The commands that may stand in a file, in the order in which they run."""
MACHINE = ("device", "workers")
_ABOVE = ("study", "data")
_NOWHERE = ("json", "help", "share", "on")
_MOST = 1_000


@dataclass(frozen=True)
class Step:
    """A command with its options, as a person would type it."""

    command: str
    options: Mapping[str, Any]
    """Values by long option without its dashes: text, numbers, true, or a list of such."""
    where: str
    """The file, table and line that it comes from."""

    @property
    def words(self) -> list[str]:
        """The words after `probe`."""
        typed = [self.command]
        for name, value in self.options.items():
            for each in value if isinstance(value, list) else [value]:
                typed += [f"--{name}"] if each is True else [f"--{name}", str(each)]
        return typed

    @property
    def typed(self) -> str:
        """The command as a shell takes it, after `probe`."""
        return shlex.join(self.words)


@dataclass(frozen=True)
class RunFile:
    """A study's file: its folder, its data, and the commands that make it."""

    study: Path
    data: str | None
    steps: tuple[Step, ...]


def read_run_file(file: Path, known: Mapping[str, Sequence[str]]) -> RunFile:
    """The commands of `file` in the order in which they run.

    Args:
        file: A TOML file.
        known: The long options of every command, without dashes.

    Raises:
        InputError: The file is no TOML, has an unknown table or key, two tables that are alike, or a grid
            of more than a thousand commands.
    """
    text = read_regular(file).decode("utf-8", "replace")
    try:
        tables = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        why = str(error) if isinstance(error, tomllib.TOMLDecodeError) else "nested too deeply"
        if twice := re.match(r"Cannot declare \('(\w+)',\) twice \(at (line \d+)", why):
            raise InputError(f"{file}, {twice[2]}: {_stands_twice(twice[1])}") from error
        raise InputError(f"{file}: not TOML: {why}.") from error
    for name in tables:
        if name not in ("study", "data", *ORDER):
            raise InputError(
                f"{file}, {_line(text, name)}: {name} is no part of a study's file; "
                f"{nearest(name, ('study', 'data', *ORDER))}"
            )
    for name in ("study", "data"):
        if not isinstance(tables.get(name, ""), str):
            raise InputError(f"{file}, {_line(text, name)}: {name} is one text in quotes.")
    steps: list[Step] = []
    for command in ORDER:
        given = tables.get(command, [])
        several = given if isinstance(given, list) else [given]
        for i, table in enumerate(several):
            if not isinstance(table, dict):
                raise InputError(
                    f"{file}, {_line(text, command)}: {command} is a table, [[{command}]]."
                )
            steps += _steps(file, text, command, i, table, known[command])
    if not steps:
        raise InputError(f"{file}: has no table; [[extract]] and [[fit]] begin a study.")
    _refuse_twins(steps)
    for second in [step for step in steps if step.command == "report"][1:]:
        raise InputError(f"{second.where}: {_stands_twice('report')}")
    return RunFile(Path(tables.get("study", "study")), tables.get("data"), tuple(steps))


def without(steps: Sequence[Step], names: Sequence[str]) -> list[Step]:
    """The steps without these backbones, trained or not; a table or comparison of nothing else goes too.

    Raises:
        OptionError: No table has one of them, or nothing would be left.
    """
    known = {str(name) for step in steps for name in several(step, "backbone")}
    for name in names:
        if name not in known:
            raise OptionError(f"--without {name}: no table has it; {nearest(name, known)}")
    gone = {*names, *(_stored(name) for name in names)}
    left: list[Step] = []
    for step in steps:
        options = dict(step.options)
        for key, backbone_of in _NAMES_OF.items():
            kept = [v for v in several(step, key) if not {*backbone_of(str(v))} & gone]
            if key in options and len(kept) < len(several(step, key)):
                options[key] = kept
        if options.get("backbone") != []:
            few = {k: v for k, v in options.items() if v != []}
            left.append(replace(step, options=few))
    if not {step.command for step in left} - {"report"}:
        raise OptionError(f"--without {' --without '.join(names)}: leaves nothing to do.")
    return left


def several(step: Step, name: str) -> list[Any]:
    """The values of an option of the step, none where it is not given."""
    value = step.options.get(name, [])
    return value if isinstance(value, list) else [value]


def _stored(name: str) -> str:
    """What features of `torchvision:NAME`, `hf:ORG/NAME` or `./NAME.toml` are called: NAME."""
    return name.rpartition(":")[2].rpartition("/")[2].removesuffix(".toml")


def _compared(pair: str) -> list[str]:
    return [result.strip().partition("/")[0].partition("@")[0] for result in pair.split(",")]


_NAMES_OF: dict[str, Callable[[str], list[str]]] = {
    "backbone": lambda name: [name],
    "weights": lambda value: [value.partition("=")[0]] if "=" in value else [],
    "compare": _compared,
}
"""The backbones that a value of an option is about."""


def _steps(
    file: Path, text: str, command: str, number: int, table: dict[str, Any], known: Sequence[str]
) -> Iterator[Step]:
    """The commands of one table: one, or one for every choice of `each`."""
    grid = table.pop("each", {})
    title = f"[[{command}]] {number + 1}"
    if not isinstance(grid, dict) or not all(isinstance(v, list) and v for v in grid.values()):
        raise InputError(
            f"{file}, {_line(text, 'each', command, number)}: each is a table of lists, such as "
            "each = { seed = [0, 1, 2] }."
        )
    for key in (*table, *grid):
        where = f"{file}, {_line(text, key, command, number)}"
        if key in MACHINE:
            raise InputError(
                f"{where}: {key} is about the machine, not the study; give --{key} to `probe run`."
            )
        if key == "trust":
            raise InputError(
                f"{where}: whether code may run is a person's answer, not the study's; give --trust to "
                "`probe run`."
            )
        if key in _ABOVE:
            raise InputError(f"{where}: {key} has no place in {title}; it stands above all tables.")
        if key in _NOWHERE:
            raise InputError(f"{where}: {key} has no place in a study's file; leave it out.")
        if key not in known:
            raise InputError(f"{where}: {command} has no option --{key}; {nearest(key, known)}")
    for key in grid.keys() & table.keys():
        raise InputError(f"{file}, {_line(text, key, command, number)}: {key} stands in each too.")
    size = prod(len(values) for values in grid.values())
    if size > _MOST:
        raise InputError(
            f"{file}, {title}, {_line(text, 'each', command, number)}: each makes {size:,} commands, "
            f"more than {_MOST:,}; make it smaller."
        )
    where = f"{file}, {title}, {_line(text, None, command, number)}"
    for values in product(*grid.values()):
        chosen = {**table, **dict(zip(grid, values, strict=True))}
        for key, value in chosen.items():
            if isinstance(value, dict) or any(
                isinstance(each, dict | list) for each in (value if isinstance(value, list) else ())
            ):
                raise InputError(
                    f"{file}, {_line(text, key, command, number)}: {key} is text, a number, true or a "
                    "list of these."
                )
        options = {}
        for key, value in chosen.items():
            if value is not False:
                options[key] = value
            elif f"no-{key}" in known:  # where nothing is said, that may be the choice
                options[f"no-{key}"] = True
        yield Step(command, options, where)


def _stands_twice(name: str) -> str:
    """What is wrong with a second table of this name, and what to do."""
    several = name in ORDER and name != "report"
    return f"[{name}] stands twice; " + (
        f"write [[{name}]] for each of several." if several else "put all its options into one."
    )


def _refuse_twins(steps: Sequence[Step]) -> None:
    first: dict[tuple[str, ...], Step] = {}
    for step in steps:
        same = first.setdefault((step.command, *sorted(map(str, step.options.items()))), step)
        if same is not step:
            raise InputError(f"{step.where}: is the same command as {same.where}; leave one out.")


def _line(text: str, key: str | None, command: str | None = None, number: int = 0) -> str:
    """`line N`, where a key (or its table, without one) stands; empty tables count from their header."""
    seen, inside, start = -1, command is None, 0
    for i, line in enumerate(text.splitlines(), start=1):
        header = re.match(r"\s*\[\[?\s*([\w-]+)", line)
        if header and command is not None:
            seen += header[1] == command
            inside = header[1] == command and seen == number
            start = i if inside else start
            if inside and key is None:
                return f"line {i}"
        elif header and key == header[1]:
            return f"line {i}"
        if inside and key and re.match(rf"""\s*["']?{re.escape(key)}["']?\s*=""", line):
            return f"line {i}"
    return f"line {start or 1}"
