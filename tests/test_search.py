"""The searches: GridSearchCV's table from one computation, and the choice from it."""

from __future__ import annotations

import pickle
import subprocess
import sys
import textwrap
import time
import tracemalloc
import warnings
from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse
import sklearn
from conftest import PROBLEMS
from joblib import parallel_config
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.exceptions import (
    ConvergenceWarning,
    DataConversionWarning,
    FitFailedWarning,
    UnsetMetadataPassedError,
)
from sklearn.metrics import accuracy_score, get_scorer, make_scorer
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    KFold,
    LeaveOneGroupOut,
    LeaveOneOut,
    RepeatedStratifiedKFold,
    ShuffleSplit,
    StratifiedGroupKFold,
    StratifiedKFold,
    cross_val_score,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import sklinear._cells
import sklinear._jobs
import sklinear._tuning
from sklinear import (
    LinearSVMClassifier,
    LinearSVMClassifierCV,
    SoftmaxClassifier,
    SoftmaxClassifierCV,
)
from sklinear._alphas import _distinct
from sklinear._cells import Cell, FoldScore
from sklinear._data import Data
from sklinear._folds import Fold, Weights, grouped, shares
from sklinear._losses import Hinge, SquaredHinge
from sklinear._results import at_edge, best_index, open_gaps

IRIS = PROBLEMS["iris"]
SEARCHES = {"softmax": SoftmaxClassifierCV, "svm": LinearSVMClassifierCV}
GRIDS = {
    "svm": {
        "alpha": [1e-2, 1e-1],
        "delta": [1.0],
        "loss": ["hinge", "squared_hinge"],
    },
    "softmax": {"alpha": [1e-2, 1e-1]},
}
MARGINS = {**GRIDS["svm"], "delta": [0.1, 1.0]}  # 10 leaves a hinge with many optima
PLURALS = {"alpha": "alphas", "delta": "deltas", "loss": "losses"}
PLAIN = {"svm": LinearSVMClassifier, "softmax": SoftmaxClassifier}
TIGHT = 1e-10
# log losses of optima that are known to 1e-10 in their objectives
CLOSE = 1e-5

# the two of a test may choose an alpha at the end of its grid of two
pytestmark = pytest.mark.filterwarnings("ignore:.*at the (weak|strong)est penalty")


@pytest.fixture(params=SEARCHES)
def kind(request):
    """Each search's short name."""
    return request.param


def search_of(kind, grid=None, **params):
    """A search over a grid that is small unless given."""
    grid = {PLURALS[name]: v for name, v in (grid or GRIDS[kind]).items()}
    return SEARCHES[kind](**{"cv": 3, **grid, **params})


def peer_of(kind, grid=None, *, cv=3, scoring=None, refit=True, **params):
    """scikit-learn's search over the plain estimator, with the same folds."""
    if scoring is None and kind == "softmax":
        scoring = "neg_log_loss"
    return GridSearchCV(
        PLAIN[kind](**params), grid or GRIDS[kind], cv=cv, scoring=scoring, refit=refit
    )


def assert_same_search(found, peer, atol=0.0):
    """All that a search says of its cells is what its peer says."""
    ours, theirs = found.cv_results_, peer.cv_results_
    assert set(ours) == set(theirs)
    for key, expected in theirs.items():
        if key == "params":
            assert ours[key] == expected
            continue
        assert type(ours[key]) is type(expected), key
        assert ours[key].dtype == expected.dtype, key
        assert ours[key].shape == expected.shape, key
        if key.startswith("param_"):
            assert ours[key].tolist() == expected.tolist()
            assert not np.ma.getmaskarray(ours[key]).any()
        elif "time" not in key and (not key.startswith("rank_") or atol == 0):
            np.testing.assert_allclose(ours[key], expected, rtol=0, atol=atol)
    for name in ("n_splits_", "multimetric_", "best_index_", "best_params_"):
        assert hasattr(found, name) == hasattr(peer, name)
        if atol == 0 and hasattr(peer, name):
            assert getattr(found, name) == getattr(peer, name)
    assert hasattr(found, "best_score_") == hasattr(peer, "best_score_")
    if hasattr(peer, "best_score_"):
        assert found.best_score_ == pytest.approx(
            peer.best_score_, abs=atol, nan_ok=True
        )


# Equal to GridSearchCV ----------------------------------------------------------------


@pytest.mark.parametrize("name", ["iris", "wine", "blobs", "two", "wide", "sparse"])
def test_the_table_is_that_of_grid_search(kind, name):
    X, y, _ = PROBLEMS[name]
    grid = MARGINS if kind == "svm" else None
    found = search_of(kind, grid, tol=TIGHT).fit(X, y)
    peer = peer_of(kind, grid, tol=TIGHT).fit(X, y)
    assert_same_search(found, peer, CLOSE if kind == "softmax" else 0.0)
    if found.best_params_ == peer.best_params_:  # a tie may end another way
        np.testing.assert_array_equal(found.coef_, peer.best_estimator_.coef_)
        assert found.score(X, y) == peer.score(X, y)


@pytest.mark.filterwarnings("ignore:.*est penalty of its grid")
def test_default_tol_finds_the_labels_of_a_plain_fit(kind):
    grid = {**GRIDS[kind], "alpha": np.logspace(1, -5, 7)}  # optima of many points too
    if kind == "svm":
        grid["loss"] = ["hinge", "squared_hinge"]
    found = search_of(kind, grid, scoring="accuracy").fit(*IRIS[:2])
    peer = peer_of(kind, grid, scoring="accuracy").fit(*IRIS[:2])
    for key in ("mean_test_score", "std_test_score"):
        np.testing.assert_allclose(
            found.cv_results_[key], peer.cv_results_[key], atol=1e-12
        )


def test_default_tol_gives_the_scores_to_a_thousandth(kind):
    X, y, _ = PROBLEMS["wine"]
    grid = {**GRIDS[kind], "alpha": [1e-3, 1e-1, 1e-2]}
    found = search_of(kind, grid, cv=5).fit(X, y)
    assert_same_search(found, peer_of(kind, grid, cv=5, tol=TIGHT).fit(X, y), 1e-3)


@pytest.mark.parametrize("scoring", ["accuracy", "neg_log_loss", "roc_auc_ovr"])
def test_a_name_is_scored_as_grid_search_scores_it(kind, scoring):
    if kind == "svm" and scoring != "accuracy":
        scoring = "f1_macro"
    found = search_of(kind, tol=TIGHT, scoring=scoring).fit(*IRIS[:2])
    peer = peer_of(kind, tol=TIGHT, scoring=scoring).fit(*IRIS[:2])
    assert_same_search(found, peer, 0.0 if kind == "svm" else CLOSE)
    assert found.score(*IRIS[:2]) == pytest.approx(peer.score(*IRIS[:2]), abs=CLOSE)


@pytest.mark.parametrize("kind", ["softmax", "svm"])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_short_cut_to_a_score_gives_the_scorers_own_number(kind, weighted):
    X, y, weights = PROBLEMS["weighted"]
    weights = weights if weighted else None
    for name in ["accuracy", "neg_log_loss"][: 1 + (kind == "softmax")]:
        quick = search_of(kind, scoring=name).fit(X, y, sample_weight=weights)
        # wrapped, it is no name that the search knows
        long = search_of(kind, scoring={"only": name}, refit="only")
        long.fit(X, y, sample_weight=weights)
        np.testing.assert_array_equal(
            quick.cv_results_["mean_test_score"], long.cv_results_["mean_test_only"]
        )


def test_the_short_cut_scores_many_rows_a_part_at_a_time(kind, monkeypatch):
    X, y, _ = IRIS
    whole = search_of(kind, tol=TIGHT).fit(X, y).cv_results_
    monkeypatch.setattr(sklinear._cells, "ROWS_AT_A_TIME", 7)
    parts = search_of(kind, tol=TIGHT).fit(X, y).cv_results_
    for fold in range(3):
        key = f"split{fold}_test_score"  # of the same coefficients
        np.testing.assert_allclose(parts[key], whole[key], rtol=1e-12)


def test_the_short_cut_rounds_probabilities_of_two_classes_as_the_scorer_does():
    rng = np.random.default_rng(0)
    X = np.repeat(rng.normal(size=(40, 1)), 2, axis=1) * [1e3, 1]
    y = X[:, 0] > 0
    X[::8] *= -1  # rows on the wrong side by 1e-16, 1e-12, ...
    splits = [(np.flatnonzero(np.arange(40) % 8), np.arange(40))]
    grid = {"alphas": np.logspace(-1, -9, 17), "cv": splits}
    quick = SoftmaxClassifierCV(**grid, scoring="neg_log_loss").fit(X, y)
    long = SoftmaxClassifierCV(**grid, scoring={"a": "neg_log_loss"}, refit="a")
    np.testing.assert_array_equal(
        quick.cv_results_["mean_test_score"],
        long.fit(X, y).cv_results_["mean_test_a"],
    )


def test_a_margin_scales_the_scores_that_a_scorer_sees():
    def widest(model, X, y):
        return np.abs(model.decision_function(X)).max() / model.delta

    found = search_of("svm", MARGINS, tol=TIGHT, scoring=widest).fit(*IRIS[:2])
    peer = peer_of("svm", MARGINS, tol=TIGHT, scoring=widest).fit(*IRIS[:2])
    for key in ("mean_test_score", "split2_test_score"):
        np.testing.assert_allclose(
            found.cv_results_[key], peer.cv_results_[key], rtol=1e-4
        )


def test_equal_cells_are_solved_once(monkeypatch):
    asked = []
    solve = sklinear._cells.solve_grid

    def spy(data, problems, folds, *args):
        asked.append((len(problems), len(folds)))
        return solve(data, problems, folds, *args)

    monkeypatch.setattr(sklinear._cells, "solve_grid", spy)
    found = LinearSVMClassifierCV(
        alphas=[1e-3, 1e-2, 1e-1, 1e-2], deltas=[1, 10, 100]
    ).fit(*IRIS[:2])
    # the hinge: alpha * delta from 1e-3 to 1e1; its square: three alphas
    assert asked == [(5 + 3, 5)]
    table = found.cv_results_
    assert len(table["params"]) == 4 * 3 * 2
    by_problem = {}
    for params, score in zip(table["params"], table["mean_test_score"], strict=True):
        alpha, delta, loss = params.values()
        key = loss, round(np.log10(alpha * delta if loss == "hinge" else alpha))
        by_problem.setdefault(key, set()).add(score)
    assert all(len(scores) == 1 for scores in by_problem.values())


@pytest.mark.parametrize("dtype", [np.float32, np.uint8])
def test_other_numbers_are_searched_as_the_plain_estimator_fits_them(kind, dtype):
    X, y = np.rint(10 * IRIS.X).astype(dtype), IRIS.y
    found = search_of(kind).fit(X, y)
    assert_same_search(found, peer_of(kind).fit(X, y), 1e-3)
    assert found.coef_.dtype == (np.float32 if dtype == np.float32 else np.float64)


@pytest.mark.parametrize("fit_intercept", [True, False])
def test_numpy_scalars_are_settings_of_a_search(kind, fit_intercept):
    X, y, _ = PROBLEMS["iris"]
    want = search_of(kind, fit_intercept=fit_intercept).fit(X, y)
    found = search_of(
        kind,
        fit_intercept=np.bool_(fit_intercept),
        tol=np.float32(1e-4),
        max_iter=np.int64(1000),
        random_state=np.int64(0),
        verbose=np.int64(0),
    ).fit(X, y)
    assert found.best_score_ == pytest.approx(want.best_score_, abs=1e-3)


@pytest.mark.parametrize("labels", [["b", "a", "c"], [True, False, True], [7, -1, 3]])
def test_labels_of_any_kind(kind, labels):
    y = np.array(labels)[IRIS.y]
    found = search_of(kind, tol=TIGHT).fit(IRIS.X, y)
    peer = peer_of(kind, tol=TIGHT).fit(IRIS.X, y)
    assert_same_search(found, peer, CLOSE if kind == "softmax" else 0.0)
    assert found.predict(IRIS.X).dtype == y.dtype
    np.testing.assert_array_equal(found.classes_, np.unique(y))


@pytest.mark.filterwarnings("ignore:.*est penalty of its grid")
@pytest.mark.filterwarnings("ignore:The least populated class")  # scikit-learn's own
@pytest.mark.parametrize("count", [2, 5])
def test_by_default_there_are_as_many_folds_as_rows_of_a_class_allow(kind, count):
    rows = np.r_[0:3, 50:53, 100 : 100 + count]
    folds = search_of(kind, cv=None).fit(IRIS.X[rows], IRIS.y[rows]).n_splits_
    assert folds == max(count, 3)


@pytest.mark.parametrize("layout", [np.asarray, scipy.sparse.csr_array])
@pytest.mark.parametrize("solver", ["auto", "lbfgs", "newton"])
def test_alphas_close_together_have_each_its_own_score(kind, solver, layout):
    # the end for one is within tol of the optimum for the next, which it was taken for
    X, y = layout(IRIS.X), IRIS.y
    grid = {"alpha": list(5 * 1.02 ** -np.arange(12.0))}
    if kind == "svm":
        grid |= {"delta": [1.0], "loss": ["squared_hinge"]}
    scoring = "neg_log_loss" if kind == "softmax" else margin_score
    found = search_of(kind, grid, solver=solver, scoring=scoring).fit(X, y)
    peer = peer_of(kind, grid, solver=solver, scoring=scoring).fit(X, y)
    assert_same_search(found, peer, 1e-3)
    assert len(np.unique(found.cv_results_["mean_test_score"])) == 12


def test_of_larger_data_too_each_alpha_has_its_own_score(kind):
    # these do not go on to rounding: seven and five of ten were alike
    X, y = load_digits(return_X_y=True)
    alphas = (10.0 if kind == "softmax" else 1e-2) * 1.002 ** -np.arange(8.0)
    grid = {"alpha": list(alphas)}
    if kind == "svm":
        grid |= {"delta": [1.0], "loss": ["squared_hinge"]}
    scoring = "neg_log_loss" if kind == "softmax" else margin_score
    found = search_of(kind, grid, scoring=scoring, refit=False).fit(X, y)
    peer = peer_of(kind, grid, scoring=scoring, refit=False, tol=1e-8).fit(X, y)
    assert_same_search(found, peer, 1e-4)
    assert len(np.unique(found.cv_results_["mean_test_score"])) == 8


def margin_score(model, X, y):
    """The mean distance of the true class's score from the mean score."""
    return float(model.decision_function(X)[np.arange(len(y)), y].mean())


def test_classes_weigh_in_the_folds_what_they_weigh_in_the_refit(kind):
    X, y = IRIS.X[20:], IRIS.y[20:]
    each = len(y) / (3 * np.bincount(y))
    balanced = search_of(kind, tol=TIGHT, class_weight="balanced").fit(X, y)
    given = {"tol": TIGHT, "class_weight": dict(enumerate(each))}
    peer = peer_of(kind, **given).fit(X, y)
    assert_same_search(balanced, peer, CLOSE if kind == "softmax" else 0.0)
    given["class_weight"] = {0: 1.0, 1: 5.0, 2: 0.2}
    found, peer = search_of(kind, **given).fit(X, y), peer_of(kind, **given).fit(X, y)
    assert_same_search(found, peer, CLOSE if kind == "softmax" else 0.0)


@pytest.mark.filterwarnings("ignore:Scoring failed")
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.FitFailedWarning")
@pytest.mark.filterwarnings("ignore:One or more of the test scores")
def test_a_fold_without_a_class_of_the_weights_fails_as_a_fit_does(kind):
    X, y = IRIS.X, IRIS.y
    cv = [(np.arange(100), np.arange(100)), (np.arange(150), np.arange(0, 150, 3))]
    given = {"class_weight": {0: 1.0, 2: 5.0}, "cv": cv, "tol": TIGHT}
    found, peer = search_of(kind, **given).fit(X, y), peer_of(kind, **given).fit(X, y)
    assert np.isnan(found.cv_results_["split0_test_score"]).all()
    assert_same_search(found, peer, CLOSE if kind == "softmax" else 0.0)


def test_where_rounding_ends_fits_no_iterations_are_asked_for():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 32)
    X = 40 * (rng.normal(size=(2, 143))[y] / 2 + rng.normal(size=(32, 143)))
    search = LinearSVMClassifierCV(losses=["squared_hinge"], alphas=[1e-9], cv=3)
    with pytest.warns(ConvergenceWarning, match="centre or scale X, or raise tol"):
        search.set_params(tol=1e-7, refit=False).fit(X, y)
    search.set_params(alphas=[1e-3], max_iter=1)
    with pytest.warns(ConvergenceWarning, match="raise max_iter, tol"):
        search.fit(X, y)


def test_a_class_that_a_weight_leaves_out_is_unknown_to_the_folds():
    class_weight = {0: 1, 1: 1, 2: 0}
    found = search_of("svm", class_weight=class_weight, tol=TIGHT).fit(*IRIS[:2])
    peer = peer_of("svm", class_weight=class_weight, tol=TIGHT).fit(*IRIS[:2])
    assert_same_search(found, peer)
    assert list(found.classes_) == [0, 1]


def test_without_an_intercept(kind):
    found = search_of(kind, fit_intercept=False, tol=TIGHT).fit(*IRIS[:2])
    peer = peer_of(kind, fit_intercept=False, tol=TIGHT).fit(*IRIS[:2])
    assert_same_search(found, peer, CLOSE if kind == "softmax" else 0.0)


# Folds --------------------------------------------------------------------------------

GROUPS = np.arange(150) % 4
SPLITTERS = {
    "int": 2,
    "stratified": StratifiedKFold(3, shuffle=True, random_state=0),
    "repeated": RepeatedStratifiedKFold(n_splits=2, n_repeats=2, random_state=0),
    "shuffled": ShuffleSplit(3, test_size=0.3, random_state=0),
    "list": list(StratifiedKFold(3).split(*IRIS[:2])),
    "tuples": [
        tuple(map(tuple, split)) for split in StratifiedKFold(3).split(*IRIS[:2])
    ],
    "masks": [(i != GROUPS, i == GROUPS) for i in range(2)],
    "one fold": [(np.arange(0, 150, 2), np.arange(1, 150, 2))],
    "twice": [(np.arange(300) * 7 // 3 % 150, np.arange(5, 150, 3))],
    "groups": GroupKFold(3),
    "stratified groups": StratifiedGroupKFold(3),
    "each group": LeaveOneGroupOut(),
}


# folds are cut by what both searches share: one of them meets all
@pytest.mark.parametrize(
    ("kind", "name"),
    [("softmax", name) for name in SPLITTERS]
    + [("svm", name) for name in ("repeated", "masks", "twice", "stratified groups")],
)
def test_every_splitter_makes_the_folds_of_grid_search(kind, name):
    cv = SPLITTERS[name]
    params = {"groups": GROUPS} if "group" in name else {}
    found = search_of(kind, tol=TIGHT, cv=cv).fit(*IRIS[:2], **params)
    peer = peer_of(kind, tol=TIGHT, cv=cv).fit(*IRIS[:2], **params)
    assert_same_search(found, peer, CLOSE if kind == "softmax" else 0.0)


def test_splits_may_come_from_a_generator(kind):
    found = search_of(kind, cv=StratifiedKFold(3).split(*IRIS[:2])).fit(*IRIS[:2])
    assert_same_search(found, search_of(kind).fit(*IRIS[:2]))


def test_folds_that_lack_a_class_have_a_model_of_the_others():
    X, y = IRIS[:2]
    few = np.r_[0:50, 50:100, 100:103]
    splits = [
        (few[:100], np.arange(0, 150, 4)),  # knows two classes, is asked for three
        (few, np.arange(1, 150, 4)),
        (np.r_[50:150], np.arange(2, 150, 4)),  # two others
    ]
    found = search_of("svm", cv=splits, tol=TIGHT).fit(X, y)
    assert_same_search(found, peer_of("svm", cv=splits, tol=TIGHT).fit(X, y))
    seen = []

    def scorer(model, X, y):
        seen.append((model.classes_.tolist(), model.decision_function(X).shape[1:]))
        return model.score(X, y)

    again = search_of("svm", cv=splits, tol=TIGHT, scoring=scorer).fit(X, y)
    assert_same_search(again, found)
    assert {tuple(classes) for classes, _ in seen} == {(0, 1), (0, 1, 2), (1, 2)}
    assert {shape for classes, shape in seen if len(classes) == 2} == {()}


def test_a_log_loss_is_nan_only_where_a_class_was_never_seen():
    X, y = IRIS[:2]
    rows = np.arange(150)
    known = (rows[::2], rows[1:90:2])  # the rows to be scored lack a class
    unknown = (rows[:100], rows[::3])  # the model does
    with warnings.catch_warnings(record=True, action="always") as caught:
        found = search_of("softmax", cv=[known, unknown]).fit(X, y)
    table = found.cv_results_
    assert np.isfinite(table["split0_test_score"]).all()
    assert np.isnan(table["split1_test_score"]).all()
    assert np.all(table["rank_test_score"] == 1)
    messages = [str(warning.message) for warning in caught]
    assert [m.startswith("Scoring failed on 2 of 4 fits") for m in messages] == [1, 0]
    assert "non-finite" in messages[1]
    model = SoftmaxClassifier(alpha=1e-2).fit(X[known[0]], y[known[0]])
    logs = model.predict_log_proba(X[known[1]])[np.arange(45), y[known[1]]]
    assert table["split0_test_score"][0] == pytest.approx(logs.mean(), abs=1e-3)


def test_a_log_loss_is_nan_where_as_many_other_classes_were_seen():
    # scikit-learn's scorer would take the probability of 0 for that of 1, and so on
    rng = np.random.default_rng(1)
    X, site = rng.normal(size=(90, 3)), np.repeat([0, 1, 2], 30)
    y = np.r_[np.tile([1, 2], 15), np.tile([0, 1], 30)]
    X[np.arange(90), y] += 2
    search = search_of("softmax", cv=LeaveOneGroupOut(), refit=True)
    with warnings.catch_warnings(record=True, action="always") as caught:
        table = search.fit(X, y, groups=site).cv_results_
    assert "which have none of [2]" in str(caught[0].message)
    assert np.isnan(table["split0_test_score"]).all()
    others = table["split1_test_score"] + table["split2_test_score"]
    assert np.isfinite(others).all()
    search.set_params(scoring=["accuracy", "neg_log_loss"], refit="accuracy")
    with pytest.warns(UserWarning, match="non-finite|Scoring failed"):
        several = search.fit(X, y, groups=site).cv_results_
    assert np.isnan(several["split0_test_neg_log_loss"]).all()
    np.testing.assert_array_equal(several["split0_test_accuracy"] > 0.2, True)
    search.set_params(scoring=None, refit=True)
    weights = np.where((site == 0) & (y == 2), 0.0, 1.0)  # which nobody scores
    table = search.fit(X, y, groups=site, sample_weight=weights).cv_results_
    assert np.isfinite(table["split0_test_score"]).all()


def test_a_fold_that_cannot_be_fitted_is_nan_as_in_grid_search():
    X, y = IRIS[:2]
    rows = np.arange(150)
    splits = [(rows[::2], rows[1::2]), (rows[:50], rows[50:])]  # of one class only
    with warnings.catch_warnings(record=True, action="always") as caught:
        found = search_of("svm", cv=splits, tol=TIGHT).fit(X, y)
    assert [w.category for w in caught] == [FitFailedWarning, UserWarning]
    assert "1 of 2 folds" in str(caught[0].message)
    assert "at least 2 classes" in str(caught[0].message)
    assert str(caught[0].message).count("Traceback") == 1  # that of the names
    with warnings.catch_warnings(action="ignore"):
        peer = peer_of("svm", cv=splits, tol=TIGHT).fit(X, y)
    assert_same_search(found, peer)
    with pytest.raises(ValueError, match=r"All the 1 folds(.|\n)*at least 2 classes"):
        search_of("svm", cv=splits[1:]).fit(X, y)


@pytest.mark.filterwarnings("ignore:One or more of the test scores")
def test_why_a_fold_cannot_be_fitted_is_told_in_the_labels_own_names():
    X, y = IRIS.X, np.array(["a", "b", "c"])[IRIS.y]
    rows = np.arange(150)
    search = search_of("softmax", cv=[(rows[:50], rows), (rows, rows)], refit=False)
    with pytest.warns(FitFailedWarning, match=r"at least 2 classes .*: \['a'\]"):
        search.fit(X, y)
    with pytest.warns(FitFailedWarning, match="No training row of the fold has"):
        search.fit(X, y, sample_weight=(y != "a").astype(float))


# Weights ------------------------------------------------------------------------------


def test_weights_go_to_the_fits_and_to_the_scorer(kind):
    X, y, weights = PROBLEMS["weighted"]
    found = search_of(kind, tol=TIGHT).fit(X, y, sample_weight=weights)
    name = "accuracy" if kind == "svm" else "neg_log_loss"
    with sklearn.config_context(enable_metadata_routing=True):
        peer = peer_of(
            kind,
            tol=TIGHT,
            scoring=get_scorer(name).set_score_request(sample_weight=True),
        )
        peer.estimator.set_fit_request(sample_weight=True)
        peer.fit(X, y, sample_weight=weights)
        routed = search_of(kind, tol=TIGHT).fit(X, y, sample_weight=weights)
        assert_same_search(routed, found)
    assert_same_search(found, peer, CLOSE)
    np.testing.assert_allclose(found.coef_, peer.best_estimator_.coef_, rtol=1e-6)
    other = search_of(kind, tol=TIGHT).fit(X, y)
    scores = [s.cv_results_["mean_test_score"] for s in (found, other)]
    assert not np.allclose(*scores, atol=1e-2)


def test_with_routing_weights_and_groups_go_where_they_are_requested(kind):
    X, y, weights = PROBLEMS["weighted"]
    groups = np.arange(60) % 4
    with sklearn.config_context(enable_metadata_routing=True):
        told = []

        def function(y, predicted, sample_weight=None):
            told.append(sample_weight)
            return accuracy_score(y, predicted, sample_weight=sample_weight)

        scorer = make_scorer(function).set_score_request(sample_weight=False)
        search = search_of(kind, cv=GroupKFold(4), scoring=scorer)
        search.fit(X, y, sample_weight=weights, groups=groups)
        assert told
        assert all(weight is None for weight in told)
        # and from outside
        search = search_of(kind).set_fit_request(sample_weight=True)
        scores = cross_val_score(
            search,
            X,
            y,
            params={"sample_weight": weights},
            scoring=get_scorer("accuracy").set_score_request(sample_weight=False),
        )
        assert len(scores) == 5


def test_with_routing_a_score_takes_the_weights_that_its_scorer_requests(kind):
    X, y, weights = PROBLEMS["weighted"]
    with sklearn.config_context(enable_metadata_routing=True):
        told = get_scorer("accuracy").set_score_request(sample_weight=True)
        found = search_of(kind, scoring=told).fit(X, y, sample_weight=weights)
        plain, weighed = (
            accuracy_score(y, found.predict(X), sample_weight=w)
            for w in (None, weights)
        )
        assert plain != weighed
        assert found.score(X, y, sample_weight=weights) == pytest.approx(weighed)
        found.scoring = get_scorer("accuracy").set_score_request(sample_weight=False)
        with pytest.raises(TypeError, match="not routed to any object"):
            found.score(X, y, sample_weight=weights)


def test_unknown_metadata_are_refused(kind):
    with pytest.raises(ValueError, match="enable_metadata_routing"):
        search_of(kind).fit(*IRIS[:2], colour="red")


def plainly(y, predicted):
    """An accuracy without weights."""
    return accuracy_score(y, predicted)


WITHOUT = [lambda model, X, y: model.score(X, y), make_scorer(plainly)]


@pytest.mark.parametrize("scorer", WITHOUT, ids=["callable", "made"])
def test_a_scorer_without_weights_is_warned_of(scorer):
    X, y, weights = PROBLEMS["weighted"]
    search = search_of("softmax", scoring=scorer)
    with pytest.warns(UserWarning, match="does not support sample_weight"):
        search.fit(X, y, sample_weight=weights)
    assert np.isfinite(search.best_score_)


def test_with_routing_a_scorer_may_do_without_weights():
    """It says so itself, and is not warned of."""
    X, y, weights = PROBLEMS["weighted"]
    with sklearn.config_context(enable_metadata_routing=True):
        scorer = make_scorer(plainly).set_score_request(sample_weight=False)
        found = search_of("softmax", scoring=scorer).fit(X, y, sample_weight=weights)
    assert np.isfinite(found.best_score_)


def test_of_several_scorers_those_that_take_weights_get_them():
    X, y, weights = PROBLEMS["weighted"]
    scoring = {"plain": make_scorer(plainly), "accuracy": "accuracy"}
    grid = {"alpha": [1e-2], "loss": ["squared_hinge"]}
    several = search_of("svm", grid, scoring=scoring, refit="accuracy")
    with warnings.catch_warnings():  # of the one that takes none
        warnings.simplefilter("ignore", UserWarning)
        table = several.fit(X, y, sample_weight=weights).cv_results_
    alone = search_of("svm", grid, scoring="accuracy").fit(X, y, sample_weight=weights)
    found, wanted = table["mean_test_accuracy"], alone.cv_results_["mean_test_score"]
    np.testing.assert_allclose(found, wanted, rtol=1e-12)
    assert not np.allclose(table["mean_test_plain"], wanted, atol=1e-2)


def test_rows_of_weight_zero_might_as_well_not_be_there(kind):
    X, y = IRIS[:2]
    weights = (np.arange(150) % 3 > 0).astype(float)
    splits = list(StratifiedKFold(3).split(X, y))
    found = search_of(kind, cv=splits, tol=TIGHT).fit(X, y, sample_weight=weights)
    kept = np.flatnonzero(weights)
    place = np.full(150, -1)
    place[kept] = np.arange(len(kept))
    fewer = [tuple(p[p >= 0] for p in (place[a], place[b])) for a, b in splits]
    other = search_of(kind, cv=fewer, tol=TIGHT).fit(X[kept], y[kept])
    assert_same_search(found, other, CLOSE if kind == "softmax" else 1e-15)


def test_a_class_whose_rows_have_no_weight_might_as_well_not_be_there(kind):
    X, y = IRIS[:2]
    splits = list(StratifiedKFold(3).split(X, y))
    found = search_of(kind, cv=splits, tol=TIGHT)
    found.fit(X, y, sample_weight=np.where(y == 0, 0.0, 2.0))
    fewer = [tuple(part[y[part] > 0] - 50 for part in split) for split in splits]
    other = search_of(kind, cv=fewer, tol=TIGHT).fit(X[50:], y[50:])
    assert_same_search(found, other, CLOSE if kind == "softmax" else 1e-15)
    assert np.isfinite(found.best_score_)


# Several metrics ----------------------------------------------------------------------


def both(model, X, y):
    """Two metrics from one callable."""
    score = model.score(X, y)
    return {"right": score, "wrong": -score}


SEVERAL = {
    "list": (["accuracy", "f1_macro"], "f1_macro"),
    "tuple": (("accuracy", "f1_macro"), "accuracy"),
    "dict": ({"a": "accuracy", "b": make_scorer(accuracy_score)}, "b"),
    "callable": (both, "wrong"),
    "no refit": (["accuracy", "f1_macro"], False),
    "own rule": (["accuracy", "f1_macro"], lambda table: 1),
}


@pytest.mark.parametrize(
    ("kind", "name"),
    [("softmax", name) for name in SEVERAL] + [("svm", "list"), ("svm", "callable")],
)
def test_several_metrics(kind, name):
    scoring, refit = SEVERAL[name]
    params = {"scoring": scoring, "refit": refit, "tol": TIGHT}
    found = search_of(kind, **params).fit(*IRIS[:2])
    peer = peer_of(kind, **params).fit(*IRIS[:2])
    assert_same_search(found, peer)
    assert found.multimetric_
    if isinstance(refit, str):
        assert found.score(*IRIS[:2]) == peer.score(*IRIS[:2])
    if scoring is not both:
        assert set(found.scorer_) == set(peer.scorer_)


@pytest.mark.parametrize("scoring", [["accuracy", "f1_macro"], both])
@pytest.mark.parametrize("refit", [True, "recall", "one_std"])
def test_several_metrics_need_one_that_chooses(kind, scoring, refit):
    with pytest.raises(ValueError, match="refit must be set to a scorer key"):
        search_of(kind, scoring=scoring, refit=refit).fit(*IRIS[:2])


def test_one_of_several_scorers_that_fails_is_nan_alone():
    def broken(y, predicted):
        raise RuntimeError("no score today")

    scoring = {"good": "accuracy", "bad": make_scorer(broken)}
    with warnings.catch_warnings(record=True, action="always") as caught:
        found = search_of("svm", scoring=scoring, refit="good").fit(*IRIS[:2])
    assert np.isnan(found.cv_results_["mean_test_bad"]).all()
    assert np.all(found.cv_results_["rank_test_bad"] == 1)
    assert found.best_score_ > 0.9
    assert "no score today" in str(caught[0].message)


@pytest.mark.parametrize("refit", ["a", False])
def test_one_of_several_scorers_that_asks_for_probabilities_is_refused(refit):
    params = {"scoring": {"a": "accuracy", "b": "roc_auc_ovr"}, "refit": refit}
    for search in (search_of("svm", **params), peer_of("svm", **params)):
        with pytest.raises(AttributeError, match="predict_proba"):
            search.fit(*IRIS[:2])


@pytest.mark.filterwarnings("ignore:(Scoring failed|One or more of the test scores)")
@pytest.mark.parametrize(
    "scoring", ["roc_auc_ovr", "neg_log_loss", {"a": "roc_auc_ovr"}]
)
def test_a_scorer_alone_that_asks_for_probabilities_gives_nan(scoring):
    params = {"scoring": scoring, "refit": "a" if isinstance(scoring, dict) else True}
    found = search_of("svm", **params).fit(*IRIS[:2])
    peer = peer_of("svm", **params).fit(*IRIS[:2])
    assert_same_search(found, peer)
    assert np.isnan(found.best_score_)
    assert np.isnan(peer.best_score_)


def test_a_callable_of_several_metrics_may_fail_on_a_fold(kind):
    asked = []

    def sometimes(model, X, y):
        asked.append(len(X))
        if len(asked) == 1:
            raise RuntimeError("no score today")
        return both(model, X, y)

    with warnings.catch_warnings(record=True, action="always") as caught:
        found = search_of(kind, scoring=sometimes, refit="right").fit(*IRIS[:2])
    assert "no score today" in str(caught[0].message)
    assert found.multimetric_
    for name in ("right", "wrong"):
        mean = found.cv_results_[f"mean_test_{name}"]
        assert np.isnan(mean).sum() == 1
        rank = found.cv_results_[f"rank_test_{name}"]
        assert rank[np.isnan(mean)] == len(mean)  # after the worst, not beside it
    assert found.best_score_ == np.nanmax(found.cv_results_["mean_test_right"])


def test_a_scorer_may_change_what_it_gets(kind):
    def scorer(model, X, y):
        score = model.score(X, y)
        X -= X.mean(axis=0)
        y -= 1
        model.classes_[:] = -1
        return score

    X, y = (each.copy() for each in IRIS[:2])
    params = {"scoring": scorer, "tol": TIGHT, "refit": False}
    found, peer = search_of(kind, **params), peer_of(kind, **params)
    for name in ("mean_test_score", "split0_test_score"):
        ours, theirs = (each.fit(X, y).cv_results_[name] for each in (found, peer))
        np.testing.assert_allclose(ours, theirs, rtol=1e-12)
    np.testing.assert_array_equal(X, IRIS.X)
    np.testing.assert_array_equal(y, IRIS.y)


def test_a_scorer_may_change_the_weights_it_gets(kind):
    def scorer(model, X, y, sample_weight):
        sample_weight *= 2
        return sample_weight.sum()

    weights = np.linspace(1, 2, 150)
    search = search_of(kind, scoring=scorer, refit=False)
    results = search.fit(*IRIS[:2], sample_weight=weights).cv_results_
    assert np.ptp(results["split0_test_score"]) == 0
    assert weights[0] == 1


def test_the_log_loss_of_rows_that_lack_classes_counts_all_of_the_models():
    search = search_of("softmax", cv=LeaveOneOut()).fit(IRIS.X[::5], IRIS.y[::5])
    X, y = IRIS.X[:1], IRIS.y[:1]
    own = float(np.log(search.predict_proba(X)[0, y[0]]))
    assert search.score(X, y) == pytest.approx(own, rel=1e-12)
    weighted = search.score(IRIS.X, IRIS.y, sample_weight=np.arange(150) == 0)
    assert weighted == pytest.approx(own, rel=1e-12)
    with pytest.raises(ValueError, match=r"y must hold classes .* got also \[7\]"):
        search.score(X, [7])
    search.scorer_ = get_scorer("accuracy")  # the fitted one counts
    assert search.score(IRIS.X, IRIS.y) == accuracy_score(
        IRIS.y, search.predict(IRIS.X)
    )


@pytest.mark.parametrize("split", [(1, 2), ([[0, 60]], [1, 61]), ([0, 60], 1)])
def test_a_split_that_is_no_pair_of_arrays_is_refused(kind, split):
    with pytest.raises(ValueError, match="cv must give two arrays of row indices"):
        search_of(kind, cv=[split]).fit(*IRIS[:2])


@pytest.mark.parametrize("several", [False, True])
def test_a_score_may_be_an_array_of_one_number(kind, several):
    def scorer(model, X, y):
        score = np.array([model.score(X, y)])
        return {"one": score} if several else score

    params = {"scoring": scorer, "refit": "one" if several else True, "tol": TIGHT}
    found = search_of(kind, **params).fit(*IRIS[:2])
    assert_same_search(found, peer_of(kind, **params).fit(*IRIS[:2]))


def test_a_score_of_several_metrics_needs_one_that_is_named(kind):
    for scoring in (["accuracy", "f1_macro"], both):
        found = search_of(kind, scoring=scoring, refit=lambda table: 0)
        found.fit(*IRIS[:2])
        with pytest.raises(ValueError, match="score needs one metric"):
            found.score(*IRIS[:2])


# The choice ---------------------------------------------------------------------------


@pytest.mark.parametrize("refit", ["score", "accuracy"])
def test_a_metric_alone_may_be_chosen_by_its_name(kind, refit):
    found = search_of(kind, scoring="accuracy", refit=refit).fit(*IRIS[:2])
    peer = peer_of(kind, scoring="accuracy", refit=refit).fit(*IRIS[:2])
    assert found.best_index_ == peer.best_index_
    assert found.best_estimator_.alpha == found.best_params_["alpha"]


def test_a_callable_chooses_its_row(kind):
    found = search_of(kind, refit=lambda table: 1, tol=TIGHT).fit(*IRIS[:2])
    assert_same_search(found, peer_of(kind, refit=lambda table: 1).fit(*IRIS[:2]), 1)
    assert found.best_params_ == found.cv_results_["params"][1]
    for name, value in found.best_params_.items():
        assert getattr(found, f"{name}_") == value
    for wrong, error in ((0.5, TypeError), (-1, IndexError), (99, IndexError)):
        with pytest.raises(error, match="best_index_"):
            search_of(kind, refit=lambda table, wrong=wrong: wrong).fit(*IRIS[:2])


def test_one_std_takes_the_strongest_penalty_within_one_standard_error(kind):
    X, y = IRIS[:2]
    X = X + np.random.default_rng(0).normal(size=X.shape) / 2  # folds that differ
    grid = {"alphas": np.logspace(1, -3, 9)}
    if kind == "svm":
        grid["losses"] = ["squared_hinge"]
    found = SEARCHES[kind](**grid, refit="one_std").fit(X, y)
    table = found.cv_results_
    best = table["rank_test_score"].argmin()
    folds = np.array([table[f"split{i}_test_score"] for i in range(5)])[:, best]
    least = folds.mean() - folds.std(ddof=1) / np.sqrt(5)
    stronger = [
        (params, score)
        for params, score in zip(table["params"], table["mean_test_score"], strict=True)
        if params.get("loss") == table["params"][best].get("loss")
        and params["alpha"] > found.alpha_
    ]
    assert found.best_score_ >= least
    assert stronger
    assert all(score < least for _, score in stronger)
    assert found.alpha_ > table["params"][best]["alpha"]  # or it would show nothing


@pytest.mark.parametrize("train", [[2, 0, 1], [2, 0, 1, 2, 2, 0], [1, 1], [1] * 300])
def test_a_fold_has_rows_as_often_as_its_split_names_them(train):
    fold = Fold.of(0, 5, np.array(train), np.array([4, 3]))
    np.testing.assert_array_equal(fold.times, np.bincount(train, minlength=5))
    np.testing.assert_array_equal(fold.train, np.sort(train))
    np.testing.assert_array_equal(fold.test, [4, 3])


def test_one_std_chooses_as_the_table_says():
    hinge, square = Hinge(), SquaredHinge()
    # of 3 folds the mean is off by their deviation over sqrt(2), not 3: by 0.1
    problems = {
        "best": (square, 1.0, 0.9),
        "within": (square, 10.0, 0.801),
        "within, too, and better": (square, 10.0, 0.81),
        "beyond": (square, 100.0, 0.799),
        "of another loss": (hinge, 1000.0, 0.89),
    }
    cells = [Cell({}, loss, alpha, 1.0, 1.0) for loss, alpha, _ in problems.values()]
    mean = np.array([score for *_, score in problems.values()])
    table = {
        **{f"split{fold}_test_score": mean for fold in range(3)},
        "mean_test_score": mean,
        "std_test_score": np.full(5, 0.1 * np.sqrt(2)),
        "rank_test_score": np.array([1, 4, 3, 5, 2]),
    }
    chosen = list(problems)[best_index("one_std", "score", table, cells)]
    assert chosen == "within, too, and better"
    mean[1:3] = 0.799
    assert list(problems)[best_index("one_std", "score", table, cells)] == "best"


@pytest.mark.filterwarnings("ignore:.*non-finite")
def test_one_std_takes_the_best_where_its_score_has_no_error(kind):
    def scorer(model, X, y):
        return np.inf if model.alpha == 1e-2 else 0.0

    found = search_of(kind, scoring=scorer, refit="one_std").fit(*IRIS[:2])
    assert found.alpha_ == 1e-2


def test_one_std_takes_the_best_of_a_single_fold(kind):
    X, y = IRIS[:2]
    rows = np.arange(150)
    once = [(rows[rows % 2 == 0], rows[rows % 2 == 1])]
    # of one fold no deviation tells an error
    found = search_of(kind, cv=once, refit="one_std").fit(X, y)
    best = search_of(kind, cv=once).fit(X, y)
    assert found.best_score_ == best.best_score_
    assert found.best_params_ == best.best_params_


@pytest.mark.parametrize("no", [False, np.False_])
def test_without_a_refit_there_is_a_choice_but_no_model(kind, no):
    found = search_of(kind, refit=no).fit(*IRIS[:2])
    assert found.best_params_
    assert found.best_score_ > 0 or kind == "softmax"
    names = ["predict", "decision_function", "score", "certify"]
    names += ["predict_proba"] * (kind == "softmax")
    for name in names:
        assert not hasattr(found, name)
        with pytest.raises(AttributeError):
            getattr(found, name)(IRIS.X)
    assert not hasattr(found, "coef_")
    assert not hasattr(found, "best_estimator_")
    several = search_of(kind, refit=no, scoring=["accuracy", "f1_macro"])
    assert not hasattr(several.fit(*IRIS[:2]), "best_index_")


def test_the_refit_is_a_plain_fit_with_the_best_parameters(kind):
    X, y, weights = PROBLEMS["weighted"]
    found = search_of(kind).fit(X, y, sample_weight=weights)
    plain = PLAIN[kind](**found.best_params_).fit(X, y, sample_weight=weights)
    for name in vars(plain):
        if name.endswith("_"):
            np.testing.assert_array_equal(getattr(found, name), getattr(plain, name))
    np.testing.assert_array_equal(found.certify(X), plain.certify(X))
    np.testing.assert_array_equal(found.predict(X), plain.predict(X))
    if kind == "softmax":
        np.testing.assert_array_equal(found.predict_proba(X), plain.predict_proba(X))
        np.testing.assert_array_equal(
            found.predict_log_proba(X), plain.predict_log_proba(X)
        )
    assert found.best_estimator_.get_params() == plain.get_params()
    assert found.refit_time_ > 0


def test_assigned_coefficients_are_scored_as_they_predict(kind):
    X, y = IRIS[:2]
    search = search_of(kind, scoring="accuracy").fit(X, y)
    assert search.score(X, y) > 0.9
    search.coef_ = np.zeros_like(search.coef_)
    assert search.score(X, y) == accuracy_score(y, search.predict(X))
    assert search.best_estimator_.score(X, y) > 0.9


def test_y_as_a_frame_is_warned_of_once(kind):
    pd = pytest.importorskip("pandas")
    with warnings.catch_warnings(record=True, action="always") as caught:
        search_of(kind).fit(IRIS.X, pd.DataFrame({"y": IRIS.y}))
    assert [w.category for w in caught].count(DataConversionWarning) == 1


def test_a_second_fit_forgets_the_first(kind):
    X, y = IRIS[:2]
    search = search_of(kind, scoring=["accuracy", "f1_macro"], refit="accuracy")
    search.fit(X, y)
    search.set_params(refit=False).fit(X, y)
    for name in ("best_index_", "best_params_", "best_score_", "alpha_", "coef_"):
        assert not hasattr(search, name), name
    search.set_params(refit="accuracy", solver="sgd", max_iter=3, tol=1.0).fit(X, y)
    assert search.solver_ == "sgd"
    assert not hasattr(search, "dual_gap_")
    with pytest.raises(AttributeError, match="has none"):
        search.certify(X)


def test_a_search_that_fails_leaves_the_one_before_whole(kind):
    def fail(model, X, y):
        raise KeyboardInterrupt

    X, y = IRIS[:2]
    search = search_of(kind).fit(X, y)
    before = vars(search).copy()
    with pytest.raises(KeyboardInterrupt):
        search.set_params(scoring=fail).fit(X[:, :2], y)
    assert vars(search) == {**before, "scoring": fail}
    assert search.predict(X[:1]) == y[:1]


def test_scores_under_strong_penalties_are_as_exact_as_others(kind):
    # rows that differ in length by far more than in what tells their classes apart: at
    # gaps of 1e-4 up to 8 of the 300 labels are others
    rng = np.random.default_rng(17)
    y = np.tile(np.arange(5), 60)
    X = np.exp(rng.normal(size=(300, 1))) * (1 + 0.1 * rng.normal(size=(300, 60)))
    X += 0.3 * rng.normal(size=(5, 60))[y]
    grid = {"alpha": [1e6, 1e4, 1e2, 10, 1]}
    if kind == "svm":
        grid["loss"] = ["squared_hinge"]
    search = search_of(kind, grid, scoring="accuracy", refit=False)
    scores = search.fit(X, y).cv_results_["mean_test_score"]
    exact = search.set_params(tol=1e-10).fit(X, y).cv_results_["mean_test_score"]
    np.testing.assert_array_equal(scores, exact)
    assert scores[0] < 0.6 < 0.9 < scores[-1]


# The grid -----------------------------------------------------------------------------

BAD = {
    "no alphas": ("svm", {"alphas": []}, "alphas must be .* at least one"),
    "a truth": ("svm", {"alphas": True}, "alphas must be .* got True"),
    "a mapping": ("svm", {"alphas": {0.1: 1}}, "alphas must be .* got {0.1: 1}"),
    "too many": ("svm", {"alphas": 2**31}, "alphas.* must be an int in .*10000"),
    "negative": ("softmax", {"alphas": [1.0, -1.0]}, "alphas must be .* > 0"),
    "zero": ("softmax", {"alphas": [0.0, 1.0]}, "alphas must be .* > 0"),
    "nan": ("svm", {"alphas": [np.nan]}, "alphas must be .*finite.*nan"),
    "inf": ("svm", {"alphas": [np.inf]}, "alphas must be .*finite.*inf"),
    "strings": ("softmax", {"alphas": ["0.1"]}, "alphas must be .*numbers"),
    "a table": ("softmax", {"alphas": [[0.1]]}, "alphas must be"),
    "a ragged one": ("softmax", {"alphas": [[0.1], [1, 2]]}, "alphas must be"),
    "a number as an array": ("softmax", {"alphas": np.array(0.1)}, "alphas must be"),
    "a string": ("softmax", {"alphas": "many"}, "'alphas' parameter"),
    "a float": ("softmax", {"alphas": 0.1}, "'alphas' parameter"),
    "none of them": ("softmax", {"alphas": 0}, "'alphas' parameter"),
    "no deltas": ("svm", {"deltas": []}, "deltas must be"),
    "zero delta": ("svm", {"deltas": [0.0]}, "deltas must be .* > 0"),
    "one delta": ("svm", {"deltas": 1.0}, "'deltas' parameter"),
    "no losses": ("svm", {"losses": []}, "losses must be"),
    "a table of losses": ("svm", {"losses": np.array([["hinge"]])}, "losses must be"),
    "a loss as an array": ("svm", {"losses": np.array("hinge")}, "losses must be"),
    "unknown loss": ("svm", {"losses": ["hinge", "log"]}, "losses must be .*'log'"),
    "one loss": ("svm", {"losses": "hinge"}, "'losses' parameter"),
    "refit": ("svm", {"refit": "best"}, "refit must be .*got 'best'"),
    "scoring": ("svm", {"scoring": "speed"}, "'scoring' parameter"),
    "cv": ("svm", {"cv": "ten"}, "'cv' parameter"),
    "no folds": ("svm", {"cv": []}, "cv must .* at least one fold"),
    "n_jobs": ("svm", {"n_jobs": 1.5}, "'n_jobs' parameter"),
    "solver": ("svm", {"solver": "magic"}, "'solver' parameter"),
    "tol": ("softmax", {"tol": 0.0}, "'tol' parameter"),
    "classes": ("softmax", {"class_weight": {0: -1}}, "class_weight must be"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_parameters_are_named(name):
    kind, params, message = BAD[name]
    with pytest.raises(ValueError, match=message):
        SEARCHES[kind](**{"alphas": [0.1], **params}).fit(*IRIS[:2])


def test_rows_are_as_asked_however_the_grid_is_written(kind):
    alphas = np.array([1e-1, 1e-2, 1e-1])
    grid = {**GRIDS[kind], "alpha": alphas}
    found = search_of(kind, grid, tol=TIGHT).fit(*IRIS[:2])
    peer = peer_of(kind, grid, tol=TIGHT).fit(*IRIS[:2])
    assert_same_search(found, peer, CLOSE if kind == "softmax" else 0.0)
    np.testing.assert_array_equal(found.alphas_, alphas)
    objects = search_of(kind, {**grid, "alpha": alphas.astype(object)}, tol=TIGHT)
    assert_same_search(objects.fit(*IRIS[:2]), found)
    single = search_of(kind, {**grid, "alpha": alphas.astype(np.float32)})
    column = single.fit(*IRIS[:2]).cv_results_["param_alpha"]
    assert column.dtype == np.float32
    assert set(column) == set(np.float32(alphas))
    arrays = search_of(kind, {**grid, "alpha": [np.array(0.1)]}).fit(*IRIS[:2])
    assert arrays.alpha_ == 0.1
    whole = search_of(kind, {**GRIDS[kind], "alpha": [1, 10]}).fit(*IRIS[:2])
    assert whole.cv_results_["param_alpha"].dtype == np.array([1, 10]).dtype


def test_the_automatic_grid_begins_where_scores_are_those_of_the_priors(kind):
    for name in ("iris", "wine", "sparse"):
        X, y, _ = PROBLEMS[name]
        found = SEARCHES[kind](alphas=4, cv=3, refit=False).fit(X, y)
        alphas = found.alphas_
        steps = np.diff(np.log(alphas))
        assert np.all(steps < 0)
        np.testing.assert_allclose(steps, steps[0], rtol=1e-2)  # of three digits
        losses = ["hinge", "squared_hinge"] if kind == "svm" else [None]
        for loss in losses:
            params = {} if loss is None else {"loss": loss}
            model = PLAIN[kind](alpha=alphas[0], **params).fit(X, y)
            scores = X @ model.coef_.T
            off = scores - scores.mean(axis=0)
            assert np.sqrt(np.mean(np.sum(off**2, axis=1))) < 0.11  # 0.1, to 1st order
        weak = PLAIN[kind](alpha=alphas[-1], **params).fit(X, y)
        strong = PLAIN[kind](alpha=alphas[0], **params).fit(X, y)
        assert weak.score(X, y) > max(0.9, strong.score(X, y)) - 0.05


def test_the_automatic_grid_follows_the_features_scale_and_no_weights(kind):
    X, y, weights = PROBLEMS["weighted"]
    fit = {"alphas": 3, "refit": False, "cv": 2}
    found = SEARCHES[kind](**fit).fit(X, y, sample_weight=weights)
    heavier = SEARCHES[kind](**fit).fit(X, y, sample_weight=1000 * weights)
    scaled = SEARCHES[kind](**fit).fit(100 * X, y, sample_weight=weights)
    np.testing.assert_array_equal(heavier.alphas_, found.alphas_)
    np.testing.assert_allclose(scaled.alphas_, 1e4 * found.alphas_, rtol=1e-9)
    np.testing.assert_allclose(
        scaled.cv_results_["mean_test_score"],
        found.cv_results_["mean_test_score"],
        atol=1e-2,  # of the one score that a row more or less is
    )


@pytest.mark.parametrize("container", [np.asarray, scipy.sparse.csr_matrix])
@pytest.mark.parametrize("most", [1, 3, 1e-3, -1])
def test_rows_are_told_apart_as_they_are(container, most):
    rng = np.random.RandomState(0)
    values, d = (2, 14) if abs(most) == 1 else (4, 6)
    X = rng.randint(values, size=(6000, d)) * float(most)
    y = rng.randint(3, size=6000)
    weights = rng.randint(2, size=6000) / 3000.0
    labels, masses = _distinct(Data(container(X), y, weights, 3))
    rows = np.column_stack([X, y])[weights > 0]
    each, counts = np.unique(rows, axis=0, return_counts=True)
    assert 100 < len(each) < len(rows)
    np.testing.assert_array_equal(
        np.bincount(labels), np.bincount(each[:, -1].astype(int))
    )
    np.testing.assert_allclose(np.sort(masses), np.sort(counts) / 3000, rtol=1e-12)


@pytest.mark.parametrize("d", [20, 100])  # features, of 120 rows, one of which tells
@pytest.mark.parametrize(
    "container", [np.asarray, np.asfortranarray, scipy.sparse.csr_matrix]
)
def test_the_automatic_grid_takes_a_weight_of_2_for_the_row_twice(kind, d, container):
    rng = np.random.RandomState(0)
    X, y = rng.uniform(size=(120, d)), rng.randint(3, size=120)
    X[:, 0] += y
    X[0, 1:3] = 0.0, -0.0
    counts = rng.randint(5, size=120)
    fit = {"alphas": 3, "refit": False, "cv": 2}
    weighted = SEARCHES[kind](**fit).fit(container(X), y, sample_weight=counts)
    rows = np.repeat(np.arange(120), counts)
    repeated = SEARCHES[kind](**fit).fit(container(X[rows]), y[rows])
    np.testing.assert_array_equal(weighted.alphas_, repeated.alphas_)
    twice = np.tile(np.arange(120), 2)
    doubled = SEARCHES[kind](**fit).fit(container(X[twice]), y[twice])
    once = SEARCHES[kind](**fit).fit(container(X), y)
    np.testing.assert_array_equal(doubled.alphas_, once.alphas_)


@pytest.mark.filterwarnings("error:.*est penalty of its grid")
def test_the_automatic_grid_of_raw_features_ends_where_it_does_for_scaled_ones(kind):
    X, y = PROBLEMS["wine"][:2]  # columns from 0.1 to 1680, and it can be interpolated
    scaled = StandardScaler().fit_transform(X)
    found = SEARCHES[kind](cv=3).fit(X, y)
    other = SEARCHES[kind](cv=3).fit(scaled, y)
    weak = [
        PLAIN[kind](alpha=search.alphas_[-1]).fit(rows, y)
        for search, rows in ((found, X), (other, scaled))
    ]
    assert weak[0].score(X, y) == weak[1].score(scaled, y) == 1
    assert max(model.loss_curve_[-1] for model in weak) < 1e-3
    assert found.alphas_[-1] < 1e-10 * found.alphas_[0]


@pytest.mark.parametrize("container", [np.asarray, scipy.sparse.csr_matrix])
@pytest.mark.parametrize("value", [3.0, 0.1])
def test_the_automatic_grid_of_equal_rows_is_that_of_rows_of_zeros(value, container):
    y = np.r_[np.zeros(60, int), np.arange(60) % 3]
    models = [
        SoftmaxClassifierCV(cv=2).fit(container(np.full((120, 4), number)), y)
        for number in (0.0, value)
    ]
    np.testing.assert_array_equal(models[1].alphas_, models[0].alphas_)
    np.testing.assert_allclose(value * models[1].coef_, 0, atol=1e-6)


def test_the_automatic_grid_of_sparse_rows_is_that_of_dense_ones(kind):
    X, y = PROBLEMS["sparse"][:2]
    sparse, dense = (
        SEARCHES[kind](alphas=5, cv=2, refit=False).fit(rows, y)
        for rows in (X, X.toarray())
    )
    np.testing.assert_array_equal(sparse.alphas_, dense.alphas_)


def test_the_automatic_grid_of_wide_rows_needs_no_stretching():
    X, y = PROBLEMS["wide"][:2]  # of more features than rows
    X = X * np.logspace(0, -6, X.shape[1])
    found = SoftmaxClassifierCV(alphas=2, cv=2).fit(X, y)
    assert found.alphas_[-1] == pytest.approx(1e-7 * found.alphas_[0], rel=0.01)
    assert SoftmaxClassifier(alpha=found.alphas_[-1]).fit(X, y).score(X, y) == 1


def test_features_of_little_say_do_not_stretch_the_automatic_grid():
    X, y = IRIS[:2]
    noise = 1e-6 * np.random.default_rng(0).normal(size=(150, 1))
    grids = [
        SoftmaxClassifierCV(alphas=2, cv=2, refit=False).fit(rows, y).alphas_
        for rows in (X, np.hstack([X, noise, np.full((150, 1), 0.1)]))
    ]
    np.testing.assert_allclose(*grids, rtol=0.05)


def test_the_automatic_grid_stretches_with_the_margins():
    X, y = IRIS[:2]
    one = LinearSVMClassifierCV(alphas=3, losses=["hinge"], refit=False).fit(X, y)
    two = LinearSVMClassifierCV(
        alphas=3, losses=["hinge"], deltas=[1, 100], refit=False
    ).fit(X, y)
    assert two.alphas_[0] == one.alphas_[0]
    assert two.alphas_[-1] == pytest.approx(one.alphas_[-1] / 100)


@pytest.mark.parametrize("scale", [1e-160, 1e-90, 1e-55, 1e55, 1e99])
def test_features_beyond_any_grid_are_refused_with_a_way_out(kind, scale):
    X, y = IRIS[:2]
    with pytest.raises(ValueError, match=r"alphas=10 asks for .* StandardScaler"):
        SEARCHES[kind]().fit(scale * X, y)
    least = SEARCHES[kind](alphas=2, cv=2, refit=False).fit(1e-48 * X, y)
    assert least.alphas_[-1] == 1e-100  # where it would be less


def test_features_that_tell_nothing_still_have_a_grid(kind):
    found = SEARCHES[kind](alphas=2, cv=2).fit(np.ones((20, 2)), np.arange(20) % 2)
    assert np.all(found.coef_ == 0)


EDGE = "at the (weak|strong)est penalty of its grid"


@pytest.mark.filterwarnings("default:.*est penalty of its grid")
def test_the_best_alpha_at_the_edge_of_the_grid_is_warned_of():
    X, y = IRIS[:2]
    with pytest.warns(UserWarning, match="strongest penalty.*larger alphas") as caught:
        SoftmaxClassifierCV(alphas=[1e-9, 1e-8, 1e-7]).fit(X, y)
    assert caught[0].filename == __file__
    with pytest.warns(UserWarning, match=r"weakest penalty.*'?alpha=1\b.*smaller"):
        SoftmaxClassifierCV(alphas=[100, 1, 10]).fit(X, y)
    numbers = X[::10] - 100 * (np.arange(15)[:, None] % 3)  # that tell the label
    with pytest.warns(UserWarning, match="number of alphas has the same ends"):
        SoftmaxClassifierCV(alphas=4, cv=3).fit(numbers, np.arange(15) % 3)
    rounded = np.nextafter(100, 0) * np.array([1, 0.01, 0.1])  # as logspace gives them
    with pytest.warns(UserWarning, match=r"alpha=1\)"):
        SoftmaxClassifierCV(alphas=rounded).fit(X, y)
    with warnings.catch_warnings(action="error"):
        SoftmaxClassifierCV(alphas=[1e-2, 1e-4, 1e-7]).fit(X, y)
        SoftmaxClassifierCV(alphas=[1.0]).fit(X, y)  # nothing to choose from
        SoftmaxClassifierCV(alphas=[1.0, 1.0]).fit(X, y)
        # the user's own rule; and a draw with an alpha inside
        SoftmaxClassifierCV(alphas=[100, 10], refit=lambda t: 0).fit(X, y)
        easy = np.array([[0.0], [1.0]] * 10)
        LinearSVMClassifierCV(alphas=[1, 0.1, 0.01]).fit(easy, easy.ravel() > 0)


@pytest.mark.filterwarnings("default:.*est penalty of its grid")
def test_the_edge_of_the_hinge_is_one_of_alpha_times_delta():
    X, y = IRIS[:2]
    grid = {"losses": ["hinge"], "cv": 3, "scoring": "accuracy"}
    # 3e-1 .. 3e-4 for the hinge, although each delta's best alpha is at an end
    with warnings.catch_warnings(action="error"):
        inner = LinearSVMClassifierCV(
            alphas=[3e-2, 3e-3], deltas=[0.1, 1, 10], **grid
        ).fit(X, y)
    assert 1e-4 < inner.alpha_ * inner.delta_ < 1


def test_the_edge_is_that_of_the_best_cells_own_loss():
    hinge, square = Hinge(), SquaredHinge()
    alphas = [(hinge, 1e-3), (hinge, 1.0), (square, 1e-2), (square, 1e-1)]
    cells = [Cell({"alpha": a}, loss, a, 1.0, 1.0) for loss, a in alphas]
    (note,) = at_edge("Search", 2, np.array([0.9, 0.1, 0.9, 0.8]), cells, False)
    assert "weakest penalty of its grid (alpha=0.01)" in str(note)
    for nearly in (0.9, 0.9 - 1e-14):  # rounding
        mean = np.array([0.1, 0.1, 0.9, nearly])
        assert not at_edge("Search", 2, mean, cells, False)
        # which is relative: log losses may all be next to 0
        assert at_edge("Search", 2, 1e-12 * (mean - [0, 0, 0, 0.1]), cells, False)


# What goes wrong ----------------------------------------------------------------------


def test_fits_that_do_not_converge_are_told_once(kind):
    with warnings.catch_warnings(record=True, action="always") as caught:
        search_of(kind, max_iter=1, tol=1e-12).fit(*IRIS[:2])
    caught = [w for w in caught if w.category is ConvergenceWarning]
    refit, first = (str(warning.message) for warning in caught)
    fits = 3 * (4 if kind == "svm" else 2)
    assert first.startswith(f"{SEARCHES[kind].__name__} stopped {fits} of {fits} fits")
    assert "within" in first
    assert "tol=1e-12" in first
    assert refit.startswith(PLAIN[kind].__name__)
    assert caught[1].filename == __file__


def test_fits_that_do_not_converge_are_told_by_the_worst():
    found = [
        FoldScore(cell, 0, 0.9, 0.0, gap=gap, converged=gap < 1e-4, problem=problem)
        for cell, (problem, gap) in enumerate(
            [(0, 1e-5), (1, 2e-3), (2, 3e-2), (2, 3e-2), (3, np.nan)]
        )
    ]
    (note,) = open_gaps("Search", found, 1e-4)  # two cells share a fit
    assert str(note).startswith("Search stopped 3 of 4 fits")
    assert "within 3.0e-02 of its optimum" in str(note)
    assert str(note).endswith("centre or scale X, or raise tol or the smallest alpha.")
    found[1] = replace(found[1], spent=True)  # more iterations would help one at least
    (note,) = open_gaps("Search", found, 1e-4)
    assert str(note).endswith("raise max_iter, tol or the smallest alpha, or scale X.")
    (note,) = open_gaps("Search", found[-1:], 1e-4)
    assert "still changing by more than tol" in str(note)


def test_a_scorer_that_fails_gives_nan_and_one_warning(kind):
    def broken(model, X, y):
        raise RuntimeError("no score today")

    with warnings.catch_warnings(record=True, action="always") as caught:
        found = search_of(kind, scoring=broken).fit(*IRIS[:2])
    assert np.isnan(found.cv_results_["mean_test_score"]).all()
    cells = len(found.cv_results_["params"])
    text = str(caught[0].message)
    assert text.startswith(f"Scoring failed on {3 * cells} of {3 * cells} fits")
    assert "no score today" in text
    assert "non-finite" in str(caught[1].message)
    assert len(caught) == 2
    assert found.best_index_ == 0
    with pytest.raises(ValueError, match="scoring must return a number"):
        search_of(kind, scoring=lambda model, X, y: "good").fit(*IRIS[:2])


def test_dask_collections_are_refused_with_a_way_out(kind):
    array = type("Array", (), {"__module__": "dask.array.core"})()
    with pytest.raises(TypeError, match=r"does not take Dask.*Classifier, which"):
        search_of(kind).fit(array, array)
    with pytest.raises(TypeError, match="does not take Dask"):
        search_of(kind).fit(*IRIS[:2], sample_weight=array)


@pytest.mark.parametrize(
    ("X", "y", "message"),
    [
        (np.full((9, 2), np.nan), np.arange(9) % 2, "NaN"),
        (np.ones((9, 2)), np.zeros(9), "at least 2 classes"),
        (np.ones((9, 2)), np.linspace(0, 1, 9), "continuous"),
        (np.ones((9, 2)), np.arange(8) % 2, "inconsistent"),
    ],
)
def test_bad_data_are_refused_in_the_name_of_the_search(kind, X, y, message):
    with pytest.raises(ValueError, match=message):
        search_of(kind).fit(X, y)


# Solvers, jobs, frames, copies --------------------------------------------------------


def test_every_solver_can_search(kind, solver):
    found = search_of(kind, solver=solver, tol=1e-6, random_state=0).fit(*IRIS[:2])
    assert found.solver_ == solver
    assert_same_search(found, search_of(kind, tol=1e-6).fit(*IRIS[:2]), 1e-3)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_mini_batches_can_search_and_repeat_themselves(kind):
    params = {"solver": "sgd", "max_iter": 20, "tol": 1e-2}
    found = search_of(kind, random_state=0, **params).fit(*IRIS[:2])
    again = search_of(kind, random_state=0, **params).fit(*IRIS[:2])
    assert_same_search(found, again)
    assert found.score(*IRIS[:2]) > (0.8 if kind == "svm" else -1.1)
    search_of(kind, random_state=None, **params).fit(*IRIS[:2])


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_generator_given_is_copied_as_grid_search_copies_it(kind):
    given = {"solver": "sgd", "max_iter": 3, "scoring": "accuracy", "tol": 1e-2}
    search = search_of(kind, random_state=np.random.RandomState(0), **given)
    peer = peer_of(kind, random_state=np.random.RandomState(0), **given)
    found, peer = search.fit(*IRIS[:2]), peer.fit(*IRIS[:2])
    first = found.best_estimator_
    assert_same_search(found, peer)
    np.testing.assert_array_equal(first.coef_, peer.best_estimator_.coef_)
    np.testing.assert_array_equal(first.coef_, search.fit(*IRIS[:2]).coef_)
    assert first.random_state is not search.random_state


@pytest.mark.parametrize("backend", ["threading", "loky"])
def test_jobs_do_not_change_the_result(kind, backend, monkeypatch):
    monkeypatch.setattr(sklinear._jobs, "STARTING", 0.0)
    X, y = IRIS[:2]
    alone = search_of(kind, tol=TIGHT).fit(X, y)
    with parallel_config(backend):
        shared = search_of(kind, tol=TIGHT, n_jobs=2).fit(X, y)
    # the same optima by other ways
    assert_same_search(shared, alone, 1e-7 if kind == "softmax" else 0.0)
    assert shared.best_params_ == alone.best_params_


@pytest.mark.parametrize("backend", ["threading", "loky"])
@pytest.mark.parametrize("scoring", ["accuracy", "f1_macro", ["accuracy", "f1_macro"]])
def test_a_small_search_starts_no_processes(kind, scoring, backend, monkeypatch):
    tasks = []

    def noted(search, task, *args, evaluate=sklinear._cells.evaluate):
        tasks.append(task)
        return evaluate(search, task, *args)

    monkeypatch.setattr(sklinear._jobs, "evaluate", noted)
    with parallel_config(backend):
        search_of(kind, n_jobs=2, scoring=scoring, refit=False).fit(*IRIS[:2])
    assert (len(tasks) == 1) == (backend == "loky")


@pytest.mark.parametrize("several", [False, True])
def test_scores_that_take_long_are_shared_out_and_each_is_asked_once(
    kind, several, monkeypatch
):
    asked, shared = [], []

    def scorer(model, X, y):
        time.sleep(0.01)
        asked.append(model)
        score = accuracy_score(y, model.predict(X))
        return {"right": score} if several else score

    def parallel(**settings):
        shared.append(len(asked))
        return lambda tasks: [task.function(*args) for task, args, _ in tasks]

    monkeypatch.setattr(sklinear._jobs, "Parallel", parallel)
    monkeypatch.setattr(sklinear._jobs, "STARTING", 0.05)
    monkeypatch.setattr(sklinear._cells, "TRIAL", 0.015)
    params = {"scoring": scorer, "refit": False, "tol": TIGHT}
    found = search_of(kind, {**GRIDS[kind], "alpha": [1e-2, 1e-1, 1]}, **params)
    found.set_params(n_jobs=2).fit(*IRIS[:2])
    fits = 3 * len(found.cv_results_["params"])
    assert len(asked) == fits
    assert 0 < shared[0] < fits / 2
    alone = clone(found).set_params(n_jobs=1).fit(*IRIS[:2])
    assert len(shared) == 1
    assert_same_search(found, alone)


def test_what_a_fold_holds_out_is_looked_up_once(kind, monkeypatch):
    asked = []

    def noted(*args, check=sklinear._cells._check_method_params):
        asked.append(args)
        return check(*args)

    monkeypatch.setattr(sklinear._cells, "_check_method_params", noted)
    search_of(kind, scoring="accuracy").fit(*IRIS[:2])
    assert len(asked) == 3


@pytest.mark.parametrize("kind", ["softmax", "svm"])
@pytest.mark.parametrize("solver", ["auto", "lbfgs"])
def test_memory_does_not_grow_with_the_folds(kind, solver):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(20_000, 60)), rng.integers(0, 3, 20_000)
    losses = {"losses": ["squared_hinge"]} if kind == "svm" else {}
    peaks = []
    for repeats in (1, 1, 10):  # what the first one imports stays
        cv = RepeatedStratifiedKFold(n_splits=5, n_repeats=repeats, random_state=0)
        search = SEARCHES[kind](
            alphas=[1.0], cv=cv, refit=False, solver=solver, tol=1e-2, **losses
        )
        tracemalloc.start()
        search.fit(X, y)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    # labels, scores and products with X are as large for few folds
    assert peaks[2] - peaks[1] < 0.2 * X.nbytes
    assert peaks[2] < 2 * X.nbytes


FOLDS = {
    "complement": (np.arange(300) % 3 > 0, np.arange(300) % 3 == 0),
    "shuffled": (np.arange(299, 9, -1), np.arange(9, -1, -1)),
    "some": (np.arange(0, 300, 3), np.array([5, 3, 9])),
    "rows twice": (np.arange(300) // 2, np.array([7, 7, 299, 8])),
    "rows on both sides": (np.arange(300), np.arange(100)),
    "from the end": (np.arange(-5, 0), [0, -6]),
    "tuples": (tuple(range(5, 300)), tuple(range(5))),
}


@pytest.mark.parametrize("name", FOLDS)
def test_a_fold_in_few_bytes_is_the_split(name):
    train, test = (np.arange(300)[np.array(part)] for part in FOLDS[name])
    y = np.arange(300) % 2
    model = SoftmaxClassifier(class_weight="balanced")
    (group,), failures = grouped(
        y, np.ones(300), [FOLDS[name]], model._labels_and_weights, named=False
    )
    assert not failures
    (fold,) = group.folds
    np.testing.assert_array_equal(fold.test, test)
    np.testing.assert_array_equal(fold.train, np.sort(train))
    counts = np.bincount(train, minlength=300).astype(float)
    (weights,) = Weights(group, group.folds)
    np.testing.assert_array_equal(weights, model._labels_and_weights(y, counts)[2])
    assert len(pickle.dumps(fold)) < 1500


@pytest.mark.parametrize("jobs", [1, 2, 3, 8])
@pytest.mark.parametrize("n_folds", [1, 2, 5])
def test_tasks_are_every_problem_on_every_fold_once(jobs, n_folds):
    folds, losses = [f"fold {i}" for i in range(n_folds)], list("aababb")
    tasks = shares(losses, folds, jobs, lambda loss: loss == "b")
    pairs = [(p, f) for problems, part in tasks for p in problems for f in part]
    assert sorted(pairs) == [(p, f) for p in range(6) for f in folds]
    assert len(tasks) >= min(jobs, n_folds)
    for problems, _ in tasks[:-1] if jobs > 1 else []:
        assert len({losses[p] for p in problems}) == 1


FRAMES = ["pandas", "polars"]


@pytest.mark.parametrize("library", FRAMES)
def test_frames_are_searched_and_scored_as_frames(kind, library):
    frames = pytest.importorskip(library)
    X = frames.DataFrame(
        IRIS.X,
        **{"pandas": {"columns": list("abcd")}}.get(library, {"schema": list("abcd")}),
    )
    y = frames.Series(np.array(["x", "y", "z"])[IRIS.y])
    seen = []

    def scorer(model, X, y):
        seen.append((type(X), type(y)))
        return model.score(X, y)

    with warnings.catch_warnings(action="error"):
        warnings.filterwarnings("ignore", ".*est penalty of its grid")
        quick = search_of(kind, scoring="accuracy").fit(X, y)
        found = search_of(kind, scoring=scorer).fit(X, y)
    np.testing.assert_array_equal(
        quick.cv_results_["mean_test_score"], found.cv_results_["mean_test_score"]
    )
    assert {frame for frame, _ in seen} == {type(X)}
    assert list(found.feature_names_in_) == list("abcd")
    assert set(found.predict(X)) <= {"x", "y", "z"}
    if library == "pandas":
        assert {series for _, series in seen} == {type(y)}


def test_a_table_becomes_a_frame(kind):
    pandas = pytest.importorskip("pandas")
    found = search_of(kind).fit(*IRIS[:2])
    frame = pandas.DataFrame(found.cv_results_)
    assert len(frame) == len(found.cv_results_["params"])
    assert frame["mean_test_score"].idxmax() == found.best_index_
    assert frame["param_alpha"].dtype == float


def test_copies_are_as_good(kind):
    search = search_of(kind).fit(*IRIS[:2])
    for copy in (pickle.loads(pickle.dumps(search)), clone(search).fit(*IRIS[:2])):
        np.testing.assert_array_equal(copy.coef_, search.coef_)
        np.testing.assert_array_equal(
            copy.cv_results_["mean_test_score"], search.cv_results_["mean_test_score"]
        )
        assert copy.get_params().keys() == search.get_params().keys()


def test_nothing_given_is_changed(kind):
    X, y, weights = PROBLEMS["weighted"]
    alphas = np.array([1e-2, 1e-1])
    before = X.copy(), y.copy(), weights.copy(), alphas.copy()
    SEARCHES[kind](alphas=alphas).fit(X, y, sample_weight=weights)
    for old, new in zip(before, (X, y, weights, alphas), strict=True):
        np.testing.assert_array_equal(old, new)


def test_in_a_pipeline_and_under_cross_validation(kind):
    X, y = PROBLEMS["wine"][:2]
    model = make_pipeline(StandardScaler(), search_of(kind))
    scores = cross_val_score(model, X, y, cv=3)
    assert scores.mean() > (0.9 if kind == "svm" else -0.5)


def test_sparse_columns_and_lists_are_taken(kind):
    X, y = PROBLEMS["sparse"][:2]
    found = search_of(kind, cv=KFold(2), tol=TIGHT).fit(X, y)
    for other in (X.tocsc(), X.tocoo(), scipy.sparse.csr_array(X)):
        same = search_of(kind, cv=KFold(2), tol=TIGHT).fit(other, y)
        assert_same_search(same, found)
    dense = search_of(kind, cv=KFold(2), tol=TIGHT).fit(X.toarray().tolist(), list(y))
    assert_same_search(dense, found, CLOSE if kind == "softmax" else 0.0)


# Progress and interruption ------------------------------------------------------------


def test_verbose_tells_of_the_search(kind, capsys):
    search_of(kind, verbose=1).fit(*IRIS[:2])
    lines = capsys.readouterr().out.splitlines()
    cells = 2 if kind == "softmax" else 4
    assert lines[0] == (
        f"Fitting 3 folds for each of {cells} candidates, totalling {3 * cells} fits"
    )
    search_of(kind, verbose=2).fit(*IRIS[:2])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + 3 * cells
    assert all(line.startswith("[CV ") and "score=" in line for line in lines[1:])
    search_of(kind).fit(*IRIS[:2])
    assert capsys.readouterr().out == ""


callbacks = pytest.mark.skipif(
    not hasattr(SoftmaxClassifier, "set_callbacks"),
    reason="scikit-learn has callbacks from 1.9 on",
)


class Recorder:
    """Notes the tasks that begin and end."""

    def __init__(self):
        self.tasks = []
        self.models = []

    def setup(self, estimator, context):
        self.tasks.append("setup")

    def teardown(self, estimator, context):
        self.tasks.append("teardown")

    def on_fit_task_begin(self, estimator, context, *, X=None, y=None, metadata=None):
        assert X.shape[0] == len(y) == len(metadata["sample_weight"])
        self.tasks.append(f"begin {context.task_name}")

    def on_fit_task_end(self, estimator, context, *, X=None, fitted_estimator=None):
        self.tasks.append(f"end {context.task_name}")
        if context.task_name == "candidate-split-evaluation":
            self.models.append(fitted_estimator.predict(X))


@callbacks
def test_each_cell_on_each_fold_is_a_task(kind):
    recorder = Recorder()
    search = search_of(kind).set_callbacks(recorder)
    search.fit(*IRIS[:2], sample_weight=np.ones(150))
    cells = 3 * len(search.cv_results_["params"])
    part = "candidate-split-evaluation"
    assert recorder.tasks == [
        "setup",
        "begin fit",
        "begin search",
        *[f"begin {part}", f"end {part}"] * cells,
        "end search",
        "begin refit-with-best-params",
        "end refit-with-best-params",
        "end fit",
        "teardown",
    ]
    assert len(recorder.models) == cells
    plain = search_of(kind).fit(*IRIS[:2])
    np.testing.assert_array_equal(search.coef_, plain.coef_)


@callbacks
@pytest.mark.parametrize("n_jobs", [1, 2])
def test_the_progress_bar_is_drawn(kind, n_jobs, capsys):
    pytest.importorskip("rich")
    from sklearn.callback import ProgressBar

    search = search_of(kind, n_jobs=n_jobs).set_callbacks(ProgressBar())
    with parallel_config("threading"):
        search.fit(*IRIS[:2])
    assert SEARCHES[kind].__name__ in capsys.readouterr().out


INTERRUPTED = """
    import os, signal, subprocess, sys, threading, time
    import numpy as np
    from joblib import parallel_config
    from sklinear import SoftmaxClassifierCV, _jobs

    _jobs.STARTING = 0.0

    def scorer(model, X, y):
        with open(sys.argv[2], "a") as file:  # the search is under way
            file.write("x")
        time.sleep(0.2)
        return model.score(X, y)

    def interrupt():
        while not os.path.exists(sys.argv[2]):
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    X = np.random.default_rng(0).normal(size=(200, 5))
    threading.Thread(target=interrupt, daemon=True).start()
    start = time.monotonic()
    try:
        with parallel_config(sys.argv[1]):
            SoftmaxClassifierCV(
                alphas=200, cv=2, scoring=scorer, n_jobs=int(sys.argv[3])
            ).fit(X, np.arange(200) % 2)
    except KeyboardInterrupt:
        time.sleep(0.5)
        left = [t.name for t in threading.enumerate() if not t.daemon]
        children = subprocess.run(
            ["ps", "-ww", "-o", "pid=,stat=,args=", "--ppid", str(os.getpid())],
            capture_output=True, text=True,
        ).stdout
        busy = [
            line for line in children.splitlines()
            if "ps -ww" not in line and "resource_tracker" not in line
            and " Z" not in line
        ]
        scored = os.path.getsize(sys.argv[2])
        time.sleep(0.5)
        left += ["scores"] * (os.path.getsize(sys.argv[2]) - scored)
        print("interrupted", left, busy, time.monotonic() - start < 30)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals and ps are of Unix")
@pytest.mark.parametrize(("backend", "n_jobs"), [("threading", 2), ("loky", 2)])
def test_an_interrupt_leaves_nothing_behind(backend, n_jobs, tmp_path):
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            textwrap.dedent(INTERRUPTED),
            backend,
            str(tmp_path / "started"),
            str(n_jobs),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout == "interrupted ['MainThread'] [] True\n", done.stderr


@pytest.mark.parametrize("asked", [None, "accuracy"])
def test_a_forgotten_request_of_one_of_several_scorers_is_told(asked):
    X, y, weights = PROBLEMS["weighted"]
    with sklearn.config_context(enable_metadata_routing=True):
        scoring = {name: get_scorer(name) for name in ("accuracy", "f1_macro")}
        if asked:
            scoring[asked].set_score_request(sample_weight=True)
        settings = {"scoring": scoring, "refit": "accuracy"}
        search = SoftmaxClassifierCV(alphas=[1, 0.1], **settings)
        plain = SoftmaxClassifier().set_fit_request(sample_weight=True)
        peer = GridSearchCV(plain, {"alpha": [1, 0.1]}, **settings)
        try:
            peer.fit(X, y, sample_weight=weights)
        except UnsetMetadataPassedError:  # which releases before 1.9 may not raise
            with pytest.raises(UnsetMetadataPassedError, match="sample_weight"):
                search.fit(X, y, sample_weight=weights)
            return
        search.fit(X, y, sample_weight=weights)
    for name in scoring:
        scores = [one.cv_results_[f"mean_test_{name}"] for one in (search, peer)]
        np.testing.assert_allclose(*scores, atol=1e-9)


@pytest.mark.parametrize("value", [0.0, 1.0, 1e3 / 3])
def test_fewer_rows_than_features_that_tell_nothing(kind, value):
    X, labels = np.full((12, 50), value), np.arange(12) % 3
    found = search_of(kind).fit(X, labels)
    assert_same_search(found, peer_of(kind).fit(X, labels), atol=CLOSE)
