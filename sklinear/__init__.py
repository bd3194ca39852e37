"""Multiclass linear classifiers for scikit-learn users: exact, certified, unscaled."""

from sklinear import losses, reference
from sklinear._classifiers import LinearSVMClassifier, SoftmaxClassifier

__all__ = ["LinearSVMClassifier", "SoftmaxClassifier", "losses", "reference"]
__version__ = "0.1.0.dev0"
