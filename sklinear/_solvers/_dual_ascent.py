"""The dual point that coordinate ascent holds, and the intercept that it implies."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from sklinear._data import Data
from sklinear._duality import balancing_point, dual_value
from sklinear._losses import CrossEntropy, Hinge, SquaredHinge
from sklinear._objective import Objective
from sklinear._solvers import _dual_together
from sklinear._solvers._frame import SPLIT

DAMPING = 30.0  # of the intercept, in units of alpha / (mean squared norm of the rows)
CHUNK = 2**22  # products between looks at the keyboard, and numbers of dense rows
BALANCE = 0.3  # of the objective, what all of a balancing point costs, typically
MANY = 32  # classes beyond which hinges are worked on where they have a multiplier
RARE = 0.02  # of the multipliers above 0 that may be missing in such work, twice
LEFT_AT_WORK = 0.2  # the same for such work
LEFT = 0.3  # of the mean gap: what others leave out has less
FEW = 50  # rows, of which none is left out, and that alone do not move the intercept
OFF_CENTRE = 100.0  # squared distance of the mean from 0, in units of the rows' from
# it, beyond which float32 scores are too inexact for steps as long as the spread allows
NEARLY_ALL = 0.7  # of the rows' classes, beyond which such work leaves none out
DRIFT = 0.1  # of an intercept, beyond which they are looked at, in units of a score
STEP = 1.25  # by which the proximal term is weakened or strengthened
FALLING = 0.6  # of what the intercept's constraint was missed by an epoch before
REACH = 0.1  # of a move that settles the intercept, in units of a score
LEAST_SHARE = 0.1  # of an epoch, that one of few rows counts as
PULL = 2.0  # of an anchor, in units of alpha
TINY = float(np.finfo(float).tiny)  # objective that may be divided by
LISTED = 32  # multipliers of a row above 0 that are kept in mind, at most
WIDTHS = (1.0, 0.1, 0.01)  # at which a warm start's margins are rounded


class Ascent:
    """The dual point, the rows as the compiled loops want them, and the intercept."""

    def __init__(
        self,
        kernels: Any,
        data: Data,
        objective: Objective,
        start: tuple[np.ndarray, np.ndarray],
        twins: Any,
    ):
        from sklinear._solvers import _dual_moves, _dual_twins, _dual_work

        (n, d), k = data.X.shape, data.n_classes
        self.working, self.moves = _dual_work, _dual_moves
        self.settle, self.twins, self.turn = _dual_twins.settle, twins, 0
        self.kernels, self.data, self.objective = kernels, data, objective
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
        self.least = self.scales.intercept
        clear = _dual_twins.are_clear
        if twins and not clear(twins, data.weights, squares, self.scales.coef):
            self.twins = None
        self.rows = kernels.Rows(
            *csr,
            data.y.astype(np.int64, copy=False),
            data.weights,
            squares,
            shifts,
        )
        self.state = kernels.empty(n, d, k, csr[0].dtype)
        self.lists = kernels.Lists(
            np.zeros((n, min(k, LISTED)), np.uint32), np.full(n, -1, np.int32)
        )
        self.work: Any = None
        self.room: Any = None
        self.at_work, self.reused = False, 0
        self.works = self.power > 0 and data.sparse and k > MANY
        self.works &= k * len(csr[0]) < 2**32  # places are uint32
        # where W is drawn to, where it was before, and what that leaves of the gap
        self.anchor: Any = None
        self.before: Any = None
        self.excess = 0.0
        self.gap = self.gap_before = np.inf  # the last, and at the last anchor
        self.gaps, self.primal = np.zeros(n), np.inf
        products = 4.0 * k * (X.nnz if data.sparse else n * d)
        self.budget = _dual_together.Budget(self.power, products)
        self.share = 1.0  # of the rows that the last epoch visited
        self.missing = np.inf  # of the intercept's constraint
        self._start(*start)

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

    def rebuild(self) -> None:
        """V, r and g from the dual variables."""
        self._return()
        state = self.state
        state.V[:] = 0 if self.anchor is None else PULL / (1 + PULL) * self.anchor
        state.r[:] = 0
        for rows, part in self._chunks(self.counted):
            self.kernels.pull(rows, state, self.scales, part, not self.data.sparse)
        if self.data.sparse:
            k = len(state.g)
            state.g[:] = self.kernels.moments(state.V, self.mean)[0][:k]

    def epoch(self, rng: np.random.RandomState, whole: bool) -> float:
        """Visit the rows once, or those that matter; an estimate of the relative gap.

        A row's gap is what its loss and its conjugate differ by from the product of its
        scores and their gradient: what a visit could gain.
        """
        state, scales, packed = self.state, self.scales, not self.data.sparse
        kernels, rows = self.kernels, self.counted
        if self.works and not whole:
            state.b_ref[:] = self.intercept()
            return (self._work_on(rng) + self.excess) / self.primal
        self._return()
        if whole and self.twins is not None:
            y, weights = self.rows.y, self.rows.weights
            dual = state.A, y, weights, self.power, self.lists, self.turn
            self.settle(self.twins, *dual)
            self.turn += 1
        visit = kernels.softmax_epoch if self.power == 0 else kernels.hinge_epoch
        more = (self.lists,) if self.power else ()
        if not whole and len(rows) > FEW:
            rows = rows[self.gaps[rows] > LEFT * self.gaps[rows].mean()]
        # what few of many rows do takes long to bring 1' U back to 0
        if len(rows) > FEW or len(rows) == len(self.counted):
            state.b_ref[:] = self.intercept()
        self._visits(len(rows))
        loss = 0.0
        for part_rows, part in self._chunks(rng.permutation(rows)):
            args = part_rows, state, scales, part, packed, self.power, self.gaps
            loss += visit(*args, *more)
        if whole:
            primal = loss + self.objective.alpha * self._square(state.V)
            self.primal = max(primal, TINY)
        if self.anchor is not None:
            square = self._square(state.V - self.anchor)
            self.excess = self.objective.alpha * PULL**2 * square
        self.gap = (float(self.gaps.sum()) + self.excess) / self.primal
        return self.gap

    @np.errstate(over="ignore", invalid="ignore")
    def settle_outstanding(self, late: bool) -> None:
        """Solve for the few rows that hold most of the gap, if epochs are slow."""
        self._return()
        state, scales, k = self.state, self.scales, self.data.n_classes
        size = self.budget.next_size(self.gap, state.A, late)
        rows = _dual_together.outstanding(self.gaps, state.A, self.power, size)
        if not len(rows):
            return
        shifts, X = self.rows.shifts[rows], self.data.X[rows]
        places: Any = slice(None)
        if self.data.sparse:
            places = np.unique(X.indices)
            X = X[:, places].astype(float)
            products = (X @ X.T).toarray()
        else:
            X = np.subtract(X, self.mean, dtype=np.float64)
            products = X @ X.T
        products += scales.mean - shifts - shifts[:, None]
        tilt = (shifts - scales.mean) * scales.coef - scales.intercept
        scores = X @ state.V[places, :k] + state.b_ref - state.g
        scores += np.multiply.outer(tilt, state.r)
        few = _dual_together.KINDS[self.power](
            state.A[rows],
            self.rows.y[rows],
            self.rows.weights[rows],
            scores,
            scales.coef * products + scales.intercept,
            min(2 * size, _dual_together.MOST),
        )
        state.A[rows] = A = _dual_together.solved(few, self.budget.left)
        self.budget.left -= few.cost
        self.lists.counts[rows] = -1
        U = few.gradients(A) - few.U
        state.r[:] += U.sum(axis=0)
        state.g[:] -= scales.coef * (shifts @ U)
        state.V[places, :k] -= X.T @ (scales.coef * U)

    def advance(self) -> None:
        """To where the last steps lead, and from there on not far.

        Accelerated proximal steps (Lin, Mairal and Harchaoui 2015, "A universal
        catalyst for first-order optimization"): the penalty is alpha ||W||^2 + PULL
        alpha ||W - anchor||^2, whose dual is better conditioned. What epochs make of it
        becomes the next anchor, and is extrapolated first if the gap has fallen.
        """
        self._return()
        V, g = self.state.V, self.state.g
        if self.anchor is None:
            self.anchor, self.before = V.copy(), V.copy()
            self.state.b_ref[:] = self.intercept()
            coef, intercept, mean = self.scales
            stronger = 1 + PULL
            self.scales = type(self.scales)(coef / stronger, intercept / stronger, mean)
            self.least /= stronger
            self.work = None  # made with the scales as they were
            return
        root, part = math.sqrt(1 + PULL), PULL / (1 + PULL)
        further = (root - 1) / (root + 1) if self.gap < self.gap_before else 0.0
        self.gap_before = self.gap
        self.kernels.advance(V, self.before, self.anchor, further, part)
        if self.data.sparse:
            g[:] = self.kernels.moments(V, self.mean)[0][: len(g)]

    def _work_on(self, rng: np.random.RandomState) -> float:
        """Visit rows that matter, and of them the classes that do; the gaps' sum."""
        working, parts = self.working, (self.rows, self.state)
        if not self.at_work and self._is_as_it_was():
            working.refreshed(self.work, self.state, self.gaps)
            self.reused += 1
        elif not self.at_work:
            counts, size = working.counts_of(*parts, self.lists)
            if self.room is None or size > len(self.room.places):
                self.room = working.room_for(size, *parts)
            order = rng.permutation(self.counted)
            kept = order[counts[order] > 0]
            more = self.scales, self.lists, counts, kept, self.gaps
            self.work = working.gathered(self.room, *parts, *more)
            self.reused = 0
        self.at_work = True
        gaps = self.work.facts[:, working.GAP]
        left = LEFT_AT_WORK * gaps.mean()
        self._visits(int(np.count_nonzero(gaps > left)))
        args = self.state, self.scales, self.power, left
        return working.work_epoch(self.work, *args)

    def _visits(self, count: int) -> None:
        """Of so many rows, in the epoch that begins."""
        self.data.tally.add(count)
        self.budget.earn(count / len(self.counted))
        self.share = max(count / len(self.counted), LEAST_SHARE)

    def _is_as_it_was(self) -> bool:
        """Whether what was worked on last time is nearly what is to be now."""
        if self.work is None:
            return False
        missed, count = self.working.missed(self.work, self.state, self.lists)
        return missed == 0 or (missed < RARE * count and self.reused < 2)

    def _return(self) -> None:
        """What was worked on, back to where it belongs."""
        if self.at_work:
            self.working.returned(self.work, self.state, self.lists)
            self.at_work = False

    def take(self, other: Ascent) -> None:
        """Another's dual variables, of the same rows in other features."""
        other._return()
        self.state.A[:], self.state.b_ref[:] = other.state.A, other.state.b_ref
        self.scales = self.scales._replace(intercept=other.scales.intercept)
        self.rebuild()

    def unbalanced(self, tol: float) -> float:
        """What the intercept's constraint costs a proof, nearly.

        The proximal term is weakened where that is most of what is left to gain and
        does not fall by itself: not where classes without multipliers are left out,
        which could not follow. Where it is too weak the intercept follows each row,
        and epochs lead nowhere: it is strengthened where there is little to gain.
        """
        if not self.objective.fit_intercept:
            return 0.0
        cost = BALANCE * balancing_point(self.state.r, self.data.class_masses)[0]
        gap = max(float(self.gaps.sum()) / self.primal, tol)
        places = NEARLY_ALL * self.state.A.size
        followed = not self.at_work or len(self.work.classes) >= places
        missing, scale = float(np.abs(self.state.r).sum()), self.scales.intercept
        if cost > gap / 2 and followed and missing > FALLING * self.missing:
            self.scales = self.scales._replace(intercept=STEP * scale)
        elif cost < gap / 3:
            scale = max(scale / STEP, self.least)
            self.scales = self.scales._replace(intercept=scale)
        self.missing = missing
        return cost

    def intercept(self) -> np.ndarray:
        """That of centred features (k,)."""
        return self.state.b_ref - self.state.r * self.scales.intercept

    def drifted(self, since: np.ndarray) -> bool:
        """Whether the intercept is so far from where it was that margins which held
        then may not."""
        return bool(np.ptp(self.intercept() - since) > DRIFT)

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

    def certified(self) -> tuple[np.ndarray, np.ndarray, float, float]:
        """W and b of the dual point held, the objective there, and a lower bound.

        The bound is that of a point nearby where the intercept's gradient vanishes; r,
        and V if it is in float64, are left at it, until they are rebuilt. All is summed
        up in float64: else what float32 sums have lost could raise the bound.
        """
        self._return()
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

    def evaluated(self) -> float:
        """The objective at the dual point held."""
        loss, _ = self._surveyed(self.state._replace(b_ref=self.intercept()))
        return loss + self.objective.alpha * self._square(self.state.V)

    def params(self) -> tuple[np.ndarray, np.ndarray]:
        """W and b of the dual point held."""
        W = self._coef()
        return W, self.intercept() - self.kernels.moments(W, self.mean)[0]

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
