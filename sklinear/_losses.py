"""The losses as solvers see them: values, gradient, curvature and conjugate.

A loss sees the scores ``S = X W + b`` (n, k) and the labels ``y`` in 0..k-1, never X,
and no penalty. All of them work row by row and in whatever memory layout the scores
have; contiguous columns are the fastest, since every reduction over classes then adds
whole columns.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

# maps a change of the scores (n, k) to the change of the weighted score gradient
HessianProduct = Callable[[np.ndarray], np.ndarray]
TINY = 1e-20  # exp of a score below the largest from which on logs are exact
Past = tuple[tuple[np.ndarray, np.ndarray, float], ...]  # W, b and a width each


@dataclass(frozen=True)
class Loss:
    """One sample's convex loss, as solvers use it: L(s + t) = L(s) for a constant t."""

    reaches_zero = True  # at finite scores
    past = Past()  # points whose scores its state per sample comes from

    def __call__(
        self, scores: np.ndarray, y: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Values (n,) and gradient (n, k)."""
        raise NotImplementedError

    def both(
        self, scores: np.ndarray, y: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Values and gradient, and the values of the loss that is meant."""
        values, gradient = self(scores, y)
        return values, gradient, values

    def hessian(
        self, scores: np.ndarray, y: np.ndarray, weights: np.ndarray
    ) -> HessianProduct:
        """The weighted (generalised) Hessian at the scores, as a product."""
        raise NotImplementedError

    def diagonal(
        self, scores: np.ndarray, y: np.ndarray, slack: float = 0.0
    ) -> np.ndarray:
        """Second derivative in each score, (n, k): the Hessian's diagonal.

        With ``slack``, also of the margins that are as near to being active.
        """
        raise NotImplementedError

    def total_hessian(
        self, scores: np.ndarray, y: np.ndarray, weights: np.ndarray
    ) -> np.ndarray:
        """Sum of the rows' weighted Hessians, (k, k): that in the intercept."""
        raise NotImplementedError

    def conjugate(self, gradient: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Convex conjugate L*(g) = sup_s <g, s> - L(s) of each row g, (n,)."""
        raise NotImplementedError

    def leeway(self, gradient: np.ndarray, y: np.ndarray, reach: float) -> np.ndarray:
        """How far each row's gradient may move along e_j - e_y, (n, k), 0 at y.

        With c the leeway and any |v_j| <= reach, g + sum_j c_j v_j (e_j - e_y) is
        feasible in the dual, at a cost that the certificate knows.
        """
        raise NotImplementedError

    @property
    def curvature(self) -> float:
        """Typical second derivative in one class's score, to scale variables by."""
        raise NotImplementedError

    def prior(self, masses: np.ndarray) -> np.ndarray:
        """A good intercept (k,) where nothing but the classes' masses is known."""
        return np.zeros(len(masses))

    @property
    def exact(self) -> Loss:
        """The loss that is meant: itself, unless it is smoothed."""
        return self

    def rows(self, rows: slice | np.ndarray) -> Loss:
        """The loss of some of the samples: itself, unless it has a state per sample."""
        return self

    def recalled(self, scores: list[np.ndarray], y: np.ndarray) -> Loss:
        """The loss with the state that scores at the points of its past lead to."""
        return self


class CrossEntropy(Loss):
    """log sum_j exp(s_j - M) - (s_y - M), M = max_j s_j."""

    reaches_zero = False
    curvature = 0.15  # Boehning (1992) bounds it by 1/2; usually p (1 - p) is less

    def __call__(
        self, scores: np.ndarray, y: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Values and gradient, both from the shifted scores.

        Of the other classes alone, so that what is nearly 0 is relatively exact too.
        """
        shifted = scores - scores.max(axis=1)[:, None]  # (n, k), <= 0
        flat, true = _true_entries(shifted, y)
        own = flat[true]
        gradient = np.exp(shifted, out=shifted)
        true_term = flat[true]
        flat[true] = 0
        others = gradient.sum(axis=1)
        total = others + true_term  # (n,), >= 1
        values = np.log1p(others / np.maximum(true_term, TINY))
        far = np.flatnonzero(true_term < TINY)
        values[far] = np.log(total[far]) - own[far]
        gradient /= total[:, None]
        flat[true] = -others / total
        return values, gradient

    def hessian(
        self, scores: np.ndarray, y: np.ndarray, weights: np.ndarray
    ) -> HessianProduct:
        """diag(p) - p p' for each row."""
        index = np.arange(len(y)), y
        p = self(scores, y)[1]
        p[index] += 1
        wp = p * weights[:, None].astype(p.dtype)

        def product(change: np.ndarray) -> np.ndarray:
            own = change - change[index][:, None]
            out = wp * own
            out -= p * out.sum(axis=1)[:, None]
            return out

        return product

    def total_hessian(
        self, scores: np.ndarray, y: np.ndarray, weights: np.ndarray
    ) -> np.ndarray:
        """diag(sum w p) - sum w p p'."""
        p = self(scores, y)[1]
        p[np.arange(len(y)), y] += 1
        wp = p * weights[:, None].astype(p.dtype)
        return np.diag(wp.sum(axis=0, dtype=np.float64)) - p.T @ wp

    def prior(self, masses: np.ndarray) -> np.ndarray:
        """The optimal one without features: log masses, centred."""
        logs = np.log(masses)
        return logs - logs.mean()

    def diagonal(
        self, scores: np.ndarray, y: np.ndarray, slack: float = 0.0
    ) -> np.ndarray:
        """p_j (1 - p_j)."""
        g = self(scores, y)[1]
        return np.abs(g) - g * g

    def conjugate(self, gradient: np.ndarray, y: np.ndarray) -> np.ndarray:
        """sum_j q_j log q_j with q = g + e_y, a point of the simplex."""
        q, index = gradient.astype(np.float64), (np.arange(len(y)), y)
        off = np.clip(q[index], -1, 0)  # q_y - 1
        q[index] = 0
        np.maximum(q, 0, out=q)  # rounding may leave -1e-17 where q is 0
        values = (q * np.log(q, out=np.zeros_like(q), where=q > 0)).sum(axis=1)
        logs = np.log1p(off, out=np.zeros_like(off), where=off > -1)
        return values + (1 + off) * logs

    def leeway(self, gradient: np.ndarray, y: np.ndarray, reach: float) -> np.ndarray:
        """p_j p_y, for a reach up to 1."""
        index = np.arange(len(y)), y
        leeway = gradient * (1 + gradient[index])[:, None]
        leeway[index] = 0
        return leeway


def _true_entries(array: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A contiguous array (n, k) as a flat view, and where the true classes are in it.

    One index into a view costs a third of two into the array.
    """
    n, k = array.shape
    columns = array.flags.f_contiguous
    places = y * n + np.arange(n) if columns else np.arange(n) * k + y
    return array.ravel(order="K"), places


class Margin(Loss):
    """What the losses of the margins m_j = s_j - s_y + delta, j != y, share."""

    delta: float

    def margins(self, scores: np.ndarray, y: np.ndarray) -> np.ndarray:
        """The margins (n, k), 0 at the true class."""
        margins = scores - scores[np.arange(len(y)), y][:, None]
        margins += self.delta
        flat, true = _true_entries(margins, y)
        flat[true] = 0
        return margins

    def slope(
        self, scores: np.ndarray, y: np.ndarray, slack: float = 0.0
    ) -> np.ndarray:
        """Second derivative in each margin, (n, k), 0 at the true class."""
        raise NotImplementedError

    def diagonal(
        self, scores: np.ndarray, y: np.ndarray, slack: float = 0.0
    ) -> np.ndarray:
        """The classes' slopes and, at the true one, their sum."""
        slope = self.slope(scores, y, slack)
        slope[np.arange(len(y)), y] = slope.sum(axis=1)
        return slope

    def hessian(
        self, scores: np.ndarray, y: np.ndarray, weights: np.ndarray
    ) -> HessianProduct:
        """sum_j c_j (e_j - e_y)(e_j - e_y)' for each row, c the slopes."""
        index = np.arange(len(y)), y
        slope = self.slope(scores, y)
        slope *= weights[:, None]

        def product(change: np.ndarray) -> np.ndarray:
            out = change - change[index][:, None]
            out *= slope
            out[index] = -out.sum(axis=1)
            return out

        return product

    def total_hessian(
        self, scores: np.ndarray, y: np.ndarray, weights: np.ndarray
    ) -> np.ndarray:
        """The Laplacian of the graph of classes whose edges the slopes add up to."""
        slope = self.slope(scores, y)
        slope *= weights[:, None]
        k = scores.shape[1]
        columns = [np.bincount(y, slope[:, j], k) for j in range(k)]
        edges = np.stack(columns, axis=1)  # (true class, other)
        edges += edges.T
        return np.diag(edges.sum(axis=1)) - edges


@dataclass(frozen=True)
class SquaredHinge(Margin):
    """sum_{j != y} max(0, m_j)^2."""

    delta: float = 1.0
    curvature = 0.6  # 2 where violated, and usually few margins are

    def __call__(
        self, scores: np.ndarray, y: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Values and gradient from the violations."""
        violations = self.margins(scores, y)
        np.maximum(violations, 0, out=violations)
        gradient = 2 * violations
        violations *= violations
        gradient[np.arange(len(y)), y] = -gradient.sum(axis=1)
        return violations.sum(axis=1), gradient

    def slope(
        self, scores: np.ndarray, y: np.ndarray, slack: float = 0.0
    ) -> np.ndarray:
        """2 where the margin is violated (the generalised second derivative)."""
        active = self.margins(scores, y) > -slack * self.delta
        active[np.arange(len(y)), y] = False
        return 2 * active.astype(scores.dtype)

    def conjugate(self, gradient: np.ndarray, y: np.ndarray) -> np.ndarray:
        """sum_{j != y} g_j^2 / 4 - delta g_j, for g_j >= 0."""
        g = gradient.astype(np.float64)
        g[np.arange(len(y)), y] = 0
        return (g * (g / 4 - self.delta)).sum(axis=1)

    def leeway(self, gradient: np.ndarray, y: np.ndarray, reach: float) -> np.ndarray:
        """min(2, g_j / reach), which keeps g_j >= 0."""
        leeway = np.minimum(2, gradient / reach)
        leeway[np.arange(len(y)), y] = 0
        return leeway


@dataclass(frozen=True)
class Hinge(Margin):
    """sum_{j != y} max(0, m_j), or a smooth function that approaches it from below.

    With ``width`` > 0 each hinge is max_{0 <= a <= 1} a m - width/2 (a - centre)^2:
    with centre 0 the Huber function, with the last multipliers as centre one step of
    the method of multipliers, whose limit is the hinge itself at any width. Its
    gradient a = clip(centre + m / width, 0, 1) is feasible in the hinge's dual.

    Where rows are too many to keep a centre of each, ``past`` keeps the points and
    widths whose multipliers were the centres one after the other: a few more scores of
    a row lead to its centre again.
    """

    delta: float = 1.0
    width: float = 0.0
    centre: np.ndarray | None = None  # (n, k), 0 at the true class
    past: Past = ()

    def __call__(
        self, scores: np.ndarray, y: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Values and gradient; at a kink the subgradient 0."""
        return self._evaluated(self.margins(scores, y), y)

    def both(
        self, scores: np.ndarray, y: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Values and gradient, and the values of the hinge itself."""
        if not self.width:
            return super().both(scores, y)
        margins = self.margins(scores, y)
        exact = np.maximum(margins, 0).sum(axis=1)
        return *self._evaluated(margins, y), exact

    def _evaluated(
        self, margins: np.ndarray, y: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Values and gradient from the margins, which are overwritten."""
        if not self.width:
            a = (margins > 0).astype(margins.dtype)
            margins *= a
        else:
            a = self._multipliers(margins)
            np.clip(a, 0, 1, out=a)
        flat, true = _true_entries(a, y)
        flat[true] = 0
        if self.width:
            move = a.copy() if self.centre is None else a - self.centre
            move *= move
            move *= self.width / 2
            margins *= a
            margins -= move
        flat[true] = -a.sum(axis=1)
        return margins.sum(axis=1), a

    def multipliers(self, scores: np.ndarray, y: np.ndarray) -> np.ndarray:
        """The a of each margin, (n, k), 0 at the true class: the next centre."""
        a = self(scores, y)[1]
        flat, true = _true_entries(a, y)
        flat[true] = 0
        return a

    def _multipliers(self, margins: np.ndarray) -> np.ndarray:
        """centre + m / width, before they are clipped to [0, 1]."""
        a = margins / self.width
        if self.centre is not None:
            a += self.centre
        return a

    def slope(
        self, scores: np.ndarray, y: np.ndarray, slack: float = 0.0
    ) -> np.ndarray:
        """1 / width where the multiplier is strictly between its bounds."""
        a = self._multipliers(self.margins(scores, y))
        active = (a > -slack) & (a < 1 + slack)
        active[np.arange(len(y)), y] = False
        return active / scores.dtype.type(self.width)

    def conjugate(self, gradient: np.ndarray, y: np.ndarray) -> np.ndarray:
        """-delta sum_{j != y} g_j = delta g_y, for 0 <= g_j <= 1."""
        return self.delta * gradient[np.arange(len(y)), y].astype(np.float64)

    def leeway(self, gradient: np.ndarray, y: np.ndarray, reach: float) -> np.ndarray:
        """min(g_j, 1 - g_j) / reach, which keeps 0 <= g_j <= 1."""
        leeway = np.minimum(gradient, 1 - gradient) / reach
        leeway[np.arange(len(y)), y] = 0
        return np.maximum(leeway, 0, out=leeway)

    @property
    def curvature(self) -> float:
        """That of a hinge rounded over its margin, where few margins are inside."""
        return 0.3 / self.delta

    @property
    def exact(self) -> Hinge:
        """The hinge without its smoothing."""
        return Hinge(self.delta) if self.width else self

    def rows(self, rows: slice | np.ndarray) -> Hinge:
        """The same with the centres of these samples."""
        return self if self.centre is None else replace(self, centre=self.centre[rows])

    def recalled(self, scores: list[np.ndarray], y: np.ndarray) -> Hinge:
        """The same with the centres that its past leads to."""
        centre = None
        for (_, _, width), s in zip(self.past, scores, strict=True):
            centre = Hinge(self.delta, width, centre).multipliers(s, y)
        return self if centre is None else replace(self, centre=centre, past=())
