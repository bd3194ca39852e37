"""Which solver ``solver="auto"`` takes, by what was measured."""

from __future__ import annotations

import importlib.util
from functools import cached_property

import numpy as np

from sklinear._data import Data
from sklinear._losses import CrossEntropy, Hinge, Loss
from sklinear._solvers._costs import LARGEST

FITS = 10  # of a search that share the load of compiled code; more do not count
HUGE = 10**8  # numbers in X times classes from which Newton keeps up with the dual
# Gaps below which the ascent is the slower one: under a strong penalty, where many
# margins are at their kink, and of dense rows that are nearly orthogonal.
ROUGH, FINE = 3e-6, 1e-9
# Rows a feature (of the hinges half of the classes, if more) up to which the dual does
# well, or soon leaves them to Newton, and its ratio, of sparse rows, or those that are
# too many for Newton, and of dense ones. That ratio is ||x||^2 / (alpha n), which the
# epochs are in proportion to.
FEW_ROWS, FAR, FAR_FEW = 8, 1e7, 1e12
# The ratio of the squared hinge from which the others end by rounding, far from the
# optimum, and features for each row and class up to which the dual does, too.
BEYOND, THINLY = 1e14, 20
# Numbers in X, filled as Newton fills them, times squared classes, up to which the
# other solvers are as quick with few rows as it is to load compiled code.
SMALL_FEW, SMALL_FEW_SOFTMAX = 4 * 10**6, 10**7
# Numbers in X times classes up to which loading compiled code costs more than it saves.
SMALL, SMALL_SQUARE, SMALL_WIDE = 10**6, 5 * 10**6, 2 * 10**5
# Ratios beyond which the dual needs epochs in proportion: of the hinge, and of its
# square. Of the hinge where numbers are huge, or dense rows so many for each feature
# and class; other solvers take the square there as quickly.
EASY_HINGE, EASY_SQUARE = 2.0, 0.2
EASY_HUGE, MANY_EACH = 0.5, 16
# Rows a feature, and more the more classes, up to which hinges can all be met.
MET, MET_A_CLASS = 0.65, 0.04

# Of sparse rows. Features beyond which Newton's blocks do not fit.
WIDE = 256
# Features for each number that rows have, from which data are thin: others than Newton
# do well where they are not wide, too; and from which they do up to these ratios.
THIN, FAIRLY_THIN = 8, 4
FAIR, FAIR_HINGE = 30.0, 40.0
# Features that would have all of the variance, were it spread evenly, up to which one
# of them makes rows long, beside which the others are small: no visit of the dual tells
# much of those then, but of hinges of fewer rows than features.
LOPSIDED = 3.0
# Rows, for each class and each of so many features, from which classes overlap, be the
# others ever so many: categories of which few are common, beside a few numbers. And
# ratios from which the dual is the slower one there.
CROWDED, HARD_CROWDED, HARD_CROWDED_HINGE = 50, 0.3, 20.0
# Ratios from which epochs are too many, of features that were not scaled, and rows a
# feature up to which hinges do better.
HARD, HARD_HINGE, FEW_SPARSE = 300.0, 500.0, 4
# Rows a feature from which classes may overlap, and L-BFGS take few passes over them,
# but for these ratios of the softmax and of the squared hinge. A few iterations tell,
# up to those.
MANY_SPARSE = 8
EASY_MANY, EASY_MANY_SQUARE = 10.0, 2.0
EITHER, EITHER_SQUARE = 100.0, 3000.0
# SMALL_FEW where margins can all be met.
SMALL_FEW_SPARSE, SMALL_FEW_SPARSE_SOFTMAX = 10**6, 4 * 10**6

# Of dense rows. Ratios up to which few of them, of many numbers and classes, are left
# to others: of the softmax, and of the squared hinge.
EASY_BIG, EASY_BIG_SQUARE = 10.0, 0.03
# Part of their directions in which few of them vary, below which a move for one undoes
# those for others; of features whose variances are less even it is low for that, and
# says nothing. A direction counts that has more than so much of the variance.
CORRELATED, EVEN, SLIGHT = 0.12, 0.35, 1e-4
NARROW = 0.03  # spread of few of them below which L-BFGS is slower than Newton
# Classes from which the softmax is the dual's too, of LARGE numbers in X times classes,
# up to this ratio for each of them.
SEVERAL, EASY_EACH = 20, 0.8
# Rows a feature to which hinges are tried with the dual, and their squares, and
# features a class from which; or, of SEVERAL classes, rows a feature and class; of
# LARGE numbers in X times classes.
TRIED, TRIED_SQUARE, TRIED_A_CLASS = 32, 16, 8
TRIED_EACH, TRIED_EACH_SQUARE = 10, 4
# Spread from which each row's multipliers hardly depend on others', where all margins
# can be met, and ratios up to which they do not, of the hinge and of its square.
APART, FAR_HINGE, FAR_SQUARE = 0.5, 5e7, 1e12
MANY = 1000  # params of the softmax, from which Newton pays, however few rows

# Of the other two. Numbers in X times classes, and rows a feature, from which Newton
# pays.
LARGE, LARGE_SOFTMAX, TALL = 10**7, 5 * 10**6, 12
FAIRLY_TALL = 5  # rows a feature: for the hinge of dense rows
TALLER = 2000  # the same for the hinge, however small

SAMPLE = 1000  # rows that variances are estimated from
FEW, FEWER = 500, 250  # rows that their spread is estimated from, and their depth


def choose(data: Data, loss: Loss, alpha: float, tol: float, fits: int = 1) -> str:
    """The name of the solver that should be the fastest.

    The dual wherever sparse data are thin and not far from scaled, or all their margins
    can be met, rows are few beside features and dense columns do not say nearly the
    same, or a strong penalty or rows that are nearly orthogonal make it easy, down to a
    tol that it is slow to reach; Newton where the data are large, and for such rows
    too; else L-BFGS and Newton, or of many sparse rows "either", as they tell, L-BFGS
    or the dual. Of a single fit, which has no near start, also the dual for many
    classes of dense rows, and where it may be by far the fastest, and is soon seen to
    be or not; more ``fits`` of such data pay sooner for loading it. Without numba there
    is no dual, and only L-BFGS gets on with few passes over rows that do not fit into
    memory.
    """
    name = _fastest(data, loss, alpha, tol, fits, _is_installed())
    if name in ("dual", "either") and not _is_usable():
        return _fastest(data, loss, alpha, tol, fits, False)
    return name


def _is_installed() -> bool:
    """Whether there is a numba to import, which takes time."""
    try:
        return importlib.util.find_spec("numba") is not None
    except (ImportError, ValueError):
        return False


def _is_usable() -> bool:
    """Whether it can be imported, too: it must suit numpy."""
    from sklinear._solvers import _dual_blocks

    return _dual_blocks.numba is not None


def _fastest(
    data: Data, loss: Loss, alpha: float, tol: float, fits: int, compiled: bool
) -> str:
    """The same, with or without compiled code."""
    if data.streamed and data.excerpt is None:
        return "lbfgs"
    case = _Case(data, loss, alpha, tol, fits, compiled)
    name = _of_sparse(case) if data.sparse else _of_dense(case)
    return name or _of_the_others(case)


class _Case:
    """A problem, and what the choice depends on."""

    def __init__(
        self,
        data: Data,
        loss: Loss,
        alpha: float,
        tol: float,
        fits: int,
        compiled: bool,
    ):
        self.data, self.loss, self.alpha, self.tol = data, loss, alpha, tol
        self.n, self.d = data.X.shape
        self.k = data.n_classes
        self.size = (data.X.nnz if data.sparse else self.n * self.d) * self.k
        self.hinge = isinstance(loss, Hinge)
        self.softmax = isinstance(loss, CrossEntropy)
        self.alone = fits == 1
        self.share = 1 / min(fits, FITS)  # of the load of compiled code
        self.usable = compiled and alpha > 0 and not data.streamed  # the dual is
        self.rough = tol >= ROUGH
        self.meets = can_all_be_met(data)
        # Newton fills sparse rows
        filled = max(self.size, self.n * min(self.n, self.d) * self.k // 4)
        self.newtons = filled * self.k
        most = FEW_ROWS if self.softmax else max(FEW_ROWS, self.k / 2)
        self.few = self.usable and self.rough and self.n < self.d * most

    @cached_property
    def variances(self) -> np.ndarray:
        return variances_of(self.data)

    @cached_property
    def needed(self) -> float:
        """||x||^2 / (alpha n), which the dual's epochs are in proportion to."""
        return float(self.variances.sum() / (self.alpha * self.n))

    @cached_property
    def beyond(self) -> bool:
        """Whether it is a squared hinge that others mostly leave far from its end."""
        wide = self.d >= THINLY * self.n * self.k
        return wide and not (self.hinge or self.softmax) and self.needed >= BEYOND


def _of_sparse(case: _Case) -> str | None:
    """The solver of sparse rows, but where it is one of the other two."""
    n, d, size = case.n, case.d, case.size
    wide = is_wide(case.data)
    thin = wide or THIN * case.data.X.nnz <= n * d
    # of more rows the other solvers are quick, from a near start above all
    share = case.share if case.meets or not wide else 1.0
    fair = FAIRLY_THIN * case.data.X.nnz <= n * d
    small = SMALL_WIDE if wide else SMALL if case.hinge or fair else SMALL_SQUARE
    pays = case.usable and size > share * small
    least: float = SMALL_FEW_SOFTMAX if case.softmax else SMALL_FEW
    if case.meets:
        least = SMALL_FEW_SPARSE_SOFTMAX if case.softmax else SMALL_FEW_SPARSE
        least *= share
    few = case.few and size <= HUGE and case.newtons > least
    if not (pays or few):
        return None
    even = evenness(case.variances) * d
    most = HARD_CROWDED_HINGE if case.hinge else HARD_CROWDED
    crowded = n > max(CROWDED * even * case.k, d)
    lopsided = even < LOPSIDED and (n > d or not case.hinge)
    if lopsided or (crowded and thin and case.needed > most):
        return "newton" if case.hinge else "lbfgs"
    if pays and fair and not (thin or crowded):
        most = FAIR_HINGE if case.hinge else FAIR if case.softmax else EASY_MANY_SQUARE
        if case.needed <= most:
            return "dual"
    if pays and thin:
        near = case.meets or (not case.softmax and n <= FEW_SPARSE * d)
        most = FAR if near else HARD_HINGE if case.hinge else HARD
        many = not case.hinge and n > MANY_SPARSE * d
        if many:
            most = EASY_MANY if case.softmax else EASY_MANY_SQUARE
        if case.needed <= most:
            return "dual"
        most = EITHER if case.softmax else EITHER_SQUARE
        if many and case.rough and case.needed <= most:
            return "either"
    if pays and _is_easy(case):
        return "dual"
    if few and (case.softmax or case.needed <= FAR):
        return "dual"
    return "newton" if pays and wide and case.hinge else None


def _of_dense(case: _Case) -> str | None:
    """The same of dense rows."""
    size, k = case.size, case.k
    pays = case.usable and size > case.share * (SMALL if case.hinge else SMALL_SQUARE)
    if pays and _is_easy(case):
        return "dual"
    least = SMALL_FEW_SOFTMAX if case.softmax else SMALL_FEW
    few = case.few and (case.newtons > least or case.beyond)
    if few and _is_apt(case):
        return "newton" if _is_correlated(case) else "dual"
    if case.alone and pays and case.rough:
        several = case.softmax and k >= SEVERAL and LARGE < size <= HUGE
        if several and case.needed <= EASY_EACH * k:
            return "dual"
        if is_tried(case.data, case.loss) and case.needed <= FAR_FEW:
            return "dual"
    met = case.meets and case.alpha > 0 and size > SMALL
    met &= not (case.softmax or case.data.streamed)
    if met and _spread(case.data) >= APART:
        reached = case.needed <= (FAR_HINGE if case.hinge else FAR_SQUARE)
        reached &= case.tol >= (ROUGH if case.needed <= EASY_SQUARE else FINE)
        more = 2 * case.n * k > case.d  # than Newton has to solve at once
        return "dual" if case.usable and reached and more else "newton"
    return "newton" if case.softmax and case.d * k > MANY else None


def _of_the_others(case: _Case) -> str:
    """Newton or L-BFGS."""
    n, d = case.n, case.d
    if is_wide(case.data):
        return "lbfgs"
    if case.hinge and n > TALLER * d:
        return "newton"
    if case.k >= SEVERAL and not (case.hinge or case.softmax or case.data.sparse):
        return "lbfgs"
    tall = FAIRLY_TALL if case.hinge and not case.data.sparse else TALL
    large = LARGE_SOFTMAX if case.softmax else LARGE
    return "newton" if case.size > large and n > tall * d else "lbfgs"


def _is_easy(case: _Case) -> bool:
    """Whether a strong penalty makes hinges the dual's."""
    if case.softmax or (case.hinge and case.n > TALLER * case.d) or not case.rough:
        return False
    most = EASY_HINGE if case.hinge else EASY_SQUARE
    many = not case.data.sparse and case.n > MANY_EACH * case.d * case.k
    if case.size > HUGE or many:
        most = EASY_HUGE if case.hinge else 0.0
    return case.needed <= most


def _is_big(case: _Case) -> bool:
    """Whether few dense rows are of many numbers and classes."""
    return case.size > HUGE or min(case.n, case.d) * case.k > LARGEST


def _is_apt(case: _Case) -> bool:
    """Whether few dense rows are the dual's, if anybody's but L-BFGS's."""
    if _is_big(case):
        most = EASY_BIG if case.softmax else EASY_BIG_SQUARE
        if not case.hinge and case.needed <= most:
            return False
    most = FAR if _is_big(case) else FAR_FEW
    return case.softmax or case.beyond or case.needed <= most


def _is_correlated(case: _Case) -> bool:
    """Whether moves for one of few dense rows undo those for others."""
    if _is_big(case) and not (case.softmax or case.hinge):
        return False
    return evenness(case.variances) >= EVEN and _depth(case.data) < CORRELATED


def is_wide(data: Data) -> bool:
    """Whether rows are sparse, of so many features that Newton's blocks do not fit."""
    return bool(data.sparse and data.X.shape[1] > WIDE)


def is_tried(data: Data, loss: Loss) -> bool:
    """Whether hinges of dense rows are such that the dual is soon seen to be quick, or
    left for others: quick if classes are apart."""
    n, d = data.X.shape
    k, hinge = data.n_classes, isinstance(loss, Hinge)
    most, largest, apt = TRIED if hinge else TRIED_SQUARE, HUGE, d >= TRIED_A_CLASS * k
    if k >= SEVERAL:
        most = max(most, (TRIED_EACH if hinge else TRIED_EACH_SQUARE) * k)
        largest, apt = 10 * HUGE, True
    apt &= FEW_ROWS * d <= n <= most * d and LARGE < n * d * k <= largest
    return apt and _may_be_tried(data, loss)


def _may_be_tried(data: Data, loss: Loss) -> bool:
    """Whether its rows are dense hinges', and margins cannot all be met."""
    apt = not (isinstance(loss, CrossEntropy) or data.sparse or data.streamed)
    return apt and not can_all_be_met(data)


def is_probed(data: Data, loss: Loss, alpha: float, tol: float) -> bool:
    """Whether a search first asks how far the dual is quick: of hinges that are tried
    of several classes, which take Newton's method by far the longest."""
    apt = alpha > 0 and tol >= ROUGH and data.n_classes >= SEVERAL
    return apt and is_tried(data, loss) and _is_installed() and _is_usable()


def is_doubtful(data: Data, loss: Loss, alpha: float, tol: float) -> bool:
    """Whether it is to be seen if the dual is quick: of hinges of dense rows, unless
    all margins can be met, or rows are so many that a strong penalty makes it so, or
    many classes and few rows."""
    n, d = data.X.shape
    if n <= TRIED * d:
        return _may_be_tried(data, loss)
    case = _Case(data, loss, alpha, tol, 1, True)
    return is_tried(data, loss) and not (case.few or _is_easy(case))


def goes_on_by_newton(data: Data, loss: Loss) -> bool:
    """Whether what the dual leaves of tried hinges is Newton's, not L-BFGS's, which is
    the quicker one for the squared hinge of several classes."""
    several = data.n_classes >= SEVERAL and not isinstance(loss, Hinge)
    return is_tried(data, loss) and not several


def is_newtons(data: Data) -> bool:
    """Whether few dense rows that are not the dual's are Newton's, not L-BFGS's."""
    return _spread(data) < NARROW


def can_all_be_met(data: Data) -> bool:
    """Whether rows are so few that every margin can be, whatever the labels."""
    n, d = data.X.shape
    return n <= d * (MET + MET_A_CLASS * data.n_classes)


def variances_of(data: Data) -> np.ndarray:
    """Of each feature, (d,), as some of the rows have it."""
    X = data.X[:: max(1, len(data.y) // SAMPLE)]
    if data.sparse:
        m, d = X.shape
        squares = np.bincount(X.indices, np.square(X.data, dtype=np.float64), d) / m
        mean = np.bincount(X.indices, X.data, d) / m
        return np.maximum(squares - np.square(mean), 0.0)
    return X.var(axis=0, dtype=np.float64)


def evenness(variances: np.ndarray) -> float:
    """The part of so many variances that would add up to as much, if they were equal.

    (sum v)^2 / sum v^2, over their number.
    """
    largest = float(variances.max(initial=0))
    if largest == 0:
        return 1.0
    v = variances / largest
    return float(v.sum()) ** 2 / (float(v @ v) * len(v))


def _spread(data: Data) -> float:
    """The part of their directions that dense rows are spread over, nearly evenly.

    (sum v)^2 / sum v^2 of the variances v along the principal axes, over their number.
    """
    products = _products(data, FEW)
    square = float(np.square(products).sum())
    return float(np.trace(products)) ** 2 / (square * len(products)) if square else 0.0


def _depth(data: Data) -> float:
    """The part of their directions that dense rows vary in, however unevenly.

    The effective dimension (Zhang 2005), the sum of v / (v + t), of the variances v
    along the principal axes, t being ``SLIGHT`` of their sum, over their number.
    """
    v = np.maximum(np.linalg.eigvalsh(_products(data, FEWER)), 0.0)
    slight = SLIGHT * v.sum()
    return float(np.mean(v / (v + slight))) if slight else 0.0


def _products(data: Data, most: int) -> np.ndarray:
    """Inner products of some dense rows less their mean, or, if fewer, of columns."""
    n, _ = data.shape
    X = data.X[:: -(-n // most)].astype(np.float64)
    X -= X.mean(axis=0)
    X /= np.abs(X).max() or 1.0  # fourth powers may follow
    return X @ X.T if len(X) < X.shape[1] else X.T @ X
