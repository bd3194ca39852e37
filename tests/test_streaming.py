"""Newton's method on rows of which nothing is kept: same optimum, same proof."""

import numpy as np
import pytest
from conftest import PROBLEMS, TIGHT, classifier, full_params, objective

from sklinear._data import Data
from sklinear._losses import Hinge
from sklinear._solvers import _costs, _preconditioner, _streaming

LARGE = {(_costs, name): 0 for name in ("CHEAP", "DENSE", "WIDEST_DENSE")}
LARGE[_streaming, "WRITTEN"] = 0
VARIANTS = {
    "dense": {},
    "blocks": LARGE,
    "blocks in float32": {**LARGE, (_preconditioner, "LARGEST_PRECISE"): 0},
    "one block": {**LARGE, (_preconditioner, "LARGEST_BLOCKS"): 0},
    "diagonal": {**LARGE, (_preconditioner, "LARGEST_BLOCK"): 0},
}


@pytest.fixture(params=VARIANTS)
def streamed(request, monkeypatch):
    """A switch to streamed data, with one of the Hessians and preconditioners."""

    def switch():
        monkeypatch.setattr(Data, "streamed", True)
        for (module, name), value in VARIANTS[request.param].items():
            monkeypatch.setattr(module, name, value)

    return switch


@pytest.mark.parametrize("solver", ["lbfgs", "newton"])
@pytest.mark.parametrize("name", ["wine", "weighted", "sparse"])
def test_streamed_rows_lead_to_the_same_optimum_and_proof(
    loss, name, solver, streamed, monkeypatch
):
    problem = PROBLEMS[name]
    kept = classifier(loss, solver="lbfgs", **TIGHT).fit(*problem)
    streamed()
    for forbidden in ("sample", "take"):
        monkeypatch.delattr(Data, forbidden)
    # conjugate gradients without good blocks take thousands of steps on the hinge
    model = classifier(loss, solver=solver, max_iter=5000, **TIGHT).fit(*problem)
    assert model.dual_gap_ <= TIGHT["tol"]
    values = [objective(m, problem, *full_params(m)) for m in (kept, model)]
    np.testing.assert_allclose(*values, rtol=2 * TIGHT["tol"])  # both are proven to it
    assert model.certify(problem.X).mean() >= kept.certify(problem.X).mean() - 0.02


def test_at_default_parameters_small_fits_are_polished(loss, monkeypatch):
    problem = PROBLEMS["iris"]
    kept = classifier(loss).fit(*problem)
    monkeypatch.setattr(Data, "streamed", True)
    model = classifier(loss).fit(*problem)
    assert model.solver_ == "lbfgs"
    np.testing.assert_allclose(model.loss_curve_[-1], kept.loss_curve_[-1], rtol=1e-8)


def test_hinges_with_a_past_have_the_multipliers_of_those_with_a_centre():
    rng = np.random.default_rng(0)
    y = rng.integers(3, size=20)
    first, second, scores = rng.normal(size=(3, 20, 3))
    past = tuple((None, None, width) for width in (0.5, 0.1))
    centre = Hinge(width=0.1, centre=Hinge(width=0.5).multipliers(first, y))
    centre = centre.multipliers(second, y)
    recalled = Hinge(width=0.2, past=past).recalled([first, second], y)
    for ours, theirs in zip(
        recalled(scores, y), Hinge(width=0.2, centre=centre)(scores, y), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("solver", ["lbfgs", "newton"])
def test_a_hinge_of_few_params_ends_with_dense_steps(solver, monkeypatch):
    problem = PROBLEMS["wine"]
    monkeypatch.setattr(Data, "streamed", True)
    for name in ("CHEAP", "DENSE"):  # as of many rows
        monkeypatch.setattr(_costs, name, 0)
    model = classifier("hinge", solver=solver, **TIGHT).fit(*problem)
    assert model.dual_gap_ <= TIGHT["tol"]
    assert model.n_iter_ < 200  # passes; conjugate gradients up to the end take 300
