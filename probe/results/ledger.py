"""The ledger: what keeps, replaces, writes and removes a study's rows and their scores.

Rows stand in results.csv, the scores of every result in a file of their own (probe/results/predictions.py).
A commit writes what is new and may be killed anywhere: rows that are about to be replaced leave results.csv
first, then the scores are stored, then the new rows are written. So no row ever speaks of scores that are
not there, and a result whose rows are missing is made again.
"""

from __future__ import annotations

import os
import shutil
import time
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from features.errors import InputError, Stopped
from features.machine.files import file_name, sweep
from features.machine.keeping import keeping
from features.machine.locks import locked
from features.store.paths import fit_parts_of, partial_of, parts_of
from features.study.status import removing_features
from features.study.study import open_study
from probe.results import predictions
from probe.results import rows as results
from probe.results.predictions import Key, Prediction
from probe.results.protocol import mark, options_apart, without_folds
from probe.results.rows import BEST, Row

Series = tuple[str, ...]
"""Task, backbone, layer and method: what the repeats, draws and views of a result share."""


class Ledger:
    """What results.csv and the files of predictions hold, and what is about to be put into them.

    Read without the lock (`Ledger(folder)`) it tells what is there; to write, use `open_ledger`.
    """

    def __init__(self, folder: Path) -> None:
        """Read both files of the study in `folder`; either may be missing.

        Raises:
            InputError: A column of results.csv is missing, or a cell does not read.
        """
        self.store = folder / predictions.STORE
        self._table = folder / "results.csv"
        self.rows = results.read(self._table)
        """All rows, as the last commit left them."""
        self._rows_of = _by_result(self.rows)
        marks = predictions.marks(self.store, self._rows_of)
        self._protocols = {key: protocol for key, (protocol, _) in marks.items()}
        self._features = {key: features for key, (_, features) in marks.items()}
        self._expected: set[Key] = set()
        self._claimed: dict[Series, str] = {}
        self._replaced: set[Series] = set()
        self._new_scores: dict[Key, Prediction] = {}
        self._new_rows: list[Row] = []
        self._committed = time.perf_counter()

    def rows_of(self, key: Key) -> list[Row]:
        """The rows of a result, one per fold; none if it is not there."""
        return self._rows_of.get(key, [])

    def holds(self, key: Key, protocol: str, folds: Collection[int], features: str = "") -> bool:
        """Whether a result is there as it would be made now: whole scores, and a row for each of its folds.

        Args:
            key: The result.
            protocol: The protocol it would be made under.
            folds: The folds it would have.
            features: The digest of the features it would be made of; empty for a fine-tune.
        """
        rows = self.rows_of(key)
        if key not in self._protocols or {row.fold for row in rows} != set(folds):
            return False
        marks = {row.protocol for row in rows}
        if self._protocols[key]:  # not the rows' where a run was killed between the two files
            marks.add(mark(self._protocols[key]))
        alike = marks == {mark(protocol)} and self._features[key] == features
        return alike and predictions.is_whole(self.store, key)

    def protocol_of(self, key: Key) -> str:
        """The protocol of a result's scores; empty where it is not known."""
        return self._protocols.get(key, "")

    def replaced_by(self, claimed: Mapping[Series, str]) -> list[Row]:
        """The rows that would go if the series of `claimed` were made under these protocols."""
        stay = {id(row) for row in without_unlike(self.rows, claimed, self._protocols)}
        return [row for row in self.rows if id(row) not in stay]

    def of_most_layers(self, key: Key, protocol: str) -> str:
        """The protocol of most layers of a backbone, between which its *best* row chooses.

        A layer fitted alone under other options so leaves the *best* row of all others as it is.

        Args:
            key: A result of the task, backbone and method.
            protocol: The one in favour where there are equally many; only protocols that differ from
                it in nothing but options stand against it.
        """
        task, backbone, _, method = key
        layers = Counter(
            self.protocol_of(stored)
            for stored in self._rows_of
            if (stored[0], stored[1], stored[3]) == (task, backbone, method) and stored[2] != BEST
        )
        against = [
            other
            for other in layers
            if other != protocol and all(o.startswith("--") for o in options_apart(other, protocol))
        ]
        return max([protocol, *against], key=lambda each: layers[each])

    def expect(self, keys: Iterable[Key]) -> None:
        """Name the results that this run keeps or makes.

        Where the features of a series have been replaced since, nothing else of it stays.
        """
        self._expected |= set(keys)

    def claim(self, key: Key, protocol: str) -> None:
        """From the next commit on, rows of this result's series under other settings go."""
        self._claimed[series_of(key)] = protocol

    def put(self, key: Key, prediction: Prediction, rows: Sequence[Row]) -> None:
        """Keep a result for the next commit, which replaces what is there of it."""
        self.claim(key, prediction.protocol)
        if self._features.get(key, "") not in ("", prediction.features):
            task, backbone, _, method = key
            self._replaced |= {series_of(key), series_of((task, backbone, BEST, method))}
        self._new_scores[key] = prediction
        self._new_rows += rows

    def commit(self, after: float = 0.0) -> None:
        """Write what was put, if the last commit is at least `after` seconds ago."""
        if time.perf_counter() - self._committed < after:
            return
        with keeping():
            self._write()
        self._committed = time.perf_counter()

    def _write(self) -> None:
        if self._new_scores:
            predictions.check_places(self.store, self._new_scores)
            written = len(self.rows)
            self.rows = self._still_alike()
            others = [row for row in self.rows if row.stored not in self._new_scores]
            if len(others) < written:
                # Killed between the two files, a result has no row and is made again.
                results.write(self._table, others)
            predictions.add(self.store, self._new_scores)
            made = {row.key for row in self._new_rows}
            kept = [
                row for row in self.rows if row.stored not in self._new_scores or row.key in made
            ]
            self.rows = results.replace(kept, self._new_rows)
            for key, new in self._new_scores.items():
                self._protocols[key], self._features[key] = new.protocol, new.features
            self._rows_of |= _by_result(self._new_rows)
            results.write(self._table, self.rows)
            self._new_scores.clear()
            self._new_rows.clear()

    def remove(self, backbone: str) -> int:
        """Delete the rows and scores of a backbone; returns how many rows went."""
        others = [row for row in self.rows if row.backbone != backbone]
        gone = len(self.rows) - len(others)
        if gone:
            results.write(self._table, others)
            self.rows = others
        predictions.discard(self.store, backbone)
        shutil.rmtree(fit_parts_of(self.store.parent, backbone), ignore_errors=True)
        return gone

    def _still_alike(self) -> list[Row]:
        return [
            row
            for row in without_unlike(self.rows, self._claimed, self._protocols)
            if series_of(row.stored) not in self._replaced or row.stored in self._expected
        ]


@contextmanager
def open_ledger(folder: Path, wait: float = 0.0) -> Iterator[Ledger]:
    """The ledger of the study in `folder`, locked against every other process for the block.

    Args:
        folder: The study's folder.
        wait: How long another process is given to finish, in seconds.

    Raises:
        InputError: Another process is writing results, or results.csv does not read or has columns that
            would be lost.
        Stopped: It was still writing after `wait` seconds.
    """
    table = folder / "results.csv"
    for file in (table, folder / "predictions.h5", folder / "training.csv"):
        if file.is_dir():
            raise InputError(f"{file}: a folder where a file belongs; move it away.")
    store = folder / predictions.STORE
    if os.path.lexists(store) and not store.is_dir():
        raise InputError(f"{store}: a file where a folder belongs; move it away.")
    with ExitStack() as held:
        try:
            held.enter_context(locked(folder / ".results.lock", str(table), wait))
        except InputError as error:
            if not wait:
                raise
            raise Stopped(
                f"{table}: another process has been writing it for {wait / 60:.0f} minutes; what is "
                "trained is kept, run this again when it has finished."
            ) from error
        for name in ("results.csv", "training.csv"):
            sweep(folder / name)
        predictions.sweep(folder / predictions.STORE)
        ledger = Ledger(folder)
        results.check_columns(table)
        yield ledger


def remove(study: Path | str, backbone: str) -> int:
    """Delete everything about `backbone`; returns how many rows of results.csv went with it.

    Raises:
        InputError: The study has neither features nor rows of it, or another process is at work on them.
    """
    opened = open_study(study)
    with open_ledger(opened.folder) as ledger:
        path = opened.feature_path(backbone)
        names = {row.backbone for row in ledger.rows}
        if backbone not in names:  # a damaged file is known by the name of the file alone
            backbone = next((n for n in sorted(names) if file_name(n) == backbone), backbone)
        # Killed before, it may have left any of the three.
        has_results = any(row.backbone == backbone for row in ledger.rows)
        has_results = has_results or predictions.holds(ledger.store, backbone)
        there = any(os.path.lexists(each) for each in (path, partial_of(path), parts_of(path)))
        if not there and has_results:
            return ledger.remove(backbone)
        # Features last: who reads meanwhile finds no row without them.
        with removing_features(opened, backbone):
            return ledger.remove(backbone)


def _by_result(rows: Iterable[Row]) -> dict[Key, list[Row]]:
    result: dict[Key, list[Row]] = defaultdict(list)
    for row in rows:
        result[row.stored].append(row)
    return dict(result)


def series_of(key: Key) -> Series:
    """The series that a result belongs to."""
    *layer, method = key
    return (*layer, method.partition(",")[0])


def without_unlike(
    rows: Sequence[Row], claimed: Mapping[Series, str], protocols: Mapping[Key, str]
) -> list[Row]:
    """`rows` without those whose settings differ from this run's in the same series.

    A run with fewer repeats, draws or views than the one before makes only some of a series anew; the
    rest, of other settings or another seed, would be averaged with it. So the rows of a series differ
    in nothing but the images of their folds, or they go.

    Args:
        rows: Those of results.csv.
        claimed: The protocol of every series that the run has come to.
        protocols: Those of the stored scores, by result; a row goes too where its own is not there.
    """
    wanted = {series: without_folds(protocol) for series, protocol in claimed.items()}
    marks = {
        key: mark(protocol)
        for key, protocol in protocols.items()
        if protocol
        and series_of(key) in wanted
        and without_folds(protocol) == wanted[series_of(key)]
    }
    return [
        row
        for row in rows
        if series_of(row.stored) not in wanted or marks.get(row.stored) == row.protocol
    ]
