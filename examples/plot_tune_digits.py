"""
Tune linear classifiers on handwritten digits
=============================================

A classifier is rarely used with the parameters it comes with. Here the two of sklinear
are tuned by cross-validation, inside a pipeline, next to their two relatives in
scikit-learn; all four then read digits that none of them has seen. At the end the
weights are drawn as images: what a linear classifier takes each digit to look like.
"""

# %%
# The data: images of 8 x 8 pixels, grey values 0 to 16, ten classes. A quarter of them
# is held out until everything is tuned.

import time

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import MinMaxScaler
from sklearn.svm import LinearSVC
from threadpoolctl import threadpool_limits

from sklinear import (
    LinearSVMClassifier,
    LinearSVMClassifierCV,
    SoftmaxClassifierCV,
)

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, stratify=y, random_state=0)
print(f"{len(X_train)} images to learn from, {len(X_test)} held out")


# %%
# Each model sits in a pipeline behind a scaler. sklinear needs none to converge, but
# the penalty adds up the squares of all weights: ``alpha`` treats features alike only
# where they have like ranges (and so does ``C`` in scikit-learn).
#
# There are two ways to tune. sklinear's searches are a pipeline's last step and take a
# whole grid, all folds of it, as one computation; the scaler has then seen the pixels
# of all training images, though not their labels. ``GridSearchCV`` takes the pipeline
# whole, and fits all of it for each cell and fold.
#
# sklinear fits on one BLAS thread, so here they all do: matrices this small give more
# threads little to do but wait for each other.


def tune(search):
    """A pipeline that ends in a search, fitted."""
    pipeline = Pipeline([("scale", MinMaxScaler()), ("model", search)])
    with threadpool_limits(1):
        return pipeline.fit(X_train, y_train)


def grid_search(model, grid):
    """The other way, for any model: a search over the pipeline's parameters."""
    pipeline = Pipeline([("scale", MinMaxScaler()), ("model", model)])
    grid = {f"model__{name}": values for name, values in grid.items()}
    with threadpool_limits(1):
        return GridSearchCV(pipeline, grid, cv=5).fit(X_train, y_train)


# %%
# The support vector machine has three knobs: the loss (hinge or squared hinge), the
# margin ``delta`` and the penalty ``alpha``. Let us try every combination.

losses = ["hinge", "squared_hinge"]
deltas = [1.0, 10.0]
alphas = [1e-4, 1e-3, 1e-2, 1e-1]
start = time.perf_counter()
svm = tune(LinearSVMClassifierCV(losses=losses, deltas=deltas, alphas=alphas, cv=5))
middle = time.perf_counter()
grid = {"loss": losses, "delta": deltas, "alpha": alphas}
peer = grid_search(LinearSVMClassifier(), grid)  # the same, the other way
end = time.perf_counter()

results = svm["model"].cv_results_
same = np.abs(results["mean_test_score"] - peer.cv_results_["mean_test_score"]).max()
print(
    f"LinearSVMClassifierCV {middle - start:.1f} s, GridSearchCV {end - middle:.1f} s"
)
print(f"their mean scores differ by {same:.4f} at most")
scores = {
    (cell["loss"], cell["delta"], cell["alpha"]): score
    for cell, score in zip(results["params"], results["mean_test_score"], strict=True)
}
print("\nCross-validated accuracy of LinearSVMClassifier")
print(f"{'loss':>13} {'delta':>6} | alpha" + "".join(f"{a:8g}" for a in alphas))
for loss in losses:
    for delta in deltas:
        row = "".join(f"{scores[loss, delta, a]:8.4f}" for a in alphas)
        print(f"{loss:>13} {delta:6g} |      {row}")

# %%
# The table repeats itself. For the hinge, a cell equals the one below and to the left:
# ten times the margin at a tenth of the penalty is the same problem, its weights ten
# times as large. For the squared hinge the rows are all alike: the margin only sets the
# scale of the weights. In formulas, with P the objective at weights W,
#
# - hinge: P(W; alpha, delta) = delta P(W / delta; alpha delta, 1),
# - squared hinge: P(W; alpha, delta) = delta² P(W / delta; alpha, 1).
#
# So the grid holds far fewer problems than cells. Next time, leave ``delta`` at 1 and
# spend the time on a finer or wider range of ``alpha``.

distinct = {
    (loss, round(np.log10(alpha * delta if loss == "hinge" else alpha)))
    for loss, delta, alpha in scores
}
print(f"{len(scores)} cells, {len(distinct)} distinct problems")

# %%
# The other three need one knob each. :class:`~sklearn.linear_model.LogisticRegression`
# is the model of ``SoftmaxClassifier`` with the penalty written another way,
# ``C = 1 / (2 alpha n)``, so it gets the same candidates in its own terms. (``C``
# weighs a *sum* over samples: on the 4/5 of the data that cross-validation leaves, the
# same ``C`` is a stronger penalty. ``alpha`` stands beside a mean and keeps its
# meaning.)
# :class:`~sklearn.svm.LinearSVC` is another model: ten machines, each to tell one digit
# from all the others. This range of ``C`` has its best value well inside, too.

softmax_alphas = [1e-5, 1e-4, 1e-3, 1e-2, 1e-1]
Cs = [round(1 / (2 * alpha * len(X_train)), 4) for alpha in softmax_alphas]
searches = {
    "LinearSVMClassifier": svm,
    "SoftmaxClassifier": tune(
        SoftmaxClassifierCV(alphas=softmax_alphas, scoring="accuracy", cv=5)
    ),
    "LinearSVC": grid_search(LinearSVC(max_iter=10_000, random_state=0), {"C": Cs}),
    "LogisticRegression": grid_search(LogisticRegression(max_iter=1000), {"C": Cs}),
}

print(f"\n{'':19} {'accuracy':>8} {'log loss':>8} {'fit time':>8}   best parameters")
for name, search in searches.items():
    accuracy = search.score(X_test, y_test)
    entropy = "-"
    if hasattr(search, "predict_proba"):
        entropy = f"{log_loss(y_test, search.predict_proba(X_test)):.4f}"
    found = search["model"] if isinstance(search, Pipeline) else search
    best = ", ".join(
        f"{parameter.removeprefix('model__')}={value}"
        for parameter, value in found.best_params_.items()
    )
    print(f"{name:19} {accuracy:8.4f} {entropy:>8} {found.refit_time_:6.3f} s   {best}")

# %%
# One image of the test set more or less is 0.002 of accuracy, so the four are close to
# each other: take the softmax where you want probabilities; where labels will do, let
# cross-validation choose, as here. (The ``delta`` above won a draw: of equals, the
# search keeps the first.) The log losses of the two softmax models differ by a per cent
# or so, because ``LogisticRegression`` stops earlier by default; at a smaller ``tol``
# they agree.
#
# What have they learnt? A score is the sum of pixels times weights, so the weights of a
# class are themselves an image: ink on red raises its score, ink on blue lowers it. The
# model's weights are for scaled pixels; times the scaler's factor they are for pixels.


def templates(search):
    """Weights of each class in units of the pixels, (10, 8, 8)."""
    scale, model = search["scale"], search["model"]
    return (model.coef_ * scale.scale_).reshape(10, 8, 8)


means = np.stack([X_train[y_train == digit].mean(axis=0) for digit in range(10)])
fig, axes = plt.subplots(3, 10, figsize=(11, 4), layout="constrained")
for image, ax in zip(means.reshape(10, 8, 8), axes[0], strict=True):
    ax.imshow(image, cmap="gray_r")
for name, row in zip(list(searches)[:2], axes[1:], strict=True):
    images = templates(searches[name])
    limit = np.quantile(np.abs(images), 0.99)  # a few rarely inked pixels are louder
    for image, ax in zip(images, row, strict=True):
        drawn = ax.imshow(image, cmap="RdBu_r", vmin=-limit, vmax=limit)
    fig.colorbar(drawn, ax=row, label="weight", extend="both", pad=0.01)
for ax in axes.flat:
    ax.set(xticks=[], yticks=[])
for digit, ax in enumerate(axes[0]):
    ax.set_title(digit)
for name, ax in zip(["mean image", *searches], axes[:, 0], strict=False):
    ax.set_ylabel(name.replace("C", "\nC"), rotation=0, ha="right", va="center")
fig.suptitle("How ink on each pixel speaks for (red) or against (blue) a digit")
plt.savefig("plot_tune_digits.png", dpi=150)
print("\nPicture: plot_tune_digits.png")
