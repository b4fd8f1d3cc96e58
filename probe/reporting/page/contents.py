"""What the page holds, as data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from features.study.study import Study
from probe.analysis.label_efficiency import FewImages
from probe.reporting.charts.chart import Chart
from probe.reporting.charts.legend import Sign
from probe.reporting.charts.standing_chart import StandingChart
from probe.reporting.tables.table import Table


@dataclass(frozen=True)
class TaskSection:
    """What the page says of one task."""

    task: str
    sentence: str
    """The answer in one sentence."""
    facts: Sequence[tuple[str, str]]
    """What a reader asks next, and the answers in a few words."""
    standing: StandingChart
    """Every backbone at its best, and every fine-tune."""
    curve: Chart | None
    """The accuracy over depth that stands beside the answer; None without probes."""
    answer: Sequence[str]
    findings: Sequence[str]
    charts: Sequence[Chart]
    """All further charts."""
    tables: Sequence[Table]
    signs: Sequence[tuple[Sign, str]] = ()
    """The signs of the fine-tunes in its charts, and what they mean."""
    paired: bool = False
    """Whether two of its backbones are a pair."""

    @property
    def parts(self) -> list[tuple[str, list[Chart]]]:
        """Its further charts in groups, with a title each; empty groups are left out."""
        gaps = [chart for chart in self.charts if chart.metric == "gap"]
        others = [chart for chart in self.charts if chart.metric != "gap"]
        groups = [("Gap by depth", gaps), ("All curves over depth", others)]
        return [(title, charts) for title, charts in groups if charts]


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
    origin: Sequence[tuple[str, str]] = ()
    """When and with what the numbers were made, as names and values."""
    files: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """The files beside the page: for each stem its kinds."""
    first: Section | None = None
    """What stands above all answers, open."""
    more: Sequence[Section] = ()
    """The sections about the study as a whole; they stand before the tables."""
    few: Sequence[FewImages] = ()
    """Results with few training images, of which each task has a figure."""
