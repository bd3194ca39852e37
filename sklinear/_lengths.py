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

SINGLE = [1 + 2.0**-bits for bits in (20, 18, 16, 15, 14, 12, 10)]
DOUBLE = [1 + 2.0**-bits for bits in range(48, 29, -3)]
FALL = 0.9  # of a gap, whose part that is for rounding falls at once


def proven_length(
    take: Callable[[float], None],
    proof: Callable[[], Certificate],
    loss: Loss,
    alpha: float,
    dtype: Any,
    tol: float,
    gap: float,
) -> Certificate:
    """The best certificate, and ``take`` its length: 1, as it is, or another.

    Others are asked for where the proven gap is above ``tol``: of float32 and without a
    penalty also above the solver's ``gap``, which is all that there is to reach; of
    float64 as long as it falls, or else rounding is not what keeps it from being less.
    """
    double = alpha > 0 and dtype == np.float64
    lengths: list[float] = []
    if alpha == 0:
        lengths = [*SINGLE, 2.0]
    elif isinstance(loss, Hinge):
        lengths = DOUBLE if double else SINGLE
    known, least = (0.0, FALL) if double else (gap, 1.0)
    best, taken, last = proof(), 1.0, 1.0
    for length in lengths:
        cost = 2 * (length - 1) * (alpha > 0)  # of the objective, at most
        if best.gap <= max(tol, known, cost):
            break
        take(length)
        found, last = proof(), length
        if found.gap < least * best.gap:
            best, taken = found, length
        elif double:
            break
    if last != taken:
        take(taken)
    return best
