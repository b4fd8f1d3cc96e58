"""Which rows of a study show the same image, as `probe data check` tells it: kept in copies.json."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from features.arrays import Ints
from features.machine.files import write_text
from features.machine.regular_files import read_regular

Group = tuple[int, ...]
_VERSION = 1
_FEW = 10
_MOST_ALIKE = 0.1


@dataclass(frozen=True)
class Copies:
    """Rows of images.csv that show one image."""

    exact: tuple[Group, ...] = ()
    """Rows whose files are the same byte for byte, or the same file."""
    near: tuple[tuple[int, int, float], ...] = ()
    """Pairs of other rows that show one picture, and how alike they are, 1 being the same."""
    unreadable: dict[int, str] = field(default_factory=dict)
    """Rows whose file does not decode, and why."""

    @property
    def groups(self) -> tuple[Group, ...]:
        """Rows that are exact or near copies of each other, each group ascending."""
        return joined([*self.exact, *((a, b) for a, b, _ in self.near)])

    def acted_on(self, rows: int) -> tuple[Group, ...]:
        """The groups of at most one per cent of the `rows`, or of ten rows.

        A larger one is a picture that says nothing, such as a grey card: to keep all that share it
        together would tie up subjects who have nothing to do with each other.
        """
        return tuple(g for g in self.groups if len(g) <= largest(rows))

    def plausible(self, rows: int) -> Copies:
        """These copies, without the near ones where those are over a tenth of the `rows` and over four.

        Then the pictures are alike by their kind, as drawings, scans and plots are, and likeness is no
        sign of a copy.
        """
        alike = {row for a, b, _ in self.near for row in (a, b)}
        few = len(alike) <= max(4, _MOST_ALIKE * rows)
        return self if few else replace(self, near=())


def largest(rows: int) -> int:
    """The size of the largest group of copies that is acted on."""
    return max(_FEW, rows // 100)


def joined(groups: Iterable[Sequence[int]]) -> tuple[Group, ...]:
    """The groups, those that share a row made one; each ascending, and in the order of their first row."""
    edges = [(group[0], row) for group in groups for row in group[1:]]
    if not edges:
        return ()
    from scipy.sparse import csr_array  # slow to import, and most studies have no copies
    from scipy.sparse.csgraph import connected_components

    rows, ends = np.unique(np.array(edges), return_inverse=True)
    first, second = ends.reshape(-1, 2).T
    graph = csr_array((np.ones(len(edges)), (first, second)), shape=(len(rows), len(rows)))
    _, component = connected_components(graph, directed=False)
    together: dict[int, list[int]] = {}
    for row, number in zip(rows.tolist(), component.tolist(), strict=True):
        together.setdefault(number, []).append(row)
    return tuple(tuple(group) for group in together.values() if len(group) > 1)


def merged(subjects: Ints, groups: Iterable[Group]) -> Ints:
    """Subject numbers `(n,)` with those that share a group of copies made one."""
    number = np.arange(subjects.max(initial=-1) + 1)
    for together in joined([subjects[list(group)].tolist() for group in groups]):
        number[list(together)] = together[0]
    return np.asarray(number[subjects])


def save(file: Path, copies: Copies, images: str) -> None:
    """Write `copies`, which are among the rows whose paths hash to `images`."""
    values = {
        "version": _VERSION,
        "images": images,
        "exact": copies.exact,
        "near": copies.near,
        "unreadable": {str(row): why for row, why in copies.unreadable.items()},
    }
    write_text(file, json.dumps(values))


def load(file: Path, images: str) -> Copies | None:
    """The copies among these rows; None if no `probe data check` has looked at these rows."""
    try:
        values = json.loads(read_regular(file))
        if values["version"] != _VERSION or values["images"] != images:
            return None
        return Copies(
            tuple(map(tuple, values["exact"])),
            tuple((int(a), int(b), float(alike)) for a, b, alike in values["near"]),
            {int(row): why for row, why in values["unreadable"].items()},
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
