"""The page's first section where a reference is given: which published findings hold, and the table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from features.errors import InputError
from features.study.study import Study
from probe.analysis.compare import Comparison, compare
from probe.analysis.scale import POINTS
from probe.reporting.page.contents import Section
from probe.reporting.tables.published import found_as, missing, published_table
from probe.reporting.tables.reference import Finding, Reference
from probe.results.rows import Row


def published_section(study: Study, rows: Sequence[Row], wanted: Reference) -> Section:
    """The findings in words, each with by how much it holds here, and the table of numbers."""
    table = published_table(study, rows, wanted)
    words = [
        sentence
        for number, finding in enumerate(wanted.finding, start=1)
        for sentence in _sentences(study, rows, number, finding, list(wanted.measures))
    ]
    return Section(table.title, words, [], [table])


def _sentences(
    study: Study, rows: Sequence[Row], number: int, finding: Finding, tasks: Sequence[str]
) -> Iterator[str]:
    """What was published, and a sentence for each task on what this study shows of it."""
    yield f"Finding {number}: {finding.says}. Published: {finding.published}."
    for task in tasks:
        yield f"Finding {number} on {task} {_verdict(study, rows, finding, task)}"


def _verdict(study: Study, rows: Sequence[Row], finding: Finding, task: str) -> str:
    made, lacking = [], []
    for a, b in finding.compared:
        try:
            made += [_difference(study, rows, a, b, task)]
        except InputError as error:
            lacking.append(str(error).rstrip("."))
    shown = "; ".join(
        f"{POINTS.difference(c.difference)} for {c.a} over {c.b}, {c.images:,} images" for c in made
    )
    if any(c.difference.high < 0 for c in made):
        verdict = f"does not hold: {shown}"
    elif lacking:
        verdict = "is not known" + (f" as a whole: {shown}" if made else "")
    elif all(c.difference.low > 0 for c in made):
        verdict = f"holds: {shown}"
    else:
        verdict = f"is not shown, within noise: {shown}"
    return "; ".join([verdict, *(f"missing: {words}" for words in dict.fromkeys(lacking))]) + "."


def _difference(study: Study, rows: Sequence[Row], a: str, b: str, task: str) -> Comparison:
    """The comparison of two results on a task.

    Raises:
        InputError: One is not there, has random weights, or they cannot be compared.
    """
    of_task = [row for row in rows if row.task == task]
    names = []
    for result in (a, b):
        found = found_as(of_task, result)
        if found is None:
            raise InputError(missing(result))
        if "@random" in found.split("/", 1)[0]:
            raise InputError(f"{found} has random weights in the place of the published ones")
        names.append(found)
    return compare(study.folder, names[0], names[1], tasks=[task])[0]
