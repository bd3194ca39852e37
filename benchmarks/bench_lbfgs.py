"""L-BFGS of SoftmaxClassifier against that of LogisticRegression: cost and number.

    python benchmarks/bench_lbfgs.py [--tables cost,count] [--sets wine,digits]

All times are CPU times of one thread.

Cost of an iteration. Both are fitted with max_iter=10 and max_iter=40, in turns, and
the difference of the least times is divided by the 30 iterations between: what happens
once (validation, first line searches, sklinear's covariance and its Cholesky factor)
cancels, and shows in the last column, the whole fit with max_iter=1. Tolerances are out
of reach, and sklinear is kept from going over to Newton steps, so that all of them are
L-BFGS iterations. alpha is 1e-6. "calls" counts evaluations of the objective per
iteration, of which a line search may need several.

Number of iterations. LogisticRegression runs on raw, unscaled features with
max_iter=100, 1000, and until tol=1e-4 and tol=1e-6 (20000 at most), while the objective
is recorded at each of scipy's callbacks; SoftmaxClassifier with the same penalty (alpha
= 1 / (2 C n), for two classes 1 / (C n)) counts where loss_curve_ is first as low. Its
count has the steps of Newton and of their conjugate gradients in it, which are dearer
than L-BFGS iterations, so the times to get there, each with max_iter set to its count,
stand beside.
"""

from __future__ import annotations

import os

os.environ["OPENBLAS_NUM_THREADS"] = "1"
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["MKL_NUM_THREADS"] = "1"

import argparse
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import numpy as np
import scipy.optimize
from _data import Part, best_times, load, load_raw
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.linear_model._linear_loss import LinearModelLoss

from sklinear import SoftmaxClassifier
from sklinear._objective import Objective
from sklinear._solvers import _lbfgs

RAW = ("wine", "breast_cancer", "digits")
SHARED = ("letter", "fashion_mnist", "reuters_r8", "banking77")
FEW, MANY = 10, 40  # iterations; L-BFGS remembers ten, so that the first are cheaper
MAX_ITER = 20_000
NEVER = 1e-300  # a tolerance that is not met


def line(cells: Any) -> str:
    """One row of a Markdown table."""
    return f"| {' | '.join(map(str, cells))} |"


def print_head(title: str, cells: list[str]) -> None:
    """Title and head of a Markdown table."""
    print(f"\n{title}\n\n{line(cells)}\n{line(['---'] * len(cells))}", flush=True)


# Cost of an iteration -----------------------------------------------------------------


def shapes(names: list[str], dtype: Any) -> Iterator[tuple[str, Part]]:
    """Data small and large, dense and CSR; the shared ones only where they are."""
    for name in names:
        try:
            part = load_raw(name) if name in RAW else load(name, dtype)[0]
        except FileNotFoundError as error:
            print(f"{name} left out: {error}", file=sys.stderr)
            continue
        X = part.X[:20_000]
        if name in RAW:
            X = X.astype(dtype)
        yield name, Part(X, part.y[:20_000])


def calls_of(owner: type, method: str, fit: Callable[[], Any]) -> int:
    """How often ``fit`` calls a method."""
    original, calls = getattr(owner, method), 0

    def counting(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        return original(*args, **kwargs)

    with mock.patch.object(owner, method, counting):
        fit()
    return calls


def cost_table(names: list[str], dtype: Any, seconds: float) -> None:
    """Print the cost of an iteration at each shape."""
    print_head(
        f"Cost of an iteration, {np.dtype(dtype)}",
        [
            "data",
            "n x d x k",
            "LogisticRegression ms",
            "sklinear ms",
            "ratio",
            "calls",
            "one iteration, all, ms",
        ],
    )
    for name, part in shapes(names, dtype):
        n, k = len(part.y), len(np.unique(part.y))
        alpha = 1e-6
        C = 1 / (alpha * n) if k == 2 else 1 / (2 * alpha * n)

        def theirs(iterations: int, C: float = C, part: Part = part) -> Any:
            model = LogisticRegression(C=C, tol=NEVER, max_iter=iterations)
            return model.fit(part.X, part.y)

        def ours(iterations: int, alpha: float = alpha, part: Part = part) -> Any:
            model = SoftmaxClassifier(
                alpha=alpha, solver="lbfgs", tol=NEVER, max_iter=iterations
            )
            never = {"SLOW": -np.inf, "SLOW_DENSE": -np.inf, "LONGEST_DENSE": np.inf}
            with mock.patch.multiple(_lbfgs, **never):
                return model.fit(part.X, part.y)

        for model in (theirs(MANY), ours(MANY)):
            assert np.max(model.n_iter_) == MANY
        each, once, calls = [], [], []
        contenders = [
            lambda f=f, m=m: f(m) for f in (theirs, ours) for m in (1, FEW, MANY)
        ]
        times = best_times(contenders, repeats=3, seconds=seconds)
        places = (LinearModelLoss, "loss_gradient"), (Objective, "evaluate")
        for i, place in enumerate(places):
            first, few, many = times[3 * i : 3 * i + 3]
            each.append((many - few) / (MANY - FEW))
            once.append(first)
            count = calls_of(*place, contenders[3 * i + 2])
            count -= calls_of(*place, contenders[3 * i + 1])
            calls.append(count / (MANY - FEW))
        print(
            line(
                [
                    name,
                    f"{n} x {part.X.shape[1]} x {k}"
                    + ("" if isinstance(part.X, np.ndarray) else " CSR"),
                    *(f"{1e3 * t:.3f}" for t in each),
                    f"{each[1] / each[0]:.2f}",
                    " / ".join(f"{c:.1f}" for c in calls),
                    " / ".join(f"{1e3 * t:.2f}" for t in once),
                ]
            ),
            flush=True,
        )


# Number of iterations -----------------------------------------------------------------


def their_history(part: Part, C: float, tol: float) -> list[float]:
    """The objective after each iteration of LogisticRegression's own call of scipy."""
    history: list[float] = []
    minimize = scipy.optimize.minimize

    def recording(*args: Any, callback: Any = None, **kwargs: Any) -> Any:
        def record(intermediate_result: Any) -> None:
            history.append(float(intermediate_result.fun))

        return minimize(*args, callback=record, **kwargs)

    with mock.patch.object(scipy.optimize, "minimize", recording):
        model = LogisticRegression(C=C, tol=tol, max_iter=MAX_ITER)
        model.fit(part.X, part.y)
    assert len(history) == model.n_iter_[0]
    return history


def count_table(names: list[str]) -> None:
    """Print the iterations to equal objectives on raw data."""
    print_head(
        "Iterations to the same objective, raw features",
        [
            "data",
            "C",
            "LogisticRegression at",
            "objective",
            "its iterations",
            "sklinear's",
            "ratio",
            "its s",
            "sklinear's s",
            "ratio",
        ],
    )
    for name in names:
        part = load_raw(name)
        n, k = len(part.y), len(np.unique(part.y))
        for C in (0.01, 1.0, 100.0):
            alpha = 1 / (C * n) if k == 2 else 1 / (2 * C * n)
            history = their_history(part, C, 1e-6)
            levels = {"max_iter=100": 100, "max_iter=1000": 1000}
            levels["tol=1e-4"] = len(their_history(part, C, 1e-4))
            levels["tol=1e-6"] = len(history)
            ours = SoftmaxClassifier(
                alpha=alpha, solver="lbfgs", tol=1e-12, max_iter=MAX_ITER
            ).fit(part.X, part.y)
            for level, count in levels.items():
                if count > len(history):
                    continue  # converged before
                value = history[count - 1]
                # the two sum in different orders, so that equal means up to rounding
                low = np.flatnonzero(np.array(ours.loss_curve_) <= value * (1 + 1e-12))
                cells = [name, f"{C:g}", level, f"{value:.8g}", count]
                if not len(low):
                    print(line([*cells, "never", *["-"] * 4]), flush=True)
                    continue
                fits = [
                    LogisticRegression(C=C, tol=NEVER, max_iter=count),
                    SoftmaxClassifier(
                        alpha=alpha,
                        solver="lbfgs",
                        tol=NEVER,
                        max_iter=int(low[0]) + 1,
                    ),
                ]
                times = best_times(
                    [lambda fit=fit: fit.fit(part.X, part.y) for fit in fits],  # noqa: B023
                    repeats=5 if count <= 1000 else 1,
                )
                cells += [low[0] + 1, f"{(low[0] + 1) / count:.2f}"]
                cells += [f"{t:.3f}" for t in times]
                print(line([*cells, f"{times[1] / times[0]:.2f}"]), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tables", default="cost,count")
    parser.add_argument("--seconds", type=float, default=3, help="for each shape")
    parser.add_argument("--dtype", default="float64", help="of X in the cost table")
    parser.add_argument("--sets", help="names, with commas")
    options = parser.parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)
    if "cost" in options.tables:
        names = options.sets.split(",") if options.sets else [*RAW, *SHARED]
        cost_table(names, np.dtype(options.dtype), options.seconds)
    if "count" in options.tables:
        count_table(options.sets.split(",") if options.sets else list(RAW))


if __name__ == "__main__":
    main()
