"""The report folder: the page, the figures and the tables of a study."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from features.errors import InputError
from features.files import file_name, write_text
from features.study import Study, open_study
from probe.curves import TaskCurves, curves
from probe.figures import curve_figure, gap_figure, render, save
from probe.page import page
from probe.tables import Line, lines, to_csv, to_latex, to_markdown


@dataclass(frozen=True)
class Report:
    """What was drawn and where it lies."""

    study: Study
    folder: Path
    tasks: tuple[TaskCurves, ...]
    table: tuple[Line, ...]

    @property
    def index(self) -> Path:
        """The page."""
        return self.folder / "index.html"


def report(study: Study | Path | str) -> Report:
    """Draw the report of a study into its folder `report/`.

    Raises:
        InputError: Nothing is fitted yet, or the results cannot be compared.
    """
    opened = study if isinstance(study, Study) else open_study(study)
    found = curves(opened)
    if not found:
        raise InputError(f"{opened.folder}: no task of study.toml has results; run `probe fit`.")
    table = lines(found)
    folder = opened.folder / "report"
    folder.mkdir(exist_ok=True)
    svgs = {}
    for task in found:
        for kind, draw in (("curves", curve_figure), ("gap", gap_figure)):
            figure = draw(task, opened.synthetic)
            if figure is not None:
                save(figure, folder / f"{kind}-{file_name(task.task)}")
                svgs[f"{kind}-{task.task}"] = render(figure, "svg").decode()
    write_text(folder / "table.csv", to_csv(table))
    write_text(folder / "table.md", to_markdown(table, opened.synthetic))
    write_text(folder / "table.tex", to_latex(table, opened.synthetic))
    write_text(folder / "index.html", page(opened, found, table, svgs))
    return Report(opened, folder, tuple(found), tuple(table))
