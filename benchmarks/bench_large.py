"""Large dense sets: CPU seconds to the same objective, ours against its peers.

Prints tables in Markdown. Ours is fitted to a certified gap of 1e-4, first; each peer's
seconds are those until its objective is within 1e-4 (relative) of that. A peer that
evaluates the objective as it goes is stopped at the first value that good, which is
kinder than a whole fit; saga, which does not, is fitted with a falling ``max_iter``.
"""

from __future__ import annotations

import os

os.environ["OPENBLAS_NUM_THREADS"] = "1"
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["MKL_NUM_THREADS"] = "1"

import argparse
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from _data import FitError, Part, in_child, load, objective
from _rivals import cyanure_fit, cyanure_softmax, missing, mlpack_hinge
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression
from sklearn.linear_model._linear_loss import LinearModelLoss

from sklinear import LinearSVMClassifier, SoftmaxClassifier
from sklinear.losses import weston_watkins

PEERS = {
    "softmax": ("lbfgs", "newton-cg", "saga", "cyanure"),
    "hinge": ("own dual", "scipy L-BFGS", "mlpack"),
    "squared_hinge": ("own dual", "scipy L-BFGS", "cyanure ovr"),
}
EPOCHS = (40, 20, 10, 5)  # of saga
TOL = 1e-4


class Reached(Exception):
    """The objective is as low as it has to be."""


def ours(
    part: Part, loss: str, alpha: float, solver: str, fit_intercept: bool = True
) -> tuple[float, float, float]:
    """CPU seconds, objective and certified gap of our fit."""
    settings = {"alpha": alpha, "solver": solver, "tol": TOL, "random_state": 0}
    settings["fit_intercept"] = fit_intercept
    model: Any = SoftmaxClassifier(**settings)
    if loss != "softmax":
        model = LinearSVMClassifier(loss=loss, **settings)
    few = Part(part.X[:200], part.y[:200])
    model.fit(few.X, few.y)  # imports and compiled loops
    start = time.process_time()
    model.fit(part.X, part.y)
    seconds = time.process_time() - start
    value = objective(model.coef_, model.intercept_, part, loss, alpha)
    return seconds, value, model.dual_gap_


def logistic(part: Part, alpha: float, solver: str, target: float, most: int) -> float:
    """CPU seconds of LogisticRegression to ``target``; inf if it stops above it."""
    model = LogisticRegression(
        C=1 / (2 * alpha * len(part.y)), solver=solver, tol=1e-6, max_iter=most
    )
    if solver != "saga":
        for name in ("loss", "loss_gradient"):
            setattr(
                LinearModelLoss, name, watched(getattr(LinearModelLoss, name), target)
            )
    start = time.process_time()
    try:
        model.fit(part.X, part.y)
    except Reached:
        return time.process_time() - start
    seconds = time.process_time() - start
    value = objective(model.coef_, model.intercept_, part, "softmax", alpha)
    return seconds if value <= target else np.inf


def watched(function: Callable[..., Any], target: float) -> Callable[..., Any]:
    """``function``, which raises Reached where its (first) value is low enough."""

    def watching(*args: Any, **kwargs: Any) -> Any:
        result = function(*args, **kwargs)
        value = result[0] if isinstance(result, tuple) else result
        if value <= target:
            raise Reached
        return result

    return watching


def saga(part: Part, alpha: float, target: float, cap: float) -> float:
    """CPU seconds with the least of EPOCHS that reaches ``target``."""
    best = np.inf
    for epochs in EPOCHS:
        try:
            seconds = within(
                cap, lambda e=epochs: logistic(part, alpha, "saga", target, e)
            )
        except TimeoutError:
            continue
        if not np.isfinite(seconds):
            break
        best = seconds
    return best


def plain_lbfgs(part: Part, loss: str, alpha: float, target: float) -> float:
    """CPU seconds of scipy's L-BFGS on the objective itself; inf if it stops above."""
    n, d = part.X.shape
    k = int(part.y.max()) + 1

    def function(params: np.ndarray) -> tuple[float, np.ndarray]:
        """The objective and its gradient, products in the samples' precision."""
        W, b = params[:-k].reshape(d, k), params[-k:]
        scores = part.X @ W.astype(part.X.dtype) + b  # (n, k)
        values, gradient = weston_watkins(scores, part.y, squared=loss != "hinge")
        value = values.mean() + alpha * np.vdot(W, W)
        if value <= target:
            raise Reached
        down = part.X.T @ (gradient / n).astype(part.X.dtype) + 2 * alpha * W
        return value, np.concatenate([down.ravel(), gradient.mean(axis=0)])

    options = {"maxiter": 10**6, "maxfun": 10**6, "ftol": 0.0, "gtol": 1e-9}
    start = time.process_time()
    try:
        zeros = np.zeros((d + 1) * k)
        minimize(function, zeros, jac=True, method="L-BFGS-B", options=options)
    except Reached:
        return time.process_time() - start
    return np.inf


def within(cap: float, function: Callable[[], Any]) -> Any:
    """``function()`` in a child, without warnings of convergence."""

    def quiet() -> Any:
        warnings.simplefilter("ignore")
        return function()

    return in_child(quiet, cap)


def cell(name: str, part: Part, loss: str, alpha: float, args: Any) -> None:
    """A line for each peer, as they come."""
    try:
        seconds, value, gap = within(
            args.limit, lambda: ours(part, loss, alpha, "newton")
        )
    except TimeoutError:
        print(f"| {name} | {loss} | {alpha:g} | > {args.limit:g} | - | - | - | - |")
        return
    target = value * (1 + TOL)
    for peer in PEERS[loss]:
        if peer not in args.peers:
            continue
        if missing(peer):
            print(f"{peer} is left out: pip install {missing(peer)}", flush=True)
            continue
        try:
            if peer == "mlpack":
                bare(name, part, alpha, args.limit)
                continue
            if peer == "cyanure":
                other = within(
                    5 * args.limit, lambda: cyanure_softmax(part, alpha, target)
                )
            elif peer == "cyanure ovr":
                other = within(
                    args.limit, lambda: cyanure_fit(part, loss, alpha, TOL)[0]
                )
            elif peer == "saga":
                other = saga(part, alpha, target, args.limit)
            elif loss == "softmax":
                other = within(
                    args.limit,
                    lambda p=peer: logistic(part, alpha, p, target, 10**5),
                )
            elif peer == "own dual":
                other = within(args.limit, lambda: ours(part, loss, alpha, "dual")[0])
            else:
                other = within(
                    args.limit, lambda: plain_lbfgs(part, loss, alpha, target)
                )
            shown = f"{other:.2f} | {other / seconds:.1f}"
            if not np.isfinite(other):
                shown = (
                    f"> {args.limit:g} | -" if peer == "saga" else "stopped above | -"
                )
        except TimeoutError:
            shown = f"> {args.limit:g} | > {args.limit / seconds:.1f}"
        except FitError as error:
            shown = f"{error} | -"
        print(
            f"| {name} | {loss} | {alpha:g} | newton {seconds:.2f} "
            f"| {gap:.0e} | {peer} | {shown} |",
            flush=True,
        )


def bare(name: str, part: Part, alpha: float, limit: float) -> None:
    """The line of mlpack's hinge, neither side with an intercept."""
    ours_at = within(limit, lambda: ours(part, "hinge", alpha, "newton", False))
    seconds, value, gap = ours_at
    first = f"| {name} | hinge, no intercept | {alpha:g} | newton {seconds:.2f} "
    first += f"| {gap:.0e} | mlpack |"
    try:
        other, its = within(limit, lambda: mlpack_hinge(part, alpha))
    except TimeoutError:
        print(first, f"> {limit:g} | > {limit / seconds:.1f} |", flush=True)
        return
    shown = f"{other / seconds:.1f}"
    if its > value * (1 + TOL):
        shown = f"stopped {100 * (its / value - 1):.1f} % above"
    print(first, f"{other:.2f} | {shown} |", flush=True)


def main() -> None:
    """Print a row a cell and peer as they come."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sets", nargs="*", default=("fashion_mnist", "mnist"))
    parser.add_argument("--losses", nargs="*", default=list(PEERS))
    parser.add_argument("--alphas", nargs="*", type=float, default=(1e-3, 1e-5))
    parser.add_argument(
        "--peers",
        nargs="*",
        default=sorted({p for peers in PEERS.values() for p in peers}),
    )
    parser.add_argument("--limit", type=float, default=60.0, help="CPU seconds a fit")
    args = parser.parse_args()
    print("| set | loss | alpha | ours, s | gap | peer | its s | ratio |")
    print("|" + " --- |" * 8, flush=True)
    for name in args.sets:
        part, _ = load(name, np.float32)
        for loss in args.losses:
            for alpha in args.alphas:
                cell(name, part, loss, alpha, args)


if __name__ == "__main__":
    main()
