"""The automatic grid of alphas: from the class priors' end to that of interpolation."""

from __future__ import annotations

from typing import Any

import numpy as np

from sklinear._checks import RANGE
from sklinear._data import Data
from sklinear._losses import Loss

FAINT = (
    0.1  # root mean square by which scores differ from the priors' at the strong end
)
SPAN = 1e-7  # weakest alpha of the strongest


def automatic_alphas(
    data: Data, problems: list[tuple[Loss, float]], n_alphas: int
) -> list[float]:
    """Alphas from strong to weak, evenly spaced in their logarithms, of three digits.

    ``problems`` are the losses with delta = 1 and what multiplies the user's alpha.
    """
    strongest = max(strong_alpha(data, loss) / factor for loss, factor in problems)
    weakest = min(strong_alpha(data, loss) / factor for loss, factor in problems) * SPAN
    if not strongest > 0:  # features that tell nothing: any alpha gives the priors
        strongest, weakest = 1.0, SPAN
    ends = np.log10([strongest, max(weakest, strongest * 1e-100)])
    places = np.linspace(0, 1, n_alphas) if n_alphas > 1 else np.array([0.5])
    grid = 10 ** (ends[0] + places * (ends[1] - ends[0]))
    return [float(f"{alpha:.3g}") for alpha in grid]


def strong_alpha(data: Data, loss: Loss) -> float:
    """The alpha at which the scores differ from the priors' by FAINT.

    At W = 0 and the priors' intercept the loss has a gradient G (d, k). A strong
    penalty leaves W = -G / (2 alpha), to first order, so that the scores are off by
    -(X - mean) G / (2 alpha); their root mean square, over samples and summed over
    classes, is set to FAINT, in units of the margin or of nats.
    """
    masses = data.class_masses
    k = len(masses)
    scores = np.tile(loss.prior(masses), (k, 1))
    _, of_class = loss(scores, np.arange(k))  # (k, k), a row a class
    mean = np.asarray(data.class_sums.sum(axis=1)).ravel()
    G = data.of_classes(mean, of_class)
    centre, total = mean @ G, 0.0
    for block in data.astype(np.float64):
        off = block.X @ G
        off -= centre
        total += float(block.weights @ np.square(off).sum(axis=1))
    return float(np.sqrt(total)) / (2 * FAINT)


def positive(name: str, values: Any) -> list[Any]:
    """The values of a grid: numbers > 0 in RANGE, at least one."""
    array = np.asarray(values)
    right = array.ndim == 1 and len(array) and array.dtype.kind in "iuf"
    low, high = RANGE
    if not (right and (array >= low).all() and (array <= high).all()):
        raise ValueError(
            f"{name} must be a sequence of finite numbers > 0, from {low:g} to "
            f"{high:g}, at least one, got {values!r}."
        )
    return list(values)
