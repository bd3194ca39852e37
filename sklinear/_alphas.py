"""The automatic grid of alphas: from the class priors' end to that of interpolation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from sklinear._checks import RANGE
from sklinear._data import Data
from sklinear._losses import Loss

MOST_ALPHAS = 10_000  # of an automatic grid: of three digits there are few more
# root mean square by which scores differ from the priors' at the strong end
FAINT = 0.1
SPAN = 1e-7  # weakest alpha of the strongest, where all features have one spread
SMALL = 0.1  # part of what features tell that those of less spread may hold
CHANCE = 4.0  # times what a feature tells by chance, on average, that does not count
ROUNDING = 1e-14  # of a feature's mean: a smaller spread is none


def automatic_alphas(
    data: Data, problems: list[tuple[Loss, float]], n_alphas: int
) -> list[float]:
    """Alphas from strong to weak, evenly spaced in their logarithms, of three digits.

    ``problems`` are the losses with delta = 1 and what multiplies the user's alpha.
    """
    with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is refused
        mean = np.asarray(data.class_sums.sum(axis=1)).ravel()
        known = _Known(mean, _variances(data, mean), *_distinct(data))
        losses = {loss for loss, _ in problems}
        ends_of = {loss: _ends(data, loss, known) for loss in losses}
    strongest = np.max([ends_of[loss][0] / factor for loss, factor in problems])
    weakest = np.min([ends_of[loss][1] / factor for loss, factor in problems])
    low, high = RANGE
    if strongest == 0:  # features that tell nothing: any alpha gives the priors
        strongest, weakest = 1.0, SPAN
    if not low <= strongest <= high:
        raise ValueError(
            f"alphas={n_alphas} asks for a grid that fits X, but the first alpha would "
            f"be {strongest:.3g}, not between {low:g} and {high:g}: scale X, by "
            "StandardScaler for one, or give the alphas themselves."
        )
    weakest = max(weakest, low)
    ends = np.log10([strongest, max(weakest, strongest * 1e-100)])
    places = np.linspace(0, 1, n_alphas) if n_alphas > 1 else np.array([0.5])
    grid = 10 ** (ends[0] + places * (ends[1] - ends[0]))
    return [float(f"{alpha:.3g}") for alpha in grid]


class _Known(NamedTuple):
    """What is the same for all losses."""

    mean: np.ndarray  # (d,)
    square: np.ndarray  # (d,), of the features about their means
    labels: np.ndarray  # of distinct rows
    masses: np.ndarray  # their weights


def _ends(data: Data, loss: Loss, known: _Known) -> tuple[float, float]:
    """The alpha at which the scores differ from the priors' by FAINT, and a weak one.

    At W = 0 and the priors' intercept the loss has a gradient G (d, k). A strong
    penalty leaves W = -G / (2 alpha), to first order, so that the scores are off by
    -(X - mean) G / (2 alpha); their root mean square, over samples and summed over
    classes, is set to FAINT, in units of the margin or of nats.

    To a feature of spread s the penalty is as strong as 1 / s^2 times it to one of
    spread 1. The weak end is SPAN times the alpha that would be the strong end if all
    features had one spread: of their own, the least but for those whose squared
    correlations with the gradient, beyond those of chance, add up to SMALL of all.
    Of fewer rows than features, which are interpolated anyway, it is SPAN of the other.
    """
    k = data.n_classes
    scores = np.tile(loss.prior(data.class_masses), (k, 1))
    _, of_class = loss(scores, np.arange(k))  # (k, k), a row a class
    mean, square, labels, masses = known
    G = data.of_classes(mean, of_class)
    # what is left of equal numbers is the rounding of their mean, or of its square
    told = square > (ROUNDING if data.sparse else ROUNDING**2) * np.square(mean)
    G[~told] = 0.0
    inverse = np.divide(1, square, out=np.zeros_like(square), where=told)
    unit = 0.5 ** np.frexp(np.abs(G).max())[1]  # lest squares of tiny numbers vanish
    both = unit * np.hstack([G, G * inverse[:, None]])
    centre, total = mean @ both, np.zeros(2)
    for block in data.astype(np.float64):
        off = block.X @ both
        off -= centre
        total += (block.weights @ np.square(off)).reshape(2, k).sum(axis=1)
    strong, of_one = np.sqrt(total) / (2 * FAINT * unit)
    squares = np.bincount(labels, np.square(masses), k)
    chance = float(squares @ np.square(of_class).sum(axis=1))
    shares = np.maximum(np.square(G).sum(axis=1) * inverse - CHANCE * chance, 0)
    order = np.argsort(square)
    reached = np.cumsum(shares[order]) > SMALL * shares.sum()
    if reached.any() and len(masses) > len(mean):
        weak = min(strong, of_one * float(square[order][reached][0]))
    else:
        weak = strong
    return float(strong), SPAN * float(weak)


def _distinct(data: Data) -> tuple[np.ndarray, np.ndarray]:
    """Labels and weights of the rows of positive weight, equal ones taken together.

    So that a weight of 2 is the row twice. Rows are told apart by a random hash of
    their bits, 64 of them.
    """
    keys = np.random.RandomState(0).bytes(8 * (data.shape[1] + 1))
    odd = np.frombuffer(keys, np.uint64) | np.uint64(1)
    hashes = odd[-1] * data.y.astype(np.uint64)
    for block in data.astype(np.float64):
        if data.sparse:
            bits = _mixed(block.X.data) * odd[block.X.indices]
            sums = np.concatenate([[np.uint64(0)], np.cumsum(bits, dtype=np.uint64)])
            hashes[block.rows] += np.diff(sums[block.X.indptr])
        else:
            hashes[block.rows] += _mixed(block.X) @ odd[:-1]
    rows = np.flatnonzero(data.weights)
    _, firsts, places = np.unique(hashes[rows], return_index=True, return_inverse=True)
    return data.y[rows[firsts]], np.bincount(places, data.weights[rows])


def _mixed(values: np.ndarray) -> np.ndarray:
    """The bits of float64 numbers, where small integers do not only have high ones; 0
    of 0 and -0."""
    bits = np.ascontiguousarray(values + 0.0).view(np.uint64)
    bits ^= bits >> np.uint64(32)
    bits ^= bits >> np.uint64(20)
    return bits


def _variances(data: Data, mean: np.ndarray) -> np.ndarray:
    """Weighted mean squares (d,) of the features about their means."""
    total = np.zeros(len(mean))
    for block in data.astype(np.float64):
        if data.sparse:
            total += block.X.power(2).T @ block.weights
        else:
            total += block.weights @ np.square(block.X - mean)
    return np.maximum(total - mean**2, 0) if data.sparse else total


def positive(name: str, values: Any) -> list[Any]:
    """The values of a grid: numbers > 0 in RANGE, at least one."""
    try:
        array = np.asarray([*values])
    except (TypeError, ValueError):  # no sequence, or some of different lengths
        array = np.array(None)
    right = array.ndim == 1 and len(array) and array.dtype.kind in "iuf"
    right = right and not isinstance(values, Mapping)
    low, high = RANGE
    if not (right and all(low <= value <= high for value in array.tolist())):
        raise ValueError(
            f"{name} must be a sequence of finite numbers > 0, from {low:g} to "
            f"{high:g}, at least one, got {values!r}."
        )
    return [v.item() if isinstance(v, np.ndarray) else v for v in values]
