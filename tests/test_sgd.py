"""Mini-batches: ``solver="sgd"`` and ``partial_fit``."""

import copy
import pickle
import tracemalloc
import warnings
from contextlib import nullcontext
from dataclasses import astuple
from functools import partialmethod

import numpy as np
import pytest
import scipy.sparse
from sklearn.base import clone
from sklearn.datasets import (
    load_breast_cancer,
    load_digits,
    load_iris,
    load_wine,
    make_blobs,
)
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.preprocessing import StandardScaler

import sklinear._base
from sklinear import LinearSVMClassifier, SoftmaxClassifier, losses
from sklinear._data import Data
from sklinear._solvers import _sgd
from sklinear._solvers._sgd import has_stalled, measure, measure_wide
from sklinear._solvers._stream import Stream

MODELS = [
    LinearSVMClassifier(loss="hinge", solver="sgd", random_state=0),
    LinearSVMClassifier(loss="squared_hinge", solver="sgd", random_state=0),
    SoftmaxClassifier(solver="sgd", random_state=0),
]
DIGITS, LABELS = load_digits(return_X_y=True)


@pytest.fixture(params=MODELS, ids=["hinge", "squared_hinge", "softmax"])
def model(request):
    return clone(request.param)


def objective(model, X, y, sample_weight=None):
    """P of the specification, from the public coefficients and losses."""
    labels = np.searchsorted(model.classes_, y)
    scores, coef = X @ model.coef_.T + model.intercept_, model.coef_
    if len(coef) == 1:
        scores, coef = scores * [-0.5, 0.5], np.vstack([-coef / 2, coef / 2])
    if isinstance(model, SoftmaxClassifier):
        values = losses.cross_entropy(scores, labels)[0]
    else:
        squared = model.loss == "squared_hinge"
        values = losses.weston_watkins(scores, labels, model.delta, squared)[0]
    return np.average(values, weights=sample_weight) + model.alpha * np.sum(coef**2)


def nothing(model, X, y):
    """The objective where all coefficients are 0."""
    k = len(np.unique(y))
    if isinstance(model, SoftmaxClassifier):
        return np.log(k)
    return (k - 1) * model.delta ** (2 if model.loss == "squared_hinge" else 1)


def optimum(model, X, y, sample_weight=None):
    """The least objective, as the other solvers certify it to 1e-4."""
    exact = clone(model).set_params(solver="auto", max_iter=1000)
    exact.fit(X, y, sample_weight)
    return objective(exact, X, y, sample_weight)


def fit_anyhow(model, X, y, sample_weight=None):
    """Fit; whether it warned of its end."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(X, y, sample_weight)
    assert {warning.category for warning in caught} <= {ConvergenceWarning}
    return bool(caught)


# Where it ends ------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["raw", "divided", "standardised"])
def test_twenty_epochs_end_near_the_optimum_on_digits(model, form):
    X = DIGITS / 16 if form == "divided" else DIGITS
    if form == "standardised":
        X = StandardScaler().fit_transform(X)
    fit_anyhow(model.set_params(max_iter=20), X, LABELS)
    # a hundredth is what "auto" promises; raw hinges take all of the twenty
    assert objective(model, X, LABELS) < optimum(model, X, LABELS) * 1.01


def test_easy_data_end_early_and_in_silence(model):
    X, y = make_blobs(500, 5, centers=3, cluster_std=3.0, random_state=0)
    model.set_params(alpha=0.01).fit(X, y)  # a warning would be an error here
    assert model.n_iter_ < model.max_iter / 4
    assert model.solver_ == "sgd"
    assert objective(model, X, y) < optimum(model, X, y) * 1.05  # the promise is 1.01


@pytest.mark.parametrize("case", ["strong", "nothing to learn"])
def test_steps_that_are_too_long_do_not_end_a_fit(model, case):
    rng = np.random.default_rng(0)
    if case == "strong":
        X, alpha = rng.normal(size=(1000, 10)), 100.0
        y = np.minimum(rng.geometric(0.75, size=1000) - 1, 3)
    else:
        X, y, alpha = np.zeros((20, 1)), np.repeat([0, 1, 2], [15, 4, 1]), 1e-3
    warned = fit_anyhow(model.set_params(alpha=alpha), X, y)
    # of the best it stopped at 1.04 and 1.3
    assert warned or objective(model, X, y) < optimum(model, X, y) * 1.02


def test_the_objective_falls_and_the_best_epoch_is_kept(model):
    X = DIGITS / 16
    fit_anyhow(model.set_params(max_iter=10), X, LABELS)
    curve = model.loss_curve_
    assert 5 < len(curve) == model.n_iter_ <= 10
    assert curve[-1] < curve[0] < nothing(model, X, LABELS)
    value = objective(model, X, LABELS)
    assert value == pytest.approx(min(curve), rel=1e-10)  # rounding of sums


def test_the_best_epoch_is_kept_where_later_ones_are_worse(model):
    X, y = load_iris(return_X_y=True)
    X, later = X[:, :2], []  # classes that overlap
    for seed in range(5):  # of steps so long that epochs end here and there
        model.set_params(learning_rate=100.0, max_iter=4, random_state=seed)
        fit_anyhow(model, X, y)
        curve = model.loss_curve_
        later.append(curve[-1] / min(curve))
        assert objective(model, X, y) == pytest.approx(min(curve), rel=1e-10)
    assert max(later) > 1.01


def test_max_iter_is_warned_of(model):
    name = type(model).__name__
    message = f"{name} stopped .*2 epochs.*still changing.*raise max_iter"
    with pytest.warns(ConvergenceWarning, match=message):
        model.set_params(max_iter=2).fit(DIGITS, LABELS)
    assert model.n_iter_ == 2
    assert not hasattr(model, "dual_gap_")


@pytest.mark.parametrize(
    ("curve", "stalled"),
    [
        ([3, 1, 1, 1, 1, 1, 1], True),
        ([3, 1, 1.2, 1.1, 1.005, 1.02, 1.001], True),
        ([3, 2, 1.9, 1.8, 1.7, 1.6, 1.6], False),  # as the rate is 0
        ([3, 1, 48, 30, 17, 7, 3.5], False),  # steps too long
        ([3, 1], False),
        ([1, 1 - 1e-5], True),
        ([3], False),
        ([2, *(1 - 1e-3 * i / 5 for i in range(6))], False),
        ([2, *(1 - 1e-4 * i / 5 for i in range(6))], True),
    ],
)
def test_a_fit_has_converged_where_its_last_epochs_gain_little(curve, stalled):
    assert has_stalled(curve, tol=1e-4) is stalled


@pytest.mark.parametrize("rate", ["auto", 1e6])
def test_an_end_far_above_the_optimum_as_epochs_are_spent_is_warned_of(rate):
    model = LinearSVMClassifier(alpha=1e-7, solver="sgd", random_state=0)
    model.set_params(learning_rate=rate, max_iter=20)
    remedy = "raise max_iter or tol" + ", or change learning_rate" * (rate != "auto")
    with pytest.warns(ConvergenceWarning, match=f"changing by more.*; {remedy}\\."):
        model.fit(DIGITS, LABELS)


RAW = {
    "iris": load_iris(return_X_y=True),
    "wine": load_wine(return_X_y=True),
    "breast_cancer": load_breast_cancer(return_X_y=True),
    "digits": (DIGITS[::8], LABELS[::8]),
}
each_raw = pytest.mark.parametrize("name", RAW)
each_container = pytest.mark.parametrize(
    "container", [np.asarray, scipy.sparse.csr_matrix], ids=["dense", "csr"]
)


@each_raw
@each_container
@pytest.mark.parametrize("scale", [1e-4, 1e4])
def test_no_default_diverges(model, name, scale, container):
    X, y = container(scale * RAW[name][0]), RAW[name][1]
    fit_anyhow(model.set_params(max_iter=20), X, y)
    assert np.isfinite(model.coef_).all()
    start = nothing(model, X, y)
    assert max(model.loss_curve_) < 2 * start  # a first epoch may overshoot a little
    assert objective(model, X, y) <= start * (1 + 1e-12)  # rounding of a mean
    if scale > 1 and container is np.asarray:
        assert model.score(X, y) > 0.9  # 20 epochs, unscaled


@pytest.mark.parametrize("name", ["iris", "wine", "breast_cancer"])
@each_container
def test_raw_data_end_near_the_optimum_or_with_a_warning(model, name, container):
    X, y = container(RAW[name][0]), RAW[name][1]
    warned = fit_anyhow(model, X, y)
    excess = objective(model, X, y) - optimum(model, X, y)
    # without a certificate sgd cannot know how near; 5 % of the way is silently wrong
    assert warned or excess < 0.05 * nothing(model, X, y)


# What it depends on -------------------------------------------------------------------


def test_seeds_reproduce_and_differ(model):
    X = DIGITS / 16
    model.set_params(max_iter=3, tol=10.0)  # no epoch improves by that: no warning
    fits = [clone(model).set_params(random_state=i).fit(X, LABELS) for i in (0, 0, 1)]
    first, again, other = fits
    np.testing.assert_array_equal(first.coef_, again.coef_)
    assert first.loss_curve_ == again.loss_curve_
    assert not np.allclose(first.coef_, other.coef_)
    generator = np.random.RandomState(0)
    model.set_params(random_state=generator).fit(X, LABELS)
    np.testing.assert_array_equal(model.coef_, first.coef_)
    model.fit(X, LABELS)  # the generator has moved on
    assert not np.allclose(model.coef_, first.coef_)


def test_rows_come_shuffled(model):
    X, y = DIGITS[np.argsort(LABELS)] / 16, np.sort(LABELS)
    fit_anyhow(model.set_params(max_iter=5), X, y)
    # in order, the last class would have it all
    assert model.score(X, y) > 0.9


@pytest.mark.parametrize("batch_size", [1, 8, 64, 10**9])
def test_any_batch_size_arrives(model, batch_size):
    X, y = RAW["iris"]
    model.set_params(batch_size=batch_size, alpha=0.1)
    fit_anyhow(model, X, y)
    # batches of one row are noisy
    assert objective(model, X, y) < optimum(model, X, y) * 1.1
    usual = clone(model).set_params(batch_size=12)
    fit_anyhow(usual, X, y)
    assert not np.array_equal(usual.coef_, model.coef_)


def test_a_learning_rate_is_a_number(model):
    X = DIGITS / 16
    moved = []
    for rate in (1e-6, 1e-3, 0.5):
        fit_anyhow(model.set_params(learning_rate=rate, max_iter=1), X, LABELS)
        moved.append(np.linalg.norm(model.coef_))
    assert 0 < moved[0] < moved[1] < moved[2]
    # a thousand times the rate, a thousand times the way, as long as both are short
    assert moved[1] / moved[0] == pytest.approx(1000, rel=0.2)
    fit_anyhow(model.set_params(learning_rate=1e6), X, LABELS)
    assert np.isfinite(model.coef_).all()


@pytest.mark.parametrize("d", [2, 300])
def test_steps_that_leave_all_numbers_are_told(model, d):
    # rows of zeros, which no step's length is measured by, and the penalty alone
    X, y = np.zeros((2000, d)), np.arange(2000) % 2
    X[:50] = np.random.default_rng(0).normal(size=(50, d))
    model.set_params(learning_rate=1e3, batch_size=1, alpha=1.0, fit_intercept=False)
    with pytest.raises(ValueError, match=r"not finite.*learning_rate=1000\.0"):
        model.partial_fit(X, y, classes=[0, 1])
    assert not model.coef_.any()  # as before
    with pytest.raises(ValueError, match="not finite"):
        model.set_params(max_iter=3).fit(X, y)
    if d == 300:  # of so many sparse columns the penalty only shrinks coefficients
        rows = scipy.sparse.csr_matrix(X)
        fit_anyhow(model.set_params(learning_rate=1e8), rows, y)
        stream = clone(model).partial_fit(rows, y, [0, 1])
        assert np.isfinite(stream.coef_).all()


@each_container
@pytest.mark.parametrize("size", [1e6, 1e90])
def test_rows_without_weight_are_skipped(model, container, size):
    X, y = RAW["iris"]
    rng = np.random.RandomState(0)
    junk, labels = size * rng.randn(50, 4), rng.randint(0, 3, 50)
    weights = np.r_[np.ones(len(y)), np.zeros(50)]
    order = np.argsort(rng.uniform(size=len(weights)))
    mixed = np.vstack([X, junk])[order]
    model.set_params(alpha=0.1, max_iter=20)
    with_junk = clone(model)
    fit_anyhow(with_junk, container(mixed), np.r_[y, labels][order], weights[order])
    kept = order[order < len(y)]
    fit_anyhow(model, container(X[kept]), y[kept])
    # the same batches; sums that run over rows of weight 0 are rounded otherwise
    np.testing.assert_allclose(with_junk.coef_, model.coef_, rtol=1e-6, atol=1e-9)


def test_warm_start_continues(model):
    X = DIGITS / 16
    fit_anyhow(model.set_params(max_iter=5, warm_start=True), X, LABELS)
    cold = model.loss_curve_
    fit_anyhow(model, X, LABELS)
    assert model.loss_curve_[0] < cold[0]
    assert min(model.loss_curve_) <= min(cold)


def test_an_intercept_that_is_no_longer_wanted_is_dropped(model):
    X = DIGITS / 16
    fit_anyhow(model.set_params(max_iter=2, warm_start=True), X, LABELS)
    assert model.intercept_.any()
    stream = clone(model).partial_fit(X, LABELS, classes=np.arange(10))
    fit_anyhow(model.set_params(fit_intercept=False), X, LABELS)
    stream.set_params(fit_intercept=False).partial_fit(X, LABELS)
    for one in (model, stream):
        np.testing.assert_array_equal(one.intercept_, 0)


# Streams ------------------------------------------------------------------------------


def stream(model, X, y, chunk=100, n_passes=1, weights=None):
    """The model after ``partial_fit`` on chunks; classes in the first call only."""
    for start in list(range(0, X.shape[0], chunk)) * n_passes:
        rows = slice(start, start + chunk)
        first = not hasattr(model, "classes_")
        model.partial_fit(
            X[rows],
            y[rows],
            classes=np.unique(y) if first else None,
            sample_weight=None if weights is None else weights[rows],
        )
    return model


@pytest.fixture(scope="module")
def shuffled():
    order = np.random.RandomState(0).permutation(len(LABELS))
    return DIGITS[order], LABELS[order]


@pytest.mark.parametrize(
    ("scale", "shift"), [(1, 0), (1 / 16, 0), (1e4, 0), (1, 100), (1, 1e6)]
)
def test_chunks_teach_digits_in_whatever_units(model, scale, shift, shuffled):
    X, y = scale * shuffled[0] + shift, shuffled[1]
    stream(model, X[:1300], y[:1300], chunk=50)
    assert model.score(X[1300:], y[1300:]) > 0.88  # one pass
    stream(model, X[:1300], y[:1300], chunk=50, n_passes=4)
    assert model.score(X[1300:], y[1300:]) > 0.94  # exact linear fits have 0.96


@pytest.mark.parametrize("delta", [0.1, 10.0])
@pytest.mark.parametrize("loss", ["hinge", "squared_hinge"])
@pytest.mark.parametrize("rows", [np.asarray, scipy.sparse.csr_matrix])
def test_a_stream_is_in_the_units_of_the_users_scores(loss, delta, rows):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(600, 4)), np.arange(600) % 3
    X[np.arange(600), y] += 1
    one = LinearSVMClassifier(loss=loss, alpha=1e-2)
    alpha = 1e-2 / (delta if loss == "hinge" else 1)  # the same problem
    other = clone(one).set_params(delta=delta, alpha=alpha)
    for part in np.split(np.arange(600), 6):
        for model in (one, other):
            model.partial_fit(rows(X[part]), y[part], classes=range(3))
    # rounding of 600 rows' steps
    np.testing.assert_allclose(other.coef_, delta * one.coef_, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(other.intercept_, delta * one.intercept_, rtol=1e-9)


def test_partial_fit_does_not_ask_for_the_solver(shuffled):
    X, y = shuffled
    one = stream(SoftmaxClassifier(random_state=0), X, y)
    other = stream(SoftmaxClassifier(random_state=1, solver="sgd"), X, y)
    np.testing.assert_array_equal(one.coef_, other.coef_)  # rows come in their order


def documents(n, seed):
    """Bags of 30 words, a part of them typical of one of four topics."""
    rng = np.random.RandomState(seed)
    topics = rng.randint(0, 4, n)
    typical = 200 * topics[:, None] * (rng.uniform(size=(n, 30)) < 0.6)
    words = rng.randint(0, 300, (n, 30)) + typical
    return [" ".join(f"w{word}" for word in row) for row in words], topics


@pytest.mark.parametrize("norm", ["l2", None])
def test_chunks_of_hashed_text_are_learnt(model, norm):
    hashing = HashingVectorizer(n_features=2**16, norm=norm)
    texts, topics = documents(1500, seed=0)
    for start in range(0, 1500, 100):
        X = hashing.transform(texts[start : start + 100])
        y = topics[start : start + 100]
        model.partial_fit(X, y, classes=None if start else range(4))
    texts, topics = documents(500, seed=1)
    assert model.score(hashing.transform(texts), topics) > 0.95  # an exact fit: 0.99


def test_classes_may_come_later(model, shuffled):
    X, y = shuffled
    few = y < 3
    model.partial_fit(X[few], y[few], classes=np.arange(10))
    assert model.coef_.shape == (10, 64)
    assert model.classes_.tolist() == list(range(10))
    assert model.score(X[few], y[few]) > 0.9
    stream(model, X, y, n_passes=3)
    assert model.score(X, y) > 0.9


def test_two_classes_have_one_row(model):
    X, y = RAW["breast_cancer"]
    names = np.array(["malignant", "benign"])[y]
    stream(model, X, names, n_passes=3)
    assert model.coef_.shape == (1, 30)
    assert model.score(X, names) > 0.9


def test_a_piece_of_a_class_without_weight_teaches_nothing(model, shuffled):
    X, y = shuffled
    X, own = X[:300], y[:300] == y[0]
    model.set_params(class_weight={int(y[0]): 0.0})
    other = clone(model).partial_fit(X[~own], y[:300][~own], classes=np.arange(10))
    for rows in (own, ~own, own):  # also as the first piece
        model.partial_fit(X[rows], y[:300][rows], classes=np.arange(10))
        assert np.isfinite(model.coef_).all()
    np.testing.assert_array_equal(model.coef_, other.coef_)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_partial_fit_keeps_the_precision(model, dtype, shuffled):
    X, y = shuffled[0].astype(dtype), shuffled[1]
    assert stream(model, X, y).coef_.dtype == dtype
    assert model.intercept_.dtype == dtype


@pytest.mark.parametrize("rows", [np.asarray, scipy.sparse.csr_matrix])
def test_any_unit_of_weights_will_do(model, rows):
    X, y = RAW["iris"]

    def taught(unit):
        one = clone(model)
        for half in (slice(0, None, 2), slice(1, None, 2)):
            weights = unit * np.where(y[half] == 1, 1.0, 2.0)
            one.partial_fit(rows(X[half]), y[half], range(3), weights)
        return one.coef_

    want = taught(1.0)
    for unit in (2.0**-1074, 2.0**-1030, 2.0**500, 2.0**1022):  # none but the first
        np.testing.assert_array_equal(taught(unit), want)  # is rounded, it is 5e-324


@pytest.mark.parametrize("rows", [np.asarray, scipy.sparse.csr_matrix])
def test_rows_of_hardly_any_weight_teach_hardly_anything(model, rows):
    X, y = RAW["iris"]
    model.set_params(alpha=1e-14).partial_fit(rows(X), y, range(3))
    for weight in (1e-12, 1e-310):
        taught = model.coef_
        model.partial_fit(rows(X), 2 - y, sample_weight=np.full(150, weight))
        np.testing.assert_allclose(model.coef_, taught, atol=1e-4)
    model.partial_fit(rows(X), y, sample_weight=np.full(150, 1e308))
    assert np.isfinite(model.coef_).all()


def test_sparse_pieces_before_dense_ones_do_no_harm(model):
    X = np.random.default_rng(0).normal(100, 1, size=(4000, 5))
    y = (X[:, 0] > 100).astype(int)
    scores = []
    for first in (np.asarray, scipy.sparse.csr_matrix):
        one = clone(model).set_params(alpha=1e-6)
        one.partial_fit(first(X[:2000]), y[:2000], [0, 1])
        for _ in range(3):
            one.partial_fit(X[2000:], y[2000:])
        scores.append(one.score(X, y))
    assert scores[1] == scores[0] > 0.95  # rows of few columns are learnt as dense ones


def test_a_copy_of_a_model_learns_alone(model, shuffled):
    X, y = shuffled
    model.partial_fit(X[:300], y[:300], range(10))
    other = copy.copy(model)
    for each in (model, other):
        each.partial_fit(X[300:600], y[300:600])
    np.testing.assert_array_equal(other.coef_, model.coef_)


@pytest.mark.parametrize("rows", [np.asarray, scipy.sparse.csr_matrix])
@pytest.mark.parametrize("unit", [1e-30, 1e30])
def test_float32_rows_may_be_of_any_size(model, unit, rows):
    X, y = RAW["iris"]
    order = np.random.default_rng(0).permutation(150)
    X, y = rows((unit * X[order]).astype(np.float32)), y[order]
    model.set_params(alpha=1e-4 * unit**2)
    streamed = stream(clone(model), X, y, n_passes=20)
    fit_anyhow(model, X, y)
    for one in (model, streamed):
        assert one.coef_.dtype == np.float32
        assert one.score(X, y) > 0.9


def test_pickling_amid_a_stream_changes_nothing(model, shuffled):
    X, y = shuffled
    stream(model, X[:600], y[:600])
    loaded = pickle.loads(pickle.dumps(model))
    stream(model, X[600:], y[600:])
    stream(loaded, X[600:], y[600:])
    np.testing.assert_array_equal(loaded.coef_, model.coef_)
    np.testing.assert_array_equal(loaded.intercept_, model.intercept_)


def test_pieces_of_many_classes_are_no_regression(model):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.partial_fit(DIGITS[:12], np.arange(12), classes=np.arange(12))


def test_single_rows_make_steps_of_one_row(model, shuffled):
    X, y = shuffled[0][:600] / 16, shuffled[1][:600]
    for row in range(600):
        piece = slice(row, row + 1)
        model.partial_fit(X[piece], y[piece], classes=np.arange(10))
    assert model.score(X, y) > 0.85  # by steps as of 256 rows 0.1 to 0.6


def test_partial_fit_goes_on_from_a_fit(model, shuffled):
    X, y = shuffled[0][:1300] / 16, shuffled[1][:1300]
    model.set_params(solver="lbfgs").fit(X, y)
    coef, best = model.coef_, objective(model, X, y)
    stream(model, X, y)
    assert not np.array_equal(model.coef_, coef)
    # a stream's noise about the optimum, far below the way from 0 to it
    assert objective(model, X, y) - best < 0.1 * (nothing(model, X, y) - best)
    assert not hasattr(model, "dual_gap_")  # what was proven of other coefficients


def test_five_rows_do_not_ruin_a_fit(model, shuffled):
    X, y = shuffled[0][:600], shuffled[1][:600]
    model.set_params(solver="lbfgs", alpha=1.0).fit(X, y)
    assert model.partial_fit(X[:5], y[:5]).score(X, y) > 0.9


@pytest.mark.parametrize("container", [np.asarray, scipy.sparse.csr_matrix])
@pytest.mark.parametrize("n_features", [64, 256])
def test_a_row_more_does_not_ruin_what_many_have_taught(
    model, n_features, container, shuffled
):
    """Neither after a fit nor after long pieces, of which the last may be short."""
    X, y = shuffled[0] / 16, shuffled[1]
    X = container(np.tile(X, n_features // 64) / np.sqrt(n_features // 64))
    n = 1500
    pieces = stream(clone(model), X[:n], y[:n])
    fitted = clone(model).set_params(solver="lbfgs").fit(X[:n], y[:n])
    for learnt in (pieces, fitted):
        before = learnt.score(X[n:], y[n:])
        assert before > 0.8
        after = []
        for row in range(n, n + 10):
            more = copy.deepcopy(learnt).partial_fit(X[row : row + 1], y[row : row + 1])
            after.append(more.score(X[n:], y[n:]))
        assert (
            np.mean(after) > before - 0.03
        )  # by steps as after few rows 0.2 to 0.7 less
        assert min(after) > before - 0.1


def test_a_piece_may_be_cut_anywhere(model, shuffled):
    """Learning goes on as well amid a piece as from one to the next."""
    X, y = shuffled[0] / 16, shuffled[1]
    whole = clone(model).partial_fit(X, y, classes=np.arange(10))
    pieces = stream(model, X, y, chunk=256)
    assert whole.score(X, y) > pieces.score(X, y) - 0.03


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("container", [np.asarray, scipy.sparse.csr_matrix])
def test_a_column_that_no_row_has_yet_does_no_harm_without_a_penalty(
    model, container, dtype
):
    X = (np.random.default_rng(0).random((200, 6)) < 0.3).astype(dtype)
    X[:, 5] = 0
    y = X[:, 0].astype(int)
    model.set_params(alpha=0.0).partial_fit(container(X), y, classes=[0, 1])
    assert model.score(X, y) > 0.9
    assert model.coef_[0, 5] == 0


@pytest.mark.parametrize("alpha", [0.0, 1e-4])
def test_wide_rows_whose_numbers_add_up_to_0(model, alpha):
    """As hashed ones with signs may: their curvature is not none."""
    places = np.arange(40).reshape(20, 2)
    values = np.tile([1.0, -1.0], 20)
    parts = values, places.ravel(), 2 * np.arange(21)
    X, y = scipy.sparse.csr_matrix(parts, (20, 300)), np.arange(20) % 2
    model.set_params(alpha=alpha).partial_fit(X, y, classes=[0, 1])
    assert model.score(X, y) == 1


def test_fit_forgets_a_stream(model, shuffled):
    X, y = shuffled[0] / 16, shuffled[1]
    model.set_params(max_iter=3, tol=10.0)
    fresh = clone(model).fit(X, y)
    stream(model, -X, y).fit(X, y)
    np.testing.assert_array_equal(model.coef_, fresh.coef_)


def test_weights_in_a_stream_are_relative(model, shuffled):
    X, y = shuffled
    weights = np.random.RandomState(0).uniform(0, 2, len(y))
    one = stream(clone(model), X, y, weights=weights)
    many = stream(clone(model), X, y, weights=1000 * weights)
    # the same steps but for rounding, which 1800 rows hardly amplify
    np.testing.assert_allclose(one.coef_, many.coef_, rtol=1e-6, atol=1e-9)
    equal = stream(clone(model), X, y)
    assert not np.allclose(one.coef_, equal.coef_)
    # labels that are often wrong: of certain ones weights change next to nothing
    rng = np.random.default_rng(1)
    y = np.where(rng.random(len(y)) < 0.4, rng.integers(10, size=len(y)), y)
    equal = stream(clone(model), X, y)
    favoured = np.where(y == 3, 20.0, 1.0)
    biased = stream(clone(model), X, y, weights=favoured)
    assert np.mean(biased.predict(X) == 3) > np.mean(equal.predict(X) == 3) + 0.05


def test_a_stream_remembers_what_all_of_its_rows_weigh():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(60, 4)) + 5, np.arange(60) % 3
    # each piece has heavier rows than those before, then lighter ones
    weights = rng.integers(3, size=60) * np.repeat([1.0, 1e3, 1e6, 10.0], 15)
    stream = Stream()
    for rows in np.split(np.arange(60), 4):
        piece = Data(X[rows], y[rows], weights[rows], 3)
        stream, piece = stream.after(piece, n_steps=1)
        np.testing.assert_allclose(piece.weights * stream.unit, weights[rows])
    assert stream.unit == weights.max()
    assert stream.seen == stream.n_rows == np.count_nonzero(weights)
    # sums of 60 terms; of float64 on either side
    total, moments = weights.sum() / stream.unit, stream.moments
    mean = np.average(X, axis=0, weights=weights)
    spread = weights @ (X - mean) ** 2 / stream.unit
    np.testing.assert_allclose([stream.total, moments.total], total, rtol=1e-12)
    np.testing.assert_allclose(moments.mean, mean, rtol=1e-12)
    np.testing.assert_allclose(moments.spread, spread, rtol=1e-10)
    assert moments.n_rows == stream.n_rows
    # beside the heaviest row the lightest counts, if for next to nothing
    heavy, light = (Data(X, y, np.full(60, w), 3) for w in (1e300, 1e-300))
    stream, _ = Stream().after(heavy, n_steps=1)
    assert stream.after(light, n_steps=1)[1].weights.min() > 0


@each_container
@pytest.mark.parametrize("size", [1e6, 1e90])
@pytest.mark.parametrize("times", [1, 3])  # sparse rows are wide from 129 columns on
def test_rows_without_weight_are_skipped_in_a_stream(
    model, container, size, times, shuffled
):
    X, y = np.tile(shuffled[0][:600], times), shuffled[1][:600]
    weights = np.ones(600)
    weights[::3] = 0
    junk = X.copy()
    junk[::3] *= size
    kept = weights > 0
    stream(model, container(junk), y, chunk=150, weights=weights)
    want = stream(clone(model), container(X[kept]), y[kept], chunk=100)
    np.testing.assert_allclose(model.coef_, want.coef_, rtol=1e-6, atol=1e-9)  # sums


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("n_classes", [2, 3])
def test_wide_rows_are_learnt_in_their_columns_alone(
    model, n_classes, dtype, monkeypatch
):
    """As in all columns: what rows do not have is only shrunk by the penalty."""
    rng = np.random.default_rng(0)
    X = scipy.sparse.random(300, 5000, 0.004, "csr", dtype, random_state=0)
    X.data[X.indptr[50] : X.indptr[52]] = 0  # a piece of nothing
    X.eliminate_zeros()
    y = rng.integers(n_classes, size=300)
    model.set_params(alpha=0.02, batch_size=16)
    narrow, whole = clone(model), clone(model)
    for part in np.split(np.arange(300), [50, 51, 52, 200, 207, 208]):
        narrow.partial_fit(X[part], y[part], classes=np.arange(n_classes))

    def everything(rows):
        shape = len(rows.indptr) - 1, 5001
        parts = rows.data, rows.indices, rows.indptr
        return np.arange(5000), scipy.sparse.csr_matrix(parts, shape)

    monkeypatch.setattr(sklinear._base, "touched", everything)
    for part in np.split(np.arange(300), [50, 51, 52, 200, 207, 208]):
        whole.partial_fit(X[part], y[part], classes=np.arange(n_classes))
    assert narrow.coef_.dtype == dtype
    # sums in another order
    atol = 1e3 * np.finfo(dtype).eps * np.abs(whole.coef_).max()
    np.testing.assert_allclose(narrow.coef_, whole.coef_, rtol=0, atol=atol)
    np.testing.assert_allclose(narrow.intercept_, whole.intercept_, rtol=0, atol=atol)


def test_class_weights_work_in_a_stream(model, shuffled):
    X, y = shuffled
    by_class = clone(model).set_params(class_weight={3: 20.0})
    by_row = stream(clone(model), X, y, weights=np.where(y == 3, 20.0, 1.0))
    stream(by_class, X, y)
    np.testing.assert_array_equal(by_class.coef_, by_row.coef_)


def test_without_a_penalty_only_a_loss_of_0_is_silent(model):
    softmax = isinstance(model, SoftmaxClassifier)
    model.set_params(alpha=0.0)
    X = np.array([[-1.0], [1.0]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.warns(ConvergenceWarning) if softmax else nullcontext():
            model.fit(X, [0, 1])
    assert (model.loss_curve_[-1] == 0) == (not softmax)
    with pytest.warns(ConvergenceWarning, match="alpha=0"):
        model.fit(np.array([[0.0], [0.0], [1.0], [1.0]]), [0, 1, 0, 1])


# Sparse rows --------------------------------------------------------------------------


def sparse_rows(n, d, per_row=10, seed=0):
    """CSR with few nonzeros, labelled by which of columns 0, 1 and 2 they have."""
    rng = np.random.RandomState(seed)
    indices = rng.randint(3, d, (n, per_row))
    indices[:, 0] = y = rng.randint(0, 3, n)
    X = scipy.sparse.csr_matrix(
        (np.ones(n * per_row), indices.ravel(), per_row * np.arange(n + 1)), (n, d)
    )
    X.sum_duplicates()
    return X, y


@pytest.mark.parametrize("solver", ["sgd", "partial_fit", "lbfgs"])
@pytest.mark.parametrize("n_features", [5, 2000])
def test_csr_is_never_densified(model, solver, n_features, monkeypatch):
    """But by a stream, a few batches at a time, where columns are few."""
    X, y = sparse_rows(200, n_features)
    kinds = "csr_matrix", "csr_array", "csc_matrix", "csc_array"

    def part(self, original):
        if solver == "partial_fit" and self.shape[1] == 5 and self.shape[0] <= 128:
            return original(self)
        raise AssertionError("a sparse matrix was made dense")

    for kind in kinds:
        for method in ("toarray", "todense"):
            owner = getattr(scipy.sparse, kind)
            refuse = partialmethod(part, original=getattr(owner, method))
            monkeypatch.setattr(owner, method, refuse)
    model.set_params(alpha=0.01)
    if solver == "partial_fit":
        stream(model.set_params(batch_size=8), X, y, n_passes=5)
    else:
        fit_anyhow(model.set_params(solver=solver, tol=1e-2), X, y)
    assert model.score(X, y) > 0.9


@pytest.mark.slow
@pytest.mark.parametrize("solver", ["sgd", "partial_fit"])
def test_a_million_columns_take_no_dense_memory(model, solver):
    n, d, k = 300, 10**6, 3
    X, y = sparse_rows(n, d)
    tracemalloc.start()
    if solver == "partial_fit":
        stream(model.set_params(batch_size=8), X, y)
    else:
        fit_anyhow(model.set_params(max_iter=2), X, y)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # coefficients (d, k) a few times over, but never (n, d): 2.4 GB
    assert peak < 16 * (8 * d * k) < 8 * n * d / 6
    assert model.score(X, y) > 0.9


@pytest.mark.parametrize("alpha", [0.0, 1e-3])
def test_sparse_rows_may_be_of_any_size(model, alpha):
    X = scipy.sparse.random(300, 300, 0.3, format="csr", random_state=0)
    X.data = 1e80 * (X.data + 0.1)
    y = np.arange(300) % 3
    fit_anyhow(model.set_params(alpha=alpha, max_iter=20), X, y)
    assert model.score(X, y) == 1
    model.partial_fit(X, y)
    assert np.isfinite(model.coef_).all()


def test_a_sparse_step_costs_its_nonzeros(model, monkeypatch):
    n, d, per_row, batch = 64, 10**5, 10, 16
    X, y = sparse_rows(n, d, per_row)
    sizes = []

    def watch(X, W, b):
        if X.shape[0] <= batch:
            sizes.append(W.shape[0])
        return scores_of(X, W, b)

    scores_of = _sgd.scores_of
    monkeypatch.setattr(_sgd, "scores_of", watch)
    fit_anyhow(model.set_params(max_iter=1, batch_size=batch), X, y)
    assert len(sizes) == n / batch
    assert max(sizes) <= batch * per_row


@pytest.mark.parametrize("alpha", [1e-2, 1.0])
def test_the_lazy_penalty_reaches_columns_that_batches_lack(model, alpha):
    X, y = sparse_rows(500, 300)
    fit_anyhow(model.set_params(alpha=alpha), X, y)
    # without it W would keep its early noise, and |W|^2 be a multiple
    assert objective(model, X, y) < optimum(model, X, y) * 1.1


def test_a_rate_is_that_of_the_rows_that_count(model):
    rng = np.random.RandomState(0)
    X = rng.normal(size=(20_000, 20))
    y = np.argmax(X @ rng.normal(size=(20, 3)) + rng.gumbel(size=(20_000, 3)), axis=1)
    rows = rng.permutation(20_000)[:300]
    weights = np.bincount(rows, minlength=20_000)
    model.set_params(solver="sgd", random_state=0, tol=1e-3)
    alone = clone(model).fit(X[rows], y[rows])
    among = model.fit(X, y, sample_weight=weights)
    assert among.n_iter_ <= alone.n_iter_ + 10
    assert among.loss_curve_[-1] <= 1.01 * alone.loss_curve_[-1]


@pytest.mark.parametrize("fit_intercept", [True, False])
def test_curvature_is_estimated_from_rows_that_count(fit_intercept):
    # of so many rows each second is looked at: of these none counts
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(16_400, 3)), np.arange(16_400) % 2
    weights, some = (np.arange(16_400) % 2) / 8_200, slice(1, None, 2)
    activity = rng.uniform(1, 2, 16_400)
    among = measure(Data(X, y, weights, 2), 1e-3, activity, fit_intercept)
    alone = Data(X[some], y[some], weights[some], 2)
    alone = measure(alone, 1e-3, activity[some], fit_intercept)
    # the same rows, summed up alike
    for ours, theirs in zip(astuple(among), astuple(alone), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12)


def test_rows_without_weight_are_no_outliers_however_large():
    X = scipy.sparse.csr_matrix(np.diag([1.0, 2.0, 3.0, 1e100]))
    weights = np.array([0.5, 0.25, 0.25, 0.0])
    among, alone = (
        measure_wide(Data(X[:n], np.arange(n) % 2, weights[:n], 2), 0.1, np.ones(n), 1)
        for n in (4, 3)
    )
    # the square of the last one's is beyond float64
    assert among.leverage == pytest.approx(alone.leverage, rel=1e-12)


def test_assigned_coefficients_are_learnt_on(model, shuffled):
    X, y = shuffled[0][:600] / 16, shuffled[1][:600]
    fitted = clone(model).set_params(solver="lbfgs").fit(X, y)
    for name in ("coef_", "intercept_", "classes_", "n_features_in_"):
        setattr(model, name, getattr(fitted, name))
    assert model.partial_fit(X, y).score(X, y) > 0.9


def test_a_stream_has_one_dtype():
    # rows that touch few of many features are learnt by those alone
    X = scipy.sparse.random(60, 300, 0.01, format="csr", random_state=0)
    y = np.arange(60) % 3
    model = SoftmaxClassifier().fit(X, y)
    for dtype in (np.float32, np.float64):
        model.partial_fit(X.astype(dtype), y)
        assert model.coef_.dtype == model.intercept_.dtype
