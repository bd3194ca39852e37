"""What the two CV estimators share: a grid's fit, its choice, the refit."""

from __future__ import annotations

import math
import time
import warnings
from copy import deepcopy
from numbers import Integral
from typing import Any, ClassVar

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.exceptions import FitFailedWarning
from sklearn.metrics import get_scorer_names
from sklearn.model_selection import ParameterGrid, check_cv
from sklearn.utils import check_random_state, indexable
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.metadata_routing import (
    MetadataRouter,
    MethodMapping,
    _raise_for_params,
    _routing_enabled,
    process_routing,
)
from sklearn.utils.metaestimators import available_if
from sklearn.utils.parallel import Parallel, delayed
from sklearn.utils.validation import check_is_fitted

from sklinear._alphas import automatic_alphas, positive
from sklinear._base import LinearClassifier
from sklinear._callbacks import CallbackSupportMixin, subtask, with_callbacks
from sklinear._cells import Cell, Evaluation, Search, Task, distinct, evaluate
from sklinear._data import Data
from sklinear._folds import Group, grouped, shares
from sklinear._predictor import LinearPredictor, refitted
from sklinear._results import (
    best_index,
    table,
    warn_of_edge,
    warn_of_errors,
    warn_of_gaps,
)
from sklinear._scoring import check_refit, check_scoring_of, quick_name, route
from sklinear._solvers import Options, Reporter

# parameters of the plain estimator that the search takes as they are
SHARED = ("fit_intercept", "class_weight", "solver", "tol", "max_iter", "random_state")


class LinearClassifierCV(CallbackSupportMixin, LinearPredictor, BaseEstimator):
    """What the two searches share: everything but the grid."""

    _doc_link_module = LinearClassifier._doc_link_module
    _doc_link_template = LinearClassifier._doc_link_template
    _doc_link_url_param_generator = LinearClassifier._doc_link_url_param_generator

    _parameter_constraints: ClassVar[dict[str, list]] = {
        "alphas": [Interval(Integral, 1, None, closed="left"), "array-like"],
        "cv": ["cv_object"],
        "scoring": [
            StrOptions(set(get_scorer_names())),
            callable,
            list,
            tuple,
            dict,
            None,
        ],
        "refit": ["boolean", str, callable],
        **{
            name: LinearClassifier._parameter_constraints[name]
            for name in (*SHARED, "verbose")
        },
        "n_jobs": [Integral, None],
    }
    _scoring = "accuracy"  # where none is given

    # X, y and the weights are checked, and classes weighted, as in a plain fit
    _validate_data = LinearClassifier._validate_data
    _sample_weights = LinearClassifier._sample_weights
    _class_weights = LinearClassifier._class_weights
    _labels_and_weights = LinearClassifier._labels_and_weights

    alphas: Any
    cv: Any
    scoring: Any
    refit: Any
    class_weight: Any
    solver: str
    tol: float
    max_iter: int
    fit_intercept: bool
    n_jobs: int | None
    random_state: Any
    verbose: Any

    def _plain(self, **params: Any) -> LinearClassifier:
        """The estimator that is tuned."""
        raise NotImplementedError

    def _shared(self) -> dict[str, Any]:
        """The parameters that every cell shares."""
        return {name: getattr(self, name) for name in SHARED}

    def _grid(self, alphas: list[Any]) -> dict[str, list[Any]]:
        """The values of each parameter, for these alphas."""
        raise NotImplementedError

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    def fit(
        self, X: Any, y: Any, sample_weight: Any = None, **params: Any
    ) -> LinearClassifierCV:
        """Cross-validate every cell of the grid, and fit the best to all samples.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Samples, as the plain estimator takes them.
        y : array-like of shape (n_samples,)
            Class labels.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights >= 0, for the fits and for those scorers that take weights.
        **params : dict
            ``groups`` for the splitter; with ``enable_metadata_routing=True`` whatever
            splitter and scorers request.

        Returns
        -------
        self : object
            The fitted search.

        Raises
        ------
        ValueError
            If a parameter, X, y or the weights are not as described, fewer than two
            classes have weight, or no fold could be fitted.
        """
        _refuse_dask(self, X, y)
        self._validate_params()
        extra = {name: params[name] for name in params if name != "groups"}
        _raise_for_params(extra, self, "fit")
        self._fit(X, y, sample_weight, params)
        return self

    @with_callbacks
    def _fit(self, X: Any, y: Any, sample_weight: Any, params: dict[str, Any]) -> None:
        """The search itself."""
        scorer, metric = check_scoring_of(self)
        root, told = self._root_context(X, y, sample_weight)
        given, given_y = indexable(X, y)
        X, y = self._validate_data(X, y)
        weights = self._sample_weights(X, sample_weight)
        _, labels, total = self._labels_and_weights(y, weights)
        if sample_weight is not None:
            params = {**params, "sample_weight": weights}
        split_params, score_params = route(self, scorer, params)
        cells = self._cells(Data(X, labels, total, labels.max() + 1))
        given_y = given_y if hasattr(given_y, "iloc") else y
        cv = check_cv(self.cv, given_y, classifier=True)
        splits = list(cv.split(given, given_y, **split_params))
        groups, failures = grouped(y, weights, splits, self._labels_and_weights)
        if self.verbose:
            print(
                f"Fitting {len(splits)} folds for each of {len(cells)} candidates, "
                f"totalling {len(splits) * len(cells)} fits"
            )
        problems = distinct(cells)
        seed = self.random_state
        search = Search(
            X,
            given if hasattr(given, "columns") else None,
            given_y,
            self._plain(),
            scorer,
            quick_name(self),
            score_params,
            {"sample_weight": weights} if sample_weight is not None else {},
            cells,
            problems,
            len(splits),
            Options(
                self.tol,
                self.max_iter,
                self._plain().batch_size,
                self._plain().learning_rate,
                # a copy each, as clones have
                np.random.RandomState()
                if seed is None
                else deepcopy(check_random_state(seed)),
                Reporter(),
            ),
            self,
            int(self.verbose),
        )
        for name in ("n_features_in_", "feature_names_in_"):
            if hasattr(self, name):
                setattr(search.template, name, getattr(self, name))
        with subtask(
            root, told, "search", len(cells) * len(splits), sequential=False
        ) as context:
            found = self._evaluate(search, groups, context)
        if not found:
            raise ValueError(
                f"All the {len(splits)} folds of {type(self).__name__} failed to fit. "
                f"Details of the first:\n{failures[0]}"
            )
        name = type(self).__name__
        if failures:
            warnings.warn(
                f"{len(failures)} of {len(splits)} folds of {name} failed to fit. "
                f"Their scores will be set to nan. Details of the first:\n"
                f"{failures[0]}",
                FitFailedWarning,
                stacklevel=4,
            )
        warn_of_errors(found)
        warn_of_gaps(name, found, self.tol)
        results = table(cells, found, len(splits))
        self.multimetric_ = isinstance(found[0].scores, dict)
        if self.multimetric_:
            metric = check_refit(self, found[0].scores)
        self.n_splits_, self.cv_results_ = len(splits), results
        self.scorer_ = getattr(scorer, "_scorers", scorer)
        self._choose(metric, cells)
        if self.refit is not False:
            model = self._plain(**self.best_params_)
            with subtask(root, told, "refit-with-best-params", below=model):
                self._refit(model, given, given_y, sample_weight)
        if root is not None:
            root.call_on_fit_task_end(**told)

    def _root_context(self, X: Any, y: Any, weights: Any) -> tuple[Any, dict[str, Any]]:
        """The callbacks' context of this fit, and what each of its tasks tells."""
        metadata = None if weights is None else {"sample_weight": weights}
        told = {"estimator": self, "X": X, "y": y, "metadata": metadata}
        if not hasattr(self, "_init_callback_context"):
            return None, told
        root = self._init_callback_context(max_subtasks=1 + (self.refit is not False))
        return root.call_on_fit_task_begin(**told), told

    # The grid ---------------------------------------------------------------------

    def _cells(self, data: Data) -> list[Cell]:
        """All cells, in the order of scikit-learn's ParameterGrid."""
        if isinstance(self.alphas, Integral):
            units = [
                self._plain(**{**params, "alpha": 1.0})._problem()[:2]
                for params in ParameterGrid(self._grid([1.0]))
            ]
            alphas = automatic_alphas(data, units, int(self.alphas))
        else:
            alphas = positive("alphas", self.alphas)
        self.alphas_ = np.array(alphas, dtype=float)
        cells = []
        for params in ParameterGrid(self._grid(alphas)):
            loss, alpha, scale, scale_of_objective = self._plain(**params)._problem()
            cells.append(Cell(params, loss, alpha, scale, scale_of_objective))
        return cells

    # Folds ------------------------------------------------------------------------

    def _evaluate(
        self, search: Search, groups: list[Group], context: Any
    ) -> list[Evaluation]:
        """Solve and score all cells on all folds."""
        contexts: dict[tuple[int, int], Any] = {}
        if context is not None and hasattr(self, "_skl_callbacks"):
            for index in range(len(search.cells)):
                for fold in range(search.n_splits):
                    contexts[index, fold] = context.subcontext(
                        task_name="candidate-split-evaluation",
                        task_id=index * search.n_splits + fold,
                    )
        from joblib import effective_n_jobs  # scikit-learn requires it

        together = effective_n_jobs(self.n_jobs) == 1
        tasks = [
            Task(group, problems, folds, contexts)
            for group in groups
            for problems, folds in shares(
                [problem.loss for problem in search.problems], group.folds, together
            )
        ]
        parts = Parallel(n_jobs=self.n_jobs)(
            delayed(evaluate)(search, task) for task in tasks
        )
        return [evaluation for part in parts for evaluation in part]

    # The choice -------------------------------------------------------------------

    def _choose(self, metric: Any, cells: list[Cell]) -> None:
        """The best cell, unless nothing says which of several metrics counts."""
        if self.refit is False and self.multimetric_:
            return
        results = self.cv_results_
        index = self.best_index_ = best_index(self.refit, metric, results, cells)
        self.best_params_ = results["params"][index]
        for name, value in self.best_params_.items():
            setattr(self, f"{name}_", value)
        if callable(self.refit):
            return
        mean = results[f"mean_test_{metric}"]
        self.best_score_ = mean[index]
        if not math.isnan(mean[index]):
            best = int(results[f"rank_test_{metric}"].argmin())
            warn_of_edge(type(self).__name__, best, mean, cells)

    def _refit(self, model: Any, X: Any, y: Any, sample_weight: Any) -> None:
        """Fit the best plain estimator, and take over what it has learnt."""
        model.verbose = max(int(self.verbose) - 2, 0)
        start = time.perf_counter()
        model.fit(X, y, sample_weight)
        self.refit_time_ = time.perf_counter() - start
        self.best_estimator_ = model
        self._forget()
        for name in (
            "classes_",
            "coef_",
            "intercept_",
            "n_iter_",
            "loss_curve_",
            "solver_",
            "dual_gap_",
            "_certificate",
        ):
            if hasattr(model, name):
                setattr(self, name, getattr(model, name))

    def _forget(self) -> None:
        """What an earlier fit has proven."""
        for name in ("dual_gap_", "_certificate"):
            self.__dict__.pop(name, None)

    # Prediction -------------------------------------------------------------------

    decision_function = available_if(refitted)(LinearPredictor.decision_function)
    certify = available_if(refitted)(LinearPredictor.certify)
    predict = available_if(refitted)(LinearPredictor.predict)

    @available_if(refitted)
    def score(self, X: Any, y: Any, sample_weight: Any = None, **params: Any) -> float:
        """The score of the refitted model, by ``scoring``.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Samples.
        y : array-like of shape (n_samples,)
            True labels.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the samples.
        **params : dict
            With ``enable_metadata_routing=True``, whatever the scorer requests.

        Returns
        -------
        score : float
            Of several scorers, that of the one named by ``refit``.
        """
        check_is_fitted(self)
        _raise_for_params(params, self, "score")
        if sample_weight is not None:
            params["sample_weight"] = sample_weight
        if _routing_enabled():
            params = process_routing(self, "score", **params).scorer["score"]
        scorer = self.scorer_
        if isinstance(scorer, dict):
            if self.refit not in scorer:
                raise ValueError(
                    "score needs one metric, and refit, a callable, names none of "
                    f"{list(scorer)}."
                )
            scorer = scorer[self.refit]
        score = scorer(self.best_estimator_, X, y, **params)
        return score[self.refit] if isinstance(score, dict) else score

    def get_metadata_routing(self) -> MetadataRouter:
        """Which metadata go to the splitter and the scorers.

        Returns
        -------
        routing : MetadataRouter
            The weights to ``fit`` itself, and the requests of ``cv`` and ``scoring``.
        """
        scorer, _ = check_scoring_of(self)
        return (
            MetadataRouter(owner=self)
            .add_self_request(self)
            .add(
                splitter=self.cv,
                method_mapping=MethodMapping().add(caller="fit", callee="split"),
            )
            .add(
                scorer=scorer,
                method_mapping=MethodMapping()
                .add(caller="score", callee="score")
                .add(caller="fit", callee="score"),
            )
        )


def _refuse_dask(search: Any, *collections: Any) -> None:
    """Dask collections are for the plain estimators."""
    if any(type(each).__module__.split(".")[0] == "dask" for each in collections):
        name = type(search).__name__
        raise TypeError(
            f"{name} does not take Dask collections: it needs all rows at once. Fit "
            f"{name.removesuffix('CV')}, which takes them, for each alpha and fold, or "
            "tune on a sample of the rows (compute() it first)."
        )
