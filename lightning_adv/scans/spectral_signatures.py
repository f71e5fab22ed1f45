"""Spectral signatures (Tran, Li, Madry, Spectral Signatures in Backdoor Attacks, 2018).

score(x) = ((f(x) - mean) . v)^2 / mean |f - mean|^2,   v the direction of largest variance of the features of a class

A trigger moves the features of the images that carry it in one direction, which then is that of largest variance. The
paper's score has no divisor; it makes scores of several classes comparable.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from lightning_adv.errors import InputError
from lightning_adv.scans.halves import principal
from lightning_adv.scans.scan import ClassFinding, FeatureScan, far_above

__all__ = ["SpectralSignatures"]

SMALLEST = 1e-30


class SpectralSignatures(FeatureScan[None]):
    """Suspects the images of a class that lie farthest along the direction of its largest variance (Tran et al., 2018).

    The paper removes 1.5 times the rate of poisoned images, which a defender does not know: a fixed share of every
    class is removed here, poisoned or not. The verdict on a class compares the share of the variance that lies in its
    direction with that of the other classes.

    Args:
        share: of the images of every class that are suspects, those of highest score.
        threshold: of the class's distance from the median of all, in units of 1.4826 MAD.
        layer: a name as in ``model.named_modules()``; None for the last hidden layer, the input of the last linear one.

    Raises:
        InputError: a share outside (0, 1), a threshold that is not above 0.

    Example:
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
        >>> images, label = 0.1 * torch.rand(40, 1, 2, 2), torch.arange(40) % 2
        >>> images[:4:2] += 0.8
        >>> report = SpectralSignatures(share=0.1)(model, [(images, label)])
        >>> report.suspects[report.label[report.suspect] == 0].tolist()
        [0, 2]
    """

    statistic = "share of the variance in one direction"
    in_flagged_classes = False

    def __init__(self, share: float = 0.15, threshold: float = math.e**2, layer: str | None = None) -> None:
        super().__init__(layer)
        if not 0 < share < 1 or threshold <= 0:
            raise InputError(
                f"SpectralSignatures: share must lie in (0, 1) and threshold above 0, got {share} and {threshold}"
            )
        self.share, self.threshold = share, threshold

    def split(self, measures: Tensor) -> ClassFinding:
        """Scores, and the share of the images where they are highest."""
        along, variances = principal(measures, 1)
        total = float(variances.sum())
        score = along[:, 0].square() / max(total, SMALLEST)
        suspect = torch.zeros(len(score), dtype=torch.bool)
        removed = math.ceil(self.share * len(score))
        suspect[torch.sort(score, descending=True, stable=True).indices[:removed]] = True
        return ClassFinding(score, suspect, float(variances[0]) / max(total, SMALLEST))

    def verdicts(self, findings: Sequence[ClassFinding]) -> list[bool | None]:
        """By the distance from the median of the classes."""
        return far_above(findings, self.threshold)
