"""What fitted coefficients are good for: scores, and labels that are proven."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.sparse import issparse
from sklearn.linear_model._base import LinearClassifierMixin, SparseCoefMixin
from sklearn.utils.extmath import safe_sparse_dot
from sklearn.utils.validation import check_is_fitted, validate_data

from sklinear._certificate import Certificate
from sklinear._data import BLOCK_VALUES
from sklinear._distributed import is_dask
from sklinear._lazy import accuracy, over_blocks


class LinearPredictor(LinearClassifierMixin, SparseCoefMixin):
    """Prediction from ``coef_``, ``intercept_`` and ``classes_``."""

    classes_: np.ndarray
    coef_: Any
    intercept_: np.ndarray
    _certificate: Certificate

    @over_blocks
    def decision_function(self, X: Any) -> np.ndarray:
        """Score of each class, X W + b.

        Parameters
        ----------
        X : {array-like, sparse matrix, Dask} of shape (n_samples, n_features)
            Samples. Integers are converted a block of rows at a time.

        Returns
        -------
        scores : ndarray of shape (n_samples, n_classes) or (n_samples,)
            Scores, in a lazy Dask array where X is Dask's; for two classes the second's
            less the first's.
        """
        check_is_fitted(self)
        X = validate_data(self, X, accept_sparse="csr", reset=False)
        return self._decide(X)

    def _decide(self, X: Any) -> np.ndarray:
        """Scores of valid X, a block at a time where it is cast."""
        n, d = X.shape
        dtype = np.result_type(X.dtype, self.coef_.dtype)
        whole = issparse(X) or X.dtype == dtype
        step = n if whole else max(1, BLOCK_VALUES // d)
        scores = np.empty((n, len(self.intercept_)), dtype)
        for start in range(0, n, step):
            rows = slice(start, start + step)
            scores[rows] = safe_sparse_dot(
                X if whole else X[rows].astype(dtype), self.coef_.T, dense_output=True
            )
        scores += self.intercept_
        return scores.ravel() if scores.shape[1] == 1 else scores

    @over_blocks
    def predict(self, X: Any) -> np.ndarray:
        """Label of the class with the largest score.

        Parameters
        ----------
        X : {array-like, sparse matrix, Dask} of shape (n_samples, n_features)
            Samples.

        Returns
        -------
        labels : ndarray or lazy Dask array of shape (n_samples,)
            Of ``classes_``.
        """
        return super().predict(X)

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
        label. A lower ``tol`` lets more rows be certified. It is a statement about the
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
            prove nothing, as there is no ``dual_gap_`` then either.

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
        X = validate_data(self, X, accept_sparse="csr", reset=False)
        scores = self._decide(X)
        labels = scores > 0 if scores.ndim == 1 else scores.argmax(axis=1)
        W, b = self._full_params(self.classes_, X.shape[1])
        return self._certificate.settles(X, W, b, labels.astype(np.intp))

    def _full_params(
        self, classes: np.ndarray, n_features: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """W (d, k) and b (k,) of the present coefficients, one column a class."""
        if not np.array_equal(classes, self.classes_):
            raise ValueError(
                "warm_start=True needs the classes of the previous fit, "
                f"{self.classes_}, got {classes}."
            )
        coef = self.coef_.toarray() if hasattr(self.coef_, "toarray") else self.coef_
        W = np.asarray(coef, dtype=np.float64).T
        b = np.asarray(self.intercept_, dtype=np.float64)
        if len(W) != n_features:
            raise ValueError(
                f"warm_start=True needs the {len(W)} features of the previous fit, got "
                f"{n_features}."
            )
        if len(classes) == 2:
            return np.hstack([-W / 2, W / 2]), np.concatenate([-b / 2, b / 2])
        return W, b


def rows_of(W: np.ndarray, b: np.ndarray, dtype: Any) -> tuple[np.ndarray, np.ndarray]:
    """coef_ and intercept_: a row a class that add up to 0, or one for two classes."""
    coef = (W - W.mean(axis=1, keepdims=True)).T
    intercept = b - b.mean()
    if len(coef) == 2:
        coef, intercept = coef[1:] - coef[:1], intercept[1:] - intercept[:1]
    return np.ascontiguousarray(coef, dtype=dtype), intercept.astype(dtype)
