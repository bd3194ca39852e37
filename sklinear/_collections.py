"""Dask collections as users give them: their row blocks, cut alike, and valid."""

from __future__ import annotations

import itertools
import math
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
