"""What others have published on a data set, beside a study's own numbers.

Every number was read in the source that is named, which may quote another; what the source does not give
stays blank. All are accuracies in per cent on the five folds of Adience.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from probe.analysis.answer import whole
from probe.analysis.curves import TaskCurves
from probe.analysis.statistics import Interval
from probe.reporting.tables.table import Cell, Column, Table


@dataclass(frozen=True)
class Published:
    """The accuracies of a published system on one data set, as fractions; None where not known."""

    system: str
    year: int
    age: float | None
    one_off: float | None
    gender: float | None
    source: str


def _p(
    system: str,
    year: int,
    age: float | None,
    one_off: float | None,
    gender: float | None,
    source: str,
) -> Published:
    age, one_off, gender = (None if v is None else v / 100 for v in (age, one_off, gender))
    return Published(system, year, age, one_off, gender, source)


_FOLDERS = "sebastian-lapuschkin/understanding-age-gender-deep-learning-models, README (10 crops)"
ADIENCE = (
    _p("LBP and FPLBP with dropout SVM (Eidinger et al.)", 2014, 45.1, None, None,
       "quoted in the README of CVxTz/face_age_gender, ± 2.6"),
    _p("GilNet, one crop (Levi and Hassner)", 2015, 49.5, None, 85.9, "Papers with Code"),
    _p("GilNet, 10 crops (Levi and Hassner)", 2015, 50.7, 84.7, 86.8,
       "Papers with Code; ± 5.1 (age) and ± 1.4 (gender)"),
    _p("VGG-Face, fine-tuned (Özbulak et al., arXiv 1610.00134)", 2016, 57.9, None, None,
       "quoted in Rodríguez et al., A painless attention mechanism, Table 3; the abstract says 7 and "
       "4.5 points above GilNet"),
    _p("DEX: VGG-16, ImageNet then IMDB-WIKI", 2016, 64.0, None, None,
       "quoted in Rodríguez et al., A painless attention mechanism"),
    _p("CaffeNet from scratch (Lapuschkin et al.)", 2017, 52.5, 87.9, 87.7, _FOLDERS),
    _p("CaffeNet from ImageNet (Lapuschkin et al.)", 2017, 51.7, 87.6, 90.0, _FOLDERS),
    _p("GoogLeNet from ImageNet (Lapuschkin et al.)", 2017, 56.6, 91.0, 91.2, _FOLDERS),
    _p("VGG-16 from ImageNet (Lapuschkin et al.)", 2017, 53.8, 88.2, 92.0, _FOLDERS),
    _p("VGG-16 from ImageNet, then IMDB-WIKI (Lapuschkin et al.)", 2017, 60.2, 94.2, 90.6, _FOLDERS),
    _p("VGG-16, the same, two alignments (Lapuschkin et al.)", 2017, 63.0, 96.0, 92.3, _FOLDERS),
    _p("FAM, deep attention (Rodríguez et al.)", 2017, 61.8, None, 93.0,
       "quoted in Rodríguez et al., A painless attention mechanism"),
    _p("Wide ResNet with attention (Rodríguez et al.)", 2017, 59.7, None, 94.8,
       "Rodríguez et al., A painless attention mechanism"),
    _p("DAGER (Sighthound)", 2017, 61.3, None, 91.0,
       "quoted in the README of CVxTz/face_age_gender, ± 3.7"),
    _p("ResNet from ImageNet (CVxTz)", 2018, 57.1, None, 89.4,
       "README of CVxTz/face_age_gender; ± 5.3 and ± 1.4"),
    _p("RoR-34 with IMDB-WIKI (arXiv 1710.02985)", 2017, 66.74, None, None, "quoted on hyper.ai"),
    _p("VGG-Face, fine-tuned (Al-Shannaq and Elrefaei)", 2020, 61.4, None, None, "abstract, JJCIT"),
    _p("MiVOLO-d1, not trained on Adience", 2023, 68.69, None, 96.51, "README of WildChlamydia/MiVOLO"),
    _p("MiVOLOv2, not trained on Adience", 2024, 69.43, None, 97.39, "README of WildChlamydia/MiVOLO"),
)  # fmt: skip

_COLUMNS = (
    Column("system", "system"), Column("year", "year"), Column("age", "age", "percent"),
    Column("one_off", "age, one-off", "percent"), Column("gender", "gender", "percent"),
    Column("source", "source"),
)  # fmt: skip


def _ours(task: TaskCurves) -> Iterator[tuple[str, str, str, Mapping[str, Interval]]]:
    """Backbone, method, how it was chosen, and metrics of `best` rows and of fine-tuned whole networks."""
    for best in task.best:
        how = "best layer, chosen inside the training folds"
        yield best.backbone, best.method, how, best.metrics
    for curve in task.tuned:
        point = whole(curve)
        if point is not None:
            yield curve.backbone, curve.method, "whole network", point.metrics


def literature_table(source: str, tasks: Sequence[TaskCurves]) -> Table | None:
    """This study's `best` rows above what is published on its data set; None where nothing is known.

    Args:
        source: The study's data source.
        tasks: The curves of its tasks.
    """
    if not source.startswith("adience"):
        return None
    ours: dict[tuple[str, str, str], dict[str, float]] = {}
    for task in tasks:
        for backbone, method, how, metrics in _ours(task):
            mine = ours.setdefault((backbone, method, f"{how}, {task.n:,} images"), {})
            if task.task in ("age", "gender"):
                mine[task.task] = metrics["accuracy"].value
            if task.task == "age" and "one_off" in metrics:
                mine["one_off"] = metrics["one_off"].value
    rows: list[tuple[Cell, ...]] = [
        (f"this study: {backbone}, {method}", "", mine.get("age"), mine.get("one_off"),
         mine.get("gender"), how)
        for (backbone, method, how), mine in ours.items()
        if mine
    ]  # fmt: skip
    rows += [(p.system, str(p.year), p.age, p.one_off, p.gender, p.source) for p in ADIENCE]
    note = (
        "Accuracy in per cent over the five folds; blank: not known. Published systems differ in crops, "
        "alignment and training data, and some choose their settings on images of the same people."
    )
    return Table("literature", "Beside the literature", _COLUMNS, tuple(rows), note)
