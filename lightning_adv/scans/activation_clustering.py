"""Activation clustering (Chen et al., Detecting Backdoor Attacks on Neural Networks by Activation Clustering, 2018).

Images that a trigger leads to a class come there by other features than the images that belong there. The features of
each class, reduced to a few independent dimensions, fall in two clusters: halves where the class is clean, a small one
and a large one where a part of it is poisoned.

    score(x) = (1 - 2 s) (d_1 - d_2) / (d_1 + d_2),   d_1, d_2 = |f(x) - centre| of the larger and the smaller cluster,
                                                      s = share of the smaller one

The paper reduces by ICA, which is principal directions brought to one variance and turned; clusters do not depend on
the turn, so there is none here.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from lightning_adv.errors import InputError, at_least_one
from lightning_adv.scans.halves import principal, silhouette, two_means
from lightning_adv.scans.scan import ClassFinding, FeatureScan

__all__ = ["ActivationClustering"]

IMAGES_A_DIMENSION = 5
SMALLEST = 1e-9
"""Variance, over the largest, of a direction that is none."""


class ActivationClustering(FeatureScan[None]):
    """Suspects the smaller of two clusters of a class, if it is small enough (Chen et al., 2018).

    Where half of the images of a class or more are poisoned, this sees nothing: the clusters are then halves too, or
    the smaller one is that of the clean images.

    Args:
        largest_share: a class is flagged if the smaller cluster is at most this share of it, in (0, 0.5].
        silhouette: and if the mean silhouette of the clusters is above; 0 asks nothing, the paper has 0.1 to 0.15.
        dimensions: to which features are reduced, along the directions of largest variance; fewer where a class has
            fewer than five images for each.
        layer: a name as in ``model.named_modules()``; None for the last hidden layer, the input of the last linear one.

    Raises:
        InputError: numbers out of range.

    Example:
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
        >>> images, label = 0.1 * torch.rand(40, 1, 2, 2), torch.arange(40) % 2
        >>> images[:8:2] += 0.8
        >>> report = ActivationClustering(largest_share=0.25)(model, [(images, label)])
        >>> report.flagged, report.suspects.tolist()
        ([0], [0, 2, 4, 6])
    """

    statistic = "silhouette"

    def __init__(
        self,
        largest_share: float = 0.35,
        silhouette: float = 0.0,
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
        # Few points of one variance in many directions are all equally far apart: any two halves would do.
        dimensions = max(1, min(self.dimensions, len(measures) // IMAGES_A_DIMENSION))
        points, variances = principal(measures, dimensions)
        seen = variances[:dimensions] > SMALLEST * variances[0]
        points = points[:, seen] / variances[:dimensions][seen].sqrt()
        second = two_means(points)
        apart = silhouette(points, second)
        if not second.any():
            return ClassFinding(torch.zeros(len(points)), second, apart)
        first, other = ((points - points[part].mean(dim=0)).norm(dim=1) for part in (~second, second))
        side = (first - other) / (first + other).clamp(min=torch.finfo(points.dtype).tiny)
        return ClassFinding((1 - 2 * second.double().mean()) * side, second, apart)

    def verdicts(self, findings: Sequence[ClassFinding]) -> list[bool]:
        """By the silhouette and the size of the smaller cluster."""
        return [
            each.statistic > self.silhouette and 0 < float(each.suspect.double().mean()) <= self.largest_share
            for each in findings
        ]
