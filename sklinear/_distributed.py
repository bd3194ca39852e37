"""The same objective over Dask blocks: arrays and data frames larger than one machine.

Every pass is one task a block, which is sent the params and answers with sums over its
rows, and a tree of additions. X stays where it lies: it is persisted by whatever
scheduler or ``distributed.Client`` is current, and the graph that made it is kept by
Dask, so that blocks of a worker that is lost are made again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse

from sklinear._checks import LEAST_WEIGHT
from sklinear._collections import (
    aligned,
    aligned_weights,
    labelled,
    labels_of,
    made_together,
    numbered,
)
from sklinear._data import Data, Sums, Tally, computing_dtype
from sklinear._dispatch import computed, named, persisted
from sklinear._passes import BlockTask, Passes


class _Facts(NamedTuple):
    """What has to be known of a block of X."""

    n: int
    d: int
    dtype: np.dtype
    sparse: bool
    ready: bool  # for passes over it, as it is


def _ready(check: Callable[[Any], Any], what: str, X: Any) -> Any:
    """A block as numbers, dense or CSR.

    Rows that were sent may lie where no number of theirs begins at a whole word, and
    every product would copy them first.
    """
    X = named(what, check, X)
    if scipy.sparse.issparse(X):
        return X.astype(computing_dtype(X.dtype))
    return np.require(X, requirements="A")


def _look(check: Callable[[Any], Any], what: str, X: Any) -> _Facts:
    """At a block, whether it is valid."""
    checked = named(what, check, X)
    sparse = scipy.sparse.issparse(checked)
    own = checked.dtype == computing_dtype(checked.dtype)
    ready = checked is X and (own if sparse else X.flags.aligned)
    n, d = checked.shape
    return _Facts(n, d, checked.dtype, sparse, ready)


def _masses(
    rows: tuple[np.ndarray, np.ndarray],
) -> tuple[np.ndarray, np.ndarray, float, bool]:
    """The labels of a block that have weight, how much in units of the largest.

    And whether labels are text.
    """
    y, weights = rows
    largest, counted = float(weights.max(initial=0)), weights > 0
    labels, places = np.unique(y[counted], return_inverse=True)
    masses = np.bincount(places, weights[counted] / largest, len(labels))
    return labels, masses, largest, isinstance(y[0], str)


def _check_kinds(numbers: list[int], texts: list[bool]) -> None:
    """Labels must be text in all blocks, whatever their weights, or numbers in all."""
    if len(set(texts)) > 1:
        text, number = (numbers[texts.index(kind)] for kind in (True, False))
        raise ValueError(
            f"y must hold text or numbers in all blocks, got text in block {text} and "
            f"numbers in block {number} of y."
        )


def _coded(
    rows: tuple[np.ndarray, np.ndarray],
    classes: np.ndarray,
    factors: np.ndarray,
    unit: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Labels as 0..k-1 and weights as parts of the whole; 0 for rows of no class."""
    y = rows[0]
    weights = np.maximum(rows[1] / unit, LEAST_WEIGHT * (rows[1] > 0))
    codes = np.minimum(np.searchsorted(classes, y), len(classes) - 1)
    counted = (weights > 0) & (classes[codes] == y)
    return np.where(counted, codes, 0), np.where(counted, weights * factors[codes], 0.0)


class Blocks:
    """Valid rows of a fit where they lie, before it is known which classes count.

    ``check_rows`` and ``check_weights`` are what is asked of a block of X and of its
    weights. ``labels`` (k,) have the weights ``masses`` (k,), in units of the largest
    of a row: their sum may be beyond float64.
    """

    def __init__(
        self,
        X: Any,
        y: Any,
        sample_weight: Any,
        check_rows: Callable[[Any], Any],
        check_weights: Callable[..., np.ndarray],
    ):
        import dask

        if y is None:
            raise ValueError("y must be given: class labels, got None.")
        lie = made_together(X=X, y=y, sample_weight=sample_weight)
        given = lie["X"]
        names = numbered({"X": given})
        looks = [dask.delayed(_look)(check_rows, what, x) for what, x in names.items()]
        facts = computed(looks, names)
        if not all(fact.ready for fact in facts):
            ready = [dask.delayed(_ready)(check_rows, *item) for item in names.items()]
            given = persisted(ready, names)
        self.d = facts[0].d if np.isnan(X.shape[1]) else X.shape[1]
        for what, fact in zip(names, facts, strict=True):
            if fact.d != self.d:
                raise ValueError(
                    f"{what} must have {self.d} features as X has, got {fact.d}."
                )
        lengths = [fact.n for fact in facts]
        self.n = sum(lengths)
        if self.n == 0:
            raise ValueError("X must have rows, got blocks with 0 sample(s) in all.")
        y = aligned(y, lie, lengths, "y", labels_of)
        weights = aligned_weights(sample_weight, lie, lengths, check_weights)
        self.dtype = computing_dtype(np.result_type(*(fact.dtype for fact in facts)))
        self.sparse = any(fact.sparse for fact in facts)
        self.numbers = [i for i, n in enumerate(lengths) if n]
        self.X = [given[i] for i in self.numbers]
        rows = [
            dask.delayed(labelled)(
                labels_of, check_weights, i, given[i], y[i], weights[i]
            )
            for i in self.numbers
        ]
        blocks = numbered(lie)
        self.rows = persisted(rows, blocks)
        found = computed([dask.delayed(_masses)(row) for row in self.rows], blocks)
        _check_kinds(self.numbers, [text for *_, text in found])
        self.unit = max(unit for _, _, unit, _ in found) or 1.0
        labels = np.concatenate([labels for labels, *_ in found])
        self.labels, places = np.unique(labels, return_inverse=True)
        parts = [
            np.maximum(masses * (unit / self.unit), LEAST_WEIGHT)
            for _, masses, unit, _ in found
        ]
        masses = np.concatenate(parts)
        self.masses = np.bincount(places, masses, len(self.labels))

    def data(self, classes: np.ndarray, each: np.ndarray) -> DistributedData:
        """What solvers see of these classes, with a weight each (k,) of their rows."""
        import dask

        masses = self.masses[np.searchsorted(self.labels, classes)] * each
        masses = np.maximum(masses, LEAST_WEIGHT * masses.sum())
        factors = each / masses.sum()
        names = {
            f"block {i} of y": row
            for i, row in zip(self.numbers, self.rows, strict=True)
        }
        rows = persisted(
            [
                dask.delayed(_coded)(row, classes, factors, self.unit)
                for row in self.rows
            ],
            names,
        )
        passes = Passes(list(zip(self.numbers, self.X, rows, strict=True)))
        shape = self.n, self.d
        return DistributedData(
            passes, shape, self.dtype, self.sparse, masses / masses.sum()
        )


class DistributedData(Data):
    """Data whose rows are never here: all that is done with them is ``total``."""

    streamed = True

    def __init__(
        self,
        passes: Passes,
        shape: tuple[int, int],
        dtype: np.dtype,
        sparse: bool,
        masses: np.ndarray,
        tally: Tally | None = None,
    ):
        self._passes = passes
        self._shape, self.dtype, self.sparse = shape, dtype, sparse
        self.n_tasks = passes.n_tasks
        self.class_masses, self.n_classes = masses, len(masses)
        self.tally = Tally() if tally is None else tally
        self._casts = {}
        self._class_sums = None

    @property
    def shape(self) -> tuple[int, int]:
        """Of X."""
        return self._shape

    def total(self, visit: Callable[..., Sums], *args: Any) -> Sums:
        """What ``visit(block, *args)`` sums up over all blocks."""
        self.tally.rows += self._shape[0]
        sent = BlockTask(visit, args, self.n_classes, self.dtype)
        return self._passes.run(sent, self.shape[1] * self.n_classes)

    def astype(self, dtype: Any) -> Data:
        """The same data, with products computed in another precision."""
        cast = DistributedData(
            self._passes,
            self._shape,
            computing_dtype(dtype),
            self.sparse,
            self.class_masses,
            self.tally,
        )
        return self if cast.dtype == self.dtype else self._casts.setdefault(dtype, cast)

    def close(self) -> None:
        """The rows are let go; those that the user has persisted stay."""
        self._passes.close()
