"""What a scan of training images leaves: a score for every image, the suspects, a verdict for every class."""

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["ScanReport", "ScannedClass"]


@dataclass(frozen=True)
class ScannedClass:
    """The images of one label.

    Args:
        label: as the images are labelled, poisoned ones included.
        images: how many were scanned.
        suspects: of them.
        statistic: what the scan measures of a class; NaN of a class with too few images to split.
        flagged: whether the class is said to hold poisoned images; None without a verdict.

    Example:
        >>> ScannedClass(label=2, images=500, suspects=40, statistic=0.6, flagged=True).suspects
        40
    """

    label: int
    images: int
    suspects: int
    statistic: float
    flagged: bool | None


@dataclass(frozen=True)
class ScanReport:
    """Scores of N training images, by their numbers in their source, in ascending order.

    Args:
        scan: its class and settings in one line.
        index: int64 [N], the images' numbers.
        label: int64 [N], what they are labelled as.
        score: float32 [N], the higher the more suspicious, over all classes.
        suspect: bool [N], images that the scan would remove.
        classes: one a label that occurs, ascending.
        statistic: what is measured of a class, in words.
        warnings: what a reader must know.

    Example:
        >>> from lightning_adv.scans import SpectralSignatures
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
        >>> report = SpectralSignatures(share=0.1)(model, [(torch.rand(20, 1, 2, 2), torch.arange(20) % 2)])
        >>> len(report.index), report.suspects.tolist() == report.index[report.suspect].tolist()
        (20, True)
    """

    scan: str
    index: Tensor
    label: Tensor
    score: Tensor
    suspect: Tensor
    classes: tuple[ScannedClass, ...]
    statistic: str = "statistic"
    warnings: tuple[str, ...] = ()

    @property
    def suspects(self) -> Tensor:
        """Numbers of the images that the scan would remove, ascending."""
        return self.index[self.suspect]

    @property
    def flagged(self) -> list[int] | None:
        """Labels of the classes said to hold poisoned images; None without a verdict on any."""
        judged = [each for each in self.classes if each.flagged is not None]
        return [each.label for each in judged if each.flagged] if judged else None

    def worst(self, count: int) -> Tensor:
        """Positions of the images of highest score, that first; of equal ones the lower number."""
        return torch.sort(self.score, descending=True, stable=True).indices[:count]
