"""The hinge's intercept, where optima leave it room: in their middle."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from sklinear._data import Data
from sklinear._losses import Hinge, Loss
from sklinear._solvers._newton import POLISHED, ROUNDING
from sklinear._solvers._solution import Solution

END = 1e-5  # of a row's weight: multipliers as near to 0 or to it are at that end
ZERO = 1e-6  # of a margin that, where no multipliers are known, is tried as 0 or > 0


def centred(data: Data, loss: Loss, fit_intercept: bool, found: Solution) -> Solution:
    """An exact optimum of the hinge, its intercept in the middle of those there are.

    W is unique, b is not where too few margins are 0 to hold it, as under a strong
    penalty: each solver and each start would find another one, with other labels.

    By complementary slackness b is optimal as long as margins with a multiplier of 0
    stay <= 0, those with the largest one stay >= 0 and all others stay 0. All bounds of
    the differences b_j - b_m that follow are shortest paths between the classes (Floyd
    1962). With each class as the origin there are a largest and a smallest b; their
    mean depends on nothing but the set of the optima. O(n d k + k^3) time, O(n k)
    memory.
    """
    exact = isinstance(loss, Hinge) and found.gap <= POLISHED and found.value > 0
    if not (exact and fit_intercept) or data.streamed:
        return found
    assert isinstance(loss, Hinge)
    blocks = [block.X @ found.coef for block in data.astype(np.float64)]
    rows = np.flatnonzero(data.weights)
    y, weights = data.y[rows], data.weights[rows, None]
    margins = loss.margins(np.concatenate(blocks)[rows] + found.intercept, y)
    witness = None if found.witness is None else found.witness.point
    if isinstance(witness, np.ndarray):
        guesses = [witness[rows] / weights]
    else:
        guesses = [(margins > zero).astype(float) for zero in (ZERO, -ZERO)]
    for multipliers in guesses:
        room = _room(margins, multipliers, y)
        shift = (room.mean(axis=0) - room.mean(axis=1)) / 2
        if not (shift.any() and np.isfinite(shift).all()):
            continue
        moved = margins + shift - shift[y, None]
        rise = np.sum(weights * (np.maximum(moved, 0) - np.maximum(margins, 0)))
        if rise <= (found.gap + ROUNDING) * found.value:
            return replace(found, intercept=found.intercept + shift)
    return found


def _room(margins: np.ndarray, multipliers: np.ndarray, y: np.ndarray) -> np.ndarray:
    """How far b_m - b_j can rise, (j, m), by margins (n, k) and their multipliers."""
    k = margins.shape[1]
    low, high = multipliers <= END, multipliers >= 1 - END
    up = np.where(low, np.maximum(-margins, 0), np.where(high, np.inf, 0))
    down = np.where(high, np.maximum(margins, 0), np.where(low, np.inf, 0))
    room = np.full((k, k), np.inf)
    for j in range(k):
        own = y == j
        np.minimum(room[j], up[own].min(axis=0, initial=np.inf), out=room[j])
        np.minimum(room[:, j], down[own].min(axis=0, initial=np.inf), out=room[:, j])
    np.fill_diagonal(room, 0)
    for j in range(k):
        np.minimum(room, room[:, j, None] + room[j], out=room)
    return room
