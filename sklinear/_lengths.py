"""How much longer than the solver's the coefficients are to be.

Rounding puts margins that hold exactly, as weak penalties make many do, at either side
of their kink, and there each costs what rounding may be of it; a bit longer, most hold
beyond it. Without a penalty any length will do.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from sklinear._certificate import Certificate
from sklinear._losses import Hinge, Loss
from sklinear._solvers import Solution

LONGER = {
    np.dtype(np.float32): [1 + 2.0**-bits for bits in (20, 18, 16, 15, 14, 12, 10)],
    np.dtype(np.float64): [1 + 2.0**-bits for bits in range(48, 29, -3)],
}
FALL = 0.9  # of a gap, whose part that is for rounding falls at once


def proven_length(
    proof: Callable[[float], Certificate],
    solution: Solution,
    loss: Loss,
    alpha: float,
    dtype: Any,
    tol: float,
) -> Certificate:
    """The best certificate of those that ``proof`` gives of a length, which it takes.

    Others than 1 are asked for where the gap is above ``tol``: of float32 also above
    the solver's, in float64, which is all that there is to reach; of float64 as long as
    the gap falls, or else rounding is not what keeps it from being less.
    """
    single = dtype == np.float32
    enough = 1.0 if single or alpha == 0 else FALL
    lengths = LONGER[np.dtype(np.float32 if alpha == 0 else dtype)]
    if alpha == 0:
        lengths = [*lengths, 2.0]
    elif not isinstance(loss, Hinge):
        lengths = []
    known = solution.gap if single or alpha == 0 else 0.0
    best, taken, last = proof(1.0), 1.0, 1.0
    for length in lengths:
        cost = 2 * (length - 1) * (alpha > 0)  # of the objective, at most
        if best.gap <= max(tol, known, cost):
            break
        found, last = proof(length), length
        if found.gap < enough * best.gap:
            best, taken = found, length
        elif enough < 1:
            break
    return best if last == taken else proof(taken)
