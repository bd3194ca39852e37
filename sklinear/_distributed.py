"""The same objective over Dask blocks: arrays and data frames larger than one machine.

Every pass is one task a block, which is sent the params and answers with sums over its
rows, and a tree of additions. X stays where it lies: it is persisted by whatever
scheduler or ``distributed.Client`` is current, and the graph that made it is kept by
Dask, so that blocks of a worker that is lost are made again.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse

from sklinear._checks import LEAST_WEIGHT, check_block, check_block_weights
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


def _look(name: str, what: str, X: Any) -> _Facts:
    """At a block, whether it is valid for an estimator of this name."""
    checked = named(what, check_block, X, name)
    sparse = scipy.sparse.issparse(checked)
    own = checked.dtype == computing_dtype(checked.dtype)
    ready = checked is X and (own if sparse else X.flags.aligned)
    n, d = checked.shape
    return _Facts(n, d, checked.dtype, sparse, ready)


def _ready(name: str, what: str, X: Any) -> Any:
    """A block as numbers, dense or CSR.

    Rows that were sent may lie where no number of theirs begins at a whole word, and
    every product would copy them first.
    """
    X = named(what, check_block, X, name)
    if scipy.sparse.issparse(X):
        return X.astype(computing_dtype(X.dtype))
    return np.require(X, requirements="A")


def _valid(blocks: list[Any], d: int, name: str) -> tuple[list[Any], list[_Facts]]:
    """Blocks of X as passes take them, and what has to be known of each."""
    import dask

    names = numbered({"X": blocks})
    looks = [dask.delayed(_look)(name, *item) for item in names.items()]
    facts = computed(looks, names)
    for what, fact in zip(names, facts, strict=True):
        if fact.d != d:
            raise ValueError(f"{what} must have {d} features as X has, got {fact.d}.")
    if not all(fact.ready for fact in facts):
        ready = [dask.delayed(_ready)(name, *item) for item in names.items()]
        blocks = persisted(ready, names)
    return blocks, facts


class _Counted(NamedTuple):
    """The labels of a block that have weight, and how much."""

    labels: np.ndarray  # (m,)
    masses: np.ndarray  # (m,), in units of the largest
    largest: float  # weight of a row
    text: bool  # whether labels, of any weight, are text


def _count(rows: tuple[np.ndarray, np.ndarray]) -> _Counted:
    """The labels of a block, by their weights."""
    y, weights = rows
    largest, counted = float(weights.max(initial=0)), weights > 0
    labels, places = np.unique(y[counted], return_inverse=True)
    masses = np.bincount(places, weights[counted] / largest, len(labels))
    return _Counted(labels, masses, largest, isinstance(y[0], str))


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

    ``labels`` (k,) have the weights ``masses`` (k,), in units of the largest of a row:
    their sum may be beyond float64. Errors say ``name``, that of the estimator.
    """

    def __init__(self, X: Any, y: Any, sample_weight: Any, name: str):
        import dask

        if y is None:
            raise ValueError("y must be given: class labels, got None.")
        lie = made_together(X=X, y=y, sample_weight=sample_weight)
        blocks, facts = _valid(lie["X"], X.shape[1], name)
        lengths = [fact.n for fact in facts]
        self.shape = sum(lengths), X.shape[1]
        if not any(lengths):
            raise ValueError("X must have rows, got blocks with 0 sample(s) in all.")
        self.dtype = computing_dtype(np.result_type(*(fact.dtype for fact in facts)))
        self.sparse = any(fact.sparse for fact in facts)
        y = aligned(y, lie, lengths, "y", labels_of)
        weights = aligned_weights(sample_weight, lie, lengths, check_block_weights)
        self.numbers = [i for i, n in enumerate(lengths) if n]
        self.X = [blocks[i] for i in self.numbers]
        rows = [
            dask.delayed(labelled)(
                labels_of, check_block_weights, i, blocks[i], y[i], weights[i]
            )
            for i in self.numbers
        ]
        names = numbered(lie)
        self.rows = persisted(rows, names)
        found = computed([dask.delayed(_count)(row) for row in self.rows], names)
        _check_kinds(self.numbers, [each.text for each in found])
        self.unit = max(each.largest for each in found) or 1.0
        labels = np.concatenate([each.labels for each in found])
        self.labels, places = np.unique(labels, return_inverse=True)
        parts = [
            np.maximum(each.masses * (each.largest / self.unit), LEAST_WEIGHT)
            for each in found
        ]
        masses = np.concatenate(parts)
        self.masses = np.bincount(places, masses, len(self.labels))

    def data(self, classes: np.ndarray, each: np.ndarray) -> DistributedData:
        """What solvers see of these classes, with a weight each (k,) of their rows."""
        import dask

        masses = self.masses[np.searchsorted(self.labels, classes)] * each
        masses = np.maximum(masses, LEAST_WEIGHT * masses.sum())
        total = masses.sum()
        factors = each / total
        names = {
            f"block {i} of y": row
            for i, row in zip(self.numbers, self.rows, strict=True)
        }
        coded = [
            dask.delayed(_coded)(row, classes, factors, self.unit) for row in self.rows
        ]
        rows = persisted(coded, names)
        passes = Passes(list(zip(self.numbers, self.X, rows, strict=True)))
        return DistributedData(
            passes, self.shape, self.dtype, self.sparse, masses / total
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
    ):
        self._passes = passes
        self._shape, self.dtype, self.sparse = shape, dtype, sparse
        self.n_tasks = passes.n_tasks
        self.class_masses, self.n_classes = masses, len(masses)
        self.tally = Tally()
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
        dtype = computing_dtype(dtype)
        if dtype == self.dtype:
            return self
        if dtype not in self._casts:
            cast = copy.copy(self)  # with the same tally
            cast.dtype, cast._casts, cast._class_sums = dtype, {}, None
            self._casts[dtype] = cast
        return self._casts[dtype]

    def close(self) -> None:
        """The rows are let go; those that the user has persisted stay."""
        self._passes.close()
