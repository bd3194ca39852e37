"""How far the exact optimum's scores can be from a fit's: what ``certify`` rests on.

Scores are written (x - m)' W + c with m the mean row and c the centred intercept. All
that is known of the optimum (W*, c*) is the gap G = P - D of the fit (W, c) and of a
dual point U with 1' U = 0.

W*: P is 2 alpha-strongly convex in W and minimal at W*, so that

    ||W* - W||_F <= r = sqrt(G / alpha),
    |(x - m)' ((w*_a - w_a) - (w*_b - w_b))| <= sqrt(2) r ||x - m||.

c*: Fenchel's inequality at the optimum, for any feasible U' (n, k) with R' = 1' U',
reads P >= P* >= R' c* - sum_i w_i L*(U'_i / w_i) - ||X' U'||^2 / (4 alpha). Less the
same with c, and with rows centred,

    R' (c* - c) <= F(U') + ||X' U' + 2 alpha W||^2 / (4 alpha),
    F(U') = sum_i w_i (L(s_i) + L*(U'_i / w_i)) - U'_i s_i >= 0,

whose right side is the gap where R' = 0. It is used for the points

    U'_i = U_i + w_i sum_j c_ij (v_j - v_y) (e_j - e_y),    y = y_i,

c_ij being the loss's leeway: R' = R + H v with H the Laplacian of the graph of classes
that has the edges sum_i w_i c_ij between y_i and j. They are feasible while v spans at
most ``reach``, and F grows

- for the softmax to at most F(U) + v' H v: the relative entropy to p is at most the
  chi-squared distance sum_j (dp_j)^2 / p_j;
- for the squared hinge by less, sum_i w_i sum_j c_ij^2 (v_j - v_y)^2 / 4, c <= 2;
- for the hinge to at most 2 F(U): F(U) has min(g_j, 1 - g_j) |m_j| for each margin.

For classes a and b take v = -H^+ R + t H^+ (e_b - e_a), so that R' = t (e_b - e_a). The
second term spans t q, q being the effective resistance of the graph between a and b
(Doyle and Snell 1984), and has v' H v = t^2 q. With E = X' U + 2 alpha W at t = 0 and
e = ||X' (U' - U)|| / t, both of them centred, and z^2 = R' H^+ R, this leaves

    (c*_b - c_b) - (c*_a - c_a) <= G / t + t (q + e^2 / (4 alpha))
                                   + 2 z sqrt(q) + ||E|| e / (2 alpha),

G = F(U) + z^2 + ||E||^2 / (4 alpha), which is least where its first two terms agree,
and then of the order of sqrt(G / alpha). Where R is too large for the first term of v,
U is mixed with a class-wise point instead, as for the dual value: a share 1 - s of it
takes the same moves with t / (1 - s), and z = 0.

U is the score gradient of (W, c), or for the hinge the solver's dual point.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse
from sklearn.utils.extmath import row_norms

from sklinear._data import Data, add_scaled, less_outer, turned
from sklinear._duality import balanced
from sklinear._losses import CrossEntropy, Hinge, Loss, Margin, SquaredHinge
from sklinear._objective import Point, scores_of, visits
from sklinear._visit import EPS, EXTENDED, Visit, roundings, visited

# Numbers in X times classes up to which a pass that only rounding keeps from enough is
# repeated in extended precision.
LARGEST_REPEATED = 2**24
SPLIT = 1e-9  # relative eigenvalue of a graph that counts as cut
ROUNDINGS = 8  # of a row's numbers, and some for each class
TINY = float(np.finfo(np.float64).tiny)  # what a square may lack by underflow


class Certificate(NamedTuple):
    """Bounds on the distance of the optimum from a fit."""

    radius: float  # of W*, in Frobenius norm
    centre: np.ndarray  # m (d,)
    drift: np.ndarray  # (k, k): of c*_b - c*_a, 0 without an intercept
    gap: float  # (P - P*) / P, with what rounding may hide
    value: float  # P
    of: int = 0  # checksum of the coefficients

    def scaled(self, scale: float) -> Certificate:
        """For scores that are so many times as large."""
        return self._replace(radius=scale * self.radius, drift=scale * self.drift)

    def settles(
        self, X: Any, W: np.ndarray, b: np.ndarray, labels: np.ndarray
    ) -> np.ndarray:
        """Rows (n,) whose label (n,), an index, is that of every optimum."""
        if np.isinf(self.radius):  # times a distance of 0 it would be nan
            return np.zeros(len(labels), dtype=bool)
        scores = scores_of(X, W, b)
        index = np.arange(len(labels)), labels
        margins = scores[index][:, None] - scores
        lacking = np.sqrt(X.shape[1] * TINY)  # of a row's length, at most
        needed = np.sqrt(2) * self.radius * (_distance(X, self.centre) + lacking)
        needed += 8 * EPS * float(np.linalg.norm(W)) * (row_norms(X) + lacking)
        needed = needed[:, None] + self.drift[labels]
        needed += 8 * EPS * float(np.abs(b).max())
        needed[index] = -1.0
        return (margins > needed).all(axis=1)


def _distance(X: Any, centre: np.ndarray) -> np.ndarray:
    """||x - centre|| of each row (n,), not less."""
    if not scipy.sparse.issparse(X):
        return row_norms(X - centre) * (1 + len(centre) * EPS)
    squares, own = row_norms(X, squared=True), float(centre @ centre)
    rounding = len(centre) * EPS * (squares + own)
    return np.sqrt(np.maximum(squares - 2 * (X @ centre) + own, 0) + rounding)


def certificate(
    data: Data,
    loss: Loss,
    alpha: float,
    fit_intercept: bool,
    W: np.ndarray,
    b: np.ndarray,
    dual: float,
    value: float,
    witness: np.ndarray | Point | None = None,
    scale: float = 1.0,
    visitor: Callable[..., Visit] | None = None,
    enough: float = np.inf,
) -> Certificate:
    """What is proven of the optimum, from one pass in float64.

    ``dual`` and ``value`` are the solver's bounds of the optimum, made in float64;
    ``witness`` is its dual point, if any: weighted score gradients (n, k), or the
    smoothed loss and params that have them. W and b are the user's, ``scale`` times
    those of the problem. ``visitor`` is a solver's quicker twin of ``visited``. Where
    only rounding keeps the gap from being ``enough``, the pass is taken once more with
    rounding counted column by column, the rows centred, if they are dense, and in
    extended precision, if they are few.
    O(n d k) time, half a pass more with an intercept; O(d k + k^2) memory, and up to
    LARGEST_SUMS numbers.
    """
    data = data.astype(np.float64)
    at = Point(loss, W if scale == 1 else W / scale, b / scale)
    rescaled = bool(np.frexp(scale)[0] != 0.5)  # no power of 2
    reach = 1.0
    if isinstance(loss, SquaredHinge):  # about a move that matters, or 1 % of a margin
        reach = min(1.0, np.sqrt(max(value - dual, 1e-4 * value)))
    args = alpha, fit_intercept, reach, witness, rescaled
    found, rounding = _proven(data, data, at, dual, value, *args, visitor or visited)
    hidden = value - dual <= enough * value or rounding > enough * value / 2
    hidden &= found.gap > enough
    small = not data.streamed and data.shape[0] * W.size <= LARGEST_REPEATED
    small &= bool(np.finfo(EXTENDED).eps < EPS)
    if hidden and alpha > 0:
        exact, centre = data, np.zeros(len(W))  # where sparse rows stay
        if small:
            exact = copy.copy(data)
            exact.dtype = EXTENDED
        at = Point(loss, W.astype(EXTENDED) / scale, b.astype(EXTENDED) / scale)
        if not data.sparse:
            centre = found.centre
            at = at._replace(b=at.b + centre.astype(EXTENDED) @ at.W)
        # the solver's own bound is no better than float64
        again, _ = _proven(data, exact, at, -np.inf, value, *args, visited, centre)
        found = min(found, again, key=lambda one: one.gap)
    return found.scaled(scale)


def _proven(
    data: Data,
    exact: Data,
    at: Point,
    dual: float,
    value: float,
    alpha: float,
    fit_intercept: bool,
    reach: float,
    witness: np.ndarray | Point | None,
    rescaled: bool,
    visitor: Callable[..., Visit],
    centre: np.ndarray | None = None,
) -> tuple[Certificate, float]:
    """What one pass over ``exact`` proves, the same rows in float64 or more, and how
    much of the gap is for rounding.

    ``at`` is for rows less the ``centre``, if any.
    """
    if not at.W.flags.c_contiguous:
        at = at._replace(W=turned(at.W.T, at.W.dtype))
    (loss, W, b), (d, k) = at, at.W.shape
    mean = np.zeros(d)
    if fit_intercept:
        mean += np.asarray(data.class_sums.sum(axis=1)).ravel()
    if alpha == 0:  # only that of margins that hold, whatever rounding does, is known
        unmet = value > 0 or exact.total(_unmet, at) > 0
        unknown = np.full((k, k), np.inf)
        return Certificate(np.inf, mean, unknown, float(unmet), value), 0.0
    args = at, reach, fit_intercept, witness, rescaled
    visit = exact.total(visitor, *args, *(() if centre is None else (centre,)))
    moved = mean if centre is None or data.sparse else np.zeros(d)
    if fit_intercept:
        less_outer(visit.pulled, moved, visit.residual)
        if visit.rows is not None:
            visit.rows -= moved[:, None] * visit.edges[:, None, :]
    primal = visit.primal + alpha * float(np.vdot(W, W))

    share, kept, slack = 0.0, 1.0, visit.pulled
    excess = own = max(float(visit.excess), 0.0)
    if fit_intercept:
        residual = visit.residual.astype(np.float64, copy=False)
        share, kept, cost, mixed = balanced(data, loss, mean, residual)
    if share > 0:
        met = float(np.vdot(mixed, W))
        slack = mixed.astype(visit.pulled.dtype, copy=False)
        slack *= share
        add_scaled(slack, kept, visit.pulled)
        off = kept * float((b + (moved @ W)) @ visit.residual)
        excess = kept * excess + share * (visit.primal + cost - met) + off
        add_scaled(slack, 2 * alpha, W)
    add_scaled(visit.pulled, 2 * alpha, W)
    # E = X' U + 2 alpha W of both, which in float64 are as good now
    missed = _norm(slack.astype(np.float64, copy=False))
    visit.pulled = visit.pulled.astype(np.float64, copy=False)
    visit.residual = visit.residual.astype(np.float64, copy=False)
    # the scores have the pass's precision; their sums and a class-wise point float64's
    eps = float(np.finfo(exact.dtype).eps)
    wide = visit.lifted + visit.size * (visit.far or 0.0)
    scored = max(eps * visit.lifted, share * EPS * wide)
    few = ROUNDINGS + k / 2
    rounding = few * (scored + EPS * (primal + abs(visit.conjugate))) + visit.kinks
    rounding += TINY
    # P - D is the sum of the rows' L + L* - g s and of this, which rounding blurs
    hidden = visit.hidden + 2 * EPS * missed + np.sqrt(W.size * TINY)
    if visit.far is None:  # else all sums are in extended precision
        hidden += EPS * (roundings(visit.parts) + 2) * visit.reached
        hidden += visit.hidden * visit.size * _norm(moved) / (visit.reached or 1.0)
    length = float(np.sqrt(visit.squares)) + _norm(mean)  # of rows, or more, on average
    hidden += 2 * share * EPS * roundings(data.shape[0]) * length
    excess = max(excess, 0.0) + rounding
    # a solver's sums are of as many terms as there are rows, and their errors add up;
    # its probability of a true class is known to EPS, not its distance from 1
    terms = visit.lifted + primal + abs(visit.conjugate)
    known = EPS * (ROUNDINGS + roundings(data.shape[0])) * terms + visit.kinks
    known += 8 * EPS if isinstance(loss, CrossEntropy) else 0.0
    told = max(primal - dual, 0.0) + known
    with np.errstate(over="ignore"):
        blurred = hidden / np.sqrt(4 * alpha)
        gap = excess + ((missed + hidden) / np.sqrt(4 * alpha)) ** 2
        best = min(gap, (np.sqrt(told) + blurred) ** 2)
    drift = np.zeros((k, k))
    if fit_intercept:
        doubled = 2 if isinstance(loss, Hinge) else 1
        spread = max(visit.squares - float(moved @ moved), 0.0)
        spread += 8 * EPS * visit.squares
        graph = _Graph(visit, spread, alpha)
        far = missed + hidden
        drift = graph.drift(doubled * gap, far, kept=kept, room=reach)
        v = graph.solve(-visit.residual)
        if np.ptp(v) < reach:
            z = np.sqrt(max(float(v @ graph.laplacian @ v), 0.0))
            far = graph.slack(visit.pulled, v) + hidden
            moved_gap = doubled * (own + rounding) + z**2 + far**2 / (4 * alpha)
            room = reach - float(np.ptp(v))
            drift = np.minimum(drift, graph.drift(moved_gap, far, z=z, room=room))
            best = min(best, moved_gap)
    with np.errstate(over="ignore"):
        radius = float(np.sqrt(best / alpha))
        relative = min(float(best / primal), 1.0) if primal > 0 else 1.0
        found = Certificate(radius, mean, drift, relative, float(primal))
        return found, rounding + hidden * (2 * missed + hidden) / (4 * alpha)


def _unmet(data: Data, at: Point) -> float:
    """How many rows have a loss, or are so near to one that rounding may hide it."""
    count, length = 0.0, float(np.linalg.norm(at.W)) + float(np.sqrt(at.W.size * TINY))
    largest = float(np.abs(at.b).max())
    for block, loss, (scores,) in visits(data, at):
        if not isinstance(loss, Margin):
            return np.inf
        norms = row_norms(block.X) + np.sqrt(len(at.W) * TINY)
        margins = loss.margins(scores, block.y)
        margins[np.arange(len(margins)), block.y] = -np.inf
        # of two scores, whose terms and their sums are each off by half of EPS at most
        off = (len(at.W) + 8) * EPS * (norms * length + largest)
        short = margins.max(axis=1) > -off
        count += np.count_nonzero(short & (block.weights > 0))
    return count


class _Graph:
    """The graph of classes that the leeway makes."""

    def __init__(self, visit: Visit, spread: float, alpha: float):
        # where the rows' own sums are too many: no direction has more than the spread
        self.alpha, self.longest = alpha, spread * visit.lengths
        edges = visit.edges + visit.edges.T
        k = len(edges)
        self.laplacian = np.diag(edges.sum(axis=1)) - edges
        values, vectors = np.linalg.eigh(self.laplacian)
        self.cut = not values[1] > SPLIT * values[-1]
        if self.cut:
            return
        self.inverse = (vectors[:, 1:] / values[1:]) @ vectors[:, 1:].T
        self.missed = self.laplacian @ self.inverse - np.eye(k) + 1 / k  # by rounding
        self.moves: np.ndarray | None = None  # (k, d, k): v at (:, l) to X' (U' - U)
        if visit.rows is not None:
            pairs = visit.rows + visit.rows.transpose(2, 1, 0)
            self.moves = -pairs
            self.moves[np.arange(k), :, np.arange(k)] = pairs.sum(axis=0).T

    def solve(self, R: np.ndarray) -> np.ndarray:
        """H^+ R; infinite where there is none."""
        if self.cut:
            return np.array([-np.inf, np.inf])
        v = self.inverse @ R
        return v + self.inverse @ (R - self.laplacian @ v)

    def slack(self, E: np.ndarray, v: np.ndarray) -> float:
        """||E + X' (U' - U)|| of a move v, at most."""
        if self.moves is not None:
            return _norm(E + np.tensordot(v, self.moves, 1))
        return _norm(E) + np.sqrt(max(float(v @ self.longest @ v), 0.0))

    def drift(
        self, gap: float, slack: float, room: float, kept: float = 1.0, z: float = 0.0
    ) -> np.ndarray:
        """Bound on (c*_b - c_b) - (c*_a - c_a) for each pair of classes, (k, k)."""
        k = len(self.laplacian)
        unknown = np.where(np.eye(k, dtype=bool), 0.0, np.inf)
        if self.cut or not (np.isfinite(gap) and kept > 0):
            return unknown
        q = _between(self.inverse)
        squares = self.longest
        if self.moves is not None:
            M = self.moves.reshape(k, -1)
            squares = M @ M.T
        squares = _between(self.inverse @ squares @ self.inverse)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            bend = q / kept + squares / (4 * self.alpha)
            t = np.minimum(np.sqrt(gap / bend), room * kept / q)
            drift = gap / t + t * bend + 2 * z * np.sqrt(q)
            drift += slack * np.sqrt(squares) / (2 * self.alpha)
        np.fill_diagonal(drift, 0.0)  # 0 / 0
        if not np.isfinite(drift).all():
            return unknown
        missed = np.abs(self.missed).sum(axis=0)
        drift += 2 * (missed + missed[:, None]) * drift.max()
        np.fill_diagonal(drift, 0.0)
        return drift


def _between(A: np.ndarray) -> np.ndarray:
    """(e_b - e_a)' A (e_b - e_a) for each pair, (k, k)."""
    diagonal = np.diag(A)
    return np.maximum(diagonal + diagonal[:, None] - A - A.T, 0.0)


def _norm(A: np.ndarray) -> float:
    """||A||_F."""
    return float(np.linalg.norm(A))
