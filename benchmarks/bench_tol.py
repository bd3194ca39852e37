"""Which ``tol`` suffices: labels of loose fits beside those of a fit to 1e-8.

Prints Markdown: a line a cell with the share of test rows (%) whose label differs from
the exact fit's, for each tol, then the worst share of each tol and how many cells are
over 0.1 %. All in float64, ``solver="auto"``, sets prepared as their index says. A cell
whose exact fit does not certify within the limit is left out, and said to be.
"""

from __future__ import annotations

import os

os.environ["OPENBLAS_NUM_THREADS"] = "1"
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["MKL_NUM_THREADS"] = "1"

import argparse
import warnings
from typing import Any

import numpy as np
from _data import FitError, Part, in_child, load

from sklinear import LinearSVMClassifier, SoftmaxClassifier

SETS = (
    *("vehicle", "segmentation", "page_blocks", "wine_quality_white", "pendigits"),
    *("satimage", "optdigits", "dna", "mfeat_factors", "letter", "shuttle"),
    *("reuters_r8", "connect_4"),
)
LOSSES = ("softmax", "squared_hinge", "hinge")
ALPHAS = (1e-2, 1e-4)
TOLS = (1e-1, 1e-2, 1e-3, 1e-4)
EXACT = 1e-8
ALLOWED = 0.1  # % of rows


def labels(part: Part, test: Part, loss: str, alpha: float, tol: float) -> Any:
    """Labels of the test part, the certified gap and the solver of one fit."""
    warnings.simplefilter("ignore")
    settings = {"alpha": alpha, "tol": tol, "max_iter": 5000, "random_state": 0}
    model: Any = SoftmaxClassifier(**settings)
    if loss != "softmax":
        model = LinearSVMClassifier(loss=loss, **settings)
    model.fit(part.X, part.y)
    return model.predict(test.X), model.dual_gap_, model.solver_


def shares(
    part: Part, test: Part, loss: str, alpha: float, limit: float
) -> tuple[list[float], str]:
    """Share of differing rows (%) for each of TOLS, and the solver."""
    exact, gap, solver = in_child(lambda: labels(part, test, loss, alpha, EXACT), limit)
    if gap > EXACT:
        raise FitError(f"gap {gap:.0e}")
    return [
        100 * np.mean(exact != labels(part, test, loss, alpha, tol)[0]) for tol in TOLS
    ], solver


def main() -> None:
    """Print a line a cell as they come, then a line a tol."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sets", nargs="*", default=SETS)
    parser.add_argument("--losses", nargs="*", default=LOSSES)
    parser.add_argument("--limit", type=float, default=15.0, help="CPU seconds a fit")
    args = parser.parse_args()
    print("| set | loss | alpha | solver | rows |", *(f"{tol:g} |" for tol in TOLS))
    print("|" + " --- |" * (5 + len(TOLS)), flush=True)
    cells, left_out = [], []
    for name in args.sets:
        part, test = (Part(p.X.astype(np.float64), p.y) for p in load(name))
        for loss in args.losses:
            for alpha in ALPHAS:
                try:
                    share, solver = shares(part, test, loss, alpha, args.limit)
                except (FitError, TimeoutError) as error:
                    left_out.append(f"{name} {loss} {alpha:g}: {error}")
                    continue
                cells.append(share)
                print(
                    f"| {name} | {loss} | {alpha:g} | {solver} | {len(test.y)} |",
                    *(f"{s:.2f} |" for s in share),
                    flush=True,
                )
    print(f"\n{len(cells)} cells; left out: {'; '.join(left_out) or 'none'}\n")
    print("| tol | worst % | mean % | cells over 0.1 % | share |\n|" + " --- |" * 5)
    for tol, share in zip(TOLS, np.transpose(cells), strict=True):
        over = int((share > ALLOWED).sum())
        print(
            f"| {tol:g} | {share.max():.2f} | {share.mean():.3f} | {over} "
            f"| {100 * over / len(cells):.0f} % |"
        )


if __name__ == "__main__":
    main()
