"""Laws of the optimum, over every loss, deterministic solver and small problem.

Where a law maps the optimum of one problem to that of another, the mapped params have
to be optimal there: ``assert_optimal``.
"""

from __future__ import annotations

import copy
from functools import cache

import numpy as np
import pytest
import scipy.sparse
from conftest import (
    LOSSES,
    PROBLEMS,
    SOLVERS,
    TIGHT,
    Problem,
    classifier,
    full_params,
    objective,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.exceptions import ConvergenceWarning

from sklinear._solvers import _dual

few = settings(max_examples=8)  # each of them four fits
# of random problems a class may hold 1e-6 of all weight; the certificate makes up for
# the rounding of the intercept's gradient in proportion to the inverse of that
RANDOM = {"tol": 1e-8}


@cache
def fitted(loss, solver, name, **params):
    """The model of one of the small problems; not to be fitted again."""
    return fit(loss, solver, PROBLEMS[name], **params)


def fit(loss, solver, problem, **params):
    """A fit proven to be within tol, 1e-10, of the optimum; else it would warn."""
    model = classifier(loss, solver=solver, **TIGHT | params)
    model.fit(*problem)
    assert 0 <= model.dual_gap_ <= model.tol
    return model


def assert_optimal(model, problem, other, W, b):
    """W and b, which are made of what ``other`` found, solve what ``model`` solved.

    P being 2 alpha-strongly convex in W, alpha ||W - W*||^2 <= P - P*.
    """
    found = full_params(model)
    P = objective(model, problem, *found)
    # each is proven to be within its gap of the same optimum; rounding of sums of
    # hundreds of terms besides
    gaps = model.dual_gap_ + other.dual_gap_ + 1e-13
    assert objective(model, problem, W, b) == pytest.approx(P, rel=gaps)
    assert np.linalg.norm(W - found[0]) <= 2 * np.sqrt(gaps * P / model.alpha)


def dense(X):
    """X as an array."""
    return X.toarray() if scipy.sparse.issparse(X) else X


def weights_of(problem):
    """Its weights, ones where it has none."""
    _, y, weights = problem
    return np.ones(len(y)) if weights is None else weights


def stacked(blocks):
    """Rows below rows."""
    if scipy.sparse.issparse(blocks[0]):
        return scipy.sparse.vstack(blocks, format="csr")
    return np.vstack(blocks)


@pytest.fixture(scope="session", params=PROBLEMS)
def name(request):
    """Each small problem's name."""
    return request.param


@st.composite
def random_problems(draw):
    """Classes that overlap, features and weights of different orders of magnitude."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    n, d = draw(st.integers(6, 25)), draw(st.integers(1, 6))
    k = draw(st.integers(2, 4))
    orders = draw(st.integers(0, 3))
    y = np.arange(n) % k
    X = rng.normal(size=(n, d)) + rng.normal(size=(k, d))[y]
    X *= 10 ** rng.uniform(-orders, orders, d) / 10**orders
    return Problem(X, y, 10 ** rng.uniform(-orders, orders, n))


each_loss = pytest.mark.parametrize("loss", LOSSES)
each_solver = pytest.mark.parametrize("solver", SOLVERS)

# Rows and weights ---------------------------------------------------------------------


def test_duplicating_all_rows_changes_nothing(loss, solver, name):
    X, y, _ = PROBLEMS[name]
    weights = weights_of(PROBLEMS[name])
    twice = Problem(stacked([X, X]), np.tile(y, 2), np.tile(weights, 2))
    base, model = fitted(loss, solver, name), fit(loss, solver, twice)
    assert_optimal(base, PROBLEMS[name], model, *full_params(model))


def test_integer_weights_are_repeated_rows(loss, solver, name):
    X, y, _ = PROBLEMS[name]
    times = np.random.default_rng(0).integers(0, 4, len(y))
    rows = np.repeat(np.arange(len(y)), times)
    weighted = Problem(X, y, times)
    model = fit(loss, solver, weighted)
    other = fit(loss, solver, Problem(X[rows], y[rows]))
    assert_optimal(model, weighted, other, *full_params(other))


def test_rows_and_classes_without_weight_do_not_count(loss, solver, name):
    X, y, _ = PROBLEMS[name]
    weights = weights_of(PROBLEMS[name])
    wild = stacked([X, 1e5 * X[::5], X[::3], X[:2]])
    # of classes that others have, then of such as nobody has, between those and beyond
    labels = np.concatenate([2 * y, 2 * y[::5], 2 * y[::3] + 1, [-1, 99]])
    none = np.zeros(len(labels) - len(y))
    more = Problem(wild, labels, np.concatenate([weights, none]))
    base, model = fitted(loss, solver, name), fit(loss, solver, more)
    np.testing.assert_array_equal(model.classes_, 2 * base.classes_)
    assert_optimal(base, PROBLEMS[name], model, *full_params(model))


def test_few_rows_of_weight_are_fitted_as_if_alone(loss, solver, name):
    """To the last bit, so that the others take no time."""
    X, y, _ = PROBLEMS[name]
    places = 7 * np.arange(len(y)) + 3
    wild, labels = stacked([X] * 7), np.full(7 * len(y), -1)
    order = np.argsort(np.r_[places, np.setdiff1d(np.arange(len(labels)), places)])
    labels[places], weights = y, np.zeros(len(labels))
    weights[places] = weights_of(PROBLEMS[name])
    model = fit(loss, solver, Problem(wild[order], labels, weights))
    base = fitted(loss, solver, name)
    np.testing.assert_array_equal(model.coef_, base.coef_)
    np.testing.assert_array_equal(model.intercept_, base.intercept_)
    assert model.dual_gap_ == base.dual_gap_


def test_permuting_rows_changes_nothing(loss, solver, name):
    X, y, _ = PROBLEMS[name]
    order = np.random.default_rng(0).permutation(len(y))
    shuffled = Problem(X[order], y[order], weights_of(PROBLEMS[name])[order])
    base, model = fitted(loss, solver, name), fit(loss, solver, shuffled)
    assert_optimal(base, PROBLEMS[name], model, *full_params(model))


def test_class_weight_multiplies_sample_weight(loss, solver, name):
    X, y, _ = PROBLEMS[name]
    each = 0.1 + 2 * np.arange(y.max() + 1)
    quotient = Problem(X, y, weights_of(PROBLEMS[name]) / each[y])
    model = fit(loss, solver, quotient, class_weight=dict(enumerate(each)))
    base = fitted(loss, solver, name)
    assert_optimal(base, PROBLEMS[name], model, *full_params(model))


def test_balanced_classes_have_the_same_total_weight(loss, solver, name):
    X, y, weights = PROBLEMS[name]
    keep = (y > 0) | (np.arange(len(y)) % 3 == 0)  # few of the first class
    some = Problem(X[keep], y[keep], None if weights is None else weights[keep])
    masses = np.bincount(some.y, weights_of(some))
    model = fit(loss, solver, some, class_weight="balanced")
    other = fit(loss, solver, some, class_weight=dict(enumerate(1 / masses)))
    equal = some._replace(sample_weight=weights_of(some) / masses[some.y])
    assert_optimal(model, equal, other, *full_params(other))


# Classes ------------------------------------------------------------------------------


def test_relabelling_classes_permutes_coef(loss, solver, name):
    labels = np.array([7, -3, 5, 0])
    X, y, weights = PROBLEMS[name]
    relabelled = Problem(X, labels[y], weights)
    base, model = fitted(loss, solver, name), fit(loss, solver, relabelled)
    used = labels[: y.max() + 1]
    np.testing.assert_array_equal(model.classes_, np.sort(used))
    W, b = full_params(model)
    place = np.searchsorted(model.classes_, used)
    assert_optimal(base, PROBLEMS[name], model, W[:, place], b[place])
    np.testing.assert_array_equal(model.predict(X), used[base.predict(X)])


def test_swapping_two_classes_turns_the_one_row_around(loss, solver):
    X, y, _ = PROBLEMS["two"]
    base, model = fitted(loss, solver, "two"), fit(loss, solver, Problem(X, y == 0))
    assert base.coef_.shape == (1, 2)
    assert base.decision_function(X).shape == (len(y),)
    np.testing.assert_array_equal(model.classes_, [False, True])
    W, b = full_params(model)
    assert_optimal(base, PROBLEMS["two"], model, -W, -b)
    np.testing.assert_array_equal(model.predict(X), base.predict(X) == 0)


def test_rows_of_coef_add_up_to_zero(loss, solver, name):
    model = fitted(loss, solver, name)
    k, d = len(model.classes_), PROBLEMS[name].X.shape[1]
    if k == 2:
        assert model.coef_.shape == (1, d)
        assert model.intercept_.shape == (1,)
        return
    assert model.coef_.shape == (k, d)
    assert model.intercept_.shape == (k,)
    # a few roundings a class
    size = 4e-15 * np.abs(model.coef_).max()
    np.testing.assert_allclose(model.coef_.sum(axis=0), 0, atol=size)
    size = 4e-15 * np.abs(model.intercept_).max()
    np.testing.assert_allclose(model.intercept_.sum(), 0, atol=size)


def test_decision_is_the_class_of_the_largest_score(loss, solver, name):
    model, X = fitted(loss, solver, name), PROBLEMS[name].X
    W, b = full_params(model)
    scores = X @ W + b
    expected = scores if len(b) > 2 else scores[:, 1] - scores[:, 0]
    # the same products, in another order perhaps
    size = np.abs(scores).max()
    np.testing.assert_allclose(
        model.decision_function(X), expected, rtol=1e-12, atol=1e-12 * size
    )
    np.testing.assert_array_equal(
        model.predict(X), model.classes_[np.argmax(scores, axis=1)]
    )


# Features -----------------------------------------------------------------------------


@few
@given(random_problems(), st.floats(-200, 200), st.floats(-1e3, 1e3), st.floats(-6, 6))
@each_loss
@each_solver
def test_scales_and_shifts_are_made_up_for(
    loss, solver, problem, order_of_weights, shift, order
):
    base = fit(loss, solver, problem, **RANDOM)
    weights = problem.sample_weight * 10.0**order_of_weights
    model = fit(loss, solver, problem._replace(sample_weight=weights), **RANDOM)
    assert_optimal(base, problem, model, *full_params(model))
    # a shift of the features moves the intercept alone
    shift = shift * problem.X.std(axis=0)
    model = fit(loss, solver, problem._replace(X=problem.X + shift), **RANDOM)
    W, b = full_params(model)
    assert_optimal(base, problem, model, W, b + shift @ W)
    # X W = (s X) (W / s), and alpha ||W||^2 = alpha s^2 ||W / s||^2
    s = 10.0**order
    scaled = problem._replace(X=s * problem.X)
    model = fit(loss, solver, scaled, alpha=TIGHT["alpha"] * s**2, **RANDOM)
    W, b = full_params(model)
    assert_optimal(base, problem, model, s * W, b)


def test_rotating_features_rotates_coef(loss, solver, name):
    X, y, weights = PROBLEMS[name]
    noise = np.random.default_rng(0).normal(size=(X.shape[1], X.shape[1]))
    Q, _ = np.linalg.qr(noise)
    base = fitted(loss, solver, name)
    model = fit(loss, solver, Problem(dense(X) @ Q, y, weights))
    W, b = full_params(model)
    assert_optimal(base, PROBLEMS[name], model, Q @ W, b)


def test_a_constant_feature_has_no_coef(loss, solver, name):
    X, y, weights = PROBLEMS[name]
    constant = np.full((len(y), 1), 3.0)
    model = fit(loss, solver, Problem(np.hstack([dense(X), constant]), y, weights))
    W, b = full_params(model)
    # the intercept does it for free; a coef v costs alpha v^2 of a gap of 1e-10
    np.testing.assert_allclose(W[-1], 0, atol=1e-4)
    base = fitted(loss, solver, name)
    assert_optimal(base, PROBLEMS[name], model, W[:-1], b + 3 * W[-1])


def test_duplicate_features_share_a_coef(loss, solver, name):
    X, y, weights = PROBLEMS[name]
    twice = Problem(np.hstack([dense(X), dense(X)]), y, weights)
    model = fit(loss, solver, twice, alpha=2 * TIGHT["alpha"])
    base = fitted(loss, solver, name)
    W, b = full_params(base)  # of ||W||^2 twice a quarter of it, at twice the price
    assert_optimal(model, twice, base, np.vstack([W, W]) / 2, b)
    assert_optimal(base, PROBLEMS[name], model, *summed(model))


def summed(model):
    """Params of features that came twice, as if they had come once."""
    W, b = full_params(model)
    return np.add(*np.vsplit(W, 2)), b


def test_a_feature_of_zeros_changes_nothing(loss, solver, name):
    X, y, weights = PROBLEMS[name]
    zeros = np.zeros((len(y), 1))
    if scipy.sparse.issparse(X):
        X = scipy.sparse.hstack([X, scipy.sparse.csr_matrix(zeros)], format="csr")
    else:
        X = np.hstack([X, zeros])
    base, model = fitted(loss, solver, name), fit(loss, solver, Problem(X, y, weights))
    W, b = full_params(model)
    np.testing.assert_array_equal(W[-1], 0)
    assert_optimal(base, PROBLEMS[name], model, W[:-1], b)


# alpha and delta ----------------------------------------------------------------------


@pytest.mark.parametrize("delta", [0.01, 30.0])
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_delta_scales_the_hinge_at_alpha_times_delta(
    solver, name, delta, fit_intercept
):
    # P(W; alpha, delta) = delta P(W / delta; alpha delta, 1)
    alpha = TIGHT["alpha"] / delta
    settings = {"fit_intercept": fit_intercept}
    model = fit("hinge", solver, PROBLEMS[name], delta=delta, alpha=alpha, **settings)
    other = fitted("hinge", solver, name, **settings)
    W, b = full_params(other)
    assert_optimal(model, PROBLEMS[name], other, delta * W, delta * b)


@pytest.mark.parametrize("delta", [0.01, 30.0])
@pytest.mark.parametrize("loss", ["hinge", "squared_hinge"])
@pytest.mark.parametrize("name", [name for name in PROBLEMS if name != "wine"])
def test_delta_is_the_margin_of_what_ascent_alone_finds(loss, name, delta, monkeypatch):
    # where Newton steps mend it, as they do where features are far from scaled like
    # those of wine, the blocks of the ascent could have any margin
    pytest.importorskip("numba")
    monkeypatch.setattr(_dual, "is_polished", lambda objective: False)
    alpha = TIGHT["alpha"] / delta if loss == "hinge" else TIGHT["alpha"]
    settings = {"alpha": alpha, "delta": delta, "tol": 1e-3, "max_iter": 3000}
    model = fit(loss, "dual", PROBLEMS[name], **settings)
    other = fitted(loss, "newton", name)
    W, b = full_params(other)
    assert_optimal(model, PROBLEMS[name], other, delta * W, delta * b)


@pytest.mark.parametrize("delta", [0.01, 30])
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_delta_scales_the_squared_hinge_at_the_same_alpha(
    solver, name, delta, fit_intercept
):
    # P(W; alpha, delta) = delta^2 P(W / delta; alpha, 1)
    settings = {"fit_intercept": fit_intercept}
    model = fit("squared_hinge", solver, PROBLEMS[name], delta=delta, **settings)
    other = fitted("squared_hinge", solver, name, **settings)
    W, b = full_params(other)
    assert_optimal(model, PROBLEMS[name], other, delta * W, delta * b)
    X = PROBLEMS[name].X
    np.testing.assert_array_equal(model.predict(X), other.predict(X))


def test_larger_alpha_means_smaller_norm_and_larger_loss(loss, solver, name):
    alphas = [1e-3, 1e-2, 1e1, 1e3]
    norms, values = [], []
    for alpha in alphas:
        model = fitted(loss, solver, name, alpha=alpha)
        W, b = full_params(model)
        norms.append((W**2).sum())
        values.append(objective(model, PROBLEMS[name], W, b) - alpha * norms[-1])
    # the hinge's optimum may stay at a vertex while alpha moves
    assert (np.diff(norms) <= 1e-9 * norms[0]).all()
    # at small alpha separable data may all but lose their loss
    assert (np.diff(values) >= -1e-10).all()
    assert norms[-1] < 0.01 * norms[0]
    assert values[-1] > values[0]


# Intercept, start, curve --------------------------------------------------------------


def test_without_intercept_there_is_none_and_the_loss_is_not_smaller(
    loss, solver, name
):
    model = fitted(loss, solver, name, fit_intercept=False)
    base = fitted(loss, solver, name)
    np.testing.assert_array_equal(model.intercept_, 0)
    W, b = full_params(model)
    P = objective(base, PROBLEMS[name], *full_params(base))
    # both optima are exact to 1e-10
    assert objective(model, PROBLEMS[name], W, b) >= P * (1 - 1e-9)


def test_an_intercept_is_not_penalised(loss, solver):
    # no feature says anything, so that the scores are the intercept
    X, y = np.ones((12, 1)), np.array([0] * 6 + [1] * 4 + [2] * 2)
    model = fit(loss, solver, Problem(X, y), alpha=1e3)
    if loss == "softmax":
        scores = model.decision_function(X[:1])
        odds = np.exp(scores - scores.max())
        # the shares of the classes, exact as the optimum is smooth
        np.testing.assert_allclose(odds / odds.sum(), [[6 / 12, 4 / 12, 2 / 12]])
    W, b = full_params(model)
    np.testing.assert_allclose(W, 0, atol=1e-7)  # alpha W^2 <= 1e-10
    assert abs(b).max() > 0.1


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_warm_start_is_where_the_last_fit_ended(loss, solver, name):
    model = copy.copy(fitted(loss, solver, name)).set_params(warm_start=True)
    P = objective(model, PROBLEMS[name], *full_params(model))
    model.set_params(max_iter=1).fit(*PROBLEMS[name])
    # the rows of coef_ are centred again, to rounding
    assert objective(model, PROBLEMS[name], *full_params(model)) <= P * (1 + 1e-9)
    model.set_params(warm_start=False).fit(*PROBLEMS[name])
    assert objective(model, PROBLEMS[name], *full_params(model)) > P * (1 + 1e-3)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("delta", [0.1, 10.0])
@pytest.mark.parametrize("loss", ["hinge", "squared_hinge"])
def test_a_warm_start_is_in_the_units_of_the_users_scores(loss, solver, delta):
    problem = PROBLEMS["blobs"]
    alpha = TIGHT["alpha"] / (delta if loss == "hinge" else 1)  # the same problem
    params = {"tol": TIGHT["tol"], "alpha": alpha, "delta": delta, "solver": solver}
    model = classifier(loss, **params).fit(*problem)
    P = model.loss_curve_[-1]
    # what it starts from is no worse than the optimum that it has
    model.set_params(warm_start=True, max_iter=1).fit(*problem)
    assert model.loss_curve_[0] <= P * (1 + 1e-9)


def test_a_warm_start_leads_to_the_same_optimum(loss, solver, name):
    base = fitted(loss, solver, name)
    model = copy.copy(fitted(loss, solver, name, alpha=10.0))
    model.set_params(alpha=TIGHT["alpha"], warm_start=True).fit(*PROBLEMS[name])
    assert model.dual_gap_ <= model.tol
    assert_optimal(base, PROBLEMS[name], model, *full_params(model))


def test_what_all_classes_share_is_taken_off_a_start(loss, solver):
    base = fitted(loss, solver, "iris")
    model = copy.copy(base).set_params(warm_start=True)
    model.coef_ = model.coef_ + 3.0  # which changes no label
    model.fit(*PROBLEMS["iris"])
    assert model.dual_gap_ <= model.tol
    assert_optimal(base, PROBLEMS["iris"], model, *full_params(model))
    # only the penalty sees it, and no step of Newton's would: 200 iterations, not 3
    assert model.n_iter_ <= 2 * base.n_iter_


def test_loss_curve_ends_at_the_objective_of_the_params(loss, solver, name):
    model = fitted(loss, solver, name)
    P = objective(model, PROBLEMS[name], *full_params(model))
    # the rows of coef_ are centred and sums taken in another order
    assert model.loss_curve_[-1] == pytest.approx(P, rel=1e-10)
    assert len(model.loss_curve_) == model.n_iter_
    assert model.n_iter_ < 1000  # none of these is hard


def test_iterations_in_the_space_of_few_rows_count(loss, solver):
    curve = fitted(loss, solver, "wide").loss_curve_
    # they are all that it takes: a curve of the end alone would be of one value
    assert curve[0] > 1.01 * curve[-1]


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_loss_curve_ends_at_the_params_wherever_a_fit_stops(loss, solver, name):
    for max_iter in (1, 12, 20, 24):
        model = classifier(loss, solver=solver, alpha=1e-4, max_iter=max_iter)
        model.fit(*PROBLEMS[name])
        P = objective(model, PROBLEMS[name], *full_params(model))
        # the rows of coef_ are centred and sums taken in another order
        assert model.loss_curve_[-1] == pytest.approx(P, rel=1e-10)
        assert len(model.loss_curve_) == model.n_iter_ <= max_iter


def test_stopping_before_the_optimum_is_proven_is_a_warning(loss, solver, name):
    model = classifier(loss, solver=solver, alpha=1e-4, max_iter=2)
    with pytest.warns(ConvergenceWarning, match="max_iter=2"):
        model.fit(*PROBLEMS[name])
    assert model.n_iter_ == 2
    assert model.dual_gap_ > model.tol


@pytest.mark.parametrize("loss", ["squared_hinge", "softmax"])
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_slope_of_the_objective_vanishes_at_the_optimum(
    loss, solver, name, fit_intercept
):
    model = fitted(loss, solver, name, fit_intercept=fit_intercept)
    W, b = full_params(model)
    scale = 1 / np.sqrt(dense(PROBLEMS[name].X).var(axis=0) + 1e-2)
    rng = np.random.default_rng(0)

    def slope(W, b, V, c, step=1e-7):
        up, down = (
            objective(model, PROBLEMS[name], W + t * V, b + t * c)
            for t in (step, -step)
        )
        return (up - down) / (2 * step)

    for _ in range(10):
        V = scale[:, None] * rng.normal(size=W.shape)
        c = rng.normal(size=b.shape) * fit_intercept
        # values rounded at 1e-16 over a step of 2e-7, and a few steps where the
        # second derivative jumps
        assert abs(slope(W, b, V, c)) < 1e-6
    # and elsewhere it does not
    assert abs(slope(W + V, b + c, V, c)) > 1e-2


# Containers ---------------------------------------------------------------------------


@pytest.mark.parametrize("container", [scipy.sparse.csr_matrix, np.asfortranarray])
def test_sparse_is_dense_and_columns_are_rows(loss, solver, name, container):
    X, y, weights = PROBLEMS[name]
    if scipy.sparse.issparse(X) and container is scipy.sparse.csr_matrix:
        container = np.asarray
    base = fitted(loss, solver, name)
    model = fit(loss, solver, Problem(container(dense(X)), y, weights))
    assert_optimal(base, PROBLEMS[name], model, *full_params(model))


@pytest.mark.parametrize("fit_intercept", [True, False])
def test_float32_stays_float32_and_finds_the_optimum(loss, solver, name, fit_intercept):
    X, y, weights = PROBLEMS[name]
    X = X.astype(np.float32)
    settings = {"tol": 1e-4, "fit_intercept": fit_intercept}
    model = classifier(loss, solver=solver, **TIGHT | settings).fit(X, y, weights)
    assert model.coef_.dtype == model.intercept_.dtype == np.float32
    assert model.decision_function(X).dtype == np.float32
    wide = Problem(X.astype(np.float64), y, weights)
    exact = fit(loss, solver, wide, fit_intercept=fit_intercept)
    P = objective(exact, wide, *full_params(exact))
    found = objective(model, wide, *full_params(model))
    # tol; and coefficients rounded to float32 move scores of size 10 by 1e-6, which is
    # 2e-4 of the smallest P
    assert P * (1 - 1e-9) <= found <= P * (1 + 1e-4 + 2e-4)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("kind", ["C", "F", "csr"])
def test_inputs_are_not_modified_and_may_be_read_only(loss, solver, dtype, kind):
    X, y, weights = PROBLEMS["weighted"]
    if kind == "csr":
        X = scipy.sparse.csr_matrix(X, dtype=dtype)
        arrays = [X.data, X.indices, X.indptr]
    else:
        X = np.array(X, dtype=dtype, order=kind)
        arrays = [X]
    y, weights = y.copy(), weights.copy()
    arrays += [y, weights]
    before = [array.copy() for array in arrays]
    settings = {"solver": solver, "alpha": 1e-2, "class_weight": "balanced"}
    writeable = classifier(loss, **settings).fit(X, y, weights)
    for array, kept in zip(arrays, before, strict=True):
        np.testing.assert_array_equal(array, kept)
        array.flags.writeable = False
    read_only = classifier(loss, **settings).fit(X, y, weights)
    np.testing.assert_array_equal(read_only.coef_, writeable.coef_)


def test_a_fit_is_reproducible_to_the_bit(loss, solver, name):
    model = fit(loss, solver, PROBLEMS[name])
    np.testing.assert_array_equal(model.coef_, fitted(loss, solver, name).coef_)


@each_loss
def test_seeds_reproduce_sgd(loss):
    X, y, weights = PROBLEMS["weighted"]
    settings = {"solver": "sgd", "tol": 1e-2, "alpha": 1e-2}
    coefs = [
        classifier(loss, random_state=seed, **settings).fit(X, y, weights).coef_
        for seed in (0, 0, np.random.RandomState(0), 1)
    ]
    np.testing.assert_array_equal(coefs[1], coefs[0])
    np.testing.assert_array_equal(coefs[2], coefs[0])
    assert (coefs[3] != coefs[0]).any()
