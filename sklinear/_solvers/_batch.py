"""Several problems on the same rows at once: folds are weights, and 0 leaves a row out.

All problems go through X together, as one matrix product, and share one preconditioner:
the curvature of folds that have most rows in common is nearly the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from sklinear._data import BLOCK_SCORES, BLOCK_VALUES, FEWEST_ROWS, Data
from sklinear._duality import balanced
from sklinear._losses import Loss
from sklinear._solvers._curvature import chances
from sklinear._solvers._preconditioner import FEWEST_ROWS as FEWEST_SAMPLED
from sklinear._solvers._preconditioner import ROWS_A_BLOCK, inverse_of
from sklinear._variables import Variables

MEMORY = 8  # pairs of steps and gradients that L-BFGS keeps
TRIALS = 10  # of a step's length
ROUNDING = 2e-6  # relative, of an objective in float32
ROUGHLY = 1e-5  # gap that is as good as float32 knows it
# Part of the objective below which little is gained, and the least gap wanted for it.
SLIGHT, LEAST = 0.25, 1e-9
# Bytes that features and preconditioner may take: a part of X's, or what is little.
KEPT, LITTLE = 0.55, 2**24
# The same of what each problem takes, but for a few.
SHARED, SCANT, FEWEST_PROBLEMS = 0.25, 2**22, 5
RENEWAL = 12  # iterations after which the preconditioner is built anew
PATIENCE = 30  # passes at one alpha, after which problems go on alone
# Of what float32 cannot hold, steps are refused, and problems go on alone.
FINITE_LATER = np.errstate(over="ignore", invalid="ignore")


class Values(NamedTuple):
    """What one pass tells of each problem."""

    value: np.ndarray  # (B,)
    gradient: np.ndarray  # (d1, B, k)


def most_together(data: Data) -> int:
    """How many problems may go together before they take much beside X.

    Each has weights, in float64 and float32, a block's scores, and pairs of params.
    """
    n, k = len(data.y), data.n_classes
    params = (min(data.shape) + 1) * k
    each = 12 * n + 8 * min(n * k, BLOCK_SCORES) + 8 * (2 * MEMORY + 4) * params
    return max(int(max(SHARED * data.X.nbytes, SCANT) // each), FEWEST_PROBLEMS)


class Batch:
    """B problems of one loss, whose parts have other weights: params (d + 1, B, k).

    In ``variables``, with the intercept's row last where there is one. Computed in
    float32: it is the start of fits that are proven in float64, one by one.
    """

    def __init__(
        self,
        data: Data,
        loss: Loss,
        parts: list[Data],
        fit_intercept: bool,
        variables: Variables,
    ):
        self.data, self.fit_intercept, self.variables = data, fit_intercept, variables
        self.parts = parts
        single = [part.weights.astype(np.float32) for part in parts]
        self.weights = np.stack(single, axis=1)
        self.loss = loss
        self.passes = 0.0  # over all rows for all problems
        scale = variables.factor
        self.penalty = np.append(scale**2, [0.0] * fit_intercept)  # of each row of V
        self.shape = len(self.penalty), len(parts), data.n_classes
        # half of a float64 X at most, and less where the preconditioner is large; the
        # rest, and X of another dtype, is cast a block at a time
        self._kept: list[np.ndarray] = []
        room = max(KEPT * data.X.nbytes, LITTLE)
        room -= 4 * data.n_classes * self.shape[0] ** 2
        if data.X.dtype == np.float64:
            step = 4 * self.shape[0] * self._step
            cuts = self._cuts()[: max(int(room // step), 0)]
            self._kept = [self._features(data.X[rows]) for rows in cuts]

    @property
    def _step(self) -> int:
        """Rows of a block whose scores fit the cache."""
        d = self.data.X.shape[1]
        step = min(BLOCK_SCORES // self.data.n_classes, BLOCK_VALUES // (4 * d))
        return max(FEWEST_ROWS, step)

    def _cuts(self) -> list[slice]:
        """Rows of the blocks."""
        n, step = len(self.data.y), self._step
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
            kept = i < len(self._kept)
            Z = self._kept[i] if kept else self._features(self.data.X[rows])
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
        return Values(value, gradient)

    def at_another(
        self, params: np.ndarray, at: Values, alpha: float, then: float
    ) -> Values:
        """What was found at one alpha, at another one."""
        steeper = 2 * (then - alpha) * self.penalty[:, None, None] * params
        return Values(at.value + _dot(params, steeper) / 2, at.gradient + steeper)

    def are_near(
        self, params: np.ndarray, at: Values, alpha: float, tols: np.ndarray
    ) -> np.ndarray:
        """Which problems (B,) seem to be as near to the optimum as ``tols`` (B,).

        The certificate's own bound, from what one pass in float32 tells: the conjugate
        is <U, S> less the loss where U is the loss's gradient.
        """
        d, near = len(self.variables.factor), np.zeros(self.shape[1], dtype=bool)
        scale = self.variables.factor[:, None]
        inverse = np.divide(1, scale, out=np.zeros_like(scale), where=scale > 0)
        for b, part in enumerate(self.parts):
            slack, W = inverse * at.gradient[:d, b], scale * params[:d, b]
            enough = tols[b] * at.value[b]
            if not np.vdot(slack, slack) <= 4 * alpha * enough:
                continue
            pulled = slack - 2 * alpha * W
            t, kept, cost = 0.0, 1.0, 0.0
            conjugate = np.vdot(pulled, W) + alpha * np.vdot(W, W) - at.value[b]
            if self.fit_intercept:
                residual = at.gradient[d, b]
                conjugate += np.vdot(residual, params[d, b])
                args = part, self.loss, self.variables.mean, residual
                t, kept, cost, mixed = balanced(*args)
                pulled = kept * pulled + t * mixed
            dual = -kept * conjugate - t * cost
            dual -= np.vdot(pulled, pulled) / (4 * alpha)
            near[b] = at.value[b] - dual <= enough
        return near

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
        most, draw = max(ROWS_A_BLOCK * d1, FEWEST_SAMPLED), rng.random_sample(n)
        for j in range(k):
            chance = chances(importance[:, j], most)
            some = np.flatnonzero(draw < chance)
            self.data.tally.rows += len(some)
            H = np.zeros((d1, d1))
            for start in range(0, len(some), FEWEST_ROWS):
                few = some[start : start + FEWEST_ROWS]
                part = self._features(self.data.X[few])
                part *= np.sqrt(importance[few, j] / chance[few])[:, None]
                H += part.T @ part
            H.flat[:: d1 + 1] += 2 * alpha * self.penalty
            inverse[j] = inverse_of(H, 0.0, np.dtype(np.float32))
        return inverse


class JointDescent:
    """L-BFGS (Liu and Nocedal 1989) on all problems of a batch at once.

    From one alpha to the next it keeps its preconditioner, and starts further along the
    line from the last optimum but one to the last where that is lower.
    """

    def __init__(self, batch: Batch, params: np.ndarray, alpha: float):
        """From the classes' priors, at the strongest alpha."""
        self.batch, self.params, self.alpha = batch, params, alpha
        self.at = batch.evaluate(params, alpha)
        self.nothing = self.at.value.copy()  # (B,), of no coefficients
        self.past: tuple[np.ndarray, float] | None = None  # params and their alpha
        self.rng = np.random.RandomState(0)
        self.inverse = np.empty(0)  # (k, d1, d1)
        self.built = 0.0  # after so many passes

    @FINITE_LATER
    def wanted(self, tol: float) -> np.ndarray:
        """Gaps (B,) to come within, ``tol`` or less.

        A strong penalty lets problems gain little on no coefficients at all, and is
        about as much itself. The classes' scores hardly differ then, and are known as
        well as others only if the gap is as much smaller.
        """
        curved = self.batch.penalty[:, None, None] * self.params
        penalty = self.alpha * _dot(self.params, curved)
        gained = np.maximum(self.nothing - self.at.value, penalty)
        part = np.divide(gained, penalty, out=np.ones_like(gained), where=penalty > 0)
        less = tol * np.minimum(part * gained / (SLIGHT * self.nothing), 1)
        return np.maximum(less, min(tol, LEAST))

    @FINITE_LATER
    def run(self, alpha: float, tol: float, max_iter: int) -> np.ndarray:
        """Descend at one alpha; which problems (B,) seem to have reached ``tol``.

        Each takes a step: of alphas close together the last end may be near enough, and
        its score is not.
        """
        batch, pairs = self.batch, list[Any]()
        self._move_on(alpha)
        self._precondition(self.params, alpha)
        x, at = self.params, self.at
        near, stuck = np.zeros((2, batch.shape[1]), dtype=bool)
        start = batch.passes
        for iteration in range(1, max_iter + 1):
            over = near | stuck
            active = np.flatnonzero(~over)
            if not len(active) or batch.passes - start > PATIENCE:
                break
            step = -self._direction(at.gradient, pairs)
            step[:, over] = 0
            moved, then, failed = self._step(x, at, step, alpha, active)
            stuck[failed] = True
            pairs = [*pairs, (moved - x, then.gradient - at.gradient)][-MEMORY:]
            x, at = moved, then
            self.params, self.at = x, at
            near = batch.are_near(x, at, alpha, np.maximum(self.wanted(tol), ROUGHLY))
            if iteration % RENEWAL == 0 and self._precondition(x, alpha):
                pairs = []
        return batch.are_near(x, at, alpha, np.full_like(near, tol, dtype=float))

    @FINITE_LATER
    def correct(self, params: np.ndarray, which: int, last: bool) -> None:
        """A problem has a better point, and this may be the last that is asked."""
        here = np.array([which])
        self.params = self.params.copy()
        self.params[:, which] = params
        if last:
            return
        now = self.batch.evaluate(self.params[:, here], self.alpha, here)
        self.at = _merged(self.at, now, here)

    def _move_on(self, alpha: float) -> None:
        """To another alpha and, where it is lower, to where the last step leads."""
        batch, params, last = self.batch, self.params, self.alpha
        if alpha == last:
            return
        self.at = batch.at_another(params, self.at, last, alpha)
        if self.past is not None:
            before, first = self.past
            part = np.log(alpha / last) / np.log(last / first)
            ahead = params + part * (params - before)
            then = batch.evaluate(ahead, alpha)
            lower = np.flatnonzero(then.value < self.at.value)
            self.params = params.copy()
            self.params[:, lower] = ahead[:, lower]
            self.at = _merged(self.at, _some(then, lower), lower)
        self.past, self.alpha = (params, last), alpha

    def _precondition(self, params: np.ndarray, alpha: float) -> bool:
        """Build the preconditioner anew if passes have cost as much since the last."""
        (d1, B, k), n = self.batch.shape, len(self.batch.data.y)
        build = 2.0 * k * d1**2 * (max(ROWS_A_BLOCK * d1, FEWEST_SAMPLED) + d1)
        since = self.batch.passes - self.built
        if len(self.inverse) and since * 4.0 * n * d1 * B * k < build:
            return False
        self.inverse = np.empty(0)  # two of them would be too much memory
        self.inverse = self.batch.preconditioner(params, alpha, self.rng)
        self.built = self.batch.passes
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
            then = _merged(then, _some(at, active), active)
        return moved, then, active


def _dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Inner products (B,)."""
    return np.einsum("dbk,dbk->b", a, b)


def _some(at: Values, which: np.ndarray) -> Values:
    """Of some problems."""
    return Values(at.value[which], at.gradient[:, which])


def _merged(at: Values, some: Values, which: np.ndarray) -> Values:
    """Values with those of some problems replaced."""
    value, gradient = at.value.copy(), at.gradient.copy()
    value[which], gradient[:, which] = some
    return Values(value, gradient)
