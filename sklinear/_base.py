"""What the estimators share: validation, labels, weights, warnings, attributes."""

from __future__ import annotations

import warnings
from dataclasses import replace
from functools import partial
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import (
    _check_sample_weight,
    validate_data,
)

from sklinear._callbacks import CallbackSupportMixin, Listener, with_callbacks
from sklinear._certificate import Certificate, certificate
from sklinear._checks import (
    KEPT,
    LEAST_WEIGHT,
    canonical,
    check_classes,
    check_labels,
    check_params,
    check_read,
    check_sign,
    check_size,
    loaded,
    stream_classes,
    weights_of_classes,
)
from sklinear._collections import is_dask, without_rows
from sklinear._data import Data, computing_dtype, scattered
from sklinear._distributed import Blocks
from sklinear._lengths import proven_length
from sklinear._losses import Loss
from sklinear._mapped import Mapped, is_mapped
from sklinear._predictor import (
    PROVEN,
    UNREAD,
    LinearPredictor,
    checksum,
    dense,
    rows_of,
)
from sklinear._solvers import METHODS, SOLVERS, Options, Reporter, Solution, choose
from sklinear._solvers._intercept import tidied
from sklinear._solvers._stream import Stream, filled, partial_sgd, touched
from sklinear._threads import single_threaded_blas

NO_WEIGHT = "sample_weight must be > 0 for some row, all are zero."
FEW = 0.2  # of the rows: as many that have weight are copied from the others
PROOF = 2048 * float(np.finfo(np.float64).eps)  # of gap, that rounding may add
STREAMING = {"auto", "lbfgs", "newton"}  # solvers that need no row twice in a visit


class LinearClassifier(CallbackSupportMixin, LinearPredictor, BaseEstimator):
    """What the two estimators share: everything but the loss."""

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

    def _problem(self) -> tuple[Loss, float, float, float]:
        """The loss with delta = 1, its alpha, the scales of scores and objective.

        By the identities that make delta one knob with alpha.
        """
        raise NotImplementedError

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Fit the model to data.

        Where a callback (``set_callbacks``, scikit-learn 1.9 or newer) asks for an end,
        the best point so far is kept, with the ``dual_gap_`` and ``n_iter_`` that were
        reached, and no ConvergenceWarning is issued.

        Parameters
        ----------
        X : {array-like, sparse matrix, Dask} of shape (n_samples, n_features)
            Samples. float32, float64, integers and booleans are taken as they are,
            dense or CSR; dense integers are computed with in float64, a block of rows
            at a time. Anything else is converted once. A ``numpy.memmap``, of any real
            dtype and of any size, is read a block at a time; solvers "dual" and "sgd"
            keep a number for each row and class, and read rows in random order, which
            only suits files that fit into memory; with ``mode="c"`` pages that were
            read count as memory until the system takes them. Dask arrays (of dense or
            CSR blocks) and data frames stay where they are: solvers "auto", "lbfgs" and
            "newton" send coefficients to the blocks and add up what these answer.
        y : {array-like, Dask} of shape (n_samples,)
            Class labels: whole numbers, strings or booleans.
        sample_weight : {array-like, Dask} of shape (n_samples,), default=None
            Weights >= 0; only their ratios matter. Rows of weight 0 do not count, not
            even for the classes.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If a parameter, X, y or the weights are not as described, fewer than two
            classes have weight, or a warm start has other classes or features.
        ImportError
            If ``solver`` is "dual" and numba is not installed.

        Warns
        -----
        ConvergenceWarning
            If the fit ends before ``tol`` is reached.
        """
        check_params(self)
        with self._kept_whole():
            solution, asked_to_stop = self._fit(X, y, sample_weight)
        if not (solution.converged or asked_to_stop):
            self._warn(solution)
        return self

    @with_callbacks
    def _fit(self, X: Any, y: Any, sample_weight: Any) -> tuple[Solution, bool]:
        """The fit itself, and whether a callback has asked for its end."""
        listener = Listener(self, X, y, sample_weight)
        if is_dask(X):
            data, classes = self._distributed_data(X, y, sample_weight)
            columns = None
        else:
            X, y = self._validate_data(X, y)
            weights = self._sample_weights(X, sample_weight)
            classes, labels, weights = self._labels_and_weights(y, weights)
            columns, X = filled(X)
            data = Data(loaded(X, len(classes)), labels, weights, len(classes))
            data = data.counted(FEW)
        start = np.zeros((data.shape[1], len(classes))), np.zeros(len(classes))
        n_features = self.n_features_in_
        if self.warm_start and hasattr(self, "coef_"):
            W, b = self._full_params(classes, n_features, columns)
            start = W, b * self.fit_intercept
        loss, alpha, scale, scale_of_objective = self._problem()
        solver = self.solver
        if solver == "auto":
            solver = choose(data, loss, alpha, self.tol)

        def fitted(W: np.ndarray, b: np.ndarray) -> dict[str, Any]:
            """The attributes that prediction needs."""
            coef, intercept = rows_of(W, b, data.dtype, scale)
            coef = scattered(coef, columns, n_features)
            return {"classes_": classes, "coef_": coef, "intercept_": intercept}

        self._forget_proofs()
        with single_threaded_blas():
            solution = METHODS[solver](
                data,
                loss,
                alpha,
                self.fit_intercept,
                start if scale == 1 else (start[0] / scale, start[1] / scale),
                self._options(listener.listen(data, scale_of_objective, fitted)),
            )
            solution = tidied(data, loss, alpha, self.fit_intercept, solution)
            history = [scale_of_objective * value for value in solution.history]
            self.__dict__.update(fitted(solution.coef, solution.intercept))
            self.n_iter_, self.loss_curve_ = len(history), history
            self.solver_ = solution.solver or solver
            self._stream = Stream(seen=data.shape[0])

            def take(length: float) -> None:
                """For attributes so many times the solver's coefficients."""
                longer = length * solution.coef, length * solution.intercept
                self.__dict__.update(fitted(*longer))

            def proof() -> Certificate:
                """Of the attributes, which are rounded to dtype."""
                return certificate(
                    data,
                    loss,
                    alpha,
                    self.fit_intercept,
                    *self._full_params(classes, n_features, columns),
                    solution.value * (1 - solution.gap),
                    solution.value,
                    None if solution.witness is None else solution.witness.point,
                    scale=scale,
                    visitor=solution.visitor,
                    enough=self.tol,
                )

            if not np.isnan(solution.gap):
                asked = loss, alpha, data.dtype, self.tol, solution.gap
                self._certificate = proven_length(take, proof, *asked)
                known = scale_of_objective * self._certificate.value
                history[-1] = min(history[-1], known)  # of what may be longer
                self.dual_gap_ = self._certificate.gap
                best = self._certificate
                centre = scattered(best.centre[None], columns, n_features)[0]
                self._certificate = best._replace(of=checksum(self), centre=centre)
                solution = replace(solution, converged=self.dual_gap_ <= self.tol)
        data.close()
        listener.close(history[-1], getattr(self, "dual_gap_", np.nan))
        return solution, listener.stopped

    def partial_fit(
        self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None
    ) -> Self:
        """Learn from more rows: one pass of mini-batch SGD, whatever ``solver`` is.

        For streams: pieces of any number of rows, each seen once, of which only the
        coefficients and a few moments are kept. Hundreds of rows at a time take the
        least time: a call costs half a millisecond or more. Rows are learnt in their
        order, so that they should come mixed; batches grow with the rows that have
        gone by, from 16 to ``batch_size``, and steps get shorter: what labels mean may
        not change on the way, or else fit the latest rows anew.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Samples.
        y : array-like of shape (n_samples,)
            Class labels.
        classes : array-like of shape (n_classes,), default=None
            All labels that will ever come. Required in the first call, unless the model
            was fitted before; later None, or the same.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights >= 0, relative to those of the rows before.

        Returns
        -------
        self : object
            The estimator.

        Raises
        ------
        ValueError
            If a parameter, X, y or the weights are not as described, X is a Dask
            collection, ``class_weight`` is "balanced", ``classes`` is missing in the
            first call or other than before, or a label is not among them.
        """
        check_params(self)
        if is_dask(X):
            raise ValueError(
                "partial_fit needs rows in memory, got a Dask collection: give it one "
                "computed block at a time, or use fit."
            )
        if self.class_weight == "balanced":
            raise ValueError(
                "class_weight='balanced' needs all labels at once, so partial_fit "
                "expects class_weight=None or a dict of weights, got 'balanced'."
            )
        first = not hasattr(self, "classes_")
        X, y = self._validate_data(X, y, reset=first)
        known = stream_classes(classes, None if first else self.classes_, y)
        weights = self._sample_weights(X, sample_weight)
        if self.class_weight is not None:
            with np.errstate(over="ignore"):
                weights = weights * weights_of_classes(self.class_weight, known, y)
            weights = np.minimum(weights, np.finfo(np.float64).max)
        if first:
            self._start_stream(known, X)
        if not weights.any():  # of no class that counts
            return self
        loss, alpha, scale, _ = self._problem()
        columns, X = touched(X)
        W, b = self._full_params(self.classes_, self.n_features_in_, columns)
        labels, k = np.searchsorted(self.classes_, y), len(known)
        with single_threaded_blas():
            W, b, kept, stream = partial_sgd(
                Data(loaded(X, k), labels, weights, k),
                loss,
                alpha,
                self.fit_intercept,
                (W / scale, b * self.fit_intercept / scale),
                self._options(Reporter()),
                getattr(self, "_stream", Stream()),  # coefficients may be a user's
                columns is not None,
            )
        coef, intercept = rows_of(W, b, computing_dtype(X.dtype), scale)
        if columns is not None:
            part, whole = coef, kept * dense(self.coef_)
            coef = whole.astype(np.result_type(part, whole), copy=False)
            coef[:, columns] = part
        self.coef_, self.intercept_ = coef, intercept.astype(coef.dtype)
        self._stream = stream
        self.n_iter_, self.loss_curve_, self.solver_ = 1, [], "sgd"
        self._forget_proofs()
        return self

    def _forget_proofs(self) -> None:
        """What was proven of other coefficients than those to come."""
        for name in PROVEN:
            self.__dict__.pop(name, None)

    def _start_stream(self, classes: np.ndarray, X: Any) -> None:
        """What a fit would have set, before any row is learnt."""
        self.classes_ = classes
        self.n_iter_, self.loss_curve_, self.solver_ = 1, [], "sgd"
        self._stream = Stream()
        zeros = np.zeros((X.shape[1], len(classes)))
        self.coef_, self.intercept_ = rows_of(
            zeros, zeros.sum(axis=0), computing_dtype(X.dtype)
        )

    def _validate_data(self, X: Any, y: Any, reset: bool = True) -> tuple[Any, Any]:
        """X as numbers of a dtype of KEPT, dense, CSR or mapped, and class labels."""
        check_labels(y)
        if is_mapped(X):
            X, y = validate_data(self, X, y, reset=reset, **UNREAD)
            X = Mapped(X, partial(check_read, name=type(self).__name__))
        else:
            X, y = validate_data(
                self, X, y, accept_sparse="csr", dtype=KEPT, reset=reset
            )
            X = canonical(X)
            check_size(X)
        return X, y

    def _distributed_data(
        self, X: Any, y: Any, sample_weight: Any
    ) -> tuple[Data, np.ndarray]:
        """The rows of Dask collections where they lie, and the classes (k,)."""
        if self.solver not in STREAMING:
            raise ValueError(
                f"solver must be one of {sorted(STREAMING)} for Dask collections, got "
                f"{self.solver!r}, which needs all rows in one place."
            )
        validate_data(self, without_rows(X), skip_check_array=True)
        blocks = Blocks(X, y, sample_weight, type(self).__name__)
        if not len(blocks.labels):
            raise ValueError(NO_WEIGHT)
        classes, each = blocks.labels, np.ones(len(blocks.labels))
        if isinstance(self.class_weight, dict):
            each = weights_of_classes(self.class_weight, classes, classes)
            classes, each = classes[each > 0], each[each > 0]
        check_classes(classes, type(self).__name__)
        if self.class_weight == "balanced":
            each = 1 / blocks.masses
        return blocks.data(classes, each), classes

    def _sample_weights(self, X: Any, sample_weight: Any) -> np.ndarray:
        """Non-negative weights (n,), float64, at least one of them positive."""
        weights = _check_sample_weight(sample_weight, X, dtype=np.float64)
        check_sign(weights)
        if weights.max() == 0:
            raise ValueError(NO_WEIGHT)
        return weights

    def _labels_and_weights(
        self, y: np.ndarray, weights: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Classes (k,) of positive weight, labels (n,) in 0..k-1, weights of sum 1.

        With the class weights; rows of weight 0 are labelled 0.
        """
        check_classification_targets(y)
        counted, each = weights > 0, np.ones(1)
        classes = np.unique(y[counted])
        if isinstance(self.class_weight, dict):
            each = weights_of_classes(self.class_weight, classes, y)
            counted &= each > 0
            classes = np.unique(y[counted])
        check_classes(classes, type(self).__name__)
        labels = np.searchsorted(classes, y)
        labels[~counted] = 0
        weights = np.where(counted, weights, 0.0)
        weights /= weights.max()
        weights *= each / each.max()  # no product overflows, and none is lost
        np.maximum(weights, LEAST_WEIGHT, out=weights, where=counted)
        if self.class_weight == "balanced":
            weights /= np.bincount(labels, weights)[labels]
        weights /= weights.sum()
        return classes, labels, weights

    def _options(self, report: Reporter) -> Options:
        """The parameters that speak to solvers."""
        return Options(
            max(self.tol - PROOF, self.tol / 2),
            int(self.max_iter),
            int(self.batch_size),
            self.learning_rate,
            check_random_state(self.random_state),
            report,
            on_trial=self.solver == "auto",
        )

    def _warn(self, solution: Solution) -> None:
        """Say what state the fit is in and what would help."""
        if self.alpha == 0:
            state = (
                "alpha=0 leaves the optimum without a bound, and it may be at infinity"
            )
            remedy = "set alpha > 0"
        elif np.isnan(solution.gap):
            state = "the objective was still changing by more than tol"
            remedy = "raise max_iter or tol"
            if self.learning_rate != "auto":
                remedy += ", or change learning_rate"
        else:
            value = self._problem()[3] * self._certificate.value
            state = (
                f"the objective {value:.6g} is proven to be within "
                f"{self.dual_gap_:.1e} of the optimum (relative), not within "
                f"tol={self.tol:g}"
            )
            spent = bool(self.n_iter_ >= self.max_iter)  # it may be numpy's
            remedy = "raise max_iter, tol or alpha, or scale X"
            rounded = solution.gap <= max(self.tol, self.dual_gap_ / 10)  # as stored
            if not spent or rounded:  # rounding hides what is to gain
                remedy = "centre or scale X, or raise tol or alpha"
            if rounded:
                dtype = self.coef_.dtype
                state += f", for rounding of coefficients and scores ({dtype})"
                if dtype == np.float32:
                    remedy = "pass X as float64, " + remedy
                elif self.solver_ == "dual":  # whose sums over rows are the longest
                    remedy = "try solver='lbfgs', " + remedy
        warnings.warn(
            f"{type(self).__name__} stopped after {self.n_iter_} {solution.unit} "
            f"(max_iter={self.max_iter}): {state}; {remedy}.",
            ConvergenceWarning,
            stacklevel=3,
        )
