"""Isolation by the loss (Li et al., Anti-Backdoor Learning: Training Clean Models on Poisoned Data, 2021).

A model learns a backdoor before anything else, so that the images of lowest loss are the poisoned ones; best early in
training, or with the objective ``ABL``, which keeps the others from following.

    score(x, y) = -l(x, y)
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_adv.asking import logits_of
from lightning_adv.detectors import LabelledImages
from lightning_adv.errors import InputError
from lightning_adv.scans.report import ScanReport
from lightning_adv.scans.scan import ClassFinding, Scan, ScanEvidence

__all__ = ["LowestLoss"]


class LowestLoss(Scan[None]):
    """Suspects the share of all images whose loss is lowest (Li et al., 2021).

    It isolates images for unlearning and judges no class: some images have the lowest loss of clean training, too.

    Args:
        share: of all images that are isolated.

    Raises:
        InputError: a share outside (0, 1].

    Example:
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
        >>> report = LowestLoss(share=0.1)(model, [(torch.rand(20, 1, 2, 2), torch.arange(20) % 2)])
        >>> len(report.suspects), report.flagged
        (2, None)
    """

    statistic = "mean loss"
    in_flagged_classes = False

    def __init__(self, share: float = 0.01) -> None:
        if not 0 < share <= 1:
            raise InputError(f"LowestLoss: share of the images must lie in (0, 1], got {share}")
        self.share = share

    def measure(self, model: nn.Module, batch: LabelledImages, known: None) -> Tensor:
        """The cross-entropy of each image [N, 1] with the label that it is trained under."""
        return F.cross_entropy(logits_of(model, batch.image).float(), batch.label, reduction="none")[:, None]

    def split(self, measures: Tensor) -> ClassFinding:
        """None: images of all classes are compared."""
        return ClassFinding(-measures[:, 0], torch.zeros(len(measures), dtype=torch.bool), float(measures.mean()))

    def verdicts(self, findings: Sequence[ClassFinding]) -> list[bool]:
        """None, see :meth:`judge`."""
        return [False] * len(findings)

    def judge(self, parts: Sequence[ScanEvidence]) -> ScanReport:
        """The images of lowest loss over all classes; of equal ones those of lower number."""
        report = super().judge(parts)
        suspect = torch.zeros_like(report.suspect)
        suspect[report.worst(max(1, round(self.share * len(suspect))))] = True
        classes = tuple(
            replace(each, suspects=int(suspect[report.label == each.label].sum()), flagged=None)
            for each in report.classes
        )
        return replace(report, suspect=suspect, classes=classes)
