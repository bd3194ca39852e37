"""X, labels and weights, cut into row blocks: what a pass over the data reads."""

from __future__ import annotations

import copy
import math
import mmap
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from threading import Lock
from typing import Any, TypeVar

import numpy as np
import scipy.sparse

from sklinear._mapped import Mapped
from sklinear._threads import ordered

# Block sizes, in numbers: scores that stay in the cache, a cast block small beside X.
BLOCK_SCORES, BLOCK_VALUES = 2**16, 2**20
# Rows of a block at least, lest its gradient cost more than its rows; fewer where wide
# rows are cast, lest the cast block be as large as X.
FEWEST_ROWS, FEWEST_CAST_ROWS = 256, 32
TURN = 2**8  # rows of a part of a large matrix, which the cache holds
MANY = 2**25  # numbers in X times classes, from which on several threads pay
LARGE_ARRAY = 2**22  # bytes from which on it is the system's own
# Of a mapped X's excerpt: bytes of it and of its scores, its part of the rows, and runs
# of adjacent rows that it is made of, fewer where each takes a look at every column.
EXCERPT, PART, RUNS, RUNS_BY_COLUMNS = 2**26, 8, 1024, 64

Sums = TypeVar("Sums")


@dataclass
class Tally:
    """Rows of X that were read; several views of the same rows may share one."""

    rows: int = 0
    lock: Any = field(default_factory=Lock, repr=False)

    def add(self, rows: int) -> None:
        """They were read, on any thread."""
        with self.lock:
            self.rows += rows


@dataclass
class Block:
    """Some rows of the data; ``X`` is cast, and counted as read, when it is wanted."""

    view: Any  # (m, d), dense or CSR, as the user has them
    y: np.ndarray  # (m,)
    weights: np.ndarray  # (m,)
    rows: slice
    dtype: np.dtype
    tally: Tally
    centre: np.ndarray | None = None  # (d,) what dense rows are taken less

    @cached_property
    def X(self) -> Any:
        """The rows (m, d), dense or CSR."""
        self.tally.add(len(self.y))
        X = self.view.astype(self.dtype, copy=False)
        return X if self.centre is None else X - self.centre.astype(self.dtype)

    def exact(self, rows: np.ndarray) -> Any:
        """Some of the rows in extended precision."""
        X = self.view[rows].astype(np.longdouble)
        return X if self.centre is None else X - self.centre


def computing_dtype(dtype: Any) -> np.dtype:
    """What X of a dtype is computed in: float32 as it is, all else in float64."""
    single = np.dtype(dtype) == np.float32
    return np.dtype(np.float32 if single else np.float64)


class Data:
    """X, labels and normalised weights, in row blocks that are views of them.

    Where X has another dtype than the products with it, blocks are cast one at a time.
    A mapped X is read one at a time.
    """

    # Whether rows are too many to keep anything of them, be it a number a class: then
    # all that is done with them is ``total``.
    streamed = False
    n_tasks = 1  # of a pass, where the rows lie in several places
    mapped = False  # whether it is rows of a file
    centre: np.ndarray | None = None  # (d,) what blocks of dense rows are less

    def __init__(
        self,
        X: Any,
        y: np.ndarray,
        weights: np.ndarray,
        n_classes: int,
        dtype: Any = None,
        tally: Tally | None = None,
    ):
        self.dtype = computing_dtype(X.dtype if dtype is None else dtype)
        self.sparse = scipy.sparse.issparse(X)
        self.mapped = isinstance(X, Mapped)
        self.streamed = self.streamed or self.mapped
        # a cast of CSR values is made once and whole: its indices stay shared
        self.X = X.astype(self.dtype, copy=False) if self.sparse else X
        self.y, self.weights, self.n_classes = y, weights, n_classes
        self.tally = Tally() if tally is None else tally
        self._casts: dict[Any, Data] = {}  # not itself: a cycle would keep X alive
        self._class_sums: Any = None
        self._excerpt: Data | None = None

    def __iter__(self) -> Iterator[Block]:
        mapped = self.X.blocks(self._step, self.dtype) if self.mapped else None
        for view, rows in mapped or self._views:
            y, weights = self.y[rows], self.weights[rows]
            yield Block(view, y, weights, rows, self.dtype, self.tally, self.centre)

    @property
    def _step(self) -> int:
        """Rows of a block."""
        n, d = self.X.shape
        cast = self.mapped or self.X.dtype != self.dtype or self.centre is not None
        fewest = FEWEST_CAST_ROWS if cast else FEWEST_ROWS
        values = BLOCK_VALUES // 2 if cast else BLOCK_VALUES
        step = max(fewest, min(BLOCK_SCORES // self.n_classes, values // d))
        # or each block's gradient would cost more than its rows
        return n if self.sparse and d > step else step

    @property
    def shape(self) -> tuple[int, int]:
        """Of X."""
        return self.X.shape

    def each(self, function: Callable[..., Any], *more: Iterable[Any]) -> Iterator[Any]:
        """``function(block, ...)`` of every block, in their order; ``more`` has a part
        of each. On several threads where the rows are in memory and many."""
        values = self.X.nnz if self.sparse else math.prod(self.X.shape)
        if self.mapped or values * self.n_classes < MANY or len(self._views) == 1:
            return map(function, self, *more)
        return ordered(function, self, *more)

    def total(self, visit: Callable[..., Sums], *args: Any) -> Sums:
        """What ``visit(data, *args)`` sums up over all rows.

        Its answer is an array, a number or None, something else that can be added, or a
        tuple of them; of data that lie in several places it is added up from each.
        """
        return visit(self, *args)

    def close(self) -> None:
        """The rows are no longer needed."""

    @cached_property
    def _views(self) -> list[tuple[Any, slice]]:
        n, step = self.X.shape[0], self._step
        cuts = [slice(start, min(start + step, n)) for start in range(0, n, step)]
        return [(_csr_rows(self.X, c) if self.sparse else self.X[c], c) for c in cuts]

    @property
    def passes(self) -> float:
        """How often all rows were read so far."""
        return self.tally.rows / self.shape[0]

    def take(self, rows: np.ndarray) -> Any:
        """X of some rows, (m, d)."""
        self.tally.add(len(rows))
        return self.X[rows].astype(self.dtype, copy=False)

    @cached_property
    def class_masses(self) -> np.ndarray:
        """Total weight of each class, (k,)."""
        return np.bincount(self.y, self.weights, self.n_classes)

    @property
    def class_sums(self) -> Any:
        """Weighted sum of the rows of each class, (d, k), sparse if X is at hand so."""
        # no cached_property, whose lock (before Python 3.12) other fits wait for
        if self._class_sums is None:
            if self.dtype != np.float64:
                self._class_sums = self.astype(np.float64).class_sums
            elif self.sparse and not self.streamed:
                places = np.arange(len(self.y)), self.y
                shape = len(self.y), self.n_classes
                shares = scipy.sparse.csr_matrix((self.weights, places), shape)
                self._class_sums = (shares.T @ self.X).T
            else:
                self._class_sums = self.total(_class_sums)
        return self._class_sums

    def of_classes(self, mean: np.ndarray, G: np.ndarray) -> np.ndarray:
        """(X - mean)' U, (d, m), of weighted U (n, m) whose rows are their class's of
        G (k, m)."""
        return less_outer(self.class_sums @ G, mean, self.class_masses @ G)

    @property
    def excerpt(self) -> Data | None:
        """Some rows of a mapped X, in memory, in the precision of X; else None."""
        if not self.mapped:
            return None
        if self._excerpt is None:
            runs = _drawn(self)
            y = np.concatenate([self.y[run] for run in runs])
            weights = np.concatenate([self.weights[run] for run in runs])
            weights /= weights.sum()
            X, read = self.X.gathered(runs)
            self.tally.rows += read
            self._excerpt = Data(X, y, weights, self.n_classes, tally=self.tally)
        return self._excerpt

    def sample(
        self, rows: np.ndarray, weights: np.ndarray, single: bool = False
    ) -> Data:
        """A copy of some rows, with other weights.

        If ``single``, computed in float32; and kept so, where that is the smaller copy.
        """
        y, k = self.y[rows], self.n_classes
        dtype = np.dtype(np.float32) if single else self.dtype
        self.tally.add(len(rows))
        if self.sparse:
            return Data(self.X[rows], y, weights, k, dtype, self.tally)
        smaller = single and self.X.dtype.itemsize > 4
        shape = len(rows), self.X.shape[1]
        X = large_array(shape, dtype if smaller else self.X.dtype)
        for cut in range(0, len(rows), self._step):  # no copy as it is at once
            part = slice(cut, cut + self._step)
            X[part] = self.X[rows[part]]
        return Data(X, y, weights, k, dtype, self.tally)

    def counted(self, most: float) -> Data:
        """A copy of the rows that have weight, if they are so few, else the same."""
        rows = np.flatnonzero(self.weights)
        if self.streamed or len(rows) > most * len(self.weights):
            return self
        return self.sample(rows, self.weights[rows])

    def weighing(self, weights: np.ndarray) -> Data:
        """The same rows with other weights."""
        return Data(self.X, self.y, weights, self.n_classes, self.dtype, self.tally)

    def less(self, centre: np.ndarray | None) -> Data:
        """The same data whose blocks, if dense, are rows less a centre (d,), if any."""
        if centre is None or self.sparse:
            return self
        shifted = copy.copy(self)
        shifted.centre = centre
        shifted.__dict__.pop("_views", None)  # blocks are copies, and smaller
        return shifted

    def astype(self, dtype: Any) -> Data:
        """The same data, with products computed in another precision."""
        dtype = computing_dtype(dtype)
        if dtype == self.dtype:
            return self
        if dtype not in self._casts:
            self._casts[dtype] = Data(
                self.X, self.y, self.weights, self.n_classes, dtype, self.tally
            )
        return self._casts[dtype]


def large_array(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """Zeros; memory that, where it is large, goes back to the system with the array.

    What ``malloc`` gives may stay the process's own, between what is used: copies of
    rows that come and go would take as much again as any of them.
    """
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if size < LARGE_ARRAY:
        return np.zeros(shape, dtype)
    private: Any = {}
    if hasattr(mmap, "MAP_PRIVATE"):  # else, on Windows, it is
        private = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS}
    return np.ndarray(shape, dtype, buffer=mmap.mmap(-1, size, **private))


def less_outer(matrix: np.ndarray, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """The matrix less left right', in its own memory, a few rows at a time."""
    for first in range(0, len(left), TURN):
        rows = slice(first, first + TURN)
        matrix[rows] -= left[rows, None] * right
    return matrix


def add_scaled(matrix: np.ndarray, scale: float, other: np.ndarray) -> np.ndarray:
    """The matrix plus scale times another, in its own memory, a few rows at a time."""
    for first in range(0, len(matrix), TURN):
        rows = slice(first, first + TURN)
        matrix[rows] += scale * other[rows]
    return matrix


def turned(
    matrix: np.ndarray, dtype: Any, less: np.ndarray | None = None
) -> np.ndarray:
    """Its transpose, contiguous, less a number for each of its own rows.

    It is made of parts at a time that the cache holds.
    """
    out = np.empty(matrix.shape[::-1], dtype)
    for first in range(0, max(matrix.shape), TURN):
        part = slice(first, first + TURN)
        if less is not None:
            out[:, part] = (matrix[part] - less[part, None]).T
        elif len(out) >= len(matrix):
            out[part] = matrix[:, part].T
        else:
            out[:, part] = matrix[part].T
    return out


def scattered(part: np.ndarray, columns: np.ndarray | None, d: int) -> np.ndarray:
    """The numbers (m, some) of some columns among d of them, the others 0."""
    if columns is None:
        return part
    whole = np.zeros((len(part), d), part.dtype)
    whole[:, columns] = part
    return whole


def _class_sums(data: Data) -> np.ndarray:
    """Weighted sum of the rows of each class, (d, k)."""
    sums = np.zeros((data.shape[1], data.n_classes))
    for block in data:
        shares = np.zeros((len(block.y), data.n_classes), order="F")
        shares[np.arange(len(block.y)), block.y] = block.weights
        sums += block.X.T @ shares if data.sparse else (shares.T @ block.X).T
    return sums


def _drawn(data: Data) -> list[slice]:
    """Runs of adjacent rows, one in each stretch of X, and a row of any other class."""
    (n, d), k = data.shape, data.n_classes
    longest = max(d * data.X.dtype.itemsize, 32 * k)
    count = max(min(n // PART, EXCERPT // longest), 1)
    runs = min(count, RUNS_BY_COLUMNS if data.X.by_columns else RUNS)
    length, stretch = count // runs, n / runs
    places = np.random.RandomState(0).random_sample(runs) * (stretch - length)
    starts = (np.arange(runs) * stretch + places).astype(np.intp)
    rows = [slice(start, start + length) for start in starts]
    masses = np.zeros(k)
    for run in rows:
        masses += np.bincount(data.y[run], data.weights[run], k)
    if not masses.all():
        others = np.flatnonzero((masses == 0)[data.y] & (data.weights > 0))
        firsts = np.unique(data.y[others], return_index=True)[1]
        rows += [slice(row, row + 1) for row in others[firsts]]
    return rows


def _csr_rows(X: Any, rows: slice) -> Any:
    """Some rows of a CSR matrix, sharing its memory."""
    first, last = X.indptr[rows.start], X.indptr[rows.stop]
    view = scipy.sparse.csr_matrix((rows.stop - rows.start, X.shape[1]), dtype=X.dtype)
    view.data, view.indices = X.data[first:last], X.indices[first:last]
    view.indptr = X.indptr[rows.start : rows.stop + 1] - first
    return view
