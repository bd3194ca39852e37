"""The search that ends an epoch of SGD."""

import numpy as np
import pytest
import scipy.sparse
from conftest import classifier
from sklearn.datasets import load_digits, load_iris

from sklinear._data import Data
from sklinear._losses import CrossEntropy, Hinge, SquaredHinge
from sklinear._solvers._span import CG_STEPS, Span, _Problem, forward

LOSSES = [CrossEntropy(), SquaredHinge(), Hinge(width=2.0)]
each_loss = pytest.mark.parametrize("loss", LOSSES, ids=["softmax", "square", "hinge"])
ALPHA = 1e-2


def span_at_zero(X, y, fit_intercept=True):
    X = X - X.mean(axis=0)
    data = Data(X, y, np.full(len(y), 1 / len(y)), y.max() + 1)
    W, b = np.zeros((X.shape[1], data.n_classes)), np.zeros(data.n_classes)
    return Span(data, ALPHA, fit_intercept, W, b, forward(data, W))


def derivative(span, loss):
    """Of the value along the coordinates of W and b, by differences."""
    out, step = [], 1e-6
    for name in ("W", "b"):
        for place in np.ndindex(getattr(span, name).shape):
            ends = []
            for sign in (1, -1):
                moved = getattr(span, name).copy()
                moved[place] += sign * step
                W, b = (moved, span.b) if name == "W" else (span.W, moved)
                there = Span(span.data, ALPHA, True, W, b, forward(span.data, W))
                ends.append(there.value(loss))
            out.append((ends[0] - ends[1]) / (2 * step))
    return np.array(out)


@each_loss
def test_the_gradient_is_that_of_the_value(loss):
    span = span_at_zero(*load_iris(return_X_y=True))
    rng = np.random.default_rng(0)
    span.go(0.3 * rng.normal(size=span.W.shape), rng.normal(size=span.b.shape))
    W, b = span.gradient(loss)
    # differences of 1e-6 on values of 1, where the hinges' kinks bend no slope by more
    np.testing.assert_allclose(np.r_[W.ravel(), b], derivative(span, loss), atol=1e-5)


def test_the_work_of_a_newton_step_does_not_grow_with_the_classes():
    products = []

    class Counted(CrossEntropy):
        def hessian(self, scores, y, weights):
            product = super().hessian(scores, y, weights)
            return lambda change: products.append(1) or product(change)

    y = np.arange(300) % 60
    span = span_at_zero(np.random.default_rng(0).normal(size=(300, 5)), y)
    problem = _Problem(span, Counted(), [(span.W, span.scores)])
    problem.newton_step(span.scores, np.ones((2, 60)))
    assert 0 < len(products) <= CG_STEPS


@each_loss
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_searches_along_gradients_reach_the_optimum(loss, fit_intercept):
    span = span_at_zero(*load_iris(return_X_y=True), fit_intercept)
    values = [span.value(loss)]
    while len(values) < 200:
        W, b = span.gradient(loss)
        if max(np.abs(W).max(), fit_intercept * np.abs(b).max()) < 1e-8:
            break
        span.search(loss, W)
        values.append(span.value(loss))
    # |gradient|^2 / (4 alpha) bounds the distance in W: 1e-14 here
    assert len(values) < 200
    assert fit_intercept or not span.b.any()
    assert np.diff(values).max() < 1e-9  # the scores' rounding, as below
    np.testing.assert_allclose(span.scores, forward(span.data, span.W), atol=1e-9)


@each_loss
def test_coefficients_differ_between_classes(loss):
    span = span_at_zero(*load_digits(return_X_y=True))
    direction = span.gradient(loss)[0]
    span.search(loss, direction)
    own = (span.W * direction).sum(axis=0) / np.square(direction).sum(axis=0)
    # one factor for all classes would be a line search
    assert own.min() < 1.05 * own.max() < 0
    np.testing.assert_allclose(span.W.sum(axis=1), 0, atol=1e-12)


@each_loss
def test_a_descent_that_would_raise_the_objective_is_taken_back(loss):
    span = span_at_zero(*load_iris(return_X_y=True))
    before = span.W, span.b
    span.moves = [(np.zeros_like(span.W), span.scores - span.data.X[:, :1])]  # false
    span.descend(loss, lambda gradient, _: gradient, searches=1, tol=0.0)
    np.testing.assert_array_equal(span.W, before[0])
    np.testing.assert_array_equal(span.b, before[1])
    assert not span.moves


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("scale", [1.0, 1e20])
def test_products_of_sparse_float32_rows_are_taken_in_float64(loss, solver, scale):
    # beyond 1e19 they overflowed, and the fit ended with an error of their eigenvalues
    rng = np.random.default_rng(0)
    X = (rng.normal(size=(10, 20)) * scale).astype(np.float32)
    rows, y = scipy.sparse.csr_matrix(X), np.arange(10) % 3
    model = classifier(loss, solver=solver).fit(rows, y)
    assert np.isfinite(model.coef_).all()
    assert scale > 1 or model.dual_gap_ <= 1e-4
