"""What the page holds, as data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from features.study.study import Study
from probe.reporting.charts.chart import Chart
from probe.reporting.charts.legend import Sign
from probe.reporting.tables.table import Table


@dataclass(frozen=True)
class TaskSection:
    """What the page says of one task."""

    task: str
    answer: Sequence[str]
    findings: Sequence[str]
    charts: Sequence[Chart]
    tables: Sequence[Table]
    signs: Sequence[tuple[Sign, str]] = ()
    """The signs of the fine-tunes in its charts, and what they mean."""
    paired: bool = False
    """Whether two of its backbones are a pair."""


@dataclass(frozen=True)
class Section:
    """A part of the page about the study as a whole."""

    title: str
    words: Sequence[str]
    charts: Sequence[Chart]
    tables: Sequence[Table]


@dataclass(frozen=True)
class Contents:
    """Everything that stands on the page."""

    study: Study
    tasks: Sequence[TaskSection]
    backbones: Sequence[tuple[str, str]]
    """Name and domain, in the order of the legend."""
    images: str
    """How many images the numbers are of, in words."""
    tables: Sequence[Table] = ()
    """The tables about the study as a whole."""
    warnings: Sequence[str] = ()
    """What a reader must know before trusting the numbers, in sentences."""
    missing: Sequence[str] = ()
    """What this study does not hold, and the command that would make it, in sentences."""
    more: Sequence[Section] = ()
    """The sections about the study as a whole; they stand before the tables."""
