"""Epochs until the gap is proven: what is looked at when, and when they end."""

from __future__ import annotations

import math
from itertools import count

import numpy as np

from sklinear._losses import CrossEntropy
from sklinear._objective import Objective
from sklinear._solvers._auto import can_all_be_met, is_wide
from sklinear._solvers._costs import LARGEST, is_dense, is_polished
from sklinear._solvers._dual_ascent import Ascent
from sklinear._solvers._solution import Monitor

TIGHT = 1e-9  # tol that sums over many rows, one after the other, do not do for
FRESH = 20  # epochs after which what float32 sums have lost is made up for
FIRST_SEEN = 8  # epoch after which the objective is seen though nobody listens
PRACTISED = 2  # epochs after which few rows may be what hinders
LATE = 30  # epochs after which those left may lead nowhere
WHOLE = 5  # epochs from one that visits every row to the next, and slowly more
PATIENCE = 30  # epochs of such work before all is looked at again
SHRUNK = 0.05  # the gap that is left to it then, in units of what it began with
SLOW = 100  # epochs after which steps are accelerated
TURN = 10  # epochs from one anchor to the next
LOST = 100  # epochs after which it should be better than its start, or Newton is
STUCK = 0.95  # the gap that is left then of what leads nowhere
SLOWING = 0.5  # of the pace at which a gap falls, what it will be later
UNKNOWN = 8 * np.finfo(float).eps  # of a probability: more is hidden by its 1
RETRY = 0.5  # of a gap at which a proof has failed


class Descent:
    """Epochs until the gap is proven, or none is left.

    Proofs cost two passes, so they wait for the gap that an epoch meets on its way, and
    after one that failed for half of what was missing. The objective, half of one, is
    seen where all rows were visited, if somebody wants to know, else at twice as many
    epochs each time, at least; as often it is asked whether the epochs left will do for
    dense rows. A ``trial`` has the largest gap to stay at, from an early epoch on, that
    is left of rows which were worked on until all were visited.
    """

    def __init__(
        self,
        ascent: Ascent,
        objective: Objective,
        monitor: Monitor,
        epochs: int,
        trial: dict[int, float],
    ):
        self.ascent, self.objective, self.monitor = ascent, objective, monitor
        self.epochs, self.trial = epochs, trial
        self.polished, data = is_polished(objective), objective.data
        # where Newton's method gets on; of many params unless rows are few
        self.few = math.prod(objective.shape) <= LARGEST
        self.newton = self.few or not (is_wide(data) or can_all_be_met(data))
        softmax = isinstance(objective.loss, CrossEntropy)
        self.dense_softmax = softmax and not data.sparse
        self.at_start = monitor.primal
        # when every row is visited, and what was met when they last were
        self.due, self.met, self.intercept = 0, np.inf, ascent.intercept()
        # whether a proof may succeed, and at which gap and what the intercept misses
        self.near, self.enough, self.balanced = False, monitor.tol, np.inf
        # when the objective is seen again
        self.wanted = monitor.report.listens or self.polished
        self.seen = float(FIRST_SEEN)
        # when the gap was last compared, and what it was
        self.known, self.was = 1, np.inf
        self.worked = np.inf  # the gap that the last epoch met, if of some rows
        self.failed = False  # whether the trial was what ended it

    def run(self, rng: np.random.RandomState) -> bool:
        """True to go on without epochs: they lead nowhere, or not soon enough."""
        ascent, monitor = self.ascent, self.monitor
        for epoch in count():
            over = self.polished and epoch + 1 == self.epochs
            last = over or monitor.left <= 1
            gap, whole = self._epoch(epoch, last, rng)
            if not np.isfinite(gap):  # steps too long for what rounding leaves of rows
                return True
            missing = ascent.unbalanced(monitor.tol)
            self.near = gap <= self.enough and missing <= self.balanced
            if whole and (self.near or last):
                if not self._proves(gap, missing):
                    return True
            elif whole and (self.wanted or epoch >= self.seen):
                self._look(epoch)
            monitor.count(ascent.share)
            if (monitor.spent or self.polished) and monitor.guessed is not None:
                monitor.offer(monitor.guessed, monitor.guess)
            if monitor.done or monitor.spent or over:
                return False
            if self._leads_nowhere(epoch, gap, whole):
                return True
        raise AssertionError("epochs do not end by themselves")

    def _epoch(
        self, epoch: int, last: bool, rng: np.random.RandomState
    ) -> tuple[float, bool]:
        """The gap that it meets, and whether it visits every row."""
        ascent = self.ascent
        whole = self.near or last or epoch < 2 or epoch >= self.due
        if epoch % FRESH == FRESH - 1:
            ascent.rebuild()
        if epoch >= SLOW and epoch % TURN == 0 and not self.polished:
            ascent.advance()
            whole = True  # what was left out may matter again
        gap = ascent.epoch(rng, whole)
        if whole:
            wait = PATIENCE if ascent.works else WHOLE + epoch // (4 * WHOLE)
            self.due, self.met = epoch + wait, gap
            self.intercept = ascent.intercept()
        elif ascent.works and (
            gap < SHRUNK * self.met or ascent.drifted(self.intercept)
        ):
            self.due = epoch + 1
        if whole and gap > 0 and epoch >= PRACTISED:
            ascent.settle_outstanding(epoch >= LATE)
        return gap, whole

    def _proves(self, gap: float, missing: float) -> bool:
        """Offer the point and its bound; False where float64 tells too little."""
        ascent, objective, monitor = self.ascent, self.objective, self.monitor
        W, b, primal, dual = ascent.certified()
        params, witness = objective.join(W, b), None
        if self.dense_softmax and monitor.tol * primal < UNKNOWN:
            monitor.offer(params, primal)
            return False
        # of sparse rows the proof is a quicker one without
        if self.polished or monitor.tol < TIGHT or not objective.data.sparse:
            witness = ascent.witness()
        monitor.offer(params, primal, dual, witness, keep=True)
        self.near = False
        if gap > missing:
            self.enough = min(RETRY * gap, monitor.tol)
        else:  # the rows were near enough, the intercept's constraint was not
            self.balanced = RETRY * missing
        if not monitor.done:
            ascent.rebuild()
        return True

    def _look(self, epoch: int) -> None:
        """See the objective, and remember the best point that there may be."""
        ascent, monitor = self.ascent, self.monitor
        primal, self.seen = ascent.evaluated(), (1.2 if epoch >= LOST else 2) * epoch
        if primal < monitor.guess:
            monitor.guess = primal
            if self.wanted or epoch >= LOST:
                monitor.guessed = self.objective.join(*ascent.params())

    def _leads_nowhere(self, epoch: int, gap: float, whole: bool) -> bool:
        """Whether epochs do, or those left will not do."""
        trial = [most for first, most in self.trial.items() if first <= epoch < LATE]
        if whole and trial and trial[-1] < self.worked < np.inf:
            self.failed = True
            return True
        self.worked = np.inf if whole else gap
        stuck = self.few and whole and gap > STUCK
        lost = stuck or self.ascent.primal > self.at_start
        if epoch >= LOST and (lost or is_dense(self.objective)):
            return True
        if whole and epoch >= 2 * self.known:
            left = max(self.epochs - epoch, 0) / (epoch - self.known)
            faster = (max(gap, 0.0) / max(gap, self.was)) ** (SLOWING * left)
            late = self.newton and epoch >= 2 * LOST
            if late and gap * faster > self.monitor.tol:
                return True
            self.known, self.was = epoch, max(gap, np.finfo(float).tiny)
        return False
