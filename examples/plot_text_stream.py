"""
Learning from a stream of text
==============================

``partial_fit`` learns from whatever comes next, in pieces, and needs no second look.
Here the pieces are sentences: the documentation of functions in NumPy, SciPy and
scikit-learn, as it is installed. Which of the three does a sentence come from? Every
piece is predicted *before* it is learnt (progressive validation), so that each row
tests a model that has never seen it, and nothing has to be set aside. Files come one
after the other, so that the stream drifts from topic to topic.
"""

# %%
# A stream of sentences
# ---------------------
# Docstrings are cut into sentences, from which the libraries' own names are taken: they
# would tell too much. The stream is an iterator; no one ever holds all of it.

import ast
import re
from importlib.util import find_spec
from itertools import islice
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from sklearn.feature_extraction.text import HashingVectorizer

from sklinear import LinearSVMClassifier, SoftmaxClassifier

LIBRARIES = np.array(["numpy", "scipy", "sklearn"])
NAMES = re.compile(r"\b(numpy|np|scipy|scikit-learn|sklearn)\b", re.IGNORECASE)


def docstrings(node):
    """Of a module, class or function, and of those that it defines."""
    yield ast.get_docstring(node) or ""
    for inner in node.body:
        if isinstance(inner, ast.ClassDef | ast.FunctionDef):
            yield from docstrings(inner)


def sentences(library):
    """Sentences of the docstrings of a library, file by file, in random order."""
    folder = Path(find_spec(library).origin).parent
    files = [path for path in sorted(folder.rglob("*.py")) if "tests" not in path.parts]
    for place in np.random.default_rng(0).permutation(len(files)):
        tree = ast.parse(files[place].read_text(encoding="utf-8"))
        for text in docstrings(tree):
            for sentence in re.split(r"(?<=[.:])\s+", NAMES.sub(" ", text)):
                if len(sentence.split()) > 5:
                    yield " ".join(sentence.split())


def stream():
    """Sentences and the libraries they come from, mixed at random until one ends."""
    rng = np.random.default_rng(1)
    sources = [sentences(library) for library in LIBRARIES]
    while True:
        label = rng.integers(len(LIBRARIES))
        sentence = next(sources[label], None)
        if sentence is None:
            return
        yield sentence, LIBRARIES[label]


def chunks(pairs, size=500):
    """Lists of texts and of labels, ``size`` at a time."""
    while chunk := list(islice(pairs, size)):
        texts, labels = zip(*chunk, strict=True)
        yield list(texts), np.array(labels)


# %%
# Predict, then learn
# -------------------
# ``HashingVectorizer`` has no vocabulary to learn, so it suits a stream. All classes
# are named in the first call of ``partial_fit``, as some may come late.

vectorizer = HashingVectorizer(n_features=2**16, ngram_range=(1, 2))
models = {
    "softmax": SoftmaxClassifier(alpha=1e-5),
    "squared hinge": LinearSVMClassifier(alpha=1e-5),
    "hinge": LinearSVMClassifier(loss="hinge", alpha=1e-5),
}
right = {name: [] for name in models}
for texts, labels in chunks(stream()):
    X = vectorizer.transform(texts)
    for name, model in models.items():
        if hasattr(model, "classes_"):
            right[name].extend(model.predict(X) == labels)
        model.partial_fit(X, labels, classes=LIBRARIES)

for name, hits in right.items():
    first, last = np.mean(hits[:1000]), np.mean(hits[-1000:])
    print(
        f"{name}: {len(hits)} sentences, {first:.1%} of the first 1000 right, "
        f"{last:.1%} of the last"
    )

# %%
# One's own sentences
# -------------------
# The softmax says how sure it is.

own = [
    "Return evenly spaced values within a given interval.",
    "Integrate a function of one variable from a to b.",
    "The number of samples required to split an internal node of the tree.",
]
for sentence, p in zip(
    own, models["softmax"].predict_proba(vectorizer.transform(own)), strict=True
):
    print(f"{LIBRARIES[p.argmax()]:>8} {p.max():.0%}  {sentence}")

window = 1000
fig, ax = plt.subplots(figsize=(7, 4), layout="constrained")
for name, hits in right.items():
    mean = np.convolve(hits, np.ones(window) / window, mode="valid")
    ax.plot(np.arange(window, len(hits) + 1), mean, label=name)
ax.axhline(1 / len(LIBRARIES), color="gray", ls=":", label="guessing")
ax.set(
    xlabel="sentences seen",
    ylabel="right among the last 1000, before they were learnt",
    title="Which library is a sentence from?",
)
ax.legend()
fig.savefig("text_stream.png", dpi=120)
