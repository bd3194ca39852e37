"""Prediction for Dask collections: lazy arrays, and shares of right labels."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted, validate_data

from sklinear._checks import finite_weights
from sklinear._collections import (
    aligned,
    aligned_weights,
    is_dask,
    labelled,
    labels_of,
    lengths_of,
    made_together,
    numbered,
    without_rows,
)
from sklinear._dispatch import computed, named

TEXT = "OUT"  # kinds of dtypes: labels that are objects are text


def over_blocks(method: Callable[..., np.ndarray]) -> Callable[..., Any]:
    """A method of X that answers a Dask collection with a lazy Dask array."""

    @functools.wraps(method)
    def of_any(self: Any, X: Any) -> Any:
        return _lazily(self, method.__name__, X) if is_dask(X) else method(self, X)

    return of_any


def _lazily(model: Any, name: str, X: Any) -> Any:
    """The model's method of this name, of each row block when its time comes."""
    check_is_fitted(model)
    validate_data(model, without_rows(X), reset=False, skip_check_array=True)
    model = copy.copy(model)  # as it is now
    model.__dict__.pop("feature_names_in_", None)  # which blocks do not have
    if hasattr(X, "columns"):
        X = X.to_dask_array()
    if X.numblocks[1] > 1:
        X = X.rechunk({1: -1})
    one = getattr(model, name)(np.zeros((1, model.n_features_in_), X.dtype))
    return X.map_blocks(
        _of_block,
        model,
        name,
        one[:0],
        dtype=one.dtype,
        chunks=(X.chunks[0], *((k,) for k in one.shape[1:])),
        drop_axis=1 if one.ndim == 1 else None,
        meta=one[:0],
    )


def accuracy(model: Any, X: Any, y: Any, sample_weight: Any) -> float:
    """Share of the rows, by weight, whose label the model predicts."""
    import dask

    if y is None:
        raise ValueError("y must be given: class labels, got None.")
    lie = made_together(X=model.predict(X), y=y, sample_weight=sample_weight)
    labels = lie["X"]
    lengths = lengths_of(X, labels, "X")
    like = functools.partial(_labels_like, model.classes_)
    y = aligned(y, lie, lengths, "y", like)
    weights = aligned_weights(sample_weight, lie, lengths, finite_weights)
    hits = [
        dask.delayed(_hits)(i, *part)
        for i, part in enumerate(zip(labels, y, weights, strict=True))
    ]
    right, total = np.sum(computed(hits, numbered(lie)), axis=0)
    if total == 0:
        raise ValueError("sample_weight must not add up to 0, which it does.")
    return float(right / total)


def _hits(i: int, labels: np.ndarray, y: Any, weights: Any) -> tuple[float, float]:
    """Weight of the rows of block i that are right, and of all."""
    like = functools.partial(_labels_like, labels)
    y, weights = labelled(like, finite_weights, i, labels, y, weights)
    return float(weights @ (labels == y)), float(weights.sum())


def _labels_like(labels: np.ndarray, y: Any) -> np.ndarray:
    """True labels of some rows: text where the predicted ones are, or numbers."""
    y = labels_of(y)
    if len(y) and (y.dtype.kind in TEXT) != (labels.dtype.kind in TEXT):
        raise ValueError(
            "y must hold labels like those of the fit, text or numbers, got "
            f"{y.dtype} where labels are {labels.dtype}."
        )
    return y


def _of_block(
    X: Any, model: Any, name: str, empty: np.ndarray, block_id: Any = None
) -> np.ndarray:
    """Of one block, which may have no rows."""
    if not X.shape[0]:
        return empty
    return named(f"block {block_id[0]} of X", getattr(model, name), X)
