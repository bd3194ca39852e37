"""certify: labels that are proven to be the optimum's, and the bounds behind them."""

from __future__ import annotations

import pickle
import warnings
from functools import cache

import numpy as np
import pytest
import scipy.sparse
from conftest import LOSSES, PROBLEMS, Problem, classifier, full_params
from hypothesis import given
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.datasets import load_digits, load_iris
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from test_certificate import assert_within, bounds

from sklinear import SoftmaxClassifier
from sklinear._certificate import Certificate, _Graph, certificate
from sklinear._data import Data
from sklinear._losses import CrossEntropy
from sklinear._visit import Visit

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
EXACT = 1e-12


@cache
def loosely(loss, name, **params):
    """A model of one of the small problems; not to be fitted again."""
    return classifier(loss, **params).fit(*PROBLEMS[name])


def tightly(loss, name, **params):
    """The same, solved to rounding."""
    return loosely(loss, name, tol=EXACT, **params)


@pytest.fixture(scope="session", params=PROBLEMS)
def name(request):
    """Each small problem's name."""
    return request.param


# The bounds ---------------------------------------------------------------------------


@pytest.mark.parametrize("fit_intercept", [True, False])
def test_bounds_of_a_loose_fit_hold_the_tight_one(loss, solver, name, fit_intercept):
    settings = {"alpha": 1e-2, "fit_intercept": fit_intercept, "solver": solver}
    tight = tightly(loss, name, **settings)
    radius, drift, *_ = bounds(tight)
    W, b = full_params(tight)
    sizes = []
    for max_iter in (2, 10, 20, 1000):
        model = loosely(loss, name, max_iter=max_iter, **settings)
        assert_within(model, W, b, radius, drift)
        sizes.append(bounds(model)[0])
    assert sizes[-1] <= sizes[0] / 10
    if not fit_intercept:
        assert not drift.any()


@pytest.mark.parametrize("delta", [0.1, 10.0])
@pytest.mark.parametrize("loss", ["hinge", "squared_hinge"])
def test_bounds_are_in_the_units_of_the_users_scores(loss, delta):
    problem = PROBLEMS["blobs"]
    one = classifier(loss, max_iter=8).fit(*problem)
    alpha = 1e-3 / delta if loss == "hinge" else 1e-3
    other = classifier(loss, max_iter=8, delta=delta, alpha=alpha).fit(*problem)
    got, want = other._certificate, one._certificate
    assert got.radius == pytest.approx(delta * want.radius, rel=1e-6)  # rounding
    np.testing.assert_allclose(got.drift, delta * want.drift, rtol=1e-6)


@pytest.mark.parametrize("loss", ["squared_hinge", "softmax"])
def test_bounds_shrink_with_the_root_of_the_gap(loss):
    X, y = load_digits(return_X_y=True)
    X = X[:200] / 16
    sizes, gaps = [], []
    for tol in (1e-2, 1e-4, 1e-8):
        model = classifier(loss, tol=tol, alpha=1e-2).fit(X, y[:200])
        radius, drift, *_ = bounds(model)
        sizes.append([radius, drift.max()])
        gaps.append(model.dual_gap_)
    assert np.all(np.array(sizes[-1]) < 1e-3)
    # twenty: the drift's share of the radius, which the rows' spread decides
    assert np.all(np.array(sizes) <= 20 * np.sqrt(np.array(gaps) / 1e-2)[:, None])


def test_many_classes_have_bounds_without_sums_of_rows(loss, monkeypatch):
    problem = PROBLEMS["blobs"]
    tight = classifier(loss, tol=EXACT).fit(*problem)
    close = classifier(loss, max_iter=10).fit(*problem)
    monkeypatch.setattr("sklinear._visit.LARGEST_SUMS", 0)
    loose = classifier(loss, max_iter=10).fit(*problem)
    assert_within(loose, *full_params(tight), *bounds(tight)[:2])
    far = loose._certificate.drift
    assert np.isfinite(far).all()
    off = ~np.eye(3, dtype=bool)
    assert np.all(far[off] >= close._certificate.drift[off])


@pytest.mark.parametrize("place", [1e7, 1e8, 3e8])
def test_rows_far_from_0_are_spread_no_less_than_they_are(loss, monkeypatch, place):
    # E ||x||^2 - ||mean||^2 cancels: what is left of it may be 0, or below
    X, y, _ = PROBLEMS["blobs"]
    spreads, own = [], _Graph.__init__

    def seen(self, visit, spread, alpha):
        spreads.append(spread)
        own(self, visit, spread, alpha)

    monkeypatch.setattr(_Graph, "__init__", seen)
    for seed in range(5):
        far = X + place * np.random.default_rng(seed).normal(size=3)
        centred = far - far.mean(axis=0, dtype=np.longdouble)
        classifier(loss, max_iter=2).fit(far, y)
        assert spreads[-1] >= np.square(centred).sum(axis=1).mean()


# Labels -------------------------------------------------------------------------------


def assert_sound(loose, tight, X):
    """Where the loose fit certifies, the tight one says the same label."""
    certified = loose.certify(X)
    assert certified.shape == (X.shape[0],)
    assert certified.dtype == bool
    same = loose.predict(X) == tight.predict(X)
    assert same[certified].all()
    return certified.mean()


def test_certified_labels_are_those_of_the_optimum(loss, solver, name):
    X = PROBLEMS[name].X
    rng = np.random.default_rng(0)
    dense = X.toarray() if scipy.sparse.issparse(X) else X
    others = dense[rng.integers(len(dense), size=500)]  # between and beyond the rows
    others = others + rng.normal(size=others.shape) * dense.std(axis=0)
    for fit_intercept in (True, False):
        settings = {"alpha": 1e-2, "fit_intercept": fit_intercept, "solver": solver}
        tight = tightly(loss, name, **settings)
        for params in (
            {"max_iter": 2},
            {"max_iter": 10},
            {"max_iter": 20},
            {"tol": 1e-1},
            {"tol": 1e-3},
        ):
            loose = loosely(loss, name, **settings, **params)
            assert_sound(loose, tight, X)
            assert_sound(loose, tight, others)
        assert assert_sound(tight, tight, others) > 0.95


@st.composite
def small_problems(draw):
    """Any classes, weights, scales and offsets, and an alpha."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n, d, k = draw(st.integers(6, 30)), draw(st.integers(1, 6)), draw(st.integers(2, 5))
    y = np.arange(n) % k
    apart = draw(st.sampled_from([0, 1, 5]))
    X = rng.normal(size=(n, d)) + apart * rng.normal(size=(k, d))[y]
    X = X * 10.0 ** draw(st.integers(-3, 3)) + draw(st.sampled_from([0, 10]))
    if draw(st.booleans()):
        X = np.rint(X)  # ties
    weights = 10 ** rng.uniform(-2, 2, n) if draw(st.booleans()) else None
    X = X.astype(draw(st.sampled_from([np.float64, np.float32])))
    return Problem(X, y, weights), 10.0 ** draw(st.integers(-5, 2))


@pytest.mark.parametrize("loss", LOSSES)
@given(small_problems(), st.integers(1, 30), st.booleans())
def test_certify_is_never_wrong(loss, drawn, max_iter, fit_intercept):
    problem, alpha = drawn
    if len(np.unique(problem.y)) < 2:
        return
    model = classifier(loss, alpha=alpha, fit_intercept=fit_intercept)
    exact = problem._replace(X=problem.X.astype(np.float64))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        tight = clone(model).set_params(tol=EXACT).fit(*exact)
        loose = model.set_params(max_iter=max_iter).fit(*problem)
    X = problem.X
    pairs = np.random.default_rng(0).integers(len(X), size=(2, 200))
    between = X[pairs].mean(axis=0)
    assert_sound(loose, tight, np.vstack([X, between]))


@pytest.mark.parametrize("load", [load_iris, load_digits])
@pytest.mark.parametrize("loss", ["squared_hinge", "softmax"])
def test_a_tight_fit_certifies_nearly_all_rows(loss, load):
    X, y = load(return_X_y=True)
    model = classifier(loss, tol=1e-10).fit(X, y)
    assert model.certify(X).mean() > 0.99
    default = classifier(loss).fit(X, y)
    assert assert_sound(default, model, X) > 0.9


def test_a_looser_fit_certifies_less():
    X, y = load_digits(return_X_y=True)
    shares = [
        SoftmaxClassifier(max_iter=n).fit(X, y).certify(X).mean() for n in (1, 10, 1000)
    ]
    assert shares[0] == 0
    assert shares == sorted(shares)
    assert shares[-1] > 0.9


@pytest.mark.parametrize("dtype", ["f4", "u1"])
@pytest.mark.parametrize("layout", [np.asarray, scipy.sparse.csr_matrix])
def test_any_samples_can_be_certified(loss, dtype, layout):
    X, y = load_iris(return_X_y=True)
    samples = layout(np.rint(10 * X).astype(dtype))
    tight = classifier(loss, tol=EXACT).fit(np.rint(10 * X), y)
    model = classifier(loss).fit(samples, y)
    assert assert_sound(model, tight, samples) > 0.9
    dense = samples.toarray() if scipy.sparse.issparse(samples) else samples
    agree = model.certify(samples) == model.certify(dense)
    assert agree.mean() > 0.99  # distances of sparse rows are rounded up
    frame = pytest.importorskip("pandas").DataFrame(dense, columns=list("abcd"))
    named = clone(model).fit(frame, y)
    assert named.certify(frame).shape == (150,)  # without a warning


def test_a_class_of_tiny_weight_leaves_the_others_certified():
    rng = np.random.default_rng(0)
    y = np.arange(90) % 3
    X = rng.normal(size=(90, 2)) + 3 * np.eye(3, 2)[y]
    model = SoftmaxClassifier(tol=EXACT)
    model.fit(X, y, np.where(y == 2, 1e-5, 1.0))
    assert model.certify(X).mean() > 0.9


# Where there is none ------------------------------------------------------------------


def test_without_a_penalty_nothing_is_certified(loss):
    model = classifier(loss, alpha=0, max_iter=20).fit(*PROBLEMS["blobs"])
    assert not model.certify(PROBLEMS["blobs"].X).any()


def test_stochastic_fits_have_no_certificate(loss):
    X, y, _ = PROBLEMS["iris"]
    certified = classifier(loss).fit(X, y)
    assert certified.certify(X).any()
    stochastic = [
        classifier(loss, solver="sgd", tol=0.1, random_state=0).fit(X, y),
        clone(certified).fit(X, y).partial_fit(X, y),
        clone(certified).fit(X, y).set_params(solver="sgd", tol=0.1).fit(X, y),
        classifier(loss).partial_fit(X, y, classes=[0, 1, 2]),
    ]
    for model in stochastic:
        assert not hasattr(model, "dual_gap_")
        with pytest.raises(AttributeError, match=r"partial_fit .* prove nothing"):
            model.certify(X)
    assert stochastic[0].set_params(solver="lbfgs").fit(X, y).certify(X).any()


def test_certify_needs_a_fit_and_its_features(loss):
    X, y, _ = PROBLEMS["iris"]
    with pytest.raises(NotFittedError):
        classifier(loss).certify(X)
    with pytest.raises(ValueError, match="expecting 4 features"):
        classifier(loss).fit(X, y).certify(X[:, :3])
    with pytest.raises(ValueError, match="contains NaN"):
        classifier(loss).fit(X, y).certify(X * np.nan)


def test_certificates_are_pickled_and_survive_sparsify(loss):
    X, y, _ = PROBLEMS["iris"]
    model = classifier(loss, max_iter=5).fit(X, y)
    want = model.certify(X)
    copy = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(copy.certify(X), want)
    np.testing.assert_array_equal(copy.sparsify().certify(X), want)


def test_moves_are_as_long_as_they_are_one_by_one():
    rng = np.random.RandomState(0)
    n, k = 700, 60
    y, leeway = rng.randint(k, size=n), 2 * rng.uniform(size=(n, k))
    leeway[np.arange(n), y] = 0
    weights = rng.uniform(size=n) / n
    visit = Visit(5, k, True)
    visit.rows = None  # as where they were too many numbers
    for block in Data(rng.normal(size=(n, 5)), y, weights, k):
        visit.add_leeway(block, leeway[block.rows])
    v = rng.normal(size=k)
    moves = leeway * (v - v[y][:, None])
    lengths = np.square(moves).sum(axis=1) + moves.sum(axis=1) ** 2
    assert v @ visit.lengths @ v == pytest.approx(weights @ lengths, rel=1e-12)
    edges = [(weights[:, None] * leeway)[y == j].sum(axis=0) for j in range(k)]
    np.testing.assert_allclose(visit.edges, edges, rtol=1e-12)


@pytest.mark.parametrize("layout", [np.asarray, scipy.sparse.csr_matrix])
@pytest.mark.parametrize("gap", [0.0, 0.5])
def test_a_label_is_settled_up_to_the_worst_optimum_within_the_bounds(layout, gap):
    rng = np.random.default_rng(0)
    d, k, radius = 4, 3, 0.3
    W, b, centre = rng.normal(size=(d, k)), rng.normal(size=k), rng.normal(size=d)
    drift = np.full((k, k), gap)
    np.fill_diagonal(drift, 0.0)
    known = Certificate(radius, centre, drift, 0.0, 1.0)
    settled = []
    for x in 3 * rng.normal(size=(200, d)):
        scores = x @ W + b
        y, j = np.argsort(scores)[[-1, -2]]
        # W that is off by the radius along (x - m)(e_j - e_y)', and b by the drift
        far = x - centre
        move = np.zeros((d, k))
        move[:, [j, y]] = np.outer(far, [1, -1]) / np.linalg.norm(far)
        worst = W + radius / np.sqrt(2) * move
        c = b + centre @ W  # which keeps to the drift, and b follows
        left = far @ worst + c
        margin = left[y] - left[j] - gap
        labels = np.array([y])
        settled.append(known.settles(layout(x[None]), W, b, labels)[0])
        if abs(margin) > 1e-12:  # rounding of numbers around 10
            assert settled[-1] == (margin > 0)
    assert 0 < np.mean(settled) < 1


def test_margins_as_small_as_the_rounding_of_their_scores_are_not_settled():
    # radius and drift are 0: all that is left to doubt is the product itself
    rng = np.random.default_rng(0)
    k = 3
    known = Certificate(0.0, np.zeros(5), np.zeros((k, k)), 0.0, 1.0)
    X, w = 1e8 * rng.normal(size=(500, 5)), rng.normal(size=5)
    W = w[:, None] * (1 + np.finfo(float).eps * rng.integers(-1, 2, size=(5, k)))
    scores = X @ W
    labels = scores.argmax(axis=1)
    exact = X.astype(np.longdouble) @ W.astype(np.longdouble)
    wrong = exact.argmax(axis=1) != labels
    assert wrong.any()
    assert not known.settles(X, W, np.zeros(k), labels)[wrong].any()


def test_a_move_and_the_one_before_it_stay_within_the_leeway(monkeypatch):
    W, b = full_params(tightly("softmax", "iris"))
    moves, rooms = [], []
    solve, drift = _Graph.solve, _Graph.drift

    def solved(self, R):
        moves.append(solve(self, R))
        return moves[-1]

    def drifted(self, *args, room, **others):
        rooms.append(room)
        return drift(self, *args, room=room, **others)

    monkeypatch.setattr(_Graph, "solve", solved)
    monkeypatch.setattr(_Graph, "drift", drifted)
    X, y, _ = PROBLEMS["iris"]
    data = Data(X, y, np.full(len(y), 1 / len(y)), 3)
    for off in (0.01, 0.1, 0.3):
        args = data, CrossEntropy(), 1e-3, True, W, b + off * np.array([0, 1, -1])
        certificate(*args, -np.inf, 1.0)
        assert len(rooms) == 2  # where U is mixed, and where it is moved
        # a softmax has leeway for scores that span 1
        assert rooms.pop() + np.ptp(moves.pop()) <= 1 + 1e-12
        assert rooms.pop() == 1


@pytest.mark.parametrize("kept", [1.0, 0.3])
@pytest.mark.parametrize("alpha", [1e-4, 1e-2, 1.0])
@pytest.mark.parametrize("gap", [1e-6, 1e-2, 1e6])
def test_a_drift_is_bounded_as_where_all_that_is_known_adds_up(gap, alpha, kept):
    rng = np.random.RandomState(0)
    n, d, k, room = 60, 5, 4, 0.5
    X, y, leeway = rng.normal(size=(n, d)), rng.randint(k, size=n), rng.rand(n, k)
    leeway[np.arange(n), y] = 0
    weights = rng.uniform(size=n) / n
    visit = Visit(d, k, True)
    for block in Data(X, y, weights, k):
        visit.add_leeway(block, leeway[block.rows])
    graph = _Graph(visit, 0.0, alpha)

    def pulled(v):
        """X' (U' - U) of a move, row by row."""
        moves = weights[:, None] * leeway * (v - v[y][:, None])
        moves[np.arange(n), y] = -moves.sum(axis=1)
        return X.T @ moves

    for a, b in [(0, 1), (3, 2)]:
        target = np.eye(k)[b] - np.eye(k)[a]
        along = np.linalg.pinv(graph.laplacian) @ target
        q = target @ along
        # what is left of 1' U, and of X' U + 2 alpha W, points to where it is the worst
        start = 0.1 * (kept == 1) * along
        z = np.sqrt(start @ graph.laplacian @ start)
        slack = np.sqrt(4 * alpha * gap) * pulled(along) / np.linalg.norm(pulled(along))
        far = float(np.linalg.norm(slack))
        whole = gap + z**2 + far**2 / (4 * alpha)
        got = graph.drift(whole, far, room, kept, z)[a, b]
        bounds = []
        for t in np.geomspace(1e-6, 1, 2000) * room * kept / q:
            v = start + t / kept * along
            cost = gap + kept * (v @ graph.laplacian @ v)
            square = np.square(slack + kept * pulled(v - start)).sum()
            bounds.append((cost + square / (4 * alpha)) / t)
        # 2000 values of t are 1 % apart: their least is within 1e-4 of all of them
        assert got == pytest.approx(min(bounds), rel=1e-4)


@pytest.mark.parametrize("k", [2, 3])
def test_coefficients_that_were_changed_are_not_certified(loss, k):
    X, y = load_iris(return_X_y=True)
    model = classifier(loss).fit(X[y < k], y[y < k])
    for name in ("coef_", "intercept_"):
        kept = getattr(model, name).copy()
        getattr(model, name)[:1] *= 2
        with pytest.raises(AttributeError, match="changed since the fit"):
            model.certify(X)
        setattr(model, name, np.asfortranarray(kept))
        assert model.certify(X).any()
    model.classes_ = model.classes_[::-1]
    with pytest.raises(AttributeError, match="changed since the fit"):
        model.certify(X)
    model.fit(X[y < k].astype(np.float32), y[y < k])
    model.coef_ = model.coef_.astype(np.float64)
    assert model.certify(X).any()
    model.sparsify().coef_.data[0] = 0
    with pytest.raises(AttributeError, match="changed since the fit"):
        model.certify(X)


@pytest.mark.parametrize("container", [np.asarray, scipy.sparse.csr_matrix])
@pytest.mark.parametrize("size", [1e-150, 1e-160, 1e-165, 1e-300])
def test_rows_so_small_that_squares_underflow_are_not_certified(loss, size, container):
    X, y, _ = PROBLEMS["iris"]
    model = classifier(loss, fit_intercept=False, solver="newton", max_iter=2)
    with pytest.warns(ConvergenceWarning):
        model.fit(X, y)
    assert not model.certify(X).any()
    assert not model.certify(container(X * size)).any()
