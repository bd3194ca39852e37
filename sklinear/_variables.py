"""The change of variables between the user's params and the solvers'.

Features are centred through the intercept and multiplied by a factor T that makes the
curvature nearly round,

    W = T V,    b = c - mean' W,    scores = (X - 1 mean') T V + 1 c',

so that the way to the optimum depends neither on where the features lie nor on how they
are scaled, and the optimum is the same. X itself is not shifted, scaled or copied.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.linalg
import scipy.sparse

from sklinear._data import Data

# Beyond this many features a (d, d) factor costs more than it saves.
LARGEST_FACTOR = 1024
LARGEST_SPARSE_FACTOR = 128  # where a product with it may have many more terms than X
ROUNDED = 8.0  # units in the last place of a mean, that centred numbers may be off


@dataclass(frozen=True)
class Variables:
    """W = T V and b = c - mean' W; T is a (d,) diagonal or a (d, d) matrix."""

    mean: np.ndarray  # (d,), 0 without an intercept
    factor: np.ndarray

    def apply(self, X: Any, out: np.ndarray) -> None:
        """out = (X - 1 mean') T of some rows, dense."""
        factor, mean = self.factor.astype(X.dtype), self.mean.astype(X.dtype)
        if scipy.sparse.issparse(X):
            factor = factor if factor.ndim == 2 else np.diag(factor)
            np.subtract(X @ factor, mean @ factor, out=out)
        elif factor.ndim == 2:
            np.matmul(X - mean, factor, out=out)
        else:
            np.subtract(X, mean, out=out)
            out *= factor

    @property
    def gram(self) -> np.ndarray:
        """T' T, (d, d)."""
        if self.factor.ndim == 1:
            return np.diag(self.factor**2)
        return self.factor.T @ self.factor

    def coef(self, V: np.ndarray) -> np.ndarray:
        """T V."""
        if self.factor.ndim == 1:
            return self.factor[:, None] * V
        return self.factor @ V

    def transpose(self, gradient: np.ndarray) -> np.ndarray:
        """T' g: a gradient in W as one in V."""
        if self.factor.ndim == 1:
            return self.factor[:, None] * gradient
        return self.factor.T @ gradient

    def slack(self, gradient: np.ndarray) -> float:
        """||g||_F^2 of a gradient in the params (d or d + 1, k), as one in W."""
        if self.factor.ndim == 2:
            return np.inf  # not worth a solve
        g = self.inverse(gradient[: len(self.factor)])
        return float(np.vdot(g, g))

    def inverse(self, W: np.ndarray) -> np.ndarray:
        """The V of a W, which may be W itself; 0 for features that T leaves out."""
        if self.factor.ndim == 1 and (self.factor == 1).all():
            return W
        if self.factor.ndim == 1:
            used = self.factor[:, None] > 0
            return np.divide(W, self.factor[:, None], out=np.zeros_like(W), where=used)
        # of the features' scales; 0 for one with no variance and no penalty
        sizes = np.abs(self.factor).max(axis=1, keepdims=True)
        unused = (sizes == 0)[:, 0]
        sizes[unused] = 1
        factor, W = self.factor / sizes, W / sizes
        factor[unused, unused], W[unused] = 1, 0
        return scipy.linalg.solve(factor, W)


def choose_variables(
    data: Data,
    alpha: float,
    curvature: float | np.ndarray,
    fit_intercept: bool,
    diagonal: bool = False,
) -> Variables:
    """Centre and scale so that the Hessian's bound is nearly the identity.

    With C the covariance of the rows, weighted by their weights and the curvature (n,)
    of their losses, T T' = (C + 2 alpha I)^-1, in the manner of Boehning (1992) who
    bounds the softmax's by 1/2; or, where d is large or X sparse or where asked to, the
    same of C's diagonal. O(n d^2 + d^3) time and O(d^2) memory, or O(n d) and O(d).
    """
    d = data.shape[1]
    mean, total = np.zeros(d), 0.0
    if fit_intercept:
        total, sums = data.total(_first_moments, curvature)
        mean = sums / total
    diagonal |= d > (LARGEST_SPARSE_FACTOR if data.sparse else LARGEST_FACTOR)
    bound = data.total(_second_moments, curvature, mean, diagonal)
    used = ~_is_noise(data, bound, mean, total, alpha)
    if diagonal:
        return Variables(mean, _inverse_root(used * (bound + 2 * alpha)))
    bound.flat[:: d + 1] += 2 * alpha
    # a unit diagonal first, for Cholesky's sake
    scale = _inverse_root(used * np.diag(bound))
    bound *= scale
    bound *= scale[:, None]
    bound.flat[:: d + 1] += 1e-10  # duplicate columns at alpha = 0
    L = scipy.linalg.cholesky(bound, lower=True)
    T = scipy.linalg.solve_triangular(L, np.eye(d), lower=True, trans="T")
    return Variables(mean, scale[:, None] * T)


def _first_moments(
    data: Data, curvature: float | np.ndarray
) -> tuple[float, np.ndarray]:
    """Sum of the weights times curvature (n,), and of the rows so weighted, (d,)."""
    each = np.broadcast_to(curvature, data.weights.shape)
    sums, total = np.zeros(data.shape[1]), 0.0
    for block in data:
        curvatures = block.weights * each[block.rows]
        sums += block.X.T @ curvatures
        total += float(curvatures.sum())
    return total, sums


def _second_moments(
    data: Data, curvature: float | np.ndarray, mean: np.ndarray, diagonal: bool
) -> np.ndarray:
    """Sum of the centred rows' products (d, d), or squares (d,), so weighted."""
    d, curvatures = len(mean), data.weights * curvature
    if diagonal and data.sparse:
        each, indices = np.repeat(curvatures, np.diff(data.X.indptr)), data.X.indices
        squares = np.square(data.X.data - mean[indices])
        squares = np.bincount(indices, weights=each * squares, minlength=d)
        zeros = curvatures.sum() - np.bincount(indices, weights=each, minlength=d)
        zeros[np.bincount(indices, minlength=d) == len(curvatures)] = 0
        return squares + np.maximum(zeros, 0) * np.square(mean)
    bound = np.zeros((d,) if diagonal else (d, d))
    for block in data:
        centred = (block.X @ np.eye(d) if data.sparse else block.X) - mean
        each = curvatures[block.rows]
        if diagonal:
            centred *= centred
            bound += each @ centred
        else:
            bound += centred.T @ (each[:, None] * centred)
    return bound


def _is_noise(
    data: Data, bound: np.ndarray, mean: np.ndarray, total: float, alpha: float
) -> np.ndarray:
    """Whether a feature's spread is what rounding leaves of equal numbers, and there is
    next to no penalty to keep a factor from making it 1, (d,).
    """
    spread = np.diag(bound) if bound.ndim == 2 else bound
    off = data.shape[0] * np.finfo(np.float64).eps * mean  # of a mean, at most
    one = ROUNDED * np.finfo(data.dtype).eps * mean
    return (spread <= total * off**2) & (2 * alpha <= total * one**2)


def _inverse_root(diagonal: np.ndarray) -> np.ndarray:
    """1 / sqrt(x), and 0 for a feature with no variance and no penalty."""
    return np.divide(
        1, np.sqrt(diagonal), out=np.zeros_like(diagonal), where=diagonal > 0
    )
