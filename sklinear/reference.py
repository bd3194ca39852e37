"""The losses and objectives as plain loops, read straight off their formulas.

Slow on purpose. Nothing else in the package calls these functions; the tests compare
every fast path with them, and they are the page to read first. They check no arguments:
labels below 0, for one, are taken from the end.
"""

from __future__ import annotations

import math

import numpy as np

__all__ = ["cross_entropy", "softmax_objective", "svm_objective", "weston_watkins"]


def weston_watkins(
    scores: np.ndarray, y: np.ndarray, delta: float = 1.0, squared: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    r"""Weston-Watkins multiclass hinge loss of each sample, or its square, by loops.

    .. math:: L_i = \sum_{j \ne y_i} \max(0,\; s_{ij} - s_{i y_i} + \delta)^p,
              \qquad p = 1 \text{ or } 2.

    Parameters
    ----------
    scores : array of shape (n_samples, n_classes)
        Class scores.
    y : integer array of shape (n_samples,)
        Labels in ``0..n_classes-1``.
    delta : float, default=1.0
        Margin.
    squared : bool, default=False
        Square each violation.

    Returns
    -------
    values : array of shape (n_samples,)
        Loss of each sample.
    gradient : array of shape (n_samples, n_classes)
        Derivative of each value in its own scores.

    References
    ----------
    J. Weston and C. Watkins (1999), "Support vector machines for multi-class pattern
    recognition", ESANN, eq. (3), with margin ``delta`` in place of 2.

    Examples
    --------
    >>> from sklinear import reference
    >>> values, gradient = reference.weston_watkins([[13, -7, 11]], [0], delta=10)
    >>> print(values)
    [8.]
    """
    scores = np.asarray(scores, dtype=float)
    n_samples, n_classes = scores.shape
    values = np.zeros(n_samples)
    gradient = np.zeros((n_samples, n_classes))
    for i in range(n_samples):
        for j in range(n_classes):
            if j == y[i]:
                continue
            margin = scores[i, j] - scores[i, y[i]] + delta
            if margin > 0:
                values[i] += margin**2 if squared else margin
                slope = 2 * margin if squared else 1
                gradient[i, j] += slope
                gradient[i, y[i]] -= slope
    return values, gradient


def cross_entropy(scores: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    r"""Cross-entropy of the softmax of the scores with the label, by loops.

    .. math:: L_i = \log \sum_j e^{s_{ij} - M_i} - (s_{i y_i} - M_i),
              \qquad M_i = \max_j s_{ij}.

    Parameters
    ----------
    scores : array of shape (n_samples, n_classes)
        Class scores.
    y : integer array of shape (n_samples,)
        Labels in ``0..n_classes-1``.

    Returns
    -------
    values : array of shape (n_samples,)
        Loss of each sample, in nats.
    gradient : array of shape (n_samples, n_classes)
        Derivative of each value in its own scores: softmax minus one-hot label.

    References
    ----------
    D. Boehning (1992), "Multinomial logistic regression algorithm", Ann. Inst. Statist.
    Math. 44, eqs. (2.1)-(2.3).

    Examples
    --------
    >>> from sklinear import reference
    >>> values, gradient = reference.cross_entropy([[-2.85, 0.86, 0.28]], [2])
    >>> print(values.round(2))
    [1.04]
    """
    scores = np.asarray(scores, dtype=float)
    n_samples, n_classes = scores.shape
    values = np.zeros(n_samples)
    gradient = np.zeros((n_samples, n_classes))
    for i in range(n_samples):
        largest = max(scores[i])
        total = 0.0
        for j in range(n_classes):
            total += math.exp(scores[i, j] - largest)
        values[i] = math.log(total) - (scores[i, y[i]] - largest)
        for j in range(n_classes):
            gradient[i, j] = math.exp(scores[i, j] - largest) / total
        gradient[i, y[i]] -= 1
    return values, gradient


def svm_objective(
    W: np.ndarray,
    X: np.ndarray,
    y: np.ndarray,
    alpha: float,
    delta: float = 1.0,
    squared: bool = False,
) -> tuple[float, np.ndarray]:
    r"""Mean Weston-Watkins loss plus ``alpha * sum(W**2)``, and its gradient, by loops.

    Parameters
    ----------
    W : array of shape (n_features, n_classes)
        Weights, one column a class.
    X : array of shape (n_samples, n_features)
        Samples.
    y : integer array of shape (n_samples,)
        Labels in ``0..n_classes-1``.
    alpha : float
        Strength of the penalty.
    delta : float, default=1.0
        Margin.
    squared : bool, default=False
        Square each violation.

    Returns
    -------
    value : float
        The objective at ``W``.
    gradient : array of shape (n_features, n_classes)
        Its derivative in ``W``.

    Examples
    --------
    >>> import numpy as np
    >>> from sklinear import reference
    >>> value, _ = reference.svm_objective(np.zeros((2, 3)), np.eye(2), [0, 2], 1)
    >>> print(value)
    2.0
    """
    values, gradient = weston_watkins(_scores(W, X), y, delta, squared)
    return _objective(W, X, values, gradient, alpha)


def softmax_objective(
    W: np.ndarray, X: np.ndarray, y: np.ndarray, alpha: float
) -> tuple[float, np.ndarray]:
    r"""Mean cross-entropy plus ``alpha * sum(W**2)``, and its gradient, by loops.

    Parameters
    ----------
    W : array of shape (n_features, n_classes)
        Weights, one column a class.
    X : array of shape (n_samples, n_features)
        Samples.
    y : integer array of shape (n_samples,)
        Labels in ``0..n_classes-1``.
    alpha : float
        Strength of the penalty.

    Returns
    -------
    value : float
        The objective at ``W``.
    gradient : array of shape (n_features, n_classes)
        Its derivative in ``W``.

    Examples
    --------
    >>> import numpy as np
    >>> from sklinear import reference
    >>> value, _ = reference.softmax_objective(np.zeros((2, 3)), np.eye(2), [0, 2], 1)
    >>> print(round(value, 4))
    1.0986
    """
    values, gradient = cross_entropy(_scores(W, X), y)
    return _objective(W, X, values, gradient, alpha)


def _scores(W: np.ndarray, X: np.ndarray) -> np.ndarray:
    """s_ij = sum_f x_if w_fj."""
    scores = np.zeros((X.shape[0], W.shape[1]))
    for i in range(X.shape[0]):
        for j in range(W.shape[1]):
            for f in range(X.shape[1]):
                scores[i, j] += float(X[i, f]) * float(W[f, j])
    return scores


def _objective(
    W: np.ndarray, X: np.ndarray, values: np.ndarray, gradient: np.ndarray, alpha: float
) -> tuple[float, np.ndarray]:
    """Mean over the samples (not the features), and the penalty once, without 1/2."""
    n_samples, n_features = X.shape
    value, slope = 0.0, np.zeros(W.shape)
    for i in range(n_samples):
        value += values[i] / n_samples
        for j in range(W.shape[1]):
            for f in range(n_features):
                slope[f, j] += float(X[i, f]) * gradient[i, j] / n_samples
    for f in range(n_features):
        for j in range(W.shape[1]):
            value += alpha * float(W[f, j]) ** 2
            slope[f, j] += 2 * alpha * float(W[f, j])
    return value, slope
