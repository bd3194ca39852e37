"""
From loops to BLAS
==================

A formula for one sample, one class and one feature wants to become three nested loops.
Written that way it is easy to check, and slow. ``sklinear.reference`` holds the
objectives of both classifiers as such loops, ``sklinear.losses`` holds them once more,
as a few operations on whole arrays. They take the same arguments and return the same
numbers: read the first, run the second.
"""

# %%
# Both objectives are the mean loss of n samples plus ``alpha`` times the sum of the
# squared weights. The losses differ. With scores ``S = X W`` they are
#
# - hinge: the sum over wrong classes j of max(0, s_j - s_y + delta),
# - softmax: log(sum over all classes j of exp(s_j)) - s_y.
#
# First a problem of 500 samples, 20 features and 5 classes.

import timeit

import matplotlib.pyplot as plt
import numpy as np
from threadpoolctl import threadpool_limits

from sklinear import losses, reference

rng = np.random.default_rng(0)
n_features, n_classes = 20, 5
alpha = 0.01
W = rng.normal(size=(n_features, n_classes)) / np.sqrt(n_features)


def draw(n_samples):
    """Random samples and labels."""
    X = rng.normal(size=(n_samples, n_features))
    return X, rng.integers(n_classes, size=n_samples)


objectives = {
    "hinge": (reference.svm_objective, losses.svm_objective),
    "softmax": (reference.softmax_objective, losses.softmax_objective),
}

X, y = draw(500)
for name, (loops, arrays) in objectives.items():
    value, gradient = loops(W, X, y, alpha)
    same_value, same_gradient = arrays(W, X, y, alpha)
    print(f"{name:8} loops   {value:.15f}")
    print(f"{'':8} arrays  {same_value:.15f}")
    print(f"{'':8} gradients {abs(gradient - same_gradient).max():.0e} apart\n")

# %%
# The same numbers, but for rounding: sums in another order. How does one get from the
# loops to whole arrays? For the hinge it takes six lines, each as wide as the data::
#
#     rows = np.arange(n)
#     S = X @ W                                             # (n, k) scores
#     M = np.maximum(0, S - S[rows, y][:, None] + delta)    # (n, k) violated margins
#     M[rows, y] = 0                                        # j = y is left out
#     G = (M > 0).astype(float)                             # each pushes its class down
#     G[rows, y] = -G.sum(axis=1)                           # and the true class up
#
# and two more for the result: the value ``M.sum() / n + alpha * (W**2).sum()`` and its
# gradient ``X.T @ G / n + 2 * alpha * W``. Nearly all the work is in the two products
# with X. They are calls to BLAS, the library of linear algebra below NumPy.
#
# Now for the time, all on one thread, so that nothing is won by a second core. The
# loops get up to two thousand samples, the arrays up to a hundred thousand.

seconds = {}
sizes = [10, 30, 100, 300, 1000, 2000]
large_sizes = [5000, 20_000, 100_000]
for n_samples in sizes + large_sizes:
    X, y = draw(n_samples)
    for name, (loops, arrays) in objectives.items():
        calls = {"arrays": (arrays, 20)}
        if n_samples in sizes:
            calls["loops"] = loops, 3
        for kind, (function, repeat) in calls.items():
            timer = timeit.Timer(lambda f=function, X=X, y=y: f(W, X, y, alpha))
            with threadpool_limits(1):
                times = timer.repeat(repeat, number=1)
            seconds[name, kind, n_samples] = min(times)

print(f"{'samples':>8}" + "".join(f"{name:>33}" for name in objectives))
print(f"{'':8}" + f"{'loops':>13} {'arrays':>9} {'faster':>9}" * 2)
for n_samples in sizes:
    print(f"{n_samples:8}", end="")
    for name in objectives:
        slow, fast = (seconds[name, kind, n_samples] for kind in ["loops", "arrays"])
        print(f"{1e3 * slow:10.2f} ms {1e3 * fast:6.2f} ms {slow / fast:8.0f}x", end="")
    print()

# %%
# On a few samples the arrays take the time of their calls, whatever n. Once there are
# some hundreds, their time grows with n as that of the loops does from the start, but
# orders of magnitude below: the arrays are done with a hundred thousand samples before
# the loops are with two thousand.

fig, ax = plt.subplots(figsize=(7, 4.5), layout="constrained")
for kind, style in [("loops", "o--"), ("arrays", "o-")]:
    for name, color in [("hinge", "tab:blue"), ("softmax", "tab:orange")]:
        n = [size for size in sizes + large_sizes if (name, kind, size) in seconds]
        times = [seconds[name, kind, size] for size in n]
        ax.loglog(n, times, style, color=color, ms=4, label=f"{name}, {kind}")
slow, fast = (seconds["hinge", kind, sizes[-1]] for kind in ["loops", "arrays"])
arrow = {"arrowstyle": "<->", "color": "dimgrey", "shrinkA": 4, "shrinkB": 4}
ax.annotate("", xy=(sizes[-1], fast), xytext=(sizes[-1], slow), arrowprops=arrow)
middle = np.sqrt(slow * fast)
ax.text(sizes[-1] * 1.2, middle, f"{slow / fast:.0f} times", color="dimgrey")
ax.axhline(slow, color="dimgrey", ls=":", lw=1)
ax.set(
    xlabel="number of samples",
    ylabel="time of value and gradient (s)",
    title=f"The same numbers, sooner ({n_features} features, {n_classes} classes)",
)
ax.grid(alpha=0.3)
ax.legend(loc="lower right")
plt.savefig("plot_loops_to_blas.png", dpi=150)
print("\nPicture: plot_loops_to_blas.png")
