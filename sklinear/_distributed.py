"""The same objective over Dask blocks: arrays and data frames larger than one machine.

Every pass is one task a block, which is sent the params and answers with sums over its
rows, and a tree of additions. X stays where it lies: it is persisted by whatever
scheduler or ``distributed.Client`` is current, and the graph that made it is kept by
Dask, so that blocks of a worker that is lost are made again.
"""

from __future__ import annotations

import functools
import itertools
import math
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Number
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import (
    assert_all_finite,
    column_or_1d,
)

from sklinear._data import Data, Sums, Tally, computing_dtype
from sklinear._threads import single_threaded_blas

FAN_IN = 8  # sums that one task adds up


def is_dask(X: Any) -> bool:
    """Whether X is a Dask collection; Dask need not be installed to tell."""
    return hasattr(type(X), "__dask_graph__")


def without_rows(X: Any) -> Any:
    """No rows with the names and number of the features of X."""
    if hasattr(X, "columns"):
        return X._meta
    if X.ndim != 2 or np.isnan(X.shape[1]):
        raise ValueError(
            "X must have two dimensions and a known number of features, got a Dask "
            f"array of shape {X.shape}: reshape it, or compute its chunk sizes."
        )
    return np.empty((0, int(X.shape[1])))


# Errors -------------------------------------------------------------------------------


def named(what: str, function: Callable[..., Any], *args: Any) -> Any:
    """function(*args), whose error would say in what it happened."""
    try:
        return function(*args)
    except Exception as error:
        raise _renamed(error, what)  # noqa: B904 - it is the same error


def _renamed(error: Exception, what: str) -> Exception:
    """The user's error with ``what`` before its message, or as a note to it."""
    if error.args and isinstance(error.args[0], str):
        message, *others = error.args
        if message.startswith("block "):
            return error
        error.args = (f"{what}: {message}", *others)
        if what in str(error):
            return error
        error.args = (message, *others)
    error.add_note(what)
    return error


def computed(wanted: Any, blocks: dict[str, Any]) -> Any:
    """``wanted``, computed; an error says in which of the blocks it happened."""
    import dask

    return _blamed(lambda: dask.compute(wanted)[0], blocks)


def _persisted(wanted: list[Any], blocks: dict[str, Any]) -> list[Any]:
    """The same where they lie."""
    import dask

    return list(_blamed(lambda: dask.persist(*wanted), blocks))


def _blamed(act: Callable[[], Any], blocks: dict[str, Any]) -> Any:
    """What ``act`` says; where it fails, the block is named.

    A block that cannot be made fails before any code of ours sees it, so that it has to
    be looked for.
    """
    import dask

    try:
        return act()
    except Exception as error:
        if not str(error).startswith("block "):
            for what, block in blocks.items():
                try:
                    dask.compute(dask.delayed(_nothing)(block))
                except Exception:
                    raise _renamed(error, what)  # noqa: B904 - it is the same error
        raise


def _nothing(block: Any) -> None:
    """All that is asked of a block is to be there."""


# Blocks -------------------------------------------------------------------------------


def row_blocks(X: Any) -> list[Any]:
    """Each row block as something delayed; columns in one piece."""
    if hasattr(X, "numblocks") and X.ndim == 2 and X.numblocks[1] > 1:
        X = X.rechunk({1: -1})
    return np.ravel(X.to_delayed()).tolist()


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


def aligned(values: Any, lengths: list[int], name: str) -> list[Any]:
    """Labels or weights, cut as the blocks of X are, whatever they come as."""
    import dask

    if values is None or isinstance(values, Number):
        return [values] * len(lengths)
    if is_dask(values):
        blocks = row_blocks(values)
        blocks = _persisted(blocks, numbered(blocks, name))
        own = lengths_of(values, blocks, name)
    else:
        values = column_or_1d(values, warn=True)
        own = [len(values)]
    if sum(own) != sum(lengths):
        raise ValueError(
            f"X and {name} must have as many rows, got {sum(lengths)} and {sum(own)}."
        )
    pairs = list(itertools.pairwise(np.cumsum([0, *lengths])))
    if not is_dask(values):
        return [values[a:b] for a, b in pairs]
    if own == lengths:
        return blocks
    own_starts, cut = np.cumsum([0, *own]), []
    for a, b in pairs:
        first = int(np.searchsorted(own_starts, a, side="right")) - 1
        last = max(int(np.searchsorted(own_starts, b)), first + 1)
        shift = int(a - own_starts[first])
        rows = slice(shift, shift + int(b - a))
        cut.append(dask.delayed(_recut)(blocks[first:last], rows))
    return cut


def _recut(blocks: list[Any], rows: slice) -> np.ndarray:
    """Some rows of several blocks of one column."""
    return np.concatenate([column_or_1d(np.asarray(block)) for block in blocks])[rows]


class _Facts(NamedTuple):
    """What has to be known of a block of X."""

    n: int
    d: int
    dtype: np.dtype
    sparse: bool
    ready: bool  # for passes over it, as it is


def _ready(check: Callable[[Any], Any], what: str, X: Any) -> Any:
    """A block as numbers, dense or CSR."""
    X = named(what, check, X)
    return X.astype(computing_dtype(X.dtype)) if scipy.sparse.issparse(X) else X


def _look(check: Callable[[Any], Any], what: str, X: Any) -> _Facts:
    """At a block, whether it is valid."""
    checked = named(what, check, X)
    sparse = scipy.sparse.issparse(checked)
    ready = checked is X and not (sparse and X.dtype != computing_dtype(X.dtype))
    n, d = checked.shape
    return _Facts(n, d, checked.dtype, sparse, ready)


def _label(
    check: Callable[..., np.ndarray], i: int, X: Any, y: Any, sample_weight: Any
) -> tuple[np.ndarray, np.ndarray]:
    """Labels and weights of a block, valid; where X is, which is said to be needed."""
    y = named(f"block {i} of y", _labels, y)
    return y, named(f"block {i} of sample_weight", check, sample_weight, len(y))


def _labels(y: Any) -> np.ndarray:
    """Class labels of some rows."""
    y = column_or_1d(y)
    assert_all_finite(y, input_name="y")
    if len(y):
        check_classification_targets(y)
    return y


def _masses(rows: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """The labels of a block that have weight, and how much."""
    y, weights = rows
    labels, places = np.unique(y[weights > 0], return_inverse=True)
    return labels, np.bincount(places, weights[weights > 0], len(labels))


def _coded(
    rows: tuple[np.ndarray, np.ndarray], classes: np.ndarray, factors: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Labels as 0..k-1 and weights as parts of the whole; 0 for rows of no class."""
    y, weights = rows
    codes = np.minimum(np.searchsorted(classes, y), len(classes) - 1)
    counted = (weights > 0) & (classes[codes] == y)
    return np.where(counted, codes, 0), np.where(counted, weights * factors[codes], 0.0)


class Blocks:
    """Valid rows of a fit where they lie, before it is known which classes count.

    ``check_rows`` and ``check_weights`` are what is asked of a block of X and of its
    weights. ``labels`` (k,) have the weights ``masses`` (k,).
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
        names = numbered(row_blocks(X), "X")
        given = _persisted(list(names.values()), names)
        names = dict(zip(names, given, strict=True))
        looks = [dask.delayed(_look)(check_rows, what, x) for what, x in names.items()]
        facts = computed(looks, names)
        if not all(fact.ready for fact in facts):
            ready = [dask.delayed(_ready)(check_rows, *item) for item in names.items()]
            given = _persisted(ready, names)
        self.d = facts[0].d
        for what, fact in zip(names, facts, strict=True):
            if fact.d != self.d:
                raise ValueError(
                    f"{what} must have {self.d} features as block 0 has, got {fact.d}."
                )
        lengths = [fact.n for fact in facts]
        self.n = sum(lengths)
        if self.n == 0:
            raise ValueError("X must have rows, got blocks with 0 sample(s) in all.")
        y = aligned(y, lengths, "y")
        sample_weight = aligned(sample_weight, lengths, "sample_weight")
        self.dtype = computing_dtype(np.result_type(*(fact.dtype for fact in facts)))
        self.sparse = any(fact.sparse for fact in facts)
        self.numbers = [i for i, n in enumerate(lengths) if n]
        self.X = [given[i] for i in self.numbers]
        rows = [
            dask.delayed(_label)(check_weights, i, given[i], y[i], sample_weight[i])
            for i in self.numbers
        ]
        blocks = {f"block {i} of y": y[i] for i in self.numbers}
        self.rows = _persisted(rows, blocks)
        found = computed([dask.delayed(_masses)(row) for row in self.rows], blocks)
        labels = np.concatenate([labels for labels, _ in found])
        self.labels, places = np.unique(labels, return_inverse=True)
        masses = np.concatenate([masses for _, masses in found])
        self.masses = np.bincount(places, masses, len(self.labels))

    def data(self, classes: np.ndarray, each: np.ndarray) -> DistributedData:
        """What solvers see of these classes, with a weight each (k,) of their rows."""
        import dask

        masses = self.masses[np.searchsorted(self.labels, classes)] * each
        factors = each / masses.sum()
        rows = dask.persist(
            *[dask.delayed(_coded)(row, classes, factors) for row in self.rows]
        )
        parts = list(zip(self.numbers, self.X, rows, strict=True))
        shape = self.n, self.d
        return DistributedData(
            parts, shape, self.dtype, self.sparse, masses / masses.sum()
        )


# Passes -------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Pass:
    """What is sent to every block."""

    visit: Callable[..., Any]
    args: tuple
    n_classes: int
    dtype: np.dtype

    def __call__(self, X: Any, y: np.ndarray, weights: np.ndarray) -> Any:
        """Its sums over the rows of one block."""
        with single_threaded_blas():
            data = Data(X, y, weights, self.n_classes, self.dtype)
            return self.visit(data, *self.args)


def _visited(sent: _Pass, i: int, X: Any, rows: tuple) -> Any:
    """One block's sums."""
    return named(f"block {i} of X", sent, X, *rows)


def _added(sums: list[Any]) -> Any:
    """What visits to several blocks say of all of them."""
    first = sums[0]
    if isinstance(first, tuple):
        return tuple(_added(list(parts)) for parts in zip(*sums, strict=True))
    return None if first is None else functools.reduce(lambda a, b: a + b, sums)


class DistributedData(Data):
    """Data whose rows are never here: all that is done with them is ``total``."""

    streamed = True

    def __init__(
        self,
        parts: list[tuple[int, Any, Any]],
        shape: tuple[int, int],
        dtype: np.dtype,
        sparse: bool,
        masses: np.ndarray,
        tally: Tally | None = None,
    ):
        self._parts = parts  # number, X, and labels and weights of each block
        self._shape, self.dtype, self.sparse = shape, dtype, sparse
        self.class_masses, self.n_classes = masses, len(masses)
        self.tally = Tally() if tally is None else tally
        self._casts = {}

    @property
    def shape(self) -> tuple[int, int]:
        """Of X."""
        return self._shape

    def total(self, visit: Callable[..., Sums], *args: Any) -> Sums:
        """What ``visit(block, *args)`` sums up over all blocks."""
        from dask.delayed import Delayed
        from dask.highlevelgraph import HighLevelGraph

        self.tally.rows += self._shape[0]
        # one layer, which is much less work to send than one a task
        token = uuid.uuid4().hex
        sent = f"params-{token}"  # once for all blocks
        graph: dict[Any, Any] = {
            sent: _Pass(visit, args, self.n_classes, self.dtype),
        }
        level = []
        for i, X, rows in self._parts:
            level.append((f"{visit.__name__}-{token}", i))
            graph[level[-1]] = (_visited, sent, i, X.key, rows.key)
        depth = 0
        while len(level) > 1:
            above = [(f"sum-{depth}-{token}", i) for i in range(0, len(level), FAN_IN)]
            for key in above:
                graph[key] = (_added, level[key[1] : key[1] + FAN_IN])
            level, depth = above, depth + 1
        name = f"total-{token}"
        graph[name] = level[0]
        parts = [part for _, *both in self._parts for part in both]
        layers = HighLevelGraph.from_collections(name, graph, dependencies=parts)
        try:
            return computed(
                Delayed(name, layers), {f"block {i} of X": X for i, X, _ in self._parts}
            )
        except BaseException:  # whoever holds the traceback does not hold the rows
            self.close()
            raise

    def astype(self, dtype: Any) -> Data:
        """The same data, with products computed in another precision."""
        cast = DistributedData(
            self._parts,
            self._shape,
            computing_dtype(dtype),
            self.sparse,
            self.class_masses,
            self.tally,
        )
        return self if cast.dtype == self.dtype else self._casts.setdefault(dtype, cast)

    def close(self) -> None:
        """The rows are let go; those that the user has persisted stay."""
        self._parts.clear()
