"""The folds of a search, by the classes that they train on."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from traceback import format_exc
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Fold:
    """A split as a plain fit sees it: rows of weight 0 are left out."""

    index: int  # among the splits
    train: np.ndarray
    test: np.ndarray
    weights: np.ndarray  # (n,), with the class weights, of sum 1


@dataclass(frozen=True)
class Failure:
    """A split that cannot be fitted."""

    index: int  # among the splits
    train: np.ndarray
    error: str


@dataclass
class Group:
    """Folds whose training rows hold the same classes."""

    classes: np.ndarray  # (k,)
    labels: np.ndarray  # (n,) in 0..k-1; 0 for rows of other classes
    known: np.ndarray  # (n,), whether a row is of these classes
    folds: list[Fold] = field(default_factory=list)


def grouped(
    y: np.ndarray,
    weights: np.ndarray,
    splits: Sequence[tuple[Any, Any]],
    labels_and_weights: Callable[..., tuple[np.ndarray, np.ndarray, np.ndarray]],
) -> tuple[list[Group], list[Failure]]:
    """The folds of each set of classes, and why others cannot be fitted.

    ``labels_and_weights`` is what a plain fit does with y and the weights. A row that a
    split names twice counts twice.
    """
    rows = np.arange(len(y))
    groups: dict[tuple, Group] = {}
    failures: list[Failure] = []
    for index, (chosen, left) in enumerate(splits):
        train, test = (  # numpy takes a tuple for an index of several axes
            rows[list(part) if isinstance(part, tuple) else part]
            for part in (chosen, left)
        )
        own = weights * np.bincount(train, minlength=len(y))
        try:
            if not own.any():
                raise ValueError("No training row of the fold has a weight > 0.")
            classes, _, own = labels_and_weights(y, own)
        except ValueError:
            failures.append(Failure(index, train, format_exc()))
            continue
        key = tuple(classes.tolist())
        if key not in groups:
            place = np.minimum(np.searchsorted(classes, y), len(classes) - 1)
            known = classes[place] == y
            groups[key] = Group(classes, np.where(known, place, 0), known)
        groups[key].folds.append(Fold(index, train, test, own))
    return list(groups.values()), failures


def shares(
    losses: Sequence[Hashable],
    folds: list[Fold],
    jobs: int,
    together: Callable[[Any], bool],
) -> list[tuple[list[int], list[Fold]]]:
    """Problems, of which ``losses`` has one each, and folds of each task.

    All in one for one job. Else of a loss whose folds go ``together`` each job has its
    part of the folds; of another each fold is a task, and folds that are left when each
    job has as many are shared out by problems. What takes longest comes first.
    """
    if jobs == 1:
        return [(list(range(len(losses))), folds)]
    members: dict[Hashable, list[int]] = {}
    for index, loss in enumerate(losses):
        members.setdefault(loss, []).append(index)
    found: list[tuple[list[int], list[Fold]]] = []
    for loss in sorted(members, key=together):
        problems = members[loss]
        if together(loss):
            count = min(jobs, len(folds))
            parts = [folds[part::count] for part in range(count)]
            found += [(problems, part) for part in parts]
            continue
        even = len(folds) // jobs * jobs
        found += [(problems, [fold]) for fold in folds[:even]]
        count = min(jobs, len(problems))
        for fold in folds[even:]:
            found += [(problems[part::count], [fold]) for part in range(count)]
    return found
