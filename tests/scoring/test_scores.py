"""Transfer scores, CKA and distances: golden values, hand-worked cases, second implementations, laws."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import studies
from scipy import linalg, optimize
from sklearn.covariance import LedoitWolf
from typer.testing import CliRunner

from cli.app import app
from features.arrays import Doubles, Ints
from features.errors import InputError
from features.study.study import open_study
from probe.fitting.fit import fit
from probe.results import csv_records
from probe.scoring import score_files
from probe.scoring.agreement import agree, agreements, measured
from probe.scoring.cka import alignment, linear_gram, u_centred
from probe.scoring.rank import rank
from probe.scoring.score_files import LayerScore
from probe.scoring.score_table import SCORES
from probe.scoring.transfer_scores import basis, h_score, leep, logme


def labelled(n: int, d: int, seed: int = 0) -> tuple[Doubles, Ints]:
    drawn = np.random.default_rng(seed)
    y = drawn.integers(0, 3, n)
    return drawn.standard_normal((n, d)) + 0.7 * drawn.standard_normal((3, d))[y] + 0.5, y


# CKA.


def golden() -> tuple[Doubles, Doubles]:
    drawn = np.random.RandomState(1337)
    x = drawn.randn(100, 10)
    return x, drawn.randn(100, 10) + x


def cka(x: Doubles, y: Doubles) -> float:
    return alignment(u_centred(linear_gram(x)), u_centred(linear_gram(y)))


def test_debiased_cka_has_the_value_of_the_authors_notebook() -> None:
    """google-research/representation_similarity, Demo.ipynb: .51346."""
    assert cka(*golden()) == pytest.approx(0.51346, abs=5e-6)


def test_debiased_cka_is_that_of_unbiased_hsic() -> None:
    """Song et al. 2012, equation 5, sums written out."""
    x, y = golden()

    def hsic(k: Doubles, m: Doubles) -> float:
        k, m = k - np.diag(np.diag(k)), m - np.diag(np.diag(m))
        n, ones = len(k), np.ones(len(k))
        first = np.trace(k @ m) + (ones @ k @ ones) * (ones @ m @ ones) / ((n - 1) * (n - 2))
        return float((first - 2 / (n - 2) * (ones @ k @ m @ ones)) / (n * (n - 3)))

    k, m = linear_gram(x), linear_gram(y)
    wanted = hsic(k, m) / np.sqrt(hsic(k, k) * hsic(m, m))
    assert cka(x, y) == pytest.approx(wanted)


def test_cka_laws() -> None:
    x, y = golden()
    turn = linalg.qr(np.random.default_rng(0).standard_normal((10, 10)))[0]
    assert cka(x, x) == pytest.approx(1)
    assert cka(x, 3 * x @ turn + 5) == pytest.approx(1)
    assert cka(x, y) == pytest.approx(cka(y, x))
    assert cka(x, np.ones((100, 3))) == pytest.approx(0, abs=1e-12)
    wide = np.random.default_rng(1).standard_normal((2, 40, 5000))
    a, b = (w - w.mean(0) for w in wide)
    assert alignment(a @ a.T, b @ b.T) > 0.9  # centred as usual, wide features look alike
    assert abs(cka(*wide)) < 0.05


# LogME.


def naive_logme(x: Doubles, y: Ints) -> float:
    """The paper's log evidence, equation 2, maximised by a general optimiser over alpha and beta."""
    n, d = x.shape

    def negative(free: Doubles, t: Doubles) -> float:
        alpha, beta = np.exp(np.clip(free, -30, 30))
        a = alpha * np.eye(d) + beta * x.T @ x
        m = beta * np.linalg.solve(a, x.T @ t)
        evidence = d / 2 * np.log(alpha) + n / 2 * np.log(beta) - n / 2 * np.log(2 * np.pi)
        evidence -= beta / 2 * ((x @ m - t) ** 2).sum() + alpha / 2 * m @ m
        return float(-(evidence - np.linalg.slogdet(a)[1] / 2) / n)

    best = []
    for label in np.unique(y):
        t = (y == label).astype(float)
        starts = [np.array([a, b]) for a in (-2.0, 2.0, 6.0) for b in (0.0, 3.0)]
        options = {"xatol": 1e-9, "fatol": 1e-13, "maxiter": 4000}
        tried = [
            optimize.minimize(negative, s, (t,), method="Nelder-Mead", options=options).fun
            for s in starts
        ]
        best.append(-min(tried))
    return float(np.mean(best))


@pytest.mark.parametrize(("n", "d"), [(60, 5), (25, 40)])
def test_logme_is_the_papers_evidence_at_its_maximum(n: int, d: int) -> None:
    x, y = labelled(n, d)
    assert logme(x, y) == pytest.approx(naive_logme(x, y), abs=2e-5)


def test_logme_by_hand() -> None:
    """x = (0, 1, 1, 1), t = (0, 0, 1, 1): alpha / beta solves 10 r^2 + 24 r - 18 = 0, so r = 0.6.

    Then alpha = 2.7, beta = 4.5 and the evidence is (4 log(2.25 / pi) - log 6 - 4) / 8. For the other
    class, 1 - t, the weight's best size is none, and the evidence that of noise alone of variance
    1/2: -(1 + log pi) / 2.
    """
    x, y = np.array([[0.0], [1], [1], [1]]), np.array([0, 0, 1, 1])
    first = (4 * np.log(2.25 / np.pi) - np.log(6) - 4) / 8
    second = -(1 + np.log(np.pi)) / 2
    assert logme(x, y) == pytest.approx((first + second) / 2, abs=1e-5)


def test_logme_laws() -> None:
    x, y = labelled(80, 6)
    turn = linalg.qr(np.random.default_rng(0).standard_normal((6, 6)))[0]
    assert logme(x @ turn, y) == pytest.approx(logme(x, y), abs=1e-6)
    order = np.random.default_rng(1).permutation(80)
    assert logme(x[order], y[order]) == pytest.approx(logme(x, y), abs=1e-9)
    assert logme(x, y) > logme(x, y[order])
    assert logme(basis(x), y) == logme(x, y)


# H-score.


@pytest.mark.parametrize(("n", "d"), [(60, 5), (25, 40)])
def test_h_score_is_the_papers_trace(n: int, d: int) -> None:
    """tr of the inverse of scikit-learn's Ledoit-Wolf covariance times the covariance of the means."""
    x, y = labelled(n, d)
    f = x - x.mean(0)
    shrunk = LedoitWolf(assume_centered=True).fit(f)
    means = np.stack([f[y == label].mean(0) for label in y])
    between = np.cov(means, rowvar=False, bias=True)
    wanted = (1 - shrunk.shrinkage_) * np.trace(np.linalg.inv(shrunk.covariance_) @ between)
    assert h_score(x, y) == pytest.approx(wanted)


def test_constant_features_cost_no_time_and_tell_nothing() -> None:
    """9,216 constant features: a pseudo-inverse of their covariance would take an hour."""
    x, y = labelled(40, 5)
    padded = np.concatenate([x, np.zeros((40, 9_000)), np.full((40, 216), 3.0)], axis=1)
    assert h_score(padded, y) == pytest.approx(h_score(x, y))
    dead = np.zeros((40, 9_216))
    assert h_score(dead, y) == 0.0
    assert h_score(dead + 1, y) == 0.0
    # A normal with the mean 0 and the variance of the indicator: its log density per image.
    wanted = np.mean([-0.5 * np.log(2 * np.pi * v) - 0.5 for v in (np.eye(3)[y] ** 2).mean(0)])
    assert logme(dead, y) == pytest.approx(wanted)


def test_layers_are_compared_on_rows_of_all_classes(tmp_path: Path) -> None:
    """Two layers that are alike on the first class and unlike on the others, in rows sorted by class."""
    draw = np.random.default_rng(0)
    y = np.repeat([0, 1], 500)
    study = studies.begin(tmp_path / "study", {"label": y.tolist()})
    a, b = draw.standard_normal((2, 1000, 6)).astype(np.float32)
    studies.add(study, "net", {"a": a, "b": np.where(y[:, None] == 0, a, b).astype(np.float32)})
    result = rank(tmp_path / "study", rows=1000)
    assert 0.1 < result.alike[0, 1] < 0.6


def test_h_score_by_hand() -> None:
    """One feature: the variance between classes over the whole; nothing to shrink."""
    x = np.array([[0.0], [2], [4], [6]])  # mean 3, variance 5; class means 1 and 5, variance 4
    assert h_score(x, np.array([0, 0, 1, 1])) == pytest.approx(4 / 5)
    assert h_score(np.ones((4, 3)), np.array([0, 0, 1, 1])) == 0


# LEEP.


def test_leep_by_hand_and_naively() -> None:
    """Both images: .8 x 2/3 + .2 x 1/4 = 7/12."""
    p = np.array([[0.8, 0.2], [0.4, 0.6]])
    assert leep(p, np.array([0, 1])) == pytest.approx(np.log(7 / 12))
    drawn = np.random.default_rng(0)
    p = drawn.dirichlet(np.ones(6), 50)
    y = drawn.integers(0, 4, 50)
    total = 0.0
    for i in range(50):
        inside = 0.0
        for z in range(6):
            joint = sum(p[k, z] for k in range(50) if y[k] == y[i]) / 50
            inside += p[i, z] * joint / (p[:, z].sum() / 50)
        total += np.log(inside)
    assert leep(p, y) == pytest.approx(total / 50)
    assert leep(np.eye(3)[y % 3], y % 3) == pytest.approx(0)  # its classes are the task's


# Agreement.

# thuml/Transfer-Learning-Library, examples/model_selection, CIFAR-10: accuracy after fine-tuning, then
# H-score, LEEP, LogME and NCE; what it reports under them.
TABLE = """96.2 5.911 -1.385 .293 -1.139
97.5 6.363 -1.259 .349 -1.060
96.8 6.567 -1.010 .388 -1.007
97.7 6.901 -.829 .463 -.838
97.9 6.945 -.838 .469 -.851
97.2 6.210 -1.035 .302 -1.006
97.4 6.547 -.934 .343 -.946
97.4 6.706 -.888 .369 -.866
95.7 5.928 -1.100 .291 -1.089
96.8 6.018 -1.066 .304 -1.086"""


def test_agreement_has_the_values_published_with_the_scores() -> None:
    table = np.array([[float(v) for v in line.split()] for line in TABLE.splitlines()])
    agreed = [agree(table[:, j].tolist(), table[:, 0].tolist()) for j in range(1, 5)]
    assert [tau for tau, _ in agreed] == pytest.approx([0.800, 0.638, 0.785, 0.714], abs=5e-4)
    # The accuracies are printed with one decimal, so the last digit is not theirs.
    assert [r for _, r in agreed] == pytest.approx([0.839, 0.604, 0.733, 0.786], abs=3e-3)
    assert np.isnan(agree([1, 1, 1], [1, 2, 3])).all()


# `probe rank` on a study.


def two_backbones(folder: Path) -> Path:
    y = np.arange(150) % 3
    study = studies.begin(folder, {"label": y})
    layers = {f"l{i}": studies.signal(y, 8, apart, i) for i, apart in enumerate((0.1, 0.4, 1.2))}
    layers["again"] = layers["l2"] * 2 + 1
    studies.add(study, "good", layers)
    studies.add(study, "bad", {f"l{i}": studies.signal(y, 8, 0.1, 50 + i) for i in range(3)})
    return folder


def test_rank_orders_layers_as_probes_do_and_marks_copies(tmp_path: Path) -> None:
    folder = two_backbones(tmp_path / "study")
    made = rank(folder)
    by_key = {(line.backbone, line.key): line for line in made.lines}
    assert len(by_key) == 7
    best = max(made.lines, key=lambda line: line.logme)
    assert (best.backbone, best.key) in (("good", "l2"), ("good", "again"))
    assert by_key["good", "again"].copy_of == "good/l2"
    assert {line.copy_of for key, line in by_key.items() if key != ("good", "again")} == {""}
    with open_study(folder).features("good") as file:
        x = file.read("l1").astype(np.float64)
    y = open_study(folder).labels("label")
    assert by_key["good", "l1"].logme == pytest.approx(logme(x, y))
    assert by_key["good", "l1"].h_score == pytest.approx(h_score(x, y))
    fit(folder, probes=("ridge",))
    agreed = agreements(made.lines, measured(made.study))
    layers = next(a for a in agreed if (a.score, a.over) == ("logme", "layers"))
    assert layers.n == 7
    assert layers.tau > 0.5
    assert agreements(made.lines, {}) == []


def test_scores_come_back_and_those_of_older_features_do_not(tmp_path: Path) -> None:
    folder = two_backbones(tmp_path / "study")
    made = rank(folder, backbones=["good", "bad"])
    lines, warnings = score_files.read(made.study)
    assert warnings == []
    assert [(a.backbone, a.key, a.copy_of) for a in lines] == [
        (b.backbone, b.key, b.copy_of) for b in made.lines
    ]
    names, alike = score_files.read_alike(made.study)
    assert tuple(names) == made.names
    assert alike == pytest.approx(made.alike, abs=1e-4)
    table = folder / "scores.csv"
    text = table.read_text()
    table.write_text(text.replace(f",{made.lines[0].contract}\n", ",another\n", 1))
    lines, warnings = score_files.read(made.study)
    assert len(lines) < len(made.lines)
    assert "older features" in warnings[0]


def test_leep_only_where_the_network_ends_in_the_classes_it_learnt(tmp_path: Path) -> None:
    y = np.arange(60) % 2
    study = studies.begin(tmp_path / "study", {"label": y})
    layers = {"fc7": studies.signal(y, 4, 1.0), "fc8": studies.signal(y, 7, 1.0)}
    studies.add(study, "net", layers, card={"options": {"num_classes": 7}})
    random = {"random": True, "seed": 0}
    studies.add(study, "drawn", layers, card={"options": {"num_classes": 7}}, weights=random)
    leeps = {(x.backbone, x.key): x.leep for x in rank(study.folder).lines}
    assert [key for key, value in leeps.items() if value is not None] == [("net", "fc8")]


def test_rank_says_which_layers_have_constant_features(tmp_path: Path) -> None:
    y = np.arange(30) % 2
    made = studies.begin(tmp_path / "study", {"label": y})
    x = studies.signal(y, 6, 1.0)
    still = x.copy()
    still[:, [1, 4]] = 3.0
    studies.add(made, "net", {"low": x, "high": still})
    assert rank(made.folder).constant == (("net/high", 2, 6),)
    said = CliRunner().invoke(app, ["rank", "--study", str(made.folder)])
    assert "the same for every image, which tell nothing: net/high 2 of 6" in said.stderr


def test_what_rank_refuses(tmp_path: Path) -> None:
    folder = two_backbones(tmp_path / "study")
    for wrong, words in (
        ({"backbones": ["god"]}, "--backbone god: not in this study"),
        ({"layers": ["l9"]}, "--layer l9: not extracted"),
        ({"rows": 2}, "--rows 2"),
        ({"tasks": ["lable"]}, "lable"),
    ):
        with pytest.raises(InputError, match=words):
            rank(folder, **wrong)  # type: ignore[arg-type]
    assert not (folder / "scores.csv").exists()
    empty = studies.begin(tmp_path / "empty", {"label": np.arange(20) % 2})
    with pytest.raises(InputError, match="no features yet"):
        rank(empty.folder)


def test_a_record_gives_a_score_its_column() -> None:
    """scores.csv has the columns that it always had, in their order."""
    names = "task backbone domain key depth dim logme h_score leep copy_of images contract"
    assert list(csv_records.columns(LayerScore)) == names.split()
    assert [score.heading for score in SCORES.values()] == ["LogME", "H-score", "LEEP"]


@pytest.mark.parametrize("name", ["scores.csv", "similarity.csv"])
def test_a_folder_in_the_place_of_a_file_leaves_the_other_as_it_was(
    tmp_path: Path, name: str
) -> None:
    study = studies.begin(tmp_path / "study", {"label": np.arange(12) % 3})
    other = study.folder / ({"scores.csv", "similarity.csv"} - {name}).pop()
    other.write_text("as it was")
    (study.folder / name).mkdir()
    with pytest.raises(InputError, match="a folder where a file belongs"):
        score_files.write(study, [], [], np.zeros((0, 0)))
    assert other.read_text() == "as it was"
