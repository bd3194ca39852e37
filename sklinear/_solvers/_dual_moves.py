"""Moves of all dual variables that bring 1' U, the intercept's constraint, to 0.

They are taken along the losses' leeway, as in ``_certificate``, in compiled code.
"""

from __future__ import annotations

import numpy as np

from sklinear._solvers._dual_blocks import compiled, total


@compiled
def _leeway(a: np.ndarray, y: int, power: int, reach: float, out: np.ndarray) -> None:
    """How far a row's variables may move, as the losses say."""
    for j in range(len(a)):
        if power == 0:
            out[j] = a[j] * a[y]
        elif power == 1:
            out[j] = min(a[j], 1 - a[j]) / reach
        else:
            out[j] = min(2.0, a[j] / reach)
    out[y] = 0.0


@compiled
def edges(
    A: np.ndarray, labels: np.ndarray, weights: np.ndarray, power: int, reach: float
) -> np.ndarray:
    """Sums of w times the leeway over each class, (k, k)."""
    n, k = A.shape
    sums, c = np.zeros((k, k)), np.empty(k)
    for i in range(n):
        y, w = labels[i], weights[i]
        _leeway(A[i], y, power, reach, c)
        for j in range(k):
            sums[y, j] += w * c[j]
    return sums


@compiled
def move(
    A: np.ndarray,
    labels: np.ndarray,
    weights: np.ndarray,
    power: int,
    reach: float,
    v: np.ndarray,
) -> np.ndarray:
    """Add c_j (v_j - v_y) to each row, c its leeway; sums of U over each class."""
    n, k = A.shape
    sums, c = np.zeros((k, k)), np.empty(k)
    for i in range(n):
        y, w, a = labels[i], weights[i], A[i]
        _leeway(a, y, power, reach, c)
        for j in range(k):
            c[j] *= v[j] - v[y]
        if power == 0:
            c[y] = -total(c)
        for j in range(k):
            a[j] += c[j]
            sums[y, j] += w * a[j]
        if power == 0:
            sums[y, y] -= w
        else:
            sums[y, y] -= w * total(a)
    return sums


@compiled
def mix(
    A: np.ndarray, labels: np.ndarray, t: float, kept: float, G: np.ndarray
) -> None:
    """A = kept A + t G of each row's class, kept being 1 - t."""
    n, k = A.shape
    for i in range(n):
        for j in range(k):
            A[i, j] = kept * A[i, j] + t * G[labels[i], j]
