"""The rows of a study that show the same image, found by `probe data check`, in copies.json."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from features.arrays import Ints
from features.machine.files import write_text
from features.machine.regular_files import read_regular
from features.machine.strict_json import from_json

Group = tuple[int, ...]
_VERSION = 2
"""Version 1 knew nothing of mirrored copies."""
_FEW = 10
_MOST_ALIKE = 0.1
_SAMPLE = 50


@dataclass(frozen=True)
class Copies:
    """Rows of images.csv that show the same image."""

    exact: tuple[Group, ...] = ()
    """Groups of rows whose files have the same bytes."""
    near: tuple[tuple[int, int, float], ...] = ()
    """Pairs of other rows that show the same picture, and their similarity, 1 being identical."""
    unreadable: dict[int, str] = field(default_factory=dict)
    """The reason by row whose file cannot be decoded."""
    turned: bool = True
    """Whether mirrored and turned copies were searched for; earlier versions did not."""
    digests: dict[int, str] = field(default_factory=dict, compare=False)
    """The digest by row of a few files' bytes, with which they are known again in another folder."""

    @property
    def groups(self) -> tuple[Group, ...]:
        """Rows that are exact or near copies of each other, each group ascending."""
        return joined([*self.exact, *((a, b) for a, b, _ in self.near)])

    def acted_on(self, rows: int) -> tuple[Group, ...]:
        """The groups whose rows no split may part.

        Rows with equal bytes always are such a group, however many. Pictures that are merely alike join
        their groups, unless that would tie a tenth of all `rows`, and more than ten, to each other:
        pictures of one kind, such as drawings and plots, are alike without being copies
        (`too_many_alike` has those).
        """
        return self._grouped(rows)[0]

    def too_many_alike(self, rows: int) -> tuple[Group, ...]:
        """Rows that are alike in a group too large to be copies of one picture; `rows` is their number.

        Splits may part them, wherever their bytes differ.
        """
        return self._grouped(rows)[1]

    def _grouped(self, rows: int) -> tuple[tuple[Group, ...], tuple[Group, ...]]:
        """Groups of copies that are kept together, and groups too large for that."""
        groups = self.groups
        file_of = {row: number for number, same in enumerate(self.exact) for row in same}
        large = tuple(
            group
            for group in groups
            if len({file_of.get(row, -1 - row) for row in group}) > largest(rows)
        )
        if not large:
            return groups, ()
        tied = {row for group in large for row in group}
        return joined([*self.exact, *((a, b) for a, b, _ in self.near if a not in tied)]), large

    def shared(self, subjects: Sequence[str]) -> tuple[Group, ...]:
        """Rows with equal bytes that are of more than ten subjects: which is a placeholder picture.

        Args:
            subjects: The subject of every row, empty where none is given.
        """
        return tuple(g for g in self.exact if len({subjects[row] for row in g} - {""}) > _FEW)

    def plausible(self, rows: int) -> Copies:
        """The copies; without the near ones if those are over four rows and over a tenth of the `rows`.

        Then the pictures are similar by their nature, like drawings, scans and plots, and similarity is
        no sign of a copy.
        """
        alike = {row for a, b, _ in self.near for row in (a, b)}
        few = len(alike) <= max(4, _MOST_ALIKE * rows)
        return self if few else replace(self, near=())


def sampled(paths: Sequence[str]) -> list[int]:
    """Up to fifty rows of different paths, at even distances, whose files stand for all."""
    first: dict[str, int] = {}
    rows = list(dict.fromkeys(first.setdefault(path, row) for row, path in enumerate(paths)))
    return (
        rows if len(rows) <= _SAMPLE else [rows[i * len(rows) // _SAMPLE] for i in range(_SAMPLE)]
    )


def largest(rows: int) -> int:
    """The most different files that are taken for versions of one picture."""
    return max(_FEW, rows // 10)


def joined(groups: Iterable[Sequence[int]]) -> tuple[Group, ...]:
    """The groups, merged where they share a row; each ascending, in the order of their first row."""
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
    """Subject numbers `(n,)`, merged where subjects share a group of copies."""
    number = np.arange(subjects.max(initial=-1) + 1)
    for together in joined([subjects[list(group)].tolist() for group in groups]):
        number[list(together)] = together[0]
    return np.asarray(number[subjects])


def save(file: Path, copies: Copies, images: str) -> None:
    """Write `copies` of the rows whose paths have the hash `images`."""
    values = {
        "version": _VERSION if copies.turned else 1,
        "images": images,
        "exact": copies.exact,
        "near": copies.near,
        "unreadable": {str(row): why for row, why in copies.unreadable.items()},
        "digests": {str(row): digest for row, digest in copies.digests.items()},
    }
    write_text(file, json.dumps(values))


def load(file: Path, images: str, rows: int) -> Copies | None:
    """The copies among so many rows with the hash `images`; None if `probe data check` was not run on them.

    None also if the file is damaged: the copies can be looked for again.
    """
    try:
        values = from_json(read_regular(file))
        if values["version"] not in (1, _VERSION) or values["images"] != images:
            return None
        held = Copies(
            tuple(tuple(map(int, group)) for group in values["exact"]),
            tuple((int(a), int(b), float(alike)) for a, b, alike in values["near"]),
            {int(row): str(why) for row, why in values["unreadable"].items()},
            turned=values["version"] == _VERSION,
            digests={int(row): str(text) for row, text in values.get("digests", {}).items()},
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError):
        return None
    named = (
        {row for group in held.exact for row in group}
        | held.unreadable.keys()
        | held.digests.keys()
    )
    named |= {row for a, b, _ in held.near for row in (a, b)}
    there = all(0 <= row < rows for row in named)
    return held if there and all(held.exact) else None
