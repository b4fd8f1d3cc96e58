import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score, mean_absolute_error

from probe.metrics import measure


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
    y, said = np.array(pairs).T
    found = measure(np.eye(classes)[said] - 0.5, y, True)
    assert found["accuracy"] == pytest.approx(accuracy_score(y, said))
    assert found["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(y, said))
    assert found["macro_f1"] == pytest.approx(f1_score(y, said, average="macro"))
    assert found["mae"] == pytest.approx(mean_absolute_error(y, said))
    near = [abs(a - b) <= 1 for a, b in pairs]
    assert found["one_off"] == pytest.approx(sum(near) / len(near))


def test_by_hand() -> None:
    """Truth 0 0 1 2 3, said 0 1 3 2 1: off by 0, 1, 2, 0 and 2."""
    said = np.array([0, 1, 3, 2, 1])
    found = measure(np.eye(4)[said], np.array([0, 0, 1, 2, 3]), True)
    assert found["accuracy"] == pytest.approx(2 / 5)
    assert found["balanced_accuracy"] == pytest.approx((1 / 2 + 0 + 1 + 0) / 4)
    assert found["macro_f1"] == pytest.approx((2 / 3 + 0 + 1 + 0) / 4)
    assert found["one_off"] == pytest.approx(3 / 5)
    assert found["mae"] == pytest.approx(5 / 5)


def test_classes_without_order_have_no_distance() -> None:
    found = measure(np.eye(3), np.arange(3), False)
    assert set(found) == {"accuracy", "balanced_accuracy", "macro_f1"}
    assert set(found.values()) == {1.0}


def test_a_class_that_training_lacked_is_never_said() -> None:
    scores = np.array([[-1.0, -np.inf, -2.0], [-3.0, -np.inf, -2.0]], dtype=np.float32)
    assert measure(scores, np.array([1, 2]), False)["accuracy"] == 0.5
