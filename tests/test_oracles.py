"""The same optimum from other hands: scikit-learn's solvers, and a cone program.

``optimum`` is used by other tests too.
"""

from __future__ import annotations

import clarabel
import numpy as np
import pytest
import scipy.optimize
import scipy.sparse
from conftest import (
    LOSSES,
    PROBLEMS,
    TIGHT,
    Problem,
    classifier,
    full_params,
    objective,
)
from sklearn.datasets import load_breast_cancer
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.svm import SVC, LinearSVC

CLARABEL_TOL = 1e-11  # tighter than any comparison, looser than rounding


def optimum(loss, problem, alpha, fit_intercept=True, delta=1.0):
    """W (d, k) and b (k,) of the optimum, found without sklinear; y is in 0..k-1.

    Both add up to 0 over the classes.
    """
    X, y, weights = problem
    X = X.toarray() if scipy.sparse.issparse(X) else X
    weights = np.ones(len(y)) if weights is None else weights
    if loss == "softmax":
        W, b = _logistic_regression(X, y, weights, alpha, fit_intercept)
    else:
        squared = loss == "squared_hinge"
        W, b = _weston_watkins(X, y, weights, alpha, fit_intercept, delta, squared)
    return W - W.mean(axis=1, keepdims=True), b - b.mean()


def _logistic_regression(X, y, weights, alpha, fit_intercept):
    """C sum_i w_i L_i + 1/2 ||W||^2, or 1/2 ||W[1] - W[0]||^2 = ||W||^2 at k = 2."""
    k = y.max() + 1
    C = (1 if k == 2 else 1 / 2) / (alpha * weights.sum())
    model = LogisticRegression(
        C=C,
        fit_intercept=fit_intercept,
        solver="newton-cholesky",
        tol=1e-12,
        max_iter=1000,
    )
    return full_params(model.fit(X, y, weights))


def _weston_watkins(X, y, weights, alpha, fit_intercept, delta, squared):
    """Params and slacks x, one for each row i and wrong class j, p = 1 or 2:

    min alpha ||W||^2 + sum_ij w_i x_ij^p,   x_ij >= s_ij - s_iy + delta,   x_ij >= 0
    """
    n, k = len(y), y.max() + 1
    Z = np.hstack([X, np.ones((n, 1))]) if fit_intercept else X
    row, other = np.nonzero(np.arange(k) != y[:, None])  # of each slack
    m, p = len(row), Z.shape[1]
    sign = np.zeros((m, k))
    sign[np.arange(m), other] += 1
    sign[np.arange(m), y[row]] -= 1
    margins = scipy.sparse.csc_matrix(
        np.hstack([sign[:, [j]] * Z[row] for j in range(k)])
    )
    w = weights[row] / weights.sum()
    penalty = np.tile(2 * alpha * (np.arange(p) < X.shape[1]), k)
    slack = scipy.sparse.identity(m)
    constraints = scipy.sparse.bmat([[margins, -slack], [None, -slack]], format="csc")
    limits = np.concatenate([np.full(m, -delta), np.zeros(m)])
    settings = clarabel.DefaultSettings()
    settings.verbose = False
    settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = CLARABEL_TOL
    solution = clarabel.DefaultSolver(
        scipy.sparse.diags(np.concatenate([penalty, 2 * w * squared])).tocsc(),
        np.concatenate([np.zeros(k * p), w * (not squared)]),
        constraints,
        limits,
        [clarabel.NonnegativeConeT(2 * m)],
        settings,
    ).solve()
    assert str(solution.status) == "Solved"
    params = np.reshape(solution.x[: k * p], (k, p)).T  # class by class
    d = X.shape[1]
    return params[:d], params[d] if fit_intercept else np.zeros(k)


def assert_same(model, problem, W, b):
    """The oracle's params have the same objective and, as far as it tells, W."""
    found = full_params(model)
    P = objective(model, problem, *found)
    # both are solved to 1e-10 of the objective or to CLARABEL_TOL; 1e-9 leaves room for
    # the rounding of ill-conditioned sums
    slack = 1e-9 * P + CLARABEL_TOL
    assert abs(P - objective(model, problem, W, b)) <= slack
    # alpha ||W - W*||^2 <= P - P* for each of the two
    assert np.linalg.norm(W - found[0]) <= 2 * np.sqrt(slack / model.alpha)


@pytest.mark.parametrize(
    ("alpha", "fit_intercept"),
    [(1e-4, True), (1e-2, True), (1.0, True), (1e-2, False)],
)
@pytest.mark.parametrize("name", PROBLEMS)
def test_optimum_is_the_oracles(loss, solver, name, fit_intercept, alpha):
    problem = PROBLEMS[name]
    settings = {"solver": solver, "alpha": alpha, "fit_intercept": fit_intercept}
    model = classifier(loss, **TIGHT | settings).fit(*problem)
    W, b = optimum(loss, problem, alpha, fit_intercept)
    assert_same(model, problem, W, b)
    if loss != "hinge":  # whose intercept need not be unique
        # the objective is flat to the second order, so that 1e-9 of it is 3e-5 in b;
        # scores of features off the centre move along
        size = 1e-4 * (1 + np.abs(b).max())
        np.testing.assert_allclose(full_params(model)[1], b, atol=size)


@pytest.mark.parametrize("loss", ["hinge", "squared_hinge"])
@pytest.mark.parametrize("delta", [0.1, 10.0])
def test_optimum_is_the_oracles_at_any_margin(loss, solver, delta):
    for name in ("iris", "weighted", "two"):
        model = classifier(loss, solver=solver, delta=delta, **TIGHT)
        model.fit(*PROBLEMS[name])
        W, b = optimum(loss, PROBLEMS[name], TIGHT["alpha"], delta=delta)
        assert_same(model, PROBLEMS[name], W, b)


def linear_program(X, y, fit_intercept):
    """The least mean hinge loss: min mean_i sum_j x_ij, x >= 0, x_ij >= margin_ij."""
    n, k = len(y), y.max() + 1
    Z = np.hstack([X, np.ones((n, 1))]) if fit_intercept else X
    row, other = np.nonzero(np.arange(k) != y[:, None])
    sign = np.eye(k)[other] - np.eye(k)[y[row]]
    margins = np.einsum("mk,mp->mkp", sign, Z[row]).reshape(len(row), -1)
    slacks = len(row)
    return scipy.optimize.linprog(
        np.repeat([0, 1 / n], [margins.shape[1], slacks]),
        A_ub=np.hstack([margins, -np.eye(slacks)]),
        b_ub=-np.ones(slacks),
        bounds=[(None, None)] * margins.shape[1] + [(0, None)] * slacks,
    ).fun


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("name", ["iris", "blobs", "two"])
def test_the_hinge_without_a_penalty_solves_a_linear_program(
    solver, name, fit_intercept
):
    X, y, _ = PROBLEMS[name]
    model = classifier("hinge", solver=solver, alpha=0, fit_intercept=fit_intercept)
    with pytest.warns(ConvergenceWarning, match="alpha=0"):  # nothing is proven
        model.fit(X, y)
    best = linear_program(X, y, fit_intercept)
    assert model.loss_curve_[-1] == pytest.approx(best, rel=1e-8)  # linprog's tolerance


def test_class_weights_are_the_peers(solver):
    X, y, weights = PROBLEMS["weighted"]
    each = {0: 0.2, 1: 1.0, 2: 7.0}
    model = classifier("softmax", solver=solver, class_weight=each, **TIGHT)
    model.fit(X, y, weights)
    product = np.array([each[c] for c in y]) * weights
    peer = LogisticRegression(
        C=1 / (2 * TIGHT["alpha"] * product.sum()),
        class_weight=each,
        solver="newton-cholesky",
        tol=1e-12,
        max_iter=1000,
    ).fit(X, y, weights)
    # Newton's method on both sides, of a smooth and well-conditioned objective
    np.testing.assert_allclose(model.coef_, peer.coef_, rtol=1e-6)
    np.testing.assert_allclose(
        model.intercept_, peer.intercept_ - peer.intercept_.mean(), rtol=1e-6
    )


# Peers by name, with the constants that users are told -------------------------------


@pytest.mark.parametrize("fit_intercept", [True, False])
def test_softmax_of_three_classes_is_logistic_regression_at_C_1_over_2_alpha_n(
    solver, fit_intercept
):
    X, y, _ = PROBLEMS["iris"]
    settings = {"fit_intercept": fit_intercept}
    model = classifier("softmax", solver=solver, **TIGHT, **settings).fit(X, y)
    peer = LogisticRegression(
        C=1 / (2 * TIGHT["alpha"] * len(y)), solver="newton-cg", tol=1e-10, **settings
    ).fit(X, y)
    # the peer stops at a gradient of 1e-10 of an objective with curvature alpha = 1e-2
    np.testing.assert_allclose(model.coef_, peer.coef_, atol=1e-6)
    np.testing.assert_allclose(model.intercept_, peer.intercept_, atol=1e-5)
    np.testing.assert_allclose(model.predict_proba(X), peer.predict_proba(X), atol=1e-6)


@pytest.mark.parametrize("fit_intercept", [True, False])
def test_softmax_of_two_classes_is_logistic_regression_at_C_1_over_alpha_n(
    solver, fit_intercept
):
    X, y = load_breast_cancer(return_X_y=True)
    X = (X - X.mean(axis=0)) / X.std(axis=0)
    settings = {"fit_intercept": fit_intercept}
    model = classifier("softmax", solver=solver, **TIGHT, **settings).fit(X, y)
    peer = LogisticRegression(
        C=1 / (TIGHT["alpha"] * len(y)), solver="newton-cholesky", tol=1e-10, **settings
    ).fit(X, y)
    assert model.coef_.shape == peer.coef_.shape
    # the peer stops at a gradient of 1e-10 of an objective with curvature alpha = 1e-2
    np.testing.assert_allclose(model.coef_, peer.coef_, atol=1e-6)
    np.testing.assert_allclose(model.intercept_, peer.intercept_, atol=1e-6)
    np.testing.assert_allclose(
        model.predict_log_proba(X), peer.predict_log_proba(X), atol=1e-5
    )


@pytest.mark.parametrize("loss", ["hinge", "squared_hinge"])
def test_two_classes_are_linear_svc_at_C_1_over_alpha_n(loss, solver):
    X, y, _ = PROBLEMS["two"]
    settings = {"fit_intercept": False}
    model = classifier(loss, solver=solver, **TIGHT, **settings).fit(X, y)
    peer = LinearSVC(
        C=1 / (TIGHT["alpha"] * len(y)),
        loss=loss,
        dual=True,
        tol=1e-10,
        max_iter=1_000_000,
        random_state=0,
        **settings,
    ).fit(X, y)
    # the peer stops at dual violations of 1e-10, of up to C = 2.5 a row
    np.testing.assert_allclose(model.coef_, peer.coef_, rtol=1e-6)


def test_two_classes_are_libsvm_whose_intercept_is_free(solver):
    X, y, _ = PROBLEMS["two"]
    model = classifier("hinge", solver=solver, **TIGHT).fit(X, y)
    C = 1 / (TIGHT["alpha"] * len(y))
    peer = SVC(kernel="linear", C=C, tol=1e-10).fit(X, y)
    # libsvm keeps its kernel in float32: 1e-7 of sums over the support vectors, whose
    # terms are larger than the sums
    np.testing.assert_allclose(model.coef_, peer.coef_, rtol=1e-4)
    np.testing.assert_allclose(model.intercept_, peer.intercept_, rtol=1e-4)


def test_two_classes_are_linear_svc_as_its_intercept_grows_free(solver):
    X, y, _ = PROBLEMS["two"]
    X = X - X.mean(axis=0)
    model = classifier("squared_hinge", solver=solver, **TIGHT).fit(X, y)
    peer = LinearSVC(
        C=1 / (TIGHT["alpha"] * len(y)),
        dual=False,
        tol=1e-10,
        intercept_scaling=1e4,  # leaves 1e-8 of the intercept's penalty
    ).fit(X, y)
    np.testing.assert_allclose(model.coef_, peer.coef_, rtol=1e-6)
    np.testing.assert_allclose(model.intercept_, peer.intercept_, rtol=1e-6)


# The oracle itself --------------------------------------------------------------------


@pytest.mark.parametrize("loss", LOSSES)
def test_no_neighbour_of_the_oracles_optimum_is_better(loss):
    problem = Problem(*PROBLEMS["weighted"])
    model = classifier(loss, **TIGHT).fit(*problem)  # lends loss and alpha alone
    W, b = optimum(loss, problem, TIGHT["alpha"])
    P = objective(model, problem, W, b)
    rng = np.random.default_rng(0)
    for size in (1e-1, 1e-2, 1e-3, 1e-4):
        V, c = size * rng.normal(size=W.shape), size * rng.normal(size=b.shape)
        # CLARABEL_TOL and rounding
        assert objective(model, problem, W + V, b + c) > P * (1 - 1e-10)
