"""The two searches: what they tune, and their documents."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from sklinear._alphas import positive
from sklinear._classifiers import LinearSVMClassifier, SoftmaxClassifier
from sklinear._predictor import ProbabilityMixin
from sklinear._tuning import LinearClassifierCV

LOSSES = ("hinge", "squared_hinge")


class LinearSVMClassifierCV(LinearClassifierCV):
    """:class:`LinearSVMClassifier` with its parameters tuned by cross-validation.

    The same table as ``GridSearchCV(LinearSVMClassifier(), grid)`` with the same folds,
    from one computation: cells that are one problem, as those of many deltas are, are
    solved once, and no fold copies X. The scores agree as far as ``tol`` settles them:
    by default mean accuracies of the hinge may differ by 0.003 where classes overlap,
    and by more under penalties so strong that the classes' scores hardly differ.
    A fold whose training rows lack a class has a model of the others.

    A warning says so where the best score is at an end of the alphas and better than
    all inside (a single alpha has no end).

    Parameters
    ----------
    alphas : int or array-like of float, default=10
        Values to try, from 1e-100 to 1e100 (without a penalty there may be no optimum),
        or how many, 1 to 10000, of an automatic grid, evenly spaced in the logarithm.
        It falls from the alpha at which the scores are 0.1 margins (root mean square,
        summed over classes) off those that the class priors alone give, derived from
        the gradient at W = 0, to 1e-7 times it, where most data are interpolated, or as
        good as unpenalised. It goes on below that where X has more rows than features
        and these differ in scale, as far as those of small scale need, and as far as
        any loss and delta of the grid needs. It does not depend on the scale of the
        weights, grows with the square of a common scale of the features, and has values
        of three digits; one value is in its middle.
    deltas : array-like of float, default=(1.0,)
        Margins to try, from 1e-100 to 1e100. More than one does little: see
        :class:`LinearSVMClassifier`.
    losses : array-like of str, default=("hinge", "squared_hinge")
        Losses to try.
    cv : int, cross-validation generator or iterable, default=None
        The folds, as everywhere in scikit-learn; None is 5, stratified, or fewer where
        no class has 5 rows. A splitter that needs ``groups`` gets them from
        ``fit(X, y, groups=groups)``.
    scoring : str, callable, list, tuple, dict or None, default=None
        What is scored on the held-out rows, as in GridSearchCV, several at once too.
        None is accuracy. A scorer sees a model with the plain estimator's parameters
        and coefficients, but no ``solver_``, and no proof for ``certify``.
    refit : bool, str or callable, default=True
        Fit the best cell to all samples, as in GridSearchCV: by rank; by the rank of
        the metric named, where there are several; or by a callable that takes
        ``cv_results_`` and returns a row. "one_std", for a single metric, takes
        the strongest penalty, of the best cell's loss, whose mean score is within one
        standard error of the best. With False there is no prediction.
    fit_intercept : bool, default=True
        Add an intercept, which is not penalised.
    class_weight : dict or "balanced", default=None
        As in :class:`LinearSVMClassifier`; "balanced" by all samples, in the folds as
        in the refit (as LogisticRegressionCV does; GridSearchCV balances each fold by
        itself).
    solver : {"auto", "lbfgs", "newton", "dual", "sgd"}, default="auto"
        As in :class:`LinearSVMClassifier`.
    tol : float, default=1e-4
        Relative duality gap at which a fit stops, in the folds and in the refit.
    max_iter : int, default=1000
        Iterations or epochs of a fit at most.
    n_jobs : int, default=None
        Processes, or the workers of joblib's current backend. None is 1, or what a
        ``joblib.parallel_config`` says; -1 is all cores. A search that would end before
        processes have started, in a few seconds, takes none, as the size of X and the
        first scores tell; maps with ``mode="c"``, whose pages no other process sees,
        have threads. Fits start where others of their process ended, so scores may
        change with it by what ``tol`` leaves open.
    random_state : int, RandomState instance or None, default=None
        As in :class:`LinearSVMClassifier`; the same order in every fit.
    verbose : int, default=0
        1 tells about once a second how far the search is, 2 every fit, 3 also the
        iterations of the refit.

    Attributes
    ----------
    cv_results_ : dict of ndarrays
        GridSearchCV's table, a row for every cell asked for, in the order of
        ParameterGrid. Its keys: ``params`` (a list of dicts), ``param_alpha``,
        ``param_delta`` and ``param_loss``;
        ``split<i>_test_score`` for each fold, ``mean_test_score``, ``std_test_score``
        and ``rank_test_score`` (of several metrics with their names for ``score``);
        ``mean_`` and ``std_`` of ``fit_time`` and ``score_time``, in seconds. Cells are
        solved together, so ``mean_fit_time`` is an equal share.
    best_params_ : dict
        The cell that ``refit`` chooses, the best with False; but with False and several
        metrics this and what follows, up to ``loss_``, is not set.
    best_score_ : float
        Its mean score; not set where ``refit`` is callable.
    best_index_ : int
        Its row in ``cv_results_``.
    alpha_ : float
        Its alpha.
    delta_ : float
        Its delta.
    loss_ : str
        Its loss.
    alphas_ : ndarray of shape (n_alphas,)
        The values tried, in the order given; those of an automatic grid fall.
    n_splits_ : int
        Number of folds.
    scorer_ : callable or dict of callables
        The scorer, or by their names all of several.
    multimetric_ : bool
        Whether several metrics are scored.
    n_features_in_ : int
        Number of features seen during fit.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the features, where X has them.
    refit_time_ : float
        Seconds of the refit. This and what is below is not set with ``refit=False``.
    best_estimator_ : LinearSVMClassifier
        The plain estimator, refitted; whatever is below is its own.
    coef_ : ndarray of shape (n_classes, n_features) or (1, n_features)
        Weights; one row for two classes.
    intercept_ : ndarray of shape (n_classes,) or (1,)
        Intercepts.
    classes_ : ndarray of shape (n_classes,)
        Labels of the samples that have weight, sorted.
    n_iter_ : int
        Iterations of the refit.
    loss_curve_ : list of float
        Objective after each of them.
    solver_ : str
        The refit's solver.
    dual_gap_ : float
        Proven bound on the refit's relative distance from the optimum; not set by
        "sgd".

    See Also
    --------
    LinearSVMClassifier : The plain estimator.
    ValidationPathDisplay : A picture of the scores.
    SoftmaxClassifierCV : The same for the cross-entropy.
    sklearn.model_selection.GridSearchCV : Any estimator, one fit a cell and fold.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklinear import LinearSVMClassifierCV
    >>> X, y = load_iris(return_X_y=True)
    >>> model = LinearSVMClassifierCV(alphas=[1e-1, 1e-2, 1e-3, 1e-4]).fit(X, y)
    >>> print(model.loss_, model.alpha_)
    hinge 0.01
    """

    _parameter_constraints: ClassVar[dict[str, list]] = {
        **LinearClassifierCV._parameter_constraints,
        "deltas": ["array-like"],
        "losses": ["array-like"],
    }

    def __init__(
        self,
        *,
        alphas=10,
        deltas=(1.0,),
        losses=LOSSES,
        cv=None,
        scoring=None,
        refit=True,
        fit_intercept=True,
        class_weight=None,
        solver="auto",
        tol=1e-4,
        max_iter=1000,
        n_jobs=None,
        random_state=None,
        verbose=0,
    ):
        self.alphas = alphas
        self.deltas = deltas
        self.losses = losses
        self.cv = cv
        self.scoring = scoring
        self.refit = refit
        self.fit_intercept = fit_intercept
        self.class_weight = class_weight
        self.solver = solver
        self.tol = tol
        self.max_iter = max_iter
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.verbose = verbose

    def _plain(self, **params: Any) -> LinearSVMClassifier:
        return LinearSVMClassifier(**self._shared(), **params)

    def _grid(self, alphas: list[Any]) -> dict[str, list[Any]]:
        losses = [*self.losses] if np.iterable(self.losses) else []
        names = [loss for loss in losses if isinstance(loss, str) and loss in LOSSES]
        if not names or len(names) < len(losses):
            raise ValueError(
                f"losses must be a sequence of names among {list(LOSSES)}, at least "
                f"one, got {self.losses!r}."
            )
        deltas = positive("deltas", self.deltas)
        return {"alpha": alphas, "delta": deltas, "loss": losses}


class SoftmaxClassifierCV(ProbabilityMixin, LinearClassifierCV):
    """:class:`SoftmaxClassifier` with its ``alpha`` tuned by cross-validation.

    The same table as ``GridSearchCV(SoftmaxClassifier(), {"alpha": alphas},
    scoring="neg_log_loss")`` with the same folds, from one computation, without a copy
    of X for any fold. The scores agree as far as ``tol`` settles them. A fold whose
    training rows lack a class has a model of the others, and log loss, where it alone
    is scored, by default or by its name, counts all classes of that model, in the
    fold's held-out rows or not (GridSearchCV: nan where one is not). Log loss is nan
    where held-out rows have a class that the model lacks (GridSearchCV may take another
    class's probabilities for its).

    A warning says so where the best score is at an end of the alphas and better than
    all inside (a single alpha has no end).

    Parameters
    ----------
    alphas : int or array-like of float, default=10
        Values to try, from 1e-100 to 1e100 (without a penalty there may be no optimum),
        or how many, 1 to 10000, of an automatic grid, evenly spaced in the logarithm.
        It falls from the alpha at which the scores are 0.1 (root mean square, summed
        over classes) off those that the class priors alone give, derived from the
        gradient at W = 0, to 1e-7 times it, where most data are interpolated, or as
        good as unpenalised. It goes on below that where X has more rows than features
        and these differ in scale, as far as those of small scale need. It does not
        depend on the scale of the weights, grows with the square of a common scale of
        the features, and has values of three digits; one value is in its middle.
    cv : int, cross-validation generator or iterable, default=None
        The folds, as everywhere in scikit-learn; None is 5, stratified, or fewer where
        no class has 5 rows. A splitter that needs ``groups`` gets them from
        ``fit(X, y, groups=groups)``.
    scoring : str, callable, list, tuple, dict or None, default=None
        What is scored on the held-out rows, as in GridSearchCV, several at once too.
        None is log loss, "neg_log_loss". A scorer sees a model with the plain
        estimator's parameters and coefficients, but no ``solver_``, and no proof for
        ``certify``.
    refit : bool, str or callable, default=True
        Fit the best cell to all samples, as in GridSearchCV: by rank; by the rank of
        the metric named, where there are several; or by a callable that takes
        ``cv_results_`` and returns a row. "one_std", for a single metric, takes
        the strongest penalty whose mean score is within one standard error of the best.
        With False there is no prediction.
    fit_intercept : bool, default=True
        Add an intercept, which is not penalised.
    class_weight : dict or "balanced", default=None
        As in :class:`SoftmaxClassifier`; "balanced" by all samples, in the folds as
        in the refit (as LogisticRegressionCV does; GridSearchCV balances each fold by
        itself).
    solver : {"auto", "lbfgs", "newton", "dual", "sgd"}, default="auto"
        As in :class:`SoftmaxClassifier`.
    tol : float, default=1e-4
        Relative duality gap at which a fit stops, in the folds and in the refit.
    max_iter : int, default=1000
        Iterations or epochs of a fit at most.
    n_jobs : int, default=None
        Processes, or the workers of joblib's current backend. None is 1, or what a
        ``joblib.parallel_config`` says; -1 is all cores. A search that would end before
        processes have started, in a few seconds, takes none, as the size of X and the
        first scores tell; maps with ``mode="c"``, whose pages no other process sees,
        have threads. Fits start where others of their process ended, so scores may
        change with it by what ``tol`` leaves open.
    random_state : int, RandomState instance or None, default=None
        As in :class:`SoftmaxClassifier`; the same order in every fit.
    verbose : int, default=0
        1 tells about once a second how far the search is, 2 every fit, 3 also the
        iterations of the refit.

    Attributes
    ----------
    cv_results_ : dict of ndarrays
        GridSearchCV's table, a row for every cell asked for, in the order of
        ParameterGrid. Its keys: ``params`` (a list of dicts) and ``param_alpha``;
        ``split<i>_test_score`` for each fold, ``mean_test_score``, ``std_test_score``
        and ``rank_test_score`` (of several metrics with their names for ``score``);
        ``mean_`` and ``std_`` of ``fit_time`` and ``score_time``, in seconds. Cells are
        solved together, so ``mean_fit_time`` is an equal share.
    best_params_ : dict
        The cell that ``refit`` chooses, the best with False; but with False and several
        metrics this and what follows, up to ``alpha_``, is not set.
    best_score_ : float
        Its mean score; not set where ``refit`` is callable.
    best_index_ : int
        Its row in ``cv_results_``.
    alpha_ : float
        Its alpha.
    alphas_ : ndarray of shape (n_alphas,)
        The values tried, in the order given; those of an automatic grid fall.
    n_splits_ : int
        Number of folds.
    scorer_ : callable or dict of callables
        The scorer, or by their names all of several.
    multimetric_ : bool
        Whether several metrics are scored.
    n_features_in_ : int
        Number of features seen during fit.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the features, where X has them.
    refit_time_ : float
        Seconds of the refit. This and what is below is not set with ``refit=False``.
    best_estimator_ : SoftmaxClassifier
        The plain estimator, refitted; whatever is below is its own.
    coef_ : ndarray of shape (n_classes, n_features) or (1, n_features)
        Weights; one row for two classes.
    intercept_ : ndarray of shape (n_classes,) or (1,)
        Intercepts.
    classes_ : ndarray of shape (n_classes,)
        Labels of the samples that have weight, sorted.
    n_iter_ : int
        Iterations of the refit.
    loss_curve_ : list of float
        Objective after each of them.
    solver_ : str
        The refit's solver.
    dual_gap_ : float
        Proven bound on the refit's relative distance from the optimum; not set by
        "sgd".

    See Also
    --------
    SoftmaxClassifier : The plain estimator.
    ValidationPathDisplay : A picture of the scores.
    LinearSVMClassifierCV : The same for the hinges.
    sklearn.linear_model.LogisticRegressionCV : The same model.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklinear import SoftmaxClassifierCV
    >>> X, y = load_iris(return_X_y=True)
    >>> model = SoftmaxClassifierCV(alphas=[1e-2, 1e-3, 1e-4, 1e-5]).fit(X, y)
    >>> print(model.alpha_, model.best_score_.round(3))
    0.0001 -0.055
    """

    _scoring = "neg_log_loss"

    def __init__(
        self,
        *,
        alphas=10,
        cv=None,
        scoring=None,
        refit=True,
        fit_intercept=True,
        class_weight=None,
        solver="auto",
        tol=1e-4,
        max_iter=1000,
        n_jobs=None,
        random_state=None,
        verbose=0,
    ):
        self.alphas = alphas
        self.cv = cv
        self.scoring = scoring
        self.refit = refit
        self.fit_intercept = fit_intercept
        self.class_weight = class_weight
        self.solver = solver
        self.tol = tol
        self.max_iter = max_iter
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.verbose = verbose

    def _plain(self, **params: Any) -> SoftmaxClassifier:
        return SoftmaxClassifier(**self._shared(), **params)

    def _grid(self, alphas: list[Any]) -> dict[str, list[Any]]:
        return {"alpha": alphas}
