"""The two estimators: their parameters, losses and probabilities."""

from __future__ import annotations

from numbers import Real
from typing import ClassVar

import numpy as np
from sklearn.utils._param_validation import Interval, StrOptions

from sklinear._base import LinearClassifier
from sklinear._checks import in_range
from sklinear._losses import CrossEntropy, Hinge, Loss, SquaredHinge
from sklinear._predictor import ProbabilityMixin


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
        Margin, from 1e-100 to 1e100. It does nothing that ``alpha`` does not: only
        ``alpha * delta`` changes the labels of the hinge, and no ``delta`` those of its
        square.
    alpha : float, default=1e-3
        Strength of the penalty, 0 or from 1e-100 to 1e100. LinearSVC, of two classes
        and without an intercept, which it penalises, has the same at
        ``C = 1 / (alpha * n_samples)`` and ``delta=1`` (for ``n_samples`` the sum of
        the weights, where there are any). With ``alpha=0``, where "dual" is "lbfgs",
        only a loss of 0 is proven to be the optimum: any other fit warns, with a
        ``dual_gap_`` of 1. ``certify`` says True of no row in either case, as many
        coefficients have a loss of 0.
    fit_intercept : bool, default=True
        Add an intercept, which is not penalised.
    class_weight : dict or "balanced", default=None
        Weights >= 0 of the classes, multiplied with ``sample_weight``; 1 for those that
        a dict does not name. One that names labels which no sample of weight has must
        name all classes. "balanced" gives all classes the same total. ``fit`` leaves a
        class of weight 0 out of ``classes_``.
    solver : {"auto", "lbfgs", "newton", "dual", "sgd"}, default="auto"
        - "lbfgs": full-batch quasi-Newton with Newton steps at the end; ends with a
          proven bound on the distance from the optimum. Features need no scaling.
        - "newton": Newton's method, at first on a sample of the rows, with the same
          bound; for large data.
        - "dual": dual coordinate descent, with the same bound; for sparse data with
          many features and for few rows per feature. Where its epochs get nowhere,
          Newton's method takes over. Needs ``pip install "sklinear[fast]"``.
        - "sgd": mini-batches, for data too large for many passes; no bound.
        - "auto": "dual" for sparse data with many features, for few rows per feature
          and, under a strong penalty, for the hinges and for the softmax of many
          classes, if numba can be imported and the data are not small. Else "newton"
          for large data and "lbfgs" for small. What is between is tried: smooth losses
          of sparse data with many rows per feature by a few iterations of "lbfgs"
          before "dual", hinges of a medium number of rows per feature, larger the more
          classes, by "dual" before "newton" or "lbfgs". ``solver_`` tells which it was.
    tol : float, default=1e-4
        The duality gap relative to the objective, > 0, at which a fit stops: it is then
        proven to be within ``tol`` of the optimum. At the default, labels of test rows
        differed from those of a fit to 1e-8 on at most 0.1 % of the rows in 72 of 74
        fits to real data (0.28 % and 0.23 % in the others, margin losses); at 1e-3 in
        67. "sgd" stops when epochs no longer improve the objective by ``tol``.
    max_iter : int, default=1000
        Iterations of "lbfgs" and "newton" at most, epochs of "sgd" and "dual". A Newton
        step counts as one, and each step of its conjugate gradients after the first as
        a tenth more (as one where rows are read from a file or lie on a cluster), times
        the share of the rows that it visits. An epoch of "dual" counts as its share of
        the rows, at least as a tenth.
    batch_size : int, default=256
        Rows of a step of "sgd". ``fit`` takes smaller batches, down to 16, where an
        epoch would have fewer than 100 steps.
    learning_rate : "auto" or float, default="auto"
        First step size of "sgd", > 0, in units of the inverse curvature of the data: 1
        is a Newton-like step. It falls to 0 at ``max_iter`` epochs, and by half after
        each that does not improve the objective by ``tol``. "auto" is 1 less what a
        single sample can weigh in a batch.
        At the end of an epoch "auto" also searches the span of its last moves and a few
        whole gradients; a float is plain SGD. No step moves a score of its own batch
        by more than ``delta``, however long. ``partial_fit`` uses it too.
    warm_start : bool, default=False
        Start from the previous solution; it needs the same classes and features. It is
        for nearby problems: fits that ``max_iter`` cuts short do not add up to one that
        ends.
    random_state : int, RandomState instance or None, default=None
        Order of the rows in "sgd" and "dual", which "auto" may take: give an int for
        the same bits every time.
    verbose : int, default=0
        Print a line for each iteration of ``fit``: objective, gap, passes over X and
        seconds. The last gap is proven for the coefficients as they are stored,
        rounding included; those before are the solver's, and so is the ``dual_gap_`` of
        the estimators that callbacks are given.

    Attributes
    ----------
    coef_ : ndarray of shape (n_classes, n_features) or (1, n_features)
        Weights, one row a class (rows add up to 0), or one row for two classes: the
        second's less the first's.
    intercept_ : ndarray of shape (n_classes,) or (1,)
        Intercepts, one a class (they add up to 0), or one for two classes. Where
        several are optimal, as for the hinge under a strong penalty, those of an exact
        fit (``dual_gap_`` <= 1e-10, as small data have it) are in their middle.
    classes_ : ndarray of shape (n_classes,)
        Labels of the samples that have weight, sorted.
    n_features_in_ : int
        Number of features seen during fit.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the features, where X has them.
    n_iter_ : int
        Iterations or epochs done, as ``max_iter`` counts them; 1 after ``partial_fit``.
    loss_curve_ : list of float
        Objective after each of them: at the best point so far, which "dual" looks for
        from time to time only, and "newton" not while it fits samples of large data,
        unless ``verbose`` or callbacks ask; of "sgd", at each epoch's end, of which
        the best is kept. Empty after ``partial_fit``.
    solver_ : str
        The solver used: the one asked for, or the choice of "auto"; "lbfgs" for "dual"
        with ``alpha=0``; "sgd" after ``partial_fit``.
    dual_gap_ : float
        Proven bound, from 0 to 1, on (P - P*) / P, the relative distance of the
        objective P from its optimum P*; not set by "sgd" and ``partial_fit``.

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

    def _problem(self) -> tuple[Loss, float, float, float]:
        # P(W; alpha, delta) = delta P(W / delta; alpha delta, 1) for the hinge, and
        # delta^2 P(W / delta; alpha, 1) for its square
        alpha, delta = in_range("alpha", self.alpha), in_range("delta", self.delta)
        if self.loss == "hinge":
            return Hinge(), alpha * delta, delta, delta
        return SquaredHinge(), alpha, delta, delta**2


class SoftmaxClassifier(ProbabilityMixin, LinearClassifier):
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
        Strength of the penalty, 0 or from 1e-100 to 1e100. LogisticRegression has the
        same at ``C = 1 / (2 * alpha * n_samples)``, and for two classes at
        ``C = 1 / (alpha * n_samples)`` (for ``n_samples`` the sum of the weights, where
        there are any). With ``alpha=0``, where "dual" is "lbfgs", the optimum is at
        infinity where classes can be separated, and nothing is proven in any case: the
        fit warns, with a ``dual_gap_`` of 1, and ``certify`` says True of no row.
    fit_intercept : bool, default=True
        Add an intercept, which is not penalised.
    class_weight : dict or "balanced", default=None
        Weights >= 0 of the classes, multiplied with ``sample_weight``; 1 for those that
        a dict does not name. One that names labels which no sample of weight has must
        name all classes. "balanced" gives all classes the same total. ``fit`` leaves a
        class of weight 0 out of ``classes_``.
    solver : {"auto", "lbfgs", "newton", "dual", "sgd"}, default="auto"
        - "lbfgs": full-batch quasi-Newton with Newton steps at the end; ends with a
          proven bound on the distance from the optimum. Features need no scaling.
        - "newton": Newton's method, at first on a sample of the rows, with the same
          bound; for large data.
        - "dual": dual coordinate descent, with the same bound; for sparse data with
          many features and for few rows per feature. Where its epochs get nowhere,
          Newton's method takes over. Needs ``pip install "sklinear[fast]"``.
        - "sgd": mini-batches, for data too large for many passes; no bound.
        - "auto": "dual" for sparse data with many features, for few rows per feature
          and, under a strong penalty, for many classes, if numba can be imported and
          the data are not small. Else "newton" for large data and "lbfgs" for small.
          Sparse data with many rows per feature are tried by a few iterations of
          "lbfgs" before "dual". ``solver_`` tells which it was.
    tol : float, default=1e-4
        The duality gap relative to the objective, > 0, at which a fit stops: it is then
        proven to be within ``tol`` of the optimum. At the default, labels of test rows
        differed from those of a fit to 1e-8 on at most 0.1 % of the rows in 72 of 74
        fits to real data (0.28 % and 0.23 % in the others, margin losses); at 1e-3 in
        67. "sgd" stops when epochs no longer improve the objective by ``tol``.
    max_iter : int, default=1000
        Iterations of "lbfgs" and "newton" at most, epochs of "sgd" and "dual". A Newton
        step counts as one, and each step of its conjugate gradients after the first as
        a tenth more (as one where rows are read from a file or lie on a cluster), times
        the share of the rows that it visits. An epoch of "dual" counts as its share of
        the rows, at least as a tenth.
    batch_size : int, default=256
        Rows of a step of "sgd". ``fit`` takes smaller batches, down to 16, where an
        epoch would have fewer than 100 steps.
    learning_rate : "auto" or float, default="auto"
        First step size of "sgd", > 0, in units of the inverse curvature of the data: 1
        is a Newton-like step. It falls to 0 at ``max_iter`` epochs, and by half after
        each that does not improve the objective by ``tol``. "auto" is 1 less what a
        single sample can weigh in a batch.
        At the end of an epoch "auto" also searches the span of its last moves and a few
        whole gradients; a float is plain SGD. No step moves a score of its own batch
        by more than 1, however long. ``partial_fit`` uses it too.
    warm_start : bool, default=False
        Start from the previous solution; it needs the same classes and features. It is
        for nearby problems: fits that ``max_iter`` cuts short do not add up to one that
        ends.
    random_state : int, RandomState instance or None, default=None
        Order of the rows in "sgd" and "dual", which "auto" may take: give an int for
        the same bits every time.
    verbose : int, default=0
        Print a line for each iteration of ``fit``: objective, gap, passes over X and
        seconds. The last gap is proven for the coefficients as they are stored,
        rounding included; those before are the solver's, and so is the ``dual_gap_`` of
        the estimators that callbacks are given.

    Attributes
    ----------
    coef_ : ndarray of shape (n_classes, n_features) or (1, n_features)
        Weights, one row a class (rows add up to 0), or one row for two classes: the
        second's less the first's.
    intercept_ : ndarray of shape (n_classes,) or (1,)
        Intercepts, one a class (they add up to 0), or one for two classes.
    classes_ : ndarray of shape (n_classes,)
        Labels of the samples that have weight, sorted.
    n_features_in_ : int
        Number of features seen during fit.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the features, where X has them.
    n_iter_ : int
        Iterations or epochs done, as ``max_iter`` counts them; 1 after ``partial_fit``.
    loss_curve_ : list of float
        Objective after each of them: at the best point so far, which "dual" looks for
        from time to time only, and "newton" not while it fits samples of large data,
        unless ``verbose`` or callbacks ask; of "sgd", at each epoch's end, of which
        the best is kept. Empty after ``partial_fit``.
    solver_ : str
        The solver used: the one asked for, or the choice of "auto"; "lbfgs" for "dual"
        with ``alpha=0``; "sgd" after ``partial_fit``.
    dual_gap_ : float
        Proven bound, from 0 to 1, on (P - P*) / P, the relative distance of the
        objective P from its optimum P*; not set by "sgd" and ``partial_fit``.

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

    def _problem(self) -> tuple[Loss, float, float, float]:
        return CrossEntropy(), in_range("alpha", self.alpha), 1.0, 1.0
