"""The hinge's intercept where many are optimal: each fit finds their middle."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import PROBLEMS, SOLVERS, Problem, classifier, full_params, objective
from sklearn.model_selection import GridSearchCV, StratifiedKFold

from sklinear import LinearSVMClassifier, LinearSVMClassifierCV, _data, _mapped
from sklinear._losses import Hinge
from sklinear._solvers._intercept import centred
from sklinear._solvers._solution import Solution

LOOSE = {"iris": 10.0, "two": 32.0, "blobs": 100.0, "wide": 10.0}  # alphas
EXACT = {"loss": "hinge", "tol": 1e-10}
CLOSE = 1e-6  # of scores, whose W is known to 1e-7 where P is known to 1e-14
STREAMED = 1e-5  # of scores, whose W is known to 1e-6 where P is known to 1e-10


def fitted(name, **params):
    """The exact hinge of a problem, under a penalty that leaves b some room."""
    params = {**EXACT, "alpha": LOOSE[name], **params}
    return LinearSVMClassifier(**params)


def highest(model, name, shift):
    """How far b can move along a direction (k,) before the objective rises."""
    problem, (W, b) = PROBLEMS[name], full_params(model)
    least, low, high = objective(model, problem, W, b), 0.0, 4.0
    for _ in range(40):
        middle = (low + high) / 2
        rises = objective(model, problem, W, b + middle * shift) > least * (1 + 1e-12)
        low, high = (low, middle) if rises else (middle, high)
    return low


@pytest.mark.parametrize("name", LOOSE)
@pytest.mark.parametrize("solver", SOLVERS)
def test_every_solver_ends_at_the_same_intercept(name, solver):
    X, y, _ = PROBLEMS[name]
    model = classifier("hinge", solver=solver, tol=1e-10, alpha=LOOSE[name]).fit(X, y)
    other = fitted(name, solver="lbfgs").fit(X[::-1], y[::-1])
    np.testing.assert_allclose(
        model.decision_function(X), other.decision_function(X), rtol=0, atol=CLOSE
    )


@pytest.mark.parametrize("name", LOOSE)
def test_neither_start_nor_rows_without_weight_move_it(name):
    X, y, _ = PROBLEMS[name]
    plain = fitted(name).fit(X, y)
    warm = fitted(name, warm_start=True, alpha=3 * LOOSE[name]).fit(X, y)
    warm.set_params(alpha=LOOSE[name]).fit(X, y)
    more = np.vstack([X, 2 * X.mean(axis=0) - X]), np.r_[y, y]
    masked = fitted(name).fit(*more, np.repeat([7.0, 0.0], len(y)))
    for model in (warm, masked):
        np.testing.assert_allclose(
            model.decision_function(X), plain.decision_function(X), rtol=0, atol=CLOSE
        )


def test_it_is_the_middle_of_two_classes_intercepts():
    for delta in (1.0, 10.0):
        model = fitted("two", delta=delta, alpha=32 / delta).fit(*PROBLEMS["two"][:2])
        up, down = (
            highest(model, "two", delta * shift * np.array([-0.5, 0.5]))
            for shift in (1, -1)
        )
        assert up > 0.01  # or it would show nothing
        assert up == pytest.approx(down, rel=1e-6)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("name", ["iris", "two"])
def test_it_is_that_of_rows_that_are_there_as_often_as_they_weigh(name, solver):
    X, y, _ = PROBLEMS[name]
    weights = np.ones(len(y), int)
    for label in np.unique(y):  # classes weigh the same, which leaves room
        weights[np.flatnonzero(y == label)] += np.arange(np.sum(y == label)) % 2
    params = {"solver": solver, "tol": 1e-10, "alpha": LOOSE[name]}
    model = classifier("hinge", **params).fit(X, y, weights)
    many = classifier("hinge", **params).fit(X.repeat(weights, 0), y.repeat(weights))
    np.testing.assert_allclose(
        model.decision_function(X), many.decision_function(X), rtol=0, atol=CLOSE
    )


@pytest.mark.parametrize("name", LOOSE)
def test_where_the_optimum_is_one_point_no_guess_of_multipliers_moves_it(name):
    # weights that no two classes' rows share leave a margin of 0, and it holds b
    X, y, _ = PROBLEMS[name]
    weights = np.random.default_rng(0).uniform(1, 2, size=len(y))
    problem = Problem(X, y, weights)
    model = fitted(name).fit(*problem)
    W, b = full_params(model)
    data = _data.Data(X, y, weights / weights.sum(), y.max() + 1)
    value = objective(model, problem, W, b)
    end = Solution(W, b, value, 0.0, True, "iterations", [value])
    found = centred(data, Hinge(), end)
    # what is left of the gap, and the rounding of sums
    assert objective(model, problem, W, found.intercept) <= value * (1 + 1e-9)


def test_it_is_optimal_and_inside_for_three_classes():
    model = fitted("iris").fit(*PROBLEMS["iris"][:2])
    assert model.dual_gap_ < 1e-12
    directions = np.eye(3) - 1 / 3
    rooms = [highest(model, "iris", shift) for shift in (*directions, *(-directions))]
    assert min(rooms) > 1e-4
    assert np.sum(model.intercept_) == pytest.approx(0, abs=1e-12)


def test_a_search_finds_it_too():
    X, y, _ = PROBLEMS["iris"]
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    grid = {"alpha": np.logspace(2, -5, 4), "delta": [0.5], "loss": ["hinge"]}
    found = LinearSVMClassifierCV(
        alphas=grid["alpha"], deltas=grid["delta"], losses=grid["loss"], cv=folds
    ).fit(X, y)
    peer = GridSearchCV(LinearSVMClassifier(), grid, cv=folds).fit(X, y)
    for fold in range(5):
        key = f"split{fold}_test_score"
        np.testing.assert_allclose(found.cv_results_[key], peer.cv_results_[key])


@pytest.fixture(params=["a file", "blocks", "uneven blocks"])
def elsewhere(request, tmp_path, monkeypatch):
    """A function that puts rows where they are only read in passes."""

    def put(X):
        if request.param == "a file":
            monkeypatch.setattr(_mapped, "SMALL", 0)
            monkeypatch.setattr(_data, "BLOCK_VALUES", 2**8)
            np.save(tmp_path / "X.npy", X)
            return np.load(tmp_path / "X.npy", mmap_mode="r")
        rows = {"blocks": 50, "uneven blocks": (7, len(X) - 10, 3)}[request.param]
        return pytest.importorskip("dask.array").from_array(X, chunks=(rows, -1))

    return put


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", LOOSE)
def test_rows_of_which_nothing_is_kept_have_it_too(name, weighted, elsewhere):
    X, y, _ = PROBLEMS[name]
    weights = np.arange(len(y)) % 3.0 if weighted else None
    models = [LinearSVMClassifier(loss="hinge", alpha=LOOSE[name]) for _ in range(2)]
    for model, rows in zip(models, (X, elsewhere(X)), strict=True):
        model.fit(rows, y, weights)
    here, there = models
    scores = [model.decision_function(X) for model in models]
    np.testing.assert_allclose(*scores, rtol=0, atol=STREAMED)
    np.testing.assert_array_equal(there.predict(X), here.predict(X))


def test_rows_without_information_warn_of_nothing(solver):
    # bounds of the intercept that are not there have no mean; a warning is an error
    y = np.repeat([0, 1, 2], [15, 4, 1])
    model = classifier("hinge", solver=solver).fit(np.full((20, 2), 3.0), y)
    assert model.dual_gap_ <= 1e-4
