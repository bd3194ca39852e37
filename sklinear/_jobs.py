"""Where a search is computed: in this process, or in several if that is quicker."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
from scipy.sparse import issparse
from sklearn.utils.parallel import Parallel, delayed

from sklinear._cells import FoldScore, Search, Task, evaluate
from sklinear._folds import Group, shares

# Seconds a cell for each number in X and class, where folds go together and where not.
TOGETHER, ALONE = 2e-9, 3e-8
STARTING = 4.0  # seconds up to which a search ends before other processes have started


def run(
    search: Search,
    groups: list[Group],
    n_jobs: int | None,
    contexts: dict[tuple[int, int], Any],
    caller: Any,
) -> list[FoldScore]:
    """Solve and score all cells on all folds.

    What seems to be short begins here; if its scorers turn out to take long, the rest
    is shared out, where cells that have their scores are solved once more on the way.
    Other backends than joblib's own processes get it all at once.
    """
    from joblib import effective_n_jobs  # scikit-learn requires it

    jobs, found = effective_n_jobs(n_jobs), list[FoldScore]()
    fits, cells = len(search.problems) * search.n_splits, len(search.cells)
    if jobs == 1 or (_starts_processes() and _seconds(search, groups) < STARTING):
        for task in _tasks(search, groups, 1, contexts, caller):
            part = len(task.problems) * len(task.folds) / fits
            patience = math.inf if jobs == 1 else part * STARTING
            some = evaluate(search, task, patience)
            found += some
            if len(some) < cells * len(task.folds):
                break
        else:
            return found
    done = frozenset((score.cell, score.fold) for score in found)
    try:
        parts = Parallel(n_jobs=n_jobs, require="sharedmem" if search.stays else None)(
            delayed(evaluate)(search, task)
            for task in _tasks(search, groups, jobs, contexts, caller, done)
        )
    except BaseException:
        search.options.report.stopped = True  # nobody else ends threads
        raise
    return [*found, *(score for part in parts for score in part)]


def _tasks(
    search: Search,
    groups: list[Group],
    jobs: int,
    contexts: dict[tuple[int, int], Any],
    caller: Any,
    done: frozenset[tuple[int, int]] = frozenset(),
) -> list[Task]:
    """All that is to do, in tasks for so many jobs."""

    def together(group: Group, loss: Any) -> bool:
        """If scores are what takes long, they are to be shared out evenly."""
        return not done and search.together(group, loss)

    losses = [problem.loss for problem in search.problems]
    return [
        Task(group, problems, folds, contexts, caller, done)
        for group in groups
        for problems, folds in shares(
            losses, group.folds, jobs, partial(together, group)
        )
    ]


def _starts_processes() -> bool:
    """Whether joblib's backend takes time to start what it runs on."""
    from joblib import parallel

    backend = type(parallel.get_active_backend()[0])
    own = parallel.BACKENDS
    return backend in (own["loky"], own["multiprocessing"])


def _seconds(search: Search, groups: list[Group]) -> float:
    """Roughly what a search takes without its scorers."""
    size = search.X.nnz if issparse(search.X) else float(np.prod(search.X.shape))
    losses = [problem.loss for problem in search.problems]
    found = 0.0
    for group in groups:
        rates = {
            loss: TOGETHER if search.together(group, loss) else ALONE
            for loss in set(losses)
        }
        cells = sum(rates[loss] for loss in losses) * len(group.folds)
        found += cells * size * len(group.classes)
    return found
