"""Integer samples, images above all: taken as they are, cast a block at a time."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from functools import cache

import numpy as np
import pytest
import scipy.sparse
from conftest import LOSSES, RESIDENT, SOLVERS, classifier, counts_memory
from sklearn.base import clone
from sklearn.datasets import load_digits

# the same blocks and sums, but for where a block of wide rows ends
EXACT = {"rtol": 1e-10, "atol": 1e-12}
X, y = load_digits(return_X_y=True)
X, y = X[:300], y[:300]
DTYPES = ["u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "?"]


def fitted(loss, samples, solver="lbfgs", **params):
    """A model of the digits' labels that stops after a few steps."""
    settings = {"solver": solver, "alpha": 1.0, "tol": 0.1, "random_state": 0}
    return classifier(loss, **{**settings, **params}).fit(samples, y)


@cache
def expected_of(loss, solver, binary):
    """The model of float64 digits, which all of DTYPES but one hold exactly."""
    return fitted(loss, X.astype(bool).astype(np.float64) if binary else X, solver)


@pytest.mark.parametrize("solver", [*SOLVERS, "sgd"])
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_integers_give_the_model_of_their_float64_copy(loss, solver, dtype):
    samples = X.astype(dtype)
    got = fitted(loss, samples, solver)
    want = expected_of(loss, solver, dtype == "?")
    assert got.coef_.dtype == got.intercept_.dtype == np.float64
    np.testing.assert_allclose(got.coef_, want.coef_, **EXACT)
    np.testing.assert_allclose(got.intercept_, want.intercept_, **EXACT)
    scores = want.decision_function(samples.astype(np.float64))
    np.testing.assert_allclose(got.decision_function(samples), scores, **EXACT)
    for method in ("predict", "predict_proba", "predict_log_proba"):
        if hasattr(got, method):
            found = getattr(got, method)(samples)
            expected = getattr(want, method)(samples.astype(np.float64))
            np.testing.assert_allclose(found, expected, **EXACT)


@pytest.mark.parametrize("dtype", ["u1", "i8", "?"])
def test_integers_may_come_in_pieces(loss, dtype):
    samples = X.astype(dtype)
    models = [classifier(loss), classifier(loss)]
    for rows in np.array_split(np.arange(300), 3):
        models[0].partial_fit(samples[rows], y[rows], classes=range(10))
        models[1].partial_fit(samples[rows].astype(float), y[rows], classes=range(10))
    assert models[0].coef_.dtype == np.float64
    np.testing.assert_allclose(models[0].coef_, models[1].coef_, **EXACT)


def mapped(samples, folder):
    """A read-only memory map of the samples."""
    np.save(folder / "X.npy", samples)
    return np.load(folder / "X.npy", mmap_mode="r")


LAYOUTS = {
    "memory map": mapped,
    "columns": lambda samples, _: np.asfortranarray(samples),
    "every other": lambda samples, _: np.repeat(samples, 2, axis=0)[::2],
    "backwards": lambda samples, _: samples[::-1, ::-1].copy()[::-1, ::-1],
    "csr": lambda samples, _: scipy.sparse.csr_matrix(samples),
    "list": lambda samples, _: samples.tolist(),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_integers_may_lie_in_any_way(loss, layout, tmp_path):
    samples = LAYOUTS[layout](X.astype(np.uint8), tmp_path)
    got, want = fitted(loss, samples), expected_of(loss, "lbfgs", False)
    np.testing.assert_allclose(got.coef_, want.coef_, rtol=1e-6, atol=1e-8)  # rounding
    np.testing.assert_array_equal(got.predict(samples), want.predict(X))


def test_float32_coefficients_score_small_integers_in_float32():
    model = fitted("softmax", X.astype(np.float32))
    assert model.decision_function(X.astype(np.uint8)).dtype == np.float32
    assert model.decision_function(X.astype(np.int64)).dtype == np.float64


@pytest.mark.parametrize("dtype", ["u1", "i8"])
def test_fewer_rows_than_features_are_cast_in_blocks_too(loss, dtype):
    rng = np.random.default_rng(0)
    wide = rng.integers(100, size=(40, 70)).astype(dtype)
    labels = np.arange(40) % 3
    model = classifier(loss, alpha=1.0, tol=1e-8)
    want = clone(model).fit(wide.astype(float), labels)
    got = model.fit(wide, labels)
    np.testing.assert_allclose(got.coef_, want.coef_, **EXACT)


# Memory -------------------------------------------------------------------------------


def images(n_rows, n_columns):
    """uint8 rows of ten classes, each brighter in other places."""
    rng = np.random.default_rng(0)
    labels = np.arange(n_rows) % 10
    samples = rng.integers(200, size=(n_rows, n_columns), dtype=np.uint8)
    samples += (50 * rng.random((10, n_columns))).astype(np.uint8)[labels]
    return samples, labels


def peak(function):
    """Bytes that a call allocates at most, above what there was."""
    tracemalloc.start()
    try:
        function()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize(
    ("shape", "block"),
    [((15_000, 200), 2**18), ((600, 20_000), 2**20)],
    ids=["tall", "wide"],
)
@pytest.mark.parametrize("solver", [*SOLVERS, "sgd"])
def test_a_fit_of_integers_copies_no_large_part_of_them(
    loss, solver, shape, block, monkeypatch
):
    for module in ("_data", "_predictor"):
        monkeypatch.setattr(f"sklinear.{module}.BLOCK_VALUES", block)
    monkeypatch.setattr(
        "sklinear._data.LARGE_ARRAY", np.inf
    )  # what numpy makes, counts
    samples, labels = images(*shape)
    model = classifier(loss, solver=solver, alpha=1e3, tol=0.5, random_state=0)
    model.set_params(max_iter=2 if solver == "sgd" else 1000)
    model.fit(samples[:40], labels[:40] % 2)  # compiling is not what is measured
    # of a float64 copy: blocks and coefficients, whose share is less for larger X
    assert peak(lambda: model.fit(samples, labels % 2)) < 0.5 * 8 * samples.size
    for method in ("predict", "decision_function"):
        used = peak(lambda method=method: getattr(model, method)(samples))
        assert used < 0.25 * 8 * samples.size


FIT = f"""{RESIDENT}
import sys
import numpy as np
from sklinear import SoftmaxClassifier

rng = np.random.default_rng(0)
y = np.arange(60_000) % 10
X = np.empty((len(y), 784), sys.argv[1])
for part in range(0, len(y), 1000):
    X[part : part + 1000] = rng.integers(200, size=(1000, 784))
X[np.arange(len(y)), 7 * y] += 25
few = rng.normal(size=(2000, 50))
SoftmaxClassifier(solver="newton").fit(few, np.arange(2000) % 10).predict(few)
before = resident("VmRSS")
model = SoftmaxClassifier(alpha=1.0).fit(X, y)
assert model.solver_ == "newton" and model.dual_gap_ <= model.tol
model.predict_proba(X)
print(resident("VmHWM") - before)
"""


@pytest.mark.slow
@counts_memory
@pytest.mark.parametrize("dtype", ["uint8", "float32", "float64"])
def test_memory_of_a_large_fit_is_small_beside_its_rows_in_float64(dtype):
    done = subprocess.run(
        [sys.executable, "-c", FIT, dtype], capture_output=True, text=True, check=True
    )
    assert 2**20 * float(done.stdout) < 0.25 * 8 * 60_000 * 784
