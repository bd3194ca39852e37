"""All cells of a cross-validation as one problem: losses, alphas and folds.

A fold is the same rows with other weights. Alphas go from strong to weak, each starting
where the last one ended. Where that is quicker, folds go through X together
(``_batch``), and one by one they are then proven, and finished if anything is left.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import replace

import numpy as np

from sklinear._certificate import certificate
from sklinear._data import Data
from sklinear._losses import Hinge, Loss, SquaredHinge
from sklinear._objective import Objective
from sklinear._solvers import METHODS, choose
from sklinear._solvers._auto import is_probed
from sklinear._solvers._batch import ROUGHLY, Batch, JointDescent, most_together
from sklinear._solvers._descent import POLISHED
from sklinear._solvers._dual import is_quick
from sklinear._solvers._dual_descent import LATE
from sklinear._solvers._frame import Start, certify, concluded, from_priors
from sklinear._solvers._intercept import tidied
from sklinear._solvers._newton import refine
from sklinear._solvers._preconditioner import (
    LARGEST_BLOCK,
    LARGEST_BLOCKS,
    Preconditioner,
)
from sklinear._solvers._rows import RowSpace
from sklinear._solvers._solution import Monitor, Options, Solution
from sklinear._variables import LARGEST_FACTOR, choose_variables

LARGEST_COPY = 2**22  # numbers in a fold's rows; beyond, others have weight 0

NEARLY = 0.8  # of tol: to where folds that go together go
NEAR = 100  # times tol: a gap that a fit from elsewhere may well close
Problem = tuple[Loss, float]  # with delta = 1, and its alpha


def solve_grid(
    data: Data,
    problems: list[Problem],
    folds: Sequence[np.ndarray],
    fit_intercept: bool,
    solver: str,
    options: Options,
) -> Iterator[tuple[int, int, Solution]]:
    """Solutions of every problem on every fold, each as soon as it is found.

    A fold is its weights (n,), which add up to 1. Yields the places of problem and
    fold, and the solution. "auto" has the dual, whose multipliers go on from alpha to
    alpha, where it is seen to be quick.
    """
    options = options._replace(polish=POLISHED)
    losses = {type(loss): loss for loss, _ in problems}
    for kind, loss in losses.items():
        own = [i for i, (other, _) in enumerate(problems) if type(other) is kind]
        own.sort(key=lambda i: -problems[i][1])
        alphas = [problems[i][1] for i in own]
        quick = 0
        if solver == "auto" and options.max_iter >= LATE:
            quick = _quick(data, loss, alphas, folds[0], fit_intercept, options)
        shared = folds, fit_intercept
        for place, fold, solution in _cells(
            data, loss, alphas[:quick], *shared, "dual", options
        ):
            yield own[place], fold, solution
        rest = own[quick:]
        if not rest:
            continue
        if go_together(data, loss, alphas[-1], solver):
            path = _paths(data, loss, alphas[quick:], *shared, options)
        else:
            path = _cells(data, loss, alphas[quick:], *shared, solver, options)
        for place, fold, solution in path:
            yield rest[place], fold, solution


def _quick(
    data: Data,
    loss: Loss,
    alphas: list[float],
    weights: np.ndarray,
    fit_intercept: bool,
    options: Options,
) -> int:
    """For how many of the alphas, from the strongest, the dual is quick on a fold.

    The weaker the penalty, the more its epochs: where they stop to be quick is found
    by halving. Folds that could go together do so unless it is quick for all.
    """
    if not is_probed(data, loss, alphas[-1], options.tol):
        return 0
    part = _rows_of(data, weights)
    shared = fit_intercept, options
    if go_together(data, loss, alphas[-1], "auto"):
        return len(alphas) * is_quick(part, loss, alphas[-1], *shared)
    return bisect_left(alphas, True, key=lambda a: not is_quick(part, loss, a, *shared))


def go_together(data: Data, loss: Loss, weakest: float, solver: str) -> bool:
    """Whether folds go through X together, down to the weakest alpha.

    The hinge, which is not smooth, and sparse rows are quicker one by one.
    """
    size = min(data.shape) + 1  # of a class's block of the preconditioner
    few = size <= LARGEST_BLOCK and data.n_classes * size**2 <= LARGEST_BLOCKS
    plain = not (data.sparse or data.streamed or isinstance(loss, Hinge))
    return solver == "auto" and plain and few and weakest > 0


def _cells(
    data: Data,
    loss: Loss,
    alphas: list[float],
    folds: Sequence[np.ndarray],
    fit_intercept: bool,
    solver: str,
    options: Options,
) -> Iterator[tuple[int, int, Solution]]:
    """One by one, each from the end of that with the next stronger alpha.

    Of alphas close together that may be within tol of the next optimum, and of a score
    that is not: each takes a step from it.
    """
    options = options._replace(least=1)
    d, k = data.X.shape[1], data.n_classes
    for fold, weights in enumerate(folds):
        part = _rows_of(data, weights)
        start, multipliers = (np.zeros((d, k)), np.zeros(k)), None
        for place, alpha in enumerate(alphas):
            name = (
                _choose_near(part, loss, alpha, options) if solver == "auto" else solver
            )
            if name == "either" and multipliers is not None:
                name = "dual"  # as it was for a stronger penalty
            if name == "dual":  # from those or none: to look for them takes longer
                start = np.zeros((d, k)), np.zeros(k)
            own = options._replace(multipliers=multipliers)
            found = _solved(name, part, loss, alpha, fit_intercept, start, own)
            start, multipliers = (found.coef, found.intercept), found.multipliers
            yield place, fold, found


def _rows_of(data: Data, weights: np.ndarray) -> Data:
    """A fold: its rows alone, unless these are too many to be copied."""
    rows = np.flatnonzero(weights)
    large = not data.sparse and len(rows) * data.shape[1] > LARGEST_COPY
    if len(rows) == len(weights) or large or data.streamed:
        return data.weighing(weights)
    return data.sample(rows, weights[rows])


def _choose_near(data: Data, loss: Loss, alpha: float, options: Options) -> str:
    """The solver that should be the fastest from a start that is near.

    Few margins of the squared hinge are active then, and fewer change: Newton's case.
    So are they of the hinge, but its optimum may be many points, with other labels:
    there the search shall find the one that a plain fit finds. The dual is not tried:
    what it leaves would have lost its start.
    """
    name = choose(data, loss, alpha, options.tol, fits=max(options.fits, 2))
    near = name == "lbfgs" and not (data.sparse or data.streamed)
    return "newton" if near and isinstance(loss, SquaredHinge) else name


def _solved(
    name: str,
    data: Data,
    loss: Loss,
    alpha: float,
    fit_intercept: bool,
    start: Start,
    options: Options,
) -> Solution:
    """A solver's answer from a start; from none where rounding ends that too early."""
    nowhere = np.zeros_like(start[0]), np.zeros_like(start[1])
    for (W, b), multipliers in ((start, options.multipliers), (nowhere, None)):
        own = options._replace(rng=deepcopy(options.rng), multipliers=multipliers)
        found = METHODS[name](data, loss, alpha, fit_intercept, (W, b), own)
        found = tidied(data, loss, alpha, fit_intercept, found)
        if _unfinished(found, options):
            found = _proven(data, loss, alpha, fit_intercept, found, options)
        near = W.any() or multipliers is not None
        if not (near and _unfinished(found, options)):
            break
    return found


def _proven(
    data: Data,
    loss: Loss,
    alpha: float,
    fit_intercept: bool,
    found: Solution,
    options: Options,
) -> Solution:
    """The same, if its certificate, which rounding takes less from, says that it is."""
    gap = certificate(
        data,
        loss,
        alpha,
        fit_intercept,
        found.coef,
        found.intercept,
        found.value * (1 - found.gap),
        found.value,
        None if found.witness is None else found.witness.point,
        enough=options.tol,
    ).gap
    return replace(found, gap=gap, converged=True) if gap <= options.tol else found


def _unfinished(found: Solution, options: Options) -> bool:
    """Whether a fit ended, by rounding, near its tol with iterations left."""
    near = found.gap <= NEAR * options.tol and len(found.history) < options.max_iter
    return near and not found.converged


def _paths(
    data: Data,
    loss: Loss,
    alphas: list[float],
    folds: Sequence[np.ndarray],
    fit_intercept: bool,
    options: Options,
) -> Iterator[tuple[int, int, Solution]]:
    """As many folds together as take little memory beside X, then the next as many."""
    count = len(folds)
    turns = -(-count // most_together(data))
    for turn in range(turns):
        first, last = turn * count // turns, (turn + 1) * count // turns
        path = _path(
            data,
            loss,
            alphas,
            [folds[fold] for fold in range(first, last)],
            fit_intercept,
            options,
        )
        for place, fold, solution in path:
            yield place, first + fold, solution


def _path(
    data: Data,
    loss: Loss,
    alphas: list[float],
    folds: list[np.ndarray],
    fit_intercept: bool,
    options: Options,
) -> Iterator[tuple[int, int, Solution]]:
    """Folds together, alphas one after the other, until most folds need more.

    Where classes are separated and alpha is weak, few rows matter, and other ones in
    each fold: then no preconditioner fits all.
    """
    (n, d), widen = data.X.shape, options.widen
    mean = data.weighing(np.array(sum(folds)) / len(folds))
    if n < d and n <= LARGEST_FACTOR:
        space = RowSpace.of(mean, fit_intercept)
        if space.data.X.shape[1]:  # else rows tell nothing
            mean, widen = space.data, space.widen
    parts = [mean.weighing(fold) for fold in folds]
    curvature, weakest = loss.curvature, alphas[-1]
    variables = choose_variables(mean, weakest, curvature, fit_intercept, True)
    batch = Batch(mean, loss, parts, fit_intercept, variables)
    objectives = [
        Objective(p, loss, alphas[0], fit_intercept, variables) for p in parts
    ]
    priors = np.stack([from_priors(objective) for objective in objectives], axis=1)
    descent = JointDescent(batch, priors, alphas[0])
    tol, alone = max(NEARLY * options.tol, ROUGHLY), False
    for place, alpha in enumerate(alphas):
        if not alone:
            alone = descent.run(alpha, tol, options.max_iter).mean() < 0.5
        for fold, objective in enumerate(objectives):
            params, found = descent.params[:, fold], None
            if not alone:
                objective = objective.replace(alpha=alpha)
                wanted = descent.wanted(options.tol)[fold]
                found = _finished(objective, params, descent.inverse, wanted, options)
            if found is None or _unfinished(found, options):
                part, start = parts[fold], objective.split(params)
                name = _choose_near(part, loss, alpha, options)
                own = options._replace(least=1)
                found = _solved(name, part, loss, alpha, fit_intercept, start, own)
            if alone or not np.array_equal(found.coef, objective.split(params)[0]):
                better = objective.join(found.coef, found.intercept)
                descent.correct(better, fold, alone)
            coef, intercept = widen(found.coef, found.intercept)
            yield place, fold, replace(found, coef=coef, intercept=intercept)


def _finished(
    objective: Objective,
    params: np.ndarray,
    inverse: np.ndarray,
    wanted: float,
    options: Options,
) -> Solution:
    """The fit of one fold, proven, from a point that should be near its optimum.

    It goes on to the gap that is ``wanted``, which may be less than is asked for.
    """
    exact = objective.replace(data=objective.data.astype(np.float64))
    monitor = Monitor.asked(options._replace(tol=wanted), len(exact.data.y))
    monitor.split = exact.split
    certify(exact, params, monitor)
    preconditioner = Preconditioner(np.random.RandomState(0))
    preconditioner.adopt(inverse)
    refine(exact, params, monitor, preconditioner=preconditioner)
    found = concluded(exact, monitor, "iterations")
    found = replace(found, converged=found.gap <= options.tol)
    return tidied(exact.data, exact.loss, exact.alpha, exact.fit_intercept, found)
