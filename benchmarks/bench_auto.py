"""Which solver is the fastest where, one thread, and what ``solver="auto"`` takes.

Prints a table in Markdown: CPU seconds to a certified gap of 1e-4 of each solver, on
the shared sets, prepared as their index says, or on random rows: normal ones
("normal-300-200-30": n, d and k; a fourth number: how far apart the classes' means are,
in hundredths of the rows' spread), "twins-..." (the same, three rows being repeated
under other labels), "near-..." (a twentieth of them, nearly equal), "onehot-..." (of
sparse ones in d columns, 8 a row), "priced-20000-3000-5" (sparse ones of two categories
and a price), "table-20000-1400-4" (sparse ones of three categories, few of which are
common, and six numbers), "binned-15000-16-26" (numbers, five bins each),
"spectra-300-1000-5", "genes-300-10000-2" (counts), "products-1000-500-5" (of whole
numbers, two by two) or "words-800-5000-5" (sparse counts). A solver that is four times
slower than the best so far, or over the limit, is cut off and shown as such.
"""

from __future__ import annotations

import os

os.environ["OPENBLAS_NUM_THREADS"] = "1"
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["MKL_NUM_THREADS"] = "1"

import argparse
import time
import warnings
from typing import Any

import numpy as np
from _data import FIGURES, FitError, Part, in_child, load
from scipy.sparse import csr_matrix, hstack

from sklinear import LinearSVMClassifier, SoftmaxClassifier

ALPHAS = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
LOSSES = ("softmax", "squared_hinge", "hinge")
SOLVERS = ("auto", "newton", "lbfgs", "dual")


def estimator(loss: str, alpha: float, solver: str) -> Any:
    """The estimator of a cell."""
    settings = {"alpha": alpha, "solver": solver, "random_state": 0}
    if loss == "softmax":
        return SoftmaxClassifier(**settings)
    return LinearSVMClassifier(loss=loss, **settings)


def normal(name: str) -> Part:
    """Of "normal-300-200-30": rows, features and classes, and what these say."""
    n, d, k, apart, *_ = *map(int, name.split("-")[1:]), 0
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(n, d)), rng.integers(k, size=n)
    if apart:
        X += apart / 100 * rng.normal(size=(k, d))[y]
    return Part(X, y)


def twins(name: str) -> Part:
    """The same, the last three rows being the first ones under other labels."""
    part = normal(name)
    part.X[-3:], part.y[-3:] = part.X[:3], (part.y[:3] + 1) % (part.y.max() + 1)
    return part


def near(name: str) -> Part:
    """The same, a twentieth of the rows being nearly other ones, of other labels."""
    part = normal(name)
    m, k = len(part.y) // 20, part.y.max() + 1
    noise = np.random.default_rng(1).normal(size=(m, part.X.shape[1]))
    part.X[-m:], part.y[-m:] = part.X[:m] + 0.05 * noise, (part.y[:m] + 1) % k
    return part


def onehot(name: str) -> Part:
    """Eight normal numbers in bins, as sparse columns of ones."""
    n, d, k, apart = map(int, name.split("-")[1:])
    part = normal(f"normal-{n}-8-{k}-{apart}")
    ranks = part.X.argsort(axis=0).argsort(axis=0)
    columns = ranks * (d // 8) // n + d // 8 * np.arange(8)
    rows = np.arange(0, 8 * n + 1, 8)
    return Part(csr_matrix((np.ones(8 * n), columns.ravel(), rows), (n, d)), part.y)


def priced(name: str) -> Part:
    """Two categories as sparse columns of ones, which tell the class, and a price."""
    n, d, k = map(int, name.split("-")[1:])
    rng = np.random.default_rng(0)
    sizes = np.array([d // 7, d - d // 7 - 1])
    columns = (rng.zipf(1.3, (n, 2)) - 1) % sizes + [0, sizes[0]]
    scores = rng.normal(size=(d, k))[columns].sum(axis=1) + rng.gumbel(size=(n, k))
    columns = np.column_stack([columns, np.full(n, d - 1)])
    values = np.column_stack([np.ones((n, 2)), np.exp(2 * rng.normal(size=n))])
    rows = np.arange(0, 3 * n + 1, 3)
    X = csr_matrix((values.ravel(), columns.ravel(), rows), (n, d))
    return Part(X, scores.argmax(axis=1))


def table(name: str) -> Part:
    """Three categories as sparse columns of ones, and six numbers."""
    n, d, k = map(int, name.split("-")[1:])
    rng = np.random.default_rng(0)
    sizes = np.array([d - d // 7 - d // 100, d // 7, d // 100])
    columns = np.minimum(rng.zipf(1.3, (n, 3)), sizes) - 1 + sizes.cumsum() - sizes
    numbers = rng.normal(size=(n, 6))
    scores = rng.normal(size=(d, k))[columns].sum(axis=1) + rng.gumbel(size=(n, k))
    scores += numbers @ rng.normal(size=(6, k))
    hot = csr_matrix((np.ones(3 * n), columns.ravel(), np.arange(0, 3 * n + 1, 3)))
    return Part(hstack([hot, numbers], format="csr"), scores.argmax(axis=1))


def binned(name: str) -> Part:
    """Numbers whose classes are apart in them, as ones in five columns each."""
    n, d, k = map(int, name.split("-")[1:])
    part = normal(f"normal-{n}-{d}-{k}-60")
    ranks = part.X.argsort(axis=0).argsort(axis=0)
    columns = ranks * 5 // n + 5 * np.arange(d)
    rows = np.arange(0, d * n + 1, d)
    return Part(csr_matrix((np.ones(d * n), columns.ravel(), rows)), part.y)


def spectra(name: str) -> Part:
    """A peak a class, broad ones that overlap, higher in its own rows."""
    n, d, k = map(int, name.split("-")[1:])
    rng = np.random.default_rng(0)
    y, t = rng.integers(k, size=n), np.linspace(0, 1, d)
    peaks = np.exp(-np.square((t - np.linspace(0.1, 0.9, k)[:, None]) / 0.05))
    heights = rng.lognormal(0, 0.5, (n, k)) * (1 + 0.3 * np.eye(k)[y])
    return Part(heights @ peaks + 0.01 * rng.normal(size=(n, d)), y)


def genes(name: str) -> Part:
    """Logarithms of counts, standardised: five factors, and few features that tell."""
    n, d, k = map(int, name.split("-")[1:])
    rng = np.random.default_rng(0)
    y = rng.integers(k, size=n)
    rates = rng.normal(2, 2, d) + 0.3 * rng.normal(size=(n, 5)) @ rng.normal(
        size=(5, d)
    )
    rates += 0.3 * rng.normal(size=(k, d))[y] * (rng.uniform(size=d) < 0.02)
    X = np.log1p(rng.poisson(np.exp(rates)))
    return Part((X - X.mean(axis=0)) / (X.std(axis=0) + 1e-9), y)


def products(name: str) -> Part:
    """Whole numbers up to 16 and their products, which are not scaled."""
    n, d, k = map(int, name.split("-")[1:])
    rng = np.random.default_rng(0)
    m = int(np.sqrt(2 * d))
    y = rng.integers(k, size=n)
    few = np.floor(8 + 4 * (rng.normal(size=(n, m)) + rng.normal(size=(k, m))[y]))
    few = np.clip(few, 0, 16)
    rows, columns = np.triu_indices(m)
    return Part(few[:, rows] * few[:, columns], y)


def words(name: str) -> Part:
    """Counts of words in short documents, not scaled: a few of them tell the class."""
    n, d, k = map(int, name.split("-")[1:])
    rng = np.random.default_rng(0)
    y = rng.integers(k, size=n)
    rates = (
        10
        / (10 + np.arange(d))
        * np.exp((rng.uniform(size=(k, d)) < 0.1) * rng.normal(1, 1, (k, d)))
    )
    rates *= 15 / rates.sum(axis=1, keepdims=True)
    return Part(csr_matrix(rng.poisson(rates[y]).astype(float)), y)


RANDOM = {
    part.__name__: part
    for part in (
        normal,
        twins,
        near,
        onehot,
        priced,
        table,
        binned,
        spectra,
        genes,
        products,
        words,
    )
}


def fit(model: Any, part: Part) -> tuple[float, float, str]:
    """Least CPU seconds of one fit, or of five quick ones, its gap and its solver."""
    warnings.simplefilter("ignore")
    few = Part(part.X[:200], np.arange(200) % 2)
    for solver in SOLVERS:  # imports and compiled loops, also of what auto takes
        type(model)(**{**model.get_params(), "solver": solver}).fit(few.X, few.y)
    best, spent = np.inf, 0.0
    while spent < 0.5 and best > spent / 5:
        start = time.process_time()
        model.fit(part.X, part.y)
        best = min(best, time.process_time() - start)
        spent += time.process_time() - start
    return best, model.dual_gap_, model.solver_


def main() -> None:
    """Print a row a cell as they come."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sets", nargs="*", default=list(FIGURES))
    parser.add_argument("--losses", nargs="*", default=LOSSES)
    parser.add_argument("--alphas", nargs="*", type=float, default=ALPHAS)
    parser.add_argument("--solvers", nargs="*", default=SOLVERS)
    parser.add_argument("--limit", type=float, default=60.0, help="CPU seconds a fit")
    args = parser.parse_args()
    print("| set | loss | alpha |", *(f"{s} |" for s in args.solvers), "auto / best |")
    print("|" + " --- |" * (4 + len(args.solvers)), flush=True)
    for name in args.sets:
        random = RANDOM.get(name.split("-")[0])
        part = random(name) if random else load(name, np.float32)[0]
        for loss in args.losses:
            for alpha in args.alphas:
                row(name, part, loss, alpha, args.solvers, args.limit)


def row(
    name: str, part: Part, loss: str, alpha: float, solvers: list[str], limit: float
) -> None:
    """One cell's line."""
    seconds, cells = {}, []
    for solver in solvers:
        best = min(seconds.values(), default=np.inf)
        allowed = min(limit, 4 * best + 1.0)
        try:
            s, gap, chosen = in_child(
                lambda solver=solver: fit(estimator(loss, alpha, solver), part),
                allowed + 3,
            )
        except (FitError, TimeoutError):
            cells.append(f"> {allowed:.0f}")
            continue
        tag = f" {chosen}" if solver == "auto" else ""
        if gap <= 1e-4:
            seconds[solver] = s
            cells.append(f"{s:.3g}{tag}")
        else:
            cells.append(f"{s:.3g}{tag} (gap {gap:.0e})")
    best = min(seconds.values(), default=np.nan)
    ratio = seconds.get("auto", np.nan) / best
    print(f"| {name} | {loss} | {alpha:g} |", *(f"{c} |" for c in cells), end="")
    print(f" {ratio:.2f} |", flush=True)


if __name__ == "__main__":
    main()
