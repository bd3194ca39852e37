"""The few rows that hold most of the gap, which the dual solves together."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import scipy.optimize
import scipy.sparse
from conftest import LOSSES, Problem, classifier, full_params, objective

pytest.importorskip("numba")

from sklinear import LinearSVMClassifier
from sklinear._solvers._dual_together import (
    KINDS,
    LATE_SHARE,
    LEAST,
    MOST,
    SHARES,
    Budget,
    Few,
    outstanding,
    solved,
)

POWERS = {"softmax": 0, "hinge": 1, "squared_hinge": 2}


def some_rows(power: int, m: int, k: int, seed: int) -> Few:
    """Rows of which pairs are nearly equal, with long vectors, anywhere."""
    rng = np.random.default_rng(seed)
    X = 30 * rng.normal(size=(m, m))
    X[m // 2 :] = X[: m - m // 2] + 0.3 * rng.normal(size=(m - m // 2, m))
    y = np.arange(m) % k
    A = rng.uniform(size=(m, k)) * (rng.uniform(size=(m, k)) < 0.5)
    A[np.arange(m), y] = 0
    if power == 0:
        A += 1e-3
        A /= A.sum(axis=1, keepdims=True)
    weights = rng.uniform(0.5, 2, size=m) / m
    scores = rng.normal(size=(m, k))
    return KINDS[power](A, y, weights, scores, X @ X.T, 10 * m * k)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("seed", range(5))
def test_a_few_rows_are_solved(loss, seed):
    power = POWERS[loss]
    few = some_rows(power, 12, 4, seed)
    A = solved(few, np.inf)
    value, gap, _ = few.at(A)
    first, first_gap, _ = few.at(few.A)
    # 1e-3: SOLVED. What is left of the gap bounds what is left of the value.
    assert gap <= 1e-3 * first_gap
    assert value < first
    assert A.min() >= 0
    assert A.max() <= few.cap
    if power == 0:
        np.testing.assert_allclose(A.sum(axis=1), 1, rtol=1e-14)
    else:
        assert not A[few.own].any()


@pytest.mark.parametrize("loss", ["hinge", "squared_hinge"])
def test_the_best_is_that_of_a_bounded_quadratic_program(loss):
    few = some_rows(POWERS[loss], 6, 3, 0)
    free = np.ones(few.A.shape, bool)
    free[few.own] = False

    def value(a):
        A = np.zeros(few.A.shape)
        A[free] = a
        return few.at(A)[0]

    bounds = [(0, few.cap)] * int(free.sum())
    found = scipy.optimize.minimize(
        value, few.A[free], bounds=bounds, options={"maxfun": 10**6, "maxiter": 10**4}
    )
    _, gap, _ = few.at(few.A)
    best = few.at(solved(few, np.inf))[0]
    # SOLVED, of the gap at first; L-BFGS-B has numerical gradients, and ends above it
    assert best <= found.fun + 1e-3 * gap
    assert best >= found.fun - 1e-2 * gap


@pytest.mark.parametrize("loss", LOSSES)
def test_the_value_falls_as_the_scores_say(loss):
    few = some_rows(POWERS[loss], 5, 3, 1)
    rng = np.random.default_rng(2)
    step = rng.normal(size=few.A.shape)
    step[few.own] = 0
    if loss == "softmax":
        step -= step.mean(axis=1, keepdims=True)
    else:
        step[few.A == 0] = 0
    t = 1e-6
    up, _, _ = few.at(few.A + t * step)
    down, _, _ = few.at(few.A - t * step)
    _, _, scores = few.at(few.A)
    A = few.A
    bend = np.log(A) + 1 if loss == "softmax" else few.ridge * A - 1
    change = few.gradients(A + step) - few.gradients(A)
    slope = float((few.weights * bend * step).sum() - (change * scores).sum())
    # t^2 times third derivatives, and rounding of values of the order of 100, over t
    assert (up - down) / (2 * t) == pytest.approx(slope, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("loss", LOSSES)
def test_products_too_large_make_no_row_worse(loss):
    few = some_rows(POWERS[loss], 6, 3, 0)
    few.products *= 1e300
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        A = solved(few, np.inf)
    with np.errstate(over="ignore", invalid="ignore"):
        assert few.at(A)[0] <= few.at(few.A)[0]
    assert A.min() >= 0
    assert A.max() <= few.cap


def test_rows_that_hold_most_are_chosen_and_no_more_than_there_is_room_for():
    gaps, A = np.full(2000, 1e-6), np.zeros((2000, 5))
    gaps[[7, 70, 700]] = 1.0
    assert {7, 70, 700} <= set(outstanding(gaps, A, 2, 100))
    A[70] = 0.5  # five multipliers
    assert set(outstanding(gaps, A, 2, 3)) <= {7, 700}
    assert len(outstanding(np.ones(2000), A, 2, 100)) == 0  # one of many
    assert len(outstanding(np.zeros(2000), A, 2, 100)) == 0
    assert len(outstanding(gaps, A, 0, 100)) == 100 // np.cbrt(3 * 5)


def test_budgets_grow_where_epochs_are_slow():
    budget, A = Budget(2, 1e7), np.zeros((10, 3))
    for _ in range(1000):
        budget.earn(1.0)
    assert budget.left == pytest.approx(SHARES[2] * 1e10)
    assert budget.next_size(1.0, A, late=False) == 0  # not known to be slow
    assert budget.next_size(0.9, A, late=False) == 2 * LEAST
    assert budget.next_size(0.8, A, late=False) == 4 * LEAST
    assert budget.next_size(0.01, A, late=False) == 0
    for _ in range(9):
        size = budget.next_size(0.01, A, late=True)
    assert size == MOST
    assert budget.share == LATE_SHARE
    budget.left = 50.0**3
    many = np.ones((1001, 1))  # 1001^3 is more than 100 epochs of 1e7
    assert budget.next_size(0.01, many, late=True) in (49, 50)
    assert budget.share == SHARES[2]


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("alpha", [1e-4, 1e-6])
@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_nearly_equal_rows_of_several_labels_take_few_epochs(
    loss, alpha, sparse, dtype
):
    rng = np.random.default_rng(0)
    y = rng.integers(4, size=200)
    X = 0.3 * rng.normal(size=(4, 300))[y] + rng.normal(size=(200, 300))
    X[180:] = X[:20] + 0.05 * rng.normal(size=(20, 300))
    y[180:] = (y[:20] + 1) % 4
    X = X.astype(dtype)
    if sparse:
        X = scipy.sparse.csr_array(np.where(abs(X) > 1.2, X, 0))
    shared = {"alpha": alpha, "random_state": 0}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = classifier(loss, solver="dual", max_iter=60, **shared).fit(X, y)
    # visits one by one take 82 to 291 epochs, with Newton steps at the end
    assert model.dual_gap_ <= model.tol
    problem = Problem(X.toarray() if sparse else X, y, None)
    exact = classifier(loss, solver="newton", tol=1e-9, **shared)
    exact.fit(X.astype(np.float64), y)
    best = objective(exact, problem, *full_params(exact))
    value = objective(model, problem, *full_params(model))
    assert 1 - best / value <= model.dual_gap_
    assert value >= (1 - 1e-9) * best  # exact's tol


def test_an_objective_of_zero_is_no_divisor():
    weights = np.array([17.0, 18, 27, 37, 17])
    model = LinearSVMClassifier(loss="hinge", alpha=1e-30, solver="dual")
    for seed in range(20):
        model.set_params(random_state=seed)
        model.fit(np.zeros((5, 1)), [0, 1, 1, 0, 0], weights)
        assert model.dual_gap_ <= model.tol
