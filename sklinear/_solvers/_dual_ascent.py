"""Epochs of dual coordinate ascent: which rows are visited, and what is done beside."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from sklinear._data import Data
from sklinear._duality import balancing_point
from sklinear._objective import Objective
from sklinear._solvers import _dual_together
from sklinear._solvers._dual_point import PULL, DualPoint
from sklinear._solvers._solution import Multipliers, Witness

BALANCE = 0.3  # of the objective, what all of a balancing point costs, typically
MANY = 32  # classes beyond which hinges are worked on where they have a multiplier
RARE = 0.02  # of the multipliers above 0 that may be missing in such work, twice
LEFT_AT_WORK = 0.2  # the same for such work
LEFT = 0.3  # of the mean gap: what others leave out has less
FEW = 50  # rows, of which none is left out, and that alone do not move the intercept
NEARLY_ALL = 0.7  # of the rows' classes, beyond which such work leaves none out
DRIFT = 0.1  # of an intercept, beyond which they are looked at, in units of a score
STEP = 1.25  # by which the proximal term is weakened or strengthened
FALLING = 0.6  # of what the intercept's constraint was missed by an epoch before
LEAST_SHARE = 0.1  # of an epoch, that one of few rows counts as
TINY = float(np.finfo(float).tiny)  # objective that may be divided by


class Ascent(DualPoint):
    """A dual point that epochs move, towards the optimum."""

    def __init__(
        self,
        data: Data,
        objective: Objective,
        start: tuple[np.ndarray, np.ndarray],
        twins: Any,
        multipliers: Multipliers | None = None,
    ):
        from sklinear._solvers import _dual_epochs, _dual_twins, _dual_work

        self.epochs, self.working = _dual_epochs, _dual_work
        self.work: Any = None
        self.room: Any = None
        self.at_work, self.reused = False, 0
        super().__init__(data, objective, start, multipliers)
        self.least = self.scales.intercept
        self.settle, self.twins, self.turn = _dual_twins.settle, twins, 0
        sizes = data.weights, self.rows.squares, self.scales.coef
        if twins and not _dual_twins.are_clear(twins, *sizes):
            self.twins = None
        numbers, k = len(self.rows.data), data.n_classes
        self.works = self.power > 0 and data.sparse and k > MANY
        self.works &= k * numbers < 2**32  # places are uint32
        # where W was before, and what the anchor leaves of the gap
        self.before: Any = None
        self.excess = 0.0
        self.gap = self.gap_before = np.inf  # the last, and at the last anchor
        self.gaps, self.primal = np.zeros(len(data.y)), np.inf
        products = 4.0 * k * (data.X.nnz if data.sparse else math.prod(data.shape))
        self.budget = _dual_together.Budget(self.power, products)
        self.share = 1.0  # of the rows that the last epoch visited
        self.missing = np.inf  # of the intercept's constraint

    def epoch(self, rng: np.random.RandomState, whole: bool) -> float:
        """Visit the rows once, or those that matter; an estimate of the relative gap.

        A row's gap is what its loss and its conjugate differ by from the product of its
        scores and their gradient: what a visit could gain.
        """
        state, scales, packed = self.state, self.scales, not self.data.sparse
        epochs, rows = self.epochs, self.counted
        if self.works and not whole:
            state.b_ref[:] = self.intercept()
            return (self._work_on(rng) + self.excess) / self.primal
        self._return()
        if whole and self.twins is not None:
            y, weights = self.rows.y, self.rows.weights
            dual = state.A, y, weights, self.power, self.lists, self.turn
            self.settle(self.twins, *dual)
            self.turn += 1
        visit = epochs.softmax_epoch if self.power == 0 else epochs.hinge_epoch
        more = (self.power, self.lists) if self.power else ()
        if not whole and len(rows) > FEW:
            rows = rows[self.gaps[rows] > LEFT * self.gaps[rows].mean()]
        # what few of many rows do takes long to bring 1' U back to 0
        if len(rows) > FEW or len(rows) == len(self.counted):
            state.b_ref[:] = self.intercept()
        self._visits(len(rows))
        loss = 0.0
        for part_rows, part in self._chunks(rng.permutation(rows)):
            loss += visit(part_rows, state, scales, part, packed, self.gaps, *more)
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

    def rebuild(self) -> None:
        """V, r and g from the dual variables."""
        self._return()
        super().rebuild()

    def certified(self) -> tuple[np.ndarray, np.ndarray, float, float]:
        """W and b of the dual point held, the objective there, and a lower bound."""
        self._return()
        return super().certified()

    def witness(self) -> Witness | None:
        """What was certified, of the hinge: no scores tell multipliers at a kink."""
        if self.power != 1:
            return None
        y, weights = self.data.y, self.data.weights
        return Witness([_dual_together.gradients(self.proven, y, weights)])

    def multipliers(self) -> Multipliers:
        """For another alpha to begin at."""
        self._return()
        return Multipliers(self.state.A, self.intercept(), self.objective.alpha)

    def take(self, other: Ascent) -> None:
        """Another's dual variables, of the same rows in other features."""
        other._return()
        self.state.A[:], self.state.b_ref[:] = other.state.A, other.state.b_ref
        self.scales = self.scales._replace(intercept=other.scales.intercept)
        self.rebuild()

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
        # of what a proof may miss the rows are left the other half
        gap = max(float(self.gaps.sum()) / self.primal, tol / 2)
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

    def drifted(self, since: np.ndarray) -> bool:
        """Whether the intercept is so far from where it was that margins which held
        then may not."""
        return bool(np.ptp(self.intercept() - since) > DRIFT)
