"""SCAn, the statistical contamination analyzer (Tang et al., Demon in the Variant, 2021).

Features are those of the class and those of the image, f = mu + u + e with u ~ N(0, S_u), e ~ N(0, S_e). EM on clean
images estimates both covariances; S_e is one for all classes, so few images of each suffice:

    u_i = S_u (S_u + S_e / n_i)^-1 (mean_i - mu),   C_i = S_u - S_u (S_u + S_e / n_i)^-1 S_u
    S_u = mean_i (u_i u_i' + C_i),                  S_e = mean_ij (e_ij e_ij' + C_i),   e_ij = f_ij - mu - u_i

A class of one group or of two, with centres m or m_1, m_2 (log likelihood ratio of an image, in lengths under S_e^-1):

    J = 1/n sum_i |f_i - m|^2 - min(|f_i - m_1|^2, |f_i - m_2|^2),    score(x) = |f - m_1|^2 - |f - m_2|^2
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lightning_adv.asking import check_labels
from lightning_adv.detectors import LabelledImages
from lightning_adv.detectors.features import activations
from lightning_adv.errors import InputError
from lightning_adv.scans.halves import principal, two_means
from lightning_adv.scans.scan import ClassFinding, FeatureScan, far_above

__all__ = ["SCAn"]

ROUNDS = 5
"""Of EM, which hardly moves after two."""

DIRECTIONS = 10
"""Of largest variance, in which the two groups are looked for."""


@dataclass(frozen=True)
class _Clean:
    """What clean images tell.

    Args:
        unit: [D, D], by which features are multiplied to have lengths under S_e^-1.
        means: [K, D], of each class, so multiplied; NaN without clean images.
    """

    unit: Tensor
    means: Tensor


class SCAn(FeatureScan[_Clean]):
    """Suspects one of two groups of a class that two explain far better than one (Tang et al., 2021).

    Needs clean images: a few of each class, which tell how images of a class differ. The group that is farther from the
    clean images of the class is the suspect, also where it is the larger one; the smaller one is where there are none.

    Args:
        threshold: of the class's distance from the median of all, in units of 1.4826 MAD.
        ridge: share of the mean variance that is added to every variance; few images leave directions without any.
        layer: a name as in ``model.named_modules()``; None for the last hidden layer, the input of the last linear one.

    Raises:
        InputError: a threshold that is not above 0, a negative ridge; no clean images, fewer than two classes of them.

    Example:
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 6))
        >>> images, label = 0.1 * torch.rand(60, 1, 2, 2), torch.arange(60) % 6
        >>> clean = [(images[30:], label[30:])]
        >>> images[0:12:6] += 0.8
        >>> SCAn()(model, [(images[:30], label[:30])], clean).suspects.tolist()
        [0, 6]
    """

    statistic = "log likelihood ratio of two groups"
    needs_clean = True

    def __init__(self, threshold: float = math.e**2, ridge: float = 0.01, layer: str | None = None) -> None:
        super().__init__(layer)
        if threshold <= 0 or ridge < 0:
            raise InputError(f"SCAn: threshold must be above 0 and ridge at least 0, got {threshold} and {ridge}")
        self.threshold, self.ridge = threshold, ridge

    def learn(self, model: nn.Module, clean: Iterable[LabelledImages]) -> _Clean:
        """How images of a class differ, and where their middles are."""
        parts, classes = [], 0
        for batch in clean:
            (found,), logits = activations(model, batch.image, [self.layer])
            parts.append((found, batch.label))
            classes = logits.shape[1]
        features, label = (torch.cat(each).cpu() for each in zip(*parts, strict=True))
        finite = features.isfinite().all(dim=1)
        variation = within_classes(features[finite].double(), label[finite])
        added = self.ridge * variation.diagonal().mean() + torch.finfo(variation.dtype).eps
        factor = torch.linalg.cholesky(variation + added * torch.eye(len(variation), dtype=variation.dtype))
        unit = torch.eye(len(factor), dtype=factor.dtype)
        unit = torch.linalg.solve_triangular(factor, unit, upper=False).T
        means = [(features[finite & (label == each)].double() @ unit).mean(dim=0) for each in range(classes)]
        return _Clean(*(each.to(parts[0][0]) for each in (unit, torch.stack(means))))

    def measure(self, model: nn.Module, batch: LabelledImages, known: _Clean) -> Tensor:
        """Features whose lengths are those under S_e^-1, from the middle of the clean images of the class [N, D + 1].

        The last column is 1 where there are clean images of the class, else 0.
        """
        check_labels(batch.label, len(known.means))
        middle = known.means[batch.label]
        there = middle[:, :1].isfinite()
        features = self.features(model, batch.image) @ known.unit - torch.where(there, middle, 0)
        return torch.cat([features, there.to(features)], dim=1)

    def split(self, measures: Tensor) -> ClassFinding:
        """Two groups, and the likelihood ratio."""
        measures, there = measures[:, :-1], bool(measures[0, -1])
        second = two_means(principal(measures, DIRECTIONS)[0])
        if there and second.any() and measures[second].mean(dim=0).norm() < measures[~second].mean(dim=0).norm():
            second = ~second
        if not second.any():
            return ClassFinding(torch.zeros(len(measures)), second, 0.0)
        whole, first, other = (
            (measures - measures[part].mean(dim=0)).square().sum(dim=1) for part in (slice(None), ~second, second)
        )
        return ClassFinding(first - other, second, float((whole - torch.minimum(first, other)).mean()))

    def verdicts(self, findings: Sequence[ClassFinding]) -> list[bool | None]:
        """By the distance from the median of the classes."""
        return far_above(findings, self.threshold)


def within_classes(features: Tensor, label: Tensor) -> Tensor:
    """S_e [D, D], how images of a class differ, from features [M, D] of clean images with labels [M].

    Raises:
        InputError: images of one class.
    """
    groups = [features[label == each] for each in label.unique()]
    if len(groups) < 2:
        raise InputError("SCAn needs clean images of at least two classes: give it more")
    middle = features.mean(dim=0)
    means = torch.stack([group.mean(dim=0) - middle for group in groups])
    between = means.T @ means / len(means)
    within = sum((group - group.mean(dim=0)).T @ (group - group.mean(dim=0)) for group in groups) / len(features)
    little = 1e-6 * (between + within).diagonal().mean() * torch.eye(len(within), dtype=within.dtype)
    for _ in range(ROUNDS):
        new_between, new_within = torch.zeros_like(between), torch.zeros_like(within)
        for group, mean in zip(groups, means, strict=True):
            factor = torch.linalg.cholesky(between + within / len(group) + little)
            solved = torch.cholesky_solve(torch.cat([mean[:, None], between], dim=1), factor)
            centre, left = between @ solved[:, 0], between - between @ solved[:, 1:]
            apart = group - middle - centre
            new_between += (torch.outer(centre, centre) + left) / len(groups)
            new_within += (apart.T @ apart + len(group) * left) / len(features)
        between, within = new_between, new_within
    return (within + within.T) / 2
