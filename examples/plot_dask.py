"""
A fit on a cluster
==================

The optimum and the proof are those of one process. Noisy spirals of five classes are
made by two worker processes, block by block, and stay there: ``fit`` sends coefficients
to the blocks and adds up what they answer. The picture shows how the duality gap
closes, on the cluster and in one process, and the regions of the classes. Needs
``pip install "sklinear[examples]"``.
"""

import contextlib
import io
import re
import time

import dask.array as da
import matplotlib.pyplot as plt
import numpy as np
from distributed import Client, LocalCluster

from sklinear import SoftmaxClassifier

ROWS, BLOCK, CLASSES = 60_000, 10_000, 5


def spirals(seed, n):
    """Points (n, 2) of five arms, and their arms (n,)."""
    rng = np.random.default_rng(seed)
    arm, radius = rng.integers(CLASSES, size=n), np.sqrt(rng.random(n))
    angle = 2 * np.pi * arm / CLASSES + 2.5 * radius + rng.normal(0, 0.2, n)
    return radius[:, None] * np.column_stack([np.cos(angle), np.sin(angle)]), arm


def features(points):
    """Monomials of the coordinates up to degree five, (n, 20)."""
    x, y = points.T
    powers = [(i, j) for i in range(6) for j in range(6 - i) if i + j]
    return np.column_stack([x**i * y**j for i, j in powers])


def make_block(offset):
    """Features of a block, with the arm in the last column."""
    points, arm = spirals(int(offset[0]), BLOCK)
    return np.column_stack([features(points), arm])


def watched_fit(model, X, y):
    """The fitted model, the gap after each iteration, and the seconds it took."""
    start, lines = time.perf_counter(), io.StringIO()
    with contextlib.redirect_stdout(lines):
        model.set_params(verbose=1).fit(X, y)
    gaps = [float(gap) for gap in re.findall(r"gap (\S+),", lines.getvalue())]
    return model, [*gaps, model.dual_gap_], time.perf_counter() - start


def main():
    """Fit twice, compare, draw."""
    with (
        LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=":0"
        ) as cluster,
        Client(cluster),
    ):
        blocks = da.arange(ROWS // BLOCK, chunks=1).map_blocks(
            make_block, new_axis=1, chunks=(BLOCK, 21), dtype=float
        )
        X, y = blocks[:, :-1].persist(), blocks[:, -1].astype(int).persist()
        model, gaps, seconds = watched_fit(SoftmaxClassifier(alpha=1e-5), X, y)
        accuracy, proven = model.score(X, y), float(model.certify(X).mean().compute())
        rows, labels = X.compute(), y.compute()  # of the comparison, not of the fit
    alone, own_gaps, own_seconds = watched_fit(
        SoftmaxClassifier(alpha=1e-5), rows, labels
    )
    print(f"two workers: {seconds:.1f} s, gap {model.dual_gap_:.1e}")
    print(f"one process: {own_seconds:.1f} s, gap {alone.dual_gap_:.1e}")
    print(f"objectives: {model.loss_curve_[-1]:.8f} and {alone.loss_curve_[-1]:.8f}")
    print(f"accuracy {accuracy:.3f}, labels proven {proven:.2%}")

    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 4))
    left.semilogy(gaps, label="two workers", marker=".")
    left.semilogy(own_gaps, label="one process", linestyle="--")
    left.axhline(model.tol, color="grey", linewidth=0.5)
    left.set(xlabel="iteration", ylabel="duality gap", title="Towards the optimum")
    left.legend()
    axis = np.linspace(-1.2, 1.2, 200)
    grid = np.stack(np.meshgrid(axis, axis), axis=-1)
    regions = model.predict(features(grid.reshape(-1, 2))).reshape(200, 200)
    right.pcolormesh(axis, axis, regions, cmap="Pastel1", vmin=0, vmax=8)
    points, arms = spirals(0, 1500)
    right.scatter(*points.T, c=arms, cmap="Set1", vmin=0, vmax=8, s=4)
    right.set(title="Five arms, 60000 points in six blocks", xticks=[], yticks=[])
    figure.tight_layout()
    figure.savefig("plot_dask.png")


if __name__ == "__main__":  # worker processes import this file too
    main()
