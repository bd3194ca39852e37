"""The losses: worked numbers, loops as oracle, derivatives, conjugates, errors."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import log_softmax

from sklinear import losses, reference
from sklinear.losses import CrossEntropy, Hinge, SquaredHinge

PUBLIC = {
    "hinge": losses.weston_watkins,
    "squared_hinge": lambda s, y: losses.weston_watkins(s, y, squared=True),
    "delta": lambda s, y: losses.weston_watkins(s, y, delta=0.3),
    "softmax": losses.cross_entropy,
}
each_loss = pytest.mark.parametrize("loss", PUBLIC.values(), ids=PUBLIC.keys())
both_modules = pytest.mark.parametrize("module", [losses, reference])


@st.composite
def scores_and_labels(draw, largest=1e6):
    """Any scores (n, k) up to a size, and labels (n,)."""
    n, k = draw(st.integers(1, 5)), draw(st.integers(2, 6))
    number = st.floats(-largest, largest)
    rows = st.lists(st.lists(number, min_size=k, max_size=k), min_size=n, max_size=n)
    y = draw(st.lists(st.integers(0, k - 1), min_size=n, max_size=n))
    return np.array(draw(rows)), np.array(y)


def some_scores(n=40, k=5, seed=0):
    """Scores at which margins are on both sides of every kink, none near one."""
    rng = np.random.default_rng(seed)
    return 2 * rng.normal(size=(n, k)), rng.integers(k, size=n)


def slope(f, x, step=1e-6):
    """Central differences of a function of rows, (n,) values, in each column of x."""
    columns = []
    for j in range(x.shape[1]):
        move = np.zeros_like(x)
        move[:, j] = step
        columns.append((f(x + move) - f(x - move)) / (2 * step))
    return np.stack(columns, axis=1)


# Worked numbers -----------------------------------------------------------------------


@both_modules
def test_hinge_of_13_minus7_11_at_margin_10_is_8(module):
    values, gradient = module.weston_watkins([[13, -7, 11]], [0], delta=10)
    np.testing.assert_array_equal(values, [8])
    np.testing.assert_array_equal(gradient, [[-1, 0, 1]])


@both_modules
def test_hinge_and_cross_entropy_of_the_textbook_row(module):
    scores = np.array([[-2.85, 0.86, 0.28]])
    # the textbook prints two decimals
    assert module.weston_watkins(scores, [2])[0][0] == pytest.approx(1.58, abs=5e-3)
    assert module.cross_entropy(scores, [2])[0][0] == pytest.approx(1.04, abs=5e-3)


@both_modules
def test_hinge_is_content_where_the_margin_holds_and_softmax_never_is(module):
    scores, y = np.array([[10.0, -2, 3], [10, 9, 9], [10, -100, -100]]), [0, 0, 0]
    values, gradient = module.weston_watkins(scores, np.array(y))
    np.testing.assert_array_equal(values, 0)
    np.testing.assert_array_equal(gradient, 0)
    values, _ = module.cross_entropy(scores, np.array(y))
    # log(1 + sum of exp of the differences), to rounding
    expected = np.log1p([np.exp(-12) + np.exp(-7), 2 * np.exp(-1), 2 * np.exp(-110)])
    np.testing.assert_allclose(values, expected, rtol=1e-9, atol=1e-15)
    assert values[1] > 100 * values[0] > 100 * values[2]


@both_modules
def test_squared_hinge_squares_each_violation_and_not_their_sum(module):
    values, gradient = module.weston_watkins([[0.0, 1.0, 2.0]], [0], squared=True)
    np.testing.assert_array_equal(values, [2**2 + 3**2])
    np.testing.assert_array_equal(gradient, [[-10, 4, 6]])


# The loops as oracle ------------------------------------------------------------------


@given(scores_and_labels(), st.floats(1e-3, 1e3), st.booleans())
def test_weston_watkins_equals_its_loops(data, delta, squared):
    scores, y = data
    values, gradient = losses.weston_watkins(scores, y, delta, squared)
    expected, slopes = reference.weston_watkins(scores, y, delta, squared)
    # same margins, sums of at most 5 in another order
    np.testing.assert_allclose(values, expected, rtol=1e-14)
    # the true class's is a sum of terms of one sign
    np.testing.assert_allclose(gradient, slopes, rtol=1e-14)


@given(scores_and_labels())
def test_cross_entropy_equals_its_loops(data):
    scores, y = data
    values, gradient = losses.cross_entropy(scores, y)
    expected, slopes = reference.cross_entropy(scores, y)
    # a few roundings of exp, log and sums of terms <= 1; values near 0 come as
    # log(1 + small), good to 1e-16 absolutely
    np.testing.assert_allclose(values, expected, rtol=1e-14, atol=1e-15)
    np.testing.assert_allclose(gradient, slopes, rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize("container", [np.array, scipy.sparse.csr_array])
@pytest.mark.parametrize(
    ("name", "rest"),
    [
        ("svm_objective", (0.7, 1.3, False)),
        ("svm_objective", (0.7, 1.3, True)),
        ("softmax_objective", (0.7,)),
    ],
)
def test_objectives_equal_their_loops_on_dense_and_sparse_rows(name, rest, container):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(9, 4)) * (rng.random((9, 4)) < 0.6)
    W, y = rng.normal(size=(4, 3)), rng.integers(3, size=9)
    value, gradient = getattr(losses, name)(W, container(X), y, *rest)
    expected, slopes = getattr(reference, name)(W, X, y, *rest)
    assert isinstance(value, float)
    # sums of some tens of numbers of size 1 in another order
    assert value == pytest.approx(expected, rel=1e-13)
    np.testing.assert_allclose(gradient, slopes, rtol=1e-13, atol=1e-14)


# Two classic slips --------------------------------------------------------------------

OBJECTIVES = [
    pytest.param(getattr(module, name), id=f"{module.__name__}.{name}")
    for module in (losses, reference)
    for name in ("svm_objective", "softmax_objective")
]


@pytest.mark.parametrize("f", OBJECTIVES)
def test_objective_is_a_mean_over_samples_not_features(f):
    rng = np.random.default_rng(1)
    X, W, y = rng.normal(size=(7, 3)), rng.normal(size=(3, 4)), rng.integers(4, size=7)
    value, gradient = f(W, X, y, 0.5)
    twice, twice_gradient = f(W, np.vstack([X, X]), np.concatenate([y, y]), 0.5)
    # sums of twice as many numbers
    assert twice == pytest.approx(value, rel=1e-13)
    np.testing.assert_allclose(twice_gradient, gradient, rtol=1e-13, atol=1e-14)
    # features without weights change nothing, however many
    more, _ = f(
        np.vstack([W, np.zeros((5, 4))]),
        np.hstack([X, rng.normal(size=(7, 5))]),
        y,
        0.5,
    )
    assert more == pytest.approx(value, rel=1e-13)


@pytest.mark.parametrize("f", OBJECTIVES)
def test_without_scores_the_objective_is_that_of_k_equal_classes(f):
    X, y = np.ones((7, 3)), np.arange(7) % 4
    value, _ = f(np.zeros((3, 4)), X, y, 0.5)
    expected = np.log(4) if "softmax" in f.__name__ else 3  # k - 1 margins of 1
    assert value == pytest.approx(expected, rel=1e-14)  # one rounding of log


@pytest.mark.parametrize("f", OBJECTIVES)
def test_penalty_is_alpha_times_sum_of_squares_without_one_half(f):
    rng = np.random.default_rng(2)
    X, W, y = rng.normal(size=(7, 3)), rng.normal(size=(3, 4)), rng.integers(4, size=7)
    free, free_gradient = f(W, X, y, 0.0)
    value, gradient = f(W, X, y, 10.0)
    # differences of numbers of size 100
    assert value - free == pytest.approx(10 * (W**2).sum(), rel=1e-12)
    np.testing.assert_allclose(gradient - free_gradient, 20 * W, rtol=1e-12)


# Derivatives and symmetries -----------------------------------------------------------


@each_loss
def test_gradient_is_the_slope_of_the_values(loss):
    scores, y = some_scores()
    expected = slope(lambda s: loss(s, y)[0], scores)
    # values of size 10 rounded at 1e-16, over a step of 2e-6
    np.testing.assert_allclose(loss(scores, y)[1], expected, atol=1e-8)


@pytest.mark.parametrize("f", OBJECTIVES)
def test_gradient_of_an_objective_is_its_slope(f):
    rng = np.random.default_rng(3)
    X, W, y = rng.normal(size=(7, 3)), rng.normal(size=(3, 4)), rng.integers(4, size=7)

    def values(flat):  # one row of params
        return np.array([f(flat.reshape(3, 4), X, y, 0.5)[0]])

    expected = slope(values, W.reshape(1, -1)).reshape(3, 4)
    # values of size 10 rounded at 1e-16, over a step of 2e-6
    np.testing.assert_allclose(f(W, X, y, 0.5)[1], expected, atol=1e-8)


@given(scores_and_labels(largest=1e3))
@each_loss
def test_gradient_rows_add_up_to_zero(loss, data):
    _, gradient = loss(*data)
    size = np.abs(gradient).max(axis=1)
    # one rounding a class
    assert (np.abs(gradient.sum(axis=1)) <= 1e-15 * (1 + 6 * size)).all()


@given(scores_and_labels(largest=1e3), st.integers(-(2**20), 2**20))
@each_loss
def test_a_constant_added_to_all_scores_changes_nothing(loss, data, constant):
    scores, y = data
    scores = np.round(scores * 2**10) / 2**10  # so that the sums below are exact
    for before, after in zip(loss(scores, y), loss(scores + constant, y), strict=True):
        np.testing.assert_array_equal(after, before)


@given(scores_and_labels(largest=1e3), st.randoms(use_true_random=False))
@each_loss
def test_permuting_classes_permutes_gradient(loss, data, random):
    scores, y = data
    order = np.array(random.sample(range(scores.shape[1]), scores.shape[1]))
    values, gradient = loss(scores, y)
    permuted, permuted_gradient = loss(scores[:, order], np.argsort(order)[y])
    # sums in another order
    np.testing.assert_allclose(permuted, values, rtol=1e-14, atol=1e-15)
    np.testing.assert_allclose(
        permuted_gradient, gradient[:, order], rtol=1e-14, atol=1e-15
    )


@each_loss
def test_each_row_is_on_its_own(loss):
    scores, y = some_scores()
    values, gradient = loss(scores, y)
    some_values, some_gradient = loss(scores[7:11], y[7:11])
    # sums over classes may be taken in another order
    np.testing.assert_allclose(some_values, values[7:11], rtol=1e-14)
    np.testing.assert_allclose(some_gradient, gradient[7:11], rtol=1e-13, atol=1e-15)


@each_loss
def test_loss_is_convex_along_any_line(loss):
    (start, y), (end, _) = some_scores(seed=4), some_scores(seed=5)
    middle = loss((start + end) / 2, y)[0]
    chord = (loss(start, y)[0] + loss(end, y)[0]) / 2
    assert (middle <= chord + 1e-13).all()  # rounding of values up to 100


# Arrays -------------------------------------------------------------------------------


@each_loss
def test_memory_order_does_not_matter(loss):
    scores, y = some_scores()
    for c, f in zip(loss(scores, y), loss(np.asfortranarray(scores), y), strict=True):
        # the classes may be added in another order
        np.testing.assert_allclose(f, c, rtol=1e-14, atol=1e-15)


@each_loss
def test_float32_stays_float32(loss):
    scores, y = some_scores()
    values, gradient = loss(scores.astype(np.float32), y)
    assert values.dtype == gradient.dtype == np.float32
    # rounding of float32, in numbers up to 30 and sums of 5
    np.testing.assert_allclose(values, loss(scores, y)[0], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(gradient, loss(scores, y)[1], rtol=1e-5, atol=1e-5)


@each_loss
def test_labels_may_be_integers_of_any_size(loss):
    # y * n wrapped around in int8, and uint64 is no index
    rng = np.random.default_rng(0)
    scores, y = np.asfortranarray(rng.normal(size=(300, 5))), rng.integers(5, size=300)
    values, gradient = loss(scores, y)
    for dtype in (np.int8, np.uint8, np.int16, np.uint64):
        again, slope = loss(scores, y.astype(dtype))
        np.testing.assert_array_equal(again, values)
        np.testing.assert_array_equal(slope, gradient)


@pytest.mark.parametrize("alpha", [0.1, 1])
@pytest.mark.parametrize("module", [losses, reference])
def test_objectives_of_small_integers_do_not_wrap_around(module, alpha):
    W, X = np.full((2, 3), 100, np.int8), np.full((4, 2), 100, np.int8)
    y = np.arange(4) % 3
    W[0, 0] = -100
    for f in (module.svm_objective, module.softmax_objective):
        value, slope = f(W, X, y, alpha)
        want, its = f(W.astype(float), X.astype(float), y, alpha)
        assert value == pytest.approx(want, rel=1e-12)
        np.testing.assert_allclose(slope, its, rtol=1e-12)


def test_half_precision_scores_are_taken_as_float32():
    values, _ = losses.cross_entropy(np.array([[0, -20, -9]], np.float16), [1])
    assert values.dtype == np.float32
    assert values[0] == pytest.approx(20 + np.log1p(np.exp(-9.0) + np.exp(-20.0)))
    W, X = np.full((2, 3), 300, np.float16), np.ones((4, 2), np.float16)
    assert losses.svm_objective(W, X, np.arange(4) % 3, 1)[0] == 2 + 6 * 300**2


@each_loss
def test_integer_scores_and_lists_are_taken_as_float64(loss):
    values, gradient = loss([[3, 1, 2]], [1])
    expected = loss(np.array([[3.0, 1.0, 2.0]]), np.array([1]))
    assert values.dtype == gradient.dtype == np.float64
    np.testing.assert_array_equal(values, expected[0])
    np.testing.assert_array_equal(gradient, expected[1])


@each_loss
@pytest.mark.parametrize("order", ["C", "F"])
def test_inputs_are_neither_modified_nor_returned(loss, order):
    scores, y = some_scores()
    scores = np.array(scores, order=order)
    before = scores.copy(), y.copy()
    values, gradient = loss(scores, y)
    np.testing.assert_array_equal(scores, before[0])
    np.testing.assert_array_equal(y, before[1])
    assert not np.shares_memory(gradient, scores)
    assert not np.shares_memory(values, scores)


@pytest.mark.parametrize("f", [losses.svm_objective, losses.softmax_objective])
@pytest.mark.parametrize("container", [np.array, scipy.sparse.csr_array])
def test_objectives_leave_read_only_inputs_alone(f, container):
    rng = np.random.default_rng(0)
    X, W, y = container(rng.normal(size=(7, 3))), np.ones((3, 4)), np.arange(7) % 4
    for array in (X.data, W, y) if scipy.sparse.issparse(X) else (X, W, y):
        array.flags.writeable = False
    assert np.isfinite(f(W, X, y, 0.5)[0])


# Extremes -----------------------------------------------------------------------------


@given(scores_and_labels(largest=1e300))
def test_cross_entropy_of_any_size_is_a_true_log_softmax(data):
    scores, y = data
    values, gradient = losses.cross_entropy(scores, y)
    expected = -log_softmax(scores, axis=1)[np.arange(len(y)), y]
    # log(1 + small) next to an exact difference of scores
    np.testing.assert_allclose(values, expected, rtol=1e-14, atol=1e-15)
    assert np.isfinite(values).all()
    assert (values >= 0).all()
    assert (np.abs(gradient) <= 1).all()


@both_modules
def test_cross_entropy_of_huge_scores_is_their_difference(module):
    scores = np.array([[1e300, -1e300, 0.0], [-1e300, -1e300, -1e300], [1000, 0, 0]])
    values, gradient = module.cross_entropy(scores, np.array([1, 0, 2]))
    np.testing.assert_allclose(values, [2e300, np.log(3), 1000], rtol=1e-15)
    third = [-2 / 3, 1 / 3, 1 / 3]
    # one rounding of a third
    np.testing.assert_allclose(gradient, [[1, -1, 0], third, [1, 0, -1]], rtol=1e-15)


def test_hinge_of_huge_scores_is_finite():
    values, gradient = losses.weston_watkins([[1e300, -1e300, 0.0]], [1])
    np.testing.assert_array_equal(values, [3e300])
    np.testing.assert_array_equal(gradient, [[1, -2, 1]])


def test_no_rows_have_no_losses():
    for loss in PUBLIC.values():
        values, gradient = loss(np.zeros((0, 3)), np.zeros(0, int))
        assert values.shape == (0,)
        assert gradient.shape == (0, 3)


# Errors -------------------------------------------------------------------------------


@each_loss
@pytest.mark.parametrize(
    ("scores", "y", "message"),
    [
        (np.zeros(3), [0, 1, 2], r"scores must have shape .* got \(3,\)"),
        (np.zeros((2, 3)), [0, 1, 2], r"got \(2, 3\) and \(3,\)"),
        (np.zeros((2, 3)), [[0, 1]], r"got \(2, 3\) and \(1, 2\)"),
        (np.zeros((2, 3)), [0.0, 1.0], "y must hold integer .* got dtype float64"),
        (np.zeros((2, 3)), ["a", "b"], "y must hold integer"),
        (np.zeros((2, 3)), [0, 3], r"class indices in 0\.\.2, got 0\.\.3"),
        (np.zeros((2, 3)), [-1, 1], r"class indices in 0\.\.2, got -1\.\.1"),
    ],
)
def test_bad_scores_or_labels_are_named(loss, scores, y, message):
    with pytest.raises(ValueError, match=message):
        loss(scores, y)


@pytest.mark.parametrize("f", [losses.svm_objective, losses.softmax_objective])
@pytest.mark.parametrize("y", [[0, 1], [0, 1, 3], [0.0, 1.0, 2.0]])
def test_objectives_refuse_labels_that_do_not_fit(f, y):
    with pytest.raises(ValueError, match="y"):
        f(np.zeros((2, 3)), np.zeros((3, 2)), y, 1.0)


# What solvers see ---------------------------------------------------------------------


def centres(y, k, seed=6):
    """Multipliers in [0, 1], 0 at the true class."""
    centre = np.random.default_rng(seed).random((len(y), k))
    centre[np.arange(len(y)), y] = 0
    return centre


def smooth_losses(y, k):
    """Each loss that has a Hessian."""
    return {
        "softmax": CrossEntropy(),
        "squared_hinge": SquaredHinge(0.7),
        "huber": Hinge(0.7, width=0.7),
        "narrow": Hinge(0.7, width=0.05),
        "centred": Hinge(0.7, width=0.7, centre=centres(y, k)),
    }


each_smooth_loss = pytest.mark.parametrize("name", smooth_losses(np.zeros(1, int), 2))
each_exact_loss = pytest.mark.parametrize(
    "loss",
    [CrossEntropy(), SquaredHinge(0.7), Hinge(0.7)],
    ids=["softmax", "squared_hinge", "hinge"],
)


@each_smooth_loss
def test_hessian_product_is_the_derivative_of_the_gradient(name):
    scores, y = some_scores()
    loss = smooth_losses(y, 5)[name]
    rng = np.random.default_rng(7)
    change, weights = rng.normal(size=scores.shape), rng.random(len(y))
    step = 1e-6
    expected = loss(scores + step * change, y)[1] - loss(scores - step * change, y)[1]
    expected *= weights[:, None] / (2 * step)
    product = loss.hessian(scores, y, weights)(change)
    # gradients of size 10 rounded at 1e-16 (times 1 / width), over a step of 2e-6
    np.testing.assert_allclose(product, expected, atol=1e-7)


@each_smooth_loss
def test_hessian_is_symmetric_and_never_negative(name):
    scores, y = some_scores()
    rng = np.random.default_rng(8)
    a, b = rng.normal(size=(2, *scores.shape))
    product = smooth_losses(y, 5)[name].hessian(scores, y, np.ones(len(y)))
    # rounding of sums of 200 numbers up to 100
    assert np.vdot(a, product(b)) == pytest.approx(np.vdot(product(a), b), rel=1e-10)
    assert (np.einsum("ij,ij->i", a, product(a)) >= -1e-13).all()


@each_smooth_loss
def test_hessian_ignores_a_constant_added_to_all_scores(name):
    scores, y = some_scores()
    product = smooth_losses(y, 5)[name].hessian(scores, y, np.ones(len(y)))
    # rounding of p (1 - sum p) and the like, times 1 / width
    np.testing.assert_allclose(product(np.ones_like(scores)), 0, atol=1e-14)


@each_smooth_loss
@pytest.mark.parametrize("order", ["C", "F"])
def test_both_are_the_loss_and_the_one_that_is_meant(name, order):
    scores, y = some_scores()
    scores = np.asarray(scores, order=order)
    loss, before = smooth_losses(y, 5)[name], scores.copy()
    values, gradient, exact = loss.both(scores, y)
    expected, expected_gradient = loss(scores, y)
    np.testing.assert_array_equal(values, expected)
    np.testing.assert_array_equal(gradient, expected_gradient)
    # sums of the same numbers in another order
    np.testing.assert_allclose(exact, loss.exact(scores, y)[0], rtol=1e-14)
    np.testing.assert_array_equal(scores, before)


@each_smooth_loss
def test_total_hessian_adds_up_the_rows_hessians(name):
    scores, y = some_scores()
    loss, weights = smooth_losses(y, 5)[name], np.random.default_rng(9).random(len(y))
    product = loss.hessian(scores, y, weights)
    units = [np.tile(e, (len(y), 1)) for e in np.eye(5)]
    expected = np.stack([product(unit).sum(axis=0) for unit in units], axis=1)
    total = loss.total_hessian(scores, y, weights)
    # sums of hundreds of numbers, rounded
    np.testing.assert_allclose(total, expected, atol=1e-12 * np.abs(expected).max())


def feasible_points(loss, y, k, rng):
    """Random gradients at which the conjugate of the loss is finite."""
    g = rng.random((len(y), k))
    index = np.arange(len(y)), y
    if isinstance(loss, CrossEntropy):
        g *= rng.random((len(y), k)) < 0.7  # corners of the simplex too
        g[index] += 1e-3
        g /= g.sum(axis=1)[:, None]
        g[index] -= 1
        return g
    if isinstance(loss, SquaredHinge):
        g *= 5
    g[index] = 0
    g[index] = -g.sum(axis=1)
    return g


@each_exact_loss
def test_conjugate_and_loss_add_up_to_the_product_at_the_gradient(loss):
    scores, y = some_scores()
    values, gradient = loss(scores, y)
    product = (gradient * scores).sum(axis=1)
    # rounding of sums of products up to 100
    np.testing.assert_allclose(
        values + loss.conjugate(gradient, y), product, rtol=1e-12, atol=1e-12
    )


@each_exact_loss
def test_conjugate_and_loss_exceed_the_product_elsewhere(loss):
    rng = np.random.default_rng(9)
    scores, y = some_scores(n=400)
    g = feasible_points(loss, y, 5, rng)
    excess = loss(scores, y)[0] + loss.conjugate(g, y) - (g * scores).sum(axis=1)
    assert (excess >= -1e-12).all()  # rounding of sums of products up to 100
    assert excess.max() > 0.1


def test_a_smoothed_hinge_has_gradients_feasible_for_the_hinge():
    scores, y = some_scores(n=400)
    for name in ("huber", "narrow", "centred"):
        _, gradient = smooth_losses(y, 5)[name](scores, y)
        others = gradient[np.arange(5) != y[:, None]]
        assert others.min() == 0
        assert others.max() == 1
        assert ((others > 0) & (others < 1)).any()


@each_smooth_loss
def test_gradient_solvers_see_is_the_slope_of_the_values(name):
    scores, y = some_scores()
    loss = smooth_losses(y, 5)[name]
    expected = slope(lambda s: loss(s, y)[0], scores)
    # values of size 10 rounded at 1e-16, over a step of 2e-6
    np.testing.assert_allclose(loss(scores, y)[1], expected, atol=1e-8)


@pytest.mark.parametrize("width", [0.7, 0.05])
def test_a_smoothed_hinge_lies_at_most_half_its_width_below_each_violation(width):
    scores, y = some_scores(n=400)
    exact, gradient = Hinge(0.7)(scores, y)
    violated = (gradient > 0).sum(axis=1)
    below = exact - Hinge(0.7, width=width)(scores, y)[0]
    assert (below >= -1e-13).all()  # rounding of values of size 10
    assert (below <= width / 2 * violated + 1e-13).all()
    # well beyond the rounded corner it is all of that
    assert below.max() == pytest.approx(width / 2 * 4, rel=1e-10)


def test_a_centred_hinge_lies_below_the_hinge_and_touches_it_where_it_is_centred():
    scores, y = some_scores(n=400)
    exact, gradient = Hinge(0.7)(scores, y)
    centre = np.maximum(gradient, 0)
    smooth = Hinge(0.7, width=0.7, centre=centres(y, 5))
    assert (smooth(scores, y)[0] <= exact + 1e-13).all()  # rounding, values up to 10
    # centred at the hinge's own subgradient there is nothing to smooth
    values, _ = Hinge(0.7, width=0.7, centre=centre)(scores, y)
    np.testing.assert_allclose(values, exact, rtol=1e-13)


def test_rows_of_a_centred_hinge_take_their_centres_along():
    scores, y = some_scores()
    loss, rows = smooth_losses(y, 5)["centred"], slice(10, 20)
    values, gradient = loss.rows(rows)(scores[rows], y[rows])
    # the classes may be added in another order
    np.testing.assert_allclose(values, loss(scores, y)[0][rows], rtol=1e-14)
    np.testing.assert_allclose(gradient, loss(scores, y)[1][rows], rtol=1e-14)


@each_smooth_loss
def test_solvers_losses_keep_float32(name):
    scores, y = some_scores()
    scores32 = scores.astype(np.float32)
    loss = smooth_losses(y, 5)[name]
    if name == "centred":
        loss = Hinge(0.7, width=0.7, centre=centres(y, 5).astype(np.float32))
    values, gradient = loss(scores32, y)
    product = loss.hessian(scores32, y, np.ones(len(y), np.float32))(scores32)
    assert values.dtype == gradient.dtype == product.dtype == np.float32
    assert loss.exact.conjugate(gradient, y).dtype == np.float64  # sums to certify


@pytest.mark.parametrize("f", [losses.svm_objective, losses.softmax_objective])
@pytest.mark.parametrize("shape", [(0, 2), (3, 3), (2,)])
def test_objectives_refuse_samples_that_do_not_fit(f, shape):
    with pytest.raises(ValueError, match="X must have shape"):
        f(np.zeros((2, 3)), np.zeros(shape), np.zeros(shape[0], int), 1.0)


@pytest.mark.parametrize("objective", [losses.svm_objective, losses.softmax_objective])
def test_objectives_take_lists_and_no_complex_numbers(objective):
    X, y = [[1, 2], [3, -1], [0, 1]], [0, 2, 1]
    W = [[0.5, 0, 1], [-1, 2, 0]]
    value, gradient = objective(W, X, y, 0.1)
    expected, slope = objective(np.array(W), np.array(X), np.array(y), 0.1)
    assert value == expected
    np.testing.assert_array_equal(gradient, slope)
    with pytest.raises(ValueError, match="must be real"):
        objective(np.array(W) * 1j, X, y, 0.1)
