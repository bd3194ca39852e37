"""Rows that are equal but for their labels, which the dual moves together."""

from __future__ import annotations

import itertools
import warnings

import numpy as np
import pytest
import scipy.optimize
import scipy.sparse
from conftest import LOSSES, Problem, classifier, full_params, objective
from sklearn.exceptions import ConvergenceWarning

from sklinear._data import Data

pytest.importorskip("numba")

from sklinear._solvers import _dual_kernels, _dual_twins
from sklinear._solvers._dual_twins import Twins, settle, twins_of

POWERS = {"softmax": 0, "hinge": 1, "squared_hinge": 2}
K = 4


def gradients(A, y, weights, power):
    """The score gradients of rows, (n, k)."""
    U = A.copy()
    U[np.arange(len(y)), y] -= 1 if power == 0 else A.sum(axis=1)
    return weights[:, None] * U


def conjugates(A, weights, power):
    """Minus the rows' sum of conjugates: what is to be raised."""
    if power == 0:
        return -float(weights @ (A * np.log(np.maximum(A, 1e-300))).sum(axis=1))
    return float(weights @ (A - (power - 1) * A * A / 4).sum(axis=1))


def a_group(power, labels, seed):
    """Dual variables, labels and weights of equal rows, sorted by label."""
    rng = np.random.default_rng(seed)
    y, k = np.sort(labels), max(K, max(labels) + 1)
    A = rng.random((len(y), k)) * rng.integers(2, size=(len(y), k))
    if power == 0:
        A = rng.dirichlet(np.ones(k), len(y))
    else:
        A[np.arange(len(y)), y] = 0
    return A, y, rng.random(len(y)) + 0.1


def settled(A, y, weights, power):
    """The same after some moves."""
    A, n = A.copy(), len(y)
    cells = np.append(np.flatnonzero(np.diff(y, prepend=-1)), n)
    twins = Twins(np.arange(n), cells, np.array([0, len(cells) - 1]))
    lists = _dual_kernels.Lists(
        np.zeros((n, A.shape[1]), np.uint32), np.ones(n, np.int32)
    )
    for turn in range(200):
        settle(twins, A, y, weights, power, lists, turn)
    assert (lists.counts == -1).all()
    return A


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize(
    "labels", [[0, 1], [0, 0, 2], [3, 1, 0], [0, 1, 2, 3, 3], range(12)]
)
@pytest.mark.parametrize("loss", LOSSES)
def test_moves_leave_scores_alone_and_are_as_long_as_they_may(loss, labels, seed):
    power = POWERS[loss]
    A, y, weights = a_group(power, labels, seed)
    found = settled(A, y, weights, power)
    U = gradients(A, y, weights, power).sum(axis=0)
    np.testing.assert_allclose(
        gradients(found, y, weights, power).sum(axis=0), U, rtol=0, atol=1e-12
    )
    assert found.min() >= 0
    assert power == 2 or found.max() <= 1
    assert not found[np.arange(len(y)), y].any() or power == 0
    best = optimum(A, y, weights, power, U)
    value, was = (conjugates(it, weights, power) for it in (found, A))
    if power == 1 and len(labels) > 5:  # longer rounds of moves gain a little more
        assert was + 0.95 * (best - was) < value <= best * (1 + 1e-9)
    else:
        assert value == pytest.approx(best, abs=1e-6)


def optimum(A, y, weights, power, U):
    """The largest sum of minus the conjugates, by other means."""
    n, k = A.shape
    places = [(i, j) for i, j in itertools.product(range(n), range(k)) if j != y[i]]
    if power == 0:  # what the group has in common is known in closed form
        q = (U + np.bincount(y, weights, minlength=k)) / weights.sum()
        return conjugates(np.tile(q, (n, 1)), weights, 0)
    sums = np.zeros((k, len(places)))
    for place, (i, j) in enumerate(places):
        sums[j, place] += weights[i]
        sums[y[i], place] -= weights[i]
    w = np.array([weights[i] for i, _ in places])
    if power == 1:
        found = scipy.optimize.linprog(-w, A_eq=sums, b_eq=U, bounds=(0, 1))
        assert found.success
        return -found.fun
    found = scipy.optimize.minimize(
        lambda a: -(w @ (a - a * a / 4)),
        np.array([A[place] for place in places]),
        jac=lambda a: -w * (1 - a / 2),
        bounds=[(0, None)] * len(places),
        # one of the equations follows from the others
        constraints={"type": "eq", "fun": lambda a: (sums @ a - U)[1:]},
        method="SLSQP",
        options={"ftol": 1e-14, "maxiter": 1000},
    )
    return -found.fun


def brute(X, y, weights):
    """The rows that equal one of another label, as sets."""
    rows = [tuple(row) for row in X]
    groups = {}
    for i in np.flatnonzero(weights):
        groups.setdefault(rows[i], []).append(int(i))
    return {frozenset(g) for g in groups.values() if len(set(y[g])) > 1}


@pytest.mark.parametrize("some", [2**20, 8])  # numbers that are looked at at once
@pytest.mark.parametrize("kind", ["dense", "sparse", "array", "float32", "uint8"])
def test_all_of_them_are_found(kind, some, monkeypatch):
    monkeypatch.setattr(_dual_twins, "SOME", some)
    rng = np.random.default_rng(0)
    X = rng.integers(3, size=(400, 5)).astype(np.float64)
    y, weights = rng.integers(K, size=400), rng.integers(3, size=400) / 400
    rows = X.astype(kind) if kind in ("float32", "uint8") else X
    if kind == "sparse":
        rows = scipy.sparse.csr_matrix(X)
    if kind == "array":
        rows = scipy.sparse.csr_array(X)
    twins = twins_of(Data(rows, y, weights, K))
    members = np.split(twins.rows, twins.cells[twins.groups[1:-1]])
    assert {frozenset(map(int, group)) for group in members} == brute(X, y, weights)
    for start, stop in itertools.pairwise(twins.cells):
        assert len(set(y[twins.rows[start:stop]])) == 1


def test_rows_that_differ_by_less_than_rounding_are_no_twins():
    X = np.array([[1.0, 0.0], [1.0, 1e-300], [2.0, 0.0], [2.0, 0.0], [2.0, 1e-300]])
    y, weights = np.array([0, 1, 0, 1, 1]), np.full(5, 0.2)
    for rows in (X, scipy.sparse.csr_matrix(X)):
        twins = twins_of(Data(rows, y, weights, 2))
        assert sorted(twins.rows) == [2, 3]
        assert (
            twins_of(Data(rows[[0, 1, 2, 4]], y[[0, 1, 2, 4]], weights[1:], 2)) is None
        )
        assert twins_of(Data(rows, np.zeros(5, int), weights, 2)) is None


@pytest.mark.parametrize("alpha", [1e-3, 1e-7])
@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("loss", LOSSES)
def test_they_take_no_more_epochs_than_others(loss, sparse, alpha):
    """Without their moves these took all of max_iter, or left it to another solver."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 600)) * 3
    X[rng.random(X.shape) < 0.7 * sparse] = 0
    y = rng.integers(5, size=300)
    X[-6:] = X[[0, 1, 2, 0, 1, 3]]
    y[-6:] = y[[0, 1, 2, 0, 1, 3]] + [1, 1, 1, 2, 1, 0]
    y %= 5
    problem = Problem(scipy.sparse.csr_matrix(X) if sparse else X, y, None)
    model = classifier(loss, solver="dual", alpha=alpha, max_iter=60).fit(*problem)
    assert model.dual_gap_ <= 1e-4
    P = objective(model, problem, *full_params(model))
    other = classifier(loss, solver="lbfgs", alpha=alpha, tol=1e-3).fit(*problem)
    Q = objective(other, problem, *full_params(other))
    assert P * (1 - model.dual_gap_) <= Q
    assert Q * (1 - other.dual_gap_) <= P


@pytest.mark.parametrize("loss", ["hinge", "squared_hinge"])
@pytest.mark.parametrize("size", [1e20, 1e30, 1e60])
def test_numbers_of_any_size_leave_many_classes_where_they_are(loss, size):
    """Scores beyond what stands for "left out" were written beyond an array's end."""
    X = np.repeat([[size, 1, 0, 0], [1, 0, 0, 1 / size]], 150, 0)
    problem = Problem(X, np.arange(300) % 60, None)
    for alpha in (1e-9, 1e3):
        model = classifier(loss, solver="dual", alpha=alpha, max_iter=12)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(*problem)
        assert np.isfinite(model.coef_).all()
        assert 0 <= model.dual_gap_ <= 1
