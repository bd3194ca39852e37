"""What the two CV estimators share: a grid's fit, its choice, the refit."""

from __future__ import annotations

import time
import warnings
from copy import copy, deepcopy
from numbers import Integral
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import BaseEstimator, clone
from sklearn.metrics import get_scorer_names, log_loss
from sklearn.model_selection import ParameterGrid, check_cv
from sklearn.utils import check_random_state, indexable
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.metadata_routing import (
    UNUSED,
    MetadataRouter,
    MethodMapping,
    _raise_for_params,
    _routing_enabled,
    process_routing,
)
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from sklinear._alphas import MOST_ALPHAS, automatic_alphas, positive
from sklinear._base import LinearClassifier
from sklinear._callbacks import CallbackSupportMixin, subtask, with_callbacks
from sklinear._cells import Cell, FoldScore, Search, distinct, tell
from sklinear._checks import check_params, loaded, refuse_dask
from sklinear._data import Data
from sklinear._folds import Failure, Group, grouped
from sklinear._jobs import run
from sklinear._predictor import SEEN, LinearPredictor, learnt, refitted
from sklinear._results import (
    at_edge,
    best_index,
    failed_folds,
    failed_scores,
    metrics,
    open_gaps,
    table,
)
from sklinear._scoring import (
    check_refit,
    check_scoring_of,
    log_losses,
    quick_name,
    route,
    without_weights,
)
from sklinear._solvers import Options, Reporter

# parameters of the plain estimator that the search takes as they are
SHARED = ("fit_intercept", "class_weight", "solver", "tol", "max_iter", "random_state")


class LinearClassifierCV(CallbackSupportMixin, LinearPredictor, BaseEstimator):
    """What the two searches share: everything but the grid."""

    _parameter_constraints: ClassVar[dict[str, list]] = {
        "alphas": [Interval(Integral, 1, MOST_ALPHAS, closed="both"), "array-like"],
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
    # it is the scorer that asks for weights, not ``score`` itself
    __metadata_request__score: ClassVar = {"sample_weight": UNUSED}

    # X, y and the weights are checked, and classes weighted, as in a plain fit
    _validate_data = LinearClassifier._validate_data
    _sample_weights = LinearClassifier._sample_weights
    _labels_and_weights = LinearClassifier._labels_and_weights

    def _plain(self, **params: Any) -> LinearClassifier:
        """The estimator that is tuned."""
        raise NotImplementedError

    def _shared(self) -> dict[str, Any]:
        """The parameters that every cell shares."""
        return {name: getattr(self, name) for name in SHARED}

    def _grid(self, alphas: list[Any]) -> dict[str, list[Any]]:
        """The values of each parameter, for these alphas."""
        raise NotImplementedError

    def fit(self, X: Any, y: Any, sample_weight: Any = None, **params: Any) -> Self:
        """Cross-validate every cell of the grid, and fit the best to all samples.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Samples, as the plain estimator takes them.
        y : array-like of shape (n_samples,)
            Class labels.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights >= 0, for the fits and for those scorers that take weights (which
            GridSearchCV hands on to scorers too since scikit-learn 1.7).
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
        ImportError
            If ``solver`` is "dual" and numba is not installed.
        TypeError
            If X, y or the weights are a Dask collection, or a callable ``refit``
            returns no integer.
        IndexError
            If it returns one that is no row of ``cv_results_``.

        Warns
        -----
        ConvergenceWarning
            If fits of the search, or the refit, end before ``tol`` is reached.
        FitFailedWarning
            If some folds could not be fitted; their scores are nan.
        UserWarning
            If scores are not finite, could not be had or ignore the weights, or the
            best one is at an end of the alphas.
        """
        refuse_dask(self, X, y, sample_weight)
        check_params(self)
        extra = {name: params[name] for name in params if name != "groups"}
        _raise_for_params(extra, self, "fit")
        with self._kept_whole():
            notes = self._fit(X, y, sample_weight, params)
        for note in notes:
            warnings.warn(note, stacklevel=2)
        return self

    @with_callbacks
    def _fit(
        self, X: Any, y: Any, sample_weight: Any, params: dict[str, Any]
    ) -> list[Warning]:
        """The search itself, and what to warn of."""
        scorer, metric = check_scoring_of(self)
        root, told = self._root_context(X, y, sample_weight)
        given, given_y = indexable(X, y)
        X, y = self._validate_data(X, y)
        weights = self._sample_weights(X, sample_weight)
        classes, labels, total = self._labels_and_weights(y, weights)
        X = loaded(X, len(classes))
        alphas = self._alphas(Data(X, labels, total, len(classes)))
        cells = self._cells(alphas)
        if sample_weight is not None:
            params = {**params, "sample_weight": weights}
        notes = without_weights(self, scorer, params)
        split_params, score_params = route(self, scorer, params)
        if not (hasattr(given_y, "iloc") and given_y.ndim == 1):
            given_y = y  # splitters and scorers see a series alone as it was given
        splits = self._splitter(y, given_y).split(given, given_y, **split_params)
        plain, own = self._plain(), weights
        if self.class_weight == "balanced":  # in the folds as in the refit
            plain.set_params(class_weight=None)
            own = total
        named = isinstance(self.class_weight, dict)
        groups, failures = grouped(y, own, splits, plain._labels_and_weights, named)
        n_splits = len(failures) + sum(len(group.folds) for group in groups)
        fits = len(cells) * n_splits
        search = Search(
            X=X,
            given=given if hasattr(given, "columns") else X,
            y=given_y,
            sample_weight=None if sample_weight is None else weights,
            template=self._template(),
            scorer=scorer,
            quick=quick_name(self),
            log_losses=log_losses(scorer),
            score_params=score_params,
            cells=cells,
            problems=distinct(cells),
            n_splits=n_splits,
            options=self._options(fits),
            verbose=int(self.verbose),
        )
        if self.verbose:
            print(
                f"Fitting {n_splits} folds for each of {len(cells)} candidates, "
                f"totalling {fits} fits"
            )
        with subtask(root, told, "search", fits, sequential=False) as context:
            found = self._evaluate(search, groups, failures, context)
        name = type(self).__name__
        notes += failed_folds(name, failures, n_splits, found)
        notes += failed_scores(found) + open_gaps(name, found, self.tol)
        notes += self._report(search, metric, alphas, found)
        if self.refit:
            model = clone(self._plain(**self.best_params_))  # with its own generator
            with subtask(root, told, "refit-with-best-params", below=model):
                self._refit(model, given, given_y, sample_weight)
        if root is not None:
            root.call_on_fit_task_end(**told)
        return notes

    def _template(self) -> LinearClassifier:
        """The plain estimator that cells are made of, with what it has seen of X."""
        template = self._plain()
        for name in SEEN:
            if hasattr(self, name):
                setattr(template, name, getattr(self, name))
        return template

    def _splitter(self, y: np.ndarray, given_y: Any) -> Any:
        """What makes the folds: by default 5, or fewer where no class has 5 rows."""
        cv = self.cv
        if cv is None:
            cv = max(min(5, int(np.unique(y, return_counts=True)[1].max())), 2)
        return check_cv(cv, given_y, classifier=True)

    def _options(self, fits: int) -> Options:
        """What the solvers are asked, of so many fits."""
        plain, seed = self._plain(), self.random_state
        rng = np.random.RandomState()
        if seed is not None:
            rng = deepcopy(check_random_state(seed))  # as a clone has a copy
        return Options(
            float(self.tol),
            self.max_iter,
            plain.batch_size,
            plain.learning_rate,
            rng,
            Reporter(),
            fits=fits,
        )

    def _root_context(self, X: Any, y: Any, weights: Any) -> tuple[Any, dict[str, Any]]:
        """The callbacks' context of this fit, and what each of its tasks tells."""
        metadata = None if weights is None else {"sample_weight": weights}
        told = {"estimator": self, "X": X, "y": y, "metadata": metadata}
        if not hasattr(self, "_init_callback_context"):
            return None, told
        root = self._init_callback_context(max_subtasks=1 + bool(self.refit))
        return root.call_on_fit_task_begin(**told), told

    # The grid ---------------------------------------------------------------------

    def _is_automatic(self) -> bool:
        """Whether alphas is a number of them."""
        return isinstance(self.alphas, Integral) and not isinstance(self.alphas, bool)

    def _alphas(self, data: Data) -> list[Any]:
        """The values of alpha, as they were given or those of the automatic grid."""
        if not self._is_automatic():
            return positive("alphas", self.alphas)
        units = [(cell.loss, cell.alpha) for cell in self._cells([1.0])]
        return automatic_alphas(data, units, int(self.alphas))

    def _cells(self, alphas: list[Any]) -> list[Cell]:
        """All cells, in the order of scikit-learn's ParameterGrid."""
        return [
            Cell(params, *self._plain(**params)._problem())
            for params in ParameterGrid(self._grid(alphas))
        ]

    def _evaluate(
        self,
        search: Search,
        groups: list[Group],
        failures: list[Failure],
        context: Any,
    ) -> list[FoldScore]:
        """Solve and score all cells on all folds."""
        if context is None or not hasattr(self, "_skl_callbacks"):
            return run(search, groups, self.n_jobs, {}, None)
        candidates = range(len(search.cells))
        contexts = {
            (index, fold): context.subcontext(
                task_name="candidate-split-evaluation",
                task_id=index * search.n_splits + fold,
            )
            for index in candidates
            for fold in range(search.n_splits)
        }
        for failure in failures:
            for index in candidates:
                tell(search, self, contexts[index, failure.fold.index], failure.fold)
        return run(search, groups, self.n_jobs, contexts, self)

    # The choice -------------------------------------------------------------------

    def _report(
        self, search: Search, metric: Any, alphas: list[Any], found: list[FoldScore]
    ) -> list[Warning]:
        """Set what was found, instead of what an earlier fit did."""
        self._forget()
        names = metrics(found)
        self.multimetric_ = names is not None
        if names is not None:  # of a callable they are known only now
            metric = check_refit(self, names)
        self.n_splits_ = search.n_splits
        self.scorer_ = getattr(search.scorer, "_scorers", search.scorer)
        self.cv_results_, notes = table(search.cells, found, search.n_splits)
        self.alphas_ = np.array(alphas, dtype=float)
        return notes + self._choose(metric, search.cells)

    def _forget(self) -> None:
        """What an earlier fit has found."""
        for name in [*vars(self)]:
            if name == "_certificate" or (name.endswith("_") and name not in SEEN):
                delattr(self, name)

    def _choose(self, metric: Any, cells: list[Cell]) -> list[Warning]:
        """The best cell, unless nothing says which of several metrics counts."""
        if not self.refit and self.multimetric_:
            return []
        results = self.cv_results_
        index = self.best_index_ = best_index(self.refit, metric, results, cells)
        self.best_params_ = results["params"][index]
        for name, value in self.best_params_.items():
            setattr(self, f"{name}_", value)
        if callable(self.refit):
            return []
        mean = results[f"mean_test_{metric}"]
        self.best_score_ = mean[index]
        best = int(results[f"rank_test_{metric}"].argmin())  # whatever "one_std" takes
        name, automatic = type(self).__name__, self._is_automatic()
        return at_edge(name, best, mean, cells, automatic)

    def _refit(self, model: Any, X: Any, y: Any, sample_weight: Any) -> None:
        """Fit the best plain estimator, and take over what it has learnt."""
        model.verbose = max(int(self.verbose) - 2, 0)
        start = time.perf_counter()
        model.fit(X, y, sample_weight)
        self.refit_time_ = time.perf_counter() - start
        self.best_estimator_ = model
        self.__dict__.update(learnt(model))

    # Prediction -------------------------------------------------------------------

    decision_function = available_if(refitted)(LinearPredictor.decision_function)
    certify = available_if(refitted)(LinearPredictor.certify)
    predict = available_if(refitted)(LinearPredictor.predict)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "coef_" if self.refit else "cv_results_")

    @available_if(refitted)
    def score(self, X: Any, y: Any, sample_weight: Any = None, **params: Any) -> float:
        """The score of the refitted model, by ``scoring``.

        Where that is None, it is accuracy for LinearSVMClassifierCV, and minus the log
        loss for SoftmaxClassifierCV. Log loss counts all classes of the model, whether
        y has them or not, as it does in the search. Not there with ``refit=False``.

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

        Raises
        ------
        ValueError
            If there are several and ``refit`` is callable, or y has labels that log
            loss finds no probabilities for.
        """
        check_is_fitted(self)
        _raise_for_params(params, self, "score")
        if sample_weight is not None:
            params["sample_weight"] = sample_weight
        if _routing_enabled():
            params = process_routing(self, "score", **params).scorer["score"]
        scorer = self._chosen(self.scorer_)
        model = copy(self.best_estimator_)
        model.__dict__.update(learnt(self))  # a user may have assigned others
        own = quick_name(self) and getattr(scorer, "_score_func", None) is log_loss
        if own and set(params) <= {"sample_weight"}:
            # the scorer knows of the classes of y alone
            known = np.isin(y, model.classes_)
            if not known.all():
                raise ValueError(
                    f"y must hold classes of the fit, {model.classes_}, got also "
                    f"{np.unique(np.asarray(y)[~known])}."
                )
            return -log_loss(y, model.predict_proba(X), labels=model.classes_, **params)
        return self._chosen(scorer(model, X, y, **params))

    def _chosen(self, several: Any) -> Any:
        """Of several metrics' dict, the one that ``refit`` names; or what is none."""
        if not isinstance(several, dict):
            return several
        if self.refit not in several:
            raise ValueError(
                "score needs one metric, and refit, a callable, names none of "
                f"{list(several)}."
            )
        return several[self.refit]

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
