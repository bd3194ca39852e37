"""Solvers by name, and which to choose.

Each takes (data, loss, alpha, fit_intercept, start, options).
"""

from __future__ import annotations

from sklinear._solvers._auto import choose
from sklinear._solvers._dual import dual
from sklinear._solvers._either import either
from sklinear._solvers._lbfgs import lbfgs
from sklinear._solvers._newton import newton
from sklinear._solvers._sgd import sgd
from sklinear._solvers._solution import Options, Progress, Reporter, Solution

__all__ = [
    "METHODS",
    "SOLVERS",
    "Options",
    "Progress",
    "Reporter",
    "Solution",
    "choose",
]

SOLVERS = {"lbfgs": lbfgs, "newton": newton, "dual": dual, "sgd": sgd}
METHODS = {**SOLVERS, "either": either}  # of lbfgs and dual, which only "auto" takes
