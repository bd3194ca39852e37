"""The scorers of a search, and what goes to them."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Any

from sklearn.metrics import check_scoring, log_loss
from sklearn.utils.metadata_routing import _routing_enabled, process_routing

from sklinear._results import ONE_STD

# Scorers whose values follow from the scores alone, by the method they ask of a model.
QUICK = {"accuracy": "predict", "neg_log_loss": "predict_proba"}


def check_scoring_of(search: Any) -> tuple[Any, Any]:
    """The scorer of a search, and the name of the metric that chooses."""
    plain, name = search._plain(), search.scoring
    if name is None:
        name = search._scoring
        scorer = check_scoring(plain, name)
        if _routing_enabled():  # as nobody else can say so of it
            scorer.set_score_request(sample_weight=True)
    else:
        scorer = check_scoring(plain, name, raise_exc=False)
    if hasattr(scorer, "_scorers"):
        return scorer, check_refit(search, scorer._scorers)
    if isinstance(search.refit, str) and not callable(name):
        names = [ONE_STD, "score", name]
        if search.refit not in names:
            raise ValueError(
                "refit must be a boolean, a callable or, with one metric, one of "
                f"{names}, got {search.refit!r}."
            )
    return scorer, "score"


def check_refit(search: Any, names: Iterable[str]) -> Any:
    """The one of several metrics that chooses."""
    refit = search.refit
    named = isinstance(refit, str) and refit in names
    if refit and not (named or callable(refit)):
        raise ValueError(
            "For multi-metric scoring, the parameter refit must be set to a scorer "
            f"key, one of {list(names)}, or a callable, to choose the cell to refit, "
            "or to False where none is wanted ('one_std' needs a single metric), got "
            f"{refit!r}."
        )
    return refit


def quick_name(search: Any) -> str | None:
    """The scorer's name, if its values follow from the scores alone."""
    name = search._scoring if search.scoring is None else search.scoring
    if isinstance(name, str) and hasattr(search._plain(), QUICK.get(name, "")):
        return name
    return None


def log_losses(scorer: Any) -> list[str]:
    """Names of those scorers that are scikit-learn's log loss."""
    named = getattr(scorer, "_scorers", {"score": scorer}).items()
    return [name for name, one in named if getattr(one, "_score_func", 0) is log_loss]


def route(
    search: Any, scorer: Any, params: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """What goes to the splitter, and what to the scorer."""
    if _routing_enabled():
        routed = process_routing(search, "fit", **params)
        return routed.splitter.split, routed.scorer.score
    weights = params.get("sample_weight")
    to_scorer = {}
    if weights is not None and any(map(_takes_weights, _each(scorer))):
        to_scorer["sample_weight"] = weights
    return {"groups": params.get("groups")}, to_scorer


def without_weights(search: Any, scorer: Any, params: dict[str, Any]) -> list[Warning]:
    """What to warn of: scorers that cannot take the weights there are."""
    if _routing_enabled() or "sample_weight" not in params:
        return []
    return [
        UserWarning(
            f"The scoring {one} does not support sample_weight, which may lead to "
            "statistically incorrect results when fitting "
            f"{type(search).__name__} with sample_weight."
        )
        for one in _each(scorer)
        if not _takes_weights(one)
    ]


def _each(scorer: Any) -> list[Any]:
    """All of several scorers, or the only one."""
    return list(getattr(scorer, "_scorers", {"score": scorer}).values())


def _takes_weights(scorer: Any) -> bool:
    """Whether a scorer takes sample_weight."""
    function = getattr(scorer, "_score_func", scorer)
    return "sample_weight" in inspect.signature(function).parameters
