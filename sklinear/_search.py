"""The two searches: what they tune, and their documents."""

from __future__ import annotations

from typing import Any, ClassVar

from sklinear._alphas import positive
from sklinear._classifiers import LinearSVMClassifier, SoftmaxClassifier
from sklinear._predictor import ProbabilityMixin
from sklinear._tuning import LinearClassifierCV

LOSSES = ("hinge", "squared_hinge")


class LinearSVMClassifierCV(LinearClassifierCV):
    """:class:`LinearSVMClassifier` with its parameters tuned by cross-validation."""

    _parameter_constraints: ClassVar[dict[str, list]] = {
        **LinearClassifierCV._parameter_constraints,
        "deltas": ["array-like"],
        "losses": ["array-like"],
    }

    def __init__(
        self,
        *,
        alphas=10,
        deltas=(1.0,),
        losses=LOSSES,
        cv=None,
        scoring=None,
        refit=True,
        fit_intercept=True,
        class_weight=None,
        solver="auto",
        tol=1e-4,
        max_iter=1000,
        n_jobs=None,
        random_state=None,
        verbose=0,
    ):
        self.alphas = alphas
        self.deltas = deltas
        self.losses = losses
        self.cv = cv
        self.scoring = scoring
        self.refit = refit
        self.fit_intercept = fit_intercept
        self.class_weight = class_weight
        self.solver = solver
        self.tol = tol
        self.max_iter = max_iter
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.verbose = verbose

    def _plain(self, **params: Any) -> LinearSVMClassifier:
        return LinearSVMClassifier(**self._shared(), **params)

    def _grid(self, alphas: list[Any]) -> dict[str, list[Any]]:
        losses = list(self.losses)
        if not losses or not all(loss in LOSSES for loss in losses):
            raise ValueError(
                f"losses must be a sequence of names among {list(LOSSES)}, at least "
                f"one, got {self.losses!r}."
            )
        deltas = positive("deltas", self.deltas)
        return {"alpha": alphas, "delta": deltas, "loss": losses}


class SoftmaxClassifierCV(ProbabilityMixin, LinearClassifierCV):
    """:class:`SoftmaxClassifier` with its ``alpha`` tuned by cross-validation."""

    _scoring = "neg_log_loss"

    def __init__(
        self,
        *,
        alphas=10,
        cv=None,
        scoring=None,
        refit=True,
        fit_intercept=True,
        class_weight=None,
        solver="auto",
        tol=1e-4,
        max_iter=1000,
        n_jobs=None,
        random_state=None,
        verbose=0,
    ):
        self.alphas = alphas
        self.cv = cv
        self.scoring = scoring
        self.refit = refit
        self.fit_intercept = fit_intercept
        self.class_weight = class_weight
        self.solver = solver
        self.tol = tol
        self.max_iter = max_iter
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.verbose = verbose

    def _plain(self, **params: Any) -> SoftmaxClassifier:
        return SoftmaxClassifier(**self._shared(), **params)

    def _grid(self, alphas: list[Any]) -> dict[str, list[Any]]:
        return {"alpha": alphas}
