"""Several problems on the same rows at once: folds are weights, and 0 leaves a row out.

All problems go through X together, as one matrix product, and share one preconditioner:
the curvature of folds that have most rows in common is nearly the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from sklinear._data import BLOCK_SCORES, BLOCK_VALUES, FEWEST_ROWS, Data
from sklinear._losses import Loss
from sklinear._solvers._curvature import FEWEST_ROWS as FEWEST_SAMPLED
from sklinear._solvers._curvature import ROWS_A_BLOCK, chances, inverse_of
from sklinear._variables import Variables

MEMORY = 8  # pairs of steps and gradients that L-BFGS keeps
TRIALS = 10  # of a step's length
ROUNDING = 2e-6  # relative, of an objective in float32
RENEWAL = 12  # iterations after which the preconditioner is built anew
PATIENCE = 45  # iterations at one alpha, after which problems go on alone
UNBALANCED = 3.0  # cost of an unbalanced dual point, in units of the objective


class Values(NamedTuple):
    """What one pass tells of each problem, (B,), and its gradient."""

    value: np.ndarray
    gap: np.ndarray  # estimate of how far the value can be from the optimum
    gradient: np.ndarray  # (d1, B, k)


class Batch:
    """B problems of one loss: weights (n, B), and params (d + 1, B, k).

    In ``variables``, with the intercept's row last where there is one. Computed in
    float32: it is the start of fits that are proven in float64, one by one.
    """

    def __init__(
        self,
        data: Data,
        loss: Loss,
        weights: np.ndarray,
        fit_intercept: bool,
        variables: Variables,
    ):
        self.data, self.fit_intercept, self.variables = data, fit_intercept, variables
        self.weights = weights.astype(np.float32)
        self.masses = np.stack(
            [np.bincount(data.y, w, data.n_classes) for w in weights.T]
        )  # of the classes, (B, k)
        self.loss = loss
        self.passes = 0.0  # over all rows for all problems
        scale = variables.factor
        self.penalty = np.append(scale**2, [0.0] * fit_intercept)  # of each row of V
        self.shape = len(self.penalty), weights.shape[1], data.n_classes
        # half of X at most; X of another dtype is cast a block at a time
        self._kept = None
        if data.X.dtype == np.float64:
            self._kept = [self._features(data.X[rows]) for rows in self._cuts()]

    def _cuts(self) -> list[slice]:
        """Rows of blocks whose scores fit the cache."""
        n, d = self.data.X.shape
        step = min(BLOCK_SCORES // self.data.n_classes, BLOCK_VALUES // d)
        step = max(FEWEST_ROWS, step)
        return [slice(start, min(start + step, n)) for start in range(0, n, step)]

    def _features(self, X: np.ndarray) -> np.ndarray:
        """Centred and scaled rows, and ones for the intercept, float32."""
        d = X.shape[1]
        Z = np.ones((len(X), self.shape[0]), np.float32)
        centred = X - self.variables.mean
        Z[:, :d] = np.multiply(centred, self.variables.factor, out=centred)
        return Z

    def __iter__(self) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
        """Rows, features and labels of each block."""
        self.data.tally.rows += len(self.data.y)
        for i, rows in enumerate(self._cuts()):
            kept = self._kept
            Z = self._features(self.data.X[rows]) if kept is None else kept[i]
            yield rows, Z, self.data.y[rows]

    def evaluate(
        self, params: np.ndarray, alpha: float, which: np.ndarray | None = None
    ) -> Values:
        """One pass over the rows for the problems ``which``, all by default."""
        which = np.arange(self.shape[1]) if which is None else which
        d1, k, B = self.shape[0], self.shape[2], len(which)
        A = params.reshape(d1, B * k).astype(np.float32)
        self.passes += B / self.shape[1]
        value = np.zeros(B)
        total = np.zeros((d1, B * k))
        for rows, Z, y in self:
            S = (A.T @ Z.T).T
            for i, b in enumerate(which):
                own = S[:, i * k : (i + 1) * k]
                values, U = self.loss(own, y)
                value[i] += float(values @ self.weights[rows, b])
                np.multiply(U, self.weights[rows, b, None], out=own)
            total += Z.T @ S
        gradient = total.reshape(d1, B, k)
        gradient += 2 * alpha * self.penalty[:, None, None] * params
        value += alpha * np.einsum("dbk,d,dbk->b", params, self.penalty, params)
        gap = self._squares(gradient) / (4 * alpha)
        if self.fit_intercept:  # what balancing the dual point takes, or nearly so
            need = (np.maximum(gradient[-1], 0) / self.masses[which]).max(axis=1)
            gap += UNBALANCED * need * value
        return Values(value, gap, gradient)

    def _squares(self, gradient: np.ndarray) -> np.ndarray:
        """Squared norm (B,) of gradients in W, given in V."""
        scale = self.variables.factor
        inverse = np.divide(1, scale, out=np.zeros_like(scale), where=scale > 0)
        g = gradient[: len(scale)] * inverse[:, None, None]
        return np.einsum("dbk,dbk->b", g, g)

    def preconditioner(
        self, params: np.ndarray, alpha: float, rng: np.random.RandomState
    ) -> np.ndarray:
        """Inverses (k, d1, d1) of the mean Hessian's diagonal blocks, one a class."""
        d1, B, k = self.shape
        n = len(self.data.y)
        A = params.reshape(d1, B * k).astype(np.float32)
        importance = np.zeros((n, k), np.float32, order="F")
        for rows, Z, y in self:
            S = (A.T @ Z.T).T
            for b in range(B):
                part = self.loss.diagonal(S[:, b * k : (b + 1) * k], y)
                part *= (self.weights[rows, b] / B)[:, None]
                importance[rows] += part
        inverse = np.empty((k, d1, d1), np.float32)
        count = max(ROWS_A_BLOCK * d1, FEWEST_SAMPLED)
        for j in range(k):
            chance = chances(importance[:, j], count)
            some = np.flatnonzero(rng.random_sample(n) < chance)
            part = self._features(self.data.X[some])
            self.data.tally.rows += len(some)
            part *= np.sqrt(importance[some, j] / chance[some])[:, None]
            H = (part.T @ part).astype(np.float64)
            H.flat[:: d1 + 1] += 2 * alpha * self.penalty
            inverse[j] = inverse_of(H, 0.0, np.dtype(np.float32))
        return inverse


class Descent:
    """L-BFGS (Liu and Nocedal 1989) on all problems of a batch at once.

    Kept from one alpha to the next, with its preconditioner.
    """

    def __init__(self, batch: Batch, params: np.ndarray):
        self.batch, self.params = batch, params
        self.rng = np.random.RandomState(0)
        self.inverse = np.empty(0)  # (k, d1, d1)

    def run(self, alpha: float, tol: float) -> np.ndarray:
        """Descend at one alpha; which problems (B,) seem to have reached ``tol``."""
        batch, pairs = self.batch, list[Any]()
        self._precondition(self.params, alpha)
        x, at = self.params, batch.evaluate(self.params, alpha)
        stuck = np.zeros(batch.shape[1], dtype=bool)
        for iteration in range(1, PATIENCE + 1):
            done = at.gap <= tol * at.value
            active = np.flatnonzero(~(done | stuck))
            if not len(active):
                break
            step = -self._direction(at.gradient, pairs)
            step[:, done | stuck] = 0
            moved, then, failed = self._step(x, at, step, alpha, active)
            stuck[failed] = True
            pairs = [*pairs, (moved - x, then.gradient - at.gradient)][-MEMORY:]
            x, at = moved, then
            if iteration % RENEWAL == 0 and self._precondition(x, alpha):
                pairs = []
        self.params = x
        return at.gap <= tol * at.value

    def _precondition(self, params: np.ndarray, alpha: float) -> bool:
        """Build the preconditioner anew if passes have cost as much since the last."""
        (d1, B, k), n = self.batch.shape, len(self.batch.data.y)
        build = 2.0 * k * d1**2 * (max(ROWS_A_BLOCK * d1, FEWEST_SAMPLED) + d1)
        if len(self.inverse) and self.batch.passes * 4.0 * n * d1 * B * k < build:
            return False
        self.inverse = self.batch.preconditioner(params, alpha, self.rng)
        self.batch.passes = 0.0
        return True

    def _direction(self, gradient: np.ndarray, pairs: list[Any]) -> np.ndarray:
        """The product of the inverse Hessian's estimate with the gradient."""
        q, used = gradient.copy(), []
        for s, y in reversed(pairs):
            curvature = _dot(s, y)
            rho = np.divide(
                1, curvature, out=np.zeros(len(curvature)), where=curvature > 0
            )
            a = rho * _dot(s, q)
            q -= a[:, None] * y
            used.append((s, y, rho, a))
        columns = q.transpose(2, 0, 1).astype(np.float32)  # (k, d1, B)
        r = (self.inverse @ columns).transpose(1, 2, 0).astype(np.float64)
        r -= r.mean(axis=2, keepdims=True)
        for s, y, rho, a in reversed(used):
            r += (a - rho * _dot(y, r))[:, None] * s
        return r

    def _step(
        self,
        x: np.ndarray,
        at: Values,
        step: np.ndarray,
        alpha: float,
        active: np.ndarray,
    ) -> tuple[np.ndarray, Values, np.ndarray]:
        """The next points, each with a sufficient decrease (Armijo 1966), and where
        there is none."""
        slope = _dot(at.gradient, step)
        t, moved, then = np.ones(len(slope)), x.copy(), at
        for _ in range(TRIALS):
            moved[:, active] = x[:, active] + t[active, None] * step[:, active]
            now = self.batch.evaluate(moved[:, active], alpha, active)
            then = _merged(then, now, active)
            enough = at.value + 1e-4 * t * slope + ROUNDING * np.abs(at.value)
            active = active[~(then.value[active] <= enough[active])]
            if not len(active):
                break
            t[active] *= 0.35
        if len(active):
            moved[:, active] = x[:, active]
            then = _merged(then, Values(*(_some(part, active) for part in at)), active)
        return moved, then, active


def _dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Inner products (B,)."""
    return np.einsum("dbk,dbk->b", a, b)


def _some(part: np.ndarray, which: np.ndarray) -> np.ndarray:
    return part[which] if part.ndim == 1 else part[:, which]


def _merged(at: Values, some: Values, which: np.ndarray) -> Values:
    """Values with those of some problems replaced."""
    parts = []
    for old, new in zip(at, some, strict=True):
        part = old.copy()
        if part.ndim == 1:
            part[which] = new
        else:
            part[:, which] = new
        parts.append(part)
    return Values(*parts)
