"""How many labels ``certify`` proves at which ``tol``, and what that tol takes.

Prints a table in Markdown: percentages of the training rows, and CPU seconds beside
those at the default tol. All in float64, ``solver="auto"``, sets prepared as their
index says.
"""

from __future__ import annotations

import os

os.environ["OPENBLAS_NUM_THREADS"] = "1"
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["MKL_NUM_THREADS"] = "1"

import argparse
import time
import warnings

import numpy as np
from _data import Part, load
from bench_auto import LOSSES, estimator

SETS = (
    *("letter", "satimage", "shuttle", "page_blocks"),
    *("wine_quality_white", "segmentation", "optdigits"),
)
TOLS = (1e-4, 1e-6, 1e-8)
RUNS = 3  # of which the least time counts


def proven(part: Part, loss: str, alpha: float, tol: float) -> tuple[float, float]:
    """Percentage of the labels, and CPU seconds of a fit."""
    model, best = estimator(loss, alpha, "auto").set_params(tol=tol), np.inf
    for _ in range(RUNS):
        start = time.process_time()
        model.fit(part.X, part.y)
        best = min(best, time.process_time() - start)
    return 100 * model.certify(part.X).mean(), best


def main() -> None:
    """Print a line a set and loss as they come."""
    warnings.simplefilter("ignore")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sets", nargs="*", default=SETS)
    parser.add_argument("--alpha", type=float, default=1e-3)
    args = parser.parse_args()
    print("| set | loss |", *(f"{tol:g} | time |" for tol in TOLS))
    print("|" + " --- |" * (2 + 2 * len(TOLS)), flush=True)
    for name in args.sets:
        part = load(name, np.float64)[0]
        for loss in LOSSES:
            found = [proven(part, loss, args.alpha, tol) for tol in TOLS]
            cells = (f"{share:.1f} | {s / found[0][1]:.1f} |" for share, s in found)
            print(f"| {name} | {loss} |", *cells, flush=True)


if __name__ == "__main__":
    main()
