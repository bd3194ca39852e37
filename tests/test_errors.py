"""What the estimators refuse, and that they say why."""

import datetime
import re
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.sparse
from conftest import SOLVERS, classifier
from sklearn import config_context
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_iris
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.linear_model import LogisticRegression

from sklinear import (
    LinearSVMClassifier,
    LinearSVMClassifierCV,
    SoftmaxClassifier,
    SoftmaxClassifierCV,
)

MODELS = [
    LinearSVMClassifier(),
    LinearSVMClassifier(loss="hinge"),
    SoftmaxClassifier(),
]
X, y = load_iris(return_X_y=True)


@pytest.fixture(params=MODELS, ids=str)
def model(request):
    return clone(request.param)


class Anything:
    """An object that is no number."""

    def __repr__(self):
        return "Anything()"


def refused(*values):
    """Pairs of a value and what the message says came."""
    return [(value, repr(value)) for value in values]


BAD_PARAMETERS = {
    "alpha": (
        r"float in the range \[0.0, inf\)",
        refused(-1.0, -1e-300, np.nan, np.inf, "1", None, [1.0], 1j, Anything()),
    ),
    "tol": (
        r"float in the range \(0.0, inf\)",
        refused(0, -1e-4, np.nan, np.inf, "1e-4", None),
    ),
    "max_iter": (
        r"int in the range \[1, inf\)",
        refused(0, -1, 1.5, 10.0, np.inf, np.nan, "100", None),
    ),
    "batch_size": (
        r"int in the range \[1, inf\)",
        refused(0, -1, 1.5, "256", "auto", None),
    ),
    "learning_rate": (
        r"'auto'.* float in the range \(0.0, inf\)",
        refused(0, 0.0, -0.1, np.nan, np.inf, "fast", "optimal", None),
    ),
    "solver": (r"\{.*'auto'.*\}", refused("liblinear", "LBFGS", "", None, 1)),
    "fit_intercept": ("bool", refused("yes", "True", None, 2.5)),
    "class_weight": (r"dict.*'balanced'.*None", refused("auto", 1.0, [1, 2, 3])),
    "warm_start": ("bool", refused("no", None)),
    "random_state": ("int.*RandomState.*None", refused("0", 1.5, -1)),
    "verbose": ("int|bool", refused("loud", -1, None)),
}
CASES = [
    pytest.param(name, value, expected, came, id=f"{name}={came}")
    for name, (expected, values) in BAD_PARAMETERS.items()
    for value, came in values
]
SVM_CASES = [
    pytest.param("loss", value, r"'hinge'.*'squared_hinge'|'squared_hinge'.*'hinge'")
    for value in ("log_loss", "Hinge", "crammer_singer", "", None, 1)
] + [
    pytest.param("delta", value, r"float in the range \(0.0, inf\)")
    for value in (0, 0.0, -1.0, np.nan, np.inf, "1", None)
]


def assert_refused(model, name, value, expected):
    """``fit`` and ``partial_fit`` name parameter, expectation and what came."""
    model.set_params(**{name: value})  # which, as __init__, stores without a look
    owner, came = type(model).__name__, re.escape(repr(value))
    message = f"(?s)'{name}' parameter of {owner} must be .*{expected}.*Got {came}"
    with pytest.raises(ValueError, match=message):
        model.fit(X, y)
    with pytest.raises(ValueError, match=message):
        model.partial_fit(X, y, classes=[0, 1, 2])
    assert not hasattr(model, "coef_")


@pytest.mark.parametrize(("name", "value", "expected", "came"), CASES)
def test_a_bad_parameter_is_named_with_what_was_expected(
    model, name, value, expected, came
):
    assert_refused(model, name, value, expected)


@pytest.mark.parametrize("name", ["alpha", "tol", "max_iter", "batch_size", "verbose"])
@pytest.mark.parametrize("bits", [63, 1300, 16000])
def test_ints_beyond_all_sense_are_named(model, name, bits):
    with pytest.raises(ValueError, match=f"^{name} must be at most 4.*, got an int of"):
        model.set_params(**{name: 2**bits}).fit(X, y)


@pytest.mark.parametrize(("name", "value", "expected"), SVM_CASES)
def test_a_bad_svm_parameter_is_named_with_what_was_expected(name, value, expected):
    assert_refused(LinearSVMClassifier(), name, value, expected)


def test_init_stores_whatever_comes():
    junk = Anything()
    for kind in (LinearSVMClassifier, SoftmaxClassifier):
        names = kind().get_params()
        model = kind(**dict.fromkeys(names, junk))
        assert all(value is junk for value in model.get_params().values())
        assert vars(model).keys() == names.keys()


def test_parameters_are_taken_on_trust_where_scikit_learn_is_told_so(model):
    model.set_params(alpha=np.array(0.1))  # is no float
    with pytest.raises(ValueError, match="alpha"):
        model.fit(X, y)
    with config_context(skip_parameter_validation=True):
        model.fit(X, y)
    assert model.dual_gap_ <= 1e-4


@pytest.mark.parametrize("value", [np.int8(100), np.uint8(200)])
def test_small_integers_are_integers(model, value):
    want = clone(model).set_params(batch_size=int(value), max_iter=int(value))
    model.set_params(batch_size=value, max_iter=value)
    for each in (model, want):
        each.partial_fit(np.tile(X, (3, 1)), np.tile(y, 3), classes=[0, 1, 2])
    np.testing.assert_array_equal(model.coef_, want.coef_)


@pytest.mark.parametrize("solver", ["lbfgs", "sgd"])
def test_bool_and_numpy_scalars_are_numbers(model, solver):
    model.set_params(
        alpha=np.float32(0.1),
        tol=np.float64(1e-2),
        max_iter=np.int64(100),
        batch_size=np.int32(64),
        learning_rate=np.float32(0.5),
        fit_intercept=np.bool_(True),
        random_state=np.int64(0),
        verbose=np.int64(0),
        solver=solver,
    )
    assert model.fit(X, y).score(X, y) > 0.7  # a guess has 1/3


@pytest.mark.parametrize("solver", [*SOLVERS, "sgd"])
def test_a_numpy_max_iter_that_is_too_small_is_warned_of(model, solver):
    model.set_params(solver=solver, max_iter=np.int64(1), tol=1e-9)
    with pytest.warns(ConvergenceWarning, match="raise max_iter"):
        model.fit(X, y)


# Data ---------------------------------------------------------------------------------


def with_value(value):
    """X with one bad entry."""
    bad = X.copy()
    bad[3, 2] = value
    return bad


BAD_DATA = {
    "NaN in X": ((with_value(np.nan), y), "Input X contains NaN"),
    "inf in X": ((with_value(np.inf), y), "Input X contains infinity"),
    "-inf in X": ((with_value(-np.inf), y), "Input X contains infinity"),
    "NaN in sparse X": (
        (scipy.sparse.csr_matrix(with_value(np.nan)), y),
        "Input X contains NaN",
    ),
    "inf in float32 X": (
        (with_value(np.inf).astype(np.float32), y),
        "Input X contains infinity",
    ),
    "complex X": ((X + 1j, y), "Complex data not supported"),
    "text in X": (([*X.astype(str).tolist()[:-1], ["a"] * 4], y), "'a'"),
    "1-d X": ((X[:, 0], y), "Expected 2D array, got 1D array"),
    "3-d X": ((X[:, :, None], y), "dim 3"),
    "X without rows": ((X[:0], y[:0]), r"Found array with 0 sample\(s\)"),
    "X without columns": ((X[:, :0], y), r"0 feature\(s\)"),
    "one row": ((X[:1], y[:1]), "at least 2 classes.* got 1 class"),
    "too few labels": ((X, y[:-1]), r"inconsistent numbers of samples: \[150, 149\]"),
    "no labels": ((X, None), "requires y to be passed, but the target y is None"),
    "NaN in y": ((X, np.where(y == 1, np.nan, y)), "Input y contains NaN"),
    "continuous y": ((X, y + 0.5 * X[:, 0]), "Unknown label type: continuous"),
    "2-d y": ((X, np.column_stack([y, y])), r"y should be a 1d array.* \(150, 2\)"),
    "one class": ((X, np.zeros(150, int)), r"at least 2 classes.*1 class: \[0\]"),
    "one name": ((X, ["a"] * 150), r"at least 2 classes.*1 class: \['a'\]"),
}


@pytest.mark.parametrize(("data", "message"), BAD_DATA.values(), ids=BAD_DATA)
@pytest.mark.parametrize("solver", ["lbfgs", "sgd"])
def test_bad_data_are_refused(model, solver, data, message):
    with pytest.raises(ValueError, match=message):
        model.set_params(solver=solver).fit(*data)
    assert not hasattr(model, "coef_")


MISSING = {
    "None": np.array(["a", "b", None] * 50, dtype=object),
    "NaN": np.array(["a", "b", np.nan] * 50, dtype=object),
    "list": ["a", "b", None] * 50,
}


def missing(kind):
    """Labels one third of which are missing."""
    if kind in MISSING:
        return MISSING[kind]
    pandas = pytest.importorskip("pandas")
    values = [0, 1, pandas.NA] if kind == "Int64" else ["a", "b", pandas.NA]
    return pandas.Series(values * 50, dtype=kind)


@pytest.mark.parametrize("kind", [*MISSING, "string", "object", "category", "Int64"])
def test_missing_labels_are_refused(model, kind):
    labels = missing(kind)
    with pytest.raises(ValueError, match="Input y contains NaN"):
        model.fit(X, labels)
    with pytest.raises(ValueError, match="Input y contains NaN"):
        model.partial_fit(X, labels, classes=["a", "b"])
    assert not hasattr(model, "coef_")


@pytest.mark.parametrize("solver", SOLVERS)
def test_rounding_is_named_where_it_keeps_a_fit_from_its_tol(solver):
    rng = np.random.default_rng(0)
    y = np.arange(50) % 2
    near = (2 * y[:, None] - 1) * rng.choice([1.0, -1], (50, 5), p=[0.7, 0.3])
    model = LinearSVMClassifier(solver=solver, alpha=1e-4)
    single = (1e6 + near).astype(np.float32)
    with pytest.warns(ConvergenceWarning, match=r"rounding .*float32.*as float64"):
        model.fit(single, y)
    assert model.dual_gap_ > 1e-4
    assert model.fit(single.astype(np.float64), y).dual_gap_ <= 1e-4


def weights(first, others=1.0):
    """Weights of all rows but for the first one."""
    return np.r_[first, np.full(149, others)]


BAD_WEIGHTS = {
    "negative": (weights(-1.0), r"sample_weight.* >= 0.*-1\.0"),
    "barely negative": (weights(-1e-300), "sample_weight.* >= 0.*-1e-300"),
    "all zero": (np.zeros(150), "(?i)sample.weight.*zero"),
    "NaN": (weights(np.nan), "sample_weight contains NaN"),
    "inf": (weights(np.inf), "sample_weight contains infinity"),
    "one NaN for all": (np.nan, "sample_weight must be finite, got nan"),
    "one inf for all": (np.inf, "sample_weight must be finite, got inf"),
    "none": ([], "(?i)found array with 0 sample"),
    "a column": (np.ones((150, 1)), "(?i)sample.weight.* 1D array"),
    "too few": (np.ones(149), r"(?i)sample_weight.*149.*150"),
    "2-d": (np.ones((150, 2)), "(?i)sample.weight.* 1D array"),
    "text": (["heavy"] * 150, "(?i)sample_weight|convert string"),
    "of one class": (1.0 * (y == 1), r"at least 2 classes with positive.*class: \[1\]"),
}


@pytest.mark.parametrize(("weight", "message"), BAD_WEIGHTS.values(), ids=BAD_WEIGHTS)
def test_bad_sample_weights_are_refused(model, weight, message):
    with pytest.raises(ValueError, match=message):
        model.fit(X, y, sample_weight=weight)
    assert not hasattr(model, "coef_")
    if "at least 2 classes" not in message:  # the others may come later
        with pytest.raises(ValueError, match=message):
            model.partial_fit(X, y, [0, 1, 2], sample_weight=weight)
        assert not hasattr(model, "coef_")


BAD_CLASS_WEIGHTS = {
    "negative": ({0: 1, 1: -1, 2: 1}, "class_weight.* >= 0.*-1"),
    "NaN": ({0: 1, 1: np.nan, 2: 1}, "class_weight.* >= 0.*nan"),
    "inf": ({0: 1, 1: np.inf, 2: 1}, "class_weight.* >= 0.*inf"),
    "all zero": ({0: 0, 1: 0, 2: 0}, "class_weight.* > 0 for some"),
    "all but one zero": ({0: 0, 1: 0, 2: 1}, r"at least 2 classes.*1 class: \[2\]"),
    "of no class": ({"a": 1, "b": 2, "c": 3}, r"name labels.*\[0, 1, 2\].*'a'"),
    "of another class": ({0: 3, 7: 2}, r"\[0, 1, 2\], or all of them.* also \[7\]"),
}


@pytest.mark.parametrize(
    ("class_weight", "message"), BAD_CLASS_WEIGHTS.values(), ids=BAD_CLASS_WEIGHTS
)
def test_bad_class_weights_are_refused(model, class_weight, message):
    with pytest.raises(ValueError, match=message):
        model.set_params(class_weight=class_weight).fit(X, y)
    assert not hasattr(model, "coef_")


def test_class_weight_may_leave_labels_out_or_name_more_than_all(model):
    one = clone(model).set_params(class_weight={0: 3}).fit(X, y).coef_
    more = clone(model).set_params(class_weight={0: 3, 1: 1, 2: 1, 7: 2}).fit(X, y)
    np.testing.assert_array_equal(more.coef_, one)


def test_a_class_of_no_weight_is_no_class(model):
    two = clone(model).fit(X[y > 0], y[y > 0])
    by_row = clone(model).fit(X, y, sample_weight=1.0 * (y > 0))
    by_class = model.set_params(class_weight={0: 0, 1: 1, 2: 1}).fit(X, y)
    for other in by_row, by_class:
        assert other.classes_.tolist() == [1, 2]
        # one problem, polished to rounding
        np.testing.assert_allclose(other.coef_, two.coef_, rtol=1e-6)


# Prediction ---------------------------------------------------------------------------

METHODS = ["decision_function", "predict", "predict_proba", "predict_log_proba"]


@pytest.mark.parametrize("method", METHODS)
def test_prediction_needs_a_fit_and_its_number_of_features(model, method):
    if not hasattr(model, method):
        assert "proba" in method
        assert isinstance(model, LinearSVMClassifier)
        return
    with pytest.raises(NotFittedError, match=f"{type(model).__name__} instance"):
        getattr(model, method)(X)
    predict = getattr(model.fit(X, y), method)
    for bad in (X[:, :3], np.hstack([X, X]), scipy.sparse.csr_matrix(X[:, :3])):
        name = type(model).__name__
        message = f"X has {bad.shape[1]} features, but {name} is expecting 4"
        with pytest.raises(ValueError, match=message):
            predict(bad)
    with pytest.raises(ValueError, match="contains NaN"):
        predict(with_value(np.nan))
    with pytest.raises(ValueError, match="Expected 2D array"):
        predict(X[0])
    with pytest.raises(ValueError, match="0 sample"):
        predict(X[:0])


# partial_fit --------------------------------------------------------------------------


@pytest.mark.parametrize("labels", [[1, 2], [datetime.date.min, datetime.date.max]])
def test_a_stream_takes_no_labels_that_a_fit_refuses(labels):
    y = np.array(labels * 30, dtype=object)
    for learn in (SoftmaxClassifier().fit, SoftmaxClassifier().partial_fit):
        given = {} if learn.__name__ == "fit" else {"classes": np.unique(y)}
        with pytest.raises(ValueError, match="Unknown label type: unknown"):
            learn(np.ones((60, 2)), y, **given)


def test_the_first_partial_fit_needs_all_classes(model):
    with pytest.raises(ValueError, match=r"classes must be .*first call.*got None"):
        model.partial_fit(X, y)
    with pytest.raises(ValueError, match=r"classes must .*at least 2.*1 class: \[7\]"):
        model.partial_fit(X, y, classes=[7])
    with pytest.raises(ValueError, match=r"y must .*\[0 1\], got \[2\]"):
        model.partial_fit(X, y, classes=[0, 1])
    with pytest.raises(ValueError, match="Input classes contains NaN"):
        model.partial_fit(X, y, classes=[0, 1, 2, None])
    with pytest.raises(ValueError, match="Input classes contains NaN"):
        model.partial_fit(X, y, classes=[0, 1, 2, np.nan])
    with pytest.raises(ValueError, match=r"classes must be .*\(n_classes,\), got \[\["):
        model.partial_fit(X, y, classes=[[0, 1, 2]])
    with pytest.raises(ValueError, match="classes must be whole numbers or names"):
        model.partial_fit(X, y, classes=[0, 1, 2, np.inf])
    with pytest.raises(ValueError, match="classes must be whole numbers or names"):
        model.partial_fit(X, y, classes=[0, 0.5, 1, 2])
    with pytest.raises(ValueError, match=r"sample_weight.*149.*150"):
        model.partial_fit(X, y, [0, 1, 2], np.ones(149))
    assert not hasattr(model, "coef_")
    assert not hasattr(model, "classes_")


def test_a_refused_first_partial_fit_leaves_no_trace(model):
    for bad in ((X, y, [0, 1]), (X, y, [0, 1, 2], np.zeros(150))):
        with pytest.raises(ValueError, match=r"(?i)classes|sample.weight"):
            model.partial_fit(*bad)
    model.partial_fit(X, y, classes=[0, 1, 2, 3])
    assert model.classes_.tolist() == [0, 1, 2, 3]


def test_later_calls_of_partial_fit_keep_classes_and_features(model):
    model.partial_fit(X, y, classes=[0, 1, 2])
    coef = model.coef_.copy()
    with pytest.raises(ValueError, match=r"\[0 1 2\], got \[9\]"):
        model.partial_fit(X[:2], [0, 9])
    with pytest.raises(ValueError, match=r"classes must .*\[0 1 2\], got \[0 1 9\]"):
        model.partial_fit(X[:2], y[:2], classes=[0, 1, 9])
    with pytest.raises(ValueError, match=r"X has 3 features, but .* expecting 4"):
        model.partial_fit(X[:, :3], y)
    with pytest.raises(ValueError, match="Input X contains NaN"):
        model.partial_fit(with_value(np.nan), y)
    with pytest.raises(
        ValueError, match=r"y must hold classes .*got \[0\.5 1\.5 2\.5\]"
    ):
        model.partial_fit(X, y + 0.5)
    with pytest.raises(ValueError, match=r"sample_weight.* >= 0"):
        model.partial_fit(X, y, sample_weight=weights(-1))
    np.testing.assert_array_equal(model.coef_, coef)


def test_partial_fit_cannot_balance_classes_it_has_not_seen(model):
    model.set_params(class_weight="balanced")
    with pytest.raises(ValueError, match=r"class_weight='balanced'.*expects .*dict"):
        model.partial_fit(X, y, classes=[0, 1, 2])
    with pytest.raises(ValueError, match=r"class_weight.* >= 0"):
        model.set_params(class_weight={0: -1}).partial_fit(X, y, classes=[0, 1, 2])


# warm_start ---------------------------------------------------------------------------


@pytest.mark.parametrize("solver", ["lbfgs", "sgd"])
def test_warm_start_needs_the_classes_and_features_of_before(model, solver):
    model.set_params(warm_start=True, solver=solver, random_state=0).fit(X, y)
    with pytest.raises(ValueError, match=r"warm_start.* \[0 1 2\], got \[0 1\]"):
        model.fit(X[:100], y[:100])
    with pytest.raises(ValueError, match=r"warm_start.* 4 features.* got 3"):
        model.fit(X[:, :3], y)
    model.coef_[0, 0] = np.nan
    with pytest.raises(ValueError, match=r"coef_ and .* must be finite.*warm_start"):
        model.fit(X, y)


def test_more_iterations_are_advised_only_where_all_were_taken(model):
    model.fit(X, y)
    end = SimpleNamespace(gap=1.0, unit="iterations")
    with pytest.warns(
        ConvergenceWarning, match="; centre or scale X, or raise tol or alpha"
    ):
        model._warn(end)
    rounded, model.solver_ = SimpleNamespace(gap=0.0, unit="epochs"), "dual"
    with pytest.warns(ConvergenceWarning, match="; try solver='lbfgs', centre or"):
        model._warn(rounded)
    model.set_params(max_iter=model.n_iter_)
    with pytest.warns(ConvergenceWarning, match="; raise max_iter, tol or alpha"):
        model._warn(end)


# alpha=0 ------------------------------------------------------------------------------


def test_without_penalty_separable_data_warn_of_infinity():
    separable = X[:100], y[:100]
    message = "SoftmaxClassifier .*alpha=0.*infinity.*alpha > 0"
    with pytest.warns(ConvergenceWarning, match=message):
        model = SoftmaxClassifier(alpha=0).fit(*separable)
    assert np.isfinite(model.coef_).all()
    assert model.score(*separable) == 1


@pytest.mark.parametrize("loss", ["hinge", "squared_hinge"])
def test_without_penalty_the_svm_separates_or_warns(loss):
    separable = X[:100], y[:100]
    model = LinearSVMClassifier(loss=loss, alpha=0)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(*separable)
    assert np.isfinite(model.coef_).all()
    assert model.score(*separable) == 1
    if model.loss_curve_[-1] == 0:
        assert not caught
        assert model.dual_gap_ == 0
    else:
        assert [w.category for w in caught] == [ConvergenceWarning]
        assert re.search("alpha=0.*infinity", str(caught[0].message))


@pytest.mark.parametrize("loss", ["hinge", "squared_hinge"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("delta", [1.0, 1000.0])
def test_without_penalty_the_stored_coefficients_separate_where_a_proof_says_so(
    loss, dtype, delta
):
    proven = 0
    for seed in range(10):
        rng = np.random.default_rng(seed)
        labels = np.arange(15) % 2
        X = (rng.normal(size=(15, 2)) + 6 * labels[:, None]).astype(dtype)
        model = LinearSVMClassifier(loss=loss, alpha=0, solver="newton", delta=delta)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(X, labels)
        scores = X.astype(np.longdouble) @ model.coef_[0].astype(np.longdouble)
        scores += np.longdouble(model.intercept_[0])
        assert model.dual_gap_ in (0, 1)
        if model.dual_gap_ == 0:
            assert (np.where(labels, scores, -scores) >= delta).all()
        proven += model.dual_gap_ == 0
    assert proven >= 5  # nearly all of these data are separable


def test_without_penalty_inseparable_data_have_an_optimum():
    X, y = load_breast_cancer(return_X_y=True)
    X = X[:, :4]
    with pytest.warns(ConvergenceWarning, match="alpha=0"):
        model = SoftmaxClassifier(alpha=0).fit(X, y)
    peer = LogisticRegression(C=1e12, tol=1e-10, max_iter=10**4, solver="newton-cg")
    peer.fit((X - X.mean(axis=0)) / X.std(axis=0), y)
    scores = peer.decision_function((X - X.mean(axis=0)) / X.std(axis=0))
    best = np.logaddexp(0, -np.where(y == 1, scores, -scores)).mean()
    assert model.loss_curve_[-1] == pytest.approx(best, rel=1e-4)  # the promised tol


@pytest.mark.parametrize("duplicates", [False, True])
@pytest.mark.parametrize("solver", [*SOLVERS, "sgd"])
def test_csr_in_any_order_is_read_and_not_touched(loss, solver, duplicates):
    columns = [2, 0, 2] if duplicates else [2, 0]
    count = len(columns)
    values = np.arange(1.0, 6 * count + 1)
    X = scipy.sparse.csr_matrix(
        (values, np.tile(columns, 6), np.arange(0, 6 * count + 1, count)), (6, 3)
    )
    parts = X.data, X.indices, X.indptr
    before = [part.copy() for part in parts]
    for part in parts:
        part.flags.writeable = False
    y = [0, 1, 2] * 2
    model = classifier(loss, solver=solver, random_state=0).fit(X, y)
    plain = clone(model).fit(scipy.sparse.csr_matrix(X.toarray()), y)
    np.testing.assert_array_equal(model.coef_, plain.coef_)
    scores = [m.decision_function(Z) for m, Z in ((model, X), (plain, X.toarray()))]
    np.testing.assert_allclose(*scores, rtol=1e-12)  # sums in another order
    if solver != "sgd":
        model.certify(X)
    for part, was in zip((X.data, X.indices, X.indptr), before, strict=True):
        np.testing.assert_array_equal(part, was)


@pytest.mark.parametrize("value", [1e-101, 5e-324, 1.7e308])
def test_numbers_whose_squares_overflow_are_told(loss, value):
    X, y = load_iris(return_X_y=True)
    with pytest.raises(ValueError, match=r"alpha must be between 1e-100 and 1e\+100"):
        classifier(loss, alpha=value).fit(X, y)
    with pytest.raises(ValueError, match=r"delta must be between 1e-100 and 1e\+100"):
        LinearSVMClassifier(delta=value).fit(X, y)
    with pytest.raises(ValueError, match=r"alphas must be .* from 1e-100 to 1e"):
        SoftmaxClassifierCV(alphas=[1.0, value]).fit(X, y)
    with pytest.raises(ValueError, match=r"deltas must be .* from 1e-100 to 1e"):
        LinearSVMClassifierCV(alphas=[1.0], deltas=[value]).fit(X, y)


@pytest.mark.parametrize("end", [1e-100, 1e100])
@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_the_ends_of_their_range_are_finite(loss, solver, end):
    X, y = load_iris(return_X_y=True)
    models = [classifier(loss, solver=solver, alpha=end, max_iter=20)]
    if loss != "softmax":
        models += [clone(models[0]).set_params(delta=d) for d in (1e-100, 1e100)]
    for model in models:
        assert np.isfinite(model.fit(X, y).coef_).all()
        assert np.isfinite(model.intercept_).all()


@pytest.mark.parametrize("search", [False, True])
def test_after_a_first_fit_that_failed_nothing_is_fitted(search):
    model = SoftmaxClassifierCV() if search else SoftmaxClassifier()
    with pytest.raises(ValueError, match="at least 2 classes"):
        model.fit(X, np.zeros(len(y)))
    for method in (model.predict, model.predict_proba, model.certify):
        with pytest.raises(NotFittedError):
            method(X)
    with pytest.raises(NotFittedError):
        model.score(X, y)


@pytest.mark.parametrize("sparse", [False, True])
def test_scores_that_overflow_are_no_answer(loss, sparse):
    rows = X.astype(np.float32)
    model = classifier(loss, alpha=1e-6).fit(rows, y)
    large = rows * np.float32(3e38 / rows.max())
    large = scipy.sparse.csr_matrix(large) if sparse else large
    with pytest.raises(ValueError, match="float32 holds, got rows whose scores"):
        model.predict(large)
    with pytest.raises(ValueError, match="scores that float64 holds"):
        model.predict(X * 2e307)
    assert np.isfinite(model.decision_function(large.astype(np.float64))).all()


def test_coefficients_of_a_user_need_not_be_finite():
    model = SoftmaxClassifier().fit(X, y)
    model.intercept_[2] = -np.inf  # a class that is left out
    assert set(model.predict(X)) == {0, 1}
    assert (model.predict_proba(X)[:, 2] == 0).all()


def test_a_search_whose_refit_is_interrupted_is_not_fitted(monkeypatch):
    def interrupted(*args):
        raise KeyboardInterrupt

    search = SoftmaxClassifierCV(alphas=[1.0, 0.1], cv=3)
    monkeypatch.setattr(SoftmaxClassifier, "fit", interrupted)
    with pytest.raises(KeyboardInterrupt):
        search.fit(X, y)
    with pytest.raises(NotFittedError):
        search.predict(X)


def test_coefficients_of_no_fit_predict():
    model = SoftmaxClassifier()
    model.coef_, model.intercept_ = np.eye(3), np.zeros(3)
    model.classes_ = np.arange(3)
    np.testing.assert_array_equal(model.predict(2 * np.eye(3)), np.arange(3))
