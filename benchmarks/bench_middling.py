"""Middling sets: CPU seconds, ours with ``solver="auto"`` against scikit-learn's.

Prints a table in Markdown. LogisticRegression has the least over its solvers to an
objective within 1e-4 of ours, which is certified to that; LinearSVC, one-vs-rest and
so another objective, is timed at its defaults with the same penalty.
"""

from __future__ import annotations

import os

os.environ["OPENBLAS_NUM_THREADS"] = "1"
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["MKL_NUM_THREADS"] = "1"

import argparse
import time

import numpy as np
from _data import FitError, Part, load
from bench_large import TOL, logistic, ours, within
from sklearn.svm import LinearSVC

NAMES = ("letter", "satimage", "shuttle", "pendigits", "connect_4")
ALPHAS = (1e-2, 1e-4, 1e-6)
SOLVERS = ("lbfgs", "newton-cg", "newton-cholesky")


def softmax_peer(
    part: Part, alpha: float, target: float, limit: float
) -> tuple[float, str]:
    """CPU seconds of the fastest LogisticRegression, and its solver."""
    best, label = np.inf, "none"
    for solver in SOLVERS:
        cap = min(best, limit) + 1
        try:
            seconds = within(
                cap, lambda s=solver: logistic(part, alpha, s, target, 10_000)
            )
        except (TimeoutError, FitError):
            continue
        if seconds < best:
            best, label = seconds, solver
    return best, label


def hinge_peer(part: Part, loss: str, alpha: float) -> float:
    """CPU seconds of LinearSVC at its defaults."""
    model = LinearSVC(C=1 / (2 * alpha * len(part.y)), loss=loss, random_state=0)
    start = time.process_time()
    model.fit(part.X, part.y)
    return time.process_time() - start


def row(name: str, part: Part, loss: str, alpha: float, limit: float) -> None:
    """One line."""
    try:
        seconds, value, gap = within(limit, lambda: ours(part, loss, alpha, "auto"))
    except TimeoutError:
        print(f"| {name} | {loss} | {alpha:g} | > {limit:g} | | | | |", flush=True)
        return
    if loss == "softmax":
        other, label = softmax_peer(part, alpha, value * (1 + TOL), limit)
    else:
        label = "LinearSVC"
        try:
            other = within(limit, lambda: hinge_peer(part, loss, alpha))
        except TimeoutError:
            other = np.inf
    shown = f"{other:.3f} | {other / seconds:.1f}"
    if not np.isfinite(other):
        shown = f"> {limit:g} | > {limit / seconds:.1f}"
    first = f"| {name} | {loss} | {alpha:g} | {seconds:.3f} | {gap:.0e} |"
    print(first, label, "|", shown, "|", flush=True)


def main() -> None:
    """Parse the arguments and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=NAMES)
    parser.add_argument("--limit", type=float, default=10.0, help="seconds of a fit")
    args = parser.parse_args()
    print("| set | loss | alpha | ours, s | gap | peer | its s | ratio |")
    print("|" + " --- |" * 8)
    for name in args.names:
        part, _ = load(name)
        for loss in ("softmax", "hinge", "squared_hinge"):
            for alpha in ALPHAS:
                row(name, part, loss, alpha, args.limit)


if __name__ == "__main__":
    main()
