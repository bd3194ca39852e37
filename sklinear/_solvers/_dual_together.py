"""The few rows that hold most of the gap, solved together by Newton's method.

Where rows of other labels are nearly equal, a visit to one undoes most of what a visit
to the other has done. With all other rows as they are, the dual of m rows depends on
their products with one another alone: a step costs m^3, and no pass over X.
"""

from __future__ import annotations

import numpy as np

MOST = 128  # rows that are solved together, at most
OUTSTANDING = 10.0  # mean gaps, that each of them has at least
HELD = 0.3  # of the gap, that they hold together, at least
FREE = 400  # multipliers above 0 that they may begin with, and half of a step's
PROBABILITIES = 1024  # that they may have
STEPS = 30
SOLVED = 1e-3  # of the gap that they begin with, at which they are
SHORTEST = 1e-4  # step that is tried
LEAST = 1e-300  # probability that has a logarithm


def outstanding(gaps: np.ndarray, A: np.ndarray, power: int) -> np.ndarray:
    """The few rows, in order, that hold most of the gap; none if many do."""
    (n, k), whole = A.shape, float(gaps.sum())
    most = min(MOST, n, n if power else PROBABILITIES // k)
    if most < 2:
        return np.zeros(0, int)
    rows = np.argpartition(-gaps, most - 1)[:most]
    rows = rows[gaps[rows] > OUTSTANDING * whole / n]
    if power:
        rows = rows[np.argsort(-gaps[rows])]
        rows = rows[np.cumsum(1 + (A[rows] > 0).sum(axis=1)) <= FREE]
    few = len(rows) > 1 and gaps[rows].sum() >= HELD * whole
    return np.sort(rows) if few else rows[:0]


def solved(few: Few) -> np.ndarray:
    """The dual variables (m, k) that Newton's method leads to, if to better ones."""
    A = few.A
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        value, gap, scores = few.at(A)
        enough = SOLVED * gap
        for _ in range(STEPS):
            if not gap > enough:
                break
            try:
                step = few.step(A, scores)
            except np.linalg.LinAlgError:  # of products too large
                break
            t = 1.0
            while t > SHORTEST:
                B = few.along(A, step, t)
                there = few.at(B)
                if there[0] < value:
                    break
                t /= 2
            else:
                break
            A, (value, gap, scores) = B, there
    return A


class Few:
    """The dual, as a function of some rows' dual variables A (m, k)."""

    def __init__(
        self,
        A: np.ndarray,
        y: np.ndarray,
        weights: np.ndarray,
        scores: np.ndarray,
        products: np.ndarray,
    ):
        self.A, self.y, self.weights = A, y, weights[:, None]
        self.scores = scores  # (m, k) of A
        self.products = products  # (m, m), by which scores fall as U rises
        self.own = np.arange(len(y)), y
        self.U = self.gradients(A)

    def gradients(self, A: np.ndarray) -> np.ndarray:
        """U (m, k)."""
        U = A.copy()
        U[self.own] -= A.sum(axis=1)
        return self.weights * U

    def at(self, A: np.ndarray) -> tuple[float, float, np.ndarray]:
        """What is to be minimised, the rows' gap, and their scores."""
        change = self.gradients(A) - self.U
        fall = self.products @ change
        value = float((change * (fall / 2 - self.scores)).sum())
        scores = self.scores - fall
        losses, conjugates = self.losses(A, scores)
        met = float((self.gradients(A) * scores).sum())
        conjugate = float((self.weights * conjugates).sum())
        gap = float((self.weights[:, 0] * losses).sum()) + conjugate - met
        return value + conjugate, gap, scores

    def losses(
        self, A: np.ndarray, scores: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """The rows' losses (m,), and the parts (m, k) of their conjugates."""
        raise NotImplementedError

    def step(self, A: np.ndarray, scores: np.ndarray) -> np.ndarray:
        """Newton's (m, k)."""
        raise NotImplementedError

    def along(self, A: np.ndarray, step: np.ndarray, t: float) -> np.ndarray:
        """Dual variables as far along it."""
        raise NotImplementedError


class SquaredHinge(Few):
    """Of multipliers, by projected steps (Bertsekas 1982)."""

    def losses(
        self, A: np.ndarray, scores: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        return (np.maximum(self._margins(scores), 0) ** 2).sum(axis=1), A * (A / 4 - 1)

    def _margins(self, scores: np.ndarray) -> np.ndarray:
        """What is violated where it is above 0."""
        margins = 1 + scores - scores[self.own][:, None]
        margins[self.own] = 0
        return margins

    def step(self, A: np.ndarray, scores: np.ndarray) -> np.ndarray:
        rise = self._margins(scores) - A / 2
        i, j = np.nonzero((A > 0) | (rise > 0))  # those that are not to stay at 0
        if len(i) > 2 * FREE:
            far = np.argpartition(-np.abs(rise[i, j]), 2 * FREE)[: 2 * FREE]
            i, j = i[far], j[far]
        own, w = self.y[i], self.weights[i, 0]
        same = (j == j[:, None]) + (own == own[:, None]).astype(float)
        crossed = (j == own[:, None]).astype(float)
        hessian = same - crossed - crossed.T
        hessian *= self.products[np.ix_(i, i)] * w
        hessian[np.diag_indices(len(i))] += 0.5
        step = np.zeros_like(A)
        step[i, j] = np.linalg.solve(hessian, rise[i, j])
        return step

    def along(self, A: np.ndarray, step: np.ndarray, t: float) -> np.ndarray:
        return np.maximum(A + t * step, 0)


class Softmax(Few):
    """Of probabilities, by steps of their logarithms.

    With H = diag(q) - q q' of each row the step is that of (I + K w H) step = rest,
    which takes a matrix (m, m) of each class and their sum (Williams and Barber 1998,
    "Bayesian classification with Gaussian processes").
    """

    def losses(
        self, A: np.ndarray, scores: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        top = scores.max(axis=1)
        mass = np.exp(scores - top[:, None]).sum(axis=1)
        return top + np.log(mass) - scores[self.own], A * np.log(np.maximum(A, LEAST))

    def step(self, A: np.ndarray, scores: np.ndarray) -> np.ndarray:
        rest = scores - np.log(np.maximum(A, LEAST))
        b = self.weights * A * (rest - (A * rest).sum(axis=1, keepdims=True))
        roots = np.sqrt(self.weights * A).T
        E = roots[:, :, None] * self.products * roots[:, None]
        E[:, *np.diag_indices(len(A))] += 1
        E = roots[:, :, None] * np.linalg.inv(E) * roots[:, None]
        c = (E @ (self.products @ b).T[:, :, None])[:, :, 0].T
        shared = np.linalg.solve(E.sum(axis=0), c.sum(axis=1))
        return rest - self.products @ (b - c + (E @ shared).T)

    def along(self, A: np.ndarray, step: np.ndarray, t: float) -> np.ndarray:
        logs = np.log(np.maximum(A, LEAST)) + t * step
        A = np.exp(logs - logs.max(axis=1, keepdims=True))
        return A / A.sum(axis=1, keepdims=True)
