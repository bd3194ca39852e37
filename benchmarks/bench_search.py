"""Searches against GridSearchCV and LogisticRegressionCV, as Markdown tables.

    python benchmarks/bench_search.py [--sets letter ...] [--tables svm softmax jobs]
    python benchmarks/bench_search.py --sets reuters_r8 banking77 --tables text

CPU seconds, one BLAS thread, everything of one set in one run. Both sides get the same
folds and the same values; a search has its scores compared with the peer's.
"""

from __future__ import annotations

import os

os.environ["OPENBLAS_NUM_THREADS"] = "1"
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["MKL_NUM_THREADS"] = "1"

import argparse
import time
import tracemalloc
import warnings
from typing import Any

import numpy as np
from _data import IMAGES, Part, load
from joblib.externals.loky import get_reusable_executor
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.svm import LinearSVC

from sklinear import LinearSVMClassifier, LinearSVMClassifierCV, SoftmaxClassifierCV

SETS = ("optdigits", "satimage", "letter")
ALPHAS = np.logspace(1, -5, 10)  # two a decade and a half
DELTAS = (0.5, 1.0, 2.0)
FOLDS = StratifiedKFold(5)
SOLVERS = ("lbfgs", "newton-cg")  # the two that were the fastest on these sets


def part_of(name: str) -> Part:
    """The train part, or of images its first 10000 rows."""
    train, _ = load(name)
    return Part(train.X[:10000], train.y[:10000]) if name in IMAGES else train


def timed(search: Any, part: Part) -> float:
    """CPU seconds of a fit."""
    start = time.process_time()
    search.fit(part.X, part.y)
    return time.process_time() - start


def off(search: Any, peer: Any) -> float:
    """Largest difference of the mean scores, in points."""
    ours, theirs = (s.cv_results_["mean_test_score"] for s in (search, peer))
    return float(100 * np.abs(ours - theirs).max())


def svm(name: str) -> None:
    """2 losses, 3 deltas, 10 alphas, 5 folds."""
    part, losses = part_of(name), ["hinge", "squared_hinge"]
    grid = {"loss": losses, "delta": DELTAS, "alpha": ALPHAS}
    ours = LinearSVMClassifierCV(
        alphas=ALPHAS, deltas=DELTAS, losses=losses, cv=FOLDS, refit=False
    )
    a = timed(ours, part)
    peer = GridSearchCV(LinearSVMClassifier(), grid, cv=FOLDS, refit=False)
    b = timed(peer, part)
    one = [i for i, p in enumerate(ours.cv_results_["params"]) if p["delta"] == 1]
    points = 0.0
    for i in one:
        j = peer.cv_results_["params"].index(ours.cv_results_["params"][i])
        pair = [s.cv_results_["mean_test_score"][m] for s, m in ((ours, i), (peer, j))]
        points = max(points, 100 * abs(pair[0] - pair[1]))
    print(f"| {name} | {a:.2f} | {b:.1f} | {b / a:.1f} | {points:.2f} |", flush=True)


def softmax(name: str) -> None:
    """10 alphas, 5 folds."""
    part = part_of(name)
    n = len(part.y) * 4 / 5
    C = 1 / (2 * ALPHAS * n)
    ours = SoftmaxClassifierCV(alphas=ALPHAS, cv=FOLDS, refit=False, scoring="accuracy")
    a = timed(ours, part)
    best = {}
    for solver in SOLVERS:
        peer = LogisticRegression(solver=solver, max_iter=1000)
        grid = GridSearchCV(peer, {"C": C}, cv=FOLDS, refit=False)
        cv = LogisticRegressionCV(
            Cs=C, cv=FOLDS, solver=solver, max_iter=1000, refit=False
        )
        best[solver] = timed(grid, part), timed(cv, part), off(ours, grid)
    grid_s, cv_s = (min(times[i] for times in best.values()) for i in (0, 1))
    points = min(times[2] for times in best.values())
    print(
        f"| {name} | {a:.2f} | {cv_s:.1f} | {cv_s / a:.1f} | {grid_s:.1f} "
        f"| {grid_s / a:.1f} | {points:.2f} |",
        flush=True,
    )


def text(name: str) -> None:
    """2 losses, 10 alphas, 5 folds of documents."""
    part, alphas = load(name)[0], np.logspace(-3, -6, 10)
    n = len(part.y) * 4 / 5
    losses = ["hinge", "squared_hinge"]
    ours = LinearSVMClassifierCV(alphas=alphas, losses=losses, cv=FOLDS, refit=False)
    ours.fit(part.X[:500], part.y[:500])  # compiles
    a = timed(ours, part)
    grid = {"loss": losses, "C": 1 / (2 * alphas * n)}
    peer = GridSearchCV(LinearSVC(), grid, cv=FOLDS, refit=False)
    b = timed(peer, part)
    best = [
        100 * search.cv_results_["mean_test_score"].max() for search in (ours, peer)
    ]
    print(
        f"| {name} | {a:.1f} | {best[0]:.2f} | {b:.1f} | {best[1]:.2f} | {b / a:.1f} |"
    )


def jobs(name: str) -> None:
    """Wall seconds with one process and with two, which have to start."""
    part, cells = part_of(name), [name]
    for model in (SoftmaxClassifierCV, LinearSVMClassifierCV):
        walls = []
        for n_jobs in (1, 2):
            search = model(alphas=ALPHAS, cv=FOLDS, refit=False, n_jobs=n_jobs)
            get_reusable_executor().shutdown(wait=True)
            start = time.perf_counter()
            search.fit(part.X, part.y)
            walls.append(time.perf_counter() - start)
        cells += [f"{wall:.2f}" for wall in walls] + [f"{walls[0] / walls[1]:.2f}"]
    print("|", " | ".join(cells), "|", flush=True)


def memory(name: str) -> None:
    """Peak above X, in multiples of X, by tracemalloc."""
    part, ratios = part_of(name), []
    for model in (SoftmaxClassifierCV, LinearSVMClassifierCV):
        search = model(alphas=ALPHAS[:4], cv=FOLDS, refit=False)
        search.fit(part.X[:800], part.y[:800])  # imports
        tracemalloc.start()
        search.fit(part.X, part.y)
        ratios.append(tracemalloc.get_traced_memory()[1] / part.X.nbytes)
        tracemalloc.stop()
    print(
        f"| {name} | {part.X.nbytes / 2**20:.1f} | {ratios[0]:.2f} | {ratios[1]:.2f} |",
        flush=True,
    )


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sets", nargs="+", default=SETS)
    parser.add_argument("--tables", nargs="+", default=["svm", "softmax", "memory"])
    asked = parser.parse_args()
    warnings.simplefilter("ignore")  # cells at max_iter
    heads = {
        "svm": "set | CPU s | GridSearchCV | ratio | scores differ by, points",
        "softmax": "set | CPU s | LogisticRegressionCV | ratio | GridSearchCV | ratio "
        "| scores differ by, points",
        "text": "set | CPU s | best accuracy, % | GridSearchCV(LinearSVC) "
        "| best accuracy, % | ratio",
        "jobs": "set | softmax, n_jobs=1, s | n_jobs=2, s | ratio "
        "| SVM, n_jobs=1, s | n_jobs=2, s | ratio",
        "memory": "set | X, MB | softmax, of X | SVM, of X",
    }
    tables = {
        "svm": svm,
        "softmax": softmax,
        "jobs": jobs,
        "text": text,
        "memory": memory,
    }
    for table in asked.tables:
        head = heads[table]
        print(f"\n| {head} |\n|" + " --- |" * (head.count("|") + 1))
        for name in asked.sets:
            tables[table](name)


if __name__ == "__main__":
    main()
