"""The same objective over Dask blocks: arrays and data frames larger than one machine.

Every pass is one task a block, which is sent the params and answers with sums over its
rows, and a tree of additions. X stays where it lies: it is persisted by whatever
scheduler or ``distributed.Client`` is current, and the graph that made it is kept by
Dask, so that blocks of a worker that is lost are made again.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from functools import partial
from numbers import Number
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import assert_all_finite, column_or_1d

from sklinear._checks import LEAST_WEIGHT, check_labels
from sklinear._data import Data, Sums, Tally, computing_dtype
from sklinear._dispatch import computed, made, named, persisted
from sklinear._passes import BlockTask, Passes


def is_dask(X: Any) -> bool:
    """Whether X is a Dask collection; Dask need not be installed to tell."""
    return hasattr(type(X), "__dask_graph__")


def of_a_kind(X: Any, name: str) -> bool:
    """Whether X is Dask's, which is an error where it has no rows in blocks."""
    if is_dask(X) and not hasattr(X, "_meta"):
        raise TypeError(
            f"{name} must be a Dask array or data frame, got {type(X).__name__}: "
            "da.from_delayed and dd.from_delayed make one of delayed pieces."
        )
    return is_dask(X)


def without_rows(X: Any) -> Any:
    """No rows with the names and number of the features of X."""
    of_a_kind(X, "X")
    if hasattr(X, "columns"):
        return X._meta
    if X.ndim != 2 or np.isnan(X.shape[1]):
        raise ValueError(
            "X must have two dimensions and a known number of features, got a Dask "
            f"array of shape {X.shape}: reshape it, or compute its chunk sizes."
        )
    return np.empty((0, int(X.shape[1])))


# Blocks -------------------------------------------------------------------------------


def row_blocks(X: Any) -> list[Any]:
    """Each row block as something delayed; columns in one piece."""
    frame = not hasattr(X, "numblocks")
    if not frame and X.ndim == 2 and X.numblocks[1] > 1:
        X = X.rechunk({1: -1})
    # an array by itself would be fused with what it shares with others
    return np.ravel(X.to_delayed(optimize_graph=frame)).tolist()


def lengths_of(X: Any, blocks: list[Any], name: str) -> list[int]:
    """Rows of each block, counted where Dask does not know them."""
    import dask

    known = getattr(X, "chunks", ((math.nan,),))[0]
    if not np.isnan(known).any():
        return list(known)
    counts = [dask.delayed(len)(block) for block in blocks]
    return computed(counts, numbered(blocks, name))


def numbered(blocks: list[Any], name: str) -> dict[str, Any]:
    """The blocks by what errors call them."""
    return {f"block {i} of {name}": block for i, block in enumerate(blocks)}


def all_numbered(blocks: dict[str, list[Any]]) -> dict[str, Any]:
    """The blocks of several collections, by their names, by what errors call them."""
    names = (numbered(each, name).items() for name, each in blocks.items())
    return dict(itertools.chain.from_iterable(names))


def made_together(**collections: Any) -> dict[str, list[Any]]:
    """The row blocks of those that are Dask's, made at once: they may share tasks."""
    of_dask = {name: X for name, X in collections.items() if of_a_kind(X, name)}
    frames = {name: X for name, X in of_dask.items() if not hasattr(X, "numblocks")}
    if len(frames) > 1:  # blocks of each by itself would not tell what they share
        alone = all_numbered({name: row_blocks(X) for name, X in frames.items()})
        of_dask |= zip(frames, made(frames.values(), alone), strict=True)
    blocks = {name: row_blocks(X) for name, X in of_dask.items()}
    names = all_numbered(blocks)
    lie = iter(made(names.values(), names))
    return {
        name: list(itertools.islice(lie, len(each))) for name, each in blocks.items()
    }


def aligned(
    values: Any,
    blocks: list[Any] | None,
    lengths: list[int],
    name: str,
    check: Callable[[Any], np.ndarray],
) -> list[Any]:
    """Labels or weights, cut as the blocks of X are, whatever they come as.

    ``blocks`` are theirs where they are Dask's. If these are cut otherwise, ``check``
    is asked of each, lest its errors name a block of X.
    """
    import dask

    if values is None or isinstance(values, Number):
        return [values] * len(lengths)
    if blocks is not None:
        own = lengths_of(values, blocks, name)
        check_column((sum(own), *values.shape[1:]), name)
    else:
        values = column(values, name, warn=True)
        own = [len(values)]
    if sum(own) != sum(lengths):
        raise ValueError(
            f"X and {name} must have as many rows, got {sum(lengths)} and {sum(own)}."
        )
    pairs = list(itertools.pairwise(np.cumsum([0, *lengths])))
    if blocks is None:
        return [values[a:b] for a, b in pairs]
    if own == lengths:
        return blocks
    own_starts, cut = np.cumsum([0, *own]), []
    pieces = [
        dask.delayed(named)(what, check, block)
        for what, block in numbered(blocks, name).items()
    ]
    for a, b in pairs:
        first = int(np.searchsorted(own_starts[:-1], a, side="right")) - 1
        last = max(int(np.searchsorted(own_starts, b)), first + 1)
        shift = int(a - own_starts[first])
        rows = slice(shift, shift + int(b - a))
        cut.append(dask.delayed(_recut)(pieces[first:last], rows))
    return cut


def _recut(blocks: list[np.ndarray], rows: slice) -> np.ndarray:
    """Some rows of several blocks of one column."""
    if len({isinstance(block[0], str) for block in blocks if len(block)}) > 1:
        raise ValueError("y must hold text or numbers in all blocks, got both.")
    return np.concatenate(blocks)[rows]


def check_column(shape: tuple[Any, ...], name: str) -> None:
    """Labels or weights must be one column, or (n,)."""
    if len(shape) != 1 and not (len(shape) == 2 and shape[1] == 1):
        raise ValueError(
            f"{name} should be a 1d array, got an array of shape {shape} instead."
        )


def column(values: Any, name: str, warn: bool = False) -> np.ndarray:
    """Labels or weights (n,), by their name in errors."""
    check_column(np.shape(values), name)
    return column_or_1d(np.asarray(values), warn=warn)


def aligned_weights(
    sample_weight: Any,
    lie: dict[str, list[Any]],
    lengths: list[int],
    check: Callable[[Any, int], np.ndarray],
) -> list[Any]:
    """Weights, cut as the blocks of X are; ``check`` is asked of them and their n."""
    name = "sample_weight"
    of_column = partial(_checked_column, check, name)
    return aligned(sample_weight, lie.get(name), lengths, name, of_column)


def _checked_column(
    check: Callable[[Any, int], np.ndarray], name: str, values: Any
) -> np.ndarray:
    """A column by its name, valid."""
    values = column(values, name)
    return check(values, len(values))


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


def labelled(
    check_y: Callable[[Any], np.ndarray],
    check_weights: Callable[..., np.ndarray],
    i: int,
    X: Any,
    y: Any,
    sample_weight: Any,
) -> tuple[np.ndarray, np.ndarray]:
    """Labels and weights of a block, valid; where X is, which is said to be needed."""
    n, names = X.shape[0], (f"block {i} of y", f"block {i} of sample_weight")
    y = _as_many(n, named(names[0], check_y, y), names[0])
    if not (sample_weight is None or isinstance(sample_weight, Number)):
        sample_weight = named(names[1], column, sample_weight, "sample_weight")
        _as_many(n, sample_weight, names[1])
    return y, named(names[1], check_weights, sample_weight, n)


def _as_many(n: int, values: Any, what: str) -> Any:
    """The values of a block, one for each of its n rows: Dask may have been told so."""
    if len(values) != n:
        raise ValueError(
            f"{what} must have {n} rows, as that of X has, got {len(values)}."
        )
    return values


def labels_of(y: Any) -> np.ndarray:
    """Class labels (n,) of some rows, valid."""
    y = column(y, "y")
    check_labels(y)
    assert_all_finite(y, input_name="y")
    if len(y):
        check_classification_targets(y)
    return y


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
        names = numbered(given, "X")
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
        y = aligned(y, lie.get("y"), lengths, "y", labels_of)
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
        blocks = all_numbered(lie)
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
