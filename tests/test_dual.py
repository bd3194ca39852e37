"""Dual coordinate descent: exact blocks, descent alone, numba's absence."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import warnings

import numpy as np
import pytest
import scipy.optimize
import scipy.sparse
from conftest import LOSSES, SOLVERS, Problem, classifier, full_params, objective
from sklearn.base import clone
from sklearn.datasets import load_digits, load_iris, make_classification
from sklearn.exceptions import ConvergenceWarning

from sklinear._data import Data
from sklinear._losses import CrossEntropy, Hinge, SquaredHinge
from sklinear._objective import Point
from sklinear._solvers import (
    Options,
    Reporter,
    _dual,
    _dual_ascent,
    _dual_blocks,
    _dual_descent,
    _dual_point,
    _dual_together,
)
from sklinear._solvers._auto import choose, is_doubtful
from sklinear._solvers._dual_point import DualPoint
from sklinear._solvers._grid import solve_grid
from sklinear._solvers._rows import RowSpace

OWN = {"hinge": Hinge(), "squared_hinge": SquaredHinge(), "softmax": CrossEntropy()}

ABSENT = """
import sys
sys.modules["numba"] = None  # as if it were not installed
from sklinear import SoftmaxClassifier
X, y = [[0.0], [1.0], [2.0]], [0, 1, 2]
SoftmaxClassifier().fit(X, y)
try:
    SoftmaxClassifier(solver="dual").fit(X, y)
except ImportError as error:
    print(error)
"""

READ_ONLY = """
from numba.core import caching
kind = getattr(caching, "CacheImpl", None) or caching._CacheImpl
kind._locator_classes = []  # as if no folder could be written to
import numpy as np
from sklinear._solvers import _dual_kernels
from sklinear._solvers._dual_blocks import total
print(total(np.ones(3)))
"""


UNCOMPILED = """
import os
os.environ["NUMBA_DISABLE_JIT"] = "1"
import numpy, scipy.sparse
from sklinear import LinearSVMClassifier
X = scipy.sparse.random(600, 5000, 0.01, "csr", random_state=0)
y = numpy.arange(600) % 4
print(LinearSVMClassifier().fit(X, y).solver_)
try:
    LinearSVMClassifier(solver="dual").fit(X, y)
except ImportError as error:
    print(error)
"""


def run(code):
    """What a fresh process prints."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    return done.stdout


def test_without_numba_an_error_says_what_to_install():
    message = run(ABSENT)
    assert 'pip install "sklinear[fast]"' in message
    assert "solver='dual'" in message


@pytest.mark.parametrize("how", ["no spec", "an odd spec", "no import"])
def test_auto_does_without_a_numba_that_is_not_usable(how, monkeypatch):
    X, y = documents(2000, 1000, 12)
    data = Data(X, y, np.full(2000, 1 / 2000), 12)
    expected = "dual" if "dual" in SOLVERS else "lbfgs"
    assert choose(data, SquaredHinge(), 1e-3, 1e-4) == expected

    def find_spec(name):
        if how == "an odd spec":
            raise ValueError(f"{name}.__spec__ is None")
        return None if how == "no spec" else object()

    monkeypatch.setattr(_dual_blocks, "numba", None)
    monkeypatch.setattr(importlib.util, "find_spec", find_spec)
    assert choose(data, SquaredHinge(), 1e-3, 1e-4) == "lbfgs"


def test_auto_does_without_a_compiler_that_is_turned_off():
    pytest.importorskip("numba")
    done = run(UNCOMPILED)
    assert done.startswith("lbfgs\nsolver='dual' needs numba")
    assert "NUMBA_DISABLE_JIT" in done


def test_compiled_code_need_not_be_kept():
    pytest.importorskip("numba")
    assert run(READ_ONLY) == "3.0\n"


def test_numba_is_not_imported_before_it_is_asked_for():
    assert run("import sys, sklinear; print('numba' in sys.modules)") == "False\n"


# Blocks -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def kernels():
    """The compiled loops."""
    pytest.importorskip("numba")
    from sklinear._solvers import _dual_blocks

    return _dual_blocks


def blocks(seed):
    """Sizes of a block's gradient and curvature over many orders."""
    rng = np.random.default_rng(seed)
    k = int(rng.integers(2, 40))
    z = 10 ** rng.uniform(-3, 3) * rng.normal(size=k) + rng.choice([0, 1, 100])
    if seed % 3 == 0:
        z = np.round(z)  # ties
    return z, 10 ** rng.uniform(-6, 6), rng


@pytest.mark.parametrize("seed", range(60))
@pytest.mark.parametrize(("ridge", "cap"), [(0.0, 1.0), (0.5, np.inf)])
def test_multipliers_of_a_hinge_block_are_exact(kernels, seed, ridge, cap):
    z, h, rng = blocks(seed)
    scale = max(1.0, h)  # z = margin + h (a + sum a) with 0 <= a <= 1
    z = z * scale / 10
    found = np.empty(len(z))
    for guess in (0.0, rng.uniform(0, len(z))):
        kernels.multipliers(z, h, ridge, cap, guess, found)
        total = scipy.optimize.brentq(
            lambda s: np.clip((z - h * s) / (h + ridge), 0, cap).sum() - s,
            0,
            np.abs(z).sum() / (h + ridge) + 1,
            xtol=1e-300,
            rtol=1e-15,
            maxiter=1000,
        )
        wanted = np.clip((z - h * total) / (h + ridge), 0, cap)
        # the root is rounded, and h times that to be divided by h again
        size = np.abs(z).max() / (h + ridge)
        np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-12 * size)


def test_a_hinge_block_without_curvature_is_at_its_bounds(kernels):
    found = np.empty(3)
    kernels.multipliers(np.array([1.0, -1.0, 0.0]), 0.0, 0.0, 1.0, 0.0, found)
    np.testing.assert_array_equal(found, [1, 0, 0])


@pytest.mark.parametrize("seed", range(60))
def test_probabilities_of_a_softmax_block_are_exact(kernels, seed):
    t, c, rng = blocks(seed)
    for guess in (t - t.max(), rng.normal(size=len(t)), 300 * rng.normal(size=len(t))):
        guess = guess - np.log(np.exp(guess - guess.max()).sum()) - guess.max()
        q = np.exp(guess)
        kernels.probabilities(t, c, guess, q)
        assert q.sum() == pytest.approx(1, rel=1e-13)
        seen = q > 1e-290
        level = (t - c * q)[seen] - np.log(q[seen])
        # equal for all classes: but t, c q and log q are rounded
        size = max(np.abs(t).max(), c, 700)
        np.testing.assert_allclose(level, level.mean(), rtol=0, atol=1e-10 * size)


def test_the_exponential_is_one(kernels):
    x = np.linspace(-700, 700, 10001)
    found = np.array([kernels.exponential(value) for value in x])
    np.testing.assert_allclose(found, np.exp(x), rtol=3e-11)
    near = abs(x) < 300
    np.testing.assert_allclose(found[near], np.exp(x[near]), rtol=1e-12)


# Sets too large for a polish ----------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_products_with_any_number_of_classes_are_those_of_all(kernels, dtype):
    from sklinear._solvers._dual_vectors import add_products, subtract_products

    rng = np.random.default_rng(0)
    indices = rng.permutation(9)[:6].astype(np.uint32)
    data = rng.normal(size=6).astype(dtype)
    for width in range(8, 201, 8):  # of 64, 32, 16 and 8 at a time
        V, s = (rng.normal(size=size).astype(dtype) for size in ((9, width), width))
        change, wanted = rng.normal(size=width).astype(dtype), V.copy()
        total = s + data[1:5] @ V[indices[1:5]]
        add_products(s, data, indices, 1, 5, V)
        rounding = 20 * np.finfo(dtype).eps  # of five terms of some units
        np.testing.assert_allclose(s, total, rtol=0, atol=rounding)
        wanted[indices[1:5]] -= data[1:5, None] * change
        subtract_products(V, data, indices, 1, 5, change)
        np.testing.assert_allclose(V, wanted, rtol=0, atol=rounding)


def documents(n, d, k, seed=0):
    """Rows of a few words each, unit norm, in classes that prefer some words."""
    rng = np.random.default_rng(seed)
    y = rng.integers(k, size=n)
    words = np.where(
        rng.random((n, 12)) < 0.4,
        (y[:, None] * 7 + rng.integers(20, size=(n, 12))) % d,
        (d * rng.random((n, 12)) ** 3).astype(int),
    )
    rows = np.repeat(np.arange(n), 12)
    X = scipy.sparse.csr_matrix((np.ones(12 * n), (rows, words.ravel())), (n, d))
    return X / 4, y


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("kind", ["csr", "csr, 64 bits", "float32", "dense", "weights"])
def test_descent_alone_finds_the_optimum(kernels, loss, kind, fit_intercept):
    X, y = documents(400, 300, 12)
    weights = None
    if kind == "csr, 64 bits":
        X.indices, X.indptr = X.indices.astype(np.int64), X.indptr.astype(np.int64)
    elif kind == "float32":
        X = X.astype(np.float32)
    elif kind == "dense":
        X = np.asfortranarray(X.toarray() + fit_intercept)
    elif kind == "weights":
        weights = np.random.default_rng(1).integers(3, size=400) + 1e-3
    problem = Problem(X, y, weights)
    settings = {"alpha": 1e-3, "fit_intercept": fit_intercept}
    model = classifier(loss, solver="dual", tol=1e-6, **settings).fit(*problem)
    assert model.dual_gap_ <= 1e-6
    exact = Problem(X.astype(np.float64), y, weights)
    other = classifier(loss, tol=1e-5, **settings).fit(*exact)
    P = objective(other, exact, *full_params(other))
    # they are within 1e-6 and 1e-5; float32 coefficients move the scores by 1e-7
    rel = 2e-5
    assert objective(model, exact, *full_params(model)) == pytest.approx(P, rel=rel)


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("alpha", [1e-2, 1e-4])
def test_float32_rows_are_proven_in_float64(kernels, loss, fit_intercept, alpha):
    rng = np.random.default_rng(0)
    X = scipy.sparse.random(400, 600, 0.05, format="csr", random_state=1)
    y, single = rng.integers(5, size=400), X.astype(np.float32)
    settings = {"alpha": alpha, "fit_intercept": fit_intercept}
    exact = Problem(single.astype(np.float64), y)
    best = classifier(loss, solver="newton", tol=1e-12, **settings).fit(*exact)
    least = objective(best, exact, *full_params(best))
    for tol in (1e-6, 1e-8, 1e-10):  # from there on the rest may be rounding
        model = classifier(loss, solver="dual", tol=tol, max_iter=200, **settings)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(single, y)
        found = objective(model, exact, *full_params(model))
        # sums of 400 losses in float64, and what the other fit is above the optimum
        assert found - least <= (model.dual_gap_ + 1e-14) * found
        if alpha > 1e-4:  # where the warm start's own proof is the best
            model.set_params(warm_start=True, max_iter=1)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)
                model.fit(single, y)
            found = objective(model, exact, *full_params(model))
            assert found - least <= (model.dual_gap_ + 1e-14) * found


@pytest.mark.parametrize("max_iter", [1, 2, 5, 100])
@pytest.mark.parametrize("alpha", [1e-4, 1e-2])
def test_the_dual_point_that_is_proven_is_feasible(
    kernels, loss, alpha, max_iter, monkeypatch
):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(80, 3)), np.minimum(rng.integers(12, size=80), 3)
    X[:, 0] += 3 * y
    weights = rng.uniform(size=80) ** 4
    seen, own = [], DualPoint.certified

    def certified(self):
        found = own(self)
        seen.append(self.proven.copy())
        return found

    monkeypatch.setattr(DualPoint, "certified", certified)
    model = classifier(loss, solver="dual", alpha=alpha, max_iter=max_iter)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(X, y, weights)
        # and from where the intercept is far from balanced
        model.set_params(warm_start=True).intercept_[:] = [3.0, -1.0, -1.0, -1.0]
        model.fit(X, y, weights)
    assert len(seen) > 1
    for A in seen:  # to the rounding of 1
        assert A.min() >= -1e-15
        if loss == "hinge":
            A[np.arange(80), y] = 0
            assert A.max() <= 1 + 1e-15
        elif loss == "softmax":
            np.testing.assert_allclose(A.sum(axis=1), 1, rtol=0, atol=1e-14)


# the hinge's multipliers inside their bounds do not follow from its scores
@pytest.mark.parametrize("loss", ["squared_hinge", "softmax"])
def test_a_warm_start_saves_epochs(kernels, loss):
    X, y = documents(400, 300, 12)
    model = classifier(loss, solver="dual", alpha=1e-3, warm_start=True).fit(X, y)
    cold = model.n_iter_
    model.fit(X, y)
    assert model.n_iter_ < cold / 2


def test_seeds_reproduce_the_order(kernels, loss):
    X, y = documents(400, 300, 12)
    coefs = [
        classifier(loss, solver="dual", random_state=seed).fit(X, y).coef_
        for seed in (0, 0, np.random.RandomState(0), 1)
    ]
    np.testing.assert_array_equal(coefs[1], coefs[0])
    np.testing.assert_array_equal(coefs[2], coefs[0])
    assert (coefs[3] != coefs[0]).any()


def test_what_descent_cannot_finish_is_a_warning_with_a_valid_bound(kernels, loss):
    X, y = load_digits(return_X_y=True)
    model = classifier(loss, solver="dual", alpha=1e-6, max_iter=5)
    with pytest.warns(ConvergenceWarning, match="raise max_iter"):
        model.fit(X, y)
    assert model.n_iter_ == 5
    found = objective(model, Problem(X, y), *full_params(model))
    better = classifier(loss, alpha=1e-6, tol=1e-2).fit(X, y)
    least = objective(better, Problem(X, y), *full_params(better))
    assert found * (1 - model.dual_gap_) <= least


@pytest.mark.parametrize("in_compiled_code", [False, True])
def test_an_interrupt_ends_a_fit(kernels, monkeypatch, in_compiled_code):
    from sklinear._solvers import _dual

    epochs = []

    def interrupted(self, rng, whole):
        epochs.append(None)
        if len(epochs) == 2:
            if in_compiled_code:  # what the interpreter makes of it as that returns
                raise SystemError(
                    "result with an exception set"
                ) from KeyboardInterrupt()
            raise KeyboardInterrupt
        return 1.0  # far from enough

    monkeypatch.setattr(_dual.Ascent, "epoch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        classifier("softmax", solver="dual").fit(*load_iris(return_X_y=True))


@pytest.mark.parametrize("loss", LOSSES)
def test_rows_and_columns_may_be_empty(kernels, loss):
    X, y = documents(60, 300, 3)
    X = scipy.sparse.vstack([X, scipy.sparse.csr_matrix((3, 300))], format="csr")
    y = np.append(y, [0, 1, 2])
    model = classifier(loss, solver="dual").fit(X, y)
    assert model.dual_gap_ <= 1e-4
    empty = np.asarray(X.sum(axis=0)).ravel() == 0
    assert empty.any()
    np.testing.assert_array_equal(model.coef_[:, empty], 0)


@pytest.mark.parametrize("loss", ["softmax", "hinge", "squared_hinge"])
def test_features_far_from_scaled_lead_somewhere(loss):
    pytest.importorskip("numba")
    rng = np.random.default_rng(0)
    X = rng.normal(size=(400, 30)) * 10 ** rng.uniform(-5, 5, 30)
    X = scipy.sparse.csr_matrix(X * (rng.random(X.shape) < 0.3))
    y = rng.integers(4, size=400)
    model = classifier(loss, solver="dual", alpha=1e-4)
    at_zero = {"softmax": np.log(4), "hinge": 3, "squared_hinge": 3}[loss]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_dual, "is_polished", lambda objective: False)
        model.fit(X, y)
    assert model.solver_ == "dual"
    assert model.loss_curve_[-1] < 0.999 * at_zero
    assert model.dual_gap_ <= 1e-4


@pytest.mark.parametrize(
    ("shift", "dtype"),
    [(1e2, np.float32), (1e4, np.float32), (1e4, np.float64), (1e6, np.float64)],
)
def test_sparse_rows_far_from_0_do_not_blow_up(loss, shift, dtype):
    pytest.importorskip("numba")
    rng = np.random.default_rng(0)
    y = np.arange(100) % 7
    X = rng.normal(size=(100, 3)) + rng.normal(size=(7, 3))[y] + [shift, 0, 0]
    X = scipy.sparse.csr_matrix(X.astype(dtype))
    model = classifier(loss, solver="dual").fit(X, y)
    assert model.dual_gap_ <= 1e-4


def test_epochs_are_told_as_they_pass(loss, capsys):
    pytest.importorskip("numba")
    rng = np.random.default_rng(1)
    X = scipy.sparse.random(900, 500, 0.05, format="csr", random_state=rng)
    model = classifier(loss, solver="dual", verbose=1).fit(X, np.arange(900) % 4)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(model.loss_curve_) == model.n_iter_
    assert np.isfinite(model.loss_curve_).all()
    assert {type(value) for value in model.loss_curve_} == {float}
    passes = [float(line.split(" passes")[0].split()[-1]) for line in lines]
    assert (np.diff(passes) > 0).all()


def test_the_objective_is_seen_rarely_where_nobody_listens(monkeypatch):
    pytest.importorskip("numba")
    seen, own = [], _dual.Ascent.evaluated
    monkeypatch.setattr(
        _dual.Ascent, "evaluated", lambda self: seen.append(own(self)) or seen[-1]
    )
    rng = np.random.default_rng(0)
    X = scipy.sparse.random(400, 600, 0.05, "csr", rng=rng)
    y = rng.integers(4, size=400)
    model = classifier("hinge", solver="dual", alpha=1e-6, tol=1e-9, max_iter=100)
    with pytest.warns(ConvergenceWarning):
        model.fit(X, y)
    assert len(seen) <= 8  # epochs 0, 1, 2, 4 ... 64, nearly
    assert len(set(model.loss_curve_)) > 3
    silent = len(seen)
    with pytest.warns(ConvergenceWarning):
        model.set_params(verbose=1).fit(X, y)
    assert len(seen) - silent > silent


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("k", [3, 12])
def test_the_compiled_proof_sums_up_what_the_plain_one_does(loss, k, fit_intercept):
    pytest.importorskip("numba")
    from sklinear._solvers._dual_proof import visited_compiled
    from sklinear._visit import visited

    X, y = documents(400, 3000, k)
    rng = np.random.default_rng(0)
    weights = rng.integers(3, size=400) / 400
    data = Data(X, y, weights, k)
    loss = {"softmax": CrossEntropy(), "hinge": Hinge()}.get(loss, SquaredHinge())
    at = Point(loss, rng.normal(size=(3000, k)), rng.normal(size=k))
    args = data, at, 0.3, fit_intercept, None, True
    wanted, found = visited(*args), visited_compiled(*args)
    for name, sums in vars(wanted).items():
        if sums is None:
            assert getattr(found, name) is None
            continue
        # sums of 400 rounded numbers, of which those of L + L* - g s cancel
        size = 1e-13 * np.abs(wanted.primal if name == "excess" else sums).max()
        np.testing.assert_allclose(getattr(found, name), sums, rtol=0, atol=size)


@pytest.mark.parametrize("met", [True, False])
def test_the_compiled_proof_is_as_exact_far_from_the_kinks(loss, met):
    """Probabilities of 0 and losses of next to nothing have no other sums."""
    pytest.importorskip("numba")
    from sklinear._solvers._dual_proof import visited_compiled
    from sklinear._visit import visited

    X, y = documents(200, 1000, 3)
    rng = np.random.default_rng(0)
    W = rng.normal(size=(1000, 3)) * 2000
    y = np.argsort(X @ W, axis=1)[:, -1 if met else 0]
    scores = np.sort(X @ W, axis=1)
    X = X[scores[:, 2] > scores[:, 1] + 40]  # of losses below exp(-40)
    y = y[scores[:, 2] > scores[:, 1] + 40]
    assert len(y) > 100
    data = Data(X, y, np.full(len(y), 1 / len(y)), 3)
    args = data, Point(OWN[loss], W, np.zeros(3)), 0.3, True, None, False
    wanted, found = visited(*args), visited_compiled(*args)
    # exp magnifies what a score's terms, some thousands, are off by
    for name in ("primal", "conjugate", "size", "residual", "kinks"):
        sums = getattr(wanted, name)
        np.testing.assert_allclose(getattr(found, name), sums, rtol=1e-9, err_msg=name)


def test_the_compiled_proof_counts_margins_that_only_rounding_meets(loss, monkeypatch):
    pytest.importorskip("numba")
    from sklinear import _visit
    from sklinear._solvers import _dual_proof

    compiled = _dual_proof.visited_compiled
    for module in (_visit, _dual_proof):  # nothing is looked at more exactly
        monkeypatch.setattr(module, "LARGEST_EXACT", -1)
    X, y = scipy.sparse.csr_matrix((30, 5)), np.arange(30) % 3
    data = Data(X, y, np.full(30, 1 / 30), 3)
    b = np.array([1 + 4e-16, 0.0, -1.0])  # of the first class one margin is -4e-16
    args = data, Point(OWN[loss], np.ones((5, 3)), b), 0.3, False, None, False
    wanted, found = (visit(*args).kinks for visit in (_visit.visited, compiled))
    np.testing.assert_allclose(found, wanted, rtol=1e-12)  # sums of 30 numbers > 0


@pytest.mark.parametrize("listed", [2, 32])
@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("loss", ["hinge", "squared_hinge"])
def test_of_many_classes_few_are_worked_on(monkeypatch, loss, fit_intercept, listed):
    pytest.importorskip("numba")
    monkeypatch.setattr(_dual_point, "LISTED", listed)  # rows may have more multipliers
    epochs, own = [], _dual.Ascent._work_on
    monkeypatch.setattr(
        _dual.Ascent, "_work_on", lambda *args: epochs.append(None) or own(*args)
    )
    X, y = documents(900, 600, 40)
    weights = np.random.default_rng(1).integers(3, size=900)
    problem = Problem(X, y, weights)
    settings = {"alpha": 1e-3, "fit_intercept": fit_intercept}
    model = classifier(loss, solver="dual", tol=1e-5, **settings).fit(*problem)
    assert epochs
    assert model.dual_gap_ <= 1e-5
    count = len(epochs)
    monkeypatch.setattr(_dual_ascent, "MANY", 40)
    other = classifier(loss, solver="dual", tol=1e-5, **settings).fit(*problem)
    assert len(epochs) == count
    P, Q = (objective(m, problem, *full_params(m)) for m in (model, other))
    assert P * (1 - model.dual_gap_) <= Q
    assert Q * (1 - other.dual_gap_) <= P


@pytest.mark.parametrize("k", [8, 40])  # whose epochs leave out rows, and classes too
@pytest.mark.parametrize("loss", ["hinge", "squared_hinge"])
def test_an_epoch_counts_as_its_share_of_the_rows(monkeypatch, loss, k):
    pytest.importorskip("numba")
    shares, own = [], _dual.Ascent.epoch

    def epoch(self, rng, whole):
        before = self.data.tally.rows
        gap = own(self, rng, whole)
        shares.append((self.data.tally.rows - before) / len(self.data.y))
        return gap

    monkeypatch.setattr(_dual.Ascent, "epoch", epoch)
    X, y = documents(900, 600, k)
    limit = 30
    model = classifier(loss, solver="dual", alpha=1e-6, tol=1e-6, max_iter=limit)
    with pytest.warns(ConvergenceWarning):
        model.fit(X, y)
    assert model.n_iter_ == limit
    assert len(shares) > limit
    assert max(shares) == shares[-1] == 1  # the last one's gap is proven
    counted = sum(max(share, 0.1) for share in shares)
    assert limit - 1e-6 <= counted < limit + 1


@pytest.mark.parametrize("alpha", [10, 1, 0.1, 0.01])
@pytest.mark.parametrize("k", [8, 40])
def test_a_strong_penalty_leaves_the_intercept_to_be_found(k, alpha):
    # 1000 epochs ended at gaps of up to 0.05, as the intercept went too far while
    # classes without multipliers were left out, and then followed each row
    pytest.importorskip("numba")
    X, y = documents(600, 400, k)
    model = classifier("hinge", solver="dual", alpha=alpha).fit(X, y)
    assert model.dual_gap_ <= 1e-4
    assert model.n_iter_ < 1000


def test_every_multiplier_above_0_is_listed(monkeypatch):
    # else no visit sees it until its margin is violated again
    pytest.importorskip("numba")
    own, looks = _dual.Ascent._return, []

    def looked(ascent):
        if not ascent.at_work:
            return
        own(ascent)
        counts, classes = ascent.lists.counts, ascent.lists.classes
        for i in np.flatnonzero(counts >= 0):
            found = np.flatnonzero(ascent.state.A[i])
            assert set(found) <= set(classes[i, : counts[i]].tolist())
        looks.append(ascent.reused)

    monkeypatch.setattr(_dual.Ascent, "_return", looked)
    X, y = documents(600, 400, 40)
    classifier("hinge", solver="dual", alpha=1.0).fit(X, y)
    assert max(looks) > 0  # the same work was taken up again


def an_ascent(loss, X, y, alpha=1e-4):
    """That of a fit, built anew from where its last proof has left it."""
    ascents, own = [], _dual.Ascent.__init__
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            _dual.Ascent,
            "__init__",
            lambda self, *args: own(self, *args) or ascents.append(self),
        )
        classifier(loss, solver="dual", alpha=alpha).fit(X, y)
    ascents[0].rebuild()
    return ascents[0]


def assert_as_built(ascent):
    """V, r and g are what the multipliers say."""
    state = ascent.state
    V, r, g = state.V.copy(), state.r.copy(), state.g.copy()
    ascent.rebuild()
    size = np.abs(V).max()
    np.testing.assert_allclose(V, state.V, rtol=0, atol=1e-10 * size)
    np.testing.assert_allclose(r, state.r, rtol=0, atol=1e-12)
    np.testing.assert_allclose(g, state.g, rtol=0, atol=1e-10 * size)


def test_what_was_worked_on_is_what_the_multipliers_say():
    pytest.importorskip("numba")
    ascent, rng = an_ascent("hinge", *documents(900, 600, 40)), np.random.RandomState(0)
    ascent.epoch(rng, True)
    for _ in range(3):
        ascent.epoch(rng, False)
    ascent._return()
    assert_as_built(ascent)
    ascent.epoch(rng, False)
    ascent.epoch(rng, True)  # visits all, from where the work has led
    assert not ascent.at_work
    assert_as_built(ascent)


def test_a_witness_is_what_was_proven():
    pytest.importorskip("numba")
    X, y = documents(300, 200, 5)
    ascent, rng = an_ascent("hinge", X, y), np.random.RandomState(0)
    ascent.epoch(rng, True)
    assert np.abs(ascent.state.r).max() > 1e-8  # the multipliers held are off balance
    _, _, primal, dual = ascent.certified()
    assert 0 < dual < primal
    U = ascent.witness().point
    # the proof's are not: sums of 300 rows of total weight 1, in float64
    np.testing.assert_allclose(U.sum(axis=0), 0, atol=1e-14)
    # the hinge's bound from them, of sums in other orders
    value = np.maximum(U, 0).sum() - ((X.T @ U) ** 2).sum() / (4 * 1e-4)
    assert dual == pytest.approx(value, rel=1e-9)


def test_work_is_seen_by_those_who_ask_before_it_ends():
    pytest.importorskip("numba")
    ascent, rng = an_ascent("hinge", *documents(900, 600, 40)), np.random.RandomState(0)
    ascent.epoch(rng, True)
    ascent.epoch(rng, False)
    A = ascent.multipliers().A.copy()
    ascent._return()
    np.testing.assert_array_equal(A, ascent.state.A)
    ascent.epoch(rng, False)
    b_ref = ascent.state.b_ref.copy()  # which a proof changes
    found = ascent.certified()
    ascent.state.b_ref[:] = b_ref
    ascent.rebuild()
    for each, wanted in zip(found, ascent.certified(), strict=True):
        size = np.abs(wanted).max()  # sums of 900 rows and of 600 features
        np.testing.assert_allclose(each, wanted, rtol=0, atol=1e-10 * size)


@pytest.mark.parametrize("sparse", [True, False])
def test_what_is_solved_together_is_what_the_multipliers_say(loss, sparse, monkeypatch):
    pytest.importorskip("numba")
    X, y = documents(300, 200, 5)
    ascent = an_ascent(loss, X if sparse else X.toarray(), y, alpha=1e-6)
    rng = np.random.RandomState(0)
    monkeypatch.setattr(_dual_together, "HELD", 0.0)  # few rows will do
    seen, solved = [], _dual_together.solved
    monkeypatch.setattr(
        _dual_together, "solved", lambda few, _: seen.append(few) or solved(few, 1e12)
    )
    monkeypatch.setattr(ascent.budget, "next_size", lambda *_: 40)
    ascent.state.A[:60] = 0.2  # far from what they were
    if loss != "softmax":
        ascent.state.A[np.arange(60), y[:60]] = 0
    ascent.lists.counts[:] = -1
    ascent.rebuild()
    ascent.epoch(rng, True)
    A, (W, b) = ascent.state.A.copy(), ascent.params()
    rows = _dual_together.outstanding(ascent.gaps, A, ascent.power, 40)
    ascent.settle_outstanding(True)
    Z = X[rows].toarray()
    size = np.abs(Z @ W + b).max()
    np.testing.assert_allclose(seen[0].scores, Z @ W + b, rtol=0, atol=1e-10 * size)
    Z -= X.mean(axis=0)
    products = ascent.scales.coef * Z @ Z.T + ascent.scales.intercept
    size = products.max()
    np.testing.assert_allclose(seen[0].products, products, rtol=0, atol=1e-12 * size)
    moved = np.flatnonzero((ascent.state.A != A).any(axis=1))
    assert len(moved)
    assert (ascent.lists.counts[moved] < 0).all()  # nothing that was listed holds
    assert_as_built(ascent)
    for _ in range(3):  # the first only sets the anchor
        ascent.advance()
        assert_as_built(ascent)
        ascent.epoch(rng, True)
        assert_as_built(ascent)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("n", [3, 40])
def test_the_intercept_of_few_rows_follows_all_of_them(loss, n):
    pytest.importorskip("numba")
    rng = np.random.default_rng(0)
    kept = np.arange(n) % 4  # of each row there are ten, or one
    X, y = rng.normal(size=(4, 500))[kept], np.array([0, 1, 2, 2])[kept]
    model = classifier(loss, solver="dual", alpha=1e-5).fit(X, y)
    assert model.dual_gap_ <= 1e-4


def test_what_epochs_will_not_reach_is_left_to_newton():
    pytest.importorskip("numba")
    X, y = make_classification(
        1500, 60, n_informative=20, n_classes=20, flip_y=0.3, random_state=0
    )
    model = classifier("hinge", solver="dual", alpha=1e-6).fit(X, y)
    assert model.dual_gap_ <= 1e-4  # epochs alone: about 1 after 1000
    assert 100 < model.n_iter_ < 900


def test_what_epochs_have_found_is_not_lost_to_newton(monkeypatch):
    # it began anew: a larger max_iter gave a worse model, and loss_curve_ rose
    pytest.importorskip("numba")
    found, own = [], _dual.Ascent.certified
    monkeypatch.setattr(
        _dual.Ascent, "certified", lambda self: found.append(own(self)) or found[-1]
    )
    X, y = make_classification(
        1500, 60, n_informative=20, n_classes=20, flip_y=0.3, random_state=0
    )
    monkeypatch.setattr(_dual_descent, "SLOW", 10**6)
    model = classifier("hinge", solver="dual", alpha=1e-6, verbose=1).fit(X, y)
    assert model.loss_curve_[-1] <= min(primal for _, _, primal, _ in found)
    assert (np.diff(model.loss_curve_[:-1]) <= 0).all()  # the last is of what is kept


@pytest.mark.parametrize("k", [6, 40])  # the hinges of 40 are worked on in part
@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("loss", LOSSES)
def test_steps_to_an_anchor_end_at_the_same_optimum(
    monkeypatch, loss, fit_intercept, sparse, k
):
    pytest.importorskip("numba")
    X, y = documents(500, 300, k)
    X.data += 1.0  # so that their mean is far from 0
    X = X if sparse else X.toarray()
    weights = np.random.default_rng(1).integers(3, size=500)
    problem = Problem(X, y, weights)
    settings = {"alpha": 1e-3, "fit_intercept": fit_intercept, "tol": 1e-6}
    moved, own = [], _dual.Ascent.advance
    monkeypatch.setattr(
        _dual.Ascent, "advance", lambda self: moved.append(None) or own(self)
    )
    monkeypatch.setattr(_dual_descent, "SLOW", 3)
    monkeypatch.setattr(_dual_descent, "TURN", 3)
    model = classifier(loss, solver="dual", **settings).fit(*problem)
    assert len(moved) > 2
    assert model.dual_gap_ <= 1e-6
    other = classifier(loss, solver="newton", **settings).fit(*problem)
    P, Q = (objective(m, problem, *full_params(m)) for m in (model, other))
    assert P * (1 - model.dual_gap_) <= Q
    assert Q * (1 - other.dual_gap_) <= P


def test_an_anchor_saves_epochs_where_they_are_many(monkeypatch):
    pytest.importorskip("numba")
    X, y = documents(3000, 1000, 8)
    model = classifier("hinge", solver="dual", alpha=1e-6)
    with_anchor = model.fit(X, y).n_iter_
    monkeypatch.setattr(_dual_descent, "SLOW", 10**6)
    assert with_anchor < 0.7 * model.fit(X, y).n_iter_  # 95 and 287


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("alpha", [1e-4, 1e-7, 1e-10])
def test_auto_takes_the_dual_for_text_however_weak_the_penalty(loss, alpha):
    # others took minutes for what it does in a second
    pytest.importorskip("numba")
    X, y = documents(8000, 12_000, 12)
    data = Data(X, y, np.full(8000, 1 / 8000), 12)
    assert choose(data, OWN[loss], alpha, 1e-4) == "dual"


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("n", [200, 600, 1000])
def test_auto_takes_the_dual_for_few_documents_that_pay_for_loading_it(loss, n):
    # of 1000 it takes 0.01 s, others 0.5 to 3 s; to load it takes 0.5 s
    pytest.importorskip("numba")
    X, y = documents(n, 8 * n, 5)
    data = Data(X, y, np.full(n, 1 / n), 5)
    expected = "dual" if n >= (1000 if loss == "softmax" else 600) else "lbfgs"
    assert choose(data, OWN[loss], 1e-4, 1e-4) == expected
    expected = "dual" if n >= (600 if loss == "softmax" else 200) else "lbfgs"
    assert choose(data, OWN[loss], 1e-4, 1e-4, fits=10) == expected  # share the load


@pytest.mark.parametrize("loss", ["hinge", "squared_hinge"])
@pytest.mark.parametrize(
    ("apart", "alpha", "end"), [(2.0, 1e-3, "dual"), (0.0, 1e-4, "newton")]
)
def test_auto_soon_sees_whether_the_dual_is_quick(loss, apart, alpha, end):
    pytest.importorskip("numba")
    rng, y = np.random.default_rng(0), np.arange(3300) % 10
    X = rng.normal(size=(3300, 400)) + apart * rng.normal(size=(10, 400))[y]
    X = (X / np.sqrt(np.arange(1, 401))).astype(np.float32)
    model = classifier(loss, alpha=alpha, random_state=0).fit(X, y)
    assert model.dual_gap_ <= 1e-4
    assert model.solver_ == end  # epochs alone: up to 380
    if end == "newton":
        alone = classifier(loss, alpha=alpha, solver="newton").fit(X, y)
        assert model.n_iter_ < alone.n_iter_ + 30


@pytest.mark.parametrize("loss", ["hinge", "squared_hinge"])
@pytest.mark.parametrize("apart", [2.0, 0.0])
def test_auto_tries_the_dual_for_many_classes_of_dense_rows(loss, apart):
    pytest.importorskip("numba")
    rng = np.random.default_rng(0)
    y, centres = rng.integers(40, size=6000), rng.normal(size=(40, 50))
    X = (rng.normal(size=(6000, 50)) + apart * centres[y]).astype(np.float32)
    model = classifier(loss, alpha=1e-3, random_state=0).fit(X, y)
    assert model.dual_gap_ <= 1e-4
    left = "newton" if loss == "hinge" else "lbfgs"
    assert model.solver_ == ("dual" if apart else left)
    few = classifier(loss, alpha=1e-3).fit(X, y % 3)
    assert few.solver_ != "dual"  # 120 rows a feature
    data = Data(X, y, np.full(6000, 1 / 6000), 40)
    assert is_doubtful(data, OWN[loss], 1e-3, 1e-4)
    assert not is_doubtful(data, OWN[loss], 1.0, 1e-4)  # easy


@pytest.mark.parametrize("sparse", [False, True])
def test_few_rows_that_epochs_lead_nowhere_with_are_left_to_newton(sparse):
    pytest.importorskip("numba")
    rng = np.random.default_rng(0)
    n, d, k = (500, 280, 3) if sparse else (84, 120, 20)
    y = np.arange(n) % k
    if sparse:  # many features, each in few rows
        X = scipy.sparse.random(n, d, 0.02, format="csr", random_state=rng)
    else:  # of variances that fall
        X = (rng.normal(size=(n, d)) + 0.3 * rng.normal(size=(k, d))[y]) / range(1, 121)
    model = classifier("hinge", solver="dual", alpha=1e-6).fit(X, y)
    assert model.dual_gap_ <= 1e-4  # epochs alone: 0.5 and 0.02 after 1000
    assert 100 < model.n_iter_ < 900


@pytest.mark.parametrize("loss", LOSSES)
def test_many_rows_of_few_features_end_with_newton_steps(loss):
    pytest.importorskip("numba")
    X, y = make_classification(
        3000, 40, n_informative=10, n_redundant=0, n_classes=4, random_state=0
    )
    model = classifier(loss, solver="dual", alpha=1e-5).fit(X, y)
    assert model.dual_gap_ <= 1e-4


def test_a_softmax_of_features_that_were_not_scaled_is_left_to_newton():
    pytest.importorskip("numba")
    # labels that say nothing: L-BFGS, which took over, ended at a gap of 1
    rng = np.random.default_rng(0)
    X = rng.normal(size=(400, 80)) * 10.0 ** rng.uniform(0, 7, 80)
    y = np.arange(400) % 20
    model = classifier("softmax", solver="dual", alpha=1e-2, random_state=0).fit(X, y)
    assert model.dual_gap_ <= 1e-4


def test_a_softmax_of_nearly_no_loss_is_proven():
    pytest.importorskip("numba")
    # of 1e-11, of which 1 - p knows two digits
    rng = np.random.default_rng(1)
    X, y = rng.normal(size=(1500, 300)), np.arange(1500) % 10
    X = (X + rng.normal(size=(10, 300))[y]) * 10.0 ** rng.uniform(0, 6, 300)
    model = classifier("softmax", solver="dual", random_state=0).fit(X, y)
    assert model.loss_curve_[-1] < 1e-10
    assert model.dual_gap_ <= 1e-4


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.uint8])
def test_few_rows_of_many_features_are_solved_in_their_own_space(
    loss, dtype, fit_intercept, monkeypatch
):
    pytest.importorskip("numba")
    rotated, space_of = [], RowSpace.of

    def spy(*args):
        rotated.append(args)
        return space_of(*args)

    monkeypatch.setattr(_dual.RowSpace, "of", spy)
    rng = np.random.default_rng(0)
    y = np.arange(200) % 12
    X = (rng.normal(size=(200, 900)) + rng.normal(size=(12, 900))[y] / 3) * 20 + 120
    X = np.clip(X, 0, 255).astype(dtype)
    params = {"alpha": 3e1, "fit_intercept": fit_intercept, "tol": 1e-5}
    weights = rng.uniform(size=200) * (y != 5)
    model = classifier(loss, solver="dual", random_state=0, **params)
    model.fit(X, y, weights)
    assert rotated
    peer = classifier(loss, solver="newton", **params).fit(X, y, weights)
    assert model.dual_gap_ <= 1e-5
    assert model.loss_curve_[-1] == pytest.approx(peer.loss_curve_[-1], rel=1e-5)
    problem = Problem(X.astype(np.float64), y, weights)
    found = objective(model, problem, *full_params(model))
    assert model.loss_curve_[-1] == pytest.approx(found, rel=1e-5)
    again = clone(model).set_params(warm_start=True, tol=1e-4)
    again.__dict__.update(coef_=model.coef_, intercept_=model.intercept_)
    again.classes_ = model.classes_
    assert again.fit(X, y, weights).n_iter_ <= model.n_iter_
    with pytest.warns(ConvergenceWarning, match="after 3 epochs"):
        model.set_params(max_iter=3).fit(X, y, weights)
    assert model.n_iter_ == 3


def test_columns_that_say_nearly_the_same_are_left_to_lbfgs_in_the_rows_space():
    pytest.importorskip("numba")
    # in that of the columns it took 5 times as long as all of the epochs
    rng = np.random.default_rng(0)
    t, y = np.linspace(0, 1, 1200), rng.integers(10, size=200)
    bumps = np.exp(-np.square((t - np.linspace(0.1, 0.9, 10)[:, None]) / 0.05))
    heights = rng.lognormal(0, 0.5, (200, 10)) * (1 + 0.3 * np.eye(10)[y])
    X = heights @ bumps + 0.01 * rng.normal(size=(200, 1200))
    model = classifier("hinge", solver="dual", alpha=1e-6, random_state=0).fit(X, y)
    assert model.dual_gap_ <= 1e-4
    assert len(model.loss_curve_) == model.n_iter_ > 30


@pytest.mark.parametrize("loss", ["softmax", "squared_hinge"])
def test_auto_leaves_overlapping_one_hot_rows_to_lbfgs(loss):
    # up to 30 times as fast: few classes, 17 rows a feature
    pytest.importorskip("numba")
    rng = np.random.default_rng(0)
    n, d, k, m = 20_000, 1200, 2, 8
    columns = rng.integers(d // m, size=(n, m)) + d // m * np.arange(m)
    places = columns.ravel(), np.arange(0, n * m + 1, m)
    X = scipy.sparse.csr_matrix((np.ones(n * m), *places), (n, d))
    y = rng.integers(k, size=n)
    data = Data(X, y, np.ones(n) / n, k)
    for alpha in (3e-5, 1e-5):  # ||x||^2 / (alpha n) of 13 and 40
        assert choose(data, OWN[loss], alpha, 1e-4) == "either"
        model = classifier(loss, alpha=alpha).fit(X, y)
        assert model.solver_ == "lbfgs"
        assert model.n_iter_ <= 25
        assert model.dual_gap_ <= 1e-4


@pytest.mark.parametrize("loss", ["softmax", "squared_hinge"])
def test_auto_takes_the_dual_for_one_hot_rows_of_classes_apart(loss):
    # a single fit and a search's: lbfgs took up to ten times as long
    pytest.importorskip("numba")
    rng = np.random.default_rng(0)
    n, d, k, m = 10_000, 400, 4, 8
    centres = rng.normal(size=(k, m))
    y = rng.integers(k, size=n)
    values = 1 / (1 + np.exp(-(1.5 * centres[y] + rng.normal(size=(n, m)))))
    columns = (values * (d // m)).astype(int) + d // m * np.arange(m)
    places = columns.ravel(), np.arange(0, n * m + 1, m)
    X = scipy.sparse.csr_matrix((np.ones(n * m), *places), (n, d))
    alpha = 1e-5
    model = classifier(loss, alpha=alpha).fit(X, y)
    assert model.solver_ == "dual"
    assert model.dual_gap_ <= 1e-4
    assert len(model.loss_curve_) == model.n_iter_ > 25
    curve = np.array(model.loss_curve_)
    exact = classifier(loss, alpha=alpha, solver="newton", tol=1e-10).fit(X, y)
    lag = 1 - exact.loss_curve_[-1] / curve[-1]
    assert -1e-10 <= lag <= 1e-4
    assert (np.diff(curve) <= 0).all()
    ends = {}
    for most, solver in ((7, "lbfgs"), (25, "lbfgs"), (27, "dual")):
        brief = classifier(loss, alpha=alpha, max_iter=most)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            brief.fit(X, y)
        assert (brief.solver_, brief.n_iter_) == (solver, most)
        ends[most] = brief.loss_curve_[-1]
    assert ends[27] <= ends[25] < ends[7]  # the best point is kept
    # too tight for the dual: L-BFGS ends at once
    data = Data(X, y, np.ones(n) / n, k)
    assert choose(data, OWN[loss], alpha, 1e-7) == "lbfgs"


@pytest.mark.parametrize("loss", ["hinge", "squared_hinge"])
@pytest.mark.parametrize("shape", [(2100, 1000, 50), (1100, 900, 80)])
def test_auto_takes_the_dual_for_hinges_of_many_classes(loss, shape):
    # others took from 10 s to minutes for what it does in one or two
    pytest.importorskip("numba")
    n, d, k = shape
    rng = np.random.default_rng(0)
    data = Data(rng.normal(size=(n, d)), np.arange(n) % k, np.full(n, 1 / n), k)
    for alpha in (1e-1, 1e-3):
        assert choose(data, OWN[loss], alpha, 1e-4) == "dual"
    assert choose(data, CrossEntropy(), alpha, 1e-4) == "dual"


def test_auto_takes_the_dual_for_wide_rows_of_all_scales():
    pytest.importorskip("numba")
    rng = np.random.default_rng(0)
    scales = np.exp(3 * rng.normal(size=2000))  # as raw counts of genes have them
    X, y = scales * np.exp(rng.normal(size=(30, 2000))), np.arange(30) % 3
    alpha = X.var(axis=0).sum() / 30 / 1e16
    model = classifier("squared_hinge", alpha=alpha).fit(X, y)
    assert model.solver_ == "dual"
    assert model.dual_gap_ <= model.tol  # of lbfgs and newton it is 0.01 or more


@pytest.mark.parametrize("loss", LOSSES)
def test_auto_takes_the_dual_for_texts_of_many_classes(loss):
    # 4 rows a feature and 77 classes, not scaled: L-BFGS took ten times as long or more
    pytest.importorskip("numba")
    n, d, k = 5000, 1200, 77
    X, y = documents(n, d, k)
    data = Data(7 * X, y, np.full(n, 1 / n), k)
    for alpha in (1e-5, 1e-7):
        assert choose(data, OWN[loss], alpha, 1e-4) == "dual"


@pytest.mark.parametrize("loss", LOSSES)
def test_a_search_goes_on_from_the_last_alphas_multipliers(loss):
    # from 0 they take 1.1 to 1.7 times as many epochs
    pytest.importorskip("numba")
    X, y = documents(900, 600, 40)
    alphas, weights = [1e-5, 1e-3, 1e-4], np.full(len(y), 1 / len(y))
    data = Data(X.tocsr(), y, weights, 40)
    rng = np.random.RandomState(0)
    options = Options(1e-6, 1000, 256, "auto", rng, Reporter(), fits=3)

    def epochs(alphas):
        problems = [(OWN[loss], alpha) for alpha in alphas]
        found = [*solve_grid(data, problems, [weights], True, "dual", options)]
        assert all(solution.converged for *_, solution in found)
        values = {alphas[place]: solution.value for place, _, solution in found}
        return values, sum(len(solution.history) for *_, solution in found)

    values, path = epochs(alphas)
    apart = [epochs([alpha]) for alpha in alphas]
    for value, _ in apart:
        for alpha in value:
            assert values[alpha] == pytest.approx(value[alpha], rel=2e-6)
    total = sum(count for _, count in apart)
    assert path < total


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_the_loss_curve_of_few_rows_never_rises():
    # it did where epochs in the space of the rows ended
    pytest.importorskip("numba")
    rng = np.random.RandomState(0)
    X, y = rng.randn(60, 400), rng.randint(3, size=60)
    model = classifier("hinge", solver="dual", max_iter=50, random_state=0).fit(X, y)
    assert (np.diff(model.loss_curve_[:-1]) <= 0).all()  # the last is of what is kept


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_fit_that_ends_unproven_keeps_the_best_point_it_saw(monkeypatch):
    # hinges of noisy counts fall slowly, and rise between: the last point was 10 times
    # the optimum, and any of the last was within twice
    pytest.importorskip("numba")
    rng = np.random.default_rng(0)
    X, _ = documents(3000, 9000, 8)
    X.data, y = rng.integers(1, 20, X.nnz).astype(float), rng.integers(8, size=3000)
    seen, own = [], _dual.Ascent.evaluated
    monkeypatch.setattr(
        _dual.Ascent, "evaluated", lambda self: seen.append(own(self)) or seen[-1]
    )
    model = classifier("hinge", solver="dual", alpha=1e-6, max_iter=150, random_state=0)
    model.fit(X, y)
    assert model.dual_gap_ > 1e-2
    late = seen[4:]  # after 100 epochs; before, a fit is not over
    assert len(late) > 1
    assert model.loss_curve_[-1] <= min(late) * (1 + 1e-6)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("most", [60, 65])
def test_what_epochs_have_proven_of_few_rows_is_not_lost_to_newton(most):
    # it knew nothing yet where max_iter ended it: told was a gap of 1, at 6e-8
    pytest.importorskip("numba")
    rng = np.random.RandomState(1)
    centres = 0.1 * rng.randn(5, 2000)
    y = rng.choice(5, size=200)
    X = centres[y] + rng.randn(200, 2000)
    params = {"solver": "dual", "alpha": 1e-3, "tol": 1e-12, "random_state": 0}
    model = classifier("hinge", max_iter=most, **params).fit(X, y)
    assert 1e-12 < model.dual_gap_ < 1e-5


def test_a_looser_tol_takes_no_more_epochs():
    # the intercept's constraint was left to itself where it cost nearly all of tol
    pytest.importorskip("numba")
    rng = np.random.RandomState(1)
    X = rng.normal(size=(1600, 200))
    y = (X[:, :4] + rng.normal(size=(1600, 4))).argmax(axis=1)
    model = classifier("hinge", solver="dual", alpha=80.0, tol=0.1, random_state=0)
    assert model.fit(X, y).n_iter_ <= 20  # 372, and 12 at 1e-3
