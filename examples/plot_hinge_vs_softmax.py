"""
Hinge or softmax: what the losses ask for
=========================================

Two ways to tell a linear classifier what good scores are. The hinge loss of the support
vector machine asks the true class to lead by a margin, and then is content. The
cross-entropy of the softmax is never content: more of a lead is always a little better.
First on three rows of scores, then in the plane, where one can see what the losses, the
penalty ``alpha`` and the margin ``delta`` do to the borders between classes.
"""

# %%
# Three rows of scores
# --------------------
# Three samples, three classes. The true class is the first, and its score always 10.

import matplotlib.pyplot as plt
import numpy as np

from sklinear import LinearSVMClassifier, SoftmaxClassifier
from sklinear.losses import cross_entropy, weston_watkins

scores = np.array([[10, -2, 3], [10, 9, 9], [10, -100, -100]])
truth = np.zeros(3, dtype=int)
hinge, _ = weston_watkins(scores, truth, delta=1)
squared, _ = weston_watkins(scores, truth, delta=1, squared=True)
entropy, _ = cross_entropy(scores, truth)

print(f"{'scores':^15} {'hinge':>7} {'squared hinge':>15} {'cross-entropy':>15}")
for (a, b, c), *values in zip(scores, hinge, squared, entropy, strict=True):
    print(f"{a:5}{b:5}{c:5} {values[0]:7g} {values[1]:15g} {values[2]:15.2g}")

# %%
# Both hinges are 0 each time: the true class leads by ``delta=1`` or more, and they do
# not ask how much more. The cross-entropy tells the rows apart. Two rivals close behind
# cost it a lot, rivals 7 and 12 behind a little, rivals 110 behind next to nothing, but
# not nothing. It would still improve on each of them; the hinges would not.
#
# Three losses in the plane
# -------------------------
# Three oblong clouds with 50 samples each, and many more to test on. A large dot is a
# sample that costs something, a small one is free. The plane is coloured by the label
# that a model gives, pale where the best class leads the second by less than ``delta``
# (for the softmax, by less than 1).


def clouds(n_samples, seed):
    """Three classes in the plane, oblong in the same direction."""
    noise = np.random.default_rng(seed).normal(size=(3, n_samples, 2))
    centers = np.array([[-1.8, -0.9], [1.8, -0.9], [0.0, 1.6]])
    X = noise @ [[1.0, 0.6], [0.6, 1.0]] + centers[:, None]
    return X.reshape(-1, 2), np.repeat([0, 1, 2], n_samples)


X, y = clouds(50, seed=0)
X_test, y_test = clouds(10_000, seed=1)
side = np.linspace(-5, 5, 400)
plane = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)
COLORS = np.array([[0, 114, 178], [230, 159, 0], [0, 158, 115]]) / 255
LINES = {"hinge": "crimson", "squared hinge": "purple", "softmax": "black"}


def svm(loss, alpha, delta=1.0):
    """A support vector machine, fitted to the clouds."""
    return LinearSVMClassifier(loss=loss, alpha=alpha, delta=delta).fit(X, y)


def draw(ax, model, title):
    """The labels that the model gives, the margin, and the samples."""
    delta = getattr(model, "delta", 1.0)
    scores = model.decision_function(plane)
    second, best = np.sort(scores, axis=1)[:, -2:].T
    ink = np.where(best - second < delta, 0.25, 0.6)[:, None]
    image = 1 - ink * (1 - COLORS[scores.argmax(axis=1)])
    ax.imshow(image.reshape(400, 400, 3), origin="lower", extent=(-5, 5, -5, 5))
    if isinstance(model, SoftmaxClassifier):
        values, _ = cross_entropy(model.decision_function(X), y)
    else:
        values, _ = weston_watkins(model.decision_function(X), y, delta)
    costs = values > 1e-6 * delta  # less is rounding, of samples just on the margin
    ax.scatter(*X[~costs].T, s=3, c=COLORS[y[~costs]] / 2)
    ax.scatter(*X[costs].T, s=18, c=COLORS[y[costs]], edgecolors="k", linewidths=0.6)
    ax.set(xticks=[], yticks=[], title=title)
    accuracy = model.score(X_test, y_test)
    ax.set_xlabel(f"{costs.sum()} of {len(X)} cost, test accuracy {accuracy:.3f}")


fig, axes = plt.subplots(3, 4, figsize=(13, 10), layout="constrained")
draw(axes[0, 1], svm("hinge", 0.01), "hinge, alpha=0.01")
draw(axes[0, 2], svm("squared_hinge", 0.01), "squared hinge, alpha=0.01")
draw(axes[0, 3], SoftmaxClassifier(alpha=0.01).fit(X, y), "softmax, alpha=0.01")

# %%
# To the softmax every sample matters, the far ones too, if only a little; the hinges
# look at those near the borders alone. The first panel shows why: the loss of a sample
# against the lead of its class over a single rival.

lead = np.linspace(-2, 4, 301)
two_scores = np.stack([lead, np.zeros_like(lead)], axis=1)
first = np.zeros(len(lead), dtype=int)
curves = {
    "hinge": weston_watkins(two_scores, first)[0],
    "squared hinge": weston_watkins(two_scores, first, squared=True)[0],
    "softmax": cross_entropy(two_scores, first)[0],
}
for name, curve in curves.items():
    axes[0, 0].plot(lead, curve, color=LINES[name], label=name)
axes[0, 0].axvline(1, color="grey", ls=":")
axes[0, 0].text(1.1, 3.6, "delta", color="dimgrey")
axes[0, 0].set(ylim=(-0.1, 4), xlabel="lead of the true class", ylabel="loss")
axes[0, 0].set_title("The losses")
axes[0, 0].legend(loc="upper right", bbox_to_anchor=(1, 0.85))

# %%
# What alpha does
# ---------------
# The penalty wants small weights, so small leads, so a wide margin. With a large
# ``alpha`` most samples fall inside it, and together they place the border: across the
# line between two clouds' centres, whatever the clouds' shapes. With a small one the
# few between the clouds place it, and it turns to run along them.
#
# The best is in between, and elsewhere for each loss: compare losses only when each has
# had its own ``alpha`` tuned.

alphas = np.logspace(-4, 0, 13)
for name, color in LINES.items():
    if name == "softmax":
        models = [SoftmaxClassifier(alpha=alpha).fit(X, y) for alpha in alphas]
    else:
        models = [svm(name.replace(" ", "_"), alpha) for alpha in alphas]
    curve = [model.score(X_test, y_test) for model in models]
    axes[1, 0].semilogx(alphas, curve, ".-", color=color, label=name)
axes[1, 0].set(xlabel="alpha", ylabel="test accuracy", title="What alpha does")
axes[1, 0].legend()
for ax, alpha in zip(axes[1, 1:], [0.01, 0.1, 1], strict=True):
    draw(ax, svm("hinge", alpha), f"hinge, alpha={alpha:g}, delta=1")

# %%
# What delta does
# ---------------
# A wider margin asks for larger leads, so for larger weights, and then the penalty
# weighs more. The last row of panels has ``alpha`` fixed and ``delta`` growing. It is
# the row above once more: for the hinge only the product ``alpha * delta`` matters.

for delta, color in [(0.1, "lightcoral"), (1, "crimson"), (10, "darkred")]:
    models = [svm("hinge", alpha / delta, delta) for alpha in alphas]
    curve = [model.score(X_test, y_test) for model in models]
    axes[2, 0].semilogx(alphas / delta, curve, ".-", color=color, label=f"{delta=:g}")
axes[2, 0].set(xlabel="alpha", ylabel="test accuracy", title="What delta does (hinge)")
axes[2, 0].margins(y=0.2)
axes[2, 0].legend(loc="upper center", ncols=3, fontsize=9, handlelength=1)
for ax, delta in zip(axes[2, 1:], [0.1, 1, 10], strict=True):
    draw(ax, svm("hinge", 0.1, delta), f"hinge, alpha=0.1, delta={delta:g}")
plt.savefig("plot_hinge_vs_softmax.png", dpi=130)

# %%
# In numbers: the model of (alpha, delta) gives the labels of (alpha * delta, 1) all
# over the plane, and its weights are ``delta`` times those. For the squared hinge it is
# simpler still, (alpha, 1) will do: no ``delta`` changes a label. So leave ``delta``
# alone and tune ``alpha``.

print(
    f"\n{'loss':13} {'delta':>5} {'labels that differ':>20} {'weights differ by':>19}"
)
for loss in ["hinge", "squared_hinge"]:
    for delta in [0.1, 3, 10]:
        model = svm(loss, 0.1, delta)
        twin = svm(loss, 0.1 * delta if loss == "hinge" else 0.1)
        changed = np.sum(model.predict(plane) != twin.predict(plane))
        scale = np.abs(model.coef_).max()
        difference = np.abs(model.coef_ - delta * twin.coef_).max() / scale
        print(f"{loss:13} {delta:5g} {changed:10} of {len(plane)} {difference:19.0e}")
        assert changed == 0
        assert difference < 1e-6
print("\nPicture: plot_hinge_vs_softmax.png")
