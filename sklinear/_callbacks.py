"""What a fit tells on its way: lines of ``verbose`` and scikit-learn's callbacks."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from sklinear._data import Data
from sklinear._solvers import Progress, Reporter

try:
    from sklearn.callback import CallbackSupportMixin, with_callbacks
except ImportError:  # scikit-learn < 1.9 has none
    CallbackSupportMixin = type("CallbackSupportMixin", (), {})

    def with_callbacks(method: Any) -> Any:
        """The method itself."""
        return method


class Listener(Reporter):
    """Prints a line an iteration and tells it to the estimator's callbacks.

    To them each iteration is a task below the fit's, which begins and ends when the
    iteration is over: how many there will be is not known before.
    """

    def __init__(self, estimator: Any, X: Any, y: Any, sample_weight: Any):
        self.start = time.perf_counter()
        self.verbose, self.context = bool(estimator.verbose), None
        # not printed yet, as its end may tell more: and passes and time at its own end
        self.last: tuple[Progress, float, float] | None = None
        metadata = None if sample_weight is None else {"sample_weight": sample_weight}
        self.task = {"estimator": estimator, "X": X, "y": y, "metadata": metadata}
        if hasattr(estimator, "_init_callback_context"):
            self.context = estimator._init_callback_context(
                max_subtasks=estimator.max_iter
            ).call_on_fit_task_begin(**self.task)
        self.calls = hasattr(estimator, "_skl_callbacks")
        self.listens = self.verbose or self.calls

    def listen(
        self, data: Data, scale: float, fitted: Callable[..., dict[str, Any]]
    ) -> Listener:
        """Itself, for a solver whose objective is to be scaled for the user.

        ``fitted`` makes the attributes of a fitted estimator of W and b.
        """
        self.data, self.scale, self.fitted = data, scale, fitted
        return self

    def __call__(self, progress: Progress) -> None:
        """One iteration is over."""
        if self.last is not None:
            last = self.last[0]
            self._print(*self.last, self.scale * last.value, last.gap)
        if self.verbose:
            self.last = progress, *self._spent()
        if self.calls and self.context is not None:
            task = self.context.subcontext(task_name=progress.unit)
            task.call_on_fit_task_begin(**self.task)
            self.stopped |= task.call_on_fit_task_end(
                **self.task, reconstruction_attributes=lambda: self._state(progress)
            )

    def _state(self, progress: Progress) -> dict[str, Any]:
        """The attributes of an estimator whose fit had stopped here."""
        proven = {} if math.isnan(progress.gap) else {"dual_gap_": progress.gap}
        fitted = self.fitted(*progress.params())
        return {**fitted, **proven, "n_iter_": progress.iteration}

    def _spent(self) -> tuple[float, float]:
        """Passes over X and seconds since the fit began."""
        return self.data.passes, time.perf_counter() - self.start

    def _print(
        self,
        progress: Progress,
        passes: float,
        seconds: float,
        value: float,
        gap: float,
    ) -> None:
        """Objective, gap, passes over X and time."""
        proven = "" if math.isnan(gap) else f"gap {gap:.1e}, "
        print(
            f"{progress.unit} {progress.iteration}: objective {value:.6e}, {proven}"
            f"{passes:.1f} passes over X, {seconds:.2f} s"
        )

    def close(self, value: float, gap: float) -> None:
        """The fit is over, with this objective and gap."""
        if self.last is not None:
            self._print(self.last[0], *self._spent(), value, gap)
        if self.context is not None:
            self.context.call_on_fit_task_end(**self.task, reconstruction_attributes={})


@contextmanager
def subtask(
    root: Any,
    told: dict[str, Any],
    name: str,
    parts: int = 0,
    sequential: bool = True,
    below: Any = None,
) -> Iterator[Any]:
    """A task of a root context that begins and ends, or is the fit of one ``below``.

    None where there is no root.
    """
    if root is None:
        yield None
        return
    context = root.subcontext(
        task_name=name, max_subtasks=parts, sequential_subtasks=sequential
    )
    propagated = nullcontext()
    if below is not None:
        propagated = context.propagate_callback_context(below)
    with propagated:
        context.call_on_fit_task_begin(**told)
        yield context
    context.call_on_fit_task_end(**told)
