"""Memory maps: the model of the same rows in memory, and little memory to fit it."""

from __future__ import annotations

import pickle
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
from conftest import RESIDENT, classifier, counts_memory
from joblib import parallel_config
from sklearn.base import clone
from sklearn.datasets import load_digits

from sklinear import (
    SoftmaxClassifier,
    SoftmaxClassifierCV,
    _checks,
    _data,
    _jobs,
    _mapped,
)
from sklinear._losses import Hinge
from sklinear._objective import Objective
from sklinear._solvers import _costs, _streaming
from sklinear._solvers._curvature import StreamedHessian
from sklinear._solvers._preconditioner import Preconditioner
from sklinear._variables import choose_variables

# sums over the same blocks, in the same order but for what an excerpt has led to: a fit
# to a gap of 1e-12 determines its objective to that, and its coefficients to the root
SAME = {"rtol": 1e-5, "atol": 1e-6}
X, y = load_digits(return_X_y=True)
X, y = X[:600], y[:600]
DTYPES = ["u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "?"]
DTYPES += ["f2", "f4", "f8", "g", ">i2", ">f4", ">f8"]
COLUMNS = ["u1", "?", "f4", "f8", ">f8"]  # of these, in Fortran order too


@pytest.fixture(autouse=True)
def _streams(monkeypatch):
    """Maps as small as here are streamed too, and parts of them are small."""
    monkeypatch.setattr(_mapped, "SMALL", 0)
    monkeypatch.setattr(_mapped, "SPAN", 2**12)
    monkeypatch.setattr(_data, "BLOCK_VALUES", 2**12)


@pytest.fixture
def mapped(tmp_path):
    """A function that maps an array from a file, read-only."""

    def of(array, mode="r"):
        path = tmp_path / f"{len([*tmp_path.iterdir()])}.npy"
        np.save(path, array)
        return np.load(path, mmap_mode=mode)

    return of


def pair(samples, mapped_samples, loss, **params):
    """Models of the same rows in memory and in a file."""
    settings = {"alpha": 1.0, "tol": 1e-10, "solver": "newton", **params}
    model = classifier(loss, **settings)
    return clone(model).fit(samples, y), clone(model).fit(mapped_samples, y)


def assert_same(want, got, samples, mapped_samples):
    """Objective, coefficients, and every method on either kind of samples."""
    assert got.loss_curve_[-1] == pytest.approx(want.loss_curve_[-1], rel=1e-10)
    assert got.dual_gap_ <= got.tol
    assert got.coef_.dtype == want.coef_.dtype
    np.testing.assert_allclose(got.coef_, want.coef_, **SAME)
    np.testing.assert_allclose(got.intercept_, want.intercept_, **SAME)
    for method in ("predict", "decision_function", "certify", "predict_proba"):
        if hasattr(got, method):
            found, expected = getattr(got, method), getattr(got, method)
            np.testing.assert_allclose(
                found(mapped_samples), expected(samples), rtol=1e-6, atol=1e-6
            )


@pytest.mark.parametrize(
    ("solver", "fit_intercept"), [("lbfgs", True), ("newton", True), ("newton", False)]
)
def test_the_model_is_that_of_the_rows_in_memory(loss, solver, fit_intercept, mapped):
    samples = X.astype(np.uint8)
    rows = mapped(samples)
    models = pair(samples, rows, loss, solver=solver, fit_intercept=fit_intercept)
    assert_same(*models, samples, rows)


@pytest.mark.parametrize(
    ("dtype", "order"),
    [(dtype, "C") for dtype in DTYPES] + [(dtype, "F") for dtype in COLUMNS],
)
def test_any_dtype_and_order_will_do(dtype, order, mapped):
    samples = np.asarray(X[:, 16:40].astype(dtype), order=order)
    rows = mapped(samples)
    # float32 rounds the coefficients that are stored
    tol = 1e-6 if dtype == "f4" else 1e-10
    models = pair(samples, rows, "softmax", tol=tol)
    assert_same(*models, samples, rows)
    np.testing.assert_array_equal(rows, samples)


VIEWS = {
    "rows": lambda X: X[100:],
    "every other row": lambda X: X[::2],
    "backwards": lambda X: X[::-1],
    "columns": lambda X: X[:, 10:30],
    "a plain array": np.asarray,
}


@pytest.mark.parametrize("mode", ["r", "r+", "c"])
@pytest.mark.parametrize("view", VIEWS)
def test_views_of_maps_are_maps(view, mode, mapped):
    rows = VIEWS[view](mapped(X.astype(np.uint8), mode))
    assert _mapped.is_mapped(rows)
    labels = np.arange(len(rows)) % 3
    got = SoftmaxClassifier(alpha=1.0).fit(rows, labels)
    want = SoftmaxClassifier(alpha=1.0).fit(np.array(rows), labels)
    assert got.loss_curve_[-1] == pytest.approx(want.loss_curve_[-1], rel=got.tol)


def test_what_was_written_to_a_map_is_seen_and_kept(mapped):
    for mode in ("r+", "c"):
        rows = mapped(np.zeros_like(X), mode)
        rows[:] = X
        models = pair(X, rows, "softmax")
        assert_same(*models, X, rows)
        np.testing.assert_array_equal(rows, X)


def test_weights_and_classes_count_as_in_memory(loss, mapped):
    rows = mapped(X)
    weights = np.arange(600.0) % 4
    model = classifier(loss, alpha=1.0, tol=1e-10, class_weight="balanced")
    want = clone(model).fit(X, y, weights)
    got = clone(model).fit(rows, y, weights)
    assert_same(want, got, X, rows)


def test_a_class_that_an_excerpt_misses_takes_part(loss, mapped):
    labels = np.where(np.arange(600) == 301, 1, 2 * (y > 4))
    rows = mapped(X)
    model = classifier(loss, alpha=1.0, tol=1e-10, solver="newton")
    got, want = clone(model).fit(rows, labels), clone(model).fit(X, labels)
    assert got.loss_curve_[-1] == pytest.approx(want.loss_curve_[-1], rel=1e-10)


def test_iterations_are_passes_whatever_excerpts_are_asked(mapped, monkeypatch, capsys):
    """What its conjugate gradients do to precondition those of all rows is none."""
    for name in ("CHEAP", "WIDEST_DENSE"):  # as of many rows and params
        monkeypatch.setattr(_costs, name, 0)
    model = SoftmaxClassifier(alpha=1e-2, tol=1e-6, solver="newton", verbose=1)
    model.fit(mapped(X), y)
    last = capsys.readouterr().out.splitlines()[-1]
    assert model.n_iter_ < float(re.search(r"([0-9.]+) passes", last)[1])


def test_an_excerpt_has_the_labels_and_weights_of_those_who_ask(mapped):
    """Folds share the rows, of which each knows other classes."""
    rows = _mapped.Mapped(mapped(X), lambda part: None)
    first = _data.Data(rows, y, np.full(600, 1 / 600), 10)
    second = _data.Data(rows, y % 3, (np.arange(600) % 2) / 300, 3)
    assert first.excerpt.n_classes == 10
    assert second.excerpt.n_classes == 3
    np.testing.assert_array_equal(first.excerpt.y % 3, second.excerpt.y)
    assert first.excerpt.X is second.excerpt.X  # read once
    assert first.tally.rows == len(first.excerpt.y)
    assert not second.tally.rows
    for data in (first, second):
        assert data.excerpt.weights.sum() == pytest.approx(1)


def test_rows_between_those_that_were_read_are_yet_to_be_checked(mapped):
    checked = []
    rows = _mapped.Mapped(mapped(X), lambda part: checked.append(len(part)))
    np.testing.assert_array_equal(rows[::2], X[::2])
    for _ in range(2):  # only the first time
        np.testing.assert_array_equal(rows[:], X)
    assert checked == [300, 600]


def test_threads_that_ask_for_other_rows_get_their_own(mapped):
    rows = _mapped.Mapped(mapped(np.repeat(X, 20, axis=0)), lambda part: None)
    runs = [[slice(a, a + 5000 + a)] for a in range(4)]
    with ThreadPoolExecutor(4) as pool:
        for found, (run,) in zip(
            pool.map(rows.gathered, 8 * runs), 8 * runs, strict=True
        ):
            np.testing.assert_array_equal(found[0], rows.array[run])


def test_an_excerpt_that_misses_the_boundary_does_not_hold_up_a_fit(
    mapped, monkeypatch
):
    """Under a weak penalty few rows bend, and hardly any of an eighth of them."""
    monkeypatch.setattr(_data, "BLOCK_VALUES", 2**20)  # quicker
    model = SoftmaxClassifier(alpha=1e-4, max_iter=200, solver="newton")
    got, want = clone(model).fit(mapped(X), y), clone(model).fit(X, y)
    assert got.dual_gap_ <= got.tol
    assert got.loss_curve_[-1] == pytest.approx(want.loss_curve_[-1], rel=got.tol)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("max_iter", [40, 42, 45, 47, 50])
def test_no_more_iterations_are_taken_than_allowed(max_iter, mapped):
    # when they are up within steps on an excerpt, those on all rows end, too
    rng = np.random.default_rng(3)
    centres, y = rng.normal(size=(7, 120)), rng.integers(7, size=3000)
    X = 40 * rng.normal(size=(3000, 120)) + 10 * centres[y] + 128
    X = mapped(X.clip(0, 255).astype(np.uint8))
    settings = {"alpha": 1e-5, "tol": 1e-9, "solver": "lbfgs"}
    model = SoftmaxClassifier(max_iter=max_iter, **settings).fit(X, y)
    assert model.n_iter_ == len(model.loss_curve_) == max_iter


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("solver", ["dual", "sgd"])
def test_the_other_solvers_take_maps_too(loss, solver, mapped):
    if solver == "dual":
        pytest.importorskip("numba")
    model = classifier(loss, solver=solver, alpha=1.0, max_iter=20, random_state=0)
    got = clone(model).fit(mapped(X), y)
    assert got.score(X, y) > 0.95


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e101])
@pytest.mark.parametrize("place", [0, 599])
def test_bad_values_are_named_as_in_memory(bad, place, mapped):
    samples = X.copy()
    samples[place, 3] = bad
    rows = mapped(samples)
    for method, args in (("fit", (y,)), ("partial_fit", (y, range(10)))):
        errors = []
        for these in (samples, rows):
            with pytest.raises(ValueError, match="X") as caught:
                getattr(SoftmaxClassifier(), method)(these, *args)
            errors.append(str(caught.value))
        assert errors[0] == errors[1]
    if bad == 1e101:
        return
    model = SoftmaxClassifier().fit(X, y)
    for method in ("predict", "predict_proba", "certify"):
        with pytest.raises(ValueError, match="Input X contains"):
            getattr(model, method)(rows)


def test_shapes_are_asked_for_as_in_memory(mapped):
    model = SoftmaxClassifier()
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        model.fit(mapped(X), y[1:])
    with pytest.raises(ValueError, match="Expected 2D array"):
        model.fit(mapped(X[:, 0]), y)
    model.fit(X, y)
    with pytest.raises(ValueError, match="features"):
        model.predict(mapped(X[:, 1:]))


@pytest.mark.filterwarnings("ignore:.*at the (weak|strong)est penalty")
def test_a_search_has_processes_map_the_file(mapped, monkeypatch):
    monkeypatch.setattr(_jobs, "STARTING", 0.0)
    search = SoftmaxClassifierCV(alphas=[1.0, 30.0, 900.0], cv=3, tol=1e-8)
    views = [X, mapped(X), mapped(X.T.copy()).T, mapped(X[::-1].copy())[::-1]]
    with parallel_config("loky", n_jobs=2):
        searches = [clone(search).fit(rows, y) for rows in views]
    want, *found = (search.cv_results_["mean_test_score"] for search in searches)
    for scores in found:
        np.testing.assert_allclose(scores, want, rtol=1e-4)  # losses, to a gap of 1e-8


LAYOUTS = {
    "transposed": lambda rows: rows.T,
    "backwards": lambda rows: rows[::-1],
    "mirrored": lambda rows: rows[:, ::-1],
    "every other": lambda rows: rows[1::2, ::3],
    "Fortran order, a part": lambda rows: rows.T[3:9],
    "as other numbers": lambda rows: rows.view(np.uint16),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_map_that_comes_along_is_the_same(layout, mapped):
    rows = LAYOUTS[layout](mapped(X))
    check = partial(_checks.check_read, name="SoftmaxClassifier")
    rebuild, (part, *rest) = _mapped.Mapped(rows, check).__reduce__()
    assert part.ndim == 1  # or joblib would map it in another order
    assert part.flags.c_contiguous
    assert part.filename == rows.filename
    again = rebuild(part, *rest)  # as where the file is mapped again
    assert isinstance(again, _mapped.Mapped)
    np.testing.assert_array_equal(again[:], rows)
    np.testing.assert_array_equal(rebuild(np.array(part), *rest), rows)  # as elsewhere


def test_bad_values_that_come_along_are_named(mapped):
    bad = mapped(np.where(X == 16, np.nan, X))
    check = partial(_checks.check_read, name="SoftmaxClassifier")
    with pytest.raises(ValueError, match="Input X contains NaN"):
        pickle.loads(pickle.dumps(_mapped.Mapped(bad, check)))


@pytest.mark.filterwarnings("ignore:.*at the (weak|strong)est penalty")
@pytest.mark.parametrize("changed", ["X", "y", "sample_weight", "csr", "frame"])
def test_a_search_sees_what_is_in_memory_only(changed, mapped, monkeypatch):
    monkeypatch.setattr(_jobs, "STARTING", 0.0)
    weights = 1.0 + np.arange(len(y)) % 3

    def ours(array):  # the file has zeros
        private = mapped(np.zeros_like(array), "c")
        private[:] = array
        return private

    given = {"X": X, "y": y, "sample_weight": weights}
    if changed == "csr":
        given["X"] = scipy.sparse.csr_matrix(X)
        given["X"].data = ours(given["X"].data)
    elif changed == "frame":
        given["y"] = pd.Series(ours(y))
    else:
        given[changed] = ours(given[changed])
    search = SoftmaxClassifierCV(
        alphas=[1.0, 30.0], cv=3, tol=1e-8, scoring="f1_macro", n_jobs=2
    )
    want = clone(search).set_params(n_jobs=1).fit(X, y, weights)
    with parallel_config("loky"):
        found = search.fit(**given)
    for key in ("mean_test_score", "std_test_score"):
        np.testing.assert_allclose(
            found.cv_results_[key], want.cv_results_[key], rtol=0, atol=1e-3
        )


def test_what_a_file_has_may_be_mapped_again(mapped):
    assert not _mapped.stays(mapped(X))
    assert not _mapped.stays(scipy.sparse.csr_matrix(X))
    assert not _mapped.stays(y)
    assert _mapped.stays(mapped(y)[::-1])
    assert _mapped.stays(mapped(X, "c"))
    assert _mapped.stays(pd.DataFrame(mapped(X), copy=False))


def test_a_small_map_is_read_once(mapped, monkeypatch):
    monkeypatch.setattr(_mapped, "SMALL", X.nbytes)
    models = pair(X, mapped(X), "softmax")
    np.testing.assert_array_equal(models[0].coef_, models[1].coef_)


def test_rows_that_come_in_pieces_may_be_mapped(loss, mapped):
    rows, models = mapped(X), [classifier(loss), classifier(loss)]
    for part in np.array_split(np.arange(600), 3):
        piece = slice(part[0], part[-1] + 1)
        models[0].partial_fit(rows[piece], y[piece], classes=range(10))
        models[1].partial_fit(X[piece], y[piece], classes=range(10))
    np.testing.assert_allclose(models[0].coef_, models[1].coef_, rtol=1e-10)


def test_of_a_hinge_only_rows_that_it_bends_at_are_copied(mapped, monkeypatch):
    check = partial(_checks.check_read, name="LinearSVMClassifier")
    weights = np.arange(len(y)) % 3 / (np.arange(len(y)) % 3).sum()
    data = _data.Data(_mapped.Mapped(mapped(X.astype("u1")), check), y, weights, 10)
    variables = choose_variables(data.excerpt, 1.0, 1.0, True)
    objective = Objective(data, Hinge(1.0, width=0.2), 1.0, True, variables)
    rng = np.random.default_rng(0)
    params, direction = rng.normal(size=(2, *objective.shape))
    at = objective.at(0.1 * params)
    preconditioner = Preconditioner(np.random.RandomState(0))
    H, _ = _streaming.bending(objective, at, preconditioner)
    assert H.objective.data.X.dtype == np.uint8
    assert 10 < H.objective.data.shape[0] < np.count_nonzero(weights) * 0.9
    whole = StreamedHessian(objective, at)
    np.testing.assert_allclose(H(direction)[0], whole(direction)[0], rtol=1e-9)
    monkeypatch.setattr(_streaming, "BENT", 10 * X.shape[1])
    assert _streaming.bending(objective, at, preconditioner) is None
    assert preconditioner.unbent == 0.2  # of rows as wide as that there are too many


# Memory -------------------------------------------------------------------------------

FIT = f"""{RESIDENT}
import sys
import numpy as np
from sklinear import SoftmaxClassifier, _data, _mapped, _predictor

# of their own they may take as much as a file as small as this
_mapped.SMALL = _data.EXCERPT = 2**20
_mapped.SPAN = _mapped.COLUMNS = 2**22
_data.BLOCK_VALUES = _predictor.BLOCK_VALUES = 2**18

X = np.load(sys.argv[1], mmap_mode="r")
y = np.load(sys.argv[2])
few = np.random.default_rng(0).normal(size=(200, 5))
SoftmaxClassifier().fit(few, np.arange(200) % 2).predict(few)
before = resident("VmRSS")
model = SoftmaxClassifier(alpha=1e5, tol=0.1, solver=sys.argv[3]).fit(X, y)
model.predict(X), model.certify(X)
print(resident("VmHWM") - before)
"""


@pytest.mark.slow
@counts_memory
@pytest.mark.parametrize(("order", "solver"), [("C", "newton"), ("F", "lbfgs")])
def test_a_fit_takes_much_less_memory_than_the_file(order, solver, tmp_path):
    n, d = 150_000, 400
    rng = np.random.default_rng(0)
    labels = rng.integers(3, size=n)
    shape = (n, d) if order == "C" else (d, n)
    with (tmp_path / "X.npy").open("wb") as file:
        header = {"descr": "|u1", "fortran_order": order == "F", "shape": (n, d)}
        np.lib.format.write_array_header_1_0(file, header)
        noise = rng.integers(200, size=shape[1] * 100, dtype=np.uint8)
        for _ in range(shape[0] // 100):
            file.write(noise)
    np.save(tmp_path / "y.npy", labels)
    done = subprocess.run(
        [sys.executable, "-c", FIT, tmp_path / "X.npy", tmp_path / "y.npy", solver],
        capture_output=True,
        text=True,
        check=True,
    )
    # MB, of a file of 57, which in float64 has 458: blocks of 2 in which three are read
    # ahead, labels and weights of 1 each, by columns two parts of 4 and what the system
    # maps around the pieces of a column
    assert float(done.stdout) < (40 if order == "C" else 55)
