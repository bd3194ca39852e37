"""The dual point that is held, what it proves, and the intercept that it implies."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from sklinear._data import Data
from sklinear._duality import balancing_point, dual_value
from sklinear._losses import CrossEntropy, Hinge, SquaredHinge
from sklinear._objective import Objective
from sklinear._solvers._frame import SPLIT
from sklinear._solvers._solution import Multipliers

DAMPING = 30.0  # of the intercept, in units of alpha / (mean squared norm of the rows)
CHUNK = 2**22  # products between looks at the keyboard, and numbers of dense rows
OFF_CENTRE = 100.0  # squared distance of the mean from 0, in units of the rows' from
# it, beyond which float32 scores are too inexact for steps as long as the spread allows
REACH = 0.1  # of a move that settles the intercept, in units of a score
PULL = 2.0  # of an anchor, in units of alpha
LISTED = 32  # multipliers of a row above 0 that are kept in mind, at most
WIDTHS = (1.0, 0.1, 0.01)  # at which a warm start's margins are rounded


class DualPoint:
    """Dual variables of the rows, as the compiled loops want them, and what they prove.

    W is held near an ``anchor``, if there is one.
    """

    def __init__(
        self,
        data: Data,
        objective: Objective,
        start: tuple[np.ndarray, np.ndarray],
        multipliers: Multipliers | None = None,
    ):
        from sklinear._solvers import _dual_kernels as kernels
        from sklinear._solvers import _dual_moves
        from sklinear._solvers._dual_vectors import padded

        (n, d), k = data.X.shape, data.n_classes
        self.kernels, self.moves = kernels, _dual_moves
        self.data, self.objective = data, objective
        kinds = {CrossEntropy: 0, Hinge: 1, SquaredHinge: 2}
        self.power = kinds[type(objective.loss)]
        self.mean = objective.variables.mean
        self.counted = np.flatnonzero(data.weights)
        X = data.X
        squares, shifts = np.zeros(n), np.zeros(n)
        csr = np.zeros(0), np.zeros(0, np.uint32), np.zeros(0, np.int64)
        if data.sparse:
            indices = X.indices.astype(np.int32, copy=False).view(np.uint32)
            csr = X.data, indices, X.indptr.astype(np.int64, copy=False)
            squares, shifts = kernels.norms(*csr, self.mean)
            off_centre = float((self.mean**2).sum())
            if off_centre > OFF_CENTRE * float(data.weights @ squares):
                csr = X.data.astype(np.float64, copy=False), *csr[1:]
        else:
            for block in data:
                centred = np.subtract(block.X, self.mean, dtype=np.float64)
                squares[block.rows] = np.square(centred).sum(axis=1)
        centre = float((self.mean**2).sum()) if data.sparse else 0.0
        typical = float((data.weights * squares).sum()) or 1.0
        alpha = objective.alpha
        self.scales = kernels.Scales(
            1 / (2 * alpha),
            typical / (2 * DAMPING * alpha) if objective.fit_intercept else 0.0,
            centre,
        )
        self.rows = kernels.Rows(
            *csr,
            data.y.astype(np.int64, copy=False),
            data.weights,
            squares,
            shifts,
        )
        V = np.zeros((d, padded(k)), csr[0].dtype)
        self.state = kernels.State(np.zeros((n, k)), V, *np.zeros((3, k)))
        self.lists = kernels.Lists(
            np.zeros((n, min(k, LISTED)), np.uint32), np.full(n, -1, np.int32)
        )
        self.anchor: Any = None
        self.proven: Any = None  # the dual variables of the last bound
        if multipliers is None:
            self._start(*start)
        else:
            self._resume(multipliers)

    def _start(self, W: np.ndarray, b: np.ndarray) -> None:
        """The best of zero and the score gradients at a point."""
        y, warm = self.data.y, W.any()
        A, b_ref = self.state.A, self.state.b_ref
        if self.objective.fit_intercept:
            b_ref[:] = b + (self.mean @ W if warm else 0)
            b_ref -= b_ref.mean()
        if self.power == 0:
            A[np.arange(len(y)), y] = 1
            if self.objective.fit_intercept and not warm:
                b_ref[:] = np.log(self.data.class_masses)
        if not warm:
            return
        loss = self.objective.loss
        losses = [loss]
        if isinstance(loss, Hinge):
            losses = [Hinge(loss.delta, width=width) for width in WIDTHS]
        best = 0.0
        params = self.objective.join(W, b)
        for candidate in losses:
            objective = self.objective.replace(loss=candidate)
            scores = objective.push(params)
            U = [
                candidate(s, block.y)[1]
                for s, block in zip(scores, objective.data, strict=True)
            ]
            at = objective.evaluate(params, conjugate=True)
            value = dual_value(objective, at)
            if value > best:
                best = value
                A[:] = np.vstack(U)
                A[np.arange(len(y)), y] = 0
                if self.power == 0:
                    A[np.arange(len(y)), y] = 1 - A.sum(axis=1)
        if best > 0:
            self.rebuild()
            # where the proximal term alone would leave the intercept
            b_ref += self.state.r * self.scales.intercept

    def _resume(self, last: Multipliers) -> None:
        """Those of a stronger penalty, scaled so that W is what it was."""
        A, y = self.state.A, self.data.y
        np.multiply(last.A, self.objective.alpha / last.alpha, out=A)
        if self.power == 0:
            own = np.arange(len(y)), y
            A[own] = 0
            A[own] = np.maximum(1 - A.sum(axis=1), 0)
        self.state.b_ref[:] = last.intercept
        self.rebuild()

    def rebuild(self) -> None:
        """V, r and g from the dual variables."""
        state = self.state
        state.V[:] = 0 if self.anchor is None else PULL / (1 + PULL) * self.anchor
        state.r[:] = 0
        for rows, part in self._chunks(self.counted):
            self.kernels.pull(rows, state, self.scales, part, not self.data.sparse)
        if self.data.sparse:
            k = len(state.g)
            state.g[:] = self.kernels.moments(state.V, self.mean)[0][:k]

    def intercept(self) -> np.ndarray:
        """That of centred features (k,)."""
        return self.state.b_ref - self.state.r * self.scales.intercept

    def params(self) -> tuple[np.ndarray, np.ndarray]:
        """W and b of the dual point held."""
        W = self._coef()
        return W, self.intercept() - self.kernels.moments(W, self.mean)[0]

    def evaluated(self) -> float:
        """The objective at the dual point held."""
        loss, _ = self._surveyed(self.state._replace(b_ref=self.intercept()))
        return loss + self.objective.alpha * self._square(self.state.V)

    def certified(self) -> tuple[np.ndarray, np.ndarray, float, float]:
        """W and b of the dual point held, the objective there, and a lower bound.

        The bound is that of a point nearby where the intercept's gradient vanishes; r,
        and V if it is in float64, are left at it, until they are rebuilt. All is summed
        up in float64: else what float32 sums have lost could raise the bound.
        """
        held, objective = (self.rows, self.state), self.objective
        pulled = self.scales, self.anchor
        rows, state = held[0].data.astype(float, copy=False), held[1]
        state.b_ref[:] -= state.r * self.scales.intercept
        self.rows = held[0]._replace(data=rows)
        self.state = state._replace(V=state.V.astype(float, copy=False))
        near, residual = self.state, state.r
        if objective.fit_intercept:
            A, residual = self._settled()
            near = near._replace(A=A)
        loss, conjugate = self._surveyed(near)
        W = self._coef()
        centre, square = self.kernels.moments(W, self.mean)
        b = state.b_ref - centre
        primal = loss + objective.alpha * square
        if objective.fit_intercept:
            masses = self.data.class_masses
            t, kept, G = balancing_point(residual, masses)
            cost = objective.loss.conjugate(G, np.arange(len(masses))) @ masses
            conjugate = kept * conjugate + t * float(cost)
            np.fill_diagonal(G, G.diagonal() + 1 if self.power == 0 else 0)
            self.moves.mix(near.A, self.data.y, t, kept, G)
        self.proven, self.state, self.anchor = near.A, near, None
        self.scales = self.scales._replace(coef=1 / (2 * objective.alpha))
        self.rebuild()
        penalty = objective.alpha * self.kernels.moments(near.V, self.mean)[1]
        self.rows, self.state = held
        self.scales, self.anchor = pulled
        return W, b, primal, max(-conjugate - penalty, 0.0)

    def _coef(self) -> np.ndarray:
        """W."""
        along = self.state.r * self.scales.coef * self.data.sparse
        return self.kernels.coefficients(self.state.V, self.mean, along)

    def _square(self, V: np.ndarray) -> float:
        """||W||^2 of V, without W."""
        r = self.state.r * self.scales.coef * self.data.sparse
        g, square = self.kernels.moments(V, self.mean)
        return float(square + (r * (2 * g[: len(r)] + self.scales.mean * r)).sum())

    def _surveyed(self, state: Any) -> tuple[float, float]:
        """Sums of the losses and of the conjugates."""
        loss = conjugate = 0.0
        for rows, part in self._chunks(self.counted):
            args = rows, state, self.scales, part, not self.data.sparse, self.power
            v, c = self.kernels.survey(*args)
            loss, conjugate = loss + v, conjugate + c
        return loss, conjugate

    def _settled(self) -> tuple[np.ndarray, np.ndarray]:
        """Dual variables (n, k) near those held, and their 1' U, which nearly vanishes.

        They move along the loss's leeway, as for the certificate, whose cost is of the
        order of the square of 1' U.
        """
        A, y, weights = self.state.A.copy(), self.data.y, self.data.weights
        edges = self.moves.edges(A, y, weights, self.power, REACH)
        edges += edges.T
        laplacian = np.diag(edges.sum(axis=1)) - edges
        v = -np.linalg.lstsq(laplacian, self.state.r, rcond=SPLIT)[0]
        if np.ptp(v) >= REACH:
            v[:] = 0
        by_class = self.moves.move(A, y, weights, self.power, REACH, v)
        return A, by_class.sum(axis=0)

    def _chunks(self, order: np.ndarray) -> Iterator[tuple[Any, np.ndarray]]:
        """Rows in order, a chunk at a time; dense ones are centred copies."""
        (n, d), k = self.data.X.shape, self.data.n_classes
        if self.data.sparse:
            step = max(1, CHUNK * 8 * n // max(1, k * len(self.rows.data)))
            for first in range(0, len(order), step):
                yield self.rows, order[first : first + step]
            return
        step = max(1, min(CHUNK // (k * d), 2**16 // d))
        indices = np.tile(np.arange(d, dtype=np.uint32), min(step, len(order)))
        indptr = d * np.arange(step + 1)
        for first in range(0, len(order), step):
            part = order[first : first + step]
            X = np.subtract(self.data.X[part], self.mean, dtype=np.float64)
            yield (
                self.rows._replace(data=X.ravel(), indices=indices, indptr=indptr),
                part,
            )
