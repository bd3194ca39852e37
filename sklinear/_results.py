"""What a search reports: the table of all cells, and which of them is the best."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from numbers import Integral
from typing import Any

import numpy as np
from scipy.stats import rankdata
from sklearn.exceptions import ConvergenceWarning, FitFailedWarning

from sklinear._cells import Cell, FoldScore
from sklinear._folds import Failure

ONE_STD = "one_std"
DRAWN = 1e-9  # relative difference of mean scores that rounding may make


def metrics(found: Sequence[FoldScore]) -> list[str] | None:
    """Names of several metrics, by the first cell on a fold that has them all."""
    several = (list(e.scores) for e in found if isinstance(e.scores, dict))
    return next(several, None)


def table(
    cells: Sequence[Cell], found: Sequence[FoldScore], n_splits: int
) -> tuple[dict[str, Any], list[Warning]]:
    """``cv_results_``: times, parameters and scores, a row a cell, as GridSearchCV's.

    A cell on a fold without an evaluation, because it could not be fitted, has nan.
    """
    shape = len(cells), n_splits
    names = metrics(found)
    keys = ["score"] if names is None else names
    scores = {key: np.full(shape, np.nan) for key in keys}
    fit_time, score_time = np.zeros(shape), np.zeros(shape)
    for e in found:
        place = e.cell, e.fold
        fit_time[place], score_time[place] = e.fit_time, e.score_time
        each = e.scores if names is None or isinstance(e.scores, dict) else {}  # failed
        for key in keys:
            scores[key][place] = each if names is None else each.get(key, math.nan)
    notes: list[Warning] = []
    results: dict[str, Any] = {}
    for name, times in (("fit_time", fit_time), ("score_time", score_time)):
        results[f"mean_{name}"] = times.mean(axis=1)
        results[f"std_{name}"] = times.std(axis=1)
    for name in cells[0].params:
        results[f"param_{name}"] = _column([cell.params[name] for cell in cells])
    results["params"] = [cell.params for cell in cells]
    for key in keys:
        each, name = scores[key], f"test_{key}"
        for split in range(n_splits):
            results[f"split{split}_{name}"] = each[:, split]
        mean = each.mean(axis=1)
        if not np.isfinite(mean).all():
            text = f"One or more of the test scores are non-finite: {mean}"
            notes.append(UserWarning(text))
        with np.errstate(invalid="ignore"):
            deviation = np.sqrt(np.average((each - mean[:, None]) ** 2, axis=1))
        results[f"mean_{name}"], results[f"std_{name}"] = mean, deviation
        results[f"rank_{name}"] = _ranks(mean)
    return results, notes


def _column(values: list[Any]) -> np.ma.MaskedArray:
    """A parameter's values, in the dtype that fits; strings are objects."""
    array = np.array(values)
    dtype = object if array.dtype.kind == "U" else array.dtype
    column = np.ma.MaskedArray(np.empty(len(values), dtype), mask=True)
    for index, value in enumerate(values):
        column[index] = value
    return column


def _ranks(mean: np.ndarray) -> np.ndarray:
    """1 for the best; equals share the better rank, and nan is last."""
    if np.isnan(mean).all():
        return np.ones(len(mean), dtype=np.int32)
    worst = np.nanmin(mean) - 1
    return rankdata(-np.nan_to_num(mean, nan=worst), method="min").astype(np.int32)


def best_index(
    refit: Any, metric: str, results: dict[str, Any], cells: Sequence[Cell]
) -> int:
    """The row that ``refit`` chooses."""
    if callable(refit):
        return _of_callable(refit, results)
    best = int(results[f"rank_test_{metric}"].argmin())
    if refit == ONE_STD and metric == "score":
        return _simplest(best, results, cells)
    return best


def _of_callable(refit: Callable[..., Any], results: dict[str, Any]) -> int:
    """The row that the user's own rule chooses."""
    index = refit(results)
    if not isinstance(index, Integral):
        raise TypeError(
            "refit, a callable, must return the index of a row of cv_results_, an "
            f"integer: best_index_ returned is not an integer but {index!r}."
        )
    index = int(index)
    if not 0 <= index < len(results["params"]):
        raise IndexError(
            "refit, a callable, must return the index of a row of cv_results_: "
            f"best_index_ index out of range, got {index} of {len(results['params'])}."
        )
    return index


def _simplest(best: int, results: dict[str, Any], cells: Sequence[Cell]) -> int:
    """The strongest penalty, of the best cell's loss, within one standard error of it.

    The rule of Breiman, Friedman, Olshen and Stone (1984), "Classification and
    regression trees", section 3.4.3; the error is that of the mean over the folds.
    """
    n_splits = sum(key.startswith("split") for key in results)
    mean, deviation = results["mean_test_score"], results["std_test_score"]
    if n_splits < 2 or not math.isfinite(mean[best]):
        return best
    error = deviation[best] / math.sqrt(n_splits - 1)
    near = [
        index
        for index, cell in enumerate(cells)
        if cell.loss == cells[best].loss and mean[index] >= mean[best] - error
    ]
    return min(near, key=lambda index: (-cells[index].alpha, -mean[index], index))


# What to warn of ----------------------------------------------------------------------


def at_edge(
    name: str, best: int, mean: np.ndarray, cells: Sequence[Cell], automatic: bool
) -> list[Warning]:
    """Whether the best alpha is at an end of its grid, and clearly so.

    Cells of the other losses do not count, nor a single alpha, nor a best that some
    cell inside equals, but for rounding. What counts is the alpha of the problem with
    delta = 1.
    """
    alphas = np.array(
        [cell.alpha if cell.loss == cells[best].loss else np.nan for cell in cells]
    )
    ends, alpha = (np.nanmin(alphas), np.nanmax(alphas)), alphas[best]
    at_end = [math.isclose(alpha, end, rel_tol=1e-9) for end in ends]
    others = np.abs(alphas - alpha) > 1e-9 * alpha
    drawn = np.isclose(mean[others], mean[best], rtol=DRAWN, atol=0).any()
    if not any(at_end) or all(at_end) or drawn or np.isnan(mean[best]):
        return []
    which, direction = ("weakest", "smaller") if at_end[0] else ("strongest", "larger")
    values = ", ".join(
        f"{key}={value if isinstance(value, str) else format(float(value), 'g')}"
        for key, value in cells[best].params.items()
    )
    advice = f"Give {direction} alphas"
    if automatic:
        advice = f"A number of alphas has the same ends: give values, {direction} ones"
    text = (
        f"{name} found the best mean test score at the {which} penalty of its grid "
        f"({values}): a better one may lie beyond. {advice}."
    )
    return [UserWarning(text)]


def open_gaps(name: str, found: Sequence[FoldScore], tol: float) -> list[Warning]:
    """One warning for all fits that ended before they had converged."""
    fits = {(e.problem, e.fold): e for e in found}
    early = [e for e in fits.values() if not e.converged]
    if not early:
        return []
    gaps = [e.gap for e in early if not math.isnan(e.gap)]
    state = "their objectives were still changing by more than tol"
    if gaps:
        state = (
            f"the worst is proven to be within {max(gaps):.1e} of its optimum "
            f"(relative), not within tol={tol:g}"
        )
    remedy = "raise max_iter, tol or the smallest alpha, or scale X"
    if not any(e.spent for e in early):  # rounding hides what is to gain
        remedy = "centre or scale X, or raise tol or the smallest alpha"
    text = (
        f"{name} stopped {len(early)} of {len(fits)} fits of its search before they "
        f"had converged: {state}; {remedy}."
    )
    return [ConvergenceWarning(text)]


def failed_scores(found: Sequence[FoldScore]) -> list[Warning]:
    """One warning for all scores that could not be had."""
    failed = [e for e in found if e.errors]
    if not failed:
        return []
    text = (
        f"Scoring failed on {len(failed)} of {len(found)} fits. Their scores will be "
        f"set to nan. Details of the first:\n{failed[0].errors[0]}"
    )
    return [UserWarning(text)]


def failed_folds(
    name: str,
    failures: Sequence[Failure],
    n_splits: int,
    found: Sequence[FoldScore],
) -> list[Warning]:
    """One warning for all folds that could not be fitted, an error if none could."""
    if not n_splits:
        raise ValueError(f"cv must give {name} at least one fold, got none.")
    if not found:
        raise ValueError(
            f"All the {n_splits} folds of {name} failed to fit. Details of the "
            f"first:\n{failures[0].error}"
        )
    if not failures:
        return []
    text = (
        f"{len(failures)} of {n_splits} folds of {name} failed to fit. Their scores "
        f"will be set to nan. Details of the first:\n{failures[0].error}"
    )
    return [FitFailedWarning(text)]
