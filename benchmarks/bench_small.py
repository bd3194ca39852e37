"""Small fits at their defaults, and the memory of a large one, as Markdown tables."""

from __future__ import annotations

import os

os.environ["OPENBLAS_NUM_THREADS"] = "1"
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["MKL_NUM_THREADS"] = "1"

import warnings
from functools import partial
from typing import Any

import numpy as np
from _data import Part, best_times, load, load_raw, measured_fit
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC

from sklinear import LinearSVMClassifier, SoftmaxClassifier

PAIRS = ((SoftmaxClassifier, LogisticRegression), (LinearSVMClassifier, LinearSVC))


def fit(model: Any, part: Part) -> None:
    """One fit at the defaults."""
    model().fit(part.X, part.y)


def main() -> None:
    """Print both tables."""
    warnings.simplefilter("ignore")  # the peers' defaults stop at max_iter
    print("| set | ours | ms | peer | ms | ours / peer |\n|" + " --- |" * 6)
    for name in ("iris", "wine", "digits"):
        part = load_raw(name)
        for ours, peer in PAIRS:
            fits = [partial(fit, model, part) for model in (ours, peer)]
            a, b = best_times(fits, repeats=5, seconds=2.0)
            print(
                f"| {name} | {ours.__name__} | {1e3 * a:.1f} | {peer.__name__} "
                f"| {1e3 * b:.1f} | {a / b:.2f} |",
                flush=True,
            )
    print("\n| X | X, MB | peak above, MB | of float64 X | CPU s |\n|" + " --- |" * 5)
    whole = 8 * 60000 * 784 / 2**20
    for dtype in (np.uint8, np.float32, np.float64):
        part, _ = load("fashion_mnist", np.float32)
        X = np.round(255 * part.X).astype(dtype) if dtype == np.uint8 else part.X
        part = Part(X.astype(dtype, copy=False), part.y)
        # weights of pixels up to 255 are 255 times smaller, so alpha is 255**2 larger
        alpha = 1e-3 * 255**2 if dtype == np.uint8 else 1e-3
        done = measured_fit(SoftmaxClassifier(alpha=alpha), part, 60.0, 0.0)
        print(
            f"| {np.dtype(dtype)} | {part.X.nbytes / 2**20:.0f} | {done.megabytes:.0f} "
            f"| {done.megabytes / whole:.2f} | {done.seconds:.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
