"""Data at the edges of what numbers can do: a correct optimum or a warning, always."""

import re
import warnings

import numpy as np
import pytest
import scipy.sparse
from conftest import SOLVERS, classifier
from numpy.testing import assert_allclose
from sklearn.base import clone
from sklearn.datasets import load_digits, load_iris, load_wine, make_blobs
from sklearn.exceptions import ConvergenceWarning

from sklinear import (
    LinearSVMClassifier,
    LinearSVMClassifierCV,
    SoftmaxClassifier,
    SoftmaxClassifierCV,
    losses,
)

MODELS = [
    LinearSVMClassifier(loss="hinge"),
    LinearSVMClassifier(loss="squared_hinge"),
    SoftmaxClassifier(),
]
TOL = 1e-4  # the default: how far from the optimum a fit may end, relatively
X, y = load_iris(return_X_y=True)


@pytest.fixture(params=MODELS, ids=["hinge", "squared_hinge", "softmax"])
def model(request):
    return clone(request.param)


def objective(model, X, y, sample_weight=None):
    """P of the specification, from the public coefficients and losses, in float64."""
    labels = np.searchsorted(model.classes_, y)
    coef, intercept = np.float64(model.coef_), np.float64(model.intercept_)
    scores = X @ coef.T + intercept
    if len(coef) == 1:
        scores, coef = scores * [-0.5, 0.5], np.vstack([-coef / 2, coef / 2])
    if isinstance(model, SoftmaxClassifier):
        values = losses.cross_entropy(scores, labels)[0]
    else:
        squared = model.loss == "squared_hinge"
        values = losses.weston_watkins(scores, labels, model.delta, squared)[0]
    penalty = model.alpha * float(np.sum(np.square(coef)))
    return float(np.average(values, weights=sample_weight)) + penalty


def fit(model, X, y, sample_weight=None, may_warn=False):
    """Fit, look at all that must hold whatever the data, and return the objective.

    ``may_warn`` is for problems that may be too hard to be solved to a certificate.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(X, y, sample_weight)
    assert {warning.category for warning in caught} <= {ConvergenceWarning}
    assert len(caught) <= 1
    assert np.isfinite(model.coef_).all()
    assert np.isfinite(model.intercept_).all()
    assert np.isfinite(model.decision_function(X)).all()
    assert np.isfinite(model.loss_curve_).all()
    assert bool(caught) == (model.dual_gap_ > model.tol)
    assert may_warn or not caught, caught[0].message
    nothing = clone(model)
    nothing.classes_, nothing.coef_ = model.classes_, np.zeros_like(model.coef_)
    nothing.intercept_ = np.zeros_like(model.intercept_)
    value = objective(model, X, y, sample_weight)
    # up to the rounding of the coefficients to the precision of X
    rounding = 1e-12 if X.dtype == np.float64 else 1e-5
    assert value <= objective(nothing, X, y, sample_weight) * (1 + rounding)
    return value


def same(value):
    """The objective of a certified fit of the same problem: both are within tol."""
    return pytest.approx(value, rel=2 * TOL)


def prior(model):
    """The objective where features say nothing: an intercept at most."""
    return fit(clone(model), np.zeros((len(y), 1)), y)


as_is = pytest.param(np.asarray, id="dense")
as_csr = pytest.param(scipy.sparse.csr_matrix, id="csr")
each_container = pytest.mark.parametrize("container", [as_is, as_csr])
with_and_without = pytest.mark.parametrize(
    "fit_intercept", [True, False], ids=["intercept", "through_0"]
)


# Scales -------------------------------------------------------------------------------


@with_and_without
@each_container
@pytest.mark.parametrize("scale", [1e-8, 1e-4, 1e4, 1e8])
def test_scaling_features_is_scaling_alpha(model, scale, container, fit_intercept):
    # W / scale on X * scale: the same scores, and a penalty scale**-2 as large
    model.set_params(alpha=0.1, fit_intercept=fit_intercept)
    plain = fit(clone(model), container(X), y)
    model.set_params(alpha=0.1 * scale**2)
    assert fit(model, container(scale * X), y) == same(plain)


@with_and_without
@each_container
@pytest.mark.parametrize("scale", [1e-8, 1e8])
def test_tiny_and_huge_features_at_the_default_alpha(
    model, scale, container, fit_intercept
):
    model.set_params(fit_intercept=fit_intercept)
    # at 1e8 the penalty on the way to separating weights all but vanishes
    value = fit(model, container(scale * X), y, may_warn=scale > 1)
    if scale < 1:
        assert value == same(prior(model))
    else:
        assert model.score(container(scale * X), y) > 0.95  # 4 errors at most


@with_and_without
@each_container
def test_tiny_and_huge_columns_side_by_side(model, container, fit_intercept):
    scales = np.array([1e-8, 1.0, 1e8, 1e-8])
    model.set_params(fit_intercept=fit_intercept)
    value = fit(model, container(scales * X), y, may_warn=True)
    assert model.score(container(scales * X), y) > 0.85  # what two columns can do
    # the columns of size 1e-8 can add less than tol to what the two others do
    two = fit(clone(model), (scales * X)[:, 1:3], y, may_warn=True)
    assert model.dual_gap_ > TOL or value <= two * (1 + 2 * TOL)


@each_container
@pytest.mark.parametrize("scale", [1e-8, 1e8])
def test_float32_bears_tiny_and_huge_features(model, scale, container):
    model.set_params(alpha=0.1 * scale**2)
    double = fit(clone(model), container(scale * X), y)
    single = container((scale * X).astype(np.float32))
    assert fit(model, single, y) == same(double)
    assert model.coef_.dtype == np.float32


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("scale", [1e5, 1e7])
def test_a_huge_column_is_next_to_no_penalty(model, solver, scale):
    # few margins bend: their system, in the space of rows, knew of that column alone
    rng = np.random.default_rng(0)
    y = np.arange(200) % 5
    X = rng.normal(size=(200, 100)) + rng.normal(size=(5, 100))[y]
    X[:, 0] *= scale
    model.set_params(alpha=1e-5, solver=solver).fit(X, y)
    assert model.dual_gap_ <= 1e-4


@pytest.mark.parametrize("shift", [1e3, 1e6])
def test_shifting_features_only_moves_the_intercept(model, shift):
    model.set_params(alpha=0.01)
    plain = fit(model, X, y)
    shifted = clone(model)
    assert fit(shifted, X + shift, y) == same(plain)
    # rounding of X + shift, about 1e-10, times the condition of the problem
    np.testing.assert_allclose(shifted.coef_, model.coef_, atol=1e-4)


def test_a_shift_in_float32_warns_or_is_right(model):
    shifted = (X + 1e4).astype(np.float32)  # rounded to 1e-3
    double = fit(clone(model).set_params(alpha=0.01), shifted.astype(float), y)
    value = fit(model.set_params(alpha=0.01), shifted, y, may_warn=True)
    # scores of float32 coefficients: rounded to 1e4 * |w| * 6e-8, about 1e-3
    assert model.dual_gap_ > TOL or value == pytest.approx(double, rel=0.02)


@pytest.mark.parametrize("name", ["wine", "digits"])
def test_raw_features_times_1e4(model, name):
    X, y = {"wine": load_wine, "digits": load_digits}[name](return_X_y=True)
    keep = slice(None, None, 12)  # for time's sake
    fit(model, 1e4 * X[keep], y[keep], may_warn=True)
    assert model.score(1e4 * X[keep], y[keep]) > 0.98  # both are separable


@pytest.mark.parametrize("size", [1e90, 1e154, 1e200, 1e300])
@each_container
def test_squares_beyond_float64_are_refused_or_survived(model, size, container):
    huge, refusal = container(size * X), ""
    model.set_params(max_iter=min(model.max_iter, 100))  # for time's sake
    try:
        fit(model, huge, y, may_warn=True)
    except ValueError as error:
        refusal = str(error)
    if refusal:
        assert re.match(r"X must .*, got .*\de\+\d", refusal)
        with pytest.raises(ValueError, match=r"X must .*, got"):
            model.partial_fit(huge, y, classes=[0, 1, 2])
    else:
        assert model.score(huge, y) > 1 / 3  # a guess


@pytest.mark.parametrize("size", [1e-100, 1e-200, 1e-310])
@each_container
def test_features_next_to_nothing_leave_the_priors(model, size, container):
    assert fit(model, container(size * X), y) == same(prior(model))


# Scores in the thousands --------------------------------------------------------------


@with_and_without
@pytest.mark.parametrize("factor", [1e3, 1e6])
def test_a_warm_start_from_huge_scores_comes_back(model, factor, fit_intercept):
    model.set_params(fit_intercept=fit_intercept, alpha=0.1)
    cold = fit(model, X, y)
    model.set_params(warm_start=True).coef_ *= -factor
    assert np.abs(model.decision_function(X)).max() > factor
    assert fit(model, X, y) == same(cold)


@pytest.mark.parametrize("delta", [1e-6, 1e-3, 1e3, 1e6])
@pytest.mark.parametrize("loss", ["hinge", "squared_hinge"])
def test_margins_of_any_size(loss, delta):
    power = 2 if loss == "squared_hinge" else 1
    one = fit(LinearSVMClassifier(loss=loss, alpha=0.1), X, y)
    # P(W; alpha, delta) = delta**p * P(W / delta; alpha * delta**(2 - p), 1)
    alpha = 0.1 * delta ** (power - 2)
    model = LinearSVMClassifier(loss=loss, delta=delta, alpha=alpha)
    assert fit(model, X, y) / delta**power == same(one)


@pytest.mark.parametrize("delta", [1e-100, 1e-38, 1e38, 1e100])
@pytest.mark.parametrize("solver", ["auto", "sgd", "partial_fit"])
def test_margins_beyond_float32_have_coefficients_in_float64(solver, delta):
    """Of the square, all deltas have the same labels."""

    def learnt(delta):
        model = LinearSVMClassifier(delta=delta, random_state=0)
        if solver == "partial_fit":
            return model.partial_fit(single, y, classes=np.unique(y))
        return model.set_params(solver=solver).fit(single, y)

    single = X.astype(np.float32)
    model, usual = learnt(delta), learnt(1.0)
    assert usual.coef_.dtype == np.float32
    assert model.coef_.dtype == np.float64
    # as far as steps in float32 go
    np.testing.assert_allclose(model.coef_ / delta, usual.coef_, rtol=1e-2, atol=1e-3)
    assert model.score(single, y) == pytest.approx(usual.score(single, y), abs=0.02)


@with_and_without
@pytest.mark.parametrize("alpha", [1e-12, 1e-8, 1e6, 1e12])
def test_extreme_penalties(model, alpha, fit_intercept):
    model.set_params(alpha=alpha, fit_intercept=fit_intercept)
    value = fit(model, X, y, may_warn=alpha < 1)
    if alpha > 1:
        assert value == same(prior(model))
        assert np.abs(model.coef_).max() < 10 / alpha  # |X' U| / (2 alpha)
    else:
        assert model.score(X, y) > 0.95  # what linear classifiers reach on iris


# Columns ------------------------------------------------------------------------------


@each_container
def test_columns_of_zeros_are_no_information_without_a_penalty_either(
    model, solver, container
):
    model.set_params(alpha=0.0, solver=solver, random_state=0, warm_start=True)
    padded = np.hstack([X, np.zeros((len(X), 2))])
    value = fit(model, container(padded), y, may_warn=True)
    plain = fit(clone(model), container(X), y, may_warn=True)
    assert value == pytest.approx(plain, rel=0.01)  # no bound tells when to stop
    assert not model.coef_[:, 4:].any()
    assert fit(model, container(padded), y, may_warn=True) <= value * (1 + 1e-9)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("n", "d", "k"), [(30, 100, 3), (60, 100, 6), (200, 300, 2)])
def test_without_a_penalty_nothing_is_learnt_outside_the_span_of_the_rows(
    model, solver, dtype, n, d, k
):
    # the softmax's was 1e10 of a random direction there: labels by chance
    rng = np.random.default_rng(4)
    centres = 1.5 * rng.normal(size=(k, d)) / np.sqrt(2)
    y, others = rng.permutation(np.arange(2 * n) % k).reshape(2, n)
    X = (rng.normal(size=(n, d)) + centres[y]).astype(dtype)
    fit(model.set_params(alpha=0.0, solver=solver), X, y, may_warn=True)
    assert model.score(X, y) == 1
    assert model.score(rng.normal(size=(n, d)) + centres[others], others) > 0.95
    centred = X.astype(float) - X.mean(axis=0, dtype=float)  # of rank n - 1
    inside = model.coef_ @ np.linalg.pinv(centred, rcond=1e-6) @ centred
    # the basis of a float32 X is known to 1e-7
    np.testing.assert_allclose(
        model.coef_, inside, rtol=0, atol=1e-5 * np.abs(inside).max()
    )


@pytest.mark.parametrize("value", [0.1, 1e4 + 0.1])
@pytest.mark.parametrize("alpha", [0.0, 1e-100])
@pytest.mark.parametrize(
    ("container", "dtype"),
    [
        (np.asarray, np.float64),
        (np.asarray, np.float32),
        (scipy.sparse.csr_matrix, np.float32),
    ],
)
def test_equal_numbers_are_no_information_without_a_penalty_either(
    model, solver, container, value, alpha, dtype
):
    # their spread was what rounding left of them, and made 1: objectives up to 1e14
    model.set_params(alpha=alpha, solver=solver, random_state=0, max_iter=200)
    padded = np.hstack([X, np.full((len(X), 2), [value, 7.0])]).astype(dtype)
    if solver == "sgd":  # it has no bound
        with warnings.catch_warnings():
            warnings.simplefilter("error", RuntimeWarning)
            model.fit(container(padded), y)
        reached = objective(model, padded.astype(np.float64), y)
    else:
        reached = fit(model, container(padded), y, may_warn=True)
    plain = clone(model).set_params(solver="newton")
    # no bound tells when to stop: two fits end as far apart
    slack = 0.5 if alpha and getattr(model, "loss", None) == "hinge" else 0.1
    assert reached <= fit(plain, X, y, may_warn=True) * (1 + slack)


def test_rows_at_the_centre_are_not_certified_without_a_penalty(model):
    model.set_params(alpha=0.0, fit_intercept=False)
    fit(model, X, y, may_warn=True)
    assert not model.certify(np.zeros((2, 4))).any()


@with_and_without
@each_container
def test_constant_and_zero_columns_are_no_information(model, container, fit_intercept):
    model.set_params(fit_intercept=fit_intercept, alpha=0.01)
    plain = fit(clone(model), container(X), y)
    zeros = clone(model)
    assert fit(zeros, container(np.insert(X, 1, 0, axis=1)), y) == same(plain)
    assert (zeros.coef_[:, 1] == 0).all()
    if not fit_intercept:  # the column is one, with next to no penalty
        plain = fit(clone(model).set_params(fit_intercept=True), container(X), y)
    assert fit(model, container(np.insert(X, 1, 1e3, axis=1)), y) == same(plain)


@with_and_without
@each_container
@pytest.mark.parametrize("alpha", [1e-6, 1e-2])
def test_a_column_twice_is_half_the_penalty(model, alpha, container, fit_intercept):
    # w1 + w2 = w costs least at w / 2 each: alpha * |w|^2 / 2
    model.set_params(fit_intercept=fit_intercept, alpha=alpha)
    once = fit(clone(model).set_params(alpha=alpha / 2), container(X), y)
    assert fit(model, container(np.hstack([X, X])), y) == same(once)
    halves = np.hsplit(model.coef_, 2)
    # rounding of the Gram matrix, which is singular but for alpha
    np.testing.assert_allclose(halves[0], halves[1], atol=1e-3 * np.abs(halves).max())


@with_and_without
@each_container
@pytest.mark.parametrize("n_features", [100, 2000])
def test_far_more_features_than_rows(model, n_features, container, fit_intercept):
    rng = np.random.RandomState(0)
    wide, labels = rng.randn(20, n_features), np.arange(20) % 3
    model.set_params(fit_intercept=fit_intercept)
    # only the span of the rows matters: in its own axes the optimum is the same
    narrow = fit(clone(model), np.linalg.qr(wide.T)[1].T, labels)
    assert fit(model, container(wide), labels) == same(narrow)
    assert model.score(container(wide), labels) == 1


# Classes ------------------------------------------------------------------------------


@with_and_without
@each_container
def test_a_class_with_one_sample(model, container, fit_intercept):
    fit(model.set_params(fit_intercept=fit_intercept), container(X[:101]), y[:101])
    assert model.classes_.tolist() == [0, 1, 2]
    assert np.isfinite(model.coef_[2]).all()


@pytest.mark.parametrize(
    ("n_features", "container"),
    [(2, np.asarray), (20, scipy.sparse.csr_matrix)],
    ids=["flat", "csr"],
)
def test_150_classes(model, n_features, container):
    rows, labels = make_blobs(300, n_features, centers=150, random_state=0)
    fit(model.set_params(alpha=0.01), container(rows), labels)
    assert model.coef_.shape == (150, n_features)
    assert model.score(container(rows), labels) > 10 / 150  # ten times a guess


@with_and_without
@each_container
def test_two_rows(model, container, fit_intercept):
    rows, labels = np.array([[1.0, 2.0], [3.0, 1.0]]), ["a", "b"]
    fit(model.set_params(fit_intercept=fit_intercept), container(rows), labels)
    assert model.predict(container(rows)).tolist() == labels


def test_as_many_classes_as_rows(model):
    rows = np.random.RandomState(0).randn(12, 20)
    fit(model, rows, np.arange(12))
    assert model.predict(rows).tolist() == list(range(12))  # 12 points are separable


@with_and_without
@each_container
def test_one_row_against_a_thousand(model, container, fit_intercept):
    rng = np.random.RandomState(0)
    rows, labels = rng.randn(1001, 3), np.r_[np.zeros(1000, int), 1]
    rows[-1] += 3
    model.set_params(fit_intercept=fit_intercept)
    fit(clone(model), container(rows), labels)
    weights = np.r_[np.ones(1000), 1e3]
    by_row = fit(clone(model), container(rows), labels, weights)
    model.set_params(class_weight={0: 1, 1: 1000}).fit(container(rows), labels)
    assert objective(model, rows, labels, weights) == same(by_row)
    assert model.predict(container(rows))[-1] == 1  # as heavy as all others


# Weights ------------------------------------------------------------------------------


@with_and_without
@each_container
@pytest.mark.parametrize("size", [1e-6, 1.0, 1e250])
def test_weights_over_twelve_orders_of_magnitude(model, size, container, fit_intercept):
    order = np.random.RandomState(0).permutation(len(y))
    weights = np.logspace(-6, 6, len(y))[order]
    model.set_params(fit_intercept=fit_intercept, alpha=0.01)
    one = fit(clone(model), container(X), y, weights)
    assert fit(model, container(X), y, size * weights) == same(one)
    light = weights < 1e-3  # no more than 1e-9 of the total
    kept = clone(model).fit(container(X[~light]), y[~light], weights[~light])
    # a row that hardly weighs hardly counts; certified objectives are within tol
    assert objective(kept, X, y, weights) == same(one)


def test_the_scale_of_weights_does_not_matter(model):
    want = clone(model).fit(X, y)
    for scale in 1e-300, 1e-12, 1e12, 1e300:
        fit(model, X, y, np.full(len(y), scale))
        # rounding of the normalisation, then the same steps
        np.testing.assert_allclose(model.coef_, want.coef_, rtol=1e-6)


@pytest.mark.parametrize("class_weight", [None, "balanced"])
@pytest.mark.parametrize("light", [1e-160, 1e-200, 5e-324])
def test_a_class_next_to_no_weight_is_still_one(model, solver, class_weight, light):
    # beside 1 / light such a weight, and with it the class's mass, is 0 in float64
    weights = np.where(y == 2, light, min(1 / light, 1e300))
    model.set_params(class_weight=class_weight, solver=solver, random_state=0)
    fit(model, X, y, weights, may_warn=True)
    assert model.classes_.tolist() == [0, 1, 2]
    assert 0 <= model.dual_gap_ <= 1


def test_products_of_weights_do_not_overflow(model):
    want = clone(model).fit(X, y, np.where(y == 2, 1.0, 2.0))
    model.set_params(class_weight={0: 1e300, 1: 1e300, 2: 5e299})
    fit(model, X, y, np.full(len(y), 1e300))
    np.testing.assert_allclose(model.coef_, want.coef_, rtol=1e-6)


# Nothing to learn ---------------------------------------------------------------------


@each_container
def test_all_zero_features_leave_the_class_priors(container):
    labels = np.repeat([0, 1, 2], [10, 20, 70])
    zeros = container(np.zeros((100, 3)))
    model = SoftmaxClassifier()
    fit(model, zeros, labels)
    assert (model.coef_ == 0).all()
    # the gap is tol, and the objective quadratic around the priors
    np.testing.assert_allclose(
        model.predict_proba(zeros[:1]), [[0.1, 0.2, 0.7]], atol=np.sqrt(TOL)
    )
    fit(model.set_params(fit_intercept=False), zeros, labels)
    np.testing.assert_allclose(model.predict_proba(zeros[:1]), 1 / 3, rtol=1e-12)


@each_container
@pytest.mark.parametrize("n_features", [3, 300])
@pytest.mark.parametrize("alpha", [0.0, 1e-3])
def test_all_zero_features_teach_nothing_without_an_intercept(
    model, solver, container, n_features, alpha
):
    zeros = container(np.zeros((len(y), n_features)))
    settings = {"solver": solver, "alpha": alpha, "random_state": 0}
    model.set_params(fit_intercept=False, **settings)
    fit(model, zeros, y, may_warn=alpha == 0)
    stochastic = clone(model).set_params(solver="sgd", max_iter=10)
    with warnings.catch_warnings():
        # without a penalty nothing tells that this is the optimum
        warnings.simplefilter("ignore" if alpha == 0 else "error", ConvergenceWarning)
        stochastic.fit(zeros, y)
    stream = clone(model).partial_fit(zeros, y, classes=[0, 1, 2])
    for one in (model, stochastic, stream.partial_fit(zeros, y)):
        np.testing.assert_array_equal(one.coef_, 0)
        np.testing.assert_array_equal(one.intercept_, 0)


@each_container
@pytest.mark.parametrize("loss", ["hinge", "squared_hinge"])
def test_all_zero_features_leave_the_svm_the_commonest_class(loss, container):
    labels = np.repeat([0, 1, 2], [10, 20, 70])
    zeros = container(np.zeros((100, 3)))
    model = LinearSVMClassifier(loss=loss)
    fit(model, zeros, labels)
    assert (model.coef_ == 0).all()
    assert (model.predict(zeros) == 2).all()


@with_and_without
@each_container
@pytest.mark.parametrize("counts", [(10, 20, 70), (3, 9)])
def test_identical_rows_of_several_classes_are_the_commonest(
    model, counts, container, fit_intercept
):
    labels = np.repeat(np.arange(len(counts)), counts)
    same_rows = container(np.tile([1.0, -2.0, 1e3], (len(labels), 1)))
    fit(model.set_params(fit_intercept=fit_intercept), same_rows, labels)
    assert (model.predict(same_rows) == len(counts) - 1).all()
    if isinstance(model, SoftmaxClassifier):
        # as above; without an intercept the third feature serves as one
        proba = np.array(counts) / sum(counts)
        found = model.predict_proba(same_rows[:1])[0]
        np.testing.assert_allclose(found, proba, atol=np.sqrt(TOL))


@pytest.mark.parametrize("solver", ["lbfgs", "sgd"])
@pytest.mark.parametrize("scale", [0.0, 1e-8, 1e8])
@each_container
def test_no_solver_ends_in_nan(model, solver, scale, container):
    model.set_params(solver=solver, random_state=0, max_iter=30)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(container(scale * X), y)
        model.partial_fit(container(scale * X), y)
    assert {warning.category for warning in caught} <= {ConvergenceWarning}
    assert np.isfinite(model.coef_).all()
    assert np.isfinite(model.intercept_).all()
    assert np.isfinite(model.loss_curve_).all()


@pytest.mark.parametrize("layout", [np.ascontiguousarray, scipy.sparse.csr_matrix])
@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("value", [0.1, 1e9, 1.7e12 + 12345678])
def test_what_is_the_same_in_all_rows_has_no_weight(model, value, solver, layout):
    # a snapshot's time had a weight that made half of the labels others a day later
    rng = np.random.default_rng(1)
    X = np.column_stack([rng.random(500), rng.normal(size=500), np.full(500, value)])
    y = (X[:, 1] + 2 * X[:, 0] - 1 + rng.logistic(size=500) > 0).astype(int)
    X[7, 2], weights = 3 * value, np.arange(500) != 7  # but for a row without weight
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a proof may be lost to rounding of 1e12
        model.set_params(solver=solver).fit(layout(X), y, weights)
    assert model.coef_[0, 2] == 0
    plain = clone(model).fit(X[:, :2], y, weights)
    assert (model.predict(X) == plain.predict(X[:, :2])).mean() > 0.99


def test_a_search_gives_it_no_weight_either():
    rng = np.random.default_rng(1)
    X = np.column_stack([rng.normal(size=300), np.full(300, 1.7e12)])
    y = (X[:, 0] + rng.logistic(size=300) > 0).astype(int)
    for search in (SoftmaxClassifierCV, LinearSVMClassifierCV):
        found = search(alphas=[1e-1, 1e-2, 1e-3], cv=3).fit(X, y)
        want = search(alphas=[1e-1, 1e-2, 1e-3], cv=3).fit(X[:, :1], y)
        assert found.coef_[0, 1] == 0
        table = "mean_test_score"
        np.testing.assert_allclose(
            found.cv_results_[table], want.cv_results_[table], atol=1e-3
        )


@pytest.mark.parametrize("solver", [*SOLVERS, "auto", "sgd"])
@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("k", [2, 3])
def test_columns_that_no_sparse_row_has_cost_nothing(model, solver, fit_intercept, k):
    # a hash of words has a million columns, which every step went through
    rng = np.random.default_rng(0)
    few = scipy.sparse.random(79, 150, 0.1, "csr", random_state=0)
    row = scipy.sparse.csr_matrix(np.ones((1, 150)))  # every column has an entry
    few = scipy.sparse.csr_matrix(scipy.sparse.vstack([row, few]))
    labels = np.arange(80) % k
    places = np.sort(rng.choice(4000, size=150, replace=False))
    wide = scipy.sparse.csr_matrix(
        (few.data, places[few.indices], few.indptr), (80, 4000)
    )
    others = scipy.sparse.random(40, 4000, 0.01, "csr", random_state=1)
    model.set_params(solver=solver, fit_intercept=fit_intercept, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # of sgd, maybe
        small = clone(model).fit(few, labels)
        model.fit(wide, labels)
    assert model.n_features_in_ == model.coef_.shape[1] == 4000
    np.testing.assert_array_equal(model.coef_[:, places], small.coef_)
    assert np.count_nonzero(model.coef_) == np.count_nonzero(small.coef_)
    np.testing.assert_array_equal(model.intercept_, small.intercept_)
    np.testing.assert_array_equal(
        model.predict(others), small.predict(others[:, places])
    )
    if solver != "sgd":
        assert model.dual_gap_ == small.dual_gap_
        np.testing.assert_array_equal(model.certify(wide), small.certify(few))
        # of rows with entries elsewhere less may be certain, and no more
        assert np.all(model.certify(others) <= small.certify(others[:, places]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.set_params(warm_start=True).fit(wide, labels)
    assert model.coef_.shape[1] == 4000


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("delta", [0.5, 1.0, 2.0, 10.0])
def test_a_hinge_that_is_best_without_features_has_no_weights(solver, delta):
    # they were rounding, 1e-17 or so, and ranked rows that are all the same to it
    rng = np.random.default_rng(0)
    y = (rng.random(200) < 0.2).astype(int)
    X = rng.normal(size=(200, 4)) + 0.3 * y[:, None]
    model = classifier("hinge", solver=solver, alpha=0.3, delta=delta).fit(X, y)
    assert not model.coef_.any()
    assert_allclose(model.intercept_, -delta)
    assert model.dual_gap_ <= 1e-4


def test_weights_that_are_small_but_no_rounding_stay():
    # they gain less than the objective tells; balanced classes have no kink at W = 0
    X, y = load_iris(return_X_y=True)
    params = {"solver": "lbfgs", "alpha": 1e3, "fit_intercept": True}
    model = classifier("hinge", **params).fit(1e-8 * X, y)
    gradient = np.stack([X[y == c].mean(axis=0) - X.mean(axis=0) for c in range(3)])
    # each row's two margins pull, with a third of the weight a class
    assert_allclose(model.coef_, 1e-8 * gradient / 2e3, rtol=1e-4)
