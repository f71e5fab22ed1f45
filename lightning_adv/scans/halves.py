"""Principal directions of the features of a class, and its two clusters; nothing here draws a random number."""

import torch
from torch import Tensor

__all__ = ["principal", "silhouette", "two_means"]

ROUNDS = 100
ROUNDING = 1e-5
PIECE = 1024
"""Rows of distances held at once."""


def principal(features: Tensor, dimensions: int) -> tuple[Tensor, Tensor]:
    """Coordinates [n, q] of features [n, D] along the directions of largest variance, and all their variances.

    Example:
        >>> along, variances = principal(torch.tensor([[0.0, 1], [0, 3], [1, 2], [-1, 2]]).double(), 1)
        >>> along.abs().flatten().tolist(), variances.tolist()
        ([1.0, 1.0, 0.0, 0.0], [0.5, 0.5])
    """
    centred = features - features.mean(dim=0)
    tall = len(centred) >= centred.shape[1]
    values, vectors = torch.linalg.eigh(centred.T @ centred if tall else centred @ centred.T)
    values, vectors = values.flip(0).clamp(min=0), vectors.flip(1)[:, :dimensions]
    coordinates = centred @ vectors if tall else vectors * values[:dimensions].sqrt()
    return coordinates, values / len(centred)


def two_means(points: Tensor) -> Tensor:
    """Which of points [n, q] are in the smaller of two clusters, bool [n].

    Lloyd's algorithm from as many starts as there are dimensions, each a cut through the mean; the closest clusters are
    taken.

    Example:
        >>> two_means(torch.tensor([[0.0], [0.1], [0.2], [5.0]])).tolist()
        [False, False, False, True]
    """
    best, least = torch.zeros(len(points), dtype=torch.bool), torch.inf
    for start in (points > points.mean(dim=0)).T:
        second, inertia = start, torch.inf
        for _ in range(ROUNDS):
            if not second.any() or second.all():
                inertia = torch.inf
                break
            distances = torch.stack([(points - points[part].mean(dim=0)).norm(dim=1) for part in (~second, second)])
            inertia, before = float(distances.amin(dim=0).square().sum()), second
            second = distances[1] < distances[0]
            if torch.equal(before, second):
                break
        if inertia < least * (1 - ROUNDING):  # of equal ones the first, whatever the last bits say
            best, least = second, inertia
    return best if 2 * int(best.sum()) <= len(best) else ~best


def silhouette(points: Tensor, second: Tensor) -> float:
    """Mean silhouette of two clusters of points [n, q] (Rousseeuw, 1987): 1 where they are far apart, 0 where not.

    Example:
        >>> round(silhouette(torch.tensor([[0.0], [0.0], [9.0], [9.0]]), torch.tensor([False, False, True, True])), 3)
        1.0
    """
    if not second.any() or second.all():
        return 0.0
    total = 0.0
    sizes = torch.stack([(~second).sum(), second.sum()]).double()
    for rows, own in zip(points.split(PIECE), second.split(PIECE), strict=True):
        distances = torch.cdist(rows, points, compute_mode="donot_use_mm_for_euclid_dist")
        sums = torch.stack([distances[:, ~second].sum(dim=1), distances[:, second].sum(dim=1)], dim=1)
        inside = sums.gather(1, own.long()[:, None])[:, 0] / (sizes[own.long()] - 1).clamp(min=1)
        other = sums.gather(1, (~own).long()[:, None])[:, 0] / sizes[(~own).long()]
        values = (other - inside) / torch.maximum(other, inside).clamp(min=torch.finfo(points.dtype).tiny)
        total += float(torch.where(sizes[own.long()] > 1, values, 0).sum())
    return total / len(points)
