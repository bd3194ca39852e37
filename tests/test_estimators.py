"""The estimators as scikit-learn users meet them."""

import copy
import os
import pickle
import re
import subprocess
import sys
import threading
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
import scipy.sparse
import sklearn
import threadpoolctl
from conftest import SOLVERS as DETERMINISTIC_SOLVERS
from sklearn.base import clone, is_classifier
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_breast_cancer, load_iris
from sklearn.ensemble import BaggingClassifier
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.linear_model import SGDClassifier
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV, cross_val_score, train_test_split
from sklearn.multiclass import OneVsRestClassifier
from sklearn.multioutput import MultiOutputClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import get_tags
from sklearn.utils.estimator_checks import (
    check_class_weight_balanced_linear_classifier,
    check_estimators_dtypes,
    check_sample_weights_shape,
    parametrize_with_checks,
)

from sklinear import (
    LinearSVMClassifier,
    LinearSVMClassifierCV,
    SoftmaxClassifier,
    SoftmaxClassifierCV,
    _base,
    losses,
)
from sklinear._solvers import METHODS

MODELS = [
    LinearSVMClassifier(),
    LinearSVMClassifier(loss="hinge"),
    SoftmaxClassifier(),
]
each_solver = pytest.mark.parametrize("solver", [*DETERMINISTIC_SOLVERS, "sgd"])

# coefficients of two fits of one problem: both are polished to rounding by Newton steps
SAME = {"rtol": 1e-6, "atol": 1e-8}


# of two solutions of one problem by sgd, which scatter about it: some percent
SGD = 0.03


def objective(model, X, y, sample_weight=None):
    """P of the specification, from the public coefficients and losses."""
    X = X.toarray() if scipy.sparse.issparse(X) else np.asarray(X, dtype=float)
    coef, labels = model.coef_, np.searchsorted(model.classes_, y)
    scores = X @ coef.T + model.intercept_
    if len(coef) == 1:
        scores, coef = scores * [-0.5, 0.5], np.vstack([-coef / 2, coef / 2])
    if isinstance(model, SoftmaxClassifier):
        values = losses.cross_entropy(scores, labels)[0]
    else:
        squared = model.loss == "squared_hinge"
        values = losses.weston_watkins(scores, labels, model.delta, squared)[0]
    loss = np.average(values, weights=sample_weight)
    return loss + model.alpha * np.sum(np.square(coef, dtype=float))


@pytest.fixture
def model(request):
    """A fresh copy, so that no test sees what another fitted."""
    return clone(request.param)


def pytest_generate_tests(metafunc):
    """The fixture ``model`` runs over the three of them."""
    if "model" in metafunc.fixturenames:
        metafunc.parametrize("model", MODELS, indirect=True, ids=str)


@pytest.fixture(scope="module")
def iris():
    return load_iris(return_X_y=True)


@pytest.fixture(scope="module")
def cancer():
    X, y = load_breast_cancer(return_X_y=True)
    return StandardScaler().fit_transform(X), y


# scikit-learn's own checks ------------------------------------------------------------

DETERMINISTIC = [
    LinearSVMClassifier(),
    SoftmaxClassifier(),
    LinearSVMClassifier(loss="hinge", solver="lbfgs"),
    LinearSVMClassifier(loss="squared_hinge", solver="lbfgs"),
]
if "dual" in DETERMINISTIC_SOLVERS:
    DETERMINISTIC += [
        LinearSVMClassifier(solver="dual"),
        LinearSVMClassifier(loss="hinge", solver="dual"),
        SoftmaxClassifier(solver="dual"),
    ]
STOCHASTIC = [LinearSVMClassifier(solver="sgd"), SoftmaxClassifier(solver="sgd")]
# Two folds and two alphas to be quick; the checks that see few rows or weigh classes,
# by which a choice among many cells may differ, run at the defaults too.
SEARCHES = [
    LinearSVMClassifierCV(cv=2, alphas=[1e-1, 1e-2]),
    SoftmaxClassifierCV(cv=2, alphas=[1e-1, 1e-2]),
]
# The one check that scikit-learn skips but where a variable was set before the import.
UNDER_ARRAY_API = """
import sys
from sklearn.utils.estimator_checks import check_array_api_input
import warnings
from sklinear import LinearSVMClassifier, SoftmaxClassifier
from sklinear import LinearSVMClassifierCV, SoftmaxClassifierCV
warnings.filterwarnings("ignore", ".*est penalty of its grid")
for source in sys.argv[1:]:
    options = {"array_namespace": "numpy", "expect_only_array_outputs": False}
    check_array_api_input(source, eval(source), **options)
    print(source)
"""


@cache
def passed_under_array_api():
    """The estimators that pass it, in a process of their own."""
    sources = [str(estimator) for estimator in DETERMINISTIC + STOCHASTIC + SEARCHES]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", UNDER_ARRAY_API, *sources],
        env={**os.environ, "SCIPY_ARRAY_API": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.splitlines(), done.stderr


def all_checks(estimators, **options):
    """``parametrize_with_checks`` from a list, since 1.6 gives pytest a generator."""
    mark = parametrize_with_checks(estimators, **options).mark
    return pytest.mark.parametrize(mark.args[0], list(mark.args[1]), **mark.kwargs)


def run_check(estimator, check):
    """A check; that of array API dispatch, which is new in 1.9, elsewhere."""
    if check.func.__name__ == "check_array_api_input":
        passed, error = passed_under_array_api()
        assert str(estimator) in passed, error
    else:
        check(estimator)


@all_checks(DETERMINISTIC)
def test_check_estimator_passes(estimator, check):
    run_check(estimator, check)


@all_checks(SEARCHES)
@pytest.mark.filterwarnings("ignore:.*est penalty of its grid")
@pytest.mark.filterwarnings("ignore:The least populated class")
def test_check_estimator_passes_for_the_searches(estimator, check):
    run_check(estimator, check)


def randomness(estimator):
    """Checks that a solver of shuffled mini-batches cannot pass."""
    reason = "repeated rows fall into other batches than weighted ones do"
    return {
        "check_sample_weight_equivalence_on_dense_data": reason,
        "check_sample_weight_equivalence_on_sparse_data": reason,
    }


@all_checks(STOCHASTIC, expected_failed_checks=randomness)
def test_check_estimator_passes_with_sgd(estimator, check):
    run_check(estimator, check)


@each_solver
def test_a_weight_is_a_number_of_rows(model, solver, iris):
    X, y = iris
    counts = np.random.RandomState(0).randint(0, 4, len(y))
    model.set_params(solver=solver, random_state=0, alpha=0.1)
    weighted = clone(model).fit(X, y, sample_weight=counts)
    repeated = model.fit(np.repeat(X, counts, axis=0), np.repeat(y, counts))
    if solver != "sgd":
        np.testing.assert_allclose(repeated.coef_, weighted.coef_, **SAME)
    np.testing.assert_allclose(
        objective(repeated, X, y, counts), objective(weighted, X, y, counts), rtol=SGD
    )


# Composition --------------------------------------------------------------------------


def test_a_pipeline_fits_predicts_and_scores(model, iris):
    X, y = iris
    pipeline = make_pipeline(StandardScaler(), model).fit(X, y)
    direct = clone(model).fit(StandardScaler().fit_transform(X), y)
    np.testing.assert_array_equal(pipeline[-1].coef_, direct.coef_)
    assert pipeline.score(X, y) > 0.95  # iris is nearly separable: 4 errors at most
    assert set(pipeline.predict(X)) == {0, 1, 2}


def test_cross_validation_is_as_good_as_on_paper(model, iris):
    scores = cross_val_score(make_pipeline(StandardScaler(), model), *iris)
    assert scores.mean() > 0.93  # linear classifiers reach 0.95 to 0.98 on iris


def test_grid_search_finds_the_better_alpha(model, iris):
    alphas = [1e-3, 1e3]
    search = GridSearchCV(model, {"alpha": alphas, "fit_intercept": [True, False]})
    search.fit(*iris)
    assert search.best_params_["alpha"] == 1e-3
    assert search.best_estimator_.alpha == 1e-3
    assert search.best_score_ > 0.93  # as above


def test_grid_search_tunes_the_margin_inside_a_pipeline(iris):
    pipeline = make_pipeline(StandardScaler(), LinearSVMClassifier())
    grid = {
        "linearsvmclassifier__delta": [0.5, 1, 2],
        "linearsvmclassifier__alpha": np.logspace(-3, -1, 2),
        "linearsvmclassifier__loss": ["hinge", "squared_hinge"],
    }
    search = GridSearchCV(pipeline, grid, cv=3).fit(*iris)
    assert len(search.cv_results_["mean_test_score"]) == 12
    assert search.best_score_ > 0.93  # as above


@pytest.mark.parametrize("method", ["sigmoid", "isotonic"])
@pytest.mark.parametrize("loss", ["hinge", "squared_hinge"])
def test_the_svm_can_be_calibrated(method, loss, iris):
    X, y = iris
    svm = LinearSVMClassifier(loss=loss)
    X, X_test, y, y_test = train_test_split(X, y, stratify=y, random_state=0)
    calibrated = CalibratedClassifierCV(svm, method=method, cv=3).fit(X, y)
    proba = calibrated.predict_proba(X_test)
    np.testing.assert_allclose(proba.sum(axis=1), 1)
    # half the log loss of a guess, log 3; one-vs-rest calibration is not sharper here
    assert log_loss(y_test, proba) < np.log(3) / 2


def test_bagging_averages_models(model, iris):
    X, y = iris
    bagging = BaggingClassifier(model, n_estimators=5, random_state=0).fit(X, y)
    assert bagging.score(X, y) > 0.93  # as above
    coefs = [part.coef_ for part in bagging.estimators_]
    assert not np.allclose(coefs[0], coefs[1])


def test_one_vs_rest_makes_two_class_models(model, iris):
    X, y = iris
    ovr = OneVsRestClassifier(model).fit(X, y)
    assert [part.coef_.shape for part in ovr.estimators_] == [(1, 4)] * 3
    direct = clone(model).fit(X, y == 2)
    np.testing.assert_array_equal(
        ovr.decision_function(X)[:, 2], direct.decision_function(X)
    )


# Parameters ---------------------------------------------------------------------------


def test_clone_copies_parameters_and_nothing_fitted(model, iris):
    model.set_params(alpha=0.5, class_weight={0: 1, 1: 2, 2: 3}).fit(*iris)
    copied = clone(model)
    assert copied.get_params() == model.get_params()
    assert [name for name in vars(copied) if name.endswith("_")] == []
    with pytest.raises(NotFittedError):
        copied.predict(iris[0])


def test_set_params_is_heard_by_the_next_fit(model, iris):
    X, y = iris
    loose = model.fit(X, y).coef_
    tight = model.set_params(alpha=10.0).fit(X, y).coef_
    assert np.linalg.norm(tight) < np.linalg.norm(loose)
    np.testing.assert_array_equal(
        tight, clone(model).set_params(alpha=10.0).fit(X, y).coef_
    )
    with pytest.raises(ValueError, match="Invalid parameter 'C'"):
        model.set_params(C=1.0)


@each_solver
def test_fit_leaves_parameters_untouched(model, solver, iris):
    model.set_params(
        solver=solver,
        alpha=np.float32(0.01),
        class_weight={0: 1.0, 1: 2.0, 2: 3.0},
        random_state=np.random.RandomState(0),
    )
    before = model.get_params()
    kept = copy.deepcopy(before)
    model.fit(*iris)
    after = model.get_params()
    assert all(after[name] is before[name] for name in before)
    kept.pop("random_state")  # its state moves on, as in scikit-learn
    assert kept == {name: after[name] for name in kept}


def test_defaults_are_those_of_the_specification():
    shared = {
        "alpha": 1e-3,
        "fit_intercept": True,
        "class_weight": None,
        "solver": "auto",
        "tol": 1e-4,
        "max_iter": 1000,
        "batch_size": 256,
        "learning_rate": "auto",
        "warm_start": False,
        "random_state": None,
        "verbose": 0,
    }
    assert SoftmaxClassifier().get_params() == shared
    svm = {"loss": "squared_hinge", "delta": 1.0, **shared}
    assert LinearSVMClassifier().get_params() == svm
    with pytest.raises(TypeError):
        SoftmaxClassifier(1e-3)


@each_solver
def test_pickling_keeps_the_model(model, solver, iris):
    X, y = iris
    model.set_params(solver=solver, random_state=0).fit(X, y)
    loaded = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(
        loaded.decision_function(X), model.decision_function(X)
    )
    assert loaded.get_params() == model.get_params()
    assert vars(loaded).keys() == vars(model).keys()


def test_class_weight_is_a_sample_weight(model, iris):
    X, y = iris
    X, y = X[:120], y[:120]  # classes of 50, 50 and 20
    each = np.array([1.0, 2.0, 5.0])
    by_row = clone(model).fit(X, y, sample_weight=each[y]).coef_
    by_class = clone(model).set_params(class_weight=dict(enumerate(each))).fit(X, y)
    np.testing.assert_allclose(by_class.coef_, by_row, **SAME)
    balanced = clone(model).set_params(class_weight="balanced").fit(X, y).coef_
    by_count = clone(model).fit(X, y, sample_weight=1 / np.bincount(y)[y]).coef_
    np.testing.assert_allclose(balanced, by_count, **SAME)


def test_warm_start_begins_at_the_last_solution(model, iris):
    X, y = iris
    model.set_params(warm_start=True, tol=1e-6).fit(X, y)
    coef, value = model.coef_, objective(model, X, y)
    model.fit(X, y)
    assert model.loss_curve_[0] == pytest.approx(value, rel=model.tol)
    np.testing.assert_allclose(model.coef_, coef, rtol=1e-4)  # within tol, both


# Metadata routing ---------------------------------------------------------------------


@pytest.fixture
def routing():
    with sklearn.config_context(enable_metadata_routing=True):
        yield


@pytest.fixture(scope="module")
def weights(iris):
    return np.random.RandomState(0).uniform(0.1, 5, len(iris[1]))


@pytest.mark.usefixtures("routing")
def test_sample_weight_is_routed_through_a_pipeline(model, iris, weights):
    X, y = iris
    scaler = StandardScaler().set_fit_request(sample_weight=False)
    pipeline = make_pipeline(scaler, model.set_fit_request(sample_weight=True))
    pipeline.fit(X, y, sample_weight=weights)
    scaled = StandardScaler().fit_transform(X)
    direct = clone(model).fit(scaled, y, sample_weight=weights)
    np.testing.assert_array_equal(pipeline[-1].coef_, direct.coef_)
    assert not np.allclose(direct.coef_, clone(model).fit(scaled, y).coef_)


@pytest.mark.usefixtures("routing")
def test_sample_weight_is_routed_through_a_grid_search(model, iris, weights):
    X, y = iris
    model.set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
    search = GridSearchCV(model, {"alpha": [0.01, 0.1]}, cv=3)
    search.fit(X, y, sample_weight=weights)
    direct = clone(model).set_params(**search.best_params_)
    direct.fit(X, y, sample_weight=weights)
    np.testing.assert_array_equal(search.best_estimator_.coef_, direct.coef_)


@pytest.mark.usefixtures("routing")
def test_sample_weight_is_routed_to_partial_fit(model, iris, weights):
    X, y = iris
    model.set_params(random_state=0).set_partial_fit_request(sample_weight=True)
    outputs = MultiOutputClassifier(model)
    labels = [np.unique(y)]
    outputs.partial_fit(X, y[:, None], classes=labels, sample_weight=weights)
    direct = clone(model).partial_fit(X, y, labels[0], sample_weight=weights)
    np.testing.assert_array_equal(outputs.estimators_[0].coef_, direct.coef_)


@pytest.mark.usefixtures("routing")
def test_an_unrequested_sample_weight_is_an_error(model, iris, weights):
    search = GridSearchCV(model, {"alpha": [0.01, 0.1]})
    with pytest.raises(ValueError, match="not explicitly set as requested"):
        search.fit(*iris, sample_weight=weights)


# Representation and tags --------------------------------------------------------------


def test_the_notebook_repr_names_the_model_and_links_nowhere(model, iris):
    html, name = model._repr_html_(), type(model).__name__
    assert name in html
    assert 'href="http' not in html  # of a documentation that is not there
    assert name in make_pipeline(StandardScaler(), model.fit(*iris))._repr_html_()


def test_tags_say_what_the_estimators_take(model):
    tags = get_tags(model)
    assert is_classifier(model)
    assert tags.input_tags.sparse
    assert tags.classifier_tags.multi_class
    assert not tags.non_deterministic
    assert tags.target_tags.required


# Frames and other containers ----------------------------------------------------------

each_frame = pytest.mark.parametrize("library", ["pandas", "polars"])


def frame_of(library, X, names):
    module = pytest.importorskip(library)
    return module.DataFrame(dict(zip(names, X.T, strict=True)))


@each_frame
def test_frames_give_names_and_the_same_model(model, library, iris):
    X, y = iris
    names = ["a", "b", "c", "d"]
    frame = frame_of(library, X, names)
    plain = clone(model).fit(X, y)
    model.fit(frame, y)
    np.testing.assert_array_equal(model.feature_names_in_, names)
    np.testing.assert_allclose(model.coef_, plain.coef_, **SAME)
    np.testing.assert_array_equal(model.predict(frame), plain.predict(X))
    assert not hasattr(plain, "feature_names_in_")


@each_frame
def test_other_names_are_an_error_and_no_names_a_warning(model, library, iris):
    X, y = iris
    model.fit(frame_of(library, X, ["a", "b", "c", "d"]), y)
    with pytest.raises(ValueError, match="feature names should match"):
        model.predict(frame_of(library, X, ["b", "a", "c", "d"]))
    with pytest.raises(ValueError, match="unseen at fit time:\n- e"):
        model.predict(frame_of(library, X, ["a", "b", "c", "e"]))
    with pytest.warns(UserWarning, match="does not have valid feature names"):
        model.predict(X)


@each_frame
def test_a_series_of_labels_is_as_good_as_an_array(model, library, iris):
    module = pytest.importorskip(library)
    X, y = iris
    names = np.array(["setosa", "versicolor", "virginica"])[y]
    model.fit(X, module.Series(names.tolist()))
    assert model.classes_.tolist() == ["setosa", "versicolor", "virginica"]
    assert model.score(X, module.Series(names.tolist())) > 0.95  # as in the pipeline


def unsorted_indices(X):
    """CSR whose rows list their columns backwards."""
    X = scipy.sparse.csr_matrix(X)
    order = np.concatenate(
        [np.arange(start, end)[::-1] for start, end in pairwise(X.indptr)]
    )
    return scipy.sparse.csr_matrix((X.data[order], X.indices[order], X.indptr), X.shape)


def duplicate_indices(X):
    """CSR with every value in two halves."""
    X = scipy.sparse.csr_matrix(X)
    data, indices = np.repeat(X.data / 2, 2), np.repeat(X.indices, 2)
    return scipy.sparse.csr_matrix((data, indices, 2 * X.indptr), X.shape)


def long_indices(X):
    """CSR with 64-bit indices, as of matrices with more than 2**31 values."""
    X = scipy.sparse.csr_matrix(X)
    X.indices, X.indptr = X.indices.astype(np.int64), X.indptr.astype(np.int64)
    assert X.indices.dtype == np.int64
    return X


def read_only(X):
    X = X.copy()
    X.flags.writeable = False
    return X


CONTAINERS = [
    scipy.sparse.csr_matrix,
    scipy.sparse.csr_array,
    scipy.sparse.csc_matrix,
    scipy.sparse.coo_array,
    long_indices,
    unsorted_indices,
    duplicate_indices,
    read_only,
    np.asfortranarray,
    np.ndarray.tolist,
    lambda X: X[::-1].copy()[::-1],
    lambda X: np.repeat(X, 2, axis=0)[::2],
    lambda X: X.astype(np.uint8),
    lambda X: X.astype(object),
]
FITTED_TO_INTEGERS = {}  # models of the plain array, by parameters


@each_solver
@pytest.mark.parametrize("container", CONTAINERS)
def test_containers_of_the_same_numbers_give_the_same_model(
    model, solver, container, iris
):
    X, y = np.rint(10 * iris[0]), iris[1]
    model.set_params(solver=solver, random_state=0, alpha=1.0)
    if solver == "sgd":
        model.set_params(tol=0.1)  # a few epochs show a difference as well as many
    got = clone(model).fit(container(X), y)
    kind = np.asarray
    if solver == "sgd" and scipy.sparse.issparse(container(X)):
        kind = scipy.sparse.csr_matrix  # steps differ from dense ones
    key = str(model), kind
    if key not in FITTED_TO_INTEGERS:
        FITTED_TO_INTEGERS[key] = model.fit(kind(X), y)
    want = FITTED_TO_INTEGERS[key]
    np.testing.assert_allclose(got.coef_, want.coef_, **SAME)
    np.testing.assert_allclose(
        got.decision_function(container(X)), want.decision_function(X), **SAME
    )


@each_solver
def test_a_memory_map_is_read_where_it_lies(model, solver, iris, tmp_path):
    X, y = iris
    weights = np.random.default_rng(0).uniform(1, 2, len(y))
    maps = []
    for i, array in enumerate([X, y, weights]):
        np.save(tmp_path / f"{i}.npy", array)
        maps.append(np.load(tmp_path / f"{i}.npy", mmap_mode="r"))
    model.set_params(solver=solver, random_state=0)
    want = clone(model).fit(X, y, weights).coef_
    np.testing.assert_allclose(model.fit(*maps).coef_, want, **SAME)


@each_solver
def test_float32_stays_float32(model, solver, iris):
    X, y = iris
    double = clone(model).set_params(alpha=0.1).fit(X, y)
    model.set_params(solver=solver, random_state=0, alpha=np.float64(0.1))
    model.fit(X.astype(np.float32), y)
    assert model.coef_.dtype == model.intercept_.dtype == np.float32
    assert model.decision_function(X.astype(np.float32)).dtype == np.float32
    if hasattr(model, "predict_proba"):
        assert model.predict_proba(X.astype(np.float32)).dtype == np.float32
        assert model.predict_log_proba(X.astype(np.float32)).dtype == np.float32
    # but for sgd: the gap that both are within
    rtol = model.tol if solver != "sgd" else SGD
    np.testing.assert_allclose(objective(model, X, y), objective(double, X, y), rtol)


# Labels, shapes and probabilities -----------------------------------------------------


@pytest.mark.parametrize("n_classes", [2, 3])
def test_of_equal_scores_the_first_class_is_the_label(n_classes, model, iris):
    X, y = iris
    model.fit(X[y < n_classes], y[y < n_classes])
    model.coef_, model.intercept_ = 0 * model.coef_, 0 * model.intercept_
    assert (model.predict(X) == model.classes_[0]).all()


@pytest.mark.parametrize(
    "names",
    [
        ["setosa", "versicolor", "virginica"],
        np.array(["a", "b", "ccc"], dtype=object),
        [-7, 3, 10**12],
        np.array([0, 1, 2], dtype=np.uint8),
        [0.0, 1.0, 2.0],
    ],
    ids=str,
)
def test_names_of_classes_do_not_matter(model, names, iris):
    X, y = iris
    names = np.asarray(names)
    plain = clone(model).fit(X, y)
    model.fit(X, names[y])
    np.testing.assert_array_equal(model.classes_, names)
    assert model.classes_.dtype == names.dtype
    np.testing.assert_array_equal(model.coef_, plain.coef_)
    np.testing.assert_array_equal(model.predict(X), names[plain.predict(X)])


def test_labels_may_be_booleans(model, iris):
    X, y = iris
    model.fit(X, y > 0)
    assert model.classes_.dtype == bool
    assert model.predict(X).dtype == bool
    np.testing.assert_array_equal(model.predict(X), y > 0)


@each_solver
@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("n_classes", [2, 3])
def test_shapes_are_those_of_scikit_learn(
    model, solver, fit_intercept, n_classes, iris
):
    X, y = iris[0][: 50 * n_classes], iris[1][: 50 * n_classes]
    model.set_params(solver=solver, fit_intercept=fit_intercept, random_state=0)
    assert model.fit(X, y) is model
    peer = SGDClassifier(fit_intercept=fit_intercept, random_state=0).fit(X, y)
    for name in "coef_", "intercept_", "classes_":
        assert getattr(model, name).shape == getattr(peer, name).shape
    assert (model.intercept_ == 0).all() or fit_intercept
    for rows in X, X[:1], scipy.sparse.csr_matrix(X), scipy.sparse.csr_matrix(X[:1]):
        scores, want = model.decision_function(rows), peer.decision_function(rows)
        assert scores.shape == want.shape
        assert model.predict(rows).shape == (rows.shape[0],)
        chosen = scores.argmax(axis=1) if n_classes > 2 else (scores > 0).astype(int)
        np.testing.assert_array_equal(model.predict(rows), chosen)
    assert model.n_features_in_ == 4


@pytest.mark.parametrize("n_classes", [2, 3])
def test_probabilities_are_those_of_the_scores(n_classes, iris):
    X, y = iris[0][-50 * n_classes :], iris[1][-50 * n_classes :]
    model = SoftmaxClassifier().fit(X, y)
    proba = model.predict_proba(X)
    assert proba.shape == (len(X), n_classes)
    np.testing.assert_allclose(proba.sum(axis=1), 1, rtol=1e-14)  # rounding
    np.testing.assert_allclose(np.log(proba), model.predict_log_proba(X), rtol=1e-10)
    np.testing.assert_array_equal(
        model.classes_[proba.argmax(axis=1)], model.predict(X)
    )
    if n_classes == 2:
        odds = np.log(proba[:, 1] / proba[:, 0])
        np.testing.assert_allclose(odds, model.decision_function(X), rtol=1e-10)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n_classes", [2, 3])
def test_log_probabilities_are_finite_where_probabilities_underflow(
    n_classes, dtype, iris
):
    X, y = iris[0][: 50 * n_classes].astype(dtype), iris[1][: 50 * n_classes]
    model = SoftmaxClassifier().fit(X, y)
    far = 1e5 * X
    proba, log_proba = model.predict_proba(far), model.predict_log_proba(far)
    assert (proba == 0).any()
    assert np.isfinite(proba).all()
    assert np.isfinite(log_proba).all()
    assert log_proba.min() < -1e4
    scores = model.decision_function(far)
    if n_classes == 2:
        scores = np.column_stack([np.zeros_like(scores), scores])
    # with scores so far apart the log-softmax is the distance from the largest score
    distance = scores - scores.max(axis=1, keepdims=True)
    np.testing.assert_allclose(log_proba, distance, rtol=1e-5, atol=1)


def test_only_the_softmax_has_probabilities():
    assert not hasattr(LinearSVMClassifier(), "predict_proba")
    assert not hasattr(LinearSVMClassifier(), "predict_log_proba")


def test_coefficients_can_be_sparse(model, iris):
    X, y = iris
    model.fit(X, y)
    coef, labels = model.coef_.copy(), model.predict(X)
    assert scipy.sparse.issparse(model.sparsify().coef_)
    np.testing.assert_array_equal(model.predict(X), labels)
    np.testing.assert_array_equal(model.predict(scipy.sparse.csr_matrix(X)), labels)
    np.testing.assert_array_equal(model.densify().coef_, coef)
    model.sparsify().set_params(warm_start=True).fit(X, y)
    np.testing.assert_allclose(model.coef_, coef, rtol=1e-3)  # within tol, both
    model.sparsify().partial_fit(X, y)
    assert isinstance(model.coef_, np.ndarray)


# What a fit says about itself ---------------------------------------------------------


@each_solver
def test_fitted_attributes_tell_how_it_went(model, solver, iris):
    X, y = iris
    model.set_params(solver=solver, random_state=0).fit(X, y)
    assert model.solver_ == solver
    assert isinstance(model.n_iter_, int)
    assert len(model.loss_curve_) == model.n_iter_ <= model.max_iter
    assert np.isfinite(model.loss_curve_).all()
    assert (solver != "sgd") == hasattr(model, "dual_gap_")
    if solver != "sgd":
        assert 0 <= model.dual_gap_ <= model.tol
        assert (np.diff(model.loss_curve_) <= 0).all()
    # its last value is that of the model (of its best epoch), up to rounding
    last = min(model.loss_curve_)
    assert last == pytest.approx(objective(model, X, y), rel=1e-9)


def test_a_fit_that_starts_at_the_optimum_still_tells_its_objective(model):
    zeros, labels = np.zeros((6, 2)), [0, 1, 2] * 2
    model.fit(zeros, labels)
    assert model.n_iter_ >= 1
    assert model.loss_curve_[-1] == pytest.approx(objective(model, zeros, labels))


def test_auto_means_lbfgs_and_a_refit_forgets_the_last_one(model, iris):
    model.fit(*iris)
    assert model.solver_ == "lbfgs"
    model.set_params(solver="sgd", random_state=0).fit(*iris)
    assert model.solver_ == "sgd"
    assert not hasattr(model, "dual_gap_")


@each_solver
def test_silence_is_the_default(model, solver, iris, capfd):
    model.set_params(solver=solver, random_state=0).fit(*iris)
    model.partial_fit(*iris)
    assert capfd.readouterr() == ("", "")


@each_solver
def test_verbose_prints_one_line_an_iteration(model, solver, iris, capfd):
    model.set_params(solver=solver, verbose=1, random_state=0).fit(*iris)
    out, err = capfd.readouterr()
    assert err == ""
    lines = out.splitlines()
    assert len(lines) == model.n_iter_
    word = "iteration" if solver != "sgd" else "epoch"
    for number, (line, value) in enumerate(
        zip(lines, model.loss_curve_, strict=True), start=1
    ):
        found = re.match(rf"{word} {number}: objective (\S+),", line)
        assert float(found[1]) == pytest.approx(value, rel=1e-5)  # digits printed


def test_stopping_early_warns_with_state_and_remedy(model, iris):
    name = type(model).__name__
    state, remedy = "(after|at) .*max_iter=2.*objective.*optimum", "raise max_iter"
    message = rf"{name} stopped {state}.*{remedy}"
    with pytest.warns(ConvergenceWarning, match=message) as caught:
        model.set_params(max_iter=2).fit(*iris)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert model.dual_gap_ > model.tol
    assert model.n_iter_ == 2


# Global state -------------------------------------------------------------------------


@each_solver
def test_the_global_random_state_rests(model, solver, iris):
    before = np.random.get_state()  # noqa: NPY002 - the very state that must not move
    model.set_params(solver=solver, random_state=0).fit(*iris)
    model.partial_fit(*iris)
    after = np.random.get_state()  # noqa: NPY002
    assert before[2:] == after[2:]
    np.testing.assert_array_equal(before[1], after[1])


def blas_threads():
    """Threads of each BLAS library."""
    return [
        library["num_threads"]
        for library in threadpoolctl.threadpool_info()
        if library["user_api"] == "blas"
    ]


@pytest.fixture
def two_threads():
    """A user who has set two BLAS threads, in no ``with`` block."""
    limiter = threadpoolctl.threadpool_limits(2, user_api="blas")
    anyone_may_set_threads()
    assert set(blas_threads()) == {2}
    yield
    anyone_may_set_threads()
    limiter.restore_original_limits()
    anyone_may_set_threads()


def anyone_may_set_threads():
    """From 3.7 on threadpoolctl listens to the one thread that came first."""
    control = getattr(
        threadpoolctl.OpenBLASController, "clear_controlling_thread", None
    )
    if control:
        control(force=True)


def spy_on_solver(monkeypatch, visit):
    """Call ``visit`` in place of the solver's first line."""
    solver = METHODS["lbfgs"]

    def watched(*args):
        visit()
        return solver(*args)

    monkeypatch.setitem(METHODS, "lbfgs", watched)


@pytest.mark.usefixtures("two_threads")
def test_blas_threads_are_one_within_fit_and_restored_after(monkeypatch, iris):
    seen = []
    spy_on_solver(monkeypatch, lambda: seen.extend(blas_threads()))
    SoftmaxClassifier().fit(*iris)
    assert set(seen) == {1}
    assert set(blas_threads()) == {2}
    SoftmaxClassifier().partial_fit(*iris, classes=[0, 1, 2])
    assert set(blas_threads()) == {2}


@pytest.mark.usefixtures("two_threads")
def test_blas_threads_are_restored_after_an_exception(monkeypatch, iris):
    def fail():
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        spy_on_solver(patch, fail)
        with pytest.raises(KeyboardInterrupt):
            SoftmaxClassifier().fit(*iris)
    assert set(blas_threads()) == {2}
    SoftmaxClassifier().fit(*iris)
    assert set(blas_threads()) == {2}


def test_a_fit_interrupted_in_its_proof_can_be_used_and_continued(monkeypatch, iris):
    def fail(*args, **kwargs):
        raise KeyboardInterrupt

    model = SoftmaxClassifier()
    with monkeypatch.context() as patch:
        patch.setattr(_base, "certificate", fail)
        with pytest.raises(KeyboardInterrupt):
            model.fit(*iris)
    assert model.score(*iris) > 0.9
    assert model.n_iter_ == len(model.loss_curve_)
    assert not hasattr(model, "dual_gap_")
    model.partial_fit(*iris)


def test_a_fit_that_fails_leaves_the_model_before_whole(monkeypatch, iris):
    pd = pytest.importorskip("pandas")
    X, y = iris
    frame = pd.DataFrame(X, columns=["a", "b", "c", "d"])
    model = SoftmaxClassifier().fit(frame, y)
    before, turned = vars(model).copy(), frame[["d", "c", "b", "a"]]

    def fail():
        raise KeyboardInterrupt

    spy_on_solver(monkeypatch, fail)
    for other in (turned, X[:, :2]):
        with pytest.raises(KeyboardInterrupt):
            model.fit(other, y)
        assert vars(model) == before
    with pytest.raises(ValueError, match="at least 2 classes"):
        model.fit(turned, np.zeros(len(y)))
    assert vars(model) == before
    assert model.score(frame, y) > 0.9


@pytest.mark.usefixtures("two_threads")
def test_blas_threads_are_one_in_any_thread_after_a_fit_in_another(monkeypatch, iris):
    seen = []
    SoftmaxClassifier().fit(*iris)
    spy_on_solver(monkeypatch, lambda: seen.extend(blas_threads()))
    thread = threading.Thread(target=SoftmaxClassifier().fit, args=iris)
    thread.start()
    thread.join()
    assert set(seen) == {1}
    assert set(blas_threads()) == {2}


@pytest.mark.usefixtures("two_threads")
def test_blas_threads_are_restored_after_overlapping_fits(monkeypatch, iris):
    X, y = iris
    first, second = SoftmaxClassifier(alpha=0.1), SoftmaxClassifier(alpha=1.0)
    want = [clone(model).fit(X, y).coef_ for model in (first, second)]
    first_in, second_in, first_out, all_out = (threading.Event() for _ in range(4))
    seen = []

    def overlap():
        if threading.current_thread() is threading.main_thread():
            second_in.set()
            assert first_out.wait(30)
        else:
            first_in.set()
            assert second_in.wait(30)
        seen.append(blas_threads())

    def fit_first():
        first.fit(X, y)
        first_out.set()
        all_out.wait(30)  # alive, it may still have a say in the limits

    spy_on_solver(monkeypatch, overlap)
    thread = threading.Thread(target=fit_first)
    thread.start()
    assert first_in.wait(30)
    second.fit(X, y)
    after = blas_threads()
    all_out.set()
    thread.join()
    assert len(seen) == 2
    assert {number for numbers in seen for number in numbers} == {1}
    assert set(after) == {2}
    np.testing.assert_array_equal(first.coef_, want[0])
    np.testing.assert_array_equal(second.coef_, want[1])


@pytest.mark.parametrize("search", [LinearSVMClassifierCV, SoftmaxClassifierCV])
@pytest.mark.parametrize(
    "check",
    [
        check_class_weight_balanced_linear_classifier,
        check_estimators_dtypes,
        check_sample_weights_shape,
    ],
)
@pytest.mark.filterwarnings("ignore:.*est penalty of its grid")
@pytest.mark.filterwarnings("ignore:The least populated class")  # scikit-learn's own
def test_searches_pass_the_checks_of_few_rows_at_their_defaults(search, check):
    check(search.__name__, search())
