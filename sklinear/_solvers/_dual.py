"""Dual coordinate descent: one row's dual variables at a time, solved exactly."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from sklinear._data import Data
from sklinear._duality import balancing_point, dual_value
from sklinear._losses import CrossEntropy, Hinge, Loss, SquaredHinge
from sklinear._objective import Objective
from sklinear._solvers._auto import can_all_be_met
from sklinear._solvers._costs import is_cheap, is_dense
from sklinear._solvers._frame import SPLIT, certify, concluded, offer_priors, rescaled
from sklinear._solvers._lbfgs import finish
from sklinear._solvers._solution import Monitor, Options, Solution
from sklinear._variables import Variables, choose_variables

EPOCHS = 30  # of descent before a cheap Newton step is tried
DAMPING = 30.0  # of the intercept, in units of alpha / (mean squared norm of the rows)
CHUNK = 2**22  # products between looks at the keyboard, and numbers of dense rows
FRESH = 20  # epochs after which what float32 sums have lost is made up for
BALANCE = 0.3  # of the objective, what all of a balancing point costs, typically
FIRST_SEEN = 8  # epoch after which the objective is seen though nobody listens
WHOLE = 5  # epochs from one that visits every row to the next, and slowly more
MANY = 32  # classes beyond which hinges are worked on where they have a multiplier
PATIENCE = 30  # epochs of such work before all is looked at again
RARE = 0.02  # of the multipliers above 0 that may be missing in such work, twice
SHRUNK = 0.05  # the gap that is left to it then, in units of what it began with
LEFT_AT_WORK = 0.2  # the same for such work
LEFT = 0.3  # of the mean gap: what others leave out has less
FEW = 50  # rows, which are not left out: the intercept would follow what is left alone
LOST = 100  # epochs after which it should be better than its start, or Newton is
SLOWING = 0.5  # of the pace at which a gap falls, what it will be later
OFF_CENTRE = 100.0  # squared distance of the mean from 0, in units of the rows' from
# it, beyond which float32 scores are too inexact for steps as long as the spread allows
RETRY = 0.5  # of a gap at which a proof has failed
REACH = 0.1  # of a move that settles the intercept, in units of a score
LISTED = 32  # multipliers of a row above 0 that are kept in mind, at most
WIDTHS = (1.0, 0.1, 0.01)  # at which a warm start's margins are rounded


def dual(
    data: Data,
    loss: Loss,
    alpha: float,
    fit_intercept: bool,
    start: tuple[np.ndarray, np.ndarray],
    options: Options,
) -> Solution:
    """Maximise the dual by block coordinate ascent until the gap is at most ``tol``.

    Rows are visited in random order, in most epochs those only that were far from their
    optimum, of the hinges with the classes only that have multipliers; each's k dual
    variables are solved exactly (Keerthi et al. 2008; Wang and Scott
    2021) while W = -X' U / (2 alpha) follows. The intercept is
    free: an epoch holds it near where it was by a proximal term eps ||b - b_ref||^2,
    and b_ref follows (the method of multipliers, Hestenes 1969, Powell 1969). What is
    so small that dense Newton steps are cheap ends as in ``lbfgs``, at rounding; so
    does, for there is no dual, alpha = 0; and, after many epochs, what dense Newton
    steps are for at all, dense rows that the epochs left will not do for, unless few,
    and features so far from scaled that epochs lead nowhere.
    O(n d k) time an epoch, O((n + d) k) memory.
    """
    kernels = import_kernels()
    monitor = Monitor.asked(options, len(data.y))
    mean = np.zeros(data.X.shape[1])
    if fit_intercept:
        for block in data:
            mean += block.X.T @ block.weights
    variables = Variables(mean, np.ones_like(mean))
    objective = Objective(data, loss, alpha, fit_intercept, variables)
    monitor.split = lambda params: options.widen(*objective.split(params))
    polish = alpha == 0 or is_cheap(objective)
    if polish:
        exact = data.astype(np.float64)
        scaled = choose_variables(exact, alpha, loss.curvature, fit_intercept)
        objective = objective.replace(data=exact, variables=scaled)
    offer_priors(objective, monitor)
    if polish or start[0].any():
        for point in (objective.join(*start), np.zeros(objective.shape)):
            certify(objective, point, monitor)
    if alpha > 0 and not monitor.done:
        ascent = Ascent(kernels, data, objective.replace(variables=variables), start)
        epochs = EPOCHS if polish else options.max_iter
        if descend(ascent, objective, monitor, options.rng, epochs) and not polish:
            objective, polish = rescaled(objective, monitor), True
    if polish and not monitor.spent:
        finish(objective, monitor)
    from sklinear._solvers._dual_proof import visited_compiled

    solution = concluded(objective, monitor, "epochs")
    return replace(solution, visitor=visited_compiled if data.sparse else None)


def import_kernels() -> Any:
    """The compiled loops, or what to do to have them."""
    from sklinear._solvers import _dual_blocks, _dual_kernels

    if _dual_blocks.numba is None:
        raise ImportError(
            "solver='dual' needs numba, which is not installed: "
            'pip install "sklinear[fast]".'
        )
    return _dual_kernels


def descend(
    ascent: Ascent,
    objective: Objective,
    monitor: Monitor,
    rng: np.random.RandomState,
    epochs: int,
) -> bool:
    """Epochs until the gap is proven, or none is left; True to go on without them.

    Proofs cost two passes, so they wait for the gap that an epoch meets on its way. The
    objective, half of one, is seen where all rows were visited, if somebody wants to
    know, else at twice as many epochs each time, at least; as often it is asked whether
    the epochs left will do for dense rows.
    """
    cheap, data = is_cheap(objective), objective.data
    newton = not (data.sparse or can_all_be_met(data))  # gets on where this does not
    wanted = monitor.report.listens or cheap
    near, due, enough, at_start = False, 0, monitor.tol, monitor.primal
    seen, met, known, was = FIRST_SEEN, np.inf, 1, np.inf
    for epoch in range(epochs):
        last = epoch + 1 == epochs or len(monitor.history) + 1 >= monitor.max_iter
        whole = near or last or epoch < 2 or epoch >= due
        if epoch % FRESH == FRESH - 1:
            ascent.rebuild()
        gap = ascent.epoch(rng, whole)
        if whole:
            due = epoch + (PATIENCE if ascent.works else WHOLE + epoch // (4 * WHOLE))
            met = gap
        elif ascent.works and gap < SHRUNK * met:
            due = epoch + 1
        if not np.isfinite(gap):  # steps too long for what rounding leaves of the rows
            return True
        ascent.tighten(monitor.tol)
        near = gap <= enough
        if whole and (near or last):
            W, b, primal, dual = ascent.certified()
            monitor.offer(objective.join(W, b), primal, dual, keep=True)
            enough, near = min(RETRY * gap, monitor.tol), False
            if not monitor.done:
                ascent.rebuild()
        elif whole and (wanted or epoch >= seen):
            primal, seen = ascent.evaluated(), 2 * epoch
            if primal < monitor.guess:
                monitor.guess = primal
                if wanted:
                    monitor.guessed = objective.join(*ascent.params())
        monitor.count()
        if (monitor.report.stopped or cheap) and monitor.guessed is not None:
            monitor.offer(monitor.guessed, monitor.guess)
        if monitor.done or monitor.spent:
            return False
        if epoch >= LOST and (ascent.primal > at_start or is_dense(objective)):
            return True
        if whole and epoch >= 2 * known:
            pace = SLOWING * (epochs - epoch) / (epoch - known)
            faster = min(max(gap, 0.0) / was, 1.0) ** pace
            if newton and gap * faster > monitor.tol and epoch >= 2 * LOST:
                return True
            known, was = epoch, max(gap, np.finfo(float).tiny)
    return False


class Ascent:
    """The dual point, the rows as the compiled loops want them, and the intercept."""

    def __init__(
        self,
        kernels: Any,
        data: Data,
        objective: Objective,
        start: tuple[np.ndarray, np.ndarray],
    ):
        from sklinear._solvers import _dual_moves, _dual_work

        (n, d), k = data.X.shape, data.n_classes
        self.working, self.moves = _dual_work, _dual_moves
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
        self.gaps, self.primal = np.zeros(n), np.inf
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
        state.V[:], state.r[:] = 0, 0
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
        state.b_ref[:] -= state.r * scales.intercept  # b_ref = b
        kernels, rows = self.kernels, self.counted
        self.data.tally.add(len(rows))
        if self.works and not whole:
            return self._work_on(rng) / self.primal
        self._return()
        visit = kernels.softmax_epoch if self.power == 0 else kernels.hinge_epoch
        more = (self.lists,) if self.power else ()
        if not whole and len(rows) > FEW:
            rows = rows[self.gaps[rows] > LEFT * self.gaps[rows].mean()]
        loss = 0.0
        for part_rows, part in self._chunks(rng.permutation(rows)):
            args = part_rows, state, scales, part, packed, self.power, self.gaps
            loss += visit(*args, *more)
        if whole:
            self.primal = loss + self.objective.alpha * self._square()
        return float(self.gaps.sum()) / self.primal

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
        left = LEFT_AT_WORK * self.work.facts[:, working.GAP].mean()
        args = self.state, self.scales, self.power, left
        return working.work_epoch(self.work, *args)

    def _is_as_it_was(self) -> bool:
        """Whether what was worked on last time is nearly what is to be now."""
        if self.work is None:
            return False
        missed, count = self.working.missed(self.work, self.state, self.lists)
        return missed == 0 or (missed < RARE * count and self.reused < 2)

    def _return(self) -> None:
        """What was worked on, back to where it belongs."""
        if self.at_work:
            self.working.returned(self.work, self.state)
            self.at_work = False

    def tighten(self, tol: float) -> None:
        """Weaken the proximal term where the intercept's constraint is what is left to
        gain."""
        if not self.objective.fit_intercept:
            return
        cost = BALANCE * balancing_point(self.state.r, self.data.class_masses)[0]
        if cost > max(float(self.gaps.sum()) / self.primal, tol) / 2:
            self.scales = self.scales._replace(intercept=1.5 * self.scales.intercept)

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
        held, objective = (self.rows, self.state), self.objective
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
            t, G = balancing_point(residual, masses)
            cost = objective.loss.conjugate(G, np.arange(len(masses))) @ masses
            conjugate = (1 - t) * conjugate + t * float(cost)
            np.fill_diagonal(G, G.diagonal() + 1 if self.power == 0 else 0)
            self.moves.mix(near.A, self.data.y, t, G)
        self.state = near
        self.rebuild()
        penalty = objective.alpha * self.kernels.moments(near.V, self.mean)[1]
        self.rows, self.state = held
        return W, b, primal, max(-conjugate - penalty, 0.0)

    def evaluated(self) -> float:
        """The objective at the dual point held."""
        b_ref = self.state.b_ref - self.state.r * self.scales.intercept
        loss, _ = self._surveyed(self.state._replace(b_ref=b_ref))
        return loss + self.objective.alpha * self._square()

    def params(self) -> tuple[np.ndarray, np.ndarray]:
        """W and b of the dual point held."""
        b_ref = self.state.b_ref - self.state.r * self.scales.intercept
        W = self._coef()
        return W, b_ref - self.kernels.moments(W, self.mean)[0]

    def _coef(self) -> np.ndarray:
        """W."""
        along = self.state.r * self.scales.coef * self.data.sparse
        return self.kernels.coefficients(self.state.V, self.mean, along)

    def _square(self) -> float:
        """||W||^2, without W."""
        r, g = self.state.r * self.scales.coef, self.state.g
        square = self.kernels.moments(self.state.V, self.mean)[1]
        return float(square + (r * (2 * g + self.scales.mean * r)).sum())

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
