"""Several detectors as one: logistic regression on their measures, as the papers of KD, MU and LID combine theirs."""

import copy
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from lightning_adv.attacks.oracle import LabelOracle
from lightning_adv.detectors.detector import Detector, Evidence
from lightning_adv.errors import InputError

__all__ = ["DetectorEnsemble", "LogisticRegression"]

FEWEST = 5
"""Samples of either kind that a regression is fitted on."""


@dataclass(frozen=True)
class LogisticRegression:
    """Log odds of being adversarial, from measures [N, F] standardised on the samples it was fitted to.

    Args:
        mean, scale, weight: [F] float64.
        bias: log odds at the mean.

    Example:
        >>> regression = LogisticRegression.fit(torch.zeros(9, 1), torch.ones(9, 1))
        >>> (regression(torch.tensor([[0.0], [1.0]])) > 0).tolist()
        [False, True]
    """

    mean: Tensor
    scale: Tensor
    weight: Tensor
    bias: Tensor

    @classmethod
    def fit(cls, normal: Tensor, adversarial: Tensor, strength: float = 1.0) -> "LogisticRegression":
        """From measures of normal [N, F] and adversarial [M, F] samples; both kinds weigh the same, NaN is left out.

        Args:
            normal, adversarial: measures.
            strength: inverse of the L2 penalty.

        Raises:
            InputError: a kind without samples whose measures are finite.
        """
        from sklearn.linear_model import LogisticRegression as Peer

        whole = [kind[kind.isfinite().all(dim=1)] for kind in (normal, adversarial)]
        if not all(map(len, whole)):
            raise InputError(
                f"a regression needs normal and adversarial samples, got {len(normal)} and {len(adversarial)}, "
                f"{len(whole[0])} and {len(whole[1])} of them with finite measures; look at the model's logits for NaN"
            )
        normal, adversarial = whole
        measures = torch.cat(whole).double().cpu()
        mean, scale = measures.mean(dim=0), measures.std(dim=0, unbiased=False)
        scale = torch.where(scale > 0, scale, 1.0)
        truth = torch.arange(len(measures)) >= len(normal)
        peer = Peer(C=strength, class_weight="balanced", max_iter=1000)
        peer.fit(((measures - mean) / scale).numpy(), truth.numpy())
        weight, bias = torch.from_numpy(peer.coef_[0]), torch.tensor(float(peer.intercept_[0]), dtype=torch.float64)
        return cls(*(each.to(normal.device) for each in (mean, scale, weight, bias)))

    def __call__(self, measures: Tensor) -> Tensor:
        """[N] float64 log odds of measures [N, F]."""
        return ((measures.double() - self.mean) / self.scale) @ self.weight + self.bias


class DetectorEnsemble(Detector):
    """Weighs the measures of several detectors by logistic regression.

    ``fit`` fits the members on clean images, ``learn_weights`` the regression on normal and adversarial ones; the
    scaling is that of the samples it is fitted on. A single member with many measures (LID) is weighed in the same
    way. The score is the log odds, the threshold 0 unless calibrated.

    Args:
        detectors: the members by name.
        strength: inverse of the L2 penalty.

    Raises:
        InputError: no member.

    Example:
        >>> from lightning_adv.detectors import LabelChangeRate, ModelUncertainty
        >>> model = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(16, 3))
        >>> both = DetectorEnsemble({"mu": ModelUncertainty(passes=5), "lcr": LabelChangeRate(mutations=5)})
        >>> x = torch.rand(8, 1, 4, 4)
        >>> both.learn_weights(model, x[:4], x[4:]).score(model, x).shape
        torch.Size([8])
    """

    threshold: float | None = 0.0

    def __init__(self, detectors: dict[str, Detector], strength: float = 1.0) -> None:
        if not detectors:
            raise InputError("DetectorEnsemble needs at least one detector, got none")
        if strength <= 0:
            raise InputError(f"strength must be positive, got {strength}")
        self.detectors, self.strength = dict(detectors), strength
        self.regression: LogisticRegression | None = None

    def fit(self, model: LabelOracle, loader: Iterable) -> Self:
        """Fit every member on clean images; the loader is gone through once for each."""
        for detector in self.detectors.values():
            detector.fit(model, loader)
        return self

    def learn_weights(
        self,
        model: LabelOracle,
        normal: Tensor,
        adversarial: Tensor,
        normal_index: Tensor | None = None,
        adversarial_index: Tensor | None = None,
    ) -> Self:
        """Fit the regression on normal [N, C, H, W] and adversarial [M, C, H, W] images; returns the ensemble."""
        measures = self.measures(model, normal, index=normal_index)
        return self.weigh(measures, self.measures(model, adversarial, index=adversarial_index))

    def weigh(self, normal: Tensor, adversarial: Tensor) -> Self:
        """Fit the regression on measures [N, F] and [M, F]; returns the ensemble."""
        self.regression = LogisticRegression.fit(normal, adversarial, self.strength)
        self.threshold = 0.0
        return self

    def weighed(self, normal: Evidence, adversarial: Evidence) -> Self | None:
        """Another ensemble of the same members, weighed on these samples; None if one kind has fewer than five."""
        if min(len(normal), len(adversarial)) < FEWEST:
            return None
        return copy.copy(self).weigh(normal.measures, adversarial.measures)

    def check(self, model: LabelOracle, x: Tensor, index: Tensor) -> None:
        """Refuse what a member refuses."""
        for detector in self.detectors.values():
            detector.check(model, x, index)

    def check_labels(self, label: Tensor, classes: int) -> None:
        """Refuse what a member refuses."""
        for detector in self.detectors.values():
            detector.check_labels(label, classes)

    def measure(self, model: LabelOracle, x: Tensor, index: Tensor) -> Tensor:
        """The members' measures side by side [N, F]."""
        parts = [detector.measure(model, x, index).double() for detector in self.detectors.values()]
        return torch.cat(parts, dim=1)

    def combine(self, measures: Tensor) -> Tensor:
        """Log odds [N]."""
        return self._known_regression()(measures)

    def known_threshold(self) -> float:
        """The threshold of an ensemble that has weights."""
        self._known_regression()
        return super().known_threshold()

    def _known_regression(self) -> LogisticRegression:
        if self.regression is None:
            raise InputError("DetectorEnsemble has no weights yet: call learn_weights(model, normal, adversarial)")
        return self.regression

    def map_tensors(self, change: Callable[[Tensor], Tensor]) -> None:
        """Replace the tensors of the members and of the regression."""
        for detector in self.detectors.values():
            detector.map_tensors(change)
        if self.regression is not None:
            parts = (self.regression.mean, self.regression.scale, self.regression.weight, self.regression.bias)
            self.regression = LogisticRegression(*(change(each).double() for each in parts))
