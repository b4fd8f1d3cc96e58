"""The rows of results.csv as a table that pandas, polars and pyarrow take, and as arrays."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from typing import Any, get_type_hints

import numpy as np
import numpy.typing as npt

from features.errors import InputError, nearest
from probe.counts import count
from probe.results.csv_records import columns
from probe.results.rows import Row

_SHOWN = 10
_SHORT = ("backbone", "layer", "pool", "method", "task", "fold", "accuracy", "mae", "n_test")
"""The columns that a notebook shows."""


@dataclass(frozen=True, repr=False)
class ResultsTable:
    """A line for every backbone, layer, method, task and fold; its columns are those of results.csv.

    `pandas.DataFrame(dict(table))` needs pandas alone. `pyarrow.table(table)`, `polars.DataFrame(table)`
    and `pandas.DataFrame.from_arrow(table)` go through the Arrow PyCapsule interface, which needs pyarrow
    here.
    """

    rows: tuple[Row, ...]

    def __len__(self) -> int:
        """The number of rows."""
        return len(self.rows)

    def __iter__(self) -> Iterator[Row]:
        """The rows."""
        return iter(self.rows)

    def keys(self) -> tuple[str, ...]:
        """The names of the columns."""
        return columns(Row)

    def __getitem__(self, column: str) -> npt.NDArray[Any]:
        """A column, `(n,)`: texts, int64 or float64; an empty cell is NaN, and its column float64.

        Raises:
            InputError: There is no such column.
        """
        if column not in self.keys():
            raise InputError(f"results.csv: no column {column}; {nearest(column, self.keys())}")
        kind = get_type_hints(Row)[column]
        values = [getattr(row, column) for row in self.rows]
        if kind is str:
            return np.array(values, dtype=np.str_)
        if kind is int:
            return np.array(values, dtype=np.int64)
        return np.array([np.nan if v is None else v for v in values], dtype=np.float64)

    def to_dict(self) -> dict[str, npt.NDArray[Any]]:
        """All columns as arrays, by name."""
        return {name: self[name] for name in self.keys()}

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """The table as a stream of Arrow's C interface; empty cells are null.

        Raises:
            InputError: pyarrow is not installed.
        """
        try:
            import pyarrow
        except ImportError as error:
            raise InputError(
                "results(): handing them over as Arrow needs pyarrow; `pip install pyarrow`, or take "
                "results().to_dict()."
            ) from error
        kinds = get_type_hints(Row)
        arrays = {
            name: pyarrow.array([getattr(row, name) for row in self.rows], _arrow(kinds[name]))
            for name in self.keys()
        }
        return pyarrow.table(arrays).__arrow_c_stream__(requested_schema)

    def __repr__(self) -> str:
        """How many rows there are, and of what."""
        named = {
            f"{what}s": list(dict.fromkeys(getattr(row, what) for row in self.rows))
            for what in ("task", "backbone", "method")
        }
        told = [f"{what} {', '.join(names[:6])}" for what, names in named.items() if names]
        return f"<results: {'; '.join([count(len(self), 'row'), *told])}>"

    def _repr_html_(self) -> str:
        """The first rows and the columns that matter most, for a notebook."""
        names = [
            name for name in _SHORT if any(getattr(row, name) is not None for row in self.rows)
        ]
        head = "".join(f"<th>{name}</th>" for name in names)
        lines = "".join(
            "<tr>" + "".join(f"<td>{_cell(getattr(row, name))}</td>" for name in names) + "</tr>"
            for row in self.rows[:_SHOWN]
        )
        more = f", the first {_SHOWN} here" if len(self) > _SHOWN else ""
        return (
            f"<table><tr>{head}</tr>{lines}</table><p>{count(len(self), 'row')}{more}; "
            f"{len(self.keys())} columns</p>"
        )


def _arrow(kind: Any) -> Any:
    import pyarrow

    if kind is str:
        return pyarrow.string()
    return pyarrow.int64() if "int" in str(kind) else pyarrow.float64()


def _cell(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.3f}" if isinstance(value, float) else escape(str(value))
