"""Rows of a memory map: read into memory a part at a time, and let go again.

Pages of a file that were looked at count as memory of the process until they are given
back, so every part is copied out and its pages are released. A thread reads and casts
the next parts meanwhile.
"""

from __future__ import annotations

import mmap
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import Any

import numpy as np
from numpy.lib.array_utils import byte_bounds
from scipy.sparse import issparse

SMALL = 2**25  # bytes of X, and of its scores, up to which it is read once and whole
SPAN = 2**25  # bytes of the file that are mapped at a time
COLUMNS = 2**25  # bytes of rows that are read at once where columns are contiguous
AHEAD = 2  # parts that are read while one is worked with
RUN = 2**21  # bytes around a byte that is looked at which the system may map as well
# Modes whose pages hold nothing that the file has not. Those of "c" may hold what the
# user wrote, so they are left to the system, which takes the others when it must.
SHARED = ("r", "r+", "w+")


def is_mapped(X: Any) -> bool:
    """Whether X is a memory map of real numbers, or a view of one."""
    return isinstance(X, np.ndarray) and X.dtype.kind in "biuf" and bool(_map_of(X))


def stays(X: Any) -> bool:
    """Whether processes of joblib, which map files again, might not see these numbers.

    They would miss what was written to pages of mode "c", and confuse the strides of
    some views; a ``Mapped`` takes care of its own.
    """
    if isinstance(X, Mapped):
        return not X.shared
    if hasattr(X, "columns"):  # frames keep their columns as they like
        return any(_map_of(np.asarray(X[name])) for name in X.columns)
    parts = vars(X).values() if issparse(X) else (np.asarray(X),)
    found = [(part, at) for part in parts if (at := _map_of(part))]
    return any(not at[2] or min(part.strides, default=1) < 0 for part, at in found)


def _map_of(X: Any) -> tuple[mmap.mmap, np.ndarray, bool] | None:
    """The map under an array, all of its numbers, and whether its file has them too."""
    shared, whole = False, X
    while isinstance(X, np.ndarray):
        shared |= getattr(X, "mode", None) in SHARED
        X, whole = X.base, X
    return (X, whole, shared) if isinstance(X, mmap.mmap) else None


def _arrived(
    part: np.ndarray, layout: tuple[Any, ...], check: Callable[[np.ndarray], None]
) -> Any:
    """What was mapped elsewhere: where its rows came along, checked as they are."""
    shape, dtype, first, strides = layout
    array = np.ndarray(shape, dtype, part, first, strides)
    if is_mapped(array):
        return Mapped(array, check)
    check(array)
    return array


class Mapped:
    """A mapped matrix (n, d) whose rows are checked when they are first read.

    Indexing copies into memory, as the file has them.
    """

    def __init__(self, array: np.ndarray, check: Callable[[np.ndarray], None]):
        found = _map_of(array)
        assert found is not None
        self.array, self.check = array, check
        self.shape, self.dtype = array.shape, array.dtype
        self._gathered: tuple[list[slice], np.ndarray] | None = None  # the last runs
        self._gathering = Lock()
        self._map, self._whole, self.shared = found
        self._releases = self.shared and hasattr(mmap, "MADV_DONTNEED")
        self._address = byte_bounds(np.frombuffer(self._map, np.uint8))[0]
        self._checked = 0  # leading rows
        self._touched = 0  # bytes, by rows in no order

    def __reduce__(self) -> tuple[Any, ...]:
        """Of the bytes it spans: a process of joblib's maps the same part of the file.

        In one dimension, as joblib maps other views in the order of the whole.
        """
        low, high = byte_bounds(self.array)
        start, first = byte_bounds(self._whole)[0], self.array.ctypes.data - low
        part = self._whole.reshape(-1, order="A").view(np.uint8)[low - start :]
        layout = self.shape, self.dtype, first, self.array.strides
        return _arrived, (part[: high - low], layout, self.check)

    @property
    def by_columns(self) -> bool:
        """Whether neighbours in a column are nearer than those in a row."""
        down, across = np.abs(self.array.strides)
        return bool(down < across and self.shape[1] > 1)

    def is_small(self, n_classes: int) -> bool:
        """Whether it fits well into memory, and what solvers keep of each row too."""
        n, d = self.shape
        return n * max(d * self.dtype.itemsize, 8 * n_classes) <= SMALL

    def __getitem__(self, key: Any) -> np.ndarray:
        """Some rows, or rows and columns, in memory."""
        if isinstance(key, slice) and key.step in (None, 1):
            return self.read(key, self.dtype)
        out = np.array(self.array[key])
        self.check(out)
        self._touched += len(out) * (RUN + out[:1].nbytes)
        if self._touched > SPAN:
            self._release(self.array)
            self._touched = 0
        return out

    def read(self, rows: slice, dtype: Any) -> np.ndarray:
        """Adjacent rows (m, d), cast."""
        view = self.array[rows]
        axis = int(self.by_columns)
        out = np.empty(view.shape, dtype, order="F" if axis else "C")
        step = max(1, SPAN // max(1, abs(view.strides[axis])))
        with np.errstate(over="ignore"):  # of a long double: found by the check
            for start in range(0, view.shape[axis], step):
                part = (slice(None),) * axis + (slice(start, start + step),)
                out[part] = view[part]
                self._release(view[part])
        start, stop, _ = rows.indices(self.shape[0])
        if stop > self._checked:
            self.check(out)
            if start <= self._checked:
                self._checked = stop
        return out

    def gathered(self, runs: list[slice]) -> tuple[np.ndarray, int]:
        """Runs of rows, one below the other, as the file has them; and how many were
        read: the last are kept, for other labels and weights of the same rows."""
        with self._gathering:  # of a search's threads the first reads them
            if self._gathered is not None and self._gathered[0] == runs:
                return self._gathered[1], 0
            n = sum(run.stop - run.start for run in runs)
            out, filled = np.empty((n, self.shape[1]), self.dtype), 0
            for run in runs:
                rows = self.read(run, self.dtype)
                out[filled : filled + len(rows)] = rows
                filled += len(rows)
            self._gathered = runs, out
            return out, n

    def blocks(self, step: int, dtype: Any) -> Iterator[tuple[np.ndarray, slice]]:
        """All rows, ``step`` at a time: a block (m, d), and which rows it is.

        They are cast, unless columns are contiguous: then many rows are read at once,
        as the file has them if that takes no more memory.
        """
        n, d = self.shape
        dtype, several = np.dtype(dtype), 1
        if self.by_columns:
            if self.dtype.kind in "biu" or self.dtype == np.float32:
                dtype = self.dtype
            several = max(1, COLUMNS // (d * step * dtype.itemsize))
        longer, ahead = several * step, AHEAD if several == 1 else 1
        parts = (slice(at, min(at + longer, n)) for at in range(0, n, longer))
        waiting: deque[Any] = deque()
        with ThreadPoolExecutor(1, "sklinear-reader") as reader:
            try:
                while True:
                    for part in parts:
                        waiting.append((part, reader.submit(self.read, part, dtype)))
                        if len(waiting) > ahead:
                            break
                    if not waiting:
                        return
                    part, reading = waiting.popleft()
                    block = reading.result()
                    del reading
                    for start in range(0, part.stop - part.start, step):
                        stop = min(start + step, part.stop - part.start)
                        rows = slice(part.start + start, part.start + stop)
                        yield block[start:stop], rows
                    del block
            finally:
                for _, reading in waiting:
                    reading.cancel()

    def _release(self, view: np.ndarray) -> None:
        """Give the pages of a view and around it back: they stay in the file."""
        if self._releases and view.size:
            low, high = byte_bounds(view)
            low = max(low - self._address - RUN, 0)
            start = low - low % mmap.PAGESIZE
            end = min(high - self._address + RUN, len(self._map))
            self._map.madvise(mmap.MADV_DONTNEED, start, end - start)
