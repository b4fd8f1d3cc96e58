"""What the columns of a table are for: paths, subjects, folds, splits, use, and labels with their gaps."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from shlex import quote

from features.data.cells import yes_or_no
from features.data.tasks import RESERVED
from features.errors import InputError, in_words

_LIKELY = {
    "subject": (
        "subject_id", "subjectid", "subject_name", "patient", "patient_id", "patientid", "person",
        "person_id", "participant", "participant_id", "user_id", "identity", "identity_id", "case_id",
    ),
    "fold": ("fold_id", "kfold", "cv_fold"),
    "split": ("set", "partition", "subset", "data_split"),
}  # fmt: skip
"""Names of columns that are likely to be something else than labels."""
_MISSING = ("nan", "na", "n/a", "#n/a", "none", "null", "nil", "?", "-", "-1", "unknown", "missing")
_NO_GROUP = ("nan", "na", "n/a", "#n/a", "none", "null", "nil", "?")
_MOST = 100
"""Values of a column; of more it is not said which are like one another."""
_NAMED = 4

Columns = dict[str, list[str]]


def with_roles(
    file: Path, columns: Columns, asked: str | None, standing: Collection[str] | None = None
) -> tuple[Columns, list[str]]:
    """The columns under their reserved names, and in sentences which were taken for which.

    Args:
        file: The table, for messages.
        columns: By their names in the table.
        asked: `patient_id=subject,site=label`: what columns are, where their names do not say it.
        standing: The columns of a study that was made of the table: they keep their names, and the others
            are not asked about.

    Raises:
        InputError: A column is named that is not there, two are the same, or one is likely to be no label.
    """
    notes = []
    given = _given(file, columns, asked, standing is not None)
    named: dict[str, str] = {}
    for name in columns:
        plain = name.strip().casefold()
        own = name if name in RESERVED else "label"
        kept = standing is not None and name.strip() in standing
        role = given.get(name, own if kept else plain if plain in RESERVED else "label")
        named[name] = name if role == "label" else role
    for role in RESERVED:
        same = [name for name, meant in named.items() if meant == role]
        if len(same) > 1:
            raise InputError(
                f"{file}: the columns {in_words(same)} are {'both' if len(same) == 2 else 'all'} {role}; "
                "rename all but one."
            )
        if same and same[0] != role and same[0] not in given:
            notes.append(f"{file.name}: the column {same[0]} is the {role}")
    for role, likely in _LIKELY.items():
        if role in named.values() or standing is not None:
            continue
        for name, cells in columns.items():
            plain = name.strip().casefold().replace(" ", "_").replace("-", "_")
            repeats = len(set(cells) - {""}) < sum(cell != "" for cell in cells)
            if plain in likely and name not in given and repeats:
                raise InputError(
                    f"{file}: the column {name} is likely to be the {role} and no label; say which with "
                    f"--columns {quote(f'{name}={role}')} or --columns {quote(f'{name}=label')}."
                )
    return {named[name]: cells for name, cells in columns.items()}, notes


def _given(
    file: Path, columns: Mapping[str, Sequence[str]], asked: str | None, begun: bool
) -> dict[str, str]:
    """The roles that were asked for, by column; a study that is `begun` may hold some of no effect."""
    given = {}
    for name, role in roles_asked(asked).items():
        pair = f"{name}={role}"
        if name not in columns:
            raise InputError(f"--columns {pair}: {file} has no column {name}.")
        if role == "label" and name in RESERVED and not begun:
            raise InputError(
                f"--columns {pair}: a column that is called {name} is never a label; rename it in {file}."
            )
        given[name] = role
    return given


def roles_asked(asked: str | None) -> dict[str, str]:
    """The roles by column of `patient_id=subject,site=label`.

    Raises:
        InputError: It is not written so, or a role is none.
    """
    roles = {}
    for pair in filter(None, (asked or "").split(",")):
        name, sign, role = pair.rpartition("=")
        if not sign or role not in (*RESERVED, "label"):
            raise InputError(
                f"--columns {pair}: write NAME=ROLE, the role one of {', '.join(RESERVED)} and label."
            )
        roles[name] = role
    return roles


def cleaned(file: Path, columns: Columns, missing: str | None) -> tuple[Columns, list[str]]:
    """The columns with missing values emptied, `use` as 0 or 1, and subjects without blanks around them.

    Args:
        file: The table, for messages.
        columns: By their reserved names.
        missing: Values that stand for no label, with commas between them.

    Returns:
        The columns, and in sentences which values look missing or like one another.

    Raises:
        InputError: A cell of `use` says neither yes nor no.
    """
    notes = []
    none = {value.strip() for value in missing.split(",")} if missing is not None else set()
    made: Columns = {}
    for name, cells in columns.items():
        if name == "path":
            made[name] = list(cells)
        elif name == "use":
            made[name] = _use(file, cells)
        elif name in RESERVED:
            made[name], said = _group(file, name, cells, none)
            notes += said
        else:
            made[name] = ["" if cell.strip() in none else cell for cell in cells]
            notes += _odd_values(file, name, made[name])
    return made, notes


def _use(file: Path, cells: Sequence[str]) -> list[str]:
    made = []
    for row, cell in enumerate(cells):
        says = yes_or_no(cell)
        if says is None:
            raise InputError(
                f"{file} row {row}: use is {cell!r}, which is neither yes nor no; write 1 or 0."
            )
        made.append("1" if says else "0")
    return made


def _group(
    file: Path, name: str, cells: Sequence[str], none: set[str]
) -> tuple[list[str], list[str]]:
    """The subjects, folds or splits without blanks around them; one called `nan` is none."""
    notes = []
    made = ["" if cell.strip() in none else cell.strip() for cell in cells]
    if len(set(made)) < len({cell for cell in cells if cell.strip() not in none}):
        notes.append(f"{file.name}: blanks around values of {name} are left out")
    gone = Counter(cell for cell in made if cell.casefold() in _NO_GROUP)
    if gone:
        made = ["" if cell in gone else cell for cell in made]
        alone = ": each of these images is a subject of its own" if name == "subject" else ""
        read = "is" if len(gone) == 1 else "are"
        notes.append(
            f"{file.name}: {_shown(gone)} in the column {name} {read} read as no {name}{alone}"
        )
    return made, notes


def _odd_values(file: Path, name: str, cells: Sequence[str]) -> list[str]:
    """Which labels look missing, and which look like one another; they stay as they are."""
    counts = Counter(cell for cell in cells if cell)
    if len(counts) > _MOST:
        return []
    notes = []
    numeric = sum(_is_number(value) for value in counts) > len(counts) / 2
    odd = Counter(
        {
            value: n
            for value, n in counts.items()
            if value.strip().casefold() in _MISSING
            and not (value.strip() == "-1" and numeric and min(counts, key=_number) != value)
        }
    )
    if odd:
        values = ",".join(value.strip() for value in odd)
        notes.append(
            f"{file.name}: {_shown(odd)} of the column {name} may stand for no label and count as labels; "
            f"--missing '{values}' leaves them out"
        )
    alike: dict[str, list[str]] = {}
    for value in counts:
        alike.setdefault(_plain(value), []).append(value)
    for same in alike.values():
        if len(same) > 1:
            notes.append(
                f"{file.name}: {_shown(Counter({v: counts[v] for v in same}))} of the column {name} look "
                "like one another and are different labels; write them alike in the table if they are one"
            )
    return notes


def _plain(value: str) -> str:
    word = " ".join(value.split()).casefold()
    in_turn = re.match(r"-?0\d", word) is not None  # 01 and 1 may be two names
    return f"{float(word):g}" if _is_number(word) and not in_turn else word


def _is_number(value: str) -> bool:
    try:
        float(value)
    except ValueError:
        return False
    return value.strip().casefold() not in _MISSING


def _number(value: str) -> float:
    try:
        return float(value)
    except ValueError:
        return float("inf")


def _shown(counts: Counter[str]) -> str:
    """Values with how many images have them."""
    shown = [f"{value!r} ({n:,})" for value, n in counts.most_common(_NAMED)]
    more = len(counts) - len(shown)
    return in_words([*shown, f"{more} more"] if more else shown)
