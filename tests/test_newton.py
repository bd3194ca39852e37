"""Newton on data so large that it samples their rows, and what "auto" picks."""

import importlib.util

import numpy as np
import pytest
import scipy.sparse
from conftest import Problem, classifier, full_params, objective
from sklearn.datasets import load_iris

from sklinear._data import Data
from sklinear._losses import CrossEntropy, Hinge, SquaredHinge
from sklinear._solvers import choose
from sklinear._solvers._curvature import chances


def images(dtype):
    """Twelve overlapping classes of dense rows, sorted by class."""
    rng = np.random.default_rng(0)
    y = np.sort(rng.integers(12, size=20_000))
    X = rng.normal(size=(20_000, 60)) @ rng.normal(size=(60, 60))
    X += rng.normal(size=(12, 60))[y] + 10
    return Problem(X.astype(dtype), y)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_samples_of_rows_lead_to_the_optimum_of_all(loss, dtype):
    problem = images(dtype)
    model = classifier(loss, solver="newton", alpha=1e-3).fit(*problem)
    assert model.dual_gap_ <= 1e-4
    exact = Problem(problem.X.astype(np.float64), problem.y)
    found = objective(model, exact, *full_params(model))
    tight = classifier(loss, solver="newton", alpha=1e-3, tol=1e-5).fit(*exact)
    least = objective(tight, exact, *full_params(tight))
    assert found * (1 - model.dual_gap_) <= least <= found * (1 + 1e-5)
    assert (model.predict(problem.X) == tight.predict(exact.X)).mean() > 0.995


def test_newton_is_reproducible(loss):
    problem = images(np.float32)
    fits = [classifier(loss, solver="newton").fit(*problem) for _ in range(2)]
    np.testing.assert_array_equal(fits[0].coef_, fits[1].coef_)


def test_newton_is_exact_to_rounding_if_asked(loss):
    X, y = load_iris(return_X_y=True)
    model = classifier(loss, solver="newton", tol=1e-12, alpha=1e-2).fit(X, y)
    assert model.dual_gap_ <= 1e-12


def test_chances_add_up_to_the_rows_wanted():
    importance = np.r_[np.zeros(10), 100.0, np.ones(89)]
    chance = chances(importance, 20)
    assert chance[:10].max() == 0
    assert chance[10] == 1
    np.testing.assert_allclose(chance.sum(), 20)
    assert chances(importance, 95).tolist() == (importance > 0).astype(float).tolist()


@pytest.mark.parametrize(
    ("loss", "shape", "sparse", "alpha", "expected"),
    [
        (SquaredHinge(), (150, 4), False, 1e-3, "lbfgs"),  # small
        (CrossEntropy(), (60_000, 80), False, 1e-3, "newton"),  # large
        (Hinge(), (60_000, 80), False, 1e-6, "newton"),
        (Hinge(), (60_000, 80), False, 1e-1, "dual"),  # easy
        (Hinge(), (9_000, 400), True, 1e-5, "dual"),  # wide and sparse
        (Hinge(), (9_000, 400), True, 0.0, "lbfgs"),  # without a penalty no dual
    ],
)
@pytest.mark.parametrize("compiled", [True, False])
def test_auto_picks(loss, shape, sparse, alpha, expected, compiled, monkeypatch):
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: object() if compiled else None
    )
    if not compiled and expected == "dual":
        expected = "lbfgs" if sparse else "newton"
    rng = np.random.default_rng(0)
    X = rng.normal(size=shape).astype(np.float32)
    X = scipy.sparse.csr_matrix(X * (X > 1)) if sparse else X
    data = Data(X, rng.integers(3, size=shape[0]), np.full(shape[0], 1 / shape[0]), 3)
    assert choose(data, loss, alpha) == expected
