"""Newton on data so large that it samples their rows, and what "auto" picks."""

import importlib.util
import tracemalloc
from functools import cache

import numpy as np
import pytest
import scipy.sparse
from conftest import Problem, classifier, full_params, objective
from numpy.testing import assert_allclose
from sklearn.base import clone
from sklearn.datasets import (
    load_breast_cancer,
    load_digits,
    load_iris,
    load_wine,
    make_classification,
)
from sklearn.exceptions import ConvergenceWarning

from sklinear import _data
from sklinear._data import Data
from sklinear._duality import dual_value, relative_gap
from sklinear._losses import CrossEntropy, Hinge, SquaredHinge
from sklinear._objective import Objective
from sklinear._solvers import (
    _descent,
    _dual_blocks,
    _frame,
    _preconditioner,
    choose,
)
from sklinear._solvers._active import active_hessian, active_margins, active_step
from sklinear._solvers._auto import _fastest, variances_of
from sklinear._solvers._curvature import (
    COPIED,
    chances,
    diagonals,
    hessian,
    whole_hessian,
)
from sklinear._solvers._descent import _visit
from sklinear._solvers._frame import certify
from sklinear._solvers._newton import _Unseen, refine
from sklinear._solvers._solution import Monitor
from sklinear._solvers._steps import cg_step, dense_step, written_out
from sklinear._variables import choose_variables


def images(dtype):
    """Twelve overlapping classes of dense rows, sorted by class."""
    rng = np.random.default_rng(0)
    y = np.sort(rng.integers(12, size=18_000))
    X = rng.normal(size=(18_000, 60)) @ rng.normal(size=(60, 60))
    X += rng.normal(size=(12, 60))[y] + 10
    return Problem(X.astype(np.float32).astype(dtype), y)  # the same in both


@cache
def solved(loss, dtype, tol):
    """The model of the images."""
    return classifier(loss, solver="newton", alpha=1e-3, tol=tol).fit(*images(dtype))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_samples_of_rows_lead_to_the_optimum_of_all(loss, dtype):
    exact = images(np.float64)
    model, tight = solved(loss, dtype, 1e-4), solved(loss, np.float64, 1e-5)
    assert model.dual_gap_ <= 1e-4
    found = objective(model, exact, *full_params(model))
    least = objective(tight, exact, *full_params(tight))
    assert found * (1 - model.dual_gap_) <= least <= found * (1 + 1e-5)
    assert (
        model.predict(exact.X.astype(dtype)) == tight.predict(exact.X)
    ).mean() > 0.995


def test_a_width_that_rounding_keeps_from_being_solved_is_left_for_a_narrower():
    X, y = make_classification(80, 12, n_informative=6, n_classes=3, random_state=0)
    settings = {"alpha": 1e-5, "fit_intercept": False}
    model = classifier("hinge", solver="newton", **settings).fit(1e6 * X, y)
    assert model.dual_gap_ <= 1e-4  # it was 2e-2


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("loss", ["hinge", "squared_hinge"])
def test_a_step_that_rounding_spoils_far_from_the_optimum_is_no_end(loss):
    X, y = load_digits(return_X_y=True)
    model = classifier(loss, solver="newton", alpha=1e-5).fit(1e6 * X[:100], y[:100])
    # all margins are met: what is left is rounding, as alpha is 1e-17 in other units
    assert model.loss_curve_[-1] < 1e-12


def test_samples_hold_a_class_of_a_single_row(loss):
    X, y = images(np.float32)[:2]
    rare = np.where(np.arange(len(y)) == 7, 12, y)  # warnings are errors
    model = classifier(loss, solver="newton", alpha=1e-2).fit(X, rare)
    assert model.dual_gap_ <= 1e-4
    assert np.isfinite(model.coef_).all()


def test_newton_is_reproducible(loss):
    first = solved(loss, np.float32, 1e-4)
    again = clone(first).fit(*images(np.float32))
    np.testing.assert_array_equal(again.coef_, first.coef_)


@pytest.mark.parametrize("loss", [CrossEntropy(), SquaredHinge()])
@pytest.mark.parametrize("container", [np.asarray, scipy.sparse.csr_matrix])
def test_an_intercept_that_is_off_costs_its_square(loss, container, monkeypatch):
    monkeypatch.setattr(_frame, "LARGE", 0)
    X, y = load_iris(return_X_y=True)
    data = Data(container(X), y, np.full(len(y), 1 / len(y)), 3)
    variables = choose_variables(data, 1e-3, loss.curvature, True)
    at = Objective(data, loss, 1e-3, True, variables)
    monitor = Monitor(tol=1e-10, max_iter=100)
    monitor.offer(np.zeros(at.shape), np.inf)
    refine(at, np.zeros(at.shape), monitor)
    params = monitor.params.copy()
    params[-1] += [1e-5, 0, -1e-5]
    before = at.evaluate(params, conjugate=True)
    far = relative_gap(before.primal, dual_value(at, before))
    there = Monitor(tol=far / 10, max_iter=100)
    certify(at, params, there)
    assert there.done
    rounding = 1e-14 * there.primal
    low = there.primal * (1 - there.gap)
    assert low - rounding <= monitor.primal <= there.primal + rounding


def test_an_intercept_settles_whatever_blocks_rows_are_in(loss, monkeypatch):
    counts, own = [], _descent._settled

    def settled(at, state):
        counts.append(len(state.scores))
        return own(at, state)

    monkeypatch.setattr(_descent, "_settled", settled)
    monkeypatch.setattr(_descent, "is_unbalanced", lambda *_: True)
    X, y = load_iris(return_X_y=True)
    whole = classifier(loss, solver="newton", alpha=1e-2, tol=1e-8).fit(X, y)
    assert set(counts) == {1}
    monkeypatch.setattr(_data, "FEWEST_ROWS", 32)
    monkeypatch.setattr(_data, "BLOCK_VALUES", 2**7)
    parts = classifier(loss, solver="newton", alpha=1e-2, tol=1e-8).fit(X, y)
    assert max(counts) > 1
    assert max(whole.dual_gap_, parts.dual_gap_) <= 1e-8
    assert parts.loss_curve_[-1] == pytest.approx(whole.loss_curve_[-1], rel=2e-8)


@pytest.mark.parametrize("solver", ["lbfgs", "newton"])
def test_a_hinge_that_is_not_rounded_bends_nowhere(solver, monkeypatch):
    # few rows of many features are solved in their own space first, and then proven;
    # under a penalty so strong that all margins are violated but for a few
    monkeypatch.setattr(_frame, "LARGE", 0)
    rng = np.random.default_rng(2)
    X, y = rng.normal(size=(30, 60)), rng.integers(3, size=30)
    model = classifier("hinge", solver=solver, alpha=1e5).fit(X, y)
    assert model.dual_gap_ <= 1e-4


@pytest.mark.parametrize("alpha", [1e-2, 1e-3])
@pytest.mark.parametrize("load", [load_iris, load_wine, load_breast_cancer])
def test_newton_is_exact_to_rounding_if_asked(loss, load, alpha):
    # columns of up to 4000, raw: more than float64 is needed to see how exact it is
    X, y = load(return_X_y=True)
    model = classifier(loss, solver="newton", tol=1e-12, alpha=alpha).fit(X, y)
    assert model.dual_gap_ <= 1e-12
    wide = Problem(X.astype(np.longdouble), y)
    value = objective(model, wide, *full_params(model))
    other = classifier(loss, solver="lbfgs", tol=1e-12, alpha=alpha).fit(X, y)
    least = objective(other, wide, *full_params(other)) * (1 + 1e-15)  # summed up
    assert value * (1 - model.dual_gap_) <= least


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
        (Hinge(), (90_000, 5), False, 1e-1, "newton"),  # but for few features
        (Hinge(), (100_000, 400), False, 1e-3, "newton"),  # or very many numbers
        (Hinge(), (60_000, 80), False, 2e-3, "newton"),  # less easy, and many a class
        (SquaredHinge(), (60_000, 80), False, 1e-1, "newton"),
        (SquaredHinge(), (20_000, 600), False, 2e-1, "dual"),
        (SquaredHinge(), (100_000, 400), False, 1e-1, "newton"),
        (Hinge(), (12_000, 600), False, 1e-7, "dual"),  # tried, of fewer rows a feature
        (Hinge(), (30_000, 600), False, 1e-7, "newton"),
        (SquaredHinge(), (15_000, 900), False, 1e-6, "newton"),
        (CrossEntropy(), (60_000, 200), True, 1e-3, "newton"),
        (Hinge(), (9_000, 400), True, 1e-3, "dual"),  # wide and sparse
        (Hinge(), (9_000, 400), True, 0.0, "lbfgs"),  # without a penalty no dual
        (Hinge(), (9_000, 400), True, 1e-9, "newton"),  # or features far from scaled
        (CrossEntropy(), (9_000, 400), True, 1e-9, "lbfgs"),
        (CrossEntropy(), (9_000, 400), True, 1e-4, "lbfgs"),  # many rows a feature
        (CrossEntropy(), (9_000, 400), True, 1e-3, "either"),
        (CrossEntropy(), (9_000, 400), True, 1e-2, "dual"),
        (CrossEntropy(), (14_000, 400), True, 1e-5, "lbfgs"),
        (CrossEntropy(), (14_000, 400), True, 1e-2, "dual"),
        (SquaredHinge(), (14_000, 400), True, 1e-3, "either"),
        (SquaredHinge(), (14_000, 400), True, 1e-6, "lbfgs"),
        (SquaredHinge(), (14_000, 400), True, 1e-2, "dual"),
        (Hinge(), (14_000, 400), True, 1e-3, "dual"),
    ],
)
def test_auto_picks(loss, shape, sparse, alpha, expected, monkeypatch):
    rng = np.random.default_rng(0)
    X = rng.normal(size=shape).astype(np.float32)
    X = scipy.sparse.csr_matrix(X * (X > 1)) if sparse else X
    data = Data(X, rng.integers(3, size=shape[0]), np.full(shape[0], 1 / shape[0]), 3)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(_dual_blocks, "numba", object())
    assert choose(data, loss, alpha, 1e-4) == expected
    if expected == "dual" and not sparse:  # where it ends slowly
        assert choose(data, loss, alpha, 1e-8) == "newton"
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    wide = shape[1] == 400 and sparse
    if expected == "dual" or wide:
        expected = "lbfgs" if wide else "newton"
    assert choose(data, loss, alpha, 1e-4) == expected


def test_auto_takes_the_dual_for_the_softmax_of_many_classes_where_it_pays(monkeypatch):
    rng = np.random.default_rng(0)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(_dual_blocks, "numba", object())
    for n, expected in ((15_000, "newton"), (30_000, "dual")):
        X, y = rng.normal(size=(n, 16)), rng.integers(26, size=n)
        data = Data(X, y, np.full(n, 1 / n), 26)
        assert choose(data, CrossEntropy(), 1e-3, 1e-4) == expected


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint8])
@pytest.mark.parametrize(
    ("scale", "shift", "single"),
    [(1, 0, True), (1e6, 0, True), (1e-6, 0, True), (1, 1e4, False), (1e30, 0, False)],
)
def test_sampled_products_are_in_float32_where_that_is_exact_enough(
    dtype, scale, shift, single
):
    rng = np.random.default_rng(0)
    X, y = rng.integers(0, 50, (20_000, 60)), np.arange(20_000) % 3
    X = X.astype(dtype) if dtype == np.uint8 else (scale * X + shift).astype(dtype)
    data = Data(X, y, np.full(len(y), 1 / len(y)), 3)
    variables = choose_variables(data, 1e-3, 0.15, True, diagonal=True)
    at = Objective(data, CrossEntropy(), 1e-3, True, variables)
    scores = at.push(rng.normal(size=at.shape) / 10)
    args = at, scores, diagonals(at, scores), 0.2, np.random.RandomState(0)
    sampled, whole = hessian(*args), whole_hessian(at, scores)
    n = sampled.objective.data.shape[0]
    exact = dtype == np.float32 or single or dtype == np.uint8
    most = COPIED / (4 if exact else 8)
    assert 0.9 * min(0.2, most) < n / len(y) < 1.1 * min(0.2, most)
    assert sampled.objective.data.dtype == (np.float32 if exact else np.float64)
    direction = rng.normal(size=at.shape)
    direction -= direction.mean(axis=1)[:, None]
    product, expected = sampled(direction)[0], whole(direction)[0]
    # the error of a sampled sum falls with the root of its rows, some 8 or 9 for one
    # row of these; float32 far from 0 is the user's
    far = dtype == np.float32 and not single
    off = np.linalg.norm(product - expected) / np.linalg.norm(expected)
    assert off < (1.0 if far else 10 / np.sqrt(n))


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("container", [np.asarray, scipy.sparse.csr_matrix])
@pytest.mark.parametrize("margin", [SquaredHinge(), Hinge(1.0, width=0.5)])
def test_steps_of_active_margins_are_those_of_the_hessian(
    margin, container, fit_intercept, monkeypatch
):
    monkeypatch.setattr(_data, "FEWEST_ROWS", 20)  # of a block
    monkeypatch.setattr(_data, "BLOCK_SCORES", 1)
    rng = np.random.RandomState(0)
    y = np.arange(60) % 4
    X = rng.normal(size=(60, 50)) + rng.normal(size=(4, 50))[y]
    weights = rng.randint(3, size=60) / 60.0
    data = Data(container(X), y, weights, 4)
    variables = choose_variables(data, 0.1, margin.curvature, fit_intercept)
    at = Objective(data, margin, 0.1, fit_intercept, variables)
    params = rng.normal(size=at.shape) / 20
    state = _visit(at, params - params.mean(axis=1)[:, None])
    assert len(state.scores) == (1 if data.sparse else 3)  # wide CSR rows are one
    active = active_margins(at, state.scores)
    assert 0 < len(active.rows) < 0.7 * 50 * 3
    assert (weights[active.rows] > 0).all()
    whole = written_out(at, state.scores)
    some = active_hessian(at, active)
    upper = np.triu_indices(4, 1)
    np.testing.assert_allclose(
        some.transpose(0, 2, 1, 3)[upper],
        whole.transpose(0, 2, 1, 3)[upper],
        atol=1e-12 * np.abs(whole).max(),  # rounding
    )
    written = dense_step(at, whole, state.at.gradient, 1e-9)
    step = active_step(at, state, active, 1e-9)
    # a ridge of the intercept only in one, of all params in the other
    np.testing.assert_allclose(step, written, atol=1e-6 * np.abs(written).max())


@pytest.mark.filterwarnings("ignore::UserWarning")  # of classes as many as rows, too
def test_the_space_of_margins_has_an_intercept_at_any_scale():
    # whose curvature is next to nothing there: what is the same for all classes was
    # bent by 1 / k, beside which nothing was left of it
    rng = np.random.default_rng(2)
    X = 1e6 * (rng.normal(size=(30, 200)) + 30 * rng.normal(size=(30, 200)))
    model = classifier("hinge", solver="newton", alpha=1e-4, max_iter=100)
    model.fit(X, np.arange(30))
    assert np.isfinite(model.coef_).all()
    assert model.loss_curve_[-1] < model.loss_curve_[0]


@pytest.mark.parametrize("solver", ["newton", "lbfgs"])
@pytest.mark.parametrize("n", [20, 21, 600])
def test_features_that_tell_nothing_are_proven_to(loss, solver, n):
    model = classifier(loss, solver=solver).fit(np.ones((n, 2)), np.arange(n) % 2)
    # the mean of ones is 1 up to rounding, which the penalty divides
    eps = np.finfo(float).eps
    assert np.abs(model.coef_).max() <= 10 * eps / model.alpha
    assert model.dual_gap_ <= 1e-12  # rounding: the intercept alone is exact


@pytest.mark.parametrize("make", [np.asarray, scipy.sparse.csr_matrix])
@pytest.mark.parametrize("size", [1e25, 1e-25])
def test_variances_of_float32_are_those_of_float64(make, size):
    """Their squares are beyond float32."""
    X = (size * np.random.default_rng(0).normal(size=(40, 3))).astype(np.float32)
    found = variances_of(Data(make(X), np.arange(40) % 2, np.full(40, 1 / 40), 2))
    assert_allclose(found, X.var(axis=0, dtype=np.float64), rtol=1e-6)


def test_the_variances_of_wide_sparse_rows_takes_no_dense_copy():
    rng = np.random.default_rng(0)
    X = scipy.sparse.random(1000, 50_000, 1e-3, "csr", np.float32, rng)
    X.data += 3
    data = Data(X, np.arange(1000) % 2, np.full(1000, 1e-3), 2)
    dense = X.toarray().astype(np.float64)
    expected = dense.var(axis=0)
    del dense
    tracemalloc.start()
    found = variances_of(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_allclose(found, expected, rtol=1e-10)  # sums of squares
    assert peak < 16 * X.nnz + 32 * X.shape[1]  # a copy of its values, means in float64


@pytest.mark.parametrize("seed", range(3))
def test_float32_rows_far_from_0_do_not_stop_conjugate_gradients(seed, solver):
    # rounding of scores of 1e6 leaves no curvature in the first direction
    rng = np.random.default_rng(seed)
    X = np.hstack([rng.normal(size=(100, 100)), np.full((100, 2), [3.0, 1e6])])
    X, y = scipy.sparse.csr_matrix(X.astype(np.float32)), np.arange(100) % 15
    weights = 10 ** rng.uniform(-3, 3, 100)
    model = classifier("squared_hinge", solver=solver, class_weight="balanced")
    assert model.fit(X, y, weights).dual_gap_ <= 1e-4


@pytest.mark.parametrize("is_mapped", [False, True])
def test_residuals_of_rounding_end_conjugate_gradients(is_mapped, tmp_path):
    # of float32 rows: such a residual is no descent, and a quotient of two was 0 / 0
    rng = np.random.default_rng(1)
    X = rng.integers(0, 100, (100_000, 12))
    scores = X @ rng.normal(size=(12, 14)) / 30
    y = (scores + rng.gumbel(size=scores.shape)).argmax(axis=1)
    if is_mapped:
        rows = np.memmap(tmp_path / "X", np.float32, "w+", shape=X.shape)
        rows[:] = X
    else:
        rows = X.astype(np.float32)
    model = classifier("softmax", solver="newton", tol=1e-5)
    assert model.fit(rows, y).dual_gap_ <= 1e-5


def test_a_weak_penalty_is_approached_from_stronger_ones_without_delay():
    # fifteen steps that led nowhere at each of them made it 100
    X, y = load_digits(return_X_y=True)
    model = classifier("squared_hinge", solver="lbfgs", alpha=1e-6).fit(X, y)
    assert model.n_iter_ < 80
    assert model.dual_gap_ <= 1e-6


@pytest.mark.parametrize("alpha", [1e-4, 1e-2, 1.0])
@pytest.mark.parametrize("kind", ["lbfgs", "newton"])
def test_small_fits_of_the_hinge_go_on_to_rounding(kind, alpha):
    """Past the gap that is asked for, however narrow the hinge's rounding is there."""
    X, y = load_breast_cancer(return_X_y=True)
    model = classifier("hinge", solver=kind, alpha=alpha).fit(X, y)
    assert model.dual_gap_ <= 1e-9  # unscaled features: sums of 1e3 squared


@pytest.mark.parametrize(("most", "count"), [(2**24, 3), (0, 1)])
def test_too_many_blocks_become_their_mean(most, count, monkeypatch):
    monkeypatch.setattr(_preconditioner, "LARGEST_BLOCKS", most)
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(300, 20)), np.arange(300) % 3
    data = Data(X, y, np.full(300, 1 / 300), 3)
    variables = choose_variables(data, 1e-3, 0.15, True, diagonal=True)
    at = Objective(data, CrossEntropy(), 1e-3, True, variables)
    diagonal = diagonals(at, at.push(rng.normal(size=at.shape)))
    build, built = _preconditioner.inverse_of, []
    monkeypatch.setattr(
        _preconditioner,
        "inverse_of",
        lambda *args: built.append(1) or build(*args),
    )
    seed = np.random.RandomState(0)
    inverse, _ = _preconditioner.inverse_of_blocks(at, diagonal, 0.0, seed)
    assert len(built) == count
    r = rng.normal(size=at.shape)
    assert np.vdot(r - r.mean(axis=1)[:, None], inverse(r)) > 0


@pytest.mark.parametrize("make", [np.array, scipy.sparse.csr_array])
def test_small_blocks_of_the_softmax_come_of_the_same_rows(make):
    """Of few rows all are taken: the blocks are exact then."""
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(300, 5)), np.arange(300) % 4
    weights = rng.random(300)
    data = Data(make(X), y, weights / weights.sum(), 4)
    variables = choose_variables(data, 1e-3, 0.15, True, diagonal=True)
    at = Objective(data, CrossEntropy(), 1e-3, True, variables)
    diagonal = diagonals(at, at.push(rng.normal(size=at.shape)))
    inverse, _ = _preconditioner.inverse_of_blocks(
        at, diagonal, 0.0, np.random.RandomState(0)
    )
    Z = np.hstack([(X - variables.mean) * variables.factor, np.ones((300, 1))])
    penalty = 2e-3 * np.diag(np.append(variables.factor**2, 0))
    r = rng.normal(size=at.shape)
    columns = diagonal.T
    blocks = [Z.T @ (column[:, None] * Z) + penalty for column in columns]
    z = np.stack([np.linalg.solve(H, g) for H, g in zip(blocks, r.T, strict=True)], 1)
    # what is added to a block's diagonal, 1e-7 of its mean, moves the inverse as little
    np.testing.assert_allclose(
        inverse(r), z - z.mean(axis=1)[:, None], rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e39])
def test_what_float32_cannot_hold_has_no_inverse_and_no_endless_search_for_one(value):
    H = np.eye(3)
    H[0, 1] = H[1, 0] = value
    assert not _preconditioner.inverse_of(H, 0.0, np.dtype(np.float32)).any()


@pytest.mark.parametrize("streamed", [False, True])
def test_steps_of_conjugate_gradients_count_as_tenths_of_iterations(streamed):
    """But where each of them reads all rows anew."""
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(500, 40)), rng.integers(30, size=500)
    data = Data(X, y, np.full(500, 1 / 500), 30)
    data.streamed = streamed
    variables = choose_variables(data, 1e-4, 0.15, True, diagonal=True)
    at = Objective(data, CrossEntropy(), 1e-4, True, variables)
    start = np.zeros(at.shape)
    monitor, applied = Monitor(1e-4, 1000, 500), []
    step, _, left = cg_step(
        whole_hessian(at, at.push(start)),
        at.evaluate(start).gradient,
        lambda r: applied.append(1) or r,
        1e-4,
        monitor,
        _preconditioner.Preconditioner(rng),
        1e-6,
        0.0,
    )
    steps = len(applied) - 1
    assert steps > 5
    assert left <= 1e-6
    assert step.any()
    counted = len(monitor.history) + monitor.pending
    # the first is the Newton step's own, which counts it
    np.testing.assert_allclose(counted, (1 if streamed else 0.1) * (steps - 1))


@pytest.mark.parametrize("loss", [Hinge(), SquaredHinge()])
@pytest.mark.parametrize(
    ("rank", "n_classes", "alpha", "tol", "expected"),
    [
        (0, 30, 1e-4, 1e-8, "dual"),
        (0, 30, 1e-4, 1e-12, "newton"),
        (0, 30, 10.0, 1e-4, "dual"),
        (0, 30, 10.0, 1e-8, "newton"),  # margins at their kink
        (0, 3, 1e-4, 1e-6, "lbfgs"),  # so many rows of few classes cannot all be met
        (5, 30, 1e-4, 1e-6, "lbfgs"),  # rows that are far from orthogonal
        (5, 30, 1e-4, 1e-5, "newton"),
        (0, 30, 0.0, 1e-4, "lbfgs"),
    ],
)
def test_auto_takes_the_dual_for_few_rows_that_are_nearly_orthogonal(
    loss, rank, n_classes, alpha, tol, expected, monkeypatch
):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(_dual_blocks, "numba", object())
    rng = np.random.default_rng(0)
    n, d = 900, 600
    X = rng.normal(size=(n, d))
    if rank:
        X += 10 * rng.normal(size=(n, rank)) @ rng.normal(size=(rank, d))
    y, weights = rng.integers(n_classes, size=n), np.full(n, 1 / n)
    assert choose(Data(X, y, weights, n_classes), loss, alpha, tol) == expected
    # for so weak a penalty there are too many epochs; fourth powers overflow
    huge = Data(1e100 * X, y, weights, n_classes)
    far = "lbfgs" if rank else expected.replace("dual", "newton")
    assert choose(huge, loss, alpha, tol) == far


@pytest.mark.parametrize("loss", [CrossEntropy(), Hinge(), SquaredHinge()])
@pytest.mark.parametrize("alpha", [1e-1, 1e-3])
def test_few_rows_are_the_duals_unless_their_columns_say_nearly_the_same(
    loss, alpha, monkeypatch
):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(_dual_blocks, "numba", object())
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(1000, 200)), np.arange(1000) % 30
    unscaled = X * 10.0 ** rng.uniform(0, 5, 200)
    spectra = rng.normal(size=(1000, 4)) @ rng.normal(size=(4, 200)) + 0.1 * X
    # a few directions have nearly all of the variance, but many have some
    falling = X / np.arange(1, 201) @ rng.normal(size=(200, 200))
    pairs = {"dual": (X, unscaled, falling), "newton": (spectra, 1e3 * spectra)}
    for expected, rows in pairs.items():
        for some in rows:
            data = Data(some, y, np.full(1000, 1e-3), 30)
            assert choose(data, loss, alpha, 1e-4) == expected
    sparse = Data(scipy.sparse.csr_matrix(unscaled), y, np.full(1000, 1e-3), 30)
    assert choose(sparse, CrossEntropy(), 1e4, 1e-4) == "dual"


@pytest.mark.parametrize("loss", ["hinge", "squared_hinge"])
def test_few_rows_of_many_classes_that_are_apart_are_solved_at_defaults(loss):
    pytest.importorskip("numba")
    rng = np.random.default_rng(0)
    X, y = rng.integers(2, size=(300, 200)), rng.integers(30, size=300)
    # Newton's 1000 iterations end at gaps of 0.2 and more
    assert classifier(loss, alpha=1e-4).fit(X, y).dual_gap_ <= 1e-4


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("solver", ["newton", "lbfgs"])
def test_a_hinge_with_nothing_to_learn_is_at_rest_at_once(solver, fit_intercept):
    X, y = np.zeros((150, 1)), np.arange(150) % 3
    params = {"solver": solver, "fit_intercept": fit_intercept}
    model = classifier("hinge", **params).fit(X, y)
    assert model.loss_curve_[-1] == pytest.approx(2, rel=1e-14)
    assert model.n_iter_ <= 10  # 540 steps of no length were taken once


def separated(n, d, k, spread):
    """Normal rows, and means of the classes that are ``spread`` apart."""
    rng = np.random.default_rng(1)
    labels = np.arange(n) % k
    return rng.normal(size=(n, d)) + spread * rng.normal(size=(k, d))[labels], labels


@pytest.mark.parametrize("alpha", [1e-6, 1e-8])
def test_a_weak_penalty_of_rows_that_separate_is_approached_from_a_stronger_one(
    solver, alpha
):
    X, labels = separated(300, 100, 10, 0.3)
    model = classifier("hinge", solver=solver, alpha=alpha)
    model.fit(X, labels)  # without a warning
    assert model.dual_gap_ <= model.tol
    assert model.n_iter_ < 700  # the dual leaves it to Newton after 300


def test_where_conjugate_gradients_fail_the_hessian_is_written_out(monkeypatch):
    X, labels = separated(350, 100, 10, 0.0)  # 1010 params: not few
    monkeypatch.setattr("sklinear._solvers._steps.CG_STEPS", 25)
    model = classifier("hinge", solver="newton", alpha=1e-6)
    model.fit(X, labels)  # without a warning
    assert model.n_iter_ < 200


@pytest.mark.parametrize("solver", ["newton", "lbfgs"])
@pytest.mark.parametrize("alpha", [0.3, 1.0, 3.0])
def test_few_ones_and_zeros_under_a_strong_penalty_are_solved(solver, alpha):
    # steps ended at gaps of up to 1e-3: how well they were solved went by the gap at
    # hand, which the intercept's constraint made a hundred times the best one
    for seed in range(5, 11):
        rng = np.random.RandomState(seed)
        X, y = rng.randint(0, 2, (100, 12)), rng.randint(0, 3, 100) == 0
        model = classifier("hinge", solver=solver, alpha=alpha).fit(X, y)
        assert model.dual_gap_ <= 1e-8


@pytest.mark.parametrize("name", ["softmax", "squared_hinge"])
def test_features_far_from_0_without_an_intercept_take_no_small_steps(name):
    rng = np.random.RandomState(0)
    y = rng.randint(20, size=1500)
    X = rng.normal(size=(1500, 60)) + 0.3 * rng.normal(size=(20, 60))[y]
    X = X * 10 ** rng.uniform(-3, 3, 60) + 10 ** rng.uniform(-1, 3, 60)
    model = classifier(name, alpha=1e-4, solver="newton", fit_intercept=False)
    model.fit(X, y)
    assert model.dual_gap_ <= 1e-4
    assert model.n_iter_ <= 30  # under damping that does not fall, 71 and 180


@pytest.mark.parametrize(
    ("seed", "shape", "alpha", "most"),
    [
        (0, (150, 100, 20), 1.0, 200),  # 309 if at W = 0 the easier hinge bends nowhere
        (4, (150, 100, 20), 1.0, 150),  # 229
        (5, (200, 60, 30), 0.01, 500),  # ended at a gap of 0.4, for want of progress
    ],
)
def test_features_of_heavy_tails_are_solved(seed, shape, alpha, most):
    (n, d, k), rng = shape, np.random.RandomState(seed)
    y, centres = rng.randint(k, size=n), rng.normal(size=(k, d))
    X = np.exp(2 * rng.normal(size=(n, d)) + 0.6 * centres[y])
    model = classifier("hinge", alpha=alpha, solver="newton").fit(X, y)
    assert model.dual_gap_ <= 1e-4
    assert model.n_iter_ <= most


@pytest.mark.parametrize(("name", "most"), [("squared_hinge", 50), ("hinge", 73)])
def test_a_penalty_that_shortens_steps_is_made_stronger_at_once(name, most):
    # separable: 58 and 81 where six such steps were taken each time
    X, y = load_digits(return_X_y=True)
    model = classifier(name, solver="lbfgs", alpha=1e-5, tol=1e-4).fit(X, y)
    assert model.dual_gap_ <= 1e-4
    assert model.n_iter_ <= most


def test_float32_rows_off_centre_leave_the_last_word_to_float64():
    # without an intercept nothing is centred: float32 scores are too rough for
    # conjugate gradients, which went on in vain (700 iterations)
    rng = np.random.default_rng(0)
    y = rng.integers(50, size=4600)
    shifts = y[:, None] * (np.arange(11) % 3 == 0)
    each = (rng.integers(8, size=(4600, 11)) + shifts) % 8
    X = (each[:, :, None] == np.arange(8)).reshape(len(y), -1)
    X = X * 10 ** rng.uniform(-3, 3, 88) + 10 ** rng.uniform(-1, 3, 88)
    params = {"solver": "newton", "alpha": 2e-4, "fit_intercept": False}
    model = classifier("squared_hinge", **params).fit(X.astype(np.float32), y)
    assert model.dual_gap_ <= 1e-4
    assert model.n_iter_ <= 150


def test_a_long_way_down_is_gone_to_its_end():
    # more than 100 steps through points further from the optimum than one before: ended
    # at a gap of 1
    rng = np.random.default_rng(5)
    n, d, k = 200, 100, 4
    y = np.arange(n) % k
    X = rng.normal(size=(n, d)) * 10.0 ** rng.uniform(-1, 1, d) + 30 * rng.normal(
        size=d
    )
    X[-50:] = X[:50] + 0.003 * rng.normal(size=(50, d))
    y[-50:] = (y[:50] + 1) % k
    model = classifier("squared_hinge", alpha=1e-7, solver="newton").fit(X, y)
    assert model.dual_gap_ <= 1e-4


@pytest.mark.parametrize("alpha", [1e-3, 1e-5])
def test_auto_leaves_one_hot_rows_with_a_large_number_to_others(loss, alpha):
    # the dual took 3 to 28 times as long
    rng = np.random.default_rng(0)
    n, columns = 20000, [500, 3000]
    hot = [
        scipy.sparse.csr_matrix((np.ones(n), (np.arange(n), rng.integers(d, size=n))))
        for d in columns
    ]
    price = scipy.sparse.csr_matrix(np.exp(2 * rng.normal(size=(n, 1))))
    y = rng.integers(5, size=n)
    kinds = {"hinge": Hinge(), "squared_hinge": SquaredHinge()}
    rows = scipy.sparse.hstack([*hot, price], format="csr")
    data = Data(rows, y, np.full(n, 1 / n), 5)
    name = choose(data, kinds.get(loss, CrossEntropy()), alpha, 1e-4)
    assert name == ("newton" if loss == "hinge" else "lbfgs")


@pytest.fixture(scope="module")
def crowded():
    """Rows of so many classes that a sixteenth of them is fitted by heart."""
    rng = np.random.default_rng(5)
    y, means = rng.integers(100, size=10000), rng.uniform(0, 255, (100, 12))
    X = means[y] + 60 * rng.normal(size=(10000, 12))
    return np.clip(X, 0, 255).astype(np.uint8), y


def test_a_sample_is_left_before_it_is_fitted_by_heart(loss, crowded):
    # the fits that were stopped meanwhile were worse the later: W = 0, for the softmax
    X, y = crowded
    values = []
    for most in (3, 6, 9, 12):
        params = {"solver": "newton", "alpha": 1e-4, "max_iter": most}
        with pytest.warns(ConvergenceWarning):
            values.append(classifier(loss, **params).fit(X, y).loss_curve_[-1])
    # 1250 other rows tell which point is the best for all to a few per cent
    assert all(value <= 1.1 * min(values[: i + 1]) for i, value in enumerate(values))
    assert values[-1] < values[0] / 2


def test_who_listens_to_samples_is_told_of_the_fit_to_all_rows(loss, crowded, capsys):
    X, y = crowded
    params = {"solver": "newton", "alpha": 1e-4, "max_iter": 4}
    with pytest.warns(ConvergenceWarning):
        silent = classifier(loss, **params).fit(X, y)
    with pytest.warns(ConvergenceWarning):
        told = classifier(loss, verbose=1, **params).fit(X, y)
    capsys.readouterr()
    # the point is the same, but not what was known of it on the way
    assert_allclose(told.coef_, silent.coef_)
    assert np.all(np.diff(told.loss_curve_) < 0)
    assert silent.loss_curve_[0] == silent.loss_curve_[-2]


def test_what_samples_tell_is_the_objective_of_all_rows(loss, crowded, monkeypatch):
    looks, own = [], _Unseen.__call__

    def look(unseen, params):
        done = own(unseen, params)
        if unseen.monitor.guessed is unseen.best:
            all_rows = unseen.objective.evaluate(unseen.best).primal
            looks.append((unseen.monitor.guess, all_rows))
        return done

    monkeypatch.setattr(_Unseen, "__call__", look)
    model = classifier(loss, solver="newton", alpha=1e-4, max_iter=2, verbose=1)
    with pytest.warns(ConvergenceWarning):
        model.fit(*crowded)
    assert looks
    told, wanted = np.transpose(looks)
    np.testing.assert_allclose(told, wanted, rtol=1e-6)  # what float32 tells


def hot(columns):
    """One-hot columns of the values of some, side by side."""
    n = len(columns[0])
    rows = [
        scipy.sparse.csr_matrix((np.ones(n), (np.arange(n), values)))
        for values in columns
    ]
    return scipy.sparse.hstack(rows, format="csr")


def chosen(X, y, loss, alpha):
    """By auto, as if there were numba."""
    n, k = X.shape[0], y.max() + 1
    kind = {"hinge": Hinge(), "squared_hinge": SquaredHinge()}.get(loss, CrossEntropy())
    case = Data(X, y, np.full(n, 1 / n), k), kind, alpha, 1e-4
    return _fastest(*case, fits=1, compiled=True)


@pytest.mark.parametrize("alpha", [1e-2, 1e-5])
def test_auto_leaves_tables_of_few_common_categories_to_others(loss, alpha):
    # the dual took 4 to 40 times as long under the weak penalty
    rng = np.random.default_rng(0)
    n = 20000
    categories = [np.minimum(rng.zipf(1.3, n), m) - 1 for m in (2000, 300, 12)]
    X = scipy.sparse.hstack([hot(categories), rng.normal(size=(n, 6))], format="csr")
    weak = "newton" if loss == "hinge" else "lbfgs"
    y = rng.integers(4, size=n)
    assert chosen(X, y, loss, alpha) == (weak if alpha < 1e-3 else "dual")
    # of so many classes rows are not that many
    y = rng.integers(100, size=n)
    assert chosen(X, y, "hinge", alpha) == "dual"


@pytest.mark.parametrize("alpha", [1e-3, 1e-8])
def test_auto_takes_the_dual_for_binned_numbers_unless_too_weakly_penalised(
    loss, alpha
):
    # of a density of a fifth: 0.25 s where the others took 0.9 (softmax of letter)
    rng = np.random.default_rng(0)
    X = hot(rng.integers(5, size=(16, 15000)))
    name = chosen(X, rng.integers(26, size=15000), loss, alpha)
    assert (name == "dual") == (alpha == 1e-3)


@pytest.mark.parametrize(("n", "name"), [(8000, "dual"), (16000, "newton")])
def test_auto_tries_the_dual_for_hinges_of_embeddings(n, name):
    X = np.random.default_rng(0).normal(size=(n, 384)).astype(np.float32)
    X /= np.linalg.norm(X, axis=1, keepdims=True)
    assert chosen(X, np.arange(n) % 10, "hinge", 1e-5) == name


@pytest.mark.parametrize(
    ("loss", "apart", "name"),
    [("hinge", 0.5, "dual"), ("squared_hinge", 0.5, "dual"), ("squared_hinge", 0, "")],
)
def test_the_dual_is_left_by_what_it_makes_of_the_rows_it_works_on(loss, apart, name):
    # that of all rows is a gap of 1 till the last, under a weak penalty
    pytest.importorskip("numba")
    rng = np.random.default_rng(0)
    y, X = rng.integers(5, size=4100), rng.normal(size=(4100, 500))
    X += apart * rng.normal(size=(5, 500))[y]
    X = X / np.sqrt(np.arange(1, 501)) @ rng.normal(size=(500, 500))
    model = classifier(loss, alpha=1e-5, tol=1e-4, random_state=0).fit(X, y)
    assert model.dual_gap_ <= 1e-4
    assert model.solver_ == (name or "newton")
    assert model.n_iter_ <= 60  # 13 to 38; 176 and 340 without the dual


@pytest.mark.parametrize(("rank", "name"), [(5, "newton"), (30, "lbfgs")])
def test_few_rows_that_fail_a_trial_are_left_to_the_better_of_the_others(rank, name):
    pytest.importorskip("numba")
    rng = np.random.default_rng(0)
    y, F = rng.integers(5, size=1000), rng.normal(size=(1000, rank))
    X = F @ rng.normal(size=(rank, 400)) + 0.5 * rng.normal(size=(1000, 400))
    model = classifier("hinge", alpha=1e-3, tol=1e-4, random_state=0).fit(X, y)
    assert model.dual_gap_ <= 1e-4
    assert model.solver_ == name
