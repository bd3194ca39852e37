"""All cells of a grid at once: each is the fit that it would be alone."""

import numpy as np
import pytest

from sklinear import LinearSVMClassifier, LinearSVMClassifierCV, SoftmaxClassifier
from sklinear._data import Data
from sklinear._losses import CrossEntropy, Hinge, SquaredHinge
from sklinear._objective import Objective
from sklinear._solvers import Options, Reporter, _batch, _grid
from sklinear._solvers._batch import Batch, JointDescent, Values, most_together
from sklinear._solvers._curvature import diagonals
from sklinear._solvers._frame import certify
from sklinear._solvers._grid import solve_grid
from sklinear._solvers._solution import Monitor
from sklinear._variables import choose_variables

MODELS = {"softmax": SoftmaxClassifier(), "svm": LinearSVMClassifier()}
LOSSES = {"softmax": CrossEntropy(), "svm": SquaredHinge()}
ALPHAS = (1e-4, 1e-1, 1e-2)
TOL = 1e-9  # of the objective


def samples(n=120, d=6, k=3, seed=0):
    """Classes that overlap, (n, d) and labels."""
    rng = np.random.RandomState(seed)
    y = rng.permutation(np.arange(n) % k)
    return rng.standard_normal((n, d)) + rng.standard_normal((k, d))[y], y


def cells(kind, X, y, fit_intercept=True, alphas=ALPHAS, tol=TOL):
    """Solutions by problem and fold, and the folds' weights."""
    rng = np.random.RandomState(1)
    folds = [(np.arange(len(y)) % 3 != f) * rng.uniform(1, 2, len(y)) for f in range(3)]
    folds = [fold / fold.sum() for fold in folds]
    options = Options(tol, 1000, 256, "auto", np.random.RandomState(0), Reporter())
    data = Data(X, y, np.full(len(y), 1 / len(y)), y.max() + 1)
    problems = [(LOSSES[kind], alpha) for alpha in alphas]
    found = [*solve_grid(data, problems, folds, fit_intercept, "auto", options)]
    assert len(found) == 3 * len(alphas)  # each once
    return {(p, f): solution for p, f, solution in found}, folds


def check(kind, X, y, fit_intercept=True, alphas=ALPHAS, tol=TOL):
    """Objectives and coefficients are those of plain fits, and proven."""
    found, folds = cells(kind, X, y, fit_intercept, alphas, tol)
    assert sorted(found) == [(p, f) for p in range(len(alphas)) for f in range(3)]
    for (p, f), solution in found.items():
        model = MODELS[kind].set_params(
            alpha=alphas[p], tol=tol, fit_intercept=fit_intercept
        )
        model.fit(X, y, sample_weight=folds[f])
        assert solution.converged
        assert solution.gap <= tol
        value = model.loss_curve_[-1]
        assert solution.value == pytest.approx(value, rel=2 * tol)
        W = solution.coef.T
        if len(model.classes_) == 2:
            W = W[1:] - W[:1]
        scale = np.abs(model.coef_).max()
        far = 2 * np.sqrt(tol * value / alphas[p])  # two fits, each in its own ball
        np.testing.assert_allclose(W, model.coef_, atol=2 * far + 1e-9 * scale)


@pytest.fixture(params=["softmax", "svm"])
def kind(request):
    return request.param


@pytest.mark.parametrize("fit_intercept", [True, False])
def test_cells_are_the_fits_that_they_would_be_alone(kind, fit_intercept):
    check(kind, *samples(), fit_intercept)


def test_two_classes(kind):
    check(kind, *samples(k=2))


def test_fewer_rows_than_features(kind):
    check(kind, *samples(n=30, d=50))


def test_separable_classes_go_on_alone(kind):
    X, y = samples(n=60, d=20)
    check(kind, X, y, alphas=(1e-2, 1e-6))


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_scales_of_features(kind, scale):
    X, y = samples()
    X[:, 0] *= scale
    X[:, 1] = 0.1  # constant, up to rounding of its mean
    X[:, 2] += 1e4
    # products with 1e4 in float64 leave 1e-9 unproven
    check(kind, X, y, alphas=(1e-1, 1e-2), tol=1e-7)


def test_a_feature_beyond_float32_stays_finite(kind):
    X, y = samples()
    plain, _ = cells(kind, X, y, alphas=(1e-1,))
    X[:, 0] *= 1e40
    found, _ = cells(kind, X, y, alphas=(1e-1,))
    for cell, solution in found.items():
        assert np.isfinite(solution.coef).all()
        assert solution.value <= plain[cell].value  # as if that feature were free


def test_penalties_beyond_float32_warn_of_nothing(kind):
    X, y = samples()
    X *= np.logspace(-10, 10, X.shape[1])
    found, _ = cells(kind, X, y, alphas=(1e100, 1.0), tol=1e-4)
    for solution in found.values():
        assert np.isfinite(solution.coef).all()


def test_dtypes(kind):
    X, y = samples()
    X = np.round(40 * X).astype(np.int16)
    check(kind, X, y, alphas=(10.0, 1.0))


@pytest.mark.parametrize("most", [1, 2])
def test_folds_take_turns_where_all_would_take_much_memory(kind, most, monkeypatch):
    monkeypatch.setattr(_grid, "most_together", lambda data: most)
    check(kind, *samples())


def test_the_larger_the_rows_the_fewer_problems_go_together():
    def most(n, d):
        return most_together(Data(np.zeros((n, d)), np.zeros(n, int), np.ones(n), 3))

    assert most(100, 5) > most(10_000, 5) > most(100_000, 5) == 5
    assert most(100_000, 200) > 5


def test_float32_is_the_start_and_not_the_end(kind):
    X, y = samples()
    found, _ = cells(kind, X.astype(np.float32), y)
    exact, _ = cells(kind, X.astype(np.float32).astype(np.float64), y)
    for cell, solution in found.items():
        assert solution.gap <= TOL
        assert solution.value == pytest.approx(exact[cell].value, rel=2 * TOL)


def test_what_is_too_large_for_blocks_is_solved_one_by_one(kind, monkeypatch):
    monkeypatch.setattr(_grid, "LARGEST_BLOCK", 3)
    monkeypatch.setattr(_grid, "_path", None)
    check(kind, *samples())


# What folds that go together are told -------------------------------------------------


def batch_of(kind, fit_intercept=True, k=3, dtype=np.float64):
    """Folds of some samples, and each one's objective at alpha = 1."""
    X, y = samples(k=k)
    if dtype != np.float64:
        X = np.round(4 * X).astype(dtype)
    rng = np.random.RandomState(1)
    parts = []
    for f in range(3):
        weights = (np.arange(len(y)) % 3 != f) * rng.uniform(1, 2, len(y))
        parts.append(Data(X, y, weights / weights.sum(), k))
    mean = Data(X, y, np.mean([part.weights for part in parts], axis=0), k)
    loss = LOSSES[kind]
    scaled = choose_variables(mean, 1e-3, loss.curvature, fit_intercept, True)
    batch = Batch(mean, loss, parts, fit_intercept, scaled)
    return batch, [Objective(p, loss, 1.0, fit_intercept, scaled) for p in parts]


@pytest.mark.parametrize("k", [2, 3])
@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("alpha", [1e-1, 1e-4])
def test_folds_stop_where_the_certificate_would(kind, fit_intercept, alpha, k):
    batch, objectives = batch_of(kind, fit_intercept, k)
    objectives = [objective.replace(alpha=alpha) for objective in objectives]
    params = np.zeros(batch.shape)
    for _ in range(8):  # from far off to near
        descent = JointDescent(batch, params, alpha)
        descent.run(alpha, 1e-6, 1)
        params, at = descent.params, batch.evaluate(descent.params, alpha)
        for b, objective in enumerate(objectives):
            monitor = Monitor(0.0, 1)
            certify(objective, params[:, b], monitor)
            if not 1e-5 < monitor.gap < 1:  # float32, and a bound that is 0, are over
                continue
            # sums in float32 are known to 1e-6 of the objective, a tenth of the gap
            for part in (0.9, 1.1):
                tols = np.full(len(objectives), part * monitor.gap)
                assert batch.are_near(params, at, alpha, tols)[b] == (part > 1)


KEPT = {"kept": np.float64, "in part": np.float64, "cast": np.float32, "int": np.int16}


@pytest.mark.parametrize("kept", KEPT)
def test_a_pass_for_some_folds_tells_of_each_what_its_own_rows_do(
    kind, kept, monkeypatch
):
    monkeypatch.setattr(_batch, "FEWEST_ROWS", 1)
    monkeypatch.setattr(_batch, "BLOCK_SCORES", 60)  # 20 rows a block
    if kept == "in part":
        monkeypatch.setattr(_batch, "KEPT", 0.2)
        monkeypatch.setattr(_batch, "LITTLE", 0)
    batch, objectives = batch_of(kind, dtype=KEPT[kept])
    assert len(batch._kept) == {"kept": 6, "in part": 1}.get(kept, 0)
    params = np.random.RandomState(0).standard_normal(batch.shape)
    which = np.array([2, 0])
    found = batch.evaluate(params[:, which], 1.0, which)
    for i, b in enumerate(which):
        at = objectives[b].evaluate(params[:, b])
        # in float32 on one side, whose sums of 120 rows are good to 1e-6
        assert found.value[i] == pytest.approx(at.primal, rel=1e-5)
        np.testing.assert_allclose(found.gradient[:, i], at.gradient, atol=1e-5)


def test_the_preconditioner_is_the_inverse_of_the_folds_mean_curvature(kind):
    batch, objectives = batch_of(kind)
    params = np.random.RandomState(0).standard_normal(batch.shape)
    # 120 rows are all taken: the draw leaves nothing to chance
    found = batch.preconditioner(params, 1.0, np.random.RandomState(0))
    d1, B, k = batch.shape
    hessian = np.zeros((k, d1, d1))
    for b, objective in enumerate(objectives):
        diagonal = diagonals(objective, objective.push(params[:, b]))
        for block in objective.data:
            Z = objective.features(block)
            for j, own in enumerate(diagonal[block.rows].T):
                hessian[j] += (Z.T * own) @ Z / B
    hessian += np.diag(2.0 * batch.penalty)
    # float32, and 1e-6 of the diagonal for Cholesky's sake
    products = found.astype(np.float64) @ hessian
    np.testing.assert_allclose(products, np.tile(np.eye(d1), (k, 1, 1)), atol=1e-3)


def test_a_fold_without_a_lower_point_stays_and_the_others_go_on(kind):
    batch, _ = batch_of(kind)
    x = np.random.RandomState(0).standard_normal(batch.shape)
    descent = JointDescent(batch, x, 1e-2)
    at = descent.at
    before = at.value.copy(), at.gradient.copy()
    step = -1e-1 * at.gradient
    step[:, 1] *= -1e3  # up, and far
    # as if that were down: then each trial is refused by its value
    lying = at.gradient.copy()
    lying[:, 1] *= -1
    every = np.arange(3)
    told = Values(at.value, lying)
    moved, then, failed = descent._step(x, told, step, 1e-2, every)
    assert failed.tolist() == [1]
    np.testing.assert_array_equal(moved[:, 1], x[:, 1])
    assert (then.value[[0, 2]] < before[0][[0, 2]]).all()
    there = batch.evaluate(moved, 1e-2)
    np.testing.assert_allclose(then.value, there.value, rtol=1e-6)  # float32's
    np.testing.assert_array_equal(then.gradient[:, 1], lying[:, 1])
    np.testing.assert_array_equal(at.value, before[0])  # those of x are still there
    np.testing.assert_array_equal(at.gradient, before[1])


def test_what_a_fold_is_told_from_outside_is_known_of_it_alone(kind):
    batch, _ = batch_of(kind)
    x = np.random.RandomState(0).standard_normal(batch.shape)
    descent = JointDescent(batch, x, 1e-2)
    before = x.copy()
    descent.correct(np.zeros(batch.shape)[:, 1], 1, False)
    np.testing.assert_array_equal(x, before)  # the params of others before
    there = batch.evaluate(descent.params, 1e-2)
    assert not descent.params[:, 1].any()
    np.testing.assert_array_equal(descent.params[:, [0, 2]], x[:, [0, 2]])
    np.testing.assert_allclose(descent.at.value, there.value, rtol=1e-6)  # float32's
    np.testing.assert_allclose(descent.at.gradient, there.gradient, atol=1e-6)


def test_another_alpha_takes_no_pass(kind):
    batch, _ = batch_of(kind)
    params = np.random.RandomState(0).standard_normal(batch.shape)
    at = batch.evaluate(params, 1e-2)
    passes = batch.passes
    moved = batch.at_another(params, at, 1e-2, 1e-3)
    assert batch.passes == passes
    exact = batch.evaluate(params, 1e-3)
    np.testing.assert_allclose(moved.value, exact.value, rtol=1e-12)
    np.testing.assert_allclose(moved.gradient, exact.gradient, atol=1e-12)


def test_folds_of_few_rows_are_copied_from_a_large_X(kind, monkeypatch):
    X, y = samples()
    n, d = X.shape
    seen, solved = [], _grid._solved

    def watched(name, part, *rest):
        seen.append(part.shape[0])
        return solved(name, part, *rest)

    monkeypatch.setattr(_grid, "LARGEST_COPY", n * d // 2)
    monkeypatch.setattr(_grid, "_solved", watched)
    few = np.zeros(n)
    few[: n // 3] = 3 / n
    many = np.full(n, 1 / n)
    many[: n // 10] = 0
    data = Data(X, y, np.full(n, 1 / n), len(set(y)))
    options = Options(1e-4, 1000, 256, "auto", np.random.RandomState(0), Reporter())
    problems = [(LOSSES[kind], 0.1)]
    assert len([*solve_grid(data, problems, [few, many], True, "lbfgs", options)]) == 2
    assert seen == [n // 3, n]


@pytest.mark.parametrize("seed", [3, 9, 25, 37])
def test_a_tight_tol_of_unscaled_rows_is_proven_in_more_than_float64(seed):
    # as for a plain fit: a search ended near its tol for rounding, with a warning
    rng = np.random.default_rng(seed)
    n = int(rng.integers(8, 12))
    X = np.round(rng.normal(size=(n, 12)) * 10 ** rng.uniform(0, 4, 12))
    cells = {"losses": ["squared_hinge"], "alphas": [0.02, 0.1], "cv": 2}
    LinearSVMClassifierCV(tol=1e-10, refit=False, **cells).fit(X, np.arange(n) % 3)


@pytest.mark.parametrize("loss", [Hinge(), SquaredHinge()])
@pytest.mark.parametrize("apart", [2.0, 0.0])
def test_of_many_classes_the_dual_takes_the_alphas_that_it_is_quick_for(
    loss, apart, monkeypatch
):
    pytest.importorskip("numba")
    taken, asked = [], []

    def told(*args, is_quick=_grid.is_quick):
        asked.append(args)
        return is_quick(*args)

    def noted(name, *args, solved=_grid._solved):
        taken.append((args[2], name))
        return solved(name, *args)

    monkeypatch.setattr(_grid, "_solved", noted)
    monkeypatch.setattr(_grid, "is_quick", told)
    rng = np.random.default_rng(0)
    y, centres = rng.integers(40, size=6000), rng.normal(size=(40, 50))
    X = (rng.normal(size=(6000, 50)) + apart * centres[y]).astype(np.float32)
    data = Data(X, y, np.full(6000, 1 / 6000), 40)
    folds = [(rng.integers(3, size=6000) > 0) / 6000 for _ in range(2)]
    folds = [fold / fold.sum() for fold in folds]
    options = Options(1e-2, 1000, 256, "auto", np.random.RandomState(0), Reporter())
    alphas = [1e-3, 1e-2]
    problems = [(loss, alpha) for alpha in alphas]
    found = list(solve_grid(data, problems, folds, True, "auto", options))
    assert sorted(place for place, *_ in found) == [0, 0, 1, 1]
    assert all(solution.converged for *_, solution in found)
    if apart:
        assert taken == [(alpha, "dual") for _ in folds for alpha in (1e-2, 1e-3)]
    else:
        assert (1e-3, "dual") not in taken
    assert 1 <= len(asked) <= 2  # of the first fold: all, or by halving
