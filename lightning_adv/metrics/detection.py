"""How well a score tells adversarial samples from normal ones."""

import math
from statistics import NormalDist

import torch
from torch import Tensor
from torchmetrics.functional.classification import binary_auroc, binary_roc

__all__ = ["auroc", "auroc_interval", "roc_points"]


def auroc(normal: Tensor, adversarial: Tensor) -> float:
    """Probability that an adversarial score [M] exceeds a normal one [N], ties counted half."""
    return float(binary_auroc(*_ranked(normal, adversarial)))


def roc_points(normal: Tensor, adversarial: Tensor, points: int = 101) -> list[tuple[float, float]]:
    """The ROC curve as (false positive rate, true positive rate), at most ``points`` of its corners."""
    false, true, _ = binary_roc(*_ranked(normal, adversarial))
    # Steps of either rate may be large: keep corners evenly along the curve's length.
    length = torch.cat([false[:1] * 0, (false.diff().abs() + true.diff().abs()).cumsum(0)])
    at = torch.searchsorted(length, torch.linspace(0, float(length[-1]), points)).clamp_max(len(length) - 1).unique()
    return list(zip(false[at].tolist(), true[at].tolist(), strict=True))


def auroc_interval(area: float, normal: int, adversarial: int, confidence: float = 0.95) -> tuple[float, float]:
    """Interval of an AUROC from the numbers of samples (Hanley and McNeil, 1982).

    Example:
        >>> low, high = auroc_interval(0.9, 100, 100)
        >>> f"{low:.3f} {high:.3f}"
        '0.856 0.944'
    """
    q1, q2 = area / (2 - area), 2 * area**2 / (1 + area)
    variance = area * (1 - area) + (adversarial - 1) * (q1 - area**2) + (normal - 1) * (q2 - area**2)
    spread = NormalDist().inv_cdf((1 + confidence) / 2) * math.sqrt(max(variance, 0) / (normal * adversarial))
    return max(0.0, area - spread), min(1.0, area + spread)


def _ranked(normal: Tensor, adversarial: Tensor) -> tuple[Tensor, Tensor]:
    """Scores as ranks in [0, 1] (torchmetrics squashes what lies outside, which would make ties), and the truth."""
    ranks = torch.cat([normal, adversarial]).double().unique(return_inverse=True)[1]
    truth = (torch.arange(len(ranks), device=ranks.device) >= len(normal)).long()
    return ranks.double() / max(int(ranks.max()), 1), truth
