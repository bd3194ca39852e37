"""Data sets, clocks and the objective: what the benchmarks share.

Import it after the thread counts are set: they are read once, when numpy loads.
"""

from __future__ import annotations

import ctypes
import gc
import math
import multiprocessing
import os
import resource
import signal
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse
import sklearn.datasets
from sklearn.preprocessing import StandardScaler

from sklinear import losses

ROOT = Path(__file__).resolve().parent.parent
IMAGES = ("mnist", "fashion_mnist")  # scaled by 1 / 255, other dense sets standardised


@dataclass(frozen=True)
class Figures:
    """What INDEX.md says of one set, in %: LogisticRegression's and the usual accuracy.

    ``C`` is the one LogisticRegression had.
    """

    C: float
    lr_accuracy: float
    published: str


FIGURES = {
    "mnist": Figures(1, 92.7, "~92.5"),
    "fashion_mnist": Figures(1, 84.5, "~84"),
    "letter": Figures(1, 77.4, "~77"),
    "satimage": Figures(1, 84.0, "~83"),
    "shuttle": Figures(1, 96.8, "~92-97"),
    "pendigits": Figures(1, 91.6, "~92-95"),
    "optdigits": Figures(1, 95.0, "~95"),
    "dna": Figures(1, 94.0, "~94-95"),
    "connect_4": Figures(10, 75.5, "~75"),
    "segmentation": Figures(1, 93.5, "~92-95"),
    "vehicle": Figures(1, 79.4, "~79"),
    "mfeat_factors": Figures(1, 97.8, "~97-98"),
    "wine_quality_white": Figures(1, 54.6, "~54"),
    "page_blocks": Figures(1, 96.1, "~96"),
    "reuters_r8": Figures(10, 97.1, "~94-97"),
    "banking77": Figures(10, 89.4, "~85-90"),
    "clinc150": Figures(10, 91.9, "~90-92"),
}


@dataclass(frozen=True)
class Part:
    """Samples (n, d), dense or CSR, and labels (n,) in 0..k-1."""

    X: Any
    y: np.ndarray


def folder() -> Path:
    """Where the shared sets are: SKLINEAR_DATA, or ../shared/data beside the clone."""
    path = Path(os.environ.get("SKLINEAR_DATA", ROOT.parent / "shared" / "data"))
    if not path.is_dir():
        raise FileNotFoundError(
            f"the data sets are not in {path}: set SKLINEAR_DATA to their folder."
        )
    return path


def load(name: str, dtype: Any = np.float64) -> tuple[Part, Part]:
    """Train and test part of a shared set, prepared as INDEX.md says.

    Images are divided by 255, other dense sets standardised by the train part's
    moments, both in ``dtype``; sparse sets are CSR and float32, as they are stored.
    """
    if name not in FIGURES:
        raise ValueError(f"name must be one of {', '.join(FIGURES)}, got {name!r}.")
    with np.load(folder() / f"{name}.npz", allow_pickle=False) as file:
        parts = [
            Part(_samples(file, f"X_{part}", dtype), file[f"y_{part}"].astype(np.int64))
            for part in ("train", "test")
        ]
    train, test = parts
    if name in IMAGES:
        train.X[:] /= 255
        test.X[:] /= 255
    elif not scipy.sparse.issparse(train.X):
        scaler = StandardScaler(copy=False).fit(train.X)
        train, test = (Part(scaler.transform(part.X), part.y) for part in parts)
    return train, test


def _samples(file: Any, key: str, dtype: Any) -> Any:
    """One part's X: dense in ``dtype``, or CSR as stored."""
    if key in file:
        return file[key].astype(dtype)
    data, indices, indptr = (file[f"{key}_{p}"] for p in ("data", "indices", "indptr"))
    return scipy.sparse.csr_matrix(
        (data, indices, indptr), shape=tuple(file[f"{key}_shape"])
    )


def load_raw(name: str) -> Part:
    """digits, wine, iris or breast_cancer, as scikit-learn ships them, unscaled."""
    X, y = getattr(sklearn.datasets, f"load_{name}")(return_X_y=True)
    return Part(X, y)


# The objective ------------------------------------------------------------------------


def objective(
    coef: np.ndarray,
    intercept: np.ndarray,
    part: Part,
    loss: str,
    alpha: float,
    delta: float = 1.0,
) -> float:
    """Mean loss + alpha ||W||^2 of fitted coefficients, sklinear's or a peer's.

    ``loss`` is "softmax", "squared_hinge" or "hinge". One row w of a two-class model
    stands for W = [-w/2, w/2].
    """
    W, b = np.float64(coef).T, np.float64(intercept)  # (d, k), (k,)
    if W.shape[1] == 1:
        W, b = np.hstack([-W, W]) / 2, np.concatenate([-b, b]) / 2
    scores = part.X @ W + b  # (n, k)
    if loss == "softmax":
        values, _ = losses.cross_entropy(scores, part.y)
    else:
        values, _ = losses.weston_watkins(
            scores, part.y, delta, squared=loss == "squared_hinge"
        )
    return float(values.mean() + alpha * np.vdot(W, W))


# Clocks -------------------------------------------------------------------------------


def best_times(
    contenders: Sequence[Callable[[], Any]], repeats: int = 5, seconds: float = 0.0
) -> list[float]:
    """Least CPU seconds of each contender, called in turns so that noise meets all.

    CPU time of this one thread is what other processes disturb least. At least
    ``repeats`` rounds, and more until all took ``seconds`` together.
    """
    best = [np.inf] * len(contenders)
    rounds, end = 0, time.thread_time() + seconds
    while rounds < repeats or time.thread_time() < end:
        for i, contender in enumerate(contenders):
            start = time.thread_time()
            contender()
            best[i] = min(best[i], time.thread_time() - start)
        rounds += 1
    return best


class FitError(Exception):
    """What went wrong in a child process, in words."""


def in_child(function: Callable[[], Any], seconds: float) -> Any:
    """``function()`` in a forked process that may use so many seconds of CPU.

    Raises
    ------
    TimeoutError
        If it would take more, or sleeps ten times as long.
    FitError
        If it raised, or the process died.
    """
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)

    def work() -> None:
        resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(seconds),) * 2)
        try:
            sender.send((True, function()))
        except Exception as error:  # whatever a peer does is a result
            sender.send((False, f"{type(error).__name__}: {error}"))

    child = context.Process(target=work)
    child.start()
    sender.close()
    try:
        if not receiver.poll(10 * seconds):
            raise TimeoutError(f"more than {10 * seconds:g} s")
        good, result = receiver.recv()
    except EOFError:
        child.join()
        if child.exitcode in (-signal.SIGXCPU, -signal.SIGKILL):
            raise TimeoutError(f"more than {seconds:g} s of CPU") from None
        raise FitError(f"the process died with code {child.exitcode}") from None
    finally:
        child.kill()
        child.join()
    if not good:
        raise FitError(result)
    return result


@dataclass(frozen=True)
class Fit:
    """What a measured fit leaves behind."""

    model: Any
    seconds: float  # of CPU, the least of the repeats
    megabytes: float  # peak of the first fit above what was resident before it
    warned: bool  # ConvergenceWarning and its like


def measured_fit(
    model: Any, part: Part, limit: float, repeat_within: float = 2.0
) -> Fit:
    """Fit in a forked child, where X is loaded already and nothing else happened.

    Short fits are repeated for ``repeat_within`` seconds; the model is the first's.
    """
    _give_back_memory()
    return in_child(lambda: _fit(model, part, limit, repeat_within), limit)


def _fit(model: Any, part: Part, limit: float, repeat_within: float) -> Fit:
    """The child's share of ``measured_fit``."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        _warm_up(model, part.X)
        caught.clear()
        before, start = _peak(), time.thread_time()
        model.fit(part.X, part.y)
        seconds = first = time.thread_time() - start
        after, warned = _peak(), bool(caught)
        end = time.thread_time() + min(repeat_within, limit / 2)
        while time.thread_time() + first < end:
            start = time.thread_time()
            type(model)(**model.get_params()).fit(part.X, part.y)
            seconds = min(seconds, time.thread_time() - start)
    return Fit(model, seconds, (after - before) / 2**20, warned)


def _warm_up(model: Any, like: Any) -> None:
    """A tiny fit, so that imports and the libraries' own pages are not counted."""
    X = np.random.default_rng(0).normal(size=(30, 3)).astype(like.dtype)
    X = scipy.sparse.csr_matrix(X) if scipy.sparse.issparse(like) else X
    type(model)(**model.get_params()).set_params(max_iter=2).fit(X, np.arange(30) % 3)


def _peak() -> int:
    """Largest resident size of this process so far, in bytes."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _give_back_memory() -> None:
    """Free heap pages would hide what the child's fit allocates in them (glibc)."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
