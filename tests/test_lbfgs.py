"""What L-BFGS takes for granted about scipy's calls, and what it leaves to Newton."""

import numpy as np
import pytest
import scipy.optimize
from conftest import classifier
from sklearn.datasets import load_digits, load_wine


def test_scipy_asks_for_a_gradient_and_calls_back_where_it_was_last(loss, monkeypatch):
    minimize, calls, points = scipy.optimize.minimize, [], []

    def watched(fun, x0, *, jac, callback, **rest):
        def value(x):
            points.append(x.copy())
            return fun(x)

        def gradient(x):
            calls.append("gradient")
            np.testing.assert_array_equal(x, points[-1])
            return jac(x)

        def back(intermediate_result):
            calls.append("back")
            np.testing.assert_array_equal(intermediate_result.x, points[-1])
            callback(intermediate_result)

        return minimize(value, x0, jac=gradient, callback=back, **rest)

    monkeypatch.setattr(scipy.optimize, "minimize", watched)
    X, y = load_wine(return_X_y=True)
    classifier(loss, solver="lbfgs", alpha=1e-4, tol=1e-6).fit(X, y)
    assert calls.count("back") > 5
    assert calls.count("gradient") == len(points) > calls.count("back")


def test_half_of_the_iterations_are_newtons():
    # separable, of a penalty so weak that the objective falls and falls
    rng = np.random.RandomState(0)
    y, Q = rng.randint(20, size=236), rng.normal(size=(17, 177))
    X = (rng.normal(size=(236, 17)) + rng.normal(size=(20, 17))[y]) @ Q
    X += 0.01 * rng.normal(size=X.shape)
    model = classifier("squared_hinge", alpha=2e-7, solver="lbfgs").fit(X, y)
    assert model.dual_gap_ <= model.tol  # after 1000 of L-BFGS alone it is 1
    assert 500 < model.n_iter_ < 700


@pytest.mark.parametrize("loss", ["hinge", "squared_hinge"])
def test_of_many_rows_a_feature_newton_takes_over_before_progress_ends(loss):
    X, y = load_digits(return_X_y=True)
    rng = np.random.default_rng(0)
    X = np.vstack([X + rng.normal(scale=0.5, size=X.shape) for _ in range(4)])
    model = classifier(loss, alpha=1e-6, solver="lbfgs").fit(X, np.tile(y, 4))
    assert model.dual_gap_ <= model.tol
    assert model.n_iter_ < 250  # about 400 where L-BFGS goes on as long as it gains
