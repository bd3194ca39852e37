"""What the tests share: problems, losses, solvers, and the objective by hand."""

from __future__ import annotations

import importlib.util
import os
import zlib

# before numpy is loaded: two BLAS threads on products as small as here are far slower
# than one (sklinear sees to it itself, its peers do not)
for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")

import signal
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import scipy.sparse
from hypothesis import settings
from sklearn.datasets import load_iris, load_wine, make_blobs

from sklinear import LinearSVMClassifier, SoftmaxClassifier, reference

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in jobs of a shell with &
    signal.signal(signal.SIGINT, signal.default_int_handler)

# What a process takes of memory is asked of Linux, by a script that begins with this.
counts_memory = pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="counts by /proc"
)
RESIDENT = """
from pathlib import Path

def resident(field):  # in MB
    text = Path("/proc/self/status").read_text()
    return int(text.split(field + ":")[1].split()[0]) / 1024
"""

settings.register_profile("sklinear", deadline=None, derandomize=True, max_examples=10)
settings.load_profile("sklinear")


# A new loss or solver joins all laws by one entry here. The solvers are the
# deterministic ones: sgd promises neither an optimum nor a certificate.
LOSSES: dict[str, Any] = {
    "hinge": partial(LinearSVMClassifier, loss="hinge"),
    "squared_hinge": partial(LinearSVMClassifier, loss="squared_hinge"),
    "softmax": SoftmaxClassifier,
}
SOLVERS = ["lbfgs", "newton"]
if importlib.util.find_spec("numba"):
    SOLVERS.append("dual")
TIGHT = {"alpha": 1e-2, "tol": 1e-10}


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--share N``: of each test's cases about one in N, and at least one."""
    parser.addoption("--share", type=int, default=1, help="run one case in SHARE")


def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> None:
    """Keep the share asked for: the same cases in every run, of all params alike.

    What needs compiled code comes first: one of two workers compiles it, not both.
    """
    share, seen, kept = config.getoption("--share"), set(), []
    items.sort(key=lambda item: "dual" not in item.nodeid)
    for item in items:
        test = item.nodeid.partition("[")[0]
        if test not in seen or zlib.crc32(item.nodeid.encode()) % share == 0:
            kept.append(item)
        seen.add(test)
    items[:] = kept


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Neighbours share cached models: they go to one worker, if only -n was given."""
    if config.getvalue("dist") != "load":
        return None
    from xdist.scheduler import WorkStealingScheduling

    return WorkStealingScheduling(config, log)


class Problem(NamedTuple):
    """Data to fit; ``sample_weight`` is None where all rows count alike."""

    X: Any  # (n, d)
    y: np.ndarray  # (n,)
    sample_weight: np.ndarray | None = None  # (n,)


def _small_problems() -> dict[str, Problem]:
    """Three real or blobby sets, few rows, few classes, d > n, weights, CSR."""
    rng = np.random.default_rng(0)
    blobs = make_blobs(60, 3, centers=3, cluster_std=4, random_state=0)
    counts = rng.poisson(0.5, (50, 20)).astype(float)
    return {
        "iris": Problem(*load_iris(return_X_y=True)),
        "wine": Problem(*load_wine(return_X_y=True)),
        "blobs": Problem(*blobs),
        "two": Problem(*make_blobs(40, 2, centers=2, cluster_std=5, random_state=0)),
        "wide": Problem(rng.normal(size=(20, 40)), rng.permutation(np.arange(20) % 3)),
        "weighted": Problem(*blobs, 10 ** rng.uniform(-3, 3, 60)),
        "sparse": Problem(scipy.sparse.csr_matrix(counts), rng.integers(4, size=50)),
    }


PROBLEMS = _small_problems()


@pytest.fixture(scope="session", params=PROBLEMS)
def problem(request: pytest.FixtureRequest) -> Problem:
    """Each small problem."""
    return PROBLEMS[request.param]


@pytest.fixture(scope="session", params=LOSSES)
def loss(request: pytest.FixtureRequest) -> str:
    """Each loss's name."""
    return request.param


@pytest.fixture(scope="session", params=SOLVERS)
def solver(request: pytest.FixtureRequest) -> str:
    """Each deterministic solver's name."""
    return request.param


def classifier(loss: str, **params: Any) -> Any:
    """The estimator of a loss, to be fitted; where the order is random, seeded."""
    if params.get("solver") == "dual":
        params = {"random_state": 0, **params}
    return LOSSES[loss](**params)


def full_params(model: Any) -> tuple[np.ndarray, np.ndarray]:
    """W (d, k) and b (k,) of a fitted model; two classes' one row is W[1] - W[0]."""
    coef, intercept = np.float64(model.coef_), np.float64(model.intercept_)
    if len(model.classes_) == 2:
        coef = np.vstack([-coef / 2, coef / 2])
        intercept = np.concatenate([-intercept / 2, intercept / 2])
    return coef.T, intercept


def objective(model: Any, problem: Problem, W: np.ndarray, b: np.ndarray) -> float:
    """sum_i w_i L_i / sum_i w_i + alpha ||W||^2, in float64, from the loops."""
    X, y, weights = problem
    weights = np.ones(len(y)) if weights is None else weights
    X, y, weights = X[weights > 0], y[weights > 0], weights[weights > 0]
    scores, labels = X @ W + b, np.searchsorted(model.classes_, y)
    if isinstance(model, SoftmaxClassifier):
        values, _ = reference.cross_entropy(scores, labels)
    else:
        squared = model.loss == "squared_hinge"
        values, _ = reference.weston_watkins(scores, labels, model.delta, squared)
    return weights @ values / weights.sum() + model.alpha * (W**2).sum()
