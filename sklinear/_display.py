"""The picture of a search: scores along the path of alphas."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from sklinear._tuning import LinearClassifierCV


class ValidationPathDisplay:
    """Mean score of a search against alpha, with the band of its folds.

    Make one with :meth:`from_estimator`. A line for each loss, and each delta where
    it makes a difference; the choice is marked.

    Parameters
    ----------
    alphas : ndarray of shape (n_alphas,)
        The alphas, in rising order.
    scores : dict of str to ndarray of shape (n_alphas, n_splits)
        The folds' scores of each line, by its label.
    choice : tuple of float and float, or None
        Alpha and mean score of the chosen cell, if there is one.
    score_name : str
        What is scored.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Where it is drawn.
    figure_ : matplotlib Figure
        The figure around it.
    lines_ : list of matplotlib Line2D
        The mean scores, a line a label.
    bands_ : list of matplotlib collections
        The band of one standard deviation of the folds around each line.
    choice_ : matplotlib Line2D or None
        The mark of the choice.

    See Also
    --------
    LinearSVMClassifierCV, SoftmaxClassifierCV : The searches.
    sklearn.model_selection.ValidationCurveDisplay : One parameter of any estimator.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklinear import SoftmaxClassifierCV, ValidationPathDisplay
    >>> X, y = load_iris(return_X_y=True)
    >>> model = SoftmaxClassifierCV(alphas=[1e-2, 1e-3, 1e-4, 1e-5]).fit(X, y)
    >>> display = ValidationPathDisplay.from_estimator(model)  # doctest: +SKIP
    """

    def __init__(
        self,
        *,
        alphas: np.ndarray,
        scores: dict[str, np.ndarray],
        choice: tuple[float, float] | None,
        score_name: str,
    ):
        self.alphas = alphas
        self.scores = scores
        self.choice = choice
        self.score_name = score_name

    @classmethod
    def from_estimator(
        cls, estimator: Any, *, ax: Any = None, metric: str | None = None
    ) -> ValidationPathDisplay:
        """Draw a fitted search.

        Parameters
        ----------
        estimator : LinearSVMClassifierCV or SoftmaxClassifierCV
            The search, fitted.
        ax : matplotlib Axes, default=None
            Where to draw; None makes a new figure.
        metric : str, default=None
            Which of several metrics. None is the one that ``refit`` names, or the
            first. A single one is "score", or what ``scoring`` calls it.

        Returns
        -------
        display : ValidationPathDisplay
            What was drawn.

        Raises
        ------
        TypeError
            If the estimator is no such search, or ``ax`` no Axes.
        NotFittedError
            If the search is not fitted.
        ValueError
            If the metric is none of the search's.
        ImportError
            If matplotlib is not installed.
        """
        _pyplot()  # before any work
        if not isinstance(estimator, LinearClassifierCV):
            raise TypeError(
                "estimator must be a LinearSVMClassifierCV or SoftmaxClassifierCV, got "
                f"{estimator!r}."
            )
        check_is_fitted(estimator, "cv_results_")
        results = estimator.cv_results_
        start = "mean_test_"
        names = [key[len(start) :] for key in results if key.startswith(start)]
        if metric is None:
            metric = estimator.refit if estimator.refit in names else names[0]
        own = [_name_of(estimator)] if names == ["score"] else []
        if metric not in [*names, *own]:
            known = list(dict.fromkeys([*names, *own]))
            raise ValueError(f"metric must be one of {known}, got {metric!r}.")
        metric, name = ("score", *own) if own else (metric, metric)
        each = np.column_stack(
            [results[f"split{i}_test_{metric}"] for i in range(estimator.n_splits_)]
        )
        alphas = np.unique(np.asarray(results["param_alpha"], dtype=float))
        scores: dict[str, np.ndarray] = {}
        for loss, lines in _lines(results["params"], each, alphas).items():
            same = all(np.array_equal(one, lines[0][1], True) for _, one in lines)
            for delta, line in lines[:1] if same else lines:
                scores[loss if same else f"{loss}, delta={delta:g}"] = line
        choice = None
        if hasattr(estimator, "best_index_"):
            best = estimator.best_index_
            score = float(results[start + metric][best])
            if np.isfinite(score):
                choice = float(estimator.alpha_), score
        return cls(alphas=alphas, scores=scores, choice=choice, score_name=name).plot(
            ax=ax
        )

    def plot(self, ax: Any = None) -> ValidationPathDisplay:
        """Draw the scores along alpha.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None makes a new figure.

        Returns
        -------
        display : ValidationPathDisplay
            Itself.

        Raises
        ------
        TypeError
            If ``ax`` is no Axes.
        ImportError
            If matplotlib is not installed.
        """
        pyplot = _pyplot()
        if ax is None:
            _, ax = pyplot.subplots()
        if not isinstance(ax, pyplot.Axes):
            raise TypeError(f"ax must be one matplotlib Axes or None, got {ax!r}.")
        self.lines_, self.bands_, self.choice_ = [], [], None
        for number, (label, folds) in enumerate(self.scores.items()):
            with np.errstate(invalid="ignore"):  # of infinite scores
                mean, deviation = folds.mean(axis=1), folds.std(axis=1)
            style = ("-", "--", ":", "-.")[number % 4]  # equal lines stay apart
            (line,) = ax.plot(self.alphas, mean, style, marker=".", label=label)
            low, high = mean - deviation, mean + deviation
            self.lines_.append(line)
            self.bands_.append(
                ax.fill_between(
                    self.alphas, low, high, color=line.get_color(), alpha=0.15, lw=0
                )
            )
        if self.choice is not None:
            alpha, score = self.choice
            (self.choice_,) = ax.plot(
                alpha, score, "o", ms=11, mfc="none", mec="k", label=f"alpha={alpha:g}"
            )
        wide = np.column_stack([self.alphas, np.zeros(len(self.alphas))])
        ax.update_datalim(wide, updatey=False)  # where all scores are nan, too
        ax.set(xscale="log", xlabel="alpha", ylabel=self.score_name)
        ax.legend()
        self.ax_, self.figure_ = ax, ax.figure
        return self


def _lines(
    cells: list[dict[str, Any]], each: np.ndarray, alphas: np.ndarray
) -> dict[str, list[tuple[float, np.ndarray]]]:
    """For each loss its deltas, and their scores (n_alphas, n_splits)."""
    found: dict[str, dict[float, np.ndarray]] = {}
    for cell, row in zip(cells, each, strict=True):
        of_loss = found.setdefault(cell.get("loss", "softmax"), {})
        delta = float(cell.get("delta", 1.0))
        line = of_loss.setdefault(delta, np.full((len(alphas), len(row)), np.nan))
        line[np.searchsorted(alphas, float(cell["alpha"]))] = row
    return {loss: list(of_loss.items()) for loss, of_loss in found.items()}


def _name_of(estimator: Any) -> str:
    """The name of a search's only metric."""
    scoring = estimator.scoring
    if scoring is None:
        scoring = estimator._scoring
    return scoring if isinstance(scoring, str) else "score"


def _pyplot() -> Any:
    """matplotlib.pyplot, which is optional."""
    try:
        import matplotlib.pyplot as pyplot
    except ImportError as error:
        raise ImportError(
            'ValidationPathDisplay needs matplotlib: pip install "sklinear[examples]".'
        ) from error
    return pyplot
