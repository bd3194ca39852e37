"""Losses of class scores: values and gradient in one pass.

A loss sees the scores ``S = X W + b`` of shape (n_samples, n_classes) and the labels
``y`` in ``0..n_classes-1``, never ``X``. The two functions :func:`weston_watkins` and
:func:`cross_entropy` are the public face; :func:`svm_objective` and
:func:`softmax_objective` are the vectorised twins of the loops in
:mod:`sklinear.reference`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.sparse import issparse

from sklinear._losses import CrossEntropy, Hinge, Loss, SquaredHinge

__all__ = ["cross_entropy", "softmax_objective", "svm_objective", "weston_watkins"]


def weston_watkins(
    scores: np.ndarray, y: np.ndarray, delta: float = 1.0, squared: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    r"""Weston-Watkins multiclass hinge loss of each sample, or its square.

    .. math:: L_i = \sum_{j \ne y_i} \max(0,\; s_{ij} - s_{i y_i} + \delta)^p,
              \qquad p = 1 \text{ or } 2.

    Parameters
    ----------
    scores : array of shape (n_samples, n_classes)
        Class scores.
    y : integer array of shape (n_samples,)
        Labels in ``0..n_classes-1``.
    delta : float, default=1.0
        Margin by which the score of the true class has to exceed every other.
    squared : bool, default=False
        Square each violation ("L2-SVM").

    Returns
    -------
    values : array of shape (n_samples,)
        Loss of each sample.
    gradient : array of shape (n_samples, n_classes)
        Derivative of each value in its own scores. Where a hinge is exactly at its
        kink, the subgradient that leaves the sample alone.

    Raises
    ------
    ValueError
        If the shapes do not match, a number is complex, or a label is not an integer
        in ``0..n_classes-1``.

    References
    ----------
    J. Weston and C. Watkins (1999), "Support vector machines for multi-class pattern
    recognition", ESANN, eq. (3), with margin ``delta`` in place of 2.

    Examples
    --------
    >>> from sklinear.losses import weston_watkins
    >>> values, gradient = weston_watkins([[13.0, -7.0, 11.0]], [0], delta=10.0)
    >>> print(values, gradient)
    [8.] [[-1.  0.  1.]]
    """
    scores, y = _as_scores_and_labels(scores, y)
    loss: Loss = SquaredHinge(delta) if squared else Hinge(delta)
    return loss(scores, y)


def cross_entropy(scores: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    r"""Cross-entropy of the softmax of the scores with the label, for each sample.

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

    Raises
    ------
    ValueError
        If the shapes do not match, a number is complex, or a label is not an integer
        in ``0..n_classes-1``.

    References
    ----------
    D. Boehning (1992), "Multinomial logistic regression algorithm", Ann. Inst. Statist.
    Math. 44, eqs. (2.1)-(2.3).

    Examples
    --------
    >>> from sklinear.losses import cross_entropy
    >>> values, gradient = cross_entropy([[-2.85, 0.86, 0.28]], [2])
    >>> print(values.round(2), gradient.round(2))
    [1.04] [[ 0.02  0.63 -0.65]]
    """
    scores, y = _as_scores_and_labels(scores, y)
    return CrossEntropy()(scores, y)


def svm_objective(
    W: np.ndarray,
    X: np.ndarray,
    y: np.ndarray,
    alpha: float,
    delta: float = 1.0,
    squared: bool = False,
) -> tuple[float, np.ndarray]:
    r"""Mean Weston-Watkins loss plus ``alpha * sum(W**2)``, and its gradient.

    The vectorised twin of :func:`sklinear.reference.svm_objective`.

    Parameters
    ----------
    W : array of shape (n_features, n_classes)
        Weights, one column a class.
    X : array or CSR matrix of shape (n_samples, n_features)
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

    Raises
    ------
    ValueError
        If the shapes do not match, a number is complex, or a label is not an integer
        in ``0..n_classes-1``.

    Examples
    --------
    >>> import numpy as np
    >>> from sklinear.losses import svm_objective
    >>> value, gradient = svm_objective(np.zeros((2, 3)), np.eye(2), [0, 2], alpha=1.0)
    >>> print(value)
    2.0
    """
    W, X = _as_params_and_rows(W, X)
    return _objective(W, X, *weston_watkins(X @ W, y, delta, squared), alpha)


def softmax_objective(
    W: np.ndarray, X: np.ndarray, y: np.ndarray, alpha: float
) -> tuple[float, np.ndarray]:
    r"""Mean cross-entropy plus ``alpha * sum(W**2)``, and its gradient.

    The vectorised twin of :func:`sklinear.reference.softmax_objective`.

    Parameters
    ----------
    W : array of shape (n_features, n_classes)
        Weights, one column a class.
    X : array or CSR matrix of shape (n_samples, n_features)
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

    Raises
    ------
    ValueError
        If the shapes do not match, a number is complex, or a label is not an integer
        in ``0..n_classes-1``.

    Examples
    --------
    >>> import numpy as np
    >>> from sklinear.losses import softmax_objective
    >>> value, gradient = softmax_objective(np.zeros((2, 3)), np.eye(2), [0, 2], 1.0)
    >>> print(round(value, 4))
    1.0986
    """
    W, X = _as_params_and_rows(W, X)
    return _objective(W, X, *cross_entropy(X @ W, y), alpha)


def _objective(
    W: np.ndarray, X: Any, values: np.ndarray, gradient: np.ndarray, alpha: float
) -> tuple[float, np.ndarray]:
    """Mean of the values plus the penalty, and the gradient carried back to W."""
    value = float(values.mean() + alpha * (W * W).sum())
    return value, X.T @ gradient / X.shape[0] + 2 * alpha * W


def _as_params_and_rows(W: Any, X: Any) -> tuple[np.ndarray, Any]:
    """W as a floating array, as products of small integers would wrap around, and X,
    or a ValueError."""
    W, X = _floating(W), X if issparse(X) else np.asarray(X)
    if not (W.ndim == X.ndim == 2 and X.shape[1] == len(W) and X.shape[0]):
        raise ValueError(
            "X must have shape (n_samples, n_features), with a sample, and W "
            f"(n_features, n_classes), got {X.shape} and {W.shape}."
        )
    return W, X


def _floating(numbers: Any) -> np.ndarray:
    """As they are, or float64; float16 is too coarse for what is nearly 0."""
    numbers = np.asarray(numbers)
    if numbers.dtype == np.float16:
        return numbers.astype(np.float32)
    if np.issubdtype(numbers.dtype, np.floating):
        return numbers
    if np.iscomplexobj(numbers):
        raise ValueError("scores, W and X must be real, got complex numbers.")
    return numbers.astype(np.float64)


def _as_scores_and_labels(scores: Any, y: Any) -> tuple[np.ndarray, np.ndarray]:
    """Scores as a floating array and labels as indices, or a ValueError."""
    scores, y = _floating(scores), np.asarray(y)
    if scores.ndim != 2 or y.shape != scores.shape[:1]:
        raise ValueError(
            "scores must have shape (n_samples, n_classes) and y (n_samples,), got "
            f"{scores.shape} and {y.shape}."
        )
    if not np.issubdtype(y.dtype, np.integer):
        raise ValueError(f"y must hold integer class indices, got dtype {y.dtype}.")
    if y.size and not (y.min() >= 0 and y.max() < scores.shape[1]):
        raise ValueError(
            f"y must hold class indices in 0..{scores.shape[1] - 1}, got "
            f"{y.min()}..{y.max()}."
        )
    return scores, y.astype(np.intp, copy=False)  # small integers would wrap around
