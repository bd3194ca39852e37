"""Two worker processes against one process, and against dask-ml where it is installed.

Run with ``OPENBLAS_NUM_THREADS=1``, on a machine that does nothing else: the workers
and the process with client and scheduler have two cores between them. Prints: time of
an evaluation, bytes that cross the network for one, passes of whole fits to real data,
and a fit of a binary problem beside dask-ml's. ``--rows`` picks sizes; 1280000 take 7
GB. ``--no-fits`` leaves out the fits, ``--only-passes`` all but their passes.
"""

import argparse
import importlib.util
import os
import pickle
import time
from functools import partial

import dask
import dask.array as da
import numpy as np
from _data import load
from distributed import Client, LocalCluster, get_client, wait
from sklearn.base import clone

from sklinear import LinearSVMClassifier, SoftmaxClassifier
from sklinear._data import Data
from sklinear._distributed import Blocks
from sklinear._losses import CrossEntropy
from sklinear._objective import Point, evaluate
from sklinear._threads import single_threaded_blas

FEATURES, CLASSES, BLOCKS, REPEATS = 300, 10, 4, 10
ROWS = [400, 80_000, 320_000, 1_280_000]  # the first shows what Dask itself costs


def make(seed, n):
    """Rows of a block."""
    return np.random.default_rng(seed).normal(size=(n, FEATURES))


def label(X, seed, k):
    """Labels of a noisy linear model."""
    W = np.random.default_rng(0).normal(size=(FEATURES, k))
    noise = np.random.default_rng(100 + seed).normal(size=(len(X), k))
    return (X @ W + 10 * noise).argmax(axis=1)


def rows(n, k):
    """X and y in blocks, where the workers made them, as many on each."""
    each, X, y = n // BLOCKS, [], []
    workers = list(get_client().nthreads())
    for i in range(BLOCKS):
        with dask.annotate(workers=workers[i % len(workers)]):
            block = dask.delayed(make)(i, each)
            labels = dask.delayed(label)(block, i, k)
            X.append(da.from_delayed(block, (each, FEATURES), float))
            y.append(da.from_delayed(labels, (each,), int))
    with dask.config.set(optimization__fuse__active=False):
        X, y = dask.persist(da.concatenate(X), da.concatenate(y), optimize_graph=False)
    wait([X, y])
    return X, y


def fetched(X):
    """The rows in this process, aligned, which those that Dask sends may not be."""
    here = np.empty(X.shape)
    for i, block in enumerate(X.to_delayed().ravel()):
        n = X.chunks[0][i]
        here[i * n : (i + 1) * n] = block.compute()
    return here


def sent(client):
    """Bytes that workers have sent to each other so far."""
    return sum(
        client.run(
            lambda dask_worker: dask_worker.transfer_outgoing_bytes_total
        ).values()
    )


def timed(act, clocks):
    """Least wall time of several runs, CPU time of one on each clock, the answer."""
    walls, before = [], clocks()
    for _ in range(REPEATS):
        start = time.perf_counter()
        answer = act()
        walls.append(time.perf_counter() - start)
    cpu = (np.array(clocks()) - before) / REPEATS
    return 1e3 * min(walls), 1e3 * cpu, answer


def alone(X, y, at):
    """Least time of an evaluation of the blocks on one worker, without Dask, in ms."""
    data = [
        Data(x, labels, np.full(len(x), 1 / len(x)), CLASSES)
        for x, labels in zip(X, y, strict=True)
    ]
    walls = []
    with single_threaded_blas():
        for _ in range(REPEATS):
            start = time.perf_counter()
            for part in data:
                evaluate(part, at, False)
            walls.append(time.perf_counter() - start)
    return 1e3 * min(walls)


def side_by_side(client, X, y, at):
    """The same of all workers at once, the slowest: what no scheduler can better."""
    workers = list(client.nthreads())
    X, y = (client.compute(list(each.to_delayed().ravel())) for each in (X, y))
    tasks = [
        client.submit(
            alone, X[i :: len(workers)], y[i :: len(workers)], at, workers=w, pure=False
        )
        for i, w in enumerate(workers)
    ]
    return max(client.gather(tasks))


def evaluations(client, sizes):
    """Time and traffic of one evaluation."""
    print(
        "| rows | wall: one process, two side by side without Dask, two workers, ms "
        "| two workers / ideal half | of it Dask's, ms | CPU: one process, each "
        "worker, client with scheduler, ms | busier worker / half |"
    )
    print("| --- | --- | --- | --- | --- | --- |")
    traffic = []

    def own():
        return [time.process_time()]

    def everyone():
        return [*client.run(time.process_time).values(), *own()]

    for n in sizes:
        X, y = rows(n, CLASSES)
        blocks = Blocks(X, y, None, "SoftmaxClassifier")
        data = blocks.data(blocks.labels, np.ones(CLASSES))
        W = np.random.default_rng(1).normal(size=(FEATURES, CLASSES)) / 100
        at = Point(CrossEntropy(), W, np.zeros(CLASSES))
        distributed = partial(data.total, evaluate, at, False)
        distributed()
        before = sent(client)
        two, cpus, answer = timed(distributed, everyone)
        between = (sent(client) - before) / REPEATS
        traffic.append((n, len(pickle.dumps(at)), len(pickle.dumps(answer)), between))
        apart = side_by_side(client, X, y, at)
        here = Data(fetched(X), y.compute(), np.full(n, 1 / n), CLASSES)
        with single_threaded_blas():
            one, (cpu,), _ = timed(partial(evaluate, here, at, False), own)
        print(
            f"| {n} | {one:.0f}, {apart:.0f}, {two:.0f} | {2 * two / one:.2f} "
            f"| {two - apart:.0f} | {cpu:.0f}, "
            f"{cpus[0]:.0f}, {cpus[1]:.0f}, {cpus[2]:.0f} "
            f"| {2 * max(cpus[:2]) / cpu:.2f} |",
            flush=True,
        )
        data.close()
        del X, y, blocks, data, distributed, here
    print(
        "\n| rows | params, bytes | a block's answer, bytes | between workers, bytes |"
    )
    print("| --- | --- | --- | --- |")
    for line in traffic:
        print("| {} | {} | {} | {:.0f} |".format(*line))


def passes():
    """Of whole fits, which are what a cluster waits for; steps are those in memory."""
    print("\n| rows | loss | alpha | steps in memory | passes | s | gap |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name, most in (("optdigits", None), ("letter", None), ("fashion_mnist", 8000)):
        part = load(name, np.float32)[0]
        X, labels = part.X[:most], part.y[:most]
        X = X / X.max() if most else X  # images; the others are scaled
        chunk = -(-len(labels) // BLOCKS)
        lazy, y = da.from_array(X, (chunk, -1)), da.from_array(labels, chunk)
        for loss in ("softmax", "squared_hinge", "hinge"):
            for alpha in (1e-2, 1e-4) if most is None else (1e-2, 1e-3):
                model = SoftmaxClassifier(alpha=alpha)
                if loss != "softmax":
                    model = LinearSVMClassifier(loss=loss, alpha=alpha)
                steps = clone(model).set_params(solver="lbfgs").fit(X, labels).n_iter_
                start = time.perf_counter()
                model.fit(lazy, y)
                seconds = time.perf_counter() - start
                facts = f"{steps} | {model.n_iter_} | {seconds:.1f}"
                rows = f"{name} {len(labels)} x {X.shape[1]}"
                told = f"| {rows} | {loss} | {alpha:g} | {facts} |"
                print(told, f"{model.dual_gap_:.0e} |", flush=True)


def objective(coef, intercept, X, y, alpha):
    """Of two classes, from one row of coefficients."""
    margins = (2 * y - 1) * (X @ coef + intercept)
    return float(np.logaddexp(0, -margins).mean() + alpha / 2 * coef @ coef)


def fits():
    """A binary problem, ours and dask-ml's."""
    n, alpha = 100_000, 1e-3
    X, y = rows(n, 2)
    models = {"sklinear": SoftmaxClassifier(alpha=alpha)}
    if importlib.util.find_spec("dask_ml"):
        from dask_ml.linear_model import LogisticRegression

        C = 1 / (alpha * n)
        for solver in ("lbfgs", "newton"):
            # its intercept is penalised as a feature is; here it is nearly 0
            models[f"dask-ml {solver}"] = LogisticRegression(C=C, solver=solver)
    here, labels = X.compute(), y.compute()
    print("\n| model | s | objective less ours, relative |")
    print("| --- | --- | --- |")
    ours = None
    for name, model in models.items():
        start = time.perf_counter()
        try:
            model.fit(X, y)
        except Exception as error:
            print(f"| {name} | failed: {str(error)[:80]} | |")
            continue
        seconds = time.perf_counter() - start
        intercept = float(np.ravel(model.intercept_)[0])
        value = objective(np.ravel(model.coef_), intercept, here, labels, alpha)
        ours = value if ours is None else ours
        print(f"| {name} | {seconds:.2f} | {(value - ours) / ours:.1e} |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="*", default=ROWS)
    parser.add_argument("--no-fits", action="store_true")
    parser.add_argument("--only-passes", action="store_true")
    asked = parser.parse_args()
    with (
        LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=":0"
        ) as cluster,
        Client(cluster) as client,
    ):
        print("load", os.getloadavg())
        if not asked.only_passes:
            evaluations(client, asked.rows)
        if not asked.no_fits:
            passes()
        if not (asked.no_fits or asked.only_passes):
            fits()
        print("load", os.getloadavg())
