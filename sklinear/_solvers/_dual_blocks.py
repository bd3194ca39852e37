"""The dual problem of one row, solved exactly, in compiled code.

Without numba the functions stay as they are, and the solver refuses to run.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

try:
    import numba

    if getattr(numba.config, "DISABLE_JIT", False):
        numba = None  # type: ignore[assignment]
        missing = "whose compiler NUMBA_DISABLE_JIT turns off: unset it"
except ImportError as error:
    numba = None  # type: ignore[assignment]
    missing = f'which cannot be imported ({error}): pip install "sklinear[fast]"'


# Neither that there are no NaN, nor sums in any order: whether arrays lie side by side
# would decide which, where a loop also writes.
FASTMATH = {"contract", "arcp", "nsz"}


def compiled(function: Callable) -> Any:
    """The function in machine code, which is kept on disk where that is allowed."""
    return _compiled(function, FASTMATH)


def summing(function: Callable) -> Any:
    """The same of a function that only reads: its sums are taken several at a time."""
    return _compiled(function, {*FASTMATH, "reassoc"})


def _compiled(function: Callable, fastmath: set[str]) -> Any:
    if numba is None:
        return function
    options: Any = {"error_model": "numpy", "fastmath": fastmath}
    try:
        return numba.njit(cache=True, **options)(function)
    except RuntimeError:  # no folder that may be written to
        return numba.njit(**options)(function)


@summing
def total(a: np.ndarray) -> float:
    """The sum of a."""
    found = 0.0
    for j in range(len(a)):
        found += a[j]
    return found


@summing
def largest(a: np.ndarray) -> float:
    """The maximum of a, four at a time."""
    k = len(a)
    w = x = y = z = a[0]
    for j in range(0, k - 3, 4):
        w, x = max(w, a[j]), max(x, a[j + 1])
        y, z = max(y, a[j + 2]), max(z, a[j + 3])
    for j in range(k - k % 4, k):
        w = max(w, a[j])
    return max(max(w, x), max(y, z))


@summing
def _filled(z: np.ndarray, shift: float, inverse: float, cap: float) -> Any:
    """The sum of clip((z - shift) * inverse, 0, cap), and how many are inside."""
    found = free = 0.0
    for j in range(len(z)):
        t = (z[j] - shift) * inverse
        free += 1.0 if 0 < t < cap else 0.0
        found += min(max(t, 0.0), cap)
    return found, free


@compiled
def multipliers(
    z: np.ndarray, h: float, ridge: float, cap: float, guess: float, a: np.ndarray
) -> None:
    """Solve a_j = clip((z_j - h sum a) / (h + ridge), 0, cap), from a guess of sum a.

    The minimum of h/2 (||a||^2 + (sum a)^2) + ridge/2 ||a||^2 - z' a over the box.
    """
    p = max(h + ridge, 1e-300)
    shift = h * _level(z, h, p, cap, guess)
    for j in range(len(z)):
        a[j] = min(max((z[j] - shift) * (1 / p), 0.0), cap)


@compiled
def _level(z: np.ndarray, h: float, p: float, cap: float, guess: float) -> float:
    """The sum of the multipliers.

    sum_j a_j(s) - s falls with s and is linear between 2 k places. Newton's method ends
    after finitely many steps where there is no cap, and nearly always where there is
    one; else the bracket is halved at its median place, O(k log k) time in all.
    """
    low, high, low_excess, high_excess = 0.0, np.inf, -1.0, -1.0
    s = met = guess
    for step in range(64):
        met = s
        found, free = _filled(z, h * s, 1 / p, cap)
        excess = found - s
        if abs(excess) <= 1e-14 * (found + s):
            break
        if excess > 0:
            low, low_excess = s, excess
        else:
            high, high_excess = s, excess
        s += excess / (1 + free * h / p)
        if step < 8 and low < s < high:
            continue
        s = _median_place(z, h, p, cap, low, high)
        if low < s < high:
            continue
        # no place between: the sum is linear there
        if low_excess < 0:
            s = low
        elif high < np.inf:
            s = low + (high - low) * low_excess / (low_excess - high_excess)
        else:
            s = low + low_excess
        if not (low < s < high or low_excess < 0):
            break
    return met


@compiled
def _median_place(
    z: np.ndarray, h: float, p: float, cap: float, low: float, high: float
) -> float:
    """The median of the s in (low, high) where a multiplier meets a bound, or low."""
    k = len(z)
    places = np.empty(2 * k)
    count = 0
    if h > 0:
        for j in range(k):
            for place in (z[j] / h, (z[j] - cap * p) / h):
                if low < place < high:
                    places[count] = place
                    count += 1
    return _middle(places[:count]) if count else low


@compiled
def _middle(a: np.ndarray) -> float:
    """The median of numbers that are put in another order (Hoare 1961).

    np.sort would take three seconds more to compile.
    """
    low, high, k = 0, len(a) - 1, len(a) // 2
    while low < high:
        pivot, i, j = a[k], low, high
        while i <= j:
            while a[i] < pivot:
                i += 1
            while pivot < a[j]:
                j -= 1
            if i <= j:
                a[i], a[j] = a[j], a[i]
                i += 1
                j -= 1
        if j < k:
            low = i
        if k < i:
            high = j
    return a[k]


@compiled
def exponential(x: float) -> float:
    """e^x of |x| <= 700 to 3e-11, of |x| <= 300 to 1e-12; compilers vectorise it.

    The Taylor series of x / 4096 to the ninth power, squared twelve times.
    """
    t = min(max(x, -700.0), 700.0) * (1 / 4096)
    e = 1 + t * (1 / 9)
    e = 1 + t * (1 / 8) * e
    e = 1 + t * (1 / 7) * e
    e = 1 + t * (1 / 6) * e
    e = 1 + t * (1 / 5) * e
    e = 1 + t * (1 / 4) * e
    e = 1 + t * (1 / 3) * e
    e = 1 + t * (1 / 2) * e
    e = 1 + t * e
    for _ in range(12):
        e *= e
    return e


@compiled
def probabilities(
    t: np.ndarray, c: float, log_q: np.ndarray, q: np.ndarray, enough: float = 1e-12
) -> None:
    """Solve log q_j + c q_j = t_j - l, sum q = 1, from a guess of log q and q.

    The minimum of sum q log q + c/2 ||q||^2 - t' q over the simplex. Newton's method
    for log q and l at once, each step of which is explicit. It ends with one of which
    (1 + c q)' step^2, of what it leaves of the equations, is below ``enough``.
    Should it not settle, l is bracketed, which costs a second loop.
    """
    k = len(t)
    for _ in range(12):
        mass, weighted, inverse = _balance(t, c, log_q, q)
        level = (mass - 1 - weighted) / inverse
        size, missed = _distance(t, c, log_q, q, level)
        for j in range(k):
            log_q[j] -= (log_q[j] + c * q[j] - t[j] + level) / (1 + c * q[j])
        if not size < 400:
            break
        for j in range(k):
            q[j] = exponential(log_q[j])
        if missed < enough:
            inverse = 1 / total(q)
            for j in range(k):
                q[j] *= inverse
            return
    _bracketed(t, c, q)


@summing
def _balance(t: np.ndarray, c: float, log_q: np.ndarray, q: np.ndarray) -> Any:
    """Sums that give the l of Newton's step."""
    mass = weighted = inverse = 0.0
    for j in range(len(t)):
        share = q[j] / (1 + c * q[j])
        mass += q[j]
        weighted += share * (log_q[j] + c * q[j] - t[j])
        inverse += share
    return mass, weighted, inverse


@summing
def _distance(
    t: np.ndarray, c: float, log_q: np.ndarray, q: np.ndarray, level: float
) -> Any:
    """Square of the step's length, and the same as it enters log q + c q."""
    size = missed = 0.0
    for j in range(len(t)):
        bend = 1 + c * q[j]
        step = (log_q[j] + c * q[j] - t[j] + level) / bend
        size += step * step
        missed += bend * step * step
    return size, missed


@compiled
def _bracketed(t: np.ndarray, c: float, q: np.ndarray) -> None:
    """``probabilities`` by Newton's method for l alone, in a bracket.

    sum_j q_j(l) falls and is convex: from the left Newton's method rises to its root.
    At l = max t - c some q_j is at least 1; at max t + log k each is at most 1 / k.
    """
    k, top = len(t), largest(t)
    low, high = top - c, top + np.log(k)
    level = low
    for _ in range(200):
        mass = slope = 0.0
        for j in range(k):
            q[j] = _omega(t[j] - level, c)
            mass += q[j]
            slope += q[j] / (1 + c * q[j])
        if mass >= 1:
            low = level
        else:
            high = level
        if abs(mass - 1) <= 1e-13 or high - low <= 1e-15 * (abs(low) + abs(high)):
            break
        level += (mass - 1) / slope
        if not low < level < high:
            level = (low + high) / 2
    for j in range(k):
        q[j] /= mass


@compiled
def _omega(z: float, c: float) -> float:
    """The q > 0 with log q + c q = z."""
    # of both terms one dominates; from above, Newton's method in log q falls to it
    x = z if c == 0 or z + np.log(c) < 1 else np.log(z + np.log(c)) - np.log(c)
    for _ in range(50):
        q = np.exp(x)
        step = (x + c * q - z) / (1 + c * q)
        x -= step
        if abs(step) <= 1e-15 * (1 + abs(x)):
            break
    return np.exp(x)
