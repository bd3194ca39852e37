"""Cells of a search: candidates on folds, solved together and scored one by one."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from numbers import Real
from traceback import format_exc
from typing import Any

import numpy as np
from scipy.sparse import issparse
from sklearn.utils import _safe_indexing
from sklearn.utils.validation import _check_method_params

from sklinear._base import LinearClassifier
from sklinear._data import Data, computing_dtype
from sklinear._folds import Fold, Group, Weights
from sklinear._losses import Loss
from sklinear._mapped import stays
from sklinear._predictor import places, probabilities, rows_of
from sklinear._solvers import Options, Solution
from sklinear._solvers._grid import go_together, solve_grid
from sklinear._threads import single_threaded_blas

ROWS_AT_A_TIME = 2**11  # that are copied to be scored
SEEN = 2**15  # rows of folds that are kept at hand, or as many as X has
TRIAL = 0.2  # seconds of scores that tell what others take


@dataclass(frozen=True)
class Cell:
    """One candidate of the grid, as the user asked for it."""

    params: dict[str, Any]
    loss: Loss  # with delta = 1
    alpha: float
    scale: float  # of the scores that the loss and alpha give
    scale_of_objective: float


@dataclass(frozen=True)
class Problem:
    """What is solved: the cells that it answers differ only in scale."""

    loss: Loss
    alpha: float
    cells: list[int]


@dataclass(frozen=True, slots=True)
class FoldScore:
    """A cell on a fold."""

    cell: int
    fold: int
    scores: Any  # a number, or a dict of numbers
    score_time: float
    fit_time: float = math.nan
    gap: float = math.nan
    converged: bool = True
    spent: bool = False  # no iteration was left to it
    problem: int = 0
    errors: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Search:
    """What every task of a search needs to know."""

    X: Any  # (n, d), valid
    given: Any  # the same, or the frame that the user gave: what scorers see
    y: Any  # (n,), as the user gave it
    sample_weight: np.ndarray | None  # (n,)
    template: LinearClassifier
    scorer: Any
    quick: str | None  # name of a scorer whose value follows from the scores directly
    log_losses: list[str]  # names of the scorers that are one
    score_params: dict[str, Any]
    cells: list[Cell]
    problems: list[Problem]
    n_splits: int
    options: Options
    verbose: int

    @property
    def stays(self) -> bool:
        """Whether only threads of this process see its numbers as they are."""
        params = self.score_params.values()
        given = self.X, self.given, self.y, self.sample_weight, *params
        return any(stays(part) for part in given if hasattr(part, "shape"))

    def together(self, group: Group, loss: Loss) -> bool:
        """Whether the folds of a group go through X together."""
        weakest = min(problem.alpha for problem in self.problems)
        data = _data(self, group, group.folds)
        return go_together(data, loss, weakest, self.template.solver)

    def __sizeof__(self) -> int:
        """With the rows: joblib on Dask sends what is large once, not a task."""
        values = self.X.data if issparse(self.X) else self.X
        return object.__sizeof__(self) + int(getattr(values, "nbytes", 0))


@dataclass(frozen=True)
class Task:
    """Some problems on some folds of a group."""

    group: Group
    problems: list[int]
    folds: list[Fold]
    contexts: dict[tuple[int, int], Any]  # of callbacks, by cell and fold
    caller: Any  # the estimator that has callbacks
    done: frozenset[tuple[int, int]] = frozenset()  # cells and folds that have scores

    def __sizeof__(self) -> int:
        """With the labels, as that of a search."""
        return object.__sizeof__(self) + self.group.labels.nbytes


def distinct(cells: list[Cell]) -> list[Problem]:
    """The problems behind the cells, by the identities that make delta one knob."""
    found: dict[Any, Problem] = {}
    for index, cell in enumerate(cells):
        # 1e-3 * 10 and 1e-2 * 1 are the same but for rounding
        key = cell.loss, f"{cell.alpha:.12e}"
        problem = found.setdefault(key, Problem(cell.loss, cell.alpha, []))
        problem.cells.append(index)
    return list(found.values())


def evaluate(search: Search, task: Task, patience: float = math.inf) -> list[FoldScore]:
    """Solve and score a task; each solution is forgotten when it has its scores.

    It ends early where the scores that are left seem to take longer than ``patience``.
    """
    group, start, scoring = task.group, time.perf_counter(), 0.0
    found: list[FoldScore] = []
    fits = len(task.problems) * len(task.folds)
    clock = _Clock(search, fits)
    scorer = _Scorer(search, group)
    with single_threaded_blas():
        for problem, fold, solution in _solutions(search, task):
            if search.options.report.stopped:
                break
            begin, cells = time.perf_counter(), list[FoldScore]()
            if (problem.cells[0], fold.index) not in task.done:
                cells = scorer.score(problem, fold, solution, task)
            scoring += time.perf_counter() - begin
            clock.tick(fold, cells)
            found += cells
            left = scoring * (fits / clock.done - 1)
            if scoring > TRIAL and left > patience:
                break
    each = (time.perf_counter() - start - scoring) / max(len(found), 1)
    return [replace(cell, fit_time=each) for cell in found]


def _solutions(search: Search, task: Task) -> Iterator[tuple[Problem, Fold, Solution]]:
    """The solutions of a task's problems on its folds."""
    problems = [search.problems[index] for index in task.problems]
    for problem, fold, solution in solve_grid(
        _data(search, task.group, task.folds),
        [(problem.loss, problem.alpha) for problem in problems],
        Weights(task.group, task.folds),
        bool(search.template.fit_intercept),  # it may be numpy's
        search.template.solver,
        search.options,
    ):
        yield problems[problem], task.folds[fold], solution


def _data(search: Search, group: Group, folds: list[Fold]) -> Data:
    """The rows, with the weights of the first of the folds."""
    weights = Weights(group, folds)[0]
    return Data(search.X, group.labels, weights, len(group.classes))


class _HeldOut:
    """What is known of a fold's held-out rows, but for their features."""

    def __init__(self, search: Search, group: Group, fold: Fold):
        self.rows = test = fold.test
        params = _check_method_params(search.X, search.score_params, test)
        self.labels = group.labels[test]
        self.known = group.known[test]
        weights = params.get("sample_weight")
        self.weights = None if weights is None else np.asarray(weights)
        counted = slice(None) if self.weights is None else self.weights != 0
        # of classes that the model has not: no column of its probabilities is theirs,
        # though a scorer that is told of no classes may take another's
        self.unseen: np.ndarray = np.empty(0)
        if search.log_losses:
            y = np.asarray(_safe_indexing(search.y, test))
            self.unseen = np.unique(y[counted][~self.known[counted]])
        self.easy = (  # to score by what the scorer's name says
            search.quick is not None
            and set(params) <= {"sample_weight"}
            and len(test) > 0
            and (weights is None or np.sum(weights) > 0)
            and not len(self.unseen)
        )


class _Scorer:
    """Scores the cells of a group."""

    def __init__(self, search: Search, group: Group):
        self.search, self.group = search, group
        self.dtype = computing_dtype(search.X.dtype)
        self.fold: Fold | None = None
        self.seen: dict[int, _HeldOut] = {}  # by fold: folds may take turns

    def score(
        self,
        problem: Problem,
        fold: Fold,
        solution: Solution,
        task: Task,
    ) -> list[FoldScore]:
        """All cells of a problem on a fold."""
        search = self.search
        self._enter(fold)
        quick = None
        start = time.perf_counter()
        if self.held_out.easy:
            with suppress(ValueError):  # scores overflow, which the scorer is to tell
                quick = self._quick_score(solution)
        shared = (time.perf_counter() - start) / len(problem.cells)
        found = []
        for index in problem.cells:
            model = None
            if quick is None or task.contexts:
                model = self.model(search.cells[index], solution)
            scores: Any = quick
            errors: list[str] = []
            start = time.perf_counter()
            if quick is None and model is not None:
                scores, errors = self._scores(model)
            spent = shared + time.perf_counter() - start
            found.append(
                FoldScore(
                    index,
                    fold.index,
                    scores,
                    spent,
                    gap=solution.gap,
                    converged=solution.converged,
                    spent=len(solution.history) >= search.options.max_iter,
                    problem=search.problems.index(problem),
                    errors=errors,
                )
            )
            if task.contexts:
                context = task.contexts[index, fold.index]
                tell(search, task.caller, context, fold, model)
        return found

    def _enter(self, fold: Fold) -> None:
        """Take the fold's rows, unless they are at hand."""
        if self.fold is fold:
            return
        search, self.fold = self.search, fold
        if fold.index not in self.seen:
            if sum(len(one.rows) for one in self.seen.values()) > max(fold.n, SEEN):
                self.seen.clear()
            self.seen[fold.index] = _HeldOut(search, self.group, fold)
        self.held_out = self.seen[fold.index]

    def _quick_score(self, solution: Solution) -> float:
        """What the scorer gives, from one product; a scale of the scores does nothing.

        The very steps of accuracy_score and log_loss, without their validation, and
        with all of the model's classes known, not only those of the fold's rows.
        """
        model, held_out = self._predictor(solution), self.held_out
        parts = [
            model._decide(self.search.X[held_out.rows[cut : cut + ROWS_AT_A_TIME]])
            for cut in range(0, len(held_out.rows), ROWS_AT_A_TIME)
        ]
        scores = np.concatenate(parts)
        if self.search.quick == "accuracy":
            right = (places(scores) == held_out.labels) & held_out.known
            return float(np.average(right, weights=held_out.weights))
        each = probabilities(scores)
        if scores.ndim == 1:  # a scorer sees the second class's alone
            each[:, 0] = 1 - each[:, 1]
        proba = each[np.arange(len(scores)), held_out.labels]
        eps = np.finfo(proba.dtype).eps
        logs = np.log(np.clip(proba, eps, 1 - eps))
        return float(np.average(logs, weights=held_out.weights))

    def _scores(self, model: LinearClassifier) -> tuple[Any, list[str]]:
        """What the scorer says, nan where it fails, and the errors."""
        search, held_out = self.search, self.held_out
        names = tuple(getattr(search.scorer, "_scorers", ()))  # of several
        blind = search.log_losses if len(held_out.unseen) else []
        unseen = [
            "ValueError: the log loss of held-out rows needs all of their classes in "
            f"the rows of the fit, which have none of {held_out.unseen}.\n"
        ]
        if blind and not names:
            return math.nan, unseen
        # copies for each, in case a scorer changes them
        X, y = (_safe_indexing(of, held_out.rows) for of in (search.given, search.y))
        params = _check_method_params(search.X, search.score_params, held_out.rows)
        try:
            scores = search.scorer(model, X, y, **params)
        except Exception:
            if names:  # of all scorers at once: one asks what no model has
                raise
            return math.nan, [format_exc()]
        if not isinstance(scores, dict):
            return _number(scores, search.scorer), []
        errors = [scores[name] for name in names if isinstance(scores[name], str)]
        for name, score in scores.items():
            failed = name in names and isinstance(score, str)
            failed |= name in blind
            scores[name] = math.nan if failed else _number(score, name)
        return scores, errors + unseen * bool(blind)

    def _predictor(self, solution: Solution, scale: float = 1.0) -> LinearClassifier:
        """The plain estimator with the coefficients of a solution."""
        model = copy.copy(self.search.template)
        coef, intercept = rows_of(solution.coef, solution.intercept, self.dtype, scale)
        model.coef_, model.intercept_ = coef, intercept
        model.classes_ = self.group.classes.copy()  # lest a scorer changes them
        return model

    def model(self, cell: Cell, solution: Solution) -> LinearClassifier:
        """The plain estimator, as if it had been fitted with a cell's parameters."""
        model = self._predictor(solution, cell.scale)
        model.__dict__.update(cell.params)
        model.n_iter_ = len(solution.history)
        factor = cell.scale_of_objective
        model.loss_curve_ = [factor * value for value in solution.history]
        if not math.isnan(solution.gap):
            model.dual_gap_ = solution.gap
        return model


def tell(
    search: Search, caller: Any, context: Any, fold: Fold, model: Any = None
) -> None:
    """One task of the callbacks: a cell on a fold, whose model is None if it failed."""
    weights = search.sample_weight
    task = {
        "estimator": caller,
        "X": lambda: _safe_indexing(search.given, fold.train),
        "y": lambda: _safe_indexing(search.y, fold.train),
        "metadata": None
        if weights is None
        else {"sample_weight": _safe_indexing(weights, fold.train)},
    }
    fitted = None
    if model is not None and caller.refit:  # or it could not predict
        fitted = {
            name: value
            for name, value in vars(model).items()
            if name.endswith("_") and not name.startswith("_")
        }
        scorers = getattr(search.scorer, "_scorers", search.scorer)
        fitted |= {"best_estimator_": model, "scorer_": scorers}  # for its own score
    context.call_on_fit_task_begin(**task)
    context.call_on_fit_task_end(**task, reconstruction_attributes=fitted)


def _number(score: Any, scorer: Any) -> float:
    """A score as a number."""
    if hasattr(score, "item"):
        with suppress(ValueError):  # of several values
            score = score.item()
    if not isinstance(score, Real):
        raise ValueError(
            f"scoring must return a number, got {score!r} ({type(score)}) instead. "
            f"(scorer={scorer})"
        )
    return float(score)


class _Clock:
    """Prints how far a task is: about once a second, or every fit."""

    def __init__(self, search: Search, total: int):
        self.search, self.total = search, total
        self.done = 0
        self.start = self.last = time.perf_counter()

    def tick(self, fold: Fold, cells: list[FoldScore]) -> None:
        """One more problem is solved on a fold."""
        self.done += 1
        search, now = self.search, time.perf_counter()
        if search.verbose < 1 or (search.verbose == 1 and now - self.last < 1):
            return
        self.last = now
        for cell in cells if search.verbose > 1 else cells[:1]:
            params = search.cells[cell.cell].params
            named = ", ".join(f"{name}={value}" for name, value in params.items())
            scores = cell.scores if isinstance(cell.scores, dict) else {"": cell.scores}
            told = ", ".join(
                f"{name or 'score'}={score:.4g}" for name, score in scores.items()
            )
            print(
                f"[CV {fold.index + 1}/{search.n_splits}] {named}: {told}; "
                f"{self.done} of {self.total} fits of this task, "
                f"{now - self.start:.1f} s",
                flush=True,
            )
