"""Passes over Dask blocks: one task a block, and a tree of additions."""

from __future__ import annotations

import functools
import operator
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from sklinear._data import Data
from sklinear._dispatch import Dispatch, named
from sklinear._threads import single_threaded_blas

FAN_IN = 8  # sums that one task adds up
# Bytes of params that may go out from the scheduler with a pass's tasks, beyond which
# they are one task more, whose answer the workers hand on to each other.
EMBEDDED = 2**22


@dataclass(frozen=True)
class BlockTask:
    """What is sent to every block."""

    function: Callable[..., Any]
    args: tuple
    n_classes: int
    dtype: np.dtype

    def __call__(self, i: int, X: Any, rows: tuple[np.ndarray, np.ndarray]) -> Any:
        """Its sums over the rows of block i."""
        return named(f"block {i} of X", self._sums, X, *rows)

    def _sums(self, X: Any, y: np.ndarray, weights: np.ndarray) -> Any:
        with single_threaded_blas():
            data = Data(X, y, weights, self.n_classes, self.dtype)
            return self.function(data, *self.args)


def _added(sums: list[Any]) -> Any:
    """What visits to several blocks say of all of them."""
    first = sums[0]
    if isinstance(first, tuple):
        return tuple(_added(list(parts)) for parts in zip(*sums, strict=True))
    return None if first is None else functools.reduce(lambda a, b: a + b, sums)


class Passes:
    """All passes over blocks that lie somewhere: number, X, labels and weights each."""

    def __init__(self, parts: list[tuple[int, Any, Any]]):
        self._dispatch = Dispatch({f"block {i} of X": X for i, X, _ in parts})
        self._keys = [(i, X.key, rows.key) for i, X, rows in parts]
        self._blocks: dict[Any, Any] = {}
        for _, *both in parts:
            for part in both:
                self._blocks.update(part.dask)

    @property
    def n_tasks(self) -> int:
        """Of a pass, one a block."""
        return len(self._keys)

    def run(self, visit: BlockTask, n_params: int) -> Any:
        """The sums over all blocks; ``n_params`` of float64 tell a visit's size.

        The graph is as low as can be: what Dask would make of a higher one every time
        is the same. O(n_blocks) tasks, O(log n_blocks) of them one after another.
        """
        graph, token = dict(self._blocks), uuid.uuid4().hex
        sent: Any = visit
        if 8 * n_params * len(self._keys) > EMBEDDED:
            sent = f"params-{token}"
            graph[sent] = visit
        level = []
        for i, *keys in self._keys:
            level.append((f"{visit.function.__name__}-{token}", i))
            graph[level[-1]] = (operator.call, sent, i, *keys)
        depth = 0
        while len(level) > 1:
            above = [(f"sum-{depth}-{token}", i) for i in range(0, len(level), FAN_IN)]
            for key in above:
                graph[key] = (_added, level[key[1] : key[1] + FAN_IN])
            level, depth = above, depth + 1
        try:
            return self._dispatch(graph, level[0])
        except BaseException:  # whoever holds the traceback does not hold the rows
            self.close()
            raise

    def close(self) -> None:
        """The rows are let go; those that the user has persisted stay."""
        self._keys, self._blocks = [], {}
        self._dispatch.close()
