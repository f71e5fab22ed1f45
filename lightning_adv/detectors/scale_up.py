"""SCALE-UP (Guo et al., 2023): a black-box detector of triggered inputs that multiplies their pixels.

    score(x) = share of n in {3, 5, 7, 9, 11} with   argmax f(clip(n x, 0, 1)) = argmax f(x)

A trigger decides the class however bright the image is; clean images lose theirs.
"""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from lightning_adv.asking import NO_CLASS
from lightning_adv.attacks.oracle import LabelOracle, predicted_labels, settled_labels
from lightning_adv.detectors.detector import Detector, LabelledImages
from lightning_adv.errors import InputError

__all__ = ["ScaleUp"]


class ScaleUp(Detector):
    """Tells inputs with a backdoor's trigger: their label survives multiplied pixels. It asks for labels alone.

    The paper's threshold is a share of .5, and needs no data. With ``normalise`` the share of an image is measured by
    the mean and the deviation of the clean images of its predicted class, whose pixels some classes survive by nature;
    the score is then in deviations, to which that threshold does not belong: it is calibrated.

    Args:
        scales: n, factors of the pixels.
        normalise: learn means and deviations from the clean images of ``fit`` that the model gets right.

    Raises:
        InputError: no factor, or one that is not above 1.

    Example:
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
        >>> ScaleUp().decide(model, torch.rand(2, 1, 2, 2)).suspicious.shape
        torch.Size([2])
    """

    threshold = 0.5

    def __init__(self, scales: Sequence[float] = (3, 5, 7, 9, 11), normalise: bool = False) -> None:
        if not scales or min(scales) <= 1:
            raise InputError(f"scales of ScaleUp must be factors above 1, got {list(scales)}")
        self.scales, self.normalise = tuple(scales), normalise
        self.centre: Tensor | None = None  # [K + 1] mean share of each class; the last entry is that of all
        self.spread: Tensor | None = None
        if normalise:
            self.threshold = None

    def learn(self, model: LabelOracle, batches: Iterable[LabelledImages]) -> None:
        """Mean and deviation of the clean images' shares by class; nothing without ``normalise``."""
        if not self.normalise:
            return
        shares, labels = [], []
        for batch in batches:
            right = settled_labels(model, batch.image) == batch.label
            if right.any():
                shares.append(self._shares(model, batch.image[right])[0])
                labels.append(batch.label[right])
        if not shares:
            raise InputError("ScaleUp learns from clean images that the model classifies correctly, and found none")
        share, label = torch.cat(shares), torch.cat(labels)
        groups = [share[label == k] for k in range(int(label.max()) + 1)]
        known = [each if len(each) > 1 else share for each in (*groups, share)]
        self.centre = torch.stack([each.mean() for each in known])
        # Shares come in steps: images of a class that all have the same are not infinitely far from any other.
        self.spread = torch.stack([each.std(unbiased=False) for each in known]).clamp(min=1 / len(self.scales))

    def check(self, model: LabelOracle, x: Tensor, index: Tensor) -> None:
        """Refuse a model that answers with neither labels nor logits."""
        predicted_labels(model, x)

    def measure(self, model: LabelOracle, x: Tensor, index: Tensor) -> Tensor:
        """Share of the scaled images that keep the label [N, 1], or its distance from the clean ones'."""
        share, said = self._shares(model, x)
        if not self.normalise:
            return share[:, None]
        if self.centre is None:
            raise InputError("ScaleUp has no clean images to normalise by yet: call fit(model, loader) first")
        others = len(self.centre) - 1
        row = torch.where((said >= 0) & (said < others), said, others)
        return ((share - self.centre[row]) / self.spread[row])[:, None]

    def _shares(self, model: LabelOracle, x: Tensor) -> tuple[Tensor, Tensor]:
        """Share of the scaled images that keep the label [N], NaN of an image that has none, and the labels [N]."""
        said = predicted_labels(model, x)
        kept = torch.stack([predicted_labels(model, (n * x).clamp(0, 1)) == said for n in self.scales])
        return torch.where(said == NO_CLASS, torch.nan, kept.float().mean(dim=0)), said
