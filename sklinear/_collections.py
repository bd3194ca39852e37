"""Dask collections as users give them: their row blocks, cut alike, and valid."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Callable
from functools import partial
from numbers import Number
from typing import Any

import numpy as np
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import assert_all_finite, column_or_1d

from sklinear._checks import check_labels
from sklinear._dispatch import computed, made, named


def is_dask(X: Any) -> bool:
    """Whether X is a Dask collection; Dask need not be installed to tell."""
    return hasattr(type(X), "__dask_graph__")


def without_rows(X: Any) -> Any:
    """No rows with the names and number of the features of X, which is Dask's."""
    _check_kind(X, "X")
    if hasattr(X, "columns"):
        return X._meta
    if X.ndim != 2 or np.isnan(X.shape[1]):
        raise ValueError(
            "X must have two dimensions and a known number of features, got a Dask "
            f"array of shape {X.shape}: reshape it, or compute its chunk sizes."
        )
    return np.empty((0, int(X.shape[1])))


def _check_kind(X: Any, name: str) -> None:
    """What is Dask's must have rows in blocks."""
    if not hasattr(X, "_meta"):
        raise TypeError(
            f"{name} must be a Dask array or data frame, got {type(X).__name__}: "
            "da.from_delayed and dd.from_delayed make one of delayed pieces."
        )


def _is_frame(X: Any) -> bool:
    """Whether it is a data frame, or a column of one, and no array."""
    return not hasattr(X, "numblocks")


def _keeps_partitions(X: Any) -> bool:
    """Whether it is a data frame whose partitions are those it is told to have.

    Where few columns of files are wanted Dask reads several files as one partition.
    Persisted with others such a frame looks for as many as there are files, and would
    be found to have fewer only below another task.
    """
    if not _is_frame(X):
        return False
    below = X.map_partitions(_itself, meta=X._meta)
    return below.optimize().npartitions == X.npartitions


def _itself(part: Any) -> Any:
    return part


# Blocks -------------------------------------------------------------------------------


def _row_blocks(X: Any) -> list[Any]:
    """Each row block as something delayed; columns in one piece."""
    frame = _is_frame(X)
    if not frame and X.ndim == 2 and X.numblocks[1] > 1:
        X = X.rechunk({1: -1})
    # optimized by itself, an array would be fused with what it shares with others
    return np.ravel(X.to_delayed(optimize_graph=frame)).tolist()


def lengths_of(X: Any, blocks: list[Any], name: str) -> list[int]:
    """Rows of each block, counted where Dask does not know them."""
    import dask

    if not (_is_frame(X) or np.isnan(X.chunks[0]).any()):
        return list(X.chunks[0])
    counts = [dask.delayed(len)(block) for block in blocks]
    return computed(counts, numbered({name: blocks}))


def numbered(collections: dict[str, list[Any]]) -> dict[str, Any]:
    """The blocks of several collections by what errors call them."""
    return {
        f"block {i} of {name}": block
        for name, blocks in collections.items()
        for i, block in enumerate(blocks)
    }


def made_together(**collections: Any) -> dict[str, list[Any]]:
    """The row blocks of those that are Dask's, made at once: they may share tasks."""
    of_dask = {name: X for name, X in collections.items() if is_dask(X)}
    for name, X in of_dask.items():
        _check_kind(X, name)
    frames = {name: X for name, X in of_dask.items() if _keeps_partitions(X)}
    if len(frames) > 1:  # blocks of each by itself would not tell what they share
        alone = numbered({name: _row_blocks(X) for name, X in frames.items()})
        of_dask |= zip(frames, made(frames.values(), alone), strict=True)
    blocks = {name: _row_blocks(X) for name, X in of_dask.items()}
    names = numbered(blocks)
    lie = iter(made(names.values(), names))
    return {
        name: list(itertools.islice(lie, len(each))) for name, each in blocks.items()
    }


def aligned(
    values: Any,
    lie: dict[str, list[Any]],
    lengths: list[int],
    name: str,
    check: Callable[[Any], np.ndarray],
) -> list[Any]:
    """Labels or weights, cut as the blocks of X are, whatever they come as.

    If they are Dask's and cut otherwise, ``check`` is asked of each of their own
    blocks, which ``lie`` has, lest its errors name a block of X.
    """
    import dask

    if values is None or isinstance(values, Number):
        return [values] * len(lengths)
    if name in lie:
        own = lengths_of(values, lie[name], name)
        _check_column((sum(own), *values.shape[1:]), name)
    else:
        values = _column(values, name, warn=True)
        own = [len(values)]
    if sum(own) != sum(lengths):
        raise ValueError(
            f"X and {name} must have as many rows, got {sum(lengths)} and {sum(own)}."
        )
    if name not in lie:
        return [values[rows] for rows in _slices(lengths)]
    if own == lengths:
        return lie[name]
    pieces = [
        dask.delayed(named)(what, check, block)
        for what, block in numbered({name: lie[name]}).items()
    ]
    return _recut(pieces, own, lengths)


def _slices(lengths: list[int]) -> list[slice]:
    """The rows of blocks of these lengths."""
    ends = itertools.accumulate(lengths, initial=0)
    return [slice(*both) for both in itertools.pairwise(ends)]


def _recut(pieces: list[Any], own: list[int], lengths: list[int]) -> list[Any]:
    """Blocks of these lengths of a delayed column that lies in pieces of ``own``."""
    import dask

    starts, blocks = [*itertools.accumulate(own, initial=0)], []
    for rows in _slices(lengths):
        # the pieces that it has rows of; one where it has none
        first = bisect.bisect_right(starts, rows.start, hi=len(own)) - 1
        last = max(bisect.bisect_left(starts, rows.stop), first + 1)
        within = slice(rows.start - starts[first], rows.stop - starts[first])
        blocks.append(dask.delayed(_rows_of)(pieces[first:last], within))
    return blocks


def _rows_of(pieces: list[np.ndarray], rows: slice) -> np.ndarray:
    """Some rows of adjacent pieces of one column."""
    if len({isinstance(piece[0], str) for piece in pieces if len(piece)}) > 1:
        raise ValueError("y must hold text or numbers in all blocks, got both.")
    return np.concatenate(pieces)[rows]


def _check_column(shape: tuple[Any, ...], name: str) -> None:
    """Weights must be (n,), and labels, or one column of them."""
    column = name == "y" and len(shape) == 2 and shape[1] == 1
    if len(shape) != 1 and not column:
        raise ValueError(
            f"{name} should be a 1d array, got an array of shape {shape} instead."
        )


def _column(values: Any, name: str, warn: bool = False) -> np.ndarray:
    """Labels or weights (n,), by their name in errors."""
    _check_column(np.shape(values), name)
    return column_or_1d(np.asarray(values), warn=warn)


def aligned_weights(
    sample_weight: Any,
    lie: dict[str, list[Any]],
    lengths: list[int],
    check: Callable[[Any, int], np.ndarray],
) -> list[Any]:
    """Weights, cut as the blocks of X are; ``check`` is asked of them and their n."""
    valid = partial(_weights_of, check)
    return aligned(sample_weight, lie, lengths, "sample_weight", valid)


def _weights_of(check: Callable[[Any, int], np.ndarray], values: Any) -> np.ndarray:
    """Weights (n,) of some rows, valid."""
    values = _column(values, "sample_weight")
    return check(values, len(values))


def labelled(
    check_y: Callable[[Any], np.ndarray],
    check_weights: Callable[..., np.ndarray],
    i: int,
    X: Any,
    y: Any,
    sample_weight: Any,
) -> tuple[np.ndarray, np.ndarray]:
    """Labels and weights of block i, valid.

    X is asked for its length alone, and so that this happens where it lies.
    """
    n, names = X.shape[0], (f"block {i} of y", f"block {i} of sample_weight")
    y = named(names[0], check_y, y)
    named(names[0], _check_length, n, y)
    if not (sample_weight is None or isinstance(sample_weight, Number)):
        sample_weight = named(names[1], _column, sample_weight, "sample_weight")
        named(names[1], _check_length, n, sample_weight)
    return y, named(names[1], check_weights, sample_weight, n)


def _check_length(n: int, values: np.ndarray) -> None:
    """A block must have as many rows as that of X: Dask may have been told so."""
    if len(values) != n:
        raise ValueError(f"must have {n} rows, as that of X has, got {len(values)}.")


def labels_of(y: Any) -> np.ndarray:
    """Class labels (n,) of some rows, valid."""
    y = _column(y, "y")
    check_labels(y)
    assert_all_finite(y, input_name="y")
    if len(y):
        check_classification_targets(y)
    return y
