"""What solvers share: what they are asked, what they answer, the book they keep."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from sklinear._duality import relative_gap
from sklinear._objective import Evaluation, Point
from sklinear._visit import Visit

ROUNDING = 8 * float(np.finfo(np.float64).eps)  # a relative gap that cannot shrink
Params = tuple[np.ndarray, np.ndarray]  # W (d, k) and b (k,)


class Progress(NamedTuple):
    """What solvers tell after each iteration."""

    iteration: int
    value: float  # objective
    gap: float  # proven relative distance from the optimum; nan if none was sought
    params: Callable[[], Params]
    unit: str = "iteration"


class Reporter:
    """Is told of every iteration, and may ask for an end. This one does neither."""

    stopped = False
    listens = False  # whether it need be told at all

    def __call__(self, progress: Progress) -> None:
        """One iteration is over."""


def as_they_are(W: np.ndarray, b: np.ndarray) -> Params:
    """The params themselves."""
    return W, b


class Multipliers(NamedTuple):
    """A dual point of some rows, relative to their weights, and where it was met."""

    A: np.ndarray  # (n, k)
    intercept: np.ndarray  # (k,) of centred features
    alpha: float
    twins: Any = None  # of the rows, as the dual has found them


class Options(NamedTuple):
    """What a user can ask of a solver, and below ``report`` what others ask of it."""

    tol: float
    max_iter: int
    batch_size: int
    learning_rate: float | str
    rng: np.random.RandomState
    report: Reporter
    widen: Callable[..., Params] = as_they_are  # from the solver's features to X's
    polish: float = -1.0  # gap to which fits go on that are cheap; below 0 to rounding
    on_trial: bool = False  # the solver was not asked for, and may leave soon
    least: int = 0  # iterations to take, however near the start
    fits: int = 1  # of a search, all together
    found: Solution | None = None  # by another solver, to go on from
    multipliers: Multipliers | None = None  # of the same rows, to begin at
    history: tuple[float, ...] = ()  # objectives of the iterations before


class Witness(NamedTuple):
    """The dual point behind a lower bound."""

    # weighted score gradients, one array a block; or where they can be had again
    U: list[np.ndarray] | Point
    at: Evaluation | None = None  # of the point that they are the gradients at

    @property
    def point(self) -> np.ndarray | Point:
        """Weighted score gradients (n, k), or what has them."""
        return self.U if isinstance(self.U, Point) else np.vstack(self.U)


@dataclass(frozen=True)
class Solution:
    """Facts about the end of a fit; the estimator decides what to warn about."""

    coef: np.ndarray  # W (d, k)
    intercept: np.ndarray  # b (k,)
    value: float  # objective
    gap: float  # proven bound on (value - optimum) / value; nan if none was sought
    converged: bool
    unit: str  # of its history: iterations or epochs
    history: list[float]  # objective after each iteration
    witness: Witness | None = None
    visitor: Callable[..., Visit] | None = None  # a quick one for the certificate
    solver: str | None = None  # where another one has gone on
    multipliers: Multipliers | None = None  # of a search, for its next alpha


@dataclass
class Monitor:
    """Counts iterations, keeps the best point and the best lower bound."""

    tol: float
    max_iter: int
    n_rows: int = 1  # of an iteration
    report: Reporter = field(default_factory=Reporter)
    history: list[float] = field(default_factory=list)
    primal: float = math.inf
    dual: float = 0.0
    params: np.ndarray | None = None
    main: Monitor | None = None
    pending: float = 0.0  # of an iteration
    drafting: bool = False  # what this one learns are guesses to the main one
    guess: float = math.inf  # objective in the data's own precision: no proof
    guessed: np.ndarray | None = None
    witness: Witness | None = None
    split: Callable[[np.ndarray], Params] | None = None  # params to the user's W and b
    polish: float = -1.0  # gap to which it goes on where that is cheap
    least: int = 0  # iterations that it takes, however near the start

    @classmethod
    def asked(cls, options: Options, n_rows: int) -> Monitor:
        """Of a fit as the user asks for it."""
        tol, polish, least = options.tol, options.polish, options.least
        report, most, history = options.report, options.max_iter, [*options.history]
        return cls(tol, most, n_rows, report, history, polish=polish, least=least)

    def offer(
        self,
        params: np.ndarray,
        primal: float,
        dual: float = 0.0,
        witness: Witness | None = None,
        keep: bool = False,
    ) -> None:
        """A point and its objective, a lower bound of the optimum.

        The point is copied, unless it is told to ``keep`` it.
        """
        better = dual > self.dual
        if better:
            self.dual, self.witness = dual, witness
        # a last step is often too small to show in the objective, or rounding hides it,
        # but shows in the dual
        hidden = better and primal <= self.primal * (1 + ROUNDING)
        if primal < self.primal or hidden:
            self.primal = min(primal, self.primal)
            self.params = params if keep else params.copy()
            if self.main is not None and self.drafting:
                self.main.suggest(self.params, self.primal)

    def suggest(self, params: np.ndarray, value: float) -> None:
        """A point whose objective is known in the data's own precision."""
        if value < self.guess:
            self.guess, self.guessed = value, params

    def count(self, part: float = 1.0) -> None:
        """One iteration is over, or part of one: one on some of the rows."""
        if self.main is not None:
            self.main.count(part)
            return
        self.pending += part
        if self.pending < 1 - 1e-9:
            return
        self.pending = max(self.pending - 1, 0.0)
        value = min(self.primal, self.guess)
        self.history.append(value)
        if self.report.listens:
            self.report(Progress(len(self.history), value, self.gap, self._best))

    @property
    def left(self) -> float:
        """Iterations that are allowed still."""
        return self.max_iter - len(self.history) - self.pending

    def _best(self) -> Params:
        """W and b of the best point."""
        assert self.split is not None
        params = self.guessed if self.guess < self.primal else self.params
        assert params is not None
        return self.split(params)

    def detour(self, tol: float, drafting: bool = False) -> Monitor:
        """For a related problem, solved on the way: its iterations count here too."""
        return replace(
            self,
            tol=tol,
            primal=math.inf,
            dual=0.0,
            params=None,
            main=self,
            drafting=drafting,
            witness=None,
            polish=tol,
        )

    @property
    def gap(self) -> float:
        """Proven relative distance of the best point from the optimum."""
        return relative_gap(self.primal, self.dual)

    @property
    def done(self) -> bool:
        """Whether the gap is small enough, after the least number of iterations."""
        return self.gap <= self.tol and len(self.history) >= self.least

    @property
    def spent(self) -> bool:
        """Whether no iteration is left, or none is wanted."""
        return len(self.history) >= self.max_iter or self.report.stopped
