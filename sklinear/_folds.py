"""The folds of a search, by the classes that they train on."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from traceback import format_exc
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Fold:
    """A split, in few bytes: of many folds all are kept."""

    index: int  # among the splits
    n: int
    held_out: np.ndarray  # rows, as the splitter gave them, of the smallest dtype
    counts: np.ndarray | None  # (n,) of a training row; None: 1 of all not held out

    @classmethod
    def of(cls, index: int, n: int, train: np.ndarray, test: np.ndarray) -> Fold:
        """The fold of these rows."""
        held_out = test.astype(np.min_scalar_type(n))
        fold = cls(index, n, held_out, None)
        counts = np.bincount(train, minlength=n)
        if np.array_equal(counts, fold.times):
            return fold
        return cls(index, n, held_out, counts.astype(np.min_scalar_type(counts.max())))

    @property
    def times(self) -> np.ndarray:
        """How often each row (n,) is trained on."""
        if self.counts is not None:
            return self.counts
        times = np.ones(self.n, dtype=bool)
        times[self.held_out] = False
        return times

    @property
    def train(self) -> np.ndarray:
        """The rows trained on, in their order in X, whatever the splitter's was."""
        return np.repeat(np.arange(self.n), self.times)

    @property
    def test(self) -> np.ndarray:
        """The rows held out."""
        return self.held_out.astype(np.intp)


@dataclass(frozen=True)
class Failure:
    """A split that cannot be fitted."""

    fold: Fold
    error: str


@dataclass
class Group:
    """Folds whose training rows hold the same classes."""

    classes: np.ndarray  # (k,)
    labels: np.ndarray  # (n,) in 0..k-1; 0 for rows of other classes
    known: np.ndarray  # (n,), whether a row is of these classes
    # classes, labels and weights of a fold, as a plain fit sees them
    seen: Callable[[Fold], tuple[np.ndarray, np.ndarray, np.ndarray]]
    folds: list[Fold] = field(default_factory=list)


@dataclass(frozen=True)
class Weights(Sequence[np.ndarray]):
    """The weights (n,) of a group's folds as a plain fit has them, with the class
    weights, of sum 1; made when they are asked for."""

    group: Group
    folds: list[Fold]

    def __len__(self) -> int:
        return len(self.folds)

    def __getitem__(self, place: Any) -> Any:
        return self.group.seen(self.folds[place])[2]


def grouped(
    y: np.ndarray,
    weights: np.ndarray,
    splits: Iterable[tuple[Any, Any]],
    labels_and_weights: Callable[..., tuple[np.ndarray, np.ndarray, np.ndarray]],
    named: bool,
) -> tuple[list[Group], list[Failure]]:
    """The folds of each set of classes, and why others cannot be fitted.

    ``labels_and_weights`` is what a plain fit does with y and the weights, or, where it
    asks for no class that is ``named``, with integers for y, which takes less time. A
    row that a split names twice counts twice.
    """
    rows = np.arange(len(y))
    names, codes = (y, y) if named else np.unique(y, return_inverse=True)
    seen = partial(_seen, codes, weights, labels_and_weights)
    groups: dict[tuple, Group] = {}
    failures: list[Failure] = []
    for index, split in enumerate(splits):
        train, test = (  # numpy takes a tuple for an index of several axes
            rows[list(part) if isinstance(part, tuple) else part] for part in split
        )
        if np.ndim(train) != 1 or np.ndim(test) != 1:
            raise ValueError(
                "cv must give two arrays of row indices a split, those trained on and "
                f"those held out, got {split!r}."
            )
        fold = Fold.of(index, len(y), train, test)
        try:
            classes, _, _ = seen(fold)
            classes = classes if named else names[classes]
        except ValueError:
            own = partial(_seen, y, weights, labels_and_weights)
            failures.append(Failure(fold, _why(own, fold)))
            continue
        key = tuple(classes.tolist())
        if key not in groups:
            place = np.minimum(np.searchsorted(classes, y), len(classes) - 1)
            known = classes[place] == y
            groups[key] = Group(classes, np.where(known, place, 0), known, seen)
        groups[key].folds.append(fold)
    return list(groups.values()), failures


def _why(seen: Callable[[Fold], Any], fold: Fold) -> str:
    """Why a fold cannot be fitted, in the labels' own names."""
    try:
        seen(fold)
    except ValueError:
        return format_exc(chain=False)  # the error before speaks of codes
    raise AssertionError("integers have no class less than their names")


def _seen(
    y: np.ndarray,
    weights: np.ndarray,
    labels_and_weights: Callable[..., tuple[np.ndarray, np.ndarray, np.ndarray]],
    fold: Fold,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Classes, labels and weights as a plain fit sees them in a fold."""
    own = weights * fold.times
    if not own.any():
        raise ValueError("No training row of the fold has a weight > 0.")
    return labels_and_weights(y, own)


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
