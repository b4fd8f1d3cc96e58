"""Published numbers, and which results of a study stand beside them: the TOML files of references/.

numbers = "adience"              # optional: the file whose systems the rows name
note = "..."                     # optional: what a reader of the table should know

[[system]]                       # what others published; per cent, an unknown number is left out
name = "GilNet, one crop"
year = 2015
accuracy = { age = 49.5, gender = 85.9 }   # by task; one_off likewise
source = "where the numbers were read"

[measures]                       # the metrics that are set beside each other, by task
age = ["accuracy", "one_off"]

[[row]]                          # a result of the study, as `probe compare` names it
name = "GilNet from scratch"
result = "gilnet/-/scratch+gilnet"
system = "GilNet, one crop"      # left out where nothing is known

[[finding]]                      # what was published in words, and the differences that would show it
says = "the transferred network is ahead of GilNet"
published = "7 points on age"
pairs = ["vggface/-/finetune against gilnet/-/scratch+gilnet"]
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from features.cards.toml_file import TomlFile
from features.errors import InputError, OptionError, nearest
from features.machine.regular_files import read_regular

REFERENCES = Path(__file__).parent / "references"
METRICS = ("accuracy", "one_off")
_AGAINST = " against "


@dataclass(frozen=True)
class System:
    """A published system with its accuracies in per cent, by task; those that are not known are absent."""

    name: str
    year: int
    source: str
    """Where the numbers were read, which may quote another place."""
    accuracy: Mapping[str, float] = field(default_factory=dict)
    one_off: Mapping[str, float] = field(default_factory=dict)

    def published(self, task: str, metric: str) -> float | None:
        """A number as a fraction; None where it is not known."""
        value = getattr(self, metric).get(task)
        return None if value is None else value / 100


@dataclass(frozen=True)
class ReferenceRow:
    """A result of the study, and the system whose numbers stand beside it."""

    name: str
    result: str
    """BACKBONE/LAYER/METHOD."""
    system: str = ""
    """Empty where nothing is known."""


@dataclass(frozen=True)
class Finding:
    """What was published in words, and the pairs of results whose differences would show it."""

    says: str
    published: str
    pairs: tuple[str, ...]

    @property
    def compared(self) -> list[tuple[str, str]]:
        """The two results of every pair; the first is said to be ahead."""
        return [(a.strip(), b.strip()) for a, _, b in (p.partition(_AGAINST) for p in self.pairs)]


@dataclass(frozen=True)
class Reference:
    """A file of published numbers."""

    numbers: str = ""
    note: str = ""
    measures: Mapping[str, Any] = field(default_factory=dict)
    system: tuple[System, ...] = ()
    row: tuple[ReferenceRow, ...] = ()
    finding: tuple[Finding, ...] = ()

    def named(self, system: str) -> System | None:
        """The system of this name; None for the empty name."""
        return next((known for known in self.system if known.name == system), None)


def reference(name: str) -> Reference:
    """The file called `name` in the package, or the TOML file of that path, with its systems.

    Raises:
        OptionError: There is no such file.
        InputError: It is no TOML, or a key is unknown, missing or of the wrong kind.
    """
    shipped = sorted(path.stem for path in REFERENCES.glob("*.toml"))
    path = REFERENCES / f"{name}.toml" if name in shipped else Path(name)
    if not path.is_file():
        raise OptionError(f"--published {name}: there is no such file; {nearest(name, shipped)}")
    made = _read(path)
    if made.numbers:
        made = replace(made, system=(*made.system, *reference(made.numbers).system))
    known = [system.name for system in made.system]
    for row in made.row:
        if row.system and row.system not in known:
            raise InputError(f"{path}: no system {row.system}; {nearest(row.system, known)}")
        _check_result(path, row.result)
    for finding in made.finding:
        for pair in finding.compared:
            for result in pair:
                _check_result(path, result)
    return made


def _check_result(path: Path, result: str) -> None:
    if result.count("/") < 2:
        raise InputError(
            f"{path}: {result or 'an empty text'} is no result; write BACKBONE/LAYER/METHOD, and two of "
            f"them with the word{_AGAINST.rstrip()} between in a pair."
        )


def _read(path: Path) -> Reference:
    text = read_regular(path).decode("utf-8", "replace")
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{path}: not TOML: {error}.") from error
    toml = TomlFile(path, text)
    lists = {"system": System, "row": ReferenceRow, "finding": Finding}
    values = toml.check(raw, Reference, "", nested=(*lists, "measures"))
    for key, kind in lists.items():
        tables = raw.get(key, [])
        if not isinstance(tables, list):
            toml.refuse(key, f"{key} are [[{key}]] tables, with two brackets.")
        values[key] = tuple(kind(**toml.check(table, kind, f"[[{key}]] ")) for table in tables)
    measures = raw.get("measures", {})
    for task, metrics in measures.items() if isinstance(measures, dict) else [("measures", None)]:
        if not isinstance(metrics, list) or not metrics or not set(metrics) <= set(METRICS):
            toml.refuse(task, f"[measures] {task} is a list of {' and '.join(METRICS)}.")
    for system in values["system"]:
        for metric in METRICS:
            for task, value in getattr(system, metric).items():
                if type(value) not in (int, float) or not 0 <= value <= 100:
                    toml.refuse(task, f"{system.name}: {task} = {value!r} is no per cent.")
    return Reference(**values, measures=measures)
