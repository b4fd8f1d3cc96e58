import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    f1_score,
    log_loss,
    mean_absolute_error,
    roc_auc_score,
)

from probe.results import scores as measures
from probe.results.class_metrics import PredictedImages
from probe.results.metrics import COLUMNS, CURVES, IN_PROTOCOL, OF_NUMBERS, measure
from probe.results.scores import calibration_error, confusion, probabilities


@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
@pytest.mark.filterwarnings("ignore:A single label was found")
@given(
    st.integers(2, 6).flatmap(
        lambda k: st.tuples(
            st.just(k),
            st.lists(
                st.tuples(st.integers(0, k - 1), st.integers(0, k - 1)), min_size=1, max_size=40
            ),
        )
    )
)
def test_metrics_are_scikit_learns(drawn: tuple[int, list[tuple[int, int]]]) -> None:
    classes, pairs = drawn
    y, predicted = np.array(pairs).T
    measured = measure(np.eye(classes)[predicted] - 0.5, y, True)
    assert measured["accuracy"] == pytest.approx(accuracy_score(y, predicted))
    assert measured["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(y, predicted))
    assert measured["macro_f1"] == pytest.approx(f1_score(y, predicted, average="macro"))
    assert measured["mae"] == pytest.approx(mean_absolute_error(y, predicted))
    near = [abs(a - b) <= 1 for a, b in pairs]
    assert measured["one_off"] == pytest.approx(sum(near) / len(near))


def test_by_hand() -> None:
    """Truth 0 0 1 2 3, predicted 0 1 3 2 1: off by 0, 1, 2, 0 and 2."""
    predicted = np.array([0, 1, 3, 2, 1])
    measured = measure(np.eye(4)[predicted], np.array([0, 0, 1, 2, 3]), True)
    assert measured["accuracy"] == pytest.approx(2 / 5)
    assert measured["balanced_accuracy"] == pytest.approx((1 / 2 + 0 + 1 + 0) / 4)
    assert measured["macro_f1"] == pytest.approx((2 / 3 + 0 + 1 + 0) / 4)
    assert measured["one_off"] == pytest.approx(3 / 5)
    assert measured["mae"] == pytest.approx(5 / 5)


def test_classes_without_order_have_no_distance() -> None:
    measured = measure(np.eye(3), np.arange(3), False)
    assert (measured["one_off"], measured["mae"]) == (None, None)
    assert (measured["accuracy"], measured["balanced_accuracy"], measured["macro_f1"]) == (1, 1, 1)


@given(st.integers(2, 5), st.integers(1, 60), st.integers(0, 2**16))
def test_probabilities_and_their_log_loss_are_scikit_learns(k: int, n: int, seed: int) -> None:
    drawn = np.random.default_rng(seed)
    scores = drawn.normal(0, 30, (n, k)).astype(np.float32)
    y = drawn.integers(0, k, n)
    p = softmax(scores.astype(np.float64), axis=1)
    np.testing.assert_allclose(probabilities(scores, "logits"), p, rtol=1e-9, atol=1e-300)
    sure = np.clip(p, np.finfo(np.float32).eps, 1)
    wanted = -np.log(sure[np.arange(n), y]).mean()
    assert measure(scores, y, False, "logits")["log_loss"] == pytest.approx(wanted)
    if k > 1:
        mild = (p.astype(np.float32) + 0.01) / (1 + 0.01 * k)
        measured = measure(mild, y, False, "shares")["log_loss"]
        assert measured == pytest.approx(log_loss(y, mild, labels=range(k)), rel=1e-5)
    assert measure(scores, y, False)["log_loss"] is None


def test_calibration_by_hand() -> None:
    """Bins of 1/15: .62 and .64 share one with one of two right, .95 stands alone and is right."""
    p = np.array([[0.62, 0.38], [0.36, 0.64], [0.05, 0.95]])
    wanted = 2 / 3 * abs((0.62 + 0.64) / 2 - 1 / 2) + 1 / 3 * abs(0.95 - 1)
    assert calibration_error(p, np.array([0, 0, 1])) == pytest.approx(wanted)
    assert calibration_error(np.array([[1.0, 0.0]]), np.array([0])) == 0
    # 0.6 is the upper end of the ninth bin and 0.61 in the tenth: each alone, one right, one wrong.
    assert calibration_error(np.array([[0.6, 0.4], [0.61, 0.39]]), np.array([0, 1])) == (
        pytest.approx((0.4 + 0.61) / 2)
    )


def test_honest_probabilities_are_calibrated() -> None:
    drawn = np.random.default_rng(0)
    p = drawn.dirichlet(np.ones(3), 40_000)
    y = (p.cumsum(1) < drawn.random((len(p), 1))).sum(1)
    assert calibration_error(p, y) < 0.012
    assert calibration_error(p**3 / (p**3).sum(1, keepdims=True), y) > 0.1


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(-3, 3)), min_size=2, max_size=40))
def test_auc_is_scikit_learns(drawn: list[tuple[int, int]]) -> None:
    y, margin = np.array(drawn).T
    scores = np.stack([-margin / 2, margin / 2], axis=1)
    measured = measure(scores, y, False)["auc"]
    if len(set(y)) < 2:
        assert measured is None
    else:
        assert measured == pytest.approx(roc_auc_score(y, margin))


def test_more_than_two_classes_have_no_auc() -> None:
    assert measure(np.eye(3), np.arange(3), False)["auc"] is None


def test_confusion_has_the_truth_in_rows() -> None:
    scores = np.eye(3)[[1, 1, 2, 0]]
    assert confusion(scores, np.array([0, 1, 2, 0])).tolist() == [[1, 1, 0], [0, 1, 0], [0, 0, 1]]


def test_a_class_that_training_lacked_is_never_said() -> None:
    scores = np.array([[-1.0, -np.inf, -2.0], [-3.0, -np.inf, -2.0]], dtype=np.float32)
    assert measure(scores, np.array([1, 2]), False)["accuracy"] == 0.5


def test_a_class_never_seen_costs_more_than_any_other() -> None:
    """Its scores are -inf; a loss that chooses counts it as 1e-15, as scikit-learn did."""
    drawn = np.random.default_rng(0)
    scores = drawn.normal(0, 3, (50, 4)).astype(np.float32)
    y = np.arange(50) % 4
    p = probabilities(scores, "logits")
    assert measures.log_loss(p, y, measures.NEVER_SEEN) == pytest.approx(log_loss(y, p), rel=1e-9)
    scores[:, 2] = -np.inf
    p = probabilities(scores, "logits")
    unseen = measures.log_losses(p[:3], np.array([2, 2, 2]), measures.NEVER_SEEN)
    assert unseen == pytest.approx(-np.log(1e-15))
    even = probabilities(np.zeros((2, 5), dtype=np.float32), "logits")
    assert measures.log_loss(even, np.array([0, 3])) == pytest.approx(np.log(5))


@given(st.integers(0, 2**16), st.integers(2, 6), st.integers(1, 60))
def test_a_metric_with_curves_is_the_mean_of_its_values_per_image(
    seed: int, classes: int, n: int
) -> None:
    drawn = np.random.default_rng(seed)
    y, predicted = drawn.integers(0, classes, (2, n))
    measured = measure(np.eye(classes)[predicted], y, True)
    images = PredictedImages(predicted, y, np.zeros(n, dtype=np.int64))
    for metric in (m for m in CURVES.values() if not m.many and m.per_image is not None):
        assert metric.per_image is not None
        values = metric.per_image(images)
        assert values.mean() == pytest.approx(measured[metric.column]), metric.words
        assert not metric.binary or set(values) <= {0, 1}


def test_a_record_gives_a_metric_its_column_and_its_names() -> None:
    """The columns are those of results.csv as it always was, and their order with them."""
    names = "accuracy balanced_accuracy macro_f1 log_loss calibration_error auc one_off mae"
    assert list(IN_PROTOCOL) == list(names.split(" "))
    assert list(COLUMNS)[: len(IN_PROTOCOL)] == list(IN_PROTOCOL)
    assert list(OF_NUMBERS) == ["mae", "rmse", "r2", "spearman"]
    assert list(CURVES) == [
        "accuracy", "balanced", "macro_f1", "auc", "one_off", "mae", "top5", *list(OF_NUMBERS)[1:], "map",
    ]  # fmt: skip
    assert [m.column for m in CURVES.values()] == [
        "accuracy",
        "balanced_accuracy",
        "macro_f1",
        "auc",
        "one_off",
        "mae",
        "top5_accuracy",
        "rmse",
        "r2",
        "spearman",
        "mean_ap",
    ]
    assert CURVES["mae"].label == "mean error in classes (lower is better)"
