"""The picture of a search."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from conftest import PROBLEMS
from sklearn.exceptions import FitFailedWarning, NotFittedError

from sklinear import (
    LinearSVMClassifierCV,
    SoftmaxClassifier,
    SoftmaxClassifierCV,
    ValidationPathDisplay,
)

X, y, _ = PROBLEMS["iris"]
ALPHAS = [1e-3, 1e-2, 1e-1, 1.0]


@pytest.fixture
def pyplot(monkeypatch):
    """matplotlib.pyplot without a screen; its figures are closed after the test."""
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    pyplot = pytest.importorskip("matplotlib.pyplot")
    yield pyplot
    pyplot.close("all")


@pytest.fixture(scope="module")
def svm():
    """A search over both losses and two margins."""
    return LinearSVMClassifierCV(alphas=ALPHAS, deltas=[0.1, 1.0], cv=3).fit(X, y)


def test_each_loss_has_its_mean_its_band_and_the_choice_is_marked(pyplot, svm):
    display = ValidationPathDisplay.from_estimator(svm)
    # margins move the hinge's alphas, and nothing of its square's accuracy
    labels = ["hinge, delta=0.1", "hinge, delta=1", "squared_hinge"]
    assert [line.get_label() for line in display.lines_] == labels
    table = svm.cv_results_
    rows = [
        i
        for i, cell in enumerate(table["params"])
        if cell["loss"] == "hinge" and cell["delta"] == 1.0
    ]
    line, band = display.lines_[1], display.bands_[1].get_paths()[0].vertices
    np.testing.assert_array_equal(line.get_xdata(), ALPHAS)
    mean, deviation = table["mean_test_score"][rows], table["std_test_score"][rows]
    np.testing.assert_allclose(line.get_ydata(), mean)
    assert band[:, 1].min() == pytest.approx((mean - deviation).min())
    assert band[:, 1].max() == pytest.approx((mean + deviation).max())
    assert display.choice_.get_xdata() == [svm.alpha_]
    assert display.choice_.get_ydata() == [svm.best_score_]
    assert display.ax_.get_xscale() == "log"
    assert display.ax_.get_ylabel() == "accuracy"
    assert display.ax_.get_xlabel() == "alpha"
    assert display.figure_ is display.ax_.figure
    display.figure_.canvas.draw()


def test_it_draws_where_it_is_told_and_again(pyplot, svm):
    _, (left, right) = pyplot.subplots(1, 2)
    display = ValidationPathDisplay.from_estimator(svm, ax=left)
    assert display.ax_ is left
    assert display.plot(ax=right) is display
    assert display.ax_ is right
    assert len(left.lines) == len(right.lines) == 4


def test_axes_are_one(pyplot, svm):
    _, axes = pyplot.subplots(1, 2)
    for wrong in (axes, [axes[0]], pyplot.gcf()):
        with pytest.raises(TypeError, match="ax must be one matplotlib Axes or None"):
            ValidationPathDisplay.from_estimator(svm, ax=wrong)


@pytest.mark.parametrize("scoring", [None, "accuracy", "f1_macro"])
def test_a_single_metric_has_the_name_that_scoring_gives_it(pyplot, scoring):
    search = LinearSVMClassifierCV(
        alphas=ALPHAS, losses=["squared_hinge"], cv=3, scoring=scoring
    ).fit(X, y)
    name = scoring or "accuracy"
    for metric in (None, "score", name):
        display = ValidationPathDisplay.from_estimator(search, metric=metric)
        assert display.score_name == name
        assert display.choice_.get_ydata() == [search.best_score_]
    with pytest.raises(ValueError, match=f"must be one of .*{name}.*'recall'"):
        ValidationPathDisplay.from_estimator(search, metric="recall")


def test_a_metric_is_chosen_by_name(pyplot):
    search = SoftmaxClassifierCV(
        alphas=[1.0, 1e-4, 1e-7],
        cv=3,
        scoring=["accuracy", "neg_log_loss"],
        refit="neg_log_loss",
    ).fit(X, y)
    display = ValidationPathDisplay.from_estimator(search)
    assert display.ax_.get_ylabel() == "neg_log_loss"
    assert [line.get_label() for line in display.lines_] == ["softmax"]
    assert display.lines_[0].get_xdata().tolist() == [1e-7, 1e-4, 1.0]
    mean = search.cv_results_["mean_test_neg_log_loss"]  # of falling alphas
    np.testing.assert_allclose(display.lines_[0].get_ydata(), mean[::-1])
    other = ValidationPathDisplay.from_estimator(search, metric="accuracy")
    best = search.cv_results_["mean_test_accuracy"][search.best_index_]
    assert other.choice_.get_ydata() == [best]
    with pytest.raises(ValueError, match=r"metric must be one of .*got 'recall'"):
        ValidationPathDisplay.from_estimator(search, metric="recall")


def test_a_choice_without_a_score_is_not_marked(pyplot):
    cv = [(np.arange(50), np.arange(150)), (np.arange(150), np.arange(150))]
    search = SoftmaxClassifierCV(alphas=[1.0, 1e-2], cv=cv)
    with pytest.warns((FitFailedWarning, UserWarning)):  # of one class; of nan scores
        search.fit(X, y)
    assert np.isnan(search.best_score_)
    assert ValidationPathDisplay.from_estimator(search).choice_ is None


def test_a_fold_without_scores_makes_no_difference_of_margins(pyplot):
    cv = [(np.arange(50), np.arange(150)), (np.arange(150), np.arange(150))]
    params = {"losses": ["squared_hinge"], "deltas": [0.1, 1.0], "refit": False}
    search = LinearSVMClassifierCV(alphas=[1.0, 1e-2], cv=cv, **params)
    with pytest.warns((FitFailedWarning, UserWarning)):  # of one class; of nan scores
        search.fit(X, y)
    display = ValidationPathDisplay.from_estimator(search)
    assert [line.get_label() for line in display.lines_] == ["squared_hinge"]


def test_without_a_choice_none_is_marked(pyplot):
    search = SoftmaxClassifierCV(
        alphas=[1.0, 1e-2], cv=3, scoring=["accuracy", "f1_macro"], refit=False
    ).fit(X, y)
    display = ValidationPathDisplay.from_estimator(search)
    assert display.choice_ is None
    assert display.ax_.get_ylabel() == "accuracy"


@pytest.mark.filterwarnings("ignore:.*(folds of|non-finite)")
@pytest.mark.parametrize("score", [1.0, np.inf])
def test_a_path_without_a_finite_score_is_drawn_empty(pyplot, score):
    rows = np.arange(150)
    splits = [(rows[::2], rows[1::2])]
    if np.isfinite(score):
        splits.append((rows[:50], rows[50:]))  # of one class only
    search = SoftmaxClassifierCV(
        alphas=[1.0, 1e-2], cv=splits, scoring=lambda model, X, y: score
    ).fit(X, y)
    display = ValidationPathDisplay.from_estimator(search)
    display.figure_.canvas.draw()
    low, high = display.ax_.get_xlim()
    assert 1e-3 < low < 1e-2 < 1 < high < 10


def test_only_a_search_is_drawn(pyplot):
    with pytest.raises(TypeError, match="must be a LinearSVMClassifierCV or"):
        ValidationPathDisplay.from_estimator(SoftmaxClassifier().fit(X, y))


def test_a_search_must_be_fitted_and_matplotlib_be_there(pyplot, monkeypatch):
    with pytest.raises(NotFittedError):
        ValidationPathDisplay.from_estimator(SoftmaxClassifierCV())
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match=r"pip install \"sklinear\[examples\]\""):
        ValidationPathDisplay.from_estimator(SoftmaxClassifierCV())
