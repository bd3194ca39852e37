"""Multiclass linear classifiers for scikit-learn users: exact, certified, unscaled."""

from sklinear import losses, reference
from sklinear._classifiers import LinearSVMClassifier, SoftmaxClassifier
from sklinear._display import ValidationPathDisplay
from sklinear._search import LinearSVMClassifierCV, SoftmaxClassifierCV

__all__ = [
    "LinearSVMClassifier",
    "LinearSVMClassifierCV",
    "SoftmaxClassifier",
    "SoftmaxClassifierCV",
    "ValidationPathDisplay",
    "losses",
    "reference",
]
__version__ = "0.1.0.dev0"
