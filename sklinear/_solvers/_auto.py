"""Which solver ``solver="auto"`` takes, by what was measured."""

from __future__ import annotations

import importlib.util

import numpy as np

from sklinear._data import Data
from sklinear._losses import CrossEntropy, Hinge, Loss
from sklinear._solvers._costs import LARGEST

WIDE = 256  # features of sparse data beyond which Newton's blocks do not fit
SAMPLE = 1000  # rows that variances are estimated from
# Dual coordinate ascent needs epochs in proportion to ||x||^2 / (alpha n) beyond these.
EASY_HINGE, EASY_SQUARE = 2.0, 0.2
# Up to which few rows of many numbers and classes are left to others: of the softmax,
# and of the squared hinge.
EASY_BIG, EASY_BIG_SQUARE = 10.0, 0.03
HUGE = 10**8  # numbers in X times classes from which Newton keeps up with the dual
EASY_HUGE = 0.5  # there, of the hinge
# And of features that were not scaled they need too many.
HARD, HARD_HINGE = 300.0, 500.0
# Features for each number that rows have, from which data are thin: others than Newton
# do well where they are not wide, too.
THIN = 8
# Rows a feature of such sparse data from which classes may overlap, and L-BFGS take few
# passes over them, but for these ratios of the softmax and of the squared hinge. A few
# iterations tell, up to those.
MANY_SPARSE = 8
EASY_MANY, EASY_MANY_SQUARE = 10.0, 2.0
EITHER, EITHER_SQUARE = 100.0, 3000.0
# Features that would have all of the variance of sparse rows, were it spread evenly, up
# to which one of them makes rows long, beside which the others are small: no visit of
# the dual tells much of those then, but of hinges of fewer rows than features.
LOPSIDED = 3.0
FEW_SPARSE = 4  # rows per feature up to which hinges of sparse rows still do better so
# Rows a feature (of the hinges half of the classes, if more) up to which the dual does
# well, or soon leaves them to Newton, and that ratio, of sparse rows, or those that are
# too many for Newton, and of dense ones.
FEW_ROWS, FAR, FAR_FEW = 8, 1e7, 1e12
# Spread of such dense rows below which a move for one undoes those for others; of
# features whose variances are less even it is low for that, and says nothing.
CORRELATED, EVEN = 0.03, 0.35
# Numbers in X, filled as Newton fills them, times squared classes, up to which the
# other solvers are as quick with few rows as it is to load compiled code.
SMALL_FEW, SMALL_FEW_SOFTMAX = 4 * 10**6, 10**7
# The same of sparse rows whose margins can all be met.
SMALL_FEW_SPARSE, SMALL_FEW_SPARSE_SOFTMAX = 10**6, 4 * 10**6
# Numbers in X times classes up to which loading compiled code costs more than it saves.
SMALL, SMALL_SQUARE, SMALL_WIDE = 10**6, 5 * 10**6, 2 * 10**5
FITS = 10  # of a search that share the load; more do not count
LARGE, TALL = 10**7, 12  # the same and rows per feature, from which Newton pays
LARGE_SOFTMAX = 5 * 10**6  # the same for the softmax
TALLER = 2000  # rows per feature: for the hinge, however small
FAIRLY_TALL = 5  # the same of the hinge of dense rows
# Classes from which the softmax of dense rows is the dual's too, up to this ratio.
SEVERAL, EASY_SEVERAL = 20, 20.0
MANY = 1000  # params of the softmax of dense rows, from which Newton pays, however few
# Rows a feature, and more the more classes, up to which hinges can all be met, and the
# spread of dense rows from which on each row's multipliers hardly depend on others'.
MET, MET_A_CLASS, APART = 0.65, 0.04, 0.5
FEW = 500  # rows that their spread is estimated from
FAR_HINGE, FAR_SQUARE = 5e7, 1e12  # of the same ratio as above, for these
# Rows a feature to which hinges of dense rows are tried with the dual, features a class
# from which, and that ratio.
TRIED, TRIED_A_CLASS, FAR_TRIED = 16, 8, 1e3
# Gaps below which the ascent of dense rows is the slower one: under a strong penalty,
# where many margins are at their kink, and of rows that are nearly orthogonal.
ROUGH, FINE = 3e-6, 1e-9


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
    n, d = data.X.shape
    wide = is_wide(data)
    size = (data.X.nnz if data.sparse else n * d) * data.n_classes
    hinge, softmax = isinstance(loss, Hinge), isinstance(loss, CrossEntropy)
    taller = hinge and n > TALLER * d
    thin = wide or (data.sparse and THIN * data.X.nnz <= n * d)
    small = SMALL if hinge or thin else SMALL_SQUARE
    if wide:
        small = SMALL_WIDE
    usable = compiled and alpha > 0 and not data.streamed  # the dual is
    meets = can_all_be_met(data)
    # of the load; of more rows the other solvers are quick, from a near start above all
    share = 1 / min(fits, FITS) if meets or not wide else 1.0
    pays = usable and size > share * small
    few = n < d * (FEW_ROWS if softmax else max(FEW_ROWS, data.n_classes / 2))
    big = size > HUGE or min(n, d) * data.n_classes > LARGEST
    few &= size <= HUGE or not data.sparse
    filled = max(size, n * min(n, d) * data.n_classes // 4)  # Newton fills sparse rows
    least = float(SMALL_FEW_SOFTMAX if softmax else SMALL_FEW)
    if data.sparse and meets:
        least = share * (SMALL_FEW_SPARSE_SOFTMAX if softmax else SMALL_FEW_SPARSE)
    few &= filled * data.n_classes > least
    few &= usable and tol >= ROUGH
    needed = even = np.inf
    if pays or few:
        variances = variances_of(data)
        needed, even = variances.sum() / (alpha * n), evenness(variances)
    if data.sparse and even * d < LOPSIDED and (n > d or not hinge):
        return "newton" if hinge else "lbfgs"
    near = meets or (not softmax and n <= FEW_SPARSE * d)
    most = FAR if near else HARD_HINGE if hinge else HARD
    many = not hinge and n > MANY_SPARSE * d
    if many:
        most = EASY_MANY if softmax else EASY_MANY_SQUARE
    if pays and thin and needed <= most:
        return "dual"
    many &= pays and thin and tol >= ROUGH
    if many and needed <= (EITHER if softmax else EITHER_SQUARE):
        return "either"
    easy = EASY_HINGE if hinge else EASY_SQUARE
    if size > HUGE:
        easy = EASY_HUGE if hinge else 0.0
    reachable = not (softmax or taller) and tol >= ROUGH
    if pays and reachable and needed <= easy:
        return "dual"
    easy_big = 0.0 if hinge else EASY_BIG if softmax else EASY_BIG_SQUARE
    light = big and needed <= easy_big
    apt = softmax or needed <= (FAR if big else FAR_FEW)
    if few and not data.sparse and apt and not light:
        square = big and not (softmax or hinge)
        correlated = not square and even >= EVEN and _spread(data) < CORRELATED
        return "newton" if correlated else "dual"
    if few and data.sparse and (softmax or needed <= FAR):
        return "dual"
    several = softmax and not data.sparse and data.n_classes >= SEVERAL
    several &= pays and size <= HUGE and needed <= EASY_SEVERAL
    if fits == 1 and several and tol >= ROUGH:
        return "dual"
    tried = fits == 1 and pays and is_tried(data, loss)
    if tried and needed <= FAR_TRIED and tol >= ROUGH:
        return "dual"
    if pays and wide and hinge:
        return "newton"
    dense = not (data.streamed or data.sparse or softmax)
    met = dense and alpha > 0 and size > SMALL and meets
    if met and _spread(data) >= APART:
        needed = variances_of(data).sum() / (alpha * n)
        reached = needed <= (FAR_HINGE if hinge else FAR_SQUARE)
        reached &= tol >= (ROUGH if needed <= EASY_SQUARE else FINE)
        more = 2 * n * data.n_classes > d  # than Newton has to solve at once
        return "dual" if compiled and reached and more else "newton"
    tall = FAIRLY_TALL if hinge and not data.sparse else TALL
    newton = taller or (size > (LARGE_SOFTMAX if softmax else LARGE) and n > tall * d)
    newton |= softmax and not data.sparse and d * data.n_classes > MANY
    return "newton" if newton and not wide else "lbfgs"


def is_wide(data: Data) -> bool:
    """Whether rows are sparse, of so many features that Newton's blocks do not fit."""
    return bool(data.sparse and data.X.shape[1] > WIDE)


def is_tried(data: Data, loss: Loss) -> bool:
    """Whether hinges of dense rows are such that the dual is soon seen to be quick, or
    left for Newton's method: quick if classes are apart."""
    n, d = data.X.shape
    apt = not (isinstance(loss, CrossEntropy) or data.sparse or data.streamed)
    apt &= FEW_ROWS * d <= n <= TRIED * d and d >= TRIED_A_CLASS * data.n_classes
    return apt and LARGE < n * d * data.n_classes <= HUGE


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
    n, _ = data.shape
    X = data.X[:: -(-n // FEW)].astype(np.float64)
    X -= X.mean(axis=0)
    X /= np.abs(X).max() or 1.0  # fourth powers follow
    products = X @ X.T if len(X) < X.shape[1] else X.T @ X
    square = float(np.square(products).sum())
    return float(np.trace(products)) ** 2 / (square * len(products)) if square else 0.0
