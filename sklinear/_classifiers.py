"""The estimators: validation, labels, weights, warnings and fitted attributes."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
from scipy.special import expit, log_expit, log_softmax, softmax
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model._base import LinearClassifierMixin, SparseCoefMixin
from sklearn.utils import check_random_state, compute_class_weight
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import (
    _check_sample_weight,
    validate_data,
)
from threadpoolctl import ThreadpoolController

from sklinear._objective import Data
from sklinear._solvers import SOLVERS, Options
from sklinear._solvers._sgd import Stream, partial_sgd
from sklinear.losses import CrossEntropy, Hinge, Loss, SquaredHinge


class LinearClassifier(LinearClassifierMixin, SparseCoefMixin, BaseEstimator):
    """What the two estimators share: everything but the loss."""

    _doc_link_module = "sklinear"
    _doc_link_template = (
        "https://sklinear.readthedocs.io/en/stable/api.html#sklinear.{class_name}"
    )

    _parameter_constraints: ClassVar[dict[str, list]] = {
        "alpha": [Interval(Real, 0, np.inf, closed="left")],
        "fit_intercept": ["boolean"],
        "class_weight": [dict, StrOptions({"balanced"}), None],
        "solver": [StrOptions({"auto", *SOLVERS})],
        "tol": [Interval(Real, 0, np.inf, closed="neither")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "learning_rate": [
            StrOptions({"auto"}),
            Interval(Real, 0, np.inf, closed="neither"),
        ],
        "warm_start": ["boolean"],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    def _doc_link_url_param_generator(self) -> dict[str, str]:
        """What the documentation's address is made of."""
        return {"class_name": type(self).__name__}

    def _loss(self) -> Loss:
        """The loss that the parameters name."""
        raise NotImplementedError

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> LinearClassifier:
        """Fit the model to data.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Samples. float32 and float64 are taken as they are, dense or CSR; anything
            else is converted once.
        y : array-like of shape (n_samples,)
            Class labels.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights >= 0; only their ratios matter. Rows of weight 0 do not count, not
            even for the classes.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If a parameter, X, y or the weights are not as described, or fewer than two
            classes have weight.
        """
        self._validate_params()
        X, y = self._validate_data(X, y)
        weights = self._sample_weights(X, sample_weight)
        counted = weights > 0
        classes = np.unique(y[counted])
        if isinstance(self.class_weight, dict):
            weights = weights * self._class_weights(classes, y)
            counted = weights > 0
            classes = np.unique(y[counted])
        if len(classes) < 2:
            raise ValueError(
                f"{type(self).__name__} needs samples of at least 2 classes with "
                f"positive weight, got {len(classes)} class: {classes}."
            )
        labels = np.searchsorted(classes, y)
        labels[~counted] = 0
        weights = weights / weights.max()
        if self.class_weight == "balanced":
            weights = weights / np.bincount(labels, weights)[labels]
        weights = weights / weights.sum()
        start = np.zeros((X.shape[1], len(classes))), np.zeros(len(classes))
        if self.warm_start and hasattr(self, "coef_"):
            start = self._full_params(classes, X.shape[1])
        solver = "lbfgs" if self.solver == "auto" else self.solver
        with _single_threaded_blas():
            solution = SOLVERS[solver](
                Data(X, labels, weights, len(classes)),
                self._loss(),
                float(self.alpha),
                self.fit_intercept,
                start,
                self._options(),
            )
        self.classes_ = classes
        self._set_coef(solution.coef, solution.intercept, X.dtype)
        self.n_iter_ = len(solution.history)
        self.loss_curve_ = solution.history
        self.solver_ = solver
        self._stream = None
        if not np.isnan(solution.gap):
            self.dual_gap_ = solution.gap
        elif hasattr(self, "dual_gap_"):
            del self.dual_gap_
        if not solution.converged:
            self._warn(solution)
        return self

    def partial_fit(
        self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None
    ) -> LinearClassifier:
        """Learn from some more rows: one pass of mini-batch SGD, whatever ``solver`` is.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Samples.
        y : array-like of shape (n_samples,)
            Class labels.
        classes : array-like of shape (n_classes,), default=None
            All labels that will ever come. Required in the first call, unless the model
            was fitted before.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights >= 0, relative to those of the rows before.

        Returns
        -------
        self : object
            The estimator.

        Raises
        ------
        ValueError
            If a parameter, X, y or the weights are not as described, ``classes`` is
            missing in the first call, or a label is not among them.
        """
        self._validate_params()
        if self.class_weight == "balanced":
            raise ValueError(
                "class_weight='balanced' needs all labels at once, so partial_fit "
                "expects class_weight=None or a dict of weights, got 'balanced'."
            )
        first = not hasattr(self, "classes_")
        if first and classes is None:
            raise ValueError(
                "classes must be given in the first call to partial_fit: the labels "
                "that will come, got None."
            )
        X, y = self._validate_data(X, y, reset=first)
        if first:
            self._start_stream(np.unique(classes), X)
        elif classes is not None and not np.array_equal(
            np.unique(classes), self.classes_
        ):
            raise ValueError(
                f"classes must be those of the first call, {self.classes_}, got "
                f"{np.unique(classes)}."
            )
        unseen = np.setdiff1d(y, self.classes_)
        if len(unseen):
            raise ValueError(
                f"y must hold classes of the first call to partial_fit, "
                f"{self.classes_}, got {unseen} too."
            )
        weights = self._sample_weights(X, sample_weight)
        if self.class_weight is not None:
            weights = weights * self._class_weights(self.classes_, y)
        if self._stream is None:
            self._stream = Stream()
        with _single_threaded_blas():
            W, b = partial_sgd(
                Data(X, np.searchsorted(self.classes_, y), weights, len(self.classes_)),
                self._loss(),
                float(self.alpha),
                self.fit_intercept,
                self._full_params(self.classes_, X.shape[1]),
                self._options(),
                self._stream,
            )
        self._set_coef(W, b, X.dtype)
        return self

    def _start_stream(self, classes: np.ndarray, X: Any) -> None:
        """What a fit would have set, before any row is learnt."""
        if len(classes) < 2:
            raise ValueError(
                f"classes must hold at least 2 classes, got {len(classes)} class: "
                f"{classes}."
            )
        self.classes_ = classes
        self.n_iter_, self.loss_curve_, self.solver_ = 1, [], "sgd"
        self._stream = Stream()
        zeros = np.zeros((X.shape[1], len(classes)))
        self._set_coef(zeros, zeros.sum(axis=0), X.dtype)

    def _validate_data(self, X: Any, y: Any, reset: bool = True) -> tuple[Any, Any]:
        """X as float32 or float64, dense or CSR, and class labels."""
        X, y = validate_data(
            self,
            X,
            y,
            accept_sparse="csr",
            dtype=[np.float64, np.float32],
            reset=reset,
        )
        check_classification_targets(y)
        return X, y

    def _sample_weights(self, X: Any, sample_weight: Any) -> np.ndarray:
        """Non-negative weights (n,), float64, at least one of them positive."""
        weights = _check_sample_weight(sample_weight, X, dtype=np.float64)
        if weights.min() < 0:
            raise ValueError(
                "sample_weight must be >= 0. Negative values in data passed to "
                f"`sample_weight`, the least is {weights.min()}."
            )
        if weights.max() == 0:
            raise ValueError("sample_weight must be > 0 for some row, all are zero.")
        return weights

    def _class_weights(self, classes: np.ndarray, y: np.ndarray) -> np.ndarray:
        """The dict class_weight of each row, (n,); 0 for rows of no class."""
        each = compute_class_weight(self.class_weight, classes=classes, y=classes)
        if not (np.isfinite(each).all() and each.min() >= 0 and each.max() > 0):
            raise ValueError(
                "class_weight must be >= 0 for each class and > 0 for some, got "
                f"{self.class_weight}."
            )
        place = np.minimum(np.searchsorted(classes, y), len(classes) - 1)
        return np.where(classes[place] == y, each[place], 0.0)

    def _full_params(
        self, classes: np.ndarray, n_features: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """W (d, k) and b (k,) of the present coefficients, one column a class."""
        if not np.array_equal(classes, self.classes_):
            raise ValueError(
                "warm_start needs the classes of the previous fit, "
                f"{self.classes_}, got {classes}."
            )
        coef = self.coef_.toarray() if hasattr(self.coef_, "toarray") else self.coef_
        coef, intercept = coef.astype(np.float64), np.float64(self.intercept_)
        if coef.shape[1] != n_features:
            raise ValueError(
                f"warm_start needs the {coef.shape[1]} features of the previous fit, "
                f"got {n_features}."
            )
        if len(classes) == 2:
            return (
                np.vstack([-coef / 2, coef / 2]).T,
                np.concatenate([-intercept / 2, intercept / 2]),
            )
        return coef.T, intercept

    def _set_coef(self, W: np.ndarray, b: np.ndarray, dtype: Any) -> None:
        """One row a class that add up to 0, or one row for two classes."""
        coef = (W - W.mean(axis=1, keepdims=True)).T
        intercept = b - b.mean()
        if len(coef) == 2:
            coef, intercept = coef[1:] - coef[:1], intercept[1:] - intercept[:1]
        self.coef_ = np.ascontiguousarray(coef, dtype=dtype)
        self.intercept_ = intercept.astype(dtype)

    def _options(self) -> Options:
        """The parameters that speak to solvers."""
        return Options(
            self.tol,
            self.max_iter,
            int(self.verbose),
            self.batch_size,
            self.learning_rate,
            check_random_state(self.random_state),
        )

    def _warn(self, solution: Any) -> None:
        """Say what state the fit is in and what would help."""
        if self.alpha == 0:
            state = (
                "alpha=0 leaves the optimum without a bound, and it may be at infinity"
            )
            remedy = "set alpha > 0"
        elif np.isnan(solution.gap):
            state = "the objective was still falling by more than tol"
            remedy = "raise max_iter or tol"
        else:
            state = (
                f"the objective {solution.value:.6g} is proven to be within "
                f"{solution.gap:.1e} of the optimum (relative), not within "
                f"tol={self.tol:g}"
            )
            remedy = "raise max_iter, tol or alpha"
        warnings.warn(
            f"{type(self).__name__} stopped {solution.message} (max_iter="
            f"{self.max_iter}): {state}; {remedy}.",
            ConvergenceWarning,
            stacklevel=3,
        )


class LinearSVMClassifier(LinearClassifier):
    r"""Multiclass linear support vector machine with the Weston-Watkins hinge loss.

    Minimises the weighted mean loss plus penalty,

    .. math:: P(W, b) = \frac{1}{\sum_i c_i} \sum_i c_i \sum_{j \ne y_i}
              \max(0,\; s_{ij} - s_{i y_i} + \delta)^p + \alpha \|W\|_F^2,
              \qquad S = X W + 1 b',

    p = 1 for the hinge, 2 for its square, c the product of sample and class weights.
    The penalty stands once, beside the mean, and leaves the intercept b out.

    Parameters
    ----------
    loss : {"hinge", "squared_hinge"}, default="squared_hinge"
        The hinge ("L1-SVM") or its square ("L2-SVM").
    delta : float, default=1.0
        Margin, > 0. It does nothing that ``alpha`` does not: only ``alpha * delta``
        changes the labels of the hinge, and no ``delta`` those of its square.
    alpha : float, default=1e-3
        Strength of the penalty, >= 0; LinearSVC with two
        classes has it at ``C = 1 / (alpha * n_samples)``. With ``alpha=0`` the
        optimum may be at infinity, where classes can be separated: the fit stops on the
        way there with a warning.
    fit_intercept : bool, default=True
        Add an intercept, which is not penalised.
    class_weight : dict or "balanced", default=None
        Weights of the classes, multiplied with ``sample_weight``; "balanced" gives all
        classes the same total.
    solver : {"auto", "lbfgs", "sgd"}, default="auto"
        - "lbfgs": full-batch quasi-Newton with Newton steps at the end; ends with a
          proven bound on the distance from the optimum. Features need no scaling.
        - "sgd": mini-batches, for data too large for many passes; no bound.
        - "auto": "lbfgs".
    tol : float, default=1e-4
        "lbfgs" stops when the objective is proven to be within ``tol`` of the optimum,
        relative to the objective; "sgd" when epochs no longer improve it by ``tol``.
    max_iter : int, default=1000
        Iterations of "lbfgs" (steps of conjugate gradients count too), epochs of "sgd".
    batch_size : int, default=256
        Rows of a step of "sgd". ``fit`` takes smaller batches, down to 16, where an
        epoch would have fewer than 100 steps.
    learning_rate : "auto" or float, default="auto"
        First step size of "sgd", in units of the inverse curvature of the data: 1 is a
        Newton-like step. "auto" is 1 less what a single sample can weigh in a batch.
    warm_start : bool, default=False
        Start from the previous solution; it needs the same classes and features.
    random_state : int, RandomState instance or None, default=None
        Order of the rows in "sgd".
    verbose : int, default=0
        Print a line for each iteration.

    Attributes
    ----------
    coef_ : ndarray of shape (n_classes, n_features) or (1, n_features)
        Weights, one row a class (rows add up to 0), or one row for two classes: the
        second's less the first's.
    intercept_ : ndarray of shape (n_classes,) or (1,)
        Intercepts, which add up to 0; likewise.
    classes_ : ndarray of shape (n_classes,)
        Labels, sorted.
    n_features_in_ : int
        Number of features seen during fit.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, where X has them.
    n_iter_ : int
        Iterations or epochs done.
    loss_curve_ : list of float
        Objective after each of them: of the best point so far ("lbfgs"), of each
        epoch's end ("sgd").
    solver_ : str
        The solver used.
    dual_gap_ : float
        Proven bound on (P - P*) / P, the relative distance of the objective from its
        optimum; not set by "sgd".

    See Also
    --------
    SoftmaxClassifier : The same with the cross-entropy loss, and probabilities.
    sklearn.svm.LinearSVC : One-vs-rest.

    References
    ----------
    J. Weston and C. Watkins (1999), "Support vector machines for multi-class pattern
    recognition", ESANN, eqs. (3)-(5).

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklinear import LinearSVMClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> print(LinearSVMClassifier().fit(X, y).predict(X[::60]))
    [0 1 2]
    """

    _parameter_constraints: ClassVar[dict[str, list]] = {
        **LinearClassifier._parameter_constraints,
        "loss": [StrOptions({"hinge", "squared_hinge"})],
        "delta": [Interval(Real, 0, np.inf, closed="neither")],
    }

    def __init__(
        self,
        *,
        loss="squared_hinge",
        delta=1.0,
        alpha=1e-3,
        fit_intercept=True,
        class_weight=None,
        solver="auto",
        tol=1e-4,
        max_iter=1000,
        batch_size=256,
        learning_rate="auto",
        warm_start=False,
        random_state=None,
        verbose=0,
    ):
        self.loss = loss
        self.delta = delta
        self.alpha = alpha
        self.fit_intercept = fit_intercept
        self.class_weight = class_weight
        self.solver = solver
        self.tol = tol
        self.max_iter = max_iter
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.warm_start = warm_start
        self.random_state = random_state
        self.verbose = verbose

    def _loss(self) -> Loss:
        delta = float(self.delta)
        return Hinge(delta) if self.loss == "hinge" else SquaredHinge(delta)


class SoftmaxClassifier(LinearClassifier):
    r"""Multiclass linear classifier with the cross-entropy loss of the softmax.

    Minimises the weighted mean loss plus penalty,

    .. math:: P(W, b) = \frac{1}{\sum_i c_i} \sum_i c_i \Bigl(
              \log \sum_j e^{s_{ij}} - s_{i y_i} \Bigr) + \alpha \|W\|_F^2,
              \qquad S = X W + 1 b',

    c the product of sample and class weights. The penalty stands once, beside the mean,
    and leaves the intercept b out. Also known as multinomial logistic regression.

    Parameters
    ----------
    alpha : float, default=1e-3
        Strength of the penalty, >= 0; LogisticRegression
        has it at ``C = 1 / (2 * alpha * n_samples)``, and for two classes at
        ``C = 1 / (alpha * n_samples)``. With ``alpha=0`` the
        optimum may be at infinity, where classes can be separated: the fit stops on the
        way there with a warning.
    fit_intercept : bool, default=True
        Add an intercept, which is not penalised.
    class_weight : dict or "balanced", default=None
        Weights of the classes, multiplied with ``sample_weight``; "balanced" gives all
        classes the same total.
    solver : {"auto", "lbfgs", "sgd"}, default="auto"
        - "lbfgs": full-batch quasi-Newton with Newton steps at the end; ends with a
          proven bound on the distance from the optimum. Features need no scaling.
        - "sgd": mini-batches, for data too large for many passes; no bound.
        - "auto": "lbfgs".
    tol : float, default=1e-4
        "lbfgs" stops when the objective is proven to be within ``tol`` of the optimum,
        relative to the objective; "sgd" when epochs no longer improve it by ``tol``.
    max_iter : int, default=1000
        Iterations of "lbfgs" (steps of conjugate gradients count too), epochs of "sgd".
    batch_size : int, default=256
        Rows of a step of "sgd". ``fit`` takes smaller batches, down to 16, where an
        epoch would have fewer than 100 steps.
    learning_rate : "auto" or float, default="auto"
        First step size of "sgd", in units of the inverse curvature of the data: 1 is a
        Newton-like step. "auto" is 1 less what a single sample can weigh in a batch.
    warm_start : bool, default=False
        Start from the previous solution; it needs the same classes and features.
    random_state : int, RandomState instance or None, default=None
        Order of the rows in "sgd".
    verbose : int, default=0
        Print a line for each iteration.

    Attributes
    ----------
    coef_ : ndarray of shape (n_classes, n_features) or (1, n_features)
        Weights, one row a class (rows add up to 0), or one row for two classes: the
        second's less the first's.
    intercept_ : ndarray of shape (n_classes,) or (1,)
        Intercepts, which add up to 0; likewise.
    classes_ : ndarray of shape (n_classes,)
        Labels, sorted.
    n_features_in_ : int
        Number of features seen during fit.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, where X has them.
    n_iter_ : int
        Iterations or epochs done.
    loss_curve_ : list of float
        Objective after each of them: of the best point so far ("lbfgs"), of each
        epoch's end ("sgd").
    solver_ : str
        The solver used.
    dual_gap_ : float
        Proven bound on (P - P*) / P, the relative distance of the objective from its
        optimum; not set by "sgd".

    See Also
    --------
    LinearSVMClassifier : The same with the multiclass hinge loss.
    sklearn.linear_model.LogisticRegression : The same model.

    References
    ----------
    D. Boehning (1992), "Multinomial logistic regression algorithm", Ann. Inst. Statist.
    Math. 44, eqs. (2.1)-(2.3).

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklinear import SoftmaxClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> print(SoftmaxClassifier().fit(X, y).predict_proba(X[:1]).round(2))
    [[0.99 0.01 0.  ]]
    """

    def __init__(
        self,
        *,
        alpha=1e-3,
        fit_intercept=True,
        class_weight=None,
        solver="auto",
        tol=1e-4,
        max_iter=1000,
        batch_size=256,
        learning_rate="auto",
        warm_start=False,
        random_state=None,
        verbose=0,
    ):
        self.alpha = alpha
        self.fit_intercept = fit_intercept
        self.class_weight = class_weight
        self.solver = solver
        self.tol = tol
        self.max_iter = max_iter
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.warm_start = warm_start
        self.random_state = random_state
        self.verbose = verbose

    def _loss(self) -> Loss:
        return CrossEntropy()

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probability of each class: the softmax of the scores.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Samples.

        Returns
        -------
        proba : ndarray of shape (n_samples, n_classes)
            Rows add up to 1; columns in the order of ``classes_``.
        """
        scores = self.decision_function(X)
        if scores.ndim == 1:
            return np.column_stack([expit(-scores), expit(scores)])
        return softmax(scores, axis=1)

    def predict_log_proba(self, X: Any) -> np.ndarray:
        """Logarithm of the probabilities, finite even where they underflow to 0.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Samples.

        Returns
        -------
        log_proba : ndarray of shape (n_samples, n_classes)
            Log-softmax of the scores, in nats.
        """
        scores = self.decision_function(X)
        if scores.ndim == 1:
            return np.column_stack([log_expit(-scores), log_expit(scores)])
        return log_softmax(scores, axis=1)


# BLAS threads ------------------------------------------------------------------------
# Two threads on products as small as a block's can be many times slower than one.

_lock = threading.Lock()
_fits = 0
_cap: Any = None


@cache
def _blas() -> ThreadpoolController:
    """The BLAS libraries that are loaded; finding them takes a millisecond."""
    return ThreadpoolController().select(user_api="blas")


@contextmanager
def _single_threaded_blas() -> Iterator[None]:
    """One BLAS thread while any fit of this process runs."""
    global _fits, _cap
    with _lock:
        if _fits == 0:
            _cap = _blas().limit(limits=1)
        _fits += 1
    try:
        yield
    finally:
        with _lock:
            _fits -= 1
            if _fits == 0:
                _cap.restore_original_limits()
