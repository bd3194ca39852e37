"""The best point of the span of a few directions, at the price of their scores.

Sequential subspace optimisation (Narkiss and Zibulevsky 2005), each class with its own
coefficients: between two passes over X the objective is minimised over the scores (n,
k) of the present point, of the last moves and of a preconditioned gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from sklinear._data import Data
from sklinear._losses import Loss
from sklinear._objective import scores_of

MEMORY = 5  # last moves that stay in the span, fewer where rows are short
NEWTON_STEPS, CG_STEPS = 2, 10  # of one search
HESSIAN_ROWS = 4096  # that curvature is estimated from, at least


@dataclass
class Span:
    """A point, its scores, and the moves that led there."""

    data: Data
    alpha: float
    fit_intercept: bool
    W: np.ndarray  # (d, k)
    b: np.ndarray  # (k,)
    scores: np.ndarray  # (n, k), without b
    moves: list[tuple[np.ndarray, np.ndarray]] = field(default_factory=list)

    @property
    def memory(self) -> int:
        """How many moves cost less than a pass over X."""
        X = self.data.X
        length = X.nnz // X.shape[0] if self.data.sparse else X.shape[1]
        return min(max(length // 4, 1), MEMORY)

    def go(self, W: np.ndarray, b: np.ndarray) -> None:
        """To a point that somebody else has found."""
        scores = forward(self.data, W)
        self._remember(W - self.W, scores - self.scores)
        self.W, self.b, self.scores = W, b, scores

    def _remember(self, move: np.ndarray, change: np.ndarray) -> None:
        """Unless it is so short that rounding would have a large part in it."""
        least = np.finfo(change.dtype).eps * self._square(self.scores)
        if self._square(change) > least:
            self.moves = [*self.moves, (move, change)][-self.memory :]

    def _square(self, scores: np.ndarray) -> float:
        """Of a typical row."""
        return float(self.data.weights @ np.einsum("ij,ij->i", scores, scores))

    def value(self, loss: Loss) -> float:
        """The objective at the point."""
        values = loss(self.scores + self.b, self.data.y)[0]
        penalty = self.alpha * float(np.vdot(self.W, self.W))
        return float(values @ self.data.weights) + penalty

    def gradient(self, loss: Loss) -> tuple[np.ndarray, np.ndarray]:
        """In W (d, k) and in b (k,)."""
        data = self.data
        U = loss(self.scores + self.b, data.y)[1]
        U *= data.weights.astype(U.dtype)[:, None]
        pulled = sum(block.X.T @ U[block.rows] for block in data)
        return pulled + 2 * self.alpha * self.W, U.sum(axis=0)

    def descend(
        self,
        loss: Loss,
        precondition: Callable[[np.ndarray, np.ndarray], np.ndarray],
        searches: int,
        tol: float,
    ) -> None:
        """Searches, each but the first with a new gradient, as long as they pay."""
        start, value = (self.W, self.b, self.scores), self.value(loss)
        for search in range(searches):
            direction = precondition(*self.gradient(loss)) if search else None
            if self.search(loss, direction) < tol and search:
                break
        self.scores = forward(self.data, self.W)  # searches only update them
        if not self.value(loss) <= value:  # rounding, of coefficients too large
            (self.W, self.b, self.scores), self.moves = start, []

    def search(self, loss: Loss, direction: np.ndarray | None = None) -> float:
        """To the best combination of point, moves and direction (d, k).

        Returns the relative decrease of the objective.
        """
        parts = [(self.W, self.scores), *self.moves]
        if direction is not None:
            parts.append((direction, forward(self.data, direction)))
        problem = _Problem(self, loss, parts)
        z, decrease = problem.minimise(self.b)  # what is too far is refused
        dtype = self.W.dtype
        moved = z[: len(parts)].copy()
        moved[0] -= 1
        move, change = np.zeros_like(self.W), np.zeros_like(self.scores)
        for c, (part, scores) in zip(moved.astype(dtype), parts, strict=True):
            move += c * part
            change += c * scores
        for part in (move, change):  # what all classes share is only penalised
            part -= part.mean(axis=1, keepdims=True)
        self._remember(move, change)
        self.W, self.scores = self.W + move, self.scores + change
        if self.fit_intercept:
            self.b = (z[-1] - z[-1].mean()).astype(dtype)
        return decrease


class _Problem:
    """P of the coefficients z (p, k) of parts and intercept."""

    def __init__(
        self, span: Span, loss: Loss, parts: list[tuple[np.ndarray, np.ndarray]]
    ):
        data = span.data
        n, k = span.scores.shape
        self.loss, self.y, self.alpha = loss, data.y, span.alpha
        self.weights = data.weights.astype(span.scores.dtype)
        p = len(parts) + span.fit_intercept
        self.features = np.ones((k, n, p), span.scores.dtype)
        for a, (_, scores) in enumerate(parts):
            self.features[:, :, a] = scores.T
        self.gram = np.zeros((k, p, p))
        for a, (one, _) in enumerate(parts):
            for c, (other, _) in enumerate(parts[: a + 1]):
                products = np.einsum("dj,dj->j", one, other)
                self.gram[:, a, c] = self.gram[:, c, a] = products
        self.thin = slice(None, None, max(1, n // HESSIAN_ROWS))
        self.few = np.ascontiguousarray(self.features[:, self.thin])
        self.fit_intercept = span.fit_intercept

    def minimise(self, b: np.ndarray) -> tuple[np.ndarray, float]:
        """z, from the present point on, and the relative decrease."""
        k, _, p = self.features.shape
        z = np.zeros((p, k))
        z[0] = 1
        if self.fit_intercept:
            z[-1] = b
        scores = _push(self.features, z)
        value, U = self.evaluate(scores, z)
        start = value
        for _ in range(NEWTON_STEPS):
            gradient = self.pull(self.features, U, z)
            step = self.newton_step(scores, gradient)
            slope, t = float(np.vdot(gradient, step)), 1.0
            change = _push(self.features, step)
            while slope < 0 and t > 1e-4:
                there = scores + scores.dtype.type(t) * change
                new_value, new_U = self.evaluate(there, z + t * step)
                if new_value <= value + 0.1 * t * slope:
                    break
                t /= 3
            else:
                break
            z, scores, U = z + t * step, there, new_U
            value = new_value
        return z, (start - value) / start if start > 0 else 0.0

    def evaluate(self, scores: np.ndarray, z: np.ndarray) -> tuple[float, np.ndarray]:
        """Value and weighted score gradient."""
        values, U = self.loss(scores, self.y)
        U *= self.weights[:, None]
        penalty = self.alpha * float(np.einsum("aj,jac,cj", z, self.gram, z))
        return float(values @ self.weights) + penalty, U

    def pull(self, features: np.ndarray, U: np.ndarray, z: np.ndarray) -> np.ndarray:
        """Derivative in z of data and penalty, (p, k)."""
        pulled = (U.T[:, None, :] @ features)[:, 0].T
        return pulled + 2 * self.alpha * np.einsum("jac,cj->aj", self.gram, z)

    def newton_step(self, scores: np.ndarray, gradient: np.ndarray) -> np.ndarray:
        """Conjugate gradients, preconditioned by the classes' own blocks."""
        loss, y = self.loss.rows(self.thin), self.y[self.thin]
        scores = scores[self.thin]
        weights = self.weights[self.thin]
        weights = weights / max(weights.sum(), np.finfo(float).tiny)
        hessian = loss.hessian(scores, y, weights)
        blocks = 2 * self.alpha * self.gram
        for j, own in enumerate((loss.diagonal(scores, y) * weights[:, None]).T):
            rows = np.flatnonzero(own)
            some = self.few[j][rows]
            blocks[j] += some.T @ (own[rows, None] * some)
        diagonal = np.einsum("jaa->ja", blocks)
        if not np.isfinite(diagonal).all():  # of scores too large to be squared
            return np.zeros_like(gradient)
        scale = np.divide(
            1,
            np.sqrt(diagonal),
            out=np.zeros_like(diagonal),
            where=diagonal > np.finfo(diagonal.dtype).tiny,
        )
        blocks *= scale[:, :, None] * scale[:, None, :]
        # parts may be parallel: what they do not tell apart is left alone
        squares, axes = np.linalg.eigh(blocks)
        kept = squares > np.sqrt(np.finfo(self.few.dtype).eps)
        axes *= scale[:, :, None]
        inverses = np.divide(1, squares, out=np.zeros_like(squares), where=kept)
        inverse = (axes * inverses[:, None]) @ axes.transpose(0, 2, 1)

        def precondition(r: np.ndarray) -> np.ndarray:
            return (inverse @ r.T[:, :, None])[:, :, 0].T

        r = -gradient
        s = precondition(r)
        step, q, rs = np.zeros_like(r), s, float(np.vdot(r, s))
        first = rs
        for _ in range(CG_STEPS):
            Hq = self.pull(self.few, hessian(_push(self.few, q)), q)
            bend = float(np.vdot(q, Hq))
            if not bend > 0:
                break
            step += rs / bend * q
            r = r - rs / bend * Hq
            s = precondition(r)
            rs, last = float(np.vdot(r, s)), rs
            if not rs > 1e-2 * first:
                break
            q = s + rs / last * q
        return step


def _push(features: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Scores (n, k) of z (p, k), contiguous columns."""
    return (features @ z.T.astype(features.dtype)[:, :, None])[:, :, 0].T


def forward(data: Data, W: np.ndarray) -> np.ndarray:
    """X W (n, k), contiguous columns."""
    scores = np.empty((len(data.y), W.shape[1]), data.dtype, order="F")
    for block in data:
        scores[block.rows] = scores_of(block.X, W, np.zeros(W.shape[1], W.dtype))
    return scores
