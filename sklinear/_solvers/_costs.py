"""What a Newton step costs, and which kind of step that makes the cheapest."""

from __future__ import annotations

from sklinear._losses import CrossEntropy, Hinge
from sklinear._objective import Objective

DENSE = 1.2e9  # operations of a dense Newton step, beyond which CG is quicker
WIDEST_DENSE = 300  # params of a dense step of the softmax, to which all rows add
WIDEST_SAMPLED = 700  # the same where a sample of them will do
NARROW = 0.1  # width of a hinge, in units of delta, to which few rows add
LARGEST = 60_000  # params that Newton may have, of what the dual leaves
CHEAP = 5e7  # operations of a Newton step up to which fits are polished to rounding
CHEAP_HINGE = 1e7  # the same of the hinge, which it takes ten times the steps


def is_dense(objective: Objective) -> bool:
    """Whether Newton steps are taken with the Hessian written out: for the softmax, to
    which all rows add, that of a sample preconditions conjugate gradients."""
    d1, k = objective.shape
    if is_cheap(objective):
        return True
    if is_sampled(objective):
        return k <= d1 and d1 * k <= WIDEST_SAMPLED
    wide, loss = d1 * k > WIDEST_DENSE, objective.loss
    hinge = isinstance(loss, Hinge) and 0 < loss.width <= NARROW * loss.delta
    if objective.data.streamed and hinge and not wide:
        return True  # conjugate gradients take many passes, where few margins bend
    wide &= isinstance(loss, CrossEntropy)
    return _cost(objective) <= DENSE and not wide


def is_sampled(objective: Objective) -> bool:
    """Whether no Hessian of all rows is written out."""
    softmax = isinstance(objective.loss, CrossEntropy)
    return softmax and not (objective.data.streamed or is_cheap(objective))


def is_cheap(objective: Objective) -> bool:
    """Whether Newton steps with all rows cost little."""
    return _cost(objective) <= CHEAP


def is_polished(objective: Objective) -> bool:
    """Whether they cost so little that a fit is polished to rounding."""
    hinge = isinstance(objective.loss, Hinge)
    return _cost(objective) <= (CHEAP_HINGE if hinge else CHEAP)


def _cost(objective: Objective) -> float:
    """Operations of a Newton step that writes out the Hessian of all rows."""
    (d1, k), n = objective.shape, objective.data.shape[0]
    return n * (d1 * k) ** 2 + (d1 * k) ** 3
