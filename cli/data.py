"""`probe data`: looking at a data set before a number is made of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import options, show
from cli.groups import Group
from probe.counts import count

if TYPE_CHECKING:
    from probe.checking.check import Check

_LISTED = 5
_MANY = 30
"""Classes, beyond which the table folds."""
_YEARS = 10
"""Classes, beyond which whole numbers are more likely quantities than names."""

app = typer.Typer(cls=Group, no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def data() -> None:
    """Look at a data set before a number is made of it.

    Example: probe data check --data sample
    """


@app.command("check")
def check(
    data: options.Data = None,
    faces: options.Faces = None,
    labels: options.Labels = None,
    levels: options.Levels = None,
    path_column: options.PathColumn = None,
    root: options.StudyRoot = None,
    extension: options.Extension = None,
    missing: options.Missing = None,
    columns: options.Columns = None,
    max_pixels: options.MaxPixels = None,
    study: options.Study = options.STUDY,
    drop: Annotated[
        bool,
        typer.Option(
            "--drop-duplicates", help="Mark copies as unused in images.csv; the first one stays."
        ),
    ] = False,
    group: Annotated[
        bool,
        typer.Option(
            "--group-duplicates",
            help="Keep copies on one side of every split; the default where folds are made.",
        ),
    ] = False,
    sheet: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Draw the worst pairs of copies into this PNG file."),
    ] = None,
    json: options.Json = False,
) -> None:
    """Count images per class, fold and subject; find unreadable files, copies and leaks.

    Copies are the same bytes, or the same picture re-encoded, resized or slightly cropped. Ends with
    3 if `probe fit` would refuse this data.

    Example: probe data check --data sample --sheet copies.png
    """
    from probe.checking.contact_sheet import check_place, write_sheet
    from probe.checking.find_copies import examine

    if sheet is not None:
        check_place(sheet)
    spec = options.data_with(
        data,
        faces=faces,
        labels=labels,
        levels=levels,
        path_column=path_column,
        root=options.moved(study, data, root),
        extension=extension,
        missing=missing,
        columns=columns,
    )
    options.tell_data(study, spec)
    with show.Progress("reading", "images") as progress:
        checked = examine(study, data=spec, drop=drop, group=group, progress=progress)
    if sheet is not None:
        drawn = write_sheet(checked, sheet)
        show.say(
            f"{count(drawn, 'pair')} in {sheet}" if drawn else "no copies, so no picture sheet"
        )
    if json:
        show.put_json(_plain(checked))
    else:
        _tell(checked)
    for sentence in checked.refused:
        show.say(f"error: {sentence}")
    if checked.refused:
        raise typer.Exit(3)


def _plain(checked: Check) -> dict[str, Any]:
    paths = checked.study.paths

    def named(groups: tuple[tuple[int, ...], ...]) -> list[list[str]]:
        return [[paths[row] for row in group] for group in groups]

    return {
        "source": checked.study.source,
        "synthetic": checked.study.synthetic,
        "rows": len(checked.study),
        "used": int(checked.study.used.sum()),
        "subjects": {"n": checked.subjects, "across_folds": checked.subjects_across},
        "tasks": checked.tasks,
        "duplicates": {
            "exact": named(checked.copies.exact),
            "near": [[paths[a], paths[b], alike] for a, b, alike in checked.copies.near],
            "across_folds": named(checked.copies_across),
            "too_large": named(checked.too_large),
            "placeholders": named(checked.placeholders),
            "conflicts": [
                {"task": c.task, "paths": [paths[row] for row in c.rows], "labels": c.labels}
                for c in checked.conflicts
            ],
        },
        "left_out": dict(checked.left_out),
        "unreadable": {paths[row]: why for row, why in checked.copies.unreadable.items()},
        "refused": checked.refused,
        "notes": checked.notes,
    }


def _subjects(checked: Check) -> str:
    named = checked.study.whose == "subjects"
    return count(checked.subjects, "subject") if named else "no subject named"


def _tell(checked: Check) -> None:
    paths = checked.study.paths
    used = int(checked.study.used.sum())
    show.say(
        f"{checked.study.source}: {count(len(paths), 'row')}, {used} in use, "
        + _subjects(checked)
        + (", SYNTHETIC" if checked.study.synthetic else "")
    )
    header = ["task", "class", "images"]
    most = max((len(task.folds) for task in checked.tasks.values()), default=0)
    rows = []
    for name, task in checked.tasks.items():
        counts = [
            (cls, task.classes[cls], [f.classes[cls] for f in task.folds]) for cls in task.classes
        ]
        for cls, n, folds in [*_folded(counts), ("all", task.n, [f.n for f in task.folds])]:
            rows.append([name, cls, str(n), *map(str, folds), *[""] * (most - len(folds))])
    show.put_table([*header, *(f"fold {i}" for i in range(most))], rows)
    groups = [
        ("the same bytes or path", checked.copies.exact),
        ("the same picture", tuple((a, b) for a, b, _ in checked.copies.near)),
        ("copies in several folds", checked.copies_across),
        ("alike, but too many to be copies", checked.too_large),
        ("one file for many subjects, left out", checked.placeholders),
    ]
    for what, several in groups:
        _list(what, [_shortened((paths[row] for row in group), " = ") for group in several])
    _list(
        "one image, several labels",
        [
            f"{c.task}: "
            + _shortened(f"{paths[r]} {v!r}" for r, v in zip(c.rows, c.labels, strict=True))
            for c in checked.conflicts
        ],
    )
    _list("subjects in several folds", list(checked.subjects_across))
    nothing = not (any(several for _, several in groups) or checked.copies.unreadable)
    if nothing and not (checked.conflicts or checked.subjects_across):
        show.say("nothing unreadable, no copies, no subject in several folds")
    absent = [
        f"{name}: {cls} is in fold {fold} only"
        for name, task in checked.tasks.items()
        for fold, cls in task.absent
    ]
    _list("classes that training would lack", absent)
    _list("left out", [f"{path}: {why}" for path, why in checked.left_out])
    _list("unreadable", [f"{paths[r]}: {why}" for r, why in checked.copies.unreadable.items()])
    for sentence in (*checked.notes, *_quantities(checked)):
        show.say(f"note: {sentence}")


def _quantities(checked: Check) -> Iterator[str]:
    """A sentence for each task whose many classes are numbers, as years are."""
    for name in checked.tasks:
        task = checked.study.tasks[name]
        if len(task.classes) > _YEARS and all(c.isdecimal() for c in task.classes):
            asked = quote(f"{name}:number")
            yield (
                f"{name}: its {len(task.classes)} classes are numbers; where they are quantities, such as "
                f"years, `probe fit --task {asked}` predicts them as one number"
            )


def _folded(counts: list[tuple[str, int, list[int]]]) -> list[tuple[str, int, list[int]]]:
    """The counts of a task's classes; of many only the largest and the smallest, of numbers the ends."""
    if len(counts) <= _MANY:
        return counts
    numbers = all(name.isdecimal() for name, *_ in counts)
    ordered = counts if numbers else sorted(counts, key=lambda count: -count[1])
    between = ordered[_LISTED:-_LISTED]
    low, high = min(n for _, n, _ in between), max(n for _, n, _ in between)
    sizes = str(low) if low == high else f"{low} to {high}"
    more = f"{len(between):,} more classes of {sizes} images each"
    folds = [sum(column) for column in zip(*(folds for *_, folds in between), strict=True)]
    middle = (more, sum(n for _, n, _ in between), folds)
    return [*ordered[:_LISTED], middle, *ordered[-_LISTED:]]


def _shortened(names: Iterable[str], between: str = ", ") -> str:
    """The names, each once, of many only the first ones."""
    several = list(dict.fromkeys(names))
    more = len(several) - _LISTED
    if more <= 0:
        return between.join(several)
    return f"{between.join(several[:_LISTED])} and {more:,} more"


def _list(what: str, lines: list[str]) -> None:
    if lines:
        show.say(f"{what}: {len(lines)}")
    for line in lines[:_LISTED]:
        show.say(f"  {line}")
    if len(lines) > _LISTED:
        show.say(f"  and {len(lines) - _LISTED} more; --json lists them")
