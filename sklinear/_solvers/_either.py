"""A few iterations of L-BFGS, which end where classes overlap, or else the dual."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np

from sklinear._data import Data
from sklinear._losses import Loss
from sklinear._solvers import _dual, _lbfgs
from sklinear._solvers._frame import Start, framed
from sklinear._solvers._solution import Options, Solution

BRIEF = 25  # iterations of L-BFGS, which cost less than what they tell


def either(
    data: Data,
    loss: Loss,
    alpha: float,
    fit_intercept: bool,
    start: Start,
    options: Options,
) -> Solution:
    """Minimise by what takes less: of sparse rows that is seen from such a beginning.

    Where classes overlap most rows count, features are nearly independent, and L-BFGS
    ends at once. Where they are apart, few rows count, and the dual visits few.
    """
    shared = data, loss, alpha, fit_intercept
    brief = options._replace(max_iter=min(BRIEF, options.max_iter))
    patient = partial(_lbfgs.approach, patient=True)
    found = framed(patient, _lbfgs.variables, *shared, start, brief)
    found = replace(found, solver="lbfgs")
    spent = len(found.history) >= options.max_iter
    if found.converged or spent or options.report.stopped:
        return found
    origin = np.zeros_like(start[0]), np.zeros_like(start[1])
    other = _dual.dual(*shared, origin, options._replace(found=found))
    return replace(other, unit="iterations", solver="dual")
