"""The page of a big study, in a real browser: twenty backbones of fifty layers on three tasks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import studies
from test_page import CHROMIUM, Watched, browser, open_all

from features.study.study import open_study
from probe.fitting.fit import fit
from probe.reporting.report import report

__all__ = ["browser"]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: apt-get install chromium"),
]
BACKBONES, LAYERS, ROWS = 20, 50, 60


def big(folder: Path) -> Path:
    """The page of the study; half of the backbones are of each domain, the last has random weights."""
    y = np.arange(ROWS)
    labels = {"age": y % 3, "gender": y // 3 % 2, "smile": y // 6 % 2}
    study = studies.begin(folder, labels, closest="faces", subject=y // 2)
    for number in range(BACKBONES):
        last = number == BACKBONES - 1
        domain = "none" if last else ("faces", "objects")[number % 2]
        layers = {
            f"blocks.{i}.mlp.fc2": studies.signal(y % 3, 4, i / LAYERS, 100 * number + i)
            for i in range(LAYERS)
        }
        name = "network-00@random" if last else f"network-{number:02}"
        random = {"random": True, "seed": 0} if last else None
        studies.add(study, name, layers, domain=domain, weights=random, card={"name": name[:10]})
    fit(folder, probes=("ridge",), folds=3)
    return report(open_study(folder)).index


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return big(tmp_path_factory.mktemp("big") / "study")


def test_it_is_small_asks_for_nothing_and_breaks_no_rule_of_accessibility(
    browser: Any, index: Path
) -> None:
    assert index.stat().st_size < 2_000_000
    axe = pytest.importorskip("axe_playwright_python", reason="axe-core is not installed")
    made = Watched(browser, index)
    made.check(index)
    made.page.evaluate((Path(axe.__file__).parent / "axe.min.js").read_text())
    open_all(made.page)
    assert made.page.evaluate("document.documentElement.scrollWidth") <= 1280
    result = made.page.evaluate("() => axe.run()")
    serious = [v for v in result["violations"] if v["impact"] in ("serious", "critical")]
    assert [(v["id"], v["nodes"][0]["html"]) for v in serious] == []
    assert len(result["passes"]) > 10
    made.context.close()
