"""Linear victims, with twins that are one linear layer."""

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from lightning_adv.errors import InputError
from lightning_adv.victims.victim import UNSEEN, Victim

if TYPE_CHECKING:
    from sklearn.base import ClassifierMixin

__all__ = ["LinearSVMVictim", "LogisticRegressionVictim"]


class _Linear(Victim):
    """Scores of the classes are one affine function of the pixels."""

    def __init__(self, regularization: float = 1.0, steps: int = 100, seed: int = 0) -> None:
        super().__init__(seed)
        if regularization <= 0 or steps < 1:
            raise InputError(f"regularization must be positive and steps at least 1, got {regularization} and {steps}")
        self.regularization, self.steps = regularization, steps

    def twin(self) -> nn.Sequential:
        """``Flatten`` and one ``Linear`` layer with the victim's coefficients, float32."""
        fitted = self.learnt()
        weight, bias = fitted.coef_, fitted.intercept_
        if len(weight) == 1:  # two classes share one hyperplane
            weight, bias = np.concatenate([-weight, weight]), np.concatenate([-bias, bias])
        layer = nn.utils.skip_init(nn.Linear, weight.shape[1], self.num_classes)
        with torch.no_grad():
            layer.weight.zero_()
            layer.bias.fill_(UNSEEN)
            layer.weight[fitted.classes_] = torch.from_numpy(weight).float()
            layer.bias[fitted.classes_] = torch.from_numpy(bias).float()
        return nn.Sequential(nn.Flatten(), layer).eval()

    def _scores(self, fitted: "ClassifierMixin", rows: np.ndarray) -> np.ndarray:
        scores = fitted.decision_function(rows)
        return np.stack([-scores, scores], axis=1) if scores.ndim == 1 else scores


class LogisticRegressionVictim(_Linear):
    """Multinomial logistic regression; :meth:`twin` has its gradients.

    Args:
        regularization: C of scikit-learn, the inverse strength of the L2 penalty.
        steps: of L-BFGS, at most.
        seed: unused by the fit, which is deterministic.

    Raises:
        InputError: a number that is not positive.

    Example:
        >>> x, y = torch.rand(20, 1, 4, 4), torch.arange(20) % 3
        >>> victim = LogisticRegressionVictim().fit(x, y)
        >>> torch.allclose(victim(x), victim.twin()(x), atol=1e-4)
        True
    """

    def estimator(self) -> "ClassifierMixin":
        """scikit-learn's ``LogisticRegression``."""
        from sklearn.linear_model import LogisticRegression

        return LogisticRegression(C=self.regularization, max_iter=self.steps)


class LinearSVMVictim(_Linear):
    """One-against-rest linear support vector machines; :meth:`twin` has their gradients.

    Args:
        regularization: C of scikit-learn, the inverse strength of the L2 penalty.
        steps: of liblinear, at most.
        seed: of liblinear's order of coordinates.

    Raises:
        InputError: a number that is not positive.

    Example:
        >>> x, y = torch.rand(20, 1, 4, 4), torch.arange(20) % 3
        >>> victim = LinearSVMVictim().fit(x, y)
        >>> torch.allclose(victim(x), victim.twin()(x), atol=1e-4)
        True
    """

    def __init__(self, regularization: float = 0.01, steps: int = 200, seed: int = 0) -> None:
        super().__init__(regularization, steps, seed)

    def estimator(self) -> "ClassifierMixin":
        """scikit-learn's ``LinearSVC``."""
        from sklearn.svm import LinearSVC

        return LinearSVC(C=self.regularization, max_iter=self.steps, random_state=self.seed)
