"""Many problems on many folds of one X: losses and alphas, sets of weights."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy

import numpy as np

from sklinear._data import Data
from sklinear._losses import Loss
from sklinear._solvers import SOLVERS, choose
from sklinear._solvers._solution import Options, Solution


def solve_grid(
    data: Data,
    problems: list[tuple[Loss, float]],
    folds: list[np.ndarray],
    fit_intercept: bool,
    solver: str,
    options: Options,
) -> Iterator[tuple[int, int, Solution]]:
    """Problem, fold and solution, in any order, each as soon as it is found.

    A problem is a loss with delta = 1 and an alpha; a fold the weights (n,) of the rows
    of X, which add up to 1, 0 where a row is left out. From strong alphas to weak, each
    starts where the one before ended.
    """
    losses: dict[Loss, list[int]] = {}
    for problem, (loss, _) in enumerate(problems):
        losses.setdefault(loss, []).append(problem)
    for fold, weights in enumerate(folds):
        view = Data(data.X, data.y, weights, data.n_classes, data.dtype, data.tally)
        for loss, members in losses.items():
            start = (
                np.zeros((view.X.shape[1], view.n_classes)),
                np.zeros(view.n_classes),
            )
            for problem in sorted(members, key=lambda i: -problems[i][1]):
                alpha = problems[problem][1]
                name = choose(view, loss, alpha) if solver == "auto" else solver
                solution = SOLVERS[name](
                    view,
                    loss,
                    alpha,
                    fit_intercept,
                    start,
                    options._replace(rng=deepcopy(options.rng)),
                )
                start = solution.coef, solution.intercept
                yield problem, fold, solution
