"""All shared data sets, sklinear's estimators and solvers against scikit-learn's.

    python benchmarks/bench_real_data.py [--sets a,b] [--alpha 1e-3] [--max-seconds 120]

Prints a Markdown table. Each fit runs in a forked child of its own, on one thread: it
can be stopped, and its peak memory is its own. Peers get the penalty of the sklinear
model of their loss: LogisticRegression and LinearSVC C = 1 / (2 alpha n), SGDClassifier
2 alpha. LinearSVC and SGDClassifier fit one class against the rest, which is another
objective, so that only their accuracy, time and memory compare.

Columns: "published" and "LR acc" are INDEX.md's figures; "above best" is the relative
distance from the best objective of the same loss and alpha in this table; "gap" is the
certified one; "iter" has a ! where the fit warned that it did not converge; the time is
CPU time, the least of a few; "MB" is the peak memory of the fit above what was resident
before it, which has X in it, of "X MB".

The default alphas are in ALPHAS: for each set and loss, of 1e-2, 1e-3, ..., 1e-6 the
one with the best accuracy on a held-out fifth of the train part, of which at most 20000
rows (``--tune`` finds them again; the larger alpha in a tie, and none whose fit takes
longer than ``--max-seconds``). The test part has no say.
"""

from __future__ import annotations

import os

os.environ["OPENBLAS_NUM_THREADS"] = "1"
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["MKL_NUM_THREADS"] = "1"

import argparse
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse
from _data import FIGURES, FitError, Part, load, measured_fit, objective
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.model_selection import train_test_split
from sklearn.svm import LinearSVC

from sklinear import LinearSVMClassifier, SoftmaxClassifier

LOSSES = ("softmax", "squared_hinge", "hinge")
GRID = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
EPOCHS = 20
# alpha of each loss, in the order of LOSSES
ALPHAS = {
    "mnist": (1e-4, 1e-2, 1e-3),
    "fashion_mnist": (1e-3, 1e-2, 1e-2),
    "letter": (1e-5, 1e-2, 1e-3),
    "satimage": (1e-6, 1e-4, 1e-4),
    "shuttle": (1e-5, 1e-5, 1e-5),
    "pendigits": (1e-5, 1e-6, 1e-6),
    "optdigits": (1e-4, 1e-3, 1e-2),
    "dna": (1e-3, 1e-2, 1e-2),
    "connect_4": (1e-4, 1e-3, 1e-4),
    "segmentation": (1e-6, 1e-5, 1e-5),
    "vehicle": (1e-4, 1e-3, 1e-4),
    "mfeat_factors": (1e-5, 1e-5, 1e-5),
    "wine_quality_white": (1e-2, 1e-4, 1e-2),
    "page_blocks": (1e-6, 1e-3, 1e-5),
    "reuters_r8": (1e-6, 1e-6, 1e-5),
    "banking77": (1e-6, 1e-4, 1e-4),
    "clinc150": (1e-5, 1e-3, 1e-3),
}
HEADER = (
    "set",
    "model",
    "alpha",
    "test acc %",
    "published %",
    "LR acc %",
    "objective",
    "above best",
    "gap",
    "iter",
    "CPU s",
    "MB",
    "X MB",
)


@dataclass(frozen=True)
class Contender:
    """A model to fit, and the loss whose objective it minimises, if sklinear has it."""

    name: str
    model: Any
    alpha: float
    loss: str | None


def estimator(loss: str, **params: Any) -> Any:
    """sklinear's, by the name of its loss."""
    if loss == "softmax":
        return SoftmaxClassifier(**params)
    return LinearSVMClassifier(loss=loss, **params)


def contenders(alphas: dict[str, float], n: int) -> list[Contender]:
    """Everyone, loss by loss."""
    rows = []
    for loss, alpha in alphas.items():
        for solver, params in (
            ("lbfgs", {}),
            ("sgd", {"max_iter": EPOCHS, "random_state": 0}),
        ):
            model = estimator(loss, alpha=alpha, solver=solver, **params)
            rows.append(Contender(f"sklinear {loss} {solver}", model, alpha, loss))
        C = 1 / (2 * alpha * n)
        if loss == "softmax":
            peer = LogisticRegression(C=C, max_iter=1000)
            rows.append(Contender("LogisticRegression", peer, alpha, loss))
        if loss == "squared_hinge":
            peer = LinearSVC(C=C, random_state=0)
            rows.append(Contender("LinearSVC", peer, alpha, None))
        else:
            their = "log_loss" if loss == "softmax" else loss
            peer = SGDClassifier(
                loss=their, alpha=2 * alpha, max_iter=EPOCHS, random_state=0
            )
            rows.append(Contender(f"SGDClassifier {their}", peer, alpha, None))
    return rows


def table_of(
    name: str, alphas: dict[str, float], dtype: Any, limit: float
) -> list[list[str]]:
    """The rows of one set."""
    train, test = load(name, dtype)
    rows: list[list[str]] = []
    values: list[tuple[str | None, float]] = []
    for contender in contenders(alphas, len(train.y)):
        head = [name, contender.name, f"{contender.alpha:.0e}"]
        try:
            fit = measured_fit(contender.model, train, limit)
        except (TimeoutError, FitError) as error:
            word = "timeout" if isinstance(error, TimeoutError) else str(error)
            rows.append([*head, word, *["-"] * 9])
            values.append((None, np.nan))
            continue
        model, value = fit.model, np.nan
        if contender.loss:
            value = objective(
                model.coef_, model.intercept_, train, contender.loss, contender.alpha
            )
        values.append((contender.loss, value))
        gap = getattr(model, "dual_gap_", np.nan)
        rows.append(
            [
                *head,
                f"{100 * model.score(test.X, test.y):.2f}",
                FIGURES[name].published,
                f"{FIGURES[name].lr_accuracy}",
                f"{value:.6f}" if contender.loss else "-",
                "",
                "-" if np.isnan(gap) else f"{gap:.0e}",
                f"{np.max(model.n_iter_)}{'!' if fit.warned else ''}",
                f"{fit.seconds:.3g}",
                f"{fit.megabytes:.1f}",
                f"{size(train.X):.1f}",
            ]
        )
    for row, (loss, value) in zip(rows, values, strict=True):
        best = min((v for name, v in values if name == loss), default=np.nan)
        row[7] = f"{value / best - 1:.0e}" if loss else "-"
    return rows


def size(X: Any) -> float:
    """Megabytes of a dense or CSR array."""
    parts = [X.data, X.indices, X.indptr] if scipy.sparse.issparse(X) else [X]
    return sum(part.nbytes for part in parts) / 2**20


def tuned(name: str, dtype: Any, limit: float) -> dict[str, float]:
    """The best alpha of the grid on a held-out fifth of the train part, by loss."""
    part, _ = load(name, dtype)
    n_out = min(len(part.y), 20_000) // 5
    X, X_out, y, y_out = train_test_split(
        part.X,
        part.y,
        train_size=4 * n_out,
        test_size=n_out,
        stratify=part.y,
        random_state=0,
    )
    best = {}
    for loss in LOSSES:
        scores = []
        for alpha in GRID:
            model = estimator(loss, alpha=alpha, tol=1e-3)
            try:
                fit = measured_fit(model, Part(X, y), limit, repeat_within=0)
                scores.append(fit.model.score(X_out, y_out))
            except (TimeoutError, FitError):
                scores.append(np.nan)
        best[loss] = GRID[int(np.nanargmax(scores))]
        found = [f"{a:g}: {s:.4f}" for a, s in zip(GRID, scores, strict=True)]
        print(f"# {name} {loss} {', '.join(found)}", flush=True)
    return best


def line(cells: Any) -> str:
    """One row of a Markdown table."""
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sets", default=",".join(FIGURES), help="names, with commas")
    parser.add_argument("--alpha", type=float, help="one alpha for all")
    parser.add_argument("--max-seconds", type=float, default=120, help="CPU, each fit")
    parser.add_argument("--dtype", default="float64", help="of dense X")
    parser.add_argument("--tune", action="store_true", help="print ALPHAS instead")
    options = parser.parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)
    dtype = np.dtype(options.dtype)
    if not options.tune:
        print(line(HEADER))
        print(line(["---"] * len(HEADER)))
    for name in options.sets.split(","):
        if options.tune:
            best = tuned(name, dtype, options.max_seconds)
            print(f"    {name!r}: {tuple(best.values())},", flush=True)
            continue
        alphas = dict.fromkeys(LOSSES, options.alpha)
        if options.alpha is None:
            alphas = dict(zip(LOSSES, ALPHAS[name], strict=True))
        for row in table_of(name, alphas, dtype, options.max_seconds):
            print(line(row), flush=True)


if __name__ == "__main__":
    main()
