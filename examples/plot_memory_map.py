"""
A file larger than memory
=========================

``fit`` takes a ``numpy.memmap`` as it takes an array, and reads the file a block of
rows at a time. Here a file of 40 MB of images is written first, digits of
scikit-learn that were enlarged, moved about and made noisy. The fit is exact and ends
with the same proof as in memory. What it takes of memory soon stops growing with the
file, but for labels and weights: a few numbers a row.
"""

# %%
# A file of images
# ----------------
# 8 x 8 pixels become 16 x 16 in a frame of 20 x 20, somewhere in it, under noise.

import tempfile
import tracemalloc
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

from sklinear import SoftmaxClassifier

SIDE, ROWS, CHUNK = 20, 100_000, 10_000
digits = load_digits()
large = np.kron(digits.images, np.ones((2, 2)))  # (1797, 16, 16)
rng = np.random.default_rng(0)


def write_images(path):
    """Write the file; returns the digits that are on the images."""
    labels = np.empty(ROWS, dtype=int)
    images = np.memmap(path, np.uint8, "w+", shape=(ROWS, SIDE * SIDE))
    for start in range(0, ROWS, CHUNK):
        which = rng.integers(len(large), size=CHUNK)
        canvas = rng.integers(60, size=(CHUNK, SIDE, SIDE), dtype=np.uint8)
        for place, (down, right) in enumerate(np.ndindex(3, 3)):
            some = slice(place, None, 9)
            here = canvas[some, down : down + 16, right : right + 16]
            here += (10 * large[which[some]]).astype(np.uint8)
        images[start : start + CHUNK] = canvas.reshape(CHUNK, -1)
        labels[start : start + CHUNK] = digits.target[which]
    return labels


folder = tempfile.TemporaryDirectory()
path = Path(folder.name) / "images.u1"
y = write_images(path)
X = np.memmap(path, np.uint8, "r", shape=(ROWS, SIDE * SIDE))

# %%
# The fit, and a prediction for other rows
# ----------------------------------------
# A slice of a map is a map: nine tenths of the file are learnt, the last tenth is for
# testing. ``tol=0.01`` proves the objective to one per cent. Python's own count of
# memory shows what fit and prediction take at most.

n_train = 9 * ROWS // 10
tracemalloc.start()
model = SoftmaxClassifier(alpha=1.0, tol=0.01).fit(X[:n_train], y[:n_train])
score = model.score(X[n_train:], y[n_train:])
peak = tracemalloc.get_traced_memory()[1] / 1e6
tracemalloc.stop()
print(f"file: {X.nbytes / 1e6:.0f} MB, as float64: {8 * X.nbytes / 1e6:.0f} MB")
print(f"memory taken at most: {peak:.0f} MB")
print(f"within {model.dual_gap_:.1e} of the optimum, {score:.1%} right")

# %%
# How many rows are enough?
# -------------------------

sizes, scores = [300, 1_000, 3_000, 10_000, 30_000, n_train], []
for size in sizes[:-1]:
    part = SoftmaxClassifier(alpha=1.0, tol=0.01).fit(X[:size], y[:size])
    scores.append(part.score(X[n_train:], y[n_train:]))
scores.append(score)
for size, each in zip(sizes, scores, strict=True):
    print(f"{size:7} rows: {each:.1%} of the test rows right")

fig = plt.figure(figsize=(10, 4), layout="constrained")
left, right_side = fig.subfigures(1, 2, width_ratios=(1, 1.1))
for j, ax in enumerate(left.subplots(4, 5).ravel()):
    if j < 10:
        ax.imshow(X[np.flatnonzero(y == j)[0]].reshape(SIDE, SIDE), cmap="gray_r")
    else:
        weights = model.coef_[j - 10].reshape(SIDE, SIDE)
        most = np.abs(model.coef_).max()
        ax.imshow(weights, cmap="RdBu_r", vmin=-most, vmax=most)
    ax.set_axis_off()
left.suptitle("rows of the file, and what was learnt of them")
ax = right_side.subplots()
ax.semilogx(sizes, scores, "o-")
ax.set(xlabel="rows of the file that were learnt", ylabel="accuracy on other rows")
ax.grid(alpha=0.3)
fig.savefig("memory_map.png", dpi=120)
del X
folder.cleanup()
