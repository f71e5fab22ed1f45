"""Activation clustering (Chen et al., Detecting Backdoor Attacks on Neural Networks by Activation Clustering, 2018).

Images that a trigger leads to a class come there by other features than the images that belong there. The features of
each class, reduced to a few dimensions, fall in two clusters, which lie apart where the class is poisoned.

    score(x) = s (d_1 - d_2) / (d_1 + d_2),   d_1, d_2 = |f(x) - centre| of the larger and the smaller cluster,
                                              s = mean silhouette of the two clusters of the class
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from lightning_adv.errors import InputError, at_least_one
from lightning_adv.scans.halves import principal, silhouette, two_means
from lightning_adv.scans.scan import ClassFinding, FeatureScan

__all__ = ["ActivationClustering"]


class ActivationClustering(FeatureScan):
    """Suspects the smaller of two clusters of a class, where they lie apart (Chen et al., 2018).

    Where more than half of the images of a class are poisoned, the smaller cluster is that of the clean ones.

    Args:
        silhouette: a class is flagged if the mean silhouette of its clusters is above.
        largest_share: and if the smaller cluster is at most this share of the class; 0.5 asks nothing, 0.35 is usual.
        dimensions: to which features are reduced, along the directions of largest variance.
        layer: see ``FeatureScan``.

    Raises:
        InputError: numbers out of range.

    Example:
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
        >>> images, label = 0.1 * torch.rand(40, 1, 2, 2), torch.arange(40) % 2
        >>> images[:8:2] += 0.8
        >>> report = ActivationClustering(silhouette=0.5)(model, [(images, label)])
        >>> report.flagged, report.suspects.tolist()
        ([0], [0, 2, 4, 6])
    """

    statistic = "silhouette"

    def __init__(
        self,
        silhouette: float = 0.15,
        largest_share: float = 0.5,
        dimensions: int = 10,
        layer: str | None = None,
    ) -> None:
        super().__init__(layer)
        at_least_one(dimensions=dimensions)
        if not -1 <= silhouette < 1 or not 0 < largest_share <= 0.5:
            raise InputError(
                "ActivationClustering: silhouette must lie in [-1, 1) and largest_share in (0, 0.5], got "
                f"{silhouette} and {largest_share}"
            )
        self.silhouette, self.largest_share, self.dimensions = silhouette, largest_share, dimensions

    def split(self, measures: Tensor) -> ClassFinding:
        """Two clusters, and how far an image is on the side of the smaller one."""
        points, _ = principal(measures, self.dimensions)
        second = two_means(points)
        apart = silhouette(points, second)
        if not second.any():
            return ClassFinding(torch.zeros(len(points)), second, apart)
        first, other = ((points - points[part].mean(dim=0)).norm(dim=1) for part in (~second, second))
        side = (first - other) / (first + other).clamp(min=torch.finfo(points.dtype).tiny)
        return ClassFinding(apart * side, second, apart)

    def verdicts(self, findings: Sequence[ClassFinding]) -> list[bool]:
        """By the silhouette and the size of the smaller cluster."""
        return [
            each.statistic > self.silhouette and 0 < float(each.suspect.double().mean()) <= self.largest_share
            for each in findings
        ]
