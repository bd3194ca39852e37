"""The certificate: dual_gap_ brackets the optimum that others find, at any stop."""

from __future__ import annotations

import re
from functools import cache
from typing import NamedTuple

import numpy as np
import pytest
from conftest import LOSSES, Problem, classifier, full_params, objective
from sklearn.datasets import load_breast_cancer, load_digits, load_iris, load_wine
from sklearn.exceptions import ConvergenceWarning
from test_oracles import optimum

from sklinear._certificate import certificate
from sklinear._data import Data
from sklinear._duality import dual_value
from sklinear._objective import Objective
from sklinear._solvers._frame import certify
from sklinear._solvers._solution import Monitor
from sklinear._variables import choose_variables
from sklinear.losses import CrossEntropy, Hinge, SquaredHinge


class Case(NamedTuple):
    """Data on which a certificate may fail, of features ``scale * X``."""

    X: np.ndarray
    y: np.ndarray
    sample_weight: np.ndarray | None = None
    alpha: float = 1e-2
    scale: float = 1.0

    @property
    def problem(self):
        """What is fitted."""
        return Problem(self.scale * self.X, self.y, self.sample_weight)


def _cases():
    rng = np.random.default_rng(0)
    y = np.arange(36) % 3
    X = rng.normal(size=(36, 4)) + rng.normal(size=(3, 4))[y]
    weights = 10 ** rng.uniform(-3, 3, 36)
    apart = X + 10 * np.eye(3, 4)[y]
    many = np.arange(48) % 12
    return {
        "plain": Case(X, y),
        "two": Case(X[y < 2], y[y < 2]),
        "weak": Case(X, y, alpha=1e-7),
        "strong": Case(X, y, alpha=1e2),
        "weights": Case(X, y, weights),
        "rare": Case(X, y, np.where(y == 1, 1e-6, 1.0)),
        "tiny": Case(X, y, scale=1e-6),
        "tiny, weak": Case(X, y, alpha=1e-14, scale=1e-6),
        "huge": Case(X, y, scale=1e6),
        "huge, strong": Case(X, y, alpha=1e10, scale=1e6),
        "duplicates": Case(np.hstack([X, X, X[:, :1]]), y, weights),
        "separable": Case(apart, y, alpha=1e-3),
        "many": Case(rng.normal(size=(48, 5)) + rng.normal(size=(12, 5))[many], many),
        "wide": Case(rng.normal(size=(18, 60)), y[:18]),
    }


CASES = _cases()


@cache
def solved(loss, case, fit_intercept):
    """W and b of the optimum of a case."""
    X, y, weights, alpha, scale = CASES[case]
    # alpha ||W||^2 = alpha / scale^2 ||scale W||^2
    W, b = optimum(loss, Problem(X, y, weights), alpha / scale**2, fit_intercept)
    return W / scale, b


def value_of(loss, alpha, problem, W, b):
    """The objective, of a loss by name."""
    model = classifier(loss, alpha=alpha)
    model.classes_ = np.unique(problem.y)
    return objective(model, problem, W, b)


# what an intercept is not needed for to be of interest
WITHOUT = ("two", "weak", "weights", "huge", "separable", "wide")


def each_case(test):
    """Each case's name with an intercept, some of them without."""
    cases = [(case, True) for case in CASES] + [(case, False) for case in WITHOUT]
    names = [case + ("" if own else " without intercept") for case, own in cases]
    return pytest.mark.parametrize(("case", "fit_intercept"), cases, ids=names)(test)


# Of the oracle's optimum: 1e-11, of objectives down to 1e-4, and rounding of sums whose
# terms cancel.
SLACK = 1e-6


# The lower bound ----------------------------------------------------------------------


def seen_by_solvers(loss, y, k):
    """The loss, and those that stand in for it on the way."""
    if loss == "softmax":
        return [CrossEntropy()]
    if loss == "squared_hinge":
        return [SquaredHinge()]
    centre = np.random.default_rng(1).random((len(y), k))
    centre[np.arange(len(y)), y] = 0
    return [Hinge(), Hinge(width=1.0), Hinge(width=0.01), Hinge(1.0, 0.3, centre)]


def objectives(loss, case, fit_intercept):
    """The objective of a case as solvers see it, for each loss that they see."""
    (X, y, weights), alpha = CASES[case].problem, CASES[case].alpha
    weights = np.ones(len(y)) if weights is None else weights
    data = Data(X, y, weights / weights.sum(), y.max() + 1)
    for part in seen_by_solvers(loss, y, data.n_classes):
        variables = choose_variables(data, alpha, part.curvature, fit_intercept)
        yield Objective(data, part, alpha, fit_intercept, variables)


def dual_at(objective_, W, b):
    """The dual value of the score gradients at a point."""
    at = objective_.evaluate(objective_.join(W, b), conjugate=True)
    return dual_value(objective_, at)


def points(case, W, b, fit_intercept):
    """Random points, and ever nearer ones to the optimum, as moves of the scores."""
    rng = np.random.default_rng(2)
    for order in range(-8, 4):
        for centre in (0, 1):
            V = rng.normal(size=W.shape) / CASES[case].scale
            c = rng.normal(size=b.shape) * fit_intercept
            yield centre * W + 10.0**order * V, centre * b + 10.0**order * c


@each_case
def test_dual_value_of_any_point_is_at_most_the_optimum(loss, case, fit_intercept):
    W, b = solved(loss, case, fit_intercept)
    P = value_of(loss, CASES[case].alpha, CASES[case].problem, W, b)
    for objective_ in objectives(loss, case, fit_intercept):
        duals = [dual_at(objective_, *at) for at in points(case, W, b, fit_intercept)]
        assert min(duals) >= 0
        # the oracle's P is an upper bound of the optimum, so that this is rounding only
        assert max(duals) <= P * (1 + 1e-10)


@pytest.mark.parametrize("off", [1e-3, 1e-2, 0.1])
@pytest.mark.parametrize("loss", ["squared_hinge", "softmax"])
@pytest.mark.parametrize("case", ["plain", "weights", "two"])
def test_an_optimum_whose_intercept_was_moved_is_as_far_as_it_is(loss, case, off):
    # score gradients cost nothing there: what moves them back to balance does
    W, b = solved(loss, case, True)
    (objective_,) = objectives(loss, case, True)
    rng = np.random.default_rng(0)

    def primal(b):
        return objective_.evaluate(objective_.join(W, b)).primal

    for move in off * rng.normal(size=(8, len(b))):
        args = objective_.data, objective_.loss, objective_.alpha, True, W, b + move
        found = certificate(*args, -np.inf, primal(b + move))
        assert found.gap * found.value >= primal(b + move) - primal(b)
        far = found.drift - np.abs(move - move[:, None])
        assert far.min() >= -1e-9  # the oracle's own distance from the optimum


@pytest.mark.parametrize("fit_intercept", [False, True])
@pytest.mark.parametrize("loss", ["squared_hinge", "softmax"])
def test_solvers_prove_float32_rows_in_float64(loss, fit_intercept):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(300, 5)).astype(np.float32), np.arange(300) % 3
    at = rng.normal(size=(5 + fit_intercept, 3)) / 10
    seen = []
    for dtype in (np.float32, np.float64):
        data = Data(X.astype(dtype), y, np.full(300, 1 / 300), 3)
        (part,) = seen_by_solvers(loss, y, 3)
        exact = data.astype(np.float64)
        variables = choose_variables(exact, 1.0, part.curvature, fit_intercept)
        monitor = Monitor(1e-3, 10)
        certify(Objective(data, part, 1.0, fit_intercept, variables), at, monitor)
        seen.append((monitor.primal, monitor.dual))
    assert seen[0][1] > 0
    # sums of 300 terms
    np.testing.assert_allclose(seen[0], seen[1], rtol=1e-13)


@pytest.mark.parametrize("off", [1e-3, 0.1, 1.0])
@pytest.mark.parametrize("loss", ["squared_hinge", "softmax"])
@pytest.mark.parametrize("case", ["plain", "weights", "two"])
def test_the_gap_of_a_point_off_balance_is_its_objective_less_its_dual_value(
    loss, case, off, monkeypatch
):
    # a graph that is cut lets no move settle the intercept: a class-wise point does
    monkeypatch.setattr("sklinear._certificate.SPLIT", 2.0)
    W, b = solved(loss, case, True)
    (objective_,) = objectives(loss, case, True)
    rng = np.random.default_rng(0)
    for b_off in off * rng.normal(size=(8, len(b))):
        at = W, b + b_off
        primal = objective_.evaluate(objective_.join(*at)).primal
        gap = (primal - dual_at(objective_, *at)) / primal
        args = objective_.data, objective_.loss, objective_.alpha, True
        found = certificate(*args, *at, -np.inf, primal)
        assert found.value == pytest.approx(primal, rel=1e-12)
        # both are sums of terms as large as the objective, with what rounding may hide
        assert found.gap == pytest.approx(gap, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("loss", ["squared_hinge", "softmax"])
@each_case
def test_dual_value_of_the_optimum_is_the_optimum(loss, case, fit_intercept):
    W, b = solved(loss, case, fit_intercept)
    P = value_of(loss, CASES[case].alpha, CASES[case].problem, W, b)
    (objective_,) = objectives(loss, case, fit_intercept)
    # D falls short by the oracle's gradient squared over 4 alpha; and by its gradient
    # in the intercept over the rarest class's mass, 1e-11 / 1e-8
    short = 1e-2 if fit_intercept else SLACK
    assert dual_at(objective_, W, b) >= P * (1 - short)


# The bracket around the optimum -------------------------------------------------------


def bounds(model):
    """radius, drift and centred params of a fitted model, in its own scores."""
    radius, centre, drift, *_ = model._certificate
    W, b = full_params(model)
    return radius, drift, W, b + centre @ W


def assert_within(model, W, b, radius=0.0, drift=0.0):
    """The bounds on params hold for an optimum that is itself known so well."""
    own_radius, own_drift, own_W, c = bounds(model)
    assert np.linalg.norm(own_W - W) <= own_radius + radius
    delta = b + model._certificate.centre @ W - c
    assert np.all(delta - delta[:, None] <= own_drift + drift)


def assert_brackets(model, problem, P):
    """P (1 - gap) <= the optimum <= P."""
    found = objective(model, problem, *full_params(model))
    assert 0 <= model.dual_gap_ <= 1
    assert found * (1 - model.dual_gap_) <= P * (1 + SLACK)
    assert found * (1 + SLACK) >= P


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@each_case
def test_optimum_is_in_the_bracket_wherever_a_fit_stops(
    loss, solver, case, fit_intercept
):
    problem, alpha = CASES[case].problem, CASES[case].alpha
    W, b = solved(loss, case, fit_intercept)
    P = value_of(loss, alpha, problem, W, b)
    settings = {"solver": solver, "alpha": alpha, "fit_intercept": fit_intercept}
    for max_iter in (1, 3, 10, 1000):
        model = classifier(loss, max_iter=max_iter, tol=1e-12, **settings)
        model.fit(*problem)
        assert_brackets(model, problem, P)
        if np.isfinite(model._certificate.drift).any():
            # of the oracle: 1e-11 of an objective up to log k, and as much in c
            slack = np.sqrt(1e-9 / alpha)
            size = np.abs(problem.X).max()
            assert_within(model, W, b, slack, 1e-4 + 10 * size * slack)


@each_case
def test_default_tol_is_reached_on_every_case(loss, solver, case, fit_intercept):
    problem, alpha = CASES[case].problem, CASES[case].alpha
    P = value_of(loss, alpha, problem, *solved(loss, case, fit_intercept))
    settings = {"solver": solver, "alpha": alpha, "fit_intercept": fit_intercept}
    model = classifier(loss, **settings).fit(*problem)  # without a warning
    assert model.dual_gap_ <= 1e-4
    assert_brackets(model, problem, P)


def any_problem(seed):
    """Features and weights that differ by orders of magnitude, and an alpha."""
    rng = np.random.default_rng(seed)
    n, d, k = rng.integers(6, 40), rng.integers(1, 8), rng.integers(2, 6)
    orders = rng.integers(0, 5)
    y = np.arange(n) % k
    X = rng.normal(size=(n, d)) + rng.normal(size=(k, d))[y] * rng.choice([0, 1, 5])
    X = X * 10 ** rng.uniform(-orders, orders, d) + rng.choice([0, 10]) * rng.normal(
        size=d
    )
    weights = 10 ** rng.uniform(-orders / 2, orders / 2, n)
    return Problem(X, y, weights), 10 ** rng.uniform(-5, 3)


# the seeds beyond 10 once ended in a stall above tol, or far below it at max_iter
SEEDS = [*range(5), 9, 21, 34, 38, 40, 55, 60, 172, 266, 377]


@pytest.mark.parametrize(
    ("seed", "fit_intercept"),
    [(seed, True) for seed in SEEDS] + [(seed, False) for seed in SEEDS[::3]],
)
def test_any_small_problem_is_solved_well_before_max_iter(
    loss, solver, seed, fit_intercept
):
    problem, alpha = any_problem(seed)
    settings = {"solver": solver, "alpha": alpha, "fit_intercept": fit_intercept}
    model = classifier(loss, **settings).fit(*problem)  # without a warning
    assert model.dual_gap_ <= 1e-4
    assert model.n_iter_ < 500


@pytest.mark.parametrize(
    ("loss", "seed"), [("hinge", 5099), ("hinge", 5121), ("squared_hinge", 5130)]
)
def test_a_fit_that_rounding_stops_ends_long_before_max_iter(loss, seed):
    problem, alpha = any_problem(seed)
    model = classifier(loss, solver="newton", alpha=alpha, tol=1e-12).fit(*problem)
    assert model.dual_gap_ <= 1e-12
    assert model.n_iter_ < 300


def test_the_warning_tells_the_objective_of_the_coefficients_as_stored(loss):
    """Beside their gap: in float32 they may be far from what a solver found."""
    X, y = load_iris(return_X_y=True)
    X = (X + 1e7).astype(np.float32)
    with pytest.warns(ConvergenceWarning) as caught:
        model = classifier(loss, solver="lbfgs", alpha=1e-3).fit(X, y)
    problem = Problem(X.astype(np.float64), y, None)
    expected = objective(model, problem, *full_params(model))
    told = re.search(r"the objective (\S+) is", str(caught[0].message))[1]
    assert float(told) == pytest.approx(expected, rel=1e-5)  # six digits
    assert expected > 1.1 * model.loss_curve_[-1]


def test_where_rounding_hides_the_gap_the_warning_asks_to_scale(loss):
    """Nanoseconds since 1970: sums of them are off by more than the penalty allows."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 3))
    y = (X[:, 0] + rng.normal(size=300) > 0).astype(int)
    X[:, 2] = 1.7e18 + 1e15 * X[:, 2]
    with pytest.warns(ConvergenceWarning, match="0.0001; centre or scale X, or raise"):
        model = classifier(loss, tol=1e-4).fit(X, y)
    other = classifier(loss, tol=1e-4).fit((X - X.mean(axis=0)) / X.std(axis=0), y)
    # it is the proof that is missing: nothing keeps the column from its best weight
    assert model.loss_curve_[-1] < other.loss_curve_[-1] * 1.001


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@each_case
def test_float32_data_are_certified_too(loss, solver, case, fit_intercept):
    X, y, weights = CASES[case].problem
    problem = Problem(X.astype(np.float32), y, weights)
    alpha = CASES[case].alpha
    settings = {"solver": solver, "alpha": alpha, "fit_intercept": fit_intercept}
    exact = problem._replace(X=problem.X.astype(np.float64))
    P = value_of(loss, alpha, exact, *solved(loss, case, fit_intercept))
    for max_iter in (5, 1000):
        model = classifier(loss, max_iter=max_iter, **settings).fit(*problem)
        found = objective(model, exact, *full_params(model))
        # data rounded to float32 have an optimum 1e-7 of some scores away, beside
        # P >= 1e-3
        assert found * (1 - model.dual_gap_) <= P * (1 + 1e-4)
        assert found * (1 + 1e-4) >= P


@cache
def many_features():
    """Rows of digits: too many params for a fit to be exact without being asked."""
    X, y = load_digits(return_X_y=True)
    return Problem(X[:100] / 16, y[:100])


@cache
def least_of_many_features(loss, fit_intercept):
    """The optimal value."""
    problem = many_features()
    W, b = optimum(loss, problem, 1e-2, fit_intercept)
    return value_of(loss, 1e-2, problem, W, b)


@pytest.mark.parametrize("fit_intercept", [True, False])
def test_a_loose_tol_stops_early_and_inside_the_bracket(loss, solver, fit_intercept):
    problem = many_features()
    settings = {"solver": solver, "alpha": 1e-2, "fit_intercept": fit_intercept}
    P = least_of_many_features(loss, fit_intercept)
    iterations = []
    for tol in (1e-1, 1e-2, 1e-4):
        model = classifier(loss, tol=tol, **settings).fit(*problem)
        assert model.dual_gap_ <= tol
        assert_brackets(model, problem, P)
        iterations.append(model.n_iter_)
    assert iterations[0] < iterations[-1]
    for max_iter in (1, 2):
        model = classifier(loss, max_iter=max_iter, **settings)
        with pytest.warns(ConvergenceWarning, match="raise max_iter"):
            model.fit(*problem)
        assert_brackets(model, problem, P)


# Raw features -------------------------------------------------------------------------

# of the default alpha = 1e-3: clarabel 0.11.1 at tol 1e-10, which takes a minute
DIGITS = {"hinge": 1.7075140e-3, "squared_hinge": 1.6622041e-3}


@pytest.mark.parametrize(
    "load", [load_iris, load_wine, load_breast_cancer, load_digits]
)
def test_defaults_reach_the_optimum_within_tol_on_raw_features(loss, load):
    problem = Problem(*load(return_X_y=True))
    model = classifier(loss).fit(problem.X, problem.y)
    found = objective(model, problem, *full_params(model))
    if load is load_digits and loss in DIGITS:
        P = DIGITS[loss]
    else:
        P = value_of(loss, 1e-3, problem, *optimum(loss, problem, 1e-3))
    assert (found - P) / found <= 1e-4 + 1e-7  # tol; and digits of DIGITS
    assert_brackets(model, problem, P)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_features_of_very_different_size_and_place_do_not_stop_a_fit_early(
    loss, n_classes
):
    # scikit-learn issue 15583: L-BFGS ended far from the optimum, and did not say so.
    # The oracle's Newton steps stumble here too, over the shift, which it need not see:
    # an intercept takes any shift up
    rng = np.random.RandomState(0)
    X, y = rng.randn(100, 60), np.arange(100) % n_classes
    X[:, 0] *= 1e4
    W, b = optimum(loss, Problem(X, y), 1e-3)
    shift = 1e4 * (np.arange(60) == 1)
    problem = Problem(X + shift, y)
    P = value_of(loss, 1e-3, Problem(X, y), W, b)
    model = classifier(loss).fit(problem.X, problem.y)
    found = objective(model, problem, *full_params(model))
    assert model.dual_gap_ <= 1e-4
    assert_brackets(model, problem, P)
    # so small a fit is polished to rounding, whatever tol; the oracle is good to 1e-11
    assert found == pytest.approx(P, rel=1e-7)


# Where there is none ------------------------------------------------------------------


def test_without_penalty_there_is_no_bound(loss, solver):
    problem = CASES["plain"].problem
    model = classifier(loss, solver=solver, alpha=0.0)
    with pytest.warns(ConvergenceWarning, match="alpha"):
        model.fit(*problem)
    assert model.dual_gap_ == 1
    assert model.solver_ == ("lbfgs" if solver == "dual" else solver)  # has no dual
    assert np.isfinite(model.coef_).all()


@pytest.mark.parametrize("loss", LOSSES)
def test_sgd_claims_no_bound(loss):
    X, y, _ = CASES["plain"].problem
    model = classifier(loss).fit(X, y)
    assert hasattr(model, "dual_gap_")
    model.set_params(solver="sgd", random_state=0, tol=1e-2).fit(X, y)
    assert not hasattr(model, "dual_gap_")
