"""The few rows that hold most of the gap, solved together by Newton's method.

Where rows of other labels are nearly equal, a visit to one undoes most of what a visit
to the other has done. With all other rows as they are, the dual of m rows depends on
their products with one another alone: a step costs m^3, and no pass over X.
"""

from __future__ import annotations

import numpy as np

LEAST, MOST = 100, 2000  # multipliers that are solved for together
ROW = 0.25  # of one, that a row counts as
SHARES = (1.0, 0.3, 1.0)  # of what epochs cost, that this may, by power
LATE_SHARE = 30.0  # the same, where epochs lead nowhere and a step with all multipliers
WORTH = 100.0  # costs at most what so many epochs do
SLOW = 0.3  # of the gap, that was left since the last time, is slow
HELD = 0.3  # of the gap, that their rows hold, at least
STEPS = 100
SOLVED = 1e-3  # of the gap that they begin with, at which they are
SHORTEST = 1e-8  # step that is tried
EDGE = 1e-2  # from a bound, at most, within which multipliers may be held
DAMPED = 1e-10  # of the curvature
TINY = 1e-300  # probability that has a logarithm


class Budget:
    """What may be solved for together: more where epochs are slow, and cost more.

    So the time is that of epochs alone, up to a factor, where this is of no use.
    """

    def __init__(self, power: int, products: float):
        self.power, self.share = power, SHARES[power]
        self.products = products  # of an epoch that visits all rows
        self.left, self.size, self.gap = 0.0, 0, np.inf

    def earn(self, part: float) -> None:
        """By an epoch that visited a part of the rows."""
        self.left += self.share * part * self.products

    def next_size(self, gap: float, A: np.ndarray, late: bool) -> int:
        """How many multipliers, as the gap now is; 0 for none."""
        slow = gap > SLOW * self.gap
        self.gap, size = gap, 2 * self.size if slow else self.size // 2
        self.size, self.share = min(max(size, LEAST), MOST), SHARES[self.power]
        if late and slow:
            count = int(between(A, self.power).sum())
            if count <= MOST and count**3 <= WORTH * self.products:
                self.share = LATE_SHARE
        return min(self.size, int(np.cbrt(max(self.left, 0.0)))) if slow else 0


def outstanding(gaps: np.ndarray, A: np.ndarray, power: int, size: int) -> np.ndarray:
    """The rows, in order, that hold most of the gap; none if too many do.

    As many as have ``size`` multipliers between their bounds, and a little for each
    row; or, of the softmax, as cost as much.
    """
    (n, k), whole = A.shape, float(gaps.sum())
    most = min(n, size)
    if power == 0:
        most = min(n, int(size / np.cbrt(3 * k)), int(MOST / np.sqrt(k)))
    if most < 2:
        return np.zeros(0, int)
    rows = np.argpartition(-gaps, most - 1)[:most]
    rows = rows[gaps[rows] > 0]
    if power:
        rows = rows[np.argsort(-gaps[rows])]
        rows = rows[np.cumsum(ROW + between(A[rows], power)) <= size]
    few = len(rows) > 1 and gaps[rows].sum() >= HELD * whole
    return np.sort(rows) if few else rows[:0]


def between(A: np.ndarray, power: int) -> np.ndarray:
    """How many multipliers of each row are at no bound."""
    return np.count_nonzero((A > 0) & (A - KINDS[power].cap < 0), axis=1)


def gradients(A: np.ndarray, y: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The weighted score gradients U (m, k) of dual variables; of the softmax, too."""
    U = A.copy()
    U[np.arange(len(y)), y] -= A.sum(axis=1)
    return weights[:, None] * U


def solved(few: Few, budget: float) -> np.ndarray:
    """The dual variables (m, k) that Newton's method leads to, if to better ones."""
    A = few.A
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        value, gap, scores = few.at(A)
        enough = SOLVED * gap
        for _ in range(STEPS):
            if not (gap > enough and few.cost < budget):
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
                t /= 3
            else:
                break
            A, (value, gap, scores) = B, there
    return A


class Few:
    """The dual, as a function of some rows' dual variables A (m, k)."""

    ridge, cap = 0.0, np.inf  # of a multiplier

    def __init__(
        self,
        A: np.ndarray,
        y: np.ndarray,
        weights: np.ndarray,
        scores: np.ndarray,
        products: np.ndarray,
        most: int,
    ):
        self.A, self.y, self.weights = A, y, weights[:, None]
        self.scores = scores  # (m, k) of A
        self.products = products  # (m, m), by which scores fall as U rises
        self.most = most  # multipliers of a step
        self.cost = 0.0  # of all steps, in products
        self.own = np.arange(len(y)), y
        self.U = self.gradients(A)

    def gradients(self, A: np.ndarray) -> np.ndarray:
        """U (m, k)."""
        return gradients(A, self.y, self.weights[:, 0])

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


class FewSquaredHinge(Few):
    """Of multipliers, by projected steps (Bertsekas 1982, "Projected Newton methods for
    optimization problems with simple constraints")."""

    ridge = 0.5

    def losses(
        self, A: np.ndarray, scores: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        violations = np.maximum(self._margins(scores), 0)
        return (violations**2).sum(axis=1), A * (A / 4 - 1)

    def _margins(self, scores: np.ndarray) -> np.ndarray:
        """What is violated where it is above 0."""
        margins = 1 + scores - scores[self.own][:, None]
        margins[self.own] = 0
        return margins

    def step(self, A: np.ndarray, scores: np.ndarray) -> np.ndarray:
        rise = self._margins(scores) - self.ridge * A
        squares = self.weights * self.products.diagonal()[:, None]
        step = rise / (2 * squares + self.ridge)
        edge = min(EDGE, float(np.abs(self.along(A, step, 1.0) - A).max()))
        down, up = (edge >= A) & (rise < 0), (self.cap - A <= edge) & (rise > 0)
        free = ~(down | up)
        free[self.own] = False
        i, j = np.nonzero(free)
        if len(i) > self.most:
            far = np.argpartition(-np.abs(rise[i, j]), self.most)[: self.most]
            i, j = i[far], j[far]
        self.cost += len(i) ** 3
        own, w = self.y[i], self.weights[i, 0]
        crossed = (j == own[:, None]).astype(np.int8)
        signs = -crossed - crossed.T + (j == j[:, None]) + (own == own[:, None])
        hessian = self.products[np.ix_(i, i)]
        hessian *= signs
        hessian *= w
        hessian[np.diag_indices(len(i))] *= 1 + DAMPED
        hessian[np.diag_indices(len(i))] += self.ridge
        step[i, j] = np.linalg.solve(hessian, rise[i, j])
        return step

    def along(self, A: np.ndarray, step: np.ndarray, t: float) -> np.ndarray:
        return np.clip(A + t * step, 0, self.cap)


class FewHinge(FewSquaredHinge):
    """The same, of multipliers that are at most 1."""

    ridge, cap = 0.0, 1.0

    def losses(
        self, A: np.ndarray, scores: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        return np.maximum(self._margins(scores), 0).sum(axis=1), -A


class FewSoftmax(Few):
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
        return top + np.log(mass) - scores[self.own], A * np.log(np.maximum(A, TINY))

    def step(self, A: np.ndarray, scores: np.ndarray) -> np.ndarray:
        rest = scores - np.log(np.maximum(A, TINY))
        b = self.weights * A * (rest - (A * rest).sum(axis=1, keepdims=True))
        self.cost += 3 * A.shape[1] * len(A) ** 3
        roots = np.sqrt(self.weights * A).T
        E = roots[:, :, None] * self.products * roots[:, None]
        E[:, *np.diag_indices(len(A))] += 1
        E = roots[:, :, None] * np.linalg.inv(E) * roots[:, None]
        c = (E @ (self.products @ b).T[:, :, None])[:, :, 0].T
        shared = np.linalg.solve(E.sum(axis=0), c.sum(axis=1))
        return rest - self.products @ (b - c + (E @ shared).T)

    def along(self, A: np.ndarray, step: np.ndarray, t: float) -> np.ndarray:
        logs = np.log(np.maximum(A, TINY)) + t * step
        A = np.exp(logs - logs.max(axis=1, keepdims=True))
        return A / A.sum(axis=1, keepdims=True)


KINDS: tuple[type[Few], ...] = (FewSoftmax, FewHinge, FewSquaredHinge)  # by power
