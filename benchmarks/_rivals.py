"""Peers that few have installed: mlpack's linear_svm and Cyanure, where they import.

mlpack minimises the mean Weston-Watkins hinge + lambda/2 (||W||^2 + ||b||^2): with
lambda = 2 alpha and without an intercept, our objective. Cyanure's multiclass logistic
loss with l2 is our softmax's objective, lambda_1 = 2 alpha, its intercept unpenalised;
its squared hinge is one-vs-rest, another problem.
"""

from __future__ import annotations

import importlib.util
import logging
import time
from typing import Any

import numpy as np
from _data import Part, objective

TOLS = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6)  # Cyanure's, relative duality gaps


def missing(peer: str) -> str:
    """The package that a peer needs and that is not installed, or nothing."""
    package = peer.split()[0]
    if package not in ("mlpack", "cyanure") or importlib.util.find_spec(package):
        return ""
    return package


def mlpack_hinge(part: Part, alpha: float) -> tuple[float, float]:
    """CPU seconds and objective of mlpack's L-BFGS at its defaults, no intercept."""
    import mlpack

    X = np.ascontiguousarray(part.X, np.float64)
    settings = {"no_intercept": True, "seed": 1}
    start = time.process_time()
    model = mlpack.linear_svm(
        training=X, labels=part.y, lambda_=2 * alpha, delta=1.0, **settings
    )["output_model"]
    seconds = time.process_time() - start
    unit = np.eye(X.shape[1])
    W = mlpack.linear_svm(input_model=model, test=unit, **settings)["probabilities"]
    found, first = np.unique(part.y, return_index=True)
    coef = np.empty(W.T.shape)
    coef[found[np.argsort(first)]] = W.T  # its classes come as they first appear
    return seconds, objective(coef, np.zeros(len(coef)), part, "hinge", alpha)


def cyanure_fit(part: Part, loss: str, alpha: float, tol: float) -> tuple[float, Any]:
    """CPU seconds and the fitted Classifier, with an intercept, to its own ``tol``."""
    from cyanure.estimators import Classifier

    logging.disable(logging.INFO)
    model = Classifier(
        loss="multiclass-logistic" if loss == "softmax" else "sqhinge",
        penalty="l2",
        lambda_1=2 * alpha,
        fit_intercept=True,
        tol=tol,
        max_iter=10_000,
        verbose=False,
        n_threads=1,
        random_state=0,
    )
    start = time.process_time()
    model.fit(part.X, part.y)
    return time.process_time() - start, model


def cyanure_softmax(part: Part, alpha: float, target: float) -> float:
    """CPU seconds at the largest of TOLS that reaches ``target``; inf if none does."""
    for tol in TOLS:
        seconds, model = cyanure_fit(part, "softmax", alpha, tol)
        W, b = model.coef_.T, model.intercept_.ravel()
        if objective(W, b, part, "softmax", alpha) <= target:
            return seconds
    return np.inf
