"""What fitted coefficients are good for: scores, and labels that are proven."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
from scipy.sparse import issparse
from scipy.special import expit, log_expit, log_softmax, softmax
from sklearn.linear_model._base import LinearClassifierMixin, SparseCoefMixin
from sklearn.utils import assert_all_finite
from sklearn.utils.extmath import safe_sparse_dot
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted, validate_data

from sklinear._certificate import Certificate
from sklinear._checks import canonical, size
from sklinear._collections import is_dask
from sklinear._data import BLOCK_VALUES, turned
from sklinear._lazy import accuracy, over_blocks
from sklinear._mapped import Mapped, is_mapped

HELD_BY_FLOAT32 = 1e-36, 1e36  # largest coefficient
# What scikit-learn is told of a mapped X lest it read it: the rest is checked later.
UNREAD: dict[str, Any] = {"dtype": None, "ensure_all_finite": False}

SEEN = ("n_features_in_", "feature_names_in_")  # of X, before anything is solved
PROVEN = ("dual_gap_", "_certificate")  # of coefficients
# What a search takes over from its refit.
LEARNT = (
    "classes_",
    "coef_",
    "intercept_",
    "n_iter_",
    "loss_curve_",
    "solver_",
    *PROVEN,
)


class LinearPredictor(LinearClassifierMixin, SparseCoefMixin):
    """Prediction from ``coef_``, ``intercept_`` and ``classes_``."""

    classes_: np.ndarray
    coef_: Any
    intercept_: np.ndarray
    _certificate: Certificate

    @contextmanager
    def _kept_whole(self) -> Iterator[None]:
        """Coefficients that a failed fit leaves keep their features and their proof."""
        has = self.__dict__
        before = {name: has[name] for name in (*SEEN, *PROVEN) if name in has}
        coef = getattr(self, "coef_", None)
        try:
            yield
        except BaseException:
            if coef is not None and getattr(self, "coef_", None) is coef:
                for name in SEEN:
                    has.pop(name, None)
                has.update(before)
            raise

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "coef_")  # a fit that fails leaves n_features_in_

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    @over_blocks
    def decision_function(self, X: Any) -> np.ndarray:
        """Score of each class, X W + b.

        Parameters
        ----------
        X : {array-like, sparse matrix, Dask} of shape (n_samples, n_features)
            Samples. Integers are converted, and memory maps read, a block of rows at a
            time.

        Returns
        -------
        scores : ndarray of shape (n_samples, n_classes) or (n_samples,)
            Scores, in a lazy Dask array where X is Dask's; for two classes the second's
            less the first's.
        """
        return self._decide(self._validate_samples(X))

    def _decide(self, X: Any) -> np.ndarray:
        """Scores (n, k), or (n,) for two classes, of samples that were validated."""
        whole = issparse(X) or X.dtype == np.result_type(X.dtype, self.coef_.dtype)
        if isinstance(X, Mapped) or not whole:
            return self._each(X, self._scores)
        return self._scores(X)

    def _of_scores(
        self, X: Any, function: Callable[[np.ndarray], np.ndarray]
    ) -> np.ndarray:
        """A function of the rows' scores, (m, k) or (m,): of as few as are at hand."""
        if not is_mapped(X):
            return function(self.decision_function(X))
        return self._each(
            self._validate_samples(X), lambda part: function(self._scores(part))
        )

    def _validate_samples(self, X: Any) -> Any:
        """X as numbers, dense or CSR, or mapped."""
        check_is_fitted(self)
        mapped = is_mapped(X)
        how: dict[str, Any] = UNREAD if mapped else {"accept_sparse": "csr"}
        X = validate_data(self, X, reset=False, **how)
        if not mapped:
            return canonical(X)
        name = type(self).__name__
        return Mapped(
            X, partial(assert_all_finite, estimator_name=name, input_name="X")
        )

    def _each(self, X: Any, function: Callable[[Any], np.ndarray]) -> np.ndarray:
        """The function's answers (m, ...) for blocks of rows, stacked."""
        n, d = X.shape
        dtype = np.result_type(X.dtype, self.coef_.dtype)
        k = len(self.classes_)
        step = max(1, BLOCK_VALUES // (k if issparse(X) else max(d, k)))
        answers: np.ndarray | None = None
        for part, rows in _blocks(X, step, dtype):
            answer = function(part)
            if answers is None:
                answers = np.empty((n, *answer.shape[1:]), answer.dtype)
            answers[rows] = answer
            del part, answer  # before the next is made
        assert answers is not None
        return answers

    def _scores(self, X: Any) -> np.ndarray:
        """X W + b (m, k), or (m,) for two classes."""
        with np.errstate(over="ignore", invalid="ignore"):
            scores = safe_sparse_dot(X, self.coef_.T, dense_output=True)
            scores += self.intercept_
            finite = np.isfinite(scores.sum()) or np.isfinite(scores).all()
        if not finite and self._is_finite():
            raise ValueError(
                f"X must have scores that {scores.dtype} holds, got rows whose scores "
                "overflow: scale it as in the fit, or give float64."
            )
        return scores.ravel() if scores.shape[1] == 1 else scores

    def _is_finite(self) -> bool:
        """Whether coefficients are: a user may have assigned others."""
        params = dense(self.coef_), self.intercept_
        return all(bool(np.isfinite(each).all()) for each in params)

    @over_blocks
    def predict(self, X: Any) -> np.ndarray:
        """Label of the class with the largest score.

        Parameters
        ----------
        X : {array-like, sparse matrix, Dask} of shape (n_samples, n_features)
            Samples. Memory maps are read a block of rows at a time.

        Returns
        -------
        labels : ndarray or lazy Dask array of shape (n_samples,)
            Of ``classes_``.
        """
        return self._of_scores(X, lambda scores: np.take(self.classes_, places(scores)))

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Share of the rows whose label is right.

        Parameters
        ----------
        X : {array-like, sparse matrix, Dask} of shape (n_samples, n_features)
            Samples.
        y : {array-like, Dask} of shape (n_samples,)
            Their labels.
        sample_weight : {array-like, Dask} of shape (n_samples,), default=None
            Weights.

        Returns
        -------
        accuracy : float
            Between 0 and 1.
        """
        if is_dask(X):
            return accuracy(self, X, y, sample_weight)
        return super().score(X, y, sample_weight)

    @over_blocks
    def certify(self, X: Any) -> np.ndarray:
        """Whether each predicted label is provably that of the exact optimum.

        A fit ends within ``dual_gap_`` of the optimum, so that its scores may still
        move; here it is proven for which rows they cannot move enough to change the
        label. A lower ``tol`` lets more rows be certified: by default they may be few
        or none of a good fit, and by ``tol=1e-8`` they are most or all of most data.
        The bound on the intercept is the loosest part, above all of many classes:
        without one the default often certifies nearly all. It is a statement about the
        optimisation, not about whether the label is right.

        Parameters
        ----------
        X : {array-like, sparse matrix, Dask} of shape (n_samples, n_features)
            Samples, seen in training or not.

        Returns
        -------
        certified : ndarray or lazy Dask array of shape (n_samples,)
            True where the label is proven; False where nothing is known.

        Raises
        ------
        AttributeError
            If the coefficients come from ``solver="sgd"`` or ``partial_fit``, which
            prove nothing and set no ``dual_gap_``; if they were changed since the fit;
            or of a search with ``refit=False``.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from sklinear import SoftmaxClassifier
        >>> X, y = load_iris(return_X_y=True)
        >>> model = SoftmaxClassifier(tol=1e-8).fit(X, y)
        >>> print(model.certify(X).all())
        True
        """
        check_is_fitted(self)
        if not hasattr(self, "_certificate"):
            raise AttributeError(
                f"certify needs a fit that ended with a proof, and this "
                f"{type(self).__name__} has none: solver='sgd', partial_fit and "
                "unfinished fits prove nothing. Fit it with another solver."
            )
        if checksum(self) != self._certificate.of:
            raise AttributeError(
                f"certify knows nothing of this {type(self).__name__}'s coef_, "
                "intercept_ and classes_: changed since the fit. Fit it again."
            )
        X = self._validate_samples(X)
        W, b = self._full_params(self.classes_, X.shape[1])

        def settled(part: Any) -> np.ndarray:
            exact = part.astype(np.float64, copy=False)
            labels = places(self._scores(part))
            return self._certificate.settles(exact, W, b, labels)

        return self._each(X, settled)

    def _full_params(
        self,
        classes: np.ndarray,
        n_features: int,
        columns: np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """W (d, k) and b (k,) of the present coefficients, one column a class.

        Of some ``columns`` of X alone, where they are given.
        """
        if not np.array_equal(classes, self.classes_):
            raise ValueError(
                "warm_start=True needs the classes of the previous fit, "
                f"{self.classes_}, got {classes}."
            )
        coef = dense(self.coef_)
        if coef.shape[1] != n_features:
            raise ValueError(
                f"warm_start=True needs the {coef.shape[1]} features of the previous "
                f"fit, got {n_features}."
            )
        W = turned(coef if columns is None else coef[:, columns], np.float64)
        b = np.asarray(self.intercept_, dtype=np.float64)
        if not self._is_finite():
            raise ValueError(
                "coef_ and intercept_ must be finite to go on from (warm_start, "
                "partial_fit), got NaN or infinity among them."
            )
        if len(classes) == 2:
            return np.hstack([-W / 2, W / 2]), np.concatenate([-b / 2, b / 2])
        return W, b


def refitted(model: Any) -> bool:
    """Whether an estimator predicts, which a search without a refit does not."""
    if not getattr(model, "refit", True):
        raise AttributeError(
            f"This {type(model).__name__} has refit=False, so there is no model to "
            "predict or score with; best_params_ tells which to fit."
        )
    return True


class ProbabilityMixin:
    """Probabilities that are the softmax of the scores."""

    _of_scores: Any

    @available_if(refitted)
    @over_blocks
    def predict_proba(self, X: Any) -> np.ndarray:
        """Probability of each class: the softmax of the scores.

        Parameters
        ----------
        X : {array-like, sparse matrix, Dask} of shape (n_samples, n_features)
            Samples.

        Returns
        -------
        proba : ndarray or lazy Dask array of shape (n_samples, n_classes)
            Rows add up to 1; columns in the order of ``classes_``.
        """
        return self._of_scores(X, probabilities)

    @available_if(refitted)
    @over_blocks
    def predict_log_proba(self, X: Any) -> np.ndarray:
        """Logarithm of the probabilities, finite even where they underflow to 0.

        Parameters
        ----------
        X : {array-like, sparse matrix, Dask} of shape (n_samples, n_features)
            Samples.

        Returns
        -------
        log_proba : ndarray or lazy Dask array of shape (n_samples, n_classes)
            Log-softmax of the scores, in nats.
        """
        return self._of_scores(X, log_probabilities)


def places(scores: np.ndarray) -> np.ndarray:
    """Of the rows' labels among the classes (m,), by scores (m, k) or (m,)."""
    return (scores > 0).astype(np.intp) if scores.ndim == 1 else scores.argmax(axis=1)


def probabilities(scores: np.ndarray) -> np.ndarray:
    """Softmax of scores (n, k), or of two classes' difference (n,)."""
    if scores.ndim == 1:
        return np.column_stack([expit(-scores), expit(scores)])
    return softmax(scores, axis=1)


def log_probabilities(scores: np.ndarray) -> np.ndarray:
    """Its logarithm."""
    if scores.ndim == 1:
        return np.column_stack([log_expit(-scores), log_expit(scores)])
    return log_softmax(scores, axis=1)


def _blocks(X: Any, step: int, dtype: np.dtype) -> Iterator[tuple[Any, slice]]:
    """Some rows at a time, cast unless they are sparse."""
    if isinstance(X, Mapped):
        yield from X.blocks(step, dtype)
        return
    for start in range(0, X.shape[0], step):
        rows = slice(start, start + step)
        yield X[rows] if issparse(X) else X[rows].astype(dtype, copy=False), rows


def dense(coef: Any) -> np.ndarray:
    """Coefficients as an array, which a user may have made sparse."""
    return np.asarray(coef.toarray() if hasattr(coef, "toarray") else coef)


def checksum(model: Any) -> int:
    """By which a change of what it predicts with is noticed, however it is stored."""
    found = zlib.crc32(repr(model.classes_.tolist()).encode())
    for part in (model.coef_, model.intercept_):
        for row in np.atleast_2d(dense(part)):  # a million numbers take time to copy
            numbers = np.array(row, np.float64)
            numbers += 0.0  # sparse ones have no -0.0
            found = zlib.crc32(numbers.data, found)
    return found


def rows_of(
    W: np.ndarray, b: np.ndarray, dtype: Any, scale: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """coef_ and intercept_: a row a class that add up to 0, or one for two classes.

    The scores are ``scale`` times those of W and b. In float64 where float32 does not
    reach as far, as it may for an extreme delta.
    """
    if scale != 1:
        W, b = (np.multiply(part, scale, dtype=np.float64) for part in (W, b))
    least, most = HELD_BY_FLOAT32
    largest = max(size(W), size(b))
    if largest > 0 and not least <= largest <= most:
        dtype = np.float64
    if len(b) == 2:
        W, b = W[:, 1:] - W[:, :1], b[1:] - b[:1]
        return turned(W, dtype), b.astype(dtype)
    return turned(W, dtype, W.mean(axis=1)), (b - b.mean()).astype(dtype)


def learnt(model: Any) -> dict[str, Any]:
    """The attributes of a refit that its search has too."""
    return {name: getattr(model, name) for name in LEARNT if hasattr(model, name)}
