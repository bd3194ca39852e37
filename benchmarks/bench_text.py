"""Text, one thread: dual coordinate descent beside LinearSVC and LogisticRegression.

Prints a table in Markdown. ``LinearSVC`` minimises other objectives, one-vs-rest and
Crammer-Singer, so it is timed at its defaults. ``LogisticRegression`` minimises the
same one: its time is the least, over its solvers and a sweep of ``tol``, that reaches
an objective within 1e-4 of the optimum.
"""

from __future__ import annotations

import os

os.environ["OPENBLAS_NUM_THREADS"] = "1"
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["MKL_NUM_THREADS"] = "1"

import argparse
import time
import warnings
from functools import partial
from typing import Any

import numpy as np
from _data import FitError, Part, in_child, load, objective
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC

from sklinear import LinearSVMClassifier, SoftmaxClassifier

NAMES = ("reuters_r8", "banking77", "clinc150")
STRENGTHS = (0.1, 1.0, 10.0)
SOLVERS = ("lbfgs", "newton-cg", "saga", "sag")
TOLS = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5)
HEADER = "| data | loss | C | sklinear s | epochs | gap | peer | its s | ratio |"


def estimator(loss: str, C: float, n: int) -> Any:
    """Ours: the same penalty as that of a peer's C."""
    settings = {"solver": "dual", "alpha": 1 / (2 * C * n), "random_state": 0}
    if loss == "softmax":
        return SoftmaxClassifier(**settings)
    return LinearSVMClassifier(loss=loss, **settings)


def timed(model: Any, part: Part, repeats: int = 1) -> tuple[Any, float]:
    """The fitted model and the least CPU seconds."""
    best = np.inf
    for _ in range(repeats):
        start = time.thread_time()
        model.fit(part.X, part.y)
        best = min(best, time.thread_time() - start)
    return model, best


def softmax_peer(part: Part, C: float, enough: float, limit: float) -> tuple[str, str]:
    """The quickest LogisticRegression that reaches an objective, and its seconds."""
    best, label = limit, f"none within {limit:g} s"
    for solver in SOLVERS:
        for tol in TOLS:
            model = LogisticRegression(
                C=C, solver=solver, tol=tol, max_iter=10_000, random_state=0
            )

            def fit(model: Any = model) -> tuple[float, float]:
                _, seconds = timed(model, part)
                alpha = 1 / (2 * C * len(part.y))
                value = objective(model.coef_, model.intercept_, part, "softmax", alpha)
                return value, seconds

            try:
                value, seconds = in_child(fit, best + 1)
            except (TimeoutError, FitError):
                break  # smaller tols take longer
            if value <= enough:
                if seconds < best:
                    best, label = seconds, f"LogisticRegression {solver} tol={tol:g}"
                break
    return label, f"{best:.2f}"


def rows(name: str, losses: list[str], limit: float) -> None:
    """Print the rows of one set."""
    part, _ = load(name)
    for loss in losses:
        for C in STRENGTHS:
            ours = partial(timed, estimator(loss, C, len(part.y)), part, repeats=3)
            model, seconds = in_child(ours, limit)
            first = f"| {name} | {loss} | {C:g} | {seconds:.3f} | {model.n_iter_} | "
            first += f"{model.dual_gap_:.0e} |"
            if loss == "softmax":
                least = model.loss_curve_[-1] * (1 - model.dual_gap_)
                peers = [softmax_peer(part, C, least * (1 + 1e-4), limit)]
            else:
                peers = []
                for kind in ("ovr", "crammer_singer"):
                    peer = LinearSVC(C=C, loss=loss, multi_class=kind, random_state=0)

                    def fit(peer: Any = peer) -> float:
                        return timed(peer, part)[1]

                    try:
                        peers.append(
                            (f"LinearSVC {kind}", f"{in_child(fit, limit):.2f}")
                        )
                    except TimeoutError:
                        peers.append((f"LinearSVC {kind}, stopped", f"{limit:.2f}"))
            for label, its in peers:
                print(
                    first, f"{label} | {its} | {float(its) / seconds:.1f} |", flush=True
                )


def main() -> None:
    """Parse the arguments and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=NAMES)
    parser.add_argument("--losses", default="hinge,squared_hinge,softmax")
    parser.add_argument("--limit", type=float, default=100.0, help="seconds of a peer")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    losses = args.losses.split(",")
    for name in args.names[:1]:  # compile before the clock starts
        part, _ = load(name)
        for loss in losses:
            estimator(loss, 1.0, len(part.y)).set_params(max_iter=2).fit(part.X, part.y)
    print(HEADER, "|" + " --- |" * 9, sep="\n")
    for name in args.names:
        rows(name, losses, args.limit)


if __name__ == "__main__":
    main()
