"""The pivoted Cholesky factor: SciPy's to the bit, and other threads run meanwhile."""

import threading
import time

import numpy as np
import pytest
from scipy.linalg import lapack

from probe.probes.pivoted import pivoted_cholesky


@pytest.mark.parametrize(("n", "rank"), [(1, 1), (7, 3), (60, 20), (200, 200)])
def test_it_factors_what_scipy_factors(n: int, rank: int) -> None:
    x = np.random.default_rng(n).normal(size=(n, rank))
    inner = np.asfortranarray(x @ x.T)
    theirs, places, _, _ = lapack.dpstrf(inner, tol=1e-8, lower=0)
    factor, order, found = pivoted_cholesky(inner.copy(order="F"), 1e-8)
    assert found == rank
    np.testing.assert_array_equal(order, places - 1)
    upper = np.triu(factor)[:rank]
    np.testing.assert_array_equal(upper, np.triu(theirs)[:rank])
    np.testing.assert_allclose(upper.T @ upper, inner[np.ix_(order, order)], atol=1e-9)


def test_of_no_rows() -> None:
    assert pivoted_cholesky(np.empty((0, 0), order="F"), 1e-8)[2] == 0


def test_other_threads_run_meanwhile() -> None:
    inner = np.asfortranarray(np.eye(2000) + 1.0)
    moments: list[float] = []
    over = threading.Event()

    def beat() -> None:
        while not over.wait(0.001):
            moments.append(time.perf_counter())

    thread = threading.Thread(target=beat)
    thread.start()
    started = time.perf_counter()
    pivoted_cholesky(inner, 1e-8)
    ended = time.perf_counter()
    over.set()
    thread.join()
    assert sum(started < moment < ended for moment in moments) > 3
