"""The certificate: a lower bound of the optimum from the dual, and the relative gap.

With U (n, k) the weighted score gradients of a point, w the weights and L* the loss's
conjugate (without smoothing), Fenchel's inequality gives for every U

    P(W, b) >= D(U) = - sum_i w_i L*(U_i / w_i) - ||X' U||_F^2 / (4 alpha),

provided that, where the intercept is free, 1' U = 0 (else the infimum over b is -inf).
"""

from __future__ import annotations

import numpy as np

from sklinear._data import Data, add_scaled
from sklinear._losses import Loss
from sklinear._objective import Evaluation, Objective


def dual_value(objective: Objective, at: Evaluation, balance: bool = True) -> float:
    """D of the score gradients of a point, made feasible; never below 0, as P is not.

    The intercept's constraint is met by mixing in a second dual point, U_z, that only
    depends on the class: U' = (1 - t) U + t U_z with 1' U' = 0. L* being convex, its
    values mix to an upper bound, so D' is valid, and t is of the size of 1' U, beside
    the masses of the classes, of which one may be tiny. What remains of 1' U' is the
    rounding of k sums. Without ``balance`` the constraint is ignored, and the value is
    no bound.
    """
    if objective.alpha == 0:
        return 0.0  # D is -inf unless X' U = 0 exactly, which rounding never meets
    conjugate, pulled = at.conjugate, at.pulled
    if objective.fit_intercept and balance:
        args = objective.data, objective.loss, objective.variables.mean
        t, kept, cost, mixed = balanced(*args, at.residual)
        if t > 0:
            conjugate = kept * conjugate + t * cost
            mixed *= t
            pulled = add_scaled(mixed, kept, pulled)
    value = -conjugate - float(np.vdot(pulled, pulled)) / (4 * objective.alpha)
    return max(value, 0.0)


def distance(objective: Objective, at: Evaluation, dual: float) -> float:
    """How far the (smoothed) objective is above its own optimum, at most.

    Without a penalty there is no bound; then the squared gradient, whose metric is
    nearly that of the Hessian, is an estimate.
    """
    if objective.alpha == 0:
        return float(np.vdot(at.gradient, at.gradient))
    unbalanced = dual_value(objective, at, balance=False) - dual
    square = float(np.vdot(at.slack, at.slack))
    return square / (4 * objective.alpha) + max(unbalanced, 0.0)


def balanced(
    data: Data, loss: Loss, mean: np.ndarray, residual: np.ndarray
) -> tuple[float, float, float, np.ndarray]:
    """t, 1 - t, and of U_z, which makes U' = (1 - t) U + t U_z, L* and X' U_z.

    Of rows less the ``mean`` (d,).
    """
    t, kept, G = balancing_point(residual, data.class_masses)
    cost = float(loss.exact.conjugate(G, np.arange(len(G))) @ data.class_masses)
    return t, kept, cost, data.of_classes(mean, G)


def balancing_point(
    residual: np.ndarray, masses: np.ndarray
) -> tuple[float, float, np.ndarray]:
    """t, 1 - t and G (k, k), the score gradient of every sample of a class, that cancel
    1' U.

    Classes with too large a sum hand mass on to those with too small a one, in
    proportion; t is the least for which no class hands on more than its own mass, which
    keeps G feasible for every loss (a row off the diagonal is >= 0 and sums to <= 1).
    """
    gives, takes = np.maximum(residual, 0), np.maximum(-residual, 0)
    need = float((gives / masses).max())
    if not (need > 0 and takes.sum() > 0):
        return 0.0, 1.0, np.zeros((len(masses), len(masses)))
    kept = 1 / (1 + need)  # which 1 - t would not tell where a class has next to none
    t = need * kept
    flow = np.outer(gives / need, takes / takes.sum())  # (from, to), (1 - t) / t = need
    G = flow / masses[:, None]
    np.fill_diagonal(G, -G.sum(axis=1))
    return t, kept, G


def relative_gap(primal: float, dual: float) -> float:
    """(P - D) / P: a bound on how far P is above the optimum, relative to P."""
    if primal <= 0:
        return 0.0
    return max(primal - dual, 0.0) / primal
