"""What is asked of samples and weights, of all of them or of some rows."""

from __future__ import annotations

import warnings
from numbers import Real
from typing import Any

import numpy as np
import scipy.sparse
from sklearn import get_config
from sklearn.utils import compute_class_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import assert_all_finite, check_array, column_or_1d

from sklinear._mapped import Mapped

LARGEST = 1e100  # value of X: products of a few stay finite in float64
RANGE = 1e-100, 1e100  # of alpha and delta: their squares stay finite too
LARGEST_INT = 2**62  # of a parameter: no sum with another one overflows
LEAST_WEIGHT = 1e-300  # of a row, beside the largest: no class may lose its mass
KEPT: list[Any] = [np.float64, np.float32, np.bool_]  # dtypes of X not converted
KEPT += [f"{kind}{size}" for kind in "iu" for size in (1, 2, 4, 8)]


def check_params(estimator: Any) -> None:
    """Types and ranges, unless scikit-learn is configured to take them on trust."""
    if get_config()["skip_parameter_validation"]:
        return
    for name, value in estimator.get_params(deep=False).items():
        if isinstance(value, int) and abs(value) > LARGEST_INT:
            raise ValueError(
                f"{name} must be at most {LARGEST_INT} in size, got an int of "
                f"{value.bit_length()} bits."
            )
    estimator._validate_params()


def in_range(name: str, value: Any) -> float:
    """A parameter that is 0 or in RANGE, as a float."""
    number, (low, high) = float(value), RANGE
    if number and not low <= number <= high:
        raise ValueError(
            f"{name} must be between {low:g} and {high:g}, lest its square overflow or "
            f"vanish, got {value!r}."
        )
    return number


def loaded(X: Any, n_classes: int) -> Any:
    """X, in memory if it was mapped and is small."""
    if not (isinstance(X, Mapped) and X.is_small(n_classes)):
        return X
    return X.read(slice(None), X.dtype if X.dtype in KEPT else np.float64)


def size(X: Any) -> float:
    """Largest absolute value of floats, maybe nan; of integers none is too large."""
    values = X.data if scipy.sparse.issparse(X) else X  # X.max() might change X
    some = values.dtype.kind == "f" and values.size
    return max(float(values.max()), -float(values.min())) if some else 0.0


def canonical(X: Any) -> Any:
    """X, or a CSR copy of it whose entries are sorted and added up."""
    if scipy.sparse.issparse(X) and not X.has_canonical_format:
        X = X.copy()
        X.sum_duplicates()
    return X


def check_classes(classes: np.ndarray, name: str) -> None:
    """There must be something to tell apart, for what has this name."""
    if len(classes) < 2:
        raise ValueError(
            f"{name} needs samples of at least 2 classes with positive weight, got "
            f"{len(classes)} class: {classes}."
        )


def weights_of_classes(
    class_weight: dict[Any, float], classes: np.ndarray, y: np.ndarray
) -> np.ndarray:
    """The class weight of each row, (n,); 0 for rows of no class."""
    known = set(classes.tolist())
    unknown = [name for name in class_weight if name not in known]
    if unknown and len(class_weight) - len(unknown) < len(classes):
        raise ValueError(
            f"class_weight must name labels among {classes.tolist()}, or all of them "
            f"and others, got also {unknown}."
        )
    each = compute_class_weight(class_weight, classes=classes, y=classes)
    if not (np.isfinite(each).all() and each.min() >= 0 and each.max() > 0):
        raise ValueError(
            "class_weight must be >= 0 for each class and > 0 for some, got "
            f"{class_weight}."
        )
    place = np.minimum(np.searchsorted(classes, y), len(classes) - 1)
    return np.where(classes[place] == y, each[place], 0.0)


def check_labels(y: Any, name: str = "y") -> None:
    """Labels of any kind may not be missing."""
    labels = np.asarray(y)
    if labels.dtype != object:
        missing = bool(np.any(labels != labels))
    else:
        missing = labels.ndim > 0 and any(map(_is_missing, labels.flat))
    if missing:
        raise ValueError(f"Input {name} contains NaN.")


def _is_missing(label: Any) -> bool:
    """Whether it stands for no label: None, NaN, pandas' NA and NaT."""
    try:
        return label is None or bool(label != label)
    except TypeError:  # of NA, which is neither
        return True


def stream_classes(
    classes: Any, before: np.ndarray | None, y: np.ndarray
) -> np.ndarray:
    """All labels that ``partial_fit`` may meet, of which y holds some.

    They are ``classes``, or what is known from the calls before.
    """
    if classes is None:
        if before is None:
            raise ValueError(
                "classes must be given in the first call to partial_fit: the labels "
                "that will come, got None."
            )
        known = before
    else:
        check_labels(classes, "classes")
        if np.ndim(classes) != 1:
            raise ValueError(
                f"classes must be an array of shape (n_classes,), got {classes!r}."
            )
        known = np.unique(classes)
        if known.dtype.kind == "f" and not np.all(
            np.isfinite(known) & (known == np.round(known))
        ):
            raise ValueError(f"classes must be whole numbers or names, got {known}.")
        if before is None:
            with warnings.catch_warnings():  # of many classes for so few rows
                warnings.simplefilter("ignore")
                check_classification_targets(known)
    if before is not None and not np.array_equal(known, before):
        raise ValueError(
            f"classes must be those of the first call, {before}, got {known}."
        )
    if len(known) < 2:
        raise ValueError(
            f"classes must hold at least 2 classes, got {len(known)} class: {known}."
        )
    unseen = np.setdiff1d(y, known)
    if len(unseen):
        raise ValueError(
            f"y must hold classes of the first call to partial_fit, {known}, got "
            f"{unseen}."
        )
    return known


def check_size(X: Any) -> None:
    """Products of a few values of X must be finite."""
    largest = size(X)
    if largest > LARGEST:
        raise ValueError(
            f"X must have values up to {LARGEST:g}, lest their squares overflow, "
            f"got one of size {largest:g}: scale it down."
        )


def check_read(rows: np.ndarray, name: str) -> None:
    """What is asked of a mapped X, of some of its rows; name is the estimator's."""
    if not size(rows) <= LARGEST:
        assert_all_finite(rows, estimator_name=name, input_name="X")
        check_size(rows)


def check_block(X: Any, name: str) -> Any:
    """Some rows of X for an estimator of this name; there may be none."""
    X = check_array(
        X,
        accept_sparse="csr",
        dtype=KEPT,
        ensure_min_samples=0,
        estimator=name,
        input_name="X",
    )
    X = canonical(X)
    check_size(X)
    return X


def check_block_weights(sample_weight: Any, n: int) -> np.ndarray:
    """Weights (n,) of some rows, float64 and >= 0; there all may be 0."""
    weights = finite_weights(sample_weight, n)
    check_sign(weights)
    return weights


def finite_weights(sample_weight: Any, n: int) -> np.ndarray:
    """Weights (n,) of some rows, float64, of any sign."""
    if sample_weight is None:
        return np.ones(n)
    if isinstance(sample_weight, Real):
        sample_weight = np.full(n, sample_weight)
    return check_array(
        column_or_1d(sample_weight),
        ensure_2d=False,
        dtype=np.float64,
        ensure_min_samples=0,
        input_name="sample_weight",
    )


def check_sign(weights: np.ndarray) -> None:
    """No weight may be negative; nor infinite, if it is one number for all rows."""
    if not np.isfinite(weights).all():
        raise ValueError(f"sample_weight must be finite, got {weights.max()}.")
    if weights.min(initial=0) < 0:
        raise ValueError(
            "sample_weight must be >= 0. Negative values in data passed to "
            f"`sample_weight`, the least is {weights.min()}."
        )


def refuse_dask(search: Any, *collections: Any) -> None:
    """Dask collections are for the plain estimators."""
    if any(type(each).__module__.split(".")[0] == "dask" for each in collections):
        name = type(search).__name__
        raise TypeError(
            f"{name} does not take Dask collections: it needs all rows at once. Fit "
            f"{name.removesuffix('CV')}, which takes them, for each alpha and fold, or "
            "tune on a sample of the rows (compute() it first)."
        )
