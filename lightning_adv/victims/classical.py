"""Victims without a differentiable twin: kernels, trees and their ensembles."""

from typing import TYPE_CHECKING

import numpy as np

from lightning_adv.errors import InputError
from lightning_adv.victims.victim import Victim

if TYPE_CHECKING:
    from sklearn.base import ClassifierMixin

__all__ = ["DecisionTreeVictim", "GradientBoostingVictim", "RBFSVMVictim", "RandomForestVictim"]


class RBFSVMVictim(Victim):
    """Support vector machine with a Gaussian kernel.

    Args:
        regularization: C of scikit-learn.
        width: gamma of the kernel exp(-gamma ||x - z||^2); None is scikit-learn's ``scale``.
        seed: unused by the fit, which is deterministic.

    Raises:
        InputError: a number that is not positive.

    Example:
        >>> x, y = torch.rand(20, 1, 4, 4), torch.arange(20) % 3
        >>> RBFSVMVictim().fit(x, y)(x).shape
        torch.Size([20, 3])
    """

    def __init__(self, regularization: float = 5.0, width: float | None = None, seed: int = 0) -> None:
        super().__init__(seed)
        if regularization <= 0 or (width is not None and width <= 0):
            raise InputError(f"regularization and width must be positive, got {regularization} and {width}")
        self.regularization, self.width = regularization, width

    def estimator(self) -> "ClassifierMixin":
        """scikit-learn's ``SVC``, which predicts the class of highest score."""
        from sklearn.svm import SVC

        return SVC(C=self.regularization, gamma="scale" if self.width is None else self.width, break_ties=True)

    def _scores(self, fitted: "ClassifierMixin", rows: np.ndarray) -> np.ndarray:
        scores = fitted.decision_function(rows)
        return np.stack([-scores, scores], axis=1) if scores.ndim == 1 else scores


class DecisionTreeVictim(Victim):
    """A CART decision tree; ``DecisionTreeAttack`` walks it.

    Args:
        depth: at most; None grows until the leaves are pure.
        seed: of the order in which equal splits are tried.

    Raises:
        InputError: a depth below 1.

    Example:
        >>> x, y = torch.rand(20, 1, 4, 4), torch.arange(20) % 3
        >>> DecisionTreeVictim(depth=2).fit(x, y)(x).shape
        torch.Size([20, 3])
    """

    def __init__(self, depth: int | None = None, seed: int = 0) -> None:
        super().__init__(seed)
        if depth is not None and depth < 1:
            raise InputError(f"depth must be at least 1, got {depth}")
        self.depth = depth

    def estimator(self) -> "ClassifierMixin":
        """scikit-learn's ``DecisionTreeClassifier``."""
        from sklearn.tree import DecisionTreeClassifier

        return DecisionTreeClassifier(max_depth=self.depth, random_state=self.seed)


class RandomForestVictim(Victim):
    """Breiman's random forest.

    Args:
        trees: their number.
        depth: of each, at most; None grows until the leaves are pure.
        seed: of the bootstrap and of the features tried.

    Raises:
        InputError: a number below 1.

    Example:
        >>> x, y = torch.rand(20, 1, 4, 4), torch.arange(20) % 3
        >>> RandomForestVictim(trees=5).fit(x, y)(x).shape
        torch.Size([20, 3])
    """

    def __init__(self, trees: int = 100, depth: int | None = None, seed: int = 0) -> None:
        super().__init__(seed)
        if trees < 1 or (depth is not None and depth < 1):
            raise InputError(f"trees and depth must be at least 1, got {trees} and {depth}")
        self.trees, self.depth = trees, depth

    def estimator(self) -> "ClassifierMixin":
        """scikit-learn's ``RandomForestClassifier``."""
        from sklearn.ensemble import RandomForestClassifier

        return RandomForestClassifier(self.trees, max_depth=self.depth, random_state=self.seed)


class GradientBoostingVictim(Victim):
    """Histogram gradient boosting of trees.

    Args:
        rounds: trees for each class.
        step_size: shrinkage of each tree.
        seed: of the fit.

    Raises:
        InputError: rounds below 1, a step that is not positive.

    Example:
        >>> x, y = torch.rand(60, 1, 2, 2), torch.arange(60) % 3
        >>> GradientBoostingVictim(rounds=2).fit(x, y)(x).shape
        torch.Size([60, 3])
    """

    def __init__(self, rounds: int = 50, step_size: float = 0.1, seed: int = 0) -> None:
        super().__init__(seed)
        if rounds < 1 or step_size <= 0:
            raise InputError(f"rounds must be at least 1 and step_size positive, got {rounds} and {step_size}")
        self.rounds, self.step_size = rounds, step_size

    def estimator(self) -> "ClassifierMixin":
        """scikit-learn's ``HistGradientBoostingClassifier``."""
        from sklearn.ensemble import HistGradientBoostingClassifier

        return HistGradientBoostingClassifier(
            max_iter=self.rounds, learning_rate=self.step_size, early_stopping=False, random_state=self.seed
        )
