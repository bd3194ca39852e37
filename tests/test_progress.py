"""What a fit tells on its way: verbose's lines, callbacks, and requests to stop."""

from __future__ import annotations

import importlib.util
import pickle
import re
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.sparse
from conftest import LOSSES, PROBLEMS, SOLVERS, Problem, classifier, objective
from conftest import full_params as params_of
from sklearn.base import clone
from sklearn.datasets import load_wine
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler

from sklinear import LinearSVMClassifierCV, SoftmaxClassifier, SoftmaxClassifierCV
from sklinear._callbacks import Listener
from sklinear._data import Data
from sklinear._solvers._solution import Progress

HAS_CALLBACKS = importlib.util.find_spec("sklearn.callback") is not None
needs_callbacks = pytest.mark.skipif(
    not HAS_CALLBACKS, reason="scikit-learn has callbacks from 1.9 on"
)
IRIS = PROBLEMS["iris"]
EVERY_SOLVER = [*SOLVERS, "sgd"]


def model_of(loss, solver, **params):
    """A classifier; sgd's takes few epochs."""
    if solver == "sgd":
        params = {"tol": 0.02, "random_state": 0, **params}
    return classifier(loss, solver=solver, **{"alpha": 0.1, **params})


# Passes over X ------------------------------------------------------------------------


@pytest.mark.parametrize("layout", [np.asarray, scipy.sparse.csr_matrix])
@pytest.mark.parametrize("dtype", ["u1", "f4", "f8"])
def test_a_pass_is_one_reading_of_all_rows(layout, dtype):
    X = layout(np.ones((1000, 3), dtype))
    data = Data(X, np.arange(1000) % 2, np.full(1000, 1e-3), 2, np.float64)
    for block in data:
        assert block.X is block.X  # cast and counted once
    assert data.passes == 1
    assert sum(block.weights.sum() for block in data) == pytest.approx(1)
    assert data.passes == 1  # weights only
    data.take(np.arange(500))
    assert data.passes == 1.5
    for block in data.astype(np.float32):
        assert block.X.dtype == np.float32
    assert data.passes == 2.5


# verbose ------------------------------------------------------------------------------

LINE = re.compile(
    r"(iteration|epoch) (\d+): objective (\S+), (?:gap (\S+), )?"
    r"(\d+\.\d) passes over X, (\d+\.\d\d) s"
)


@pytest.mark.parametrize("solver", EVERY_SOLVER)
@pytest.mark.parametrize("name", ["iris", "wide", "sparse"])
def test_verbose_tells_objective_gap_passes_and_time(loss, solver, name, capsys):
    model = model_of(loss, solver, verbose=1)
    if loss != "softmax":
        model.set_params(delta=10.0)  # solvers see another objective
    problem = PROBLEMS[name]
    model.fit(*problem)
    found = [LINE.fullmatch(line) for line in capsys.readouterr().out.splitlines()]
    assert [int(line[2]) for line in found] == [*range(1, model.n_iter_ + 1)]
    values = [float(line[3]) for line in found]
    np.testing.assert_allclose(values, model.loss_curve_, rtol=1e-5)
    for column in (5, 6):
        assert np.all(np.diff([float(line[column]) for line in found]) >= 0)
    assert float(found[0][5]) >= 1
    gaps = [line[4] for line in found]
    if solver == "sgd":
        assert set(gaps) == {None}
    else:
        gaps = np.array(gaps, float)
        assert np.all(np.diff(gaps) <= 1e-12)  # rounding of what is stored
        assert gaps[-1] == pytest.approx(model.dual_gap_, rel=0.1)  # digits printed


def test_a_line_that_waits_for_the_next_has_its_own_passes(capsys):
    listener = Listener(SoftmaxClassifier(verbose=1), *IRIS)
    data = SimpleNamespace(passes=1.0)
    listener.listen(data, 1.0, dict)
    for iteration in (1, 2):
        data.passes = float(iteration)
        listener(Progress(iteration, 1 / iteration, 0.5, tuple))
    data.passes = 7.0
    listener.close(0.25, 0.1)
    lines = [LINE.match(line) for line in capsys.readouterr().out.splitlines()]
    assert [line[5] for line in lines] == ["1.0", "7.0"]  # the last tells of the end


# Callbacks ----------------------------------------------------------------------------


class Recorder:
    """Notes what it is told, and asks to stop at some iteration."""

    def __init__(self, stop_at=None):
        self.stop_at = stop_at
        self.events = []
        self.models = []

    def setup(self, estimator, context):
        self.events.append("setup")

    def teardown(self, estimator, context):
        self.events.append("teardown")

    def on_fit_task_begin(self, estimator, context, *, X=None, y=None):
        assert X is not None
        assert y is not None
        self.events.append("begin")

    def on_fit_task_end(
        self, estimator, context, *, X=None, metadata=None, fitted_estimator=None
    ):
        self.events.append("end")
        self.metadata = metadata
        if context.parent is not None:
            fitted_estimator.predict(X)
            self.models.append(fitted_estimator)
            return len(self.models) == self.stop_at
        return None


def test_callbacks_are_there_where_scikit_learn_has_them(loss):
    assert hasattr(classifier(loss), "set_callbacks") == HAS_CALLBACKS


@needs_callbacks
@pytest.mark.parametrize("solver", EVERY_SOLVER)
@pytest.mark.parametrize("name", ["iris", "two", "wide", "weighted", "sparse"])
def test_each_iteration_is_a_task_with_a_fitted_estimator(loss, solver, name):
    recorder, problem = Recorder(), PROBLEMS[name]
    model = model_of(loss, solver)
    if loss != "softmax":
        model.set_params(delta=3.0)
    model.set_callbacks(recorder).fit(*problem)
    steps = ["begin", "end"] * model.n_iter_
    assert recorder.events == ["setup", "begin", *steps, "end", "teardown"]
    assert [step.n_iter_ for step in recorder.models] == [*range(1, model.n_iter_ + 1)]
    for step, value in list(zip(recorder.models, model.loss_curve_, strict=True))[:-1]:
        found = objective(step, problem, *params_of(step))
        assert found == pytest.approx(value, rel=1e-7)  # rounding of other sums
    if problem.sample_weight is None:
        assert recorder.metadata is None
    else:
        assert recorder.metadata["sample_weight"] is problem.sample_weight


@needs_callbacks
def test_what_the_dual_leaves_to_others_is_told_in_the_users_variables(loss):
    pytest.importorskip("numba")
    X, y = load_wine(return_X_y=True)
    problem = Problem(PolynomialFeatures(2).fit_transform(X), y, None)
    recorder = Recorder()
    model = classifier(loss, alpha=1e-4, solver="dual", random_state=0)
    model.set_callbacks(recorder).fit(*problem)
    assert model.n_iter_ > 40  # after 30 epochs on scaled rows others go on
    for step, value in zip(recorder.models, model.loss_curve_, strict=True):
        found = objective(step, problem, *params_of(step))
        # the features are up to 1e6: W is rounded by as much of the objective
        assert found == pytest.approx(value, rel=0.02)


@needs_callbacks
def test_iterations_after_the_dual_in_the_space_of_the_rows_count_on(loss):
    pytest.importorskip("numba")
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 66)) @ rng.normal(size=(66, 800))
    recorder = Recorder()
    model = classifier(loss, alpha=1e-6, solver="dual", random_state=0)
    model.set_callbacks(recorder).fit(X, rng.integers(3, size=200))
    assert model.n_iter_ > 40  # after 30 epochs on few directions others go on
    steps = [step.n_iter_ for step in recorder.models]
    assert steps == [*range(1, model.n_iter_ + 1)]
    assert (np.diff(model.loss_curve_) <= 0).all()


@needs_callbacks
@pytest.mark.parametrize("solver", EVERY_SOLVER)
def test_steps_of_a_second_fit_carry_no_proof_of_the_first(loss, solver):
    model = classifier(loss).fit(*IRIS)
    assert model.certify(IRIS.X).any()
    recorder = Recorder()
    model.set_params(solver=solver, tol=0.1, random_state=0).set_callbacks(recorder)
    model.fit(IRIS.X, (IRIS.y + 1) % 3)
    for step in recorder.models:
        with pytest.raises(AttributeError):
            step.certify(IRIS.X)
        assert hasattr(step, "dual_gap_") == (solver != "sgd")
    if solver != "sgd":
        assert recorder.models[0].dual_gap_ > 0.5  # of the first iteration


@needs_callbacks
@pytest.mark.parametrize("solver", EVERY_SOLVER)
def test_callbacks_do_not_change_the_model(loss, solver):
    plain = model_of(loss, solver).fit(*IRIS)
    model = model_of(loss, solver).set_callbacks(Recorder()).fit(*IRIS)
    np.testing.assert_array_equal(model.coef_, plain.coef_)
    assert model.loss_curve_ == plain.loss_curve_
    assert set(vars(model)) - set(vars(plain)) == {"_skl_callbacks"}


@needs_callbacks
@pytest.mark.parametrize("solver", EVERY_SOLVER)
@pytest.mark.parametrize("name", ["iris", "wide", "sparse"])
def test_a_request_to_stop_is_honoured_without_a_warning(loss, solver, name):
    problem = PROBLEMS[name]
    model = model_of(loss, solver, **({} if solver == "sgd" else {"tol": 1e-9}))
    whole = clone(model).fit(*problem)
    for stop_at in {1, 2, whole.n_iter_ // 2, whole.n_iter_ - 1} - {0}:
        recorder = Recorder(stop_at)
        stopped = clone(model).set_callbacks(recorder).fit(*problem)
        assert stopped.n_iter_ == len(recorder.models) == stop_at
        found = objective(stopped, problem, *params_of(stopped))
        best = min(stopped.loss_curve_)
        assert found <= best * (1 + 1e-7)  # rounding of other sums
        if solver == "sgd":
            assert not hasattr(stopped, "dual_gap_")
        else:  # a bound, whatever there is of it
            P = objective(whole, problem, *params_of(whole))
            assert stopped.dual_gap_ >= (1 - 1e-7) * (found - P) / found


@needs_callbacks
def test_a_stop_of_one_fit_is_not_one_of_the_next():
    model = SoftmaxClassifier().set_callbacks(Recorder(stop_at=2)).fit(*IRIS)
    assert model.n_iter_ == 2
    model.set_callbacks().fit(*IRIS)
    assert model.n_iter_ > 2
    assert model.dual_gap_ <= model.tol


@needs_callbacks
def test_max_iter_still_warns_beside_a_callback_that_asks_for_nothing(loss):
    model = classifier(loss, max_iter=2, tol=1e-9).set_callbacks(Recorder())
    with pytest.warns(UserWarning, match="max_iter=2") as caught:
        model.fit(*IRIS)
    assert caught[0].filename == __file__
    assert model.n_iter_ == 2


class Failing(Recorder):
    """Raises at the third iteration."""

    def on_fit_task_end(self, estimator, context, *, fitted_estimator=None):
        if context.task_id == 2:
            raise RuntimeError("enough")


@needs_callbacks
@pytest.mark.parametrize("solver", EVERY_SOLVER)
def test_an_error_in_a_callback_ends_the_fit_and_is_the_users(loss, solver):
    callback = Failing()
    with pytest.raises(RuntimeError, match="enough"):
        model_of(loss, solver).set_callbacks(callback).fit(*IRIS)
    assert callback.events[-1] == "teardown"


@needs_callbacks
def test_what_is_no_callback_is_refused(loss):
    with pytest.raises(TypeError, match="FitCallback protocol"):
        classifier(loss).set_callbacks(print)


@needs_callbacks
@pytest.mark.parametrize("solver", EVERY_SOLVER)
@pytest.mark.parametrize("library", ["numpy", "pandas"])
def test_the_scoring_monitor_logs_a_score_an_iteration(loss, solver, library):
    from sklearn.callback import ScoringMonitor

    X, y, _ = IRIS
    if library == "pandas":  # scored with the names it was fitted with
        X = pytest.importorskip("pandas").DataFrame(X, columns=list("abcd"))
    y = np.array(["setosa", "versicolor", "virginica"])[y]
    monitor = ScoringMonitor(scoring="accuracy")
    model = model_of(loss, solver).set_callbacks(monitor).fit(X, y)
    rows = monitor.get_logs().data
    scores = [row["accuracy"] for row in rows if len(row["task_id_path"]) == 2]
    assert len(scores) == model.n_iter_
    assert rows[0]["accuracy"] == model.score(X, y)  # of the fit itself
    assert max(scores) > 0.9  # a guess has 1/3


@needs_callbacks
def test_the_progress_bar_is_drawn(loss, capsys):
    pytest.importorskip("rich")
    from sklearn.callback import ProgressBar

    classifier(loss).set_callbacks(ProgressBar()).fit(*IRIS)
    assert type(classifier(loss)).__name__ in capsys.readouterr().out


@needs_callbacks
def test_callbacks_reach_through_pipeline_and_grid_search(loss):
    from sklearn.callback import AutoPropagatedCallback, ScoringMonitor

    X, y, _ = IRIS

    class Propagated(Recorder):
        """For all estimators below too."""

        max_propagation_depth = None

        def on_fit_task_begin(self, estimator, context):
            self.events.append(("begin", type(estimator).__name__))

        def on_fit_task_end(self, estimator, context):
            self.events.append(("end", type(estimator).__name__))

    recorder = Propagated()
    assert isinstance(recorder, AutoPropagatedCallback)
    pipeline = make_pipeline(StandardScaler(), classifier(loss))
    pipeline.set_callbacks(recorder).fit(X, y)
    name = type(pipeline[-1]).__name__
    # and the fit's own task, which is also one of the pipeline's
    assert recorder.events.count(("end", name)) == pipeline[-1].n_iter_ + 1
    monitor = ScoringMonitor(scoring="accuracy")
    inner = classifier(loss).set_callbacks(monitor)
    search = GridSearchCV(make_pipeline(StandardScaler(), inner), {}, cv=2).fit(X, y)
    assert search.best_score_ > 0.9
    runs = monitor.get_logs(select="all")
    assert sum(len(run.data) for run in runs) > search.best_estimator_[-1].n_iter_


@needs_callbacks
def test_callbacks_survive_clone_and_pickle():
    model = SoftmaxClassifier().set_callbacks(Recorder(stop_at=3))
    for copy in (clone(model), pickle.loads(pickle.dumps(model))):
        assert copy.fit(*IRIS).n_iter_ == 3
        model._skl_callbacks[0].models.clear()


@needs_callbacks
@pytest.mark.parametrize("loss", LOSSES)
def test_integers_are_scored_as_the_user_gave_them(loss):
    recorder = Recorder()
    X = np.rint(10 * IRIS.X).astype(np.uint8)
    model = classifier(loss, alpha=1.0).set_callbacks(recorder)
    model.fit(*Problem(X, IRIS.y))
    assert recorder.models[-1].coef_.dtype == np.float64


@needs_callbacks
@pytest.mark.filterwarnings("ignore:.*found the best mean test score at")
@pytest.mark.parametrize("refit", [True, False])
def test_the_scoring_monitor_takes_searches_as_grid_search_lets_it(refit):
    from sklearn.callback import ScoringMonitor

    monitor = ScoringMonitor(scoring="accuracy")
    search = LinearSVMClassifierCV(alphas=[1e-2, 1.0], cv=3, refit=refit)
    search.set_callbacks(monitor).fit(IRIS.X, IRIS.y)
    if not refit:  # nothing that could predict, so nothing to score
        with pytest.raises(ValueError, match="No logs"):
            monitor.get_logs()
        return
    rows = monitor.get_logs().data
    assert sum("accuracy" in row for row in rows) >= 2 * 2 * 3  # losses, alphas, folds


@needs_callbacks
@pytest.mark.filterwarnings("ignore:.*found the best mean test score at")
@pytest.mark.parametrize("scoring", [None, "accuracy", ["neg_log_loss", "accuracy"]])
def test_a_callback_may_ask_what_a_search_has_found_for_its_score(scoring):
    class Asking(Recorder):
        """For the score of the rows of each fit."""

        def on_fit_task_end(self, estimator, context, *, X, y, fitted_estimator=None):
            if isinstance(fitted_estimator, SoftmaxClassifierCV):
                self.events.append(fitted_estimator.score(X, y))

    asking = Asking()
    refit = "accuracy" if isinstance(scoring, list) else True
    search = SoftmaxClassifierCV(
        alphas=[1e-3, 1e-1], cv=3, scoring=scoring, refit=refit
    )
    search.set_callbacks(asking).fit(IRIS.X, IRIS.y)
    scores = [event for event in asking.events if isinstance(event, float)]
    assert len(scores) == 2 * 3
    by_accuracy = 0.8 < min(scores) <= 1
    assert by_accuracy or (scoring is None and -1 < min(scores) < 0)


@needs_callbacks
@pytest.mark.filterwarnings("ignore:1 of 2 folds", "ignore:One or more of the test")
def test_folds_that_cannot_be_fitted_are_tasks_too():
    recorder, rows = Recorder(), np.arange(150)
    splits = [(rows[::2], rows[1::2]), (rows[:50], rows[50:])]  # of one class only
    search = LinearSVMClassifierCV(
        alphas=[1e-2, 1.0], losses=["hinge"], cv=splits, refit=False
    )
    recorder.on_fit_task_end = lambda estimator, context: recorder.events.append("end")
    search.set_callbacks(recorder).fit(IRIS.X, IRIS.y)
    cells = ["begin", "end"] * 4
    fit = ["setup", "begin", "begin", *cells, "end", "end", "teardown"]
    assert recorder.events == fit
