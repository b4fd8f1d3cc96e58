"""Fine-tunes in a report, on the training logs of Yosinski et al. 2014."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import studies

from features.study.study import Study, open_study
from probe.analysis.answer import answer
from probe.reporting.report import report
from probe.reporting.words import findings, headline
from probe.results import rows as results
from probe.results.rows import Row

pytestmark = pytest.mark.usefixtures("svg_alone")

# github.com/yosinski/convnet_transfer: final test accuracies in its training logs, by the layer through
# which a network was copied. Random halves of ImageNet (means of 4 and 8 runs of BnB and AnB), and man-made
# against natural classes in both directions; the base is training from scratch.
DEPTH = 7
HALVES = {
    "scratch": [0.6245],
    "frozen B": [0.6262, 0.6228, 0.6203, 0.6041, 0.5933, 0.6185, 0.6229],
    "frozen A": [0.6275, 0.6233, 0.6183, 0.5994, 0.5777, 0.5804, 0.5419],
    "copied B": [0.6166, 0.6214, 0.6303, 0.6284, 0.6292, 0.6274, 0.6263],
    "copied A": [0.6364, 0.6347, 0.6421, 0.6394, 0.6443, 0.6455, 0.6457],
}
NATURAL = {
    "scratch": [0.5352],
    "frozen man-made": [0.5375, 0.5209, 0.4997, 0.4609, 0.4083, 0.3728, 0.2898],
}
MANMADE = {
    "scratch": [0.6531],
    "frozen natural": [0.6566, 0.6494, 0.6244, 0.5811, 0.5196, 0.4828, 0.3964],
}


def yosinski(folder: Path) -> Study:
    """Their numbers as rows of results.csv; no features and no predictions."""
    logs = {"random half": HALVES, "natural": NATURAL, "man-made": MANMADE}
    studies.begin(folder, {task: np.arange(20) % 10 for task in logs})
    rows = []
    for task, runs in logs.items():
        for run, values in runs.items():
            method, _, name = run.partition(" ")
            for i, value in enumerate(values):
                layer = f"conv{i + 1}" if i < 5 else f"fc{i + 1}"
                rows.append(
                    Row(
                        backbone=name or "base", domain=name or "task", task=task, method=method,
                        layer=layer if name else "", depth=(i + 1) / 8 if name else 0.0, fold=0,
                        accuracy=value, balanced_accuracy=value, macro_f1=value, n_test=25_000,
                        n_train=640_000, protocol="yosinski",
                    )
                )  # fmt: skip
    results.write(folder / "results.csv", rows)
    return open_study(folder)


def test_the_logs_of_yosinski_give_their_figure(tmp_path: Path) -> None:
    study = yosinski(tmp_path / "study")
    made = report(study)
    by_task = {task.task: task for task in made.tasks}
    drawn = {(c.method, c.backbone): c for c in by_task["random half"].tuned}
    at = {key: [p.accuracy.value for p in c.points] for key, c in drawn.items()}
    # Their order at the last layer: copied and tuned above all, the selffer, the base, frozen transfer.
    last = {key: values[-1] for key, values in at.items()}
    assert sorted(last, key=lambda key: -last[key]) == [
        ("copied", "A"), ("copied", "B"), ("scratch", "base"), ("frozen", "B"), ("frozen", "A"),
    ]  # fmt: skip
    assert at["frozen", "B"][4] < at["frozen", "B"][0] < at["copied", "A"][0]  # co-adaptation
    drops = {}
    for task in made.tasks:
        for sentence in findings(task):
            match = re.search(
                r"frozen through .*; through fc7: .*?, ([+-][\d.]+) points against", sentence
            )
            if match and not sentence.startswith("B "):
                drops[task.task] = float(match[1])
    assert drops == {"random half": -8.3, "natural": -24.5, "man-made": -25.7}
    for stem in ("random_half", "natural", "man-made"):
        assert (made.folder / f"tuned-{stem}.svg").is_file()
    charts = {c.task: c for s in made.contents.tasks for c in s.charts if c.metric == "accuracy"}
    line = next(x for x in charts["random half"].lines if x.name == "frozen A")
    assert [p[2] for p in line.points] == HALVES["frozen A"]
    assert "No probe has been fitted" in made.contents.tasks[0].answer[0]


def test_what_fine_tuning_adds_and_scratch_lacks(tmp_path: Path) -> None:
    study = studies.three(tmp_path / "study")
    rows = results.read(study.folder / "results.csv")
    base = [r for r in rows if (r.backbone, r.layer, r.method) == ("near", "l2", "ridge")]
    more = [
        replace(row, method=method, backbone=name, domain=domain, layer="", depth=0.0, pool="",
                accuracy=min(1.0, row.accuracy + change))
        for row in base
        for method, name, domain, change in (
            ("finetune", "near", "faces", 0.05), ("scratch", "small", "task", -0.2),
        )
    ]  # fmt: skip
    results.write(study.folder / "results.csv", [*rows, *more])
    task = studies.only(open_study(study.folder))
    made = answer(task, "faces")
    assert made is not None
    assert made.tuning is not None
    assert made.scratch is not None
    lead = max(b.accuracy.value for b in task.best)
    tuned = np.mean([row.accuracy for row in more if row.method == "finetune"])
    assert made.tuning.difference.value == pytest.approx(tuned - lead)
    text = " ".join(headline(task, "faces"))
    assert f"{100 * (tuned - lead):+.1f} points" in text
    assert "Training from scratch: near against scratch of small" in text
