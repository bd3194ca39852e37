"""What an end leaves to choose: the hinge's intercept, where optima leave it room, in
their middle; and of features that are the same in all rows, no part."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from sklinear._data import Data
from sklinear._losses import Hinge, Loss
from sklinear._objective import Point, visits
from sklinear._solvers._descent import POLISHED
from sklinear._solvers._solution import ROUNDING, Solution

END = 1e-5  # of a row's weight: multipliers as near to 0 or to it are at that end
ZERO = 1e-6  # of a margin that, where no multipliers are known, is tried as 0 or > 0

NOISE = 1e3  # units in the last place of a feature's mean, pulled back by rounding

# What tells multipliers: themselves by weight (n, k), where they can be had again, or
# from which margin on they are 1.
Guess = np.ndarray | Point | float


@dataclass(frozen=True)
class Least:
    """Numbers of some rows whose sum with those of others is the smaller of each."""

    values: np.ndarray

    def __add__(self, other: Least) -> Least:
        return Least(np.minimum(self.values, other.values))


def tidied(
    data: Data, loss: Loss, alpha: float, fit_intercept: bool, found: Solution
) -> Solution:
    """The end of any solver, less what is rounding or one of many optima in it."""
    if not (fit_intercept and alpha > 0 and np.isfinite(found.gap)):
        return found
    found = _without_constants(data, alpha, found)
    return centred(data, loss, found)


def _without_constants(data: Data, alpha: float, found: Solution) -> Solution:
    """Scores that are the same, with a weight of 0 for what is the same in all rows.

    There such a feature has the rounding of X' U / (2 alpha), which another value of it
    would make much of. A pass over those features alone, if any weight is as small.
    """
    mean = np.abs(np.asarray(data.class_sums.sum(axis=1)).ravel())
    size = np.abs(found.coef).max(axis=1)
    noise = NOISE * np.finfo(np.float64).eps * mean / (2 * alpha)
    suspects = np.flatnonzero((size > 0) & (size <= noise))
    if not len(suspects):
        return found
    low, high = data.astype(np.float64).total(_extent, suspects).values
    same = low == -high
    W, b = found.coef.copy(), found.intercept + low[same] @ found.coef[suspects[same]]
    W[suspects[same]] = 0
    return replace(found, coef=W, intercept=b)


def _extent(data: Data, features: np.ndarray) -> Least:
    """Least and less the largest value of some features in rows that count, (2, m)."""
    found = Least(np.full((2, len(features)), np.inf))
    for block in data:
        X = block.X[block.weights > 0][:, features]
        if X.shape[0]:
            ends = X.min(axis=0), -X.max(axis=0)
            if data.sparse:
                ends = ends[0].toarray().ravel(), ends[1].toarray().ravel()
            found += Least(np.stack(ends))
    return found


def centred(data: Data, loss: Loss, found: Solution) -> Solution:
    """An exact optimum of the hinge, its intercept in the middle of those there are.

    W is unique, b is not where too few margins are 0 to hold it, as under a strong
    penalty: each solver and each start would find another one, with other labels.

    By complementary slackness b is optimal as long as margins with a multiplier of 0
    stay <= 0, those with the largest one stay >= 0 and all others stay 0. All bounds of
    the differences b_j - b_m that follow are shortest paths between the classes (Floyd
    1962). With each class as the origin there are a largest and a smallest b; their
    mean depends on nothing but the set of the optima. O(n d k + k^3) time, a pass or
    two that keep O(k^2) numbers.
    """
    if not (isinstance(loss, Hinge) and found.gap <= POLISHED and found.value > 0):
        return found
    data = data.astype(np.float64)
    at = Point(loss, found.coef, found.intercept)
    guesses: list[Guess] = [ZERO, -ZERO]
    if found.witness is not None:
        guesses = [found.witness.point]
    for guess in guesses:
        room = _shortest(data.total(_room, at, guess).values)
        with np.errstate(invalid="ignore"):  # without bounds there is no mean of them
            shift = (room.mean(axis=0) - room.mean(axis=1)) / 2
        if not (shift.any() and np.isfinite(shift).all()):
            continue
        if data.total(_rise, at, shift) <= (found.gap + ROUNDING) * found.value:
            return replace(found, intercept=found.intercept + shift)
    return found


def _shortest(room: np.ndarray) -> np.ndarray:
    """The room that is left when each class bounds all others."""
    np.fill_diagonal(room, 0)
    for j in range(len(room)):
        np.minimum(room, room[:, j, None] + room[j], out=room)
    return room


# Visits: what the rows of one part of the data say, see Data.total --------------------


def _room(data: Data, at: Point, guess: Guess) -> Least:
    """How far b_m - b_j can rise, (j, m), before a margin of the rows forbids it."""
    k = data.n_classes
    room = np.full((k, k), np.inf)
    for y, margins, multipliers in _margins(data, at, guess):
        low, high = multipliers <= END, multipliers >= 1 - END
        up = np.where(low, np.maximum(-margins, 0), np.where(high, np.inf, 0))
        down = np.where(high, np.maximum(margins, 0), np.where(low, np.inf, 0))
        for j in range(k):
            own = y == j
            np.minimum(room[j], up[own].min(axis=0, initial=np.inf), out=room[j])
            np.minimum(
                room[:, j], down[own].min(axis=0, initial=np.inf), out=room[:, j]
            )
    return Least(room)


def _margins(
    data: Data, at: Point, guess: Guess
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Labels (m,), margins and multipliers (m, k) of rows with weight."""
    loss = at.loss
    assert isinstance(loss, Hinge)
    points = (guess, (at.W, at.b)) if isinstance(guess, Point) else (at,)
    for block, smooth, scores in visits(data, *points):
        rows, weights = block.weights > 0, block.weights[:, None]
        margins = loss.margins(scores[-1], block.y)
        if isinstance(guess, Point):
            assert isinstance(smooth, Hinge)
            multipliers = smooth.multipliers(scores[0], block.y)
        elif isinstance(guess, np.ndarray):
            multipliers = guess[block.rows] / np.where(weights > 0, weights, 1)
        else:
            multipliers = (margins > guess).astype(float)
        yield block.y[rows], margins[rows], multipliers[rows]


def _rise(data: Data, at: Point, shift: np.ndarray) -> float:
    """How much higher the hinge is at a moved intercept: not but for rounding."""
    rise = 0.0
    for block, loss, (scores,) in visits(data, at):
        assert isinstance(loss, Hinge)
        margins = loss.margins(scores, block.y)
        moved = np.maximum(margins + shift - shift[block.y, None], 0)
        moved -= np.maximum(margins, 0)
        rise += float(block.weights @ moved.sum(axis=1))
    return rise
