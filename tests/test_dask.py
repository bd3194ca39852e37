"""Dask arrays and data frames: the fit of the same rows in memory."""

import _thread
import gc
import os
import pickle
import signal
import threading
import time
import warnings

import dask
import dask.array as da
import dask.bag as bag
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest
import scipy.sparse
from conftest import LOSSES, PROBLEMS, Problem, classifier, full_params, objective
from distributed import Client, LocalCluster, get_client
from joblib import parallel_config
from sklearn.base import clone
from sklearn.datasets import make_classification
from sklearn.exceptions import ConvergenceWarning, NotFittedError

from sklinear import (
    LinearSVMClassifier,
    LinearSVMClassifierCV,
    SoftmaxClassifier,
    SoftmaxClassifierCV,
    _passes,
)
from sklinear._dispatch import SIZE_OF_A_WARNING
from sklinear._distributed import DistributedData
from sklinear._passes import BlockTask, Passes

SAME = 1e-8  # relative distance of objectives: both fits are polished beyond it
CHUNKS = {
    "even": (50, -1),
    "uneven": ((7, 1, 92, 50), -1),
    "cut columns": (60, 2),
    "empty": ((0, 80, 0, 70, 0), -1),
    "one": (-1, -1),
}


@pytest.fixture(autouse=True)
def synchronous():
    """Dask's simplest scheduler, where a test asks for no other."""
    with dask.config.set(scheduler="synchronous"):
        yield


def lazy(problem, chunks=(40, -1)):
    """The problem as Dask arrays; sparse rows as blocks of CSR."""
    X, y, weights = problem
    rows = chunks[0]
    if scipy.sparse.issparse(X):
        place = da.from_array(np.arange(X.shape[0]), chunks=rows)
        X = place[:, None].map_blocks(
            lambda i: problem.X[i[:, 0]],
            dtype=X.dtype,
            chunks=(place.chunks[0], (X.shape[1],)),
            meta=scipy.sparse.csr_matrix((0, X.shape[1])),
        )
    else:
        X = da.from_array(X, chunks=chunks)
    y = da.from_array(y, chunks=rows)
    return Problem(X, y, None if weights is None else da.from_array(weights, rows))


def assert_same_fit(ours, theirs, problem):
    """Objective, labels, classes and a proof that is as good."""
    assert type(ours.coef_) is np.ndarray
    assert ours.coef_.dtype == theirs.coef_.dtype
    assert ours.coef_.shape == theirs.coef_.shape
    np.testing.assert_array_equal(ours.classes_, theirs.classes_)
    assert ours.n_features_in_ == theirs.n_features_in_
    values = [objective(m, problem, *full_params(m)) for m in (ours, theirs)]
    np.testing.assert_allclose(*values, rtol=SAME)
    assert ours.dual_gap_ <= ours.tol
    np.testing.assert_array_equal(ours.predict(problem.X), theirs.predict(problem.X))
    assert (ours.certify(problem.X) == theirs.certify(problem.X)).mean() > 0.95


@pytest.mark.parametrize("chunks", CHUNKS)
def test_the_fit_is_that_of_the_rows_in_memory(loss, chunks):
    problem = PROBLEMS["iris"]  # sorted by class: no block has all of them
    model = classifier(loss).fit(*lazy(problem, CHUNKS[chunks]))
    assert model.solver_ == "lbfgs"
    assert_same_fit(model, classifier(loss).fit(*problem), problem)


@pytest.mark.parametrize("name", ["two", "wide", "weighted", "sparse"])
@pytest.mark.parametrize("solver", ["lbfgs", "newton"])
def test_two_classes_wide_weighted_and_sparse_rows(loss, name, solver):
    problem = PROBLEMS[name]
    model = classifier(loss, solver=solver, alpha=1e-2).fit(*lazy(problem, (15, -1)))
    assert_same_fit(model, classifier(loss, alpha=1e-2).fit(*problem), problem)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("class_weight", [None, "balanced", {2: 1e-50}])
@pytest.mark.parametrize(("light", "heavy"), [(5e-324, 1.0), (1e-300, 1e20)])
def test_a_class_next_to_no_weight_is_still_one(loss, class_weight, light, heavy):
    X, y, _ = PROBLEMS["iris"]
    weights = np.where(y == 2, light, heavy)
    model = classifier(loss, max_iter=20, class_weight=class_weight)
    model.fit(*lazy(Problem(X, y, weights)))
    assert model.classes_.tolist() == [0, 1, 2]
    assert 0 <= model.dual_gap_ <= 1
    assert np.isfinite(model.intercept_).all()


def test_what_is_the_same_in_all_blocks_has_no_weight(loss):
    X, y, _ = PROBLEMS["iris"]
    X = np.column_stack([X, np.full(150, 1.7e9)])
    model = classifier(loss).fit(*lazy(Problem(X, y)))
    assert not model.coef_[:, 4].any()
    X[:50, 4] += 1  # the same within blocks only
    model.set_params(alpha=1e-9, max_iter=5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        assert model.fit(*lazy(Problem(X, y))).coef_[:, 4].any()


@pytest.mark.parametrize("size", [1e307, 1e-310])
def test_weights_whose_sum_is_beyond_float64_are_taken(size):
    X, y, _ = PROBLEMS["iris"]
    weights = size * (np.arange(150) % 5)
    weights[75] = 1e-310  # of a class with others, as good as none
    for settings in ({}, {"class_weight": "balanced"}):
        model = SoftmaxClassifier(**settings)
        ours = model.fit(*lazy(Problem(X, y, weights))).coef_
        np.testing.assert_allclose(ours, model.fit(X, y, weights).coef_, rtol=1e-4)


@pytest.mark.parametrize("class_weight", ["balanced", {0: 3.0, 1: 0.0, 2: 1.0}])
def test_class_weights_and_rows_without_weight(loss, class_weight):
    X, y, _ = PROBLEMS["iris"]
    weights = np.arange(150.0) % 3
    model = classifier(loss, class_weight=class_weight)
    ours = model.fit(*lazy(Problem(X, y, weights))).coef_
    np.testing.assert_allclose(ours, model.fit(X, y, weights).coef_, rtol=1e-4)


@pytest.mark.parametrize("dtype", [np.float32, np.uint8])
def test_dtypes_are_those_of_the_rows_in_memory(loss, dtype):
    X, y, _ = PROBLEMS["iris"]
    problem = Problem((10 * X).astype(dtype), y)
    model = classifier(loss, alpha=1e-1, tol=1e-6).fit(*lazy(problem))
    theirs = classifier(loss, alpha=1e-1, tol=1e-6).fit(*problem)
    assert model.coef_.dtype == theirs.coef_.dtype
    # float32 coefficients are rounded, and both are as near as tol says
    np.testing.assert_allclose(model.coef_, theirs.coef_, rtol=1e-2, atol=1e-3)
    assert model.dual_gap_ <= 1e-6


def shifted(x):
    """The same rows a byte further on, as those that were sent from elsewhere."""
    moved = np.zeros(x.nbytes + 1, np.uint8)[1:].view(x.dtype).reshape(x.shape)
    moved[:] = x
    return moved


def test_rows_that_lie_askew_are_put_right_once(loss, monkeypatch):
    problem, seen = PROBLEMS["iris"], set()
    function = BlockTask._sums
    monkeypatch.setattr(
        BlockTask, "_sums", lambda *a: seen.add(a[1].flags.aligned) or function(*a)
    )
    X, y, _ = lazy(problem)
    model = classifier(loss).fit(X.map_blocks(shifted), y)
    assert seen == {True}
    assert_same_fit(model, classifier(loss).fit(*problem), problem)


def test_unknown_and_unlike_chunks():
    X, y, _ = PROBLEMS["iris"]
    kept = X[:, 0] > 5
    want = SoftmaxClassifier().fit(X[kept], y[kept], X[kept, 1])
    unknown = da.from_array(X, (40, 2))
    unknown = unknown[unknown[:, 0] > 5]
    labels = da.from_array(y, 30)
    labels = labels[da.from_array(kept, 30)]  # as unknown, and cut elsewhere
    for targets in (y[kept], labels, da.from_array(y[kept], 11)):
        weights = da.from_array(X[kept, 1], 17)
        model = SoftmaxClassifier().fit(unknown, targets, weights)
        assert_same_fit(model, want, Problem(X[kept], y[kept], X[kept, 1]))
    assert model.predict(unknown).compute().tolist() == want.predict(X[kept]).tolist()


@pytest.mark.parametrize("text", [True, False])
def test_data_frames_have_names_and_labels_of_text(text):
    X, y, _ = PROBLEMS["iris"]
    frame = pd.DataFrame(X, columns=["a", "b", "c", "d"]).astype({"a": np.float32})
    species = pd.Series(np.array(["setosa", "versicolor", "virginica"])[y])
    species = species if text else species.astype("category")
    want = SoftmaxClassifier().fit(frame, species)
    frames = dd.from_pandas(frame, npartitions=4)
    model = SoftmaxClassifier().fit(frames, dd.from_pandas(species, npartitions=4))
    assert model.feature_names_in_.tolist() == ["a", "b", "c", "d"]
    assert_same_fit(model, want, Problem(frame, np.asarray(species)))
    labels = model.predict(frames)
    assert isinstance(labels, da.Array)
    assert labels.compute().tolist() == want.predict(frame).tolist()
    with pytest.raises(ValueError, match="feature names"):
        model.predict(frames.rename(columns={"a": "e"}))
    assert model.score(frames, species) == want.score(frame, species)


@pytest.mark.parametrize("name", ["iris", "two"])
def test_predictions_are_lazy_and_of_the_right_kind(name):
    problem = PROBLEMS[name]
    model = SoftmaxClassifier().fit(*problem)
    touched = []
    X = lazy(problem, ((0, 30, 10, len(problem.y) - 40), 1)).X
    X = X.map_blocks(lambda x: touched.append(1) or x, dtype=X.dtype, meta=X._meta)
    methods = "predict", "decision_function", "predict_proba", "predict_log_proba"
    for method in (*methods, "certify"):
        lazily, want = getattr(model, method)(X), getattr(model, method)(problem.X)
        assert not touched
        assert isinstance(lazily, da.Array)
        assert lazily.chunks[0] == X.chunks[0]
        assert (lazily.shape, lazily.dtype) == (want.shape, want.dtype)
        assert (lazily._meta.ndim, lazily._meta.dtype) == (want.ndim, want.dtype)
        np.testing.assert_allclose(lazily.compute(), want, rtol=1e-13)
        touched.clear()
    before, scores = model.decision_function(X), model.decision_function(problem.X)
    model.set_params(alpha=1e6).fit(*problem)  # does not change what was asked before
    np.testing.assert_allclose(before.compute(), scores, rtol=1e-13)
    with pytest.raises(NotFittedError):
        SoftmaxClassifier().predict(X)


def test_warm_start_begins_where_the_last_fit_ended():
    problem = lazy(PROBLEMS["iris"])
    model = SoftmaxClassifier(warm_start=True).fit(*problem)
    first = model.n_iter_
    assert model.fit(*problem).n_iter_ < first / 2


def test_a_hinge_takes_as_few_passes_as_steps_in_memory():
    # by conjugate gradients alone 1000 passes end at a gap of 2e-4
    X, y = make_classification(2000, 90, n_informative=45, n_classes=10, random_state=0)
    model = LinearSVMClassifier(alpha=1e-5, loss="hinge").fit(X, y)
    steps, value = model.n_iter_, model.loss_curve_[-1]
    model.fit(da.from_array(X, (1000, -1)), y)
    assert model.n_iter_ < 2 * steps
    assert model.dual_gap_ <= model.tol
    np.testing.assert_allclose(model.loss_curve_[-1], value, rtol=2 * model.tol)


@pytest.mark.parametrize("solver", ["lbfgs", "newton"])
def test_without_a_penalty_a_fit_ends_where_rounding_hides_every_decrease(solver):
    X, y, _ = PROBLEMS["iris"]
    X, y = X[50:, :2], y[50:]
    model = SoftmaxClassifier(alpha=0, solver=solver)
    with pytest.warns(ConvergenceWarning, match="alpha=0"):  # there is no proof
        want = model.fit(X, y).loss_curve_[-1]
    with pytest.warns(ConvergenceWarning, match="alpha=0"):
        model.fit(da.from_array(X, (40, -1)), y)
    assert model.n_iter_ < 50
    np.testing.assert_allclose(model.loss_curve_[-1], want, rtol=1e-14)


@pytest.mark.parametrize("kind", ["arrays", "frames"])
def test_what_X_y_and_weights_share_is_made_once(kind):
    # rows in another order every time they are read, as a database may give them
    X, y, _ = PROBLEMS["iris"]
    weights = np.linspace(0.1, 1, 150)
    table = np.column_stack([X, y, weights])
    rng, reads = np.random.default_rng(0), []

    def read(first):
        reads.append(first)
        return rng.permutation(table[first : first + 50])

    if kind == "arrays":
        lie = da.from_array(np.arange(0, 150, 50), 1)
        args = {"chunks": ((50,) * 3, (6,)), "new_axis": 1, "meta": table[:0]}
        rows = lie.map_blocks(lambda i: read(int(i[0])), **args)
        parts = rows[:, :4], rows[:, 4].astype(int), rows[:, 5]
    else:
        names, meta = list("abcdyw"), pd.DataFrame(table[:0], columns=list("abcdyw"))
        rows = dd.from_map(
            lambda i: pd.DataFrame(read(i), columns=names), [0, 50, 100], meta=meta
        )
        parts = rows[list("abcd")], rows.y.astype(int), rows.w
    model = SoftmaxClassifier(tol=1e-10).fit(*parts)
    assert sorted(reads) == [0, 50, 100]
    want = SoftmaxClassifier(tol=1e-10).fit(X, y, weights)
    np.testing.assert_allclose(model.loss_curve_[-1], want.loss_curve_[-1], rtol=SAME)


# What is sent around ------------------------------------------------------------------


def test_answers_do_not_grow_with_the_rows(loss, monkeypatch):
    answers = {}
    run = Passes.run

    def spy(self, visit, n_params):
        answer, name = run(self, visit, n_params), visit.function.__name__
        answers[name] = max(len(pickle.dumps(answer)), answers.get(name, 0))
        return answer

    monkeypatch.setattr(Passes, "run", spy)
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(4000, 5)), rng.integers(3, size=4000)
    classifier(loss, alpha=1e-2).fit(da.from_array(X, (1000, 5)), y)
    d1, k = 6, 3
    assert {"evaluate"} < set(answers)
    slack = 1000  # of bytes, around the numbers
    assert answers["evaluate"] < 8 * d1 * k + slack
    assert max(answers.values()) < 8 * (d1 * k) ** 2 + slack


# Errors -------------------------------------------------------------------------------


def broken(change):
    """Iris in blocks of 40 rows, as a frame, the fourth of them changed."""
    X, y, _ = PROBLEMS["iris"]
    blocks = [dask.delayed(X[i : i + 40]) for i in range(0, 150, 40)]
    blocks[3] = dask.delayed(change)(blocks[3])
    shapes = [(40, 4), (40, 4), (40, 4), (30, 4)]
    arrays = [
        da.from_delayed(block, shape, float)
        for block, shape in zip(blocks, shapes, strict=True)
    ]
    return da.concatenate(arrays), y


class OwnError(Exception):
    """A user's error with arguments of its own."""

    def __init__(self, code, path):
        super().__init__(code, path)


def raise_own_error(x):
    raise OwnError(3, "file")


def read_nothing(x):
    raise OSError("no such bucket")


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda x: x * np.nan, ValueError, "^block 3 of X: Input X contains NaN"),
        (lambda x: x + np.inf, ValueError, "^block 3 of X: Input X contains inf"),
        (lambda x: x + 1e101, ValueError, "^block 3 of X: X must have values up to"),
        (lambda x: x[:, :3], ValueError, "^block 3 of X must have 4 features.* got 3"),
        (lambda x: np.full(x.shape, "a"), ValueError, "^block 3 of X: .*'a'"),
        (read_nothing, OSError, "^block 3 of X: no such bucket"),
    ],
)
def test_an_error_says_in_which_block_it_happened(change, error, message):
    X, y = broken(change)
    with pytest.raises(error, match=message):
        SoftmaxClassifier().fit(X, y)


def test_an_error_of_the_users_own_is_raised_as_it_is_with_a_note():
    with pytest.raises(OwnError) as caught:
        SoftmaxClassifier().fit(*broken(raise_own_error))
    assert caught.value.args == (3, "file")
    assert caught.value.__notes__ == ["block 3 of X"]


def read_corrupt(x):
    raise OSError("block 7 of the file is corrupt")


def test_an_error_that_speaks_of_blocks_gets_the_number_of_ours():
    with pytest.raises(OSError, match=r"^block 3 of X: block 7 of the file is"):
        SoftmaxClassifier().fit(*broken(read_corrupt))


def test_a_failure_that_does_not_happen_again_has_a_note():
    tries = []

    def fail_once(x):
        tries.append(x)
        if len(tries) == 1:
            raise OSError("busy")
        return x

    with pytest.raises(OSError, match="busy") as caught:
        SoftmaxClassifier().fit(*broken(fail_once))
    assert str(caught.value) == "busy"
    (note,) = caught.value.__notes__
    assert note.startswith("It happened at work on blocks of X: none of them failed")


@pytest.mark.parametrize("scheduler", ["distributed", "nonsense"])
def test_no_block_is_to_blame_where_nobody_runs_tasks(scheduler):
    X, y, _ = lazy(PROBLEMS["iris"])
    with (
        dask.config.set(scheduler=scheduler),
        pytest.raises((ValueError, RuntimeError), match=r"xpected|equested") as caught,
    ):
        SoftmaxClassifier().fit(X, y)
    assert "block" not in str(caught.value)
    assert not hasattr(caught.value, "__notes__")


@pytest.mark.parametrize("scheduler", ["synchronous", "threads"])
def test_the_search_for_a_block_makes_all_of_them_in_one_go(scheduler, monkeypatch):
    X, y = broken(read_nothing)
    computed, compute = [], dask.compute
    monkeypatch.setattr(
        dask, "compute", lambda *a, **k: computed.append(len(a)) or compute(*a, **k)
    )
    with (
        dask.config.set(scheduler=scheduler),
        pytest.raises(OSError, match=r"^block 3 of X: no such bucket"),
    ):
        SoftmaxClassifier().fit(X, y)
    assert computed == [4]


def test_of_blocks_that_fail_the_one_whose_error_it_is_is_named():
    X, y, _ = PROBLEMS["iris"]
    blocks = [dask.delayed(read_a_part)(i) for i in range(3)]
    X = da.concatenate([da.from_delayed(each, (50, 4), float) for each in blocks])
    for scheduler in ("synchronous", "threads"):
        with (
            dask.config.set(scheduler=scheduler),
            pytest.raises(OSError, match=r"^block (\d) of X: no part \1$"),
        ):
            SoftmaxClassifier().fit(X, y)


def read_a_part(i):
    if i:
        raise OSError(f"no part {i}")
    return PROBLEMS["iris"].X[:50]


def test_a_block_that_fails_in_the_middle_of_a_fit_is_named(monkeypatch):
    X, y, _ = lazy(PROBLEMS["iris"], ((0, 150), -1))

    def fail(scores, y):
        raise MemoryError("no room")

    monkeypatch.setattr(
        "sklinear._losses.CrossEntropy.conjugate", lambda *a: fail(*a[1:])
    )
    with pytest.raises(MemoryError, match=r"^block 1 of X: no room"):
        SoftmaxClassifier().fit(X, y)


def cut_one(block, block_info=None):
    """The block, but for the second, of which Dask is not told what is left."""
    return block[:9] if block_info[0]["chunk-location"][0] == 1 else block


@pytest.mark.parametrize("name", ["y", "sample_weight"])
def test_blocks_that_are_shorter_than_dask_is_told_are_named(name):
    X, y, _ = lazy(PROBLEMS["iris"], chunks=(50, -1))
    arrays = {"y": y, "sample_weight": da.ones(150, chunks=50)}
    model = SoftmaxClassifier().fit(X, **arrays)
    arrays[name] = arrays[name].map_blocks(cut_one, dtype=arrays[name].dtype)
    message = f"^block 1 of {name}: must have 50 rows, as that of X has, got 9"
    for method in (model.score, model.fit):
        with pytest.raises(ValueError, match=message) as caught:
            method(X, **arrays)
        assert not hasattr(caught.value, "__notes__")  # that none of them failed


def test_blocks_that_are_narrower_than_dask_is_told_are_refused():
    X, y, _ = lazy(PROBLEMS["iris"])
    with pytest.raises(ValueError, match=r"^block 0 of X must have 4 features.* got 3"):
        SoftmaxClassifier().fit(X.map_blocks(lambda x: x[:, :3], dtype=float), y)


@pytest.mark.filterwarnings("ignore:The inplace keyword")  # within Dask
def test_columns_of_files_are_fitted(tmp_path):
    # Dask reads several files at once where few of their columns are wanted, and says
    # so nowhere; how many depends on the columns
    X, y, _ = PROBLEMS["iris"]
    names, weights = list("abcd"), np.arange(150) % 3 + 1.0
    frame = pd.DataFrame(X, columns=names).assign(y=y, w=weights, more=0.0)
    dd.from_pandas(frame, npartitions=5).to_parquet(tmp_path)
    lie = dd.read_parquet(tmp_path)
    want = SoftmaxClassifier().fit(X, y, weights)
    some = dd.from_pandas(frame, npartitions=3)["w"]
    for columns in (lie["w"], some):
        model = SoftmaxClassifier().fit(lie[names], lie["y"], columns)
        np.testing.assert_allclose(model.coef_, want.coef_, atol=1e-4)
        score = model.score(lie[names], lie["y"], columns)
        assert score == pytest.approx(want.score(X, y, weights), rel=1e-12)
    model = SoftmaxClassifier().fit(lie[lie.w > 1][names], lie[lie.w > 1]["y"])
    want = SoftmaxClassifier().fit(X[weights > 1], y[weights > 1])
    np.testing.assert_allclose(model.coef_, want.coef_, atol=1e-4)


def test_the_last_blocks_may_be_empty():
    X, y, _ = PROBLEMS["iris"]
    rows = da.from_array(X, chunks=((0, 150, 0, 0), 4))
    labels, weights = da.from_array(y, chunks=50), da.ones(150, chunks=((150, 0),))
    model = SoftmaxClassifier().fit(rows, labels, weights)
    want = SoftmaxClassifier().fit(X, y)
    assert model.score(rows, labels, weights) == want.score(X, y)


def test_labels_and_weights_are_checked_block_by_block():
    X, y, _ = lazy(PROBLEMS["iris"])
    model = SoftmaxClassifier()
    weights = np.ones(150)
    weights[50] = -1
    with pytest.raises(ValueError, match=r"block 1 of sample_weight: .* must be >= 0"):
        model.fit(X, y, weights)
    with pytest.raises(ValueError, match="must be > 0 for some row"):
        model.fit(X, y, np.zeros(150))
    with pytest.raises(ValueError, match="X and y must have as many rows, got 150 and"):
        model.fit(X, y[:-1])
    with pytest.raises(ValueError, match=r"block \d of y: .*continuous"):
        model.fit(X, y + 0.5)
    with pytest.raises(ValueError, match=r"block \d of y: Input y contains NaN"):
        model.fit(X, y * np.nan)
    with pytest.raises(ValueError, match=r"at least 2 classes .* got 1 class"):
        model.fit(X, 0 * y)
    with pytest.raises(ValueError, match="two dimensions"):
        model.fit(X[:, 0], y)
    with pytest.raises(ValueError, match=r"0 sample\(s\)"):
        model.fit(X[:0], y[:0])
    with pytest.raises(ValueError, match="features"):
        model.fit(X, y).predict(X[:, :3])


WEIGHTS = r"block \d of sample_weight: "
SHAPE = "sample_weight should be a 1d array"


@pytest.mark.parametrize("lazily", [True, False])
@pytest.mark.parametrize(
    ("y", "weights", "message"),
    [
        (None, np.full(150, np.nan), WEIGHTS + "Input sample_weight contains NaN"),
        (None, np.full(150, np.inf), WEIGHTS + "Input sample_weight contains inf"),
        (None, np.full(150, "a"), WEIGHTS + "could not convert string"),
        (None, np.zeros(150), "sample_weight must not add up to 0"),
        (None, np.ones((150, 2)), SHAPE),
        (None, "a", SHAPE),
        (np.full(150, np.nan), None, r"block \d of y: Input y contains NaN"),
        (np.full(150, "a"), None, r"block \d of y: y must hold labels like .* got <U1"),
        (np.full(150, 0.5), None, r"block \d of y: Unknown label type: continuous"),
        (np.ones((150, 2)), None, "y should be a 1d array"),
    ],
)
def test_scores_are_of_valid_labels_and_weights(y, weights, message, lazily):
    rows = lazy(PROBLEMS["iris"])
    model = SoftmaxClassifier().fit(*rows)
    y = PROBLEMS["iris"].y if y is None else y
    if lazily:
        y, weights = (
            da.from_array(each, (30, *each.shape[1:]))  # cut elsewhere than X is
            if isinstance(each, np.ndarray)
            else each
            for each in (y, weights)
        )
    with pytest.raises(ValueError, match=message):
        model.score(rows.X, y, weights)


@pytest.mark.parametrize("dtype", [object, "U1", bool])
def test_labels_are_text_in_all_blocks_or_in_none(dtype):
    X, y, _ = PROBLEMS["iris"]
    y = y == 0 if dtype is bool else y
    text = y.astype(str).astype(object if dtype is object else str)
    blocks = [
        da.from_delayed(dask.delayed(part), part.shape, dtype=object)
        for part in (y[:50], text[50:])
    ]
    message = (
        "text or numbers in all blocks, got text in block 1 and numbers in block 0"
    )
    rows = da.from_array(X, chunks=((50, 100), 4))
    for weights in (None, np.arange(150) < 50):  # 0 for all of the text
        with pytest.raises(ValueError, match=message):
            SoftmaxClassifier().fit(rows, da.concatenate(blocks), weights)


def test_weights_of_a_wrong_shape_are_called_by_their_name():
    X, y, _ = lazy(PROBLEMS["iris"])
    arrays = (da.ones((150, columns), chunks=(40, columns)) for columns in (1, 2))
    for weights in ("a", np.ones((150, 2)), np.ones((150, 1)), *arrays):
        with pytest.raises(ValueError, match="sample_weight should be a 1d array"):
            SoftmaxClassifier().fit(X, y, weights)
    with pytest.raises(ValueError, match="y must be given"):
        SoftmaxClassifier().fit(X, y).score(X, None)


@pytest.mark.parametrize("chunks", [40, 25])  # as X is cut, or otherwise
def test_errors_name_the_blocks_that_the_user_has(chunks):
    X, y, _ = lazy(PROBLEMS["iris"])
    assert X.chunks[0][0] == 40
    model, last = SoftmaxClassifier().fit(X, y), -(-150 // chunks) - 1
    labels, weights = np.array(y, dtype=float), np.ones(150)
    labels[-1] = weights[-1] = np.nan
    labels, weights = (da.from_array(each, chunks) for each in (labels, weights))
    for method in (model.score, clone(model).fit):
        with pytest.raises(ValueError, match=f"block {last} of y: .*NaN"):
            method(X, labels)
        with pytest.raises(ValueError, match=f"block {last} of sample_weight: .*NaN"):
            method(X, y, weights)
        for two in (da.stack([labels, labels], axis=1), dd.from_array(X[:, :2])):
            with pytest.raises(
                ValueError, match=r"^y should be .*\(150, 2\)"
            ) as raised:
                method(X, two)
            assert not hasattr(raised.value, "__notes__")


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA])
@pytest.mark.parametrize("dtype", ["object", "string", "category"])
def test_missing_labels_among_text_are_named(missing, dtype):
    X = lazy(PROBLEMS["iris"]).X
    species = pd.Series(np.array(["a", "b", "c"])[PROBLEMS["iris"].y])
    model = SoftmaxClassifier().fit(X, species)
    species[60] = missing
    species = dd.from_pandas(species.astype(dtype), npartitions=4)
    for method in (model.score, clone(model).fit):
        with pytest.raises(ValueError, match="block 1 of y: Input y contains NaN"):
            method(X, species)


def test_what_has_no_blocks_of_rows_is_no_collection_to_fit():
    X, y, _ = lazy(PROBLEMS["iris"])
    for given in (dask.delayed(np.ones)((3, 3)), bag.from_sequence([[1, 2], [3, 4]])):
        kind = type(given).__name__
        with pytest.raises(TypeError, match=f"X must be a Dask array .* got {kind}"):
            SoftmaxClassifier().fit(given, y)
        with pytest.raises(TypeError, match=f"y must be a Dask array .* got {kind}"):
            SoftmaxClassifier().fit(X, given)


def test_solvers_that_need_all_rows_in_one_place_say_so():
    X, y, _ = lazy(PROBLEMS["iris"])
    for solver in ("sgd", "dual"):
        with pytest.raises(ValueError, match=f"for Dask collections, got '{solver}'"):
            SoftmaxClassifier(solver=solver).fit(X, y)
    with pytest.raises(ValueError, match="partial_fit needs rows in memory"):
        SoftmaxClassifier().partial_fit(X, y, classes=[0, 1, 2])


def test_threads(loss):
    problem = PROBLEMS["wine"]
    with dask.config.set(scheduler="threads", num_workers=2):
        model = classifier(loss, alpha=1e-2).fit(*lazy(problem, (20, -1)))
    assert_same_fit(model, classifier(loss, alpha=1e-2).fit(*problem), problem)


def where_it_is_made(x):
    """Rows with the number of the process that made them as a fifth feature."""
    return np.column_stack([x, np.full(len(x), float(os.getpid()))])


def test_processes():
    X, y, _ = PROBLEMS["iris"]
    want = SoftmaxClassifier().fit(X, y)
    rows = lazy(PROBLEMS["iris"], (80, -1)).X.map_blocks(
        where_it_is_made, dtype=float, chunks=((80, 70), 5)
    )
    # processes take long to begin: two sets of them, for the rows and for what is asked
    with dask.config.set(scheduler="processes", num_workers=1):
        model = SoftmaxClassifier().fit(rows, y)
        methods = "predict", "predict_proba", "decision_function", "certify"
        answers = dask.compute(rows, *(getattr(model, each)(rows) for each in methods))
    assert not (answers[0][:, 4] == os.getpid()).any()
    assert model.dual_gap_ <= 1e-4
    assert_same_fit(model, want.fit(answers[0], y), Problem(answers[0], y))
    for each, answer in zip(methods, answers[1:], strict=True):
        np.testing.assert_allclose(answer, getattr(model, each)(answers[0]), rtol=1e-12)


# A cluster of two processes -----------------------------------------------------------


@pytest.fixture(scope="module")
def client():
    """Of two worker processes of one thread each."""
    with (
        dask.config.set({"distributed.logging.distributed": "critical"}),
        LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=":0"
        ) as workers,
        Client(workers, set_as_default=False) as client,
    ):
        yield client


@pytest.fixture
def on_cluster(client):
    """The cluster is what Dask computes with."""
    with dask.config.set(scheduler=None), client.as_current():
        yield client


def remembered(client):
    """How many tasks the scheduler knows."""
    return client.run_on_scheduler(lambda dask_scheduler: len(dask_scheduler.tasks))


def wait_until(condition):
    """Or fail."""
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


# of the test's own scope: the shared fixture's would part it from its neighbours, each
# time with another cluster to start
@pytest.mark.parametrize("loss", LOSSES)
def test_a_cluster_fits_as_one_process_does(loss, on_cluster):
    problem = PROBLEMS["weighted"]
    model = classifier(loss, alpha=1e-1).fit(*lazy(problem, (20, -1)))
    assert_same_fit(model, classifier(loss, alpha=1e-1).fit(*problem), problem)
    wait_until(lambda: remembered(on_cluster) == 0)  # nothing is left behind


def fit_in_a_task():
    """A gap that a worker proves, asking its own cluster."""
    X, y, _ = lazy(PROBLEMS["iris"])
    with get_client().as_current():
        return SoftmaxClassifier(alpha=1.0, tol=1e-2).fit(X, y).dual_gap_


def test_fits_within_tasks_do_not_wait_for_each_other(on_cluster):
    tasks = [on_cluster.submit(fit_in_a_task, pure=False) for _ in range(3)]
    assert max(task.result(timeout=60) for task in tasks) <= 1e-2


def test_params_may_be_large(on_cluster):
    rng = np.random.default_rng(0)
    X = scipy.sparse.random(60, 2000, 1e-2, format="csr", random_state=rng)
    problem = Problem(X, rng.integers(3, size=60))
    with pytest.MonkeyPatch.context() as patch:
        # 16 bytes in place of 4 MB: params are a task of their own
        patch.setattr(_passes, "EMBEDDED", 16)
        with dask.config.set({SIZE_OF_A_WARNING: "20 kB"}):  # would be an error
            model = SoftmaxClassifier(alpha=1e-2).fit(*lazy(problem, (20, -1)))
    assert_same_fit(model, SoftmaxClassifier(alpha=1e-2).fit(*problem), problem)


def test_a_cluster_names_the_block_that_fails(on_cluster):
    with pytest.raises(OSError, match="block 3 of X: no such bucket"):
        SoftmaxClassifier().fit(*broken(read_nothing))
    with pytest.raises(ValueError, match="block 3 of X: Input X contains NaN"):
        SoftmaxClassifier().fit(*broken(lambda x: x * np.nan))


def fail_at(number):
    """A function of blocks (n,) that fails at one of them."""

    def read(x, block_id=None):
        return read_nothing(x) if block_id == (number,) else x

    return read


@pytest.mark.parametrize("name", ["y", "sample_weight"])
@pytest.mark.parametrize("rows", [40, 20])
def test_a_cluster_names_the_block_of_labels_or_weights_that_fails(
    name, rows, on_cluster
):
    X, y, _ = PROBLEMS["iris"]
    given = {"y": y, "sample_weight": np.ones(150)}
    lazily = da.from_array(given[name], rows)  # cut as X is, or elsewhere
    given[name] = lazily.map_blocks(fail_at(2), dtype=lazily.dtype)
    model = SoftmaxClassifier().fit(X, y)
    for method in (model.score, clone(model).fit):
        with pytest.raises(OSError, match=f"^block 2 of {name}: no such bucket"):
            method(da.from_array(X, (40, -1)), **given)


def test_no_block_is_to_blame_for_a_cluster_that_is_closed(monkeypatch):
    X, y, _ = lazy(PROBLEMS["iris"])
    with (
        dask.config.set({"scheduler": None}),
        LocalCluster(processes=False, n_workers=1, dashboard_address=":0") as workers,
        Client(workers),
    ):
        in_the_middle(monkeypatch, workers.close)
        with pytest.raises(Exception, match=r"Missing|cancelled|closed") as caught:
            SoftmaxClassifier().fit(X, y)
    assert "block" not in str(caught.value)
    assert not hasattr(caught.value, "__notes__")


def in_the_middle(monkeypatch, act, passes=10):
    """Do something once, after so many passes over the data."""
    total, done = DistributedData.total, []

    def counted(self, visit, *args):
        done.append(visit)
        if len(done) == passes:
            act()
        return total(self, visit, *args)

    monkeypatch.setattr(DistributedData, "total", counted)
    return done


def test_a_worker_that_is_killed_does_not_change_the_result(on_cluster, monkeypatch):
    X, y, _ = lazy(PROBLEMS["iris"], (20, -1))
    X, y = dask.persist(X, y)
    want = SoftmaxClassifier().fit(X, y)
    victim = next(iter(on_cluster.run(os.getpid).values()))
    done = in_the_middle(monkeypatch, lambda: os.kill(victim, signal.SIGKILL))
    model = SoftmaxClassifier().fit(X, y)
    assert len(done) > 10
    np.testing.assert_array_equal(model.coef_, want.coef_)
    assert model.dual_gap_ == want.dual_gap_
    wait_until(lambda: len(on_cluster.nthreads()) == 2)  # there is a new one
    assert victim not in on_cluster.run(os.getpid).values()


def test_an_interrupted_fit_leaves_the_cluster_usable(on_cluster, monkeypatch):
    problem = lazy(PROBLEMS["iris"], (20, -1))
    soon = threading.Timer(0.02, _thread.interrupt_main)
    in_the_middle(monkeypatch, soon.start)
    with pytest.raises(KeyboardInterrupt):
        SoftmaxClassifier(tol=1e-30, max_iter=2000).fit(*problem)
    monkeypatch.undo()
    gc.collect()  # the interrupted frames and their tracebacks hold each other
    wait_until(lambda: remembered(on_cluster) == 0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert SoftmaxClassifier().fit(*problem).dual_gap_ <= 1e-4


@pytest.mark.parametrize("search", [LinearSVMClassifierCV, SoftmaxClassifierCV])
def test_joblib_on_a_cluster_drives_a_search(search, on_cluster):
    X, y, _ = PROBLEMS["iris"]
    X = np.repeat(X, 20, axis=1)  # 0.1 MB
    alone = search(alphas=[1e-1, 1.0, 10.0], cv=3, tol=1e-10)
    shared = clone(alone).set_params(n_jobs=2)
    with warnings.catch_warnings(record=True) as caught:  # an error would be lost
        warnings.simplefilter("always")
        alone.fit(X, y)
        with parallel_config("dask"), dask.config.set({SIZE_OF_A_WARNING: "50 kB"}):
            shared.fit(X, y)
    # the rows go to the workers once, not with every task
    assert not [each for each in caught if "large graph" in str(each.message)]
    assert shared.best_params_ == alone.best_params_
    # log losses of the same optima, reached by other ways
    np.testing.assert_allclose(
        shared.cv_results_["mean_test_score"],
        alone.cv_results_["mean_test_score"],
        rtol=0,
        atol=1e-7 if search is SoftmaxClassifierCV else 0,
    )
    np.testing.assert_array_equal(shared.coef_, alone.coef_)


def test_labels_of_both_kinds_in_one_block_of_the_rows_are_refused():
    X = lazy(PROBLEMS["iris"]).X
    parts = [
        np.arange(25) % 2,
        *np.array(["a", "b"])[np.arange(125) % 2].reshape(5, 25),
    ]
    blocks = dict(enumerate(parts))
    graph = {("y", i): block for i, block in blocks.items()}
    y = da.Array(graph, "y", chunks=((25,) * 6,), dtype=object)
    with pytest.raises(ValueError, match="y must hold text or numbers in all blocks"):
        SoftmaxClassifier().fit(X, y)
